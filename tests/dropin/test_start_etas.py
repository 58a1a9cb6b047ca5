"""Random effects that a control stream gives to begin with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from elbomix.compat.legacy import Choices, plan
from elbomix.compat.start_etas import etas_beside, start_etas
from elbomix.engine.estimate import initial
from elbomix.parsers.problem import ProblemError
from elbomix.parsers.read import parse_model, read_data

TEXT = """$PROBLEM etas
$INPUT ID TIME DV WT
$DATA data.csv
$PRED
MU_1 = LOG(THETA(1)) + THETA(2)*WT
A = EXP(MU_1 + ETA(1))
Y = A + ETA(2) + EPS(1)
$THETA (0,2) 0.1
$OMEGA 0.1 0.2
$SIGMA 1
$ESTIMATION METHOD=1 MCETA=1
"""
DATA = "3,0,1,10\n3,1,2,10\n1,0,1,20\n2,0,1,30\n2,1,4,30\n"
TABLES = """TABLE NO.     1: First Order Conditional Estimation: Problem=1
 SUBJECT_NO   ID           ETA(1)       ETA(2)       ETC(1,1)     ETC(2,1)     ETC(2,2)     OBJ
            1            1  1.0E-01  2.0E-01  1.0E-02  0.0E+00  1.0E-02    1.5
            2            2  3.0E-01  4.0E-01  1.0E-02  0.0E+00  1.0E-02    1.5
            3            3  5.0E-01 -6.0E-01  1.0E-02  0.0E+00  1.0E-02    1.5
TABLE NO.     2: Importance Sampling: Problem=1
 SUBJECT_NO,ID,PHI(1),PHI(2),PHC(1,1),PHC(2,1),PHC(2,2),OBJ
