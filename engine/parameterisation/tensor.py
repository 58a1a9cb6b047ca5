"""The unconstrained vector as a tensor that estimates can be differentiated through."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..estimate import Array
from ..ir.parameter import CovarianceBlock
from .unconstrained import Parameterisation, Slot, ThetaTransform


class TensorParameterisation(Parameterisation):
    """The free parameters of a model, with maps that torch can differentiate."""

    def unpack(self, free: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return theta, omega and sigma as tensors that ``free`` can be differentiated through."""
        theta = torch.from_numpy(self.fixed.theta).clone()
        values = list(theta.unbind()) if len(theta) else []
        for k, j in enumerate(self.free_thetas):
            values[j] = theta_from_free(self.transforms[j], free[k])
        theta = torch.stack(values) if values else theta
        omega = _fill(self.fixed.omega, self.model.omega, self.omega_slots, free)
        return theta, omega, _fill(self.fixed.sigma, self.model.sigma, self.sigma_slots, free)


def theta_from_free(transform: ThetaTransform, free: Tensor) -> Tensor:
    """Return the value within its bounds."""
    low, high = transform.lower, transform.upper
    if transform.is_identity:
        return free
    if math.isinf(high):
        return low + torch.exp(free)
    if math.isinf(low):
        return high - torch.exp(-free)
    return low + (high - low) * torch.sigmoid(free)


def _fill(fixed: Array, blocks: tuple[CovarianceBlock, ...], slots: list[Slot], free: Tensor) -> Tensor:
    full = torch.from_numpy(fixed).clone()
    made: dict[int, Tensor] = {}
    for slot in slots:
        size = slot.block.size
        rows, columns = (torch.from_numpy(part) for part in slot.lower)
        values = free[slot.positions]
        diagonal = rows == columns
        entries = torch.where(diagonal, torch.exp(torch.where(diagonal, values, 0.0)), values)
        chol = torch.zeros(size, size, dtype=torch.float64)
        chol = chol.index_put((rows, columns), entries)
        made[slot.index] = chol @ chol.T
    for index, block in enumerate(blocks):
        source = index if block.same_as is None else block.same_as
        if source in made:
            at = torch.arange(block.first - 1, block.first - 1 + block.size)
            full = full.index_put((at[:, None], at[None, :]), made[source])
    return full
