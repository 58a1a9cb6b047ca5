"""Elements of arrays in abbreviated code: parameters, amounts, declared and reserved arrays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from ...engine.ir.expression import (
    Amount,
    Compare,
    Conditional,
    Eps,
    Eta,
    Expression,
    Known,
    Number,
    Theta,
    Variable,
)
from ...engine.ir.parameter import CovarianceBlock, ThetaParameter
from ...engine.ir.span import Span
from .arrays import choose, element_name, element_names, flat_index
from .numbers import whole
from .replace import Selection
from .reserved import known_element
from .surroundings import Surroundings
from .syntax import Apply, Literal, Name, Node
from .words import suggest

NOTHING = Number(0.0)  # stands for what could not be lowered; its problem is noted
_EPS_WORDS = ("EPS", "ERR")
PARAMETER_WORDS = ("THETA", "ETA", *_EPS_WORDS)
_RECORDS = {"THETA": "$THETA", "ETA": "$OMEGA", "EPS": "$SIGMA"}
_PARAMETERS: dict[str, type[Theta] | type[Eta] | type[Eps]] = {"THETA": Theta, "ETA": Eta, "EPS": Eps}
_BY_COMPARTMENT = ("A", "A_0", "DADT", "E")
_MANY = 9999  # elements of COM, and of P in $MIX
_LONG = 16  # selections up to this length are spelled out


class ElementLowering(ABC):
    """The part of a record's lowering that knows arrays.

    ``assigned`` are the variables assigned so far in the record, ``coming`` all those it assigns anywhere.
    """

    def __init__(self, outside: Surroundings, record: str) -> None:
        self.outside = outside
        self.record = record
        self.context = outside.context
        self.assigned: set[str] = set()
        self.coming: set[str] = set()
        self.has_verbatim = False

    @abstractmethod
    def value(self, node: Node) -> Expression:
        """Return the arithmetic value that ``node`` means."""

    def has_value(self, name: str) -> bool:
        """Tell whether ``name`` is a variable or data item here."""
        if name in self.assigned or name in self.coming or name in self.outside.variables:
            return True
        return self.outside.inputs.resolve(name) is not None

    def element(self, node: Apply) -> Expression | None:
        """Return the array element that ``node`` is, or None if its name is no array known here."""
        name, n = node.name, self.outside.n_compartments
        if name in PARAMETER_WORDS:
            return self._parameter(node)
        sizes = self.outside.abbreviations.arrays.get(name)
        if sizes:
            return self._declared(node, sizes)
        if name == "A" and n:
            return self._amount(node)
        if name in ("OMEGA", "SIGMA"):
            return self._covariance(node)
        if self.count(name) or name == "COM" or (name == "A_0" and self.record == "ERROR"):
            return self._own(node)
        if name in ("MTIME", "MPAST", "MNEXT") and n:
            index = self.index(node, self._model_times(), "model time")
            return known_element(name, index, node.span) if index is not None else NOTHING
        if name in ("MIXP", "MIXPT") and self.outside.subpopulations:
            self.outside.reads_mixture = True
            chances = [Variable(element_name("P", (i + 1,))) for i in range(self.outside.subpopulations)]
            return self.pick(node, chances, "subpopulation")
        return None

    def count(self, name: str) -> int:
        """Return how many elements of the reserved array ``name`` this record may assign (0: none)."""
        match self.record, name:
            case ("DES", "DADT") | ("AES", "E") | ("PK", "A_0") | ("AESINITIAL", "A"):
                return self.outside.n_compartments
            case ("MIX", "P") | ("PK", "MTIME"):
                return _MANY
            case "PK" | "PRED" | "DES" | "ERROR", "COM":
                return _MANY
        return 0

    def model_time_now(self, span: Span | None) -> Expression:
        """Return MNOW: the number of the model time that the system advances to, 0 where it is none."""
        value: Expression = Number(0.0)
        for number in range(self._model_times(), 0, -1):
            comes = known_element("MNEXT", number, span)
            assert comes is not None
            value = Conditional(Compare("==", comes, Number(1.0)), Number(float(number)), value, span=span)
        return value

    def _model_times(self) -> int:
        return sum(name.startswith("MTIME(") for name in self.outside.everywhere)

    def _own(self, node: Apply) -> Expression:
        index = self.index(node, self.count(node.name) or _MANY, "compartment")
        if index is None:
            return NOTHING
        name = element_name(node.name, (index,))
        if name not in self.coming and name not in self.outside.everywhere:
            known = known_element(node.name, index, node.span)
            if name in self.outside.inner and self.record == "ERROR":
                self.outside.inner_read.add(name)
            elif known is None:
                self.context.error(f"{name} is used but never assigned", node.span)
        elif name not in self.assigned and node.name == "DADT":
            self.context.error(f"{name} is used before it is assigned", node.span)
        return Variable(name, span=node.span)

    def _amount(self, node: Apply) -> Expression:
        n = self.outside.n_compartments
        if self.record == "PK":
            self.context.notice(
                "amounts in $PK are those at the record before; such models are read, and not run yet",
                node.span,
            )
        if self.record in ("MIX", "INFN"):
            self.context.error(f"amounts have no place in ${self.record}", node.span)
            return NOTHING
        if self.record == "AESINITIAL":  # a first guess: what the amounts start with is near enough
            index = self.index(node, n, "compartment")
            name = element_name("A_0", (index or 0,))
            return Variable(name, span=node.span) if name in self.outside.everywhere else NOTHING
        output = 1 if self.record == "ERROR" else 0  # the output compartment comes after all others
        return self.pick(node, [Amount(i + 1, span=node.span) for i in range(n + output)], "compartment")

    def _parameter(self, node: Apply) -> Expression:
        kind = "EPS" if node.name in _EPS_WORDS else node.name
        parameters = self.outside.parameters
        if kind == "EPS" and self.record not in ("ERROR", "PRED"):
            self.context.error(f"{node.name} has no place in ${self.record}", node.span, "use it in $ERROR")
            return NOTHING
        if kind == "ETA" and self.record == "MIX":
            self.context.error(
                "ETA has no place in $MIX", node.span, "probabilities depend on THETA and data"
            )
            return NOTHING
        make = _PARAMETERS[kind]
        label = node.arguments[0]
        if len(node.arguments) == 1 and isinstance(label, Name):
            names = parameters.names[kind]
            if label.text in names:
                return make(names[label.text], span=node.span)
            if not self.has_value(label.text):
                hint = suggest(label.text, names)
                self.context.error(f"there is no {kind} named {label.text}", label.span, hint)
                return NOTHING
        counts = {
            "THETA": len(parameters.thetas),
            "ETA": sum(b.size for b in parameters.omega),
            "EPS": sum(b.size for b in parameters.sigma),
        }
        if len(node.arguments) == 1 and isinstance(label, Literal):
            behind = (whole(label.text) or 0) - counts[kind] - 1
            if kind == "THETA" and 0 <= behind < len(parameters.beyond):
                return self._of_prior(parameters.beyond[behind], node)
            index = self.index(node, counts[kind], kind)
            return NOTHING if index is None else make(index, span=node.span)
        elements = [make(i + 1, span=node.span) for i in range(counts[kind])]
        return self.pick(node, elements, kind)

    def _of_prior(self, theta: ThetaParameter, node: Apply) -> Expression:
        """Return the value of a theta that belongs to the prior: it is fixed, so code may read it."""
        if not theta.fixed:
            self.context.error(
                "a theta of the prior that the code reads must be fixed", node.span, "e.g. $THETA 6 FIX"
            )
        return Number(theta.initial, span=node.span)

    def selected(self, node: Apply | Name, selection: Selection) -> Expression:
        """Return the choice of elements that a data item makes (REPLACE of a computed index)."""
        parts = selection.label.split("_")
        prefixes = ["_".join(parts[:i]) for i in range(len(parts), 0, -1)]
        selector = next((prefix for prefix in prefixes if self.has_value(prefix)), None)
        if selector is None:
            self.context.error(
                f"{selection.label} begins with no data item that could choose an element",
                node.span,
                "ETA(OCC_CL)=ETA(5,7) takes element 5 where OCC is 1",
            )
            return NOTHING
        item = self.value(Name(selector, node.span))
        choices = [
            NOTHING
            if index == 0
            else self.value(Apply(selection.array, (Literal(str(index), node.span),), node.span, node.span))
            for index in selection.indices
        ]
        if len(choices) > _LONG:
            return choose(item, [NOTHING, *choices, NOTHING], node.span, 0)
        chosen: Expression = NOTHING
        for i, choice in reversed(list(enumerate(choices, start=1))):
            if choice is not NOTHING:
                chosen = Conditional(Compare("==", item, Number(float(i))), choice, chosen, span=node.span)
        return chosen

    def _declared(self, node: Apply, sizes: Sequence[int]) -> Expression:
        names = element_names(node.name, sizes)
        if len(node.arguments) != len(sizes):
            self._dimensions(node, sizes)
            return NOTHING
        position = self.position(node, sizes)
        variables = [Variable(name, span=node.span) for name in names]
        if isinstance(position, int):
            return variables[position - 1] if position else NOTHING
        return choose(position, variables, node.span)

    def _dimensions(self, node: Apply, sizes: Sequence[int]) -> None:
        wanted = "one index" if len(sizes) == 1 else f"{len(sizes)} indices"
        self.context.error(f"{node.name} was declared with {wanted}", node.span)

    def position(self, node: Apply, sizes: Sequence[int]) -> int | Expression:
        """Return where in the declared array ``node`` is: a number from 1 (0: a problem), or computed."""
        fixed = [whole(a.text) if isinstance(a, Literal) else None for a in node.arguments]
        for index, size, argument in zip(fixed, sizes, node.arguments, strict=True):
            if index is not None and not 1 <= index <= size:
                self.context.error(f"{node.name} has {size} elements, not {index}", argument.span)
                return 0
        if None not in fixed:
            row, column = (1, fixed[0]) if len(sizes) == 1 else (fixed[0], fixed[1])
            assert row is not None and column is not None
            return column if len(sizes) == 1 else (row - 1) * sizes[1] + column
        return flat_index([self.value(argument) for argument in node.arguments], sizes)

    def pick(self, node: Apply, choices: Sequence[Expression], what: str) -> Expression:
        """Return the element of ``choices`` (numbered from 1) that the index of ``node`` means."""
        if len(node.arguments) == 1 and choices and not self._is_constant(node.arguments[0], node.name):
            return choose(self.value(node.arguments[0]), choices, node.span)
        index = self.index(node, len(choices), what)
        return NOTHING if index is None else choices[index - 1]

    def _is_constant(self, argument: Node, name: str) -> bool:
        if isinstance(argument, Name) and name in _BY_COMPARTMENT and not self.has_value(argument.text):
            return True
        return isinstance(argument, Literal)

    def index(self, node: Apply, count: int, what: str) -> int | None:
        """Return the constant index of an array element, checked against ``count``."""
        argument = node.arguments[0]
        index = whole(argument.text) if isinstance(argument, Literal) else None
        if isinstance(argument, Name) and node.name in _BY_COMPARTMENT:
            if argument.text not in self.outside.compartments:
                hint = suggest(argument.text, self.outside.compartments)
                self.context.error(f"there is no compartment named {argument.text}", argument.span, hint)
                return None
            index = self.outside.compartments.index(argument.text) + 1
        if len(node.arguments) != 1 or index is None:
            self.context.error(
                f"the index of {node.name} must be a whole number", argument.span, f"e.g. {node.name}(1)"
            )
            return None
        unsure = not self.outside.parameters.complete or self.context.stream.of("MSFI")
        if 1 <= index <= count or (index > 0 and what in PARAMETER_WORDS and unsure):
            return index
        record = _RECORDS.get(what, "the model")
        has = f"{record} has {count}" if count else f"{record} has none"
        remedy = f"add it to {record}, or correct the index" if what in _RECORDS else "correct the index"
        self.context.error(f"{node.name}({index}) does not exist: {has}", node.span, remedy)
        return None

    def _covariance(self, node: Apply) -> Expression:
        omega = node.name == "OMEGA"
        blocks = self.outside.parameters.omega if omega else self.outside.parameters.sigma
        size = sum(block.size for block in blocks)
        found = [whole(a.text) if isinstance(a, Literal) else None for a in node.arguments]
        row, column = found[0], found[-1]
        if len(found) > 2 or row is None or column is None:
            self.context.error(f"{node.name} takes two whole numbers", node.span, f"e.g. {node.name}(1,1)")
            return NOTHING
        row, column = max(row, column), min(row, column)
        if not 1 <= column <= row <= size:
            self.context.error(
                f"{node.name}({row},{column}) does not exist: ${node.name} has {size}", node.span
            )
            return NOTHING
        return covariance(blocks, "omega" if omega else "sigma", row, column, node.span)


def covariance(
    blocks: Sequence[CovarianceBlock], quantity: str, row: int, column: int, span: Span | None
) -> Expression:
    """Return the element ``row``, ``column`` (from 1, row the larger) of the matrix of ``blocks``."""
    for block in blocks:
        inside = block.first <= column and row < block.first + block.size
        if inside and block.fixed:
            return Number(block.element(row - block.first, column - block.first), span=span)
        if inside:
            return Known(quantity, row * (row - 1) // 2 + column, span=span)
    return Number(0.0, span=span)
