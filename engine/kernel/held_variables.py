"""Held variables: those of a right-hand side that keep their value until it is set again.

``IF (T.LE.84) W = A(1)`` lets W follow the solution up to time 84 and keep its value from then on
(:mod:`..ir.held_variables` says which variables are such). Here is how a solution treats them: during a step
they are constant where the equations read them before they assign them; after it they are what an evaluation
at its end makes of them, with derivatives.

A step across the moment from which a variable is no longer set would keep the value of its beginning, an
error that no error estimate sees. So steps are halved until one begins where the variable is set and ends
where it is not (:func:`comes_to_rest`).
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from ..ir.compartment import OdeDynamics
from ..ir.expression import Variable
from ..ir.model import Model
from .integrators.workspace import Hold
from .layout import Layout
from .machine.caching import jit
from .source.model import right_hand_side_source
from .source.names import indented
from .specialise import needed_statements

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

FACTORY = "held_function"
# the step across such a moment, in units of the time and the way to go
SHARP = 1e-11

inner = numba.njit(nogil=True, error_model="numpy")  # compiled into every model that has such variables


def held_function(values: Any, first: int) -> Any:
    """Return a function that sets the parameters from ``first`` on to what ``values`` makes of them."""

    @inner
    def hold(t, y, dy, p, dp):  # type: ignore[no-untyped-def]
        """Set p[first:] and dp[first:] in place; return 0."""
        n, nq = p.shape[0] - first, dy.shape[1]
        f, df = np.zeros(n), np.zeros((n, nq))
        values(t, y, dy, p, dp, f, df)
        for i in range(n):
            p[first + i] = f[i]
            for k in range(nq):
                dp[first + i, k] = df[i, k]
        return 0

    return hold


def held_source(model: Model, layout: Layout) -> str:
    """Return the text of ``equilibrium`` for a model with such variables."""
    assert isinstance(model.dynamics, OdeDynamics)
    statements = needed_statements(model.dynamics.statements, layout.held)
    results = [Variable(name) for name in layout.held]
    system = [
        right_hand_side_source(model, layout, "raw_slopes", statements, results),
        f"equilibrium_of = {FACTORY}(inner(raw_slopes), {layout.n_dynamic})\n\n",
    ]
    names = "t, y, dy, p, dp"
    last = [f"def equilibrium({names}):", *indented([f"return equilibrium_of({names})"])]
    return "\n".join([*system, *last]) + "\n"


@jit
def _probe(
    t: float, y: Vector, p: Vector, held: int, hold: Hold, no_dy: Matrix, no_dp: Matrix, way: float
) -> Vector:
    """Return 1 for each held variable that is set at this point whatever it was, -1 where it is kept, else 0.

    ``way``: 1 or -1, to which side its value before is moved.
    """
    first = p.size - held
    moved, found = p.copy(), np.zeros(held)
    for i in range(first, p.size):
        moved[i] += way * (1e-3 * abs(p[i]) + 1e-12)
    before = moved.copy()
    plain = p.copy()
    hold(t, y, no_dy, moved, no_dp)
    hold(t, y, no_dy, plain, no_dp)
    for i in range(held):
        if moved[first + i] == plain[first + i]:
            found[i] = 1.0
        elif moved[first + i] == before[first + i] and plain[first + i] == p[first + i]:
            found[i] = -1.0
    return found


@jit
def comes_to_rest(
    t0: float,
    y0: Vector,
    t1: float,
    y1: Vector,
    p: Vector,
    held: int,
    hold: Hold,
    no_dy: Matrix,
    no_dp: Matrix,
) -> bool:
    """Return whether a variable is set at ``t0``, and at ``t1`` keeps what it was."""
    above, below = (
        _probe(t0, y0, p, held, hold, no_dy, no_dp, 1.0),
        _probe(t0, y0, p, held, hold, no_dy, no_dp, -1.0),
    )
    after_above, after_below = (
        _probe(t1, y1, p, held, hold, no_dy, no_dp, 1.0),
        _probe(t1, y1, p, held, hold, no_dy, no_dp, -1.0),
    )
    for i in range(held):
        set_before = above[i] == 1.0 and below[i] == 1.0
        if set_before and after_above[i] == -1.0 and after_below[i] == -1.0:
            return True
    return False
