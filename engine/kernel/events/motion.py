"""The moving state of a subject: amounts, input rates, what is turned on, and how time takes them on."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from ..integrators.integrate import MEMORY, integrate
from ..integrators.workspace import Workspace, workspace
from ..linear.exponentials_layout import sums_size
from ..linear.systems import advance_linear, decompose, linear_slopes, system_size, work_size
from ..linear.transfer_graph import PLAN_HEAD, plan_linear
from ..machine.bare import run_slopes
from ..machine.borrowed import inlined, matrix_at
from ..machine.by_reference import by_reference, returned
from ..machine.caching import jit
from ..status import FED_WHILE_OFF, FINE, INTEGRATION, NO_BALANCE, NOT_FINITE

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Integers = NDArray[np.int64]
Table = NDArray[np.int64]

LINEAR, ODE = 1, 2
FRACTION, LAG, RATE, DURATION, INITIAL, SCALE = range(6)  # columns of Design.modifiers
SAME, DECOMPOSED, SUMS = 0, 1, 2  # Motion.flags
HELD = 2  # of SAME
SUMMABLE, NOT_SUMMABLE = 1, 2  # of SUMS

returned("Workspace", workspace, types.int64, types.int64, types.int64)


@by_reference
class Design:
    """What the event loop knows of a model; slots are places in psi, -1 the neutral value."""

    kind: int  # 0 no dynamics, LINEAR, ODE
    n: int  # compartments, without the output compartment
    n_dynamic: int
    has_output: int
    start_rules: int  # 1: the record at the start of an interval rules it
    goes_back: int  # 1: steady states under a lag beyond the interval as PREDPP has them
    start: int  # slot
    modifiers: Table  # [n, 6]
    transfers: Table  # [m, 3]
    model_times: Integers
    output: Integers  # slots of fraction and scale
    initially_on: Integers  # [n + 1]
    feeds: Integers  # [n] 1: equations of other compartments read the amount
    free: Integers  # [n] 0: an equilibrium compartment, whose amount solves an equation
    upstream: Table  # [m, 2] of :mod:`..integrators.cascade`
    held: int  # variables of the equations that keep their values, behind psi in Motion.p
    restarts: Table  # [held, 2] slots of the value of one, and of whether it begins anew there
    runs_at_all: int  # 0: the individual model is run at a subject's first record alone
    settings: Vector  # of the integrator


@by_reference
class Motion:
    """State of a subject and the arrays it is moved in; nq directions."""

    y: Vector  # [n] amounts
    dy: Matrix  # [n, nq]
    r: Vector  # [n] input rates
    dr: Matrix
    running: Integers  # [n] infusions that run
    on: Integers  # [n + 1] 1: turned on
    out: Vector  # [1] amount in the output compartment
    dout: Vector  # [nq]
    p: Vector  # [n_dynamic + held] the psi in force that the dynamics read, then the held values
    dp: Matrix
    flags: Integers  # SAME 1: nothing changed since the last advance, HELD: since the sums began;
    # DECOMPOSED: the linear system is ready; SUMS: whether sums of exponentials serve
    transfers: Table  # [m, 3] between compartments that are on
    plan: Integers
    system: Vector
    linear_work: Vector
    exponentials: Vector  # what :mod:`..linear.exponentials` needs
    memory: Vector
    work: Workspace
    f: Vector  # [n] scratch
    g: Vector
    sums: Vector  # [1 + nq] scratch


class Solver(NamedTuple):
    """Compiled functions as values: :func:`advance`, :func:`velocity`, ``find_rest`` and the model's own."""

    advance: Callable[..., int]
    velocity: Callable[..., int]
    find_rest: Callable[..., int]
    individual: Callable[..., int]
    slopes: Callable[..., None]
    jacobian: Callable[..., None]
    equilibrium: Callable[..., int]


@jit
def copy_values(source: NDArray[np.float64], target: NDArray[np.float64]) -> None:
    """Copy an array into one of the same size.

    An assignment would bring along code that words numba's error messages.
    """
    values, places = source.ravel(), target.ravel()
    for i in range(places.size):
        places[i] = values[i]


@inlined
def clear_values(values: Vector) -> None:
    """Set all values to zero: an assignment to a slice costs more than these loops."""
    for i in range(values.size):
        values[i] = 0.0


