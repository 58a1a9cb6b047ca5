"""``elbomix predict``: tables of population predictions, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import elbomix
from elbomix.compat.cli import command
from elbomix.compat.start_values import read_estimates
from elbomix.parsers.problem import ProblemError

STREAM = """$PROBLEM one compartment by equations
$INPUT ID TIME AMT DV
$DATA data.csv IGNORE=@
$SUBROUTINES ADVAN{advan} TOL=6
$MODEL COMP=(CENTRAL)
$PK
K = THETA(1)*EXP(ETA(1))
V = THETA(2)
S1 = V
$DES
DADT(1) = -K*A(1)
$ERROR
Y = F + EPS(1)
$THETA (0, 0.3) (0, 10)
$OMEGA 0.1
$SIGMA 1
$ESTIMATION METHOD=1
"""
DATA = "ID,TIME,AMT,DV\n" + "".join(f"1,{t},{100 if t == 0 else 0},{0 if t == 0 else 5}\n" for t in range(9))

PROJECT = """<DATAFILE>
[FILEINFO]
file = 'data.csv'
delimiter = comma
header = {{ID, TIME, AMT, DV}}
[CONTENT]
ID = {{use=identifier}}
TIME = {{use=time}}
AMT = {{use=amount}}
DV = {{use=observation, name=y, type=continuous}}
<MODEL>
[INDIVIDUAL]
input = {{V_pop, omega_V, Cl_pop, omega_Cl, corr_V_Cl}}
DEFINITION:
V = {{distribution=logNormal, typical=V_pop, sd=omega_V}}
Cl = {{distribution=logNormal, typical=Cl_pop, sd=omega_Cl}}
correlation = {{level=id, r(V, Cl)=corr_V_Cl}}
[LONGITUDINAL]
input = {{a}}
file = 'model.txt'
DEFINITION:
y = {{distribution={distribution}, prediction=Cc, errorModel=constant(a)}}
<FIT>
data = y
model = y
<PARAMETER>
V_pop = {{value=10, method=MLE}}
Cl_pop = {{value=3, method=MLE}}
omega_V = {{value=1, method=MLE}}
omega_Cl = {{value=1, method=MLE}}
corr_V_Cl = {{value=0, method=MLE}}
a = {{value=1, method=MLE}}
<MONOLIX>
[TASKS]
populationParameters()
[SETTINGS]
GLOBAL:
exportpath = 'project'
"""
STRUCTURE = """[LONGITUDINAL]
input = {V, Cl}
EQUATION:
Cc = pkmodel(V, Cl)
OUTPUT:
output = Cc
"""


@pytest.fixture
def stream(tmp_path: Path) -> Path:
    (tmp_path / "data.csv").write_text(DATA)
    (tmp_path / "run.ctl").write_text(STREAM.format(advan=13))
    return tmp_path / "run.ctl"


def project(folder: Path, distribution: str = "normal") -> Path:
    (folder / "data.csv").write_text(DATA.replace("1,0,100,0", "1,0,100,."))
    (folder / "model.txt").write_text(STRUCTURE)
    (folder / "project.mlxtran").write_text(PROJECT.format(distribution=distribution))
    return folder / "project.mlxtran"


def test_table_on_standard_output_and_in_a_file(stream: Path) -> None:
    said = CliRunner().invoke(command, ["predict", str(stream)])
    assert said.exit_code == 0
    target = stream.parent / "pred.csv"
    again = CliRunner().invoke(command, ["predict", str(stream), "--output", str(target)])
    assert again.exit_code == 0 and again.output == "" and target.read_text() == said.output
    table = pd.read_csv(target)
    assert list(table) == ["ID", "TIME", "DV", "PRED"]
    np.testing.assert_allclose(table["PRED"], 10.0 * np.exp(-0.3 * table["TIME"]), rtol=1e-12)


@pytest.mark.parametrize(("advan", "least", "most"), [(13, 1e-12, 1e-4), (6, 1e-12, 1e-4)])
def test_cvode_makes_errors_of_its_tolerance(stream: Path, advan: int, least: float, most: float) -> None:
    """Linear equations too go through it: there the compiled decoder would be exact."""
    pytest.importorskip("sksundae", reason="scikit-sundae (CVODE) is not here")
    stream.write_text(STREAM.format(advan=advan))
    table = elbomix.predict(stream, solver="cvode")
    error = np.abs(table["PRED"] / (10.0 * np.exp(-0.3 * table["TIME"])) - 1.0)
    assert least < error.max() < most


def test_closed_forms_are_not_for_cvode(tmp_path: Path) -> None:
    pytest.importorskip("sksundae", reason="scikit-sundae (CVODE) is not here")
    said = CliRunner().invoke(command, ["predict", str(project(tmp_path)), "--solver", "cvode"])
    assert said.exit_code == 2 and "no differential equations for CVODE" in said.output


def test_lognormal_observations_come_on_the_scale_of_the_data(tmp_path: Path) -> None:
    table = elbomix.predict(project(tmp_path, "lognormal"))
    np.testing.assert_allclose(table["DV"], 5.0, rtol=1e-12)
    np.testing.assert_allclose(table["PRED"], 10.0 * np.exp(-0.3 * table["TIME"]), rtol=1e-12)


NEW = "parameter,value,se_sa,rse_sa\nV_pop,8,,\nCl_pop,2,,\nomega_V,0.2,,\nomega_Cl,0.5,,\n"


@pytest.mark.parametrize(
    "text",
    [
        NEW + "corr_V_Cl,0.4,,\na,0.7,,\n",
        NEW + "corr_Cl_V,0.4,,\na,0.7,,\n",
        NEW.replace("omega_V,0.2", "omega2_V,0.04") + "corr_V_Cl,0.4,,\na,0.7,,\n",
        " ; parameter; s.e._lin\n V_pop; 8; 1\n Cl_pop; 2; NaN\n omega_V; 0.2; 1\n omega_Cl; 0.5; 1\n"
        " corr(V,Cl); 0.4; 1\n a; 0.7; 1\n",
    ],
)
def test_estimates_of_monolix(tmp_path: Path, text: str) -> None:
    model = elbomix.read(project(tmp_path))
    file = tmp_path / "estimates.txt"
    file.write_text(text)
    found = read_estimates(file, model)
    np.testing.assert_array_equal(found.theta, [8.0, 2.0, 0.7])
    np.testing.assert_allclose(found.omega, [[0.04, 0.04], [0.04, 0.25]], rtol=1e-14)
    np.testing.assert_array_equal(found.sigma, [[1.0]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (NEW + "corr_V_Cl,0.4,,\n", "has no value for THETA3"),
        (NEW + "a,0.7,,\n", r"has no value for OMEGA\(2,1\)"),
        (NEW + "corr_V_Cl,0.4,,\na,0.7,,\nka_pop,1,,\n", "has ka_pop, which the model does not have"),
        (NEW + "a,seven,,\n", "estimates.txt:6: 'seven' is no number"),
    ],
)
def test_estimates_that_do_not_fit(tmp_path: Path, text: str, message: str) -> None:
    model = elbomix.read(project(tmp_path))
    file = tmp_path / "estimates.txt"
    file.write_text(text)
    with pytest.raises(ProblemError, match=message):
        read_estimates(file, model)
