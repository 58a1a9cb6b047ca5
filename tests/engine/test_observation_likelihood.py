"""-2 log p(y | eta) of all kinds of observations, against formulas and differences written out here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from elbomix.engine.objective.observations import ObservationLikelihood
from elbomix.parsers.read import parse_model, read_data

Array = NDArray[np.float64]
LOG_2PI = np.log(2 * np.pi)

# ID, TIME, DV, MDV, L2, FLAG, TYPE
ROWS = np.array(
    [
        [1, 0.0, 9.1, 0, 1, 0, 1],
        [1, 0.0, 0.0, 1, 1, 0, 2],
        [1, 0.0, 2.3, 0, 1, 0, 2],
        [1, 1.0, 6.0, 0, 2, 1, 1],
        [1, 2.0, 3.0, 0, 3, 2, 1],
        [1, 2.0, 1.0, 0, 3, 0, 2],
        [1, 3.5, 1.0, 0, 4, 0, 1],
        [2, 0.0, 8.0, 0, 4, 1, 1],
        [2, 1.0, 5.0, 0, 5, 0, 1],
        [2, 1.0, 4.0, 0, 5, 2, 2],
        [2, 1.0, 1.0, 0, 6, 0, 1],
        [2, 4.0, 0.0, 1, 7, 0, 1],
    ]
)
THETA = np.array([8.0, 0.3, 0.4])
SIGMA = np.array([[0.05, 0.02], [0.02, 0.09]])
OMEGA = np.array([[0.2, 0.03], [0.03, 0.1]])
ETAS = np.array([[[0.1, -0.2], [-0.3, 0.15]], [[-0.05, 0.3], [0.2, 0.1]]])  # [draw, id, eta]
LOQ = 4.0

Rows = NDArray[np.float64]
Formula = Callable[[Array, Array, Array, Rows], float]


def course(theta: Array, eta: Array, rows: Rows) -> Array:
    """The prediction of every record."""
    return np.asarray(theta[0] * np.exp(eta[0]) * np.exp(-theta[1] * np.exp(eta[1]) * rows[:, 1]))


COURSE = "F = THETA(1)*EXP(ETA(1))*EXP(-THETA(2)*EXP(ETA(2))*TIME)\n"


def normal(y: Array, mean: Array, covariance: Array) -> float:
    """-2 log density without the 2 pi constant."""
    log_density = stats.multivariate_normal.logpdf(y, mean, covariance)
    return float(-2.0 * log_density - len(y) * LOG_2PI)


def combined(theta: Array, sigma: Array, eta: Array, rows: Rows) -> float:
    observed = rows[rows[:, 3] == 0]
    f = course(theta, eta, observed)
    slopes = np.stack([f, np.full_like(f, theta[2])], axis=1)
    variance = np.einsum("ke,ef,kf->k", slopes, sigma, slopes)
    return normal(observed[:, 2], f, np.diag(variance))


def two_responses(theta: Array, sigma: Array, eta: Array, rows: Rows) -> float:
    """Types 1 and 2 have an eps each, shared within L2."""
    total = 0.0
    observed = rows[rows[:, 3] == 0]
    for level in np.unique(observed[:, 4]):
        group = observed[observed[:, 4] == level]
        f = course(theta, eta, group)
        slopes = np.where(group[:, [6]] == 1, np.stack([f, 0 * f], 1), np.stack([0 * f, theta[2] + 0 * f], 1))
        covariance = slopes @ sigma @ slopes.T
        total += normal(group[:, 2], f, covariance)
    return total


def poisson(theta: Array, sigma: Array, eta: Array, rows: Rows) -> float:
    observed = rows[rows[:, 3] == 0]
    counts = np.floor(observed[:, 2])
    return float(-2.0 * np.sum(stats.poisson.logpmf(counts, course(theta, eta, observed))))


def binary(theta: Array, sigma: Array, eta: Array, rows: Rows) -> float:
    observed = rows[rows[:, 3] == 0]
    chance = 1.0 / (1.0 + np.exp(-(course(theta, eta, observed) - LOQ)))
    return float(-2.0 * np.sum(stats.bernoulli.logpmf(observed[:, 2] > LOQ, chance)))


def below(theta: Array, sigma: Array, eta: Array, rows: Rows) -> float:
    """M3 (Beal 2001): values below the limit as the probability to be there."""
    observed = rows[rows[:, 3] == 0]
    f = course(theta, eta, observed)
    sd = np.sqrt(sigma[0, 0]) * f
    censored = observed[:, 2] < LOQ
    density = stats.norm.logpdf(observed[:, 2], f, sd) + 0.5 * LOG_2PI
    chance = stats.norm.logcdf((LOQ - f) / sd)
    return float(-2.0 * np.where(censored, chance, density).sum())


def below_and_positive(theta: Array, sigma: Array, eta: Array, rows: Rows) -> float:
    """M4: as M3, given that all values are positive."""
    observed = rows[rows[:, 3] == 0]
    f = course(theta, eta, observed)
    sd = np.full_like(f, theta[2])
    censored = observed[:, 2] < LOQ
    positive = stats.norm.cdf(f / sd)
    density = stats.norm.logpdf(observed[:, 2], f, sd) - np.log(positive)
    chance = (stats.norm.cdf((LOQ - f) / sd) - stats.norm.cdf(-f / sd)) / positive
    return float(-2.0 * np.where(censored, np.log(chance), density).sum())


def every_kind(theta: Array, sigma: Array, eta: Array, rows: Rows) -> float:
    """The flag says of each record whether Y is a prediction, a likelihood or -2 log of one."""
    total = 0.0
    for row in rows[rows[:, 3] == 0]:
        f = float(course(theta, eta, row[None])[0])
        if row[5] == 0:
            total += normal(row[[2]], np.array([f]), np.array([[f * f * sigma[0, 0]]]))
        else:
            total += -2.0 * float(stats.poisson.logpmf(row[2], f))
    return total


@dataclass(frozen=True)
class Case:
    code: str
    formula: Formula
    options: str = ""
    level: str = "LEVEL"


POISSON = "-F + N*LOG(F) - LFAC(N)"
CASES = {
    "combined error, block of sigma": Case("Y = F + F*EPS(1) + THETA(3)*EPS(2)", combined),
    "correlated responses in L2": Case(
        "Y = F\nIF (TYPE.EQ.1) Y = F + F*EPS(1)\nIF (TYPE.EQ.2) Y = F + THETA(3)*EPS(2)",
        two_responses,
        level="L2",
    ),
    "counts as likelihood": Case(f"N = INT(DV)\nY = EXP({POISSON})", poisson, "LAPLACE LIKELIHOOD"),
    "counts as -2LL": Case(f"N = INT(DV)\nY = -2*({POISSON})", poisson, "LAPLACE -2LL"),
    "yes or no": Case(
        f"P = 1/(1 + EXP({LOQ} - F))\nY = 1 - P\nIF (DV.GT.{LOQ}) Y = P", binary, "LAPLACE LIKE"
    ),
    "M3": Case(
        f"IF (DV.LT.{LOQ}) THEN\nF_FLAG = 1\nY = PHI(({LOQ} - F)/(F*SQRT(SIGMA(1,1))))\nELSE\nF_FLAG = 0\n"
        "Y = F + F*EPS(1)\nENDIF",
        below,
        "LAPLACE",
    ),
    "M4": Case(
        f"S = THETA(3)\nA = PHI(-F/S)\nF_FLAG = 1\nY = (PHI(({LOQ} - F)/S) - A)/(1 - A)\n"
        f"IF (DV.GE.{LOQ}) Y = EXP(-0.5*((DV - F)/S)**2)/(S*SQRT(6.283185307179586)*(1 - A))",
        below_and_positive,
        "LAPLACE",
    ),
    "all kinds": Case(
        f"N = DV\nF_FLAG = FLAG\nL = {POISSON}\nY = F + F*EPS(1)\nIF (FLAG.EQ.1) Y = EXP(L)\n"
        "IF (FLAG.EQ.2) Y = -2*L",
        every_kind,
        "LAPLACE",
    ),
    "a flag left alone is 0": Case(
        f"N = DV\nIF (FLAG.GT.0) F_FLAG = 2\nL = {POISSON}\nY = F + F*EPS(1)\nIF (FLAG.GT.0) Y = -2*L",
        every_kind,
        "LAPLACE",
    ),
}
# y of kinds that have no density for the normal data: counts must be whole
COUNTS = ("all kinds", "a flag left alone is 0")


def likelihood_of(case: Case, folder: Path, rows: Rows) -> ObservationLikelihood:
    """Return the likelihood of a control stream with ``case``'s code, over ``rows``."""
    data = folder / "data.csv"
    np.savetxt(data, rows, delimiter=",", fmt="%.10g")
    text = (
        f"$PROBLEM kinds of observations\n$INPUT ID TIME DV MDV {case.level} FLAG TYPE\n$DATA data.csv\n"
        f"$PRED\n{COURSE}{case.code}\n$THETA 8 0.3 0.4\n$OMEGA BLOCK(2) 0.2 0.03 0.1\n"
        f"$SIGMA BLOCK(2) 0.05 0.02 0.09\n$ESTIMATION METHOD=1 {case.options}\n"
    )
    model = parse_model(text, str(folder / "run.ctl"))
    return ObservationLikelihood(model, read_data(model, data))


