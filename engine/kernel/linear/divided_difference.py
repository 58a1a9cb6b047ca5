"""Divided differences of exp(h x) in x, for either sign of h, finite and accurate where nodes meet.

exp[a, b] is the amount that a unit dose leaves in the second of two compartments in a row (per rate constant
between them), exp[a, b, c] in the third, and so on: equal rate constants are no special case.
Recursion where nodes are apart, where it loses a factor of the inverse of their distance; the series in
complete homogeneous symmetric polynomials of the centred nodes where they are near.
Source: McCurdy, Ng and Parlett, Math. Comp. 43 (1984) 501-528.
"""

from __future__ import annotations

import math

from ..machine.caching import jit

# distances (times h) below which the series are used. The recursions lose 4e-16 over NEAR_PAIR, and as pairs
# nearer than that are exact, 1e-15 over NEAR_TRIPLE or 8e-15 over NEAR_PAIR
NEAR_PAIR = 0.1
NEAR_TRIPLE = 0.02
NEAR_FOUR = 0.5


@jit
def pair(a: float, b: float, exp_a: float, exp_b: float, h: float) -> float:
    """Return exp[a, b] = (exp(a h) - exp(b h)) / (a - b), with the two exponentials given."""
    gap = a - b
    scaled = gap * h
    if abs(scaled) > NEAR_PAIR:
        return (exp_a - exp_b) / gap
    x = 0.25 * scaled * scaled  # h exp(mean) sinh(d) / d, d^2 = x
    series = 1.0 + x * (1.0 / 6.0) * (1.0 + x * 0.05 * (1.0 + x * (1.0 / 42.0) * (1.0 + x * (1.0 / 72.0))))
    return h * math.sqrt(exp_a) * math.sqrt(exp_b) * series


@jit
def triple(a: float, b: float, c: float, ab: float, ac: float, bc: float, h: float) -> float:
    """Return exp[a, b, c], with the differences of the three pairs given."""
    gap_ab = a - b
    gap_ac = a - c
    gap_bc = b - c
    wide_ab = abs(gap_ab)
    wide_ac = abs(gap_ac)
    wide_bc = abs(gap_bc)
    # the two nodes farthest apart
    gap = gap_bc
    difference = ab - ac
    widest = wide_bc
    if wide_ab > widest:
        gap = gap_ab
        difference = ac - bc
        widest = wide_ab
    if wide_ac > widest:
        gap = gap_ac
        difference = ab - bc
        widest = wide_ac
    if widest * abs(h) > NEAR_TRIPLE:
        result = difference / gap
    else:
        result = _near_triple(a, b, c, h)
    return result


@jit
def _near_triple(a: float, b: float, c: float, h: float) -> float:
    """Return exp[a, b, c] of nodes within NEAR_TRIPLE."""
    mean = (a + b + c) / 3.0
    u = (a - mean) * h
    v = (b - mean) * h
    w = -(u + v)
    p = 0.5 * (u * u + v * v + w * w)  # -(second elementary symmetric polynomial)
    q = u * v * w
    series = 0.5 + p / 24.0 + q / 120.0 + p * p / 720.0 + 2.0 * p * q / 5040.0 + p * p * p / 40320.0
    return h * h * math.exp(mean * h) * series


@jit
def quadruple(a: float, b: float, c: float, d: float, h: float) -> float:
    """Return exp[a, b, c, d]."""
    low = min(min(a, b), min(c, d))
    high = max(max(a, b), max(c, d))
    if (high - low) * abs(h) > NEAR_FOUR:
        # the two nodes farthest apart, and the others
        first = min(a, b)
        second = max(a, b)
        third = min(c, d)
        fourth = max(c, d)
        inner = max(first, third)
        other = min(second, fourth)
        return (_triple_of(low, inner, other, h) - _triple_of(high, inner, other, h)) / (low - high)
    mean = 0.25 * (a + b + c + d)
    s = (a - mean) * h
    t = (b - mean) * h
    u = (c - mean) * h
    v = -(s + t + u)
    e2 = s * t + s * u + s * v + t * u + t * v + u * v
    e3 = s * t * u + s * t * v + s * u * v + t * u * v
    e4 = s * t * u * v
    # complete polynomials by h_k = -e2 h_{k-2} + e3 h_{k-3} - e4 h_{k-4}, each over (k + 3)!
    h4 = 0.0
    h3 = 0.0
    h2 = 1.0
    h1 = 0.0
    factorial = 24.0
    series = 1.0 / 6.0
    for k in range(2, 14):
        factorial *= k + 3.0
        h0 = -e2 * h2 + e3 * h3 - e4 * h4
        series += h0 / factorial
        h4 = h3
        h3 = h2
        h2 = h1
        h1 = h0
    return h * h * h * math.exp(mean * h) * series


@jit
def _triple_of(a: float, b: float, c: float, h: float) -> float:
    exp_a = math.exp(a * h)
    exp_b = math.exp(b * h)
    exp_c = math.exp(c * h)
    ab = pair(a, b, exp_a, exp_b, h)
    ac = pair(a, c, exp_a, exp_c, h)
    return triple(a, b, c, ab, ac, pair(b, c, exp_b, exp_c, h), h)
