"""The test of a stochastic search for convergence: no linear trend over its last iterations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from ..estimate import Array, is_fixed
from ..ir.model import Model
from .step import Convergence

Tested = Literal["none", "thetas_sigmas", "variances", "all"]

LONGEST_INTERVAL = 100


@dataclass(frozen=True)
class TrendTest:
    """What is tested, on which iterations, at which error rate.

    ``tested``: nothing; objective, thetas and sigma; the variances of omega too; all of omega. The last
    ``points`` rows, ``interval`` iterations apart (0: as far apart as makes them nearly independent), are
    regressed on the number of the iteration; ``alpha`` is the error rate of each parameter's test.
    """

    tested: Tested = "none"
    interval: int = 0
    points: int = 10
    alpha: float = 0.05


def tested_columns(model: Model, tested: Tested) -> NDArray[np.bool_]:
    """Return which columns of the history (parameters as in ``estimate.names``, then the objective) count."""
    free = ~is_fixed(model)
    n_thetas, n_eps, n_etas = len(model.thetas), model.n_eps, model.n_etas
    first = n_thetas + n_eps * (n_eps + 1) // 2
    if tested == "thetas_sigmas":
        free[first:] = False
    elif tested == "variances":
        rows, columns = np.tril_indices(n_etas)
        free[first:] &= rows == columns
    return np.append(free, True)


def independent_interval(rows: Array) -> int:
    """Return how many iterations lie between nearly independent rows [iteration, column].

    Twice the integrated autocorrelation time of the slowest column, over the later half of the rows.
    """
    late = rows[len(rows) // 2 :]
    late = late[:, ~_is_constant(late)]
    centred = late - late.mean(0)
    longest = 1.0
    for column in centred.T:
        full = np.correlate(column, column, "full")[len(column) - 1 :]
        correlation = full / full[0]
        negative = np.flatnonzero(correlation < 0.05)
        window = int(negative[0]) if len(negative) else len(correlation)
        longest = max(longest, 1.0 + 2.0 * float(correlation[1:window].sum()))
    return min(math.ceil(longest), LONGEST_INTERVAL)


def trend_p_values(rows: Array) -> Array:
    """Return the p-value of a linear trend of each column of ``rows`` [point, column]; 1 for constants."""
    n = len(rows)
    x = np.arange(n) - (n - 1) / 2.0
    centred = rows - rows.mean(0)
    slope = x @ centred / (x @ x)
    rest = np.square(centred - x[:, None] * slope).sum(0)
    error = np.sqrt(rest / (n - 2) / (x @ x))
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(error > 0, np.abs(slope) / error, np.inf)
    return np.where(_is_constant(rows), 1.0, 2.0 * stdtr(n - 2, -t))


def _is_constant(rows: Array) -> NDArray[np.bool_]:
    return np.asarray(rows.std(0) <= 1e-14 * np.abs(rows).max(0))


def judge(
    rows: Array, columns: NDArray[np.bool_], test: TrendTest, interval: int, alpha: float | None = None
) -> Convergence:
    """Return the test over the last points of ``rows`` [iteration, column], the objective in the last column.

    ``alpha`` in place of the one of ``test`` where given. Too few rows count as not converged.
    """
    level = test.alpha if alpha is None else alpha
    last = rows[::-1][:: max(interval, 1)][: test.points][::-1]
    enough = len(last) >= max(test.points, 3)
    p_value = trend_p_values(last) if len(last) > 2 else np.zeros(rows.shape[1])
    converged = bool(enough and (p_value[columns] > level).all())
    span = rows[-(test.points - 1) * max(interval, 1) - 1 :]
    return Convergence(
        test.tested != "none", converged, len(span), span.mean(0), span.std(0, ddof=1), p_value, level
    )
