"""Variables that keep a value from record to record: which really do, and what torch makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from elbomix.engine.data.batch import build_batch
from elbomix.engine.data.kept import without_unused_memory
from elbomix.engine.decoder.compile import Decoder
from elbomix.engine.objective.observations import ObservationLikelihood
from elbomix.parsers.read import read_data, read_model

DATA = "1,0,10,50,0,1\n1,1,.,50,2,1\n1,2,.,55,4,0\n2,0,10,70,0,0\n2,3,.,70,5,0\n"
HEAD = "$PROBLEM kept values\n$INPUT ID TIME AMT WT DV SEX\n$DATA data.csv\n"
TAIL = "$THETA (0,2) (0,3)\n$OMEGA 0.1\n$SIGMA 1\n"


def prepared(folder: Path, code: str) -> tuple[Decoder, tuple[str, ...]]:
    (folder / "data.csv").write_text(DATA)
    (folder / "run.ctl").write_text(HEAD + code + TAIL)
    model = read_model(folder / "run.ctl")
    data = read_data(model)
    model = without_unused_memory(model, data)
    return Decoder(model, build_batch(model, data)), model.kept


def means(decoder: Decoder) -> list[list[float]]:
    theta = torch.tensor([2.0, 3.0], dtype=torch.float64)
    eta = torch.zeros(1, 2, 1, dtype=torch.float64)
    sigma = torch.eye(1, dtype=torch.float64)
    structure = decoder.structure(theta, eta)
    mean = decoder.observe(structure, theta, sigma, all_records=True).mean[0]
    return [mean[0].tolist(), mean[1, :2].tolist()]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("IF (WT.GE.0) B = WT\nY = B + THETA(1)*EXP(ETA(1)) + EPS(1)\n", ()),
        ("IF (SEX.EQ.1) B = 1\nIF (SEX.EQ.0) B = 2\nY = B + THETA(1)*EXP(ETA(1)) + EPS(1)\n", ()),
        ("IF (NEWIND.NE.2) B = WT\nY = B + THETA(1)*EXP(ETA(1)) + EPS(1)\n", ("B",)),
        ("IF (AMT.GT.0) B = TIME\nY = TIME - B + THETA(1)*EXP(ETA(1)) + EPS(1)\n", ("B",)),
        ("IF (THETA(1).GT.0) THEN\nB = 1\nELSE\nB = 2\nENDIF\nY = B + ETA(1) + EPS(1)\n", ()),
        ("IF (THETA(1).GT.0) B = 1\nY = B + ETA(1) + EPS(1)\n", ("B",)),
    ],
)
def test_only_values_that_are_read_unassigned_are_kept(
    tmp_path: Path, code: str, expected: tuple[str, ...]
) -> None:
    assert prepared(tmp_path, "$PRED\n" + code)[1] == expected


def test_baseline_and_sums_by_hand(tmp_path: Path) -> None:
    """A baseline weight and a running sum, written out record by record."""
    code = (
        "$PRED\nIF (NEWIND.NE.2) THEN\nBWT = WT\nTOT = 0\nENDIF\nTOT = TOT + DV*THETA(1)*EXP(ETA(1))\n"
        "Y = BWT + TOT + EPS(1)\n"
    )
    decoder, kept = prepared(tmp_path, code)
    assert set(kept) == {"BWT", "TOT"}
    np.testing.assert_allclose(means(decoder)[0], [50.0, 54.0, 62.0], rtol=1e-15)
    np.testing.assert_allclose(means(decoder)[1], [70.0, 80.0], rtol=1e-15)


def test_kept_individual_parameters_reach_the_dynamics(tmp_path: Path) -> None:
    """Elimination from the baseline weight: the exact decay of a bolus."""
    code = (
        "$SUBROUTINES ADVAN1 TRANS1\n$PK\nIF (NEWIND.NE.2) BWT = WT\nK = THETA(1)*BWT/100*EXP(ETA(1))\n"
        "V = THETA(2)\nS1 = V\n$ERROR\nY = F + EPS(1)\n"
    )
    decoder, kept = prepared(tmp_path, code)
    assert kept == ("BWT",)
    first = 10 / 3 * np.exp(-2.0 * 0.5 * np.array([0.0, 1.0, 2.0]))
    second = 10 / 3 * np.exp(-2.0 * 0.7 * np.array([0.0, 3.0]))
    np.testing.assert_allclose(means(decoder)[0], first, rtol=1e-12)
    np.testing.assert_allclose(means(decoder)[1], second, rtol=1e-12)
    theta = torch.tensor([2.0, 3.0], dtype=torch.float64, requires_grad=True)
    eta = torch.zeros(1, 2, 1, dtype=torch.float64, requires_grad=True)

    def total(theta: torch.Tensor, eta: torch.Tensor) -> torch.Tensor:
        mean = decoder.predict(theta, eta, torch.eye(1, dtype=torch.float64)).mean
        return torch.where(decoder.batch.observed, mean, 0.0).sum(-1)

    assert torch.autograd.gradcheck(total, (theta, eta), eps=1e-6, atol=1e-7, rtol=1e-6)


def test_loops_and_rejections(tmp_path: Path) -> None:
    """A sum by DO WHILE, and a prediction that the code itself calls unsuitable."""
    code = (
        "$PRED\nI = 0\nS = 0\nDO WHILE (I.LT.WT/10)\nI = I + 1\nS = S + I*THETA(1)\nENDDO\n"
        "IF (DV.GT.4.5) EXIT 1 100\nY = S + ETA(1) + EPS(1)\n"
    )
    found = means(prepared(tmp_path, code)[0])
    assert found[0] == [30.0, 30.0, 42.0]
    assert found[1][0] == 56.0 and np.isnan(found[1][1])


def test_a_value_set_in_pk_and_in_error_keeps_its_derivatives(tmp_path: Path) -> None:
    """An event between two visits: survival at the first is 1 in $PK until $ERROR says otherwise."""
    code = (
        "$SUBROUTINES ADVAN13 TOL=9\n$MODEL COMP=(HAZARD)\n$PK\nIF (NEWIND.LE.1) BEFORE = 1\n"
        "RATE0 = THETA(1)*EXP(ETA(1))\n$DES\nDADT(1) = RATE0\n$ERROR\nSURV = EXP(-A(1))\nY = SURV\n"
        "IF (DV.EQ.2) BEFORE = SURV\nIF (DV.EQ.3) Y = BEFORE - SURV\n"
    )
    (tmp_path / "data.csv").write_text("1,0,0,1\n1,1,2,0\n1,4,3,0\n2,0,0,1\n2,3,0,0\n")
    head = "$PROBLEM interval\n$INPUT ID TIME DV MDV\n$DATA data.csv\n"
    tail = "$THETA (0,0.2)\n$OMEGA 0.1\n$ESTIMATION METHOD=1 LAPLACE LIKE\n"
    (tmp_path / "run.ctl").write_text(head + code + tail)
    model = read_model(tmp_path / "run.ctl")
    likelihood = ObservationLikelihood(model, read_data(model))
    rate, empty = 0.2, np.zeros((0, 0))
    terms = likelihood.terms(np.array([rate]), empty, np.zeros((1, 2, 1)), "eta+theta")
    # subject 1: S(1) and S(1) - S(4); subject 2: S(3); TOL=9 leaves 1e-9 of each amount
    early, late = np.exp(-rate), np.exp(-4 * rate)
    between = early - late
    value = [2 * rate - 2 * np.log(between), 2 * 3 * rate]
    slope = [2 - 2 * (4 * late - early) / between, 6]
    np.testing.assert_allclose(terms.value[0], value, rtol=1e-7)
    np.testing.assert_allclose(terms.gradient[0, :, 1], slope, rtol=1e-7)
    np.testing.assert_allclose(terms.gradient[0, :, 0], np.multiply(rate, slope), rtol=1e-7)
