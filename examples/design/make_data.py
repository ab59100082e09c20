"""Make the measurements of these examples: known truths, solved on finer meshes, with seeded noise.

    python examples/design/make_data.py

writes ``data/*.npz`` beside this file. What is committed was made by it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from torch_sla import (
    Dirichlet,
    IntervalMesh,
    Parameter,
    PoissonProblem,
    Probe,
    RectangleMesh,
)

DATA = Path(__file__).parent / "data"


def noisy(exact: torch.Tensor, deviation: float, seed: int) -> np.ndarray:
    values = exact.detach().numpy()
    return np.round(values + deviation * np.random.default_rng(seed).normal(size=values.shape), 10)


def true_conductivity(x: torch.Tensor) -> torch.Tensor:
    """Return a bump on a slope, W/(m K), at points ``[n, 2]``."""
    bump = torch.exp(-12 * ((x[:, 0] - 0.6) ** 2 + (x[:, 1] - 0.45) ** 2))
    return 1.0 + 1.5 * bump + 0.4 * x[:, 0]


def conductivity() -> None:
    """Temperatures at a grid of sensors that sit off the nodes, for four heaters one after the other."""
    from conductivity import HEATERS, SENSORS

    plate = PoissonProblem(
        mesh=RectangleMesh(cells=(48, 48)),
        order=2,
        parameters=[Parameter("x0"), Parameter("y0")],
        diffusivity=Parameter("kappa", on="nodes"),
        source="50*exp(-40*((x - x0)**2 + (y - y0)**2))",
        boundary=[Dirichlet(on=["left", "right", "bottom", "top"], value=0.0)],
        outputs=[Probe("sensors", at=SENSORS)],
    )
    heaters = {name: torch.tensor(values) for name, values in HEATERS.items()}
    exact = plate.solve(kappa=true_conductivity(plate.sites("kappa")), **heaters)["sensors"]
    np.savez(DATA / "conductivity.npz", sensors=noisy(exact, 0.01, 1))


def true_inclusion(x: torch.Tensor) -> torch.Tensor:
    """Return 3 W/(m K) in a block and 1 around it, at points ``[n, 2]``."""
    low, high = torch.tensor([0.4, 0.3]), torch.tensor([0.8, 0.6])
    return 1.0 + 2.0 * ((x > low) & (x < high)).all(1).to(x)


def inclusion() -> None:
    """Temperatures at the same sensors around a block, on a finer mesh of order 2."""
    import inclusion as example

    fine = example.plate(cells=60, order=2)
    exact = fine.solve(kappa=true_inclusion(fine.of.sites("kappa")))["sensors"]
    np.savez(DATA / "inclusion.npz", sensors=noisy(exact, 0.005, 4))


def warming_rod() -> None:
    """Temperatures of a rod with k = 15, c = 3.6e6, h = 80, on a mesh twice as fine with steps half as long."""
    import warming_rod as example

    of = example.declare().of
    rod = of.of.updated(mesh=IntervalMesh(cells=24, size=0.1), order=2)
    fine = of.updated(of=rod, steps=2 * of.steps)
    exact = fine.solve(k=15.0, c=3.6e6, h=80.0)["T"][::2]
    np.savez(DATA / "warming_rod.npz", T=noisy(exact, 0.2, 2))


def rubber() -> None:
    """Take forces of a sheet with mu = 0.4 MPa and lam = 0.6 MPa, on a finer mesh."""
    import rubber as example

    sweep = example.declare().of
    sheet = sweep.of.updated(mesh=RectangleMesh(cells=(24, 16), size=(1.5, 1.0), cell="quad"))
    exact = sweep.updated(of=sheet).solve(mu=0.4, lam=0.6)["force"][:, 0]
    np.savez(DATA / "rubber.npz", force=noisy(exact, 0.002, 3))


def source() -> None:
    """Pressures at twelve microphones of a source at (0.62, 0.37), on a finer mesh."""
    import source as example

    found = {}
    for i, (name, k) in enumerate(example.WAVENUMBERS.items()):
        exact = example.room(k, cells=24).solve(xs=0.62, ys=0.37, a=2.0, b=-1.0)["heard"]
        found[f"{name}_real"] = noisy(exact.real, 0.0005, 10 + i)
        found[f"{name}_imag"] = noisy(exact.imag, 0.0005, 20 + i)
    np.savez(DATA / "source.npz", **found)


if __name__ == "__main__":
    DATA.mkdir(exist_ok=True)
    for make in (conductivity, inclusion, warming_rod, rubber, source):
        make()
