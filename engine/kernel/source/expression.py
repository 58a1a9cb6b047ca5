"""Expressions as source text: values, and their slopes in every variable by one backward sweep.

An expression is first written out as operations on named values; the sweep then carries d expression /
d operation from the last to the first (Griewank and Walther, Evaluating Derivatives (2008), section 3.2), so
that every part is differentiated once, however many variables it has.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from ...ir.expression import (
    Binary,
    Call,
    Compare,
    Comparison,
    Conditional,
    Expression,
    Logical,
    Negative,
    Not,
    Number,
    children,
)
from .functions import (
    AND,
    ATOM,
    CHOICE,
    COMPARE,
    NOT,
    OR,
    POWER,
    SLOPES,
    SUM,
    TERM,
    UNARY,
    VALUES,
    negated,
    times,
)
from .names import Names, Value

Read = Callable[[Expression], Value]
_LEFT = {"+": SUM, "-": SUM, "*": TERM, "/": TERM}


def plain(node: Expression, read: Read) -> str:
    """Return the text of ``node``, without derivatives."""
    return _plain(node, read)[0]


def _plain(node: Expression, read: Read) -> tuple[str, int]:
    def part(inner: Expression, weakest: int) -> str:
        text, strength = _plain(inner, read)
        return text if strength >= weakest else f"({text})"

    match node:
        case Number(value):
            return number(value), UNARY if value < 0 else ATOM
        case Negative(operand):
            return f"-{part(operand, UNARY)}", UNARY
        case Binary("**", left, right):
            return f"{part(left, ATOM)} ** {part(right, ATOM)}", POWER
        case Binary(operator, left, right):
            strength = _LEFT[operator]
            return f"{part(left, strength)} {operator} {part(right, strength + 1)}", strength
        case Call("min" | "max" as name, arguments):
            return _extreme(name, [part(a, ATOM) for a in arguments]), ATOM
        case Call(name, arguments):
            return VALUES[name].format(*(part(a, CHOICE) for a in arguments)), ATOM
        case Conditional(condition, then, otherwise):
            return f"{part(then, OR)} if {part(condition, OR)} else {part(otherwise, OR)}", CHOICE
        case Compare(operator, left, right):
            return f"{part(left, SUM)} {operator} {part(right, SUM)}", COMPARE
        case Logical("and", left, right):
            return f"{part(left, AND)} and {part(right, NOT)}", AND
        case Logical(_, left, right):
            return f"{part(left, OR)} or {part(right, AND)}", OR
        case Not(operand):
            return f"not {part(operand, NOT)}", NOT
    return read(node).code, ATOM


def _extreme(name: str, arguments: list[str]) -> str:
    """Return min or max of numbers; numba's own keep a NaN or not by their order, these always do."""
    text = arguments[-1]
    for argument in reversed(arguments[:-1]):
        text = f"{name}imum({argument}, {text})"
    return text


def number(value: float) -> str:
    """Return a constant as text."""
    if math.isnan(value):
        return "math.nan"
    if math.isinf(value):
        return "math.inf" if value > 0 else "-math.inf"
    return repr(float(value))


@dataclass
class _Operation:
    """A value on the way: who goes into it, with the factor that its own slope is multiplied by."""

    inputs: list[tuple[_Operation, str]] = field(default_factory=list)
    leaf: Value | None = None
    arriving: list[str] = field(default_factory=list)


@dataclass
class _Part:
    code: str
    strength: int
    operation: _Operation | None  # None: constant in every direction


