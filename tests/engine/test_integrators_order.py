"""Convergence order of each method by regression on halved steps, and the order conditions of the tables."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from numba import types
from numpy.typing import NDArray
from support.ode_problems import PROBLEMS, Problem

from elbomix.engine.kernel.integrators import tableau
from elbomix.engine.kernel.integrators.explicit import explicit_step
from elbomix.engine.kernel.integrators.integrate import JACOBIAN, SLOPES
from elbomix.engine.kernel.integrators.stiff import stiff_step
from elbomix.engine.kernel.integrators.workspace import views, workspace
from elbomix.engine.kernel.machine.caching import jit

Array = NDArray[np.float64]

DOP853 = (tableau.DOP853_WEIGHTS, tableau.DOP853_ROWS, tableau.DOP853_USED, tableau.DOP853_C)
TSIT5 = (tableau.TSIT5_WEIGHTS, tableau.TSIT5_ROWS, tableau.TSIT5_USED, tableau.TSIT5_C)
ESDIRK = (tableau.ESDIRK_WEIGHTS, tableau.ESDIRK_ROWS, tableau.ESDIRK_USED, tableau.ESDIRK_C)


@cache
def fixed_steps() -> Any:
    v, m, i = types.float64[::1], types.float64[:, ::1], types.int64
    table = (m, types.int64[:, ::1], types.int64[::1], v, types.float64, m)

    @jit(types.boolean(types.float64, i, types.boolean, v, m, v, m, SLOPES, JACOBIAN, *table))
    def run(end, steps, stiff, y, dy, p, dp, slopes, jacobian, weights, rows, used, c, gamma, predictor):  # type: ignore[no-untyped-def]
        n, nq = dy.shape
        memory = workspace(n, p.size, nq)
        w = views(memory, n, p.size, nq)
        last = c.size - 1
        h = end / steps
        for a in range(n):
            w.stage[a] = y[a]
            for q in range(nq):
                w.stage[n + a * nq + q] = dy[a, q]
        slopes(0.0, w.stage_y, w.stage_dy, p, dp, w.slope_y, w.slope_dy)
        for a in range(n):
            w.k[last, a] = w.slope_y[a]
            for q in range(nq):
                w.k[last, n + a * nq + q] = w.slope_dy[a, q]
        for s in range(steps):
            w.start[:] = w.stage
            w.k[0] = w.k[last]
            if stiff:
                # rtol so small that Newton's method goes to the limit of rounding
                if not stiff_step(
                    s * h,
                    h,
                    p,
                    dp,
                    slopes,
                    jacobian,
                    weights,
                    rows,
                    used,
                    c,
                    gamma,
                    predictor,
                    1e-13,
                    1e-13,
                    w,
                    False,
                ):
                    return False
            else:
                explicit_step(
                    s * h, h, p, dp, slopes, weights, rows, used, c, w.start, w.rates, w.k, w.stage,
                    w.stage_y, w.stage_dy, w.before, False,
                )  # fmt: skip
        for a in range(n):
            y[a] = w.stage[a]
            for q in range(nq):
                dy[a, q] = w.stage[n + a * nq + q]
        # a last use, without which numba would give the memory back before its views are done with
        return memory.store.size > 0

    return run


def errors(problem: Problem, table: tuple[Array, ...], steps: list[int], end: float) -> Array:
    """Return the errors [steps, 2] of states and sensitivities at the end."""
    stiff = table[0] is ESDIRK[0]
    solutions = []
    for number in [*steps, 8 * steps[-1]]:
        y = np.array(problem.y0)
        dy, dp = problem.seeds()
        # the finest solution, by 8(5,3), is the truth
        used, is_stiff = (table, stiff) if number != 8 * steps[-1] else (DOP853, False)
        assert fixed_steps()(
            end, number, is_stiff, y, dy, np.array(problem.p), dp, problem.slopes, problem.jacobian,
            *used, tableau.ESDIRK_GAMMA, tableau.ESDIRK_PREDICTOR,
        )  # fmt: skip
        solutions.append((y, dy))
    truth_y, truth_dy = solutions.pop()
    return np.array([[np.abs(y - truth_y).max(), np.abs(dy - truth_dy).max()] for y, dy in solutions])


@pytest.mark.parametrize(
    ("table", "order", "steps"),
    [(TSIT5, 5, [40, 80, 160, 320]), (DOP853, 8, [12, 18, 27, 40]), (ESDIRK, 5, [40, 80, 160, 320])],
    ids=["Tsitouras 5(4)", "Dormand-Prince 8(5,3)", "ESDIRK5(4)7L[2]SA2"],
)
@pytest.mark.parametrize("name", ["Lotka-Volterra", "forced"])
def test_error_falls_with_the_order_of_the_method(
    name: str, table: tuple[Array, ...], order: int, steps: list[int]
) -> None:
    """States and sensitivities alike; a third of an order is left for steps that are not yet small."""
    found = errors(PROBLEMS[name], table, steps, end=8.0)
    slopes = -np.polyfit(np.log(steps), np.log(found), 1)[0]
    assert np.all(slopes > order - 0.35), slopes


@pytest.mark.parametrize(("name", "order"), [("TSIT5", 5), ("DOP853", 8), ("ESDIRK", 5)])
def test_tables_meet_the_quadrature_conditions(name: str, order: int) -> None:
    """sum b c^(k-1) = 1/k up to the order, and row sums equal to c."""
    a, c = getattr(tableau, f"{name}_A"), getattr(tableau, f"{name}_C")
    np.testing.assert_allclose(a.sum(axis=1), c, atol=3e-15)
    for k in range(1, order + 1):
        assert abs(a[-1] @ c ** (k - 1) - 1.0 / k) < 1e-15
    estimate = getattr(tableau, f"{name}_E5" if name == "DOP853" else f"{name}_E")
    assert abs(estimate.sum()) < 1e-15


def test_the_stiff_method_is_l_stable() -> None:
    """|R(z)| <= 1 on the imaginary axis, no pole to the left, and R vanishes at infinity."""
    a = tableau.ESDIRK_A
    size = len(a)

    def amplification(z: complex) -> complex:
        return complex(1.0 + z * a[-1] @ np.linalg.solve(np.eye(size) - z * a, np.ones(size)))

    assert max(abs(amplification(1j * 10.0**e)) for e in np.linspace(-3, 6, 400)) <= 1.0 + 1e-12
    # rows of 1e-25 accuracy leave 1e-15 |z|^0 behind
    assert abs(amplification(-1e7)) < 1e-5
    assert np.all(np.diag(a)[1:] > 0.0)
