"""Exact L0 regression against enumeration of every support."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from elbomix.engine.selection import l0, search
from elbomix.engine.selection.l0 import L0Solution, profile_out, regress, solve_l0

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Problem = tuple[Array, Array, Array, BoolArray, BoolArray]


def enumerate_l0(
    gram: Array, linear: Array, penalty: Array, forced: BoolArray, forbidden: BoolArray
) -> float:
    """Return the least objective over all supports, by trying each.

    All supports of one size are solved at once; singular ones by the pseudo-inverse of unit-length columns.
    """
    length = np.sqrt(np.where(np.diag(gram) > 0, np.diag(gram), 1.0))
    q, c = gram / np.outer(length, length), linear / length
    price = np.where(forced, 0.0, penalty)
    best = np.inf
    for size in range(len(c) + 1):
        supports = np.array(list(itertools.combinations(range(len(c)), size)), dtype=int)
        member = np.zeros((len(supports), len(c)), dtype=bool)
        np.put_along_axis(member, supports, True, axis=1)
        allowed = member[:, forced].all(1) & ~member[:, forbidden].any(1)
        supports = supports[allowed]
        if not len(supports):
            continue
        blocks = q[supports[:, :, None], supports[:, None, :]]
        inverse = np.linalg.pinv(blocks, rcond=1e-11, hermitian=True) if size else blocks
        values = -np.einsum("si,sij,sj->s", c[supports], inverse, c[supports]) + price[supports].sum(1)
        best = min(best, float(values.min()))
    return best


def random_problem(seed: int, most: int = 12) -> Problem:
    """Correlated, binary, duplicate and badly scaled columns; few and many subjects; some pairs decided."""
    rng = np.random.default_rng(seed)
    p = int(rng.integers(1, most + 1))
    n = int(rng.choice([max(2, p // 2), p + 3, 30, 100, 400]))
    x = rng.normal(size=(n, p)) @ (np.eye(p) + rng.choice([0.0, 0.5, 2.0]) * rng.normal(size=(p, p)))
    for j in range(p):
        if rng.random() < 0.3:
            x[:, j] = x[:, j] > 0
        if j and rng.random() < 0.08:
            x[:, j] = x[:, j - 1] * rng.normal()
    beta = rng.normal(size=p) * (rng.random(p) < 0.4) * rng.choice([0.05, 0.3, 2.0])
    y = x @ beta + rng.normal(size=n)
    if rng.random() < 0.5:
        x, y = x - x.mean(0), y - y.mean()
    x *= rng.lognormal(sigma=2.0, size=p)
    penalty = np.full(p, np.log(n)) if rng.random() < 0.5 else rng.uniform(0, 10, p)
    forced = rng.random(p) < 0.08
    forbidden = (rng.random(p) < 0.08) & ~forced
    return x.T @ x, x.T @ y, penalty, forced, forbidden


def check(problem: Problem, solution: L0Solution) -> None:
    gram, linear, penalty, forced, forbidden = problem
    best = enumerate_l0(*problem)
    # both solve well-scaled systems of condition up to 1e11 in double precision
    tolerance = 1e-7 * (1 + abs(best))
    assert solution.objective == pytest.approx(best, abs=tolerance)
    assert solution.proven
    assert solution.bound <= best + tolerance
    assert solution.support[forced].all() and not solution.support[forbidden].any()
    beta = solution.coefficients
    assert (beta[~solution.support] == 0).all()
    value = beta @ gram @ beta - 2 * linear @ beta + penalty[solution.support & ~forced].sum()
    assert value == pytest.approx(solution.objective, abs=tolerance)


@pytest.mark.parametrize("block", range(10))
def test_equals_enumeration_on_500_random_problems(block: int) -> None:
    for seed in range(50 * block, 50 * block + 50):
        problem = random_problem(seed)
        gram, linear, penalty, forced, forbidden = problem
        check(problem, solve_l0(gram, linear, penalty, forced=forced, forbidden=forbidden))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    values=st.lists(st.lists(st.integers(-2, 2), min_size=4, max_size=4), min_size=2, max_size=6),
    response=st.lists(st.integers(-3, 3), min_size=6, max_size=6),
    penalty=st.lists(st.sampled_from([0.0, 0.5, 1.0, 4.0]), min_size=4, max_size=4),
)
def test_designs_of_small_integers(
    values: list[list[int]], response: list[int], penalty: list[float]
) -> None:
    """Zero, equal, opposite and dependent columns and ties between supports abound here."""
    x, y = np.array(values, dtype=float), np.array(response[: len(values)], dtype=float)
    nobody = np.zeros(4, dtype=bool)
    problem = (x.T @ x, x.T @ y, np.array(penalty), nobody, nobody)
    check(problem, solve_l0(*problem[:3]))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), start=st.integers(0, 2**6 - 1))
def test_the_start_changes_nothing(seed: int, start: int) -> None:
    gram, linear, penalty, forced, forbidden = random_problem(seed, most=6)
    support = np.array([bool(start >> j & 1) for j in range(len(linear))])
    cold = solve_l0(gram, linear, penalty, forced=forced, forbidden=forbidden)
    warm = solve_l0(gram, linear, penalty, forced=forced, forbidden=forbidden, start=support)
    assert warm.objective == pytest.approx(cold.objective, abs=1e-7 * (1 + abs(cold.objective)))


def test_orthogonal_design_is_hard_thresholding() -> None:
    linear = np.array([3.0, -1.0, 0.5, -2.1])
    solution = solve_l0(np.eye(4), linear, np.full(4, 4.0))
    np.testing.assert_array_equal(solution.support, linear**2 > 4.0)
    np.testing.assert_allclose(solution.coefficients, [3.0, 0, 0, -2.1], rtol=1e-14)
    assert solution.objective == pytest.approx(-(9 + 2.1**2) + 8)


def test_greedy_steps_alone_would_fail() -> None:
    """Two columns explain everything together and next to nothing alone; a third explains half of it."""
    rng = np.random.default_rng(0)
    base, signal = rng.normal(size=(2, 400))
    signal -= base * (base @ signal) / (base @ base)
    x = np.column_stack([base + 0.05 * signal, base, signal + rng.normal(size=400)])
    gram, linear = x.T @ x, x.T @ (20 * signal)
    solution = solve_l0(gram, linear, np.full(3, 10.0))
    np.testing.assert_array_equal(solution.support, [True, True, False])


def test_of_two_equal_columns_the_cheaper_one_is_chosen() -> None:
    x = np.random.default_rng(1).normal(size=20)
    gram = np.full((2, 2), x @ x)
    solution = solve_l0(gram, np.full(2, 3 * x @ x), np.array([2.0, 1.0]))
    np.testing.assert_array_equal(solution.support, [False, True])


def test_node_limit_reports_its_gap() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(8, 12)) + 3 * rng.normal(size=(8, 1))
    y = rng.normal(size=8) * 3
    gram, linear, penalty = x.T @ x, x.T @ y, np.full(12, 1.0)
    limited = solve_l0(gram, linear, penalty, node_limit=1)
    full = solve_l0(gram, linear, penalty)
    assert full.proven and full.gap <= 1e-8 * (1 + abs(full.objective))
    assert not limited.proven and limited.nodes == 1
    assert limited.gap == pytest.approx(limited.objective - limited.bound)
    assert limited.bound <= full.objective <= limited.objective


def test_large_problems_are_compiled_and_equal() -> None:
    p = l0.TRIAL_COLUMNS + 1
    rng = np.random.default_rng(4)
    factor = np.linalg.cholesky(0.6 ** np.abs(np.subtract.outer(np.arange(p), np.arange(p))))
    x = rng.normal(size=(300, p)) @ factor.T
    y = x[:, ::10] @ np.full(5, 0.4) + rng.normal(size=300)
    gram, linear, penalty = x.T @ x, x.T @ y, np.full(p, np.log(300))
    solution = solve_l0(gram, linear, penalty)
    length = np.sqrt(np.diag(gram))
    _, value, bound, nodes = search.search(
        gram / np.outer(length, length),
        linear / length,
        penalty,
        np.zeros(p, dtype=np.int8),
        np.zeros(p, dtype=bool),
        100_000,
    )
    assert solution.proven
    assert solution.objective == pytest.approx(value, rel=1e-9)
    assert bound == pytest.approx(value, rel=1e-8)
    assert solve_l0(gram, linear, penalty, node_limit=2).nodes <= 2
    assert (
        abs(solution.nodes - nodes) <= 2
    )  # rounding can move a node from one side of its bound to the other


def test_medium_problems_are_compiled_only_where_they_are_hard(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def compiled() -> Callable[..., tuple[BoolArray, float, float, int]]:
        calls.append(1)
        return search.search

    monkeypatch.setattr(l0, "_compiled", compiled)
    rng = np.random.default_rng(6)
    x = rng.normal(size=(200, 20))
    easy = solve_l0(x.T @ x, x.T @ (x[:, 0] + rng.normal(size=200)), np.full(20, 5.0))
    assert easy.proven and not calls
    x = rng.normal(size=(16, 20))  # singular: hundreds of nodes
    gram, linear = x.T @ x, x.T @ (3 * rng.normal(size=16))
    hard = solve_l0(gram, linear, np.full(20, 4.0), node_limit=400)
    assert calls == [1] and hard.nodes > l0.TRIAL_NODES
    assert solve_l0(gram, linear, np.full(20, 4.0), node_limit=50).nodes == 50
    assert calls == [1]


def test_small_problems_do_not_load_the_compiler() -> None:
    code = (
        "import sys, numpy as np; from elbomix.engine.selection.l0 import solve_l0;"
        "solve_l0(np.eye(12), np.ones(12), np.ones(12)); sys.exit('numba' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_small_problems_take_well_under_a_millisecond() -> None:
    gram, linear, penalty, _, _ = next(
        p for seed in range(100) if len((p := random_problem(seed, most=4))[1]) == 4 and p[0].size
    )
    solve_l0(gram, linear, penalty)
    times = []
    for _ in range(30):
        begin = time.perf_counter()
        solve_l0(gram, linear, penalty)
        times.append(time.perf_counter() - begin)
    assert min(times) < 2e-3  # 0.1 to 0.3 ms on a quiet core; a loaded machine is slower


def test_regress_is_least_squares() -> None:
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(30, 5)), rng.normal(size=30)
    support = np.array([True, False, True, True, False])
    expected = np.linalg.lstsq(x[:, support], y, rcond=None)[0]
    np.testing.assert_allclose(regress(x.T @ x, x.T @ y, support)[support], expected, rtol=1e-10)
    np.testing.assert_array_equal(regress(x.T @ x, x.T @ y, np.zeros(5, dtype=bool)), np.zeros(5))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), free=st.integers(1, 2**5 - 1))
def test_profiled_problem_equals_free_columns_without_penalty(seed: int, free: int) -> None:
    rng = np.random.default_rng(seed)
    x = np.column_stack([np.ones(40), rng.normal(size=(40, 4)) + rng.normal(size=4)])
    y = rng.normal(size=40) + x[:, 2]
    gram, linear = x.T @ x, x.T @ y
    mask = np.array([bool(free >> j & 1) for j in range(5)])
    penalty = np.full(5, 3.0)
    reduced, remaining, back = profile_out(gram, linear, mask)
    part = solve_l0(reduced, remaining, penalty[~mask])
    whole = solve_l0(gram, linear, penalty, forced=mask)
    np.testing.assert_allclose(back(part.coefficients), whole.coefficients, rtol=1e-7, atol=1e-9)
    constant = linear[mask] @ np.linalg.solve(gram[np.ix_(mask, mask)], linear[mask])
    assert part.objective - constant == pytest.approx(whole.objective, rel=1e-9)


def test_profiling_out_leaves_nothing_of_a_dependent_column() -> None:
    x = np.column_stack([np.ones(10), np.full(10, 2.0), np.arange(10.0)])
    y = np.arange(10.0) + 5
    reduced, remaining, back = profile_out(x.T @ x, x.T @ y, np.array([True, False, False]))
    solution = solve_l0(reduced, remaining, np.ones(2))
    np.testing.assert_array_equal(solution.support, [False, True])
    np.testing.assert_allclose(back(solution.coefficients), [5, 0, 1], atol=1e-10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"penalty": np.array([1.0, -1.0])}, "must not be negative"),
        ({"penalty": np.ones(3)}, "do not fit"),
        ({"gram": np.eye(3)}, "do not fit"),
        (
            {"forced": np.array([True, False]), "forbidden": np.array([True, False])},
            "both forced and forbidden",
        ),
    ],
)
def test_misuse_is_refused(change: dict[str, Array], message: str) -> None:
    arguments: dict[str, Array] = {"gram": np.eye(2), "linear": np.ones(2), "penalty": np.ones(2)} | change
    with pytest.raises(ValueError, match=message):
        solve_l0(**arguments)  # type: ignore[arg-type]


def test_infinite_penalty_keeps_a_column_out_and_no_columns_is_a_problem_too() -> None:
    solution = solve_l0(np.eye(2), np.full(2, 9.0), np.array([np.inf, 1.0]))
    np.testing.assert_array_equal(solution.support, [False, True])
    assert solve_l0(np.eye(0), np.ones(0), np.ones(0)).proven
    assert l0.INTERPRETED >= 12
