"""Speed of the compiled integrators, against a kernel written by hand for the one model in the same run.

    python benchmarks/integrators.py [--instances 50] [--repeats 40] [--json results.json]

Oral absorption with Michaelis-Menten elimination, 10 observations in 24 h, values and the sensitivities to
the 4 parameters, one thread. The hand-written kernel (Dormand-Prince 5(4)) knows the model, its size and its
directions when it is compiled; the general integrator gets the model as a function. Microseconds an instance,
the fastest of the repeats, each in turn so that all see the same machine. The further rows show where 8(5,3)
takes over from 5(4), and the price of the stiff method.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

from elbomix.engine.kernel.integrators.integrate import HOLD, JACOBIAN, MEMORY, SLOPES, integrate
from elbomix.engine.kernel.integrators.workspace import workspace
from elbomix.engine.kernel.machine.caching import jit

Array = NDArray[np.float64]

DOSE, END, OBSERVATIONS = 320.0, 24.0, 10
DIRECTIONS = 4


@jit(SLOPES.signature)
def slopes(t, y, dy, p, dp, f, df):  # type: ignore[no-untyped-def]
    """Oral absorption and Michaelis-Menten elimination; p = ka, v, vm, km."""
    ka, v, vm, km = p[0], p[1], p[2], p[3]
    c = y[1] / v
    denominator = 1.0 / (km + c)
    share = c * denominator
    f[0] = -ka * y[0]
    f[1] = ka * y[0] - vm * share
    by_c = vm * km * denominator * denominator
    for q in range(dy.shape[1]):
        absorbed = ka * dy[0, q] + dp[0, q] * y[0]
        dc = (dy[1, q] - c * dp[1, q]) / v
        df[0, q] = -absorbed
        df[1, q] = absorbed - dp[2, q] * share - by_c * dc + vm * share * denominator * dp[3, q]


@jit(JACOBIAN.signature)
def jacobian(t, y, p, j):  # type: ignore[no-untyped-def]
    """Derivative of the slopes by the states."""
    c = y[1] / p[1]
    j[0, 0], j[0, 1], j[1, 0] = -p[0], 0.0, p[0]
    j[1, 1] = -p[2] * p[3] / ((p[3] + c) ** 2 * p[1])


_vector, _matrix = types.float64[::1], types.float64[:, ::1]


@jit(HOLD.signature)
def hold(t, y, dy, p, dp):  # type: ignore[no-untyped-def]
    """Nothing keeps a value here."""
    return 0


_found = types.float64[:, :, :, ::1]


@jit(types.int64(_matrix, _vector, types.int64, SLOPES, JACOBIAN, HOLD, _vector, _found))
def general(parameters, times, nq, f, j, hold, settings, out):  # type: ignore[no-untyped-def]
    """Solve all instances by the package's integrator; out [instance, time, state, 1 + nq]."""
    work = workspace(2, 4, nq)
    memory = np.zeros(MEMORY)
    y, dy, r, dr = np.zeros(2), np.zeros((2, nq)), np.zeros(2), np.zeros((2, nq))
    dp = np.zeros((4, nq))
    upstream = np.zeros((0, 2), np.int64)
    for q in range(nq):
        dp[q, q] = 1.0
    steps = 0.0
    for b in range(parameters.shape[0]):
        y[0], y[1] = 320.0, 0.0
        dy[:] = 0.0
        memory[:] = 0.0
        t = 0.0
        for i in range(times.size):
            status = integrate(
                t, times[i], y, dy, r, dr, parameters[b], dp, f, j, settings, memory, work, i > 0,
                upstream, 0, hold,
            )  # fmt: skip
            if status != 0:
                return -status
            t = times[i]
            for m in range(2):
                out[b, i, m, 0] = y[m]
                for q in range(nq):
                    out[b, i, m, 1 + q] = dy[m, q]
        steps += memory[7]
    return int(steps)


