"""Predictions of a model by scipy alone: an event loop over records, slow and simple, to check the engine's.

Linear systems are solved by the matrix exponential, others by ``solve_ivp`` at 1e-12.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from scipy.linalg import expm
from scipy.special import expit, gammaln, ndtr

from elbomix.engine.ir.compartment import LinearDynamics, OdeDynamics
from elbomix.engine.ir.dataset import DataSet
from elbomix.engine.ir.expression import (
    Amount,
    Binary,
    Call,
    Column,
    Compare,
    Conditional,
    Eps,
    Eta,
    Expression,
    Logical,
    Negative,
    Not,
    Number,
    Theta,
    Time,
    Variable,
)
from elbomix.engine.ir.model import Model
from elbomix.engine.ir.statement import Assign, If, Statement

Array = NDArray[np.float64]


@dataclass
class World:
    """What an expression may read."""

    theta: Array
    columns: Mapping[str, float]
    variables: dict[str, float] = field(default_factory=dict)
    amounts: Array = field(default_factory=lambda: np.zeros(0))
    time: float = 0.0
    eta: Array | None = None


Value = Callable[[World], float]

_CALLS: dict[str, Callable[..., float]] = {
    "exp": math.exp,
    "log": lambda x: math.log(x) if x > 0 else -math.inf,
    "log10": math.log10,
    "sqrt": math.sqrt,
    "abs": abs,
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "floor": math.floor,
    "ceil": math.ceil,
    "mod": math.fmod,
    "min": min,
    "max": max,
    "gamln": lambda x: float(gammaln(x)),
    "lfac": lambda x: float(gammaln(x + 1.0)),
    "phi": lambda x: float(ndtr(x)),
    "logit": lambda x: math.log(x / (1.0 - x)),
    "invlogit": lambda x: float(expit(x)),
}
_OPERATORS: dict[str, Callable[[float, float], float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b if b else math.nan,
    "**": lambda a, b: a**b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "and": lambda a, b: bool(a) and bool(b),
    "or": lambda a, b: bool(a) or bool(b),
}


def compiled(node: Expression) -> Value:
    """Return ``node`` as a function; random effects count as zero unless the world has some, eps always."""
    match node:
        case Number(value):
            return lambda w: value
        case Theta(index):
            return lambda w: float(w.theta[index - 1])
        case Eta(index):
            return lambda w: 0.0 if w.eta is None else float(w.eta[index - 1])
        case Eps():
            return lambda w: 0.0
        case Column(name):
            return lambda w: w.columns[name]
        case Variable(name):
            return lambda w: w.variables.get(name, 0.0)
        case Amount(compartment):
            return lambda w: float(w.amounts[compartment - 1])
        case Time():
            return lambda w: w.time
        case Negative(operand):
            inner = compiled(operand)
            return lambda w: -inner(w)
        case Not(operand):
            inner = compiled(operand)
            return lambda w: not inner(w)
        case Binary(operator, left, right) | Compare(operator, left, right) | Logical(operator, left, right):
            do, a, b = _OPERATORS[operator], compiled(left), compiled(right)
            return lambda w: do(a(w), b(w))
        case Conditional(condition, then, otherwise):
            c, a, b = compiled(condition), compiled(then), compiled(otherwise)
            return lambda w: a(w) if c(w) else b(w)
        case Call(name, arguments):
            call, inside = _CALLS[name], [compiled(a) for a in arguments]
            return lambda w: call(*(v(w) for v in inside))
    raise AssertionError(f"the simulation does not know {node!r}")


def runner(statements: tuple[Statement, ...]) -> Callable[[World], None]:
    """Return ``statements`` as a function that updates the variables of a world."""
    steps: list[Callable[[World], None]] = []
    for statement in statements:
        if isinstance(statement, Assign):
            steps.append(_assignment(statement))
        else:
            assert isinstance(statement, If)
            steps.append(_conditional(statement))

    def run(world: World) -> None:
        for step in steps:
            step(world)

    return run


def _assignment(statement: Assign) -> Callable[[World], None]:
    target, value = statement.target, compiled(statement.value)

    def step(world: World) -> None:
        world.variables[target] = value(world)

    return step


def _conditional(statement: If) -> Callable[[World], None]:
    branches = [(compiled(condition), runner(body)) for condition, body in statement.branches]
    otherwise = runner(statement.otherwise)

    def step(world: World) -> None:
        for holds, body in branches:
            if holds(world):
                body(world)
                return
        otherwise(world)

    return step


@dataclass(frozen=True)
class _Push:
    """A change of the system at ``time``: a bolus, a change of an input rate, or a reset."""

    time: float
    record: int  # that asks for it
    kind: int  # 0 reset, 1 bolus, 2 rate
    compartment: int = 0
    value: float = 0.0


class Simulation:
    """One model over one data set."""

    def __init__(self, model: Model, data: DataSet) -> None:
        self.model, self.data = model, data
        self._individual = runner(model.individual)
        self._observe = runner(model.observation.statements)
        dynamics = model.dynamics
        self._n = 0 if dynamics is None else len(dynamics.compartments)
        if isinstance(dynamics, OdeDynamics):
            self._slopes = runner(dynamics.statements)
        elif isinstance(dynamics, LinearDynamics):
            self._rates = [(t.source, t.target, compiled(t.rate)) for t in dynamics.transfers]
        self._modifiers = {
            (i, name): compiled(node)
            for i, c in enumerate(dynamics.compartments if dynamics else (), start=1)
            for name in ("bioavailability", "lag", "duration", "initial", "scale")
            if (node := getattr(c, name)) is not None
        }

    def predict(self, theta: Array) -> Array:
        """Return the response at eta = eps = 0 at every record."""
        out = np.full(self.data.n_records, np.nan)
        for subject in range(self.data.n_subjects):
            rows = np.flatnonzero(self.data.subject == subject)
            out[rows] = self._subject(rows, theta)
        return out

    def _world(self, row: int, theta: Array) -> World:
        columns = {name: float(values[row]) for name, values in self.data.event.items()}
        columns |= {name: float(values[row]) for name, values in self.data.values.items()}
        world = World(theta, columns)
        self._individual(world)
        return world

    def _modifier(self, world: World, compartment: int, name: str, neutral: float) -> float:
        value = self._modifiers.get((compartment, name))
        return neutral if value is None else value(world)

    def _subject(self, rows: NDArray[np.intp], theta: Array) -> list[float]:
        worlds = [self._world(row, theta) for row in rows]
        dynamics, event = self.model.dynamics, self.data.event
        times = event["TIME"][rows]
        if dynamics is not None:
            pushes = self._pushes(rows, worlds)
            amounts = self._initial(worlds[0])
            rates = np.zeros(self._n)
            start = times[0]
            if isinstance(dynamics, OdeDynamics) and dynamics.start is not None:
                start = compiled(dynamics.start)(worlds[0])
            now, waiting = start, list(pushes)
        out = []
        for k, world in enumerate(worlds):
            if dynamics is not None:
                # doses of this record act at it; those of later records at the same time do not yet
                while waiting and (waiting[0][0].time, waiting[0][1]) <= (times[k], k):
                    push, _ = waiting.pop(0)
                    amounts = self._advance(amounts, rates, now, push.time, worlds, k)
                    now = max(now, push.time)
                    if push.kind == 0:
                        amounts, rates = self._initial(world), np.zeros(self._n)
                        waiting = [w for w in waiting if w[0].record >= k]
                        now = push.time
                    elif push.kind == 1:
                        amounts[push.compartment - 1] += push.value
                    else:
                        rates[push.compartment - 1] += push.value
                amounts = self._advance(amounts, rates, now, times[k], worlds, k)
                now = max(now, times[k])
                world.amounts = amounts.copy()
                if self.model.observation.prediction is not None:
                    observed = int(event["CMT"][rows[k]])
                    if observed == 0 or event["EVID"][rows[k]] in (1, 4):
                        observed = dynamics.default_observation
                    scale = self._modifier(world, observed, "scale", 1.0)
                    world.variables[self.model.observation.prediction] = amounts[observed - 1] / scale
            world.time = times[k]
            self._observe(world)
            out.append(world.variables[self.model.observation.response])
        return out

    def _initial(self, world: World) -> Array:
        return np.array([self._modifier(world, i, "initial", 0.0) for i in range(1, self._n + 1)])

    def _pushes(self, rows: NDArray[np.intp], worlds: list[World]) -> list[tuple[_Push, int]]:
        """Return all changes with the record from which on they act, in order."""
        event = self.data.event
        found: list[tuple[_Push, int]] = []
        for k, row in enumerate(rows):
            evid, time = int(event["EVID"][row]), float(event["TIME"][row])
            if evid in (3, 4):
                found.append((_Push(time, k, 0), k))
            if evid not in (1, 4):
                continue
            assert self.model.dynamics is not None
            cmt = int(event["CMT"][row]) or self.model.dynamics.default_dose
            amount = event["AMT"][row] * self._modifier(worlds[k], cmt, "bioavailability", 1.0)
            lag, rate = self._modifier(worlds[k], cmt, "lag", 0.0), float(event["RATE"][row])
            for j in range(int(event["ADDL"][row]) + 1):
                begin = time + lag + j * float(event["II"][row])
                after = k if j == 0 and lag == 0 else -1
                if rate == 0:
                    found.append((_Push(begin, k, 1, cmt, amount), after))
                    continue
                length = self._modifier(worlds[k], cmt, "duration", 0.0) if rate == -2 else amount / rate
                found.append((_Push(begin, k, 2, cmt, amount / length), after))
                found.append((_Push(begin + length, k, 2, cmt, -amount / length), -1))
        return sorted(found, key=lambda item: (item[0].time, item[1], item[0].kind))

    def _advance(
        self, amounts: Array, rates: Array, start: float, stop: float, worlds: list[World], k: int
    ) -> Array:
        if stop <= start:
            return amounts
        at_start = self.model.inputs.interval_value == "start"
        world = worlds[max(0, k - 1) if at_start else k]
        if isinstance(self.model.dynamics, LinearDynamics):
            matrix = np.zeros((self._n + 1, self._n + 1))
            for source, target, rate in self._rates:
                value = rate(world)
                matrix[source - 1, source - 1] -= value
                if target:
                    matrix[target - 1, source - 1] += value
            matrix[: self._n, -1] = rates
            moved: Array = expm(matrix * (stop - start)) @ np.append(amounts, 1.0)
            return moved[: self._n]
        local = World(world.theta, world.columns, dict(world.variables), eta=world.eta)

        def slopes(t: float, y: Array) -> Array:
            local.time, local.amounts = t, y
            self._slopes(local)
            return np.array([local.variables[f"DADT({i})"] for i in range(1, self._n + 1)]) + rates

        solved = solve_ivp(slopes, (start, stop), amounts, method="LSODA", rtol=1e-12, atol=1e-12)
        return np.asarray(solved.y[:, -1], dtype=np.float64)
