"""A linear Gaussian model: ELBO, importance sampling, linearisation and the closed form agree."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from support.models import INPUTS, dataset, op, var

from elbomix.engine.inner.posterior import gaussian_posterior
from elbomix.engine.ir.expression import Column, Eps, Eta, Theta
from elbomix.engine.ir.model import Model
from elbomix.engine.ir.observation import ObservationModel
from elbomix.engine.ir.parameter import CovarianceBlock, ThetaParameter
from elbomix.engine.ir.statement import Assign
from elbomix.engine.ir.task import CovarianceTask
from elbomix.engine.methods.vae import VaeSettings
from elbomix.engine.objective.elbo import minus_two_elbo
from elbomix.engine.objective.joint import Joint
from elbomix.engine.objective.linearised import linearised_likelihood
from elbomix.engine.objective.sampling import draw, importance_likelihood, log_weights
from elbomix.engine.run.autoencoder import estimate

OMEGA = np.array([[0.5, 0.1], [0.1, 0.3]])
SIGMA = 0.4
THETA = np.array([2.0, -0.5])


def straight_line() -> Model:
    """Y = A + B TIME + EPS with A = THETA1 + ETA1, B = THETA2 + ETA2, a full omega."""
    return Model(
        title="line",
        language="nmtran",
        path="line.ctl",
        inputs=INPUTS,
        thetas=(ThetaParameter("THETA1", 1.0), ThetaParameter("THETA2", 0.1)),
        omega=(CovarianceBlock(1, 2, (0.5, 0.1, 0.3)),),
        sigma=(CovarianceBlock(1, 1, (SIGMA,)),),
        individual=(Assign("A", op(Theta(1), "+", Eta(1))), Assign("B", op(Theta(2), "+", Eta(2)))),
        dynamics=None,
        observation=ObservationModel(
            (Assign("Y", op(op(var("A"), "+", op(var("B"), "*", Column("TIME"))), "+", Eps(1))),), "Y", None
        ),
    )


def rows(seed: int = 4, n: int = 40) -> list[dict[str, float]]:
    """Subjects with 2 to 6 samples each, drawn from the model."""
    rng = np.random.default_rng(seed)
    out: list[dict[str, float]] = []
    for i in range(n):
        a, b = THETA + rng.multivariate_normal([0, 0], OMEGA)
        for t in np.sort(rng.uniform(0, 4, rng.integers(2, 7))):
            out.append({"ID": i + 1, "TIME": t, "DV": a + b * t + rng.normal(0, SIGMA**0.5)})
    return out


def exact(theta: NDArray[np.float64], omega: NDArray[np.float64], sigma: float) -> float:
    """-2 log-likelihood: every subject's observations are jointly normal."""
    total = 0.0
    data = rows()
    for i in sorted({r["ID"] for r in data}):
        own = [r for r in data if r["ID"] == i]
        design = np.array([[1.0, r["TIME"]] for r in own])
        covariance = design @ omega @ design.T + sigma * np.eye(len(own))
        total += multivariate_normal.logpdf([r["DV"] for r in own], design @ theta, covariance)
    return -2.0 * total


@pytest.fixture(scope="module")
def joint() -> Joint:
    return Joint(straight_line(), dataset(rows()))


def test_elbo_importance_sampling_and_linearisation_equal_the_closed_form(joint: Joint) -> None:
    parameters = (
        torch.from_numpy(THETA),
        torch.from_numpy(OMEGA),
        torch.tensor([[SIGMA]], dtype=torch.float64),
    )
    expected = exact(THETA, OMEGA, SIGMA)
    mode = gaussian_posterior(joint, *parameters, torch.zeros(joint.n_subjects, 2, dtype=torch.float64))
    assert bool(mode.converged.all())
    # the posterior is normal, so normal draws from it all have the same weight
    sample = draw(joint, parameters, mode, 64, seed=1, name="test", df=None, widening=1.0)
    weights = log_weights(joint, sample, parameters)
    importance = importance_likelihood([weights])
    assert importance.value == pytest.approx(expected, abs=1e-6)
    assert float(importance.ess.min()) == pytest.approx(64, rel=1e-6)
    assert linearised_likelihood(joint, parameters, mode.mean).value == pytest.approx(expected, abs=1e-6)
    bound = minus_two_elbo(sample.z, sample.log_q, weights)
    assert bound == pytest.approx(expected, abs=1e-6)


def test_fit_reaches_the_maximum_of_the_closed_form() -> None:
    def objective(free: NDArray[np.float64]) -> float:
        root = np.array([[np.exp(free[2]), 0.0], [free[3], np.exp(free[4])]])
        return exact(free[:2], root @ root.T, float(np.exp(free[5])))

    best = minimize(objective, [2.0, -0.5, -0.3, 0.1, -0.6, -0.9], method="BFGS")
    fit = estimate(straight_line(), dataset(rows()), VaeSettings(seed=3))
    assert fit.status.code == "converged"
    assert fit.importance is not None
    # within the Monte Carlo error of 1024 even draws
    assert fit.importance.value == pytest.approx(best.fun, abs=0.02)
    np.testing.assert_allclose(fit.estimate.theta, best.x[:2], atol=0.01)
    assert fit.minus_two_elbo is not None
    assert fit.minus_two_elbo == pytest.approx(fit.importance.value, abs=5e-3)


def test_standard_errors_equal_the_curvature_of_the_closed_form() -> None:
    model = straight_line().replace(covariance=CovarianceTask())
    fit = estimate(model, dataset(rows()), VaeSettings(seed=3))
    assert fit.uncertainty is not None
    at = np.concatenate(
        [fit.estimate.theta, fit.estimate.sigma.ravel(), fit.estimate.omega[np.tril_indices(2)]]
    )

    def objective(x: NDArray[np.float64]) -> float:
        return 0.5 * exact(x[:2], np.array([[x[3], x[4]], [x[4], x[5]]]), float(x[2]))

    step = 1e-4
    hessian = np.zeros((6, 6))
    for i in range(6):
        for j in range(6):
            e, f = step * np.eye(6)[i], step * np.eye(6)[j]
            hessian[i, j] = (
                objective(at + e + f) - objective(at + e - f) - objective(at - e + f) + objective(at - e - f)
            ) / (4 * step**2)
    expected = np.sqrt(np.diag(np.linalg.inv(hessian)))
    # sampling error of the Hessian with 1024 draws is some tenths of a per cent
    np.testing.assert_allclose(fit.uncertainty.se, expected, rtol=0.02)
