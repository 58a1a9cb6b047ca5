"""NONMEM's own predictions for 54 dosing scenarios, by closed form and by differential equations.

The tables have five digits: 1e-4 is their print precision. For a steady state under a lag beyond the dosing
interval PREDPP extrapolates back in time (some amounts are negative), by whichever subroutine.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from elbomix.engine.ir.model import Model
from elbomix.engine.kernel.compile import compile_kernel
from elbomix.engine.kernel.kernel import Kernel
from elbomix.engine.kernel.subjects import Subjects
from elbomix.parsers.read import parse_model, read_data

Array = NDArray[np.float64]

PRINTED = 1e-4

MODEL = """
$MODEL COMP=(DEPOT DEFDOSE) COMP=(CENTRAL DEFOBS)
$PK
CL = THETA(1)*EXP(ETA(1))
V = THETA(2)*EXP(ETA(2))
KA = THETA(3)*EXP(ETA(3))
ALAG2 = LAGT
F2 = BIOAV
IF(MODE.EQ.1) R2 = RAT2
IF(MODE.EQ.2) D2 = DUR2
"""
ERROR = "$ERROR\nCP = A(2)/(V/1000)\nY = CP*EXP(ERR(1))\n"
WAYS = {
    "closed form": "$SUBROUTINES ADVAN2 TRANS2\n" + MODEL.replace(MODEL.splitlines()[1], ""),
    "rate constants": "$SUBROUTINES ADVAN7 TRANS1\n" + MODEL + "K12 = KA\nK20 = CL/V\n",
    "linear equations": "$SUBROUTINES ADVAN13 TOL=9\n"
    + MODEL
    + "$DES\nDADT(1) = -KA*A(1)\nDADT(2) = KA*A(1) - CL/V*A(2)\n",
    # the time keeps them from being solved as linear
    "equations": "$SUBROUTINES ADVAN13 TOL=9\n"
    + MODEL
    + "$DES\nDADT(1) = -KA*A(1)*(1+0*T)\nDADT(2) = KA*A(1) - CL/V*A(2)*(1+0*T)\n",
    "stiff equations": "$SUBROUTINES ADVAN8 TOL=7\n"
    + MODEL
    + "$DES\nDADT(1) = -KA*A(1)*(1+0*T)\nDADT(2) = KA*A(1) - CL/V*A(2)*(1+0*T)\n",
}
POPULATION = "$THETA 1.1 20 1.5\n$OMEGA 0 FIX 0 FIX 0 FIX\n$SIGMA 0 FIX\n$SIMULATION (1) ONLYSIMULATION\n"
INPUT = "$INPUT C ID TIME EVID AMT CMT SS II ADDL RATE LAGT MODE DUR2 RAT2 BIOAV DV\n"
OTHER_INPUT = "$INPUT ID TIME DV CMT AMT EVID II SS ADDL RATE LAGT BIOAV RAT2 DUR2 MODE\n"


def predictions(model: Model, file: Path) -> Array:
    """Concentrations at each record."""
    data = read_data(model, file)
    made = Kernel(compile_kernel(model, wanted=("CP",)), Subjects.build(model, data))
    found = made.evaluate(np.array([t.initial for t in model.thetas]), np.zeros((data.n_subjects, 3)))
    assert found.failure is None, found.failure
    cp: Array = found.of("CP")[0]
    return cp


def check(found: Array, printed: Array) -> None:
    assert len(found) == len(printed)
    np.testing.assert_allclose(found, printed, rtol=PRINTED, atol=1e-3)


@pytest.mark.parametrize("way", WAYS)
def test_dosing_scenarios(shared: Path, way: str) -> None:
    folder = shared / "corpus" / "nonmem" / "nmtests-1001-dosing"
    text = f"$PROBLEM dosing\n{INPUT}$DATA 1001.csv IGNORE=C\n" + WAYS[way] + ERROR + POPULATION
    found = predictions(parse_model(text), folder / "1001.csv")
    printed = np.loadtxt(folder / "TAB", skiprows=2)
    check(found, printed[:, 2])


@pytest.mark.parametrize("way", WAYS)
def test_the_same_as_one_table(shared: Path, way: str) -> None:
    file = shared / "corpus" / "nlmixr2data" / "nmtest.csv"
    text = f"$PROBLEM dosing\n{OTHER_INPUT}$DATA nmtest.csv IGNORE=I\n" + WAYS[way] + ERROR + POPULATION
    found = predictions(parse_model(text.replace("IGNORE=I", "IGNORE=@")), file)
    printed = np.genfromtxt(file, delimiter=",", names=True)["cp"]
    check(found, printed)


@pytest.mark.parametrize("way", ["equations", "stiff equations"])
def test_derivatives_back_in_time(shared: Path, way: str) -> None:
    """Steady states under lags beyond the interval, against the closed form, lag included; TOL is 9 and 7."""
    file = shared / "corpus" / "nonmem" / "nmtests-1001-dosing" / "1001.csv"
    population = POPULATION.replace("$OMEGA 0 FIX", "$OMEGA 0 FIX 0 FIX")
    found = []
    for each in ("closed form", way):
        code = WAYS[each].replace("LAGT", "LAGT*EXP(ETA(4))")
        text = f"$PROBLEM dosing\n{INPUT}$DATA 1001.csv IGNORE=C\n" + code + ERROR + population
        model = parse_model(text)
        data = read_data(model, file)
        made = Kernel(compile_kernel(model, wanted=("CP",)), Subjects.build(model, data))
        theta = np.array([t.initial for t in model.thetas])
        done = made.evaluate(theta, np.zeros((data.n_subjects, 4)), "eta")
        assert done.failure is None, done.failure
        found.append(done.derivatives[0, :, made.compiled.layout.output_slot("CP")])
    scale = np.abs(found[0]).max(axis=0)
    np.testing.assert_allclose(found[1] / scale, found[0] / scale, rtol=PRINTED, atol=1e-6)
