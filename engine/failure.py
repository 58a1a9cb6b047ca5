"""What the engine cannot do with a model or its data, said so that a user can act on it."""

from __future__ import annotations

from .ir.span import Span


class ModelFailure(ValueError):
    """A model or data set asks for something the engine does not have, or that has no meaning.

    ``span`` is the place in the control file where one is known, ``hint`` what to try.
    """

    def __init__(self, message: str, span: Span | None = None, hint: str = "") -> None:
        self.message = message
        self.span = span
        self.hint = hint
        head = f"{span}: " if span is not None else ""
        tail = f"\n  hint: {hint}" if hint else ""
        super().__init__(f"{head}{message}{tail}")


class NumericalFailure(ArithmeticError):
    """A run broke down numerically and has no result; the message says what to try."""
