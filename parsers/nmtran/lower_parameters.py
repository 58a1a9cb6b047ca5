"""The population parameters of a control stream; $THETA: initial values and bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from ...engine.ir.parameter import CovarianceBlock, ThetaParameter
from .context import Context
from .labels import add_name, comment_label, with_next
from .lower_matrix import MatrixLowering
from .numbers import number
from .syntax import MatrixRecord, ThetaItem, ThetaRecord, Word
from .words import resolve, suggest

_INFINITE = 1e6  # a bound this large is none
_THETA_WORDS = ("FIXED", "UNINT")


@dataclass(frozen=True)
class Parameters:
    """All population parameters, and the numbers that names stand for (``THETA(CL)``).

    ``beyond`` are the thetas of a prior, which are numbered after those of the model.
    """

    thetas: tuple[ThetaParameter, ...]
    omega: tuple[CovarianceBlock, ...]
    sigma: tuple[CovarianceBlock, ...]
    names: dict[str, dict[str, int]]  # "THETA" | "ETA" | "EPS" -> name -> number
    complete: bool = True  # all records were understood, so the counts are right
    beyond: tuple[ThetaParameter, ...] = ()


def lower_parameters(
    context: Context,
    thetas: list[ThetaRecord],
    omegas: list[MatrixRecord],
    sigmas: list[MatrixRecord],
) -> Parameters:
    """Return the parameters that the records declare."""
    names: dict[str, dict[str, int]] = {"THETA": {}, "ETA": {}, "EPS": {}}
    before = len(context.problems)
    lowered = lower_thetas(context, thetas, names["THETA"])
    omega = MatrixLowering(context, "OMEGA", names["ETA"]).lower(omegas)
    sigma = MatrixLowering(context, "SIGMA", names["EPS"]).lower(sigmas)
    return Parameters(tuple(lowered), omega, sigma, names, len(context.problems) == before)


def lower_thetas(
    context: Context, records: list[ThetaRecord], names: dict[str, int], *, free: bool = True
) -> list[ThetaParameter]:
    """Return the thetas of ``records``; those that are not ``free`` are values of a prior."""
    thetas: list[ThetaParameter] = []
    for record in records:
        offset = len(thetas)
        for item, following in with_next(record.items):
            label = comment_label(context, item.span, following.span if following else None)
            if item.name is not None:
                label = add_name(context, names, item.name, len(thetas) + 1)
            theta = _theta(context, item, label, free)
            for _ in range(item.repeat):
                thetas.append(replace(theta, name=f"THETA{len(thetas) + 1}"))
        for i, word in enumerate(record.names, start=offset):
            if i >= len(thetas):
                context.error(f"there is no THETA for the name {word.text}", word.span)
                break
            thetas[i] = replace(thetas[i], label=add_name(context, names, word, i + 1))
        for word in record.search:
            context.notice(
                f"{word.text.upper()} of $THETA has no effect: no initial values are searched", word.span
            )
    return thetas


def _theta(context: Context, item: ThetaItem, label: str, free: bool) -> ThetaParameter:
    slots: list[Word | None] = []
    fixed, empty, misplaced = False, True, False
    for word in (*item.inside, *item.after):
        if word.text == ",":
            if empty:
                slots.append(None)
            empty = True
        elif word.text.upper().lstrip("+-")[:3] == "INF" or number(word.text) is not None:
            if fixed and not misplaced:
                context.error("FIX must follow the values", item.span, "(lower,initial,upper) FIX")
                misplaced = True
            slots.append(word)
            empty = False
        elif (full := resolve(word.text, _THETA_WORDS)) is not None:
            fixed = fixed or full == "FIXED"
        else:
            context.error(
                f"unknown word {word.text.upper()} in $THETA", word.span, suggest(word.text, _THETA_WORDS)
            )
    if not 1 <= len(slots) <= 3:
        context.error("a THETA has one to three values", item.span, "(lower,initial,upper)")
        return ThetaParameter("", 1.0, label=label, span=item.span)
    low, middle, high = (None, slots[0], None) if len(slots) == 1 else (*slots, None)[:3]
    lower = -math.inf if low is None else _bound(low)
    upper = math.inf if high is None else _bound(high)
    if middle is None:
        if not (math.isfinite(lower) and math.isfinite(upper)):
            context.error("this THETA has no initial value", item.span, "(lower,initial,upper)")
            return ThetaParameter("", 1.0, label=label, span=item.span)
        initial = (lower + upper) / 2
        context.notice("no initial value: the middle of the bounds is taken", item.span)
    else:
        initial = _bound(middle)
    fixed_inside = any(resolve(word.text, _THETA_WORDS) == "FIXED" for word in item.inside)
    if fixed_inside and not misplaced and any(math.isfinite(b) and b != initial for b in (lower, upper)):
        context.error(
            "with FIX inside the parentheses a bound must equal the initial value",
            item.span,
            "write FIX after the parentheses, (lower,initial,upper) FIX",
        )
    fixed = fixed or lower == upper == initial or not free
    _check_theta(context, item, initial, lower, upper, fixed, middle)
    return ThetaParameter(
        "",
        initial,
        lower,
        upper,
        fixed,
        label,
        span=item.span,
        value_span=middle.span if middle is not None and item.repeat == 1 else None,
    )


def _check_theta(
    context: Context,
    item: ThetaItem,
    initial: float,
    lower: float,
    upper: float,
    fixed: bool,
    word: Word | None,
) -> None:
    span = word.span if word is not None else item.span
    if fixed:
        if not lower <= initial <= upper:
            context.error(f"the value {initial:g} is outside its bounds", span)
    elif math.isinf(initial):
        context.error("an initial value must be finite", span)
    elif not lower < initial < upper:
        context.error(
            f"the initial value {initial:g} is not between its bounds {lower:g} and {upper:g}",
            span,
            "write (lower,initial,upper) with lower < initial < upper, or FIX the value",
        )
    elif initial == 0.0:
        context.error(
            "an initial value of zero must be fixed", span, "start from a small number, or write 0 FIX"
        )


def _bound(word: Word) -> float:
    """Return a number; INF words and values of a million or more are infinite."""
    value = number(word.text)
    if value is None:
        return -math.inf if word.text.startswith("-") else math.inf
    return math.copysign(math.inf, value) if abs(value) >= _INFINITE else value
