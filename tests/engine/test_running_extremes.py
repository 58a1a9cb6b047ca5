"""Largest and smallest values that $DES keeps, with the times at which they were reached, by formulas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from elbomix.engine.failure import ModelFailure
from elbomix.engine.ir.compartment import LinearDynamics, OdeDynamics
from elbomix.engine.ir.running_extremes import followed
from elbomix.engine.kernel.compile import compile_kernel
from elbomix.engine.kernel.kernel import Kernel, Predictions
from elbomix.engine.kernel.subjects import Subjects
from elbomix.engine.run.refusal import refuse
from elbomix.parsers.problem import ProblemError
from elbomix.parsers.read import parse_model, read_data

Array = NDArray[np.float64]

MODEL = (
    "$PROBLEM p\n$INPUT ID TIME DV AMT RATE ADDL II EVID\n$DATA d.csv IGNORE=@\n"
    "$SUBROUTINES ADVAN{advan} TOL=9\n$MODEL COMP=(A) COMP=(B)\n$ABBREVIATED COMRES=2\n"
    "$PK\nKA = THETA(1)*EXP(ETA(1))\nK = THETA(2)\n{pk}\n$DES\n{des}\n"
    "$ERROR\nCMAX = {cmax}\nTMAX = {tmax}\nY = {y} + EPS(1)\n"
    "$THETA 1.3 0.2\n$OMEGA 0.1\n$SIGMA 1\n{table}"
)
START = "IF (NEWIND.LE.1) THEN\nCOM(1)=-1\nCOM(2)=-1\nENDIF"
ORAL = "DADT(1) = -KA*A(1)\nDADT(2) = KA*A(1)-K*A(2)\nCT = A(2)/2\n"
DECAY = "DADT(1) = -K*A(1)*(1+0*T)\nDADT(2) = A(1)\nCT = A(1)\n"
LARGEST = "IF (CT.GT.COM(1)) THEN\nCOM(1)=CT\nCOM(2)=T\nENDIF\n"
SMALLEST = "IF (COM(1).GE.CT) THEN\nCOM(1)=CT\nCOM(2)=T\nENDIF\n"
KA, K = 1.3, 0.2
# TOL=9 asks for nine digits of every step; what a few steps add up to, and time where the slope is zero
RTOL = 1e-7


def stream(des: str, **parts: str | int) -> str:
    given = {"advan": 13, "pk": START, "cmax": "COM(1)", "tmax": "COM(2)", "y": "F", "table": "", **parts}
    return MODEL.format(des=des, **given)


def evaluated(folder: Path, text: str, *records: str) -> Predictions:
    """Two subjects with the same ``records`` (from TIME on): values of the first must not stay."""
    lines = ["ID,TIME,DV,AMT,RATE,ADDL,II,EVID,SS", *(f"{i},{record}" for i in (1, 2) for record in records)]
    (folder / "d.csv").write_text("\n".join(lines) + "\n")
    model = parse_model(text, str(folder / "run.ctl"))
    made = Kernel(compile_kernel(model), Subjects.build(model, read_data(model, folder / "d.csv")))
    done = made.evaluate(np.array([KA, K]), np.zeros((2, 1)), "eta+theta")
    assert done.failure is None, done.failure
    return done


def check(done: Predictions, cmax: list[float], tmax: list[float]) -> None:
    np.testing.assert_allclose(done.of("CMAX")[0], [*cmax, *cmax], rtol=RTOL, atol=1e-9)
    np.testing.assert_allclose(done.of("TMAX")[0], [*tmax, *tmax], rtol=RTOL, atol=1e-9)


def dose(time: float, amount: float, rest: str = "0,0,0") -> str:
    return f"{time},0,{amount},{rest},1"


def look(time: float) -> str:
    return f"{time},1,0,0,0,0,0"


def oral(t: float, ka: float = KA, k: float = K) -> float:
    """Return CT after 100 units."""
    return float(50 * ka / (ka - k) * (np.exp(-k * t) - np.exp(-ka * t)))


def peak(ka: float = KA, k: float = K) -> float:
    return float(np.log(ka / k) / (ka - k))


@pytest.mark.parametrize("advan", [13, 8])
def test_peak_after_absorption(advan: int, tmp_path: Path) -> None:
    """No record is near the peak; until then the value is that at the record."""
    text = stream(ORAL + LARGEST, advan=advan, table="$TABLE COM(2) FILE=t\n")
    done = evaluated(tmp_path, text, dose(0, 100), look(1), look(12), look(30))
    top = oral(peak())
    check(done, [-1, oral(1), top, top], [-1, 1, peak(), peak()])
    np.testing.assert_array_equal(done.of("COM(2)"), done.of("TMAX"))
    slopes = done.derivatives[0, 3, done.layout.output_slot("CMAX")]
    e = 1e-5
    by_ka = (oral(peak(KA + e), KA + e) - oral(peak(KA - e), KA - e)) / (2 * e)
    by_k = (oral(peak(KA, K + e), KA, K + e) - oral(peak(KA, K - e), KA, K - e)) / (2 * e)
    np.testing.assert_allclose(slopes, [KA * by_ka, by_ka, by_k], rtol=1e-6)


def test_after_a_record_that_sets_it_again(tmp_path: Path) -> None:
    """$PK runs before the way to its record: what comes after the dose at 24, and the instant before it."""
    pk = "IF (AMT.GT.0) THEN\nCOM(1)=-1\nCOM(2)=-1\nENDIF"
    done = evaluated(tmp_path, stream(ORAL + LARGEST, pk=pk), dose(0, 100), look(24), dose(24, 10), look(60))
    left = 100 * np.exp(-KA * 24)
    # superposed: 10 anew on top of what is left in both compartments
    a, b = left + 10, 2 * oral(24)
    rise = KA * a / (KA - K)
    t = np.log(rise * KA / (rise + b) / K) / (KA - K)
    second = ((rise + b) * np.exp(-K * t) - rise * np.exp(-KA * t)) / 2
    check(done, [-1, oral(peak()), -1, second], [-1, peak(), -1, 24 + t])


def test_the_end_of_an_infusion(tmp_path: Path) -> None:
    done = evaluated(tmp_path, stream(DECAY + LARGEST), dose(0, 60, "20,0,0"), look(2), look(9))
    check(done, [-1, 100 * -np.expm1(-0.4), 100 * -np.expm1(-0.6)], [-1, 2, 3])


def test_the_value_right_after_a_bolus_and_before_the_next(tmp_path: Path) -> None:
    """Additional doses come between records."""
    records = dose(0, 60, "0,2,12"), look(5), look(40)
    most = 60 * (1 + np.exp(-K * 12) + np.exp(-K * 24))
    check(evaluated(tmp_path, stream(DECAY + LARGEST), *records), [-1, 60, most], [-1, 0, 24])
    pk = "IF (NEWIND.LE.1) THEN\nCOM(1)=1000\nCOM(2)=-1\nENDIF"
    least = 60 * np.exp(-K * 12)
    last = most * np.exp(-K * 16)
    done = evaluated(tmp_path, stream(DECAY + SMALLEST, pk=pk), *records)
    check(done, [1000, 60 * np.exp(-1), min(least, last)], [-1, 5, 12 if least < last else 40])


def test_after_a_steady_state(tmp_path: Path) -> None:
    """The search for the steady state is no part of the course."""
    (folder := tmp_path / "s").mkdir()
    text = stream(DECAY + LARGEST).replace("EVID\n", "EVID SS\n").replace("DADT(2) = A(1)", "DADT(2) = 0")
    settled = 60 / -np.expm1(-K * 12)
    records = dose(0, 60, "0,0,12") + ",1", look(5) + ",0", dose(10, 500) + ",0", look(20) + ",0"
    done = evaluated(folder, text, *records)
    top = settled * np.exp(-2) + 500
    check(done, [-1, settled, settled, top], [-1, 0, 0, 10])


CONDITIONS = {
    "joined": "IF (CT.GT.COM(1).AND.T.GE.7) THEN\nCOM(1)=CT\nCOM(2)=T\nENDIF\n",
    "around": "IF (T.GE.7) THEN\nIF (COM(1).LT.CT) THEN\nCOM(2)=T\nCOM(1)=CT\nENDIF\nENDIF\n",
}


@pytest.mark.parametrize("code", list(CONDITIONS))
def test_from_a_time_on(code: str, tmp_path: Path) -> None:
    """The condition begins to hold between records, and what is followed falls by then."""
    done = evaluated(tmp_path, stream(ORAL + CONDITIONS[code]), dose(0, 100), look(6), look(30))
    check(done, [-1, -1, oral(7)], [-1, -1, 7])


def test_up_to_a_time(tmp_path: Path) -> None:
    """What is followed still rises when it ceases to count."""
    code = "IF (CT.GT.COM(1).AND.T.LE.1.25) THEN\nCOM(1)=CT\nCOM(2)=T\nENDIF\n"
    done = evaluated(tmp_path, stream(ORAL + code), dose(0, 100), look(30))
    check(done, [-1, oral(1.25)], [-1, 1.25])


def test_a_variable_of_the_equations(tmp_path: Path) -> None:
    """It begins at 0; MAX says the same as a comparison."""
    text = stream(ORAL + "CMX = MAX(CMX, CT)\n", pk="", cmax="CMX", tmax="0")
    done = evaluated(tmp_path, text, dose(0, 100), look(1), look(30))
    check(done, [0, oral(1), oral(peak())], [0, 0, 0])


def test_the_highest_of_several_waves(tmp_path: Path) -> None:
    """A' = cos(t) exp(-t/20) turns down first at pi/2, and no later wave is as high."""
    des = "DADT(1) = COS(T)*EXP(-T/20)\nDADT(2) = -A(2)\nCT = A(1)\n" + LARGEST
    done = evaluated(tmp_path, stream(des), look(0), look(40), look(41))
    a, t = 0.05, np.pi / 2
    top = (np.exp(-a * t) * (np.sin(t) - a * np.cos(t)) + a) / (1 + a * a)
    check(done, [-1, top, top], [-1, t, t])


