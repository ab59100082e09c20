"""Forms whose integrands are linear in a few scalar coefficients.

Then ``C = sum_k S_k c_k`` with constant matrices ``S_k`` of the jets, which are found once per form by evaluating the
integrand for unit coefficients; cells carry ``c_k`` alone.
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

# Combinations of coefficients on which linearity is checked.
_CHECKS = 3


class _Weights(NamedTuple):
    weights: Tensor
    u: Parts
    v: Parts


class _Found(NamedTuple):
    source: Tensor
    weights: Tensor
    parts: tuple[Parts, Parts]


class Separated:
    """The constant matrices of a form, by number of components and dimension.

    Parameters
    ----------
    form
        The form.
    names
        Its coefficients.
    """

    def __init__(self, form: BilinearForm, names: tuple[str, ...]) -> None:
        self.form, self.names = form, names
        self._known: dict[tuple[object, ...], _Weights | None] = {}

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
        known = self._weights(w.basis)
        if known is None:
            return None
        dtype = w.dtype
        for c in tensors:
            dtype = torch.promote_types(dtype, c.dtype)
        tensors = [c.to(dtype) for c in tensors]
        alone = len(tensors) == 1
        stacked = tensors[0][None] if alone else torch.stack(torch.broadcast_tensors(*tensors))
        return _Found(stacked, known.weights, (known.u, known.v))

    def _scalar(self, w: Context, name: str) -> Tensor | None:
        value = w.get(name, None)
        if isinstance(value, (int, float, complex)):
            return torch.tensor([[value]], device=w.basis.x.device, dtype=_dtype(value, w.dtype))
        if not isinstance(value, Tensor) or value.ndim < 2:
            return None
        n, nq = w.basis.n_sites, len(w.basis.rule)
        return value if value.shape[-2] in (1, n) and value.shape[-1] in (1, nq) else None

    def _weights(self, basis: Basis | InteriorBasis) -> _Weights | None:
        x = basis.x
        key = (basis.components, x.shape[-1], x.dtype, x.device)
        if key not in self._known:
            with torch.no_grad():
                self._known[key] = self._probed(basis)
        return self._known[key]

    def _probed(self, basis: Basis | InteriorBasis) -> _Weights | None:
        """Evaluate the integrand on unit coefficients, and on combinations of them."""
        n = len(self.names)
        generator = torch.Generator().manual_seed(n)
        more = 2.0 * torch.rand(_CHECKS, n, generator=generator, dtype=torch.float64) - 1.0
        probes = torch.cat([torch.eye(n, dtype=torch.float64), more]).to(basis.x)
        w = Context(basis, {name: probes[:, k, None, None] for k, name in enumerate(self.names)})
        bases: dict[str, Any] = dict.fromkeys(("u", "v"), basis)
        C, parts = self.form.coefficients(bases, w)
        if w.looked_around or C.shape[2:] != (len(probes), 1, 1):
            return None
        C = C[..., 0, 0].flatten(0, 1)
        weights = C[:, :n]
        wrong = (C[:, n:] - weights @ probes[n:].T.to(C.dtype)).abs().amax()
        if not bool(wrong <= 1e-4 * weights.abs().amax()):
            raise ArgumentError(
                f"linear: the integrand of {self.form!r} is not linear in {' and '.join(self.names)} together; "
                "leave `linear` out"
            )
        return _Weights(weights.contiguous(), parts["u"], parts["v"])


def _dtype(value: complex, real: torch.dtype) -> torch.dtype:
    return real.to_complex() if isinstance(value, complex) else real
