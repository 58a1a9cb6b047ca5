"""Abbreviated code: from the syntax tree of a code record to statements of the IR."""

from __future__ import annotations

from collections.abc import Iterator

from ...engine.ir.expression import Column, Compare, Expression, Number, Variable, children
from ...engine.ir.span import Span
from ...engine.ir.statement import Assign, If, Statement, While
from .arrays import as_whole, assign_chosen, element_name, element_names
from .call_protocol import lower_callfl, lower_protocol_phrase
from .foreign import ForeignLowering
from .functions import FUNCTION_NAMES, RESERVED, RESERVED_ARRAYS
from .lower_expression import key
from .numbers import whole
from .reserved import WITHOUT_EFFECT
from .surroundings import Surroundings
from .syntax import Apply, Assignment, CodeLine, Conditional, Foreign, Literal, Loop, Name, Node, Unary
from .verbatim import WITHOUT_EFFECT as WORK_SPACE

_LONG = 16  # elements of an array that is assigned at a computed index
_RETURNED = "(returned)"  # no name of the user's can be spelled so
_PSEUDO = {"CALLFL", "NSPOP"}  # assigned to give orders, never variables
_WHERE = {
    "DADT": "it belongs in $DES",
    "A_0": "it belongs in $PK",
    "E": "it belongs in $AES",
    "P": "it belongs in $MIX",
    "MTIME": "it belongs in $PK",
    "CORRL2": "correlations of residuals along L2 records are not supported; SIGMA blocks within them are",
}


