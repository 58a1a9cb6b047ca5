"""The M-step: population parameters that maximise the expected joint density.

Given E_q[z], Cov_q[z] and the residuals at draws of z: generalised least squares for mu-referenced
thetas (with the L0 penalty on covariate effects), moments for omega, closed form or Newton for the
residual model (Dempster, Laird and Rubin 1977; Delyon, Lavielle and Moulines 1999).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..decoder.compile import Prediction
from ..estimate import Array, Estimate
from ..ir.model import Model
from ..ir.parameter import CovarianceBlock
from ..objective.joint import Joint
from ..parameterisation.tensor import TensorParameterisation
from ..selection.l0 import L0Solution, profile_out, regress, solve_l0

OMEGA_FLOOR = 1e-8  # relative to the block's initial variance: keeps the prior a density
SIGMA_FLOOR = 1e-12  # likewise


@dataclass(frozen=True)
class Moments:
    """Posterior means (id active) and covariances (id active active) of z."""

    mean: Array
    covariance: Array

    def towards(self, other: Moments, gamma: float) -> Moments:
        """Return the average that moves by ``gamma`` towards ``other`` (stochastic approximation)."""
        return Moments(
            self.mean + gamma * (other.mean - self.mean),
            self.covariance + gamma * (other.covariance - self.covariance),
        )


@dataclass(frozen=True)
class EffectPenalty:
    """The L0 penalty: ``thetas`` (from 0) of the candidates and the price of each, on the -2LL scale."""

    thetas: tuple[int, ...]
    price: Array
    forced: NDArray[np.bool_]
    forbidden: NDArray[np.bool_]


@dataclass(frozen=True)
class L0Problem:
    """The reduced problem of the last M-step and its solution: what a certificate needs."""

    gram: Array
    linear: Array
    penalty: EffectPenalty
    solution: L0Solution


class MuRegression:
    """Generalised least squares of E[z] on the mu design; columns are the free mu thetas."""

    def __init__(self, joint: Joint) -> None:
        self.joint = joint
        mu = joint.mu
        place = {k: a for a, k in enumerate(joint.active)}
        self.thetas = list(mu.mu_thetas)
        self.transforms = {t.theta: t for t in mu.terms}
        free = {j: c for c, j in enumerate(self.thetas)}
        self.columns = np.zeros((len(self.thetas), joint.n_subjects, joint.n_active))
        self._fixed = [t for t in mu.terms if t.theta not in free and t.eta in place]
        for term in mu.terms:
            if term.theta in free and term.eta in place:
                self.columns[free[term.theta], :, place[term.eta]] += term.design
        self._offset = mu.offset.numpy()[:, joint.active]
        self._place = place
        # without these the normal equations of a theta would be empty
        self._cross = np.einsum("tik,sil->tskl", self.columns, self.columns)

    def problem(self, mean: Array, omega: Array, theta: Array) -> tuple[Array, Array]:
        """Return the Gram matrix and linear term of the -2 log density in the coefficients."""
        precision = np.linalg.inv(omega)
        target = mean - self._offset
        for term in self._fixed:
            target[:, self._place[term.eta]] -= term.design * term.to_scale(float(theta[term.theta]))
        gram = np.einsum("tskl,kl->ts", self._cross, precision)
        linear = np.einsum("tik,ik->t", self.columns, target @ precision)
        return gram, linear

    def fixed(self, mean: Array, omega: Array, theta: Array, out: frozenset[int] = frozenset()) -> Array:
        """Return all thetas with the mu-referenced ones at their optimum, those in ``out`` at zero."""
        if not self.thetas:
            return theta
        gram, linear = self.problem(mean, omega, theta)
        inside = np.array([j not in out for j in self.thetas])
        return self._updated(theta, regress(gram, linear, inside))

    def penalised(
        self,
        mean: Array,
        omega: Array,
        theta: Array,
        penalty: EffectPenalty,
        warm: NDArray[np.bool_] | None = None,
    ) -> tuple[Array, L0Problem]:
        """Return all thetas at the optimum of the penalised regression, and that problem."""
        gram, linear = self.problem(mean, omega, theta)
        candidate = np.array([j in penalty.thetas for j in self.thetas])
        reduced, remaining, back = profile_out(gram, linear, ~candidate)
        solution = solve_l0(
            reduced,
            remaining,
            penalty.price,
            forced=penalty.forced,
            forbidden=penalty.forbidden,
            start=warm,
        )
        updated = self._updated(theta, back(solution.coefficients))
        return updated, L0Problem(reduced, remaining, penalty, solution)

    def _updated(self, theta: Array, coefficients: Array) -> Array:
        updated = theta.copy()
        for j, value in zip(self.thetas, coefficients, strict=True):
            updated[j] = self.transforms[j].from_scale(float(value))
        return updated


def update_omega(model: Model, joint: Joint, previous: Array, deviation: Array, covariance: Array) -> Array:
    """Return omega from deviations z - mu (id active) and posterior covariances, in its declared blocks."""
    n = model.n_etas
    moment = np.zeros((n, n))
    inside = np.ix_(joint.active, joint.active)
    moment[inside] = (np.einsum("ik,il->kl", deviation, deviation) + covariance.sum(0)) / len(deviation)
    omega = previous.copy()
    for index, block in enumerate(model.omega):
        if block.fixed or block.same_as is not None:
            continue
        repeats = [block, *(b for b in model.omega if b.same_as == index)]
        mean = np.mean([moment[_span(b), _span(b)] for b in repeats], axis=0)
        floor = OMEGA_FLOOR * np.array([block.element(i, i) for i in range(block.size)])
        mean[np.diag_indices(block.size)] = np.maximum(np.diag(mean), floor)
        for b in repeats:
            omega[_span(b), _span(b)] = mean
    return omega


def _span(block: CovarianceBlock) -> slice:
    return slice(block.first - 1, block.first - 1 + block.size)


class ResidualModel:
    """Updates of sigma and of the thetas that stand only in the observation model."""

    def __init__(self, joint: Joint, parameterisation: TensorParameterisation) -> None:
        self.joint, self.parameterisation = joint, parameterisation
        model = joint.model
        names = [("theta", j) for j in parameterisation.free_thetas]
        residual = set(joint.mu.residual_thetas)
        self.positions = [p for p, (_, j) in enumerate(names) if j in residual]
        self._n_thetas = len(self.positions)
        self.positions += parameterisation.sigma_positions
        self._single = all(b.size == 1 and b.same_as is None for b in model.sigma)

    def closed_form(self, prediction: Prediction, share: Tensor, sigma: Array) -> Array | None:
        """Return sigma where every record has one eps and no residual theta is free, else None.

        ``share`` (``"draw id"``) are the weights of the draws, summing to 1 over draws.
        """
        if self._n_thetas or not self._single:
            return None
        batch = self.joint.batch
        shape = prediction.mean.shape
        slopes = [s.detach().expand(shape) for s in prediction.slopes]
        involved = [(s != 0).any(0) & batch.observed for s in slopes]
        if len(slopes) > 1 and bool((torch.stack([i.int() for i in involved]).sum(0) > 1).any()):
            return None
        updated = sigma.copy()
        residual = (batch.dv - prediction.mean.detach()).square()
        for k, (slope, where) in enumerate(zip(slopes, involved, strict=True)):
            if self.joint.model.sigma[k].fixed or not bool(where.any()):
                continue
            squares = torch.where(where, residual / torch.where(where, slope, 1.0).square(), 0.0)
            total = float((share * squares.sum(-1)).sum())
            floor = SIGMA_FLOOR * self.joint.model.sigma[k].element(0, 0)
            updated[k, k] = max(total / int(where.sum()), floor)
        return updated

    def newton(
        self, estimate: Estimate, expected: Callable[[tuple[Tensor, Tensor, Tensor]], Tensor], steps: int = 2
    ) -> Estimate:
        """Return the estimate after damped Newton steps on the residual parameters.

        ``expected`` is the expected -2 log-likelihood as a function of (theta, omega, sigma).
        """
        free = torch.from_numpy(self.parameterisation.pack(estimate))
        index = torch.tensor(self.positions)

        def objective(part: Tensor) -> Tensor:
            return expected(self.parameterisation.unpack(free.index_put((index,), part)))

        part = free[index]
        for _ in range(steps):
            part = _newton_step(objective, part)
        return self.parameterisation.natural(free.index_put((index,), part).numpy())


def _newton_step(objective: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
    """Return one damped Newton step that lowers ``objective``, or ``start``."""
    point = start.clone().requires_grad_()
    value = objective(point)
    (gradient,) = torch.autograd.grad(value, point, create_graph=True)
    rows = [torch.autograd.grad(g, point, retain_graph=True)[0] for g in gradient]
    hessian = torch.stack(rows)
    values: Tensor
    vectors: Tensor
    values, vectors = torch.linalg.eigh(0.5 * (hessian + hessian.T))
    floor = 1e-6 * values.abs().max().clamp(min=1e-12)
    step = -vectors @ ((vectors.T @ gradient.detach()) / values.abs().clamp(min=float(floor)))
    step = step / step.abs().max().clamp(min=1.0)  # shortened as a whole: it must stay a descent direction
    with torch.no_grad():
        for _ in range(8):
            if bool(objective(start + step) <= value):
                return start + step
            step = 0.5 * step
    return start
