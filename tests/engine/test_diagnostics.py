"""What a run of the autoencoder shows of its subjects, and models that it refuses before fitting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support.streams import read

from elbomix.engine.diagnostics import Individual, Residuals
from elbomix.engine.estimate import initial
from elbomix.engine.failure import ModelFailure
from elbomix.engine.fit import Fit
from elbomix.engine.methods.vae import VaeSettings
from elbomix.engine.objective.observations import ObservationLikelihood
from elbomix.engine.objective.population import Population
from elbomix.engine.run import estimate
from elbomix.engine.start_check import check_predictions

Array = NDArray[np.float64]
N = 12
TIMES = np.array([0.5, 1.0, 2.0, 4.0, 7.0])
SETTINGS = VaeSettings(seed=2, likelihood_draws=200, likelihood_replicates=2, finish_draws=200)
OMEGA = np.array([[0.5, 0.1], [0.1, 0.3]])

BOLUS = """$PROBLEM bolus
$INPUT {columns}
$DATA {file} IGNORE=@
$SUBROUTINES ADVAN1 TRANS2
$PK
CL=THETA(1)*EXP(ETA(1))
V=THETA(2)*EXP(ETA(2))
S1=V
$ERROR
IPRED=F
Y=F+F*EPS(1)+EPS(2)
$THETA (0,2) (0,20)
$OMEGA BLOCK(2) 0.5 0.1 0.3
$SIGMA 0.03 0.02
$ESTIMATION METHOD=VAE
$TABLE ID TIME IPRED CWRES NOPRINT FILE=sdtab
"""


def rows() -> list[dict[str, float]]:
    rng = np.random.default_rng(52)
    eta = rng.multivariate_normal([0, 0], OMEGA, N)
    cl, v = 2 * np.exp(eta[:, :1]), 20 * np.exp(eta[:, 1:])
    f = 100 / v * np.exp(-cl / v * TIMES)
    y = f + f * np.sqrt(0.03) * rng.normal(size=f.shape) + np.sqrt(0.02) * rng.normal(size=f.shape)
    out: list[dict[str, float]] = []
    for i in range(N):
        out.append({"ID": i + 1.0, "TIME": 0.0, "AMT": 100.0, "DV": 0.0, "EVID": 1.0, "MDV": 1.0})
        out += [{"ID": i + 1.0, "TIME": t, "DV": value} for t, value in zip(TIMES, y[i], strict=True)]
    return out


@pytest.fixture(scope="module")
def fit(tmp_path_factory: pytest.TempPathFactory) -> Fit:
    return estimate(*read(tmp_path_factory.mktemp("bolus"), BOLUS, rows()), SETTINGS, evaluate=True)


def test_table_repeats_individuals(fit: Fit) -> None:
    first = fit.table.groupby("ID").first()
    np.testing.assert_array_equal(first[["ETA1", "ETA2"]].to_numpy(), fit.individuals.ebe)
    assert first["OBJI"].sum() == pytest.approx(fit.ofv)
    np.testing.assert_allclose(first["CL"], 2 * np.exp(fit.individuals.ebe[:, 0]), rtol=1e-12)


def test_residuals_are_those_of_a_method_with_interaction_at_the_modes(fit: Fit) -> None:
    modes = Individual(fit.individuals.ebe, fit.individuals.ebe)
    population = Population(fit.model, fit.data)
    residuals = Residuals(population, fit.estimate, modes, interaction=True)
    for name, values in residuals.columns().items():
        np.testing.assert_array_equal(fit.table[name], values, err_msg=name)
    squares = residuals.by_eps()[fit.data.is_observation] ** 2
    np.testing.assert_allclose(fit.shrinkage.eps_var, 100 * (1 - squares.mean(0)))
    share = fit.individuals.ebe.var(0, ddof=1) / np.diag(OMEGA)
    np.testing.assert_allclose(fit.shrinkage.eta_var, np.maximum(100 * (1 - share), 1e-10))


def test_an_unknown_table_item_is_refused_before_fitting(tmp_path: Path) -> None:
    with pytest.raises(ModelFailure, match="ABC"):
        estimate(*read(tmp_path, BOLUS.replace("CWRES", "ABC"), rows()), SETTINGS)


@pytest.mark.parametrize("error", ["Y=F*(1+EPS(1))", "Y=LOG(F)+EPS(1)"])
def test_an_observation_that_no_estimate_can_explain_is_named(error: str, tmp_path: Path) -> None:
    """A sample before the first dose under an error model that needs a positive prediction."""
    records = rows()
    records.insert(6, {"ID": 2.0, "TIME": 0.0, "DV": 0.5})
    stream = BOLUS.replace("Y=F+F*EPS(1)+EPS(2)", error).replace("0.03 0.02", "0.03")
    for evaluate in (True, False):
        with pytest.raises(ModelFailure, match=r"data.csv:8: subject 2") as caught:
            estimate(*read(tmp_path, stream, records), SETTINGS, evaluate=evaluate)
        assert "MDV=1" in caught.value.hint


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("F_FLAG=0\nIF (TIME.GT.3) F_FLAG=1\nY=F+EPS(1)\nIF (TIME.GT.3) Y=0", "gives 0"),
        ("IF (TIME.GT.3) EXIT 1 100\nY=F+EPS(1)", "rejected the parameters"),
    ],
)
def test_why_an_observation_has_no_likelihood(error: str, message: str, tmp_path: Path) -> None:
    stream = BOLUS.replace("Y=F+F*EPS(1)+EPS(2)", error).replace("0.03 0.02", "0.03")
    model, data = read(tmp_path, stream, rows())
    with pytest.raises(ModelFailure, match=message) as caught:
        check_predictions(ObservationLikelihood(model, data), initial(model))
    assert "subject 1" in str(caught.value)
    assert caught.value.hint
