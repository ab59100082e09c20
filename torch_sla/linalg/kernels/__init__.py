"""The door of `torch_sla.linalg` to the compiled extension: thin typed faces with fallbacks."""