@pytest.fixture(params=list(CASES), scope="module")
def studied(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """A case, its likelihood and its rows."""
    case = CASES[request.param]
    rows = ROWS.copy()
    if request.param in COUNTS:
        rows[rows[:, 5] > 0, 2] = np.floor(rows[rows[:, 5] > 0, 2])
    return case, likelihood_of(case, tmp_path_factory.mktemp("kinds"), rows), rows


def by_subject(case: Case, rows: Rows, theta: Array, sigma: Array, eta: Array) -> Array:
    return np.array(
        [case.formula(theta, sigma, eta[i], rows[rows[:, 0] == ident]) for i, ident in enumerate((1, 2))]
    )


def test_value_is_that_of_the_formula(studied) -> None:  # type: ignore[no-untyped-def]
    case, likelihood, rows = studied
    terms = likelihood.terms(THETA, SIGMA, ETAS, omega=OMEGA)
    expected = [by_subject(case, rows, THETA, SIGMA, eta) for eta in ETAS]
    np.testing.assert_allclose(terms.value, expected, rtol=1e-11, atol=1e-11)
    assert not terms.status.any()


def test_gradients_are_differences_of_the_value(studied) -> None:  # type: ignore[no-untyped-def]
    _, likelihood, _ = studied
    terms = likelihood.terms(THETA, SIGMA, ETAS, "eta+theta", omega=OMEGA)
    h = 1e-5  # central differences: an error of about h^2 times the third derivative

    def value(theta: Array = THETA, eta: Array = ETAS) -> Array:
        return np.asarray(likelihood.terms(theta, SIGMA, eta, omega=OMEGA).value)

    for q in range(2):
        step = np.zeros(2)
        step[q] = h
        slope = (value(eta=ETAS + step) - value(eta=ETAS - step)) / (2 * h)
        np.testing.assert_allclose(terms.gradient[..., q], slope, rtol=1e-6, atol=1e-5)
    for q in range(3):
        step = np.zeros(3)
        step[q] = h
        slope = (value(theta=THETA + step) - value(theta=THETA - step)) / (2 * h)
        np.testing.assert_allclose(terms.gradient[..., 2 + q], slope, rtol=1e-6, atol=1e-5)


def test_gradient_to_sigma(studied) -> None:  # type: ignore[no-untyped-def]
    case, likelihood, rows = studied
    assert likelihood.reads_sigma == ("SIGMA(" in case.code)
    if likelihood.reads_sigma:
        return  # the objectives take that part by differences of their own value: test_conditional_objective
    total = likelihood.terms(THETA, SIGMA, ETAS, "eta", omega=OMEGA).sigma_gradient
    np.testing.assert_allclose(total, total.swapaxes(2, 3), rtol=1e-12, atol=1e-12)
    for row, column in ((0, 0), (1, 0), (1, 1)):
        move = np.zeros((2, 2))
        move[row, column] = move[column, row] = 1e-6
        for draw, eta in enumerate(ETAS):
            plus, minus = (by_subject(case, rows, THETA, SIGMA + s * move, eta) for s in (1, -1))
            expected = (plus - minus) / 2
            np.testing.assert_allclose((total[draw] * move).sum((1, 2)), expected, rtol=2e-6, atol=2e-10)


def test_many_points_in_one_call_are_those_alone(studied) -> None:  # type: ignore[no-untyped-def]
    _, likelihood, _ = studied
    if likelihood.reads_sigma:
        with pytest.raises(ValueError, match="one matrix for all draws"):
            likelihood.terms(THETA, np.stack([SIGMA, SIGMA]), ETAS, omega=OMEGA)
        return
    thetas, sigmas = np.stack([THETA, 1.1 * THETA]), np.stack([SIGMA, 0.7 * SIGMA])
    together = likelihood.terms(thetas, sigmas, ETAS, "eta+theta")
    for draw in range(2):
        alone = likelihood.terms(thetas[draw], sigmas[draw], ETAS[draw], "eta+theta")
        for name in ("value", "gradient", "sigma_gradient", "information"):
            np.testing.assert_array_equal(getattr(together, name)[draw], getattr(alone, name)[0])


def test_numbers_of_normal_observations(studied) -> None:  # type: ignore[no-untyped-def]
    case, likelihood, rows = studied
    observed = rows[:, 3] == 0
    kinds = {below: rows[:, 2] >= LOQ, every_kind: rows[:, 5] == 0, below_and_positive: rows[:, 0] < 0}
    kinds |= {combined: observed, two_responses: observed}
    is_normal = kinds.get(case.formula, rows[:, 0] < 0) & observed
    expected = [int((is_normal & (rows[:, 0] == ident)).sum()) for ident in (1, 2)]
    assert likelihood.normal_counts(THETA, SIGMA, OMEGA).tolist() == expected


def test_information_is_the_expected_one(tmp_path: Path) -> None:
    """f' f'^T / v + v' v'^T / (2 v^2), the derivatives of f and v by differences (Wang 2007, equation 17)."""
    likelihood = likelihood_of(CASES["combined error, block of sigma"], tmp_path, ROWS)
    information = likelihood.terms(THETA, SIGMA, ETAS, "eta").information[0]
    for i, ident in enumerate((1, 2)):
        rows = ROWS[(ROWS[:, 0] == ident) & (ROWS[:, 3] == 0)]

        def moments(eta: Array, rows: Rows = rows) -> tuple[Array, Array]:
            f = course(THETA, eta, rows)
            slopes = np.stack([f, np.full_like(f, THETA[2])], axis=1)
            return f, np.einsum("ke,ef,kf->k", slopes, SIGMA, slopes)

        h = 1e-6
        steps = h * np.eye(2)
        pairs = [(moments(ETAS[0, i] + s), moments(ETAS[0, i] - s)) for s in steps]
        df = np.stack([(plus[0] - minus[0]) / (2 * h) for plus, minus in pairs])
        dv = np.stack([(plus[1] - minus[1]) / (2 * h) for plus, minus in pairs])
        v = moments(ETAS[0, i])[1]
        expected = (df / v) @ df.T + 0.5 * (dv / v**2) @ dv.T
        np.testing.assert_allclose(information[i], expected, rtol=1e-7)


def test_information_of_an_l2_record_is_the_expected_one(tmp_path: Path) -> None:
    """df' V^-1 df + tr(V^-1 dV V^-1 dV) / 2 for each record of several observations."""
    likelihood = likelihood_of(CASES["correlated responses in L2"], tmp_path, ROWS)
    information = likelihood.terms(THETA, SIGMA, ETAS, "eta").information[0, 0]
    rows = ROWS[(ROWS[:, 0] == 1) & (ROWS[:, 3] == 0)]
    h, expected = 1e-6, np.zeros((2, 2))

    def moments(group: Rows, eta: Array) -> tuple[Array, Array]:
        f = course(THETA, eta, group)
        first = group[:, 6] == 1
        slopes = np.stack([np.where(first, f, 0.0), np.where(first, 0.0, THETA[2])], axis=1)
        return f, slopes @ SIGMA @ slopes.T

    for level in np.unique(rows[:, 4]):
        group = rows[rows[:, 4] == level]
        inverse = np.linalg.inv(moments(group, ETAS[0, 0])[1])
        pairs = [(moments(group, ETAS[0, 0] + s), moments(group, ETAS[0, 0] - s)) for s in h * np.eye(2)]
        df = [(plus[0] - minus[0]) / (2 * h) for plus, minus in pairs]
        dv = [(plus[1] - minus[1]) / (2 * h) for plus, minus in pairs]
        for p in range(2):
            for q in range(2):
                expected[p, q] += df[p] @ inverse @ df[q]
                expected[p, q] += 0.5 * np.trace(inverse @ dv[p] @ inverse @ dv[q])
    np.testing.assert_allclose(information, expected, rtol=1e-7)


def test_without_interaction_the_variance_is_that_of_no_effects(tmp_path: Path) -> None:
    likelihood = likelihood_of(CASES["combined error, block of sigma"], tmp_path, ROWS)
    frozen = likelihood.frozen(THETA, "eta+theta", SIGMA)
    terms = likelihood.terms(THETA, SIGMA, ETAS, "eta+theta", frozen)
    expected = []
    for i, ident in enumerate((1, 2)):
        rows = ROWS[(ROWS[:, 0] == ident) & (ROWS[:, 3] == 0)]
        f, typical = course(THETA, ETAS[0, i], rows), course(THETA, np.zeros(2), rows)
        slopes = np.stack([typical, np.full_like(f, THETA[2])], axis=1)
        variance = np.einsum("ke,ef,kf->k", slopes, SIGMA, slopes)
        expected.append(normal(rows[:, 2], f, np.diag(variance)))
    np.testing.assert_allclose(terms.value[0], expected, rtol=1e-12)
    h = 1e-5
    for q in range(3):
        step = np.zeros(3)
        step[q] = h
        ends = [
            likelihood.terms(t, SIGMA, ETAS, frozen=likelihood.frozen(t, "none", SIGMA)).value
            for t in (THETA + step, THETA - step)
        ]
        np.testing.assert_allclose(terms.gradient[..., 2 + q], (ends[0] - ends[1]) / (2 * h), rtol=1e-6)


def test_a_density_that_is_none_is_infinite(tmp_path: Path) -> None:
    likelihood = likelihood_of(Case("Y = ETA(1)", poisson, "LAPLACE LIKELIHOOD"), tmp_path, ROWS)
    assert np.isinf(likelihood.terms(THETA, SIGMA, ETAS).value).tolist() == [[False, True], [True, False]]
    other = likelihood_of(CASES["correlated responses in L2"], tmp_path, ROWS)
    assert np.isinf(other.terms(THETA, np.array([[0.05, 0.2], [0.2, 0.09]]), ETAS).value).any()


def test_error_code_called_at_observations_alone_leaves_nothing_behind_elsewhere(tmp_path: Path) -> None:
    """CALLFL=0 in $ERROR: the state before is that of the last observation, not what dose records hold."""
    rows = np.array(
        [[1, 0, 5, 10, 1, 0], [1, 0, 1, 0, 0, 0], [1, 1, 7, 10, 1, 0], [1, 1, 0, 0, 0, 0], [1, 2, 1, 0, 0, 0]]
    )  # ID, TIME, DV, AMT, MDV, nothing
    data = tmp_path / "data.csv"
    np.savetxt(data, rows, delimiter=",", fmt="%.10g")
    text = (
        "$PROBLEM states\n$INPUT ID TIME DV AMT MDV NONE\n$DATA data.csv\n$SUBROUTINE ADVAN1\n$PK\n"
        "K = THETA(1)*EXP(ETA(1))\nIF (TIME.EQ.0) BEFORE = 0\n$ERROR\nCALLFL=0\nP = 1/(1 + EXP(-THETA(2) - "
        "BEFORE))\nBEFORE = DV\nY = 1 - P\nIF (DV.EQ.1) Y = P\n"
        "$THETA 0.1 0.3\n$OMEGA 0.1\n$ESTIMATION METHOD=1 LAPLACE LIKE\n"
    )
    found = {}
    for name, code in (("observations", text), ("every event", text.replace("CALLFL=0", "CALLFL=-1"))):
        model = parse_model(code, str(tmp_path / "run.ctl"))
        likelihood = ObservationLikelihood(model, read_data(model, data))
        found[name] = likelihood.terms(np.array([0.1, 0.3]), np.zeros((0, 0)), np.zeros((1, 1, 1))).value[
            0, 0
        ]
    for name, before in (("observations", [0, 1, 0]), ("every event", [0, 7, 0])):
        chance = 1 / (1 + np.exp(-0.3 - np.array(before)))
        expected = -2 * np.log(np.where(np.array([1, 0, 1]) == 1, chance, 1 - chance)).sum()
        assert found[name] == pytest.approx(expected, rel=1e-13)


def test_an_impossible_record_adds_what_nonmem_adds(tmp_path: Path) -> None:
    """NONMEM prints 20000 more for two records of likelihood zero, and searches on."""
    case = Case("Y = THETA(1)*EXP(ETA(1))\nIF (FLAG.EQ.2) Y = 0*ETA(1)", poisson, "LAPLACE LIKE")
    rows = ROWS.copy()
    rows[:, 5] = 0
    plain = likelihood_of(case, tmp_path, rows).terms(THETA, SIGMA, ETAS, "eta")
    seen = np.flatnonzero((rows[:, 0] == 1) & (rows[:, 3] == 0))[:2]
    rows[seen, 5] = 2
    terms = likelihood_of(case, tmp_path, rows).terms(THETA, SIGMA, ETAS, "eta")
    one = -2.0 * (np.log(THETA[0]) + ETAS[:, 0, 0])
    np.testing.assert_allclose(terms.value[:, 0], plain.value[:, 0] - 2 * one + 20_000, rtol=1e-12)
    np.testing.assert_allclose(terms.gradient[:, 0, 0], plain.gradient[:, 0, 0] + 4, atol=1e-9)
    np.testing.assert_array_equal(terms.value[:, 1], plain.value[:, 1])
