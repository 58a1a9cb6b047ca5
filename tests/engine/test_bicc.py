"""BICc counts: log(N) for omegas and covariate effects, log(N_tot) for typical values and residual errors."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from support.streams import read

from elbomix.engine.ir.effects import Effect, add_effects
from elbomix.engine.objective.bicc import penalty
from elbomix.engine.objective.joint import Joint

N, SAMPLES = 6, 3
ROWS: list[dict[str, float]] = []
for _i in range(N):
    _own = {"ID": _i + 1.0, "WT": 50.0 + 10 * _i, "SEX": float(_i % 2)}
    ROWS.append(
        {**_own, "TIME": 0.0, "AMT": 100.0, "DV": 0.0, "EVID": 1.0, "MDV": 1.0, "OCC": 1.0, "CRCL": 90.0}
    )
    ROWS += [{**_own, "TIME": t, "DV": 2.0, "OCC": min(t, 2.0), "CRCL": 80.0 + t} for t in (1.0, 2.0, 3.0)]

STREAM = """$PROBLEM counts
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
PLAIN = "CL=THETA(1)*EXP(ETA(1))\nV=THETA(2)*EXP(ETA(2))"

# pk, error, thetas, omega, sigma -> parameters counted with log N, and with log N_tot
CASES: dict[str, tuple[str, str, str, str, str, int, int]] = {
    "diagonal": (PLAIN, "Y=F+EPS(1)", "1 10", "$OMEGA 0.1 0.1", "1", 2, 3),
    "block": (PLAIN, "Y=F+EPS(1)", "1 10", "$OMEGA BLOCK(2) 0.1 0.01 0.1", "1", 3, 3),
    "fixed theta": (PLAIN, "Y=F+EPS(1)", "1 FIX 10", "$OMEGA 0.1 0.1", "1", 2, 2),
    "fixed omega": (PLAIN, "Y=F+EPS(1)", "1 10", "$OMEGA 0.1 FIX 0.1", "1", 1, 3),
    "zero omega": (PLAIN, "Y=F+EPS(1)", "1 10", "$OMEGA 0.1 0 FIX", "1", 1, 3),
    "fixed block": (PLAIN, "Y=F+EPS(1)", "1 10", "$OMEGA BLOCK(2) FIX 0.1 0.01 0.1", "1", 0, 3),
    "two eps": (PLAIN, "Y=F+F*EPS(1)+EPS(2)", "1 10", "$OMEGA 0.1 0.1", "1 1", 2, 4),
    "correlated eps": (PLAIN, "Y=F+F*EPS(1)+EPS(2)", "1 10", "$OMEGA 0.1 0.1", "BLOCK(2) 1 0.1 1", 2, 5),
    "residual thetas": (
        PLAIN,
        "W=SQRT(THETA(3)**2+THETA(4)**2*F**2)\nY=F+W*EPS(1)",
        "1 10 (0,1) (0,1)",
        "$OMEGA 0.1 0.1",
        "1 FIX",
        2,
        4,
    ),
    "covariate power": (
        "CL=THETA(1)*(WT/70)**THETA(3)*EXP(ETA(1))\nV=THETA(2)*EXP(ETA(2))",
        "Y=F+EPS(1)",
        "1 10 0.5",
        "$OMEGA 0.1 0.1",
        "1",
        3,
        3,
    ),
    "covariate power, fixed": (
        "CL=THETA(1)*(WT/70)**THETA(3)*EXP(ETA(1))\nV=THETA(2)*EXP(ETA(2))",
        "Y=F+EPS(1)",
        "1 10 0.75 FIX",
        "$OMEGA 0.1 0.1",
        "1",
        2,
        3,
    ),
    "covariate without estimated coefficient": (
        "CL=THETA(1)*(WT/70)**0.75*EXP(ETA(1))\nV=THETA(2)*WT*EXP(ETA(2))",
        "Y=F+EPS(1)",
        "1 10",
        "$OMEGA 0.1 0.1",
        "1",
        2,
        3,
    ),
    "category": (
        "TVCL=THETA(1)\nIF (SEX.EQ.1) TVCL=THETA(1)*EXP(THETA(3))\n"
        "CL=TVCL*EXP(ETA(1))\nV=THETA(2)*EXP(ETA(2))",
        "Y=F+EPS(1)",
        "1 10 0.1",
        "$OMEGA 0.1 0.1",
        "1",
        3,
        3,
    ),
}


def counted(joint: Joint) -> float:
    return penalty(joint.model, joint.mu, joint.data)


@pytest.mark.parametrize("name", CASES)
def test_counts(name: str, tmp_path: Path) -> None:
    pk, error, thetas, omega, sigma, by_subject, by_observation = CASES[name]
    stream = STREAM.format(pk=pk, error=error, thetas=thetas, omega=omega, sigma=sigma)
    joint = Joint(*read(tmp_path, stream, ROWS))
    expected = by_subject * math.log(N) + by_observation * math.log(N * SAMPLES)
    assert counted(joint) == pytest.approx(expected, rel=1e-14)


def test_repeated_blocks_count_once(tmp_path: Path) -> None:
    """Between-occasion variability: one variance, however many occasions."""
    stream = """$PROBLEM occasions
$INPUT {columns}
$DATA {file} IGNORE=@
$PRED
IOV=ETA(2)
IF (OCC.EQ.2) IOV=ETA(3)
Y=THETA(1)*EXP(ETA(1)+IOV)+EPS(1)
$THETA 1
$OMEGA 0.1
$OMEGA BLOCK(1) 0.1
$OMEGA BLOCK(1) SAME
$SIGMA 1
"""
    joint = Joint(*read(tmp_path, stream, ROWS))
    observations = int(joint.data.n_observations)
    assert counted(joint) == pytest.approx(2 * math.log(N) + 2 * math.log(observations), rel=1e-14)


def test_each_added_effect_costs_log_n(tmp_path: Path) -> None:
    pk, error, thetas, omega, sigma, *_ = CASES["diagonal"]
    model, data = read(
        tmp_path, STREAM.format(pk=pk, error=error, thetas=thetas, omega=omega, sigma=sigma), ROWS
    )
    effects = [
        Effect("CL", 1, "WT", "power", 70.0),
        Effect("V", 2, "WT", "exp", 70.0),
        Effect("V", 2, "SEX", "cat", 0.0, 1.0),
    ]
    base = counted(Joint(model, data))
    for k in range(1, 4):
        with_k = counted(Joint(add_effects(model, effects[:k]), data))
        assert with_k - base == pytest.approx(k * math.log(N), rel=1e-12)
