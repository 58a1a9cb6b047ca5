"""Abbreviated code: from the syntax tree of a code record to statements of the IR."""

from __future__ import annotations

from ...engine.ir.expression import Column
from ...engine.ir.span import Span
from ...engine.ir.statement import Assign, If, Statement, expressions
from .functions import FUNCTION_NAMES, RESERVED, RESERVED_ARRAYS
from .lower_expression import ExpressionLowering, Surroundings
from .syntax import Apply, Assignment, CodeLine, Conditional, Foreign, Literal, Name, Unary


class CodeLowering(ExpressionLowering):
    """Lowers the statements of one code record (several records of one name are one)."""

    def __init__(self, outside: Surroundings, record: str) -> None:
        super().__init__(outside, record)
        self._once_per_subject: Span | None = None  # where CALLFL=1 stands

    def lower(self, lines: list[CodeLine]) -> tuple[Statement, ...]:
        """Return the statements of the whole record."""
        self.coming = set(_targets(lines))
        statements = self._statements(lines)
        if self.record == "DES":
            self.outside.inner |= {name for name in self.assigned if "(" not in name}
        else:
            self.outside.variables |= {name: self.record for name in self.assigned}
        if self._once_per_subject is not None:
            read = {node.name for node in expressions(statements) if isinstance(node, Column)}
            if read - {"ID"}:
                self.context.error(
                    f"CALLFL=1 with data items ({', '.join(sorted(read))}) is not supported yet",
                    self._once_per_subject,
                    "remove it, and give every record of a subject the same covariates",
                )
        return statements

    def _statements(self, lines: list[CodeLine] | tuple[CodeLine, ...]) -> tuple[Statement, ...]:
        found: list[Statement] = []
        for line in lines:
            statement = self._statement(line)
            if statement is not None:
                found.append(statement)
        return tuple(found)

    def _statement(self, line: CodeLine) -> Statement | None:
        match line:
            case Assignment():
                return self._assignment(line)
            case Conditional():
                branches = tuple((self.condition(c), self._statements(body)) for c, body in line.branches)
                return If(branches, self._statements(line.otherwise), span=line.span)
            case Foreign():
                self._foreign(line)
                return None

    def _foreign(self, line: Foreign) -> None:
        if line.word.startswith("("):
            if self.record == "ERROR" and "OBS" in line.text.upper():
                self.context.notice("$ERROR is computed for every record, not observations only", line.span)
                return
            self.context.error("a call protocol phrase is not supported yet", line.span)
            return
        if line.word.startswith("END"):
            return  # its loop is reported
        self.context.error(f"{line.word} is not supported yet", line.span, "write it with IF and assignments")

    def _assignment(self, line: Assignment) -> Assign | None:
        if isinstance(line.target, Name):
            name = line.target.text
            if name == "CALLFL":
                self._call_protocol(line)
                return None
            replaced = self.outside.replacements.get(name)
            if isinstance(replaced, Name):
                name = replaced.text
            if not self._may_assign(name, line.target.span):
                return None
        else:
            element = self._element_target(line.target)
            if element is None:
                return None
            name = element
        value = self.value(line.value)
        self.assigned.add(name)
        return Assign(name, value, span=line.span)

    def _may_assign(self, name: str, span: Span) -> bool:
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

    def _call_protocol(self, line: Assignment) -> None:
        """Take CALLFL: only 1 (once per subject) can make a difference, where a data item varies."""
        match line.value:
            case Literal("1"):
                self._once_per_subject = line.span
            case Literal("0") | Unary("-", Literal("1" | "2")):
                pass
            case _:
                self.context.error("CALLFL must be -2, -1, 0 or 1", line.span)
        self.context.notice(f"CALLFL has no effect: ${self.record} is evaluated at every record", line.span)

    def _element_target(self, target: Apply) -> str | None:
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
