"""Approximate inverses of a matrix in parts."""
