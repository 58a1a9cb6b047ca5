"""What the integrators do at the edges: nothing to do, scales, run-aways, not-a-numbers, many states."""

from __future__ import annotations

import time

import numpy as np
import pytest
from support.ode_problems import PROBLEMS, Problem
from support.ode_solutions import integrated

from elbomix.engine.kernel.integrators.integrate import (
    FINE,
    NOT_FINITE,
    REMEDIES,
    SENSITIVITY_NOT_FINITE,
    STEP_TOO_SMALL,
    STEPS,
    TOO_MANY_STEPS,
)

METHODS = [1, 2]


def square_f(t, y, p, out):  # type: ignore[no-untyped-def]
    out[0] = p[0] * y[0] * y[0]


def square_y(t, y, p, out):  # type: ignore[no-untyped-def]
    out[0, 0] = 2.0 * p[0] * y[0]


def square_p(t, y, p, out):  # type: ignore[no-untyped-def]
    out[0, 0] = y[0] * y[0]


def falling_f(t, y, p, out):  # type: ignore[no-untyped-def]
    out[0] = -p[0] * y[0] * y[0]


def cascade_f(t, y, p, out):  # type: ignore[no-untyped-def]
    out[0] = -p[0] * y[0]
    out[1] = p[0] * y[0] - p[1] * y[1]
    out[2] = p[1] * y[1] - p[2] * y[2]


def cascade_y(t, y, p, out):  # type: ignore[no-untyped-def]
    out[:] = 0.0
    out[0, 0], out[1, 0] = -p[0], p[0]
    out[1, 1], out[2, 1] = -p[1], p[1]
    out[2, 2] = -p[2]


def cascade_p(t, y, p, out):  # type: ignore[no-untyped-def]
    out[:] = 0.0
    out[0, 0], out[1, 0] = -y[0], y[0]
    out[1, 1], out[2, 1] = -y[1], y[1]
    out[2, 2] = -y[2]


def root_f(t, y, p, out):  # type: ignore[no-untyped-def]
    out[0] = -p[0] - np.sqrt(y[0])


def root_y(t, y, p, out):  # type: ignore[no-untyped-def]
    out[0, 0] = -0.5 / np.sqrt(y[0])


def root_p(t, y, p, out):  # type: ignore[no-untyped-def]
    out[0, 0] = -1.0


def filling_f(t, y, p, out):  # type: ignore[no-untyped-def]
    out[0] = p[0] - 0.1 * y[0]


def filling_y(t, y, p, out):  # type: ignore[no-untyped-def]
    out[0, 0] = -0.1


def filling_p(t, y, p, out):  # type: ignore[no-untyped-def]
    out[0, 0] = np.inf if y[0] == 0.0 else 1.0


def chain_f(t, y, p, out):  # type: ignore[no-untyped-def]
    """Transit compartments, each with its own rate, with a saturable last one."""
    n = y.size
    out[0] = -p[0] * y[0]
    for i in range(1, n - 1):
        out[i] = p[i - 1] * y[i - 1] - p[i] * y[i]
    out[n - 1] = p[n - 2] * y[n - 2] - p[n - 1] * y[n - 1] / (10.0 + y[n - 1])


def chain_y(t, y, p, out):  # type: ignore[no-untyped-def]
    n = y.size
    out[:] = 0.0
    for i in range(n):
        if i > 0:
            out[i, i - 1] = p[i - 1]
        out[i, i] = -p[i]
    out[n - 1, n - 1] = -10.0 * p[n - 1] / (10.0 + y[n - 1]) ** 2


def chain_p(t, y, p, out):  # type: ignore[no-untyped-def]
    n = y.size
    out[:] = 0.0
    for i in range(n - 1):
        out[i, i] -= y[i]
        out[i + 1, i] = y[i]
    out[n - 1, n - 1] = -y[n - 1] / (10.0 + y[n - 1])


SQUARE = Problem("square", square_f, square_y, square_p, (1.0,), (1.0,), 2.0)
ROOT = Problem("root", root_f, root_y, root_p, (1.0,), (0.5,), 5.0)
FILLING = Problem("filling", filling_f, filling_y, filling_p, (0.0,), (2.0,), 5.0)


@pytest.mark.parametrize("method", METHODS)
def test_an_empty_interval_changes_nothing(method: int) -> None:
    problem = PROBLEMS["tmdd"]
    solution = integrated(problem, method=method, end=0.0)
    assert solution.status == FINE
    np.testing.assert_array_equal(solution.y, problem.y0)
    np.testing.assert_array_equal(solution.dy, problem.seeds()[0])