class CodeLowering(ForeignLowering):
    """Lowers the statements of one code record (several records of one name are one)."""

    def __init__(self, outside: Surroundings, record: str) -> None:
        super().__init__(outside, record)
        self._simulating = 0  # depth of conditionals on ICALL

    def lower(self, lines: list[CodeLine]) -> tuple[Statement, ...]:
        """Return the statements of the whole record."""
        self.coming = set(targets(lines)) - _PSEUDO
        self.has_verbatim = any(isinstance(line, Foreign) and line.word == '"' for line in lines)
        shadows = self._shadows()
        self.outside.shadows |= set(shadows)
        statements = self.statements(lines)
        if any(_returns(line) for line in lines):
            statements = (Assign(_RETURNED, Number(0.0)), *statements)
        if self.record in ("DES", "AES"):
            self.outside.inner |= {
                name for name in self.assigned if "(" not in name or name.startswith("COM(")
            }
        else:
            self.outside.variables |= {name: self.record for name in self.assigned}
        return (*(Assign(name, Column(name)) for name in shadows), *statements)

    def _shadows(self) -> list[str]:
        """Return the data items that the record assigns, for the first time."""
        columns = [self.outside.inputs.resolve(name) for name in sorted(self.coming)]
        return [c.name for c in columns if c is not None and c.name not in self.outside.shadows]

    def statements(self, lines: list[CodeLine] | tuple[CodeLine, ...]) -> tuple[Statement, ...]:
        """Return the statements of ``lines``; those after one that may RETURN are made to depend on it."""
        found: list[Statement] = []
        for i, line in enumerate(lines):
            if isinstance(line, Foreign) and line.word == "RETURN":
                return (*found, Assign(_RETURNED, Number(1.0), span=line.span))
            found += self._statement(line)
            if _returns(line):
                rest = self.statements(lines[i + 1 :])
                going_on = Compare("==", Variable(_RETURNED), Number(0.0))
                return (*found, If(((going_on, rest),))) if rest else tuple(found)
        return tuple(found)

    def _statement(self, line: CodeLine) -> Iterator[Statement]:
        match line:
            case Assignment():
                yield from self._assignment(line)
            case Conditional():
                conditional = self._conditional(line)
                if conditional.otherwise or any(body for _, body in conditional.branches):
                    yield conditional
            case Loop():
                if self.is_data_loop(line.condition):
                    self.context.error(
                        "a loop over the data set is not supported",
                        line.condition.span,
                        "prepare the data in the file",
                    )
                    return
                condition = self.condition(line.condition)
                yield While(condition, self.statements(line.body), span=line.span)
            case Foreign("("):
                lower_protocol_phrase(self.outside, self.record, line)
            case Foreign():
                yield from self.foreign(line)

    def _conditional(self, line: Conditional) -> If:
        branches = []
        asks = any(_mentions(condition, "ICALL") for condition, _ in line.branches)
        self._simulating += asks
        for condition, body in line.branches:
            branches.append((self.condition(condition), self.statements(body)))
        otherwise = self.statements(line.otherwise)
        self._simulating -= asks
        return If(tuple(branches), otherwise, span=line.span)

    def _assignment(self, line: Assignment) -> tuple[Statement, ...]:
        target = self._target(line.target)
        if self._is_derivative(target, line.value):
            return ()
        if isinstance(target, Apply):
            return self._element_assignment(target, line)
        name, span = target.text, target.span
        if name == "CALLFL":
            lower_callfl(self.outside, self.record, line)
            return ()
        if name in WITHOUT_EFFECT:
            self.context.notice(f"{name} has no effect: {WITHOUT_EFFECT[name]}", line.span)
        elif name in self.common and name in WORK_SPACE:
            self.context.notice(f"{name} has no effect: nothing needs a size in advance", line.span)
            return ()
        elif name in self.common:
            self.context.error(
                f"{name} belongs to a legacy engine, which is not there", line.span, "remove the assignment"
            )
            return ()
        if (self.record, name) in (("MIX", "NSPOP"), ("AESINITIAL", "INIT")):
            return ()  # read from the syntax tree; whether a first guess is exact makes no difference
        if not self._may_assign(name, span):
            return ()
        column = self.outside.inputs.resolve(name)
        name = column.name if column is not None else name
        value = self.value(line.value)
        if name in self.outside.abbreviations.integers or name in self.integers:
            value = as_whole(value, self.outside.abbreviations.integers | self.integers)
        self.assigned.add(name)
        return (Assign(name, value, span=line.span),)

    def _is_derivative(self, target: Name | Apply, value: Node) -> bool:
        """Take ``X=G(1,1)``: a derivative of the prediction under a name of the user's, for tables."""
        match value:
            case Apply("G" | "H" | "HH" as name, (Literal(row), Literal(column))) if self.has_verbatim:
                spelled = target.text if isinstance(target, Name) else key(target)
                self.coming.discard(spelled)
                first = str(column) in ("1", "01", "001")
                self.outside.derivatives[spelled] = f"{name}{row}1" if first else f"{name}({row},{column})"
                return True
        return False

    def _target(self, target: Name | Apply) -> Name | Apply:
        """Return ``target`` after REPLACE."""
        spelled = target.text if isinstance(target, Name) else key(target)
        meaning = self.outside.abbreviations.meanings.get(spelled)
        if isinstance(meaning, tuple) and len(meaning) == 1 and isinstance(meaning[0], Name | Apply):
            return meaning[0]
        return target if isinstance(target, Name) else self.resolve(target)

    def _may_assign(self, name: str, span: Span) -> bool:
        outside = self.outside
        if outside.inputs.resolve(name) is not None and not (self._simulating and self.record != "DES"):
            self.context.error(
                f"{name} is a data item and cannot be assigned",
                span,
                "give the variable another name; only code under IF (ICALL.EQ.4) may assign data items",
            )
        elif name in RESERVED:
            self.context.error(f"{name} cannot be assigned", span, "it is reserved")
        elif (name == "F" and self.record == "ERROR") or (name == "T" and self.record == "DES"):
            self.context.error(f"{name} is reserved in ${self.record} and cannot be assigned", span)
        elif self.record == "DES" and outside.variables.get(name, "MIX") != "MIX":
            self.context.error(
                f"{name} is assigned in ${outside.variables[name]} and cannot change in $DES", span
            )
        else:
            return True
        return False

    def _element_assignment(self, target: Apply, line: Assignment) -> tuple[Statement, ...]:
        sizes = self.outside.abbreviations.arrays.get(target.name)
        if sizes:
            return self._declared_assignment(target, line, sizes)
        count = self.count(target.name)
        if not count:
            self._no_target(target)
            return ()
        kept = "A_0" if self.record == "AESINITIAL" else target.name
        if len(target.arguments) == 1 and not self._is_constant(target.arguments[0], target.name):
            if target.name not in ("DADT", "A_0", "E"):
                self.context.error(f"the index of {target.name} must be a whole number here", target.span)
                return ()
            names = element_names(kept, (count,))
            self.assigned |= set(names)
            return _assign_one(self.value(target.arguments[0]), names, self.value(line.value), line.span)
        index = self.index(target, count, "compartment")
        if index is None:
            return ()
        name = element_name(kept, (index,))
        value = self.value(line.value)
        self.assigned.add(name)
        return (Assign(name, value, span=line.span),)

    def _declared_assignment(
        self, target: Apply, line: Assignment, sizes: tuple[int, ...]
    ) -> tuple[Statement, ...]:
        if len(target.arguments) != len(sizes):
            self._dimensions(target, sizes)
            return ()
        names = element_names(target.name, sizes)
        position = self.position(target, sizes)
        value = self.value(line.value)
        if target.name in self.outside.abbreviations.integers:
            value = as_whole(value, self.outside.abbreviations.integers)
        if isinstance(position, int):
            if position == 0:
                return ()
            self.assigned.add(names[position - 1])
            return (Assign(names[position - 1], value, span=line.span),)
        self.assigned |= set(names)
        return _assign_one(position, names, value, line.span)

    def _no_target(self, target: Apply) -> None:
        name = target.name
        if name in RESERVED_ARRAYS or name in FUNCTION_NAMES:
            self.context.error(f"{name}(...) cannot be assigned here", target.span, _WHERE.get(name, ""))
        else:
            self.context.error(
                f"{name} is no array that can be assigned", target.span, f"$ABBREVIATED DECLARE {name}(10)"
            )


