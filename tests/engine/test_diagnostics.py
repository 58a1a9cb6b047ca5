"""What a run of the autoencoder shows of its subjects, and models that it refuses before fitting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support.line_and_bolus import OMEGA, bolus_data, bolus_stream
from support.streams import read

from elbomix.engine.diagnostics.residuals import Individual, Residuals
from elbomix.engine.estimate import initial
from elbomix.engine.failure import ModelFailure
from elbomix.engine.fit import Fit
from elbomix.engine.methods.vae import VaeSettings
from elbomix.engine.objective.observations import ObservationLikelihood
from elbomix.engine.objective.population import Population
from elbomix.engine.objective.start_check import check_predictions
from elbomix.engine.run.autoencoder import estimate

Array = NDArray[np.float64]
N = 12
SETTINGS = VaeSettings(seed=2, likelihood_draws=200, likelihood_replicates=2, finish_draws=200)
BOLUS = bolus_stream("VAE", "ID TIME IPRED CWRES")


@pytest.fixture(scope="module")
def fit(tmp_path_factory: pytest.TempPathFactory) -> Fit:
    return estimate(
        *read(tmp_path_factory.mktemp("bolus"), BOLUS, bolus_data(N).rows), SETTINGS, evaluate=True
    )


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
        estimate(*read(tmp_path, BOLUS.replace("CWRES", "ABC"), bolus_data(N).rows), SETTINGS)


@pytest.mark.parametrize("error", ["Y=F*(1+EPS(1))", "Y=LOG(F)+EPS(1)"])
def test_an_observation_that_no_estimate_can_explain_is_named(error: str, tmp_path: Path) -> None:
    """A sample before the first dose under an error model that needs a positive prediction."""
    records = bolus_data(N).rows
    records.insert(6, {"ID": 2.0, "TIME": 0.0, "DV": 0.5})
    stream = bolus_stream("VAE", "ID TIME IPRED CWRES", f"IPRED=F\n{error}", sigma="0.03")
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
    stream = bolus_stream("VAE", "ID TIME IPRED CWRES", f"IPRED=F\n{error}", sigma="0.03")
    model, data = read(tmp_path, stream, bolus_data(N).rows)
    with pytest.raises(ModelFailure, match=message) as caught:
        check_predictions(ObservationLikelihood(model, data), initial(model))
    assert "subject 1" in str(caught.value)
    assert caught.value.hint
