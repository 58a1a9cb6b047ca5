"""Covariate effects added to a model: what they do to its parameters, and that they stay mu-referenced."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from support.statements import run

from elbomix.engine.ir.dataflow import individual_statements
from elbomix.engine.ir.effects import Effect, add_effects, design_value
from elbomix.engine.ir.evaluate import evaluate
from elbomix.engine.ir.model import Model
from elbomix.engine.ir.mu import mu_references
from elbomix.parsers.read import parse_model

Array = NDArray[np.float64]

COLUMNS = {
    "WT": np.array([50.0, 70, 80, 65, 90]),
    "AGE": np.array([20.0, 30, 45, 60, 75]),
    "SEX": np.array([0.0, 1, 1, 0, 1]),
    "RACE": np.array([1.0, 2, 3, 3, 2]),
}
CODES = {
    "factor": "CL=THETA(1)*EXP(ETA(1))",
    "typical": "TVCL=THETA(1)\nCL=TVCL*EXP(ETA(1))\nET1=ETA(1)",
    "mu": "MU_1=LOG(THETA(1))\nCL=EXP(MU_1+ETA(1))",
    "additive": "CL=THETA(1)+ETA(1)",
    "logit": "CL=1/(1+EXP(-(LOG(THETA(1)/(1-THETA(1)))+ETA(1))))",
    "chain": "E=ETA(1)\nCL=THETA(1)*EXP(E)",
    "conditional": "IF (SEX.EQ.1) THEN\nCL=THETA(1)*EXP(ETA(1))\nELSE\nCL=2*THETA(1)*EXP(ETA(1))\nENDIF",
}
POWER = Effect("CL", 1, "WT", "power", 70.0)
EXPONENTIAL = Effect("CL", 1, "AGE", "exp", 40.0)
SEX = Effect("CL", 1, "SEX", "cat", 0.0, 1.0)
RACE = [Effect("CL", 1, "RACE", "cat", 1.0, level) for level in (2.0, 3.0)]


def read(code: str) -> Model:
    return parse_model(
        "$PROBLEM e\n$INPUT ID TIME AMT DV WT AGE SEX RACE\n$DATA d.csv\n$SUBROUTINES ADVAN1 TRANS2\n"
        f"$PK\n{code}\nV=THETA(2)*EXP(ETA(2))\n$ERROR\nY=F+EPS(1)\n"
        "$THETA (0,.5) (0,2)\n$OMEGA .1 .1\n$SIGMA 1\n"
    )


def phi(code: str, values: Array) -> Array:
    if code == "additive":
        return values
    return np.log(values / (1 - values)) if code == "logit" else np.log(values)


@pytest.mark.parametrize("code", CODES)
def test_each_effect_adds_beta_x_to_phi(code: str) -> None:
    base = read(CODES[code])
    effects = [POWER, EXPONENTIAL, SEX, *RACE]
    model = add_effects(base, effects, initial=0.1)
    rng = np.random.default_rng(0)
    eta = rng.normal(size=(2, 5))
    beta = rng.normal(scale=0.3, size=5)
    theta = np.array([0.5, 2.0])
    before = run(base.individual, COLUMNS, theta, eta)
    after = run(model.individual, COLUMNS, np.concatenate([theta, beta]), eta)
    x = [
        np.log(COLUMNS["WT"] / 70),
        COLUMNS["AGE"] - 40,
        COLUMNS["SEX"],
        COLUMNS["RACE"] == 2,
        COLUMNS["RACE"] == 3,
    ]
    change = phi(code, after["CL"]) - phi(code, before["CL"])
    np.testing.assert_allclose(change, sum(b * v for b, v in zip(beta, x, strict=True)), atol=1e-12)
    np.testing.assert_array_equal(after["V"], before["V"])
    for effect, v in zip(effects, x, strict=True):
        np.testing.assert_allclose(design_value(effect, COLUMNS), v, atol=1e-15)


@pytest.mark.parametrize("code", CODES)
def test_the_parameter_stays_mu_referenced_with_the_new_terms(code: str) -> None:
    base = read(CODES[code])
    effects = [POWER, SEX, *RACE]
    model = add_effects(base, effects)
    old, new = mu_references(base), mu_references(model)
    assert [(r.eta, r.parameter, r.link) for r in new] == [(r.eta, r.parameter, r.link) for r in old]
    assert new[1] == old[1]
    terms = {t.theta: t for t in new[0].terms}
    assert terms.keys() == {t.theta for t in old[0].terms} | {3, 4, 5, 6}
    for number, effect in enumerate(effects, start=3):
        assert terms[number].transform == "identity"
        np.testing.assert_allclose(
            evaluate(terms[number].design, COLUMNS), design_value(effect, COLUMNS), atol=1e-15
        )


def test_new_thetas_are_named_and_labelled() -> None:
    model = add_effects(read(CODES["factor"]), [POWER, SEX, Effect("V", 2, "WT", "power", 69.58333)], 0.25)
    assert [(t.name, t.initial, t.label, t.fixed) for t in model.thetas[2:]] == [
        ("THETA3", 0.25, "CL~WT power, reference 70", False),
        ("THETA4", 0.25, "CL~SEX=1 cat, reference 0", False),
        ("THETA5", 0.25, "V~WT power, reference 69.583", False),
    ]


def test_a_copy_of_the_eta_for_a_table_is_left_alone() -> None:
    model = add_effects(read(CODES["typical"]), [POWER])
    values = run(model.individual, COLUMNS, np.array([0.5, 2, 1.0]), np.full((2, 5), 0.3))
    np.testing.assert_array_equal(values["ET1"], np.full(5, 0.3))


def test_no_effects_change_nothing() -> None:
    model = read(CODES["factor"])
    assert add_effects(model, []) == model


def test_predictions_without_compartments() -> None:
    base = parse_model(
        "$PROBLEM p\n$INPUT ID TIME DV WT\n$DATA d.csv\n$PRED\nA=THETA(1)*EXP(ETA(1))\nY=A*TIME+EPS(1)\n"
        "$THETA 1\n$OMEGA 1\n$SIGMA 1\n"
    )
    model = add_effects(base, [Effect("A", 1, "WT", "power", 70.0)])
    assert len(individual_statements(model)) == len(individual_statements(base))
    assert [t.theta for t in mu_references(model)[0].terms] == [1, 2]


def test_an_eta_in_two_places_takes_no_effect() -> None:
    base = read("CL=THETA(1)*EXP(ETA(1))\nQ=ETA(1)\nS1=Q")
    with pytest.raises(ValueError, match=r"ETA\(1\) is not in exactly one statement"):
        add_effects(base, [POWER])


def test_names_of_effects() -> None:
    assert [str(e) for e in (POWER, SEX, RACE[1])] == ["CL~WT", "CL~SEX=1", "CL~RACE=3"]