@dataclass
class Sweep:
    """One expression: lines that compute its value and slopes, and what they gave.

    ``slopes`` are pairs of a variable and the text of the expression's slope in it.
    """

    read: Read
    names: Names
    hold: Callable[[Expression], Expression]  # writes an assignment to a new variable, and returns it
    values: list[str]
    partials: list[str] = field(default_factory=list)
    slopes: list[tuple[Value, str]] = field(default_factory=list)
    _operations: list[_Operation] = field(default_factory=list)
    _seen: dict[Expression, _Part] = field(default_factory=dict)
    _active: dict[int, bool] = field(default_factory=dict)

    def write(self, node: Expression, name: str | None) -> str:
        """Write ``node``; its value, if an operation, is called ``name``. Returns the text of the value."""
        if not self._is_active(node):
            return plain(node, self.read)
        part = self._visit(node, name)
        if part.operation is not None:  # a step function of something variable is constant
            self._sweep(part.operation)
        return part.code

    def _is_active(self, node: Expression) -> bool:
        known = self._active.get(id(node))
        if known is None:
            inner = children(node)
            if isinstance(node, Conditional):
                inner = (node.then, node.otherwise)
            if inner:
                known = any([self._is_active(child) for child in inner])
            else:
                known = not isinstance(node, Number) and bool(self.read(node).tangent)
            self._active[id(node)] = known
        return known

    def _visit(self, node: Expression, name: str | None = None) -> _Part:
        if node in self._seen:
            return self._seen[node]
        part = self._new(node, name)
        self._seen[node] = part
        return part

    def _new(self, node: Expression, name: str | None) -> _Part:
        if not self._is_active(node):
            text, strength = _plain(node, self.read)
            return _Part(text, strength, None)
        match node:
            case Negative(operand):
                inner = self._visit(operand)
                return self._inline(f"-{self._text(inner, UNARY)}", UNARY, [(inner, "-1.0")])
            case Binary("+" | "-" as sign, left, right):
                a, b = self._visit(left), self._visit(right)
                text = f"{self._text(a, SUM)} {sign} {self._text(b, TERM)}"
                return self._inline(text, SUM, [(a, "1.0"), (b, "1.0" if sign == "+" else "-1.0")])
            case Binary("*", left, right):
                a, b = self._named(left), self._named(right)
                return self._call(f"{a.code} * {b.code}", [(a, b.code), (b, a.code)], name)
            case Binary("/", left, right):
                a, b = self._named(left), self._named(right)
                return self._call(f"{a.code} / {b.code}", [(a, f"/{b.code}"), (b, f"/{b.code}|{{v}}")], name)
            case Binary("**", left, right):
                return self._power(self._named(left), self._named(right), name)
            case Call("min" | "max"):
                return self._extreme(node)
            case Call(function, arguments):
                parts = [self._named(a) for a in arguments]
                codes = [p.code for p in parts]
                factors = [f.format(*codes, v="{v}") for f in SLOPES[function]]
                return self._call(
                    VALUES[function].format(*codes), list(zip(parts, factors, strict=True)), name
                )
            case Conditional():
                return self._chosen(node)
        return self._leaf(self.read(node))

    def _leaf(self, value: Value) -> _Part:
        operation = _Operation(leaf=value)
        self._operations.append(operation)
        return _Part(value.code, ATOM, operation)

    def _chosen(self, node: Conditional) -> _Part:
        """Write a choice between cases as statements, so that only the case taken is computed."""
        return self._held(self.hold(node))

    def _held(self, variable: Expression) -> _Part:
        value = self.read(variable)
        return self._leaf(value) if value.tangent else _Part(value.code, ATOM, None)

    def _extreme(self, node: Call) -> _Part:
        """Write min or max as choices; of equal arguments the first counts, and NaN wins."""
        operator: Comparison = "<=" if node.function == "min" else ">="
        held = [self.hold(argument) for argument in node.arguments]
        result = held[-1]
        for argument in reversed(held[:-1]):
            is_nan = Compare("!=", argument, argument)
            first = Logical("or", Compare(operator, argument, result), is_nan)
            result = self.hold(Conditional(first, argument, result))
        return self._held(result)

    def _power(self, base: _Part, exponent: _Part, name: str | None) -> _Part:
        if exponent.code == "2.0":
            return self._call(f"{base.code} * {base.code}", [(base, f"2.0 * {base.code}")], name)
        inputs = [
            (base, f"power_slope({base.code}, {exponent.code})"),
            (exponent, f"power_slope_exponent({base.code}, {{v}})"),
        ]
        return self._call(f"{base.code} ** {exponent.code}", inputs, name)

    def _text(self, part: _Part, weakest: int) -> str:
        return part.code if part.strength >= weakest else f"({part.code})"

    def _named(self, node: Expression) -> _Part:
        """Return ``node`` as a name, number or array element, so that it can be read again at no cost."""
        part = self._visit(node)
        if part.strength < ATOM:
            if isinstance(node, Number):
                part.code = f"({part.code})"
            else:
                fresh = self.names.fresh("t")
                self.values.append(f"{fresh} = {part.code}")
                part.code = fresh
            part.strength = ATOM
        return part

    def _inline(self, text: str, strength: int, inputs: list[tuple[_Part, str]]) -> _Part:
        linked = [(p.operation, factor) for p, factor in inputs if p.operation is not None]
        operation = _Operation(linked)
        self._operations.append(operation)
        return _Part(text, strength, operation)

    def _call(self, text: str, inputs: list[tuple[_Part, str]], name: str | None) -> _Part:
        target = name or self.names.fresh("t")
        self.values.append(f"{target} = {text}")
        part = self._inline(
            target, ATOM, [(p, factor.replace("{v}", target)) for p, factor in inputs if factor]
        )
        return part

    def _sweep(self, root: _Operation) -> None:
        root.arriving.append("1.0")
        for operation in reversed(self._operations):
            if not operation.arriving:
                continue
            arriving = self._arriving(operation)
            if operation.leaf is not None:
                self.slopes.append((operation.leaf, arriving))
            for source, factor in operation.inputs:
                source.arriving.append(_through(arriving, factor))

    def _arriving(self, operation: _Operation) -> str:
        terms = operation.arriving
        several = len(operation.inputs) > 1 or operation.leaf is not None
        simple = len(terms) == 1 and bool(not several or re.fullmatch(r"-?[\w.]+", terms[0]))
        if simple:
            return terms[0]
        text = terms[0]
        for term in terms[1:]:
            text += f" - {term[1:]}" if term.startswith("-") else f" + {term}"
        fresh = self.names.fresh("g")
        self.partials.append(f"{fresh} = {text}")
        return fresh


def _through(arriving: str, factor: str) -> str:
    """Return what arrives at an input: a product, or for division (``/b`` and ``/b|v``) a quotient."""
    if not factor.startswith("/"):
        return times(arriving, factor)
    divisor, _, value = factor[1:].partition("|")
    quotient = f"{arriving} / {divisor}"
    return negated(f"{quotient} * {value}") if value else quotient