1,1,3.0,0,0.1,0,0.1,2
2,2,4.0,0,0.1,0,0.1,2
3,3,2.0,0,0.1,0,0.1,2
"""
MU = np.log(2.0) + 0.1 * np.array([10.0, 20.0, 30.0])


def found(folder: Path, record: str, tables: str = TABLES, text: str = TEXT):  # type: ignore[no-untyped-def]
    (folder / "data.csv").write_text(DATA)
    (folder / "before.phi").write_text(tables)
    model = parse_model(text + record, str(folder / "run.ctl"))
    return start_etas(model, read_data(model, folder / "data.csv"))


@pytest.mark.parametrize(
    ("step", "begins"),
    [
        ("METHOD=1", False),
        ("METHOD=1 MCETA=0", False),
        ("METHOD=1 MCETA=1", True),
        ("METHOD=1 LAPLACE MCETA=7", True),
        ("METHOD=0 MCETA=1", False),
        ("METHOD=ITS", False),
        ("METHOD=ITS MCETA=1", True),
        ("METHOD=IMP", False),
        ("METHOD=IMP MAPITER=0", True),
        ("METHOD=IMPMAP MAPITER=0", False),
        ("METHOD=SAEM", True),
    ],
)
def test_which_methods_begin_there(tmp_path: Path, step: str, begins: bool) -> None:
    """As the help of $ETAS says: searches for modes where MCETA > 0, samples always, FO never."""
    (tmp_path / "data.csv").write_text(DATA)
    stream = TEXT.replace("$ESTIMATION METHOD=1 MCETA=1", f"$ETAS 0.4\n$ESTIMATION {step}")
    model = parse_model(stream, str(tmp_path / "run.ctl"))
    planned, (only,) = plan(model, "as-written", Choices(None, 1, 25, "compiled", False))
    assert only.begins_at_etas == begins
    assert any("$ETAS" in notice.message for notice in planned.notices) == (not begins)


def test_none_without_a_record(tmp_path: Path) -> None:
    assert found(tmp_path, "") is None


def test_values_are_those_of_all_subjects(tmp_path: Path) -> None:
    """Etas that are not named begin at 0."""
    np.testing.assert_array_equal(found(tmp_path, "$ETAS 0.4\n"), [[0.4, 0.0]] * 3)
    np.testing.assert_array_equal(found(tmp_path, "$ETAS 0.4 -1.5\n"), [[0.4, -1.5]] * 3)


def test_a_table_is_matched_by_id(tmp_path: Path) -> None:
    etas = found(tmp_path, "$ETAS FILE=before.phi\n")
    np.testing.assert_array_equal(etas, [[0.5, -0.6], [0.1, 0.2], [0.3, 0.4]])


def test_the_phi_file_beside_the_estimates(tmp_path: Path) -> None:
    """Its last table counts (the phis of the second); a file of other data is no help and no error."""
    (tmp_path / "data.csv").write_text(DATA)
    model = parse_model(TEXT, str(tmp_path / "run.ctl"))
    data = read_data(model, tmp_path / "data.csv")
    at = initial(model)
    assert etas_beside(tmp_path / "run.ext", model, data, at) is None
    (tmp_path / "run.phi").write_text(TABLES)
    etas = etas_beside(tmp_path / "run.ext", model, data, at)
    assert etas is not None
    np.testing.assert_allclose(etas[:, 0], np.array([2.0, 3.0, 4.0]) - MU, rtol=1e-14)
    (tmp_path / "other.phi").write_text("TABLE NO. 1\nID ETA(1) ETA(2)\n9 0 0\n")
    assert etas_beside(tmp_path / "other.ext", model, data, at) is None


def test_phis_are_mu_and_eta(tmp_path: Path) -> None:
    """mu = log 2 + 0.1 WT at the initial estimates."""
    etas = found(tmp_path, "$ETAS FILE=before.phi TBLN=2\n")
    np.testing.assert_allclose(etas[:, 0], np.array([2.0, 3.0, 4.0]) - MU, rtol=1e-14)
    etas = found(tmp_path, "$PHIS 3 0.5\n")
    np.testing.assert_allclose(etas[:, 0], 3.0 - MU, rtol=1e-14)
    np.testing.assert_array_equal(etas[:, 1], 0.5)  # without MU_2 phi is eta, as in NONMEM's files


def test_only_variables_by_the_name_of_mu_count(tmp_path: Path) -> None:
    """The eta is mu-referenced, but NONMEM, which wrote the file, saw no MU_1; or more than MU_1 is mu."""
    plain = TEXT.replace("MU_1", "LTVA")
    np.testing.assert_array_equal(found(tmp_path, "$PHIS 3\n", text=plain)[:, 0], 3.0)
    part = TEXT.replace(" + THETA(2)*WT", "").replace("+ ETA(1))", "+ ETA(1))*EXP(THETA(2)*WT)")
    etas = found(tmp_path, "$PHIS 3\n", text=part)
    np.testing.assert_allclose(etas[:, 0], 3.0 - np.log(2.0), rtol=1e-14)
    curved = TEXT.replace("LOG(THETA(1))", "LOG(THETA(1)+THETA(2)**2)")
    with pytest.raises(ProblemError, match="MU_1 is no linear function"):
        found(tmp_path, "$PHIS 3\n", text=curved)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("$ETAS 1 2 3\n", "3 values for 2 etas"),
        ("$ETAS FILE=absent.phi\n", "cannot read"),
        ("$ETAS FILE=before.phi TBLN=7\n", "no table 7"),
        ("$ETAS 1\n$PHIS 2\n", "more than once"),
    ],
)
def test_records_that_cannot_be_used(tmp_path: Path, record: str, message: str) -> None:
    with pytest.raises(ProblemError, match=message):
        found(tmp_path, record)


def test_tables_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match="no random effects of ID 3"):
        found(tmp_path, "$ETAS FILE=before.phi\n", TABLES.replace("3            3  5", "3            4  5"))
    with pytest.raises(ProblemError, match=r"no column ETA\(2\)"):
        found(tmp_path, "$ETAS FILE=before.phi\n", TABLES.replace("ETA(2) ", "ETB(2) "))
