"""The package's integrator on the problems of ``ode_problems``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from elbomix.engine.kernel.integrators.integrate import HOLD, JACOBIAN, MEMORY, SLOPES, integrate
from elbomix.engine.kernel.integrators.workspace import workspace
from elbomix.engine.kernel.machine.caching import jit

from .ode_problems import Problem

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Solution:
    """What the package's integrator made of a problem."""

    status: int
    y: Array
    dy: Array
    memory: Array


@jit(HOLD.signature)
def _nothing(t, y, dy, p, dp):  # type: ignore[no-untyped-def]
    return 0


@cache
def _integrator() -> Any:
    v, m = types.float64[::1], types.float64[:, ::1]

    @jit(types.int64(v, v, m, v, m, v, m, SLOPES, JACOBIAN, v, v, types.boolean, types.int64[:, ::1], HOLD))
    def run(times, y, dy, r, dr, p, dp, slopes, jacobian, settings, memory, continued, upstream, hold):  # type: ignore[no-untyped-def]
        work = workspace(y.size, p.size, dy.shape[1])
        for i in range(times.size - 1):
            status = integrate(
                times[i], times[i + 1], y, dy, r, dr, p, dp, slopes, jacobian, settings, memory, work,
                continued and i > 0, upstream, 0, hold,
            )  # fmt: skip
            if status != 0:
                return status
        return 0

    return run


def integrated(
    problem: Problem,
    rtol: float = 1e-8,
    atol: float = 1e-12,
    method: int = 0,
    *,
    sensitivities: bool = True,
    directions: int | None = None,
    rates: Array | None = None,
    end: float | None = None,
    pieces: int = 1,
    continued: bool = True,
    max_steps: int = 100_000,
    p: Array | None = None,
    y0: Array | None = None,
    memory: Array | None = None,
    upstream: tuple[tuple[int, int], ...] = (),
) -> Solution:
    """Integrate a problem from 0 to its end, in ``pieces`` calls, with the directions of its ``seeds``."""
    y = np.array(problem.y0) if y0 is None else y0.copy()
    dy, dp = problem.seeds()
    wanted = (problem.directions if directions is None else directions) if sensitivities else 0
    dy, dp = dy[:, :wanted].copy(), dp[:, :wanted].copy()
    r = np.zeros(y.size) if rates is None else rates
    memory = np.zeros(MEMORY) if memory is None else memory.copy()
    times = np.linspace(0.0, problem.end if end is None else end, pieces + 1)
    status = _integrator()(
        times, y, dy, r, np.zeros_like(dy), np.array(problem.p) if p is None else p, dp,
        problem.slopes, problem.jacobian, np.array([rtol, atol, max_steps, method]), memory, continued,
        np.array(upstream, dtype=np.int64).reshape(-1, 2), _nothing,
    )  # fmt: skip
    return Solution(status, y, dy, memory)
