"""Preconditioners: approximate inverses made from a matrix, applied inside a Krylov method."""
