"""Ctrl-C inside forms leaves nothing of torch's transforms behind."""

from __future__ import annotations

import gc
import sys

import pytest
import torch

from torch_sla.assembly import (
    BilinearForm,
    CellBasis,
    Dofs,
    Energy,
    dot,
    grad,
    lagrange,
    rectangle_mesh,
)

MESH = rectangle_mesh((1, 1))
BASIS = CellBasis(MESH, lagrange("triangle", 1))
FIELD = BASIS.interpolate(Dofs(MESH, BASIS.element), MESH.points[:, 0])
NAMES = [f"{kind}_increment_nesting" for kind in ("vmap", "grad", "jvp")]
NAMES += ["_vmap_decrement_nesting", "exit_jvp_nesting", "enter_dual_level", "exit_dual_level"]


def linear():
    return BilinearForm(lambda u, v, w: dot(grad(u), grad(v)))(BASIS)


def energy():
    return Energy(lambda u, w: 0.5 * dot(grad(u), grad(u))).tangent(BASIS, FIELD)


def interrupted(run, at):
    """Run with an interrupt at the n-th line of what enters and leaves transforms; whether there was one."""
    seen = 0

    def lines(frame, event, _):
        nonlocal seen
        if event == "line":
            seen += 1
            if seen == at:
                raise KeyboardInterrupt
        return lines

    def calls(frame, event, _):
        before = frame.f_back.f_globals.get("__name__", "")
        around = frame.f_code.co_name in ("__enter__", "__exit__") and "functorch" in before
        return lines if around or frame.f_code.co_name in NAMES else None

    before = sys.gettrace()
    sys.settrace(calls)
    try:
        run()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.parametrize("run", [linear, energy])
def test_forms_assemble_after_an_interrupt_at_any_moment_of_a_transform(run):
    # On both triangles the same matrix: half of that of a square.
    expected = torch.tensor([[0.5, -0.5, 0.0], [-0.5, 1.0, -0.5], [0.0, -0.5, 0.5]]).double()
    run()  # what torch imports at the first call is not to be interrupted
    at = 1
    while interrupted(run, at):
        assert torch._C._functorch.get_dynamic_layer_stack_depth() == 0
        at += 7
    gc.collect()
    assert at > 50
    assert torch.equal(run()[0], expected)
