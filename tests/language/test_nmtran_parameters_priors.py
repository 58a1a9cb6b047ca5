"""$PRIOR and $THETAI: parameters that are no parameters of the model, and values on another scale."""

from __future__ import annotations

import math

import numpy as np
import pytest

from elbomix.engine.ir.expression import Number, walk
from elbomix.engine.ir.model import Model
from elbomix.engine.ir.parameter import matrix
from elbomix.engine.ir.prior import NormalPrior
from elbomix.engine.ir.statement import expressions
from elbomix.parsers.problem import ProblemError
from elbomix.parsers.read import parse_model, parse_models

CODE = "$PROBLEM p\n$INPUT ID DV\n$DATA d.csv\n$PRED\n Y=THETA(1)+THETA(2)+ETA(1)+ETA(2)+EPS(1)\n"
OWN = "$THETA (0,1) (0,2)\n$OMEGA BLOCK(2) 0.1 0.01 0.2\n$SIGMA 1\n"


def models(records: str) -> tuple[Model, ...]:
    return parse_models(CODE + records + "\n")


def test_both_forms_of_a_prior_mean_the_same() -> None:
    """The example of $PRIOR NWPRI in NONMEM's help, by position and by name."""
    (position,) = models(
        "$PRIOR NWPRI NTHETA=2 NETA=2 NTHP=2 NETP=2 NPEXP=1\n"
        + OWN
        + "$THETA 3 FIX .08 FIX\n$THETA 100 FIX\n"
        "$OMEGA BLOCK(2) .494 .00207 .000692 FIX\n$OMEGA BLOCK(2) .7 .04 .06 FIX"
    )
    (name,) = models(
        OWN + "$PRIOR NWPRI\n$THETAP 3 FIX .08 FIX\n$OMEGAPD 100 FIX\n"
        "$THETAPV BLOCK(2) .494 .00207 .000692 FIX\n$OMEGAP BLOCK(2) .7 .04 .06 FIX"
    )
    assert position.prior == name.prior
    assert (position.thetas, position.omega, position.sigma) == (name.thetas, name.omega, name.sigma)
    assert name.prior is not None and name.prior.theta is not None
    assert name.prior.theta.mean == (3.0, 0.08)
    assert matrix(name.prior.theta.covariance) == [[0.494, 0.00207], [0.00207, 0.000692]]
    (wishart,) = name.prior.omega
    assert (wishart.degrees_of_freedom, matrix((wishart.mode,))) == (100.0, [[0.7, 0.04], [0.04, 0.06]])
    assert name.prior.sigma == ()
    assert [theta.initial for theta in name.thetas] == [1.0, 2.0]
    assert matrix(name.omega) == [[0.1, 0.01], [0.01, 0.2]]


def test_counts_of_the_prior_rule_over_the_records() -> None:
    (model,) = models(
        OWN + "$PRIOR NWPRI NTHP=1 NETP=0\n$THETAP 3 FIX\n$THETAPV 10 FIX\n"
        "$OMEGAP BLOCK(2) 1 0 1 FIX\n$OMEGAPD 4 FIX"
    )
    assert model.prior is not None
    assert model.prior.theta is not None and model.prior.theta.mean == (3.0,)
    assert model.prior.omega == ()


def test_a_prior_of_the_sigmas_alone() -> None:
    (model,) = models(OWN + "$PRIOR NWPRI\n$SIGMAP BLOCK(1) (0.05 FIXED)\n$SIGMAPD (1 FIXED)")
    assert model.prior is not None and model.prior.theta is None and model.prior.omega == ()
    (wishart,) = model.prior.sigma
    assert (wishart.mode.values, wishart.degrees_of_freedom, wishart.mode.first) == ((0.05,), 1.0, 1)


def test_repeated_blocks_share_one_prior() -> None:
    records = "$THETA 1 2\n$OMEGA BLOCK(1) 0.1\n$OMEGA BLOCK(1) SAME\n$SIGMA 1\n$PRIOR NWPRI\n"
    (model,) = models(records + "$OMEGAP BLOCK(1) 0.2 FIX\n$OMEGAP BLOCK SAME\n$OMEGAPD 3 FIX")
    assert model.prior is not None
    assert [(w.mode.first, w.degrees_of_freedom) for w in model.prior.omega] == [(1, 3.0)]
    assert [block.same_as for block in model.omega] == [None, 0]


@pytest.mark.parametrize(
    ("clauses", "in_force"),
    [
        ("", (True, True, True)),
        ("(PROBLEM 2)", (False, True, False)),
        ("(PROB=2) (IPROB.EQ.3)", (False, True, True)),
        ("(ESTIMATION, PROBLEM .GE.2)", (False, True, True)),
        ("(EST,PROB.NE.2)", (True, False, True)),
        ("(SIMULATION)", (False, False, False)),
        ("(ICALL=2 PROBLEM<3)", (True, True, False)),
    ],
)
@pytest.mark.parametrize("routine", ["NWPRI", "TNPRI"])
def test_conditions_of_a_prior(clauses: str, in_force: tuple[bool, ...], routine: str) -> None:
    values = "$THETAP 3 FIX 4 FIX\n$THETAPV BLOCK(2) 1 0 1 FIX\n" if routine == "NWPRI" else ""
    found = models(
        f"$PRIOR {routine} {clauses} PLEV=0.999\n"
        + OWN
        + values
        + "$PROBLEM 2\n$TABLE ID\n$PROBLEM 3\n$TABLE ID"
    )
    assert tuple(model.prior is not None for model in found) == in_force
    assert all(len(model.thetas) == 2 for model in found)


