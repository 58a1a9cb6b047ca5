"""Statements other than assignments: CALL, EXIT, WRITE and the like, verbatim lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal as Choice

from ...engine.ir.statement import Draw, Reject, Statement
from .lower_expression import ExpressionLowering
from .numbers import whole
from .surroundings import Surroundings
from .syntax import Foreign, Name, Node
from .verbatim import declared, is_remark

_CALL = re.compile(r"CALL\s+([A-Z_0-9]+)\s*(?:\(([^()]*)\))?\s*", re.IGNORECASE)
_OUTPUT = ("WRITE", "PRINT", "OPEN", "CLOSE", "REWIND")
_WITHOUT_EFFECT = {
    "SUPP": "nothing is printed at records",
    "GETETA": "random effects are drawn before the model runs",
}
_NAME = re.compile(r"[A-Z_][A-Z_0-9]*", re.IGNORECASE)


class ForeignLowering(ExpressionLowering):
    """The part of a record's lowering that knows statements of their own form.

    ``integers`` are names that verbatim code declares as whole numbers, ``common`` those it takes from COMMON
    blocks and modules.
    """

    def __init__(self, outside: Surroundings, record: str) -> None:
        super().__init__(outside, record)
        self.integers: set[str] = set()
        self.common: set[str] = set()
        self._noted: set[str] = set()

    @staticmethod
    def drawn(text: str) -> Iterator[str]:
        """Yield the variable that a CALL RANDOM sets."""
        match = _CALL.match(text)
        arguments = (match.group(2) or "").split(",") if match is not None else []
        if len(arguments) == 2 and _NAME.fullmatch(arguments[1].strip()):
            yield arguments[1].strip().upper()

    @staticmethod
    def is_data_loop(condition: Node) -> bool:
        """Tell whether a loop runs over the data set."""
        return isinstance(condition, Name) and condition.text == "DATA"

    def foreign(self, line: Foreign) -> Iterator[Statement]:
        """Yield the statements that ``line`` means, and note what has no effect or cannot be run."""
        match line.word:
            case "CALL":
                yield from self._call_routine(line)
            case "EXIT":
                yield from self._exit(line)
            case '"':
                self._verbatim(line)
            case "CONTINUE":
                pass
            case word if word in _OUTPUT:
                if word not in self._noted:
                    self.context.notice(f"{word} has no effect: code writes no files of its own", line.span)
                self._noted.add(word)
            case word:
                self.context.error(
                    f"{word} is not supported", line.span, "write it with IF, DO WHILE and assignments"
                )

    def _call_routine(self, line: Foreign) -> Iterator[Statement]:
        match = _CALL.fullmatch(line.text)
        name = match.group(1).upper() if match is not None else ""
        arguments = (
            [a.strip().upper() for a in (match.group(2) or "").split(",")] if match is not None else []
        )
        if name == "RANDOM":
            source = whole(arguments[0]) if len(arguments) == 2 else None
            if source is None or source < 1 or not _NAME.fullmatch(arguments[1]):
                self.context.error(
                    "CALL RANDOM takes a source and a variable", line.span, "CALL RANDOM (2,R)"
                )
                return
            kind: Choice["uniform", "normal"] = "normal"
            if self.outside.sources.get(source) == "uniform":
                kind = "uniform"
            self.assigned.add(arguments[1])
            yield Draw(kind, (arguments[1],), source, span=line.span)
        elif name in ("SIMETA", "SIMEPS"):
            yield Draw("eta" if name == "SIMETA" else "eps", (), span=line.span)
        elif name in _WITHOUT_EFFECT:
            self.context.notice(f"CALL {name} has no effect: {_WITHOUT_EFFECT[name]}", line.span)
        else:
            self.context.error(
                f"CALL {name} is not supported", line.span, "RANDOM, SIMETA and SIMEPS can be called"
            )

    def _exit(self, line: Foreign) -> Iterator[Statement]:
        numbers = [whole(text) for text in line.text.split()[1:]]
        kind = numbers[0] if numbers else 1
        code = numbers[1] if len(numbers) > 1 else 0
        if kind not in (1, 2) or code is None or len(numbers) > 2:
            self.context.error("EXIT takes 1 or 2, and a number of your own", line.span, "e.g. EXIT 1 100")
            return
        yield Reject(kind == 2, code, span=line.span)

    def _verbatim(self, line: Foreign) -> None:
        if is_remark(line.text):
            return
        found = declared(line.text)
        if found is None:
            self.context.error(
                "this verbatim code is not understood", line.span, "write it as abbreviated code"
            )
            return
        kind, names = found
        if kind == "INTEGER":
            self.integers |= set(names)
        elif kind in ("COMMON", "USE"):
            self.common |= set(names)
