"""Makers of data: a seeded page generator, invented passages, the World Factbook. An evaluation runs none of them."""
