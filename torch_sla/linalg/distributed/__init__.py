"""Matrices and vectors in parts: halo exchange, one set of algorithms for one process and for many."""
