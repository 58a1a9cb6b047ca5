"""Where everything of a model lies in the arrays of its compiled kernel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..ir.compartment import Compartment, LinearDynamics, OdeDynamics
from ..ir.derivative import derivative_name
from ..ir.expression import Column, Eta, Expression, Known, Theta, Variable, walk
from ..ir.held_variables import held_variables
from ..ir.model import Model
from ..ir.running_extremes import followed
from ..ir.statement import Draw, Statement, assignments, expressions, flatten
from ..ir.task import labelled

MODIFIERS = ("bioavailability", "lag", "rate", "duration", "initial", "scale")
"""The columns of :attr:`Layout.modifiers`."""


@dataclass(frozen=True, eq=False)
class Layout:
    """The order of names and expressions in the arrays that kernel functions take.

    Attributes
    ----------
    columns, known, kept
        Order of ``col`` (data columns the model reads), ``known`` and ``kept``.
    psi, n_dynamic
        Distinct expressions evaluated after the individual statements; the first ``n_dynamic`` are what the
        dynamics need, the rest are individual variables that the observation model or tables read.
    held
        Variables of the right-hand side that keep their values, behind the first ``n_dynamic`` psi there.
    signs
        Of ``held``: 1 a running maximum, -1 a running minimum, 0 neither.
    restarts
        int64[held, 2]: psi slots of the value that the individual model gives one at a record and of whether
        it does; -1 never.
    n_compartments
        Compartments, the output compartment not counted. The amounts of a record, ``a``, are these, then the
        output compartment, the prediction and the ``held``: length ``n_compartments + 2 + len(held)``.
    modifiers
        int64[n_compartments, 6]: psi slots of :data:`MODIFIERS`; -1 stands for the neutral value.
    transfers
        int64[n, 3]: source (from 1), target (0: out) and psi slot of the rate constant.
    model_times
        int64[n]: psi slots.
    output
        int64[2]: psi slots of fraction and scale of the output compartment, -1 neutral.
    start
        psi slot of the start time, or -1.
    outputs
        Order of ``out``: the response, ``response@EPSk`` for each eps, the flag variable if there is one,
        other variables of the observation statements, then those of psi and running extremes that tables
        may ask.
    """

    columns: tuple[str, ...]
    known: tuple[Known, ...]
    kept: tuple[str, ...]
    psi: tuple[Expression, ...]
    n_dynamic: int
    held: tuple[str, ...]
    signs: tuple[int, ...]
    restarts: NDArray[np.int64]
    n_compartments: int
    modifiers: NDArray[np.int64]
    transfers: NDArray[np.int64]
    model_times: NDArray[np.int64]
    output: NDArray[np.int64]
    start: int
    outputs: tuple[str, ...]

    def output_slot(self, name: str) -> int | None:
        """Return the position of variable ``name`` in ``out`` (case does not matter), or None."""
        upper = [n.upper() for n in self.outputs]
        return upper.index(name.upper()) if name.upper() in upper else None


def eps_output(response: str, index: int) -> str:
    """Return the name of the response's derivative to eps ``index`` (from 1)."""
    return derivative_name(response, f"EPS{index}")


def layout(model: Model, wanted: Iterable[str] | None = ()) -> Layout:
    """Return the layout of ``model``.

    ``wanted`` names individual variables to put into ``outputs`` beside those the tables ask for; None: the
    outputs are those that a likelihood reads, and no others.
    """
    dynamics, observation = model.dynamics, model.observation
    individual = assigned(model.individual)
    slots: dict[Expression, int] = {}

    def slot(expression: Expression | None) -> int:
        if expression is None:
            return -1
        return slots.setdefault(expression, len(slots))

    parts = dynamics.compartments if dynamics else ()
    if isinstance(dynamics, OdeDynamics):
        for leaf in ode_leaves(dynamics, individual):
            slot(leaf)
    transfers = [
        (t.source, t.target, slot(t.rate))
        for t in (dynamics.transfers if isinstance(dynamics, LinearDynamics) else ())
    ]
    modifiers = [[slot(getattr(part, name)) for name in MODIFIERS] for part in parts]
    output = dynamics.output if dynamics else None
    output_slots = [slot(output.fraction), slot(output.scale)] if output else [-1, -1]
    model_times = [slot(time) for time in dynamics.model_times] if dynamics else []
    start = slot(dynamics.start) if isinstance(dynamics, OdeDynamics) else -1
    n_dynamic = len(slots)
    held = held_of(model)
    parts_of = [(start_of(name), restarts(name)) for name in held]
    restart_slots = [[slot(Variable(n)) if n in individual else -1 for n in names] for names in parts_of]

    own = assigned(observation.statements)
    for name in _read_by_observation(model):
        if name in individual:
            slot(Variable(name))
    asked = asked_variables(model, wanted)
    tabled = [n for n in individual if n.upper() in asked and n not in own]
    for name in tabled:
        slot(Variable(name))
    if isinstance(dynamics, OdeDynamics):
        tabled += [n for n in followed(dynamics.statements) if n in held and n.upper() in asked]

    first = [observation.response]
    first += [eps_output(observation.response, k) for k in range(1, model.n_eps + 1)]
    flag = [observation.flag] if observation.flag else []
    nodes = list(model_nodes(model))
    return Layout(
        columns=tuple(dict.fromkeys(n.name for n in nodes if isinstance(n, Column))),
        known=tuple(dict.fromkeys(n for n in nodes if isinstance(n, Known))),
        kept=tuple(k for k in model.kept if k in individual or k in own),
        psi=tuple(slots),
        n_dynamic=n_dynamic,
        held=tuple(held),
        signs=tuple(held.values()),
        restarts=np.array(restart_slots, dtype=np.int64).reshape(len(held), 2),
        n_compartments=len(parts),
        modifiers=np.array(modifiers, dtype=np.int64).reshape(len(parts), len(MODIFIERS)),
        transfers=np.array(transfers, dtype=np.int64).reshape(len(transfers), 3),
        model_times=np.array(model_times, dtype=np.int64),
        output=np.array(output_slots, dtype=np.int64),
        start=start,
        outputs=tuple(dict.fromkeys([*first, *flag, *(own if wanted is not None else ()), *tabled])),
    )


