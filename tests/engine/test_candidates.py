"""Candidate effects: forms, references, errors; and the words of the command line that ask for them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elbomix.compat.covariates import match_pairs, parse_covariates, parse_names, parse_pairs
from elbomix.engine.ir.dataset import DataSet
from elbomix.engine.ir.effects import Effect
from elbomix.engine.ir.model import Model
from elbomix.engine.selection.candidates import CandidateError, CovariateSpec, make_candidates
from elbomix.parsers.read import parse_model

N, EACH = 8, 3
BY_SUBJECT = {
    "WT": np.array([50.0, 60, 70, 80, 55, 65, 75, 101]),
    "SEX": np.array([0.0, 1, 0, 1, 0, 1, 0, 1]),
    "RACE": np.array([1.0, 2, 3, 1, 2, 3, 1, 2]),
    "LOGC": np.linspace(-1, 1, 8),
    "ONE": np.ones(8),
    "HALF": np.array([0.5, 1.5] * 4),
}
MODEL = parse_model(
    "$PROBLEM c\n$INPUT ID TIME AMT DV WT=BW SEX RACE LOGC ONE HALF AGE=DROP\n$DATA d.csv\n"
    "$SUBROUTINES ADVAN2 TRANS2\n$PK\nCL=THETA(1)*EXP(ETA(1))\nV=THETA(2)+ETA(2)\nS2=V\n"
    "KA=1/(1+EXP(-THETA(3)-ETA(3)))\n$ERROR\nY=F+EPS(1)\n$THETA 1 2 3\n$OMEGA 1 1 1\n$SIGMA 1\n"
)


def records(**changes: np.ndarray[tuple[int], np.dtype[np.float64]]) -> DataSet:
    values = {name: np.repeat(v, EACH) for name, v in (BY_SUBJECT | changes).items()}
    n = N * EACH
    return DataSet(
        path="d.csv",
        values=values,
        event={},
        subject=np.repeat(np.arange(N), EACH),
        ids=np.linspace(101, 100 + N, N),
        line=np.arange(n) + 2,
        missing={name: np.zeros(n, dtype=bool) for name in values},
    )


def candidates(
    text: str, on: str | None = "CL", data: DataSet | None = None, model: Model = MODEL
) -> list[Effect]:
    names = None if on is None else parse_names(on)
    return list(make_candidates(model, data or records(), parse_covariates(text), names))


MEAN, MEDIAN = float(BY_SUBJECT["WT"].mean()), float(np.median(BY_SUBJECT["WT"]))


@pytest.mark.parametrize(
    ("text", "on", "expected"),
    [
        ("WT", "CL", [Effect("CL", 1, "WT", "power", MEAN)]),
        ("BW", "CL", [Effect("CL", 1, "WT", "power", MEAN)]),
        ("wt@median", "cl", [Effect("CL", 1, "WT", "power", MEDIAN)]),
        ("WT:exp@70", "CL", [Effect("CL", 1, "WT", "exp", 70.0)]),
        ("WT", "V", [Effect("V", 2, "WT", "linear", MEAN)]),
        ("WT:power", "V", [Effect("V", 2, "WT", "power", MEAN)]),
        ("WT", "KA", [Effect("KA", 3, "WT", "power", MEAN)]),
        ("LOGC", "CL", [Effect("CL", 1, "LOGC", "exp", float(BY_SUBJECT["LOGC"].mean()))]),
        ("SEX", "CL", [Effect("CL", 1, "SEX", "cat", 0.0, 1.0)]),
        ("SEX@1", "CL", [Effect("CL", 1, "SEX", "cat", 1.0, 0.0)]),
        ("RACE", "CL", [Effect("CL", 1, "RACE", "cat", 1.0, 2.0), Effect("CL", 1, "RACE", "cat", 1.0, 3.0)]),
        ("HALF", "CL", [Effect("CL", 1, "HALF", "power", 1.0)]),
        (
            "WT:cat",
            "CL",
            [Effect("CL", 1, "WT", "cat", 50.0, float(v)) for v in (55, 60, 65, 70, 75, 80, 101)],
        ),
        (
            "SEX, WT",
            None,
            [
                Effect("CL", 1, "SEX", "cat", 0.0, 1.0),
                Effect("CL", 1, "WT", "power", MEAN),
                Effect("V", 2, "SEX", "cat", 0.0, 1.0),
                Effect("V", 2, "WT", "linear", MEAN),
                Effect("KA", 3, "SEX", "cat", 0.0, 1.0),
                Effect("KA", 3, "WT", "power", MEAN),
            ],
        ),
    ],
)
def test_forms_and_references(text: str, on: str | None, expected: list[Effect]) -> None:
    assert candidates(text, on) == expected


def test_the_mean_is_over_subjects_not_records() -> None:
    data = records()
    kept = np.flatnonzero((data.subject != 7) | (np.arange(N * EACH) % EACH == 0))
    fewer = replace(
        data,
        values={k: v[kept] for k, v in data.values.items()},
        missing={k: v[kept] for k, v in data.missing.items()},
        subject=data.subject[kept],
        line=data.line[kept],
    )
    assert candidates("WT", data=fewer)[0].reference == MEAN


@pytest.mark.parametrize(
    ("text", "on", "message"),
    [
        ("WGT", "CL", r"no covariate WGT \(did you mean WT\?\).*Covariates of d.csv: WT, SEX, RACE"),
        ("AGE", "CL", "column AGE is dropped"),
        ("DV", "CL", "DV is no covariate: it is the DV column"),
        ("WT", "CLL", r"CLL is no parameter .*\(did you mean CL\?\).*are: CL, V, KA"),
        ("WT:linear", "CL", r"CL~WT: a linear effect does not fit .* log link.*Use WT:exp"),
        ("WT:linear", "KA", "logit link"),
        ("LOGC:power", "CL", "needs positive values; the smallest is -1. Use LOGC:exp"),
        ("WT@-3", "CL", "reference of a power effect must be positive, not -3"),
        ("ONE", "CL", "ONE is 1 in every subject"),
        ("HALF:cat", "CL", "needs whole numbers as codes, and has 0.5, 1.5"),
        ("SEX:cat@mean", "CL", "mean is no reference of a categorical covariate. Name a level: 0, 1"),
        ("RACE@4", "CL", "reference level 4 does not occur. Levels: 1, 2, 3"),
        ("WT, SEX, BW:exp", "CL", "WT is listed twice"),
    ],
)
def test_what_cannot_be_is_said(text: str, on: str, message: str) -> None:
    with pytest.raises(CandidateError, match=message):
        candidates(text, on)


def test_missing_values_name_subjects_and_column() -> None:
    data = records()
    data.missing["WT"][[4, 5, 12]] = True
    with pytest.raises(
        CandidateError,
        match=r"WT has missing values: subjects 102, 105 \(3 records, the first in line 6 of d.csv\)",
    ):
        candidates("WT", data=data)
    data = records()
    data.values["SEX"][0] = np.nan
    with pytest.raises(CandidateError, match=r"SEX has missing values: subject 101 \(1 record,"):
        candidates("SEX", data=data)


def test_a_covariate_that_changes_within_a_subject() -> None:
    data = records()
    data.values["WT"][[7, 8]] += 1
    with pytest.raises(CandidateError, match=r"WT changes within a subject: subject 103 \(2 records,"):
        candidates("WT", data=data)


def test_a_model_without_mu_references() -> None:
    text = MODEL.source.replace("*EXP(ETA(1))", "*(1+ETA(1))").replace("+ETA(2)", "*(1+ETA(2))")
    model = parse_model(text.replace("-ETA(3)", "*ETA(3)"))
    with pytest.raises(CandidateError, match="No parameter can take covariate effects"):
        candidates("WT", None, model=model)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("WT", [CovariateSpec("WT")]),
        (
            "WT:power@mean, AGE:exp,SEX : cat , CRCL@median,BMI @ 2.5e1",
            [
                CovariateSpec("WT", "power", "mean"),
                CovariateSpec("AGE", "exp"),
                CovariateSpec("SEX", "cat"),
                CovariateSpec("CRCL", None, "median"),
                CovariateSpec("BMI", None, 25.0),
            ],
        ),
        ("X:Linear@-1.5", [CovariateSpec("X", "linear", -1.5)]),
    ],
)
def test_covariates_of_the_command_line(text: str, expected: list[CovariateSpec]) -> None:
    assert list(parse_covariates(text)) == expected
    assert list(parse_covariates(text.split(","))) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "WT,AGE:exponential@mean",
            "--covariates: unknown form\n"
            "  --covariates WT,AGE:exponential@mean\n"
            "                      ^^^^^^^^^^^\n"
            "  hint: known: power, exp, linear, cat",
        ),
        ("WT@mode", "unknown reference\n  --covariates WT@mode\n                  ^^^^\n"),
        ("WT@", "unknown reference"),
        ("WT:", "unknown form"),
        ("", "expected the name of a covariate"),
        ("WT,,AGE", "--covariates WT,,AGE\n                  ^\n"),
        ("WT AGE", "this does not belong here\n  --covariates WT AGE\n                  ^^^\n"),
        ("70@WT", "expected the name"),
    ],
)
def test_bad_covariates_point_to_the_place(text: str, message: str) -> None:
    with pytest.raises(CandidateError) as caught:
        parse_covariates(text)
    assert message in str(caught.value)


KNOWN = [
    Effect("KA", 1, "WT", "power", 70.0),
    Effect("KA", 1, "SEX", "cat", 0.0, 1.0),
    Effect("V", 2, "WT", "power", 70.0),
    Effect("V", 2, "RACE", "cat", 1.0, 2.0),
    Effect("V", 2, "RACE", "cat", 1.0, 3.0),
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("KA~WT", {0}),
        ("ka:wt, V ~ WT", {0, 2}),
        ("V~RACE", {3, 4}),
        ("V~RACE=3", {4}),
        ("*~WT", {0, 2}),
        ("V~*", {2, 3, 4}),
        ("*:*", {0, 1, 2, 3, 4}),
        ("K*~S*", {1}),
    ],
)
def test_pairs(text: str, expected: set[int]) -> None:
    assert match_pairs(parse_pairs(text), KNOWN) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("KA", "expected ~ between parameter and covariate\n  --force KA\n            ^\n"),
        ("KA~", "expected a covariate"),
        ("~WT", "expected a parameter"),
        ("V~RACE=", "expected the level"),
        ("KA~WT~SEX", "this does not belong here"),
    ],
)
def test_bad_pairs_point_to_the_place(text: str, message: str) -> None:
    with pytest.raises(CandidateError) as caught:
        parse_pairs(text)
    assert message in str(caught.value)


def test_a_pair_that_names_no_candidate() -> None:
    pairs = parse_pairs("KA~WT, CL~WT", "--forbid")
    with pytest.raises(CandidateError) as caught:
        match_pairs(pairs, KNOWN)
    assert str(caught.value) == (
        "--forbid: this is no candidate effect\n"
        "  --forbid KA~WT, CL~WT\n"
        "                  ^^^^^\n"
        "  hint: the candidates are KA~WT, KA~SEX=1, V~WT, V~RACE=2, V~RACE=3"
    )


def test_names() -> None:
    assert parse_names("KA, K,V") == ("KA", "K", "V")
    with pytest.raises(CandidateError, match="--on"):
        parse_names("KA;K")


@settings(max_examples=150, deadline=None, derandomize=True)
@given(text=st.text(alphabet="WTAGE:@~*=,.-+ 01e\tpower", max_size=25))
def test_no_text_breaks_the_readers(text: str) -> None:
    for reader in (parse_covariates, parse_pairs, parse_names):
        try:
            reader(text)
        except CandidateError as error:
            caret = str(error).splitlines()[2]
            assert set(caret) == {" ", "^"}


def test_the_elimination_rate_constant_answers_to_its_other_names() -> None:
    text = MODEL.source.replace("TRANS2", "TRANS1").replace("CL=", "K=")
    model = parse_model(text)
    assert candidates("WT", "KE", model=model) == candidates("WT", "K", model=model)
