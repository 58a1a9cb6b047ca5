"""Mlxtran against Monolix itself: population predictions at its estimates, from its own results folders.

Closed forms and linear systems agree to the six digits that Monolix prints. Its solver of differential
equations is less exact, so two things are asked for apart (``support.cvode`` says how that solver runs): that
the equations solved its way give its digits, and that the exact solution, here scipy's at 1e-12, is away by
no more than the error of that solver.
"""

from __future__ import annotations

import csv
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import cvode, monolix
from support.simulation import Simulation

import elbomix
from elbomix.compat.predict import cvode_settings
from elbomix.engine.estimate import initial
from elbomix.engine.ir.compartment import LinearDynamics, OdeDynamics
from elbomix.engine.prediction.population import population_predictions
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
    np.testing.assert_allclose(response[observed], np.array(reference["popPred"], dtype=float), rtol=5e-6)


@pytest.mark.parametrize("name", cvode.CASES)
def test_monolix_prints_what_its_solver_gives(shared: Path, name: str) -> None:
    case, corpus = cvode.CASES[name], shared / "corpus" / "monolix"
    model, data, theta = case.read(corpus)
    assert isinstance(model.dynamics, OdeDynamics) and model.dynamics.stiff == (name == "antibodies")
    printed, solved = case.printed(corpus, model, data), cvode.kept(name)
    assert (cvode.six_digits(solved) == printed).sum() >= case.same
    # elsewhere a step was chosen otherwise, which gives another error of the same size
    exact = case.predicted(Simulation(model, data), theta)
    tolerance = cvode.STIFF if model.dynamics.stiff else cvode.NONSTIFF
    unit = tolerance.relative * np.abs(exact) + tolerance.absolute
    assert np.max(np.abs(printed - exact) / unit) < 1.5 * np.max(np.abs(solved - exact) / unit)


@pytest.mark.parametrize("name", cvode.CASES)
def test_kept_values_are_those_of_cvode(shared: Path, name: str) -> None:
    pytest.importorskip("sksundae", reason="scikit-sundae (CVODE) is not here")
    case = cvode.CASES[name]
    model, data, theta = case.read(shared / "corpus" / "monolix")
    found = case.predicted(cvode.CvodeSimulation(model, data), theta)
    same = cvode.six_digits(found) == cvode.six_digits(cvode.kept(name))
    assert same.mean() > 0.9  # another version may round a step otherwise


@pytest.mark.parametrize(("case", "project", "results"), CLOSED, ids=lambda x: x if "-" in x else "")
def test_predict_gives_what_monolix_printed(shared: Path, case: str, project: str, results: str) -> None:
    folder = shared / "corpus" / "monolix" / case
    file = folder / results / "populationParameters.txt"
    found = elbomix.predict(folder / project, estimates_from=file)
    reference = monolix.predictions(folder / results / "predictions.txt")
    np.testing.assert_allclose(found["PRED"], np.array(reference["popPred"], dtype=float), rtol=5e-6)


def test_predict_by_cvode_gives_what_monolix_printed(shared: Path) -> None:
    """Of a system of differential equations, all 321 predictions and all six digits of each."""
    pytest.importorskip("sksundae", reason="scikit-sundae (CVODE) is not here")
    folder = shared / "corpus" / "monolix" / "bab-nimo-2021"
    results = folder / "nimo-monolix"
    found = elbomix.predict(
        folder / "nimo.mlxtran", estimates_from=results / "populationParameters.txt", solver="cvode"
    )
    reference = monolix.predictions(results / "predictions.txt")
    printed = np.array(reference["popPred"], dtype=float)
    np.testing.assert_array_equal(found["TIME"], np.array(reference["time"], dtype=float))
    np.testing.assert_allclose(found["DV"], np.array(reference["rx_prd_conc"], dtype=float), rtol=5e-6)
    np.testing.assert_allclose(found["PRED"], printed, rtol=1e-4)
    assert (cvode.six_digits(found["PRED"].to_numpy()) == printed).all()


@pytest.mark.parametrize("name", ["emax", "neutropenia", "antibodies"])
def test_cvode_steps_as_monolix_does(shared: Path, name: str) -> None:
    """As often as the independent run of CVODE, our event loop around it gives Monolix's six digits."""
    pytest.importorskip("sksundae", reason="scikit-sundae (CVODE) is not here")
    case, corpus = cvode.CASES[name], shared / "corpus" / "monolix"
    model, data, theta = case.read(corpus)
    estimate = replace(initial(model), theta=theta)
    found = population_predictions(model, data, estimate, cvode_settings(model))
    same = cvode.six_digits(found) == case.printed(corpus, model, data)
    assert same.sum() >= 0.98 * case.same  # another version may round a step otherwise


def test_likelihood_at_the_estimates_of_monolix(shared: Path) -> None:
    """Both by importance sampling: their difference is Monte Carlo error (3 SE, 1 in 370 false alarms)."""
    folder = shared / "corpus" / "monolix" / "m2rx-warfarin-cov1"
    with (folder / "w1" / "LogLikelihood" / "logLikelihood.txt").open() as file:
        theirs = {name: float(value) for name, value in list(csv.reader(file))[1:]}
    fit = elbomix.fit(
        folder / "warfarin_covariate1_project.mlxtran",
        method="imp",
        evaluate=True,
        estimates_from=folder / "w1" / "populationParameters.txt",
    )
    assert fit.objective_se is not None
    error = math.hypot(fit.objective_se, theirs["standardError"])
    assert abs(fit.ofv + fit.constant - theirs["OFV"]) < 3 * error


def test_macros_predict_what_monolix_printed(shared: Path, tmp_path: Path) -> None:
    """Parent and metabolite, without the censoring of observations, which does not touch predictions."""
    folder = tmp_path / "parent"
    shutil.copytree(shared / "corpus" / "monolix" / "m2rx-parent-metabolite", folder)
    project = folder / "parent_metabolite_project.mlxtran"
    lines = project.read_text().splitlines(keepends=True)
    project.write_text("".join(line for line in lines if not line.startswith(("CENS ", "LIMIT "))))
    model = read_model(project)
    data = read_data(model)
    response = Simulation(model, data).predict(monolix.theta(model, monolix.estimates(folder / "pm")))
    kind = model.inputs.with_role("dvid")
    assert kind is not None
    for value, file in enumerate(("predictions_y1_Cp.txt", "predictions_y2_Cm.txt")):
        rows = data.is_observation & (data.values[kind.name] == value)
        reference = np.array(monolix.predictions(folder / "pm" / file)["popPred"], dtype=float)
        np.testing.assert_allclose(response[rows], reference, rtol=5e-6)  # six printed digits


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
