"""The final control stream, read again, is the final model."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from support.statements import run

from elbomix.compat.nonmem.control_stream import final_control_stream
from elbomix.engine.estimate import Estimate, initial
from elbomix.engine.fit import Fit
from elbomix.engine.ir.effects import Effect, add_effects
from elbomix.engine.ir.evaluate import evaluate
from elbomix.engine.ir.model import Model
from elbomix.engine.ir.mu import mu_references
from elbomix.engine.selection.outcome import EffectResult, Selection
from elbomix.parsers.read import parse_model

Array = NDArray[np.float64]

N = 7
GENERATOR = np.random.default_rng(5)
COLUMNS = {
    "WT": GENERATOR.uniform(40, 100, N),
    "AGE": GENERATOR.uniform(-5, 80, N),
    "SEX": np.array([0.0, 1, 0, 1, 1, 0, 0]),
    "RACE": np.array([1.0, 2, 3, 1, 2, 3, 3]),
}
STREAM = """\
$PROBLEM theo ; what a title
$INPUT ID TIME AMT DV WT AGE SEX RACE=ETHN
$DATA theo.csv IGNORE=@
$SUBROUTINES ADVAN2 TRANS1
$PK
{code}
$ERROR
  Y = F*(1+EPS(1)) ; proportional
$THETA (0,1.5) ; KA
$THETA (0,0.1,1)
  30 ; V
