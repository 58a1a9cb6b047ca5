"""Expressions and statements as torch closures over an environment of named tensors.

Both branches of a conditional are computed and merged. Inside a branch, functions with a limited
domain see a harmless argument where the branch is not taken, so that no NaN reaches a gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..failure import ModelFailure
from ..ir.expression import (
    Amount,
    Binary,
    Call,
    Column,
    Compare,
    Conditional,
    Eps,
    Eta,
    Expression,
    Known,
    Logical,
    Negative,
    Not,
    Number,
    Theta,
    Time,
    Variable,
)
from ..ir.statement import Assign, If, Reject, Statement, While, assignments


@dataclass
class Environment:
    """Values of everything an expression can name; all tensors broadcast to ``"draw id record"``.

    ``valid`` marks the elements whose value will be used (None: all), ``conditional`` tells whether a
    conditional has had a part in that. ``known`` holds what the run knows at a record, by quantity;
    ``rejected`` marks the elements for which the model has declared its parameters unsuitable.
    """

    theta: Tensor
    eta: list[Tensor]
    columns: dict[str, Tensor]
    variables: dict[str, Tensor] = field(default_factory=dict)
    amounts: dict[int, Tensor] = field(default_factory=dict)
    time: Tensor | None = None
    valid: Tensor | None = None
    conditional: bool = False
    known: dict[str, Tensor] = field(default_factory=dict)
    rejected: Tensor | None = None

    def guard(self, value: Tensor, harmless: float = 1.0) -> Tensor:
        """Return ``value`` with ``harmless`` wherever it will not be used."""
        return value if self.valid is None else torch.where(self.valid, value, harmless)


Evaluator = Callable[[Environment], Tensor]

MAX_TURNS = 100_000  # of a loop, before it counts as endless

_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "abs": torch.abs,
    "sin": torch.sin,
    "cos": torch.cos,
    "atan": torch.atan,
    "atan2": torch.atan2,
    "tanh": torch.tanh,
    "int": torch.trunc,
    "floor": torch.floor,
    "ceil": torch.ceil,
    "mod": torch.fmod,
    "phi": torch.special.ndtr,
    "invlogit": torch.sigmoid,
}
_GUARDED: dict[str, Callable[[Tensor], Tensor]] = {  # harmless at 1
    "log": torch.log,
    "log10": torch.log10,
    "sqrt": torch.sqrt,
    "tan": torch.tan,
    "gamln": torch.lgamma,
    "digamma": torch.digamma,
    "lfac": lambda x: torch.lgamma(x + 1.0),
}
_OVERFLOWING: dict[str, Callable[[Tensor], Tensor]] = {  # harmless at 1; guarded in branches only, for speed
    "exp": torch.exp,
    "sinh": torch.sinh,
    "cosh": torch.cosh,
}
_FRACTIONS: dict[str, Callable[[Tensor], Tensor]] = {  # harmless at 0.5
    "asin": torch.asin,
    "acos": torch.acos,
    "logit": lambda x: torch.log(x) - torch.log1p(-x),
}
_COMPARISONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "==": torch.eq,
    "!=": torch.ne,
    "<": torch.lt,
    "<=": torch.le,
    ">": torch.gt,
    ">=": torch.ge,
}


def compile_expression(node: Expression) -> Evaluator:
    """Return a function that evaluates ``node`` in an environment."""
    match node:
        case Number(value):
            constant = torch.tensor(value, dtype=torch.float64)
            return lambda env: constant
        case Theta(index):
            return lambda env: env.theta[index - 1]
        case Eta(index):
            return lambda env: env.eta[index - 1]
        case Eps():
            zero = torch.tensor(0.0, dtype=torch.float64)
            return lambda env: zero
        case Column(name):
            return lambda env: env.columns[name]
        case Variable(name):
            return _variable(name, node)
        case Amount(compartment):
            return lambda env: env.amounts[compartment]
        case Time():
            return _time
        case Known():
            return _known(node)
        case Conditional(condition, then, otherwise):
            return _choice(condition, then, otherwise)
        case Negative(operand):
            inner = compile_expression(operand)
            return lambda env: -inner(env)
        case Binary():
            return _binary(node)
        case Call():
            return _call(node)
        case Compare(operator, left, right):
            compare, a, b = _COMPARISONS[operator], compile_expression(left), compile_expression(right)
            return lambda env: compare(a(env), b(env))
        case Logical(operator, left, right):
            a, b = compile_expression(left), compile_expression(right)
            if operator == "and":
                return lambda env: a(env) & b(env)
            return lambda env: a(env) | b(env)
        case Not(operand):
            inner = compile_expression(operand)
            return lambda env: ~inner(env)
    raise AssertionError(f"no arithmetic for {node!r}")


def _variable(name: str, node: Expression) -> Evaluator:
    def evaluate(env: Environment) -> Tensor:
        try:
            return env.variables[name]
        except KeyError:
            raise ModelFailure(f"the variable {name} is used before it has a value", node.span) from None

    return evaluate


def _time(env: Environment) -> Tensor:
    assert env.time is not None, "time stands only in differential equations"
    return env.time


def known_key(node: Known) -> str:
    """Return the name under which an environment holds ``node``."""
    return f"{node.quantity}({node.index})" if node.index else node.quantity


def _known(node: Known) -> Evaluator:
    key = known_key(node)

    def evaluate(env: Environment) -> Tensor:
        try:
            return env.known[key]
        except KeyError:
            message = f"{key} is known to the compiled decoder only"
            raise ModelFailure(message, node.span, hint="leave --solver at its default") from None

    return evaluate


def _choice(condition: Expression, then: Expression, otherwise: Expression) -> Evaluator:
    test, first, second = (compile_expression(part) for part in (condition, then, otherwise))

    def evaluate(env: Environment) -> Tensor:
        holds, valid, conditional = test(env), env.valid, env.conditional
        env.conditional = True
        env.valid = holds if valid is None else valid & holds
        chosen = first(env)
        env.valid = ~holds if valid is None else valid & ~holds
        rest = second(env)
        env.valid, env.conditional = valid, conditional
        return torch.where(holds, chosen, rest)

    return evaluate


def _binary(node: Binary) -> Evaluator:
    a, b = compile_expression(node.left), compile_expression(node.right)
    match node.operator:
        case "+":
            return lambda env: a(env) + b(env)
        case "-":
            return lambda env: a(env) - b(env)
        case "*":
            return lambda env: a(env) * b(env)
        case "/":
            return lambda env: a(env) / env.guard(b(env))
    if isinstance(node.right, Number):
        exponent = node.right.value
        if exponent == 2.0:
            return lambda env: torch.square(a(env))
        if exponent.is_integer() and exponent > 0:
            return lambda env: a(env) ** exponent
        return lambda env: env.guard(a(env)) ** exponent
    return lambda env: torch.pow(env.guard(a(env)), b(env))


def _call(node: Call) -> Evaluator:
    parts = [compile_expression(a) for a in node.arguments]
    name = node.function
    if name in ("min", "max"):
        pick = torch.minimum if name == "min" else torch.maximum

        def extreme(env: Environment) -> Tensor:
            value = parts[0](env)
            for part in parts[1:]:
                value = pick(value, part(env))
            return value

        return extreme
    first = parts[0]
    if name in _GUARDED:
        guarded = _GUARDED[name]
        return lambda env: guarded(env.guard(first(env)))
    if name in _OVERFLOWING:
        overflowing = _OVERFLOWING[name]
        return lambda env: overflowing(env.guard(first(env)) if env.conditional else first(env))
    if name in _FRACTIONS:
        fraction = _FRACTIONS[name]
        return lambda env: fraction(env.guard(first(env), 0.5))
    function = _FUNCTIONS[name]
    if len(parts) == 1:
        return lambda env: function(first(env))
    second = parts[1]
    return lambda env: function(first(env), second(env))


Runner = Callable[[Environment], None]


def compile_statements(statements: tuple[Statement, ...]) -> Runner:
    """Return a function that runs ``statements``, assigning into the environment's variables."""
    steps = [_statement(s) for s in statements]

    def run(env: Environment) -> None:
        for step in steps:
            step(env)

    return run


