"""What does not fit the mesh or the physics is an error with a path, never a traceback of torch."""

from __future__ import annotations

import pytest
import torch

from torch_sla import (
    PML,
    BoxMesh,
    Dirichlet,
    EigenProblem,
    ElasticityProblem,
    Entries,
    HelmholtzProblem,
    HyperelasticityProblem,
    Integral,
    IntervalMesh,
    LinearProblem,
    MatrixFile,
    Maximum,
    MeshArrays,
    Neumann,
    NonlinearProblem,
    Parameter,
    Periodic,
    PointLoad,
    PoissonProblem,
    Probe,
    Radiation,
    RectangleMesh,
    Root,
    Spring,
    StokesProblem,
    Unknown,
    WeakFormProblem,
    clear_cache,
)
from torch_sla.errors import ArgumentError, MeshError, SolveError, SpecError
from torch_sla.linalg import cache_counters

FLAT = RectangleMesh(cells=(2, 2))
HELD = Dirichlet("left", 0.0)


def elastic(**changes: object) -> ElasticityProblem:
    return ElasticityProblem(
        **{"mesh": FLAT, "model": "plane_strain", "boundary": [HELD], **changes}
    )


def rubber(**changes: object) -> HyperelasticityProblem:
    return HyperelasticityProblem(
        **{"mesh": FLAT, "constants": {"mu": 1.0, "lam": 1.0}, "boundary": [HELD], **changes}
    )


TWO = MeshArrays(
    points=[[0, 0], [1, 0], [2, 0], [0, 1], [1, 1], [2, 1]],
    cells=[[0, 1, 4, 3], [1, 2, 5, 4]],
    cell="quad",
    cell_tags={"a": [0], "b": [1]},
)

