"""Variables of differential equations that keep their values, against exact solutions in pieces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from elbomix.engine.failure import ModelFailure
from elbomix.engine.ir.compartment import OdeDynamics
from elbomix.engine.ir.held_variables import held_variables
from elbomix.engine.kernel.compile import compile_kernel
from elbomix.engine.kernel.kernel import Kernel, Predictions
from elbomix.engine.kernel.subjects import Subjects
from elbomix.parsers.read import parse_model, read_data

Array = NDArray[np.float64]

MODEL = (
    "$PROBLEM p\n$INPUT ID TIME DV AMT EVID{more}\n$DATA d.csv IGNORE=@\n$SUBROUTINES ADVAN{advan} TOL=8\n"
    "$MODEL COMP=(A) COMP=(B)\n$PK\nK = THETA(1)*EXP(ETA(1))\nG = THETA(2)\n$DES\n{code}\n"
    "$ERROR\nX = A(2)\nY = X + EPS(1)\n$THETA 0.3 0.7\n$OMEGA 0.1\n$SIGMA 1\n"
)
K, G, DOSE = 0.3, 0.7, 50.0
TIMES = np.array([0.5, 2.0, 4.0, 5.5, 7.0, 12.0])


def evaluated(code: str, folder: Path, advan: int = 13, more: str = "", doses: str = "") -> Predictions:
    """Two subjects: A gets a dose at 0, B is observed; the second is looked at half as often."""
    lines = ["ID,TIME,DV,AMT,EVID" + more.replace(" ", ",")]
    rest = ",1,12" if more else ""
    for subject, times in ((1, TIMES), (2, TIMES[1::2])):
        lines.append(f"{subject},0,0,{DOSE:g},1{doses or rest}")
        lines += [f"{subject},{t:g},1,0,0{',0,0' if more else ''}" for t in times]
    (folder / "d.csv").write_text("\n".join(lines) + "\n")
    model = parse_model(MODEL.format(code=code, advan=advan, more=more), str(folder / "run.ctl"))
    data = read_data(model, folder / "d.csv")
    made = Kernel(compile_kernel(model, wanted=("X",)), Subjects.build(model, data))
    done = made.evaluate(np.array([K, G]), np.zeros((2, 1)), "eta+theta")
    assert done.failure is None, done.failure
    return done


def check(
    done: Predictions, exact: Array, by_k: Array, by_g: Array, rtol: float, slopes: float = 1e-5
) -> None:
    """Compare values and derivatives to eta and both thetas, for both subjects."""
    slot = done.layout.output_slot("X")
    observed = np.r_[1:7, 8:11]
    both = [np.concatenate([v, v[1::2]]) for v in (exact, K * by_k, by_k, by_g)]
    np.testing.assert_allclose(done.values[0, observed, slot], both[0], rtol=rtol)
    np.testing.assert_allclose(done.derivatives[0, observed, slot].T, both[1:], rtol=slopes, atol=1e-8)


def followed_to(stop: float, t: Array) -> tuple[Array, Array, Array]:
    """Return B and its derivatives where B' = G W, and W is A up to ``stop``."""
    s, rest = np.minimum(t, stop), np.maximum(t - stop, 0.0)
    gone, left = DOSE * np.exp(-K * s), DOSE * np.exp(-K * stop)
    value = (DOSE - gone) / K + left * rest
    by_k = (s * gone - (DOSE - gone) / K) / K - stop * left * rest
    return G * value, G * by_k, value


AGREE = {
    "else itself": "IF (T.LE.5) THEN\nW = A(1)\nELSE\nW = W\nENDIF\n",
    "no else": "IF (T.LE.5) W = A(1)\n",
    "two cases": "IF (T.LE.5) THEN\nV = A(1)\nW = V\nENDIF\n",
}
END = "DADT(1) = -K*A(1)*(1+0*T)\nDADT(2) = G*W"


@pytest.mark.parametrize("advan", [13, 8])
@pytest.mark.parametrize("code", list(AGREE))
def test_the_value_of_the_last_time_it_was_set(code: str, advan: int, tmp_path: Path) -> None:
    """No record is at 5, where W comes to rest."""
    done = evaluated(AGREE[code] + END, tmp_path, advan)
    check(done, *followed_to(5.0, TIMES), rtol=1e-6)


def test_at_rest_from_a_record_on(tmp_path: Path) -> None:
    done = evaluated("IF (T.LE.4) W = A(1)\n" + END, tmp_path)
    check(done, *followed_to(4.0, TIMES), rtol=1e-6)


def test_a_value_of_the_start_stays(tmp_path: Path) -> None:
    """Set at time 0 alone, after the dose."""
    done = evaluated("IF (T.EQ.0) W = A(1)\n" + END, tmp_path)
    check(done, G * DOSE * TIMES, 0.0 * TIMES, DOSE * TIMES, rtol=1e-7)


@pytest.mark.parametrize("code", ["IF (A(1).LT.W) W = A(1)\n", "W = MIN(W, A(1))\n"])
def test_the_least_value_so_far(code: str, tmp_path: Path) -> None:
    """20, until a decay falls below that: then it is the present amount."""
    done = evaluated("IF (T.EQ.0) W = 20\n" + code + END, tmp_path)
    since = np.log(DOSE / 20.0) / K
    t = np.maximum(TIMES, since)
    begun, present = DOSE * np.exp(-K * since), DOSE * np.exp(-K * t)
    value = 20.0 * np.minimum(TIMES, since) + (begun - present) / K
    by_k = (t * present - since * begun) / K - (begun - present) / K**2
    # a kink of W within a step is seen by the error control of the amounts, not of the derivatives
    check(done, G * value, G * by_k, value, rtol=1e-6, slopes=1e-3)


def test_a_steady_state_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFailure, match="steady state"):
        evaluated(AGREE["no else"] + END, tmp_path, more=" SS II")


@pytest.mark.parametrize(
    ("code", "held"),
    [
        ("IF (T.LE.5) W = A(1)\nIF (T.GT.5) W = 0\n", False),
        ("IF (A(1).EQ.K) THEN\nW = 1\nENDIF\nIF (A(1).NE.K) THEN\nW = 2\nENDIF\n", False),
        ("IF (T.LE.5) W = A(1)\nIF (T.GE.5) W = 0\n", True),
        ("C = T\nIF (C.LE.5) W = A(1)\nC = C - 1\nIF (C.GT.5) W = 0\n", True),
        ("IF (T.LE.5) W = A(1)\nV = W\nIF (T.GT.5) W = V\n", True),
    ],
)
def test_two_cases_that_leave_none_hold_nothing(code: str, held: bool, tmp_path: Path) -> None:
    model = parse_model(MODEL.format(code=code + END, advan=13, more=""), str(tmp_path / "run.ctl"))
    assert isinstance(model.dynamics, OdeDynamics)
    assert ("W" in held_variables(model.dynamics.statements, ("K", "G"))) == held
