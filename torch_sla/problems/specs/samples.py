"""Random values of parameters: distributions, and points that fill their space."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, TypeAlias

from annotated_types import MinLen
from pydantic import BeforeValidator, Field, model_validator

from torch_sla.errors import SpecError
from torch_sla.problems.specs.base import Spec
from torch_sla.problems.specs.written import thaw

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt

    Numbers: TypeAlias = npt.NDArray[np.float64]

__all__ = ["LogNormal", "Normal", "Samples", "Uniform"]


class Uniform(Spec):
    """Equally likely between two bounds.

    Examples
    --------
    >>> Uniform(1.0, 3.0).quantile(0.25)
    1.5
    """

    type: Literal["uniform"] = "uniform"
    low: float = Field(kw_only=False, description="Lower bound.")
    high: float = Field(kw_only=False, description="Upper bound.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high:
            raise SpecError(f"it exceeds low; received {self.low} and {self.high}", path="high")
        return self

    def quantile(self, p: Any) -> Any:
        """Return the value below which a share p lies."""
        return self.low + (self.high - self.low) * p


class Normal(Spec):
    """Normally distributed.

    Examples
    --------
    >>> float(Normal(2.0, 0.1).quantile(0.5))
    2.0
    """

    type: Literal["normal"] = "normal"
    mean: float = Field(kw_only=False, description="Mean of the number.")
    deviation: Annotated[float, Field(gt=0)] = Field(
        kw_only=False, description="Standard deviation of the number."
    )

    def quantile(self, p: Any) -> Any:
        """Return the value below which a share p lies."""
        from scipy.special import ndtri

        return self.mean + self.deviation * ndtri(p)


class LogNormal(Spec):
    """The logarithm is normally distributed; always positive.

    Examples
    --------
    >>> float(LogNormal(2.0, 0.1).quantile(0.5))
    2.0
    """

    type: Literal["log_normal"] = "log_normal"
    median: Annotated[float, Field(gt=0)] = Field(
        kw_only=False, description="Median of the number."
    )
    deviation: Annotated[float, Field(gt=0)] = Field(
        kw_only=False, description="Standard deviation of the natural logarithm."
    )

    def quantile(self, p: Any) -> Any:
        """Return the value below which a share p lies."""
        import numpy as np
        from scipy.special import ndtri

        return self.median * np.exp(self.deviation * ndtri(p))


if TYPE_CHECKING:
    Distributions: TypeAlias = dict[str, Uniform | Normal | LogNormal]
else:
    Distributions = Annotated[
        dict[str, Annotated[Uniform | Normal | LogNormal, Field(discriminator="type")]],
        BeforeValidator(thaw),
        MinLen(1),
    ]


class Samples(Spec):
    """Random cases; the seed makes them the same every time.

    Examples
    --------
    >>> few = Samples(of={"f": Uniform(0.0, 4.0)}, count=4)
    >>> sorted(int(x) for x in few.draw({"f": ()})["f"])  # one in each quarter
    [0, 1, 2, 3]
    """

    ordered: ClassVar[frozenset[str]] = frozenset({"of"})

    type: Literal["samples"] = "samples"
    of: Distributions = Field(
        description="Distribution of each parameter; the numbers of a vector are independent."
    )
    count: Annotated[int, Field(ge=1, le=1_000_000)] = Field(description="Number of cases.")
    method: Literal["random", "latin_hypercube", "sobol"] = Field(
        default="latin_hypercube",
        description="Independent, one in each of `count` slices of every axis, or a scrambled Sobol sequence "
        "(counts that are powers of two).",
    )
    seed: Annotated[int, Field(ge=0)] = Field(
        default=20261, description="Seed of the random numbers."
    )

    @model_validator(mode="after")
    def _balanced(self) -> Self:
        if self.method == "sobol" and self.count & (self.count - 1):
            raise SpecError(
                f"a Sobol sequence is even at powers of two; received {self.count}", path="count"
            )
        return self

    def draw(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Numbers]:
        """Draw all cases.

        Parameters
        ----------
        shapes
            Shape of each parameter.

        Returns
        -------
        dict
            By name, ``[count, *shape]``.
        """
        import numpy as np

        d = sum(prod(shapes[name]) for name in self.of)
        engine = np.random.default_rng(self.seed)
        if self.method == "sobol":
            from scipy.stats import qmc

            points = qmc.Sobol(d, scramble=True, seed=engine).random(self.count)
        else:
            points = engine.random((self.count, d))
        if self.method == "latin_hypercube":
            slices = np.stack([engine.permutation(self.count) for _ in range(d)], 1)
            points = (slices + points) / self.count
        # An open interval, on which the quantile of a normal distribution is finite.
        points = points.clip(np.finfo(float).tiny, 1.0 - np.finfo(float).epsneg)
        found, first = {}, 0
        for name, distribution in self.of.items():
            shape = shapes[name]
            part = points[:, first : first + prod(shape)]
            found[name] = distribution.quantile(part).reshape(self.count, *shape)
            first += prod(shape)
        return found
