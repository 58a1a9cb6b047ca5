"""Population parameters as one unconstrained vector, for optimisers and information matrices.

Thetas go through a logarithm or logit of their bounds, covariance blocks through their Cholesky
factors with logarithmic diagonals (Pinheiro and Bates 1996, section 2.1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..estimate import Array, Estimate, Gradient, initial, names
from ..ir.model import Model
from ..ir.parameter import CovarianceBlock, ThetaParameter

_MARGIN = 1e-6  # an initial value on its bound starts this share of the range inside
_FARTHEST = 700.0  # of a free value: its exponential is still a number


@dataclass(frozen=True)
class ThetaTransform:
    """One theta's map to the real line."""

    lower: float
    upper: float

    @property
    def is_identity(self) -> bool:
        """Whether the theta has no bounds."""
        return math.isinf(self.lower) and math.isinf(self.upper)

    def to_free(self, value: float) -> float:
        """Return the unconstrained value; a value on a bound or beyond is moved just inside."""
        low, high = self.lower, self.upper
        margin = _MARGIN * max(abs(value), 1e-3)
        if self.is_identity:
            return value
        if math.isinf(high):
            return math.log(value - low if value > low else margin)
        if math.isinf(low):
            return -math.log(high - value if value < high else margin)
        share = (value - low) / (high - low)
        if not 0.0 < share < 1.0:
            share = _MARGIN if share <= 0.0 else 1.0 - _MARGIN
        return math.log(share) - math.log1p(-share)

    def natural(self, free: float) -> tuple[float, float]:
        """Return the value within its bounds, and its derivative to ``free``."""
        low, high = self.lower, self.upper
        if self.is_identity:
            return free, 1.0
        free = min(max(free, -_FARTHEST), _FARTHEST)
        if math.isinf(high):
            distance = math.exp(free)
            return low + distance, distance
        if math.isinf(low):
            distance = math.exp(-free)
            return high - distance, distance
        small = math.exp(-abs(free))  # never overflows
        share = 1.0 / (1.0 + small) if free >= 0 else small / (1.0 + small)
        return low + (high - low) * share, (high - low) * small / (1.0 + small) ** 2


