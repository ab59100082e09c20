"""linalg's autograd Functions, one per file, each with its derivation beside it."""