@jit
def special_slopes(z, p, f):  # type: ignore[no-untyped-def]
    """Slopes of the 2 states and their 8 sensitivities, direction by direction."""
    ka, v, vm, km = p[0], p[1], p[2], p[3]
    iv = 1.0 / v
    c = z[1] * iv
    d = 1.0 / (km + c)
    share = c * d
    by_c = vm * km * d * d
    f[0] = -ka * z[0]
    f[1] = ka * z[0] - vm * share
    slope = -by_c * iv
    for q in range(4):
        f[2 + 2 * q] = -ka * z[2 + 2 * q]
        f[3 + 2 * q] = ka * z[2 + 2 * q] + slope * z[3 + 2 * q]
    f[2] -= z[0]
    f[3] += z[0]
    f[5] += by_c * c * iv
    f[7] -= share
    f[9] += vm * share * d


@jit(types.int64(_matrix, _vector, types.float64, types.float64[:, :, :, ::1]))
def special(parameters, times, tolerance, out):  # type: ignore[no-untyped-def]
    """Solve all instances by Dormand-Prince 5(4) written for this model, with 4 directions."""
    z, new, stage = np.zeros(10), np.zeros(10), np.zeros(10)
    k1, k2, k3, k4, k5, k6, k7 = (
        np.zeros(10), np.zeros(10), np.zeros(10), np.zeros(10), np.zeros(10), np.zeros(10), np.zeros(10)
    )  # fmt: skip
    steps = 0
    for b in range(parameters.shape[0]):
        p = parameters[b]
        z[:] = 0.0
        z[0] = 320.0
        special_slopes(z, p, k1)
        t, proposal = 0.0, 0.1 / p[0]
        for i in range(times.size):
            while t < times[i]:
                remaining = times[i] - t
                arrives = 1.1 * proposal >= remaining
                h = remaining if arrives else (proposal if 2.0 * proposal <= remaining else 0.5 * remaining)
                for m in range(10):
                    stage[m] = z[m] + h * (0.2 * k1[m])
                special_slopes(stage, p, k2)
                for m in range(10):
                    stage[m] = z[m] + h * (3 / 40 * k1[m] + 9 / 40 * k2[m])
                special_slopes(stage, p, k3)
                for m in range(10):
                    stage[m] = z[m] + h * (44 / 45 * k1[m] - 56 / 15 * k2[m] + 32 / 9 * k3[m])
                special_slopes(stage, p, k4)
                for m in range(10):
                    stage[m] = z[m] + h * (
                        19372 / 6561 * k1[m] - 25360 / 2187 * k2[m] + 64448 / 6561 * k3[m] - 212 / 729 * k4[m]
                    )
                special_slopes(stage, p, k5)
                for m in range(10):
                    stage[m] = z[m] + h * (
                        9017 / 3168 * k1[m]
                        - 355 / 33 * k2[m]
                        + 46732 / 5247 * k3[m]
                        + 49 / 176 * k4[m]
                        - 5103 / 18656 * k5[m]
                    )
                special_slopes(stage, p, k6)
                for m in range(10):
                    new[m] = z[m] + h * (
                        35 / 384 * k1[m]
                        + 500 / 1113 * k3[m]
                        + 125 / 192 * k4[m]
                        - 2187 / 6784 * k5[m]
                        + 11 / 84 * k6[m]
                    )
                special_slopes(new, p, k7)
                error = 0.0
                for m in range(2):
                    e = h * (
                        71 / 57600 * k1[m]
                        - 71 / 16695 * k3[m]
                        + 71 / 1920 * k4[m]
                        - 17253 / 339200 * k5[m]
                        + 22 / 525 * k6[m]
                        - 1 / 40 * k7[m]
                    )
                    error = max(error, abs(e) / (tolerance + tolerance * max(abs(z[m]), abs(new[m]))))
                steps += 1
                grow = min(10.0, max(0.2, 0.9 * max(error, 1e-10) ** -0.2))
                if error > 1.0:
                    proposal = h * min(grow, 0.9)
                    continue
                proposal = max(proposal, h * grow) if grow == 10.0 and h < proposal else h * grow
                z[:] = new
                k1[:] = k7
                t = times[i] if arrives else t + h
            for m in range(2):
                out[b, i, m, 0] = z[m]
                for q in range(4):
                    out[b, i, m, 1 + q] = z[2 + 2 * q + m]
    return steps


