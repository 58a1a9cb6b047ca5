"""Models around given statements, and their generated functions called with arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from support.models import ODE, oral_model, var

from elbomix.engine.ir.compartment import Compartment, OdeDynamics
from elbomix.engine.ir.expression import Column, Expression, Known
from elbomix.engine.ir.model import Model
from elbomix.engine.ir.statement import Assign, Statement
from elbomix.engine.kernel.layout import Layout
from elbomix.engine.kernel.source import intrinsics
from elbomix.engine.kernel.source.model import FUNCTIONS

Array = NDArray[np.float64]
THETA = np.array([0.83, 1.9, -0.4])
ETA = np.array([0.31, -0.62, 0.17])
DIRECTIONS = 3


def seeds() -> tuple[Array, Array]:
    """Directions in theta and in eta."""
    rng = np.random.default_rng(5)
    return rng.normal(size=(3, DIRECTIONS)), rng.normal(size=(3, DIRECTIONS))


def individual_model(
    statements: Sequence[Statement], reads: Sequence[str], kept: Sequence[str] = ()
) -> Model:
    """A model without dynamics whose individual model is ``statements`` and gives ``reads``."""
    model = oral_model(None, [*(Assign(f"R{n}", var(n)) for n in reads), Assign("R", var(reads[0]))])
    observation = replace(model.observation, response="R", prediction=None)
    return model.replace(individual=tuple(statements), observation=observation, kept=tuple(kept))


def ode_model(statements: Sequence[Statement], n: int, equilibrium: Sequence[int] = ()) -> Model:
    """A model with ``n`` compartments and the right-hand side ``statements``."""
    parts = tuple(Compartment(f"C{i}", equilibrium=i in equilibrium) for i in range(1, n + 1))
    dynamics: OdeDynamics = replace(
        ODE, compartments=parts, statements=tuple(statements), default_observation=1
    )
    return oral_model(dynamics)


def interpreted(text: str, name: str) -> Callable[..., Any]:
    """The generated function run by Python itself."""
    space: dict[str, Any] = {f: getattr(intrinsics, f) for f in FUNCTIONS} | {"math": math, "np": np}
    exec(text, space)
    function: Callable[..., Any] = space[name]
    return function


def record(
    function: Callable[..., Any],
    layout: Layout,
    leaves: Mapping[Expression, float],
    kept: Array,
    dkept: Array,
    n: int = DIRECTIONS,
) -> tuple[int, Array, Array]:
    """Call ``individual`` at one record; ``leaves`` has data columns and known quantities."""
    dtheta, deta = seeds()
    col = np.array([leaves[Column(c)] for c in layout.columns])
    known = np.array([leaves[k] if isinstance(k, Known) else 0.0 for k in layout.known])
    psi = np.full(len(layout.psi), np.nan)
    dpsi = np.full((len(layout.psi), n), np.nan)
    with np.errstate(all="ignore"):
        status = function(
            col, known, THETA, ETA, dtheta[:, :n].copy(), deta[:, :n].copy(), kept, dkept, psi, dpsi
        )
    return status, psi, dpsi
