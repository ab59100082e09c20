"""Choosing a solver: facts, named rules, predicted costs, and the reason each other candidate lost."""
