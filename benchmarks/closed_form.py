"""Two-compartment oral model, 10 doses, 55 observations, 5 sensitivities: kernel, closed form, by hand.

    python benchmarks/closed_form.py [--subjects 1000] [--repeats 30] [--json results.json]

All walk the same merged events in the same process: the whole kernel from a control stream and data to
predictions and their derivatives to the etas; its `decompose` and `advance_linear` alone; and a recurrence
written by hand for this one model, without events, etas and errors. Shown is the least time over the repeats;
the ratios to the last are what counts.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numba
import numpy as np
from numpy.typing import NDArray

from elbomix.engine.kernel.compile import compile_kernel
from elbomix.engine.kernel.kernel import Kernel
from elbomix.engine.kernel.linear.systems import advance_linear, decompose, system_size, work_size
from elbomix.engine.kernel.linear.transfer_graph import plan_linear
from elbomix.engine.kernel.machine.caching import jit
from elbomix.engine.kernel.subjects import Subjects
from elbomix.parsers.read import read_data, read_model

Array = NDArray[np.float64]
N_EVENTS = 65
N_DIRECTIONS = 5
TYPICAL = np.array([5.0, 30.0, 8.0, 60.0, 1.2])  # CL L/h, V1 L, Q L/h, V2 L, KA 1/h
STREAM = """$PROBLEM two compartments, oral
$INPUT ID TIME AMT DV
$DATA data.csv
$SUBROUTINES ADVAN4 TRANS4
$PK
CL = THETA(1)*EXP(ETA(1))
V2 = THETA(2)*EXP(ETA(2))
Q = THETA(3)*EXP(ETA(3))
V3 = THETA(4)*EXP(ETA(4))
KA = THETA(5)*EXP(ETA(5))
$ERROR
Y = F + EPS(1)
$THETA 5 30 8 60 1.2
$OMEGA 0.1 0.1 0.1 0.1 0.1
$SIGMA 1
"""
TRANSFERS = np.array([[1, 2, 3], [2, 0, 0], [2, 3, 1], [3, 2, 2]], dtype=np.int64)


@jit
def rates_of(parameters: Array, p: Array, dp: Array) -> None:
    """CL, V1, Q, V2, KA to K10, K12, K21, KA with derivatives."""
    cl, v1, q, v2, ka = parameters
    p[0] = cl / v1
    p[1] = q / v1
    p[2] = q / v2
    p[3] = ka
    dp[:] = 0.0
    dp[0, 0] = 1.0 / v1
    dp[0, 1] = -p[0] / v1
    dp[1, 2] = 1.0 / v1
    dp[1, 1] = -p[1] / v1
    dp[2, 2] = 1.0 / v2
    dp[2, 3] = -p[2] / v2
    dp[3, 4] = 1.0


@jit
def with_kernel(parameters: Array, times: Array, doses: Array, plan: NDArray[np.int64], out: Array) -> None:
    """Amounts in the central compartment at every event, then their derivatives, by the kernel."""
    nq = N_DIRECTIONS
    p = np.empty(4)
    dp = np.empty((4, nq))
    system = np.empty(system_size(3, 4, nq))
    work = np.empty(work_size(3, 4, nq))
    y = np.empty(3)
    dy = np.empty((3, nq))
    r = np.zeros(3)
    dr = np.zeros((3, nq))
    for subject in range(len(parameters)):
        rates_of(parameters[subject], p, dp)
        decompose(plan, p, dp, system)
        y[:] = 0.0
        dy[:] = 0.0
        now = 0.0
        for event in range(N_EVENTS):
            advance_linear(times[subject, event] - now, y, dy, r, dr, plan, system, work)
            now = times[subject, event]
            y[0] += doses[subject, event]
            out[subject, event, 0] = y[1]
            for q in range(nq):
                out[subject, event, 1 + q] = dy[1, q]


@jit
def by_hand(parameters: Array, times: Array, doses: Array, plan: NDArray[np.int64], out: Array) -> None:
    """The same with macro constants alpha, beta and their derivatives; no care for ties."""
    nq = N_DIRECTIONS
    p = np.empty(4)
    dp = np.empty((4, nq))
    da = np.empty(nq)
    db = np.empty(nq)
    dc = np.empty((nq, 10))
    depot = np.empty(nq)
    central = np.empty(nq)
    outer = np.empty(nq)
    for subject in range(len(parameters)):
        rates_of(parameters[subject], p, dp)
        k10, k12, k21, ka = p
        total = k10 + k12 + k21
        root = math.sqrt(total * total - 4.0 * k10 * k21)
        a = 0.5 * (total + root)
        b = k10 * k21 / a
        gap = 1.0 / (b - a)
        # central from central, outer from central, central from outer, outer from outer
        c0 = (k21 - a) * gap
        c2 = k12 * gap
        c3 = k21 * gap
        c4 = (k21 - b) * gap
        # from the depot: exponentials alpha, beta, ka
        ga = 1.0 / (ka - a)
        gb = 1.0 / (ka - b)
        c5 = ka * c0 * ga
        c6 = -ka * c4 * gb
        c7 = ka * c2 * ga
        c8 = -ka * c2 * gb
        for q in range(nq):
            d10, d12, d21, dka = dp[0, q], dp[1, q], dp[2, q], dp[3, q]
            dtotal = d10 + d12 + d21
            da[q] = 0.5 * (dtotal + (total * dtotal - 2.0 * (d10 * k21 + k10 * d21)) / root)
            db[q] = dtotal - da[q]
            dgap = -(db[q] - da[q]) * gap * gap
            dga = -(dka - da[q]) * ga * ga
            dgb = -(dka - db[q]) * gb * gb
            dc[q, 0] = (d21 - da[q]) * gap + (k21 - a) * dgap
            dc[q, 2] = d12 * gap + k12 * dgap
            dc[q, 3] = d21 * gap + k21 * dgap
            dc[q, 4] = (d21 - db[q]) * gap + (k21 - b) * dgap
            dc[q, 5] = dka * c0 * ga + ka * dc[q, 0] * ga + ka * c0 * dga
            dc[q, 6] = -(dka * c4 * gb + ka * dc[q, 4] * gb + ka * c4 * dgb)
            dc[q, 7] = dka * c2 * ga + ka * dc[q, 2] * ga + ka * c2 * dga
            dc[q, 8] = -(dka * c2 * gb + ka * dc[q, 2] * gb + ka * c2 * dgb)
            depot[q] = 0.0
            central[q] = 0.0
            outer[q] = 0.0
        y0 = 0.0
        y1 = 0.0
        y2 = 0.0
        now = 0.0
        for event in range(N_EVENTS):
            t = times[subject, event] - now
            now = times[subject, event]
            ea = math.exp(-a * t)
            eb = math.exp(-b * t)
            ek = math.exp(-ka * t)
            m11 = c0 * ea - c4 * eb
            m21 = c2 * (ea - eb)
            m12 = c3 * (ea - eb)
            m22 = c0 * eb - c4 * ea
            m10 = c5 * ea + c6 * eb - (c5 + c6) * ek
            m20 = c7 * ea + c8 * eb - (c7 + c8) * ek
            for q in range(nq):
                xa = -t * da[q] * ea
                xb = -t * db[q] * eb
                xk = -t * dp[3, q] * ek
                d11 = dc[q, 0] * ea + c0 * xa - dc[q, 4] * eb - c4 * xb
                d21 = dc[q, 2] * (ea - eb) + c2 * (xa - xb)
                d12 = dc[q, 3] * (ea - eb) + c3 * (xa - xb)
                d22 = dc[q, 0] * eb + c0 * xb - dc[q, 4] * ea - c4 * xa
                d10 = dc[q, 5] * (ea - ek) + c5 * (xa - xk) + dc[q, 6] * (eb - ek) + c6 * (xb - xk)
                d20 = dc[q, 7] * (ea - ek) + c7 * (xa - xk) + dc[q, 8] * (eb - ek) + c8 * (xb - xk)
                new1 = m10 * depot[q] + m11 * central[q] + m12 * outer[q] + d10 * y0 + d11 * y1 + d12 * y2
                new2 = m20 * depot[q] + m21 * central[q] + m22 * outer[q] + d20 * y0 + d21 * y1 + d22 * y2
                depot[q] = ek * depot[q] + xk * y0
                central[q] = new1
                outer[q] = new2
            new1 = m10 * y0 + m11 * y1 + m12 * y2
            y2 = m20 * y0 + m21 * y1 + m22 * y2
            y1 = new1
            y0 = ek * y0 + doses[subject, event]
            out[subject, event, 0] = y1
            for q in range(nq):
                out[subject, event, 1 + q] = central[q]


def subjects(n: int) -> tuple[Array, Array, Array]:
    """Return parameters [n, 5], event times and doses [n, 65] of made-up subjects: a dose every 12 h."""
    generator = np.random.default_rng(1)
    parameters = TYPICAL * np.exp(0.3 * generator.normal(size=(n, 5)))
    given = np.tile(12.0 * np.arange(10.0), (n, 1))
    observed = generator.uniform(0.0, 132.0, size=(n, N_EVENTS - 10))
    times = np.concatenate([given, observed], axis=1)
    doses = np.concatenate([np.full_like(given, 100.0), np.zeros_like(observed)], axis=1)
    order = np.argsort(times, axis=1, kind="stable")
    return parameters, np.take_along_axis(times, order, 1), np.take_along_axis(doses, order, 1)


def whole_kernel(folder: Path, times: Array, doses: Array) -> Kernel:
    """Return the compiled model over the events ``times``, ``doses`` [subject, event]; F is the amount."""
    rows = [
        f"{i},{time:.17g},{dose:g},." if dose > 0.0 else f"{i},{time:.17g},.,1"
        for i in range(1, len(times) + 1)
        for time, dose in zip(times[i - 1], doses[i - 1], strict=True)
    ]
    (folder / "data.csv").write_text("\n".join(rows) + "\n")
    (folder / "run.ctl").write_text(STREAM)
    model = read_model(folder / "run.ctl")
    return Kernel(compile_kernel(model), Subjects.build(model, read_data(model)))


def seconds(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the least time of each call, measured in turns so that other load hits all alike."""
    least = dict.fromkeys(calls, math.inf)
    for _ in range(repeats):
        for name, call in calls.items():
            begun = time.process_time()
            call()
            least[name] = min(least[name], time.process_time() - begun)
    return least


