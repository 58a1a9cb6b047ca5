"""Linear forms in transformed thetas and etas: the arithmetic behind mu-referencing.

A :class:`Form` stands for link^-1(offset + sum_j coefficient_j * atom_j), where an atom is theta, log theta,
logit theta, eta or a variable of other etas, and offset and coefficients are expressions of data columns and
numbers, and of thetas where curves in them are allowed. The operations return None where the result is no
such form; so interpreting a model's statements over forms instead of numbers (:mod:`.interpretation`) tells
which variables are, and what their forms are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from .derivative import ONE, ZERO, add, divide, multiply, negate
from .expression import Call, Conditional, Expression, Negative, Number, Theta, walk

# "other": a variable that depends on etas and data alone, in whatever way
Kind = Literal["theta", "log theta", "logit theta", "eta", "other"]
# "odds": 1 + exp(.), which only occurs on the way to an inverse logit
FormLink = Literal["identity", "log", "logit", "odds"]


@dataclass(frozen=True)
class Atom:
    """A transformed fixed or random effect, by its number (from 1), or a definition, by its position."""

    kind: Kind
    index: int


@dataclass(frozen=True)
class Form:
    """link^-1 of a linear combination; without ``parts`` it depends on data only.

    ``log`` is a linear form of the logarithm, where a choice between cases gave one besides.
    """

    link: FormLink
    offset: Expression
    parts: tuple[tuple[Atom, Expression], ...] = ()
    log: Form | None = field(default=None, compare=False)

    @property
    def is_data(self) -> bool:
        """True where neither theta nor eta occurs."""
        return not self.parts


Maybe = Form | None
MINUS_ONE = Number(-1.0)
LOG_TEN = Number(math.log(10.0))
UNDEFINED = Number(math.nan)


@dataclass(frozen=True)
class Domain:
    """Which thetas have a logarithm and a logit: initial values that are positive, and within (0, 1).

    With ``curves`` offsets and coefficients may hold thetas, in whatever way.
    """

    positive: frozenset[int]
    fraction: frozenset[int]
    curves: bool = False


def closed(a: Form) -> Form:
    """Return ``a`` with its thetas moved into the offset where no eta and no other variable is in it."""
    if a.link == "odds" or not a.parts or any(atom.kind in ("eta", "other") for atom, _ in a.parts):
        return a
    value = a.offset
    for atom, coefficient in a.parts:
        value = add(value, multiply(coefficient, transformed(atom)))
    if a.link == "log":
        value = Call("exp", (value,))
    elif a.link == "logit":
        value = Call("invlogit", (value,))
    return data(value)


def transformed(atom: Atom) -> Expression:
    """Return the expression that an atom of a theta stands for."""
    theta = Theta(atom.index)
    if atom.kind == "log theta":
        return Call("log", (theta,))
    return Call("logit", (theta,)) if atom.kind == "logit theta" else theta


def data(expression: Expression) -> Form:
    """Return the form of a theta-free expression."""
    return Form("identity", expression)


def single(kind: Kind, index: int) -> Form:
    """Return the form that is one atom."""
    return Form("identity", ZERO, ((Atom(kind, index), ONE),))


def plus(a: Maybe, b: Maybe) -> Maybe:
    """Return a + b."""
    if a is None or b is None:
        return None
    if a.link == b.link == "identity":
        return _combine(a, b)
    for one, other in ((a, b), (b, a)):
        if one == data(ONE) and other.link == "log":
            return Form("odds", other.offset, other.parts)
    return None


def times(a: Maybe, b: Maybe, domain: Domain) -> Maybe:
    """Return a * b."""
    if a is None or b is None:
        return None
    for one, other in ((a, b), (b, a)):
        if one.is_data and other.link == "identity":
            log = None if other.log is None else plus(other.log, logarithm(one, domain))
            return replace(_scale(other, one.offset), log=log)
    return exponential(plus(logarithm(a, domain), logarithm(b, domain)))


def over(a: Maybe, b: Maybe, domain: Domain) -> Maybe:
    """Return a / b."""
    if a is None or b is None:
        return None
    if b.link == "odds":
        if a == data(ONE):  # 1 / (1 + exp x)
            return inverse_logit(minus(Form("identity", b.offset, b.parts)))
        if a.link == "log" and (a.offset, a.parts) == (b.offset, b.parts):  # exp x / (1 + exp x)
            return Form("logit", b.offset, b.parts)
        return None
    if b.is_data and a.link == "identity":
        log = None if a.log is None else plus(a.log, minus(logarithm(b, domain)))
        parts = tuple((atom, divide(c, b.offset)) for atom, c in a.parts)
        return Form("identity", divide(a.offset, b.offset), parts, log)
    if len(a.parts) == 1 and a == single(*_key(a)):  # theta / (1 - theta)
        kind, index = _key(a)
        rest = Form("identity", ONE, ((Atom("theta", index), MINUS_ONE),))
        if kind == "theta" and b == rest and index in domain.fraction:
            return exponential(single("logit theta", index))
    below = logarithm(b, domain)
    return exponential(plus(logarithm(a, domain), minus(below)))


def minus(a: Maybe) -> Maybe:
    """Return -a."""
    return None if a is None or a.link != "identity" else _scale(a, MINUS_ONE)


def power(a: Maybe, b: Maybe, domain: Domain) -> Maybe:
    """Return a ** b."""
    if a is None or b is None or b.link != "identity":
        return None
    base = logarithm(a, domain)
    if base is None:
        return None
    if b.is_data:
        return exponential(_scale(base, b.offset))
    return exponential(_scale(b, base.offset)) if base.is_data else None


def exponential(a: Maybe) -> Maybe:
    """Return exp a."""
    if a is None or a.link != "identity":
        return None
    if a.is_data:
        inside = a.offset.arguments if isinstance(a.offset, Call) and a.offset.function == "log" else ()
        return data(inside[0] if inside else Call("exp", (a.offset,)))
    return Form("log", a.offset, a.parts)


def logarithm(a: Maybe, domain: Domain) -> Maybe:
    """Return log a."""
    if a is None or a.log is not None:
        return None if a is None else a.log
    if a.link == "log":
        return Form("identity", a.offset, a.parts)
    if a.link != "identity":
        return None
    if a.is_data:
        return data(_log(a.offset)) if _may_be_positive(a.offset) else None
    if len(a.parts) != 1 or a.offset != ZERO:
        return None
    (atom, coefficient), *_ = a.parts
    if atom.kind != "theta" or atom.index not in domain.positive or not _may_be_positive(coefficient):
        return None
    return Form("identity", _log(coefficient), ((Atom("log theta", atom.index), ONE),))


def logit(a: Maybe, domain: Domain) -> Maybe:
    """Return log(a / (1 - a))."""
    if a is None:
        return None
    if a.link == "logit":
        return Form("identity", a.offset, a.parts)
    if len(a.parts) == 1 and a == single(*_key(a)):
        kind, index = _key(a)
        return single("logit theta", index) if kind == "theta" and index in domain.fraction else None
    return None


def inverse_logit(a: Maybe) -> Maybe:
    """Return 1 / (1 + exp(-a))."""
    return None if a is None or a.link != "identity" else Form("logit", a.offset, a.parts)


def where(condition: Expression, a: Form) -> Form:
    """Return ``a``, undefined (NaN) where ``condition`` is 0."""
    log = None if a.log is None else where(condition, a.log)
    return replace(a, offset=Conditional(condition, a.offset, UNDEFINED), log=log)


def choose(cases: Sequence[tuple[Expression, Maybe]], domain: Domain) -> Maybe:
    """Return the form of a value chosen among ``cases`` by weights: 1 for one of them, 0 for the rest."""
    if any(form is None for _, form in cases):
        return None
    logs = [(weight, logarithm(form, domain)) for weight, form in cases]
    log = None if any(form is None for _, form in logs) else _mix(logs)
    if any(form is not None and form.link != "identity" for _, form in cases):
        return exponential(log)
    mixed = _mix(cases)
    return mixed if mixed.is_data else replace(mixed, log=log)


def _mix(cases: Sequence[tuple[Expression, Maybe]]) -> Form:
    forms = [(weight, form) for weight, form in cases if form is not None]
    atoms = dict.fromkeys(atom for _, form in forms for atom, _ in form.parts)
    parts = {
        atom: _weighted([(weight, dict(form.parts).get(atom, ZERO)) for weight, form in forms])
        for atom in atoms
    }
    offset = _weighted([(weight, form.offset) for weight, form in forms])
    return Form("identity", offset, tuple(p for p in parts.items() if p[1] != ZERO))


def _weighted(cases: list[tuple[Expression, Expression]]) -> Expression:
    first = cases[0][1]
    if all(value == first for _, value in cases):
        return first
    if any(node is UNDEFINED for _, value in cases for node in walk(value)):  # 0 times NaN is not 0
        chosen = cases[-1][1]
        for weight, value in reversed(cases[:-1]):
            chosen = Conditional(weight, value, chosen)
        return chosen
    total: Expression = ZERO
    for weight, value in cases:
        total = _add(total, _multiply(weight, value))
    return total


def _key(a: Form) -> tuple[Kind, int]:
    return a.parts[0][0].kind, a.parts[0][0].index


def _combine(a: Form, b: Form) -> Form:
    parts = dict(a.parts)
    for atom, coefficient in b.parts:
        parts[atom] = _add(parts[atom], coefficient) if atom in parts else coefficient
    return Form("identity", _add(a.offset, b.offset), tuple(p for p in parts.items() if p[1] != ZERO))


def _scale(a: Form, factor: Expression) -> Form:
    parts = tuple((atom, _multiply(c, factor)) for atom, c in a.parts)
    return Form("identity", _multiply(a.offset, factor), tuple(p for p in parts if p[1] != ZERO))


def _add(a: Expression, b: Expression) -> Expression:
    if isinstance(a, Number) and isinstance(b, Number):
        return Number(a.value + b.value)
    return add(a, b)


def _multiply(a: Expression, b: Expression) -> Expression:
    if isinstance(a, Number) and isinstance(b, Number):
        return Number(a.value * b.value)
    for one, other in ((a, b), (b, a)):
        if one == MINUS_ONE:
            return other.operand if isinstance(other, Negative) else negate(other)
    return multiply(a, b)


def _log(a: Expression) -> Expression:
    if isinstance(a, Number):
        return Number(math.log(a.value))
    if isinstance(a, Call) and a.function == "exp":
        return a.arguments[0]
    return Call("log", (a,))


def _may_be_positive(a: Expression) -> bool:
    return not (isinstance(a, Number) and a.value <= 0)