def targets(lines: list[CodeLine] | tuple[CodeLine, ...]) -> Iterator[str]:
    """Yield the names that ``lines`` assign anywhere, elements with a constant index too."""
    for line in lines:
        match line:
            case Assignment(Name(text)):
                yield text
            case Assignment(Apply(name, (Literal(text),))) if (index := whole(text)) is not None:
                yield element_name(name, (index,))
            case Conditional():
                for _, body in line.branches:
                    yield from targets(body)
                yield from targets(line.otherwise)
            case Loop():
                yield from targets(line.body)
            case Foreign("CALL", text) if "RANDOM" in text.upper():
                yield from ForeignLowering.drawn(text)


def _assign_one(
    index: Expression, names: tuple[str, ...], value: Expression, span: Span
) -> tuple[Statement, ...]:
    """Return statements that assign ``value`` to the one of ``names`` at ``index``.

    For a long array both are computed before, not at each place where they stand.
    """
    before: list[Assign] = []

    def once(what: str, expression: Expression) -> Expression:
        if len(names) <= _LONG or not children(expression):
            return expression
        before.append(Assign(f"{names[0].partition('(')[0]}({what})", expression, span=span))
        return Variable(before[-1].target)

    index, value = once("INDEX", index), once("VALUE", value)
    return (*before, assign_chosen(index, names, value, span))


def _returns(line: CodeLine) -> bool:
    """Tell whether a RETURN stands inside ``line``."""
    match line:
        case Conditional():
            bodies = (*(body for _, body in line.branches), line.otherwise)
            return any(_returns(inner) for body in bodies for inner in body)
        case Loop():
            return any(_returns(inner) for inner in line.body)
        case Foreign("RETURN"):
            return True
    return False


def _mentions(node: Node, name: str) -> bool:
    match node:
        case Name(text):
            return text == name
        case Apply():
            return any(_mentions(argument, name) for argument in node.arguments)
        case Unary():
            return _mentions(node.operand, name)
        case Literal():
            return False
    return _mentions(node.left, name) or _mentions(node.right, name)