def held_of(model: Model) -> dict[str, int]:
    """Return the variables of the right-hand side that keep their values, with their signs.

    A running maximum has 1, a running minimum -1, anything else 0.
    """
    if not isinstance(model.dynamics, OdeDynamics) or model.language != "nmtran":
        return {}
    statements = model.dynamics.statements
    return dict.fromkeys(held_variables(statements, assigned(model.individual)), 0) | followed(statements)


def start_of(name: str) -> str:
    """Return the variable for what the individual model sets a followed one to."""
    return derivative_name(name, "START")


def restarts(name: str) -> str:
    """Return the variable that is 1 where the individual model sets a followed one."""
    return derivative_name(name, "RESTARTS")


def asked_variables(model: Model, wanted: Iterable[str] | None) -> set[str]:
    """Return in upper case the variables that tables and ``wanted`` ask for; None: nobody asks."""
    if wanted is None:
        return set()
    return {labelled(item)[1].upper() for table in model.tables for item in table.items} | {
        n.upper() for n in wanted
    }


def assigned(statements: tuple[Statement, ...]) -> tuple[str, ...]:
    """Return the variables that ``statements`` assign, each once, in textual order."""
    targets: dict[str, None] = {}
    for a in assignments(statements):
        targets[a.target] = None
    for name in drawn(statements):
        targets[name] = None
    return tuple(targets)


def drawn(statements: tuple[Statement, ...]) -> Iterator[str]:
    """Yield the variables that take random numbers in a simulation."""
    for statement in flatten(statements):
        if isinstance(statement, Draw):
            yield from statement.targets


def ode_leaves(dynamics: OdeDynamics, individual: Iterable[str]) -> tuple[Expression, ...]:
    """Return what the right-hand side reads of the individual model, each once.

    A variable that the right-hand side assigns is its own, unless the individual model assigns it too: then
    it starts with that value.
    """
    own, outside = set(assigned(dynamics.statements)), set(individual)
    found: dict[Expression, None] = {}
    for node in expressions(dynamics.statements):
        if isinstance(node, Variable):
            if node.name in outside or node.name not in own:
                found[node] = None
        elif isinstance(node, Theta | Eta | Column | Known):
            found[node] = None
    return tuple(found)


def _read_by_observation(model: Model) -> Iterator[str]:
    """Yield the names the observation model reads; a flag or response may come from the individual model."""
    for node in expressions(model.observation.statements):
        if isinstance(node, Variable):
            yield node.name
    own = assigned(model.observation.statements)
    # assigned in some branches only: where none is taken, the individual model's value stays
    yield from own
    yield model.observation.response
    if model.observation.flag:
        yield model.observation.flag


def modifier_expressions(compartment: Compartment) -> Iterator[Expression]:
    """Yield the expressions that modify doses into and output of ``compartment``."""
    for name in MODIFIERS:
        expression = getattr(compartment, name)
        if expression is not None:
            yield expression


def dynamic_expressions(model: Model) -> Iterator[Expression]:
    """Yield every expression of the dynamics outside the right-hand side's statements."""
    dynamics = model.dynamics
    if dynamics is None:
        return
    if isinstance(dynamics, LinearDynamics):
        yield from (t.rate for t in dynamics.transfers)
    elif dynamics.start is not None:
        yield dynamics.start
    for compartment in dynamics.compartments:
        yield from modifier_expressions(compartment)
    if dynamics.output is not None:
        yield from (e for e in (dynamics.output.fraction, dynamics.output.scale) if e is not None)
    yield from dynamics.model_times


def model_nodes(model: Model) -> Iterator[Expression]:
    """Yield every expression node that the kernel of ``model`` evaluates."""
    yield from expressions(model.individual)
    for expression in dynamic_expressions(model):
        yield from walk(expression)
    if isinstance(model.dynamics, OdeDynamics):
        yield from expressions(model.dynamics.statements)
    yield from expressions(model.observation.statements)
