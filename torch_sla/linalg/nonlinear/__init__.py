"""Nonlinear systems: one loop, methods that supply its steps, and the implicit adjoint."""
