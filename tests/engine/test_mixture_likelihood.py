"""Probabilities of subpopulations, and the objective of a mixture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from elbomix.engine.failure import ModelFailure
from elbomix.engine.objective.mixture import MixtureProbabilities
from elbomix.engine.objective.population import Population
from elbomix.parsers.read import parse_model, read_data

Array = NDArray[np.float64]

ROWS = np.array(
    [
        [1, 0.0, 0.0, 1, 50.0, 0],
        [1, 1.0, 6.0, 0, 60.0, 1],
        [1, 2.0, 5.0, 0, 99.0, 0],
        [2, 0.0, 8.0, 0, 80.0, 0],
        [2, 1.0, 5.0, 0, 10.0, 1],
        [3, 1.0, 0.0, 1, 70.0, 1],
    ]
)
CODE = """$PRED
K = THETA(2)
IF (MIXNUM.EQ.2) K = THETA(3)
F = THETA(1)*EXP(ETA(1))*EXP(-K*TIME)
Y = F + EPS(1)
BEST = MIXEST
"""
LOGIT = """$MIX
NSPOP = 2
X = THETA(4) + THETA(5)*(WT - 70)/10
IF (SEX.EQ.1) THEN
X = X + THETA(6)
ENDIF
P(1) = 1/(1 + EXP(-X))
P(2) = 1 - P(1)
"""
THETA = np.array([9.0, 0.2, 0.9, 0.3, -0.4, 0.7])


def text_of(mixture: str, code: str = CODE) -> str:
    return (
        "$PROBLEM mixture\n$INPUT ID TIME DV MDV WT SEX\n$DATA data.csv\n$CONTR DATA=(WT,SEX)\n"
        f"{mixture}{code}$THETA 9 0.2 0.9 0.3 -0.4 0.7\n$OMEGA 0.1\n$SIGMA 0.3\n$ESTIMATION METHOD=1 INTER\n"
    )


def probabilities(folder: Path, mixture: str) -> MixtureProbabilities:
    data = folder / "data.csv"
    np.savetxt(data, ROWS, delimiter=",", fmt="%.10g")
    model = parse_model(text_of(mixture), str(folder / "run.ctl"))
    return MixtureProbabilities(model, read_data(model, data))


def expected(theta: Array) -> Array:
    """Weight and sex of each subject's first observation; subject 3 has none, so of its first record."""
    weight, sex = np.array([60.0, 80.0, 70.0]), np.array([1.0, 0.0, 1.0])
    first = 1 / (1 + np.exp(-(theta[3] + theta[4] * (weight - 70) / 10 + theta[5] * sex)))
    return np.stack([first, 1 - first], axis=1)


def test_probabilities_of_each_subject(tmp_path: Path) -> None:
    chances, slopes = probabilities(tmp_path, LOGIT)(THETA)
    np.testing.assert_allclose(chances, expected(THETA), rtol=1e-14)
    h = 1e-6
    for i in range(6):
        step = np.zeros(6)
        step[i] = h
        difference = (expected(THETA + step) - expected(THETA - step)) / (2 * h)
        np.testing.assert_allclose(slopes[:, :, i], difference, atol=1e-9)


def test_branches_choose_by_subject(tmp_path: Path) -> None:
    mixture = (
        "$MIX\nNSPOP = 3\nP(1) = 0\nP(2) = THETA(4)\nIF (SEX.EQ.1) THEN\nP(1) = THETA(4)**2\nELSE\n"
        "P(2) = 2*THETA(4)\nENDIF\nP(3) = 1 - P(1) - P(2)\n"
    )
    chances, slopes = probabilities(tmp_path, mixture)(THETA)
    man, woman = np.array([0.09, 0.3, 0.61]), np.array([0.0, 0.6, 0.4])
    np.testing.assert_allclose(chances, np.stack([man, woman, man]), rtol=1e-14)
    by_theta = np.array([[0.6, 1, -1.6], [0, 2, -2], [0.6, 1, -1.6]])
    np.testing.assert_allclose(slopes[:, :, 3], by_theta, rtol=1e-14)
    assert not np.delete(slopes, 3, axis=2).any()


@pytest.mark.parametrize("first", ["THETA(4)*2", "THETA(4) + 1"])
def test_what_is_no_probability(tmp_path: Path, first: str) -> None:
    """A search may step there, so the values are NaN; the check names the subject."""
    mixture = probabilities(tmp_path, f"$MIX\nNSPOP = 2\nP(1) = {first}\nP(2) = 1 - THETA(4)\n")
    chances, slopes = mixture(THETA)
    assert np.isnan(chances).all() and np.isnan(slopes).all()
    with pytest.raises(ModelFailure, match=r"(?s)subject 1 are P\(1\)=.*between 0 and 1"):
        mixture.check(THETA)


def test_random_effects_have_no_place_there(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="ETA"):
        probabilities(tmp_path, "$MIX\nNSPOP = 2\nP(1) = 0.5 + 0*ETA(1)\nP(2) = 1 - P(1)\n")


def test_a_population_has_one_likelihood_a_component(tmp_path: Path) -> None:
    """Each as if all subjects belonged to it: MIXNUM is its number."""
    data = tmp_path / "data.csv"
    np.savetxt(data, ROWS, delimiter=",", fmt="%.10g")
    model = parse_model(text_of(LOGIT), str(tmp_path / "run.ctl"))
    population = Population(model, read_data(model, data))
    assert len(population.likelihoods) == 2
    sigma = np.array([[0.3]])
    for likelihood, rate in zip(population.likelihoods, (0.2, 0.9), strict=True):
        found = likelihood.terms(THETA, sigma, np.zeros((1, 3, 1))).value[0]
        rows = ROWS[ROWS[:, 3] == 0]
        terms = (rows[:, 2] - 9.0 * np.exp(-rate * rows[:, 1])) ** 2 / 0.3 + np.log(0.3)
        np.testing.assert_allclose(found, np.bincount(rows[:, 0].astype(int) - 1, terms, 3), rtol=1e-13)
    chances, _ = population.probabilities(THETA)
    np.testing.assert_allclose(chances, expected(THETA), rtol=1e-14)
    with pytest.raises(ModelFailure, match="mixtures"):
        _ = population.likelihood
