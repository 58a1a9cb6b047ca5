"""What a dose does at the moment it enters, to amounts, input rates and all their derivatives.

Where the moment itself depends on parameters (lag, modelled duration, bioavailability of an infusion), the
derivative at a fixed time jumps: S+ = S- + (f(y-) - f(y+)) dtau + d(dose).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..machine.caching import jit
from ..status import FINE
from .motion import Design, Motion, Solver, jump_in_time, output_slope, plan_transfers

Vector = NDArray[np.float64]


@jit
def any_nonzero(values: Vector) -> bool:
    """Return whether some entry is not zero."""
    for value in values:
        if value != 0.0:
            return True
    return False


@jit
def turn_on(design: Design, motion: Motion, compartment: int) -> None:
    """Turn a compartment (from 0) on if it is off."""
    if motion.on[compartment] == 0:
        motion.on[compartment] = 1
        plan_transfers(design, motion)


@jit
def bolus(
    t: float,
    compartment: int,
    amount: float,
    damount: Vector,
    dtime: Vector,
    design: Design,
    motion: Motion,
    solver: Solver,
) -> int:
    """Put ``amount`` into ``compartment`` (from 0) at time ``t``; both with derivatives."""
    moving = any_nonzero(dtime)
    before = 0.0
    if moving:
        status = solver.velocity(t, design, motion, solver.slopes, motion.f)
        if status != FINE:
            return status
        before = output_slope(design, motion, motion.f)
    motion.flags[0] = 0
    motion.y[compartment] += amount
    for q in range(damount.size):
        motion.dy[compartment, q] += damount[q]
    if moving:
        status = solver.velocity(t, design, motion, solver.slopes, motion.g)
        if status != FINE:
            return status
        jump_in_time(design, before, output_slope(design, motion, motion.g), dtime, motion)
    return FINE


@jit
def start_infusion(compartment: int, rate: float, drate: Vector, dtime: Vector, motion: Motion) -> None:
    """Let an infusion of ``rate`` begin; f(y-) - f(y+) is minus the rate."""
    motion.flags[0] = 0
    motion.running[compartment] += 1
    motion.r[compartment] += rate
    for q in range(drate.size):
        motion.dr[compartment, q] += drate[q]
        motion.dy[compartment, q] -= rate * dtime[q]


@jit
def stop_infusion(compartment: int, rate: float, drate: Vector, dtime: Vector, motion: Motion) -> None:
    """Let an infusion of ``rate`` end."""
    motion.flags[0] = 0
    motion.running[compartment] -= 1
    motion.r[compartment] -= rate
    for q in range(drate.size):
        motion.dr[compartment, q] -= drate[q]
        motion.dy[compartment, q] += rate * dtime[q]
    if motion.running[compartment] <= 0:  # no rounding error of the rates stays behind
        motion.running[compartment] = 0
        motion.r[compartment] = 0.0
        motion.dr[compartment, :] = 0.0
