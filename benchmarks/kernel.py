"""Speed of the whole compiled decoder: from a control stream and data to predictions and derivatives.

    python benchmarks/kernel.py [--repeats 20] [--json results.json]

Oral absorption with Michaelis-Menten elimination, one dose, 10 observations in 24 h, tolerance 1e-6, four
etas: predictions and their derivatives to every eta for 12, 100 and 1000 subjects, one thread; beside it a
kernel written by hand for this one model (benchmarks/integrators.py), without events, etas and errors.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from integrators import DOSE, END, special
from numpy.typing import NDArray

from elbomix.engine.kernel.compile import compile_kernel
from elbomix.engine.kernel.kernel import Kernel
from elbomix.engine.kernel.subjects import Subjects
from elbomix.parsers.read import read_data, read_model

Array = NDArray[np.float64]
SUBJECTS = (12, 100, 1000)
THETA = np.array([1.0, 35.0, 20.0, 3.0])  # ka 1/h, V L, Vm mg/h, Km mg/L
TIMES = np.linspace(0.0, END, 11)[1:]

STREAM = """$PROBLEM oral absorption, Michaelis-Menten elimination
$INPUT ID TIME AMT DV
$DATA data.csv
$SUBROUTINES ADVAN13 TOL=6 ATOL=6
$MODEL COMP=(DEPOT) COMP=(CENTRAL)
$PK
KA = THETA(1)*EXP(ETA(1))
V = THETA(2)*EXP(ETA(2))
VM = THETA(3)*EXP(ETA(3))
KM = THETA(4)*EXP(ETA(4))
S2 = V
$DES
C = A(2)/V
DADT(1) = -KA*A(1)
DADT(2) = KA*A(1) - VM*C/(KM + C)
$ERROR
Y = F*(1 + EPS(1))
$THETA (0,1) (0,35) (0,20) (0,3)
$OMEGA 0.09 0.09 0.09 0.09
$SIGMA 0.04
"""


def kernel(folder: Path, subjects: int) -> Kernel:
    """Return the compiled model with ``subjects`` subjects."""
    rows = []
    for i in range(1, subjects + 1):
        rows.append(f"{i},0,{DOSE},.")
        rows += [f"{i},{t},.,1" for t in TIMES]
    (folder / "data.csv").write_text("\n".join(rows) + "\n")
    (folder / "run.ctl").write_text(STREAM)
    model = read_model(folder / "run.ctl")
    return Kernel(compile_kernel(model), Subjects.build(model, read_data(model)))


def fastest(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the shortest CPU seconds of each call, taken in turn."""
    best = dict.fromkeys(calls, np.inf)
    for _ in range(repeats):
        for name, call in calls.items():
            began = time.process_time()
            call()
            best[name] = min(best[name], time.process_time() - began)
    return best


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = []
    for n in SUBJECTS:
        eta = 0.3 * np.random.default_rng(1).standard_normal((1, n, 4))
        with tempfile.TemporaryDirectory() as folder:
            whole = kernel(Path(folder), n)
        parameters = np.ascontiguousarray(THETA * np.exp(eta[0]))
        out = np.zeros((n, len(TIMES), 2, 5))

        def with_derivatives(whole: Kernel = whole, eta: Array = eta) -> object:
            return whole.evaluate(THETA, eta, "eta")

        def values(whole: Kernel = whole, eta: Array = eta) -> object:
            return whole.evaluate(THETA, eta)

        def by_hand(parameters: Array = parameters, out: Array = out) -> object:
            return special(parameters, TIMES, 1e-6, out)

        calls = {"decoder": with_derivatives, "values only": values, "by hand": by_hand}
        for call in calls.values():
            call()
        seconds = fastest(calls, arguments.repeats)
        results.append({"subjects": n, **{name: 1e3 * s for name, s in seconds.items()}})
        row = ", ".join(f"{name} {1e3 * s:.3f} ms" for name, s in seconds.items())
        print(f"{n} subjects: {row}; decoder/by hand {seconds['decoder'] / seconds['by hand']:.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": platform.platform(), "results": results}, indent=1))


if __name__ == "__main__":
    main()
