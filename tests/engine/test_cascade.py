"""Which compartments are upstream in a cascade, by the structure of the equations."""

from __future__ import annotations

import pytest

from elbomix.engine.ir.compartment import OdeDynamics
from elbomix.engine.kernel.compile import kernel_sources
from elbomix.engine.kernel.integrators.cascade import upstream_links
from elbomix.parsers.read import parse_model

MODEL = (
    "$PROBLEM p\n$INPUT ID TIME DV AMT\n$DATA d.csv\n$SUBROUTINES ADVAN13 TOL=6\n"
    "$MODEL COMP=(A) COMP=(B) COMP=(C)\n"
    "$PK\nK = THETA(1)*EXP(ETA(1))\nV = THETA(2)\n$DES\n{code}\n$ERROR\nY = A(3) + EPS(1)\n"
    "$THETA 1 2\n$OMEGA 0.1\n$SIGMA 1\n"
)
LAST = "DADT(3) = K*A(2) - A(3)/(V + A(3))"
CASES = {
    "a chain": (f"DADT(1) = -K*A(1)\nDADT(2) = K*A(1) - K*A(2)\n{LAST}", [(1, 2), (0, 1)]),
    "a rate that time changes": (
        f"R = K*EXP(-T)\nDADT(1) = -R*A(1)\nDADT(2) = R*A(1) - K*A(2)\n{LAST}",
        [(1, 2), (0, 1)],
    ),
    "two receivers": (
        "G = K*A(1)\nDADT(1) = -G - K*A(1)\nDADT(2) = G - K*A(2)*A(2)\nDADT(3) = G - A(3)/(V + A(3))",
        [(0, 1), (0, 2)],
    ),
    "saturable": (f"DADT(1) = -K*A(1)/(V + A(1))\nDADT(2) = -DADT(1) - K*A(2)\n{LAST}", [(1, 2)]),
    "a rate that an amount changes": (
        f"DADT(1) = -K*A(1)\nDADT(2) = K*A(1)*A(2) - K*A(2)\n{LAST}",
        [],
    ),
    "back again": (
        "DADT(1) = -K*A(1)\nDADT(2) = K*A(1) + A(3) - K*A(2)\nDADT(3) = K*A(2) - A(3) - A(3)*A(3)",
        [(0, 1)],
    ),
    "decides": (f"X = 1\nIF (A(1).GT.1) X = 2\nDADT(1) = -K*A(1)\nDADT(2) = X - K*A(2)\n{LAST}", [(1, 2)]),
    "no loss": (f"DADT(1) = K\nDADT(2) = A(1) - K*A(2)\n{LAST}", [(1, 2)]),
}


@pytest.mark.parametrize("case", list(CASES))
def test_links(case: str) -> None:
    code, links = CASES[case]
    model = kernel_sources(parse_model(MODEL.format(code=code), "run.ctl"))[0]
    assert isinstance(model.dynamics, OdeDynamics)
    assert [tuple(link) for link in upstream_links(model.dynamics, {2})] == links
    # what is looked at is not upstream, and all else stays
    assert [tuple(link) for link in upstream_links(model.dynamics, {1, 2})] == [n for n in links if n[0] != 1]
