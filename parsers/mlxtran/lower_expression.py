"""Expressions of Mlxtran as expressions of the IR."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from ...engine.ir.expression import (
    Binary,
    BinaryOperator,
    Call,
    Compare,
    Comparison,
    Expression,
    Known,
    Logical,
    Negative,
    Not,
    Number,
    Time,
)
from ...engine.ir.span import Span
from .context import Context, suggest
from .syntax import Apply, Infix, Literal, Name, Node, Prefix

# What every structural model may read.
PREDEFINED: dict[str, Expression] = {
    "t": Time(),
    "tDose": Known("last_dose_time"),
    "amtDose": Known("last_dose_amount"),
    "inftDose": Known("last_dose_duration"),
}

_ARITHMETIC: dict[str, BinaryOperator] = {"+": "+", "-": "-", "*": "*", "/": "/", "^": "**"}
_COMPARISONS: dict[str, Comparison] = {
    "<": "<",
    "<=": "<=",
    ">": ">",
    ">=": ">=",
    "==": "==",
    "!=": "!=",
    "~=": "!=",
}
_LOGICAL = {"&": "and", "&&": "and", "|": "or", "||": "or"}

# name -> (function of the IR, number of arguments)
_SAME: dict[str, tuple[str, int]] = {
    "abs": ("abs", 1),
    "sqrt": ("sqrt", 1),
    "exp": ("exp", 1),
    "log": ("log", 1),
    "ln": ("log", 1),
    "log10": ("log10", 1),
    "logit": ("logit", 1),
    "invlogit": ("invlogit", 1),
    "normcdf": ("phi", 1),
    "pnorm": ("phi", 1),
    "sin": ("sin", 1),
    "cos": ("cos", 1),
    "tan": ("tan", 1),
    "asin": ("asin", 1),
    "acos": ("acos", 1),
    "atan": ("atan", 1),
    "atan2": ("atan2", 2),
    "sinh": ("sinh", 1),
    "cosh": ("cosh", 1),
    "tanh": ("tanh", 1),
    "gammaln": ("gamln", 1),
    "lgamma": ("gamln", 1),
    "factln": ("lfac", 1),
    "floor": ("floor", 1),
    "ceil": ("ceil", 1),
    "rem": ("mod", 2),
    "min": ("min", 2),
    "max": ("max", 2),
}
_DERIVED: dict[str, Callable[[Expression], Expression]] = {
    "log2": lambda x: Binary("/", Call("log", (x,)), Number(math.log(2.0))),
    "factorial": lambda x: Call("exp", (Call("lfac", (x,)),)),
}
_NOT_YET = {
    "probit": "the quantile of the normal distribution",
    "norminv": "the quantile of the normal distribution",
    "qnorm": "the quantile of the normal distribution",
    "delay": "a delay differential equation",
    "bsmm": "a mixture of models",
    "wsmm": "a mixture of models",
    "pkmodel": "pkmodel inside an expression",
}
FUNCTIONS = {*_SAME, *_DERIVED, *_NOT_YET}


@dataclass
class ExpressionLowering:
    """Lowers expressions over ``names``, what each name stands for; ``missing`` says why one may not."""

    context: Context
    names: dict[str, Expression]
    missing: dict[str, str] = field(default_factory=dict)

    def value(self, node: Node) -> Expression:
        """Return the number that ``node`` computes; where it computes none, note why."""
        match node:
            case Literal(text):
                return Number(float(text), span=node.span)
            case Name(text):
                return self._name(text, node.span)
            case Prefix("+", operand):
                return self.value(operand)
            case Prefix("-", operand):
                return Negative(self.value(operand), span=node.span)
            case Infix(operator, left, right) if operator in _ARITHMETIC:
                return Binary(_ARITHMETIC[operator], self.value(left), self.value(right), span=node.span)
            case Apply():
                return self._apply(node)
            case Infix() | Prefix():
                self.context.error("a condition is no number", node.span, "use it after if or elseif")
            case _:
                self.context.error("a number or a formula is needed here", node.span)
        return Number(0.0)

    def condition(self, node: Node) -> Expression:
        """Return the condition that ``node`` states; where it states none, note why."""
        match node:
            case Infix(operator, left, right) if operator in _COMPARISONS:
                return Compare(_COMPARISONS[operator], self.value(left), self.value(right), span=node.span)
            case Infix(operator, left, right) if operator in _LOGICAL:
                first, second = self.condition(left), self.condition(right)
                return Logical("and" if _LOGICAL[operator] == "and" else "or", first, second, span=node.span)
            case Prefix("~" | "!", operand):
                return Not(self.condition(operand), span=node.span)
        self.context.error("a number is no condition", node.span, "compare it, e.g. x > 0")
        return Compare("==", Number(0.0), Number(0.0))

    def _name(self, text: str, span: Span) -> Expression:
        found = self.names.get(text)
        if found is not None:
            return _placed(found, span)
        hint = self.missing.get(text) or suggest(text, self.names)
        self.context.error(f"{text} is not defined here", span, hint)
        return Number(0.0)

    def _apply(self, node: Apply) -> Expression:
        if node.name in _NOT_YET:
            self.context.error(f"{_NOT_YET[node.name]} ({node.name}) is not supported yet", node.span)
            return Number(0.0)
        if node.name not in _SAME and node.name not in _DERIVED:
            self.context.error(f"there is no function {node.name}", node.span, suggest(node.name, FUNCTIONS))
            return Number(0.0)
        arguments = tuple(self.value(item.value) for item in node.items if item.key is None)
        function, count = _SAME.get(node.name, ("", 1))
        if len(arguments) != len(node.items) or not (
            len(arguments) == count or (function in ("min", "max") and len(arguments) > 1)
        ):
            wanted = "one argument" if count == 1 else "two arguments"
            self.context.error(f"{node.name} takes {wanted}", node.span)
            return Number(0.0)
        if node.name in _DERIVED:
            return _DERIVED[node.name](arguments[0])
        return Call(function, arguments, span=node.span)


def _placed(leaf: Expression, span: Span) -> Expression:
    """Return ``leaf`` as it stands at ``span``."""
    values = {name: value for name, value in vars(leaf).items() if name != "span"}
    return type(leaf)(**values, span=span)


def simple_sum(terms: list[Expression]) -> Expression:
    """Return the sum of ``terms``, zero where there are none."""
    total: Expression | None = None
    for term in terms:
        if total is None:
            total = term
        elif isinstance(term, Negative):
            total = Binary("-", total, term.operand)
        else:
            total = Binary("+", total, term)
    return total if total is not None else Number(0.0)
