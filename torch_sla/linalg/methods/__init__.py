"""Iterative methods, one per file: options and an algorithm over a vector space."""
