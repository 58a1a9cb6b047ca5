"""What priors add to the objective, against densities of scipy and what NONMEM printed."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from elbomix.engine.estimate import Estimate, Gradient, initial
from elbomix.engine.failure import ModelFailure
from elbomix.engine.methods.conditional import ConditionalSettings, estimate_conditional
from elbomix.engine.objective.population import Population
from elbomix.engine.objective.prior import PriorPenalty
from elbomix.engine.uncertainty.covariance_step import CovarianceSettings, covariance_step
from elbomix.parsers.read import parse_model, read_data

HEAD = """$PROBLEM prior
$INPUT ID TIME DV
$DATA data.csv
$PRED
Y = THETA(1)*EXP(ETA(1)) + THETA(2)*ETA(2) + THETA(3)*TIME*EXP(ETA(3)) + EPS(1) + EPS(2)
$THETA 1 2 (0,3)
$OMEGA BLOCK(2) 0.3 0.05 0.2
$OMEGA 0.1
$SIGMA 0.4 0.5
$ESTIMATION METHOD=1
"""
PRIOR = """$PRIOR NWPRI
$THETAP (1.2 FIX) (1.7 FIX) (3.3 FIX)
$THETAPV BLOCK(3) FIX 0.5 0.1 0.4 0 0.05 0.3
$OMEGAP BLOCK(2) FIX 0.25 0.02 0.15
$OMEGAPD (11 FIX)
$OMEGAP 0.07 FIX
$OMEGAPD (4 FIX)
$SIGMAP 0.3 FIX
$SIGMAPD (25 FIX)
"""
MEAN = np.array([1.2, 1.7, 3.3])
COVARIANCE = np.array([[0.5, 0.1, 0.0], [0.1, 0.4, 0.05], [0.0, 0.05, 0.3]])
MODES = [(0, np.array([[0.25, 0.02], [0.02, 0.15]]), 11.0), (2, np.array([[0.07]]), 4.0)]


def penalty(text: str) -> PriorPenalty:
    return PriorPenalty(parse_model(text, "run.ctl"))


def start(text: str) -> Estimate:
    return initial(parse_model(text, "run.ctl"))


def test_normal_part_is_the_density() -> None:
    """Less its constant, -2 log of the multivariate normal density."""
    text = HEAD + PRIOR
    at, only = start(text), penalty(HEAD + PRIOR.split("$OMEGAP")[0])
    log_density = stats.multivariate_normal.logpdf(at.theta, MEAN, COVARIANCE)
    assert only.value(at) + only.constant == pytest.approx(-2 * log_density, rel=1e-12)


def test_covariance_part_is_an_inverse_wishart_density() -> None:
    """Up to a constant that of nu - n - 1 degrees of freedom and scale nu times mode."""
    text = HEAD + PRIOR
    prior = penalty(text)
    at, other = start(text), start(text)
    other.omega[:2, :2] = [[0.5, -0.1], [-0.1, 0.4]]
    other.omega[2, 2], other.sigma[0, 0] = 0.03, 0.9
    expected = 0.0
    for one, sign in ((other, 1.0), (at, -1.0)):
        for first, mode, weight in MODES:
            n = len(mode)
            block = one.omega[first : first + n, first : first + n]
            degrees = weight - n - 1
            log_density = -0.5 * (degrees + n + 1) * np.linalg.slogdet(block)[1]
            log_density -= 0.5 * weight * np.trace(np.linalg.solve(block, mode))
            if degrees > n - 1:
                density = stats.invwishart(degrees, weight * mode)
                log_density = density.logpdf(block) if n > 1 else density.logpdf(block[0, 0])
            expected -= 2.0 * sign * float(np.squeeze(log_density))
        expected -= 2.0 * sign * float(np.squeeze(stats.invwishart(23, 25 * 0.3).logpdf(one.sigma[0, 0])))
    assert prior.value(other) - prior.value(at) == pytest.approx(expected, rel=1e-12)


def test_mode_of_the_density_is_where_it_was_asked() -> None:
    prior = penalty(HEAD + PRIOR)
    omega, sigma = np.zeros((3, 3)), np.diag([0.3, 0.5])
    omega[:2, :2], omega[2, 2] = MODES[0][1], 0.07
    gradient = prior.gradient(Estimate(MEAN.copy(), omega, sigma))
    for part in (gradient.theta, gradient.omega, gradient.sigma):
        np.testing.assert_allclose(part, 0.0, atol=1e-12)


def test_gradient_is_the_difference_of_the_value() -> None:
    text = HEAD + PRIOR
    prior, at = penalty(text), start(text)
    gradient = prior.gradient(at)
    h = 1e-6
    for name in ("theta", "omega", "sigma"):
        array = getattr(at, name)
        for place in np.ndindex(array.shape):
            if array[place] == 0.0:
                continue  # outside the blocks
            ends = []
            for sign in (1.0, -1.0):
                moved = Estimate(at.theta.copy(), at.omega.copy(), at.sigma.copy())
                getattr(moved, name)[place] += sign * h
                if len(place) == 2 and place[0] != place[1]:
                    getattr(moved, name)[place[::-1]] += sign * h
                ends.append(prior.value(moved))
            slope = getattr(gradient, name)[place] * (2 if len(place) == 2 and place[0] != place[1] else 1)
            assert slope == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-7, abs=1e-7), (name, place)
    np.testing.assert_array_equal(gradient.omega, gradient.omega.T)


def test_no_covariance_has_no_density() -> None:
    text = HEAD + PRIOR
    at = start(text)
    at.omega[0, 1] = at.omega[1, 0] = 0.9
    assert penalty(text).value(at) == math.inf


def test_fixed_parameters_have_no_prior() -> None:
    """Their means, variances and modes are left out."""
    text = (HEAD + PRIOR).replace("$THETA 1 2", "$THETA 1 (2 FIX)").replace("$OMEGA 0.1", "$OMEGA 0.1 FIX")
    prior = penalty(text)
    assert prior.rows.tolist() == [0, 2]
    np.testing.assert_allclose(prior.precision, np.linalg.inv(COVARIANCE[np.ix_([0, 2], [0, 2])]))
    assert [term.first for term in prior.omega] == [0]


def test_flat_priors_add_nothing() -> None:
    """Degrees of freedom of minus the dimension less one."""
    assert penalty((HEAD + PRIOR).replace("(11 FIX)", "(-3 FIX)")).omega[0].first == 2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("(11 FIX)", "(-1 FIX)", "-1 degrees of freedom"),
        ("0.5 0.1 0.4 0 0.05 0.3", "0.5 0.9 0.4 0 0.05 0.3", "not positive definite"),
        ("$OMEGAP BLOCK(2) FIX 0.25 0.02 0.15\n$OMEGAPD (11 FIX)", "$OMEGAP BLOCK(2) FIX 0.25 0.02 0.15\n"
         "$OMEGAP BLOCK(2) SAME\n$OMEGAPD (11 FIX)", "no block"),
    ],
)  # fmt: skip
def test_priors_that_make_no_sense_are_refused(old: str, new: str, message: str) -> None:
    text = HEAD + PRIOR
    assert old in text
    with pytest.raises(Exception, match=message):
        penalty(text.replace(old, new))


def test_a_prior_in_a_file_is_refused() -> None:
    with pytest.raises(ModelFailure, match="TNPRI"):
        penalty(HEAD + "$PRIOR TNPRI\n")


def test_what_nonmem_added_to_a_first_order_objective() -> None:
    """NONMEM 7.2 printed 741.519277 for a model whose first-order objective is 742.051045 there.

    Run ``nwpri`` of the test files of PsN: omega is at its mode, the thetas are off their means.
    """
    text = """$PROBLEM phenobarbital