@pytest.mark.parametrize(
    ("code", "found"),
    [
        (LARGEST, {"COM(1)": 1, "COM(2)": 0}),
        (SMALLEST, {"COM(1)": -1, "COM(2)": 0}),
        ("V = MIN(CT, V)\n", {"V": -1}),
        ("IF (CT.GT.V.OR.T.EQ.0) V = CT\n", {}),
        ("IF (CT.GT.V) V = CT*2\n", {}),
        ("IF (CT.GT.V) V = CT\nIF (T.EQ.0) V = 0\n", {}),
        ("IF (CT.GT.V) V = CT\nW = V\n", {}),
        ("IF (CT.GT.V) THEN\nV = CT\nW = T\nX = W\nENDIF\n", {"V": 1, "X": 0}),
        ("V = V + CT\n", {}),
    ],
)
def test_what_is_one(code: str, found: dict[str, int], tmp_path: Path) -> None:
    pk = START if "COM" in code else ""
    model = parse_model(stream(ORAL + code, pk=pk, cmax="F", tmax="0"), str(tmp_path / "run.ctl"))
    assert isinstance(model.dynamics, OdeDynamics)
    assert followed(model.dynamics.statements) == found


def test_a_likelihood_does_not_follow_them(tmp_path: Path) -> None:
    """Linear equations stay linear in a fit, and what a likelihood would read of them is refused."""
    model = parse_model(stream(ORAL + LARGEST), str(tmp_path / "run.ctl"))
    refuse(model, "focei")
    fitted = compile_kernel(model, wanted=None)
    assert isinstance(fitted.model.dynamics, LinearDynamics)
    assert not fitted.layout.held
    with pytest.raises(ModelFailure, match="likelihood depends on COM"):
        refuse(parse_model(stream(ORAL + LARGEST, y="CMAX"), str(tmp_path / "run.ctl")), "focei")


@pytest.mark.parametrize(
    ("des", "parts", "message"),
    [
        ("COM(1) = COM(1) + CT\n", {}, "cannot change in \\$DES"),
        (LARGEST, {"tmax": "COM(2)\nCOM(1) = 0"}, "cannot change in \\$ERROR"),
        (LARGEST, {"pk": START + "\nLAST = COM(1)"}, "which \\$PK cannot see"),
    ],
)
def test_what_is_no_running_extreme_stops_at_its_line(
    des: str, parts: dict[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ProblemError, match=message):
        parse_model(stream(ORAL + des, **parts), str(tmp_path / "run.ctl"))
