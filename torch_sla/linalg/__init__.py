"""Sparse linear algebra with gradients."""
