"""Safe expressions of space, fields and parameters."""

from __future__ import annotations

from torch_sla.problems.expression.degree import degree, separated
from torch_sla.problems.expression.expression import Expression
from torch_sla.problems.expression.parser import nearest
from torch_sla.problems.expression.products import Product, products_of
from torch_sla.problems.expression.program import Program
from torch_sla.problems.expression.ranked import Ranked

__all__ = [
    "Expression",
    "Product",
    "Program",
    "Ranked",
    "degree",
    "nearest",
    "products_of",
    "separated",
]