@pytest.mark.parametrize("method", [0, *METHODS])
def test_back_in_time_and_forth_again(method: int) -> None:
    """The flow back is the inverse, that of the sensitivities too; y = 100 exp(-0.3 t) is known."""
    problem = PROBLEMS["decay"]
    back = integrated(problem, rtol=1e-10, method=method, end=-5.0)
    assert back.status == FINE
    np.testing.assert_allclose(back.y, 100.0 * np.exp(1.5), rtol=1e-8)
    np.testing.assert_allclose(back.dy[0, 0], 500.0 * np.exp(1.5), rtol=1e-7)  # seeds: the parameter first


def test_back_in_time_what_runs_off_ends_with_a_status() -> None:
    """y' = -y^2 from 1 was infinite at t = -1."""
    backward = Problem("falling", falling_f, square_y, square_p, (1.0,), (1.0,), 2.0)
    assert integrated(backward, end=-2.0, sensitivities=False).status in (STEP_TOO_SMALL, TOO_MANY_STEPS)


CASCADE = Problem("cascade", cascade_f, cascade_y, cascade_p, (100.0, 0.0, 50.0), (2.0, 1.5, 0.1), 24.0)


def fed(a: float) -> float:
    """Amount in the last compartment at the end, by the first rate: a sum of exponentials."""
    (_, b, c), t = CASCADE.p, CASCADE.end
    total = 50.0 * np.exp(-c * t)
    for rate, others in ((a, (b, c)), (b, (a, c)), (c, (a, b))):
        total += 100.0 * a * b * np.exp(-rate * t) / np.prod([o - rate for o in others])
    return float(total)


@pytest.mark.parametrize("rtol", [1e-3, 1e-6, 1e-9])
@pytest.mark.parametrize("method", [0, *METHODS])
def test_traces_that_only_feed_others_take_no_steps(method: int, rtol: float) -> None:
    """A depot and a transit compartment before the observed one: its error stays below its own tolerance."""
    every = integrated(CASCADE, rtol=rtol, method=method)
    fewer = integrated(CASCADE, rtol=rtol, method=method, upstream=((1, 2), (0, 1)))
    assert fewer.memory[STEPS] < 0.75 * every.memory[STEPS]
    np.testing.assert_allclose(fewer.y[2], fed(2.0), rtol=3.0 * rtol)
    h = 1e-4
    slope = (fed(2.0 + h) - fed(2.0 - h)) / (2.0 * h)
    # in units of the state a relative change of the rate
    np.testing.assert_allclose(fewer.dy[2, 0], slope, rtol=0.0, atol=3.0 * rtol * fed(2.0) / 2.0 + 1e-7)


@pytest.mark.parametrize("method", [0, *METHODS])
def test_a_state_that_runs_off_ends_with_a_status_and_soon(method: int) -> None:
    """y' = y^2 from 1 is infinite at t = 1."""
    begun = time.thread_time()
    solution = integrated(SQUARE, method=method)
    assert solution.status in (STEP_TOO_SMALL, NOT_FINITE)
    assert solution.memory[STEPS] < 10_000  # a constant number for each factor of ten
    assert time.thread_time() - begun < 60.0  # compilation


@pytest.mark.parametrize("method", METHODS)
def test_slopes_that_stop_being_numbers_end_with_a_status(method: int) -> None:
    """sqrt(y) once y falls below zero: steps are rejected down to the edge, which is not crossed."""
    solution = integrated(ROOT, method=method)
    assert solution.status in (NOT_FINITE, STEP_TOO_SMALL)
    assert 0.0 <= solution.y[0] < 1e-6
    assert integrated(ROOT, method=method, y0=np.array([-1.0])).status == NOT_FINITE


@pytest.mark.parametrize("method", METHODS)
def test_a_derivative_that_is_not_a_number_has_a_status_of_its_own(method: int) -> None:
    assert integrated(FILLING, method=method).status == SENSITIVITY_NOT_FINITE
    assert integrated(FILLING, method=method, sensitivities=False).status == FINE


