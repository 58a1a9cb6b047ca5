"""Mlxtran: data files become records by the rules of Monolix."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from support import projects
from support.simulation import Simulation

from elbomix.engine.ir.dataset import DataSet
from elbomix.parsers.problem import ProblemError
from elbomix.parsers.read import parse_model, read_data


def records(data: DataSet, *names: str) -> list[tuple[float, ...]]:
    """Return the event columns ``names`` of every record."""
    return [tuple(float(data.event[name][i]) for name in names) for i in range(data.n_records)]


def test_a_line_may_hold_a_dose_and_an_observation(tmp_path: Path) -> None:
    data = "ID,TIME,AMT,DV\n1,0,100,3\n1,1,.,NA\n1,2,0,4\n1,3,,nan\n"
    _, found = projects.read(tmp_path, data)
    assert records(found, "TIME", "EVID", "MDV", "AMT", "CMT") == [
        (0, 1, 1, 100, 1),
        (0, 0, 0, 0, 0),
        (1, 2, 1, 0, 0),
        (2, 0, 0, 0, 0),
        (3, 2, 1, 0, 0),
    ]
    assert found.values["DV"].tolist() == [0, 3, 0, 4, 0]
    assert found.line.tolist() == [2, 2, 3, 4, 5]


def test_identifiers_are_texts_and_keep_the_order_of_their_first_line(tmp_path: Path) -> None:
    data = "ID,TIME,AMT,DV\nbob,0,1,.\nann,0,1,.\nbob,2,.,5\nbob,1,.,4\nann,1,.,6\n"
    _, found = projects.read(tmp_path, data)
    assert found.ids.tolist() == [1, 2]
    assert found.subject.tolist() == [0, 0, 0, 1, 1]
    assert found.values["DV"].tolist() == [0, 4, 5, 0, 6]


@pytest.mark.parametrize(
    ("name", "mark"), [("comma", ","), ("tab", "\t"), ("semicolon", ";"), ("space", "   "), ("", ",")]
)
def test_separators_line_ends_and_byte_order_mark(tmp_path: Path, name: str, mark: str) -> None:
    text = "ID,TIME,AMT,DV\n1,0,5,.\n\n1,1,.,2\n".replace(",", mark).replace("\n", "\r\n")
    _, found = projects.read(tmp_path, "\ufeff" + text, file_info=f"delimiter = {name}")
    assert records(found, "TIME", "AMT") == [(0, 5), (1, 0)]


def test_columns_are_found_by_name_else_by_position(tmp_path: Path) -> None:
    by_name = "DV,ID,NOTE,TIME,AMT\n.,1,'a,b',0,5\n2,1,x,1,.\n".replace("'", '"')
    _, found = projects.read(tmp_path, by_name)
    assert records(found, "TIME", "AMT") == [(0, 5), (1, 0)]
    for text in ("1,0,5,.\n1,1,.,2\n", "SUBJ,HOURS,DOSE,CONC\n1,0,5,.\n1,1,.,2\n"):
        _, found = projects.read(tmp_path, text)
        assert records(found, "TIME", "AMT") == [(0, 5), (1, 0)]


def test_event_identifiers_missing_responses_and_ignored_lines(tmp_path: Path) -> None:
    data = (
        "ID,TIME,AMT,DV,EVID,MDV,C\n1,0,5,9,1,0,0\n1,1,.,2,0,0,.\n1,2,.,3,0,1,0\n1,3,.,4,0,2,0\n1,4,.,5,0,0,1\n"
        "1,5,.,7,2,0,0\n1,6,7,.,4,0,\n1,7,.,.,3,0,\n"
    )
    content = "EVID = {use=eventidentifier}\nMDV = {use=missingDependentVariable}\nC = {use=ignoredline}\n"
    _, found = projects.read(tmp_path, data, header="ID, TIME, AMT, DV, EVID, MDV, C", content=content)
    assert records(found, "TIME", "EVID", "MDV", "AMT") == [
        (0, 1, 1, 5),
        (1, 0, 0, 0),
        (2, 2, 1, 0),
        (5, 2, 1, 0),
        (6, 4, 1, 7),
        (7, 3, 1, 0),
    ]


def test_infusions(tmp_path: Path) -> None:
    data = "ID,TIME,AMT,DV,R\n1,0,6,.,3\n1,1,6,.,.\n1,2,.,1,.\n"
    parts = {"equations": "Cc = pkmodel(V, Cl)", "header": "ID, TIME, AMT, DV, R"}
    _, found = projects.read(tmp_path, data, content="R = {use=rate}", **parts)
    assert found.event["RATE"].tolist() == [3, 0, 0]
    _, found = projects.read(tmp_path, data, content="R = {use=infusionTime}", **parts)
    assert found.event["RATE"].tolist() == [2, 0, 0]
    parts["equations"] = "Cc = pkmodel(ka, V, Cl)"  # absorption takes the dose at once
    _, found = projects.read(tmp_path, data, content="R = {use=rate}", **parts)
    assert found.event["RATE"].tolist() == [0, 0, 0]
    parts["equations"] = "Cc = pkmodel(Tk0=ka, V, Cl)"
    model, found = projects.read(tmp_path, data, **parts)
    assert found.event["RATE"].tolist() == [-2, -2, 0]
    # zero order over 4 h into one compartment with k = 0.5, V = 2 (Gibaldi and Perrier 1982, 1.32)
    response = Simulation(model, found).predict(np.array([4.0, 2.0, 1.0, 1.0]))[-1]
    expected = sum(6 / 4 / 1.0 * (1 - math.exp(-0.5 * (2 - start))) for start in (0, 1))
    assert response == pytest.approx(expected, rel=1e-12)


MIXED = """
PK:
compartment(cmt=1, volume=V, concentration=Cc)
absorption(adm=1, ka, p=0.3)
absorption(adm=1, Tk0=2, p=0.7)
iv(adm=2, Tlag=1)
elimination(Cl)
EQUATION:
"""


def test_a_dose_takes_every_route_of_its_administration(tmp_path: Path) -> None:
    data = "ID,TIME,AMT,DV,ADM\n1,0,10,.,1\n1,1,5,.,2\n1,4,.,1,.\n"
    model, found = projects.read(
        tmp_path,
        data,
        header="ID, TIME, AMT, DV, ADM",
        content="ADM = {use=administration}",
        equations=MIXED,
    )
    assert records(found, "TIME", "AMT", "RATE", "CMT") == [
        (0, 10, 0, 2),
        (0, 10, -2, 1),
        (1, 5, 0, 1),
        (4, 0, 0, 0),
    ]
    assert model.dynamics is not None
    ka, v, cl = 1.3, 2.0, 1.0
    k = cl / v
    first = 3 * ka / (ka - k) * (math.exp(-k * 4) - math.exp(-ka * 4)) / v
    zero = 7 / 2 / cl * (1 - math.exp(-k * 2)) * math.exp(-k * 2)
    bolus = 5 / v * math.exp(-k * 2)  # lagged by one hour
    response = Simulation(model, found).predict(np.array([ka, v, cl, 1.0]))[-1]
    assert response == pytest.approx(first + zero + bolus, rel=1e-12)


def test_steady_state_is_expanded_into_doses(tmp_path: Path) -> None:
    data = "ID,TIME,AMT,DV,SS,II,ADDL\n1,0,10,.,1,12,2\n1,30,.,1,.,.,.\n"
    model, found = projects.read(
        tmp_path,
        data,
        header="ID, TIME, AMT, DV, SS, II, ADDL",
        content=(
            "SS = {use=steadystate, nbdoses=5}\nII = {use=interDoseInterval}\nADDL = {use=additionalDose}"
        ),
        equations="Cc = pkmodel(V, Cl)",
    )
    assert records(found, "TIME", "EVID", "AMT", "II", "ADDL", "SS") == [
        (-60, 4, 10, 12, 7, 0),
        (30, 0, 0, 0, 0, 0),
    ]
    response = Simulation(model, found).predict(np.array([1.0, 2.0, 0.2, 1.0]))[-1]
    # theta: ka is not used
    expected = sum(5 * math.exp(-0.1 * (30 - 12 * j)) for j in range(-5, 3))
    assert response == pytest.approx(expected, rel=1e-12)


def test_regressors_are_carried_and_covariates_constant(tmp_path: Path) -> None:
    data = "ID,TIME,AMT,DV,X,WT,SEX\n1,0,5,.,.,.,M\n1,1,.,2,3,60,\n1,2,.,2,.,99,F\n"
    data += "1,3,.,2,4,.,M\n2,0,.,1,7,80,F\n"
    content = (
        "X = {use=regressor}\nWT = {use=covariate, type=continuous}\nSEX = {use=covariate, type=categorical}"
    )
    _, found = projects.read(
        tmp_path,
        data,
        header="ID, TIME, AMT, DV, X, WT, SEX",
        content=content,
        inputs="X = {use=regressor}",
        equations="Cc = X*pkm\npkm = 1",
    )
    assert found.values["X"].tolist() == [3, 3, 3, 4, 7]
    assert found.values["WT"].tolist() == [60, 60, 60, 60, 80]
    assert found.values["SEX"].tolist() == [1, 1, 1, 1, 0]  # F, M in order
    assert found.missing["X"].tolist() == [True, False, True, False, False]


def test_occasions_that_overlap_start_anew(tmp_path: Path) -> None:
    data = "ID,TIME,AMT,DV,OCC,WT\n1,0,5,.,a,60\n1,4,.,2,a,.\n1,0,.,1,b,70\n"
    data += "1,0,5,.,b,.\n1,2,.,1,b,.\n1,3,.,1,c,80\n"
    _, found = projects.read(
        tmp_path,
        data,
        header="ID, TIME, AMT, DV, OCC, WT",
        content="OCC = {use=occasion}\nWT = {use=covariate, type=continuous}",
    )
    assert records(found, "TIME", "EVID") == [(0, 1), (4, 0), (0, 3), (0, 0), (0, 1), (2, 0), (3, 0)]
    assert found.values["WT"].tolist() == [60, 60, 70, 70, 70, 70, 80]


def test_only_the_types_that_are_fitted_are_observations(tmp_path: Path) -> None:
    data = "ID,TIME,AMT,DV,KIND\n1,0,5,.,.\n1,1,.,2,pk\n1,1,.,80,pd\n1,2,.,9,other\n"
    observation = "{use=observation, yname={'pd', 'other', 'pk'}, type={continuous, continuous, continuous}}"
    parts = {
        "header": "ID, TIME, AMT, DV, KIND",
        "content": "KIND = {use=observationtype}",
        "observation": observation,
    }
    model, found = projects.read(tmp_path, data, fit="data = 'pk'\nmodel = y", **parts)
    assert (found.n_observations, found.n_records) == (1, 4)
    error = (
        "y = {distribution=lognormal, prediction=Cc, errorModel=constant(a)}\n"
        "e = {distribution=logitnormal, min=0, max=100, prediction=Cc, errorModel=constant(a)}"
    )
    model, found = projects.read(
        tmp_path, data, fit="data = {'pk', 'pd'}\nmodel = {y, e}", error=error, **parts
    )
    assert found.values["DV"][found.is_observation].tolist() == [math.log(2), math.log(0.8 / (1 - 0.8))]
    assert found.values["KIND"][found.is_observation].tolist() == [0, 1]
    assert model.n_eps == 2


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("ID,TIME,AMT,DV,CENS\n1,0,5,.,0\n1,1,.,2,1\n", "data.csv:3:9: error: censored observations"),
        ("ID,TIME,AMT,DV,CENS\n1,0,5,.,0\n1,8:30,.,2,0\n", "data.csv:3:3: error: clock times"),
        ("ID,TIME,AMT,DV,CENS\n1,0,5,.,0\n1,1,.,x,0\n", "data.csv:3:7: error: 'x' is no number (column DV)"),
        ("ID,TIME,AMT,DV,CENS\n1,.,5,.,0\n1,1,.,2,0\n", "data.csv:2:3: error: this line has no time"),
        ("ID,TIME,AMT,DV,CENS\n.,0,5,.,0\n1,1,.,2,0\n", "data.csv:2:1: error: this line has no identifier"),
        ("ID,TIME,AMT,DV,CENS\n1,0,5,.,0\n1,1\n", "data.csv:3:1: error: this line has 2 fields"),
        ("ID,TIME,AMT,DV,CENS\n1,0,5,.,0\n", "the data hold no observation that is fitted"),
        ("", "the data file is empty"),
    ],
)
def test_problems_of_the_data_have_their_place(tmp_path: Path, data: str, message: str) -> None:
    with pytest.raises(ProblemError) as caught:
        projects.read(tmp_path, data, header="ID, TIME, AMT, DV, CENS", content="CENS = {use=censored}")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("column", "content", "fields", "message"),
    [
        ("ADM", "{use=administration}", ("2", "."), "data.csv:2:9: error: the model has no administration 2"),
        ("SS", "{use=steadystate}", ("1", "."), "repeated doses need an interval above zero"),
        ("SS", "{use=steadystate}", ("2", "."), "data.csv:2:9: error: steady state 2 is not supported yet"),
        ("E", "{use=eventidentifier}", ("1", "7"), "the event identifier must be 0 to 4, not 7"),
        ("E", "{use=eventidentifier}", ("1", "0.5"), "0.5 is no whole number"),
        (
            "SEX",
            "{use=covariate, type=categorical, categories={F, M}}",
            ("F", "X"),
            "data.csv:3:9: error: 'X' is no category of SEX",
        ),
    ],
)
def test_problems_of_events_have_their_place(
    tmp_path: Path, column: str, content: str, fields: tuple[str, str], message: str
) -> None:
    data = f"ID,TIME,AMT,DV,{column}\n1,0,5,.,{fields[0]}\n1,1,.,2,{fields[1]}\n"
    with pytest.raises(ProblemError) as caught:
        projects.read(tmp_path, data, header=f"ID, TIME, AMT, DV, {column}", content=f"{column} = {content}")
    assert message in str(caught.value)


def test_the_file_may_be_named_in_several_ways(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("1,0,5,.\n1,1,.,2\n")
    for name in ("'d.csv'", '"d.csv"', "d.csv", "{path='d.csv'}", "'.\\d.csv'"):
        text = projects.project().replace("'data.csv'", name)
        assert read_data(parse_model(text, str(tmp_path / "p.mlxtran"))).n_records == 2
