"""Declare a physics problem, get back a solution you can differentiate."""
