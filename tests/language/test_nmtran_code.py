"""Abbreviated code: arithmetic means what Fortran means, and the printout can be read back."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elbomix.engine.ir.evaluate import evaluate
from elbomix.engine.ir.expression import (
    FUNCTIONS,
    Amount,
    Binary,
    Call,
    Column,
    Compare,
    Eps,
    Eta,
    Expression,
    Logical,
    Negative,
    Not,
    Number,
    Theta,
    Time,
    Variable,
)
from elbomix.engine.ir.model import Model
from elbomix.engine.ir.show import infix
from elbomix.engine.ir.statement import Assign, If
from elbomix.parsers.problem import ProblemError
from elbomix.parsers.read import parse_model

FRAME = """$PROBLEM p
$INPUT ID DV TIME X WT
$DATA d.csv
$PRED
{code}
  Y = THETA(1) + ETA(1) + EPS(1)
$THETA 1 2 3
$OMEGA 1 1
$SIGMA 1 1
"""


def read(code: str) -> Model:
    return parse_model(FRAME.format(code=code))


def value(text: str) -> Expression:
    """The IR of an arithmetic expression."""
    statement = read(f"  V = 1\n  R = {text}").observation.statements[1]
    assert isinstance(statement, Assign)
    return statement.value


def condition(text: str) -> Expression:
    """The IR of a condition."""
    statement = read(f"  V = 1\n  IF ({text}) R = 1").observation.statements[1]
    assert isinstance(statement, If)
    return statement.branches[0][0]


X, WT, V = Column("X"), Column("WT"), Variable("V")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-X**2", Negative(Binary("**", X, Number(2)))),
        ("-X*WT", Negative(Binary("*", X, WT))),
        ("-X+WT", Binary("+", Negative(X), WT)),
        ("X**WT**2", Binary("**", X, Binary("**", WT, Number(2)))),
        ("X/WT/2", Binary("/", Binary("/", X, WT), Number(2))),
        ("X-WT-2", Binary("-", Binary("-", X, WT), Number(2))),
        ("X*-WT", Binary("*", X, Negative(WT))),
        ("X**-WT", Binary("**", X, Negative(WT))),
        ("+X", X),
        ("2*X**3", Binary("*", Number(2), Binary("**", X, Number(3)))),
        ("1.E-3", Number(0.001)),
        ("1.D0", Number(1)),
        (".5E+1", Number(5)),
        ("x*Wt", Binary("*", X, WT)),
        ("dexp(X)", Call("exp", (X,))),
        ("ALOG10(X)", Call("log10", (X,))),
        ("amax1(X,WT,1.)", Call("max", (X, WT, Number(1)))),
        ("PLOG(X)", Call("log", (X,))),
        ("PNP(X)", X),
        ("THETA(2)*ETA(2)+ERR(2)", Binary("+", Binary("*", Theta(2), Eta(2)), Eps(2))),
        ("((X))", X),
    ],
)
def test_arithmetic(text: str, expected: Expression) -> None:
    assert value(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("X.EQ.1", Compare("==", X, Number(1))),
        ("X.eq.1.", Compare("==", X, Number(1))),
        ("1.EQ.X", Compare("==", Number(1), X)),
        ("1..LT..5", Compare("<", Number(1), Number(0.5))),
        ("X==1", Compare("==", X, Number(1))),
        ("X/=1", Compare("!=", X, Number(1))),
        ("X .NE. 1", Compare("!=", X, Number(1))),
        ("X<=1", Compare("<=", X, Number(1))),
        ("X>-1", Compare(">", X, Negative(Number(1)))),
        ("X.GE.WT*2", Compare(">=", X, Binary("*", WT, Number(2)))),
        (
            "X.EQ.1.OR.X.EQ.2.AND..NOT.WT.EQ.3",
            Logical(
                "or",
                Compare("==", X, Number(1)),
                Logical("and", Compare("==", X, Number(2)), Not(Compare("==", WT, Number(3)))),
            ),
        ),
        (
            "(X.EQ.1.OR.X.EQ.2).AND.WT.EQ.3",
            Logical(
                "and",
                Logical("or", Compare("==", X, Number(1)), Compare("==", X, Number(2))),
                Compare("==", WT, Number(3)),
            ),
        ),
    ],
)
def test_conditions(text: str, expected: Expression) -> None:
    assert condition(text) == expected


def test_conditionals_nest_and_fall_through() -> None:
    code = """
  IF (X.EQ.1) THEN
    A = 1
    IF (WT.GT.70) A = 2
  ELSEIF (X.EQ.2) THEN
    A = 3
  ELSE
    IF (WT.GT.80) THEN

      A = 4
    END IF
  ENDIF"""
    assert read(code).observation.statements[:-1] == (
        If(
            (
                (
                    Compare("==", X, Number(1)),
                    (
                        Assign("A", Number(1)),
                        If(((Compare(">", WT, Number(70)), (Assign("A", Number(2)),)),)),
                    ),
                ),
                (Compare("==", X, Number(2)), (Assign("A", Number(3)),)),
            ),
            (If(((Compare(">", WT, Number(80)), (Assign("A", Number(4)),)),)),),
        ),
    )


@pytest.mark.parametrize(
    "name", ["IFF", "THEN1", "ELSEX", "ENDIFX", "EXITS", "CALLS", "RETURN", "DOSES", "E1", "D3"]
)
def test_names_that_begin_like_key_words(name: str) -> None:
    statements = read(f"  {name} = 2\n  IF (X.EQ.1) {name} = {name} + 1").observation.statements
    assert statements[0] == Assign(name, Number(2))


PREDPP = """$PROBLEM p
$INPUT ID TIME AMT DV SEX CMT
$DATA d.csv
$SUBROUTINES ADVAN1
$PK
{pk}
  K = THETA(1)*EXP(ETA(1))
