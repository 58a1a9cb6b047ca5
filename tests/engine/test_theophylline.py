"""Theophylline against exact quadrature of all 64 covariate models; the other data sets of the paper."""

from __future__ import annotations

import itertools
import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from elbomix.engine.fit import Fit
from elbomix.engine.ir.dataset import DataSet
from elbomix.engine.ir.effects import add_effects
from elbomix.engine.ir.model import Model
from elbomix.engine.methods.vae import VaeSettings
from elbomix.engine.run.autoencoder import estimate
from elbomix.engine.selection.candidates import CovariateSpec, make_candidates
from elbomix.parsers.read import parse_model, read_data, read_model

WT_SEX = (CovariateSpec("WT", "power", "mean"), CovariateSpec("SEX", None, None))
CHOSEN = {"KA~WT", "V~WT"}
ORACLE = "corpus/theo_oracle/theophylline_64_subsets.csv"


@pytest.fixture(scope="module")
def theophylline(root: Path) -> tuple[Model, DataSet]:
    model = read_model(root / "examples" / "theophylline" / "theophylline.ctl")
    return model, read_data(model)


def select(model: Model, data: DataSet, settings: VaeSettings) -> Fit:
    return estimate(model, data, settings, candidates=make_candidates(model, data, WT_SEX, None))


def chosen(fit: Fit) -> set[str]:
    assert fit.selection is not None
    return {str(r.effect) for r in fit.selection.selected}


def importance(fit: Fit) -> float:
    assert fit.importance is not None
    return fit.importance.value


def test_one_run_selects_and_estimates_as_quadrature_does(theophylline: tuple[Model, DataSet]) -> None:
    fit = select(*theophylline, VaeSettings(seed=1))
    assert fit.status.code == "converged"
    assert chosen(fit) == CHOSEN
    assert fit.selection is not None and fit.selection.certificate is not None
    assert fit.selection.certificate.agrees
    assert 331.9 <= importance(fit) <= 332.1
    assert fit.linearised is not None
    assert fit.linearised.value == pytest.approx(330.544, abs=0.2)
    assert fit.bicc == pytest.approx(363.493, abs=0.2)
    np.testing.assert_allclose(fit.estimate.theta, [1.63786, 0.08658, 31.95228, 2.6172, 0.5822], rtol=0.01)
    sds = np.sqrt(np.diag(fit.estimate.omega))
    np.testing.assert_allclose(sds, [0.54408, 0.14901, 0.13049], rtol=0.03)
    assert np.sqrt(fit.estimate.sigma[0, 0]) == pytest.approx(0.7244, rel=0.01)
    # the bound is a bound, and no bound of a nearly normal posterior is far off
    assert fit.minus_two_elbo is not None
    assert 331.918 < fit.minus_two_elbo < 333.0


def test_same_seed_same_digits_whatever_the_threads(theophylline: tuple[Model, DataSet]) -> None:
    short = VaeSettings(seed=5, max_iterations=30, burn_in=10, annealing=5)
    one = estimate(*theophylline, short)
    two = estimate(*theophylline, VaeSettings(seed=5, max_iterations=30, burn_in=10, annealing=5, threads=2))
    assert importance(one) == importance(two)
    np.testing.assert_array_equal(one.estimate.flatten(), two.estimate.flatten())


@pytest.mark.parametrize("factor", [10.0, 0.1])
def test_far_initial_estimates_still_converge(theophylline: tuple[Model, DataSet], factor: float) -> None:
    model, data = theophylline
    far = tuple(
        t.__class__(t.name, factor * t.initial, t.lower, t.upper, label=t.label) for t in model.thetas
    )
    fit = estimate(model.replace(thetas=far), data, VaeSettings(seed=1))
    assert fit.status.code == "converged"
    assert importance(fit) == pytest.approx(338.411, abs=0.1)  # quadrature, no covariates


def test_forced_and_forbidden_effects(theophylline: tuple[Model, DataSet]) -> None:
    model, data = theophylline
    candidates = make_candidates(model, data, WT_SEX, None)
    place = {str(e): i for i, e in enumerate(candidates)}
    fit = estimate(
        model,
        data,
        VaeSettings(seed=2),
        candidates=candidates,
        forced=frozenset({place["K~SEX=1"]}),
        forbidden=frozenset({place["V~WT"]}),
    )
    assert "K~SEX=1" in chosen(fit)
    assert "V~WT" not in chosen(fit)


@pytest.mark.slow
def test_seeds_and_hidden_sizes(theophylline: tuple[Model, DataSet]) -> None:
    sizes = (10, 25, 50)
    fits = [select(*theophylline, VaeSettings(seed=s, hidden=h)) for s in range(1, 21) for h in sizes]
    good = [f for f in fits if chosen(f) == CHOSEN]
    values = np.array([importance(f) for f in good])
    thetas = np.array([f.estimate.theta for f in good])
    print("right sets", len(good), "of", len(fits), "spread", np.ptp(values), "min", values.min())
    print("relative SD of the thetas", thetas.std(0, ddof=1) / np.abs(thetas.mean(0)))
    assert len(good) >= 57
    assert np.ptp(values) <= 0.3
    assert (thetas.std(0, ddof=1) <= 0.01 * np.abs(thetas.mean(0))).all()


