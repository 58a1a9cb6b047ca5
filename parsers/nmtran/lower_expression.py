"""Expressions of abbreviated code: from syntax trees to the IR, with every name resolved."""

from __future__ import annotations

from ...engine.ir.expression import (
    FUNCTIONS,
    Binary,
    BinaryOperator,
    Call,
    Column,
    Compare,
    Comparison,
    Expression,
    Logical,
    LogicalOperator,
    Negative,
    Not,
    Number,
    Time,
    Variable,
)
from .functions import FUNCTION_NAMES, PROTECTED, RESERVED, RESERVED_ARRAYS
from .labels import labelled_parameters
from .lower_elements import NOTHING, PARAMETER_WORDS, ElementLowering
from .numbers import number
from .replace import Selection
from .reserved import at_first_call, known_value
from .surroundings import GENERATED_ITEMS, Surroundings
from .syntax import Apply, Infix, Literal, Name, Node, Unary
from .words import suggest

_ARITHMETIC: dict[str, BinaryOperator] = {"+": "+", "-": "-", "*": "*", "/": "/", "**": "**"}
_COMPARISON: dict[str, Comparison] = {
    "==": "==",
    "!=": "!=",
    "<": "<",
    "<=": "<=",
    ">": ">",
    ">=": ">=",
}
_LOGICAL: dict[str, LogicalOperator] = {"and": "and", "or": "or"}


_DERIVATIVES = ("G", "H", "HH")
_EARLIER = ("it has its value at the record before", "it is 0")


