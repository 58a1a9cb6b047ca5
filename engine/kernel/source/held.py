"""Variables of a right-hand side that keep their values: what they are from a moment on.

During a step they are constant where the equations read them before they assign them; after it they are what
an evaluation at its end makes of them, with derivatives.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from ...ir.compartment import OdeDynamics
from ...ir.expression import Variable
from ...ir.model import Model
from ..layout import Layout
from ..specialise import needed_statements
from .model import right_hand_side_source
from .names import indented

FACTORY = "held_function"
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
