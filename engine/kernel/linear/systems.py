"""Linear compartment systems dA/dt = K A + r: the face that the event loop calls.

Once per model ``plan = plan_linear(n, transfers)``; once per change of the rate constants
``decompose(plan, p, dp, system)``; then ``advance_linear(dt, y, dy, r, dr, plan, system, work)`` as often as
wanted.
``system = np.empty(system_size(n, m, nq))`` and ``work = np.empty(work_size(n, m, nq))`` are allocated by the
caller, with m the number of transfers and nq that of derivative directions (0: none). Nothing is
allocated after that.

- ``n``: number of compartments, absorbing ones included; all are advanced.
- ``transfers`` [m, 3] int64: source 1..n, target 1..n or 0 (out), slot of the rate constant in ``p``.
  Leave out the rows of compartments that are off. Several rows may share source and target.
- ``p`` [slots], ``dp`` [slots, nq]: rate constants (1/time) and their derivatives.
- ``y`` [n], ``dy`` [n, nq]: amounts and their total derivatives, moved in place over ``dt``.
- ``r`` [n], ``dr`` [n, nq]: constant input rates and their derivatives.

Reversible trees of up to 6 compartments (mammillary and catenary systems) with any number of
first-order depots feeding them, and one absorbing compartment that takes all that leaves, are solved in
closed form (:mod:`.mammillary`, :mod:`.modes`); all else, and rate constants too far apart for that, by the
matrix exponential (:mod:`.matrix_exponential`).
"""

from __future__ import annotations

import numpy as np

from ..machine.borrowed import borrowed
from ..machine.caching import jit
from .mammillary import SYSTEM_HEAD, Vector, find_modes, modal_size
from .matrix_exponential import advance_exponential, exponential_work, shift_matrix, shift_size
from .modes import advance_modes, modes_work
from .one_compartment import advance_one
from .transfer_graph import PLAN_HEAD, Integers
from .two_compartments import advance_two

NOT_FINITE = 1
SERIES, ONE, TWO, MODES = 0.0, 1.0, 2.0, 3.0  # the ways, in system[0]


@jit
def system_size(n: int, m: int, nq: int) -> int:
    """Return the length of ``system`` for n compartments, m transfers and nq directions."""
    return SYSTEM_HEAD + m * (1 + nq) + max(modal_size(n, nq), shift_size(n))


@jit
def work_size(n: int, m: int, nq: int) -> int:
    """Return the length of ``work`` for n compartments, m transfers and nq directions."""
    return max(modes_work(n, nq), exponential_work(n, nq))


@jit
def decompose(plan: Integers, p: Vector, dp: Vector, system: Vector) -> int:
    """Prepare ``system`` for the rate constants in ``p`` [slots], ``dp`` [slots, nq].

    Returns 0, or 1 where a rate constant is not finite (the system is unusable then).
    """
    m = plan[1]
    nq = dp.shape[1]
    for j in range(m):
        slot = plan[PLAN_HEAD + 3 * j + 2]
        system[SYSTEM_HEAD + j] = p[slot]
        if not np.isfinite(p[slot]):
            return NOT_FINITE
        for q in range(nq):
            system[SYSTEM_HEAD + m + j * nq + q] = dp[slot, q]
    if plan[2] == 1 and find_modes(plan, nq, system):
        written_out = plan[4] <= 2 and plan[3] <= 1 and plan[5] < 0
        system[0] = (ONE if plan[4] == 1 else TWO) if written_out else MODES
    else:
        system[0] = SERIES
        shift_matrix(plan, nq, system)
    return 0


@jit
def advance_linear(
    dt: float, y: Vector, dy: Vector, r: Vector, dr: Vector, plan: Integers, system: Vector, work: Vector
) -> None:
    """Move ``y`` [n] and ``dy`` [n, nq] over ``dt`` (back if negative) with constant inputs ``r``, ``dr``.

    ``dy`` becomes the total derivative: of the start, the inputs and the rate constants (by the ``dp`` of
    :func:`decompose`, whose nq must be that of ``dy``); ``dt`` counts as constant. What grows beyond the
    range of float64 becomes infinite.
    """
    y, dy, r, dr = borrowed(y), borrowed(dy), borrowed(r), borrowed(dr)
    plan, system, work = borrowed(plan), borrowed(system), borrowed(work)
    if dt == 0.0:
        return
    if system[0] == ONE:
        advance_one(dt, y, dy, r, dr, plan, system)
    elif system[0] == TWO:
        advance_two(dt, y, dy, r, dr, plan, system)
    elif system[0] == MODES:
        advance_modes(dt, y, dy, r, dr, plan, system, work)
    else:
        advance_exponential(dt, y, dy, r, dr, plan, system, work)


@jit
def linear_slopes(y: Vector, r: Vector, plan: Integers, system: Vector, f: Vector) -> None:
    """Fill ``f`` [n] with K ``y`` + ``r``, the motion at an instant."""
    for i in range(plan[0]):
        f[i] = r[i]
    for j in range(plan[1]):
        source = plan[PLAN_HEAD + 3 * j]
        target = plan[PLAN_HEAD + 3 * j + 1]
        flow = system[SYSTEM_HEAD + j] * y[source]
        f[source] -= flow
        if target >= 0:
            f[target] += flow
