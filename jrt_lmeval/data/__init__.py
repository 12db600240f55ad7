"""Where documents come from: a seeded page generator, the World Factbook, and row files. Nothing here imports torch."""
