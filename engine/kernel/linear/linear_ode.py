"""Differential equations that are a linear compartment model, written as one.

The right-hand side must be f = K y with K constant between events, and K the matrix of a compartment graph:
as polynomials in the parameters, every K[i, j] off the diagonal, and what remains of -K[j, j] when those of
its column are taken off (elimination), must be a sum of positive terms. Parameters count as positive.
"""

from __future__ import annotations

from dataclasses import replace

from ...ir.compartment import Compartment, LinearDynamics, OdeDynamics, Transfer
from ...ir.derivative import multiply
from ...ir.expression import (
    Amount,
    Binary,
    Expression,
    Negative,
    Number,
    Time,
    Variable,
    transform,
    walk,
)
from ...ir.statement import Assign

Monomial = frozenset[tuple[Expression, int]]  # factors with their exponents
Polynomial = dict[Monomial, float]
LARGEST = 5000  # nodes of one right-hand side with all its variables put in
UNIT: Monomial = frozenset()


def as_linear(dynamics: OdeDynamics) -> LinearDynamics | None:
    """Return the linear compartment model that ``dynamics`` is, or None where it is none."""
    if dynamics.start is not None or any(c.equilibrium for c in dynamics.compartments):
        return None
    equations = _equations(dynamics)
    if equations is None:
        return None
    n = len(dynamics.compartments)
    matrix: list[list[Polynomial]] = [[{} for _ in range(n)] for _ in range(n)]
    for i, equation in enumerate(equations):
        for monomial, factor in equation.items():
            amounts = [(part, power) for part, power in monomial if isinstance(part, Amount)]
            if len(amounts) != 1 or amounts[0][1] != 1:
                return None
            (amount, _) = amounts[0]
            assert isinstance(amount, Amount)
            if amount.compartment > n:
                return None
            matrix[i][amount.compartment - 1][monomial - {amounts[0]}] = factor
    transfers = _transfers(matrix)
    return None if transfers is None else _linear(dynamics, transfers)


def _transfers(matrix: list[list[Polynomial]]) -> tuple[Transfer, ...] | None:
    n = len(matrix)
    found = []
    for j in range(n):
        leaving: Polynomial = {}
        for i in range(n):
            _add(leaving, matrix[i][j], -1.0)
            if i != j and matrix[i][j]:
                found.append((j + 1, i + 1, matrix[i][j]))
        if leaving:
            found.append((j + 1, 0, leaving))
    if any(factor < 0 for _, _, rate in found for factor in rate.values()):
        return None
    return tuple(Transfer(source, target, _expression(rate)) for source, target, rate in found)


def _linear(dynamics: OdeDynamics, transfers: tuple[Transfer, ...]) -> LinearDynamics:
    compartments: tuple[Compartment, ...] = tuple(replace(c) for c in dynamics.compartments)
    return LinearDynamics(
        compartments,
        transfers,
        dynamics.default_dose,
        dynamics.default_observation,
        dynamics.output,
        dynamics.model_times,
        dynamics.span,
    )


def _equations(dynamics: OdeDynamics) -> list[Polynomial] | None:
    """Return the right-hand sides as polynomials with own variables put in; None where one is none."""
    values: dict[str, Expression] = {}
    for statement in dynamics.statements:
        if not isinstance(statement, Assign):
            return None
        value = transform(statement.value, lambda n: values.get(n.name, n) if isinstance(n, Variable) else n)
        if sum(1 for _ in walk(value)) > LARGEST:
            return None
        values[statement.target] = value
    found = []
    for i in range(1, len(dynamics.compartments) + 1):
        equation = _polynomial(values.get(f"DADT({i})", Number(0.0)))
        if equation is None:
            return None
        found.append(equation)
    return found


def _polynomial(node: Expression) -> Polynomial | None:
    """Return ``node`` as a polynomial of amounts and what is constant; None where it is none."""
    match node:
        case Number(value):
            return {UNIT: value} if value else {}
        case Amount():
            return {frozenset({(node, 1)}): 1.0}
        case Time():
            return None
        case Negative(operand):
            inner = _polynomial(operand)
            return None if inner is None else {m: -c for m, c in inner.items()}
        case Binary("+" | "-" | "*" | "/" as operator, left, right):
            a, b = _polynomial(left), _polynomial(right)
            if a is None or b is None:
                return None
            if operator == "*":
                return _product(a, b)
            if operator == "/":
                return _quotient(a, right, b)
            total = dict(a)
            _add(total, b, 1.0 if operator == "+" else -1.0)
            return total
    return _constant(node)


def _constant(node: Expression) -> Polynomial | None:
    """Return ``node`` as one factor, where it neither depends on amounts nor on time."""
    if any(isinstance(part, Amount | Time) for part in walk(node)):
        return None
    return {frozenset({(node, 1)}): 1.0}


def _quotient(a: Polynomial, divisor: Expression, b: Polynomial) -> Polynomial | None:
    if len(b) == 1:
        ((monomial, factor),) = b.items()
        if not any(isinstance(part, Amount) for part, _ in monomial):
            return _product(a, {frozenset((part, -power) for part, power in monomial): 1.0 / factor})
        return None
    constant = _constant(divisor)
    if constant is None:
        return None
    return _product(a, {frozenset({(divisor, -1)}): 1.0})


def _product(a: Polynomial, b: Polynomial) -> Polynomial:
    total: Polynomial = {}
    for first, c in a.items():
        for second, d in b.items():
            powers = dict(first)
            for part, power in second:
                powers[part] = powers.get(part, 0) + power
            _add(total, {frozenset((p, k) for p, k in powers.items() if k): c * d}, 1.0)
    return total


def _add(total: Polynomial, other: Polynomial, factor: float) -> None:
    for monomial, c in other.items():
        value = total.get(monomial, 0.0) + factor * c
        if abs(value) <= 1e-14 * abs(c):  # 1/3 + 2/3 - 1 is no elimination
            total.pop(monomial, None)
        else:
            total[monomial] = value


def _expression(rate: Polynomial) -> Expression:
    """Return a polynomial as a sum of products, in an order that does not depend on the run."""
    terms = sorted((repr(sorted(map(repr, m))), m, c) for m, c in rate.items())
    result: Expression | None = None
    for _, monomial, factor in terms:
        term: Expression = Number(factor)
        parts = sorted(monomial, key=lambda item: (-item[1], repr(item[0])))
        for part, power in parts:
            for _ in range(abs(power)):
                term = multiply(term, part) if power > 0 else Binary("/", term, part)
        result = term if result is None else Binary("+", result, term)
    assert result is not None
    return result
