"""Which objective a method minimises."""

from __future__ import annotations

from ..failure import ModelFailure
from ..ir.task import Method
from .conditional import METHODS, ConditionalObjective
from .evaluation import Objective
from .first_order import FirstOrderObjective
from .nested import NestedObjective
from .population import Population
from .quadrature import QuadratureObjective


def objective_of(population: Population, method: Method, draws: int = 0, seed: int = 0) -> Objective:
    """Return the deterministic objective of ``method``.

    Raises
    ------
    ModelFailure
        For a method that has none.
    """
    if method in METHODS:
        return conditional_objective(population, method, draws, seed)
    if method in ("fo", "foi"):
        return FirstOrderObjective(population, method)
    if method == "agq":
        return QuadratureObjective(population, None, draws, seed)
    raise ModelFailure(
        f"{method} has no deterministic objective",
        hint="fo, foi, foce, focei, laplace, laplacei and agq have",
    )


def conditional_objective(
    population: Population, method: Method, draws: int = 0, seed: int = 0
) -> ConditionalObjective | NestedObjective:
    """Return the objective of a method of conditional modes, one of :data:`.conditional.METHODS`."""
    if population.nesting is None:
        return ConditionalObjective(population, method, draws, seed)
    return NestedObjective(population, population.nesting, method, draws, seed)
