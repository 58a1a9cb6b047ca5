"""The M-step against scipy on the expected -2 log joint density, written out in numpy."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from support.streams import read

from elbomix.engine.estimate import Estimate, initial
from elbomix.engine.ir.model import Model
from elbomix.engine.methods.mstep import EffectPenalty, Moments, MuRegression, ResidualModel, update_omega
from elbomix.engine.objective.joint import Joint, log_likelihood
from elbomix.engine.parameterisation.tensor import TensorParameterisation

Array = NDArray[np.float64]
N = 25
TIMES = (1.0, 3.0, 9.0)

STREAM = """$PROBLEM m-step
$INPUT {{columns}}
$DATA {{file}} IGNORE=@
$SUBROUTINES ADVAN1 TRANS2
$PK
{pk}
S1=V
$ERROR
{error}
$THETA {thetas}
{omega}
$SIGMA {sigma}
$ESTIMATION METHOD=VAE
"""
PK = (
    "TVCL=THETA(1)*(WT/70)**THETA(3)\nCL=TVCL*EXP(ETA(1))\n"
    "V=THETA(2)*(WT/70)*EXP(ETA(2)+THETA(4)*(AGE-40)/40)"
)


def rows(seed: int = 3) -> list[dict[str, float]]:
    rng = np.random.default_rng(seed)
    out: list[dict[str, float]] = []
    for i in range(N):
        own = {"ID": i + 1.0, "WT": rng.uniform(40, 110), "AGE": rng.uniform(20, 80)}
        out.append({**own, "TIME": 0.0, "AMT": 100.0, "DV": 0.0, "EVID": 1.0, "MDV": 1.0})
        out += [{**own, "TIME": t, "DV": float(np.exp(rng.normal(1, 0.5)))} for t in TIMES]
    return out


def build(
    folder: Path,
    pk: str = PK,
    error: str = "Y=F+EPS(1)",
    thetas: str = "(0,2) (0,20) 0.7 0.1",
    omega: str = "$OMEGA BLOCK(2) 0.2 0.05 0.1",
    sigma: str = "1",
) -> Joint:
    return Joint(
        *read(folder, STREAM.format(pk=pk, error=error, thetas=thetas, omega=omega, sigma=sigma), rows())
    )


def moments(k: int, seed: int = 1) -> Moments:
    """Made-up posterior means and covariances of z."""
    rng = np.random.default_rng(seed)
    mean = np.array([0.6, 3.1, 0.2])[:k] + rng.normal(0, 0.4, (N, k))
    roots = 0.2 * rng.normal(size=(N, k, k))
    return Moments(mean, roots @ roots.transpose(0, 2, 1) + 0.01 * np.eye(k))


def expected_prior(m: Moments, mu: Array, omega: Array) -> float:
    """-2 E_q log p(z), without constant: E (z - mu)' Omega^-1 (z - mu) + log det Omega, over subjects."""
    precision = np.linalg.inv(omega)
    deviation = m.mean - mu
    squares = np.einsum("ik,kl,il->", deviation, precision, deviation)
    return float(squares + np.einsum("kl,ikl->", precision, m.covariance) + N * np.linalg.slogdet(omega)[1])


def covariates() -> tuple[Array, Array]:
    data = rows()[:: len(TIMES) + 1]
    return np.array([r["WT"] for r in data]), np.array([r["AGE"] for r in data])


def mu_by_hand(theta: Array) -> Array:
    wt, age = covariates()
    first = np.log(theta[0]) + theta[2] * np.log(wt / 70)
    return np.stack([first, np.log(theta[1] * wt / 70) + theta[3] * (age - 40) / 40], 1)


OMEGA = np.array([[0.3, 0.12], [0.12, 0.15]])


def test_typical_values_and_covariate_effects_are_the_optimum(tmp_path: Path) -> None:
    """A full omega makes it generalised least squares: the two rows of mu are not separate."""
    joint, m = build(tmp_path), moments(2)
    theta = MuRegression(joint).fixed(m.mean, OMEGA, initial(joint.model).theta)

    def objective(x: Array) -> float:
        return expected_prior(m, mu_by_hand(np.array([np.exp(x[0]), np.exp(x[1]), x[2], x[3]])), OMEGA)

    best = minimize(objective, [0.0, 2.0, 0.0, 0.0], method="BFGS", options={"gtol": 1e-8})
    np.testing.assert_allclose([*np.log(theta[:2]), *theta[2:]], best.x, atol=1e-6)  # differences of scipy


