"""<PARAMETER>: initial values and how each is estimated; the parameters that the model uses, as the IR's."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ...engine.ir.expression import Expression, Number, Theta
from ...engine.ir.parameter import ThetaParameter
from ...engine.ir.span import Span
from .context import Context, Entry, suggest
from .syntax import Item, Literal, Name, Node, Prefix, Quoted, options, word

_METHODS = {"MLE": False, "FIXED": True}


@dataclass(frozen=True)
class Initial:
    """The initial value of a population parameter."""

    value: float
    fixed: bool
    span: Span
    value_span: Span


@dataclass
class Parameters:
    """Every entry of <PARAMETER>, and the fixed effects used so far in the order of their first use."""

    context: Context
    initial: dict[str, Initial]
    thetas: list[ThetaParameter] = field(default_factory=list)
    _numbers: dict[str, int] = field(default_factory=dict)

    def find(self, name: Name) -> Initial | None:
        """Return the entry of a parameter that the model uses, noting its absence."""
        found = self.initial.get(name.text)
        if found is None:
            self.context.error(
                f"the parameter {name.text} has no initial value",
                name.span,
                suggest(name.text, self.initial) or f"<PARAMETER> {name.text} = {{value=1, method=MLE}}",
            )
        return found

    def fixed_effect(
        self, node: Node, lower: float = -math.inf, upper: float = math.inf, closed: bool = False
    ) -> Expression:
        """Return the fixed effect that ``node`` names, or the number that it is.

        The value must lie between the bounds; ``closed`` lets a fixed one equal them.
        """
        value = constant(node)
        if value is not None:
            self._check(value, lower, upper, True, node.span)
            return Number(value, span=node.span)
        if not isinstance(node, Name):
            self.context.error("a parameter or a number is needed here", node.span)
            return Number(1.0)
        if node.text not in self._numbers:
            initial = self.find(node)
            if initial is None:
                return Number(1.0)
            self._check(initial.value, lower, upper, closed and initial.fixed, initial.value_span)
            self.thetas.append(
                ThetaParameter(
                    node.text,
                    initial.value,
                    lower,
                    upper,
                    initial.fixed,
                    span=initial.span,
                    value_span=initial.value_span,
                )
            )
            self._numbers[node.text] = len(self.thetas)
        return Theta(self._numbers[node.text], span=node.span)

    def _check(self, value: float, lower: float, upper: float, closed: bool, span: Span) -> None:
        inside = lower <= value <= upper if closed else lower < value < upper
        if not inside:
            interval = f"between {lower:g} and {upper:g}" if math.isfinite(upper) else f"above {lower:g}"
            self.context.error(f"the value {value:g} is not {interval}", span)


def lower_parameters(context: Context) -> Parameters:
    """Read <PARAMETER>."""
    document = context.project
    initial: dict[str, Initial] = {}
    for entry in context.entries(document, document.of("", section="PARAMETER")):
        found = _initial(context, entry)
        if found is None:
            continue
        if entry.key in initial:
            context.error(f"{entry.key} has a second initial value", entry.span)
        initial[entry.key] = found
    return Parameters(context, initial)


def _initial(context: Context, entry: Entry) -> Initial | None:
    if entry.value is None:
        context.error(f"{entry.key} has no value", entry.span, f"{entry.key} = {{value=1, method=MLE}}")
        return None
    value = constant(entry.value)
    if value is not None:
        return Initial(value, False, entry.span, entry.value.span)
    chosen = options(entry.value)
    if "value" not in chosen:
        context.error(f"{entry.key} has no value", entry.span, f"{entry.key} = {{value=1, method=MLE}}")
        return None
    value = constant(chosen["value"].value)
    if value is None:
        context.error("an initial value is a number", chosen["value"].value.span)
        return None
    for name, item in chosen.items():
        if name not in ("value", "method"):
            context.notice(f"the option {name} of {entry.key} has no effect", item.span)
    fixed = _method(context, chosen.get("method"))
    return Initial(value, fixed, entry.span, chosen["value"].value.span)


def _method(context: Context, item: Item | None) -> bool:
    if item is None:
        return False
    method = (word(item.value) or "").upper()
    if method in ("MAP", "BAYES"):
        context.error("prior distributions are not supported yet", item.span, "use method=MLE or FIXED")
    elif method not in _METHODS:
        context.error(f"unknown method '{method}'", item.span, "MLE or FIXED")
    return _METHODS.get(method, False)


def constant(node: Node) -> float | None:
    """Return the number that ``node`` is, with its sign, or None."""
    match node:
        case Literal(text):
            return float(text)
        case Prefix("-", operand):
            value = constant(operand)
            return None if value is None else -value
        case Prefix("+", operand):
            return constant(operand)
        case Quoted(text):
            try:
                return float(text)
            except ValueError:
                return None
    return None
