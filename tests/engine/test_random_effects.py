"""Random effects of every kind: whole fits reach the maximum that quadrature and scipy find."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support.quadrature import Quadrature, maximum, normal_log_likelihood
from support.random_effects import CASES, Case, records, simulated, stream_of
from support.streams import read

from elbomix.engine.fit import Fit
from elbomix.engine.ir.effects import Effect, add_effects
from elbomix.engine.ir.task import CovarianceTask
from elbomix.engine.methods.vae import VaeSettings
from elbomix.engine.run.autoencoder import estimate

Array = NDArray[np.float64]


def fitted(case: Case, folder: Path, seed: int = 1) -> tuple[Fit, Quadrature, Array]:
    y, covariates, true = simulated(case, 17)
    model, data = read(folder, stream_of(case), records(case, y, covariates))
    fit = estimate(model.replace(covariance=CovarianceTask()), data, VaeSettings(seed=seed))

    def conditional(p: Array, eta: Array) -> Array:
        f = case.mean(p, eta, covariates)
        return normal_log_likelihood(y, f, case.sd(p, eta, f) ** 2)

    return fit, Quadrature(case.n, conditional, case.cov, case.order), true


@pytest.mark.parametrize("name", CASES)
def test_fits_reach_the_maximum_of_quadrature(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    fit, quadrature, true = fitted(case, tmp_path)
    assert fit.status.code == "converged", fit.status
    assert fit.importance is not None
    at = np.array(case.pack(fit.estimate), dtype=float)
    here = quadrature.minus_two_ll(at)
    best, _ = maximum(quadrature, [at, true])
    # four Monte Carlo standard errors, and the error of the rule
    assert fit.importance.value == pytest.approx(here, abs=4 * fit.importance.se + 0.02)
    assert here - best < 0.05
    assert fit.uncertainty is not None


def test_repeated_variances_are_one_parameter(tmp_path: Path) -> None:
    """SAME: equal estimates and errors, and no zero eigenvalue of the correlation matrix for the copy."""
    fit, _, _ = fitted(CASES["between occasions"], tmp_path)
    uncertainty = fit.uncertainty
    assert uncertainty is not None
    assert fit.estimate.omega[1, 1] == fit.estimate.omega[2, 2]
    variances = [fit.base_model.n_eps + len(fit.base_model.thetas) + k for k in (2, 5)]
    assert uncertainty.se[variances[0]] == pytest.approx(uncertainty.se[variances[1]], rel=1e-9)
    assert len(uncertainty.eigenvalues) == 5  # two thetas, sigma, two variances
    assert uncertainty.eigenvalues.sum() == pytest.approx(5.0)
    assert uncertainty.condition_number < 100


def test_effects_added_by_the_engine_are_those_coded_in_the_stream(tmp_path: Path) -> None:
    """TVCL=THETA(2)*(WT/70)**THETA(4) against add_effects with a power effect, both fitted."""
    case = CASES["power of a covariate"]
    coded, _, _ = fitted(case, tmp_path)
    y, covariates, _ = simulated(case, 17)
    bare = stream_of(case).replace("*(WT/70)**THETA(4)", "").replace(" 0.5\n", "\n")
    model, data = read(tmp_path, bare, records(case, y, covariates))
    added = estimate(add_effects(model, [Effect("CL", 1, "WT", "power", 70.0)]), data, VaeSettings(seed=1))
    assert coded.importance is not None and added.importance is not None
    # both are maxima of one function; Monte Carlo error
    assert added.importance.value == pytest.approx(coded.importance.value, abs=0.05)
    np.testing.assert_allclose(added.estimate.theta, coded.estimate.theta, rtol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_every_seed_reaches_the_maximum(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    for seed in range(2, 7):
        fit, quadrature, true = fitted(case, tmp_path, seed)
        at = np.array(case.pack(fit.estimate), dtype=float)
        if seed == 2:
            best, _ = maximum(quadrature, [at, true])
        assert fit.status.code == "converged", (seed, fit.status)
        assert quadrature.minus_two_ll(at) - best < 0.05, seed
