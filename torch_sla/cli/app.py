"""The verbs, gathered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from torch_sla.cli.backends import backends
from torch_sla.cli.calibrate import calibrate
from torch_sla.cli.check_gradients import check_gradients
from torch_sla.cli.console import exit_codes
from torch_sla.cli.explain import explain
from torch_sla.cli.mesh import mesh
from torch_sla.cli.optimize import optimize
from torch_sla.cli.schema import schema
from torch_sla.cli.solve import solve
from torch_sla.cli.validate import validate

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["app"]

app = typer.Typer(
    name="torch-sla",
    help="Declare a physics problem, get back a solution you can differentiate.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
verbs: dict[str, Callable[..., None]] = {
    "solve": solve,
    "optimize": optimize,
    "explain": explain,
    "validate": validate,
    "mesh": mesh,
    "check-gradients": check_gradients,
    "schema": schema,
    "backends": backends,
    "calibrate": calibrate,
}
for name, verb in verbs.items():
    app.command(name)(exit_codes()(verb))
