"""$THETAI: initial values of thetas, and means of their prior, written on another scale than the model's."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from ...engine.ir.parameter import CovarianceBlock, ThetaParameter
from ...engine.ir.prior import NormalPrior
from .context import Context
from .numbers import number
from .records import Record

_FUNCTIONS: dict[str, Callable[[float], float]] = {
    "EXP": math.exp,
    "LOG": lambda x: -math.inf if x == 0 else math.log(x),
    "LOG10": lambda x: -math.inf if x == 0 else math.log10(x),
    "SQRT": math.sqrt,
    "ABS": abs,
    "SIN": math.sin,
    "COS": math.cos,
    "TAN": math.tan,
    "ATAN": math.atan,
}
_FUNCTIONS |= {f"D{name}": function for name, function in _FUNCTIONS.items()}
_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[ED][+-]?\d+)?)|(?P<array>THETAP?I?)(?![A-Z0-9_])"
    r"(?:\s*\((?P<index>[^()]*)\))?|(?P<name>[A-Z]\w*)|(?P<sign>\*\*|[-+*/()]))",
    re.IGNORECASE,
)
_ASSIGNMENT = re.compile(
    r"\s*(?P<array>THETAP?)\s*(?:\((?P<index>[^()]*)\))?\s*=(?P<value>.*)", re.IGNORECASE
)


_STEP = 1e-5  # relative, of the slopes: their error is below 1e-9


class _Unclear(Exception):
    """A statement that is more than arithmetic on one theta."""


def transform_initial_values(
    context: Context, thetas: tuple[ThetaParameter, ...], prior: NormalPrior | None = None
) -> tuple[tuple[ThetaParameter, ...], NormalPrior | None]:
    """Return ``thetas`` with initial values and bounds as the assignments of $THETAI make them.

    The means of ``prior`` count as thetas behind the model's own; its covariance goes with their slopes.
    """
    means = () if prior is None else tuple(ThetaParameter("a mean of the prior", mean) for mean in prior.mean)
    changed, slopes = _transformed(context, (*thetas, *means), len(thetas))
    if prior is not None:
        scaled = tuple(_scaled(block, slopes[len(thetas) :]) for block in prior.covariance)
        prior = NormalPrior(tuple(mean.initial for mean in changed[len(thetas) :]), scaled)
    return changed[: len(thetas)], prior


def _scaled(block: CovarianceBlock, slopes: list[float]) -> CovarianceBlock:
    """Return the covariance of functions of what ``block`` is the covariance of, by their slopes."""
    own = slopes[block.first - 1 : block.first - 1 + block.size]
    values = [block.element(i, j) * own[i] * own[j] for i in range(block.size) for j in range(i + 1)]
    return replace(block, values=tuple(values))


def _transformed(
    context: Context, thetas: tuple[ThetaParameter, ...], own: int
) -> tuple[tuple[ThetaParameter, ...], list[float]]:
    """Return ``thetas``, of which the first ``own`` are the model's, after $THETAI, and its slopes there."""
    changed, slopes = list(thetas), [1.0] * len(thetas)
    for record in context.stream.of("THETAI"):
        for start, line in _lines(context, record):
            span = context.stream.source.span(start, start + max(1, len(line)))
            try:
                _assign(line, thetas, own, changed, slopes)
            except _Unclear as reason:
                hint = (
                    "one assignment a line, e.g. THETA(1:NTHETA)=LOG(THETAI(1:NTHETA)), or THETA=LOG(THETAI)"
                )
                context.error(f"this statement of $THETAI is not understood: {reason}", span, hint)
                return thetas, slopes
    for theta in changed:
        if not math.isfinite(theta.initial):
            context.error(f"the initial value of {theta.name} after $THETAI is {theta.initial:g}", theta.span)
    return tuple(changed), slopes


def _lines(context: Context, record: Record) -> list[tuple[int, str]]:
    found, start = [], record.start
    for line in context.stream.body(record).split("\n"):
        if line.strip():
            blank = len(line) - len(line.lstrip())
            found.append((start + blank, line.strip()))
        start += len(line) + 1
    return found


