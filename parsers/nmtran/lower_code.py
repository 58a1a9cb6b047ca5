"""Abbreviated code: from the syntax tree of a code record to statements of the IR."""

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
from ...engine.ir.span import Span
from ...engine.ir.statement import Assign, If, Statement, expressions
from .context import Context
from .functions import FUNCTION_NAMES, PROTECTED, RESERVED, RESERVED_ARRAYS
from .lower_parameters import Parameters
from .numbers import number
from .syntax import (
    Apply,
    Assignment,
    CodeLine,
    Conditional,
    Foreign,
    Infix,
    Literal,
    Name,
    Node,
    Unary,
)
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


class CodeLowering:
    """Lowers the statements of one code record (several records of one name are one)."""

    def __init__(self, outside: Surroundings, record: str) -> None:
        self.outside = outside
        self.record = record
        self.context = outside.context
        self.assigned: set[str] = set()
        self.coming: set[str] = set()
        self.once_per_subject: Span | None = None  # where CALLFL=1 stands

    def lower(self, lines: list[CodeLine]) -> tuple[Statement, ...]:
        """Return the statements of the whole record."""
        self.coming = set(_targets(lines))
        statements = self.statements(lines)
        if self.record != "DES":
            self.outside.variables |= {name: self.record for name in self.assigned}
        if self.once_per_subject is not None:
            read = {node.name for node in expressions(statements) if isinstance(node, Column)}
            if read - {"ID"}:
                self.context.error(
                    f"CALLFL=1 with data items ({', '.join(sorted(read))}) is not supported yet",
                    self.once_per_subject,
                    "remove it, and give every record of a subject the same covariates",
                )
        return statements

    def statements(self, lines: list[CodeLine] | tuple[CodeLine, ...]) -> tuple[Statement, ...]:
        found: list[Statement] = []
        for line in lines:
            statement = self.statement(line)
            if statement is not None:
                found.append(statement)
        return tuple(found)

    def statement(self, line: CodeLine) -> Statement | None:
        match line:
            case Assignment():
                return self.assignment(line)
            case Conditional():
                branches = tuple((self.condition(c), self.statements(body)) for c, body in line.branches)
                return If(branches, self.statements(line.otherwise), span=line.span)
            case Foreign():
                return self.foreign(line)

    def foreign(self, line: Foreign) -> None:
        if line.word.startswith("("):
            if self.record == "ERROR" and "OBS" in line.text.upper():
                self.context.notice("$ERROR is computed for every record, not observations only", line.span)
                return
            self.context.error("a call protocol phrase is not supported yet", line.span)
            return
        self.context.error(f"{line.word} is not supported yet", line.span, "write it with IF and assignments")

    # --- assignments ---

    def assignment(self, line: Assignment) -> Assign | None:
        if isinstance(line.target, Name):
            name = line.target.text
            if name == "CALLFL":
                return self.call_protocol(line)
            replaced = self.outside.replacements.get(name)
            if isinstance(replaced, Name):
                name = replaced.text
            if not self.may_assign(name, line.target.span):
                return None
        else:
            element = self.element_target(line.target)
            if element is None:
                return None
            name = element
        value = self.value(line.value)
        self.assigned.add(name)
        return Assign(name, value, span=line.span)

    def may_assign(self, name: str, span: Span) -> bool:
        if self.outside.inputs.resolve(name) is not None:
            self.context.error(
                f"{name} is a data item and cannot be assigned", span, "give the variable another name"
            )
        elif name in RESERVED:
            self.context.error(f"{name} is not supported yet", span)
        elif (name == "F" and self.record == "ERROR") or (name == "T" and self.record == "DES"):
            self.context.error(f"{name} is reserved in ${self.record} and cannot be assigned", span)
        elif self.record == "DES" and name in self.outside.variables:
            self.context.error(
                f"{name} is assigned in ${self.outside.variables[name]} and cannot change in $DES", span
            )
        else:
            return True
        return False

    def call_protocol(self, line: Assignment) -> None:
        self.context.notice(f"CALLFL has no effect: ${self.record} is evaluated at every record", line.span)

    def element_target(self, target: Apply) -> str | None:
        n = self.outside.n_compartments
        allowed = {"DES": "DADT", "PK": "A_0"}.get(self.record)
        if target.name == allowed and n:
            index = self.index(target, n, "compartment")
            return None if index is None else f"{allowed}({index})"
        if target.name in RESERVED_ARRAYS or target.name in FUNCTION_NAMES:
            where = {"DADT": ": it belongs in $DES", "A_0": ": it belongs in $PK"}.get(target.name, " yet")
            self.context.error(f"{target.name}(...) cannot be assigned here{where}", target.span)
        else:
            self.context.error(f"{target.name} is no array that can be assigned", target.span)
        return None

    # --- expressions ---

    def condition(self, node: Node) -> Expression:
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
        match node:
            case Literal(text):
                found = number(text)
                assert found is not None
                return Number(found, span=node.span)
            case Name():
                return self.name(node)
            case Apply():
                return self.apply(node)
            case Unary("-", operand):
                return Negative(self.value(operand), span=node.span)
            case Unary("+", operand):
                return self.value(operand)
            case Infix(operator, left, right) if operator in _ARITHMETIC:
                return Binary(_ARITHMETIC[operator], self.value(left), self.value(right), span=node.span)
        self.context.error("a condition has no value", node.span, "use it in IF (...)")
        return _NOTHING

    def name(self, node: Name) -> Expression:
        name, span = node.text, node.span
        replaced = self.outside.replacements.get(name)
        if replaced is not None:
            return self.value(replaced)
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
        elif name in self.coming:
            self.context.error(
                f"{name} is used before it is assigned",
                span,
                "values kept from the previous record are not supported yet",
            )
        else:
            self.context.error(f"{name} is not defined", span, self.nearest(name))
        return _NOTHING

    def nearest(self, name: str) -> str:
        dropped = [c.name for c in self.outside.inputs.columns if c.role == "dropped"]
        if name in dropped:
            return f"{name} is dropped in $INPUT"
        columns = self.outside.inputs.names
        return suggest(name, [*self.assigned, *self.outside.variables, *columns, *self.coming])

    def apply(self, node: Apply) -> Expression:
        replaced = self.outside.replacements.get(_key(node))
        if replaced is not None:
            return self.value(replaced)
        if node.name in _PARAMETER_WORDS:
            return self.parameter(node)
        n = self.outside.n_compartments
        if node.name == "A" and n:
            if self.record == "PK":
                self.context.error("amounts A(n) in $PK are not supported yet", node.span, "use them in $DES")
                return _NOTHING
            index = self.index(node, n, "compartment")
            return _NOTHING if index is None else Amount(index, span=node.span)
        if (node.name == "DADT" and self.record == "DES") or (node.name == "A_0" and self.record == "PK"):
            return self.reused_element(node)
        if node.name in FUNCTION_NAMES or node.name in PROTECTED:
            return self.call(node)
        if node.name in RESERVED_ARRAYS:
            self.context.error(f"{node.name}(...) is not supported yet", node.span)
        else:
            known = (*FUNCTION_NAMES, *PROTECTED, *_PARAMETER_WORDS)
            self.context.error(
                f"{node.name} is no function or array", node.name_span, suggest(node.name, known)
            )
        return _NOTHING

    def reused_element(self, node: Apply) -> Expression:
        index = self.index(node, self.outside.n_compartments, "compartment")
        name = f"{node.name}({index})"
        if index is not None and name not in self.assigned:
            self.context.error(f"{name} is used before it is assigned", node.span)
        return Variable(name, span=node.span)

    def call(self, node: Apply) -> Expression:
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

    def parameter(self, node: Apply) -> Expression:
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
        if len(node.arguments) != 1 or not isinstance(literal, Literal) or not literal.text.isdigit():
            self.context.error(
                f"the index of {node.name} must be a whole number", literal.span, f"e.g. {node.name}(1)"
            )
            return None
        index = int(literal.text)
        if 1 <= index <= count:
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


def _targets(lines: list[CodeLine] | tuple[CodeLine, ...]) -> list[str]:
    """Return the names that ``lines`` assign anywhere."""
    names: list[str] = []
    for line in lines:
        if isinstance(line, Assignment) and isinstance(line.target, Name):
            names.append(line.target.text)
        elif isinstance(line, Conditional):
            for _, body in line.branches:
                names += _targets(body)
            names += _targets(line.otherwise)
    return names
