"""Statements interpreted over linear forms (:mod:`.linear_form`) instead of numbers."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, islice

from . import linear_form as lf
from .dataflow import Dataflow
from .derivative import ONE, add, multiply, subtract
from .expression import (
    Binary,
    BinaryOperator,
    Call,
    Column,
    Compare,
    Conditional,
    Eta,
    Expression,
    Logical,
    Negative,
    Not,
    Number,
    Theta,
    Variable,
    walk,
)
from .linear_form import Maybe
from .model import Model
from .statement import Assign, If, Statement, assignments

LONGEST = 1000  # nodes of a form


def interpret(model: Model, flow: Dataflow, curves: bool = False) -> list[Maybe]:
    """Return the form of each definition, None where it has none.

    With ``curves`` a value without etas always has one, its thetas being part of the offset.
    """
    initial = {i: t.initial for i, t in enumerate(model.thetas, start=1)}
    domain = lf.Domain(
        frozenset(i for i, value in initial.items() if value > 0),
        frozenset(i for i, value in initial.items() if 0 < value < 1),
        curves,
    )
    known: dict[str, Maybe] = {}
    forms: list[Maybe] = []
    for position, statement in enumerate(flow.statements):
        _run((statement,), known, domain)
        for definition in (d for d in flow.definitions if d.position == position):
            if known.get(definition.target) is None and not flow.origins(len(forms)).thetas:
                known[definition.target] = lf.single("other", len(forms))
            forms.append(known.get(definition.target))
    return forms


def _run(statements: tuple[Statement, ...], known: dict[str, Maybe], domain: lf.Domain) -> None:
    """Run ``statements`` over forms, updating ``known``."""
    for statement in statements:
        if isinstance(statement, Assign):
            known[statement.target] = _form(statement.value, known, domain)
            continue
        if not isinstance(statement, If):
            known.update({a.target: None for a in assignments((statement,))})
            continue
        rest: Expression | None = ONE  # 1 where no earlier condition held
        worlds: list[tuple[Expression, dict[str, Maybe]]] = []
        for condition, body in statement.branches:
            holds = _condition(condition, known, domain)
            if holds is None or rest is None:
                rest = None
                break
            world = dict(known)
            _run(body, world, domain)
            worlds.append((multiply(rest, holds), world))
            rest = multiply(rest, subtract(ONE, holds))
        world = dict(known)
        _run(statement.otherwise, world, domain)
        worlds.append((rest or ONE, world))
        for target in dict.fromkeys(a.target for a in assignments((statement,))):
            known[target] = None if rest is None else _joined(target, worlds, domain)


def _joined(target: str, worlds: list[tuple[Expression, dict[str, Maybe]]], domain: lf.Domain) -> Maybe:
    """Return the form of ``target`` after a conditional.

    Among curves a form has no value where a branch is taken that gives none: this is for the data to exclude.
    """
    cases = [(weight, world[target]) for weight, world in worlds if target in world]
    made = _bounded(_chosen(cases, domain)) if len(cases) == len(worlds) or domain.curves else None
    if made is None or len(cases) == len(worlds):
        return made
    if any(atom.kind in ("eta", "other") for atom, _ in made.parts):
        return None
    covered = cases[0][0]
    for weight, _ in cases[1:]:
        covered = add(covered, weight)
    return lf.where(covered, made)


def _condition(node: Expression, known: dict[str, Maybe], domain: lf.Domain) -> Expression | None:
    """Return ``node`` over data columns alone, or None where it depends on more."""
    match node:
        case Compare(comparison, left, right):
            a, b = _form(left, known, domain), _form(right, known, domain)
            if a is None or b is None or not (a.is_data and b.is_data) or _has_theta(a, b):
                return None
            return Compare(comparison, a.offset, b.offset)
        case Logical(logical, left, right):
            first, second = _condition(left, known, domain), _condition(right, known, domain)
            return None if first is None or second is None else Logical(logical, first, second)
        case Not(operand):
            inner = _condition(operand, known, domain)
            return None if inner is None else Not(inner)
    return None


def _form(node: Expression, known: dict[str, Maybe], domain: lf.Domain) -> Maybe:
    return _bounded(_unbounded(node, known, domain))


def _bounded(form: Maybe) -> Maybe:
    """Return ``form`` unless it is too long: written out, intermediate variables may double it each time."""
    if form is None:
        return None
    parts = chain((form.offset,), (coefficient for _, coefficient in form.parts))
    nodes = chain.from_iterable(map(walk, parts))
    return None if next(islice(nodes, LONGEST, None), None) is not None else form


def _unbounded(node: Expression, known: dict[str, Maybe], domain: lf.Domain) -> Maybe:
    match node:
        case Number() | Column():
            return lf.data(node)
        case Theta(index):
            return lf.single("theta", index)
        case Eta(index):
            return lf.single("eta", index)
        case Variable(name):
            return known.get(name)
        case Negative(operand):
            a = _form(operand, known, domain)
            if a is not None and a.is_data and not isinstance(a.offset, Number):
                return lf.data(Negative(a.offset))
            return lf.minus(a)
        case Binary(operator, left, right):
            return _binary(operator, _form(left, known, domain), _form(right, known, domain), domain)
        case Conditional(condition, then, otherwise):
            holds = _condition(condition, known, domain)
            if holds is None:
                return None
            first, second = _form(then, known, domain), _form(otherwise, known, domain)
            return _chosen([(holds, first), (subtract(ONE, holds), second)], domain)
        case Call(_, arguments):
            inner = [_form(argument, known, domain) for argument in arguments]
            made = _applied(node, inner, domain)
            if made is None and domain.curves:
                made = _applied(node, [a if a is None else lf.closed(a) for a in inner], domain)
            return made
    return None


def _binary(operator: BinaryOperator, a: Maybe, b: Maybe, domain: lf.Domain) -> Maybe:
    if a is None or b is None:
        return None
    made: Maybe = None
    if a.is_data and b.is_data:
        return lf.data(Binary(operator, a.offset, b.offset))
    match operator:
        case "+":
            made = lf.plus(a, b)
        case "-":
            made = lf.plus(a, lf.minus(b))
        case "*":
            made = lf.times(a, b, domain)
        case "/":
            made = lf.over(a, b, domain)
        case "**":
            made = lf.power(a, b, domain)
    if made is None and domain.curves:
        whole = lf.closed(a), lf.closed(b)
        if whole != (a, b):
            return _binary(operator, *whole, domain)
    return made


def _chosen(cases: list[tuple[Expression, Maybe]], domain: lf.Domain) -> Maybe:
    made = lf.choose(cases, domain)
    if made is not None or not domain.curves:
        return made
    whole = [(weight, lf.closed(form)) for weight, form in cases if form is not None]
    if len(whole) < len(cases):
        return None
    if any(not form.is_data for _, form in whole):
        return lf.choose(whole, domain)
    value = whole[-1][1].offset
    for weight, form in reversed(whole[:-1]):
        value = Conditional(weight, form.offset, value)
    return lf.data(value)


def _has_theta(*forms: lf.Form) -> bool:
    return any(isinstance(node, Theta) for form in forms for node in walk(form.offset))


def _applied(node: Call, inner: list[Maybe], domain: lf.Domain) -> Maybe:
    if any(a is None for a in inner):
        return None
    if all(a is not None and a.is_data for a in inner):
        return lf.data(replace(node, arguments=tuple(a.offset for a in inner if a is not None)))
    return _call(node.function, inner[0], domain)


def _call(function: str, a: Maybe, domain: lf.Domain) -> Maybe:
    match function:
        case "exp":
            return lf.exponential(a)
        case "log":
            return lf.logarithm(a, domain)
        case "log10":
            return lf.over(lf.logarithm(a, domain), lf.data(lf.LOG_TEN), domain)
        case "sqrt":
            return lf.power(a, lf.data(Number(0.5)), domain)
        case "logit":
            return lf.logit(a, domain)
        case "invlogit":
            return lf.inverse_logit(a)
    return None