; about omega
$OMEGA 0.2 0.05 ; IIV
$OMEGA 0.05
$SIGMA 0.1
$ESTIMATION METHOD=1
"""
PLAIN = """\
  KA = THETA(1)*EXP(ETA(1))   ; absorption
  K  = THETA(2)*EXP(ETA(2))
  V  = THETA(3)*EXP(ETA(3))
  S2 = V"""
WEIGHT = Effect("KA", 1, "WT", "power", 69.58333333)
SEX = Effect("V", 3, "SEX", "cat", 0.0, 1.0)


def final(model: Model, effects: list[Effect], coefficients: list[float] | None = None) -> tuple[Fit, str]:
    start = initial(model)
    values = coefficients or [0.3 + 0.1 * i for i in range(len(effects))]
    theta = np.array([*(start.theta * 1.23456789 if len(start.theta) else []), *values])
    for i, t in enumerate(model.thetas):
        if t.fixed:
            theta[i] = t.initial
    estimate = Estimate(theta, start.omega * 1.1, start.sigma * 0.9)
    first = len(model.thetas) + 1
    results = [
        EffectResult(e, True, v, math.nan, first + i, 1.0)
        for i, (e, v) in enumerate(zip(effects, values, strict=True))
    ]
    dropped = EffectResult(Effect("K", 2, "AGE", "exp", 30.0), False, 0.0, math.nan, None, 2.0)
    selection = Selection((dropped, *reversed(results)), cast(Any, None), None) if effects else None
    given = {"model", "base_model", "estimate", "selection", "warnings", "encoder"}
    nothing: dict[str, Any] = {f.name: None for f in fields(Fit) if f.name not in given}
    changed = add_effects(model, effects)
    fit = Fit(model=changed, base_model=model, estimate=estimate, selection=selection, **nothing)
    return fit, final_control_stream(fit, "../theo.csv")


def assert_same_predictions(fit: Fit, text: str) -> Model:
    again = parse_model(text, "final.ctl")
    eta = np.random.default_rng(6).normal(0, 0.3, (again.n_etas, N))
    ours = run(fit.model.individual, COLUMNS, fit.estimate.theta, eta)
    theirs = run(again.individual, COLUMNS, initial(again).theta, eta)
    for reference in mu_references(fit.model):
        name = reference.parameter
        # 7 significant digits of each initial value
        np.testing.assert_allclose(theirs[name], ours[name], rtol=3e-6)
    np.testing.assert_allclose(initial(again).omega, fit.estimate.omega, rtol=1e-6)
    np.testing.assert_allclose(initial(again).sigma, fit.estimate.sigma, rtol=1e-6)
    return again


def mu_value(model: Model, columns: Mapping[str, Array], theta: Array) -> Array:
    rows = []
    for reference in mu_references(model):
        mu = np.zeros(N) if reference.offset is None else evaluate(reference.offset, columns) + np.zeros(N)
        for term in reference.terms:
            t = theta[term.theta - 1]
            if term.transform != "identity":
                t = np.log(t) if term.transform == "log" else np.log(t / (1 - t))
            mu = mu + evaluate(term.design, columns) * t
        rows.append(mu)
    return np.array(rows)


RACES = [Effect("V", 3, "RACE", "cat", 1.0, level) for level in (2.0, 3.0)]


@pytest.mark.parametrize(
    ("code", "effects", "expected"),
    [
        (PLAIN, [WEIGHT], ["  KAWT = (WT/69.58333333)**THETA(4)", "KA = THETA(1)*KAWT*EXP(ETA(1))   ; abs"]),
        (PLAIN, [SEX], ["  VSEX = 1", "  IF (SEX.EQ.1) VSEX = EXP(THETA(4))", "THETA(3)*VSEX*EXP(ETA(3))"]),
        (PLAIN, RACES, ["IF (RACE.EQ.3) VRACE = EXP(THETA(5))", "THETA(3)*VRACE*EXP(ETA(3))"]),
        (
            PLAIN,
            [WEIGHT, Effect("KA", 1, "AGE", "exp", -3.5), Effect("K", 2, "AGE", "exp", 40.0), SEX],
            ["KAAGE = EXP(THETA(5)*(AGE+3.5))", "*KAWT*KAAGE*EXP(ETA(1))", "KAGE = EXP(THETA(6)*(AGE-40))"],
        ),
        (
            "MU_1=LOG(THETA(1))\nKA=EXP(MU_1+ETA(1))\nK=THETA(2)\nV=THETA(3)*EXP(ETA(3)) + 0*ETA(2)",
            [WEIGHT],
            ["KAWT = THETA(4)*LOG(WT/69.58333333)", "EXP(MU_1+ETA(1)+KAWT)"],
        ),
        (
            "KA=1/(1+EXP(-ETA(1)-THETA(1)))\nK=THETA(2)\nV=THETA(3)+ETA(3)+0*ETA(2)\nS2=V",
            [WEIGHT, Effect("V", 3, "AGE", "linear", 0.0)],
            ["EXP(-(ETA(1)+KAWT)-THETA(1))", "VAGE = THETA(5)*AGE", "V=THETA(3)+ETA(3)+VAGE"],
        ),
        (
            "E1 = ETA(1)\nKA=THETA(1)*EXP(E1)\nKAWT=2\nK=THETA(2)*EXP(eta(2))\nV=THETA(3)*exp(Eta( 3))\nS2=V",
            [WEIGHT, SEX],
            ["KAWT2 = THETA(4)*LOG(", "E1 = ETA(1)+KAWT2", "VSEX*exp(Eta( 3))"],
        ),
        (
            "IF (SEX.EQ.1) THEN\n KA=THETA(1)*EXP(ETA(1))\nELSE\n KA=THETA(2)*EXP(ETA(1))\nENDIF\n"
            "K=ETA(2)\nV=THETA(3)*EXP(ETA(3))\nS2=V",
            [WEIGHT],
            ["KAWT = (WT/69.58333333)**THETA(4)\nIF (SEX", "KA=THETA(2)*KAWT*EXP(ETA(1))"],
        ),
        (
            "IOV=0\nIF (AGE.GT.50) IOV=ETA(2)\nKA=THETA(1)*EXP(ETA(1)+IOV)\nK=THETA(2)\n"
            "V=THETA(3)*EXP(ETA(3))\nS2=V",
            [WEIGHT],
            ["KAWT = THETA(4)*LOG(WT/69.58333333)\nKA=", "KA=THETA(1)*EXP(ETA(1)+KAWT+IOV)"],
        ),
    ],
)
def test_the_text_is_the_final_model(code: str, effects: list[Effect], expected: list[str]) -> None:
    fit, text = final(parse_model(STREAM.format(code=code)), effects)
    for part in expected:
        assert part in text
    again = assert_same_predictions(fit, text)
    # read again, the effects are found as mu terms and select the same typical values
    assert [r.eta for r in mu_references(again)] == [r.eta for r in mu_references(fit.model)]
    np.testing.assert_allclose(
        mu_value(again, COLUMNS, initial(again).theta),
        mu_value(fit.model, COLUMNS, fit.estimate.theta),
        rtol=1e-5,
        atol=1e-6,
    )
    assert all(len(line) <= 80 for line in text.splitlines())


def test_everything_else_stays_as_written() -> None:
    model = parse_model(STREAM.format(code=PLAIN))
    _, text = final(model, [WEIGHT])
    kept = [line for line in text.splitlines() if line in STREAM.format(code=PLAIN).splitlines()]
    changed = [line for line in STREAM.format(code=PLAIN).splitlines() if line not in kept]
    assert [line.split()[0] for line in changed] == [
        "$DATA",
        "KA",
        "$THETA",
        "$THETA",
        "30",
        "$OMEGA",
        "$OMEGA",
        "$SIGMA",
    ]
    assert "$DATA ../theo.csv IGNORE=@\n" in text
    assert "$THETA (0,1.851852) ; KA\n" in text
    assert re.search(r"; V\n\$THETA  0.3 +; KA~WT power, reference 69.583\n; about omega", text)


def test_without_selection_only_estimates_change() -> None:
    fit, text = final(parse_model(STREAM.format(code=PLAIN)), [])
    assert_same_predictions(fit, text)
    assert "THETA(4)" not in text


def test_line_ends_follow_the_text() -> None:
    model = parse_model(STREAM.format(code=PLAIN).replace("\n", "\r\n"))
    _, text = final(model, [WEIGHT, SEX])
    assert text.count("\n") == text.count("\r\n")
    parse_model(text)


def test_code_on_the_line_of_its_record() -> None:
    stream = STREAM.replace(
        "$PK\n{code}", "$PK KA=THETA(1)*EXP(ETA(1))\nK=THETA(2)\nV=THETA(3)\nX=ETA(2)+ETA(3)"
    )
    fit, text = final(parse_model(stream), [WEIGHT])
    assert "$PK \n KAWT = (WT/69.58333333)**THETA(4)\n KA=THETA(1)*KAWT*EXP(ETA(1))" in text
    assert_same_predictions(fit, text)


def test_an_eta_under_another_name() -> None:
    code = PLAIN.replace("EXP(ETA(1))", "EXP(ETA(KA))").replace("EXP(ETA(3))", "EXP(EV)")
    replacements = "$ABBR REPLACE ETA(KA)=ETA(1)\n$ABBR REPLACE EV=ETA(3)\n$PK"
    stream = STREAM.format(code=code).replace("$PK", replacements)
    fit, text = final(parse_model(stream), [WEIGHT, SEX])
    assert "KAWT*EXP(ETA(KA))" in text
    assert "VSEX*EXP(EV)" in text
    assert_same_predictions(fit, text)


def test_long_lines_are_continued() -> None:
    tail = "*(WT/70)**0.75*1.0000001*1.0000002*1.0000003*1.0000004"
    code = PLAIN.replace("EXP(ETA(1))", f"EXP(ETA(1)){tail}")
    fit, text = final(parse_model(STREAM.format(code=code)), [WEIGHT, Effect("KA", 1, "AGE", "exp", 30.0)])
    assert "&\n" in text
    assert all(len(line.split(";")[0].rstrip()) <= 80 for line in text.splitlines())
    assert_same_predictions(fit, text)


def test_values_that_are_no_variances_stay_with_a_comment() -> None:
    stream = STREAM.format(code=PLAIN).replace("$OMEGA 0.2 0.05 ; IIV", "$OMEGA SD 0.4 0.2")
    _, text = final(parse_model(stream), [WEIGHT])
    assert "$OMEGA SD 0.4 0.2\n" in text
    assert "; left as it was: OMEGA(1,1), estimate 0.176\n" in text
    parse_model(text)


def test_blocks_fixed_values_and_same() -> None:
    stream = STREAM.format(code=PLAIN).replace(
        "$OMEGA 0.2 0.05 ; IIV\n$OMEGA 0.05\n",
        "$OMEGA BLOCK(2)\n 0.2\n 0.01 0.05\n$OMEGA 0.3 FIX\n$OMEGA BLOCK(1) 0.4\n$OMEGA BLOCK(1) SAME\n",
    )
    stream = stream.replace("  30 ; V", "  30 FIX").replace("S2 = V", "S2 = V*EXP(ETA(4)+ETA(5))")
    _, text = final(parse_model(stream), [])
    assert "$OMEGA BLOCK(2)\n 0.22\n 0.011 0.055\n$OMEGA 0.3 FIX\n$OMEGA BLOCK(1) 0.44\n" in text
    assert "  30 FIX" in text
    parse_model(text)


@pytest.mark.parametrize(
    ("value", "written"), [(0.0, "1E-06"), (1.0, "0.999999"), (0.9999999999, "0.999999")]
)
def test_an_estimate_at_its_bound_stays_inside(value: float, written: str) -> None:
    model = parse_model(STREAM.format(code=PLAIN))
    fit, _ = final(model, [])
    theta = fit.estimate.theta.copy()
    theta[1] = value
    at_bound = Fit(**{**fit.__dict__, "estimate": Estimate(theta, fit.estimate.omega, fit.estimate.sigma)})
    text = final_control_stream(at_bound, "theo.csv")
    assert f"(0,{written},1)" in text
    parse_model(text)


@pytest.mark.parametrize("path", ["my data/theo.csv", "C:\\data\\theo.csv", "../a,b.csv"])
def test_data_paths_that_need_quotes(path: str) -> None:
    fit, _ = final(parse_model(STREAM.format(code=PLAIN)), [])
    assert parse_model(final_control_stream(fit, path)).inputs.file == path
    quoted = parse_model(STREAM.format(code=PLAIN).replace("theo.csv", '"old data.csv"'))
    fit, _ = final(quoted, [])
    assert parse_model(final_control_stream(fit, path)).inputs.file == path


def test_a_model_without_thetas() -> None:
    stream = re.sub(r"\$THETA.*?(?=; about)", "", STREAM, flags=re.DOTALL).format(
        code="KA=1.5*EXP(ETA(1))\nK=0.1*EXP(ETA(2))\nV=30*EXP(ETA(3))"
    )
    fit, text = final(parse_model(stream), [Effect("KA", 1, "WT", "power", 70.0)])
    assert "$THETA  0.3            ; KA~WT power, reference 70\n$OMEGA" in text
    assert_same_predictions(fit, text)


def test_a_model_that_was_not_read_is_refused() -> None:
    fit, _ = final(parse_model(STREAM.format(code=PLAIN)), [])
    unread = Fit(**{**fit.__dict__, "base_model": fit.base_model.replace(source="")})
    with pytest.raises(ValueError, match="read from one"):
        final_control_stream(unread, "theo.csv")


@pytest.mark.parametrize("name", ["theophylline.ctl", "theophylline_ode.ctl"])
def test_the_example(name: str) -> None:
    path = Path(__file__).resolve().parents[2] / "examples" / "theophylline" / name
    if not path.exists():
        pytest.skip("the example is not there")
    fit, text = final(parse_model(path.read_text()), [WEIGHT, SEX, Effect("V", 3, "WT", "power", 69.58)])
    assert_same_predictions(fit, text)
    assert "  KA   = TVKA*KAWT*EXP(ETA(1))\n" in text
    assert "  V    = TVV*VSEX*VWT*EXP(ETA(3))\n" in text
