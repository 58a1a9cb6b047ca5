"""What must not change a likelihood: labels, order, units, empty records, ways to write doses."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.streams import read

from elbomix.engine.estimate import Estimate, initial
from elbomix.engine.fit import Fit
from elbomix.engine.methods.vae import VaeSettings
from elbomix.engine.run.autoencoder import estimate

Rows = list[dict[str, float]]
N = 12
SETTINGS = VaeSettings(seed=4, likelihood_draws=256, likelihood_replicates=4, finish_draws=256)

ORAL = """$PROBLEM invariance
$INPUT {columns}
$DATA {file} IGNORE=@
$SUBROUTINES ADVAN2 TRANS2
$PK
KA=THETA(1)
CL=THETA(2)*EXP(ETA(1))
V=THETA(3)*EXP(ETA(2))
S2=V
$ERROR
Y=F+F*EPS(1)+EPS(2)
$THETA (0,1.2) (0,3) (0,25)
$OMEGA BLOCK(2) 0.09 0.02 0.05
$SIGMA 0.02 0.01
$ESTIMATION METHOD=VAE
"""
ODE = ORAL.replace(
    "$SUBROUTINES ADVAN2 TRANS2",
    "$SUBROUTINES ADVAN13 TOL=9\n$MODEL COMP=(DEPOT,DEFDOSE) COMP=(CENTRAL,DEFOBS)",
).replace("$ERROR", "$DES\nDADT(1)=-KA*A(1)\nDADT(2)=KA*A(1)-CL/V*A(2)\n$ERROR")


def rows() -> Rows:
    """Doses every 12 hours by ADDL, samples on the first and the third interval."""
    rng = np.random.default_rng(41)
    out: Rows = []
    for i in range(N):
        out.append(
            {
                "ID": i + 1.0,
                "TIME": 0.0,
                "AMT": 100.0,
                "DV": 0.0,
                "EVID": 1.0,
                "MDV": 1.0,
                "ADDL": 2.0,
                "II": 12.0,
            }
        )
        cl, v = 3 * np.exp(0.3 * rng.normal()), 25 * np.exp(0.2 * rng.normal())
        for t in (0.5, 2.0, 6.0, 11.0, 25.0, 30.0, 40.0):
            k = cl / v
            since = [t - d for d in (0.0, 12.0, 24.0) if t >= d]
            f = sum(100 / v * 1.2 / (1.2 - k) * (np.exp(-k * s) - np.exp(-1.2 * s)) for s in since)
            out.append({"ID": i + 1.0, "TIME": t, "DV": float(f * (1 + 0.15 * rng.normal()))})
    return out


def evaluated(folder: Path, data: Rows, stream: str = ORAL, at: Estimate | None = None) -> Fit:
    model, records = read(folder, stream, data)
    return estimate(model, records, SETTINGS, start=at, evaluate=True)


def values(fit: Fit) -> tuple[float, float]:
    assert fit.importance is not None and fit.linearised is not None
    return fit.importance.value, fit.linearised.value


def same_digits(one: Fit, two: Fit, shift: float = 0.0) -> None:
    """Importance sampling and linearisation agree: the draws are the same, so only rounding differs."""
    for a, b in zip(values(one), values(two), strict=True):
        assert b - a == pytest.approx(shift, abs=1e-6)
    np.testing.assert_allclose(two.individuals.ebe, one.individuals.ebe, atol=1e-6)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Fit:
    return evaluated(tmp_path_factory.mktemp("base"), rows())


def by_subject(data: Rows) -> list[Rows]:
    return [[r for r in data if r["ID"] == i] for i in dict.fromkeys(r["ID"] for r in data)]


def test_labels_of_subjects(base: Fit, tmp_path: Path) -> None:
    relabelled = [{**r, "ID": 5000.0 - 7 * r["ID"]} for r in rows()]
    same_digits(base, evaluated(tmp_path, relabelled))


def test_order_of_subjects(base: Fit, tmp_path: Path) -> None:
    order = np.random.default_rng(2).permutation(N)
    subjects = by_subject(rows())
    permuted = evaluated(tmp_path, [r for i in order for r in subjects[i]])
    assert values(permuted)[1] == pytest.approx(values(base)[1], abs=1e-6)
    np.testing.assert_allclose(permuted.individuals.ebe, base.individuals.ebe[order], atol=1e-6)
    assert permuted.importance is not None and base.importance is not None
    # a subject's draws go with its place, so the sums differ by Monte Carlo error
    error = math.hypot(permuted.importance.se, base.importance.se)
    assert permuted.importance.value == pytest.approx(base.importance.value, abs=5 * error + 1e-3)


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1e4])
def test_units_of_amounts(base: Fit, scale: float, tmp_path: Path) -> None:
    """Dose and observations in other units: the density of each observation is divided by the scale."""
    changed = [{**r, "AMT": scale * r.get("AMT", 0.0), "DV": scale * r["DV"]} for r in rows()]
    start = initial(base.model)
    sigma = start.sigma * np.diag([1.0, scale**2])
    fit = evaluated(tmp_path, changed, at=Estimate(start.theta, start.omega, sigma))
    same_digits(base, fit, 2 * base.n_observations * math.log(scale))
    np.testing.assert_allclose(fit.table["CWRES"], base.table["CWRES"], atol=1e-6)
    np.testing.assert_allclose(fit.table["PRED"], scale * base.table["PRED"], rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-3, 60.0])
def test_units_of_volume(base: Fit, scale: float, tmp_path: Path) -> None:
    """Observations alone in other units: clearance and volume take the inverse scale."""
    changed = [{**r, "DV": scale * r["DV"]} for r in rows()]
    start = initial(base.model)
    at = Estimate(start.theta / [1.0, scale, scale], start.omega, start.sigma * np.diag([1.0, scale**2]))
    same_digits(base, evaluated(tmp_path, changed, at=at), 2 * base.n_observations * math.log(scale))


@pytest.mark.parametrize("scale", [60.0, 1 / 24])
def test_units_of_time(base: Fit, scale: float, tmp_path: Path) -> None:
    changed = [{**r, "TIME": scale * r["TIME"], "II": scale * r.get("II", 0.0)} for r in rows()]
    start = initial(base.model)
    same_digits(
        base,
        evaluated(
            tmp_path, changed, at=Estimate(start.theta / [scale, scale, 1.0], start.omega, start.sigma)
        ),
    )


def test_records_without_observations(base: Fit, tmp_path: Path) -> None:
    """EVID 2 between, before and after the others, and observations marked missing by MDV."""
    more: Rows = []
    for own in by_subject(rows()):
        label = own[0]["ID"]
        other = {"ID": label, "DV": 0.0, "EVID": 2.0, "MDV": 1.0}
        missing = {"ID": label, "DV": 77.0, "EVID": 0.0, "MDV": 1.0}
        more += sorted(
            [
                *own,
                {**other, "TIME": 3.3},
                {**missing, "TIME": 12.0},
                {**other, "TIME": 24.0},
                {**other, "TIME": 99.0},
            ],
            key=lambda r: r["TIME"],
        )
    same_digits(base, evaluated(tmp_path, more))


def test_additional_doses_written_out(base: Fit, tmp_path: Path) -> None:
    explicit: Rows = []
    for own in by_subject(rows()):
        dose = {**own[0], "ADDL": 0.0, "II": 0.0}
        doses = [{**dose, "TIME": t} for t in (0.0, 12.0, 24.0)]
        explicit += sorted([*doses, *own[1:]], key=lambda r: r["TIME"])
    same_digits(base, evaluated(tmp_path, explicit))


def test_a_dose_in_parts(base: Fit, tmp_path: Path) -> None:
    parts: Rows = []
    for own in by_subject(rows()):
        parts += [{**own[0], "AMT": a} for a in (60.0, 40.0)] + own[1:]
    same_digits(base, evaluated(tmp_path, parts))


def test_a_reset_at_the_start_and_new_subjects_in_place_of_it(base: Fit, tmp_path: Path) -> None:
    """A dose with reset (EVID 4) before anything happened is a dose."""
    reset = [{**r, "EVID": 4.0} if r.get("EVID") == 1.0 else r for r in rows()]
    same_digits(base, evaluated(tmp_path, reset))


def test_columns_that_are_not_used(base: Fit, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    same_digits(base, evaluated(tmp_path, [{**r, "NOISE": float(rng.normal())} for r in rows()]))


def test_two_copies_of_the_data(base: Fit, tmp_path: Path) -> None:
    twice = evaluated(tmp_path, rows() + [{**r, "ID": r["ID"] + 100} for r in rows()])
    assert values(twice)[1] == pytest.approx(2 * values(base)[1], abs=1e-6)
    assert values(twice)[0] == pytest.approx(2 * values(base)[0], abs=0.05)  # other draws for the copies


def test_order_of_random_effects(base: Fit, tmp_path: Path) -> None:
    """ETA(1) and ETA(2) change places, the block with them."""
    stream = (
        ORAL.replace("ETA(1))", "ETA(9))").replace("EXP(ETA(2))", "EXP(ETA(1))").replace("ETA(9)", "ETA(2)")
    )
    stream = stream.replace("BLOCK(2) 0.09 0.02 0.05", "BLOCK(2) 0.05 0.02 0.09")
    fit = evaluated(tmp_path, rows(), stream)
    assert values(fit)[1] == pytest.approx(values(base)[1], abs=1e-6)
    np.testing.assert_allclose(fit.individuals.ebe, base.individuals.ebe[:, ::-1], atol=1e-6)


def test_other_parameterisations_of_the_same_model(base: Fit, tmp_path: Path) -> None:
    """Rate constants for clearance, logarithms by MU_, a scale of 1 with the division written out."""
    code = "KA=THETA(1)\nCL=THETA(2)*EXP(ETA(1))\nV=THETA(3)*EXP(ETA(2))\nS2=V"
    rates = ORAL.replace("TRANS2", "TRANS1").replace("S2=V", "K=CL/V\nS2=V")
    logs = ORAL.replace(
        code,
        "MU_1=LOG(THETA(2))\nMU_2=LOG(THETA(3))\nKA=THETA(1)\nCL=EXP(MU_1+ETA(1))\nV=EXP(MU_2+ETA(2))\nS2=V",
    )
    divided = ORAL.replace("S2=V", "S2=1").replace("Y=F+F*EPS(1)", "C=A(2)/V\nY=C+C*EPS(1)")
    for stream in (rates, logs, divided):
        assert stream != ORAL
        same_digits(base, evaluated(tmp_path, rows(), stream))


@pytest.mark.slow
def test_differential_equations(tmp_path: Path) -> None:
    few = [r for r in rows() if r["ID"] <= 2]
    closed, twin = evaluated(tmp_path, few), evaluated(tmp_path, few, ODE)
    # tolerance 1e-9 of the amounts, residual SDs of a few per cent
    assert values(twin)[1] == pytest.approx(values(closed)[1], abs=1e-4)
    assert values(twin)[0] == pytest.approx(values(closed)[0], abs=1e-3)


def fitted(folder: Path, data: Rows, **changes: Any) -> Fit:
    stream = ORAL
    for old, new in changes.items():
        stream = stream.replace(old, new)
    fit = estimate(*read(folder, stream, data), VaeSettings(seed=4))
    assert fit.status.code == "converged", fit.status
    return fit


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_whole_fits_do_not_depend_on_units(scale: float, tmp_path: Path) -> None:
    """The same maximum and estimates in micrograms, grams and tonnes; initial values in the same units."""
    data = rows() + [{**r, "ID": r["ID"] + 100, "DV": r["DV"] * 1.1} for r in rows()]
    one = fitted(tmp_path, data)
    changed = [{**r, "AMT": scale * r.get("AMT", 0.0), "DV": scale * r["DV"]} for r in data]
    model, records = read(
        tmp_path, ORAL.replace("$SIGMA 0.02 0.01", f"$SIGMA 0.02 {0.01 * scale**2!r}"), changed
    )
    two = estimate(model, records, VaeSettings(seed=4))
    assert two.status.code == "converged", two.status
    shift = 2 * one.n_observations * math.log(scale)
    assert values(two)[0] - values(one)[0] == pytest.approx(shift, abs=0.05)
    np.testing.assert_allclose(two.estimate.theta, one.estimate.theta, rtol=0.01)
    np.testing.assert_allclose(np.diag(two.estimate.omega), np.diag(one.estimate.omega), rtol=0.05)
