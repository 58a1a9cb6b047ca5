"""The steady state under inputs that never change."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..integrators.equilibrium import solve_equilibrium
from ..integrators.lu import factor, solve, solve_columns
from ..linear.transfer_graph import PLAN_HEAD
from ..machine.caching import jit
from ..status import FINE, INTEGRATION, STEADY_STATE_SINGULAR
from .motion import LINEAR, Design, Motion, copy_values, ready


def find_rest(
    t: float, design: Design, motion: Motion, slopes: Callable[..., None], jacobian: Callable[..., None]
) -> int:
    """Bring the amounts, that come in as a guess, to where they rest under the input rates."""
    motion.dy[:, :] = 0.0
    if design.kind == LINEAR:
        status = ready(design, motion)
        return status if status != FINE else _balance_flows(design, motion)
    code = solve_equilibrium(
        t,
        motion.y,
        motion.dy,
        motion.r,
        motion.dr,
        motion.p,
        motion.dp,
        slopes,
        jacobian,
        design.settings,
        motion.work,
    )
    return INTEGRATION + code if code != 0 else FINE


@jit
def _balance_flows(design: Design, motion: Motion) -> int:
    """Solve K y + r = 0 of a linear system, and K dy + dK y + dr = 0."""
    n, plan, y, dy = design.n, motion.plan, motion.y, motion.dy
    nq = dy.shape[1]
    matrix, pivots = np.zeros((n, n)), np.zeros(n, np.int64)
    for i in range(n):
        if motion.on[i] == 0:
            matrix[i, i] = 1.0
    for j in range(plan[1]):
        source, target = plan[PLAN_HEAD + 3 * j], plan[PLAN_HEAD + 3 * j + 1]
        rate = motion.p[plan[PLAN_HEAD + 3 * j + 2]]
        matrix[source, source] += rate
        if target >= 0:
            matrix[target, source] -= rate
    if not factor(matrix, pivots):
        return STEADY_STATE_SINGULAR
    copy_values(motion.r, y)
    solve(matrix, pivots, y)
    for i in range(n):
        if not np.isfinite(y[i]):
            return STEADY_STATE_SINGULAR
    copy_values(motion.dr, dy)
    for j in range(plan[1]):
        source, target = plan[PLAN_HEAD + 3 * j], plan[PLAN_HEAD + 3 * j + 1]
        slot = plan[PLAN_HEAD + 3 * j + 2]
        for q in range(nq):
            flow = motion.dp[slot, q] * y[source]
            dy[source, q] -= flow
            if target >= 0:
                dy[target, q] += flow
    solve_columns(matrix, pivots, dy)
    return FINE
