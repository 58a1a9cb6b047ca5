"""Sampling importance resampling where the posterior of the parameters is exactly normal."""

from __future__ import annotations

import numpy as np
import pytest
from support import linear_mixed as lmm
from support.streams import read

from elbomix.engine.estimate import initial
from elbomix.engine.methods.conditional import ConditionalSettings, estimate_conditional
from elbomix.engine.objective.evaluation import Evaluation, Objective
from elbomix.engine.objective.of_method import objective_of
from elbomix.engine.objective.population import Population
from elbomix.engine.uncertainty.covariance_step import CovarianceSettings, covariance_step
from elbomix.engine.uncertainty.sampling_importance_resampling import (
    Resampling,
    ResamplingSettings,
    resample_parameters,
)
from elbomix.engine.uncertainty.standard_errors import Uncertainty

DRAWS = 1500


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Population, Objective, Evaluation, Uncertainty]:
    """Variances are fixed, so -2 log L is a parabola in theta."""
    stream = lmm.stream(omega="BLOCK(2) FIX 0.5 0.1 0.3", sigma="0.36 FIX")
    model, data = read(tmp_path_factory.mktemp("sir"), stream, lmm.rows())
    population = Population(model, data)
    step = estimate_conditional(population, "fo", initial(model), ConditionalSettings(decrease=1e-12))
    uncertainty = covariance_step(population, step, CovarianceSettings("r")).uncertainty
    assert uncertainty is not None
    objective = objective_of(population, "fo")
    return population, objective, objective.value(step.estimate), uncertainty


def resampled(
    fitted: tuple[Population, Objective, Evaluation, Uncertainty], settings: ResamplingSettings
) -> Resampling:
    population, objective, evaluation, uncertainty = fitted
    return resample_parameters(population.model, objective, evaluation, uncertainty, settings)


def test_the_right_proposal_has_equal_weights(
    fitted: tuple[Population, Objective, Evaluation, Uncertainty],
) -> None:
    found = resampled(fitted, ResamplingSettings((200,), (100,)))
    # differences of 0.02 standard errors make R good to about 1e-6, and weights to the square of a deviate
    np.testing.assert_allclose(found.weights, 1.0, rtol=1e-3)
    assert found.effective_draws == pytest.approx(200, rel=1e-5)
    assert len(set(found.chosen.tolist())) == 100


@pytest.mark.parametrize(("inflation", "df"), [(2.0, 0), (1.0, 4)])
def test_another_proposal_leads_to_the_same_uncertainty(
    fitted: tuple[Population, Objective, Evaluation, Uncertainty], inflation: float, df: int
) -> None:
    settings = ResamplingSettings((DRAWS,), (DRAWS // 3,), inflation=inflation, df=df, largest_weight=1e6)
    found = resampled(fitted, settings)
    exact = fitted[3].se[:3]
    # a standard error from n resamples has relative error sqrt(1/2n) = 0.032; 5 of those: false alarm 1e-6
    np.testing.assert_allclose(found.uncertainty.se[:3], exact, rtol=0.16)
    centre = fitted[2].estimate.theta
    np.testing.assert_allclose(
        found.percentiles[3, :3], centre, atol=float(5 * 1.25 * exact.max() / np.sqrt(500))
    )
    assert np.isnan(found.uncertainty.se[3:]).all()


def test_iterations_and_seeds(fitted: tuple[Population, Objective, Evaluation, Uncertainty]) -> None:
    settings = ResamplingSettings((60, 80), (30, 40), inflation=4.0, recentred=True)
    first, again = resampled(fitted, settings), resampled(fitted, settings)
    np.testing.assert_array_equal(first.samples, again.samples)
    assert len(first.samples) == 80
    other = resampled(fitted, ResamplingSettings((60, 80), (30, 40), inflation=4.0, recentred=True, seed=5))
    assert (other.samples[:, 0] != first.samples[:, 0]).all()
