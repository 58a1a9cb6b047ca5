"""Running extremes between the ends of a step: where the trajectory turns, to the accuracy of the solution.

A running maximum (:mod:`....ir.running_extremes`) is one of the held variables, so its value at the ends of
steps comes from ``hold``. Within an accepted step the followed expression is looked at along the cubic that
has the step's amounts and slopes. Where it is largest between the ends, the zero of its derivative in time
is sought, at each trial with the amounts of a step that ends there: an interpolation of the long steps of
an eighth-order method would be good to a few digits only. Where it begins or ceases to count (a condition on
time) that moment is sought the same way. A step in which it has several maxima is seen at ``LOOKS`` points.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..machine.bare import run_slopes
from ..machine.borrowed import vector_at
from ..machine.caching import jit
from .explicit import explicit_step
from .stiff import stiff_step
from .tableau import (
    DOP853_C,
    DOP853_ROWS,
    DOP853_USED,
    DOP853_WEIGHTS,
    ESDIRK_C,
    ESDIRK_GAMMA,
    ESDIRK_PREDICTOR,
    ESDIRK_ROWS,
    ESDIRK_USED,
    ESDIRK_WEIGHTS,
    TSIT5_C,
    TSIT5_ROWS,
    TSIT5_USED,
    TSIT5_WEIGHTS,
)
from .workspace import Hold, Jacobian, Slopes, Views

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

LOOKS = 8
# parts of the step: half the distance for slopes in time (error 1e-10, rounding 1e-11), and the width at
# which a search ends
NEAR, WIDTH = 1e-5, 1e-12
TRIALS = 60


@jit
def followed_value(
    t: float, y: Vector, p: Vector, place: int, sign: float, hold: Hold, no_dy: Matrix, no_dp: Matrix
) -> float:
    """Return what the running extreme at ``place`` of p is compared with, times ``sign``.

    Minus infinity where it does not count.
    """
    probe = p.copy()
    probe[place] = -sign * np.inf
    hold(t, y, no_dy, probe, no_dp)
    return sign * float(probe[place])


@jit
def part_of_step(
    t: float,
    h: float,
    p: Vector,
    dp: Matrix,
    slopes: Slopes,
    jacobian: Jacobian,
    settings: Vector,
    v: Views,
    driven: bool,
    stiff: bool,
    tight: bool,
    f: Vector,
) -> bool:
    """Move ``v.start`` by ``h`` into ``v.stage`` and put the slopes of the states there into ``f`` [n]."""
    n = f.size
    if stiff:
        if not stiff_step(
            t, h, p, dp, slopes, jacobian,
            ESDIRK_WEIGHTS, ESDIRK_ROWS, ESDIRK_USED, ESDIRK_C, ESDIRK_GAMMA, ESDIRK_PREDICTOR,
            settings[0], settings[1], v, driven,
        ):  # fmt: skip
            return False
    elif tight:
        explicit_step(
            t, h, p, dp, slopes, DOP853_WEIGHTS, DOP853_ROWS, DOP853_USED, DOP853_C,
            v.start, v.rates, v.k, v.stage, v.stage_y, v.stage_dy, v.before, driven,
        )  # fmt: skip
    else:
        explicit_step(
            t, h, p, dp, slopes, TSIT5_WEIGHTS, TSIT5_ROWS, TSIT5_USED, TSIT5_C,
            v.start, v.rates, v.k, v.stage, v.stage_y, v.stage_dy, v.before, driven,
        )  # fmt: skip
    run_slopes(slopes, t + h, v.stage_y, v.no_dy, p, v.no_dp, f, v.no_dy)
    for m in range(n):
        f[m] += v.rates[m]
    return True


@jit
def rate_of_change(
    t: float, h: float, y: Vector, f: Vector, p: Vector, place: int, sign: float, hold: Hold, v: Views
) -> float:
    """Return the derivative in time, per step ``h``, of what is followed; ``f`` [n]: slopes of ``y``.

    One-sided where it counts on one side only.
    """
    e = NEAR * h
    ahead = followed_value(t + e, y + e * f, p, place, sign, hold, v.no_dy, v.no_dp)
    behind = followed_value(t - e, y - e * f, p, place, sign, hold, v.no_dy, v.no_dp)
    if ahead > -np.inf and behind > -np.inf:
        return (ahead - behind) / (2.0 * NEAR)
    here = followed_value(t, y, p, place, sign, hold, v.no_dy, v.no_dp)
    return (ahead - here if ahead > -np.inf else here - behind) / NEAR


@jit
def follow_peaks(
    t: float,
    h: float,
    last: int,
    p: Vector,
    dp: Matrix,
    slopes: Slopes,
    jacobian: Jacobian,
    settings: Vector,
    v: Views,
    driven: bool,
    stiff: bool,
    tight: bool,
    held: int,
    hold: Hold,
) -> None:
    """Let the running extremes of p see what they follow within the accepted step from ``t`` to ``t + h``.

    The step is as :func:`.integrate.integrate` has it: ``v.start`` and row 0 of ``v.k`` its beginning,
    ``v.stage`` and row ``last`` its end; they are left so. Only p and dp change.
    """
    first = p.size - held
    any_followed = False
    for i in range(held):
        any_followed = any_followed or settings[4 + i] != 0.0
    if not any_followed:
        return
    n = v.stage_y.size
    end, end_slopes = v.stage.copy(), v.k[last].copy()
    y0, y1 = vector_at(v.start, 0, n), vector_at(end, 0, n)
    f0, f1 = np.empty(n), np.empty(n)
    for m in range(n):
        f0[m], f1[m] = v.k[0, m] + v.rates[m], end_slopes[m] + v.rates[m]
    f, y, seen = np.empty(n), np.empty(n), np.empty(LOOKS + 1)
    for i in range(held):
        sign, place = settings[4 + i], first + i
        if sign == 0.0:
            continue
        best = 0
        for j in range(LOOKS + 1):
            s = j / LOOKS
            for m in range(n):
                bend = (1.0 - s) * (h * f0[m] - y1[m] + y0[m]) + s * (y1[m] - y0[m] - h * f1[m])
                y[m] = (1.0 - s) * y0[m] + s * y1[m] + s * (1.0 - s) * bend
            seen[j] = followed_value(t + s * h, y, p, place, sign, hold, v.no_dy, v.no_dp)
            if seen[j] > seen[best]:
                best = j
        if not seen[best] > -np.inf:
            continue
        low, high = max(best - 1, 0) / LOOKS, min(best + 1, LOOKS) / LOOKS
        for j in range(LOOKS):
            if (seen[j] > -np.inf) == (seen[j + 1] > -np.inf):
                continue
            # from where, or up to where, it counts
            opens = seen[j + 1] > -np.inf
            out, inside = (j, j + 1) if opens else (j + 1, j)
            a, b = out / LOOKS, inside / LOOKS
            for _ in range(TRIALS):
                if abs(b - a) <= WIDTH:
                    break
                s = 0.5 * (a + b)
                part_of_step(t, s * h, p, dp, slopes, jacobian, settings, v, driven, stiff, tight, f)
                counts = (
                    followed_value(t + s * h, v.stage_y, p, place, sign, hold, v.no_dy, v.no_dp) > -np.inf
                )
                a, b = (a, s) if counts else (s, b)
            if 0.0 < b < 1.0 and part_of_step(
                t, b * h, p, dp, slopes, jacobian, settings, v, driven, stiff, tight, f
            ):
                hold(t + b * h, v.stage_y, v.stage_dy, p, dp)
            if inside == best:
                low, high = (b, high) if opens else (low, b)
        # the derivative at both sides of the largest value seen
        sides = np.empty(2)
        for side in range(2):
            s = low if side == 0 else high
            if s == 0.0:
                sides[0] = rate_of_change(t, h, y0, f0, p, place, sign, hold, v)
            elif s == 1.0:
                sides[1] = rate_of_change(t + h, h, y1, f1, p, place, sign, hold, v)
            elif part_of_step(t, s * h, p, dp, slopes, jacobian, settings, v, driven, stiff, tight, f):
                sides[side] = rate_of_change(t + s * h, h, v.stage_y, f, p, place, sign, hold, v)
            else:
                sides[side] = 0.0
        below, above = sides[0], sides[1]
        if not (below > 0.0 and above < 0.0):
            continue
        s = low
        for trial in range(TRIALS):
            if high - low <= WIDTH:
                break
            # the secant, and halves where it comes to rest at one end
            s = low + (high - low) * below / (below - above) if trial % 3 < 2 else 0.5 * (low + high)
            if not part_of_step(t, s * h, p, dp, slopes, jacobian, settings, v, driven, stiff, tight, f):
                break
            rate = rate_of_change(t + s * h, h, v.stage_y, f, p, place, sign, hold, v)
            if abs(rate) <= 1e-12 * (abs(sides[0]) + abs(sides[1])):
                break
            if rate > 0.0:
                low, below = s, rate
            else:
                high, above = s, rate
        if part_of_step(t, s * h, p, dp, slopes, jacobian, settings, v, driven, stiff, tight, f):
            hold(t + s * h, v.stage_y, v.stage_dy, p, dp)
    v.stage[:] = end
    v.k[last, :] = end_slopes