def reference(p: Array, times: Array) -> Array:
    """Return the states [time, 2] by scipy at 1e-12."""

    def rhs(t: float, y: Array) -> list[float]:
        c = y[1] / p[1]
        return [-p[0] * y[0], p[0] * y[0] - p[2] * c / (p[3] + c)]

    done = solve_ivp(
        rhs, (0.0, times[-1]), [DOSE, 0.0], method="DOP853", rtol=1e-12, atol=1e-12, t_eval=times
    )
    return done.y.T


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--instances", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--json", type=Path, default=None, help="write the figures here")
    options = parser.parse_args()

    generator = np.random.default_rng(1)
    typical = np.array([1.2, 32.0, 25.0, 3.0])
    parameters = typical * np.exp(0.3 * generator.standard_normal((options.instances, 4)))
    times = np.linspace(END / OBSERVATIONS, END, OBSERVATIONS)
    truth = np.stack([reference(p, times) for p in parameters[:20]])

    functions = slopes, jacobian, hold
    runs: dict[str, tuple[Callable[[], int], Array]] = {}

    def add(name: str, call: Callable[..., int], nq: int, *arguments: Any) -> None:
        out = np.zeros((options.instances, OBSERVATIONS, 2, 1 + nq))
        runs[name] = (lambda: call(*arguments, out), out)

    def settings(tolerance: float, method: int) -> Array:
        return np.array([tolerance, tolerance, 1e5, float(method)])

    add("hand-written 5(4), 1e-6, 4 directions", special, DIRECTIONS, parameters, times, 1e-6)
    for tolerance in (1e-6, 1e-7, 0.99e-7, 1e-9):
        add(
            f"automatic, {tolerance:g}, 4 directions",
            general, DIRECTIONS, parameters, times, DIRECTIONS, *functions, settings(tolerance, 0),
        )  # fmt: skip
    add("automatic, 1e-6, values only", general, 0, parameters, times, 0, *functions, settings(1e-6, 0))
    for tolerance in (1e-6, 1e-9):
        add(
            f"stiff, {tolerance:g}, 4 directions",
            general, DIRECTIONS, parameters, times, DIRECTIONS, *functions, settings(tolerance, 2),
        )  # fmt: skip

    seconds: dict[str, list[float]] = {name: [] for name in runs}
    steps = {}
    for _ in range(options.repeats):
        for name, (call, _out) in runs.items():
            begun = time.thread_time()
            steps[name] = call()
            seconds[name].append(time.thread_time() - begun)

    rows = {}
    for name, (_call, out) in runs.items():
        rows[name] = {
            "microseconds": 1e6 * min(seconds[name]) / options.instances,
            "steps": steps[name] / options.instances,
            "error": float(np.max(np.abs(out[:20, :, :, 0] - truth)) / DOSE),
        }
        print(f"{name:40s} {rows[name]['microseconds']:8.2f} us  {rows[name]['steps']:6.1f} steps", end="")
        print(f"  error {rows[name]['error']:.1e} of the dose")
    hand = rows["hand-written 5(4), 1e-6, 4 directions"]["microseconds"]
    ratio = rows["automatic, 1e-06, 4 directions"]["microseconds"] / hand
    print(f"automatic : hand-written = {ratio:.2f}")
    if options.json is not None:
        report = {
            "python": platform.python_version(),
            "instances": options.instances,
            "rows": rows,
            "ratio": ratio,
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