def test_a_prior_of_the_transformed_parameters_names_its_file() -> None:
    text = "$PRIOR TNPRI (PROBLEM 2) IVAR=0 PLEV=.999\n$MSFI old.msf ONLYREAD\n"
    first, second = models(text + "$PROBLEM 2\n" + OWN + "$SIML (98798) ONLY TRUE=PRIOR")
    assert first.prior is None
    assert second.prior is not None
    assert (second.prior.transformed, second.prior.source) == (True, "old.msf")
    assert second.simulation is not None and second.simulation.options == (("TRUE", "PRIOR"),)


def test_the_mean_of_a_prior_may_be_zero() -> None:
    (model,) = models(OWN + "$PRIOR NWPRI\n$THETAP 0 FIX 0\n$THETAPV BLOCK(2) FIX VALUES(1,0)")
    assert model.prior is not None and isinstance(model.prior.theta, NormalPrior)
    assert model.prior.theta.mean == (0.0, 0.0)


@pytest.mark.parametrize(
    ("statements", "thetas", "expected"),
    [
        ("THETA(1:NTHETA)=LOG(THETAI(1:NTHETA))", "(0,2,8) 3", [(-math.inf, 2, 8), (-math.inf, 3, math.inf)]),
        ("THETA=LOG(THETA)", "(1,2,8) 3", [(1, 2, 8), (-math.inf, 3, math.inf)]),
        ("theta(2)=dlog(thetai(2)) ; only this", "(1,2,8) (1,3)", [None, (1, 3, math.inf)]),
    ],
)
def test_initial_values_on_a_logarithmic_scale(
    statements: str, thetas: str, expected: list[tuple[float, float, float] | None]
) -> None:
    (model,) = models(f"$THETAI\n{statements}\n$THETA {thetas}\n$OMEGA 1 1\n$SIGMA 1")
    for theta, bounds in zip(model.thetas, expected, strict=True):
        if bounds is None:
            assert (theta.lower, theta.initial, theta.upper) == (1, 2, 8)
            continue
        low, initial, high = bounds
        assert theta.lower == (math.log(low) if low > 0 else -math.inf)
        assert theta.initial == pytest.approx(math.log(initial), rel=1e-15)
        assert theta.upper == math.log(high)
        assert theta.value_span is None


def test_initial_values_rescaled() -> None:
    """NONMEM's own example: units ten times as large give the same model."""
    (model,) = models("$THI\nTHETA=THETAI/10.\n$THETA (1,30,50) (.8,4,5)\n$OMEGA 1 1\n$SIGMA 1")
    assert [(t.lower, t.initial, t.upper) for t in model.thetas] == [(0.1, 3.0, 5.0), (0.08, 0.4, 0.5)]


@pytest.mark.parametrize(
    ("statement", "value"),
    [
        ("THETA=-THETAI**2*3", -12.0),
        ("THETA=EXP(LOG(THETAI))+1D0-.5", 2.5),
        ("THETA=2**-THETAI", 0.25),
        ("THETA=(THETAI-1)/(3-THETAI)*4", 4.0),
        ("THETA=SQRT(ABS(-THETAI*8))", 4.0),
    ],
)
def test_arithmetic_of_initial_values(statement: str, value: float) -> None:
    (model,) = models(f"$THETAI\n {statement}\n$THETA 2 2\n$OMEGA 1 1\n$SIGMA 1")
    assert [theta.initial for theta in model.thetas] == pytest.approx([value, value], rel=1e-14)


@pytest.mark.parametrize(
    "statements",
    [
        "THETA=LOG(THETAI)",
        "THETA(1:2)=LOG(THETAI(1:2))\nTHETA(3:4)=LOG(THETAI(3:4))",
        "THETA(1:NTHETA)=LOG(THETAI(1:NTHETA))\nTHETAP(1:NTHP)=LOG(THETAPI(1:NTHP))",
    ],
)
def test_means_of_a_prior_are_on_the_scale_of_the_thetas(statements: str) -> None:
    """A variance of 545973 about 7.389 is one of 10000 about 2 for the logarithm (delta method)."""
    prior = "$PRIOR NWPRI\n$THETAP (7.389 FIX) (2 FIX)\n$THETAPV BLOCK(2) 545973 FIX 30 16"
    (model,) = models(f"$THETAI\n{statements}\n$THETA (0,5) 2\n$OMEGA 1 1\n$SIGMA 1\n{prior}")
    assert [theta.initial for theta in model.thetas] == pytest.approx(np.log([5, 2]), rel=1e-14)
    assert model.prior is not None and model.prior.theta is not None
    assert model.prior.theta.mean == pytest.approx(np.log([7.389, 2]), rel=1e-14)
    (block,) = model.prior.theta.covariance
    wanted = [545973 / 7.389**2, 30 / (7.389 * 2), 16 / 4]
    assert block.values == pytest.approx(wanted, rel=1e-9)
    assert block.values[0] == pytest.approx(1e4, rel=1e-4)


