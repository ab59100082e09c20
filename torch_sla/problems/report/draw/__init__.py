"""Pictures without a plotting library: triangles to pixels, pixels to PNG, curves to SVG."""

from __future__ import annotations
