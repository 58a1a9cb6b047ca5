"""mu-referencing: which codes have it, and that the mu found is the one the code computes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import logit
from support.statements import run

from elbomix.engine.ir.dataflow import individual_statements
from elbomix.engine.ir.evaluate import evaluate
from elbomix.engine.ir.expression import Binary, Call, Column, Compare, Eps, Expression, Logical, Not, Number
from elbomix.engine.ir.model import Model
from elbomix.engine.ir.mu import MuReference, mu_references
from elbomix.parsers.read import parse_model

Array = NDArray[np.float64]

N = 9
RANDOM = np.random.default_rng(2)
COLUMNS = {
    "WT": RANDOM.uniform(40, 110, N),
    "AGE": RANDOM.uniform(20, 80, N),
    "SEX": np.array([0.0, 1, 0, 1, 1, 0, 0, 1, 0]),
    "TIME": np.linspace(0, 8, N),
}
THETA = np.array([0.5, 0.7, 0.3, 0.8, 0.2, 0.9])
STREAM = """\
$PROBLEM mu
$INPUT ID TIME AMT DV WT AGE SEX
$DATA any.csv
$SUBROUTINES ADVAN1 TRANS2
$PK
{code}
$ERROR
{error}
$THETA (0,{0}) (0,{1}) (0,{2}) (0,{3}) (0,{4}) (0,{5})
$OMEGA 0.1 0.2 0.3
$SIGMA 1
"""
Wanted = dict[int, tuple[str, str, dict[int, str]]]


def read(code: str, error: str = "Y=F+EPS(1)", **changes: str) -> Model:
    text = STREAM.format(*THETA, code=code.replace("; ", "\n"), error=error)
    for old, new in changes.items():
        text = text.replace(old, new)
    return parse_model(text)


def found(model: Model) -> Wanted:
    return {
        r.eta: (r.parameter, r.link, {t.theta: t.transform for t in r.terms}) for r in mu_references(model)
    }


def typical(reference: MuReference, theta: Array = THETA) -> Array:
    """Return mu of every subject."""
    mu = np.zeros(N) if reference.offset is None else evaluate(reference.offset, COLUMNS) + np.zeros(N)
    for term in reference.terms:
        value = theta[term.theta - 1]
        if term.transform != "identity":
            value = np.log(value) if term.transform == "log" else np.log(value / (1 - value))
        mu = mu + evaluate(term.design, COLUMNS) * value
    return mu


def assert_mu_is_what_the_code_computes(model: Model) -> None:
    """parameter = link^-1(mu + eta) at random thetas and etas; what else is added depends on neither."""
    rng = np.random.default_rng(3)
    eta = rng.normal(size=(model.n_etas, N))
    for reference in mu_references(model):
        links: dict[str, Callable[[Array], Array]] = {"identity": np.array, "log": np.log, "logit": logit}
        rest = []
        for _ in range(3):
            theta = rng.uniform(0.1, 0.9, 6)
            eta[reference.eta - 1] = rng.normal(size=N)
            phi = typical(reference, theta) + eta[reference.eta - 1]
            values = run(individual_statements(model), COLUMNS, theta, eta)
            rest.append(links[reference.link](values[reference.parameter]) - phi)
        np.testing.assert_allclose(rest, np.tile(rest[0], (3, 1)), atol=1e-12)
        assert bool((np.abs(rest[0]) < 1e-12).all()) == reference.alone
        assert reference.columns <= COLUMNS.keys()


REFERENCED: list[tuple[str, Wanted]] = [
    ("CL=THETA(1)*EXP(ETA(1)); V=1", {1: ("CL", "log", {1: "log"})}),
    ("CL=EXP(ETA(1))*THETA(1)*2; V=1", {1: ("CL", "log", {1: "log"})}),
    ("CL=EXP(LOG(THETA(1))+ETA(1)); V=1", {1: ("CL", "log", {1: "log"})}),
    ("CL=EXP(THETA(1)+ETA(1)); V=1", {1: ("CL", "log", {1: "identity"})}),
    ("TVCL=THETA(1)*(WT/70)**THETA(5); CL=TVCL*EXP(ETA(1)); V=1",
     {1: ("CL", "log", {1: "log", 5: "identity"})}),
    ("TVCL=THETA(1); MU_1=LOG(TVCL); CL=EXP(MU_1+ETA(1)); V=1", {1: ("CL", "log", {1: "log"})}),
    ("MU_1=THETA(1); CL=EXP(MU_1+ETA(1)); V=1", {1: ("CL", "log", {1: "identity"})}),
    ("MU_1=THETA(1)+THETA(2)*(AGE-40); CL=MU_1+ETA(1); V=1",
     {1: ("CL", "identity", {1: "identity", 2: "identity"})}),
    ("LCL=LOG(THETA(1))+ETA(1); CL=EXP(LCL); V=1", {1: ("CL", "log", {1: "log"})}),
    ("PHI1=THETA(1)+ETA(1); CL=EXP(PHI1); V=EXP(PHI1)", {1: ("PHI1", "identity", {1: "identity"})}),
    ("E1=ETA(1); CL=THETA(1)*EXP(E1); V=1", {1: ("CL", "log", {1: "log"})}),
    ("IIV=EXP(ETA(1)); CL=THETA(1)*IIV; V=1", {1: ("CL", "log", {1: "log"})}),
    ("CL=1/(1+EXP(-(THETA(1)+ETA(1)))); V=1", {1: ("CL", "logit", {1: "identity"})}),
    ("CL=1/(EXP(-THETA(1)-ETA(1))+1); V=1", {1: ("CL", "logit", {1: "identity"})}),
    ("X=LOG(THETA(1)/(1-THETA(1)))+ETA(1); CL=EXP(X)/(1+EXP(X)); V=1", {1: ("CL", "logit", {1: "logit"})}),
    ("CL=THETA(1)/THETA(2)*SQRT(THETA(3))*EXP(ETA(1)); V=1",
     {1: ("CL", "log", {1: "log", 2: "log", 3: "log"})}),
    ("CL=THETA(1)*THETA(5)**SEX*EXP(THETA(2)*(AGE-40))*EXP(ETA(1)); V=1",
     {1: ("CL", "log", {1: "log", 5: "log", 2: "identity"})}),
    ("CL=THETA(1)*EXP(ETA(1)); CL=CL*(WT/70)**THETA(3); V=1", {1: ("CL", "log", {1: "log", 3: "identity"})}),
    ("CL=10**(LOG10(THETA(1))+ETA(1)/LOG(10)); V=1", {}),  # the eta is scaled: d phi / d eta is not exactly 1
    ("CL=5*EXP(ETA(1)); V=1", {1: ("CL", "log", {})}),
    ("CL=(THETA(1)*WT)**0.75*EXP(ETA(1)); V=1", {1: ("CL", "log", {1: "log"})}),
    ("CL=THETA(1)*EXP(ETA(1)); V=THETA(2)+ETA(2)",
     {1: ("CL", "log", {1: "log"}), 2: ("V", "identity", {2: "identity"})}),
    # dead code and tables do not count
    ("CL=THETA(1)*EXP(ETA(1)); V=1; ET1=ETA(1); HALF=THETA(1)/2", {1: ("CL", "log", {1: "log"})}),
    # conditions on data
    ("TVCL=THETA(1); IF (SEX.EQ.1) TVCL=TVCL*THETA(5); CL=TVCL*EXP(ETA(1)); V=1",
     {1: ("CL", "log", {1: "log", 5: "log"})}),
    ("IF (SEX.EQ.1) THEN; TVCL=THETA(1); TVV=THETA(2); ELSE; TVCL=THETA(3); TVV=THETA(4); ENDIF; "
     "CL=TVCL*(WT/70)**.75*EXP(ETA(1)); V=TVV+ETA(2)",
     {1: ("CL", "log", {1: "log", 3: "log"}), 2: ("V", "identity", {2: "identity", 4: "identity"})}),
    ("IF (AGE.LT.40) THEN; TVCL=THETA(1); ELSEIF (AGE.LT.60.OR.WT.GT.90) THEN; TVCL=THETA(2); ELSE; "
     "TVCL=THETA(3); ENDIF; CL=TVCL/2*EXP(ETA(1)); V=1", {1: ("CL", "log", {1: "log", 2: "log", 3: "log"})}),
    ("FEM=0; IF (SEX.NE.1) FEM=1; CL=THETA(1)*THETA(2)**FEM*EXP(ETA(1)); V=1",
     {1: ("CL", "log", {1: "log", 2: "log"})}),
    ("IF (SEX.EQ.1) THEN; CL=THETA(1)*EXP(ETA(1)); ELSE; CL=THETA(2)*EXP(ETA(1)); ENDIF; V=1",
     {1: ("CL", "log", {1: "log", 2: "log"})}),
    # other etas beside phi
    ("IOV=0; IF (TIME.LT.4) IOV=ETA(2); IF (TIME.GE.4) IOV=ETA(3); CL=THETA(1)*EXP(ETA(1)+IOV); V=1",
     {1: ("CL", "log", {1: "log"})}),
    ("O1=0; IF (TIME.LT.4) O1=1; MU_1=LOG(THETA(1))+THETA(2)*LOG(WT/70); "
     "CL=EXP(MU_1+ETA(1)+O1*ETA(2)+(1-O1)*ETA(3)); V=1", {1: ("CL", "log", {1: "log", 2: "identity"})}),
    ("IOV=ETA(2); IF (TIME.GE.4) IOV=ETA(3); CL=THETA(1)*EXP(ETA(1))*EXP(IOV); V=1",
     {1: ("CL", "log", {1: "log"})}),
    ("IOV=ETA(2); IF (TIME.GE.4) IOV=ETA(3); PH=THETA(1)+ETA(1)+IOV; CL=1/(1+EXP(-PH)); V=1",
     {1: ("CL", "logit", {1: "identity"})}),
    ("IF (TIME.LT.4) THEN; CL=THETA(1)*EXP(ETA(1)+ETA(2)); ELSE; CL=THETA(1)*EXP(ETA(1)+ETA(3)); ENDIF; V=1",
     {1: ("CL", "log", {1: "log"})}),
    ("X=ABS(ETA(2))**1.5; CL=THETA(1)*EXP(ETA(1)+X); V=1", {1: ("CL", "log", {1: "log"})}),
    ("X=ABS(ETA(2))+ETA(3)**2; CL=THETA(1)*EXP(ETA(1)+WT*X); V=THETA(2)*EXP(ETA(3))",
     {1: ("CL", "log", {1: "log"})}),
    ("CL=THETA(1)*EXP(ETA(1)+ETA(2)); V=THETA(2)*EXP(ETA(2))", {1: ("CL", "log", {1: "log"})}),
    # further etas are added to phi: that of the lowest number carries mu
    ("CL=THETA(1)*EXP(ETA(1)+ETA(2)); V=1", {1: ("CL", "log", {1: "log"})}),
    ("IOV=ETA(2); IF (SEX.EQ.1) IOV=ETA(3); CL=EXP(LOG(THETA(1))+ETA(1)+IOV); V=1",
     {1: ("CL", "log", {1: "log"})}),
    ("IOV=SEX*ETA(1)+(1-SEX)*ETA(3); CL=THETA(1)*EXP(ETA(2)+IOV); V=1", {2: ("CL", "log", {1: "log"})}),
    ("CL=THETA(1)*EXP(ETA(1)+ETA(3)); V=THETA(2)*EXP(ETA(2)+ETA(3))",
     {1: ("CL", "log", {1: "log"}), 2: ("V", "log", {2: "log"})}),
]  # fmt: skip


@pytest.mark.parametrize(("code", "wanted"), REFERENCED)
def test_referenced(code: str, wanted: Wanted) -> None:
    model = read(code)
    assert found(model) == wanted
    assert_mu_is_what_the_code_computes(model)


@pytest.mark.parametrize(
    "code",
    [
        "CL=THETA(1)*(1+ETA(1)); V=1",
        "CL=THETA(1)*(1+THETA(2)*(WT-70))*EXP(ETA(1)); V=1",
        "CL=THETA(1)*EXP(ETA(1)*THETA(2)); V=1",
        "CL=THETA(1)*EXP(-ETA(1)); V=1",
        "CL=THETA(1)*(1+ETA(1)+ETA(2)); V=1",
        "X=ETA(1)+ETA(2); CL=THETA(1)*(1+X); V=1",
        "CL=THETA(1)*EXP(ETA(1)); V=THETA(1)",  # theta elsewhere
        "CL=THETA(1)*EXP(ETA(1)); V=THETA(2)*EXP(ETA(1))",  # eta elsewhere
        "CL=THETA(1)*(WT/70)**THETA(3)*EXP(ETA(1)); V=THETA(2)*(WT/70)**THETA(3)*EXP(ETA(2))",  # shared theta
        "CL=THETA(1)*THETA(2)+ETA(1); V=1",
        "CL=EXP(THETA(1)+ETA(1))*THETA(1); V=1",  # theta and log theta
        "TVCL=THETA(1); IF (THETA(2).GT.1) TVCL=2; CL=TVCL*EXP(ETA(1)); V=1",
        "X=1; IF (SEX.EQ.1) X=EXP(ETA(1)); CL=THETA(1)*X; V=1",  # an eta that some subjects lack
        "CL=ABS(THETA(1)+ETA(1)); V=1",
        "CL=THETA(1)**ETA(1); V=1",
        "CL=WT**THETA(1)+EXP(ETA(1)); V=1",
        "X=ETA(1); CL=THETA(1)*(1+X); V=1",
        "X=ETA(1)+ETA(2); CL=THETA(1)*(1+X); V=1",
        "X=ABS(ETA(1)); CL=THETA(1)*EXP(X); V=1",
        "X=ETA(1)**2; Z=ETA(1); CL=THETA(1)*EXP(Z+X); V=1",
        "E=ETA(1); X=ABS(E); CL=THETA(1)*EXP(E+X); V=1",
        "X=ABS(ETA(2)+THETA(1)); CL=THETA(1)*EXP(ETA(1)+X); V=1",  # theta beside phi
    ],
)
def test_not_referenced(code: str) -> None:
    assert found(read(code)) == {}


def test_an_occasion_without_an_eta_of_its_own_keeps_the_one_before() -> None:
    # without IOV=0 NONMEM keeps the value of the record before: a function of other etas, whatever it is
    code = "IF (TIME.LT.2) IOV=ETA(2); IF (TIME.GE.4) IOV=ETA(3); CL=THETA(1)*EXP(ETA(1)+IOV); V=1"
    references = mu_references(read(code))
    assert [(r.eta, r.alone, [t.theta for t in r.terms]) for r in references] == [(1, False, [1])]
    np.testing.assert_allclose(typical(references[0]), np.log(THETA[0]))
    kept = "IF (TIME.LT.2) TVCL=THETA(1); CL=TVCL*EXP(ETA(1)); V=1"
    assert found(read(kept)) == {}


def test_a_theta_that_starts_negative_has_no_logarithm() -> None:
    code = "CL=EXP(THETA(1)+ETA(1)); V=THETA(2)*EXP(ETA(2))"
    model = parse_model(
        STREAM.replace("(0,{0}) (0,{1})", "-1 -2").format(
            0, 0, *THETA[2:], code=code.replace("; ", "\n"), error="Y=F+EPS(1)"
        )
    )
    assert found(model) == {1: ("CL", "log", {1: "identity"})}


def test_a_fixed_theta_may_be_shared() -> None:
    code = "CL=THETA(1)*(WT/70)**THETA(3)*EXP(ETA(1)); V=THETA(2)*(WT/70)**THETA(3)*EXP(ETA(2))"
    model = read(code, **{"(0,0.3)": "0.75 FIX"})
    assert found(model) == {
        1: ("CL", "log", {1: "log", 3: "identity"}),
        2: ("V", "log", {2: "log", 3: "identity"}),
    }
    assert_mu_is_what_the_code_computes(model)


@pytest.mark.parametrize(
    "error", ["Y=F*EXP(ETA(1))+EPS(1)", "Y=F+THETA(1)*EPS(1)", "W=THETA(1)\nY=F+W*EPS(1)"]
)
def test_eta_or_theta_in_the_observation_model(error: str) -> None:
    assert found(read("CL=THETA(1)*EXP(ETA(1)); V=1", error)) == {}


def test_variables_that_only_tables_use_do_not_matter() -> None:
    model = read("TVCL=THETA(1); CL=TVCL*EXP(ETA(1)); V=1", "IPRED=F\nY=F+EPS(1)")
    assert found(model) == {1: ("CL", "log", {1: "log"})}


def test_predictions_without_compartments() -> None:
    stream = (
        "$PROBLEM p\n$INPUT ID TIME DV WT AGE SEX\n$DATA d.csv\n$PRED\n"
        "A=THETA(1)*EXP(ETA(1))\nB=THETA(2)+ETA(2)\nY=A+B*TIME+EPS(1)+ETA(3)\n"
        "$THETA 1 2\n$OMEGA 1 1 1\n$SIGMA 1\n"
    )
    model = parse_model(stream)
    assert found(model) == {1: ("A", "log", {1: "log"}), 2: ("B", "identity", {2: "identity"})}


def test_differential_equations_are_sinks() -> None:
    stream = STREAM.replace("ADVAN1 TRANS2", "ADVAN13 TOL=6\n$MODEL COMP=(C)").replace(
        "$ERROR", "$DES\nDADT(1)=-CL/V*A(1)*THETA(4)\n$ERROR"
    )
    code = "CL=THETA(1)*EXP(ETA(1))\nV=THETA(4)*EXP(ETA(2))"
    model = parse_model(stream.format(*THETA, code=code, error="Y=F+EPS(1)"))
    assert found(model) == {1: ("CL", "log", {1: "log"})}


@settings(max_examples=80, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_product_of_factors_is_found(data: st.DataObject) -> None:
    """Random orders and groupings of what may stand in a log-linked parameter."""
    factors = {
        "THETA(1)": {1: "log"},
        "(WT/70)**THETA(2)": {2: "identity"},
        "EXP(THETA(3)*(AGE-40)/10)": {3: "identity"},
        "THETA(4)**SEX": {4: "log"},
        "SQRT(THETA(5)*WT)": {5: "log"},
        "0.5": {},
    }
    chosen = data.draw(st.lists(st.sampled_from(sorted(factors)), unique=True, min_size=1))
    product = chosen[0]
    lines = []
    for i, factor in enumerate(chosen[1:]):
        product = f"{product}{data.draw(st.sampled_from('*/'))}{factor}"
        if data.draw(st.booleans()):
            lines.append(f"X{i}={product}")
            product = f"X{i}"
    model = read("; ".join([*lines, f"CL={product}*EXP(ETA(1))", "V=1"]))
    terms: dict[int, str] = {}
    for factor in chosen:
        terms |= factors[factor]
    assert found(model) == {1: ("CL", "log", terms)}
    assert_mu_is_what_the_code_computes(model)


def test_evaluate_covers_functions_and_conditions() -> None:
    from scipy import special

    x = np.array([0.2, 0.7, 0.4])
    a = Column("x")
    single: dict[str, Callable[[Array], Array]] = {
        "exp": np.exp, "log": np.log, "log10": np.log10, "sqrt": np.sqrt, "abs": np.abs, "sin": np.sin,
        "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan,
        "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh, "int": np.trunc, "floor": np.floor,
        "ceil": np.ceil,
        "gamln": special.gammaln, "lfac": lambda v: special.gammaln(v + 1), "phi": special.ndtr,
        "logit": special.logit, "invlogit": special.expit,
    }  # fmt: skip
    for name, function in single.items():
        np.testing.assert_allclose(evaluate(Call(name, (a,)), {"x": x}), function(x), rtol=1e-14)
    minus = Binary("-", Number(0.0), Number(5.5))
    assert evaluate(Call("mod", (minus, Number(2.0))), {}) == -1.5
    assert evaluate(Call("int", (minus,)), {}) == -5
    assert evaluate(Call("max", (Number(1.0), Number(3.0), Number(2.0))), {}) == 3
    np.testing.assert_allclose(evaluate(Call("atan2", (a, Number(2.0))), {"x": x}), np.arctan2(x, 2))
    low, high = Compare("<", a, Number(0.5)), Compare(">=", a, Number(0.3))
    np.testing.assert_array_equal(evaluate(Logical("and", low, high), {"x": x}), [0, 0, 1])
    np.testing.assert_array_equal(evaluate(Logical("or", Not(low), Not(high)), {"x": x}), [1, 1, 0])
    assert evaluate(Call("log", (Number(0.0),)), {}) == -np.inf
    with pytest.raises(KeyError):
        evaluate(a, {})
    bad: Expression = Eps(1)
    with pytest.raises(ValueError, match="Eps has no value"):
        evaluate(bad, {})
