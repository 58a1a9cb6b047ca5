"""A table of solved initial value problems, their right-hand sides written by hand for numba and for scipy.

Each problem gives f, its derivatives by the states and by the parameters; ``Problem`` makes of them the
``slopes`` and ``jacobian`` of the integrators, and the augmented system whose solution by scipy is the
reference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

from elbomix.engine.kernel.integrators.integrate import JACOBIAN, SLOPES

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Problem:
    """Initial value problem; directions of derivatives: every parameter, then every initial state."""

    name: str
    f: Callable[..., None]  # f(t, y, p, out [n])
    f_y: Callable[..., None]  # f_y(t, y, p, out [n, n]) writes every entry
    f_p: Callable[..., None]  # f_p(t, y, p, out [n, n_p]) writes every entry
    y0: tuple[float, ...]
    p: tuple[float, ...]
    end: float
    stiff: bool = False
    atol: float = 1e-12  # what the solution needs beside its relative tolerance
    # error of the derivatives in units of rtol: how much the problem magnifies local errors of the states,
    # which alone are controlled
    magnified: float = 3000.0

    @property
    def directions(self) -> int:
        return len(self.p) + len(self.y0)

    def seeds(self) -> tuple[Array, Array]:
        """Return dy0 [n, nq] and dp [n_p, nq]."""
        n, n_p = len(self.y0), len(self.p)
        dy, dp = np.zeros((n, n + n_p)), np.zeros((n_p, n + n_p))
        dp[:, :n_p] = np.eye(n_p)
        dy[:, n_p:] = np.eye(n)
        return dy, dp

    @cached_property
    def slopes(self) -> Any:
        f, f_y, f_p = numba.njit(self.f), numba.njit(self.f_y), numba.njit(self.f_p)

        @numba.njit(SLOPES.signature, error_model="numpy")
        def slopes(t, y, dy, p, dp, out, dout):  # type: ignore[no-untyped-def]
            f(t, y, p, out)
            if dy.shape[1] > 0:
                by_y = np.empty((y.size, y.size))
                by_p = np.empty((y.size, p.size))
                f_y(t, y, p, by_y)
                f_p(t, y, p, by_p)
                for i in range(y.size):
                    for q in range(dy.shape[1]):
                        total = 0.0
                        for j in range(y.size):
                            total += by_y[i, j] * dy[j, q]
                        for j in range(p.size):
                            total += by_p[i, j] * dp[j, q]
                        dout[i, q] = total

        return slopes

    @cached_property
    def jacobian(self) -> Any:
        return numba.njit(JACOBIAN.signature, error_model="numpy")(self.f_y)

    def reference(self, rates: Array | None = None) -> tuple[Array, Array]:
        """Return y(end) [n] and its derivatives [n, nq] by scipy at 1e-12 (rates: constant inputs)."""
        n, n_p = len(self.y0), len(self.p)
        p = np.array(self.p)
        dy, dp = self.seeds()
        nq = self.directions
        added = np.zeros(n) if rates is None else rates
        f, f_y, f_p = numba.njit(self.f), numba.njit(self.f_y), numba.njit(self.f_p)
        slope, by_y, by_p = np.empty(n), np.empty((n, n)), np.empty((n, n_p))

        def augmented(t: float, z: Array) -> Array:
            f(t, z[:n], p, slope)
            f_y(t, z[:n], p, by_y)
            f_p(t, z[:n], p, by_p)
            return np.concatenate([slope + added, (by_y @ z[n:].reshape(n, nq) + by_p @ dp).ravel()])

        method = "Radau" if self.stiff else "DOP853"
        z0 = np.concatenate([np.array(self.y0), dy.ravel()])
        # scipy's Radau forms the Jacobian of the augmented system by differences: fine, it only steers Newton
        done: Any = solve_ivp(  # type: ignore[call-overload]
            augmented, (0.0, self.end), z0, method=method, rtol=1e-12, atol=self.atol * 1e-3
        )
        assert done.success, done.message
        return done.y[:n, -1], done.y[n:, -1].reshape(n, nq)


def decay_f(t, y, p, out):  # type: ignore[no-untyped-def]
    out[0] = -p[0] * y[0]


def decay_y(t, y, p, out):  # type: ignore[no-untyped-def]
    out[0, 0] = -p[0]


def decay_p(t, y, p, out):  # type: ignore[no-untyped-def]
    out[0, 0] = -y[0]


def forced_f(t, y, p, out):  # type: ignore[no-untyped-def]
    k, a, w = p
    out[0] = -k * y[0] + a * (1.0 + np.sin(w * t))
    out[1] = k * y[0] - 0.1 * y[1] * t


def forced_y(t, y, p, out):  # type: ignore[no-untyped-def]
    out[:] = 0.0
    out[0, 0] = -p[0]
    out[1, 0] = p[0]
    out[1, 1] = -0.1 * t


def forced_p(t, y, p, out):  # type: ignore[no-untyped-def]
    _k, a, w = p
    out[:] = 0.0
    out[0, 0] = -y[0]
    out[0, 1] = 1.0 + np.sin(w * t)
    out[0, 2] = a * t * np.cos(w * t)
    out[1, 0] = y[0]


def oral_f(t, y, p, out):  # type: ignore[no-untyped-def]
    ka, v, vm, km = p
    c = y[1] / v
    out[0] = -ka * y[0]
    out[1] = ka * y[0] - vm * c / (km + c)


def oral_y(t, y, p, out):  # type: ignore[no-untyped-def]
    ka, v, vm, km = p
    c = y[1] / v
    out[0, 0] = -ka
    out[0, 1] = 0.0
    out[1, 0] = ka
    out[1, 1] = -vm * km / ((km + c) ** 2 * v)


def oral_p(t, y, p, out):  # type: ignore[no-untyped-def]
    _ka, v, vm, km = p
    c = y[1] / v
    out[:] = 0.0
    out[0, 0] = -y[0]
    out[1, 0] = y[0]
    out[1, 1] = vm * km / (km + c) ** 2 * c / v
    out[1, 2] = -c / (km + c)
    out[1, 3] = vm * c / (km + c) ** 2


def tmdd_f(t, y, p, out):  # type: ignore[no-untyped-def]
    kel, kon, koff, ksyn, kdeg, kint = p
    bind = kon * y[0] * y[1] - koff * y[2]
    out[0] = -kel * y[0] - bind
    out[1] = ksyn - kdeg * y[1] - bind
    out[2] = bind - kint * y[2]


def tmdd_y(t, y, p, out):  # type: ignore[no-untyped-def]
    kel, kon, koff, _ksyn, kdeg, kint = p
    a, b = kon * y[1], kon * y[0]
    out[0, 0], out[0, 1], out[0, 2] = -kel - a, -b, koff
    out[1, 0], out[1, 1], out[1, 2] = -a, -kdeg - b, koff
    out[2, 0], out[2, 1], out[2, 2] = a, b, -koff - kint


def tmdd_p(t, y, p, out):  # type: ignore[no-untyped-def]
    out[:] = 0.0
    out[0, 0] = -y[0]
    product = y[0] * y[1]
    out[0, 1] = out[1, 1] = -product
    out[2, 1] = product
    out[0, 2] = out[1, 2] = y[2]
    out[2, 2] = -y[2]
    out[1, 3] = 1.0
    out[1, 4] = -y[1]
    out[2, 5] = -y[2]


def friberg_f(t, y, p, out):  # type: ignore[no-untyped-def]
    ke, slope, ktr, base, gamma = p
    out[0] = -ke * y[0]
    out[1] = ktr * y[1] * ((1.0 - slope * y[0]) * (base / y[5]) ** gamma - 1.0)
    for i in range(2, 6):
        out[i] = ktr * (y[i - 1] - y[i])


def friberg_y(t, y, p, out):  # type: ignore[no-untyped-def]
    ke, slope, ktr, base, gamma = p
    out[:] = 0.0
    feedback = (base / y[5]) ** gamma
    effect = 1.0 - slope * y[0]
    out[0, 0] = -ke
    out[1, 0] = -ktr * y[1] * slope * feedback
    out[1, 1] = ktr * (effect * feedback - 1.0)
    out[1, 5] = -ktr * y[1] * effect * gamma * feedback / y[5]
    for i in range(2, 6):
        out[i, i - 1] = ktr
        out[i, i] = -ktr


def friberg_p(t, y, p, out):  # type: ignore[no-untyped-def]
    _ke, slope, ktr, base, gamma = p
    out[:] = 0.0
    feedback = (base / y[5]) ** gamma
    effect = 1.0 - slope * y[0]
    out[0, 0] = -y[0]
    out[1, 1] = -ktr * y[1] * y[0] * feedback
    out[1, 2] = y[1] * (effect * feedback - 1.0)
    out[1, 3] = ktr * y[1] * effect * gamma * feedback / base
    out[1, 4] = ktr * y[1] * effect * feedback * np.log(base / y[5])
    for i in range(2, 6):
        out[i, 2] = y[i - 1] - y[i]


def robertson_f(t, y, p, out):  # type: ignore[no-untyped-def]
    slow, fast, mixed = p[0] * y[0], p[1] * y[1] * y[1], p[2] * y[1] * y[2]
    out[0] = -slow + mixed
    out[1] = slow - mixed - fast
    out[2] = fast


def robertson_y(t, y, p, out):  # type: ignore[no-untyped-def]
    a, b, c = p[0], 2.0 * p[1] * y[1], p[2]
    out[0, 0], out[0, 1], out[0, 2] = -a, c * y[2], c * y[1]
    out[1, 0], out[1, 1], out[1, 2] = a, -c * y[2] - b, -c * y[1]
    out[2, 0], out[2, 1], out[2, 2] = 0.0, b, 0.0


def robertson_p(t, y, p, out):  # type: ignore[no-untyped-def]
    out[:] = 0.0
    out[0, 0], out[1, 0] = -y[0], y[0]
    out[1, 1], out[2, 1] = -y[1] * y[1], y[1] * y[1]
    out[0, 2], out[1, 2] = y[1] * y[2], -y[1] * y[2]


def van_der_pol_f(t, y, p, out):  # type: ignore[no-untyped-def]
    out[0] = y[1]
    out[1] = p[0] * (1.0 - y[0] * y[0]) * y[1] - y[0]


def van_der_pol_y(t, y, p, out):  # type: ignore[no-untyped-def]
    out[0, 0], out[0, 1] = 0.0, 1.0
    out[1, 0] = -2.0 * p[0] * y[0] * y[1] - 1.0
    out[1, 1] = p[0] * (1.0 - y[0] * y[0])


def van_der_pol_p(t, y, p, out):  # type: ignore[no-untyped-def]
    out[0, 0] = 0.0
    out[1, 0] = (1.0 - y[0] * y[0]) * y[1]


def hires_f(t, y, p, out):  # type: ignore[no-untyped-def]
    a, b, c, d = p
    release = d * y[5] * y[7]
    out[0] = -a * y[0] + b * y[1] + c * y[2] + 0.0007
    out[1] = a * y[0] - 8.75 * y[1]
    out[2] = -10.03 * y[2] + b * y[3] + 0.035 * y[4]
    out[3] = c * y[1] + a * y[2] - 1.12 * y[3]
    out[4] = -1.745 * y[4] + b * y[5] + b * y[6]
    out[5] = -release + 0.69 * y[3] + a * y[4] - b * y[5] + 0.69 * y[6]
    out[6] = release - 1.81 * y[6]
    out[7] = -release + 1.81 * y[6]


def hires_y(t, y, p, out):  # type: ignore[no-untyped-def]
    a, b, c, d = p
    u, v = d * y[7], d * y[5]
    out[:] = 0.0
    out[0, 0], out[0, 1], out[0, 2] = -a, b, c
    out[1, 0], out[1, 1] = a, -8.75
    out[2, 2], out[2, 3], out[2, 4] = -10.03, b, 0.035
    out[3, 1], out[3, 2], out[3, 3] = c, a, -1.12
    out[4, 4], out[4, 5], out[4, 6] = -1.745, b, b
    out[5, 3], out[5, 4], out[5, 5], out[5, 6], out[5, 7] = 0.69, a, -b - u, 0.69, -v
    out[6, 5], out[6, 6], out[6, 7] = u, -1.81, v
    out[7, 5], out[7, 6], out[7, 7] = -u, 1.81, -v


def hires_p(t, y, p, out):  # type: ignore[no-untyped-def]
    out[:] = 0.0
    out[0, 0], out[1, 0], out[3, 0], out[5, 0] = -y[0], y[0], y[2], y[4]
    out[0, 1], out[2, 1], out[4, 1], out[5, 1] = y[1], y[3], y[5] + y[6], -y[5]
    out[0, 2], out[3, 2] = y[2], y[1]
    release = y[5] * y[7]
    out[5, 3], out[6, 3], out[7, 3] = -release, release, -release


def lotka_f(t, y, p, out):  # type: ignore[no-untyped-def]
    out[0] = p[0] * y[0] - p[1] * y[0] * y[1]
    out[1] = p[2] * y[0] * y[1] - p[3] * y[1]


def lotka_y(t, y, p, out):  # type: ignore[no-untyped-def]
    out[0, 0], out[0, 1] = p[0] - p[1] * y[1], -p[1] * y[0]
    out[1, 0], out[1, 1] = p[2] * y[1], p[2] * y[0] - p[3]


def lotka_p(t, y, p, out):  # type: ignore[no-untyped-def]
    out[:] = 0.0
    out[0, 0], out[0, 1] = y[0], -y[0] * y[1]
    out[1, 2], out[1, 3] = y[0] * y[1], -y[1]


def predator_f(t, y, p, out):  # type: ignore[no-untyped-def]
    growth, capacity, attack, half, gain, death = p
    eaten = attack * y[0] * y[1] / (half + y[0])
    out[0] = growth * y[0] * (1.0 - y[0] / capacity) - eaten
    out[1] = gain * eaten - death * y[1]


def predator_y(t, y, p, out):  # type: ignore[no-untyped-def]
    growth, capacity, attack, half, gain, death = p
    by_prey = attack * half * y[1] / (half + y[0]) ** 2
    by_predator = attack * y[0] / (half + y[0])
    out[0, 0] = growth * (1.0 - 2.0 * y[0] / capacity) - by_prey
    out[0, 1] = -by_predator
    out[1, 0] = gain * by_prey
    out[1, 1] = gain * by_predator - death


def predator_p(t, y, p, out):  # type: ignore[no-untyped-def]
    growth, capacity, attack, half, gain, _death = p
    eaten = attack * y[0] * y[1] / (half + y[0])
    out[:] = 0.0
    out[0, 0] = y[0] * (1.0 - y[0] / capacity)
    out[0, 1] = growth * (y[0] / capacity) ** 2
    out[0, 2], out[1, 2] = -eaten / attack, gain * eaten / attack
    out[0, 3], out[1, 3] = eaten / (half + y[0]), -gain * eaten / (half + y[0])
    out[1, 4], out[1, 5] = eaten, -y[1]


ROBERTSON = (robertson_f, robertson_y, robertson_p)
HIRES_START = (1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0057)
PROBLEMS = {
    problem.name: problem
    for problem in (
        Problem("decay", decay_f, decay_y, decay_p, (100.0,), (0.3,), 24.0),
        Problem("forced", forced_f, forced_y, forced_p, (1.0, 0.5), (0.7, 2.0, 1.3), 12.0),
        Problem("oral", oral_f, oral_y, oral_p, (100.0, 0.0), (1.2, 10.0, 12.0, 2.0), 24.0),
        Problem(
            "tmdd",
            tmdd_f,
            tmdd_y,
            tmdd_p,
            (50.0, 4.0, 0.0),
            (0.05, 20.0, 0.5, 0.8, 0.2, 0.1),
            60.0,
            stiff=True,
        ),
        Problem(
            "friberg", friberg_f, friberg_y, friberg_p, (3.0, *[5.0] * 5), (0.2, 0.25, 0.04, 5.0, 0.17), 400.0
        ),
        Problem("robertson", *ROBERTSON, (1.0, 0.0, 0.0), (0.04, 3e7, 1e4), 1e4, stiff=True, atol=1e-14),
        Problem(
            "van der Pol",
            van_der_pol_f,
            van_der_pol_y,
            van_der_pol_p,
            (2.0, 0.0),
            (1000.0,),
            1000.0,
            stiff=True,
            magnified=1e6,  # derivatives of the time of a jump a thousand times faster than the way to it
        ),
        Problem(
            "hires", hires_f, hires_y, hires_p, HIRES_START, (1.71, 0.43, 8.32, 280.0), 321.8122, stiff=True
        ),
        Problem("Lotka-Volterra", lotka_f, lotka_y, lotka_p, (10.0, 5.0), (1.1, 0.4, 0.1, 0.4), 20.0),
        Problem(
            "predator", predator_f, predator_y, predator_p, (5.0, 2.0), (1.0, 20.0, 1.2, 4.0, 0.5, 0.3), 30.0
        ),
    )
}
