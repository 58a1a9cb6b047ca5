"""Abbreviated code: statements, arrays, replacements and reserved variables, run record by record.

The models are run by a small interpreter below, against the same program written by hand in Python.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from operator import add, eq, ge, gt, le, lt, mul, ne, sub, truediv

import pytest

from elbomix.engine.ir.expression import (
    Binary,
    Column,
    Compare,
    Conditional,
    Eta,
    Expression,
    Known,
    Logical,
    Negative,
    Not,
    Number,
    Theta,
    Variable,
    walk,
)
from elbomix.engine.ir.expression import Call as FunctionCall
from elbomix.engine.ir.model import Model
from elbomix.engine.ir.statement import Assign, Draw, If, Reject, Statement, While, expressions, flatten
from elbomix.parsers.read import parse_model

FRAME = """$PROBLEM p
$INPUT ID DV TIME X GRP OCC
$DATA d.csv
{abbreviated}
$PRED
{code}
  Y = {response} + 0*(THETA(1) + ETA(1) + EPS(1))
$THETA 1 20 300
$OMEGA 1 20 300
$SIGMA 1 FIX
$SIGMA 4
"""
THETA = (1.0, 20.0, 300.0)
ETA = (0.1, 0.2, 0.3)


def read(code: str, response: str = "X", abbreviated: str = "") -> Model:
    return parse_model(FRAME.format(code=code, response=response, abbreviated=abbreviated))


def run(model: Model, records: list[dict[str, float]]) -> list[float]:
    """The response at each record of one subject; other variables than the kept ones start at 0."""
    kept = dict.fromkeys(model.kept, 0.0)
    responses = []
    for number, record in enumerate(records):
        values = dict(kept)
        known = {"newind": 0.0 if number == 0 else 2.0, "icall": 2.0, "sigma": 4.0}
        _run(model.observation.statements, values, record, known)
        responses.append(values["Y"])
        kept = {name: values.get(name, 0.0) for name in model.kept}
    return responses


def _run(
    statements: tuple[Statement, ...],
    values: dict[str, float],
    record: dict[str, float],
    known: dict[str, float],
) -> None:
    for statement in statements:
        match statement:
            case Assign(target, value):
                values[target] = _value(value, values, record, known)
            case If(branches, otherwise):
                body = next((b for c, b in branches if _value(c, values, record, known)), otherwise)
                _run(body, values, record, known)
            case While(condition, body):
                for _ in range(1000):
                    if not _value(condition, values, record, known):
                        break
                    _run(body, values, record, known)
            case _:
                raise AssertionError(statement)


_ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": add,
    "-": sub,
    "*": mul,
    "/": truediv,
    "**": pow,
}
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "==": eq,
    "!=": ne,
    "<": lt,
    "<=": le,
    ">": gt,
    ">=": ge,
}


def _value(
    node: Expression, values: dict[str, float], record: dict[str, float], known: dict[str, float]
) -> float:
    def of(inner: Expression) -> float:
        return _value(inner, values, record, known)

    match node:
        case Number(value):
            return value
        case Column(name):
            return record[name]
        case Variable(name):
            return values.get(name, 0.0)
        case Theta(index):
            return THETA[index - 1]
        case Eta(index):
            return ETA[index - 1]
        case Known(quantity):
            return known[quantity]
        case Negative(operand):
            return -of(operand)
        case Not(operand):
            return float(not of(operand))
        case Logical("and", left, right):
            return of(left) and of(right)
        case Logical("or", left, right):
            return of(left) or of(right)
        case Conditional(condition, then, otherwise):
            return of(then) if of(condition) else of(otherwise)
        case FunctionCall("int", (argument,)):
            return float(math.trunc(of(argument)))
        case FunctionCall("exp", (argument,)):
            return math.exp(of(argument))
        case Binary(operator, left, right):
            return _ARITHMETIC[operator](of(left), of(right))
        case Compare(comparison, left, right):
            return float(_COMPARE[comparison](of(left), of(right)))
    return 0.0  # eps


def records(*x: float, **columns: list[float]) -> list[dict[str, float]]:
    return [
        {"ID": 1.0, "DV": 0.0, "TIME": float(i), "X": float(value), **{k: v[i] for k, v in columns.items()}}
        for i, value in enumerate(x)
    ]


def test_loops_run_until_their_condition_fails() -> None:
    code = "  N = 0\n  S = 0\n  DO WHILE (S.LE.X)\n    N = N + 1\n    S = S + N\n  END DO"
    assert run(read(code, "N"), records(0, 1, 5, 20)) == [1, 2, 3, 6]


def test_a_lagged_value_is_that_of_the_record_before() -> None:
    code = "  IF (NEWIND.NE.2) OLD = X\n  D = X - OLD\n  OLD = X"
    assert run(read(code, "D"), records(3, 4, 9, 7)) == [0, 1, 5, -2]


def test_what_the_first_calls_set_up_holds_at_all_records() -> None:
    code = "  IF (ICALL.LE.1) THEN\n  C = 7\n  ENDIF"
    assert run(read(code, "C*X"), records(1, 2, 3)) == [7, 14, 21]


def test_nothing_runs_after_a_return() -> None:
    code = """  R = 1
  IF (X.GT.1) THEN
    R = 2
    IF (X.GT.2) RETURN
    R = 3
  ENDIF
  Y = 10*R
  IF (X.GT.0) RETURN
  R = 4"""
    model = read("  Y = 5\n" + code, "R")
    # the last line of the frame is reached by the first record only
    assert run(model, records(0, 1, 2, 3)) == [4, 10, 30, 5]


def test_elements_of_declared_arrays_are_variables() -> None:
    code = """  IF (NEWIND.NE.2) N = 0
  N = N + 1
  SEEN(N) = X*1
  I = 1
  S = 0
  DO WHILE (I.LE.N)
    S = S + SEEN(I)*I
    I = I + 1
  ENDDO"""
    model = read(code, "S", "$ABBR DECLARE SEEN(25), INTEGER N, DOWHILE I")
    x = [3.0, 1.0, 4.0, 1.0, 5.0]
    assert run(model, records(*x)) == [sum((i + 1) * x[i] for i in range(n)) for n in range(1, 6)]
    assert set(model.kept) == {"N", *(f"SEEN({i})" for i in range(1, 26))}


def test_two_indices_choose_one_element() -> None:
    fill = "\n".join(f"  T({i},{j}) = {10 * i + j}" for i in (1, 2) for j in (1, 2, 3))
    model = read(f"{fill}\n  R = T(GRP,OCC)", "R", "$ABBR DECLARE T(2,3)")
    groups, occasions = [1.0, 1.0, 2.0, 2.0, 2.0], [1.0, 3.0, 1.0, 2.0, 3.0]
    found = run(model, records(0, 0, 0, 0, 0, GRP=groups, OCC=occasions))
    assert found == [10 * g + o for g, o in zip(groups, occasions, strict=True)]


def test_whole_variables_cut_what_they_are_given() -> None:
    assert run(read("  N = X/2", "N", "$ABBR DECLARE INTEGER N"), records(3, -3, 4)) == [1, -1, 2]


def test_a_computed_parameter_index() -> None:
    model = read("  I = GRP + 1", "THETA(I)", "$ABBR DECLARE INTEGER I")
    assert run(model, records(0, 0, 0, GRP=[0.0, 1.0, 2.0])) == list(THETA)


@pytest.mark.parametrize(
    ("rule", "term", "expected"),
    [
        ("REPLACE ETA(OCC_CL)=ETA(2,3)", "ETA(OCC_CL)", [0.2, 0.3, 0.0]),
        ("REPLACE ETA(OCC)=ETA(3,2,1)", "ETA(OCC)", [0.3, 0.2, 0.1]),
        # The comma in front only says that a list follows (help page of $ABBREVIATED: ",4 to 13 by 3").
        ("REPLACE ETA(OCC_CL)=ETA(,2:3)", "ETA(OCC_CL)", [0.2, 0.3, 0.0]),
        ("REPLACE ETA(OCC_CL)=ETA(,1 to 3)", "ETA(OCC_CL)", [0.1, 0.2, 0.3]),
        ("REPLACE ETA(OCC_CL)=ETA(3 to 1)", "ETA(OCC_CL)", [0.3, 0.2, 0.1]),
        ("REPLACE ETA(OCC_CL)=ETA(1 to 3 by -2)", "ETA(OCC_CL)", [0.3, 0.1, 0.0]),
        ("REPLACE ETA(OCC_CL)=ETA(3:1 by 2)", "ETA(OCC_CL)", [0.3, 0.1, 0.0]),
        ("REPLACE ETA(OCC_CL)=ETA(1 to 3 by 2)", "ETA(OCC_CL)", [0.1, 0.3, 0.0]),
        ("REPLACE THETA(OCC_V)=THETA(0,2,3)", "THETA(OCC_V)", [0.0, 20.0, 300.0]),
        ("REPLACE THETA(CL,V)=THETA(2,3)", "THETA(CL)+THETA(V)", [320.0] * 3),
        ("REPLACE THETA(CL,V)=THETA(2:3)", "THETA(CL)+THETA(V)", [320.0] * 3),
        ("REPLACE CL=THETA(2)", "CL", [20.0] * 3),
        ("REPLACE CL=2.5D0", "CL", [2.5] * 3),
        ('REPLACE CL="THETA(1)+OCC"', "CL*2", [4.0, 6.0, 8.0]),
        ('REPLACE K="2,2"', "SIGMA(K)", [4.0] * 3),
    ],
)
def test_replacements(rule: str, term: str, expected: list[float]) -> None:
    model = read("", term, f"$ABBR {rule}")
    assert run(model, records(0, 0, 0, OCC=[1.0, 2.0, 3.0])) == pytest.approx(expected, abs=1e-15)


def test_long_selections_stay_shallow() -> None:
    """300 occasions of one effect: the choice is balanced, so reading and printing do not overflow."""
    etas = " ".join(["1"] * 300)
    text = FRAME.format(code="", response="ETA(OCC_CL)", abbreviated="$ABBR REPLACE ETA(OCC_CL)=ETA(1:300)")
    model = parse_model(text.replace("$OMEGA 1 20 300", f"$OMEGA {etas}"))
    choices = [node for node in expressions(model.observation.statements) if isinstance(node, Conditional)]
    assert max(_depth(node) for node in choices) <= 10


def _depth(node: Expression) -> int:
    if not isinstance(node, Conditional):
        return 0
    return 1 + max(_depth(node.then), _depth(node.otherwise))


def test_elements_of_sigma_are_numbers_where_fixed() -> None:
    model = read("", "SIGMA(1,1) + SIGMA(2)")
    found = {node for node in expressions(model.observation.statements) if isinstance(node, Known)}
    assert found == {Known("sigma", 3)}


def test_data_items_that_simulations_assign_stand_for_themselves_otherwise() -> None:
    model = read("  IF (ICALL.EQ.4) THEN\n    CALL RANDOM (2,R)\n    X = R\n  ENDIF\n  Q = X")
    assert model.observation.statements[0] == Assign("X", Column("X"))
    assert Draw("normal", ("R",), 2) in list(flatten(model.observation.statements))
    reads = [n for s in model.observation.statements[1:] for n in expressions((s,)) if n == Column("X")]
    assert not reads


def test_sources_are_distributed_as_simulation_says() -> None:
    text = FRAME.format(code="  CALL RANDOM (2,R)", response="R", abbreviated="")
    model = parse_model(text + "$SIMULATION (12) (34 UNIFORM)\n")
    assert model.observation.statements[0] == Draw("uniform", ("R",), 2)


def test_exits() -> None:
    model = read("  IF (X.LT.0) EXIT 1 100\n  IF (X.LT.-9) EXIT 2\n  IF (X.LT.-99) EXIT")
    found = [s for s in flatten(model.observation.statements) if isinstance(s, Reject)]
    assert found == [Reject(False, 100), Reject(True, 0), Reject(False, 0)]


PREDPP = """$PROBLEM p
$INPUT ID TIME AMT DV
$DATA d.csv
$SUBROUTINES ADVAN13 TOL=9
$MODEL COMP=(GUT) COMP=(BLOOD)
$PK {phrase}
  K = THETA(1)*EXP(ETA(1))
{pk}
$DES
  C = A(2)/7
  UNUSED = C*2
  G = C*T
  DADT(1) = -K*A(1)
  DADT(2) = K*A(GUT) - C
