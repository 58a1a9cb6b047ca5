"""Several problems in one file, and files put into others."""

from __future__ import annotations

from pathlib import Path

import pytest

from elbomix.parsers.problem import ProblemError
from elbomix.parsers.read import parse_models, read_model, read_models

FIRST = """$PROBLEM one
$INPUT ID DV WT
$DATA d.csv IGNORE=@
$PRED
  CL = THETA(1)*EXP(ETA(1))
  Y = CL + EPS(1)
$THETA (0,1)
$OMEGA 0.1
$SIGMA 1
"""


def test_a_later_problem_takes_over_what_it_does_not_say() -> None:
    first, second = parse_models(FIRST + "$ESTIMATION METHOD=1\n$COV\n$PROBLEM two\n$TABLE ID CL\n")
    assert (first.problem, first.problems, second.problem, second.problems) == (1, 2, 2, 2)
    assert (first.title, second.title) == ("one", "two")
    assert second.inputs == first.inputs
    assert second.observation == first.observation
    assert (second.thetas, second.omega, second.sigma) == (first.thetas, first.omega, first.sigma)
    assert second.estimations == () and second.covariance is None and first.tables == ()
    assert second.tables[0].items == ("ID", "CL")
    assert second.source == first.source


def test_parameters_of_a_later_problem_are_its_own() -> None:
    _, second = parse_models(FIRST + "$PROBLEM two\n$THETA (0,7)\n$OMEGA 0.3\n$SIGMA 4\n$PRIOR NWPRI\n")
    assert [theta.initial for theta in second.thetas] == [7.0]
    assert (second.omega[0].values, second.sigma[0].values) == ((0.3,), (4.0,))


def test_data_of_a_later_problem() -> None:
    models = parse_models(
        FIRST + "$PROBLEM 2\n$DATA *\n$PROBLEM 3\n$INPUT ID WT DV\n$DATA e.csv\n$PROBLEM 4\n$TABLE ID\n"
    )
    assert [model.inputs.file for model in models] == ["d.csv", "d.csv", "e.csv", "e.csv"]
    assert [model.inputs.rows.comment for model in models] == ["@", "@", "#", "#"]
    assert [c.name for c in models[3].inputs.columns] == ["ID", "WT", "DV"]


def test_parameters_from_a_file_have_no_value_but_a_count() -> None:
    text = "$PROBLEM p\n$INPUT ID DV\n$DATA d.csv\n$MSFI run.msf\n$PRED\n"
    (model,) = parse_models(text + " Y=THETA(1)+THETA(3)*ETA(2)+ERR(1)\n$COV\n")
    assert (len(model.thetas), model.n_etas, model.n_eps) == (3, 2, 1)
    assert all(theta.initial != theta.initial for theta in model.thetas)  # none is known
    (task,) = model.other_tasks
    assert (task.name, task.options) == ("msfi", (("FILE", "run.msf"),))
    assert task.span is not None and task.span.line == 4


def test_a_superproblem_belongs_to_the_problem_after_it() -> None:
    first, second = parse_models(FIRST + "$SUPER SCOPE=1 ITERATIONS=5 NOPRINT\n$PROBLEM two\n$TABLE ID\n")
    assert first.other_tasks == ()
    assert [task.name for task in second.other_tasks] == ["superproblem"]


def test_a_model_of_its_own_is_noted() -> None:
    _, second = parse_models(FIRST + "$PROBLEM two\n$PRED Y = THETA(1) + ETA(1) + EPS(1)\n")
    assert second.observation.statements != parse_models(FIRST)[0].observation.statements
    assert any("a model of its own" in notice.message for notice in second.notices)


def test_a_problem_is_told_once_for_all_problems_of_a_file() -> None:
    with pytest.raises(ProblemError) as caught:
        parse_models(
            FIRST.replace("EXP(", "EXQ(") + "$PROBLEM two\n$TABLE ID\n$PROBLEM three\n$TABLE ETA(4)\n"
        )
    messages = [problem.message for problem in caught.value.problems]
    assert len(messages) == 2
    assert messages[1].endswith("(in problem 3)")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A control stream in pieces."""
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "data.txt").write_text("$INPUT ID DV WT ; items\n$DATA d.csv IGNORE=@")
    (tmp_path / "parts" / "code.txt").write_bytes(b"  CL = THETA(1)*EXP(ETA(1))\r\n")
    (tmp_path / "theta.txt").write_text("$THETA 0.5 ; \u00b5\n", encoding="latin-1")
    (tmp_path / "run.ctl").write_text(
        "$PROBLEM in pieces\n$INCLUDE parts/data.txt\n$PRED\ninclude 'parts/code.txt' ; the model\n"
        "  Y = CL + THETA(2) + THETA(3) + EPS(1)\nINCLUDE theta.txt 3\n$OMEGA 0.1\n$SIGMA 1\n"
    )
    return tmp_path


def test_files_are_included_where_they_are_named(folder: Path) -> None:
    model = read_model(folder / "run.ctl")
    assert model.inputs.names == ("ID", "DV", "WT")
    assert [theta.initial for theta in model.thetas] == [0.5, 0.5, 0.5]
    assert model.thetas[2].label == "\u00b5"
    assert model.source == (folder / "run.ctl").read_text()
    places = [
        model.inputs.file_span,
        model.thetas[0].span,
        model.omega[0].span,
        model.observation.statements[0].span,
    ]
    found = [(Path(p.file).name, p.line, p.column) for p in places if p is not None]
    assert found == [("data.txt", 2, 7), ("theta.txt", 1, 8), ("run.ctl", 7, 8), ("code.txt", 1, 3)]
    span = model.omega[0].span
    assert span is not None and model.source[span.start : span.stop] == "0.1"
    assert model.thetas[0].value_span is None  # a writer of the control stream may not change it there
    assert model.omega[0].value_spans == (span,)


def test_a_problem_in_an_included_file_shows_its_line(folder: Path) -> None:
    (folder / "parts" / "code.txt").write_text("  CL = THETA(1)*EXQ(ETA(1))\n")
    with pytest.raises(ProblemError) as caught:
        read_model(folder / "run.ctl")
    shown = str(caught.value).splitlines()
    assert "code.txt:1:" in shown[0]
    assert shown[1] == "    1 |   CL = THETA(1)*EXQ(ETA(1))"


def test_included_files_may_not_include(folder: Path) -> None:
    (folder / "theta.txt").write_text("$INCLUDE run.ctl\n")
    with pytest.raises(ProblemError, match="includes another file"):
        read_model(folder / "run.ctl")


def test_words_that_only_look_like_an_include(tmp_path: Path) -> None:
    path = tmp_path / "run.ctl"
    text = "$PROBLEM all\n include everyone\n; $INCLUDE x\n" + FIRST.split("\n", 1)[1]
    path.write_text(text.replace("  CL =", "  INCLUDE = 1\n  CL ="))
    (model,) = read_models(path)
    assert model.title == "all"


def test_declarations_that_come_with_nonmem_need_no_file(tmp_path: Path) -> None:
    path = tmp_path / "run.ctl"
    path.write_text(FIRST.replace("$PRED\n", "$PRED\ninclude \\nonmem\\util\\nonmem_reserved_general\n"))
    assert len(read_models(path)) == 1
