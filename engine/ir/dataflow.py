"""What depends on what: definitions and uses in the statements that run before the response.

Every assignment makes a new definition of its variable, so re-assigned names are kept apart. What the
likelihood sees (dynamics and observation model) are the sinks; a definition that no sink reaches is
dead (a column of a table, say) and has no part in the statistical model.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from .expression import Eta, Expression, Theta, Variable, nodes, walk
from .model import Model
from .statement import Assign, If, Statement, While, assignments, conditions, expressions, flatten


@dataclass(frozen=True)
class Uses:
    """The definitions (by position in :attr:`Dataflow.definitions`), thetas and etas that something uses."""

    definitions: frozenset[int] = frozenset()
    thetas: frozenset[int] = frozenset()
    etas: frozenset[int] = frozenset()

    def __or__(self, other: Uses) -> Uses:
        return Uses(self.definitions | other.definitions, self.thetas | other.thetas, self.etas | other.etas)


@dataclass(frozen=True)
class Definition:
    """One value of ``target``, made by statement ``position``, an assignment or a conditional."""

    target: str
    position: int
    uses: Uses


@dataclass(frozen=True)
class Dataflow:
    """All definitions in order, and what the sinks use directly."""

    statements: tuple[Statement, ...]
    definitions: tuple[Definition, ...]
    sinks: Uses

    def reached(self, cut: Collection[int] = ()) -> Uses:
        """Return everything the sinks depend on, without going through the definitions in ``cut``."""
        return self._origins(self.sinks, cut)

    def origins(self, definition: int) -> Uses:
        """Return everything that ``definition`` depends on."""
        return self._origins(self.definitions[definition].uses)

    def _origins(self, found: Uses, cut: Collection[int] = ()) -> Uses:
        waiting = list(found.definitions)
        seen = set(waiting)
        while waiting:
            current = waiting.pop()
            if current in cut:
                continue
            uses = self.definitions[current].uses
            found |= uses
            new = uses.definitions - seen
            seen |= new
            waiting += new
        return found

    def users(self, definition: int) -> list[int]:
        """Return the live definitions that use ``definition`` directly."""
        return [
            d
            for d in sorted(self.reached().definitions)
            if definition in self.definitions[d].uses.definitions
        ]


def individual_statements(model: Model) -> tuple[Statement, ...]:
    """Return the statements that make individual parameters.

    Without dynamics nothing separates them from the observation model, so all statements are returned.
    """
    if model.dynamics is None:
        return (*model.individual, *model.observation.statements)
    return model.individual


def dataflow(model: Model) -> Dataflow:
    """Return the definitions of :func:`individual_statements` and what the likelihood uses of them."""
    statements = individual_statements(model)
    latest: dict[str, int] = {}
    definitions: list[Definition] = []
    for position, statement in enumerate(statements):
        if isinstance(statement, Assign):
            made = [Definition(statement.target, position, _uses(walk(statement.value), latest))]
        else:
            made = _compound(statement, position, latest)
        for definition in made:
            latest[definition.target] = len(definitions)
            definitions.append(definition)
    if model.dynamics is None:
        sinks: Iterable[Expression] = (Variable(model.observation.response),)
    else:
        observing = tuple(s for s in model.observation.statements if not _is_guard(s))
        sinks = [*nodes(model.dynamics), *expressions(observing)]
    return Dataflow(statements, tuple(definitions), _uses(sinks, latest))


def _is_guard(statement: Statement) -> bool:
    """Return whether ``statement`` can only reject parameters: it has no part in a likelihood's value."""
    return isinstance(statement, If) and not any(assignments((statement,)))


def _compound(statement: Statement, position: int, latest: dict[str, int]) -> list[Definition]:
    """Return a definition of each variable that ``statement``, a conditional or loop, assigns anywhere."""
    made = list(assignments((statement,)))
    targets = dict.fromkeys(a.target for a in made)
    inner = [node for part in flatten((statement,)) for c in conditions(part) for node in walk(c)]
    guards = _uses(inner, latest)
    looped = any(isinstance(part, While) for part in flatten((statement,)))
    ruled = {n.name for n in inner if isinstance(n, Variable)} & targets.keys() if looped else set[str]()
    found = []
    for target in targets:
        inside = {target} | ruled  # with the variables of the same statement that go into it
        while True:
            nodes = [n for a in made if a.target in inside for n in walk(a.value)]
            more = {n.name for n in nodes if isinstance(n, Variable) and n.name in targets} - inside
            if not more:
                break
            inside |= more
        earlier = frozenset(latest[t] for t in inside if t in latest)  # kept where no branch assigns
        uses = guards | _uses(nodes, latest) | Uses(definitions=earlier)
        found.append(Definition(target, position, uses))
    return found


def _uses(nodes: Iterable[Expression], latest: dict[str, int]) -> Uses:
    definitions, thetas, etas = set(), set(), set()
    for node in nodes:
        if isinstance(node, Variable) and node.name in latest:
            definitions.add(latest[node.name])
        elif isinstance(node, Theta):
            thetas.add(node.index)
        elif isinstance(node, Eta):
            etas.add(node.index)
    return Uses(frozenset(definitions), frozenset(thetas), frozenset(etas))