def _statement(statement: Statement) -> Runner:
    match statement:
        case Assign():
            return _assign(statement)
        case If():
            return _conditional(statement)
        case While():
            return _loop(statement)
        case Reject():
            return _reject
    raise ModelFailure("random numbers are drawn outside of a simulation", statement.span)


def _reject(env: Environment) -> None:
    here = torch.tensor(True) if env.valid is None else env.valid
    env.rejected = here if env.rejected is None else env.rejected | here


def _loop(statement: While) -> Runner:
    condition, body = compile_expression(statement.condition), compile_statements(statement.body)
    targets = sorted({a.target for a in assignments(statement.body)})

    def run(env: Environment) -> None:
        valid, conditional = env.valid, env.conditional
        for _ in range(MAX_TURNS):
            goes = condition(env) if valid is None else condition(env) & valid
            if not bool(goes.any()):
                return
            before = dict(env.variables)
            after = _branch(env, body, before, goes, valid)
            env.valid, env.variables, env.conditional = valid, before, conditional
            for target in targets:
                env.variables[target] = torch.where(goes, after[target], before.get(target, _ZERO))
        raise ModelFailure(f"a loop goes on for more than {MAX_TURNS} turns", statement.span)

    return run


def _assign(statement: Assign) -> Runner:
    value, target = compile_expression(statement.value), statement.target

    def run(env: Environment) -> None:
        env.variables[target] = value(env)

    return run


def _conditional(statement: If) -> Runner:
    branches = [(compile_expression(c), compile_statements(body)) for c, body in statement.branches]
    otherwise = compile_statements(statement.otherwise)
    targets = sorted({a.target for a in assignments((statement,))})

    def run(env: Environment) -> None:
        before, valid, conditional = dict(env.variables), env.valid, env.conditional
        rest: Tensor | None = None  # where no branch so far was taken
        outcomes: list[tuple[Tensor | None, dict[str, Tensor]]] = []
        for condition, body in branches:
            holds = condition(env)
            taken = holds if rest is None else rest & holds
            rest = ~holds if rest is None else rest & ~holds
            outcomes.append((taken, _branch(env, body, before, taken, valid)))
        outcomes.append((rest, _branch(env, otherwise, before, rest, valid)))
        env.valid, env.variables, env.conditional = valid, before, conditional
        for target in targets:
            # a variable that some path leaves unassigned is 0 there, as in NONMEM
            merged = outcomes[-1][1].get(target, _ZERO)
            for chosen, variables in reversed(outcomes[:-1]):
                assert chosen is not None
                merged = torch.where(chosen, variables.get(target, _ZERO), merged)
            env.variables[target] = merged

    return run


_ZERO = torch.tensor(0.0, dtype=torch.float64)


def _branch(
    env: Environment, body: Runner, before: dict[str, Tensor], taken: Tensor | None, valid: Tensor | None
) -> dict[str, Tensor]:
    env.variables = dict(before)
    env.valid = taken if valid is None else (valid if taken is None else valid & taken)
    env.conditional = True
    body(env)
    return env.variables
