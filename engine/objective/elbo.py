"""The evidence lower bound of Gaussian posteriors."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ..inner.posterior import Posterior, gaussian_posterior
from ..randomness import normal_points
from .joint import Joint
from .sampling import draw, log_weights

NODES = 16  # antithetic pairs that refine a posterior
POINTS = 1024  # draws that evaluate the bound


def gaussian_divergence(
    deviation: Float[Tensor, "id active"],
    chol: Float[Tensor, "id active active"],
    omega: Float[Tensor, "active active"],
) -> Tensor:
    """Return the sum over subjects of KL(N(m, L L') || N(0, omega)) with m = ``deviation``, L = ``chol``."""
    root = torch.linalg.cholesky(omega)
    white: Tensor = torch.linalg.solve_triangular(root, chol, upper=False)
    mean: Tensor = torch.linalg.solve_triangular(root, deviation.T, upper=False)
    logs: Tensor = root.diagonal().log().sum() * len(deviation)
    logs = logs - chol.diagonal(dim1=-2, dim2=-1).log().sum()
    return (white.square().sum() + mean.square().sum() - deviation.numel()) * 0.5 + logs


def refine(joint: Joint, parameters: tuple[Tensor, Tensor, Tensor], start: Posterior, seed: int) -> Posterior:
    """Return the Gaussian posteriors that maximise the bound, from ``start``."""
    nodes = normal_points(NODES, joint.n_subjects, joint.n_active, seed, "elbo/nodes")
    nodes = torch.cat([nodes, -nodes])
    return gaussian_posterior(
        joint, *parameters, start.mean, nodes, start.chol, iterations=15, tolerance=1e-4
    )


def minus_two_elbo(joint: Joint, parameters: tuple[Tensor, Tensor, Tensor], q: Posterior, seed: int) -> float:
    """Return -2 ELBO (2 pi constants included) of the posteriors ``q``.

    The mean of log p(y, z) - log q(z) over draws of q, whose variance vanishes as q nears the posterior.
    """
    draws = draw(joint, parameters, q, POINTS, seed=seed, name="elbo/points", df=None, widening=1.0)
    return float(-2.0 * log_weights(joint, draws, parameters).mean(0).sum())
