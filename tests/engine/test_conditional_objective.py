"""FO, FOCE, Laplace and quadrature: exact for linear models, gradients against differences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.nonmem_runs import Floats
from support.streams import read

from elbomix.engine.estimate import Estimate, initial
from elbomix.engine.failure import ModelFailure
from elbomix.engine.ir.model import Model
from elbomix.engine.ir.task import Method
from elbomix.engine.objective.evaluation import Objective
from elbomix.engine.objective.first_order import FirstOrderObjective
from elbomix.engine.objective.of_method import objective_of
from elbomix.engine.objective.population import Population
from elbomix.engine.objective.quadrature import QuadratureObjective
from elbomix.engine.objective.slopes import free_elements

HEAD = "$PROBLEM objectives\n$INPUT {columns}\n$DATA {file} IGNORE=@\n"
ALL: tuple[Method, ...] = ("fo", "foi", "foce", "focei", "laplace", "laplacei")
TIMES = (0.5, 1.0, 2.0, 4.0, 8.0)


def oral_rows(n: int = 8, seed: int = 4) -> list[dict[str, float]]:
    """Return doses and observations of a one-compartment oral model, two outputs at each time."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(1, n + 1):
        ka, k, v = np.exp(rng.normal([0.3, -1.8, 1.0], [0.4, 0.3, 0.2]))
        rows.append({"ID": i, "TIME": 0.0, "AMT": 100.0, "MDV": 1.0})
        for t in TIMES:
            f = 100.0 / v * ka / (ka - k) * (np.exp(-k * t) - np.exp(-ka * t))
            for output in (1.0, 2.0):
                noise = float(np.exp(rng.normal(0, 0.15)))
                rows.append({"ID": i, "TIME": t, "DV": f * noise, "OUT": output, "L2": t * 10})
    return rows


ORAL = """$SUBROUTINES ADVAN2 TRANS2
$PK
KA = THETA(1)*EXP(ETA(1))
CL = THETA(2)*EXP(ETA(2))
V = THETA(3)*EXP(ETA(3))
S2 = V
$ERROR
Y = F*(1+EPS(1)) + THETA(4)*EPS(1)
IF (OUT.EQ.2) Y = F*(1+EPS(2)) + THETA(4)*EPS(2)
$THETA (0,1.3) (0,0.45) (0,2.7) (0,0.4)
$OMEGA BLOCK(2)
0.15
0.03 0.09
$OMEGA 0.04
$SIGMA BLOCK(2)
0.03
0.01 0.04
$ESTIMATION METHOD=1 INTERACTION
"""
OCCASIONS = """$PRED
ON = 0
IF (TIME.GT.1.5) ON = 1
SLOPE = THETA(2)*EXP(ETA(2)*(1-ON) + ETA(3)*ON)
Y = THETA(1)*EXP(ETA(1) - SLOPE*TIME) + EPS(1)
$THETA 30 0.2
$OMEGA 0.1
$OMEGA BLOCK(1) 0.05
$OMEGA BLOCK(1) SAME
$SIGMA 2
$ESTIMATION METHOD=1 INTERACTION
"""
COUNTS = """$PRED
RATE1 = THETA(1)*EXP(ETA(1) - THETA(2)*TIME + TIME*ETA(2))
COUNT = INT(DV+0.5)
Y = 2*RATE1 - 2*COUNT*LOG(RATE1)
$THETA 30 0.2
$OMEGA 0.1 0.02
$ESTIMATION METHOD=1 LAPLACE -2LL
"""
READING = """$PRED
SD = SQRT(SIGMA(1,1))
Y = THETA(1)*EXP(ETA(1)-THETA(2)*TIME) + 0.3*SD*TIME*THETA(3) + EPS(1)
$THETA 30 0.2 1
$OMEGA 0.1
$SIGMA 4
$ESTIMATION METHOD=1 INTERACTION
"""
ODE = ORAL.replace("ADVAN2 TRANS2", "ADVAN13 TOL=6").replace(
    "$ERROR",
    """$MODEL COMP=(DEPOT,DEFDOSE) COMP=(CENTRAL,DEFOBS)
$DES
DADT(1) = -KA*A(1)
DADT(2) = KA*A(1) - CL/V*A(2)/(1+0.02*A(2)/V)
$ERROR""",
)


def population(folder: Path, code: str, rows: list[dict[str, float]]) -> Population:
    return Population(*read(folder, HEAD + code, rows))


def away(model: Model, seed: int = 6) -> Estimate:
    """Return an estimate where no derivative vanishes."""
    start, rng = initial(model), np.random.default_rng(seed)
    return Estimate(
        start.theta * (1 + 0.05 * rng.standard_normal(len(start.theta))), start.omega * 1.2, start.sigma * 0.9
    )