WRONG = {
    "a matrix here, a number there": (
        lambda: PoissonProblem(
            mesh=TWO, diffusivity={"a": [[1.0, 0.0], [0.0, 2.0]], "b": 1.0}, reaction=1.0
        ),
        "diffusivity: the entries of a map need one shape; 'a' is a matrix, 'b' is a scalar",
    ),
    "vectors of two lengths": (
        lambda: elastic(
            mesh=TWO,
            body_force={"a": [0.0, 1.0], "b": [0.0, 1.0, 0.0]},
            boundary=[Dirichlet("x < 1e-9", 0.0)],
        ),
        "body_force: the entries of a map need one shape",
    ),
    "three components in 2D": (lambda: elastic(body_force=[0.0, 0.0, 1.0]), "vector of 2"),
    "a traction in 3D": (
        lambda: elastic(boundary=[HELD, Neumann("right", traction=[1.0, 0.0, 0.0])]),
        "boundary.1.traction: a vector of 2",
    ),
    "a value of three": (
        lambda: elastic(boundary=[Dirichlet("left", [0.0, 0.0, 0.0])]),
        "boundary.0.value",
    ),
    "a vector for a component": (
        lambda: elastic(boundary=[HELD, Dirichlet("right", [0.0, 0.0], component=0)]),
        "scalar",
    ),
    "a component too many": (
        lambda: elastic(boundary=[Dirichlet("left", 0.0, component=2)]),
        "components 0 to 1",
    ),
    "a model of another dimension": (lambda: elastic(model="solid"), "a mesh in 2D stands for"),
    "no model": (lambda: elastic(model=None), "stands for"),
    "a line": (lambda: elastic(mesh=IntervalMesh(cells=2)), "2 or 3 dimensions"),
    "a negative radius": (
        lambda: elastic(model="axisymmetric", mesh=RectangleMesh(cells=(2, 2), origin=(-0.5, 0.0))),
        "radius",
    ),
    "a thickness in space": (
        lambda: elastic(mesh=BoxMesh(cells=(1, 1, 1)), model="solid", thickness=2.0),
        "no thickness",
    ),
    "a thickness at quadrature points, and a load on facets": (
        lambda: elastic(
            thickness=Parameter("th", on="quadrature", default=1.0),
            boundary=[HELD, Neumann("right", pressure=1.0)],
        ),
        "^thickness: values that live on quadrature have no meaning on facets.*; those on .*nodes or facets have",
    ),
    "a modulus at quadrature points, and a probe of the stress": (
        lambda: elastic(
            young_modulus=Parameter("E", on="quadrature", default=1.0),
            outputs=[Probe("s", at=[(0.3, 0.4)], quantity="stress")],
        ),
        "^outputs.0.quantity: values that live on quadrature .* at a point.*; those on .*cells or nodes have",
    ),
    "half an orthotropy": (lambda: elastic(young_modulus=[1.0, 2.0, 3.0]), "orthotropic"),
    "two moduli": (
        lambda: elastic(
            young_modulus=[1.0, 2.0], poisson_ratio=[0.1, 0.1], shear_modulus=[1.0, 1.0]
        ),
        "a vector of 3 components",
    ),
    "an impossible ratio": (
        lambda: elastic(poisson_ratio=0.5),
        r"poisson_ratio: plane_strain needs -1 < nu < 0.5; received 0.5; 0.4999 stands",
    ),
    "a negative modulus": (
        lambda: elastic(young_modulus=-1.0),
        "young_modulus: it must be positive; received -1",
    ),
    "one direction of two": (
        lambda: elastic(boundary=[HELD, Spring("right", stiffness=[1.0])]),
        "boundary.1.stiffness: a vector of 2 components is needed, or a number; received 1",
    ),
    "a negative spring": (
        lambda: elastic(boundary=[HELD, Spring("right", stiffness=-1.0)]),
        "boundary.1.stiffness: it must not be negative; received -1",
    ),
    "a load outside": (
        lambda: elastic(boundary=[HELD, PointLoad(at=[(7.0, 0.0)], value=[1.0, 0.0])]),
        "outside",
    ),
    "a load that is a number": (
        lambda: elastic(boundary=[HELD, PointLoad(at=[(0.6, 0.7)], value=1.0)]),
        "2 components",
    ),
    "a flux of a solid": (
        lambda: elastic(boundary=[HELD, Neumann("right", flux=1.0)]),
        "'neumann.flux' has no meaning",
    ),
    "constants of another law": (lambda: rubber(constants={"mu": 1.0}), "constants of neo_hookean"),
    "a law that is none": (lambda: rubber(law="neo_hooke"), "a law is one of"),
    "a traction on rubber": (
        lambda: rubber(boundary=[HELD, Neumann("right", traction=[1.0])]),
        "vector of 2",
    ),
    "rubber that floats": (lambda: rubber(boundary=[]), "rigid"),
    "a matrix of 3": (
        lambda: PoissonProblem(
            mesh=FLAT, boundary=[HELD], diffusivity=[[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]]
        ),
        "matrix of 2",
    ),
    "a velocity of 3": (
        lambda: PoissonProblem(mesh=FLAT, boundary=[HELD], advection=[1.0, 0.0, 0.0]),
        "vector of 2",
    ),
    "supg of order 2": (
        lambda: PoissonProblem(
            mesh=FLAT, order=2, boundary=[HELD], advection=[1.0, 0.0], stabilization="supg"
        ),
        "second derivatives",
    ),
    "edges that do not match": (
        lambda: PoissonProblem(mesh=FLAT, reaction=1.0, boundary=[Periodic("left", to="top")]),
        "partner|match",
    ),
    "a layer in 3D": (
        lambda: HelmholtzProblem(
            mesh=FLAT, wavenumber=1.0, layer=PML(lower=[0.0] * 3, upper=[1.0] * 3, thickness=1.0)
        ),
        "2 coordinates",
    ),
    "a wave of no length": (lambda: HelmholtzProblem(mesh=FLAT, wavenumber="0*x"), "wavenumber"),
    "the largest complex": (
        lambda: HelmholtzProblem(
            mesh=FLAT, wavenumber=1.0, boundary=[HELD], outputs=[Maximum("m", "u")]
        ),
        "abs",
    ),
    "a fluid that floats": (lambda: StokesProblem(mesh=FLAT), "holds the fluid"),
    "a flow on a line": (lambda: StokesProblem(mesh=IntervalMesh(cells=2)), "2 or 3 dimensions"),
    "no viscosity": (
        lambda: StokesProblem(mesh=FLAT, viscosity=0.0, boundary=[HELD]),
        "viscosity: it must be positive; received 0",
    ),
    "an unknown unknown": (
        lambda: WeakFormProblem(
            mesh=FLAT, residual="u*v", boundary=[Dirichlet("left", 0.0, unknown="w")]
        ),
        "no unknown 'w'",
    ),
    "a vector on a line": (
        lambda: WeakFormProblem(
            mesh=IntervalMesh(cells=2),
            unknowns=[Unknown("u"), Unknown("w", shape="vector", test="q")],
            residual="u*v - v + dot(w, q)",
        ),
        r"unknowns\.1\.shape.*one component",
    ),
    "two tests of one name": (
        lambda: WeakFormProblem(
            mesh=FLAT, unknowns=[Unknown("a"), Unknown("b")], residual="a*v + b*v"
        ),
        "called 'v'",
    ),
    "a probe of nothing": (
        lambda: WeakFormProblem(
            mesh=FLAT, residual="u*v - v", outputs=[Probe("p", at=[(0.1, 0.1)], quantity="w")]
        ),
        "unknown name 'w'",
    ),
    "a matrix and a vector": (
        lambda: LinearProblem(matrix=[[1.0, 0], [0, 1]], rhs=[1.0]),
        "shapes",
    ),
    "a rectangle": (lambda: LinearProblem(matrix=[[1.0, 0.0]], rhs=[1.0]), "shapes"),
    "an entry outside": (
        lambda: LinearProblem(
            matrix=Entries(rows=[0], cols=[3], values=[1.0], shape=[2, 2]), rhs=[1.0, 1.0]
        ),
        "between 0 and 1",
    ),
    "a file that is none": (
        lambda: LinearProblem(matrix=MatrixFile("a.mtx"), rhs=[1.0]),
        "no such",
    ),
    "too many pairs": (lambda: EigenProblem(matrix=[[1.0]], k=3), "has no 3 eigenvalues"),
    "modes of no physics": (lambda: EigenProblem(of=1), "of"),
    "modes of a system": (
        lambda: EigenProblem(of=LinearProblem(matrix=[[1.0]], rhs=[1.0])),
        "cannot be of a linear problem; one of: elasticity",
    ),
    "two unknowns, one equation": (
        lambda: NonlinearProblem(unknowns=[Root("x"), Root("y")], residual=["x + y"]),
        "as many equations",
    ),
    "an output of a mesh": (
        lambda: LinearProblem(matrix=[[1.0]], rhs=[1.0], outputs=[Maximum("m", "x")]),
        "no meaning",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_declarations(name: str) -> None:
    make, message = WRONG[name]
    with pytest.raises((ArgumentError, MeshError), match=message):
        make().solve()


def test_a_nonlinear_problem_without_a_root_says_so() -> None:
    problem = NonlinearProblem(unknowns=[Root("x", start=0.5)], residual=["x**2 + 1"])
    with pytest.raises(SolveError):
        problem.solve()


def test_newton_analyses_once() -> None:
    clear_cache()
    problem = PoissonProblem(
        mesh=RectangleMesh(cells=(6, 6)),
        diffusivity="1 + u**2",
        source=Parameter("f", default=5.0),
        boundary=[HELD],
    )
    problem.solve()
    before = cache_counters()["analyze"]
    f = torch.tensor(7.0, dtype=torch.float64, requires_grad=True)
    problem.solve(f=f)
    assert cache_counters()["analyze"] == before


@pytest.mark.parametrize(
    ("law", "constants", "what"),
    [
        ("neo_hookean", {"mu": -1.0, "lam": 1.0}, r"constants\.mu"),
        ("neo_hookean", {"mu": 3.0, "lam": -2.0}, r"lam \+ 2/3 mu, .*bulk modulus.*"),
        (
            "neo_hookean",
            {"young_modulus": -1.0, "poisson_ratio": 0.3},
            r"constants\.young_modulus",
        ),
        ("mooney_rivlin", {"c1": 1.0, "c2": 0.0, "kappa": -3.0}, r"constants\.kappa"),
        ("mooney_rivlin", {"c1": 1.0, "c2": -1.5, "kappa": 3.0}, r"c1 \+ c2, .*shear modulus.*"),
        ("mooney_rivlin", {"c1": -1.0, "c2": 1.0, "kappa": 3.0}, r"c1 \+ c2, .*shear modulus.*"),
    ],
)
def test_moduli_of_named_laws_are_positive(
    law: str, constants: dict[str, float], what: str
) -> None:
    push = Neumann("right", traction=[1e-3, 0.0])
    body = HyperelasticityProblem(mesh=FLAT, law=law, constants=constants, boundary=[HELD, push])
    with pytest.raises(ArgumentError, match=rf"{what} must be positive"):
        body.solve()


@pytest.mark.parametrize("emissivity", [-0.5, 1.5])
def test_an_emissivity_is_a_share(emissivity: float) -> None:
    boundary = [Dirichlet("left", 300.0), Radiation("right", emissivity, 400.0)]
    with pytest.raises(SpecError, match=r"boundary\.1\.emissivity: it must be between 0 and 1"):
        PoissonProblem(mesh=FLAT, boundary=boundary)


def test_surroundings_that_radiate_have_an_absolute_temperature() -> None:
    boundary = [Dirichlet("left", 300.0), Radiation("right", 0.8, -10.0)]
    with pytest.raises(SpecError, match=r"boundary\.1\.ambient: it must not be negative"):
        PoissonProblem(mesh=FLAT, boundary=boundary)


def test_a_value_given_twice() -> None:
    problem = PoissonProblem(
        mesh=IntervalMesh(cells=3),
        source=Parameter("s"),
        boundary=[Dirichlet("left", 0.0)],
        outputs=[Integral("mean", "u")],
    )
    with pytest.raises(ArgumentError, match="'s' is given twice"):
        problem.solve({"s": 1.0}, s=2.0)
    with pytest.raises(ArgumentError, match="'s' is given twice"):
        problem.value_and_grad("mean", {"s": 1.0}, s=2.0)


@pytest.mark.parametrize(
    "text",
    ["dot(stress, normal)[0]", "trace(stress + grad(u))", "inner(stress, grad(u))", "dot(u, a)"],
)
def test_components_that_do_not_fit_are_named(text: str) -> None:
    body = elastic(
        parameters=[Parameter("a", shape=(3,), default=(1.0, 2.0, 3.0))],
        outputs=[Integral("o", text, on="right")],
    )
    with pytest.raises(
        SpecError, match=r"\(.*3.*\) are shapes that do not go together; take components"
    ):
        body.solve()


def test_one_component_is_no_number_beside_three() -> None:
    rod = PoissonProblem(
        mesh=IntervalMesh(cells=2),
        boundary=[HELD],
        parameters=[Parameter("a", shape=(3,), default=(1.0, 2.0, 3.0))],
        outputs=[Integral("o", "dot(grad(u), a)")],
    )
    with pytest.raises(SpecError, match="do not go together"):
        rod.solve()


def test_many_meshes_are_one_solve_on_one_analysis() -> None:
    plate = PoissonProblem(
        mesh=RectangleMesh(cells=(4, 4)), source=1.0, boundary=[HELD], outputs=[Integral("i", "u")]
    )
    points = plate.mesh_data().points
    scale = torch.tensor([1.0, 1.5, 2.0], dtype=torch.float64)
    X = (points * scale[:, None, None]).requires_grad_()
    clear_cache()
    before = cache_counters()["analyze"]
    found = plate.solve(points=X)["i"]
    found.sum().backward()
    assert cache_counters()["analyze"] == before + 1
    # The integral grows like the fourth power of the size, and so does its derivative along the points.
    torch.testing.assert_close(found.detach(), found[0].detach() * scale**4)
    torch.testing.assert_close((X.grad * X.detach()).sum((1, 2)), 4 * found.detach())


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"diffusivity": "1 + z"}, "diffusivity"),
        ({"source": {"*": "z"}}, r"source.\*"),
        ({"advection": [0.0, "z"]}, "advection.1"),
        ({"boundary": [Dirichlet("left", "z")]}, "boundary.0.value"),
        ({"outputs": [Integral("i", "z*u")]}, "outputs.0.expression"),
    ],
)
def test_a_coordinate_that_a_mesh_has_not_needs_no_solve(changes: dict, path: str) -> None:
    fields = {"mesh": RectangleMesh(cells=(2, 2)), "boundary": [Dirichlet("left", 0.0)], **changes}
    with pytest.raises(SpecError, match=f"^{path}: 'z' does not exist in 2 dimensions"):
        PoissonProblem(**fields).check()
