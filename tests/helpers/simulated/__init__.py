"""A CUDA device that lives in the host's memory: every rule of a real one that tests can break, none of its speed.

Tensors "on" it say that they are on ``cuda:0``, refuse to meet tensors of the host, refuse to be read
by NumPy, and hold their numbers on the host, where torch computes. Reading a number counts as a
wait, by place, and so does sending one in a copy that is waited for, as ``torch.tensor(1.0, device="cuda")`` does.
Copies to the host that are not waited for arrive when they are waited for, and not before. Work
recorded as a graph does not run, leaves rubbish in what it allocates, and runs when replayed, at the
addresses it was recorded with. With triton installed and ``TRITON_INTERPRET=1`` the kernels run in Triton's
interpreter, otherwise their fallbacks do.

``TORCH_SLA_SIMULATED_CUDA=1 pytest -m gpu`` runs the tests for a card that way.
"""

from __future__ import annotations

from tests.helpers.simulated.install import SIMULATED, install
from tests.helpers.simulated.runtime import counted, fetched, waits

__all__ = ["SIMULATED", "counted", "fetched", "install", "waits"]
