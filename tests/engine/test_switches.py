"""Equations that switch at a time which parameters set, against closed forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from elbomix.engine.data.switches import with_switch_times
from elbomix.engine.ir.compartment import OdeDynamics
from elbomix.engine.objective.joint import Joint
from elbomix.engine.objective.observations import ObservationLikelihood
from elbomix.parsers.read import read_data, read_model

# subject 2 weighs 2.25 times as much and is given a second dose with a reset of the clock
DATA = (
    "1,0,100,0,1,4,1,70,1\n1,1,0,90,0,0,1,70,2\n1,3,0,60,0,0,1,70,3\n1,7,0,20,0,0,1,70,4\n"
    "2,0,100,0,1,4,1,157.5,1\n2,5,0,50,0,0,1,157.5,2\n2,0,50,0,1,4,1,157.5,3\n2,4,0,30,0,0,1,157.5,4\n"
)
HEAD = "$PROBLEM switch\n$INPUT ID TIME AMT DV MDV EVID CMT WT SCR\n$DATA data.csv\n"
CODE = (
    "$SUBROUTINES ADVAN13 TOL=9\n$MODEL COMP=(CENTRAL)\n$PK\nK = THETA(1)\n"
    "TL = THETA(2)*EXP(ETA(1))*(WT/70)**0.5\n{pk}$DES\n{des}\n$ERROR\nY = A(1) + EPS(1)\n"
    "$THETA (0,0.3) (0,1.7)\n$OMEGA 0.1\n$SIGMA 1\n$ESTIMATION METHOD=1 INTER\n"
)
DOSES = np.array([100, 100, 100, 100, 50.0])
TIMES = np.array([1, 3, 7, 5, 4.0])
OBSERVED = np.array([90, 60, 20, 50, 30.0])
LAGS = np.array([1, 1, 1, 1.5, 1.5]) * 1.7
RATE = 0.3


def prepared(folder: Path, des: str, pk: str = "") -> ObservationLikelihood:
    (folder / "data.csv").write_text(DATA)
    (folder / "run.ctl").write_text(HEAD + CODE.format(des=des, pk=pk))
    model = read_model(folder / "run.ctl")
    return ObservationLikelihood(model, read_data(model))


@pytest.mark.parametrize(
    ("des", "pk"),
    [
        ("DADT(1) = 0\nIF (T.GT.TL) DADT(1) = -K*A(1)", ""),
        ("ON = 1\nIF (TL.GE.T) ON = 0\nDADT(1) = -K*A(1)*ON", ""),
        ("ON = 0\nIF (T-TL.GE.0.AND.K.GT.0) ON = 1\nDADT(1) = -K*A(1)*ON", ""),
        ("ON = 0\nIF (T.GE.MTIME(1)) ON = 1\nDADT(1) = -K*A(1)*ON", "MTIME(1) = TL\n"),
        ("ON = 0\nIF (T.GE.TL) ON = 1\nDADT(1) = -K*A(1)**1.0*ON + 0*A(1)**2", ""),  # not linear to the eye
    ],
)
def test_values_and_slopes(tmp_path: Path, des: str, pk: str) -> None:
    """A bolus that stays until TL and decays from then on: A = D exp(-K (t - TL)) after TL."""
    found = prepared(tmp_path, des, pk).terms(
        np.array([RATE, 1.7]), np.eye(1), np.zeros((1, 2, 1)), "eta+theta"
    )
    since = np.maximum(TIMES - LAGS, 0.0)
    amount = DOSES * np.exp(-RATE * since)
    by_lag = np.where(TIMES > LAGS, RATE * amount, 0.0)
    pull = -2.0 * (OBSERVED - amount)
    owner = np.array([0, 0, 0, 1, 1])
    value = np.bincount(owner, (OBSERVED - amount) ** 2)
    by_rate = np.bincount(owner, pull * -since * amount)
    by_eta = np.bincount(owner, pull * by_lag * LAGS)
    # TOL=9 leaves 1e-9 of each amount, the residual of 7 has 2 digits less
    np.testing.assert_allclose(found.value[0], value, rtol=1e-6)
    np.testing.assert_allclose(found.gradient[0, :, 0], by_eta, rtol=1e-6)
    np.testing.assert_allclose(found.gradient[0, :, 1], by_rate, rtol=1e-6)
    np.testing.assert_allclose(found.gradient[0, :, 2], by_eta / 1.7, rtol=1e-6)


def test_slopes_of_the_torch_decoder(tmp_path: Path) -> None:
    likelihood = prepared(tmp_path, "ON = 0\nIF (T.GE.TL) ON = 1\nDADT(1) = -K*A(1)*ON")
    decoder = Joint(likelihood.model, likelihood.data).decoder
    theta = torch.tensor([RATE, 1.7], dtype=torch.float64, requires_grad=True)
    eta = torch.zeros(1, 2, 1, dtype=torch.float64, requires_grad=True)
    sigma = torch.eye(1, dtype=torch.float64)
    made = decoder.observe(decoder.structure(theta, eta), theta, sigma, all_records=True).mean[0]
    rows = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([1, 2, 3, 1, 3])
    since = np.maximum(TIMES - LAGS, 0.0)
    amount = DOSES * np.exp(-RATE * since)
    np.testing.assert_allclose(made[rows].detach(), amount, rtol=1e-8)
    by_theta, by_eta = torch.autograd.grad(made[rows].sum(), [theta, eta])
    by_lag = np.where(TIMES > LAGS, RATE * amount, 0.0) * LAGS
    np.testing.assert_allclose(by_theta, [(-since * amount).sum(), by_lag.sum() / 1.7], rtol=1e-7)
    np.testing.assert_allclose(by_eta[0, :, 0], np.bincount([0, 0, 0, 1, 1], by_lag), rtol=1e-7)


@pytest.mark.parametrize(
    ("des", "pk", "times"),
    [
        ("IF (T.GT.TL) ON = 1", "", 1),
        ("IF (T.GT.TL.OR.T.LT.0.5*TL) ON = 1", "", 2),
        ("IF (T.GT.5) ON = 1", "", 0),  # the same whatever the parameters
        ("IF (T.GT.TV) ON = 1", "TV = TL*SCR\n", 0),  # another at each record
        ("IF (T.GT.TV) ON = 1", "TV = TL\nIF (SCR.GT.2) TV = 2*TL\n", 0),
        ("IF (T.GT.TV) ON = 1", "TV = TL\nIF (WT.GT.100) TV = 2*TL\n", 1),
        ("IF (T.GT.TL*A(1)) ON = 1", "", 0),
    ],
)
def test_what_is_made_a_model_time(tmp_path: Path, des: str, pk: str, times: int) -> None:
    (tmp_path / "data.csv").write_text(DATA)
    code = CODE.format(des=f"ON = 0\n{des}\nDADT(1) = -K*A(1)*ON", pk=pk)
    (tmp_path / "run.ctl").write_text(HEAD + code)
    model = read_model(tmp_path / "run.ctl")
    made = with_switch_times(model, read_data(model)).dynamics
    assert isinstance(made, OdeDynamics)
    assert len(made.model_times) == times