def main() -> None:
    """Measure, print, write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--subjects", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    parameters, times, doses = subjects(options.subjects)
    plan = plan_linear(3, TRANSFERS)
    shape = (options.subjects, N_EVENTS, 1 + N_DIRECTIONS)
    results = {"closed form": np.empty(shape), "by hand": np.empty(shape)}
    ways = {"closed form": with_kernel, "by hand": by_hand}
    with tempfile.TemporaryDirectory() as folder:
        whole = whole_kernel(Path(folder), times, doses)
    eta = np.log(parameters / TYPICAL)[None]

    def call(name: str) -> Callable[[], None]:
        return lambda: ways[name](parameters, times, doses, plan, results[name])

    calls: dict[str, Callable[[], object]] = {
        "whole kernel": lambda: whole.evaluate(TYPICAL, eta, "eta"),
        "values only": lambda: whole.evaluate(TYPICAL, eta),
        **{name: call(name) for name in ways},
    }
    for run in calls.values():
        run()  # compiles
    spent = seconds(calls, options.repeats)
    # per direction: sensitivities to clearances and to a rate constant have different units
    scale = np.abs(results["by hand"]).max(axis=(0, 1))
    predictions = whole.evaluate(TYPICAL, eta, "eta")
    slot = whole.compiled.layout.output_slot("Y")
    found = np.empty(shape)
    found[:, :, 0] = predictions.values[0, :, slot].reshape(shape[:2])
    slopes = predictions.derivatives[0, :, slot].reshape(*shape[:2], N_DIRECTIONS)
    found[:, :, 1:] = slopes / parameters[:, None, :]
    results["whole kernel"] = found
    difference = {
        name: float((np.abs(results[name] - results["by hand"]).max(axis=(0, 1)) / scale).max())
        for name in ("whole kernel", "closed form")
    }
    ratio = {name: value / spent["by hand"] for name, value in spent.items()}
    for name, value in spent.items():
        line = f"{name:<13}{1e6 * value / options.subjects:7.2f} us a subject, ratio {ratio[name]:.2f}"
        if name in difference:
            line += f", largest difference {difference[name]:.1e} of the largest value"
        print(line)
    if options.json is not None:
        report = {
            "subjects": options.subjects,
            "events": N_EVENTS,
            "directions": N_DIRECTIONS,
            "repeats": options.repeats,
            "seconds": spent,
            "ratio": ratio,
            "difference": difference,
            "python": platform.python_version(),
            "numba": numba.__version__,
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