$ERROR
{error}
$THETA 1
$OMEGA 1
$SIGMA 1
"""


@pytest.mark.parametrize(
    ("pk", "error", "kept"),
    [
        ("  IF (AMT.GT.0) BT = TIME\n  IF (TIME.GT.BT) X = 1\n  S1 = X", "  Y = F+EPS(1)", "BT X"),
        ("  IF (AMT.GT.0) BT = TIME", "  TAD = TIME-BT\n  Y = F+EPS(1)", "BT"),
        ("  IF (AMT.GT.0) BT = TIME", "  Y = F+EPS(1)", ""),  # nobody reads it
        ("  BT = 0\n  IF (AMT.GT.0) BT = TIME", "  Y = F*BT+EPS(1)", ""),
        ("  IF (AMT.GT.0) THEN\n  BT = 1\n  ELSE\n  BT = 2\n  ENDIF", "  Y = F*BT+EPS(1)", ""),
        ("  IF (AMT.GT.0) BT = 1\n  IF (AMT.LE.0) BT = 2", "  Y = F*BT+EPS(1)", ""),
        ("  IF (SEX.EQ.1) S1 = 1\n  IF (SEX.EQ.2) S1 = 2", "  Y = F+EPS(1)", "S1"),
        ("  IF (SEX.EQ.1) S1 = 1\n  IF (SEX.NE.1) S1 = 2", "  Y = F+EPS(1)", ""),
        ("", "  IF (CMT.EQ.1) P = F\n  IF (CMT.EQ.2) P = 2*F\n  Y = P+EPS(1)", "P"),
        ("  IF (SEX.EQ.1) G = 1\n  IF (SEX.EQ.1) S1 = G\n  IF (SEX.NE.1) S1 = 1", "  Y = F+EPS(1)", ""),
        ("  D = SEX\n  IF (D.EQ.1) G = 1\n  D = 1\n  IF (D.EQ.1) H = G", "  Y = F+H+EPS(1)", "G H"),
        ("  IF (EVID.EQ.1) F1 = 0.5", "  Y = F+EPS(1)", "F1"),
        ("  IF (NEWIND.NE.2) OLD = 0\n  D = TIME - OLD\n  OLD = TIME", "  Y = F*D+EPS(1)", "OLD"),
        ("  D = LATER", "  LATER = F\n  Y = F*D+EPS(1)", "LATER"),
        ("  I = 0\n  DO WHILE (I.LT.2)\n  G = I\n  I = I+1\n  ENDDO", "  Y = F*G+EPS(1)", "G"),
        ("  IF (SEX.EQ.1) A_0(1) = 5", "  Y = F+EPS(1)", ""),
        ("", "  IF (SEX.EQ.1) Y = F+EPS(1)", ""),
        ("  IF (ICALL.EQ.4) THEN\n  CALL RANDOM (1,R)\n  S1 = R\n  ENDIF", "  Y = F+EPS(1)", "S1"),
    ],
)
def test_values_kept_from_the_record_before(pk: str, error: str, kept: str) -> None:
    """Kept are the variables that some way through a record reads before it assigns them."""
    assert parse_model(PREDPP.format(pk=pk, error=error)).kept == tuple(kept.split())


# --- random expressions ---

_numbers = st.one_of(
    st.integers(0, 9).map(str), st.sampled_from(["0.5", ".25", "2.", "1E1", "3D0", "1.5E-1", "2.D+0"])
)
_operands = st.one_of(_numbers, st.sampled_from(["X", "WT"]))


def _compound(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pairs = st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "**", " + ", " * "]), inner)
    return st.one_of(
        pairs.map("".join),
        inner.map(lambda text: f"({text})"),
        inner.map(lambda text: f"(-{text})"),
        inner.map(lambda text: f"EXP({text})"),
        st.tuples(inner, inner).map(lambda two: f"MAX({two[0]},{two[1]})"),
    )


fortran = st.recursive(_operands, _compound, max_leaves=12)


@settings(max_examples=300, deadline=None)
@given(text=fortran, leading_minus=st.booleans())
def test_random_arithmetic_agrees_with_python(text: str, leading_minus: bool) -> None:
    """Fortran and Python give the four operations, powers and signs the same value.

    Both bind ``**`` tightest and from the right and the rest from the left; a leading minus binds
    differently, with the same value. numpy's floats keep Python from raising on overflow. Their powers
    and the IR's differ by rounding at most, which deep nests multiply: 1e-9.
    """
    text = f"-{text}" if leading_minus else text
    names = {"X": np.float64(1.75), "WT": np.float64(-0.5), "EXP": np.exp, "MAX": np.maximum}
    spelled = _python_numbers(text)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        expected = float(eval(spelled, {"__builtins__": {}, "N": np.float64}, names))
    found = float(evaluate(value(text), {"X": np.array(1.75), "WT": np.array(-0.5)}))
    if math.isnan(expected):
        assert math.isnan(found)
    else:
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-300)


def _python_numbers(text: str) -> str:
    """Wrap every number of a generated expression in N(...), with Python's exponent letter."""
    import re

    number = re.compile(r"(?<![A-Z\d.])(\d+\.?\d*|\.\d+)([ED][+-]?\d+)?")
    return number.sub(lambda m: f"N({m.group().replace('D', 'E')})", text)


