"""``torch-sla backends``."""

from __future__ import annotations

from rich.table import Table

from torch_sla.cli.console import out

__all__ = ["backends"]


def backends() -> None:
    """List the solver libraries: what each offers, and why it cannot be used here, if so."""
    from torch_sla.linalg.backends.registry import backends as known
    from torch_sla.linalg.kernels import unavailable

    table = Table(
        "backend", "here", "devices", "direct", "iterative", box=None, header_style="bold"
    )
    for backend in known():
        reason = backend.unavailable()
        methods = backend.capabilities.methods
        direct = " ".join(m.name for m in methods if m.kind == "direct")
        iterative = " ".join(m.name for m in methods if m.kind == "iterative")
        devices = " ".join(sorted(backend.capabilities.devices))
        table.add_row(backend.name, "yes" if reason is None else "no", devices, direct, iterative)
        if reason is not None:
            table.add_row("", f"[dim]{reason}[/]")
    out.print(table)
    missing = unavailable()
    out.print(f"compiled kernels: {'yes' if missing is None else missing}", markup=False)
