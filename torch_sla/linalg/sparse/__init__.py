"""Sparse matrices as data: pattern, structure, values."""