@dataclass(frozen=True)
class Slot:
    """A free covariance block: its ``index`` among the model's blocks, ``positions`` in the free vector."""

    index: int
    block: CovarianceBlock
    positions: list[int]

    @property
    def inside(self) -> slice:
        """The rows of the block in the full matrix."""
        return span(self.block)

    @property
    def lower(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Rows and columns of the block's lower triangle, in the order of ``positions``."""
        return np.tril_indices(self.block.size)

    def factor(self, free: Array) -> Array:
        """Return the Cholesky factor of the block."""
        rows, columns = self.lower
        values = free[self.positions]
        chol = np.zeros((self.block.size, self.block.size))
        limited = np.clip(values, -_FARTHEST / 2, _FARTHEST / 2)
        chol[rows, columns] = np.where(rows == columns, np.exp(limited), values)
        return chol


class Parameterisation:
    """The free parameters of a model and their maps."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.free_thetas = [j for j, t in enumerate(model.thetas) if not t.fixed]
        self.transforms = [_transform(t) for t in model.thetas]
        self.fixed = initial(model)
        self.omega_slots = _slots(model.omega, len(self.free_thetas))
        start = len(self.free_thetas) + sum(len(s.positions) for s in self.omega_slots)
        self.sigma_slots = _slots(model.sigma, start)
        self.size = start + sum(len(s.positions) for s in self.sigma_slots)
        self.sigma_positions = [p for s in self.sigma_slots for p in s.positions]

    @property
    def names(self) -> tuple[str, ...]:
        """Name each free parameter after the natural one it stands for: :func:`.estimate.names`."""
        made = [f"THETA{j + 1}" for j in self.free_thetas]
        for letters, slots in (("OMEGA", self.omega_slots), ("SIGMA", self.sigma_slots)):
            for slot in slots:
                first = slot.block.first
                made += [f"{letters}({first + i},{first + j})" for i, j in zip(*slot.lower, strict=True)]
        return tuple(made)

    def sizes(self, estimate: Estimate) -> Array:
        """Return a change of each free parameter that is large: 1 for a logarithm, the value itself else."""
        made = np.ones(self.size)
        for k, j in enumerate(self.free_thetas):
            if self.transforms[j].is_identity:
                made[k] = abs(estimate.theta[j]) or 1.0
        for slots, full in ((self.omega_slots, estimate.omega), (self.sigma_slots, estimate.sigma)):
            for slot in slots:
                rows, columns = slot.lower
                sd = np.sqrt(np.diag(full)[slot.inside])
                made[slot.positions] = np.where(rows == columns, 1.0, sd[rows])
        return made

    def pack(self, estimate: Estimate) -> Array:
        """Return the free vector of ``estimate``."""
        free = np.zeros(self.size)
        for k, j in enumerate(self.free_thetas):
            free[k] = self.transforms[j].to_free(float(estimate.theta[j]))
        for slots, full in ((self.omega_slots, estimate.omega), (self.sigma_slots, estimate.sigma)):
            for slot in slots:
                inside = full[slot.inside, slot.inside]
                chol = np.linalg.cholesky(inside + 1e-12 * np.diag(np.diag(inside)))
                rows, columns = slot.lower
                free[slot.positions] = np.where(
                    rows == columns, np.log(np.diag(chol))[rows], chol[rows, columns]
                )
        return free

    def natural(self, free: Array) -> Estimate:
        """Return the estimate of a free vector."""
        theta = self.fixed.theta.copy()
        for k, j in enumerate(self.free_thetas):
            theta[j] = self.transforms[j].natural(float(free[k]))[0]
        omega = _fill(self.fixed.omega, self.model.omega, self.omega_slots, free)
        return Estimate(theta, omega, _fill(self.fixed.sigma, self.model.sigma, self.sigma_slots, free))

    def free_gradient(self, free: Array, gradient: Gradient) -> Array:
        """Return the derivatives [.., free] to the free vector, of derivatives to the natural parameters.

        ``gradient`` may have further axes before its own (subjects). SAME blocks add up.
        """
        made = np.zeros((*gradient.theta.shape[:-1], self.size))
        for k, j in enumerate(self.free_thetas):
            made[..., k] = gradient.theta[..., j] * self.transforms[j].natural(float(free[k]))[1]
        parts = (
            (self.omega_slots, self.model.omega, gradient.omega),
            (self.sigma_slots, self.model.sigma, gradient.sigma),
        )
        for slots, blocks, full in parts:
            for slot in slots:
                repeats = [b for i, b in enumerate(blocks) if i == slot.index or b.same_as == slot.index]
                total = sum((full[..., span(b), span(b)] for b in repeats), np.zeros(()))
                chol = slot.factor(free)
                to_factor = (total + np.swapaxes(total, -1, -2)) @ chol
                rows, columns = slot.lower
                scale = np.where(rows == columns, chol[rows, columns], 1.0)
                made[..., slot.positions] = to_factor[..., rows, columns] * scale
        return made

    def jacobian(self, free: Array) -> Array:
        """Return derivatives [parameter, free] of all parameters, in the order of :func:`.estimate.names`."""
        return self.free_gradient(free, unit_gradients(self.model))

    def clip_theta(self, j: int, value: float) -> float:
        """Return ``value`` moved inside the bounds of theta ``j`` (from 0)."""
        transform = self.transforms[j]
        return transform.natural(transform.to_free(value))[0]


def unit_gradients(model: Model) -> Gradient:
    """Return the gradients of the parameters themselves, first axis as in :func:`.estimate.names`."""
    n, n_eps, n_etas, n_thetas = len(names(model)), model.n_eps, model.n_etas, len(model.thetas)
    made = Gradient(np.zeros((n, n_thetas)), np.zeros((n, n_etas, n_etas)), np.zeros((n, n_eps, n_eps)))
    made.theta[np.arange(n_thetas), np.arange(n_thetas)] = 1.0
    first = n_thetas
    for full, size in ((made.sigma, n_eps), (made.omega, n_etas)):
        rows, columns = np.tril_indices(size)
        at = first + np.arange(len(rows))
        full[at, rows, columns] += 0.5
        full[at, columns, rows] += 0.5
        first += len(rows)
    return made


def span(block: CovarianceBlock) -> slice:
    """Return the rows of ``block`` in the full matrix."""
    return slice(block.first - 1, block.first - 1 + block.size)


def _transform(theta: ThetaParameter) -> ThetaTransform:
    # bounds of +-1e6 and beyond are a legacy way to write "none"
    lower = theta.lower if theta.lower > -1e5 else -math.inf
    upper = theta.upper if theta.upper < 1e5 else math.inf
    return ThetaTransform(lower, upper)


def _slots(blocks: tuple[CovarianceBlock, ...], start: int) -> list[Slot]:
    slots = []
    for index, block in enumerate(blocks):
        if block.fixed or block.same_as is not None:
            continue
        count = block.size * (block.size + 1) // 2
        slots.append(Slot(index, block, list(range(start, start + count))))
        start += count
    return slots


def _fill(fixed: Array, blocks: tuple[CovarianceBlock, ...], slots: list[Slot], free: Array) -> Array:
    full = fixed.copy()
    made = {slot.index: slot.factor(free) for slot in slots}
    for index, block in enumerate(blocks):
        source = index if block.same_as is None else block.same_as
        if source in made:
            full[span(block), span(block)] = made[source] @ made[source].T
    return full
