"""Adam: stochastic gradient steps with adaptive moments (Kingma and Ba 2015, algorithm 1).

``torch.optim`` would do, but making its first optimiser imports the compiler stack, which costs
more time than all the steps of a small fit.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Adam:
    """Moments and steps for a list of leaf tensors."""

    def __init__(
        self, parameters: Sequence[Tensor], rate: float, beta1: float = 0.9, beta2: float = 0.999
    ) -> None:
        self.parameters = [p for p in parameters if p.numel()]
        self.rate, self._beta1, self._beta2 = rate, beta1, beta2
        self._first = [torch.zeros_like(p) for p in self.parameters]
        self._second = [torch.zeros_like(p) for p in self.parameters]
        self._steps = 0

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor]) -> None:
        """Move every parameter against its gradient."""
        self._steps += 1
        bias1, bias2 = 1.0 - self._beta1**self._steps, 1.0 - self._beta2**self._steps
        for p, g, m, v in zip(self.parameters, gradients, self._first, self._second, strict=True):
            m.lerp_(g, 1.0 - self._beta1)
            v.mul_(self._beta2).addcmul_(g, g, value=1.0 - self._beta2)
            p.addcdiv_(m, (v / bias2).sqrt_().add_(1e-8), value=-self.rate / bias1)