$INPUT ID TIME DV
$DATA data.csv
$PRED
Y = THETA(1)*EXP(ETA(1)) + THETA(2)*EXP(ETA(2)) + EPS(1)
$THETA (0,0.00555363) (0,1.33638) (0.005 FIX) (1.3 FIX) (2 FIX)
$OMEGA BLOCK(2) 0.247074 0 0.141581
$OMEGA BLOCK(2) FIX 1.55838E-07 0 0.00638429
$OMEGA BLOCK(2) FIX 0.247074 0 0.141581
$SIGMA 0.0164153
$PRIOR NWPRI NTHETA=2 NETA=2 NEPS=1 NTHP=2 NETP=2 NPEXP=1
"""
    assert penalty(text).value(start(text)) == pytest.approx(741.519276867 - 742.051045078, abs=5e-6)


BAYES = """$PROBLEM two compartments of a tutorial of Bauer (CPT:PSP 2019)
$INPUT ID TIME DV
$DATA data.csv
$PRED
Y = (THETA(1)+THETA(2)+THETA(3)+THETA(4)+THETA(5)+THETA(6)+THETA(7)+THETA(8))*EXP(ETA(1)+ETA(2))*EPS(1)
$THETA 0.7 3 0.8 0.8 -0.1 0.1 0.7 0.7
$OMEGA BLOCK(2) 0.1 0.001 0.1
$SIGMA 0.04
$PRIOR NWPRI
$THETAP (0.01 FIXED)X8
$THETAPV BLOCK(8) VALUES(100000.0,0.0) FIXED
$OMEGAP BLOCK(2) VALUES(0.04,0.0) FIXED
$OMEGAPD (2 FIXED)
$SIGMAP BLOCK(1) (0.05 FIXED)
$SIGMAPD (1 FIXED)
"""


def test_constant_is_the_one_that_nonmem_prints() -> None:
    """The line 'PRIOR CONSTANT TO OBJECTIVE FUNCTION' of NONMEM 7.4 for this prior."""
    assert penalty(BAYES).constant == pytest.approx(126.804992662172, abs=1e-9)


def test_scores_sum_to_the_gradient_and_their_products_to_the_information() -> None:
    """At the mode four times half the second derivative of the penalty, taken by differences of gradients."""
    prior = penalty(HEAD + PRIOR)
    omega, sigma = np.zeros((3, 3)), np.diag([0.3, 0.5])
    omega[:2, :2], omega[2, 2] = MODES[0][1], 0.07
    mode = Estimate(MEAN.copy(), omega, sigma)
    rng = np.random.default_rng(3)

    def along(gradient: Gradient, change: Estimate) -> NDArray[np.float64]:
        total = (gradient.theta * change.theta).sum(-1)
        total = total + (gradient.omega * change.omega).sum((-2, -1))
        return np.asarray(total + (gradient.sigma * change.sigma).sum((-2, -1)))

    def moved(size: float, change: Estimate) -> Estimate:
        pairs = ((getattr(mode, name), getattr(change, name)) for name in ("theta", "omega", "sigma"))
        return Estimate(*(a + size * b for a, b in pairs))

    for _ in range(5):
        block = rng.normal(size=(3, 3))
        block[2, :2] = block[:2, 2] = 0.0
        change = Estimate(rng.normal(size=3), 0.1 * (block + block.T), np.diag(rng.normal(size=2)))
        h = 1e-5
        ends = [along(prior.gradient(moved(s * h, change)), change) for s in (1, -1)]
        curvature = (ends[0] - ends[1]) / (2 * h)
        assert (along(prior.scores(mode), change) ** 2).sum() == pytest.approx(2 * curvature, rel=1e-6)
    at = start(HEAD + PRIOR)
    scores, gradient = prior.scores(at), prior.gradient(at)
    for name in ("theta", "omega", "sigma"):
        np.testing.assert_allclose(getattr(scores, name).sum(0), getattr(gradient, name), rtol=1e-12)


def test_a_fit_with_a_normal_prior_is_the_precision_weighted_mean(tmp_path: Path) -> None:
    """Linear model, variances fixed: information and estimates of data and prior add up."""
    rng = np.random.default_rng(11)
    n, k, mean, variance, omega, sigma = 12, 3, 4.0, 0.02, 0.3, 0.5
    y = 5.0 + math.sqrt(omega) * rng.normal(size=(n, 1)) + math.sqrt(sigma) * rng.normal(size=(n, k))
    rows = [(i + 1, j, y[i, j]) for i in range(n) for j in range(k)]
    data = tmp_path / "data.csv"
    np.savetxt(data, rows, delimiter=",", fmt="%.15g")
    text = (
        "$PROBLEM linear\n$INPUT ID TIME DV\n$DATA data.csv\n$PRED\nY = THETA(1) + ETA(1) + EPS(1)\n"
        f"$THETA 3\n$OMEGA {omega} FIX\n$SIGMA {sigma} FIX\n$PRIOR NWPRI\n$THETAP {mean} FIX\n"
        f"$THETAPV {variance} FIX\n$ESTIMATION METHOD=1 INTER\n"
    )
    model = parse_model(text, str(tmp_path / "run.ctl"))
    population = Population(model, read_data(model, data))
    of_data = n * k / (sigma + k * omega)
    information = of_data + 1.0 / variance
    for method in ("fo", "focei", "laplacei"):
        step = estimate_conditional(population, method, initial(model))
        expected = (of_data * y.mean() + mean / variance) / information
        assert step.estimate.theta[0] == pytest.approx(expected, abs=1e-3 / math.sqrt(information))
        penalty_there = (step.estimate.theta[0] - mean) ** 2 / variance
        without = estimate_conditional(
            population.without_prior(), method, step.estimate, ConditionalSettings(max_evaluations=0)
        )
        assert step.ofv == pytest.approx(without.ofv + penalty_there, rel=1e-12)
        made = covariance_step(population, step, CovarianceSettings("r")).uncertainty
        assert made is not None and made.se[0] == pytest.approx(information**-0.5, rel=1e-6)
