"""Mlxtran against Monolix itself: population predictions at its estimates, from its own results folders.

Closed forms agree to the six digits that Monolix prints. Its solver of differential equations is less exact:
here the reference is scipy at 1e-12, from which Monolix's stiff solver is away by 5e-5 relative (and by 1e-8
absolute once nothing is left), the other one by less than 1e-3 for most records and 1.1e-2 at worst (a linear
chain, so there is no doubt who is right).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support import monolix
from support.simulation import Simulation

from elbomix.engine.ir.compartment import LinearDynamics, OdeDynamics
from elbomix.parsers.read import read_data, read_model

CLOSED = [
    ("m2rx-theophylline", "theophylline_project.mlxtran", "tp"),
    ("m2rx-warfarin-cov1", "warfarin_covariate1_project.mlxtran", "w1"),
    ("m2rx-warfarin-cov3", "warfarin_covariate3_project.mlxtran", "w3"),
]


@pytest.mark.parametrize(("case", "project", "results"), CLOSED, ids=lambda x: x if "-" in x else "")
def test_closed_forms_predict_what_monolix_printed(
    shared: Path, case: str, project: str, results: str
) -> None:
    folder = shared / "corpus" / "monolix" / case
    model = read_model(folder / project)
    data = read_data(model)
    assert isinstance(model.dynamics, LinearDynamics)
    response = Simulation(model, data).predict(monolix.theta(model, monolix.estimates(folder / results)))
    reference = monolix.predictions(folder / results / "predictions.txt")
    observed = data.is_observation
    np.testing.assert_array_equal(data.event["TIME"][observed], np.array(reference["time"], dtype=float))
    np.testing.assert_array_equal(data.ids[data.subject[observed]], np.array(reference["id"], dtype=float))
    # six printed digits: half a unit of the last is 5e-6 at most
    np.testing.assert_allclose(response[observed], np.array(reference["popPred"], dtype=float), rtol=1e-5)


def test_stiff_differential_equations(shared: Path) -> None:
    folder = shared / "corpus" / "monolix" / "fredhutch-ada-gui" / "monolix-gui-files"
    model = read_model(folder / "ada-example-files.mlxtran")
    data = read_data(model)
    assert isinstance(model.dynamics, OdeDynamics) and model.dynamics.stiff
    results = folder / "ada-example-files"
    response = Simulation(model, data).predict(monolix.theta(model, monolix.estimates(results)))
    reference = np.array(monolix.predictions(results / "predictions.txt")["popPred"], dtype=float)
    assert reference.max() > 100
    np.testing.assert_allclose(response[data.is_observation], reference, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize(
    ("case", "project", "results", "outputs", "worst"),
    [
        (
            "bab-emax3-2021",
            "pk.turnover.emax3-monolix.mlxtran",
            "pk.turnover.emax3-monolix",
            {"predictions_rx_prd_cp.txt": 1.0, "predictions_rx_prd_effect.txt": 2.0},
            1.1e-2,
        ),
        ("bab-nimo-2021", "nimo.mlxtran", "nimo-monolix", {"predictions.txt": None}, 3e-3),
        # data and model text were rebuilt by hand; one subject differs by 4 %
        ("bab-wbc-2021", "wbc.mlxtran", "wbc-monolix", {"predictions.txt": None}, 5e-2),
    ],
    ids=["emax", "nimotuzumab", "neutropenia"],
)
def test_differential_equations(
    shared: Path, case: str, project: str, results: str, outputs: dict[str, float | None], worst: float
) -> None:
    folder = shared / "corpus" / "monolix" / case
    model = read_model(folder / project)
    data = read_data(model)
    response = Simulation(model, data).predict(monolix.theta(model, monolix.estimates(folder / results)))
    if case == "bab-nimo-2021":
        response = np.exp(response)  # the observation is lognormal: the model is on the log scale
    kind = model.inputs.with_role("dvid")
    for file, value in outputs.items():
        reference = np.array(monolix.predictions(folder / results / file)["popPred"], dtype=float)
        mine = data.is_observation
        if value is not None and kind is not None:
            mine = mine & (data.values[kind.name] == value)
        difference = np.abs(response[mine] / reference - 1.0)
        assert np.median(difference) < 1e-3
        assert difference.max() < worst


@pytest.mark.parametrize(
    ("project", "subjects", "observations", "doses"),
    [
        ("m2rx-theophylline/theophylline_project", 12, 120, 12),
        ("m2rx-warfarin-cov3/warfarin_covariate3_project", 32, 247, 32),
        ("bab-emax3-2021/pk.turnover.emax3-monolix", 32, 483, 32),
        ("mlxr-warfarin/warfarin_project", 32, 483, 32),
        ("mlxr-ug-warfarin_PKPD/warfarin_PKPD_project", 32, 483, 32),
        ("bab-nimo-2021/nimo", 12, 321, 120),
    ],
)
def test_data_have_the_counts_of_monolix(
    shared: Path, project: str, subjects: int, observations: int, doses: int
) -> None:
    """The counts in the summaries of the runs ("DATASET INFORMATION"), or in the data by eye."""
    data = read_data(read_model(shared / "corpus" / "monolix" / f"{project}.mlxtran"))
    found = data.n_subjects, data.n_observations, int((data.event["EVID"] == 1).sum())
    assert found == (subjects, observations, doses)


def test_estimates_of_both_layouts(shared: Path) -> None:
    corpus = shared / "corpus" / "monolix"
    new = monolix.estimates(corpus / "m2rx-theophylline" / "tp")
    old = monolix.estimates(corpus / "mlxr-ug-warfarin_PKPD" / "warfarin_PKPD_project")
    assert {"ka_pop", "V_pop", "Cl_pop", "omega_ka", "a", "b"} <= set(new)
    assert old["Tlag_pop"] == 0.64874 and len(old) == 22
