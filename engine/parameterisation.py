"""Population parameters as one unconstrained vector, for optimisers and information matrices.

Thetas go through a logarithm or logit of their bounds, covariance blocks through their Cholesky
factors with logarithmic diagonals (Pinheiro and Bates 1996, section 2.1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .estimate import Array, Estimate, initial
from .ir.model import Model
from .ir.parameter import CovarianceBlock, ThetaParameter

_MARGIN = 1e-6  # an initial value on its bound starts this share of the range inside


@dataclass(frozen=True)
class ThetaTransform:
    """One theta's map to the real line."""

    lower: float
    upper: float

    def to_free(self, value: float) -> float:
        """Return the unconstrained value; a value on a bound or beyond is moved just inside."""
        low, high = self.lower, self.upper
        margin = _MARGIN * max(abs(value), 1e-3)
        if math.isinf(low) and math.isinf(high):
            return value
        if math.isinf(high):
            return math.log(value - low if value > low else margin)
        if math.isinf(low):
            return -math.log(high - value if value < high else margin)
        share = (value - low) / (high - low)
        if not 0.0 < share < 1.0:
            share = _MARGIN if share <= 0.0 else 1.0 - _MARGIN
        return math.log(share) - math.log1p(-share)

    def from_free(self, free: Tensor) -> Tensor:
        """Return the value within its bounds."""
        low, high = self.lower, self.upper
        if math.isinf(low) and math.isinf(high):
            return free
        if math.isinf(high):
            return low + torch.exp(free)
        if math.isinf(low):
            return high - torch.exp(-free)
        return low + (high - low) * torch.sigmoid(free)


class Parameterisation:
    """The free parameters of a model and their maps."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.free_thetas = [j for j, t in enumerate(model.thetas) if not t.fixed]
        self._transforms = [_transform(t) for t in model.thetas]
        self._fixed = initial(model)
        self._omega_slots = _slots(model.omega, len(self.free_thetas))
        start = len(self.free_thetas) + sum(len(s.positions) for s in self._omega_slots)
        self._sigma_slots = _slots(model.sigma, start)
        self.size = start + sum(len(s.positions) for s in self._sigma_slots)
        self.sigma_positions = [p for s in self._sigma_slots for p in s.positions]

    def pack(self, estimate: Estimate) -> Array:
        """Return the free vector of ``estimate``."""
        free = np.zeros(self.size)
        for k, j in enumerate(self.free_thetas):
            free[k] = self._transforms[j].to_free(float(estimate.theta[j]))
        for slots, full in ((self._omega_slots, estimate.omega), (self._sigma_slots, estimate.sigma)):
            for slot in slots:
                first, size = slot.block.first - 1, slot.block.size
                inside = full[first : first + size, first : first + size]
                chol = np.linalg.cholesky(inside + 1e-12 * np.diag(np.diag(inside)))
                rows, columns = np.tril_indices(size)
                values = np.where(rows == columns, np.log(np.diag(chol))[rows], chol[rows, columns])
                free[slot.positions] = values
        return free

    def unpack(self, free: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return theta, omega and sigma as tensors that ``free`` can be differentiated through."""
        theta = torch.from_numpy(self._fixed.theta).clone()
        values = list(theta.unbind()) if len(theta) else []
        for k, j in enumerate(self.free_thetas):
            values[j] = self._transforms[j].from_free(free[k])
        theta = torch.stack(values) if values else theta
        omega = _fill(self._fixed.omega, self.model.omega, self._omega_slots, free)
        return theta, omega, _fill(self._fixed.sigma, self.model.sigma, self._sigma_slots, free)

    def estimate(self, free: Array) -> Estimate:
        """Return the estimate of a free vector."""
        parts = self.unpack(torch.from_numpy(np.asarray(free, dtype=float)))
        return Estimate(*(p.detach().numpy() for p in parts))

    def flat(self, free: Tensor) -> Tensor:
        """Return all parameters in the order of :func:`~.estimate.names`."""
        theta, omega, sigma = self.unpack(free)
        parts = [theta]
        for full in (sigma, omega):
            rows, columns = np.tril_indices(len(full))
            parts.append(full[rows, columns])
        return torch.cat(parts)

    def clip_theta(self, j: int, value: float) -> float:
        """Return ``value`` moved inside the bounds of theta ``j`` (from 0)."""
        transform = self._transforms[j]
        return float(transform.from_free(torch.tensor(transform.to_free(value), dtype=torch.float64)))


@dataclass(frozen=True)
class _Slot:
    index: int  # position of the block among the model's blocks
    block: CovarianceBlock
    positions: list[int]


def _transform(theta: ThetaParameter) -> ThetaTransform:
    # bounds of +-1e6 and beyond are a legacy way to write "none"
    lower = theta.lower if theta.lower > -1e5 else -math.inf
    upper = theta.upper if theta.upper < 1e5 else math.inf
    return ThetaTransform(lower, upper)


def _slots(blocks: tuple[CovarianceBlock, ...], start: int) -> list[_Slot]:
    slots = []
    for index, block in enumerate(blocks):
        if block.fixed or block.same_as is not None:
            continue
        count = block.size * (block.size + 1) // 2
        slots.append(_Slot(index, block, list(range(start, start + count))))
        start += count
    return slots


def _fill(fixed: Array, blocks: tuple[CovarianceBlock, ...], slots: list[_Slot], free: Tensor) -> Tensor:
    full = torch.from_numpy(fixed).clone()
    made: dict[int, Tensor] = {}
    for slot in slots:
        size = slot.block.size
        rows, columns = np.tril_indices(size)
        values = free[slot.positions]
        diagonal = torch.from_numpy(rows == columns)
        entries = torch.where(diagonal, torch.exp(torch.where(diagonal, values, 0.0)), values)
        chol = torch.zeros(size, size, dtype=torch.float64)
        chol = chol.index_put((torch.from_numpy(rows), torch.from_numpy(columns)), entries)
        made[slot.index] = chol @ chol.T
    for index, block in enumerate(blocks):
        source = index if block.same_as is None else block.same_as
        if source in made:
            first = block.first - 1
            at = torch.arange(first, first + block.size)
            full = full.index_put((at[:, None], at[None, :]), made[source])
    return full
