"""Expressions of abbreviated code: from syntax trees to the IR, with every name resolved."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...engine.ir.dataset import Inputs
from ...engine.ir.expression import (
    FUNCTIONS,
    Amount,
    Binary,
    BinaryOperator,
    Call,
    Column,
    Compare,
    Comparison,
    Eps,
    Eta,
    Expression,
    Logical,
    LogicalOperator,
    Negative,
    Not,
    Number,
    Theta,
    Time,
    Variable,
)
from .context import Context
from .functions import FUNCTION_NAMES, PROTECTED, RESERVED, RESERVED_ARRAYS
from .lower_parameters import Parameters
from .numbers import number, whole
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
_EPS_WORDS = ("EPS", "ERR")
_PARAMETER_WORDS = ("THETA", "ETA", *_EPS_WORDS)
# With compartments these data items exist even where $INPUT does not name them.
GENERATED_ITEMS = ("EVID", "MDV")
_NOTHING = Number(0.0)  # stands for what could not be lowered; its problem is noted


@dataclass
class Surroundings:
    """What code can see from outside its record.

    ``variables`` are those assigned by earlier records; each record adds its own.
    """

    context: Context
    inputs: Inputs
    parameters: Parameters
    replacements: dict[str, Node]
    n_compartments: int
    variables: dict[str, str] = field(default_factory=dict)  # name -> record that assigns it
    inner: set[str] = field(default_factory=set)  # assigned inside $DES, not visible elsewhere


class ExpressionLowering:
    """Lowers the expressions of one code record.

    ``assigned`` are the variables assigned so far in it, ``coming`` all those it assigns anywhere.
    """

    def __init__(self, outside: Surroundings, record: str) -> None:
        self.outside = outside
        self.record = record
        self.context = outside.context
        self.assigned: set[str] = set()
        self.coming: set[str] = set()
        self._replacing: set[str] = set()

    def condition(self, node: Node) -> Expression:
        """Return the condition that ``node`` means."""
        match node:
            case Infix(operator, left, right) if operator in _COMPARISON:
                return Compare(_COMPARISON[operator], self.value(left), self.value(right), span=node.span)
            case Infix(operator, left, right) if operator in _LOGICAL:
                return Logical(
                    _LOGICAL[operator], self.condition(left), self.condition(right), span=node.span
                )
            case Unary("not", operand):
                return Not(self.condition(operand), span=node.span)
        self.context.error("a condition compares two values", node.span, "e.g. IF (SEX.EQ.1) ...")
        return Compare("==", _NOTHING, _NOTHING)

    def value(self, node: Node) -> Expression:
        """Return the arithmetic value that ``node`` means."""
        match node:
            case Literal(text):
                found = number(text)
                if found is None:
                    self.context.error(f"the number {text} is too large", node.span)
                    return _NOTHING
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
        return _NOTHING

    def _replaced(self, key: str) -> Expression | None:
        """Return what stands for ``key`` by $ABBREVIATED REPLACE, or None; never twice over."""
        node = self.outside.replacements.get(key)
        if node is None or key in self._replacing:
            return None
        self._replacing.add(key)
        value = self.value(node)
        self._replacing.remove(key)
        return value

    def _name(self, node: Name) -> Expression:
        name, span = node.text, node.span
        if (replaced := self._replaced(name)) is not None:
            return replaced
        if name in self.assigned or name in self.outside.variables:
            return Variable(name, span=span)
        if name == "F" and self.record == "ERROR":
            return Variable("F", span=span)
        if name == "T" and self.record == "DES":
            return Time(span=span)
        column = self.outside.inputs.resolve(name)
        if column is not None:
            return Column(column.name, span=span)
        if name in GENERATED_ITEMS and self.outside.n_compartments:
            return Column(name, span=span)
        if name in RESERVED:
            self.context.error(f"{name} is not supported yet", span)
        elif name in self.outside.inner and name not in self.coming:
            self.context.error(
                f"{name} is assigned in $DES: using it in ${self.record} is not supported yet", span
            )
        elif name in self.coming:
            self.context.error(
                f"{name} is used before it is assigned",
                span,
                "values kept from the previous record are not supported yet",
            )
        else:
            self.context.error(f"{name} is not defined", span, self._nearest(name))
        return _NOTHING

    def _nearest(self, name: str) -> str:
        dropped = [c.name for c in self.outside.inputs.columns if c.role == "dropped"]
        if name in dropped:
            return f"{name} is dropped in $INPUT"
        columns = self.outside.inputs.names
        known = [*self.assigned, *self.outside.variables, *columns, *self.coming]
        return suggest(name, [word for word in known if "(" not in word])

    def _apply(self, node: Apply) -> Expression:
        if (replaced := self._replaced(_key(node))) is not None:
            return replaced
        if node.name in _PARAMETER_WORDS:
            return self._parameter(node)
        n = self.outside.n_compartments
        if node.name == "A" and n:
            if self.record == "PK":
                self.context.error("amounts A(n) in $PK are not supported yet", node.span, "use them in $DES")
                return _NOTHING
            return self._amount(node)
        if (node.name == "DADT" and self.record == "DES") or (node.name == "A_0" and self.record == "PK"):
            return self._reused_element(node)
        if node.name in FUNCTION_NAMES or node.name in PROTECTED:
            return self._call(node)
        if node.name in RESERVED_ARRAYS:
            self.context.error(f"{node.name}(...) is not supported yet", node.span)
        else:
            known = (*FUNCTION_NAMES, *PROTECTED, *_PARAMETER_WORDS)
            self.context.error(
                f"{node.name} is no function or array", node.name_span, suggest(node.name, known)
            )
        return _NOTHING

    def _amount(self, node: Apply) -> Expression:
        n = self.outside.n_compartments
        if node.arguments[0] == Literal(str(n + 1), node.span):
            self.context.error("the amount in the output compartment is not supported yet", node.span)
            return _NOTHING
        index = self.index(node, n, "compartment")
        return _NOTHING if index is None else Amount(index, span=node.span)

    def _reused_element(self, node: Apply) -> Expression:
        index = self.index(node, self.outside.n_compartments, "compartment")
        name = f"{node.name}({index})"
        if index is not None and name not in self.assigned:
            self.context.error(f"{name} is used before it is assigned", node.span)
        return Variable(name, span=node.span)

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
            return _NOTHING
        arguments = tuple(self.value(argument) for argument in node.arguments)
        return arguments[0] if name is None else Call(name, arguments, span=node.span)

    def _parameter(self, node: Apply) -> Expression:
        kind = "EPS" if node.name in _EPS_WORDS else node.name
        parameters = self.outside.parameters
        counts = {
            "THETA": len(parameters.thetas),
            "ETA": sum(b.size for b in parameters.omega),
            "EPS": sum(b.size for b in parameters.sigma),
        }
        if kind == "EPS" and self.record in ("PK", "DES"):
            self.context.error(f"{node.name} has no place in ${self.record}", node.span, "use it in $ERROR")
            return _NOTHING
        if len(node.arguments) == 1 and isinstance(label := node.arguments[0], Name):
            names = parameters.names[kind]
            index = names.get(label.text)
            if index is None:
                self.context.error(
                    f"there is no {kind} named {label.text}", label.span, suggest(label.text, names)
                )
                return _NOTHING
        else:
            index = self.index(node, counts[kind], kind)
        if index is None:
            return _NOTHING
        match kind:
            case "THETA":
                return Theta(index, span=node.span)
            case "ETA":
                return Eta(index, span=node.span)
        return Eps(index, span=node.span)

    def index(self, node: Apply, count: int, what: str) -> int | None:
        """Return the constant index of an array element, checked against ``count``."""
        literal = node.arguments[0]
        known = self.outside.parameters.complete
        index = whole(literal.text) if isinstance(literal, Literal) else None
        if len(node.arguments) != 1 or index is None:
            self.context.error(
                f"the index of {node.name} must be a whole number", literal.span, f"e.g. {node.name}(1)"
            )
            return None
        if 1 <= index <= count or (index > 0 and what in _PARAMETER_WORDS and not known):
            return index
        record = {"THETA": "$THETA", "ETA": "$OMEGA", "EPS": "$SIGMA"}.get(what, "the model")
        has = f"{record} has {count}" if count else f"{record} has none"
        self.context.error(f"{node.name}({index}) does not exist: {has}", node.span, self._remedy(what))
        return None

    @staticmethod
    def _remedy(what: str) -> str:
        record = {"THETA": "$THETA", "ETA": "$OMEGA", "EPS": "$SIGMA"}.get(what)
        return f"add it to {record}, or correct the index" if record else "correct the index"


def _key(node: Apply) -> str:
    argument = node.arguments[0]
    inside = argument.text if isinstance(argument, Name | Literal) else "?"
    return f"{node.name}({inside})"
