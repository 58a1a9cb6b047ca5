"""Closed forms and matrix exponential of the kernel against extended precision and textbook formulas.

Tolerances: rounding of the rate constants alone changes exp(K h) by 1e-16 |K| h, so errors may grow with that
product; derivatives may lose one digit more, as divided differences do near ties.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm, expm_frechet
from support.linear_reference import (
    CLOSED,
    GENERAL,
    LIBRARY,
    Array,
    Start,
    Transfers,
    advanced,
    distance,
    random_start,
    reference,
)

from elbomix.engine.kernel.linear.systems import decompose, linear_slopes, system_size
from elbomix.engine.kernel.linear.transfer_graph import plan_linear

ALL = {**CLOSED, **GENERAL}


def tolerance(transfers: Transfers, p: Array, h: float) -> float:
    norm: float = 2.0 * max(
        sum(abs(p[k]) for s, _, k in transfers if s == source) for source, _, _ in transfers
    )
    return 3e-15 * (3.0 + norm * h)


@pytest.mark.parametrize("name", CLOSED)
def test_closed_forms_are_recognised(name: str) -> None:
    n, transfers = CLOSED[name]
    assert plan_linear(n, np.array(transfers))[2] == 1


@pytest.mark.parametrize("name", GENERAL)
def test_everything_else_is_left_to_the_matrix_exponential(name: str) -> None:
    n, transfers = GENERAL[name]
    assert plan_linear(n, np.array(transfers))[2] == 0


@pytest.mark.parametrize("general", [False, True])
@pytest.mark.parametrize("infused", [False, True])
@pytest.mark.parametrize("name", ALL)
def test_amounts_and_derivatives(name: str, infused: bool, general: bool) -> None:
    n, transfers = ALL[name]
    generator = np.random.default_rng(17)
    for h in (1e-3, 0.1, 1.0, 10.0, 100.0):
        for _ in range(3):
            start = random_start(generator, n, transfers, 2, infused=infused)
            y, dy = advanced(n, transfers, start, h, general=general)
            wanted, dwanted = reference(n, transfers, start, h)
            assert distance(y, wanted) < tolerance(transfers, start.p, h)
            assert distance(dy, dwanted) < 10 * tolerance(transfers, start.p, h)


@pytest.mark.parametrize("digits", [1, 2, 3, 4, 6, 8, 10, 12, 14, 16, 99])
@pytest.mark.parametrize("name", CLOSED)
def test_ties_and_near_ties(name: str, digits: int) -> None:
    """All rate constants at a relative distance of 10^-digits; with 99, exactly equal."""
    n, transfers = CLOSED[name]
    generator = np.random.default_rng(5)
    for h in (0.05, 1.0, 7.0):
        start = random_start(generator, n, transfers, 2, infused=h > 0.5)
        start.p[:] = 0.7 * (1.0 + 10.0**-digits * generator.uniform(-1, 1, start.p.size))
        y, dy = advanced(n, transfers, start, h)
        wanted, dwanted = reference(n, transfers, start, h)
        assert distance(y, wanted) < 1e-13
        assert distance(dy, dwanted) < 1e-12


@pytest.mark.parametrize("digits", [1, 2, 3, 5, 7, 9, 11, 13, 15, 99])
@pytest.mark.parametrize("mode", [0, 1])
def test_absorption_as_fast_as_a_mode(mode: int, digits: int) -> None:
    """The absorption rate constant at or near alpha or beta of two compartments."""
    n, transfers = LIBRARY["two, oral"]
    generator = np.random.default_rng(6)
    k10, k12, k21 = 0.2, 0.5, 0.3
    modes = -np.linalg.eigvals(np.array([[-k10 - k12, k21], [k12, -k21]]))
    ka = modes[mode] * (1.0 + 10.0**-digits)
    for h in (0.1, 1.0, 10.0, 60.0):
        start = random_start(generator, n, transfers, 3, infused=h < 5)
        start.p[:] = [ka, k10, k12, k21]
        y, dy = advanced(n, transfers, start, h)
        wanted, dwanted = reference(n, transfers, start, h)
        assert distance(y, wanted) < 1e-13
        assert distance(dy, dwanted) < 1e-12


@pytest.mark.parametrize("name", CLOSED)
def test_zero_rate_constants(name: str) -> None:
    """Each rate constant zero in turn, and all of them: derivatives do not vanish."""
    n, transfers = CLOSED[name]
    generator = np.random.default_rng(7)
    start = random_start(generator, n, transfers, 2, infused=True)
    rates = start.p.copy()
    for zero in [*range(len(rates)), slice(None)]:
        start.p[:] = rates
        start.p[zero] = 0.0
        y, dy = advanced(n, transfers, start, 3.0)
        wanted, dwanted = reference(n, transfers, start, 3.0)
        assert distance(y, wanted) < 1e-13
        assert distance(dy, dwanted) < 1e-12


@pytest.mark.parametrize("name", CLOSED)
def test_rate_constants_of_very_different_size(name: str) -> None:
    n, transfers = CLOSED[name]
    generator = np.random.default_rng(8)
    for _ in range(20):
        start = random_start(generator, n, transfers, 1, infused=True, spread=6.0)
        h = 3.0
        y, dy = advanced(n, transfers, start, h)
        wanted, dwanted = reference(n, transfers, start, h)
        assert distance(y, wanted) < tolerance(transfers, start.p, h)
        assert distance(dy, dwanted) < 10 * tolerance(transfers, start.p, h)


@st.composite
def systems(draw: st.DrawFn) -> tuple[int, Transfers, Start, float]:
    """Any graph of up to 6 compartments, any rates, with input or without."""
    n = draw(st.integers(1, 6))
    every = [(s, t) for s in range(1, n + 1) for t in range(n + 1) if s != t]
    pairs = draw(st.lists(st.sampled_from(every), min_size=1, max_size=10))
    slots = draw(st.integers(1, len(pairs)))
    transfers = [(s, t, i % slots) for i, (s, t) in enumerate(pairs)]
    rates = st.one_of(st.floats(1e-4, 20.0), st.sampled_from([0.0, 0.5, 1.0, 1.0 + 1e-9]))
    p = np.array(draw(st.lists(rates, min_size=slots, max_size=slots)))
    generator = np.random.default_rng(draw(st.integers(0, 10**6)))
    start = random_start(generator, n, transfers, 2, infused=draw(st.booleans()))
    return n, transfers, Start(p, start.dp, start.y, start.dy, start.r, start.dr), draw(st.floats(1e-6, 50.0))


@settings(max_examples=150, deadline=None)
@given(systems())
def test_any_graph(case: tuple[int, Transfers, Start, float]) -> None:
    n, transfers, start, h = case
    wanted, dwanted = reference(n, transfers, start, h)
    for general in (False, True):
        y, dy = advanced(n, transfers, start, h, general=general)
        assert distance(y, wanted) < tolerance(transfers, start.p, h)
        assert distance(dy, dwanted) < 10 * tolerance(transfers, start.p, h)


@settings(max_examples=50, deadline=None)
@given(systems(), st.integers(0, 10**6))
def test_numbering_of_compartments_does_not_matter(
    case: tuple[int, Transfers, Start, float], seed: int
) -> None:
    n, transfers, start, h = case
    order = np.random.default_rng(seed).permutation(n)
    place = np.argsort(order)
    moved = [(int(place[s - 1]) + 1, int(place[t - 1]) + 1 if t else 0, k) for s, t, k in transfers]
    shuffled = Start(start.p, start.dp, start.y[order], start.dy[order], start.r[order], start.dr[order])
    y, dy = advanced(n, transfers, start, h)
    z, dz = advanced(n, moved, shuffled, h)
    assert distance(z, y[order]) < tolerance(transfers, start.p, h)
    assert distance(dz, dy[order]) < 10 * tolerance(transfers, start.p, h)


@settings(max_examples=50, deadline=None)
@given(systems(), st.floats(0.0, 1.0))
def test_two_steps_are_one(case: tuple[int, Transfers, Start, float], part: float) -> None:
    n, transfers, start, h = case
    y, dy = advanced(n, transfers, start, h)
    half, dhalf = advanced(n, transfers, start, part * h)
    between = Start(start.p, start.dp, half, dhalf, start.r, start.dr)
    z, dz = advanced(n, transfers, between, h - part * h)
    assert distance(z, y) < tolerance(transfers, start.p, h)
    assert distance(dz, dy) < 10 * tolerance(transfers, start.p, h)


@pytest.mark.parametrize("name", ALL)
def test_back_in_time(name: str) -> None:
    n, transfers = ALL[name]
    generator = np.random.default_rng(19)
    for h in (-1e-3, -0.2, -2.0, -6.0):
        start = random_start(generator, n, transfers, 2, infused=True, spread=0.7)
        wanted, dwanted = reference(n, transfers, start, h)
        for general in (False, True):
            y, dy = advanced(n, transfers, start, h, general=general)
            # here the fastest mode grows, so that rounding of its rate constant shows most
            assert distance(y, wanted) < 10 * tolerance(transfers, start.p, -h)
            assert distance(dy, dwanted) < 100 * tolerance(transfers, start.p, -h)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("unit", [2.0**-40, 2.0**40])
def test_units_do_not_matter(name: str, unit: float) -> None:
    """Powers of two as units of amount and of time change the same digits not at all (or barely)."""
    n, transfers = ALL[name]
    start = random_start(np.random.default_rng(3), n, transfers, 2, infused=True)
    y, dy = advanced(n, transfers, start, 2.0)
    amount = Start(start.p, start.dp, unit * start.y, unit * start.dy, unit * start.r, unit * start.dr)
    z, dz = advanced(n, transfers, amount, 2.0)
    assert np.array_equal(z, unit * y) and np.array_equal(dz, unit * dy)
    timed = Start(start.p / unit, start.dp / unit, start.y, start.dy, start.r / unit, start.dr / unit)
    z, dz = advanced(n, transfers, timed, 2.0 * unit)
    assert distance(z, y) < 1e-15 and distance(dz, dy) < 1e-15


@pytest.mark.parametrize("name", ALL)
def test_no_time_changes_nothing(name: str) -> None:
    n, transfers = ALL[name]
    start = random_start(np.random.default_rng(3), n, transfers, 2, infused=True)
    for general in (False, True):
        y, dy = advanced(n, transfers, start, 0.0, general=general)
        assert np.array_equal(y, start.y) and np.array_equal(dy, start.dy)


@pytest.mark.parametrize("name", ALL)
def test_amounts_are_the_same_without_directions(name: str) -> None:
    n, transfers = ALL[name]
    start = random_start(np.random.default_rng(4), n, transfers, 3, infused=True)
    none = Start(start.p, start.dp[:, :0].copy(), start.y, np.zeros((n, 0)), start.r, np.zeros((n, 0)))
    for general in (False, True):
        y, _ = advanced(n, transfers, start, 2.5, general=general)
        z, _ = advanced(n, transfers, none, 2.5, general=general)
        assert distance(z, y) < 1e-15


def test_against_scipy() -> None:
    """expm and expm_frechet of the same matrix, no inputs."""
    n, transfers = GENERAL["cycle"]
    start = random_start(np.random.default_rng(9), n, transfers, 1, infused=False)
    start.dy[:] = 0.0
    start.p[:] = [0.5, 0.6, 0.7, 0.05]
    h = 1.3
    matrix, direction = np.zeros((n, n)), np.zeros((n, n))
    for source, target, slot in transfers:
        for into, values in ((matrix, start.p), (direction, start.dp[:, 0])):
            into[source - 1, source - 1] -= values[slot]
            if target:
                into[target - 1, source - 1] += values[slot]
    assert np.iscomplex(np.linalg.eigvals(matrix)).any()
    y, dy = advanced(n, transfers, start, h)
    frechet = expm_frechet(matrix * h, direction * h, compute_expm=False)
    assert distance(y, expm(matrix * h) @ start.y) < 1e-14
    assert distance(dy[:, 0], np.real(frechet) @ start.y) < 1e-14


@pytest.mark.parametrize("name", ALL)
def test_derivatives_against_differences(name: str) -> None:
    """Central differences with a step of 1e-5: right to about 1e-9."""
    n, transfers = ALL[name]
    start = random_start(np.random.default_rng(10), n, transfers, 2, infused=True)
    _, dy = advanced(n, transfers, start, 2.0)
    for q in range(2):
        ends = []
        for step in (1e-5, -1e-5):
            p, y, r = (
                value + step * slope[:, q]
                for value, slope in ((start.p, start.dp), (start.y, start.dy), (start.r, start.dr))
            )
            ends.append(advanced(n, transfers, Start(p, start.dp, y, start.dy, r, start.dr), 2.0)[0])
        assert distance((ends[0] - ends[1]) / 2e-5, dy[:, q]) < 2e-8


def test_bateman() -> None:
    """Oral dose, one compartment: D ka / (ka - k) (exp(-k t) - exp(-ka t)); D k t exp(-k t) at the tie."""
    n, transfers = LIBRARY["one, oral"]
    nothing = np.zeros((2, 0))
    t, k = 3.0, 0.3
    for ka in (1.1, k):
        start = Start(np.array([ka, k]), nothing, np.array([100.0, 0.0]), nothing, np.zeros(2), nothing)
        y, _ = advanced(n, transfers, start, t)
        wanted = 100 * k * t * math.exp(-k * t)
        if ka != k:
            wanted = 100 * ka / (ka - k) * (math.exp(-k * t) - math.exp(-ka * t))
        assert y == pytest.approx([100 * math.exp(-ka * t), wanted], rel=1e-14)


@pytest.mark.parametrize("n", [5, 20, 60])
def test_chain_of_equal_compartments(n: int) -> None:
    """A dose in the first of n compartments in a row: D (k t)^i / i! exp(-k t), as defective as can be."""
    transfers = [(i, i + 1 if i < n else 0, 0) for i in range(1, n + 1)]
    y = np.zeros(n)
    y[0] = 10.0
    for kt in (0.01, 1.0, 30.0, 300.0):
        start = Start(np.array([2.0]), np.ones((1, 1)), y, np.zeros((n, 1)), np.zeros(n), np.zeros((n, 1)))
        z, dz = advanced(n, transfers, start, kt / 2.0)
        wanted = [10 * math.exp(i * math.log(kt) - math.lgamma(i + 1) - kt) for i in range(n)]
        # d/dk: t (the amount before - the amount itself)
        slopes = [0.5 * kt * ((wanted[i - 1] if i else 0.0) - wanted[i]) for i in range(n)]
        assert z == pytest.approx(wanted, rel=1e-12 if kt > 1 else 1e-6)
        assert distance(dz[:, 0], np.array(slopes)) < 1e-12


def test_large_random_system() -> None:
    """60 compartments, each joined to others at random."""
    generator = np.random.default_rng(12)
    n = 60
    transfers = [(s, int(generator.integers(0, n + 1)), s - 1) for s in range(1, n + 1)]
    transfers += [(int(generator.integers(1, n + 1)), t, t - 1) for t in range(1, n + 1)]
    start = random_start(generator, n, transfers, 1, infused=True)
    for h in (0.3, 400.0):
        y, dy = advanced(n, transfers, start, h)
        wanted, dwanted = reference(n, transfers, start, h)
        assert distance(y, wanted) < tolerance(transfers, start.p, h)
        assert distance(dy, dwanted) < 10 * tolerance(transfers, start.p, h)


@pytest.mark.parametrize("fast", [1e3, 1e5, 1e7])
@pytest.mark.parametrize("name", ALL)
def test_fast_processes_over_long_times(name: str, fast: float) -> None:
    """One process is up to 1e8 times as fast as the interval is short: squaring, or exponentials near 0."""
    n, transfers = ALL[name]
    generator = np.random.default_rng(13)
    start = random_start(generator, n, transfers, 1, infused=True, spread=0.5)
    start.p[0] = fast
    y, dy = advanced(n, transfers, start, 10.0)
    wanted, dwanted = reference(n, transfers, start, 10.0)
    assert distance(y, wanted) < tolerance(transfers, start.p, 10.0)
    assert distance(dy, dwanted) < 10 * tolerance(transfers, start.p, 10.0)


@pytest.mark.parametrize("name", ALL)
def test_negative_rate_constants_grow(name: str) -> None:
    """A search may try them: eigenvalues can be positive then."""
    n, transfers = ALL[name]
    generator = np.random.default_rng(14)
    for _ in range(5):
        start = random_start(generator, n, transfers, 2, infused=True)
        start.p[:] *= np.where(generator.uniform(size=start.p.size) < 0.5, -1.0, 1.0)
        for h in (0.5, 6.0):
            y, dy = advanced(n, transfers, start, h)
            wanted, dwanted = reference(n, transfers, start, h)
            growth = tolerance(transfers, start.p, h)
            assert distance(y, wanted) < 100 * growth
            assert distance(dy, dwanted) < 1000 * growth


@pytest.mark.parametrize("general", [False, True])
def test_what_leaves_arrives_in_the_absorbing_compartment(general: bool) -> None:
    """Nothing is lost, and with no elimination the urine stays empty."""
    n, transfers = CLOSED["two, oral, urine"]
    start = random_start(np.random.default_rng(15), n, transfers, 0, infused=True)
    start.y[3] = 0.0
    start.r[3] = 0.0
    for h in (1e-3, 1.0, 30.0):
        y, _ = advanced(n, transfers, start, h, general=general)
        assert y.sum() == pytest.approx(start.y.sum() + h * start.r.sum(), rel=1e-14)
    start.p[1] = 0.0
    y, _ = advanced(n, transfers, start, 5.0, general=general)
    assert abs(y[3]) < 1e-13 * y.sum()


def test_unit_directions_give_the_map_of_a_period() -> None:
    """Directions that no rate constant has carry exp(K tau): what a steady state is solved with."""
    n, transfers = LIBRARY["three, oral"]
    start = random_start(np.random.default_rng(16), n, transfers, n, infused=False)
    start.dp[:] = 0.0
    start.dy[:] = np.eye(n)
    _, dy = advanced(n, transfers, start, 12.0)
    none = np.zeros((n, 0))
    for j in range(n):
        unit = Start(start.p, np.zeros((len(start.p), 0)), np.eye(n)[j], none, start.r, none)
        assert distance(dy[:, j], advanced(n, transfers, unit, 12.0)[0]) < 1e-14


def test_slopes_are_the_motion_at_an_instant() -> None:
    for n, transfers in ALL.values():
        start = random_start(np.random.default_rng(18), n, transfers, 0, infused=True)
        plan = plan_linear(n, np.array(transfers))
        system = np.empty(system_size(n, len(transfers), 0))
        decompose(plan, start.p, start.dp, system)
        slopes = np.empty(n)
        linear_slopes(start.y, start.r, plan, system, slopes)
        y, _ = advanced(n, transfers, start, 1e-7)
        # the next order is h K^2 y
        assert np.allclose((y - start.y) / 1e-7, slopes, rtol=1e-4, atol=1e-4)


def test_rate_constants_that_are_no_numbers() -> None:
    plan = plan_linear(1, np.array([(1, 0, 0)]))
    system = np.empty(system_size(1, 1, 0))
    for value in (math.nan, math.inf):
        assert decompose(plan, np.array([value]), np.zeros((1, 0)), system) != 0
