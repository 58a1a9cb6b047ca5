"""Proposal densities of importance sampling: normal or t, around the posteriors of all subjects."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv, gammaln, logsumexp, ndtri

from ..estimate import Array
from ..streams import stream, stream_seed

Points = Literal["random", "sobol"]
LOG_2PI = math.log(2.0 * math.pi)
BITS = 30  # of the coordinates of a Sobol net
SCALES = np.array([1.2, 1.5, 1.9, 2.4, 3.0])  # of the variance, tried for each subject: never too narrow
HEAVY = (0, 10, 4)  # degrees of freedom likewise; 0: normal


@dataclass(frozen=True, eq=False)
class Proposal:
    """One density for each subject, over the etas with variance (``active``).

    Attributes
    ----------
    centre
        [id, active].
    covariance
        [id, active, active] of the normal density before scaling.
    scale
        [id], times which the covariance is taken.
    df
        int64[id], degrees of freedom of the t distribution; 0: normal.
    tail
        Second scale, of the later half of the draws, for long tails; None: one density.
    guarded, broad
        bool[id] and [active, active]: subjects of whose draws the later half comes from a normal density
        around 0 with that covariance, so that no part of the posterior is out of reach (defensive
        mixtures; Hesterberg 1995). None: no subject.
    """

    centre: Array
    covariance: Array
    scale: Array
    df: NDArray[np.int64]
    tail: float | None = None
    guarded: NDArray[np.bool_] | None = None
    broad: Array | None = None

    def draw(self, points: BasePoints) -> tuple[Array, Array]:
        """Return draws [draw, id, active] and their log densities [draw, id]."""
        root = np.linalg.cholesky(self.covariance)
        width = np.broadcast_to(np.sqrt(self.scale), (len(points.normal), len(self.scale))).copy()
        if self.tail is not None:
            width[first_half(len(width)) :] = math.sqrt(self.tail)
        mixing = np.ones_like(width)
        for df in np.unique(self.df[self.df > 0]):
            chosen = self.df == df
            mixing[:, chosen] = 2.0 * gammaincinv(0.5 * df, points.uniform[:, chosen]) / df
        unit = points.normal * (width / np.sqrt(mixing))[..., None]
        drawn = self.centre + np.einsum("ikl,dil->dik", root, unit)
        if self.guarded is not None and self.broad is not None and self.guarded.any():
            half = first_half(len(drawn))
            anywhere = points.normal[half:, self.guarded] @ np.linalg.cholesky(self.broad).T
            drawn[half:, self.guarded] = anywhere
        return drawn, self.log_density(drawn)

    def log_density(self, at: Array) -> Array:
        """Return the log density [draw, id] at ``at`` [draw, id, active]."""
        square, log_root = self._distance(at)
        size = at.shape[-1]
        own = _log_density(square, self.scale, self.df, size)
        second = (
            None
            if self.tail is None
            else _log_density(square, np.full_like(self.scale, self.tail), self.df, size)
        )
        if self.guarded is not None and self.broad is not None:
            white = np.linalg.inv(np.linalg.cholesky(self.broad))
            squares = np.square(at @ white.T).sum(-1)
            anywhere = log_root - 0.5 * (squares + size * LOG_2PI) + np.log(np.diag(white)).sum()
            second = np.where(self.guarded, anywhere, own if second is None else second)
        if second is not None:
            own = np.logaddexp(own, second) - math.log(2.0)
        return np.asarray(own - log_root)

    def best_shape(self, at: Array, log_joint: Array, share: Array, low: float, high: float) -> Proposal:
        """Return this proposal with the scale and degrees of freedom of most use for each subject.

        The expected effective share of draws from q is 1 over the posterior mean of joint / q: that is
        estimated from draws ``at`` with log joint densities [draw, id] and normalised weights ``share``.
        """
        square, log_root = self._distance(at)
        scales = np.unique(np.clip(SCALES, low, high))
        tried = [(scale, df) for df in HEAVY for scale in scales]
        with np.errstate(divide="ignore"):
            log_share = np.log(share)
        loss = []
        for scale, df in tried:
            own = _log_density(
                square, np.full_like(self.scale, scale), np.full_like(self.df, df), at.shape[-1]
            )
            loss.append(logsumexp(log_share + log_joint - (own - log_root), axis=0))
        best = np.argmin(np.array(loss), axis=0)
        chosen = np.array(tried)[best]
        return replace(self, scale=chosen[:, 0], df=chosen[:, 1].astype(np.int64))

    def _distance(self, at: Array) -> tuple[Array, Array]:
        """Return squared distances [draw, id] from the centre and half the log determinant [id]."""
        root = np.linalg.cholesky(self.covariance)
        white = np.einsum("ikl,dil->dik", np.linalg.inv(root), at - self.centre)
        return (white**2).sum(-1), np.log(np.einsum("ikk->ik", root)).sum(-1)


def _log_density(square: Array, scale: Array, df: NDArray[np.int64], size: int) -> Array:
    """Return log densities, less half the log determinant of the covariance."""
    volume = 0.5 * size * np.log(scale)
    normal = -0.5 * (square / scale + size * LOG_2PI)
    heavy = np.where(df > 0, df, 1)
    half = 0.5 * (heavy + size)
    constant = gammaln(half) - gammaln(0.5 * heavy) - 0.5 * size * np.log(heavy * math.pi)
    student = constant - half * np.log1p(square / (scale * heavy))
    return np.asarray(np.where(df > 0, student, normal) - volume)


def first_half(draws: int) -> int:
    """Return how many of ``draws`` the first density of a mixture has.

    It is a run of draws, not every other one: a run of even points is even, every other one is not.
    """
    return (draws + 1) // 2


@dataclass(frozen=True, eq=False)
class BasePoints:
    """Standard normal points [draw, id, dim], and uniform ones [draw, id] that make them t."""

    normal: Array
    uniform: Array


def base_points(
    draws: int, subjects: int, dimensions: int, method: Points, seed: int, name: str
) -> BasePoints:
    """Return random points, or those of a Sobol net whose digits are shifted at random for each subject.

    The shift keeps the points of each subject even and the errors of different subjects independent (L'Ecuyer
    and Lemieux 2002, section 2).
    """
    generator = stream(seed, name)
    if method == "random":
        normal = generator.standard_normal((draws, subjects, dimensions))
        return BasePoints(normal, generator.random((draws, subjects)))
    from scipy.stats.qmc import Sobol  # costs most of a second to import

    size = dimensions + 1
    net = Sobol(size, scramble=True, seed=stream_seed(seed, name + "/net") % 2**31, bits=BITS)
    base = net.random_base2(max(math.ceil(math.log2(max(draws, 1))), 0))[:draws]
    digits = (base * 2**BITS).astype(np.int64)
    shift = generator.integers(0, 2**BITS, (subjects, size))
    uniform = np.clip(((digits[:, None, :] ^ shift) + 0.5) / 2**BITS, 1e-12, 1.0 - 1e-12)
    return BasePoints(np.asarray(ndtri(uniform[..., :-1])), uniform[..., -1])