def test_fixed_thetas_stay_and_are_allowed_for(tmp_path: Path) -> None:
    joint, m = build(tmp_path, thetas="(0,2) (0,20) 0.75 FIX 0.1"), moments(2)
    theta = MuRegression(joint).fixed(m.mean, OMEGA, initial(joint.model).theta)
    assert theta[2] == 0.75

    def objective(x: Array) -> float:
        return expected_prior(m, mu_by_hand(np.array([np.exp(x[0]), np.exp(x[1]), 0.75, x[2]])), OMEGA)

    best = minimize(objective, [0.0, 2.0, 0.0], method="BFGS", options={"gtol": 1e-8})
    np.testing.assert_allclose([*np.log(theta[:2]), theta[3]], best.x, atol=1e-6)


def test_effects_held_out_are_zero_and_the_rest_at_its_optimum(tmp_path: Path) -> None:
    joint, m = build(tmp_path), moments(2)
    theta = MuRegression(joint).fixed(m.mean, OMEGA, initial(joint.model).theta, frozenset({2}))
    assert theta[2] == 0.0

    def objective(x: Array) -> float:
        return expected_prior(m, mu_by_hand(np.array([np.exp(x[0]), np.exp(x[1]), 0.0, x[2]])), OMEGA)

    best = minimize(objective, [0.0, 2.0, 0.0], method="BFGS", options={"gtol": 1e-8})
    np.testing.assert_allclose([*np.log(theta[:2]), theta[3]], best.x, atol=1e-6)


@pytest.mark.parametrize("price", [0.05, 1.0, 4.0, 30.0])
def test_penalised_choice_is_the_best_of_all_subsets(price: float, tmp_path: Path) -> None:
    """Each of the four supports fitted by scipy; the price is per effect on the -2 log scale."""
    joint, m = build(tmp_path), moments(2)
    penalty = EffectPenalty((2, 3), np.full(2, price), np.zeros(2, bool), np.zeros(2, bool))
    theta, problem = MuRegression(joint).penalised(m.mean, OMEGA, initial(joint.model).theta, penalty)
    found = {}
    for inside in product((0.0, 1.0), repeat=2):

        def objective(x: Array, keep: tuple[float, ...] = inside) -> float:
            full = np.array([np.exp(x[0]), np.exp(x[1]), keep[0] * x[2], keep[1] * x[3]])
            return expected_prior(m, mu_by_hand(full), OMEGA) + price * sum(keep)

        best = minimize(objective, [0.0, 2.0, 0.1, 0.1], method="BFGS", options={"gtol": 1e-8})
        found[inside] = (best.fun, best.x)
    inside = min(found, key=lambda k: found[k][0])
    assert tuple(problem.solution.support.astype(float)) == inside
    np.testing.assert_allclose(np.log(theta[:2]), found[inside][1][:2], atol=1e-6)
    np.testing.assert_allclose(theta[2:], found[inside][1][2:] * inside, atol=1e-6)


def test_forced_and_forbidden_effects(tmp_path: Path) -> None:
    joint, m = build(tmp_path), moments(2)
    penalty = EffectPenalty((2, 3), np.full(2, 1e3), np.array([True, False]), np.array([False, True]))
    theta, _ = MuRegression(joint).penalised(m.mean, OMEGA, initial(joint.model).theta, penalty)
    assert theta[2] != 0.0
    assert theta[3] == 0.0


def updated_omega(joint: Joint, m: Moments, theta: Array) -> tuple[Array, Array]:
    mu = joint.active_mu(torch.from_numpy(theta)).numpy()
    start = initial(joint.model)
    return update_omega(joint.model, joint, start.omega, m.mean - mu, m.covariance), mu


def best_omega(m: Moments, mu: Array, build_omega: Callable[[Array], Array], start: list[float]) -> Array:
    def objective(x: Array) -> float:
        return expected_prior(m, mu, build_omega(x))

    best = minimize(objective, start, method="BFGS", options={"gtol": 1e-7})
    return build_omega(np.asarray(best.x, dtype=float))


def factor(x: Array) -> Array:
    root = np.array([[np.exp(x[0]), 0.0], [x[1], np.exp(x[2])]])
    return np.asarray(root @ root.T)


