"""Verbatim code: idioms that are understood, and all else refused at its line."""

from __future__ import annotations

import pytest

from elbomix.engine.ir.model import Model
from elbomix.parsers.problem import ProblemError
from elbomix.parsers.read import parse_model

FRAME = """$PROBLEM p
$INPUT ID DV TIME X
$DATA d.csv
$PRED

{code}
  Y = X + THETA(1) + ETA(1) + EPS(1)
$THETA 1
$OMEGA 1
$SIGMA 1
"""


def read(code: str) -> Model:
    return parse_model(FRAME.format(code=code))


@pytest.mark.parametrize(
    ("line", "statements"),
    [
        ('"FIRST', 0),
        ('" ! nothing', 0),
        ('"C nothing either', 0),
        ('" INTEGER :: I,J', 0),
        ('" USE NMPRD_INT, ONLY: IERPRD', 0),
        ('" COMMON /PRCOMG/ IDUM1,IMAX', 0),
        ('"  Z = X*2 ! twice', 1),
        ('" IF (X.GT.1) Z = 2', 1),
        ('" WRITE (50,*) X', 0),
    ],
)
def test_verbatim_lines(line: str, statements: int) -> None:
    assert len(read(line).observation.statements) == statements + 1


@pytest.mark.parametrize(
    "line",
    [
        '" Z = ETA(1)%VALUE',
        '"10 CONTINUE',
        '" DO 10 I=1,5',
        '" X(1:3) = 2',
        '"@#$',
        '" Q = G(1,1)',
        '" INCLUDE x',
    ],
)
def test_other_verbatim_lines_are_problems_at_their_line(line: str) -> None:
    with pytest.raises(ProblemError) as caught:
        read("  A = 1\n" + line + "\n  B = 1")
    assert {p.span.line for p in caught.value.problems if p.span is not None} == {7}
