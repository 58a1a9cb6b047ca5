"""Posteriors of the random effects against scipy, subject by subject, and closed form against $DES."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from support.quadrature import normal_log_likelihood
from support.streams import read
from torch import Tensor

from elbomix.engine.estimate import Estimate, initial
from elbomix.engine.inner.posterior import Posterior, gaussian_posterior, joint_density
from elbomix.engine.methods.importance import propose, tensors
from elbomix.engine.objective.elbo import minus_two_elbo
from elbomix.engine.objective.joint import Joint
from elbomix.engine.objective.sampling import importance_likelihood, log_weights

Array = NDArray[np.float64]
N = 10
TIMES = np.array([0.5, 1.0, 2.0, 4.0, 8.0, 16.0])
DOSE = 100.0

CLOSED = """$PROBLEM posteriors
$INPUT {{columns}}
$DATA {{file}} IGNORE=@
$SUBROUTINES ADVAN2 TRANS1
$PK
KA=THETA(1)*EXP(ETA(1))
K=THETA(2)*EXP(ETA(2))
V=THETA(3)*EXP(ETA(3))
S2=V
$ERROR
{error}
$THETA (0,1.5) (0,0.1) (0,20)
$OMEGA 0.3
$OMEGA BLOCK(2) 0.09 0.04 0.06
$SIGMA {sigma}
$ESTIMATION METHOD=VAE
"""
TWIN = CLOSED.replace(
    "$SUBROUTINES ADVAN2 TRANS1",
    "$SUBROUTINES ADVAN13 TOL=7\n$MODEL COMP=(DEPOT,DEFDOSE) COMP=(CENTRAL,DEFOBS)",
).replace("$ERROR", "$DES\nDADT(1)=-KA*A(1)\nDADT(2)=KA*A(1)-K*A(2)\n$ERROR")

ERRORS: dict[str, tuple[str, str, Callable[[Array], Array]]] = {
    "additive": ("Y=F+EPS(1)", "0.05", lambda f: 0.05 + 0 * f),
    "proportional": ("Y=F*(1+EPS(1))", "0.04", lambda f: 0.04 * f**2),
    "combined": ("Y=F+F*EPS(1)+EPS(2)", "0.04 0.05", lambda f: 0.04 * f**2 + 0.05),
}
OMEGA = np.array([[0.3, 0, 0], [0, 0.09, 0.04], [0, 0.04, 0.06]])
THETA = np.array([1.5, 0.1, 20.0])


def prediction(eta: Array) -> Array:
    ka, k, v = (THETA * np.exp(eta)).T[..., None]
    return np.asarray(DOSE / v * ka / (ka - k) * (np.exp(-k * TIMES) - np.exp(-ka * TIMES)))


def observations() -> Array:
    rng = np.random.default_rng(31)
    f = np.stack([prediction(e) for e in rng.multivariate_normal(np.zeros(3), OMEGA, N)])
    y = f * (1 + 0.2 * rng.normal(size=f.shape)) + 0.2 * rng.normal(size=f.shape)
    y[0, 2] *= 2  # an outlier
    return y


def build(folder: Path, error: str, stream: str = CLOSED) -> Joint:
    code, sigma, _ = ERRORS[error]
    y = observations()
    rows: list[dict[str, float]] = []
    for i in range(N):
        rows.append({"ID": i + 1.0, "TIME": 0.0, "AMT": DOSE, "DV": 0.0, "EVID": 1.0, "MDV": 1.0})
        rows += [{"ID": i + 1.0, "TIME": t, "DV": v} for t, v in zip(TIMES, y[i], strict=True)]
    return Joint(*read(folder, stream.format(error=code, sigma=sigma), rows))


def posterior(joint: Joint, start: float = 0.0) -> tuple[Posterior, tuple[Tensor, Tensor, Tensor]]:
    parameters = tensors(initial(joint.model))
    begin = torch.full((N, 3), start, dtype=torch.float64)
    return gaussian_posterior(joint, *parameters, begin), parameters


@pytest.mark.parametrize("error", ERRORS)
def test_modes_are_those_of_scipy(error: str, tmp_path: Path) -> None:
    joint = build(tmp_path, error)
    found, parameters = posterior(joint)
    assert bool(found.converged.all())
    y, variance, precision = observations(), ERRORS[error][2], np.linalg.inv(OMEGA)
    density = joint_density(joint, *parameters, found.mean[None])[0]
    for i in range(N):

        def objective(eta: Array, own: Array = y[i]) -> float:
            f = prediction(eta)
            prior = 0.5 * eta @ precision @ eta + 0.5 * np.log(np.linalg.det(2 * np.pi * OMEGA))
            return float(prior - normal_log_likelihood(own, f, variance(f)))

        starts = [np.zeros(3), found.mean[i].numpy()]
        best = min((minimize(objective, s, method="BFGS") for s in starts), key=lambda r: float(r.fun))
        assert -float(density[i]) == pytest.approx(best.fun, abs=1e-6)
        np.testing.assert_allclose(
            found.mean[i].numpy(), best.x, atol=2e-4
        )  # scipy's differences: 1e-8 of values


@pytest.mark.parametrize("error", ERRORS)
def test_covariance_is_the_inverse_expected_information(error: str, tmp_path: Path) -> None:
    """J' V^-1 J + 1/2 sum dV dV' / V^2 + Omega^-1, by differences of the formulas in numpy."""
    found, _ = posterior(build(tmp_path, error))
    variance = ERRORS[error][2]
    for i in range(N):
        eta, h = found.mean[i].numpy(), 1e-5
        shifts = h * np.eye(3)
        slope = np.stack([(prediction(eta + s) - prediction(eta - s)) / (2 * h) for s in shifts], 1)
        change = np.stack(
            [(variance(prediction(eta + s)) - variance(prediction(eta - s))) / (2 * h) for s in shifts], 1
        )
        v = variance(prediction(eta))[:, None]
        information = slope.T @ (slope / v) + 0.5 * change.T @ (change / v**2) + np.linalg.inv(OMEGA)
        covariance = (found.chol[i] @ found.chol[i].T).numpy()
        # the factor is that of the last step's start, up to a thousandth of an SD before the mode
        np.testing.assert_allclose(covariance, np.linalg.inv(information), rtol=2e-3, atol=1e-8)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("start", [-2.0, -1.0, 1.0, 2.0])
def test_far_starts_reach_the_same_modes(error: str, start: float, tmp_path: Path) -> None:
    """Proportional errors make walls there: log densities of minus 1e10 and less."""
    joint = build(tmp_path, error)
    near, parameters = posterior(joint)
    far, _ = posterior(joint, start)
    value = [joint_density(joint, *parameters, p.mean[None])[0] for p in (near, far)]
    assert float((value[1] - value[0]).min()) > -1e-6
    np.testing.assert_allclose(far.mean.numpy(), near.mean.numpy(), atol=1e-4)


def test_differential_equations_have_the_same_posteriors(tmp_path: Path) -> None:
    closed, _ = posterior(build(tmp_path, "combined"))
    twin, _ = posterior(build(tmp_path, "combined", TWIN))
    assert bool(twin.converged.all())
    # relative tolerance 1e-7; slopes by differences have its 2/3 power
    np.testing.assert_allclose(twin.mean.numpy(), closed.mean.numpy(), atol=1e-4)
    np.testing.assert_allclose(twin.chol.numpy(), closed.chol.numpy(), rtol=1e-3, atol=1e-4)


def highest_bounds(error: str) -> Array:
    """Return the highest evidence bound of each subject by scipy, expectations by Gauss and Hermite."""
    x, w = np.polynomial.hermite_e.hermegauss(10)
    nodes = np.stack([m.ravel() for m in np.meshgrid(x, x, x)], -1)
    share = np.prod(np.stack(np.meshgrid(w, w, w)), 0).ravel() / w.sum() ** 3
    prior, variance, rows = multivariate_normal(np.zeros(3), OMEGA), ERRORS[error][2], np.tril_indices(3)

    def negative(q: Array, y: Array) -> float:
        root = np.zeros((3, 3))
        root[rows] = q[3:]
        np.fill_diagonal(root, np.exp(np.diag(root)))
        eta = q[:3] + nodes @ root.T
        f = prediction(eta)
        v = variance(f)
        joint = -0.5 * ((y - f) ** 2 / v + np.log(2 * np.pi * v)).sum(1) + prior.logpdf(eta)
        entropy = np.log(np.diag(root)).sum() + 1.5 * np.log(2 * np.pi * np.e)
        return -float(share @ joint + entropy)

    begin = np.concatenate([np.zeros(3), [-2.0, 0.0, -2.0, 0.0, 0.0, -2.0]])
    return np.array([-minimize(negative, begin, (y,), method="BFGS").fun for y in observations()])


@pytest.mark.parametrize("error", ["additive", "proportional"])
def test_the_bound_is_that_of_the_best_gaussians(error: str, tmp_path: Path) -> None:
    joint = build(tmp_path, error)
    parameters = tensors(initial(joint.model))
    start = torch.zeros(N, 3, dtype=torch.float64)
    _, sample = propose(joint, initial(joint.model), start, 4096, seed=2, name="bound", keep=True)
    weights = log_weights(joint, sample, parameters)
    bound = minus_two_elbo(sample.z, sample.log_q, weights)
    assert bound == pytest.approx(-2 * highest_bounds(error).sum(), abs=0.02)  # 4096 even points a subject
    assert bound > importance_likelihood([weights]).value


def test_draws_without_a_value_have_no_share_in_the_bound(tmp_path: Path) -> None:
    joint = build(tmp_path, "combined")
    parameters = tensors(initial(joint.model))
    start = torch.zeros(N, 3, dtype=torch.float64)
    _, sample = propose(joint, initial(joint.model), start, 1024, seed=3, name="bound", keep=True)
    weights = log_weights(joint, sample, parameters)
    z, log_q = torch.cat([sample.z, sample.z + 1e3]), torch.cat([sample.log_q, sample.log_q])
    both = torch.cat([weights, torch.full_like(weights, -torch.inf)])
    # as many draws again that say nothing: half the density, as in the likelihood
    expected = minus_two_elbo(sample.z, sample.log_q, weights) + 2 * N * np.log(2)
    assert minus_two_elbo(z, log_q, both) == pytest.approx(expected, abs=1e-6)


def test_a_subject_without_observations_has_the_prior(tmp_path: Path) -> None:
    rows = [{"ID": 1.0, "TIME": 0.0, "AMT": DOSE, "DV": 0.0, "EVID": 1.0, "MDV": 1.0}]
    rows += [{**rows[0], "ID": 2.0}, {"ID": 2.0, "TIME": 1.0, "DV": 3.0}]
    joint = Joint(*read(tmp_path, CLOSED.format(error="Y=F+EPS(1)", sigma="0.05"), rows))
    parameters = tensors(initial(joint.model))
    found = gaussian_posterior(joint, *parameters, torch.zeros(2, 3, dtype=torch.float64))
    np.testing.assert_allclose(found.mean[0].numpy(), 0.0, atol=1e-12)
    np.testing.assert_allclose((found.chol[0] @ found.chol[0].T).numpy(), OMEGA, atol=1e-12)


@pytest.mark.parametrize("scale", [1e-5, 1e5])
def test_modes_do_not_depend_on_units(scale: float, tmp_path: Path) -> None:
    """Additive etas on parameters of any size: the same modes in units of their SDs."""
    stream = """$PROBLEM units
