"""A linear mixed model with a covariate, whose likelihood and posteriors are known in closed form."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from elbomix.engine.estimate import Estimate

Floats = NDArray[np.float64]
Row = dict[str, float]

STREAM = """$PROBLEM line
$INPUT {{columns}}
$DATA {{file}} IGNORE=@
$PRED
A = THETA(1) + THETA(3)*X + ETA(1)
{slope}
Y = A + B*TIME + EPS(1)
$THETA 1 0.1 0.2
$OMEGA {omega}
$SIGMA {sigma}
$ESTIMATION METHOD=IMP
"""
BLOCK = "BLOCK(2) 0.2 0.01 0.1"


def stream(slope: str = "B = THETA(2) + ETA(2)", omega: str = BLOCK, sigma: str = "1") -> str:
    """Return the control stream, for :func:`support.streams.read`."""
    return STREAM.format(slope=slope, omega=omega, sigma=sigma)


def rows(n: int = 40, seed: int = 4) -> list[Row]:
    """Return subjects with 2 to 6 samples each of a line with random intercept and slope."""
    rng = np.random.default_rng(seed)
    made: list[Row] = []
    for i in range(n):
        a, b = rng.multivariate_normal([2.0, -0.5], [[0.5, 0.1], [0.1, 0.3]])
        x = float(rng.normal())
        for t in np.sort(rng.uniform(0, 4, rng.integers(2, 7))):
            y = a + 0.7 * x + b * t + rng.normal(0, 0.6)
            made.append({"ID": i + 1, "TIME": float(t), "X": x, "DV": float(y)})
    return made


def subjects(data: Sequence[Row]) -> list[tuple[Floats, Floats, Floats]]:
    """Return observations, fixed design (record theta) and random design (record eta) of each subject."""
    made = []
    for i in sorted({row["ID"] for row in data}):
        own = [row for row in data if row["ID"] == i]
        z = np.array([[1.0, row["TIME"]] for row in own])
        x = np.column_stack([z, [row["X"] for row in own]])
        made.append((np.array([row["DV"] for row in own]), x, z))
    return made


def by_subject(data: Sequence[Row], at: Estimate) -> Floats:
    """Return exact contributions to the objective, without 2 pi."""
    total = []
    for y, x, z in subjects(data):
        covariance = z @ at.omega @ z.T + at.sigma[0, 0] * np.eye(len(y))
        residual = y - x @ at.theta
        square = residual @ np.linalg.solve(covariance, residual)
        total.append(float(square + np.linalg.slogdet(covariance)[1]))
    return np.array(total)


def posteriors(data: Sequence[Row], at: Estimate) -> tuple[Floats, Floats]:
    """Return exact means [id, eta] and covariances [id, eta, eta] of the random effects."""
    means, covariances = [], []
    for y, x, z in subjects(data):
        covariance = np.linalg.inv(np.linalg.inv(at.omega) + z.T @ z / at.sigma[0, 0])
        means.append(covariance @ z.T @ (y - x @ at.theta) / at.sigma[0, 0])
        covariances.append(covariance)
    return np.array(means), np.array(covariances)


def exact_draws(data: Sequence[Row], at: Estimate) -> tuple[Floats, Floats]:
    """Return points [draw, id, eta] with weights whose first two moments are the posteriors'."""
    mean, covariance = posteriors(data, at)
    root = np.linalg.cholesky(covariance)
    n = mean.shape[1]
    moves = np.concatenate([s * np.sqrt(n) * root.transpose(2, 0, 1) for s in (1.0, -1.0)])
    return mean + moves, np.full((2 * n, len(mean)), 0.5 / n)


def of_vector(values: Floats) -> Estimate:
    """Return the estimate of thetas, sigma, lower triangle of omega."""
    omega = np.array([[values[4], values[5]], [values[5], values[6]]])
    return Estimate(np.asarray(values[:3]), omega, np.array([[values[3]]]))


def maximum(
    data: Sequence[Row], start: Estimate, penalty: Callable[[Estimate], float] = lambda _: 0.0
) -> Estimate:
    """Return the exact maximum of the likelihood, with a penalty added to the objective."""

    def free(at: Estimate) -> Floats:
        root = np.linalg.cholesky(at.omega)
        return np.concatenate([at.theta, [np.log(at.sigma[0, 0])], root[np.tril_indices(2)]])

    def made(point: Floats) -> Estimate:
        root = np.zeros((2, 2))
        root[np.tril_indices(2)] = point[4:]
        return Estimate(point[:3], root @ root.T, np.array([[np.exp(point[3])]]))

    def objective(point: Floats) -> float:
        at = made(point)
        return float(by_subject(data, at).sum()) + penalty(at)

    found = minimize(objective, free(start), method="BFGS", options={"gtol": 1e-5})
    return made(found.x)


def hessian(objective: Callable[[Floats], float], x: Floats) -> Floats:
    """Return the second derivative by differences."""
    step = np.diag(1e-3 * np.maximum(np.abs(x), 0.1))
    signs = (1.0, -1.0)
    made = np.zeros((len(x), len(x)))
    for a in range(len(x)):
        for b in range(len(x)):
            corners = [objective(x + s * step[a] + t * step[b]) * s * t for s in signs for t in signs]
            made[a, b] = sum(corners) / (4 * step[a, a] * step[b, b])
    return made
