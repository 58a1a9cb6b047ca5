"""Per-subject posteriors of the random effects: modes and Gaussian approximations.

All subjects move together. Derivatives of predictions to eta come from central differences of the
decoder, so closed forms and differential equations are treated alike; the information is the
expected one (Fisher scoring), positive definite everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..ir.compartment import OdeDynamics
from ..objective.joint import LOG_2PI, Chunk, Joint

# Share of the gain a linear objective would have that a step must reach. An exact step has 0.5; one twice too
# long, as scoring takes it where residuals are large, has none and would swing to and fro.
ENOUGH = 0.25
LONGEST = 4.0  # step in prior SDs: where residuals are huge, scoring would leap out of reach of its halvings


@dataclass(frozen=True)
class Posterior:
    """Gaussian posteriors of the active etas: means, Cholesky factors, and whether each converged."""

    mean: Float[Tensor, "id eta"]
    chol: Float[Tensor, "id eta eta"]
    converged: Bool[Tensor, " id"]


@dataclass(frozen=True)
class Slopes:
    """Residuals and derivatives at the nodes of each subject (``"node id record [eta]"``)."""

    residual: Tensor
    variance: Tensor
    mean_slope: Tensor
    variance_slope: Tensor


def difference_step(joint: Joint) -> float:
    """Return the step of central differences in units of the random effects' SD."""
    dynamics = joint.model.dynamics
    noise = dynamics.relative_tolerance if isinstance(dynamics, OdeDynamics) else 1e-15
    return float(noise ** (1.0 / 3.0))


@torch.no_grad()
def slopes(
    joint: Joint, theta: Tensor, omega: Tensor, sigma: Tensor, eta: Float[Tensor, "node id eta"]
) -> Slopes:
    """Return residuals, variances and their derivatives to the active etas at ``eta``."""
    n = joint.n_active
    width = difference_step(joint) * joint.active_omega(omega).diagonal().sqrt().clamp(max=1.0)
    nodes = eta.shape[0]
    shifts = torch.cat([torch.zeros(1, n, dtype=eta.dtype), torch.diag(width), -torch.diag(width)])
    points = (eta[None] + shifts[:, None, None, :]).flatten(0, 1)

    def work(chunk: Chunk) -> tuple[Tensor, Tensor, Tensor]:
        batch = chunk.decoder.batch
        prediction = chunk.decoder.predict(theta, joint.full_eta(points[:, chunk.subjects]), sigma)
        mean = torch.where(batch.observed, prediction.mean, 0.0)
        variance = torch.where(batch.observed, prediction.variance, 1.0)
        return mean, variance, batch.dv

    parts = list(joint.map(work, joint.chunks(points.shape[0])))
    shape = (1 + 2 * n, nodes, joint.n_subjects, -1)
    mean = torch.cat([p[0] for p in parts], 1).reshape(shape)
    variance = torch.cat([p[1] for p in parts], 1).reshape(shape)
    dv = torch.cat([p[2] for p in parts], 0)
    scale = 2.0 * width[:, None, None, None]
    return Slopes(
        torch.where(joint.batch.observed, dv - mean[0], 0.0),
        variance[0],
        ((mean[1 : n + 1] - mean[n + 1 :]) / scale).movedim(0, -1),
        ((variance[1 : n + 1] - variance[n + 1 :]) / scale).movedim(0, -1),
    )


def joint_density(
    joint: Joint, theta: Tensor, omega: Tensor, sigma: Tensor, eta: Float[Tensor, "node id eta"]
) -> Float[Tensor, "node id"]:
    """Return log p(y, eta) with NaN (a decoder that failed there) as minus infinity."""
    precision = torch.linalg.inv(joint.active_omega(omega))
    prior = -0.5 * torch.einsum("nik,kl,nil->ni", eta, precision, eta)
    prior = prior - 0.5 * (joint.n_active * LOG_2PI + torch.logdet(joint.active_omega(omega)))
    value = joint.log_likelihood(theta, sigma, eta) + prior
    return torch.where(torch.isnan(value), -math.inf, value)


