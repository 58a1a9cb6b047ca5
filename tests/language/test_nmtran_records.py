"""Records one by one: the legal forms and what they mean."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from elbomix.engine.ir.compartment import OdeDynamics
from elbomix.engine.ir.expression import Eps, Eta, Expression, Theta
from elbomix.engine.ir.model import Model
from elbomix.engine.ir.parameter import matrix
from elbomix.engine.ir.span import Span
from elbomix.engine.ir.statement import expressions
from elbomix.parsers.nmtran.numbers import number, whole
from elbomix.parsers.nmtran.words import RECORDS, resolve_record
from elbomix.parsers.problem import ProblemError
from elbomix.parsers.read import parse_model, read_model

INF = math.inf


def model(records: str, n_theta: int = 1, n_eta: int = 1, n_eps: int = 1) -> Model:
    """A model without compartments around the given records."""
    terms = [f"THETA({i + 1})" for i in range(n_theta)]
    terms += [f"ETA({i + 1})" for i in range(n_eta)] + [f"EPS({i + 1})" for i in range(n_eps)]
    text = "$PROBLEM p\n$INPUT ID DV\n$DATA d.csv\n$PRED\n Y=" + "+&\n".join(terms) + "\n" + records
    for name, default in (("$THETA", "$THETA 1"), ("$OMEGA", "$OMEGA 1"), ("$SIGMA", "$SIGMA 1")):
        if name not in records:
            text += "\n" + default
    return parse_model(text + "\n")


def written(source: str, span: Span | None) -> str | None:
    return None if span is None else source[span.start : span.stop]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ("$THETA 1.5", [(-INF, 1.5, INF, False)]),
        ("$THETA (0,1,INF)", [(0, 1, INF, False)]),
        ("$THETA (-INFINITY,1,+INF)", [(-INF, 1, INF, False)]),
        ("$THETA (0 1)", [(0, 1, INF, False)]),
        ("$THETA (0,1,)", [(0, 1, INF, False)]),
        ("$THETA (,1,3)", [(-INF, 1, 3, False)]),
        ("$THETA ( 0.1 , .594E0 , )", [(0.1, 0.594, INF, False)]),
        ("$THETA (1,,3)", [(1, 2, 3, False)]),
        ("$THETA 2 FIX", [(-INF, 2, INF, True)]),
        ("$THETA (2 FIXED)", [(-INF, 2, INF, True)]),
        ("$THETA (2,FIX)", [(-INF, 2, INF, True)]),
        ("$THETA (0,2,3) FIX", [(0, 2, 3, True)]),
        ("$THETA (0,2,3 FIX)", [(0, 2, 3, True)]),
        ("$THETA (2,2,2)", [(2, 2, 2, True)]),
        ("$THETA (-1000000,2,1000000)", [(-INF, 2, INF, False)]),
        ("$THETA (-1D6,2,1E+07)", [(-INF, 2, INF, False)]),
        ("$THETA (1,2)x2", [(1, 2, INF, False)] * 2),
        ("$THETA (2)X3", [(-INF, 2, INF, False)] * 3),
        ("$THETA 1, 2 -3", [(-INF, 1, INF, False), (-INF, 2, INF, False), (-INF, -3, INF, False)]),
        ("$THETA 0 FIX 1", [(-INF, 0, INF, True), (-INF, 1, INF, False)]),
        ("$THETA 4 UNINT", [(-INF, 4, INF, False)]),
        ("$THETA 1\n$THETA 2\n$THE 3", [(-INF, i, INF, False) for i in (1, 2, 3)]),
        ("$THETA CL=(0,1) V=2", [(0, 1, INF, False), (-INF, 2, INF, False)]),
        ("$THETA NAMES(CL,V) 1 2", [(-INF, 1, INF, False), (-INF, 2, INF, False)]),
    ],
)
def test_theta_forms(record: str, expected: list[tuple[float, float, float, bool]]) -> None:
    read = model(record, n_theta=len(expected))
    assert [(t.lower, t.initial, t.upper, t.fixed) for t in read.thetas] == expected


@pytest.mark.parametrize(
    ("record", "labels"),
    [
        ("$THETA 1 ; CL (L/h)\n 2\n 3 ;; V ; in L\n", ["CL (L/h)", "", "; V ; in L"]),
        ("$THETA 1 2 ; the last on the line\n", ["", "the last on the line"]),
        ("$THETA CL=1 ; the name wins\n", ["CL"]),
        ("$THETA NAMES(A,B) 1 2", ["A", "B"]),
        ("$THETA (1,\n 2 ; inside\n , 3)", [""]),
    ],
)
def test_labels_come_from_names_and_comments(record: str, labels: list[str]) -> None:
    assert [t.label for t in model(record, n_theta=len(labels)).thetas] == labels


@pytest.mark.parametrize(
    ("record", "expected", "fixed"),
    [
        ("$OMEGA 0.1 0.2 FIX 0.3", [[0.1, 0, 0], [0, 0.2, 0], [0, 0, 0.3]], [False, True, False]),
        ("$OMEGA DIAGONAL(2) 0.1 (FIX 0.2)", [[0.1, 0], [0, 0.2]], [False, True]),
        ("$OMEGA (0.1)x2", [[0.1, 0], [0, 0.1]], [False, False]),
        ("$OMEGA 0.5 SD 0.2", [[0.25, 0], [0, 0.2]], [False, False]),
        ("$OMEGA STANDARD 0.5 0.25", [[0.25, 0], [0, 0.0625]], [False, False]),
        ("$OMEGA (0.5 STANDARD FIX)", [[0.25]], [True]),
        ("$OMEGA BLOCK(2) 1 0.5 2", [[1, 0.5], [0.5, 2]], [False]),
        ("$OMEGA BLOCK(2) FIX 1 0.5 2", [[1, 0.5], [0.5, 2]], [True]),
        ("$OMEGA BLOCK(2) 1 FIX 0.5 2", [[1, 0.5], [0.5, 2]], [True]),
        ("$OMEGA BLOCK(2) (1) (0.5) (2)", [[1, 0.5], [0.5, 2]], [False]),
        ("$OMEGA BLOCK(2) SD 2 0.5 3", [[4, 0.5], [0.5, 9]], [False]),
        ("$OMEGA BLOCK(2) CORRELATION 4 0.5 9", [[4, 3], [3, 9]], [False]),
        ("$OMEGA BLOCK(2) SD CORRELATION 2 0.5 3", [[4, 3], [3, 9]], [False]),
        ("$OMEGA BLOCK(2) VARIANCE COVARIANCE 1 0.5 2", [[1, 0.5], [0.5, 2]], [False]),
        ("$OMEGA BLOCK(2) CHOLESKY 2 1 3", [[4, 2], [2, 10]], [False]),
        ("$OMEGA BLOCK(2) VALUES(2,0.1)", [[2, 0.1], [0.1, 2]], [False]),
        ("$OMEGA BLOCK(1) 2\n$OMEGA BLOCK(1) SAME", [[2, 0], [0, 2]], [False, False]),
        ("$OMEGA BLOCK(1) 2\n$OMEGA BLOCK SAME(2)", [[2, 0, 0], [0, 2, 0], [0, 0, 2]], [False] * 3),
        ("$OMEGA BLO(2) 1 .1 1\n$OMEGA BLOC(2) SAME", None, [False, False]),
        ("$OMEGA BLOCK(2) FIX 0 0 0", [[0, 0], [0, 0]], [True]),
    ],
)
def test_matrix_forms(record: str, expected: list[list[float]] | None, fixed: list[bool]) -> None:
    """Values are turned into variances and covariances, checked by hand."""
    size = len(expected) if expected is not None else 4
    read = model(record, n_eta=size)
    if expected is not None:
        assert matrix(read.omega) == expected
    assert [block.fixed for block in read.omega] == fixed
    sigma = model(record.replace("$OMEGA", "$SIGMA"), n_eps=size)
    assert sigma.sigma == read.omega


def test_same_refers_to_the_block_that_holds_the_value() -> None:
    read = model("$OMEGA 9\n$OMEGA BLOCK(1) 2\n$OMEGA BLOCK(1) SAME\n$OMEGA BLOCK(1) SAME", n_eta=4)
    assert [block.same_as for block in read.omega] == [None, None, 1, 1]
    assert [block.first for block in read.omega] == [1, 2, 3, 4]


def test_value_spans_cover_the_values_alone() -> None:
    read = model(
        "$THETA (0, 1.50 ,3) 2 FIX (4)x2\n$OMEGA BLOCK(2) CL=1.0 0.5 V=2.D0 ; l\n"
        "$OMEGA 3 SD (0.7)\n$SIGMA 0.25",
        n_theta=4,
        n_eta=4,
    )
    source = read.source
    assert [written(source, t.value_span) for t in read.thetas] == ["1.50", "2", None, None]
    assert [written(source, t.span) for t in read.thetas][:2] == ["(0, 1.50 ,3)", "2 FIX"]
    assert [[written(source, s) for s in b.value_spans] for b in read.omega] == [
        ["1.0", "0.5", "2.D0"],
        [None],  # a standard deviation: its text is no variance
        ["0.7"],
    ]
    assert read.omega[0].labels == ("CL", "V")
    assert [written(source, s) for s in read.sigma[0].value_spans] == ["0.25"]


def test_every_parameter_in_code_carries_its_place() -> None:
    text = (
        "$PROBLEM p\r\n$INPUT ID DV ; é\r\n$DATA 'my data.csv'\r\n$PRED ; comment\r\n"
        " Y = theta( 1 )*EXP(ETA(1)) + &\r\n   Err(1)\r\n$THETA 1\r\n"
        "$OMEGA 1\r\n$SIGMA 1\r\n$EST METHOD=1 ; x\r\n$COV\r\n"
    )
    read = parse_model(text)
    found: dict[type[Expression], str | None] = {
        type(node): written(text, node.span)
        for node in expressions(read.observation.statements)
        if isinstance(node, Theta | Eta | Eps)
    }
    assert found == {Theta: "theta( 1 )", Eta: "ETA(1)", Eps: "Err(1)"}
    assert written(text, read.inputs.file_span) == "'my data.csv'"
    assert read.inputs.file == "my data.csv"
    assert written(text, read.estimations[0].span) == "$EST METHOD=1"
    assert read.covariance is not None and written(text, read.covariance.span) == "$COV"
    eps = next(n for n in expressions(read.observation.statements) if isinstance(n, Eps))
    assert eps.span is not None and (eps.span.line, eps.span.column, eps.span.end_column) == (6, 4, 10)


@pytest.mark.parametrize("name", RECORDS)
def test_every_record_may_be_written_in_full_and_lower_case(name: str) -> None:
    assert resolve_record(name) == name
    assert resolve_record(name.lower()) == name


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("PROB", "PROBLEM"),
        ("INP", "INPUT"),
        ("DAT", "DATA"),
        ("INFILE", "DATA"),
        ("SUB", "SUBROUTINES"),
        ("SUBS", "SUBROUTINES"),
        ("SUBR", "SUBROUTINES"),
        ("SUBROUTINE", "SUBROUTINES"),
        ("MOD", "MODEL"),
        ("ERR", "ERROR"),
        ("THE", "THETA"),
        ("THETAPV", "THETAPV"),
        ("THETAP", "THETAP"),
        ("OME", "OMEGA"),
        ("OMEGAPD", "OMEGAPD"),
        ("SIG", "SIGMA"),
        ("SIGMAP", "SIGMAP"),
        ("EST", "ESTIMATION"),
        ("ESTM", "ESTIMATION"),
        ("ESTIM", "ESTIMATION"),
        ("ESTIMATE", "ESTIMATION"),
        ("COV", "COVARIANCE"),
        ("COVR", "COVARIANCE"),
        ("TAB", "TABLE"),
        ("TABL", "TABLE"),
        ("SCAT", "SCATTERPLOT"),
        ("SIM", "SIMULATION"),
        ("SIML", "SIMULATION"),
        ("SIMULATE", "SIMULATION"),
        ("SIZ", "SIZES"),
        ("INF", "INFN"),
        ("INFN", "INFN"),
        ("MSF", "MSFI"),
        ("ABBR", "ABBREVIATED"),
        ("NON", "NONPARAMETRIC"),
        ("NONP", "NONPARAMETRIC"),
        ("CONTR", "CONTR"),
        ("PK", "PK"),
        ("DES", "DES"),
        ("PRI", "PRIOR"),
        ("PRED", "PRED"),
        ("PR", None),
        ("ERRO", "ERROR"),
        ("ERRORS", None),
        ("", None),
    ],
)
def test_record_abbreviations(word: str, name: str | None) -> None:
    assert resolve_record(word) == name


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1.0),
        ("-1.", -1.0),
        (".5", 0.5),
        ("+1.5E3", 1500.0),
        ("1D-3", 0.001),
        ("1d+3", 1000.0),
        ("2+1", 20.0),
        ("2-1", 0.2),
        (" 7 ", 7.0),
        ("1e5", 1e5),
        ("", None),
        (".", None),
        ("1_000", None),
        ("nan", None),
        ("inf", None),
        ("0x10", None),
        ("1 2", None),
        ("1E", None),
        ("--1", None),
    ],
)
def test_fortran_numbers(text: str, value: float | None) -> None:
    assert number(text) == value


@pytest.mark.parametrize(("text", "value"), [("3", 3), ("3.", 3), ("3.5", None), ("1E99", None), ("x", None)])
def test_whole_numbers(text: str, value: int | None) -> None:
    assert whole(text) == value


@pytest.mark.parametrize(
    ("written_as", "name", "aliases", "role"),
    [
        ("DV=CONC", "DV", ("CONC",), "dv"),
        ("CONC=DV", "DV", ("CONC",), "dv"),
        ("dose=amt", "AMT", ("DOSE",), "amt"),
        ("WT=WEIGHT", "WT", ("WEIGHT",), "covariate"),
        ("X=DROP", "X", (), "dropped"),
        ("SKIP=X", "X", (), "dropped"),
        ("DROP", "DROP", (), "dropped"),
        ("L2=DROP", "L2", (), "dropped"),
    ],
)
def test_input_items(written_as: str, name: str, aliases: tuple[str, ...], role: str) -> None:
    text = f"$PROBLEM p\n$INPUT ID {'' if role == 'dv' else 'DV '}, {written_as}\n$DATA d.csv\n"
    text += "$PRED Y=THETA(1)+ETA(1)+EPS(1)\n$THETA 1\n$OMEGA 1\n$SIGMA 1\n"
    column = parse_model(text).inputs.columns[-1]
    assert (column.name, column.aliases, column.role) == (name, aliases, role)


@pytest.mark.parametrize(
    ("options", "comment"),
    [
        ("", "#"),
        ("IGNORE=@", "@"),
        ("IGN=C", "C"),
        ("IGNORE @", "@"),
        ("IGNORE@", "@"),
        ("IGNORE='#'", "#"),
        ('IGNORE = "I"', "I"),
        ("REWIND,IGNORE=I,WIDE", "I"),
    ],
)
def test_comment_characters(options: str, comment: str) -> None:
    text = f"$PROBLEM p\n$INPUT ID DV\n$DATA d.csv {options}\n"
    text += "$PRED Y=THETA(1)+ETA(1)+EPS(1)\n$THETA 1\n$OMEGA 1\n$SIGMA 1\n"
    assert parse_model(text).inputs.rows.comment == comment


@pytest.mark.parametrize(
    ("estimation", "method", "evaluate_only"),
    [
        ("", "fo", False),
        ("METHOD=0", "fo", False),
        ("METHOD=ZERO INTER", "foi", False),
        ("METH=1", "foce", False),
        ("METHOD=COND INTERACTION", "focei", False),
        ("METHOD=CONDITIONAL LAPLACIAN", "laplace", False),
        ("METHOD=1 LAPLACE INTER NUMERICAL SLOW", "laplacei", False),
        ("METHOD=1 MAXEVAL=0", "foce", True),
        ("METHOD=1 MAX = 0", "foce", True),
        ("MET=IMP", "imp", False),
        ("METHOD=IMP EONLY=1", "imp", True),
        ("METHOD=IMPMAP MAXEVAL=0", "impmap", False),
        ("METHOD=SAEM NBURN=0 NITER=0", "saem", True),
        ("METHOD=ITS", "its", False),
        ("METHOD=BAYES", "bayes", False),
        ("METHOD=NUTS", "nuts", False),
        ("METHOD=VAE", "vae", False),
        ("METHOD=VAE MAXEVAL=0", "vae", True),
        ("METHOD=HYBRID", "foce", False),
    ],
)
def test_estimation_methods(estimation: str, method: str, evaluate_only: bool) -> None:
    (task,) = model(f"$ESTIMATION {estimation}").estimations
    assert (task.method, task.evaluate_only) == (method, evaluate_only)


def test_estimation_options_have_canonical_names() -> None:
    (task,) = model("$EST METH=1 SIG=3 MAX 500 POSTH -2LL NOOBT MSF=run.msf LIKE FORMAT=,1PE13.6").estimations
    assert task.options == (
        ("METHOD", "CONDITIONAL"),
        ("SIGDIGITS", "3"),
        ("MAXEVALS", "500"),
        ("POSTHOC", ""),
        ("-2LOGLIKELIHOOD", ""),
        ("MSFO", "run.msf"),
        ("LIKELIHOOD", ""),
        ("FORMAT", ",1PE13.6"),
    )


@pytest.mark.parametrize(
    ("subroutines", "tolerances", "stiff"),
    [
        ("ADVAN13 TOL=6", (1e-6, 1e-12), False),
        ("ADVAN=6 TOL 5", (1e-5, 1e-12), False),
        ("ADVAN6 TOL5", (1e-5, 1e-12), False),
        ("ADVAN=ADVAN8,TRANS=TRANS1 TOL = 7 ATOL=9", (1e-7, 1e-9), True),
        ("ADVAN14", (1e-9, 1e-12), True),
    ],
)
def test_subroutines_of_differential_equations(
    subroutines: str, tolerances: tuple[float, float], stiff: bool
) -> None:
    text = (
        f"$PROBLEM p\n$INPUT ID TIME DV AMT\n$DATA d.csv\n$SUBS {subroutines}\n$MODEL COMP=(A)\n"
        "$PK K=THETA(1)*EXP(ETA(1))\n"
        "$DES DADT(1)=-K*A(1)\n$ERROR Y=F+EPS(1)\n$THETA 1\n$OMEGA 1\n$SIGMA 1\n"
    )
    dynamics = parse_model(text).dynamics
    assert isinstance(dynamics, OdeDynamics)
    assert (dynamics.relative_tolerance, dynamics.absolute_tolerance) == pytest.approx(tolerances, rel=1e-12)
    assert dynamics.stiff is stiff


@pytest.mark.parametrize(
    ("record", "names", "dose", "observation"),
    [
        ("NCOMP=2", ("COMP1", "COMP2"), 1, 1),
        ("COMP COMP", ("COMP1", "COMP2"), 1, 1),
        ("COMP=GUT COMP=CENTRAL", ("GUT", "CENTRAL"), 1, 2),
        ("COMP=(CENTRAL) COMP=(DEPOT)", ("CENTRAL", "DEPOT"), 2, 1),
        ("COMP (X, DEFOBS) COMP(Y DEFDOS)", ("X", "Y"), 2, 1),
        ("COMPARTMENT=('A') COMP=('B' DEFOBSERVATION)", ("A", "B"), 1, 2),
        ("NCOMPARTMENTS=2 COMP=(CENTRAL,DEFDOSE,NOOFF) COMP=", ("CENTRAL", "COMP2"), 1, 1),
    ],
)
def test_compartments(record: str, names: tuple[str, str], dose: int, observation: int) -> None:
    text = (
        f"$PROBLEM p\n$INPUT ID TIME DV AMT\n$DATA d.csv\n$SUBS ADVAN13\n$MODEL {record}\n"
        "$PK K=THETA(1)*EXP(ETA(1))\n"
        "$DES\nDADT(1)=-K*A(1)\nDADT(2)=0\n$ERROR Y=F+EPS(1)\n$THETA 1\n$OMEGA 1\n$SIGMA 1\n"
    )
    dynamics = parse_model(text).dynamics
    assert dynamics is not None
    assert tuple(c.name for c in dynamics.compartments) == names
    assert (dynamics.default_dose, dynamics.default_observation) == (dose, observation)


def test_unused_parameters_are_noted() -> None:
    read = model("$THETA 1 2\n$OMEGA 1 2\n$SIGMA 1 2")
    assert [notice.message for notice in read.notices] == [
        "THETA2 is not used",
        "ETA2 is not used",
        "EPS2 is not used",
    ]


def test_unreadable_file_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match=r"cannot read .*absent\.ctl"):
        read_model(tmp_path / "absent.ctl")
    with pytest.raises(ProblemError, match="cannot read"):
        read_model(tmp_path)


def test_byte_order_mark_and_foreign_bytes(tmp_path: Path) -> None:
    text = "$PROBLEM caf\u00e9\n$INPUT ID DV\n$DATA d.csv\n$PRED Y=THETA(1)+ETA(1)+EPS(1)\n"
    text += "$THETA 1 ; \u00b5g\n$OMEGA 1\n$SIGMA 1\n"
    for name, raw in (("bom", text.encode("utf-8-sig")), ("latin", text.encode("latin-1"))):
        path = tmp_path / f"{name}.ctl"
        path.write_bytes(raw)
        read = read_model(path)
        assert (read.title, read.thetas[0].label) == ("caf\u00e9", "\u00b5g")
        assert len(read.source_sha256) == 64