def test_a_full_block(tmp_path: Path) -> None:
    joint, m = build(tmp_path), moments(2)
    omega, mu = updated_omega(joint, m, initial(joint.model).theta)
    np.testing.assert_allclose(omega, best_omega(m, mu, factor, [0.0, 0.0, 0.0]), rtol=1e-5)


def test_a_diagonal(tmp_path: Path) -> None:
    joint, m = build(tmp_path, omega="$OMEGA 0.2 0.1"), moments(2)
    omega, mu = updated_omega(joint, m, initial(joint.model).theta)
    expected = best_omega(m, mu, lambda x: np.diag(np.exp(x)), [0.0, 0.0])
    np.testing.assert_allclose(omega, expected, rtol=1e-5)
    assert omega[0, 1] == 0.0


def test_a_fixed_variance_stays(tmp_path: Path) -> None:
    joint, m = build(tmp_path, omega="$OMEGA 0.2 FIX 0.1"), moments(2)
    omega, mu = updated_omega(joint, m, initial(joint.model).theta)
    expected = best_omega(m, mu, lambda x: np.diag([0.2, np.exp(x[0])]), [0.0])
    np.testing.assert_allclose(omega, expected, rtol=1e-5)


def test_repeated_blocks_share_one_value(tmp_path: Path) -> None:
    """SAME: the optimum pools the second moments of both occasions."""
    pk = "CL=THETA(1)*EXP(ETA(1))\nV=THETA(2)*EXP(ETA(2)+ETA(3))"
    omega = "$OMEGA 0.2\n$OMEGA BLOCK(1) 0.1\n$OMEGA BLOCK(1) SAME"
    joint, m = build(tmp_path, pk=pk, omega=omega, thetas="(0,2) (0,20)"), moments(3)
    found, mu = updated_omega(joint, m, initial(joint.model).theta)
    expected = best_omega(m, mu, lambda x: np.diag(np.exp([x[0], x[1], x[1]])), [0.0, 0.0])
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert found[1, 1] == found[2, 2]


def test_zero_variances_stay_and_do_not_disturb(tmp_path: Path) -> None:
    joint = build(tmp_path, omega="$OMEGA 0.2 0 FIX")
    assert joint.active == [0]
    m = moments(1)
    omega, mu = updated_omega(joint, m, initial(joint.model).theta)
    np.testing.assert_allclose(
        omega, np.diag([best_omega(m, mu, lambda x: np.exp(x)[:, None], [0.0])[0, 0], 0.0]), rtol=1e-5
    )
    theta = MuRegression(joint).fixed(m.mean, omega[:1, :1], initial(joint.model).theta)
    assert theta[1] == 20.0  # not referenced: no eta carries it
    assert joint.mu.structural_thetas == [1, 3]


ERRORS = {
    "additive": ("Y=F+EPS(1)", "1", ""),
    "proportional": ("Y=F*(1+EPS(1))", "0.2", ""),
    "an eps for each half": ("IF (TIME.LT.2) THEN\nY=F+EPS(1)\nELSE\nY=F*(1+EPS(2))\nENDIF", "1 0.2", ""),
    "one of two fixed": ("IF (TIME.LT.2) THEN\nY=F+EPS(1)\nELSE\nY=F*(1+EPS(2))\nENDIF", "1 0.2 FIX", ""),
    "combined": ("Y=F+F*EPS(1)+EPS(2)", "0.2 0.5", ""),
    "correlated": ("Y=F+F*EPS(1)+EPS(2)", "BLOCK(2) 0.2 0.02 0.5", ""),
    "thetas": ("W=SQRT(THETA(5)**2+THETA(6)**2*F**2)\nY=F+W*EPS(1)", "1 FIX", " (0,0.5) (0,0.3)"),
    "a baseline in the observation model": ("Y=F+THETA(5)+EPS(1)", "0.5", " 0.2"),
}
CLOSED = {"additive", "proportional", "an eps for each half", "one of two fixed"}


