"""What an estimation method hands on: estimate, objective, individuals, how the search went."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..estimate import Array, Estimate
from ..individuals import Individuals
from ..ir.task import Method
from ..iteration import Iteration, Status

Stopped = Literal[
    "converged",  # the wanted number of significant digits was reached
    "evaluations",  # the limit of function evaluations was
    "rounding",  # no further decrease, with fewer digits than wanted
    "zero_gradient",  # the objective does not depend on a parameter
    "runs_off",  # the objective falls as parameters grow without limit
    "infinite",  # the next step has no finite objective
    "evaluated",  # nothing was searched
]


@dataclass(frozen=True, eq=False)
class Search:
    """How a deterministic search went.

    ``gradients`` [row, free parameter] belong to the rows of the history, scaled as searched.
    ``near_bound`` names parameters (:func:`..estimate.names`) at a bound; ``zero_gradient`` those on
    which the objective does not depend; ``running_off`` those that grow without limit.
    """

    stopped: Stopped
    evaluations: int
    significant_digits: float | None
    gradients: Array
    near_bound: tuple[str, ...] = ()
    zero_gradient: tuple[str, ...] = ()
    running_off: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Convergence:
    """The test of a stochastic method on its last iterations.

    Per parameter in the order of :func:`..estimate.names`, the objective last: mean and SD over the last
    ``iterations`` rows, p-value of a linear trend. ``tested`` is False where no test was asked for.
    """

    tested: bool
    converged: bool
    iterations: int
    mean: Array
    sd: Array
    p_value: Array
    alpha: float


@dataclass(frozen=True, eq=False)
class Step:
    """One estimation step that really ran.

    Attributes
    ----------
    method, estimate
        The method, and where it ended.
    ofv
        The objective as the method defines it, without N log 2 pi of the normal observations.
    individuals
        Modes, or conditional means and covariances for the methods that sample; contributions to ``ofv``.
    objective_se
        Monte Carlo standard error of ``ofv`` (None: deterministic).
    effective_draws
        Effective sample size of each subject (None: nothing was sampled).
    probabilities
        [id, component] that each subject belongs to each subpopulation (None: no mixture).
    information
        Information matrix (half the second derivative of ``ofv``) in the order of :func:`..estimate.names`,
        where the method has one of its own (Louis' identity); else None: the covariance step makes it.
    scores
        [id, parameter] gradients of half the contributions to ``ofv``, same order, where the method has them.
    """

    method: Method
    estimate: Estimate
    ofv: float
    individuals: Individuals
    status: Status
    history: tuple[Iteration, ...]
    evaluate_only: bool = False
    search: Search | None = None
    convergence: Convergence | None = None
    objective_se: float | None = None
    effective_draws: Array | None = None
    probabilities: Array | None = None
    information: Array | None = None
    scores: Array | None = None
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0
    settings: dict[str, object] = field(default_factory=dict)


def empty_gradients(n: int) -> NDArray[np.float64]:
    """Return no rows of gradients of ``n`` parameters."""
    return np.zeros((0, n))
