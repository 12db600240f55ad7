"""Makers of training data: documents that look like web pages, and the World Factbook. No evaluation runs them."""
