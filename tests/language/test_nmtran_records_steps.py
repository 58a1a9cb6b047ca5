"""Steps and tables: simulation, estimation, levels, tables, and steps that are only understood."""

from __future__ import annotations

import pytest

from elbomix.engine.ir.model import Model
from elbomix.engine.ir.task import SimulationTask, TableTask, labelled
from elbomix.parsers.nmtran.eta_lists import eta_list
from elbomix.parsers.problem import ProblemError
from elbomix.parsers.read import parse_model

TEXT = """$PROBLEM p
$INPUT SID CID ID TIME DV
$DATA d.csv
$PRED
  CL = THETA(1) + ETA(1) + ETA(2) + ETA(3) + ETA(4) + ETA(5) + ETA(6)
  Y = CL + EPS(1)
$THETA 1
$OMEGA 1 1 1 1 1 1
$SIGMA 1
"""


def model(records: str) -> Model:
    return parse_model(TEXT + records + "\n")


def table(record: str) -> TableTask:
    (found,) = model(f"$TABLE {record}").tables
    return found


@pytest.mark.parametrize(
    ("record", "seeds", "replicates", "only", "options"),
    [
        ("(12345)", (12345,), 1, False, ()),
        ("ONLYSIM (393) SUBPROBLEMS=2", (393,), 2, True, ()),
        ("(1) (2 UNI) ONLYSIMULATION NSUB = 7", (1, 2), 7, True, (("SOURCE2", "UNIFORM"),)),
        ("(1 3 NEW)(4 NONPAR)", (1, 4), 1, False, (("SOURCE1", "SEED2=3 NEW"), ("SOURCE2", "NONPARAMETRIC"))),
        ("(NEW 123456) ONLY SUBPROBS 3", (123456,), 3, True, (("SOURCE1", "NEW"),)),
        ("(-1) TRUE=FIN NOPRED", (-1,), 1, False, (("TRUE", "FINAL"), ("NOPREDICTION", ""))),
        ("(2147483647) NSUBPROBLEMS=0", (2147483647,), 1, False, ()),
        ("BOOTSTRAP=-1 STRAT=SID", (), 1, False, (("BOOTSTRAP", "-1"), ("STRAT", "SID"))),
        ("(1)\n$SIML SUBP=4", (1,), 4, False, ()),
    ],
)
def test_simulations(
    record: str, seeds: tuple[int, ...], replicates: int, only: bool, options: tuple[tuple[str, str], ...]
) -> None:
    assert model(f"$SIMULATION {record}").simulation == SimulationTask(seeds, replicates, only, options)


def test_an_omitted_simulation_is_none() -> None:
    assert model("$SIM (1) OMIT").simulation is None


@pytest.mark.parametrize("record", ["", "(0.5)", "(12 X)", "(1 2 3)", "()", "(1) SEED", "(1) SUBP=-2"])
def test_simulations_that_are_refused(record: str) -> None:
    with pytest.raises(ProblemError):
        model(f"$SIMULATION {record}")


@pytest.mark.parametrize(
    ("records", "kind"),
    [
        ("", "normal"),
        ("$EST METHOD=1", "normal"),
        ("$EST METHOD=1 LAPLACE -2LL", "minus_two_ll"),
        ("$EST METHOD=1 LAPLACE -2LOGLIKE", "minus_two_ll"),
        ("$EST LIKE METHOD=COND LAPL", "likelihood"),
        ("$EST LIKELIHOOD\n$EST METHOD=IMP", "likelihood"),
        ("$EST LIKELIHOOD\n$EST METHOD=IMP -2LL", "minus_two_ll"),
        ("$EST LIKELIHOOD\n$EST METHOD=IMP PREDICTION", "normal"),
    ],
)
def test_what_the_response_is(records: str, kind: str) -> None:
    assert model(records).observation.kind == kind


def test_options_carry_over_and_rivals_give_way() -> None:
    first, second = model(
        "$EST METHOD=1 INTER NOABORT SLOW MAXEVAL=9999 SIGL=9 PRINT 5\n$EST METHOD=IMP ABORT FAST EONLY=1"
    ).estimations
    _, _, third = model("$EST METHOD=1 INTER SIGL=9\n$EST METHOD=CHAIN SIGL=3\n$EST METHOD=1").estimations
    assert dict(first.options)["NOABORT"] == ""
    assert dict(second.options) == {
        "METHOD": "IMP",
        "INTERACTION": "",
        "ABORT": "",
        "FAST": "",
        "MAXEVALS": "9999",
        "SIGL": "9",
        "PRINT": "5",
        "EONLY": "1",
    }
    assert dict(third.options) == {"METHOD": "CONDITIONAL", "INTERACTION": "", "SIGL": "9"}


