"""Eigenvalues, singular values and their vectors: what is asked for, who computes it, what is checked."""
