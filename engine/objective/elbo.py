"""The evidence lower bound of Gaussian posteriors."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from ..estimate import Array

ELEMENTS = 2**22  # of the quadratic terms at all draws of some subjects
ITERATIONS = 30
HALVINGS = 8
RISE = 1e-6  # of the bound of a subject: less is none
NARROWEST, WIDEST = 0.2, 5.0  # precision that a step may take on, in units of the present one


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


def minus_two_elbo(
    z: Float[Tensor, "draw id active"], log_q: Float[Tensor, "draw id"], weights: Float[Tensor, "draw id"]
) -> float:
    """Return -2 ELBO (2 pi constants included) of the best Gaussian posteriors, from draws of proposals.

    ``weights`` are log p(y, z) - log q(z) at draws of q. Integrals are sums over the draws, on which the
    bound stays below the likelihood that the same draws give. The best Gaussian is the one whose logarithm
    fits that of the joint density by least squares under itself (Salimans and Knowles 2013); each subject
    goes there by damped steps from its posterior moments.
    """
    parts = zip(*(_blocks(part.numpy(), z.shape[-1]) for part in (z, log_q, weights)), strict=True)
    return -2.0 * sum(float(_Bound(*part).highest().sum()) for part in parts)


def _blocks(values: Array, dimension: int) -> Iterator[Array]:
    """Yield ``values`` [draw, id, ..] of some subjects at a time."""
    terms = (dimension + 1) * (dimension + 2) // 2
    size = max(ELEMENTS // (len(values) * terms), 1)
    for first in range(0, values.shape[1], size):
        yield np.ascontiguousarray(values[:, first : first + size].swapaxes(0, 1))


class _Bound:
    """The bound of some subjects over draws ``z`` [id, draw, active] of densities exp(``log_q``) [id, draw].

    ``weights`` [id, draw] as in :func:`minus_two_elbo`. Draws that the model has no value at have no share.
    """

    def __init__(self, z: Array, log_q: Array, weights: Array) -> None:
        self.known = np.isfinite(weights)
        self.z, self.log_q = z, log_q
        self.weights = np.where(self.known, weights, 0.0)
        self.rows, self.columns = np.tril_indices(z.shape[-1])

    def highest(self) -> Array:
        """Return the highest bound [id]; minus infinity for subjects without a draw of value."""
        any_known = np.asarray(self.known.any(1))
        share = _softmax(np.where(self.known, self.weights, -np.inf), any_known)
        mean = np.einsum("id,idk->ik", share, self.z)
        deviation = self.z - mean[:, None]
        covariance = np.einsum("id,idk,idl->ikl", share, deviation, deviation)
        identity = np.eye(mean.shape[1])
        size = np.einsum("ikk->i", covariance)[:, None, None]
        root = np.linalg.cholesky(np.where(size > 0, covariance + 1e-10 * size * identity, identity))
        value = self.value(mean, root)[0]
        moving = any_known & np.isfinite(value)
        for _ in range(ITERATIONS):
            precision, pull = self.fit(mean, root)
            length, still = np.ones(len(mean)), moving.copy()
            before = value
            for _ in range(HALVINGS):
                part = length[:, None, None]
                inner = np.linalg.cholesky(np.linalg.inv((1.0 - part) * identity + part * precision))
                shift = inner @ (inner.swapaxes(1, 2) @ (part * pull[..., None]))
                there, wider = mean + (root @ shift)[..., 0], root @ inner
                found = self.value(there, wider)[0]
                better = still & (found > value)
                mean = np.where(better[:, None], there, mean)
                root = np.where(better[:, None, None], wider, root)
                value = np.where(better, found, value)
                still &= ~better
                if not still.any():
                    break
                length = np.where(still, 0.5 * length, length)
            moving &= value > before + RISE
            if not moving.any():
                break
        return np.where(any_known, value, -np.inf)

    def value(self, mean: Array, root: Array) -> tuple[Array, Array]:
        """Return the bound [id] of N(``mean``, ``root root'``), and its share of each draw [id, draw]."""
        white = np.linalg.solve(root, (self.z - mean[:, None]).swapaxes(1, 2))
        log_root = np.log(np.einsum("ikk->ik", root)).sum(1)
        log_density = -0.5 * ((white**2).sum(1) + mean.shape[1] * math.log(2.0 * math.pi)) - log_root[:, None]
        ratio = np.where(self.known, log_density - self.log_q, -np.inf)
        top = np.where(self.known.any(1), ratio.max(1), 0.0)
        total = np.exp(ratio - top[:, None]).sum(1).clip(min=1e-300)
        share = np.exp(ratio - top[:, None]) / total[:, None]
        gain = np.where(share > 0, self.weights - np.where(self.known, ratio, 0.0), 0.0)
        mass = top + np.log(total / ratio.shape[1])
        return (share * gain).sum(1) + mass, share

    def fit(self, mean: Array, root: Array) -> tuple[Array, Array]:
        """Return precision [id, k, k] and slope [id, k] at 0 of the quadratic that fits best.

        It fits the logarithm of the joint density, in coordinates where the present Gaussian is standard.
        """
        _, share = self.value(mean, root)
        x = np.linalg.solve(root, (self.z - mean[:, None]).swapaxes(1, 2)).swapaxes(1, 2)
        k = x.shape[-1]
        pairs = x[..., self.rows] * x[..., self.columns]
        terms = np.concatenate([np.ones_like(x[..., :1]), x, pairs], -1)
        weighted = terms * share[..., None]
        normal = weighted.swapaxes(1, 2) @ terms + 1e-9 * np.eye(terms.shape[-1])
        target = weighted.swapaxes(1, 2) @ (self.weights + self.log_q)[..., None]
        found = np.linalg.solve(normal, target)[..., 0]
        precision = np.zeros((len(x), k, k))
        precision[:, self.rows, self.columns] = -found[:, 1 + k :]
        precision = precision + precision.swapaxes(1, 2)
        values, vectors = np.linalg.eigh(precision)
        values = np.clip(values, NARROWEST, WIDEST)
        return (vectors * values[:, None]) @ vectors.swapaxes(1, 2), found[:, 1 : 1 + k]


def _softmax(values: Array, usable: NDArray[np.bool_]) -> Array:
    top = np.where(usable, values.max(1), 0.0)
    share = np.exp(values - top[:, None])
    return np.asarray(share / np.maximum(share.sum(1, keepdims=True), 1e-300))
