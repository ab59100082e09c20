"""Problems that several processes share: each lowers its own part of the mesh."""

from __future__ import annotations
