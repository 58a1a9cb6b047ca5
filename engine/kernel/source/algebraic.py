"""Compartments whose amounts solve algebraic equations, inside a system of differential equations.

With x the amounts of the other compartments, e those in equilibrium and E(x, e) = 0: the right-hand side
is f(x, e(x)), and de = -E_e^-1 E_x dx by the implicit function theorem. Newton's method with exact
derivatives, steps halved while the residual grows.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from ...ir.compartment import OdeDynamics
from ...ir.model import Model
from ..layout import Layout
from .intrinsics import solve_dense
from .model import HEADS, jacobian_source, slopes_source
from .names import indented

ITERATIONS = 100
HALVINGS = 40
FACTORY = "equilibrium_functions"
inner = numba.njit(nogil=True, error_model="numpy")  # compiled into every model that has such equations


def equilibrium_functions(slopes: Any, jacobian: Any, at: tuple[int, ...]) -> tuple[Any, Any, Any]:
    """Return functions that set amounts, right-hand side and Jacobian.

    ``slopes`` and ``jacobian`` are those of the system in which row ``at[i]`` is the residual of an equation.
    """

    @inner
    def amounts(t, y, dy, p, dp):  # type: ignore[no-untyped-def]
        """Set the amounts ``y[at]`` and their derivatives in place; return 0, or 1 without a solution."""
        n, m, nq = y.shape[0], len(at), dy.shape[1]
        f, z = np.zeros(n), np.zeros(n)
        none, none_p = np.zeros((n, 0)), np.zeros((p.shape[0], 0))
        J, A, b = np.zeros((n, n)), np.zeros((m, m)), np.zeros((m, 1))
        slopes(t, y, none, p, none_p, f, none)
        for _ in range(ITERATIONS):
            jacobian(t, y, p, J)
            size = 0.0
            for i in range(m):
                b[i, 0] = -f[at[i]]
                size += abs(f[at[i]])
                for j in range(m):
                    A[i, j] = J[at[i], at[j]]
            if not np.isfinite(size) or not solve_dense(A, b):
                return 1
            factor, change, scale = 1.0, 0.0, 0.0
            for i in range(m):
                change += abs(b[i, 0])
                scale += abs(y[at[i]])
            for _ in range(HALVINGS):
                z[:] = y
                for i in range(m):
                    z[at[i]] += factor * b[i, 0]
                slopes(t, z, none, p, none_p, f, none)
                new = 0.0
                for i in range(m):
                    new += abs(f[at[i]])
                if new <= size:  # never with a NaN
                    break
                factor *= 0.5
            if not new <= size:
                # nothing gets nearer: at the solution to rounding, or stuck
                if change <= 1e-10 * (scale + 1e-10):
                    break
                return 1
            y[:] = z
            if new == 0.0 or (factor == 1.0 and change <= 1e-14 * scale):
                break
        else:
            if change > 1e-10 * (scale + 1e-10):
                return 1
        if nq > 0:
            df, D = np.zeros((n, nq)), np.zeros((m, nq))
            for i in range(m):
                dy[at[i], :] = 0.0
            slopes(t, y, dy, p, dp, f, df)
            jacobian(t, y, p, J)
            for i in range(m):
                for k in range(nq):
                    D[i, k] = -df[at[i], k]
                for j in range(m):
                    A[i, j] = J[at[i], at[j]]
            if not solve_dense(A, D):
                return 1
            for i in range(m):
                dy[at[i], :] = D[i, :]
        return 0

    @inner
    def total_slopes(t, y, dy, p, dp, f, df):  # type: ignore[no-untyped-def]
        """Set the right-hand side with equilibrium amounts put in; NaN where they are not found."""
        z, dz = y.copy(), dy.copy()
        if amounts(t, z, dz, p, dp) != 0:
            f[:] = np.nan
            df[:, :] = np.nan
            return
        slopes(t, z, dz, p, dp, f, df)
        for i in range(len(at)):
            f[at[i]] = 0.0
            df[at[i], :] = 0.0

    @inner
    def total_jacobian(t, y, p, J):  # type: ignore[no-untyped-def]
        """Set its derivative to the amounts: 0 in rows and columns of equilibrium compartments."""
        n, m = y.shape[0], len(at)
        z = y.copy()
        none, none_p = np.zeros((n, 0)), np.zeros((p.shape[0], 0))
        if amounts(t, z, none, p, none_p) != 0:
            J[:, :] = np.nan
            return
        jacobian(t, z, p, J)
        A, B = np.zeros((m, m)), np.zeros((m, n))
        for i in range(m):
            for j in range(m):
                A[i, j] = J[at[i], at[j]]
            for j in range(n):
                B[i, j] = J[at[i], j]
        if not solve_dense(A, B):
            J[:, :] = np.nan
            return
        for i in range(n):
            for j in range(n):
                for k in range(m):
                    J[i, j] -= J[i, at[k]] * B[k, j]
        for k in range(m):
            J[at[k], :] = 0.0
            J[:, at[k]] = 0.0

    return amounts, total_slopes, total_jacobian


def equilibrium_sources(model: Model, layout: Layout) -> dict[str, str]:
    """Return the text of ``slopes``, ``jacobian`` and ``equilibrium`` of a model with such compartments."""
    assert isinstance(model.dynamics, OdeDynamics)
    places = tuple(i for i, c in enumerate(model.dynamics.compartments) if c.equilibrium)
    arguments = {"equilibrium": "t, y, dy, p, dp", "slopes": HEADS["slopes"], "jacobian": HEADS["jacobian"]}
    made = ", ".join(f"{name}_of" for name in arguments)
    system = [
        slopes_source(model, layout, "raw_slopes"),
        jacobian_source(model, layout, "raw_jacobian"),
        f"{made} = {FACTORY}(inner(raw_slopes), inner(raw_jacobian), {places})\n\n",
    ]
    return {
        name: "\n".join([*system, f"def {name}({names}):", *indented([f"return {name}_of({names})"])]) + "\n"
        for name, names in arguments.items()
    }
