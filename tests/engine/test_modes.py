"""Conditional modes against closed forms and scipy."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import lambertw
from support.nonmem_runs import Floats
from support.streams import read

from elbomix.engine.estimate import Estimate, initial
from elbomix.engine.inner.mode import Modes, find_modes, lesser_modes
from elbomix.engine.objective.observations import ObservationLikelihood

HEAD = "$PROBLEM modes\n$INPUT {columns}\n$DATA {file} IGNORE=@\n$PRED\n"
TAIL = "$ESTIMATION METHOD=1 INTERACTION\n"


def likelihood(folder: Path, code: str, rows: list[dict[str, float]]) -> ObservationLikelihood:
    return ObservationLikelihood(*read(folder, HEAD + code + TAIL, rows))


def objective(own: ObservationLikelihood, estimate: Estimate, subject: int, eta: Floats) -> float:
    full = np.zeros((own.n_subjects, own.n_etas))
    full[subject] = eta
    value = own.terms(estimate.theta, estimate.sigma, full).value[0, subject]
    return float(value + eta @ np.linalg.solve(estimate.omega, eta))


def check_against_scipy(
    own: ObservationLikelihood, estimate: Estimate, modes: Modes, subjects: range
) -> None:
    """No point that Nelder and Mead find is lower, and theirs is the same point (their tolerance: 1e-5)."""
    for i in subjects:
        best = minimize(
            partial(objective, own, estimate, i),
            np.zeros(own.n_etas),
            method="Nelder-Mead",
            options={"xatol": 1e-9, "fatol": 1e-13, "maxiter": 2000},
        )
        assert modes.value[i] <= best.fun + 1e-10 * (1 + abs(best.fun))
        np.testing.assert_allclose(modes.eta[i], best.x, atol=1e-5)


def test_linear_model_has_its_posterior_mean(tmp_path: Path) -> None:
    """y = theta + eta1 + t eta2 + eps: mode and precision in closed form."""
    rng = np.random.default_rng(1)
    rows = [{"ID": i, "TIME": t, "DV": float(rng.normal(5, 2))} for i in range(1, 6) for t in range(4)]
    code = (
        "Y = THETA(1) + ETA(1) + TIME*ETA(2) + EPS(1)\n$THETA 4\n$OMEGA BLOCK(2)\n1\n0.3 0.5\n$SIGMA 0.25\n"
    )
    own = likelihood(tmp_path, code, rows)
    estimate = initial(own.model)
    modes = find_modes(own, estimate)
    design = np.stack([np.ones(4), np.arange(4.0)], 1)
    precision = design.T @ design / 0.25 + np.linalg.inv(estimate.omega)
    for i in range(5):
        y = np.array([row["DV"] for row in rows[4 * i : 4 * i + 4]])
        exact = np.linalg.solve(precision, design.T @ (y - 4.0) / 0.25)
        np.testing.assert_allclose(modes.eta[i], exact, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(modes.information[i], precision, rtol=1e-12)
    assert modes.converged.all()


@pytest.mark.parametrize("interaction", [True, False])
def test_nonlinear_model_with_proportional_error(tmp_path: Path, interaction: bool) -> None:
    rng = np.random.default_rng(2)
    times = (0.5, 1, 2, 4, 8)
    rows = [
        {"ID": i, "TIME": t, "DV": float(10 * np.exp(-0.3 * np.exp(rng.normal(0, 0.5)) * t) + 0.1)}
        for i in range(1, 9)
        for t in times
    ]
    code = (
        "Y = THETA(1)*EXP(ETA(1))*EXP(-THETA(2)*EXP(ETA(2))*TIME)*(1+EPS(1)) + EPS(2)\n"
        "$THETA 9 0.3\n$OMEGA 0.1 0.3\n$SIGMA 0.04 0.01\n"
    )
    own = likelihood(tmp_path, code, rows)
    estimate = initial(own.model)
    modes = find_modes(own, estimate, interaction=interaction)
    assert modes.converged.all()
    if interaction:
        check_against_scipy(own, estimate, modes, range(4))
    else:
        frozen = own.frozen(estimate.theta, "eta")
        terms = own.terms(estimate.theta, estimate.sigma, modes.eta, "eta", frozen)
        slope = 0.5 * terms.gradient[0] + np.linalg.solve(estimate.omega, modes.eta.T).T
        deviations = np.einsum("ip,ipq,iq->i", slope, np.linalg.inv(modes.information), slope)
        assert deviations.max() < 1e-16


def test_likelihoods_whose_information_misleads(tmp_path: Path) -> None:
    """Counts of a Poisson distribution: the outer product of scores is a poor second derivative."""
    rng = np.random.default_rng(3)
    rows = [{"ID": i, "TIME": t, "DV": float(rng.poisson(40))} for i in range(1, 5) for t in range(5)]
    code = (
        "RATE1 = THETA(1)*EXP(ETA(1) + TIME*ETA(2))\nY = 2*RATE1 - 2*DV*LOG(RATE1)\n"
        "$THETA 20\n$OMEGA 0.5 0.1\n"
    )
    stream = HEAD + code + "$ESTIMATION METHOD=1 LAPLACE -2LL\n"
    own = ObservationLikelihood(*read(tmp_path, stream, rows))
    estimate = initial(own.model)
    modes = find_modes(own, estimate)
    assert modes.converged.all()
    check_against_scipy(own, estimate, modes, range(4))


def test_a_saddle_is_left(tmp_path: Path) -> None:
    """y = theta + eta^2 + eps: eta = 0 is stationary with vanishing information, the modes are beside it."""
    rows = [{"ID": i, "TIME": 0.0, "DV": y} for i, y in enumerate((2.0, 1.5, 0.9), start=1)]
    own = likelihood(tmp_path, "Y = THETA(1) + ETA(1)**2 + EPS(1)\n$THETA 1\n$OMEGA 1\n$SIGMA 0.1\n", rows)
    modes = find_modes(own, initial(own.model))
    assert modes.converged.all()
    squares = np.maximum(np.array([1.0, 0.5, -0.1]) - 0.1 / 2, 0.0)  # y - theta - sigma / (2 omega)
    np.testing.assert_allclose(modes.eta[:, 0] ** 2, squares, atol=1e-8)


def test_steps_out_of_the_domain_are_shortened(tmp_path: Path) -> None:
    """The first Newton step goes where the model has no value (a logarithm of a negative number)."""
    rows = [{"ID": 1, "TIME": t, "DV": -3.0} for t in range(3)]
    code = "Y = LOG(THETA(1) + ETA(1)) + EPS(1)\n$THETA 1\n$OMEGA 4\n$SIGMA 0.01\n"
    own = likelihood(tmp_path, code, rows)
    estimate = initial(own.model)
    modes = find_modes(own, estimate)
    assert modes.converged.all()
    check_against_scipy(own, estimate, modes, range(1))


def test_random_starts_find_the_lower_of_two_modes(tmp_path: Path) -> None:
    """Two wells, at -0.5 (nearer to 0) and at 3 (lower): the best of 500 starts is in the lower."""
    rows = [{"ID": i, "TIME": t, "DV": 3.0 * t} for i in range(1, 4) for t in (0.0, 1.0)]
    code = (
        "Y = (1-TIME)*(ETA(1)+0.5)*(ETA(1)-3) + TIME*ETA(1) + (1+9*TIME)*EPS(1)\n"
        "$THETA 1 FIX\n$OMEGA 30\n$SIGMA 0.01\n"
    )
    own = likelihood(tmp_path, code, rows)
    estimate = initial(own.model)
    alone, several = find_modes(own, estimate), find_modes(own, estimate, draws=500, seed=5)
    np.testing.assert_allclose(alone.eta, -0.5, atol=0.1)
    np.testing.assert_allclose(several.eta, 3.0, atol=0.1)
    assert (several.value < alone.value - 10.0).all()
    from_there = find_modes(own, estimate, several.eta)
    np.testing.assert_allclose(from_there.eta, several.eta, atol=1e-8)


def test_a_glance_tells_how_much_lower_another_mode_is(tmp_path: Path) -> None:
    """The same wells, and the difference of the heights of both modes."""
    rows = [{"ID": i, "TIME": t, "DV": 3.0 * t} for i in range(1, 4) for t in (0.0, 1.0)]
    code = (
        "Y = (1-TIME)*(ETA(1)+0.5)*(ETA(1)-3) + TIME*ETA(1) + (1+9*TIME)*EPS(1)\n"
        "$THETA 1 FIX\n$OMEGA 30\n$SIGMA 0.01\n"
    )
    own = likelihood(tmp_path, code, rows)
    estimate = initial(own.model)
    lesser, better = (find_modes(own, estimate, np.full((3, 1), at)) for at in (-0.5, 3.0))
    above = lesser_modes(own, estimate, lesser.eta, interaction=True)
    # the glance ends within 0.05 standard deviations of the mode
    np.testing.assert_allclose(above, lesser.value - better.value, atol=2 * 0.05**2)
    np.testing.assert_allclose(lesser_modes(own, estimate, better.eta, interaction=True), 0.0, atol=1e-12)


def test_the_better_of_two_modes_is_kept(tmp_path: Path) -> None:
    """Two wells, at -0.5 (nearer to 0) and at 3: each is the lower one once."""
    code = (
        "Y = (1-TIME)*(ETA(1)+0.5)*(ETA(1)-3) + TIME*ETA(1) + (1+9*TIME)*EPS(1)\n"
        "$THETA 1 FIX\n$OMEGA 30\n$SIGMA 0.01\n"
    )
    for lower in (-0.5, 3.0):
        rows = [{"ID": i, "TIME": t, "DV": lower * t} for i in range(1, 4) for t in (0.0, 1.0)]
        own = likelihood(tmp_path, code, rows)
        estimate = initial(own.model)
        followed = find_modes(own, estimate, np.full((3, 1), 3.0))
        np.testing.assert_allclose(followed.eta, 3.0, atol=0.1)
        kept = find_modes(own, estimate, np.full((3, 1), 3.0), thorough=True)
        np.testing.assert_allclose(kept.eta, lower, atol=0.1)
        assert kept.converged.all()


def test_subjects_without_observations_and_etas_without_variance(tmp_path: Path) -> None:
    rows = [{"ID": 1, "TIME": 0.0, "DV": 2.0, "MDV": 0.0}, {"ID": 2, "TIME": 0.0, "DV": 0.0, "MDV": 1.0}]
    code = "Y = THETA(1) + ETA(1) + ETA(2) + EPS(1)\n$THETA 1\n$OMEGA 1 0 FIX\n$SIGMA 0.5\n"
    own = likelihood(tmp_path, code, rows)
    modes = find_modes(own, initial(own.model))
    np.testing.assert_allclose(modes.eta, [[1.0 / 1.5, 0.0], [0.0, 0.0]], atol=1e-12)
    np.testing.assert_allclose(modes.information[0], [[3.0, 0.0], [0.0, 0.0]])
    assert modes.value[1] == 0.0


def test_far_modes_of_differential_equations(tmp_path: Path) -> None:
    """Saturable elimination of a bolus in closed form; the modes lie up to 3 prior SDs from where one starts.

    Most of that way is gone with rough solutions, and none of it may be left at the end.
    """
    times, dose = np.array([0.5, 2.0, 4.0, 8.0]), 100.0

    def amount(vm: float, km: float) -> Floats:
        """Vm t = dose - A + Km log(dose / A)."""
        logarithm = np.log(dose / km) + (dose - vm * times) / km
        return np.asarray(km * lambertw(np.exp(logarithm)).real)

    etas = np.array([[1.5, 0.0], [-1.5, 0.5], [0.8, -1.2], [0.3, 1.4]])
    observed = [amount(12.0 * np.exp(a), 30.0 * np.exp(b)) for a, b in etas]
    rows = []
    for i, values in enumerate(observed, start=1):
        rows.append({"ID": i, "TIME": 0.0, "AMT": dose, "DV": 0.0, "MDV": 1})
        rows += [
            {"ID": i, "TIME": t, "AMT": 0.0, "DV": 1.05 * v, "MDV": 0}
            for t, v in zip(times, values, strict=True)
        ]
    code = (
        "VM = 12*EXP(ETA(1))\nKM = 30*EXP(ETA(2))\n$DES\nDADT(1) = -VM*A(1)/(KM + A(1))\n"
        "$ERROR\nY = A(1)*(1 + EPS(1))\n$OMEGA 0.25 0.25\n$SIGMA 0.01\n"
    )
    head = HEAD.replace("$PRED", "$SUBROUTINES ADVAN13 TOL=8\n$MODEL COMP=(CENTRAL)\n$PK")
    own = ObservationLikelihood(*read(tmp_path, head + code + TAIL, rows))
    assert own.roughly(1e-3) is not None
    modes = find_modes(own, initial(own.model))
    assert modes.converged.all()

    def value(eta: Floats, i: int) -> float:
        f = amount(12.0 * np.exp(eta[0]), 30.0 * np.exp(eta[1]))
        residual = 1.05 * observed[i] / f - 1.0
        return float((residual**2 / 0.01 + np.log(0.01 * f**2)).sum() + (eta**2).sum() / 0.25)

    for i in range(4):
        best = minimize(value, etas[i], (i,), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12})
        np.testing.assert_allclose(modes.eta[i], best.x, atol=1e-5)  # what Nelder and Mead leave
        np.testing.assert_allclose(modes.value[i], best.fun, atol=1e-6)  # what TOL=8 leaves of four values


def test_starts_so_far_out_that_the_information_is_singular_in_rounding(tmp_path: Path) -> None:
    """Predictions of 1e9 to 1e26 beside a prior of 1; that at the mode, eta = 0, is the observation."""
    code = "Y = THETA(1)*EXP(11*ETA(1)+30*ETA(2)) + EPS(1)\n$THETA 1\n$OMEGA 1 1\n$SIGMA 1\n"
    own = likelihood(tmp_path, code, [{"ID": i, "TIME": 0.0, "DV": 1.0} for i in range(1, 101)])
    start = np.linspace(0.5, 1.5, 100)[:, None] * np.ones(2)
    modes = find_modes(own, initial(own.model), start)
    np.testing.assert_allclose(modes.eta, 0.0, atol=1e-7)
    assert modes.converged.all()