@pytest.mark.parametrize(
    "statement",
    ["THETA=", "THETA=THETAI(9)", "THETA(3)=1", "X=1", "THETA=LOG(THETAI", "THETA=FOO(1)", "THETA=1 2"],
)
def test_statements_that_are_not_understood(statement: str) -> None:
    with pytest.raises(ProblemError, match="not understood") as caught:
        models(f"$THETAI\n {statement}\n$THETA 2 2\n$OMEGA 1 1\n$SIGMA 1")
    assert caught.value.problems[0].span is not None and caught.value.problems[0].span.line == 7


def test_a_block_that_is_not_positive_definite_is_made_so_as_nonmem_does() -> None:
    """The shift that NONMEM 7.4.4 printed for this block (2.2598E-07)."""
    block = "BLOCK(4) 0.126 0.0201906 0.224959 -0.0120416 0.115427 1.00003 0.208475 0.415588 0.24408 1.00776"
    text = OWN.replace("BLOCK(2) 0.1 0.01 0.2", block)
    (model,) = models(text)
    shift = model.omega[0].values[0] - 0.126
    assert shift == pytest.approx(2.2598e-07, abs=5e-12)  # half of the last printed digit
    assert any("not positive definite" in notice.message for notice in model.notices)


@pytest.mark.parametrize(
    ("block", "shift"),
    [
        ("BLOCK(2) 0.01 0.01 0.01", 1.1000e-08),
        ("BLOCK(4) 0.03 0.01 0.03 -0.01 0.01 0.03 0.01 -0.01 0.01 0.03", 3.3000e-08),
    ],
)
def test_a_singular_block_is_made_positive_definite_as_nonmem_does(block: str, shift: float) -> None:
    """The shifts that NONMEM 7.3 and 7.2 printed for these blocks, to all printed digits."""
    (model,) = models(OWN.replace("BLOCK(2) 0.1 0.01 0.2", block))
    first = model.omega[0]
    assert first.values[0] - float(block.split()[1]) == pytest.approx(shift, abs=5e-13)
    full = [[first.element(i, j) for j in range(first.size)] for i in range(first.size)]
    assert np.linalg.eigvalsh(full)[0] > 0


def test_one_kind_of_random_effect_is_that_of_the_residuals() -> None:
    text = "$PROBLEM p\n$INPUT ID DV\n$DATA d.csv\n$PRED\n Y=THETA(1)+ERR(1)*THETA(2)\n$THETA 1 2\n$OMEGA 4\n"
    (model,) = parse_models(text)
    assert (model.n_etas, model.n_eps, model.sigma[0].values) == (0, 1, (4.0,))


def test_zeros_inside_a_block_are_said_to_be_estimated() -> None:
    """NONMEM keeps the zeros of a band matrix; a fit that does not must say so."""
    head = (
        "$PROBLEM p\n$INPUT ID DV\n$DATA d.csv\n$PRED\nY = THETA(1)+ETA(1)+ETA(2)+ETA(3)+EPS(1)\n$THETA 1\n"
    )
    (banded,) = parse_models(head + "$OMEGA BLOCK(3)\n1\n0.1 1\n0 0.1 1\n$SIGMA 1\n")
    assert any("band matrix" in notice.message for notice in banded.notices)
    (full,) = parse_models(head + "$OMEGA BLOCK(3)\n1\n0.1 1\n0.1 0.1 1\n$SIGMA 1\n")
    assert not any("band matrix" in notice.message for notice in full.notices)


def test_code_may_read_the_fixed_thetas_of_a_prior() -> None:
    """They are numbered on behind those of the model: here THETA(3) is the mean of the prior of THETA(1)."""
    records = "$THETA 1 2\n$THETA 6 FIX\n$OMEGA 0.1\n$OMEGA 4 FIX\n$SIGMA 1\n"
    records += "$PRIOR NWPRI NTHETA=2 NETA=1 NTHP=1\n"
    code = "$PROBLEM p\n$INPUT ID DV\n$DATA d.csv\n$PRED\n"
    code += " Y=THETA(1)*EXP(ETA(1))+THETA(2)+THETA(3)+EPS(1)\n"
    model = parse_model(code + records)
    assert len(model.thetas) == 2 and model.prior is not None and model.prior.theta is not None
    read = [node for e in expressions(model.observation.statements) for node in walk(e)]
    assert Number(6.0) in read
    with pytest.raises(ProblemError, match="must be fixed"):
        parse_model(code + records.replace("6 FIX", "6"))
    with pytest.raises(ProblemError, match="does not exist"):
        parse_model(code.replace("THETA(3)", "THETA(4)") + records)
