"""Lattices in parts: boxes of points, exchanges between them, and finding them behind a matrix."""