$ERROR
{error}
  Y = F + EPS(1)
$THETA 1
$OMEGA 1
$SIGMA 1
"""


@pytest.mark.parametrize(
    ("phrase", "pk", "call"),
    [
        ("", "", "record"),
        ("(ONCE PER INDIVIDUAL RECORD)", "", "first"),
        ("(CALL WITH EVERY EVENT)", "", "record"),
        ("(ADDITIONAL AND LAGGED DOSES)", "", "dose"),
        ("(NON-EVENT TIMES)", "", "dose"),
        ("(NEW EVENT TIME)", "", "record"),
        ("", "  CALLFL=-2", "dose"),
        ("", "  CALLFL = -1", "record"),
        ("", "  CALLFL=1", "first"),
    ],
)
def test_when_the_individual_model_is_called(phrase: str, pk: str, call: str) -> None:
    assert parse_model(PREDPP.format(phrase=phrase, pk=pk, error="")).individual_call == call


def test_variables_of_differential_equations_are_computed_at_records() -> None:
    model = parse_model(PREDPP.format(phrase="", pk="", error="  Q = G"))
    names = [s.target for s in model.observation.statements if isinstance(s, Assign)]
    assert names == ["C", "G", "Q", "Y"]
    g = next(s for s in model.observation.statements if isinstance(s, Assign) and s.target == "G")
    assert g.value == Binary("*", Variable("C"), Column("TIME"))


def test_initial_amounts_are_set_at_starts_and_resets() -> None:
    model = parse_model(PREDPP.format(phrase="", pk="  IF (A_0FLG.EQ.1) A_0(BLOOD) = 5", error=""))
    found = next(s for s in model.individual if isinstance(s, If))
    assert {type(n) for n in walk(found.branches[0][0])} >= {Known, Column, Conditional}
    assert found.branches[0][1] == (Assign("A_0(2)", Number(5)),)


@pytest.mark.parametrize("code", ["  F_FLAG = 1", "  IF (DV.LT.1) F_FLAG = 1"])
def test_the_flag_decides_what_a_response_is(code: str) -> None:
    model = parse_model(PREDPP.format(phrase="", pk="", error=code))
    assert model.observation.flag == "F_FLAG" and "F_FLAG" not in model.kept


def test_long_code_is_read_in_time() -> None:
    """2,000 dense lines; on one core of 2020 about 0.6 s, most of it in the parser."""
    import time

    line = "  V{i} = V{i}*2 + EXP(-X*{i})/(1 + THETA(2)**2)\n  IF (X.GT.{i}) V{i} = V{i} - 1\n"
    code = "".join(f"  V{i} = 0\n" + line.format(i=i) for i in range(660))
    start = time.process_time()
    read(code)
    assert time.process_time() - start < 4.0  # slack for a busy machine


def test_declarations_need_no_commas_and_a_type_holds_for_one_name() -> None:
    model = read("  I = X/2\n  J = X/2", "I*100 + J", "$ABBR DECLARE A(3) INTEGER I J, INTEGER DOWHILE N")
    assert run(model, records(3)) == [101.5]


def test_no_extra_request_of_bayesian_methods_is_ever_granted() -> None:
    model = read("  BAYES_EXTRA_REQUEST = 1\n  S = X\n  IF (BAYES_EXTRA.EQ.1) S = 0", "S")
    assert run(model, records(3)) == [3]