class ExpressionLowering(ElementLowering):
    """Lowers the expressions of one code record."""

    def __init__(self, outside: Surroundings, record: str) -> None:
        super().__init__(outside, record)
        self._replacing: set[str] = set()

    def condition(self, node: Node) -> Expression:
        """Return the condition that ``node`` means."""
        match node:
            case Infix(operator, left, right) if operator in _COMPARISON:
                compare = Compare(_COMPARISON[operator], self.value(left), self.value(right), span=node.span)
                return at_first_call(compare)
            case Infix(operator, left, right) if operator in _LOGICAL:
                return Logical(
                    _LOGICAL[operator], self.condition(left), self.condition(right), span=node.span
                )
            case Unary("not", operand):
                return Not(self.condition(operand), span=node.span)
        self.context.error("a condition compares two values", node.span, "e.g. IF (SEX.EQ.1) ...")
        return Compare("==", NOTHING, NOTHING)

    def value(self, node: Node) -> Expression:
        """Return the arithmetic value that ``node`` means."""
        match node:
            case Literal(text):
                found = number(text)
                if found is None:
                    self.context.error(f"the number {text} is too large", node.span)
                    return NOTHING
                return Number(found, span=node.span)
            case Name():
                return self._name(node)
            case Apply():
                return self._apply(node)
            case Unary("-", operand):
                return Negative(self.value(operand), span=node.span)
            case Unary("+", operand):
                return self.value(operand)
            case Infix(operator, left, right) if operator in _ARITHMETIC:
                return Binary(_ARITHMETIC[operator], self.value(left), self.value(right), span=node.span)
        self.context.error("a condition has no value", node.span, "use it in IF (...)")
        return NOTHING

    def _replaced(self, key: str, node: Name | Apply) -> Expression | None:
        """Return what stands for ``key`` by $ABBREVIATED REPLACE, or None; never twice over."""
        meaning = self.outside.abbreviations.meanings.get(key)
        if meaning is None or key in self._replacing:
            return None
        self._replacing.add(key)
        if isinstance(meaning, Selection):
            value = self.selected(node, meaning)
        elif len(meaning) == 1:
            value = self.value(meaning[0])
        else:
            self.context.error(f"{key} stands for several values", node.span, "use it as an index")
            value = NOTHING
        self._replacing.remove(key)
        return value

    def _name(self, node: Name) -> Expression:
        name, span, outside = node.text, node.span, self.outside
        if (replaced := self._replaced(name, node)) is not None:
            return replaced
        if name == "F" and self.record == "ERROR":
            return Variable("F", span=span)
        column = outside.inputs.resolve(name)
        if column is not None and column.name in outside.shadows:
            return Variable(column.name, span=span)
        if name in self.assigned or name in outside.variables:
            return Variable(name, span=span)
        if name in self.coming:
            if name not in outside.abbreviations.arrays and not self.has_verbatim:
                means = _EARLIER[self.record == "DES"]
                self.context.notice(f"{name} is used before it is assigned: {means}", span)
            return Variable(name, span=span)
        if name == "T" and self.record in ("DES", "AES"):
            return Time(span=span)
        if column is not None:
            return Column(column.name, span=span)
        if name in GENERATED_ITEMS and outside.n_compartments:
            return Column(name, span=span)
        if name == "MIXP" and outside.subpopulations:
            return self.value(Apply("MIXP", (Name("MIXNUM", span),), span, span))
        if name == "MNOW" and outside.n_compartments:
            return self.model_time_now(span)
        known = known_value(name, self.record, span)
        if known is not None:
            return known
        return self._from_elsewhere(node)

    def _from_elsewhere(self, node: Name) -> Expression:
        """Return a variable that only $DES or a later record assigns, or note that ``node`` is undefined."""
        name, span, outside = node.text, node.span, self.outside
        if name in outside.inner and self.record == "ERROR":
            outside.inner_read.add(name)
            return Variable(name, span=span)
        later = outside.everywhere.get(name)
        if later is not None and self.record == "PK" and later == "ERROR":
            self.context.notice(f"{name} has the value that $ERROR gave it at the record before", span)
            return Variable(name, span=span)
        if name in outside.abbreviations.arrays and not outside.abbreviations.arrays[name]:
            return Variable(name, span=span)  # declared, and never assigned: zero
        if name in RESERVED:
            self.context.error(f"{name} is not supported", span)
        elif (labelled := self._labelled(node)) is not None:
            return labelled
        elif self.has_verbatim:  # which could assign it, so NM-TRAN does not ask
            self.context.notice(f"{name} is never assigned and counts as 0", span)
        elif name in outside.inner:
            self.context.error(f"{name} is assigned in $DES, which ${self.record} cannot see", span)
        else:
            self.context.error(f"{name} is not defined", span, self._nearest(name))
        return NOTHING

    def _labelled(self, node: Name) -> Expression | None:
        """Return the parameter that has ``node`` as the label in its comment, or None."""
        parameters, name = self.outside.parameters, node.text
        meant = [
            (word, index)
            for word, index in labelled_parameters(
                name, parameters.thetas, parameters.omega, parameters.sigma
            )
            if name not in parameters.names[word]
        ]
        if not meant:
            return None
        spelled = [f"{word}({index})" for word, index in meant]
        if len(meant) > 1:
            self.context.error(
                f"{name} is not defined, and several parameters have this label: {', '.join(spelled)}",
                node.span,
                f"write {spelled[0]}, or make the labels differ",
            )
            return NOTHING
        self.context.notice(f"{name} stands for {spelled[0]}, whose comment says so", node.span)
        ((word, index),) = meant
        return self.value(Apply(word, (Literal(str(index), node.span),), node.span, node.span))

    def _nearest(self, name: str) -> str:
        dropped = [c.name for c in self.outside.inputs.columns if c.role == "dropped"]
        if name in dropped:
            return f"{name} is dropped in $INPUT"
        columns = self.outside.inputs.names
        known = [*self.assigned, *self.outside.variables, *columns, *self.coming]
        return suggest(name, [word for word in known if "(" not in word])

    def resolve(self, node: Apply) -> Apply:
        """Return ``node`` with the names among its arguments replaced that stand for indices."""
        if not self.outside.abbreviations.meanings:
            return node
        arguments: list[Node] = []
        for argument in node.arguments:
            meaning = self.outside.abbreviations.meanings.get(
                argument.text if isinstance(argument, Name) else ""
            )
            arguments += meaning if isinstance(meaning, tuple) else (argument,)
        return Apply(node.name, tuple(arguments), node.span, node.name_span)

    def _apply(self, node: Apply) -> Expression:
        if (replaced := self._replaced(key(node), node)) is not None:
            return replaced
        node = self.resolve(node)
        element = self.element(node)
        if element is not None:
            return element
        if node.name in FUNCTION_NAMES or node.name in PROTECTED:
            return self._call(node)
        if node.name in RESERVED_ARRAYS:
            hint = "derivatives of the prediction are not there for code" if node.name in _DERIVATIVES else ""
            self.context.error(f"{node.name}(...) is not supported in ${self.record}", node.span, hint)
        else:
            known = (*FUNCTION_NAMES, *PROTECTED, *PARAMETER_WORDS, *self.outside.abbreviations.arrays)
            self.context.error(
                f"{node.name} is no function or array", node.name_span, suggest(node.name, known)
            )
        return NOTHING

    def _call(self, node: Apply) -> Expression:
        name: str | None
        if node.name in PROTECTED:
            name = PROTECTED[node.name]
            self.context.notice(f"{node.name} is computed without protection", node.name_span)
        else:
            name = FUNCTION_NAMES[node.name]
        count = FUNCTIONS[name] if name is not None else 1
        given = len(node.arguments)
        if given != count if count is not None else given < 2:
            wanted = "two or more arguments" if count is None else f"{count} argument{'s' * (count > 1)}"
            self.context.error(f"{node.name} takes {wanted}, not {given}", node.span)
            return NOTHING
        arguments = tuple(self.value(argument) for argument in node.arguments)
        return arguments[0] if name is None else Call(name, arguments, span=node.span)


def key(node: Apply) -> str:
    """Return how $ABBREVIATED spells ``node``, where it can."""
    argument = node.arguments[0]
    inside = argument.text if isinstance(argument, Name | Literal) else "?"
    return f"{node.name}({inside})"