def changed(
    estimate: Estimate, part: str, i: int, j: int, change: float, same: list[tuple[int, int]]
) -> Estimate:
    moved = getattr(estimate, part).copy()
    if part == "theta":
        moved[i] += change
    else:
        for a, b in same:
            moved[a, b] += change
            if a != b:
                moved[b, a] += change
    parts = {"theta": estimate.theta, "omega": estimate.omega, "sigma": estimate.sigma, part: moved}
    return Estimate(**parts)


def check_gradient(objective: Objective, model: Model, relative: float) -> None:
    """Compare with differences of fourth order of each subject's contribution, modes found anew."""
    estimate = away(model)
    here = objective.value(estimate)
    assert here.converged.all()
    gradient = objective.gradient(here)

    def slope(part: str, i: int, j: int, same: list[tuple[int, int]], step: float) -> Floats:
        def at(size: float) -> Floats:
            return objective.value(changed(estimate, part, i, j, size, same), here.modes).by_subject

        return np.asarray((8 * (at(step) - at(-step)) - (at(2 * step) - at(-2 * step))) / (12 * step))

    def compare(name: str, found: Floats, expected: Floats) -> None:
        assert np.abs(found - expected).max() <= relative * (np.abs(expected).max() + 1e-3), name

    for k, theta in enumerate(estimate.theta):
        expected = slope("theta", k, k, [], 1e-3 * abs(theta))
        compare(f"theta {k + 1}", gradient.theta[:, k], expected)
    for part, blocks in (("omega", model.omega), ("sigma", model.sigma)):
        full, own = getattr(estimate, part), getattr(gradient, part)
        firsts = {i: b.first for i, b in enumerate(blocks)}
        for i, j in free_elements(tuple(b for b in blocks if b.same_as is None)):
            source = next(n for n, b in enumerate(blocks) if b.first - 1 <= i < b.first - 1 + b.size)
            shifts = [firsts[n] - firsts[source] for n, b in enumerate(blocks) if b.same_as == source]
            same = [(i, j), *((i + s, j + s) for s in shifts)]
            expected = slope(part, i, j, same, 1e-3 * float(np.sqrt(full[i, i] * full[j, j])))
            found = np.sum([own[:, a, b] * (1.0 if a == b else 2.0) for a, b in same], axis=0)
            compare(f"{part} {i + 1},{j + 1}", found, expected)


