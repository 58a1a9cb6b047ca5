"""NONMEM's own predictions for 54 dosing scenarios, by closed form and by differential equations.

The tables have five digits: 1e-4 is their print precision. For a steady state under a lag beyond the dosing
interval PREDPP extrapolates back in time (some amounts are negative): linear systems do the same here.
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

BEYOND = (409, 410, 411, 415, 509, 510, 610, 709, 809, 825, 909, 1009)  # lag > II at steady state
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


def predictions(model: Model, file: Path) -> tuple[Array, Array]:
    """Concentrations and the ID of each record."""
    data = read_data(model, file)
    made = Kernel(compile_kernel(model, wanted=("CP",)), Subjects.build(model, data))
    found = made.evaluate(np.array([t.initial for t in model.thetas]), np.zeros((data.n_subjects, 3)))
    assert found.failure is None, found.failure
    return found.of("CP")[0], data.ids[data.subject]


def check(found: Array, ids: Array, printed: Array, way: str) -> None:
    assert len(found) == len(printed)
    if way.endswith("equations") and way != "linear equations":
        inside = ~np.isin(ids, BEYOND)
        found, printed = found[inside], printed[inside]
    np.testing.assert_allclose(found, printed, rtol=PRINTED, atol=1e-3)


@pytest.mark.parametrize("way", WAYS)
def test_dosing_scenarios(shared: Path, way: str) -> None:
    folder = shared / "corpus" / "nonmem" / "nmtests-1001-dosing"
    text = f"$PROBLEM dosing\n{INPUT}$DATA 1001.csv IGNORE=C\n" + WAYS[way] + ERROR + POPULATION
    found, ids = predictions(parse_model(text), folder / "1001.csv")
    printed = np.loadtxt(folder / "TAB", skiprows=2)
    check(found, ids, printed[:, 2], way)


@pytest.mark.parametrize("way", WAYS)
def test_the_same_as_one_table(shared: Path, way: str) -> None:
    file = shared / "corpus" / "nlmixr2data" / "nmtest.csv"
    text = f"$PROBLEM dosing\n{OTHER_INPUT}$DATA nmtest.csv IGNORE=I\n" + WAYS[way] + ERROR + POPULATION
    found, ids = predictions(parse_model(text.replace("IGNORE=I", "IGNORE=@")), file)
    printed = np.genfromtxt(file, delimiter=",", names=True)["cp"]
    check(found, ids, printed, way)
