"""What is refused depends on the method: the classical ones have likelihoods that the VAE lacks."""

from __future__ import annotations

import pytest

from elbomix.engine.failure import ModelFailure
from elbomix.engine.ir.task import Method
from elbomix.engine.run.refusal import refuse
from elbomix.parsers.read import parse_model

CLASSICAL: tuple[Method, ...] = ("laplace", "laplacei", "its", "imp", "impmap", "saem", "agq")
LINEARISING: tuple[Method, ...] = ("fo", "foi", "foce", "focei")
HEAD = "$PROBLEM p\n$INPUT ID TIME DV SID {more}\n$DATA d.csv\n{mix}$PRED\n{code}\n$THETA 1 0.5\n$OMEGA 0.1\n"
PLAIN = "Y = THETA(1)*EXP(ETA(1)) + THETA(2) + EPS(1)"
OWN = "Y = THETA(1)*EXP(ETA(1)) + THETA(2)"


def model(code: str, *, mix: str = "", more: str = "", rest: str = ""):  # type: ignore[no-untyped-def]
    sigma = "$SIGMA 1\n" if "EPS" in code else ""
    return parse_model(HEAD.format(code=code, mix=mix, more=more) + sigma + rest, "run.ctl")


MIXTURE = model(PLAIN, mix="$MIX\nNSPOP = 2\nP(1) = THETA(2)\nP(2) = 1 - THETA(2)\n")
PRIOR = model(PLAIN, rest="$PRIOR NWPRI\n$OMEGAP 0.1 FIX\n$OMEGAPD (3 FIX)\n")
LEVEL2 = model(PLAIN, more="L2")
LIKELIHOOD = model(OWN, rest="$ESTIMATION METHOD=1 LAPLACE LIKE\n")
FLAG = model(f"F_FLAG = 0\nIF (DV.LT.1) F_FLAG = 1\n{PLAIN}\nIF (DV.LT.1) Y = PHI(1 - THETA(1))\n")
ETAS = model(PLAIN, rest="$ETAS 0.1\n")
ALL = {"mixture": MIXTURE, "prior": PRIOR, "L2": LEVEL2, "LIKE": LIKELIHOOD, "F_FLAG": FLAG, "etas": ETAS}


@pytest.mark.parametrize("name", list(ALL))
def test_the_autoencoder_refuses_and_says_where(name: str) -> None:
    with pytest.raises(ModelFailure) as caught:
        refuse(ALL[name], "vae")
    assert caught.value.span is not None and caught.value.hint


@pytest.mark.parametrize("method", CLASSICAL)
def test_classical_methods_take_them_all(method: Method) -> None:
    for each in ALL.values():
        refuse(each, method)


@pytest.mark.parametrize("method", LINEARISING)
def test_methods_that_linearise_need_means_and_variances(method: Method) -> None:
    for name in ("mixture", "prior", "L2", "etas"):
        refuse(ALL[name], method)
    for name in ("LIKE", "F_FLAG"):
        with pytest.raises(ModelFailure, match="Laplace"):
            refuse(ALL[name], method)
    fixed = parse_model(
        HEAD.format(code=OWN, mix="", more="").replace("$OMEGA 0.1", "$OMEGA 0 FIX") + "$EST METHOD=0 LIKE\n",
        "run.ctl",
    )
    refuse(fixed, method)  # nothing to linearise


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ("$PRIOR TNPRI\n", "TNPRI"),
        ("$NONPARAMETRIC UNCONDITIONAL\n", "NONPARAMETRIC"),
        ("$SIMULATION (123)\n", "simulation"),
    ],
)
@pytest.mark.parametrize("method", ["vae", "focei", "saem"])
def test_what_no_method_has(method: Method, rest: str, message: str) -> None:
    with pytest.raises(ModelFailure, match=message):
        refuse(model(PLAIN, rest=rest), method)


@pytest.mark.parametrize("method", ["vae", "fo", "imp", "saem"])
def test_methods_without_shared_random_effects(method: Method) -> None:
    own = model(PLAIN + " + ETA(2)", rest="$OMEGA 0.2\n$LEVEL SID=(2[1])\n")
    with pytest.raises(ModelFailure, match="not available with random effects that groups of subjects share"):
        refuse(own, method)
    refuse(own, "focei")


DES = (
    "$PROBLEM p\n$INPUT ID TIME DV AMT\n$DATA d.csv\n$SUBROUTINES ADVAN13 TOL=6\n$MODEL COMP=(A)\n$PK\n"
    "K = THETA(1)*EXP(ETA(1))\n$DES\n{code}\nDADT(1) = -K*A(1)*(1 + X)\n$ERROR\nY = F + EPS(1)\n"
    "$THETA 1\n$OMEGA 0.1\n$SIGMA 1\n"
)


@pytest.mark.parametrize(
    "code",
    [
        "X = X + 1",
        "IF (T.LE.84) X = 1\nX = X*2",
        "Z = X + A(1)\nX = Z",
        "X = Z\nZ = A(1)",
        "X = Z\nIF (T.LE.84) Z = A(1)",
    ],
)
def test_equations_that_count_their_evaluations_are_refused(code: str) -> None:
    with pytest.raises(ModelFailure, match=r"[XZ] keeps its value") as caught:
        refuse(parse_model(DES.format(code=code), "run.ctl"), "focei")
    assert caught.value.span is not None


@pytest.mark.parametrize(
    "code",
    [
        "X = 0\nIF (A(1).GT.X) X = A(1)",  # a value before
        "IF (T.LE.84) X = 1\nIF (T.GT.84) X = 2",  # no value of its own is read
        "X = 1\nIF (Z.LT.0) Z = 0",  # nothing depends on Z
        "IF (T.LE.84) THEN\nX = 1\nELSE\nX = 2\nENDIF\nX = X*2",
        "IF (T.LE.84) THEN\nX = A(1)\nELSE\nX = X\nENDIF",  # the latest value counts
        "IF (A(1).GT.X) X = A(1)",
        "X = MAX(X, A(1))",
        "IF (A(1).GT.Z) THEN\nZ = A(1)\nX = T\nENDIF",
    ],
)
def test_equations_that_do_not_are_taken(code: str) -> None:
    refuse(parse_model(DES.format(code=code), "run.ctl"), "focei")