def test_steps_are_limited() -> None:
    solution = integrated(PROBLEMS["hires"], method=1, max_steps=50)
    assert solution.status == TOO_MANY_STEPS
    assert solution.memory[STEPS] == 50


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [1e-200, 1e-9, 1e9, 1e200])
def test_amounts_of_any_size(method: int, size: float) -> None:
    solution = integrated(PROBLEMS["decay"], rtol=1e-8, atol=0.0, method=method, y0=np.array([size]))
    assert solution.status == FINE
    np.testing.assert_allclose(solution.y, [size * np.exp(-0.3 * 24.0)], rtol=1e-6)
    np.testing.assert_allclose(solution.dy, [[-24.0 * solution.y[0], np.exp(-0.3 * 24.0)]], rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("unit", [1e-9, 1e9])
def test_times_of_any_size(method: int, unit: float) -> None:
    solution = integrated(
        PROBLEMS["decay"], rtol=1e-8, atol=0.0, method=method, p=np.array([0.3 / unit]), end=24.0 * unit
    )
    np.testing.assert_allclose(solution.y, [100.0 * np.exp(-0.3 * 24.0)], rtol=1e-6)


def rest_f(t, y, p, out):  # type: ignore[no-untyped-def]
    out[0] = p[0] * (p[1] - y[0])
    out[1] = -p[2] * y[1]


def rest_y(t, y, p, out):  # type: ignore[no-untyped-def]
    out[:] = 0.0
    out[0, 0], out[1, 1] = -p[0], -p[2]


def rest_p(t, y, p, out):  # type: ignore[no-untyped-def]
    out[:] = 0.0
    out[0, 0], out[0, 1], out[1, 2] = p[1] - y[0], p[0], -y[1]


@pytest.mark.parametrize("tolerance", [1e-3, 1e-6, 1e-9])
@pytest.mark.parametrize("method", METHODS)
def test_derivatives_of_a_state_at_rest(method: int, tolerance: float) -> None:
    """A fast state that begins at rest allows any step; its derivatives to where it rests do not.

    In closed form y1 = p1 + (y1(0) - p1) exp(-p0 t), y2 = y2(0) exp(-p2 t).
    """
    problem = Problem("rest", rest_f, rest_y, rest_p, (1.0, 1.0), (1000.0, 1.0, 0.1), 5.0)
    solution = integrated(problem, rtol=tolerance, method=method, pieces=3)
    assert solution.status == FINE
    expected = np.zeros((2, problem.directions))
    expected[0, 1] = 1.0
    expected[1, [2, 4]] = -5.0 * np.exp(-0.5), np.exp(-0.5)
    np.testing.assert_allclose(solution.y, [1.0, np.exp(-0.5)], rtol=20 * tolerance)
    np.testing.assert_allclose(solution.dy, expected, atol=50 * tolerance)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["oral", "tmdd", "forced"])
def test_stops_on_the_way_change_little(name: str, method: int) -> None:
    """40 calls instead of one: the same solution to tolerance, the slope handed on or not, few more steps."""
    problem = PROBLEMS[name]
    whole = integrated(problem, rtol=1e-8, method=method)
    handed_on = integrated(problem, rtol=1e-8, method=method, pieces=40)
    anew = integrated(problem, rtol=1e-8, method=method, pieces=40, continued=False)
    for solution in (handed_on, anew):
        assert solution.status == FINE
        np.testing.assert_allclose(solution.y, whole.y, rtol=1e-5, atol=1e-9)
        np.testing.assert_allclose(solution.dy, whole.dy, rtol=1e-4, atol=1e-5 * np.abs(whole.dy).max())
        # a stop costs at most two cut steps: the step size is handed on, not found anew
        assert solution.memory[STEPS] < whole.memory[STEPS] + 2.2 * 40


@pytest.mark.parametrize("method", METHODS)
def test_sixty_states_and_many_directions(method: int) -> None:
    n = 60
    rates = np.linspace(1.0, 3.0, n)
    problem = Problem("chain", chain_f, chain_y, chain_p, (100.0, *[0.0] * (n - 1)), tuple(rates), 30.0)
    directions = 40
    solution = integrated(problem, rtol=1e-8, method=method, directions=directions)
    assert solution.status == FINE
    tight = integrated(problem, rtol=1e-11, method=1, directions=directions)
    np.testing.assert_allclose(solution.y, tight.y, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(solution.dy, tight.dy, rtol=1e-4, atol=1e-5)
    up, down = (
        integrated(
            problem, rtol=1e-11, sensitivities=False, p=rates * (1.0 + sign * 1e-5 * (np.arange(n) == 7))
        ).y
        for sign in (1.0, -1.0)
    )
    np.testing.assert_allclose(tight.dy[:, 7], (up - down) / (2e-5 * rates[7]), rtol=1e-5, atol=1e-6)


def test_every_status_has_a_message_and_a_remedy() -> None:
    for message, remedy in REMEDIES.values():
        assert message.endswith(".") and remedy.endswith(".")