def test_a_linear_model_has_one_objective(tmp_path: Path) -> None:
    """All methods are the normal likelihood, of which -2 log is written down here."""
    rng = np.random.default_rng(1)
    rows = [{"ID": i, "TIME": t, "DV": float(rng.normal(5, 2))} for i in range(1, 6) for t in range(4)]
    code = (
        "$PRED\nY = THETA(1) + ETA(1) + TIME*ETA(2) + EPS(1)\n$THETA 4\n"
        "$OMEGA BLOCK(2)\n1\n0.3 0.5\n$SIGMA 0.25\n$ESTIMATION METHOD=0\n"
    )
    own = population(tmp_path, code, rows)
    estimate = initial(own.model)
    design = np.stack([np.ones(4), np.arange(4.0)], 1)
    covariance = design @ estimate.omega @ design.T + 0.25 * np.eye(4)
    residual = np.array([row["DV"] for row in rows]).reshape(5, 4) - 4.0
    exact = np.linalg.slogdet(covariance)[1] + np.einsum(
        "ij,jk,ik->i", residual, np.linalg.inv(covariance), residual
    )
    for method in ALL:
        np.testing.assert_allclose(objective_of(own, method).value(estimate).by_subject, exact, rtol=1e-9)
    one_node = QuadratureObjective(own, 1).value(estimate)
    np.testing.assert_allclose(one_node.by_subject, exact, rtol=1e-12)
    by_fisher = QuadratureObjective(own, 5).gradient(one_node)
    by_implicit = objective_of(own, "focei").gradient(objective_of(own, "focei").value(estimate))
    for part in ("theta", "omega", "sigma"):
        np.testing.assert_allclose(getattr(by_fisher, part), getattr(by_implicit, part), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("method", ALL)
def test_gradients_of_a_closed_form(tmp_path: Path, method: Method) -> None:
    """Two correlated outputs that share their eps by L2, blocks of omega and sigma."""
    own = population(tmp_path, ORAL, oral_rows())
    check_gradient(objective_of(own, method), own.model, 2e-6)


@pytest.mark.parametrize("method", ["focei", "laplacei", "foi"])
def test_gradients_with_occasions(tmp_path: Path, method: Method) -> None:
    own = population(tmp_path, OCCASIONS, [r for r in oral_rows() if "DV" in r and r["OUT"] == 1.0])
    check_gradient(objective_of(own, method), own.model, 2e-6)


@pytest.mark.parametrize("method", ["foce", "laplace"])
def test_gradients_of_counts(tmp_path: Path, method: Method) -> None:
    own = population(tmp_path, COUNTS, [r for r in oral_rows() if "DV" in r and r["OUT"] == 1.0])
    check_gradient(objective_of(own, method), own.model, 2e-6)


@pytest.mark.parametrize("method", ["fo", "focei", "agq"])
def test_gradients_where_the_statements_read_sigma(tmp_path: Path, method: Method) -> None:
    own = population(tmp_path, READING, [r for r in oral_rows() if "DV" in r and r["OUT"] == 1.0])
    check_gradient(objective_of(own, method), own.model, 2e-6)


@pytest.mark.parametrize("method", ["focei", "laplacei"])
def test_gradients_of_differential_equations(tmp_path: Path, method: Method) -> None:
    """To the noise of an integrator at TOL=6 that the differences here see."""
    own = population(tmp_path, ODE, oral_rows(4))
    check_gradient(objective_of(own, method), own.model, 1e-4)


def test_gradients_by_quadrature(tmp_path: Path) -> None:
    """By Fisher's identity on 15 nodes for each of 2 etas: the quadrature's error is below 1e-5 here."""
    own = population(tmp_path, COUNTS, [r for r in oral_rows() if "DV" in r and r["OUT"] == 1.0])
    check_gradient(QuadratureObjective(own, 15), own.model, 1e-5)


def test_quadrature_without_random_effects_is_the_likelihood_itself(tmp_path: Path) -> None:
    stream = "$PRED\nY = THETA(1) + ETA(1) + EPS(1)\n$THETA 2\n$OMEGA 0 FIX\n$SIGMA 0.25\n"
    rows = [{"ID": i, "TIME": t, "DV": i + 0.1 * t} for i in (1.0, 2.0) for t in TIMES]
    own = population(tmp_path, stream, rows)
    found = QuadratureObjective(own, 3).value(initial(own.model)).by_subject
    dv = np.array([[r["DV"] for r in rows if r["ID"] == i] for i in (1.0, 2.0)])
    np.testing.assert_allclose(found, ((dv - 2) ** 2 / 0.25 + np.log(0.25)).sum(1), rtol=1e-12)


def test_first_order_with_interaction_is_one_newton_step_from_zero(tmp_path: Path) -> None:
    """D(0) + log|Omega| + log|H| - g' H^-1 g with the slopes of the variance in g and H, by hand."""
    own = population(tmp_path, ORAL, oral_rows())
    estimate = initial(own.model)
    terms = own.likelihood.terms(estimate.theta, estimate.sigma, np.zeros((1, 8, 3)), "eta")
    precision = terms.information[0] + np.linalg.inv(estimate.omega)
    slope = 0.5 * terms.gradient[0]
    step = np.linalg.solve(precision, slope[..., None])[..., 0]
    by_hand = (
        terms.value[0]
        + np.linalg.slogdet(estimate.omega)[1]
        + np.linalg.slogdet(precision)[1]
        - (slope * step).sum(1)
    )
    objective = FirstOrderObjective(own, "foi")
    found = objective.value(estimate)
    np.testing.assert_allclose(found.by_subject, by_hand, rtol=1e-12)
    posthoc = objective.posthoc(found)
    np.testing.assert_allclose(posthoc.modes, objective_of(own, "focei").value(estimate).modes, atol=1e-8)


def test_an_impossible_omega_has_no_finite_objective(tmp_path: Path) -> None:
    own = population(tmp_path, ORAL, oral_rows())
    start = initial(own.model)
    omega = start.omega.copy()
    omega[0, 1] = omega[1, 0] = 1.0
    bad = Estimate(start.theta, omega, start.sigma)
    for method in ("fo", "focei", "laplace", "agq"):
        assert objective_of(own, method).value(bad).ofv == np.inf


def test_what_has_no_objective_says_so(tmp_path: Path) -> None:
    own = population(tmp_path, ORAL, oral_rows(2))
    with pytest.raises(ModelFailure, match="saem has no deterministic objective"):
        objective_of(own, "saem")
    many = ORAL.replace("$OMEGA 0.04", "$OMEGA 0.04 0.1 0.1").replace("S2 = V", "S2 = V*EXP(ETA(4)+ETA(5))")
    own = population(tmp_path, many, oral_rows(2))
    with pytest.raises(ModelFailure, match="quadrature over 5 random effects"):
        objective_of(own, "agq")