$INPUT {columns}
$DATA {file} IGNORE=@
$PRED
A=THETA(1)+ETA(1)
Y=A*EXP(-(0.2+ETA(2))*TIME)+EPS(1)
$THETA 10
$OMEGA 4 0.0025
$SIGMA 0.25
$ESTIMATION METHOD=VAE
"""
    rng = np.random.default_rng(4)
    a, k = 10 + 2 * rng.normal(size=(N, 1)), 0.2 + 0.05 * rng.normal(size=(N, 1))
    y = a * np.exp(-k * TIMES) + 0.5 * rng.normal(size=(N, len(TIMES)))

    def modes(factor: float) -> Array:
        rows = [
            {"ID": i + 1.0, "TIME": t, "DV": factor * v}
            for i in range(N)
            for t, v in zip(TIMES, y[i], strict=True)
        ]
        joint = Joint(*read(tmp_path, stream, rows))
        at = Estimate(
            np.array([10 * factor]), np.diag([4 * factor**2, 0.0025]), np.array([[0.25 * factor**2]])
        )
        found = gaussian_posterior(joint, *tensors(at), torch.zeros(N, 2, dtype=torch.float64))
        assert bool(found.converged.all())
        return found.mean.numpy() / [factor, 1.0]

    np.testing.assert_allclose(modes(scale), modes(1.0), rtol=1e-4, atol=1e-6)