@torch.no_grad()
def gaussian_posterior(
    joint: Joint,
    theta: Tensor,
    omega: Tensor,
    sigma: Tensor,
    start: Float[Tensor, "id eta"],
    iterations: int = 40,
    tolerance: float = 1e-5,
) -> Posterior:
    """Return Gaussian posteriors by damped Newton steps on every subject at once.

    The mean is the mode, the covariance the inverse expected information there (Laplace). Steps are halved
    per subject until the density does not fall; ``tolerance`` is in posterior SDs.
    """
    mean = start.clone()
    chol = torch.linalg.cholesky(joint.active_omega(omega)).expand(len(start), -1, -1).clone()
    precision = torch.linalg.inv(joint.active_omega(omega))

    def objective(mean: Tensor) -> Tensor:
        return joint_density(joint, theta, omega, sigma, mean[None])[0]

    current = objective(mean)
    converged = torch.zeros(len(start), dtype=torch.bool)
    for _ in range(iterations):
        s = slopes(joint, theta, omega, sigma, mean[None])
        mean_slope, variance_slope, residual = s.mean_slope[0], s.variance_slope[0], s.residual[0]
        weight = 1.0 / s.variance[0]
        information = torch.einsum("ijk,ij,ijl->ikl", mean_slope, weight, mean_slope)
        information += 0.5 * torch.einsum("ijk,ij,ijl->ikl", variance_slope, weight**2, variance_slope)
        information = precision + information
        gradient = torch.einsum("ijk,ij->ik", mean_slope, weight * residual)
        excess = weight**2 * residual**2 - weight
        gradient += 0.5 * torch.einsum("ijk,ij->ik", variance_slope, excess)
        gradient = gradient - mean @ precision
        usable = torch.isfinite(information).flatten(1).all(1) & torch.isfinite(gradient).all(1)
        information = torch.where(usable[:, None, None], information, precision)
        gradient = torch.where(usable[:, None], gradient, 0.0)
        factor = torch.linalg.cholesky(information)
        step = torch.cholesky_solve(gradient[..., None], factor)[..., 0]
        length = (gradient * step).sum(-1).clamp(min=0.0).sqrt()
        reach = torch.einsum("ik,kl,il->i", step, precision, step).sqrt()
        step = step * (LONGEST / reach.clamp(min=LONGEST))[:, None]
        enough = ENOUGH * (gradient * step).sum(-1)
        mean, current, moved = _line_search(objective, mean, step, enough, current)
        chol = torch.where(moved[:, None, None], _inverse_factor(information), chol)
        # scoring converges linearly, slowly where residuals are large: a thousandth of an SD is a mode found
        converged = (length < 1e-3) & usable
        if bool(((length < tolerance) | ~moved).all()):
            break
    return Posterior(mean, chol, converged)


def _inverse_factor(information: Tensor) -> Tensor:
    """Return the lower Cholesky factor of the inverse of ``information``."""
    factor: Tensor = torch.linalg.cholesky(torch.linalg.inv(information))
    return factor


def _line_search(
    objective: Callable[[Tensor], Tensor], mean: Tensor, step: Tensor, enough: Tensor, current: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the first of the halved steps that raises each subject's objective by enough for its size."""
    size = torch.ones(len(mean), dtype=mean.dtype)
    done = torch.zeros(len(mean), dtype=torch.bool)
    for _ in range(12):
        trial = mean + size[:, None] * step
        value = objective(trial)
        needed = current + size * enough - 1e-9 * current.abs().clamp(min=1.0)
        better = (value >= needed) & ~done
        mean = torch.where(better[:, None], trial, mean)
        current = torch.where(better, value, current)
        done = done | better
        if bool(done.all()):
            break
        size = torch.where(done, size, 0.5 * size)
    return mean, current, done