_leaves = st.one_of(
    st.floats(0, 1e6, allow_nan=False).map(Number),
    st.sampled_from([Theta(1), Theta(3), Eta(2), Eps(1), X, WT, Column("TIME"), V]),
)


def _grow(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    foreign = ("logit", "invlogit", "digamma")
    one = [name for name, count in FUNCTIONS.items() if count == 1 and name not in foreign]
    two = [name for name, count in FUNCTIONS.items() if count == 2]
    return st.one_of(
        st.builds(Negative, inner),
        st.builds(Binary, st.sampled_from(["+", "-", "*", "/", "**"]), inner, inner),
        st.builds(Call, st.sampled_from(one), st.tuples(inner)),
        st.builds(Call, st.sampled_from([*two, "min", "max"]), st.tuples(inner, inner)),
    )


arithmetic = st.recursive(_leaves, _grow, max_leaves=15)
conditions = st.recursive(
    st.builds(Compare, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), arithmetic, arithmetic),
    lambda inner: st.one_of(
        st.builds(Not, inner), st.builds(Logical, st.sampled_from(["and", "or"]), inner, inner)
    ),
    max_leaves=6,
)

_SPELLING = [
    ("data.", ""),
    ("ceil(", "CEILING("),
    (" and ", ".AND."),
    (" or ", ".OR."),
    ("not ", ".NOT."),
    ("!=", "/="),
]


def _spelled(node: Expression) -> str:
    text = infix(node)
    for ours, theirs in _SPELLING:
        text = text.replace(ours, theirs)
    return text


@settings(max_examples=300, deadline=None)
@given(arithmetic)
def test_printed_arithmetic_reads_back_equal(node: Expression) -> None:
    assert value(_spelled(node)) == node


@settings(max_examples=150, deadline=None)
@given(conditions)
def test_printed_conditions_read_back_equal(node: Expression) -> None:
    assert condition(_spelled(node)) == node


def test_amounts_and_time_print() -> None:
    assert infix(Binary("*", Amount(2), Time())) == "amount(2)*time"


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="XYKA()=+-*/.,; &\n\t\"'$0123456789EQNTIFHLSDRW_", max_size=60))
def test_any_text_gives_a_model_or_problems(code: str) -> None:
    try:
        read(code)
    except ProblemError as error:
        assert error.problems
        for problem in error.problems:
            assert problem.message and "\n" not in problem.message
