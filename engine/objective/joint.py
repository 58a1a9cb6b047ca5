"""The joint density of observations and random effects, and its parts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..data.batch import Batch, build_batch
from ..data.kept import without_unused_memory
from ..data.switches import with_switch_times
from ..decoder.compile import Decoder, Prediction, Solver
from ..ir.compartment import OdeDynamics
from ..ir.dataset import DataSet
from ..ir.model import Model
from ..ir.parameter import matrix
from ..mu_design import MuDesign

LOG_2PI = math.log(2.0 * math.pi)
CHUNK_ELEMENTS = 2**17  # of one float64 intermediate: 1 MB, within the caches

T = TypeVar("T")


def log_likelihood(prediction: Prediction, batch: Batch) -> Float[Tensor, "draw id"]:
    """Return log p(y | eta) of every subject, normal residuals, constants included."""
    observed = batch.observed
    variance = torch.where(observed, prediction.variance, 1.0)
    residual = torch.where(observed, batch.dv - prediction.mean, 0.0)
    terms = residual.square() / variance + torch.log(variance)
    count = observed.sum(-1, dtype=terms.dtype)
    return (terms.sum(-1) + count * LOG_2PI) * -0.5


def log_normal_density(
    deviation: Float[Tensor, "draw id eta"], covariance: Float[Tensor, "eta eta"]
) -> Float[Tensor, "draw id"]:
    """Return the log density of N(0, covariance) at ``deviation``; NaN where that is no covariance.

    So a step of an optimiser that went too far is a value like any other.
    """
    chol: Tensor
    chol, failed = torch.linalg.cholesky_ex(covariance)
    white: Tensor = torch.linalg.solve_triangular(chol, deviation.flatten(0, 1).T, upper=False)
    squares = white.square().sum(0).reshape(deviation.shape[:-1])
    log_root: Tensor = chol.diagonal().log().sum()
    density = (squares + deviation.shape[-1] * LOG_2PI) * -0.5 - log_root
    return density if int(failed) == 0 else density * math.nan


@dataclass(frozen=True)
class Chunk:
    """A decoder for the subjects of one slice."""

    subjects: slice
    decoder: Decoder


class Joint:
    """A model over a data set: chunks of subjects, mu design, active random effects.

    ``active`` lists the etas (from 0) with non-zero variance; the latent variable is
    z = mu + eta for them, the others are zero.
    """

    def __init__(self, model: Model, data: DataSet, threads: int = 1, solver: Solver = "compiled") -> None:
        model = without_unused_memory(model, data)
        if solver == "compiled":
            model = with_switch_times(model, data)
        self.model, self.data, self.threads, self.solver = model, data, threads, solver
        self.batch = build_batch(model, data)
        self.decoder = Decoder(model, self.batch, solver)
        self.mu = MuDesign(model, self.batch)
        diagonal = [row[i] for i, row in enumerate(matrix(model.omega))]
        self.active = [i for i, v in enumerate(diagonal) if v > 0]
        self._chunks: dict[int, list[Chunk]] = {}

    def loosened(self, tolerance: float) -> Joint:
        """Return this joint with differential equations solved to the relative ``tolerance``, no closer.

        The absolute tolerance is loosened as much. It is the joint itself where nothing would change.
        """
        dynamics = self.model.dynamics
        if not isinstance(dynamics, OdeDynamics) or dynamics.relative_tolerance >= tolerance:
            return self
        looser = replace(
            dynamics,
            relative_tolerance=tolerance,
            absolute_tolerance=dynamics.absolute_tolerance * tolerance / dynamics.relative_tolerance,
        )
        other = copy(self)
        other.model = self.model.replace(dynamics=looser)
        other.decoder, other._chunks = Decoder(other.model, self.batch, self.solver), {}
        return other

    @property
    def n_subjects(self) -> int:
        """Number of subjects."""
        return self.batch.n_subjects

    @property
    def n_active(self) -> int:
        """Number of random effects with non-zero variance."""
        return len(self.active)

    def full_eta(self, eta: Float[Tensor, "draw id active"]) -> Float[Tensor, "draw id eta"]:
        """Return all random effects from the active ones."""
        n = self.model.n_etas
        if len(self.active) == n:
            return eta
        full = eta.new_zeros(*eta.shape[:-1], n)
        return full.index_copy(-1, torch.tensor(self.active), eta)

    def active_mu(self, theta: Tensor) -> Float[Tensor, "id active"]:
        """Return mu of the active random effects."""
        return self.mu(theta)[:, self.active]

    def active_omega(self, omega: Tensor) -> Float[Tensor, "active active"]:
        """Return the covariance of the active random effects."""
        return omega[self.active][:, self.active]

    def chunks(self, draws: int, observe_only: bool = False) -> list[Chunk]:
        """Return decoders for slices of subjects, small enough for ``draws`` draws each.

        With ``observe_only`` only the observation model will run on them all at once. The slices depend on
        the data and on ``draws`` only, so results do not depend on threads.
        """
        elements = self.batch.n_records * self.n_subjects if observe_only else self.decoder.elements_per_draw
        per_subject = max(elements // self.n_subjects, 1) * draws
        size = min(max(CHUNK_ELEMENTS // per_subject, 1), self.n_subjects)
        if size >= self.n_subjects:
            return [Chunk(slice(0, self.n_subjects), self.decoder)]
        if size not in self._chunks:
            starts = range(0, self.n_subjects, size)
            slices = [slice(s, min(s + size, self.n_subjects)) for s in starts]
            self._chunks[size] = [
                Chunk(s, Decoder(self.model, self.batch.subjects(s), self.solver)) for s in slices
            ]
        return self._chunks[size]

    def map(self, work: Callable[[Chunk], T], chunks: list[Chunk]) -> Iterator[T]:
        """Apply ``work`` to every chunk, in order, on the run's threads."""
        if self.threads <= 1 or len(chunks) == 1:
            yield from map(work, chunks)
            return
        gradient = torch.is_grad_enabled()

        def within(chunk: Chunk) -> T:
            with torch.set_grad_enabled(gradient):
                return work(chunk)

        with ThreadPoolExecutor(self.threads) as pool:
            yield from pool.map(within, chunks)

    def log_likelihood(
        self, theta: Tensor, sigma: Tensor, eta: Float[Tensor, "draw id active"]
    ) -> Float[Tensor, "draw id"]:
        """Return log p(y | eta) for all subjects."""

        def work(chunk: Chunk) -> Tensor:
            own = self.full_eta(eta[:, chunk.subjects])
            return log_likelihood(chunk.decoder.predict(theta, own, sigma), chunk.decoder.batch)

        return torch.cat(list(self.map(work, self.chunks(eta.shape[0]))), 1)
