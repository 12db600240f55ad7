"""From requests to answers: rows, batches, shared documents, decoding, stopping, scoring, figures."""