@pytest.mark.parametrize(
    ("record", "levels"),
    [
        ("SID=(3[1],4[2])", [("SID", ((3, 1), (4, 2)))]),
        ("SID=(3[1],4[2])\n$LEVEL CID=(5[3] 6[4])", [("SID", ((3, 1), (4, 2))), ("CID", ((5, 3), (6, 4)))]),
        ("SID=(3 to 4[1]) CID=(5:6[3])", [("SID", ((3, 1), (4, 2))), ("CID", ((5, 3), (6, 4)))]),
        ("SID=(2 TO 6 BY 2[1 BY 1])", [("SID", ((2, 1), (4, 2), (6, 3)))]),
    ],
)
def test_levels(record: str, levels: list[tuple[str, tuple[tuple[int, int], ...]]]) -> None:
    assert [(level.column, level.pairs) for level in model(f"$LEVEL {record}").levels] == levels


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("1:LAST", [1, 2, 3, 4, 5, 6]),
        ("2", [2]),
        ("1 TO 6 by 3", [1, 4]),
        ("LAST to 1 BY -2", [6, 4, 2]),
        ("1,5,2", [1, 5, 2]),
        ("4:1", [4, 3, 2, 1]),
        ("4:1 by -2", [4, 2]),
        ("1:4 by -1", [4, 3, 2, 1]),
        ("LAST", [6]),
        ("1:2,4", [1, 2, 4]),
        ("1:99", [1, 2, 3, 4, 5, 6, 7]),
        ("A", None),
        ("", None),
    ],
)
def test_lists_of_random_effects(text: str, numbers: list[int] | None) -> None:
    """The examples of NONMEM's help on $TABLE, for six etas."""
    assert eta_list(text, 6) == numbers


@pytest.mark.parametrize(
    ("record", "items"),
    [
        ("ID TIME ETAS(1:2) ETA3 ETA(4) ET5", ("ID", "TIME", "ETA1", "ETA2", "ETA3", "ETA4", "ETA5")),
        ("ID, TIME, CL", ("ID", "TIME", "CL")),
        ("IPRE=CIPRED CIRES=MINE CL=WRES", ("IPRE=CIPRED", "MINE=CIRES", "CL=WRES")),
        (
            "COM(2)=G11 ABC=COM(3) :012 G11 H21 VA_1",
            ("G11=COM(2)", "ABC=COM(3)", ":012", "G11", "H21", "VA_1"),
        ),
    ],
)
def test_items_of_tables(record: str, items: tuple[str, ...]) -> None:
    assert table(record).items == items


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", TableTask(("ID",), None)),
        ("NOPRINT ONEHEADER FILE=a.tab", TableTask(("ID",), "a.tab", "once", print_in_report=False)),
        ("FIL=../a.tab NOHEAD", TableTask(("ID",), "../a.tab", "none")),
        ('FILE="a b.tab" NOTITLE NOLABEL', TableTask(("ID",), "a b.tab", title=False, labels=False)),
        (
            "FILE a.tab NOAPPEND FORMAT=,1PE13.6",
            TableTask(("ID",), "a.tab", appended=False, format=",1PE13.6"),
        ),
        ("FIRSTONLY", TableTask(("ID",), None, rows="first")),
        ("LASTRECONLY", TableTask(("ID",), None, rows="last")),
        ("FIRSTLASTONLY", TableTask(("ID",), None, rows="first_last")),
        ("NOAPPEND APPEND", TableTask(("ID",), None)),
        ("IDFORMAT=I", TableTask(("ID",), None, column_formats=(("ID", "I"),))),
        (
            "ESAMPLE=100 SEED=5 WRESCHOL VARCALC=3 FIXEDETAS=(3-6) BY TIME CL",
            TableTask(
                ("ID",),
                None,
                options=(
                    ("ESAMPLE", "100"),
                    ("SEED", "5"),
                    ("WRESCHOL", ""),
                    ("VARCALC", "3"),
                    ("FIXEDETAS", "3-6"),
                    ("BY", "TIME CL"),
                ),
            ),
        ),
        (
            'RFORMAT="(F8.0," RFORMAT="4(1PE12.5))" LFORMAT=NONE EXCLUDE_BY CL',
            TableTask(
                ("ID",),
                None,
                options=(("RFORMAT", "(F8.0,4(1PE12.5))"), ("EXCLUDE_BY", "CL")),
            ),
        ),
    ],
)
def test_options_of_tables(options: str, expected: TableTask) -> None:
    assert table(f"ID {options}") == expected