@pytest.mark.slow
def test_all_64_covariate_models(theophylline: tuple[Model, DataSet], shared: Path) -> None:
    oracle = pd.read_csv(shared / ORACLE).fillna({"covariates": ""}).set_index("covariates")
    model, data = theophylline
    candidates = make_candidates(model, data, WT_SEX, None)
    names = {
        "KA~WT": "ka_w",
        "KA~SEX=1": "ka_s",
        "K~WT": "ke_w",
        "K~SEX=1": "ke_s",
        "V~WT": "V_w",
        "V~SEX=1": "V_s",
    }
    known = {frozenset(str(k).split("+")) - {"", "none"}: v for k, v in oracle["m2ll_agq"].items()}
    worst, above = 0.0, 0.0
    for size in range(7):
        for effects in itertools.combinations(candidates, size):
            fit = estimate(add_effects(model, effects), data, VaeSettings(seed=1))
            assert fit.minus_two_elbo is not None
            exact = known[frozenset(names[str(e)] for e in effects)]
            worst = max(worst, abs(importance(fit) - exact))
            above = min(above, fit.minus_two_elbo - importance(fit))
            assert fit.status.code == "converged", effects
            assert importance(fit) == pytest.approx(exact, abs=0.15), effects
            # the bound holds at the estimate; 0.02: Monte Carlo error of both
            assert fit.minus_two_elbo >= importance(fit) - 0.02, effects
    print("largest |-2LL(IS) - quadrature|", worst, "smallest -2 ELBO + 2LL", above)


def table(path: Path, frame: pd.DataFrame, stream: str) -> tuple[Model, DataSet]:
    """Write a data set and return the model of ``stream`` with it."""
    frame.to_csv(path / "data.csv", index=False)
    model = parse_model(stream, str(path / "run.ctl"))
    return model, read_data(model)


@pytest.mark.slow
def test_multiple_dosing(root: Path, shared: Path, tmp_path: Path) -> None:
    raw = pd.read_csv(shared / "corpus/vae_nlme/theophylline_multiple_data.csv")
    raw.columns = pd.Index(["ID", "DOSE", "TIME", "DV", "WT", "SEX"])
    samples = raw.assign(AMT=0.0, EVID=0, MDV=0)
    doses = raw[raw.DOSE > 0].assign(AMT=raw.DOSE, EVID=1, MDV=1, DV=0.0)
    both = pd.concat([samples, doses]).sort_values(["ID", "TIME", "EVID"], kind="stable")
    stream = (
        (root / "examples/theophylline/theophylline.ctl").read_text().replace("theophylline.csv", "data.csv")
    )
    columns = ["ID", "TIME", "AMT", "DV", "EVID", "MDV", "WT", "SEX"]
    model, data = table(tmp_path, both[columns], stream)
    for seed in range(1, 6):
        fit = select(model, data, VaeSettings(seed=seed))
        print("multiple dosing, seed", seed, importance(fit), chosen(fit))
        assert chosen(fit) == CHOSEN
        assert importance(fit) == pytest.approx(2516.54, abs=0.5)


@pytest.mark.slow
def test_ode_twin(root: Path, theophylline: tuple[Model, DataSet]) -> None:
    model = read_model(root / "examples/theophylline/theophylline_ode.ctl")
    closed = estimate(*theophylline, VaeSettings(seed=1))
    twin = estimate(model, read_data(model), VaeSettings(seed=1))
    print("closed form", importance(closed), "ODE", importance(twin), "seconds", twin.seconds["total"])
    assert importance(twin) == pytest.approx(importance(closed), abs=0.05)


NEONATES = """$PROBLEM neonatal weight
$INPUT ID TIME DV SEX DELM GA MAGE PARA2
$DATA data.csv IGNORE=@
$SUBROUTINES ADVAN13 TOL=6
$MODEL COMP=(WEIGHT)
$PK
W0   = THETA(1)*EXP(ETA(1))
KIN  = THETA(2)*EXP(ETA(2))
TLAG = THETA(3)*EXP(ETA(3))
KOUT = THETA(4)*EXP(ETA(4))
T50  = THETA(5)*EXP(ETA(5))
A_0(1) = W0
$DES
DADT(1) = KIN/(1+EXP(-2*(T-TLAG))) - KOUT*(1-T/(T50+T))*A(1)
$ERROR
Y = A(1) + EPS(1)
$THETA (0,3000) (0,30) (0,2) (0,0.05) (0,1)
$OMEGA 0.1 0.1 0.1 0.1 0.1
$SIGMA 2500
$ESTIMATION METHOD=VAE
"""


@pytest.mark.slow
def test_neonates_run_within_a_gigabyte(shared: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(shared / "corpus/vae_nlme/neonates_data.csv")
    frame.columns = frame.columns.str.upper()
    frame.to_csv(tmp_path / "data.csv", index=False)
    (tmp_path / "run.ctl").write_text(NEONATES)
    # a process of its own: the peak of this one is that of all tests before
    program = [sys.executable, "-m", "elbomix.compat", "fit", str(tmp_path / "run.ctl"), "--quiet"]
    asked = ["--covariates", "SEX,DELM,GA,MAGE,PARA2", "--output", str(tmp_path / "out")]
    done = subprocess.run([*program, *asked], check=False)
    assert done.returncode in (0, 1)
    fit = json.loads((tmp_path / "out" / "fit.json").read_text())
    found = fit["minus_two_ll"]["importance_sampling"]["value"]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print("neonates", fit["status"], found, fit["bicc"], fit["seconds"], "MiB", peak)
    assert len(fit["selection"]["candidates"]) == 25
    assert found < 12600
    assert peak < 1000
