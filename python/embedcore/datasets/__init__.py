"""Corpora with human-made labels, carried in the package: real input without a network."""
