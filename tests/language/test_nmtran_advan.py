"""$SUBROUTINES and $MODEL: the compartments and rate constants of every library model."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from elbomix.engine.ir.compartment import Dynamics, LinearDynamics, OdeDynamics, OutputCompartment
from elbomix.engine.ir.evaluate import evaluate
from elbomix.engine.ir.expression import Column, Expression, Variable, transform
from elbomix.engine.ir.model import Model
from elbomix.parsers.nmtran.library import rate_constant
from elbomix.parsers.problem import ProblemError
from elbomix.parsers.read import parse_model

Array = NDArray[np.float64]
DES = "$DES\nDADT(1)=-THETA(1)*A(1)\n"


def model(
    subroutines: str, code: str, records: str = "", items: str = "", error: str = "Y=F+EPS(1)"
) -> Model:
    return parse_model(
        f"$PROBLEM p\n$INPUT ID TIME AMT DV {items}\n$DATA d.csv\n$SUBROUTINES {subroutines}\n"
        f"{records.partition('$DES')[0]}\n$PK\n{code}\nETAS=ETA(1)*THETA(1)\n"
        f"{''.join(records.partition('$DES')[1:])}\n$ERROR\n{error}\n$THETA 1\n$OMEGA 1\n$SIGMA 1\n"
    )


def dynamics(subroutines: str, code: str, records: str = "", items: str = "") -> Dynamics:
    found = model(subroutines, code, records, items).dynamics
    assert found is not None
    return found


def linear(subroutines: str, values: dict[str, float]) -> tuple[LinearDynamics, Array]:
    """Return a library model and its rate matrix K (dA/dt = K A) with these parameters."""
    code = "\n".join(f"{name}={value!r}" for name, value in values.items())
    found = dynamics(subroutines, code)
    assert isinstance(found, LinearDynamics)
    n = len(found.compartments)
    matrix = np.zeros((n, n))
    for transfer in found.transfers:
        rate = number(transfer.rate, values)
        matrix[transfer.source - 1, transfer.source - 1] -= rate
        if transfer.target:
            matrix[transfer.target - 1, transfer.source - 1] += rate
    return found, matrix


def number(expression: Expression, values: dict[str, float]) -> float:
    def known(node: Expression) -> Expression:
        return Column(node.name) if isinstance(node, Variable) else node

    return float(evaluate(transform(expression, known), {n: np.asarray(v) for n, v in values.items()}))


def mammillary(elimination: float, pairs: list[tuple[float, float]], absorption: float | None) -> Array:
    """Rate matrix from its definition: a central compartment, each peripheral one with out and back."""
    depot = int(absorption is not None)
    n = 1 + len(pairs) + depot
    matrix = np.zeros((n, n))
    c = depot
    matrix[c, c] = -elimination - sum(out for out, _ in pairs)
    for i, (out, back) in enumerate(pairs, start=c + 1):
        matrix[i, c], matrix[c, i], matrix[i, i] = out, back, -back
    if absorption is not None:
        matrix[0, 0], matrix[1, 0] = -absorption, absorption
    return matrix


CASES: list[tuple[str, dict[str, float], Array]] = [
    ("ADVAN1", {"K": 0.3}, mammillary(0.3, [], None)),
    ("ADVAN1 TRANS2", {"CL": 3, "V": 10}, mammillary(0.3, [], None)),
    ("ADVAN2 TRANS1", {"K": 0.3, "KA": 2}, mammillary(0.3, [], 2)),
    ("ADVAN2 TRANS2", {"CL": 3, "V": 10, "KA": 2}, mammillary(0.3, [], 2)),
    ("ADVAN3", {"K": 0.3, "K12": 0.2, "K21": 0.1}, mammillary(0.3, [(0.2, 0.1)], None)),
    ("ADVAN3 TRANS3", {"CL": 3, "V": 10, "Q": 2, "VSS": 30}, mammillary(0.3, [(0.2, 0.1)], None)),
    ("ADVAN3 TRANS4", {"CL": 3, "V1": 10, "Q": 2, "V2": 20}, mammillary(0.3, [(0.2, 0.1)], None)),
    ("ADVAN4", {"K": 0.3, "K23": 0.2, "K32": 0.1, "KA": 2}, mammillary(0.3, [(0.2, 0.1)], 2)),
    ("ADVAN4 TRANS3", {"CL": 3, "V": 10, "Q": 2, "VSS": 30, "KA": 2}, mammillary(0.3, [(0.2, 0.1)], 2)),
    ("ADVAN4 TRANS4", {"CL": 3, "V2": 10, "Q": 2, "V3": 20, "KA": 2}, mammillary(0.3, [(0.2, 0.1)], 2)),
    (
        "ADVAN11",
        {"K": 0.3, "K12": 0.2, "K21": 0.1, "K13": 0.5, "K31": 0.05},
        mammillary(0.3, [(0.2, 0.1), (0.5, 0.05)], None),
    ),
    (
        "ADVAN11 TRANS4",
        {"CL": 3, "V1": 10, "Q2": 2, "V2": 20, "Q3": 5, "V3": 100},
        mammillary(0.3, [(0.2, 0.1), (0.5, 0.05)], None),
    ),
    (
        "ADVAN12",
        {"K": 0.3, "K23": 0.2, "K32": 0.1, "K24": 0.5, "K42": 0.05, "KA": 2},
        mammillary(0.3, [(0.2, 0.1), (0.5, 0.05)], 2),
    ),
    (
        "ADVAN12 TRANS4",
        {"CL": 3, "V2": 10, "Q3": 2, "V3": 20, "Q4": 5, "V4": 100, "KA": 2},
        mammillary(0.3, [(0.2, 0.1), (0.5, 0.05)], 2),
    ),
]


@pytest.mark.parametrize(("subroutines", "values", "expected"), CASES, ids=[case[0] for case in CASES])
def test_rates_of_the_library(subroutines: str, values: dict[str, float], expected: Array) -> None:
    found, matrix = linear(subroutines, values)
    np.testing.assert_allclose(matrix, expected, rtol=1e-14, atol=1e-16)  # a few roundings
    absorbs = "KA" in values
    assert (found.default_dose, found.default_observation) == (1, 2 if absorbs else 1)
    assert [c.can_be_off for c in found.compartments] == [absorbs, *[False] * (len(matrix) - 1)]


@pytest.mark.parametrize(("subroutines", "values", "_"), CASES, ids=[case[0] for case in CASES])
def test_each_parameter_is_needed(subroutines: str, values: dict[str, float], _: Array) -> None:
    for name in values:
        with pytest.raises(ProblemError, match=rf"\$PK does not assign {name}\n"):
            linear(subroutines, {n: v for n, v in values.items() if n != name})


@settings(max_examples=60, deadline=None)
@given(
    rates=st.lists(st.floats(0.01, 5), min_size=3, max_size=3, unique=True),
    inside=st.floats(0.05, 0.95),
    absorbs=st.booleans(),
    ratio=st.floats(0.1, 10),
)
def test_exponents_are_the_eigenvalues(
    rates: list[float], inside: float, absorbs: bool, ratio: float
) -> None:
    """TRANS5 and TRANS6 give a matrix with the exponents asked for, and TRANS5 the ratio of coefficients."""
    low, middle, high = sorted(rates)
    assume(middle - low > 1e-3 and high - middle > 1e-3)
    extra = {"KA": 7.0} if absorbs else {}
    c = 1 + absorbs
    back = low + inside * (middle - low)
    _, matrix = linear(
        f"ADVAN{3 + absorbs} TRANS6", {"ALPHA": low, "BETA": middle, f"K{c + 1}{c}": back, **extra}
    )
    wanted = sorted([low, middle, *extra.values()])
    np.testing.assert_allclose(sorted(-np.linalg.eigvals(matrix).real), wanted, rtol=1e-8)
    assert matrix[c - 1, c] == pytest.approx(back, rel=1e-14)

    beyond = middle + inside * (high - middle)
    constants = {f"K{c + 1}{c}": back, f"K{c + 2}{c}": beyond}
    exponents = {"ALPHA": low, "BETA": middle, "GAMMA": high}
    _, matrix = linear(f"ADVAN{11 + absorbs} TRANS6", exponents | constants | extra)
    wanted = sorted([*exponents.values(), *extra.values()])
    np.testing.assert_allclose(sorted(-np.linalg.eigvals(matrix).real), wanted, rtol=1e-7)

    values = {"AOB": ratio, "ALPHA": high, "BETA": low, **extra}
    _, matrix = linear(f"ADVAN{3 + absorbs} TRANS5", values)
    central = matrix[c - 1 :, c - 1 :]
    exponent, vectors = np.linalg.eig(central)
    weights = np.linalg.solve(vectors, [1.0, 0.0])  # of a dose into the central compartment
    coefficients = vectors[0] * weights
    order = np.argsort(exponent)  # -high first
    np.testing.assert_allclose(-exponent[order], [high, low], rtol=1e-8)
    assert coefficients[order[0]] / coefficients[order[1]] == pytest.approx(ratio, rel=1e-6)


@pytest.mark.parametrize(
    ("written", "stiff", "tolerance"),
    [
        ("ADVAN13 TOL=6", False, 1e-6),
        ("ADVAN=ADVAN13,TRANS1,TOL=6", False, 1e-6),
        ("ADVAN=13 TOL 6", False, 1e-6),
        ("advan6 tol6", False, 1e-6),
        ("ADVAN8 TRANS=TRANS1 TOL = 4 SUBROUTINES=DP", True, 1e-4),
        ("ADVAN14 TOL=6 ATOL=8 SS6", True, 1e-6),
        ("ADVAN9 TOL=6 SSTOL=7 SSATOL=9 TOLC=8", True, 1e-6),
        ("ADVAN13", False, 1e-9),
    ],
)
def test_spellings_of_subroutines(written: str, stiff: bool, tolerance: float) -> None:
    found = dynamics(written, "CL=1", "$MODEL COMP=A\n" + DES)
    assert isinstance(found, OdeDynamics)
    assert found.stiff == stiff
    assert found.relative_tolerance == pytest.approx(tolerance, rel=1e-12)
    assert found.absolute_tolerance == pytest.approx(1e-8 if "ATOL=8" in written else 1e-12)


@pytest.mark.parametrize(
    ("record", "tolerance", "absolute"),
    [
        ("NRD=5", 1e-5, 1e-12),
        ("NRD(1)=5\nANRD(1)=7", 1e-5, 1e-7),
        ("NRD(1)=5\nNRD(2)=8\nNRD(0)=3\nANRD=6\nNRDC=4", 1e-8, 1e-6),
    ],
)
def test_digits_of_the_tol_record(record: str, tolerance: float, absolute: float) -> None:
    found = dynamics("ADVAN13", "CL=1", f"$MODEL COMP=A COMP=B\n{DES}$TOL\n{record}\n")
    assert isinstance(found, OdeDynamics)
    assert found.relative_tolerance == pytest.approx(tolerance)
    assert found.absolute_tolerance == pytest.approx(absolute)


@pytest.mark.parametrize(
    ("written", "names", "dose", "observation"),
    [
        ("COMP=(DEPOT) COMP=(CENTRAL)", ["DEPOT", "CENTRAL"], 1, 2),
        ("COMP (CENTRAL) COMP=(DEPOT)", ["CENTRAL", "DEPOT"], 2, 1),
        ("COMP=A, COMP, COMP=(B DEFDOSE, DEFOBS)", ["A", "COMP2", "B"], 3, 3),
        ("COMP=(DEPOT NODOSE) COMP=B COMP=(C,DEFOBS)", ["DEPOT", "B", "C"], 2, 3),
        ("NCOMP=3", ["COMP1", "COMP2", "COMP3"], 1, 1),
        ("NCM 3 NPAR=4 COMPARTMENT=('my gut',DEFDOS)", ["MY GUT", "COMP2", "COMP3"], 1, 1),
        ("COMP=(\"DEFOBS\",DEFDOSE) COMP=(DEFDOSE)", ["DEFOBS", "COMP2"], 2, 1),
    ],
)  # fmt: skip
def test_compartments(written: str, names: list[str], dose: int, observation: int) -> None:
    found = dynamics("ADVAN13 TOL=6", "CL=1", f"$MODEL {written}\n{DES}")
    assert [c.name for c in found.compartments] == names
    assert (found.default_dose, found.default_observation) == (dose, observation)


def test_attributes_of_compartments() -> None:
    records = "$MODEL COMP=(A INITIALOFF NODOSE) COMP=(B NOOFF) COMP=(C EQUIL)\n"
    code = "$DES\nDADT(1)=-A(1)*ETAS\n$AES\nE(3)=A(3)-A(1)\n"
    found = dynamics("ADVAN9 TOL=6", "CL=1", records + code)
    a, b, c = found.compartments
    assert (a.initially_off, a.takes_doses, a.can_be_off, a.equilibrium) == (True, False, True, False)
    assert (b.initially_off, b.takes_doses, b.can_be_off, b.equilibrium) == (False, True, False, False)
    assert (c.initially_off, c.takes_doses, c.can_be_off, c.equilibrium) == (False, False, True, True)


def test_additional_parameters_find_their_places() -> None:
    code = "\n".join(
        f"{name}=1"
        for name in "KA K S1 S2 S3 S4 SC F1 F2 FO R1 R2 D2 D3 ALAG1 A_0(2) MTIME(2) MTIME(1)".split()
    )
    found = dynamics("ADVAN2", code)
    depot, central = found.compartments
    assert depot.scale == Variable("S1") and central.scale == Variable("S2")
    assert (depot.bioavailability, central.bioavailability) == (Variable("F1"), Variable("F2"))
    assert (depot.rate, depot.duration, depot.lag) == (Variable("R1"), None, Variable("ALAG1"))
    assert (central.rate, central.duration, central.lag) == (Variable("R2"), Variable("D2"), None)
    assert (depot.initial, central.initial) == (None, Variable("A_0(2)"))
    assert found.output == OutputCompartment(Variable("S3"), Variable("FO"))
    assert found.model_times == (Variable("MTIME(1)"), Variable("MTIME(2)"))


@pytest.mark.parametrize(
    ("code", "items", "error", "there"),
    [
        ("", "", "Y=F+EPS(1)", False),
        ("S0=1", "", "Y=F+EPS(1)", True),
        ("S2=1", "", "Y=F+EPS(1)", True),
        ("F0=1", "", "Y=F+EPS(1)", True),
        ("S3=1", "", "Y=F+EPS(1)", False),
        ("", "CMT", "Y=F+EPS(1)", True),
        ("", "PCMT", "Y=F+EPS(1)", True),
        ("", "", "Y=A(2)+EPS(1)", True),
    ],
)
def test_the_output_compartment_is_there_where_it_can_matter(
    code: str, items: str, error: str, there: bool
) -> None:
    found = model("ADVAN1", f"K=1\n{code}", "", items, error).dynamics
    assert found is not None and (found.output is not None) == there


def test_saturable_elimination() -> None:
    found = cast("OdeDynamics", dynamics("ADVAN10 TOL=5", "VM=2\nKM=3\nSC=4"))
    assert found.compartments[0].scale == Variable("SC")
    assert len(found.statements) == 1
    with pytest.raises(ProblemError, match=r"\$PK does not assign KM"):
        dynamics("ADVAN10 TOL=5", "VM=2")


@pytest.mark.parametrize(
    ("name", "n", "pairs"),
    [
        ("K12", 3, {(1, 2)}),
        ("K10", 3, {(1, 0)}),
        ("K14", 3, {(1, 0)}),
        ("K15", 3, set()),
        ("K11", 3, set()),
        ("K1T2", 3, {(1, 2)}),
        ("K3T0", 3, {(3, 0)}),
        ("K01", 3, set()),
        ("K111", 12, {(1, 11), (11, 1)}),
        ("K111", 9, set()),
        ("K110", 12, {(1, 10), (11, 0)}),
        ("K110", 10, {(1, 10)}),
        ("K1011", 12, {(10, 11)}),
        ("K1T13", 12, {(1, 0)}),
        ("KA", 3, set()),
        ("K", 3, set()),
        ("K1", 3, set()),
        ("K12A", 3, set()),
    ],
)
def test_names_of_rate_constants(name: str, n: int, pairs: set[tuple[int, int]]) -> None:
    assert set(rate_constant(name, n)) == pairs


def test_general_linear_models_read_names_of_constants() -> None:
    found = dynamics("ADVAN5", "K12=1\nK2T3=2\nK34=3\nK30=4\nKEL=5\nK3=6", "$MODEL NCOMP=4\n")
    assert isinstance(found, LinearDynamics)
    assert {(t.source, t.target) for t in found.transfers} == {(1, 2), (2, 3), (3, 4), (3, 0)}
