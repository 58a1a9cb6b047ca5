"""The integrators against scipy at 1e-12: states and sensitivities of a table of problems, by each method."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from support.ode_problems import PROBLEMS
from support.ode_solutions import integrated

from elbomix.engine.kernel.integrators.integrate import EXPLICIT, FINE, METHOD, STEPS, STIFF

METHODS = {"automatic": 0, "explicit": EXPLICIT, "stiff": STIFF}
# explicit steps are limited by stability there: tens of thousands and more
HOPELESS = {("robertson", "explicit"), ("van der Pol", "explicit")}
CASES = [(name, method) for name in PROBLEMS for method in METHODS if (name, method) not in HOPELESS]


@cache
def reference(name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return PROBLEMS[name].reference()


@pytest.mark.parametrize(("name", "method"), CASES)
def test_states_and_sensitivities_agree_with_scipy(name: str, method: str) -> None:
    """Global errors are local ones times the conditioning of the problem: some hundreds of rtol at most.

    Derivatives are measured against the sum of themselves and the state per unit of the parameter.
    """
    problem = PROBLEMS[name]
    rtol = 1e-9
    y, dy = reference(name)
    solution = integrated(problem, rtol=rtol, atol=max(problem.atol, 1e-13), method=METHODS[method])
    assert solution.status == FINE
    absolute = 1e-6 * np.abs(y).max()
    np.testing.assert_allclose(solution.y, y, rtol=300 * rtol, atol=300 * rtol * absolute)
    seeds = np.array([*problem.p, *np.maximum(np.abs(problem.y0), np.abs(problem.y0).max())])
    error = np.abs(solution.dy - dy) * np.abs(seeds)
    size = np.abs(dy) * np.abs(seeds) + np.abs(y)[:, None] + absolute
    assert np.max(error / size) < problem.magnified * rtol


@pytest.mark.parametrize("name", [name for name, problem in PROBLEMS.items() if problem.stiff])
@pytest.mark.parametrize("rtol", [1e-5, 1e-8])
def test_automatic_finds_out_stiffness_by_itself(name: str, rtol: float) -> None:
    """It needs not many more steps than the stiff method from the start."""
    problem = PROBLEMS[name]
    atol = rtol * 1e-5
    automatic = integrated(problem, rtol=rtol, atol=atol, sensitivities=False, max_steps=20_000)
    stiff = integrated(problem, rtol=rtol, atol=atol, method=STIFF, sensitivities=False)
    assert automatic.status == stiff.status == FINE
    assert automatic.memory[STEPS] < 3 * stiff.memory[STEPS] + 200
    np.testing.assert_allclose(automatic.y, stiff.y, rtol=1e3 * rtol, atol=1e3 * atol)


@pytest.mark.parametrize("name", [name for name, problem in PROBLEMS.items() if not problem.stiff])
def test_automatic_stays_explicit_where_nothing_is_stiff(name: str) -> None:
    solution = integrated(PROBLEMS[name])
    assert solution.memory[METHOD] == EXPLICIT


def test_automatic_returns_to_the_explicit_method() -> None:
    """TMDD is stiff while target binds; the next problem with the same memory is not."""
    problem = PROBLEMS["tmdd"]
    first = integrated(problem, rtol=1e-6)
    assert first.memory[METHOD] == STIFF
    again = integrated(PROBLEMS["Lotka-Volterra"], rtol=1e-6, memory=first.memory, end=100.0)
    assert again.status == FINE
    assert again.memory[METHOD] == EXPLICIT
    np.testing.assert_allclose(again.y, integrated(PROBLEMS["Lotka-Volterra"], 1e-11, end=100.0).y, rtol=1e-3)


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("method", ["automatic", "stiff"])
def test_states_are_the_same_with_and_without_sensitivities(name: str, method: str) -> None:
    """To the last digit: a line search compares values computed with and without derivatives."""
    problem = PROBLEMS[name]
    bare = integrated(problem, rtol=1e-6, atol=1e-10, method=METHODS[method], sensitivities=False)
    full = integrated(problem, rtol=1e-6, atol=1e-10, method=METHODS[method])
    np.testing.assert_array_equal(bare.y, full.y)
    assert bare.memory[STEPS] == full.memory[STEPS]


@pytest.mark.parametrize("name", ["oral", "tmdd", "friberg", "Lotka-Volterra"])
@pytest.mark.parametrize("method", ["explicit", "stiff"])
def test_sensitivities_are_the_derivatives_of_the_states(name: str, method: str) -> None:
    """Central differences of solutions at a far tighter tolerance, to the tolerance of the solution."""
    problem = PROBLEMS[name]
    solution = integrated(problem, rtol=1e-8, atol=1e-12, method=METHODS[method])
    for q, value in enumerate(problem.p):
        h = 1e-4 * value
        ends = []
        for sign in (1.0, -1.0):
            p = np.array(problem.p)
            p[q] += sign * h
            ends.append(integrated(problem, rtol=1e-12, atol=1e-15, p=p, sensitivities=False).y)
        difference = (ends[0] - ends[1]) / (2.0 * h)
        scale = np.abs(difference).max() + np.abs(solution.y).max() / value
        np.testing.assert_allclose(solution.dy[:, q], difference, rtol=1e-5, atol=1e-6 * scale)


@pytest.mark.parametrize("method", ["explicit", "stiff"])
def test_constant_rates_are_added_to_the_slopes(method: str) -> None:
    problem = PROBLEMS["tmdd"]
    rates = np.array([2.0, 0.3, 0.0])
    y, dy = problem.reference(rates)
    solution = integrated(problem, rtol=1e-9, method=METHODS[method], rates=rates)
    np.testing.assert_allclose(solution.y, y, rtol=1e-7)
    np.testing.assert_allclose(solution.dy, dy, rtol=1e-5, atol=1e-7 * np.abs(dy).max())
