"""What people look at: explanations, pictures, files."""

from __future__ import annotations
