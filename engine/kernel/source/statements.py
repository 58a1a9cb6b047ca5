"""Statements as source text: values, and derivatives along any number of directions.

Two forms. *In passes*: all values first, every assignment to a name of its own; then the slopes of each
assigned expression; then the derivatives, in one loop over directions that only multiplies and adds. What a
conditional assigned gets a new name where its branches meet, and the two later passes follow the branch
taken. *Interleaved*, where there are loops: values and derivatives statement by statement, each variable
under one name, the whole run once for each direction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from ...ir.expression import Conditional, Expression, Number, Variable, children, walk
from ...ir.statement import Assign, Draw, If, Reject, Statement, While, assignments, flatten
from ..layout import assigned
from .expression import Sweep, plain
from .functions import times
from .names import ZERO_VALUE, Block, Names, Value, indented

LONGEST_LOOP = 1_000_000  # passes through one DO WHILE at one record
REJECTED, FATAL, ENDLESS, DRAWN = 1, 2, 3, 4
"""Status codes of generated functions: EXIT 1, EXIT 2, an endless loop, a draw outside simulation."""


def needs_interleaving(statements: tuple[Statement, ...]) -> bool:
    """Return whether ``statements`` hold a loop."""
    return any(isinstance(statement, While) for statement in flatten(statements))


class Writer:
    """Writes the statements of one function.

    ``leaf`` says how anything but a variable is read, ``environment`` how variables that have a value before
    the first statement are, and afterwards how all are. ``leave`` gives the lines that end the function
    early.
    """

    def __init__(
        self,
        leaf: Callable[[Expression], Value],
        environment: Mapping[str, Value],
        names: Names,
        leave: Callable[[int], list[str]],
        interleaved: bool = False,
    ) -> None:
        self.environment = dict(environment)
        self.names = names
        self.interleaved = interleaved
        self._leaf = leaf
        self._leave = leave
        self._directions: frozenset[int] = frozenset()

    def read(self, node: Expression) -> Value:
        """Return how a leaf is read; a variable without a value is 0."""
        if isinstance(node, Variable):
            return self.environment.get(node.name, ZERO_VALUE)
        return self._leaf(node)

    def declare(self, statements: tuple[Statement, ...], directions: frozenset[int], block: Block) -> None:
        """Give every variable one name and its first value (for interleaved writing)."""
        self._directions = directions
        active = active_variables(statements, self.read)
        for name in assigned(statements):
            self._declare(name, directions if name in active else frozenset(), block)

    def _declare(self, name: str, directions: frozenset[int], block: Block) -> None:
        start = self.environment.get(name, ZERO_VALUE)
        value = self._named(name, directions)
        self.environment[name] = value
        block.values.append(f"{value.code} = {start.code}")
        for d, tangent in value.tangent.items():
            block.tangents.append(f"{tangent} = {start.tangent.get(d, '0.0')}")

    def write(self, statements: tuple[Statement, ...], block: Block) -> None:
        """Append the lines of ``statements`` to ``block``."""
        for statement in statements:
            match statement:
                case Assign():
                    self.assign(statement.target, statement.value, block)
                case If():
                    self._if(statement, block)
                case While():
                    self._while(statement, block)
                case Reject(fatal):
                    block.values += self._leave(FATAL if fatal else REJECTED)
                case Draw():
                    block.values += self._leave(DRAWN)

    def assign(self, target: str, expression: Expression, block: Block) -> None:
        """Append the assignment of ``expression`` to ``target``."""
        if isinstance(expression, Conditional):
            case = (expression.condition, (Assign(target, expression.then),))
            self._if(If((case,), (Assign(target, expression.otherwise),)), block)
            return
        old = self.environment.get(target) if self.interleaved else None
        name = None if old is not None else self.names.fresh(target)
        sweep = Sweep(self.read, self.names, lambda node: self._hold(node, block), block.values)
        code = sweep.write(expression, name)
        block.partials += sweep.partials
        tangent = self._tangents(sweep.slopes)
        if old is not None:
            for d, text in old.tangent.items():
                block.tangents.append(f"{text} = {tangent.get(d, '0.0')}")
            block.values.append(f"{old.code} = {code}")
            return
        assert name is not None
        aliased = len(sweep.slopes) == 1 and sweep.slopes[0][1] == "1.0" and sweep.slopes[0][0].code == code
        if not self.interleaved and aliased:
            self.environment[target] = sweep.slopes[0][0]
            return
        constant = isinstance(expression, Number)
        if not self.interleaved and not tangent and (constant or code.isidentifier()):
            self.environment[target] = Value(f"({code})" if code.startswith("-") else code)
            return
        value = self._named(name, frozenset(tangent), fresh=False)
        self.environment[target] = value
        for d, text in value.tangent.items():
            block.tangents.append(f"{text} = {tangent[d]}")
        if code != name:
            block.values.append(f"{name} = {code}")

    def _hold(self, node: Expression, block: Block) -> Variable:
        hidden = Variable(f"{self.names.fresh('case')} ")  # no variable of a model ends with a blank
        if self.interleaved and isinstance(node, Conditional):
            self._declare(hidden.name, self._directions, block)
        self.assign(hidden.name, node, block)
        return hidden

    def _named(self, name: str, directions: frozenset[int], fresh: bool = True) -> Value:
        code = self.names.fresh(name) if fresh else name
        return Value(code, {d: self.names.fresh(f"d{d}_{code}" if d else f"d_{code}") for d in directions})

    def _tangents(self, slopes: list[tuple[Value, str]]) -> dict[int, str]:
        """Return the derivative along each direction, from slopes."""
        sums: dict[int, str] = {}
        for value, slope in slopes:
            for d in sorted(value.tangent):
                term = times(slope, value.tangent[d])
                if d not in sums:
                    sums[d] = term
                else:
                    sums[d] += f" - {term[1:]}" if term.startswith("-") else f" + {term}"
        return sums

    def _if(self, statement: If, block: Block) -> None:
        if self.interleaved:
            self._if_interleaved(statement, block)
            return
        before = self.environment
        bodies = [*(body for _, body in statement.branches), statement.otherwise]
        heads = [f"if {plain(c, self.read)}:" for c, _ in statement.branches]
        heads = [*heads[:1], *(f"el{head}" for head in heads[1:]), "else:"]
        blocks, after = [], []
        for body in bodies:
            inner = Block()
            self.environment = dict(before)
            self.write(body, inner)
            blocks.append(inner)
            after.append(self.environment)
        self.environment = dict(before)
        self._join(before, after, blocks)
        taken = ""
        if any(inner.partials or inner.tangents for inner in blocks):
            taken = self.names.fresh("branch")
            for i, inner in enumerate(blocks):
                inner.values.insert(0, f"{taken} = {i}")
        if any(inner.values for inner in blocks):
            for head, inner in zip(heads, blocks, strict=True):
                block.values += [head, *indented(inner.values or ["pass"])]
        for lines, chosen in (
            (block.partials, [inner.partials for inner in blocks]),
            (block.tangents, [inner.tangents for inner in blocks]),
        ):
            word = "if"
            for i, inside in enumerate(chosen):
                if inside:
                    lines += [f"{word} {taken} == {i}:", *indented(inside)]
                    word = "elif"

    def _join(self, before: Mapping[str, Value], after: list[dict[str, Value]], blocks: list[Block]) -> None:
        """Give what the branches assigned one name each, in every branch."""
        for name in dict.fromkeys(n for environment in after for n in environment):
            if name.endswith(" ") and any(name not in environment for environment in after):
                continue  # held inside one branch
            values = [environment.get(name, ZERO_VALUE) for environment in after]
            if all(value == before.get(name, ZERO_VALUE) for value in values):
                continue
            directions = frozenset(d for value in values for d in value.tangent)
            joined = self._named(name, directions)
            self.environment[name] = joined
            for value, inner in zip(values, blocks, strict=True):
                inner.values.append(f"{joined.code} = {value.code}")
                for d, tangent in joined.tangent.items():
                    inner.tangents.append(f"{tangent} = {value.tangent.get(d, '0.0')}")

    def _if_interleaved(self, statement: If, block: Block) -> None:
        word = "if"
        for condition, body in statement.branches:
            block.values.append(f"{word} {plain(condition, self.read)}:")
            self._inside(body, block)
            word = "elif"
        if statement.otherwise:
            block.values.append("else:")
            self._inside(statement.otherwise, block)

    def _inside(self, body: tuple[Statement, ...], block: Block) -> None:
        inner = Block(interleaved=True)
        self.write(body, inner)
        block.values += indented(inner.values or ["pass"])

    def _while(self, statement: While, block: Block) -> None:
        assert self.interleaved
        count = self.names.fresh("count")
        block.values += [f"{count} = 0", f"while {plain(statement.condition, self.read)}:"]
        block.values += indented([f"{count} += 1", f"if {count} > {LONGEST_LOOP}:"])
        block.values += indented(self._leave(ENDLESS), 2)
        self._inside(statement.body, block)


def active_variables(
    statements: tuple[Statement, ...], read: Callable[[Expression], Value]
) -> frozenset[str]:
    """Return the variables that anywhere depend on something with a derivative."""
    active = {n for n in assigned(statements) if read(Variable(n)).tangent}

    own = set(assigned(statements))

    def depends(node: Expression) -> bool:
        for part in leaves(node):
            inside = isinstance(part, Variable) and part.name in own
            if part.name in active if inside else read(part).tangent:  # type: ignore[attr-defined]
                return True
        return False

    while True:
        found = {a.target for a in assignments(statements) if depends(a.value)} - active
        if not found:
            return frozenset(active)
        active |= found


def leaves(node: Expression) -> Iterator[Expression]:
    """Yield the leaves of ``node`` that are no constants."""
    return (part for part in walk(node) if not children(part) and not isinstance(part, Number))
