"""Forms whose integrands are linear in a few scalar coefficients.

Then ``C = sum_k S_k c_k`` with constant matrices ``S_k`` of the jets, which are found by evaluating the integrand for
unit coefficients; cells carry ``c_k`` alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from torch_sla.assembly.forms.context import Context
from torch_sla.errors import ArgumentError

if TYPE_CHECKING:
    from torch_sla.assembly.basis import Basis, InteriorBasis
    from torch_sla.assembly.forms.contract import Parts
    from torch_sla.assembly.forms.form import BilinearForm

__all__ = ["Separated"]

# Linearity is checked on these combinations of coefficients, shifted from one to the next, and on sizes of each.
_MIXED = (0.7, -1.3, 0.45, -0.2, 1.9, -0.85)
_SIZES = (0.0, 1e-9, -1e-9, 1e9, -1e9)


class _Weights(NamedTuple):
    weights: Tensor
    u: Parts
    v: Parts


class _Found(NamedTuple):
    source: Tensor
    weights: Tensor
    parts: tuple[Parts, Parts]


class Separated:
    """The constant matrices of a form; that it is linear is checked once for a number of components and a dimension.

    Parameters
    ----------
    form
        The form.
    names
        Its coefficients.
    """

    def __init__(self, form: BilinearForm, names: tuple[str, ...]) -> None:
        self.form, self.names = form, names
        self._checked: set[tuple[object, ...]] = set()

    def find(self, w: Context) -> _Found | None:
        """Give the coefficients as a source with weights, or None where they are not such numbers.

        Raises
        ------
        ArgumentError
            If the integrand is not linear in them.
        """
        given = [self._scalar(w, name) for name in self.names]
        tensors = [c for c in given if c is not None]
        if len(tensors) < len(given) or set(w.names) != set(self.names):
            return None
        dtype = w.dtype
        for c in tensors:
            dtype = torch.promote_types(dtype, c.dtype)
        known = None if dtype.is_complex else self._weights(w.basis)
        # What the integrand took from elsewhere may be complex or need a gradient.
        if known is None or known.weights.is_complex() or known.weights.requires_grad:
            return None
        tensors = [c.to(dtype) for c in tensors]
        alone = len(tensors) == 1
        stacked = tensors[0][None] if alone else torch.stack(torch.broadcast_tensors(*tensors))
        return _Found(stacked, known.weights, (known.u, known.v))

    def _scalar(self, w: Context, name: str) -> Tensor | None:
        value = w.get(name, None)
        if isinstance(value, (int, float, complex)):
            return torch.full((1, 1), value, device=w.basis.x.device, dtype=_dtype(value, w.dtype))
        if not isinstance(value, Tensor) or value.ndim < 2:
            return None
        n, nq = w.basis.n_sites, len(w.basis.rule)
        return value if value.shape[-2] in (1, n) and value.shape[-1] in (1, nq) else None

    def _weights(self, basis: Basis | InteriorBasis) -> _Weights | None:
        n, x = len(self.names), basis.x
        key = (basis.components, x.shape[-1], x.dtype, x.device)
        unit = torch.eye(n, dtype=x.dtype, device=x.device)
        found = self._evaluated(basis, unit)
        if found is None or key in self._checked:
            return found
        weights = found.weights.detach()
        mixed = [[_MIXED[(i + 2 * k) % len(_MIXED)] for k in range(n)] for i in range(3)]
        probes = torch.cat([unit.new_tensor(mixed), *(size * unit for size in _SIZES)])
        more = self._evaluated(basis, probes)
        size = weights.abs() @ probes.abs().T
        if more is not None:
            wrong = (more.weights.detach() - weights @ probes.T.to(weights.dtype)).abs()
            slack = 1e3 * torch.finfo(x.dtype).eps * size
        if more is None or not bool((wrong <= slack).all()):
            raise ArgumentError(
                f"linear: the integrand of {self.form!r} is not linear in {' and '.join(self.names)} together; "
                "leave `linear` out"
            )
        self._checked.add(key)
        return found

    def _evaluated(self, basis: Basis | InteriorBasis, probes: Tensor) -> _Weights | None:
        """Evaluate the integrand on coefficients ``[m, k]``: slots ``[slots, m]``; None where places matter."""
        w = Context(basis, {name: probes[:, k, None, None] for k, name in enumerate(self.names)})
        bases: dict[str, Any] = dict.fromkeys(("u", "v"), basis)
        C, parts = self.form.coefficients(bases, w)
        if w.looked_around or C.shape[2:] != (len(probes), 1, 1):
            return None
        return _Weights(C[..., 0, 0].flatten(0, 1).contiguous(), parts["u"], parts["v"])


def _dtype(value: complex, real: torch.dtype) -> torch.dtype:
    return real.to_complex() if isinstance(value, complex) else real
