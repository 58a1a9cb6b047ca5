"""First-order expansions of the model around given random effects: -2LL by linearisation.

y_i is about N(f(eta0) - J eta0, J Omega J' + V) (Lindstrom and Bates 1990).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..inner.posterior import slopes
from ..likelihood import LinearisedLikelihood
from .joint import LOG_2PI, Joint


@dataclass(frozen=True)
class Expansion:
    """Residuals y - E[y] (``"id record"``, zero outside observations) and their covariance, unit outside."""

    residual: Float[Tensor, "id record"]
    covariance: Float[Tensor, "id record record"]


def expand(
    joint: Joint, parameters: tuple[Tensor, Tensor, Tensor], eta: Float[Tensor, "id active"]
) -> Expansion:
    """Return the expansion at ``eta``."""
    theta, omega, sigma = parameters
    local = slopes(joint, theta, omega, sigma, eta[None])
    jacobian = local.mean_slope[0]
    variance = local.variance[0]
    residual = local.residual[0] + torch.einsum("ijk,ik->ij", jacobian, eta)
    covariance = jacobian @ joint.active_omega(omega) @ jacobian.mT + torch.diag_embed(variance)
    return Expansion(residual, covariance)


def linearised_likelihood(
    joint: Joint, parameters: tuple[Tensor, Tensor, Tensor], mode: Float[Tensor, "id active"]
) -> LinearisedLikelihood:
    """Return -2 log-likelihood of the model linearised at the conditional modes, constants included."""
    expansion = expand(joint, parameters, mode)
    chol = torch.linalg.cholesky(expansion.covariance)
    white = torch.linalg.solve_triangular(chol, expansion.residual[..., None], upper=False)[..., 0]
    count = joint.batch.observed.sum(-1, dtype=white.dtype)
    logs = 2.0 * chol.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    by_subject = white.square().sum(-1) + logs + LOG_2PI * count
    return LinearisedLikelihood(float(by_subject.sum()), by_subject.numpy())
