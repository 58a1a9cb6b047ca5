"""Markov chains of individual parameters: Metropolis-Hastings kernels over all subjects and chains at once.

The kernels of Kuhn and Lavielle (2005, section 4) and one that learns: proposals from the population density,
from a normal density fitted to the subject's own past draws, random walks in all components and in one
component at a time. Every kernel costs one evaluation of the model for all chains of all subjects.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Density = Callable[[Array], Array]  # eta [chain, id, active] -> -2 log p(y | eta) [chain, id]

FORGETTING = 0.02  # least weight of a new draw in the learned densities while parameters move
WIDENING = 1.2  # of the learned covariances: proposals should have heavier tails than their target
QUICKEST = 0.5  # change of the logarithm of a scale for each unit of acceptance, at first


@dataclass(frozen=True)
class Kernels:
    """How often each kernel runs in one sweep, and the acceptance rate that the random walks aim at.

    ``population``: proposals from N(0, omega); ``learned``: from the density fitted to past draws;
    ``joint``: random walk in all components; ``single``: random walk in each component in turn. Scales of
    the random walks stay within ``least_scale`` and ``largest_scale``.
    """

    population: int = 2
    learned: int = 2
    joint: int = 2
    single: int = 2
    acceptance: float = 0.4
    least_scale: float = 1e-6
    largest_scale: float = 1e6


@dataclass(frozen=True, eq=False)
class Chains:
    """Where the chains stand and what they have learned.

    ``phi`` [chain, id, active] is mu + eta; ``value`` [chain, id] is -2 log p(y | eta) there. ``mean``
    [id, active] and ``covariance`` [id, active, active] describe past draws of phi, ``learned`` counts the
    sweeps they hold. ``joint_scale`` [id] and ``single_scale`` [id, active] multiply prior SDs.
    ``evidence`` [id]: logarithm of the mean of p(y, eta) / q(eta) over the learned proposals of the last
    sweep (NaN without), an estimate of log p(y) without its constants.
    """

    phi: Array
    value: Array
    mean: Array
    covariance: Array
    learned: int
    joint_scale: Array
    single_scale: Array
    evidence: Array


def start_chains(phi: Array, value: Array, omega: Array) -> Chains:
    """Return chains at ``phi`` [chain, id, active] that have learned nothing yet."""
    _, n, k = phi.shape
    return Chains(
        phi,
        value,
        phi.mean(0),
        np.tile(omega, (n, 1, 1)),
        0,
        np.full(n, 0.4),
        np.full((n, k), 0.8),
        np.full(n, np.nan),
    )


class Sweep:
    """One pass of all kernels at given population parameters."""

    def __init__(
        self, kernels: Kernels, density: Density, mu: Array, omega: Array, generator: np.random.Generator
    ) -> None:
        self.kernels, self.density, self.mu = kernels, density, mu
        self.root = np.linalg.cholesky(omega)
        self.precision = np.linalg.inv(omega)
        self.log_determinant = 2.0 * float(np.log(np.diag(self.root)).sum())
        self.sd = np.sqrt(np.diag(omega))
        self.generator = generator

    def __call__(self, chains: Chains) -> Chains:
        """Return the chains after one sweep."""
        kernels = self.kernels
        chains = self._population(chains)
        if chains.learned > 0:
            chains = self._learned(chains)
        for _ in range(kernels.joint):
            chains = self._joint(chains)
        for _ in range(kernels.single):
            for component in range(chains.phi.shape[2]):
                chains = self._single(chains, component)
        return chains

    def prior(self, phi: Array) -> Array:
        """Return eta' omega^-1 eta, [.., id]."""
        eta = phi - self.mu
        return np.asarray((eta @ self.precision * eta).sum(-1))

    # proposals of the next two do not depend on where the chains are: the model is run once for all of them

    def _population(self, chains: Chains) -> Chains:
        tries, zero = self.kernels.population, np.zeros(chains.value.shape)
        if tries == 0:
            return chains
        phi = self.mu + self.generator.standard_normal((tries, *chains.phi.shape)) @ self.root.T
        for proposal, value in zip(phi, self._values(phi), strict=True):
            chains = self._accept(chains, proposal, value, zero)[0]
        return chains

    def _learned(self, chains: Chains) -> Chains:
        tries = self.kernels.learned
        if tries == 0:
            return chains
        root = _roots(WIDENING * chains.covariance)
        normal = self.generator.standard_normal((tries, *chains.phi.shape))
        phi = chains.mean + (root @ normal[..., None])[..., 0]
        values = self._values(phi)
        white = np.linalg.solve(root, (chains.phi - chains.mean)[..., None])[..., 0]
        old = self.prior(chains.phi) - np.square(white).sum(-1)
        new = self.prior(phi) - np.square(normal).sum(-1)
        log_root = np.log(np.einsum("ikk->ik", root)).sum(1)
        ratio = -0.5 * (values + new) + log_root - 0.5 * self.log_determinant
        evidence = np.logaddexp.reduce(ratio, axis=(0, 1)) - np.log(ratio.shape[0] * ratio.shape[1])
        for proposal, value, weight in zip(phi, values, new, strict=True):
            chains, accepted = self._accept(chains, proposal, value, weight - old)
            old = np.where(accepted, weight, old)
        return replace(chains, evidence=evidence)

    def _values(self, phi: Array) -> Array:
        """Return the density [try, chain, id] at proposals [try, chain, id, active]."""
        tries, n_chains, n, k = phi.shape
        eta = (phi - self.mu).reshape(tries * n_chains, n, k)
        return np.asarray(self.density(eta).reshape(tries, n_chains, n))

    def _joint(self, chains: Chains) -> Chains:
        normal = self.generator.standard_normal(chains.phi.shape)
        phi = chains.phi + chains.joint_scale[:, None] * (normal @ self.root.T)
        change = self.prior(phi) - self.prior(chains.phi)
        moved, accepted = self._accept(chains, phi, self.density(phi - self.mu), change)
        return replace(moved, joint_scale=self._adapted(chains, chains.joint_scale, accepted))

    def _single(self, chains: Chains, component: int) -> Chains:
        scale = chains.single_scale[:, component]
        phi = chains.phi.copy()
        phi[:, :, component] += (
            scale * self.sd[component] * self.generator.standard_normal(chains.value.shape)
        )
        change = self.prior(phi) - self.prior(chains.phi)
        moved, accepted = self._accept(chains, phi, self.density(phi - self.mu), change)
        scales = chains.single_scale.copy()
        scales[:, component] = self._adapted(chains, scale, accepted)
        return replace(moved, single_scale=scales)

    def _accept(self, chains: Chains, phi: Array, value: Array, change: Array) -> tuple[Chains, Flags]:
        """Return the chains with proposals accepted or not; ``change`` of -2 log density beside ``value``."""
        log_uniform = np.log(self.generator.random(value.shape))
        known = np.isfinite(value)
        rise = (
            np.where(known, value, 0.0) - np.where(np.isfinite(chains.value), chains.value, np.inf) + change
        )
        accepted = known & (log_uniform < -0.5 * rise)
        moved = np.where(accepted[..., None], phi, chains.phi)
        return replace(chains, phi=moved, value=np.where(accepted, value, chains.value)), accepted

    def _adapted(self, chains: Chains, scale: Array, accepted: Flags) -> Array:
        """Return scales moved towards the wanted acceptance, by chains of a subject together.

        Less and less: scales that follow the chains closely would bias them (Andrieu and Thoms 2008).
        """
        kernels = self.kernels
        change = QUICKEST / np.sqrt(1.0 + chains.learned) * (accepted.mean(0) - kernels.acceptance)
        return np.asarray(np.clip(scale * np.exp(change), kernels.least_scale, kernels.largest_scale))


def learn(chains: Chains) -> Chains:
    """Return the chains with their present places in the learned means and covariances.

    Old draws are forgotten, because they come from earlier population parameters.
    """
    count = chains.learned + 1
    weight = max(1.0 / (count + 1), FORGETTING)
    deviation = chains.phi - chains.mean
    shift = deviation.mean(0)
    second = np.einsum("cik,cil->ikl", deviation, deviation) / len(deviation)
    mean = chains.mean + weight * shift
    covariance = (1.0 - weight) * chains.covariance + weight * second
    covariance = covariance - weight**2 * shift[:, :, None] * shift[:, None, :]
    return replace(chains, mean=mean, covariance=covariance, learned=count)


def _roots(covariance: Array) -> Array:
    """Return Cholesky factors of [id, k, k], made definite by a small ridge."""
    diagonal = np.einsum("ikk->ik", covariance)
    ridge = np.zeros_like(covariance)
    np.einsum("ikk->ik", ridge)[...] = 1e-8 * diagonal + 1e-300
    return np.asarray(np.linalg.cholesky(covariance + ridge))
