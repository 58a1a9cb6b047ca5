"""A row of the iteration table, and how a run ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from .estimate import Estimate

StatusCode = Literal["converged", "not_converged", "evaluated", "failed"]


@dataclass(frozen=True)
class Status:
    """How a run ended, and what the user can do where it did not end well."""

    code: StatusCode
    message: str
    remedy: str = ""


@dataclass(frozen=True)
class Iteration:
    """One row of the iteration table.

    ``phase`` names the part of the method: ``"burn-in"``, ``"annealing"``, ``"main"``, ``"smoothing"``,
    ``"refinement"``, ``"likelihood"`` of the VAE, others of other methods; the numbers of a burn-in are
    negative. ``objective`` is the current objective without constant (of the VAE -2 ELBO, later -2LL).
    ``estimate`` follows the run's parameter order of :func:`~.estimate.names` of the *run model*:
    the user's model plus one theta for every candidate effect (zero where the effect is out).
    """

    phase: str
    number: int
    objective: float
    estimate: Estimate
    seconds: float
    expected_seconds_left: float | None = None


Observer = Callable[[Iteration], None]