@jit
def new_motion(design: Design, nq: int) -> Motion:
    """Return arrays for ``nq`` directions."""
    n, m, n_psi = design.n, design.transfers.shape[0], design.n_dynamic + design.held
    linear = design.kind == LINEAR
    states = n if design.kind == ODE else 0
    return Motion(
        np.zeros(n),
        np.zeros((n, nq)),
        np.zeros(n),
        np.zeros((n, nq)),
        np.zeros(n, np.int64),
        np.zeros(n + 1, np.int64),
        np.zeros(1),
        np.zeros(nq),
        np.zeros(n_psi),
        np.zeros((n_psi, nq)),
        np.zeros(3, np.int64),
        np.zeros((m, 3), np.int64),
        np.zeros(PLAN_HEAD + 3 * m + n, np.int64),
        np.zeros(system_size(n, m, nq) if linear else 0),
        np.zeros(work_size(n, m, nq) if linear else 0),
        np.zeros(sums_size(n, nq) if linear else 0),
        np.zeros(MEMORY),
        workspace(states, n_psi, nq),
        np.zeros(n),
        np.zeros(n),
        np.zeros(1 + nq),
    )


@jit
def plan_transfers(design: Design, motion: Motion) -> None:
    """Leave out of the linear system what flows from compartments that are off; what flows there is lost."""
    motion.flags[:] = 0
    if design.kind != LINEAR:
        return
    kept = 0
    on, all_transfers, transfers = motion.on, design.transfers, motion.transfers
    for j in range(all_transfers.shape[0]):
        source, target = all_transfers[j, 0], all_transfers[j, 1]
        if on[source - 1] == 1:
            transfers[kept, 0] = source
            transfers[kept, 1] = target if target > 0 and on[target - 1] == 1 else 0
            transfers[kept, 2] = all_transfers[j, 2]
            kept += 1
    plan = plan_linear(design.n, transfers[:kept])
    motion.plan[: len(plan)] = plan


@inlined
def put_parameters(design: Design, p: Vector, dp: Matrix, motion: Motion) -> None:
    """Let psi ``p`` [n_psi], ``dp`` [n_psi, q] rule from now on; psi is constant along further directions."""
    nq = dp.shape[1]
    own, down = motion.p, motion.dp
    same = True
    for i in range(design.n_dynamic):
        same = same and own[i] == p[i]
        for q in range(nq):
            same = same and down[i, q] == dp[i, q]
    if same:
        return
    for i in range(design.n_dynamic):
        own[i] = p[i]
        for q in range(nq):
            down[i, q] = dp[i, q]
    motion.flags[:] = 0


@inlined
def ready(design: Design, motion: Motion) -> int:
    """Decompose the linear system if its rate constants changed."""
    if design.kind == LINEAR and motion.flags[DECOMPOSED] == 0:
        if decompose(motion.plan, motion.p, motion.dp, motion.system) != 0:
            return NOT_FINITE
        motion.flags[DECOMPOSED] = 1
    return FINE


def velocity(t: float, design: Design, motion: Motion, slopes: Callable[..., None], f: Vector) -> int:
    """Put the motion of the amounts at this instant, inputs included, into ``f`` [n]."""
    if design.kind == LINEAR:
        status = ready(design, motion)
        if status != FINE:
            return status
        linear_slopes(motion.y, motion.r, motion.plan, motion.system, f)
    else:
        n, n_p = motion.y.size, motion.p.size
        none, none_p = matrix_at(motion.y, 0, n, 0), matrix_at(motion.p, 0, n_p, 0)
        run_slopes(slopes, t, motion.y, none, motion.p, none_p, f, none)
        for i in range(design.n):
            f[i] = f[i] + motion.r[i] if motion.on[i] == 1 else 0.0
    return FINE


@jit
def output_slope(design: Design, motion: Motion, f: Vector) -> float:
    """Return the rate at which the output compartment fills when the amounts move with ``f``."""
    if design.has_output == 0 or motion.on[design.n] == 0:
        return 0.0
    slot = design.output[0]
    loss = 0.0
    for i in range(design.n):
        loss += motion.r[i] - f[i]
    return loss * motion.p[slot] if slot >= 0 else loss


