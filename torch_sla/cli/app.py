"""The verbs, gathered."""

from __future__ import annotations

import typer

from torch_sla.cli.backends import backends
from torch_sla.cli.calibrate import calibrate
from torch_sla.cli.check_gradients import check_gradients
from torch_sla.cli.explain import explain
from torch_sla.cli.mesh import mesh
from torch_sla.cli.optimize import optimize
from torch_sla.cli.schema import schema
from torch_sla.cli.solve import solve
from torch_sla.cli.validate import validate

__all__ = ["app"]

app = typer.Typer(
    name="torch-sla",
    help="Declare a physics problem, get back a solution you can differentiate.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(solve)
app.command()(optimize)
app.command()(explain)
app.command()(validate)
app.command()(mesh)
app.command("check-gradients")(check_gradients)
app.command()(schema)
app.command()(backends)
app.command()(calibrate)