def _assign(
    line: str,
    thetas: tuple[ThetaParameter, ...],
    own: int,
    changed: list[ThetaParameter],
    slopes: list[float],
) -> None:
    match = _ASSIGNMENT.fullmatch(line)
    if match is None:
        raise _Unclear("it assigns no THETA")
    counts = own, len(thetas)
    for position in _positions(match["array"], match["index"], counts):
        old = thetas[position]
        step = _STEP * max(abs(old.initial), 1.0)
        initial, above, below, *bounds = (
            _Value(match["value"], position, counts, x).read()
            for x in (old.initial, old.initial + step, old.initial - step, old.lower, old.upper)
        )
        slopes[position] = (above - below) / (2.0 * step)
        ends = sorted(b if not math.isnan(b) else s * math.inf for b, s in zip(bounds, (-1, 1), strict=True))
        changed[position] = replace(old, initial=initial, lower=ends[0], upper=ends[1], value_span=None)


def _positions(array: str, index: str | None, counts: tuple[int, int]) -> range:
    """Return the positions (from 0) that ``1:NTHETA``, ``3`` or nothing mean.

    ``counts``: of the model's own thetas, and of all; those of THETAP and THETAPI are the others.
    """
    own, n = counts
    before = own if array.upper().startswith("THETAP") else 0
    if index is None:
        return range(before, n)
    known = {"NTHETA": own, "NTHP": n - own}
    first, colon, last = index.upper().replace(" ", "").partition(":")
    ends = [known.get(word, int(word) if word.isdecimal() and len(word) < 6 else None)
            for word in (first or "1", (last or "NTHETA") if colon else first)]  # fmt: skip
    start, stop = ends
    if start is None or stop is None or not 1 <= start <= stop <= n - before:
        raise _Unclear(f"({index}) is no range of thetas")
    return range(before + start - 1, before + stop)


@dataclass
class _Value:
    """The value of an expression for the theta at ``position``, whose value before is ``argument``."""

    text: str
    position: int
    counts: tuple[int, int]
    argument: float
    at: int = 0

    def read(self) -> float:
        value = self.sum()
        if self.peek() is not None:
            raise _Unclear(f"'{self.text[self.at :].strip()}'")
        return value

    def peek(self) -> re.Match[str] | None:
        if not self.text[self.at :].strip():
            return None
        match = _TOKEN.match(self.text, self.at)
        if match is None:
            raise _Unclear(f"'{self.text[self.at :].strip()}'")
        return match

    def take(self, *signs: str) -> str:
        """Return the next sign if it is one of ``signs``, and go past it."""
        match = self.peek()
        if match is None or match["sign"] not in signs:
            return ""
        self.at = match.end()
        return match["sign"]

    def sum(self) -> float:
        value = -self.term() if self.take("-", "+") == "-" else self.term()
        while sign := self.take("+", "-"):
            value = value + self.term() if sign == "+" else value - self.term()
        return value

    def term(self) -> float:
        value = self.factor()
        while sign := self.take("*", "/"):
            other = self.factor()
            value = value * other if sign == "*" else _guarded(lambda a, b: a / b, value, other)
        return value

    def factor(self) -> float:
        base = self.primary()
        if not self.take("**"):
            return base
        sign = -1.0 if self.take("-", "+") == "-" else 1.0
        return _guarded(math.pow, base, sign * self.factor())

    def primary(self) -> float:
        match = self.peek()
        if match is None:
            raise _Unclear("it ends too early")
        self.at = match.end()
        if match["number"]:
            return number(match["number"]) or 0.0
        if match["array"]:
            one = match["index"]
            read = match["array"]
            if one is not None and ":" not in one and self.position not in _positions(read, one, self.counts):
                raise _Unclear("it mixes several thetas")
            return self.argument
        if match["sign"] == "(":
            value = self.sum()
        elif match["name"] and (function := _FUNCTIONS.get(match["name"].upper())) and self.take("("):
            value = _guarded(function, self.sum())
        else:
            raise _Unclear(f"'{match.group().strip()}'")
        if not self.take(")"):
            raise _Unclear("a parenthesis is not closed")
        return value


def _guarded(function: Callable[..., float], *values: float) -> float:
    """Return the value of ``function``, NaN outside its domain."""
    try:
        return function(*values)
    except (ValueError, ZeroDivisionError, OverflowError):
        return math.nan