@jit
def jump_in_time(design: Design, before: float, after: float, dtau: Vector, motion: Motion) -> None:
    """Account for an event whose time has derivatives ``dtau`` [nq].

    The amounts moved with ``motion.f`` before and ``motion.g`` after it, the output compartment with
    ``before`` and ``after``: at a fixed time the derivative changes by the difference times dtau.
    """
    for q in range(dtau.size):
        if dtau[q] != 0.0:
            for i in range(design.n):
                motion.dy[i, q] += (motion.f[i] - motion.g[i]) * dtau[q]
            motion.dout[q] += (before - after) * dtau[q]


@jit
def _total(motion: Motion) -> None:
    """Put the amounts of all compartments together, and their derivatives, into ``motion.sums``."""
    sums, y, dy = motion.sums, motion.y, motion.dy
    sums[:] = 0.0
    for i in range(y.size):
        sums[0] += y[i]
        for q in range(dy.shape[1]):
            sums[1 + q] += dy[i, q]


@inlined
def begin_output(t0: float, t1: float, design: Design, motion: Motion) -> float:
    """Return what is in the compartments or enters them until ``t1``; its slopes count as arrived."""
    if design.has_output == 0 or motion.on[design.n] == 0:
        return 0.0
    sums, slot = motion.sums, design.output[0]
    fraction = motion.p[slot] if slot >= 0 else 1.0
    _total(motion)
    for i in range(design.n):
        sums[0] += motion.r[i] * (t1 - t0)
        for q in range(motion.dout.size):
            sums[1 + q] += motion.dr[i, q] * (t1 - t0)
    for q in range(motion.dout.size):
        motion.dout[q] += fraction * sums[1 + q]
    return float(sums[0])


@inlined
def arrive(total: float, design: Design, motion: Motion) -> int:
    """Empty what is off, and let what is missing of ``total`` arrive in the output compartment."""
    y = motion.y
    motion.flags[SAME] = 1
    for i in range(design.n):
        if motion.on[i] == 0:
            if y[i] != 0.0 and design.kind == ODE and design.feeds[i] == 1:
                return FED_WHILE_OFF
            empty(i, motion)
        if not np.isfinite(y[i]):
            return NOT_FINITE
    if design.has_output == 1 and motion.on[design.n] == 1:
        slot = design.output[0]
        fraction = motion.p[slot] if slot >= 0 else 1.0
        _total(motion)
        lost = total - motion.sums[0]
        motion.out[0] += fraction * lost
        for q in range(motion.dout.size):
            motion.dout[q] -= fraction * motion.sums[1 + q]
            if slot >= 0:
                motion.dout[q] += motion.dp[slot, q] * lost
    return FINE


def advance(
    t0: float,
    t1: float,
    design: Design,
    motion: Motion,
    slopes: Callable[..., None],
    jacobian: Callable[..., None],
    equilibrium: Callable[..., int],
) -> int:
    """Move the state from ``t0`` to ``t1``, which may lie before it, under constant inputs."""
    if t1 == t0 or design.kind == 0:
        return FINE
    total = begin_output(t0, t1, design, motion)
    y, dy, r, dr = motion.y, motion.dy, motion.r, motion.dr
    if design.kind == LINEAR:
        status = ready(design, motion)
        if status != FINE:
            return status
        advance_linear(t1 - t0, y, dy, r, dr, motion.plan, motion.system, motion.linear_work)
    else:
        same = motion.flags[SAME] == 1
        p, dp, settings, memory, work = motion.p, motion.dp, design.settings, motion.memory, motion.work
        code = integrate(
            t0, t1, y, dy, r, dr, p, dp, slopes, jacobian, settings, memory, work, same,
            design.upstream, design.held, equilibrium,
        )  # fmt: skip
        if code != 0:
            return INTEGRATION + code
    return arrive(total, design, motion)


@inlined
def balance(t: float, design: Design, motion: Motion, equilibrium: Callable[..., int]) -> int:
    """Set the amounts of equilibrium compartments by those of the others."""
    for i in range(design.n):
        if design.free[i] == 0:
            motion.flags[SAME] = 0
            code = equilibrium(t, motion.y, motion.dy, motion.p, motion.dp)
            return NO_BALANCE if code != 0 else FINE
    return FINE


@jit
def empty(i: int, motion: Motion) -> None:
    """Take everything out of compartment ``i`` (from 0)."""
    motion.flags[SAME] = 0
    motion.y[i] = 0.0
    motion.r[i] = 0.0
    for q in range(motion.dout.size):
        motion.dy[i, q] = 0.0
        motion.dr[i, q] = 0.0
