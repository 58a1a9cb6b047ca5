"""The steady state under constant input against closed forms and against a long integration."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from numba import types
from numpy.typing import NDArray
from support.ode_problems import PROBLEMS, Problem
from support.ode_solutions import integrated

from elbomix.engine.kernel.integrators.equilibrium import solve_equilibrium
from elbomix.engine.kernel.integrators.integrate import FINE, JACOBIAN, NO_EQUILIBRIUM, SINGULAR, SLOPES
from elbomix.engine.kernel.integrators.workspace import workspace
from elbomix.engine.kernel.machine.caching import jit

Array = NDArray[np.float64]
SETTINGS = np.array([1e-10, 1e-12, 1e5, 0.0])


@cache
def compiled() -> Any:
    v, m = types.float64[::1], types.float64[:, ::1]

    @jit(types.int64(v, m, v, m, v, m, SLOPES, JACOBIAN, v))
    def equilibrium(y, dy, r, dr, p, dp, slopes, jacobian, settings):  # type: ignore[no-untyped-def]
        work = workspace(y.size, p.size, dy.shape[1])
        return solve_equilibrium(0.0, y, dy, r, dr, p, dp, slopes, jacobian, settings, work)

    return equilibrium


def settle(problem: Problem, rates: list[float], start: list[float]) -> tuple[int, Array, Array]:
    """Return status, y and dy; directions: the parameters, then the input rate of every state."""
    n, n_p = len(start), len(problem.p)
    y, dy = np.array(start), np.zeros((n, n_p + n))
    dr, dp = np.zeros((n, n_p + n)), np.zeros((n_p, n_p + n))
    dp[:, :n_p] = np.eye(n_p)
    dr[:, n_p:] = np.eye(n)
    status = compiled()(
        y, dy, np.array(rates), dr, np.array(problem.p), dp, problem.slopes, problem.jacobian, SETTINGS
    )
    return status, y, dy


def test_linear_decay_settles_at_rate_over_constant() -> None:
    status, y, dy = settle(PROBLEMS["decay"], [6.0], [0.0])
    assert status == FINE
    np.testing.assert_allclose(y, [6.0 / 0.3], rtol=1e-9)
    np.testing.assert_allclose(dy, [[-6.0 / 0.3**2, 1 / 0.3]], rtol=1e-9)


@pytest.mark.parametrize("start", [[0.0, 0.0], [100.0, 0.0], [0.0, 900.0]])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.999])
def test_michaelis_menten_settles_where_elimination_equals_input(start: list[float], share: float) -> None:
    """c = km r / (vm - r), whatever the start: Newton's method alone runs away from the far side."""
    problem = PROBLEMS["oral"]
    ka, v, vm, km = problem.p
    r = share * vm
    status, y, dy = settle(problem, [r, 0.0], start)
    assert status == FINE
    c = km * r / (vm - r)
    # the state is r's relative error over 1 - share away at worst
    np.testing.assert_allclose(y, [r / ka, v * c], rtol=1e-9)
    expected = [
        [-r / ka**2, 0.0, 0.0, 0.0, 1 / ka, 0.0],
        [0.0, c, -v * c / (vm - r), v * c / km] + [v * km * vm / (vm - r) ** 2] * 2,
    ]
    np.testing.assert_allclose(dy, expected, rtol=1e-7)


def test_input_above_the_capacity_has_no_steady_state() -> None:
    status, y, _ = settle(PROBLEMS["oral"], [13.0, 0.0], [0.0, 0.0])
    assert status == NO_EQUILIBRIUM
    np.testing.assert_array_equal(y, [0.0, 0.0])


def test_a_compartment_without_exit_is_singular() -> None:
    def gather(t, y, p, out):  # type: ignore[no-untyped-def]
        out[0], out[1] = -p[0] * y[0], p[0] * y[0]

    def by_y(t, y, p, out):  # type: ignore[no-untyped-def]
        out[0, 0], out[0, 1], out[1, 0], out[1, 1] = -p[0], 0.0, p[0], 0.0

    def by_p(t, y, p, out):  # type: ignore[no-untyped-def]
        out[0, 0], out[1, 0] = -y[0], y[0]

    status, _, _ = settle(
        Problem("gather", gather, by_y, by_p, (0.0, 0.0), (0.5,), 1.0), [1.0, 0.0], [0.0, 0.0]
    )
    assert status == SINGULAR


def test_target_mediated_disposition_settles_where_a_long_integration_ends() -> None:
    problem = PROBLEMS["tmdd"]
    rates = [1.5, 0.0, 0.0]
    status, y, dy = settle(problem, rates, [0.0, 4.0, 0.0])
    assert status == FINE
    solution = integrated(problem, rtol=1e-10, atol=1e-12, method=2, rates=np.array(rates), end=5000.0)
    np.testing.assert_allclose(y, solution.y, rtol=1e-8)
    n_p = len(problem.p)
    np.testing.assert_allclose(dy[:, :n_p], solution.dy[:, :n_p], rtol=1e-6, atol=1e-9)


def test_a_state_that_nothing_moves_is_held() -> None:
    """The second state stands still at 0.7 and slows the first one down."""

    def f(t, y, p, out):  # type: ignore[no-untyped-def]
        out[0], out[1] = -p[0] * y[0] * y[1], 0.0

    def by_y(t, y, p, out):  # type: ignore[no-untyped-def]
        out[0, 0], out[0, 1], out[1, 0], out[1, 1] = -p[0] * y[1], -p[0] * y[0], 0.0, 0.0

    def by_p(t, y, p, out):  # type: ignore[no-untyped-def]
        out[0, 0], out[1, 0] = -y[0] * y[1], 0.0

    problem = Problem("held", f, by_y, by_p, (0.0, 0.7), (0.5,), 1.0)
    y, dy = np.array([0.0, 0.7]), np.array([[0.0, 0.0], [0.0, 1.0]])
    dp = np.array([[1.0, 0.0]])
    status = compiled()(
        y,
        dy,
        np.array([2.0, 0.0]),
        np.zeros((2, 2)),
        np.array([0.5]),
        dp,
        problem.slopes,
        problem.jacobian,
        SETTINGS,
    )
    assert status == FINE
    np.testing.assert_allclose(y, [2.0 / 0.35, 0.7], rtol=1e-9)
    np.testing.assert_allclose(dy, [[-2.0 / 0.5**2 / 0.7, -2.0 / 0.5 / 0.7**2], [0.0, 1.0]], rtol=1e-8)
