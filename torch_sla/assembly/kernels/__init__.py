"""The only door of assembly to the compiled extension, with fallbacks in torch."""
