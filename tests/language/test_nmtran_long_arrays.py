"""Arrays of many elements with computed indices: what they become, and that it stays small."""

from __future__ import annotations

import time

import pytest

from elbomix.engine.ir.statement import Assign, assignments, expressions
from elbomix.parsers.read import parse_model

# doses are noted in $PK and summed up in the equations, as models of transit compartments do
STREAM = """$PROBLEM superposition
$INPUT ID TIME AMT DV CMT
$DATA d.csv
$SUBROUTINES ADVAN13 TOL=6
$MODEL COMP=(A)
$ABBR DECLARE WHEN({n}), DOSE({n}), PART({n}), DOWHILE I, DOWHILE N
$PK
  IF (NEWIND.LT.2) N = 1
  IF (AMT.GT.0) THEN
    WHEN(N) = TIME + 0
    DOSE(N) = AMT
    N = N + 1
  ENDIF
  K = THETA(1)*EXP(ETA(1))
$DES
  INPUT = 0
  I = 1
  DO WHILE (I.LT.N)
    PART(I) = 0
    IF (T.GE.WHEN(I)) PART(I) = DOSE(I)*(T - WHEN(I))*EXP(-K*(T - WHEN(I)))
    INPUT = INPUT + PART(I)
    I = I + 1
  ENDDO
  DADT(1) = INPUT - K*A(1)
$ERROR
  Y = A(1) + EPS(1)
$THETA 1
$OMEGA 1
$SIGMA 1
"""


@pytest.mark.parametrize("n", [20, 300])
def test_the_program_grows_with_the_array_not_with_its_square(n: int) -> None:
    model = parse_model(STREAM.format(n=n))
    assert model.dynamics is not None
    statements = (*model.individual, *model.dynamics.statements)  # type: ignore[union-attr]
    assert len(list(expressions(statements))) < 70 * n


def test_what_is_assigned_is_worked_out_before() -> None:
    model = parse_model(STREAM.format(n=20))
    computed = {
        a.target for a in assignments(model.individual) if isinstance(a, Assign) and "(VALUE)" in a.target
    }
    assert computed == {"WHEN(VALUE)"}  # AMT and 0 are there already
    few = parse_model(STREAM.format(n=3))
    assert not any("(VALUE)" in a.target for a in assignments(few.individual))


def test_a_thousand_elements_are_read_in_time() -> None:
    """It took minutes, and gigabytes, when each element had the whole expression."""
    start = time.process_time()
    parse_model(STREAM.format(n=1000))
    assert time.process_time() - start < 6.0  # slack for a busy machine
