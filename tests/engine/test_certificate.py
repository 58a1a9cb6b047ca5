"""The independent certificate: it agrees with the exact search and refuses anything else."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from elbomix.engine.selection.certificate import certify
from elbomix.engine.selection.l0 import L0Solution, regress, solve_l0

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


def problem(seed: int, p: int = 6, n: int = 60) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p)) @ (np.eye(p) + 0.5 * rng.normal(size=(p, p)))
    x[:, ::3] = x[:, ::3] > 0
    y = x @ (rng.normal(size=p) * (rng.random(p) < 0.5)) + rng.normal(size=n)
    return x.T @ x, x.T @ y, np.full(p, np.log(n))


def on_support(gram: Array, linear: Array, penalty: Array, support: BoolArray) -> L0Solution:
    beta = regress(gram, linear, support)
    value = float(beta @ (gram @ beta - 2 * linear) + penalty[support].sum())
    return L0Solution(support, beta, value, value, 0.0, 0, True)


@pytest.mark.parametrize("seed", range(12))
def test_agrees_with_the_exact_search(seed: int) -> None:
    gram, linear, penalty = problem(seed, p=2 + seed % 6)
    rng = np.random.default_rng(seed)
    forced = rng.random(len(linear)) < 0.15
    forbidden = (rng.random(len(linear)) < 0.15) & ~forced
    solution = solve_l0(gram, linear, penalty, forced=forced, forbidden=forbidden)
    certificate = certify(gram, linear, penalty, solution, forced=forced, forbidden=forbidden)
    assert certificate.agrees
    assert certificate.solver == "HiGHS"
    assert certificate.objective == pytest.approx(solution.objective, rel=1e-6, abs=1e-6)
    assert certificate.bound == pytest.approx(solution.objective, rel=2e-6, abs=2e-6)


@pytest.mark.parametrize("seed", range(4))
def test_collinear_columns(seed: int) -> None:
    gram, linear, penalty = problem(seed, p=5, n=4)  # more columns than subjects
    solution = solve_l0(gram, linear, penalty)
    assert certify(gram, linear, penalty, solution).agrees


@pytest.mark.parametrize("flip", range(6))
def test_catches_any_wrong_support(flip: int) -> None:
    gram, linear, penalty = problem(1)
    best = solve_l0(gram, linear, penalty)
    support = best.support.copy()
    support[flip] = not support[flip]
    certificate = certify(gram, linear, penalty, on_support(gram, linear, penalty, support))
    assert not certificate.agrees
    assert certificate.objective == pytest.approx(best.objective, rel=1e-6)


def test_catches_a_wrong_objective() -> None:
    gram, linear, penalty = problem(2)
    best = solve_l0(gram, linear, penalty)
    assert not certify(gram, linear, penalty, replace(best, objective=best.objective - 0.1)).agrees


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "rule", [{"max_effects": 2}, {"exclusive": ((0, 1), (2, 3, 4))}, {"grouped": ((0, 3), (1, 5))}]
)
def test_side_constraints_against_enumeration(
    seed: int, rule: dict[str, int | tuple[tuple[int, ...], ...]]
) -> None:
    gram, linear, penalty = problem(seed)
    forced = np.arange(6) == 4

    def allowed(s: BoolArray) -> bool:
        if "max_effects" in rule:
            return bool(s[forced].all() and s[~forced].sum() <= 2)
        if "exclusive" in rule:
            return bool(s[4] and s[[0, 1]].sum() <= 1 and s[[2, 3, 4]].sum() <= 1)
        return bool(s[4] and s[0] == s[3] and s[1] == s[5])

    price = np.where(forced, 0.0, penalty)
    solutions = [
        on_support(gram, linear, price, s)
        for bits in itertools.product([False, True], repeat=6)
        if allowed(s := np.array(bits))
    ]
    best = min(solutions, key=lambda s: s.objective)
    certificate = certify(gram, linear, penalty, best, forced=forced, **rule)  # type: ignore[arg-type]
    assert certificate.agrees
    assert certificate.objective == pytest.approx(best.objective, rel=1e-6)
    free = solve_l0(gram, linear, penalty, forced=forced)
    if not allowed(free.support):
        assert not certify(gram, linear, penalty, free, forced=forced, **rule).agrees  # type: ignore[arg-type]


def test_contradicting_constraints_are_refused() -> None:
    gram, linear, penalty = problem(0)
    solution = solve_l0(gram, linear, penalty)
    with pytest.raises(ValueError, match="keeps all constraints"):
        certify(gram, linear, penalty, solution, forced=np.arange(6) < 2, exclusive=((0, 1),), max_effects=3)


def test_out_of_time_is_no_agreement() -> None:
    rng = np.random.default_rng(7)
    x = rng.normal(size=(25, 20))
    y = x[:, :3].sum(1) + rng.normal(size=25)
    gram, linear, penalty = x.T @ x, x.T @ y, np.full(20, 1.0)
    solution = solve_l0(gram, linear, penalty, node_limit=50)
    certificate = certify(gram, linear, penalty, solution, seconds=0.05)
    assert not certificate.agrees
    assert certificate.bound < certificate.objective


def test_says_nothing_on_the_screen(capfd: pytest.CaptureFixture[str]) -> None:
    gram, linear, penalty = problem(3)
    certify(gram, linear, penalty, solve_l0(gram, linear, penalty))
    assert capfd.readouterr() == ("", "")
