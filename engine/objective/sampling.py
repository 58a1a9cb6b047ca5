"""The marginal likelihood by importance sampling, and its derivatives to the population parameters.

Draws are kept in z = mu + eta: while only mu-referenced thetas, omega and the residual model move,
predictions stay and the likelihood of new parameters costs no decoder call. Its gradient is
Fisher's identity and its Hessian Louis' identity on the weighted draws (Louis 1982, equation 3.2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..decoder.compile import Decoder, Structure
from ..estimate import Array
from ..inner.posterior import Posterior, difference_step, slopes
from ..likelihood import ImportanceLikelihood
from ..parameterisation.tensor import TensorParameterisation
from ..randomness import t_points
from .joint import CHUNK_ELEMENTS, Chunk, Joint, log_likelihood, log_normal_density

DIFFERENCE = 1e-4  # relative step between gradients; errors of solvers are far below it


@dataclass(frozen=True)
class Draws:
    """Draws of z from a proposal, with log proposal densities and kept decoder stages per chunk.

    ``z`` is ``"draw id active"``, ``log_q`` ``"draw id"``. ``structures`` is None where thetas of the
    structural model are estimated, so that predictions must be computed anew; the draws then follow
    those thetas: at ``theta`` each subject's are moved by ``pull`` (id active theta) times
    ``theta - origin``, as its mode is to first order, and so serve a longer way.
    """

    z: Tensor
    log_q: Tensor
    chunks: list[Chunk]
    structures: list[Structure] | None
    origin: Tensor | None = None
    pull: Tensor | None = None

    def first(self, joint: Joint, count: int) -> Draws:
        """Return the first ``count`` draws of these, whose predictions are not kept."""
        return replace(self, z=self.z[:count], log_q=self.log_q[:count], chunks=joint.chunks(count))

    def at(self, theta: Tensor, subjects: slice = slice(None)) -> Float[Tensor, "draw some active"]:
        """Return the draws of ``subjects`` for ``theta``; their densities are ``log_q`` everywhere."""
        z = self.z[:, subjects]
        if self.pull is None or self.origin is None:
            return z
        return z + self.pull[subjects] @ (theta - self.origin)


@torch.no_grad()
def draw(
    joint: Joint,
    parameters: tuple[Tensor, Tensor, Tensor],
    posterior: Posterior,
    draws: int,
    *,
    seed: int,
    name: str,
    df: int | None = 6,
    widening: float = 1.1,
    keep: bool = True,
) -> Draws:
    """Return draws from t distributions around each subject's posterior.

    ``df`` degrees of freedom (even; None: normal); scales are the posterior's times ``widening``.
    """
    theta = parameters[0]
    n = joint.n_active
    points, log_density = t_points(draws, joint.n_subjects, n, df, seed, name)
    chol = widening * posterior.chol
    eta = posterior.mean + torch.einsum("ikl,nil->nik", chol, points)
    log_q = log_density - chol.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    z = eta + joint.active_mu(theta)
    chunks = joint.chunks(draws, observe_only=keep)
    if keep:
        structures = list(
            joint.map(lambda c: kept_structure(c.decoder, theta, joint.full_eta(eta[:, c.subjects])), chunks)
        )
        return Draws(z, log_q, chunks, structures)
    return Draws(z, log_q, chunks, None, theta, _pull(joint, parameters, posterior))


def _pull(
    joint: Joint, parameters: tuple[Tensor, Tensor, Tensor], posterior: Posterior
) -> Float[Tensor, "id active theta"]:
    """Return the derivative of each subject's mode to every structural theta, zero for other thetas.

    By the implicit function theorem -I^-1 K, with I the expected information of eta and K that of eta and
    theta together, both from first derivatives of means and variances.
    """
    theta, omega, sigma = parameters
    local = slopes(joint, theta, omega, sigma, posterior.mean[None])
    by_mean = local.mean_slope[0] / local.variance[0][..., None]
    by_variance = 0.5 * local.variance_slope[0] / local.variance[0].square()[..., None]
    information = by_mean.mT @ local.mean_slope[0] + by_variance.mT @ local.variance_slope[0]
    information = information + torch.linalg.inv(joint.active_omega(omega))
    eta, observed = joint.full_eta(posterior.mean[None]), joint.batch.observed
    pull = theta.new_zeros(*posterior.mean.shape, len(theta))
    for j in joint.mu.structural_thetas:
        step = torch.zeros_like(theta)
        step[j] = difference_step(joint) * (abs(float(theta[j])) or 1e-3)
        ahead, behind = (joint.decoder.predict(theta + s, eta, sigma) for s in (step, -step))
        mean, variance = (
            torch.where(observed, (a - b)[0] / (2.0 * step[j]), 0.0)
            for a, b in ((ahead.mean, behind.mean), (ahead.variance, behind.variance))
        )
        together = by_mean.mT @ mean[..., None] + by_variance.mT @ variance[..., None]
        pull[..., j] = -torch.linalg.solve(information, together)[..., 0]
    return torch.where(torch.isfinite(pull), pull, 0.0)


def kept_structure(decoder: Decoder, theta: Tensor, eta: Float[Tensor, "draw id eta"]) -> Structure:
    """Return the structure at ``eta``, computed by blocks of draws into memory taken once.

    Small results kept between large freed intermediates would leave the heap full of holes.
    """
    draws = len(eta)
    size = max(CHUNK_ELEMENTS // decoder.elements_per_draw, 1)
    if size >= draws:
        return decoder.structure(theta, eta).detach()
    kept: Structure | None = None
    for first in range(0, draws, size):
        part = decoder.structure(theta, eta[first : first + size]).env
        if kept is None:
            kept = Structure(
                replace(
                    part,
                    eta=[eta[..., k : k + 1] for k in range(eta.shape[-1])],
                    variables={name: _room(value, draws) for name, value in part.variables.items()},
                    amounts={c: _room(value, draws) for c, value in part.amounts.items()},
                )
            )
        block = slice(first, first + size)
        for name, value in part.variables.items():
            _store(kept.env.variables[name], value, block)
        for compartment, value in part.amounts.items():
            _store(kept.env.amounts[compartment], value, block)
    assert kept is not None
    return kept


def _room(value: Tensor, draws: int) -> Tensor:
    """Return memory for ``value`` at all draws, or ``value`` itself where it does not depend on them."""
    if value.ndim < 3:
        return value
    return value.new_empty(draws, *value.shape[1:])


def _store(room: Tensor, value: Tensor, block: slice) -> None:
    if value.ndim == 3:
        room[block] = value


def chunk_log_weights(
    joint: Joint,
    draws: Draws,
    position: int,
    parameters: tuple[Tensor, Tensor, Tensor],
    with_prior: bool = True,
) -> Float[Tensor, "draw id"]:
    """Return log p(y, z) - log q(z) for the subjects of one chunk, or log p(y | z) - log q(z)."""
    theta, omega, sigma = parameters
    chunk = draws.chunks[position]
    eta = draws.at(theta, chunk.subjects) - joint.active_mu(theta)[chunk.subjects]
    if draws.structures is None:
        structure = chunk.decoder.structure(theta, joint.full_eta(eta))
    else:
        structure = draws.structures[position]
    prediction = chunk.decoder.observe(structure, theta, sigma)
    value = log_likelihood(prediction, chunk.decoder.batch)
    value = value - draws.log_q[:, chunk.subjects]
    if with_prior:
        value = value + log_normal_density(eta, joint.active_omega(omega))
    return torch.where(torch.isnan(value), -math.inf, value)


@torch.no_grad()
def likelihood_ratio(
    joint: Joint, draws: Draws, parameters: tuple[Tensor, Tensor, Tensor]
) -> Float[Tensor, "draw id"]:
    """Return log p(y | z) - log q(z) of all subjects."""
    parts = [chunk_log_weights(joint, draws, p, parameters, False) for p in range(len(draws.chunks))]
    return torch.cat(parts, 1)


@torch.no_grad()
def log_weights(
    joint: Joint, draws: Draws, parameters: tuple[Tensor, Tensor, Tensor]
) -> Float[Tensor, "draw id"]:
    """Return log importance weights of all subjects."""
    parts = [chunk_log_weights(joint, draws, p, parameters) for p in range(len(draws.chunks))]
    return torch.cat(parts, 1)


def effective_sample_size(weights: Float[Tensor, "draw id"]) -> Float[Tensor, " id"]:
    """Return (sum w)^2 / sum w^2 of every subject from log weights (Kong 1992)."""
    return (2.0 * torch.logsumexp(weights, 0) - torch.logsumexp(2.0 * weights, 0)).exp()


class MarginalLikelihood:
    """-2 log-likelihood on fixed draws as a smooth function of the free parameter vector."""

    def __init__(self, joint: Joint, parameterisation: TensorParameterisation, draws: Draws) -> None:
        self.joint, self.parameterisation, self.draws = joint, parameterisation, draws

    @property
    def solves(self) -> bool:
        """Whether every value costs the solution of differential equations, or the like, at all draws."""
        return self.draws.structures is None and self.joint.decoder.derivatives == 1

    def _chunk(self, position: int, free: Tensor) -> Tensor:
        weights = chunk_log_weights(self.joint, self.draws, position, self.parameterisation.unpack(free))
        return -2.0 * (torch.logsumexp(weights, 0) - math.log(len(weights))).sum()

    def value_and_gradient(self, free: Array) -> tuple[float, Array]:
        """Return -2 log-likelihood and its gradient; chunks are summed in order."""

        def work(position: int) -> tuple[float, Array]:
            vector = torch.from_numpy(np.asarray(free, dtype=float)).requires_grad_()
            value = self._chunk(position, vector)
            (gradient,) = torch.autograd.grad(value, vector)
            return float(value.detach()), gradient.numpy()

        parts = [work(p) for p in range(len(self.draws.chunks))]
        return sum(p[0] for p in parts), np.sum([p[1] for p in parts], axis=0)

    def hessian(self, free: Array) -> Array:
        """Return the Hessian of -2 log-likelihood at ``free``.

        By differences of exact gradients along the parameters that move predictions of given draws where the
        decoder has first derivatives only.
        """
        if self.solves:
            return self._with_differences(free)
        total = np.zeros((len(free), len(free)))
        for position in range(len(self.draws.chunks)):
            vector = torch.from_numpy(np.asarray(free, dtype=float)).requires_grad_()
            value = self._chunk(position, vector)
            (gradient,) = torch.autograd.grad(value, vector, create_graph=True)
            for k in range(len(free)):
                (row,) = torch.autograd.grad(gradient[k], vector, retain_graph=True)
                total[k] += row.numpy()
        return 0.5 * (total + total.T)

    def _with_differences(self, free: Array) -> Array:
        parameters = self.parameterisation.unpack(torch.from_numpy(np.asarray(free, dtype=float)))
        still = MarginalLikelihood(
            self.joint, self.parameterisation, kept_draws(self.joint, self.draws, parameters)
        )
        total = still.hessian(free)
        structural = self.joint.mu.structural_thetas
        moving = [p for p, j in enumerate(self.parameterisation.free_thetas) if j in structural]
        columns = []
        for k in moving:
            step = np.zeros(len(free))
            step[k] = DIFFERENCE * max(abs(float(free[k])), 1.0)
            ahead, behind = (self.value_and_gradient(free + s)[1] for s in (step, -step))
            columns.append((ahead - behind) / (2.0 * step[k]))
        for k, column in zip(moving, columns, strict=True):
            total[k], total[:, k] = column, column
        inside = np.ix_(moving, moving)
        total[inside] = 0.5 * (total[inside] + np.array(columns).reshape(len(moving), -1)[:, moving])
        return 0.5 * (total + total.T)


@torch.no_grad()
def kept_draws(joint: Joint, draws: Draws, parameters: tuple[Tensor, Tensor, Tensor]) -> Draws:
    """Return ``draws`` where ``parameters`` move them, with kept decoder stages: structural thetas stay."""
    theta = parameters[0]
    z = draws.at(theta)
    eta = z - joint.active_mu(theta)
    chunks = joint.chunks(len(z), observe_only=True)
    structures = joint.map(
        lambda c: kept_structure(c.decoder, theta, joint.full_eta(eta[:, c.subjects])), chunks
    )
    return Draws(z, draws.log_q, chunks, list(structures))


def importance_likelihood(weights: list[Float[Tensor, "draw id"]]) -> ImportanceLikelihood:
    """Return -2 log-likelihood from log weights of independent replicates of the same size.

    Its standard error comes from the scatter of the replicates, since the even points of one
    replicate are not independent; those of different subjects are, so their variances add up.
    """
    replicates = torch.stack([-2.0 * torch.logsumexp(w, 0) + 2.0 * math.log(len(w)) for w in weights])
    everything = torch.cat(weights)
    by_subject = -2.0 * (torch.logsumexp(everything, 0) - math.log(len(everything)))
    count = len(replicates)
    return ImportanceLikelihood(
        value=float(by_subject.sum()),
        se=math.sqrt(float(replicates.var(0).sum()) / count) if count > 1 else math.nan,
        by_subject=by_subject.numpy(),
        ess=effective_sample_size(everything).numpy(),
        draws=len(everything),
    )


@torch.no_grad()
def weighted_moments(
    draws: Draws, weights: Float[Tensor, "draw id"]
) -> tuple[Float[Tensor, "id active"], Float[Tensor, "id active active"]]:
    """Return posterior means and covariances of z by self-normalised weights."""
    share = torch.softmax(weights, 0)
    mean = torch.einsum("ni,nik->ik", share, draws.z)
    deviation = draws.z - mean
    covariance = torch.einsum("ni,nik,nil->ikl", share, deviation, deviation)
    return mean, covariance
