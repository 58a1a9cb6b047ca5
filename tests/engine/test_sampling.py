"""The sampled marginal likelihood against one-dimensional integrals and finite differences."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.stats import norm
from support.quadrature import normal_log_likelihood
from support.streams import read

from elbomix.engine.estimate import Estimate, initial
from elbomix.engine.inner.posterior import gaussian_posterior
from elbomix.engine.methods.importance import propose, tensors
from elbomix.engine.objective.joint import Joint
from elbomix.engine.objective.sampling import (
    MarginalLikelihood,
    draw,
    effective_sample_size,
    importance_likelihood,
    log_weights,
    weighted_moments,
)
from elbomix.engine.parameterisation.tensor import TensorParameterisation

Array = NDArray[np.float64]
N = 12
TIMES = np.array([0.5, 2.0, 5.0, 9.0])

DECAY = """$PROBLEM decay
$INPUT {columns}
$DATA {file} IGNORE=@
$PRED
K=THETA(1)*EXP(ETA(1))
F1=10*EXP(-K*TIME)
Y=F1*(1+EPS(1))
$THETA (0,0.3)
$OMEGA 0.25
$SIGMA 0.04
$ESTIMATION METHOD=VAE
"""
BOLUS = """$PROBLEM bolus
$INPUT {{columns}}
$DATA {{file}} IGNORE=@
$SUBROUTINES ADVAN1 TRANS2
$PK
CL={cl}
V=THETA(2)*EXP(ETA(2))
S1=V
$ERROR
Y=F+F*EPS(1)+EPS(2)
$THETA (0,2) (0,20) (0,0.5,2)
$OMEGA BLOCK(2) 0.1 0.03 0.08
$SIGMA 0.03 0.02
$ESTIMATION METHOD=VAE
"""
LINKED = "THETA(1)*(WT/70)**THETA(3)*EXP(ETA(1))"
NOT_LINKED = "THETA(1)*(1+THETA(3)*(WT-70)/70)*EXP(ETA(1))"


def decay_rows() -> list[dict[str, float]]:
    rng = np.random.default_rng(21)
    k = 0.3 * np.exp(0.5 * rng.normal(size=(N, 1)))
    y = 10 * np.exp(-k * TIMES) * (1 + 0.2 * rng.normal(size=(N, len(TIMES))))
    return [{"ID": i + 1.0, "TIME": t, "DV": v} for i in range(N) for t, v in zip(TIMES, y[i], strict=True)]


def bolus_rows() -> list[dict[str, float]]:
    rng = np.random.default_rng(22)
    out: list[dict[str, float]] = []
    for i in range(N):
        wt = {"ID": i + 1.0, "WT": rng.uniform(50, 100)}
        cl, v = 2 * np.exp(0.3 * rng.normal()), 20 * np.exp(0.3 * rng.normal())
        out.append({**wt, "TIME": 0.0, "AMT": 100.0, "DV": 0.0, "EVID": 1.0, "MDV": 1.0})
        for t in TIMES:
            f = 100 / v * np.exp(-cl / v * t)
            out.append({**wt, "TIME": t, "DV": f * (1 + 0.2 * rng.normal()) + 0.1 * rng.normal()})
    return out


@pytest.fixture(scope="module")
def decay(tmp_path_factory: pytest.TempPathFactory) -> Joint:
    return Joint(*read(tmp_path_factory.mktemp("decay"), DECAY, decay_rows()))


def exact(estimate: Estimate) -> tuple[Array, Array, Array]:
    """-2 log p(y), posterior mean and variance of every subject by adaptive quadrature over eta."""
    y = np.array([r["DV"] for r in decay_rows()]).reshape(N, -1)
    out = np.zeros((3, N))
    sd = math.sqrt(estimate.omega[0, 0])
    for i in range(N):

        def density(eta: float, power: int = 0, own: Array = y[i]) -> float:
            f = 10 * np.exp(-estimate.theta[0] * np.exp(eta) * TIMES)
            if f.min() < 1e-100:  # proportional error far below the observations: density 0
                return 0.0
            value = np.exp(normal_log_likelihood(own, f, estimate.sigma[0, 0] * f**2))
            return float(value * norm.pdf(eta, scale=sd)) * eta**power

        parts = [
            quad(
                density,
                -8 * sd,
                8 * sd,
                (power,),
                points=list(np.linspace(-2, 2, 17) * sd),
                epsrel=1e-10,
                limit=400,
            )[0]
            for power in range(3)
        ]
        mean = parts[1] / parts[0]
        out[:, i] = -2 * math.log(parts[0]), mean, parts[2] / parts[0] - mean**2
    return out[0], out[1], out[2]


OTHER = Estimate(np.array([0.2]), np.array([[0.6]]), np.array([[0.1]]))


@pytest.mark.parametrize("at", ["initial", "other"])
def test_importance_sampling_equals_quadrature(decay: Joint, at: str) -> None:
    estimate = initial(decay.model) if at == "initial" else OTHER
    parameters = tensors(estimate)
    value, mean, variance = exact(estimate)
    start = torch.zeros(N, 1, dtype=torch.float64)
    weights, samples = [], []
    for replicate in range(4):
        _, sample = propose(decay, estimate, start, 4096, seed=3, name=f"r{replicate}", keep=True)
        weights.append(log_weights(decay, sample, parameters))
        samples.append(sample)
    found = importance_likelihood(weights)
    # even points: the error is far below 1 / sqrt(16384) per subject
    np.testing.assert_allclose(found.by_subject, value, atol=2e-3)
    assert found.value == pytest.approx(value.sum(), abs=5e-3)
    assert abs(found.value - value.sum()) < 6 * found.se + 1e-4  # 3 degrees of freedom: t beyond 6 in 1 %
    z_mean, z_variance = weighted_moments(samples[0], weights[0])
    np.testing.assert_allclose(z_mean[:, 0].numpy() - math.log(estimate.theta[0]), mean, atol=2e-3)
    np.testing.assert_allclose(z_variance[:, 0, 0].numpy(), variance, rtol=0.02)


def test_standard_error_is_that_of_repeated_runs(decay: Joint) -> None:
    """Mean of 24 reported squared standard errors against the variance of the 24 values."""
    estimate = initial(decay.model)
    parameters, start = tensors(estimate), torch.zeros(N, 1, dtype=torch.float64)
    mode = gaussian_posterior(decay, *parameters, start)
    values, squares = [], []
    for run in range(24):
        parts = [
            log_weights(decay, draw(decay, parameters, mode, 64, seed=run, name=f"{r}"), parameters)
            for r in range(4)
        ]
        found = importance_likelihood(parts)
        values.append(found.value)
        squares.append(found.se**2)
    ratio = np.var(values, ddof=1) / np.mean(squares)
    # F distribution with 23 and 72 degrees of freedom: outside in fewer than 1 of 1000 correct programs
    assert 0.25 < ratio < 2.7


def test_effective_sample_size_is_kongs() -> None:
    weights = torch.tensor([[0.0, 1.0], [0.0, 2.0], [0.0, -1.0], [-torch.inf, 4.0]], dtype=torch.float64)
    w = np.exp(weights.numpy())
    np.testing.assert_allclose(
        effective_sample_size(weights).numpy(), w.sum(0) ** 2 / (w**2).sum(0), rtol=1e-12
    )
    # weights far beyond the range of floats make no difference
    np.testing.assert_allclose(
        effective_sample_size(weights + 5000).numpy(), effective_sample_size(weights).numpy(), rtol=1e-9
    )


@pytest.mark.parametrize("df", [None, 4, 6])
def test_proposal_densities_integrate_to_one(decay: Joint, df: int | None) -> None:
    """E_q[p(z) / q(z)] = 1 for a normal density p of smaller scale than q, one for each subject."""
    parameters = tensors(initial(decay.model))
    mode = gaussian_posterior(decay, *parameters, torch.zeros(N, 1, dtype=torch.float64))
    sample = draw(decay, parameters, mode, 4096, seed=9, name="mass", df=df, widening=1.2)
    centre = (mode.mean + decay.active_mu(parameters[0])).numpy()
    scale = 0.8 * mode.chol[:, :, 0].numpy()
    log_p = np.asarray(norm.logpdf(sample.z.numpy(), centre, scale))[..., 0]
    mass = np.exp(log_p - sample.log_q.numpy()).mean(0)
    np.testing.assert_allclose(mass, 1.0, atol=0.01)  # even points: error of some 1e-3


@pytest.fixture(scope="module", params=["linked", "not linked"])
def bolus(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Joint:
    cl = LINKED if request.param == "linked" else NOT_LINKED
    joint = Joint(*read(tmp_path_factory.mktemp("bolus"), BOLUS.format(cl=cl), bolus_rows()))
    assert bool(joint.mu.structural_thetas) == (request.param == "not linked")
    return joint


def likelihood(joint: Joint, draws: int) -> tuple[MarginalLikelihood, Array]:
    estimate = initial(joint.model)
    parameterisation = TensorParameterisation(joint.model)
    _, sample = propose(
        joint,
        estimate,
        torch.zeros(N, joint.n_active, dtype=torch.float64),
        draws,
        seed=5,
        name="fixed",
        keep=not joint.mu.structural_thetas,
    )
    return MarginalLikelihood(joint, parameterisation, sample), parameterisation.pack(estimate)


def test_gradient_and_hessian_equal_differences(bolus: Joint) -> None:
    function, at = likelihood(bolus, 200)
    at = at + 0.05 * np.random.default_rng(1).normal(size=len(at))
    _, gradient = function.value_and_gradient(at)
    hessian = function.hessian(at)
    np.testing.assert_allclose(hessian, hessian.T, rtol=1e-12)
    step = 1e-5
    for k, e in enumerate(np.eye(len(at))):
        ahead, behind = function.value_and_gradient(at + step * e), function.value_and_gradient(at - step * e)
        # central differences: truncation some 1e-9, rounding 1e-13 / 1e-5
        assert gradient[k] == pytest.approx((ahead[0] - behind[0]) / (2 * step), rel=1e-5, abs=1e-5)
        np.testing.assert_allclose(hessian[k], (ahead[1] - behind[1]) / (2 * step), rtol=1e-5, atol=1e-4)


def test_hessian_of_equations_needs_differences_along_structural_thetas_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    equations = BOLUS.replace("ADVAN1 TRANS2", "ADVAN13 TOL=10\n$MODEL COMP=(CENTRAL)").replace(
        "$ERROR", "$DES\nDADT(1)=-CL/V*A(1)/(1+A(1)/1E4)\n$ERROR"
    )
    joint = Joint(*read(tmp_path, equations.format(cl=NOT_LINKED), bolus_rows()))
    function, at = likelihood(joint, 100)
    assert function.solves
    gradient, evaluations = function.value_and_gradient, []

    def counted(free: Array) -> tuple[float, Array]:
        evaluations.append(free)
        return gradient(free)

    monkeypatch.setattr(function, "value_and_gradient", counted)
    hessian = function.hessian(at)
    assert len(evaluations) == 2 * len(joint.mu.structural_thetas) < 2 * len(at)
    step = 1e-4
    for k, e in enumerate(np.eye(len(at))):
        ahead, behind = gradient(at + step * e)[1], gradient(at - step * e)[1]
        # ten digits of the solver over the step: some 1e-6 of gradients of order 100
        np.testing.assert_allclose(hessian[k], (ahead - behind) / (2 * step), rtol=1e-5, atol=2e-3)


def test_draws_serve_the_estimates_around_them(bolus: Joint) -> None:
    """The likelihood on fixed draws, away from where they were made, is that of draws made there."""
    function, at = likelihood(bolus, 4096)
    parameterisation = function.parameterisation
    moved = at.copy()
    moved[: len(parameterisation.free_thetas)] += [0.15, -0.05, 0.2]  # a typical posterior SD and more
    estimate = parameterisation.natural(moved)
    parameters = tensors(estimate)
    start = torch.zeros(N, bolus.n_active, dtype=torch.float64)
    _, sample = propose(bolus, estimate, start, 4096, seed=6, name="fresh", keep=True)
    fresh = importance_likelihood([log_weights(bolus, sample, parameters)])
    assert function.value_and_gradient(moved)[0] == pytest.approx(fresh.value, abs=0.02)
    share = effective_sample_size(log_weights(bolus, function.draws, parameters)) / 4096
    assert float(share.min()) > 0.5
    if bolus.mu.structural_thetas:  # where nothing is mu-referenced the draws must follow the thetas
        still = log_weights(bolus, replace(function.draws, pull=None), parameters)
        assert float(share.min()) > 1.5 * float(effective_sample_size(still).min()) / 4096


def test_a_step_too_far_is_no_error(bolus: Joint) -> None:
    """A variance that underflows gives an infinite value, which a line search can step back from."""
    function, at = likelihood(bolus, 100)
    far = at.copy()
    far[len(function.parameterisation.free_thetas)] = -1e3
    assert function.value_and_gradient(far)[0] == math.inf


def test_chunks_do_not_change_the_likelihood(bolus: Joint, monkeypatch: pytest.MonkeyPatch) -> None:
    function, at = likelihood(bolus, 300)
    value, gradient = function.value_and_gradient(at)
    monkeypatch.setattr("elbomix.engine.objective.joint.CHUNK_ELEMENTS", 300 * len(TIMES) * 2)
    monkeypatch.setattr("elbomix.engine.objective.sampling.CHUNK_ELEMENTS", 300)
    again = Joint(bolus.model, bolus.data)
    other, _ = likelihood(again, 300)
    assert len(other.draws.chunks) > len(function.draws.chunks)
    value_2, gradient_2 = other.value_and_gradient(at)
    assert value_2 == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(gradient_2, gradient, rtol=1e-9, atol=1e-9)
