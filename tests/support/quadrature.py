"""-2 log-likelihood by adaptive Gauss-Hermite quadrature, written apart from the engine (numpy and scipy).

Pinheiro and Bates 1995, section 2.5: the product rule centred at each subject's mode and scaled by the
curvature there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Array = NDArray[np.float64]
# parameters, eta (node id eta) -> log p(y | eta) (node id), all constants included
Conditional = Callable[[Array, Array], Array]


def normal_log_likelihood(y: Array, mean: Array, variance: Array, where: Array | None = None) -> Array:
    """Sum over records of the normal log density; arrays broadcast to (node id record)."""
    terms = -0.5 * ((y - mean) ** 2 / variance + np.log(2 * np.pi * variance))
    return np.asarray((terms if where is None else np.where(where > 0, terms, 0.0)).sum(-1))


class Quadrature:
    """The marginal likelihood of ``n`` subjects under ``conditional`` and eta ~ N(0, omega(parameters))."""

    def __init__(
        self, n: int, conditional: Conditional, omega: Callable[[Array], Array], order: int = 9
    ) -> None:
        self.n, self.conditional, self.omega, self.order = n, conditional, omega, order
        self.modes: Array | None = None

    def minus_two_ll(self, parameters: Array) -> float:
        """Return the value at ``parameters``; infinite where it is undefined."""
        with np.errstate(all="ignore"):
            value = self._value(np.asarray(parameters, dtype=float))
        return value if np.isfinite(value) else 1e10

    def _value(self, parameters: Array) -> float:
        omega = np.atleast_2d(self.omega(parameters))
        k = len(omega)
        precision = np.linalg.inv(omega)
        constant = -0.5 * (k * np.log(2 * np.pi) + np.linalg.slogdet(omega)[1])

        def density(eta: Array) -> Array:
            prior = constant - 0.5 * np.einsum("nik,kl,nil->ni", eta, precision, eta)
            return np.asarray(self.conditional(parameters, eta) + prior)

        mode, curvature = self._modes(density, np.sqrt(np.diag(omega)))
        scale = np.linalg.cholesky(np.linalg.inv(curvature))
        t, w = np.polynomial.hermite.hermgauss(self.order)
        grid = np.array(list(product(t, repeat=k)))
        weight = np.array([np.prod(p) for p in product(w, repeat=k)])
        eta = mode + np.sqrt(2.0) * np.einsum("ikl,nl->nik", scale, grid)
        terms = density(eta) + ((grid**2).sum(1) + np.log(weight))[:, None]
        top = terms.max(0)
        logs = top + np.log(np.exp(terms - top).sum(0))
        logs += 0.5 * k * np.log(2.0) + np.log(np.einsum("ikk->ik", scale)).sum(1)
        return float(-2.0 * logs.sum())

    def _modes(self, density: Callable[[Array], Array], sd: Array) -> tuple[Array, Array]:
        """Modes by damped Newton steps with differences of the density; and minus the Hessian there."""
        k = len(sd)
        mode = np.zeros((self.n, k)) if self.modes is None else self.modes.copy()
        step = 1e-3 * sd
        shifts = [np.zeros(k)]
        shifts += [s * e for e in np.diag(step) for s in (1.0, -1.0)]
        pairs = [(a, b) for a in range(k) for b in range(a)]
        shifts += [
            x * np.diag(step)[a] + y * np.diag(step)[b] for a, b in pairs for x in (1, -1) for y in (1, -1)
        ]
        points = np.array(shifts)[:, None, :]
        for _ in range(60):
            v = density(mode + points)
            gradient = np.stack([(v[1 + 2 * a] - v[2 + 2 * a]) / (2 * step[a]) for a in range(k)], 1)
            hessian = np.zeros((self.n, k, k))
            for a in range(k):
                hessian[:, a, a] = (v[1 + 2 * a] + v[2 + 2 * a] - 2 * v[0]) / step[a] ** 2
            for c, (a, b) in enumerate(pairs):
                u = v[1 + 2 * k + 4 * c : 5 + 2 * k + 4 * c]
                hessian[:, a, b] = hessian[:, b, a] = (u[0] - u[1] - u[2] + u[3]) / (4 * step[a] * step[b])
            values, vectors = np.linalg.eigh(-hessian)
            curvature = np.einsum("ikl,il,iml->ikm", vectors, np.maximum(np.abs(values), 1e-8), vectors)
            move = np.linalg.solve(curvature, gradient[..., None])[..., 0]
            length = np.ones(self.n)
            for _ in range(15):
                worse = ~(density((mode + length[:, None] * move)[None])[0] >= v[0] - 1e-9)
                if not worse.any():
                    break
                length = np.where(worse, 0.5 * length, length)
            mode = mode + length[:, None] * move
            if (np.abs(move) < 1e-4 * sd).all():  # the rule need not be centred better
                break
        self.modes = mode
        return mode, curvature


def maximum(quadrature: Quadrature, starts: Sequence[Array]) -> tuple[float, Array]:
    """Return the smallest -2 log-likelihood found from ``starts``, and where."""
    best: tuple[float, Array] | None = None
    for start in starts:
        result = minimize(quadrature.minus_two_ll, start, method="BFGS", options={"gtol": 1e-2})
        if best is None or result.fun < best[0]:
            best = float(result.fun), np.asarray(result.x, dtype=float)
    assert best is not None
    return best