@pytest.mark.parametrize("name", ERRORS)
def test_residual_models(name: str, tmp_path: Path) -> None:
    """The expected -2 log p(y | z) over weighted draws: mean and variance of each record by hand."""
    error, sigma, more = ERRORS[name]
    joint = build(tmp_path, error=error, sigma=sigma, thetas="(0,2) (0,20) 0.7 0.1" + more)
    model: Model = joint.model
    start = initial(model)
    rng = np.random.default_rng(6)
    eta = 0.3 * rng.normal(size=(5, N, 2))
    share = rng.dirichlet(np.ones(5), N).T

    mu = mu_by_hand(start.theta)
    cl, v = np.exp(mu[:, :1] + eta[..., :1]), np.exp(mu[:, 1:] + eta[..., 1:])
    t = np.array(TIMES)
    f = 100 / v * np.exp(-cl / v * t)
    y = np.array([r["DV"] for r in rows() if "AMT" not in r]).reshape(N, len(t))

    def variance_and_shift(e: Estimate) -> tuple[Array, float]:
        s = e.sigma
        if "EPS(2)" in error and "IF" in error:
            return np.where(t < 2, s[0, 0], s[1, 1] * f**2), 0.0
        if "EPS(2)" in error:
            return f**2 * s[0, 0] + 2 * f * s[0, 1] + s[1, 1], 0.0
        if "W=" in error:
            return e.theta[4] ** 2 + e.theta[5] ** 2 * f**2, 0.0
        if "THETA(5)" in error:
            return s[0, 0] + 0 * f, float(e.theta[4])
        return (s[0, 0] * f**2 if "F*" in error else s[0, 0] + 0 * f), 0.0

    def by_hand(e: Estimate) -> float:
        variance, shift = variance_and_shift(e)
        terms = (y - f - shift) ** 2 / variance + np.log(2 * np.pi * variance)
        return float((share * terms.sum(-1)).sum())

    parameterisation = TensorParameterisation(model)
    residual = ResidualModel(joint, parameterisation)
    structure = joint.decoder.structure(torch.from_numpy(start.theta), torch.from_numpy(eta))
    weights = torch.from_numpy(share)

    def expected(parameters: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> torch.Tensor:
        prediction = joint.decoder.observe(structure, parameters[0], parameters[2])
        return -2.0 * (weights * log_likelihood(prediction, joint.batch)).sum()

    given = tuple(torch.from_numpy(a) for a in (start.theta, start.omega, start.sigma))
    assert float(expected((given[0], given[1], given[2]))) == pytest.approx(by_hand(start), rel=1e-12)

    free = parameterisation.pack(start)

    def objective(part: Array) -> float:
        moved = free.copy()
        moved[residual.positions] = part
        return by_hand(parameterisation.natural(moved))

    best = minimize(objective, free[residual.positions], method="BFGS", options={"gtol": 1e-6})
    newton = residual.newton(start, expected, steps=25)
    assert by_hand(newton) == pytest.approx(best.fun, abs=1e-6)
    np.testing.assert_allclose(parameterisation.pack(newton)[residual.positions], best.x, atol=1e-3)
    prediction = joint.decoder.observe(structure, given[0], given[2])
    closed = residual.closed_form(prediction, weights, start.sigma)
    assert (closed is not None) == (name in CLOSED)
    if closed is not None:
        at = Estimate(start.theta, start.omega, closed)
        assert by_hand(at) == pytest.approx(best.fun, abs=1e-7)
        fixed = np.array([b.fixed for b in model.sigma])
        np.testing.assert_array_equal(np.diag(closed)[fixed], np.diag(start.sigma)[fixed])


def test_newton_never_goes_up(tmp_path: Path) -> None:
    """Far starts, where the expected density is not convex in the free parameters."""
    joint = build(tmp_path, error="Y=F+F*EPS(1)+EPS(2)", sigma="25 1e-4")
    start = initial(joint.model)
    structure = joint.decoder.structure(
        torch.from_numpy(start.theta), torch.zeros(1, N, 2, dtype=torch.float64)
    )
    values = []

    def expected(parameters: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return (
            -2.0
            * log_likelihood(
                joint.decoder.observe(structure, parameters[0], parameters[2]), joint.batch
            ).sum()
        )

    residual, current = ResidualModel(joint, TensorParameterisation(joint.model)), start
    for _ in range(12):
        current = residual.newton(current, expected, steps=1)
        parts = [torch.from_numpy(a) for a in (current.theta, current.omega, current.sigma)]
        values.append(float(expected((parts[0], parts[1], parts[2]))))
    assert (np.diff(values) <= 1e-9).all()


def test_moments_move_towards_fresh_ones() -> None:
    a, b = moments(2, 1), moments(2, 2)
    half = a.towards(b, 0.25)
    np.testing.assert_allclose(half.mean, 0.75 * a.mean + 0.25 * b.mean)
    np.testing.assert_allclose(half.covariance, 0.75 * a.covariance + 0.25 * b.covariance)