def test_a_data_item_may_be_called_like_an_option() -> None:
    found = parse_model(TEXT.replace("TIME DV", "SEED DV") + "$TABLE ID SEED SEED=3 FILE=x\n").tables[0]
    assert found.items == ("ID", "SEED")
    assert dict(found.options) == {"SEED": "3"}


def test_an_item_without_meaning_is_noted_where_it_stands() -> None:
    found = model("$TABLE ID\n CWRESS FILE=x")
    (notice,) = found.notices
    assert notice.message == "CWRESS is not defined: a table with it cannot be written; did you mean CWRES?"
    assert notice.span is not None and (notice.span.line, notice.span.column) == (11, 2)
    assert found.tables[0].items == ("ID", "CWRESS")


@pytest.mark.parametrize(
    ("record", "name", "options"),
    [
        ("$MSFI msf66 NPOPETAS=1", "msfi", {"FILE": "msf66", "NPOPETAS": "1"}),
        ("$MSFI 'a b' NPOPETAS ONLY", "msfi", {"FILE": "a b", "NPOPETAS": "", "ONLYREAD": ""}),
        ("$MSFI C:\\x\\y.msf", "msfi", {"FILE": "C:\\x\\y.msf"}),
        ("$NONP UNCOND NPSUPP=300 MSFO", "nonparametric", {"UNCONDITIONAL": "", "NPSUPP": "300", "MSFO": ""}),
        ("$ETAS FILE=x.phi", "etas", {"FILE": "x.phi"}),
        ("$PHIS 0.4 -3 5", "phis", {"VALUES": "0.4 -3 5"}),
        ("$ANNEAL 1-3,5:0.3 6,7:1.0", "anneal", {"VALUES": "1-3 5:0.3 6 7:1.0"}),
        ("$OLKJDF (4.5)x2 3", "olkjdf", {"VALUES": "(4.5) X2 3"}),
        ("$RCOVI FILE=x.coi DELIM=,", "rcovi", {"FILE": "x.coi", "DELIM": ","}),
        ("$CHAIN FILE=x NSAMPLE=0", "chain", {"FILE": "x", "NSAMPLE": "0"}),
        ("$DESIGN GROUPSIZE=32 nelder", "design", {"GROUPSIZE": "32", "NELDER": ""}),
        ("$BIND - LAST", "bind", {"VALUES": "- LAST"}),
    ],
)
def test_steps_that_are_only_understood(record: str, name: str, options: dict[str, str]) -> None:
    (task,) = model(record).other_tasks
    assert (task.name, dict(task.options)) == (name, options)
    assert task.span is not None and task.span.line == 10


@pytest.mark.parametrize("record", ["$BIND - - DROP", "$TTDF 0", "$OLKJDF (0)x2", "$NONP UNCOND OMITTED"])
def test_steps_that_change_nothing(record: str) -> None:
    assert model(record).other_tasks == ()


@pytest.mark.parametrize(
    "record",
    [
        "$SIZES LIM1=2 PD=-50",
        "$CONTR DATA=(DV)",
        "$WARN NONE",
        "$FORMAT FMTN=5",
        "$OMIT TIME",
        "$DEFAULTS NOSUB=1",
    ],
)
def test_records_without_effect_are_noted(record: str) -> None:
    found = model(record)
    assert found.other_tasks == ()
    assert [notice.message.split(":")[0].endswith("has no effect") for notice in found.notices] == [True]


def test_what_editors_leave_behind() -> None:
    """No-break spaces, form feeds, an end-of-file mark and line ends of two kinds."""
    text = TEXT.replace("$THETA 1", "$THETA\xa01 \f").replace("\n$OMEGA", "\r\n $omega") + "$Est meth=1\n\x1a"
    assert parse_model(text).estimations[0].method == "foce"


def test_headings_are_those_that_nonmem_prints() -> None:
    """A synonym heads its data item, other names stay as first spelled; from the tenth eta on, ET10."""
    text = (
        "$PROBLEM p\n$INPUT id CP=DV DOSE=AMT time wt\n$DATA d.csv\n$PRED\n ka=THETA(1)*EXP(ETA(1))\n"
        " Y=ka+ETA(10)+EPS(1)\n$THETA 1\n$OMEGA 1x10\n$SIGMA 1\n"
        "$TABLE ID TIME DV AMT WT KA XY=KA ETA9 ETAS(10:LAST) CWRES FILE=a\n"
    ).replace("1x10", " ".join(["1"] * 10))
    labels = [labelled(item)[0] for item in parse_model(text).tables[0].items]
    assert labels == ["id", "time", "CP", "DOSE", "wt", "ka", "XY", "ETA9", "ET10", "CWRES"]
