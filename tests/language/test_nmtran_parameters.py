"""$THETA, $OMEGA and $SIGMA: the legal forms, what they mean, and where they stand in the text."""

from __future__ import annotations

import math

import pytest

from elbomix.engine.ir.expression import Eps, Eta, Expression, Theta
from elbomix.engine.ir.model import Model
from elbomix.engine.ir.parameter import matrix
from elbomix.engine.ir.span import Span
from elbomix.engine.ir.statement import expressions
from elbomix.parsers.problem import ProblemError
from elbomix.parsers.read import parse_model

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
        ("$THETA (2,2,2 FIX)", [(2, 2, 2, True)]),
        ("$THETA (-INF,2 FIX)", [(-INF, 2, INF, True)]),
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


def test_unused_parameters_are_noted() -> None:
    read = model("$THETA 1 2\n$OMEGA 1 2\n$SIGMA 1 2")
    assert [notice.message for notice in read.notices] == [
        "THETA2 is not used",
        "ETA2 is not used",
        "EPS2 is not used",
    ]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (
            "$OMEGA BLOCK(3) 0.3 0.01 0.3 (0.01)x2 0.3",
            [[0.3, 0.01, 0.01], [0.01, 0.3, 0.01], [0.01, 0.01, 0.3]],
        ),
        ("$OMEGA (0.1 0.2)x2", [[0.1, 0, 0, 0], [0, 0.2, 0, 0], [0, 0, 0.1, 0], [0, 0, 0, 0.2]]),
        ("$OMEGA (0.1, 0.5 SD FIX) 0.3", [[0.1, 0, 0], [0, 0.25, 0], [0, 0, 0.3]]),
        ("$OMEGA BLOCK(2) SAME 1 0 1", None),
        ("$OMEGA BLOCK(2)\nECL= 0.3\nEV= 0.01 0.35", [[0.3, 0.01], [0.01, 0.35]]),
    ],
)
def test_values_in_groups(record: str, expected: list[list[float]] | None) -> None:
    if expected is None:
        with pytest.raises(ProblemError):
            model(record, n_eta=3)
    else:
        assert matrix(model(record, n_eta=len(expected)).omega) == expected


def test_rows_of_a_block_have_names() -> None:
    read = model("$OMEGA BLOCK(2)\nECL= 0.3 ; not this\nEV= 0.01 0.35 ; nor this", n_eta=2)
    assert read.omega[0].labels == ("ECL", "EV")
    assert all(
        span is None for block in model("$OMEGA (0.1 0.2)x2", n_eta=4).omega for span in block.value_spans
    )


@pytest.mark.parametrize(
    ("block", "shift"),
    [
        ("0.03 0.01 0.03 -0.01 0.01 0.03 0.01 -0.01 0.01 0.03", 3.3000e-08),
        (
            "0.12599947825043922 0.02019061328807956 0.22495923796766382 -0.01204160359398777 "
            "0.11542663299335346 1.000032179028572 0.2084749425323184 0.41558847222759365 "
            "0.24407956943624937 1.007762907974968",
            1.3860e-07,
        ),
    ],
)
def test_a_singular_block_is_raised_as_nonmem_raises_it(block: str, shift: float) -> None:
    """The shifts are those that NONMEM 7 printed for these blocks, in five digits."""
    made = model(f"$OMEGA BLOCK(4) {block}", n_eta=4)
    first = float(block.split()[0])
    assert made.omega[0].values[0] - first == pytest.approx(shift, rel=1e-4)
    assert "is added to its diagonal" in made.notices[0].message


def test_a_definite_block_stays_as_it_is() -> None:
    assert model("$OMEGA BLOCK(2) 1 0.999 1", n_eta=2).omega[0].values == (1, 0.999, 1)
