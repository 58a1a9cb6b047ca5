"""-2 log-likelihood of a fit, sampled or linearised."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ImportanceLikelihood:
    """-2 log-likelihood by importance sampling, 2 pi constants included.

    ``value``; its Monte Carlo standard error ``se``; per subject: contribution and effective sample
    size (both ``"id"``), out of ``draws`` draws each.
    """

    value: float
    se: float
    by_subject: Array
    ess: Array
    draws: int


@dataclass(frozen=True)
class LinearisedLikelihood:
    """-2 log-likelihood by linearisation at the conditional modes, constants included."""

    value: float
    by_subject: Array
