"""Values of expressions over data columns, in numpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from .expression import (
    Binary,
    Call,
    Column,
    Compare,
    Conditional,
    Expression,
    Logical,
    Negative,
    Not,
    Number,
)

Array = NDArray[np.float64]


def evaluate(expression: Expression, columns: Mapping[str, Array]) -> Array:
    """Return the value of ``expression`` at every record, as floats (conditions: 0 and 1).

    ``columns`` maps names to arrays of one shape; the result has that shape (a scalar array where
    the expression names no column). Undefined arithmetic gives NaN or infinities.

    Raises
    ------
    ValueError
        Where the expression holds something that is no number, column, function or condition.
    KeyError
        Where a column is missing.
    """
    with np.errstate(all="ignore"):
        return np.asarray(_value(expression, columns), dtype=float)


def _value(node: Expression, columns: Mapping[str, Array]) -> Array:
    match node:
        case Number(value):
            return np.asarray(value, dtype=float)
        case Column(name):
            return np.asarray(columns[name], dtype=float)
        case Negative(operand):
            return -_value(operand, columns)
        case Binary(operator, left, right):
            return np.asarray(_BINARY[operator](_value(left, columns), _value(right, columns)))
        case Compare(comparison, left, right):
            return np.asarray(_COMPARE[comparison](_value(left, columns), _value(right, columns)), float)
        case Logical(logical, left, right):
            combine = np.logical_and if logical == "and" else np.logical_or
            return np.asarray(combine(_value(left, columns), _value(right, columns)), float)
        case Conditional(condition, then, otherwise):
            holds = _value(condition, columns) > 0
            return np.asarray(np.where(holds, _value(then, columns), _value(otherwise, columns)))
        case Not(operand):
            return np.asarray(np.logical_not(_value(operand, columns)), float)
        case Call("min" | "max" as name, arguments):
            extreme = np.minimum if name == "min" else np.maximum
            return np.asarray(extreme.reduce(np.broadcast_arrays(*(_value(a, columns) for a in arguments))))
        case Call(name, arguments):
            return np.asarray(_FUNCTIONS[name](*(_value(a, columns) for a in arguments)))
    raise ValueError(f"{type(node).__name__} has no value over data columns alone.")


def _log_gamma(x: Array) -> Array:
    from scipy.special import gammaln  # scipy is slow to import and hardly ever needed here

    return np.asarray(gammaln(x))


def _digamma(x: Array) -> Array:
    from scipy.special import digamma

    return np.asarray(digamma(x))


def _normal(x: Array) -> Array:
    from scipy.special import ndtr

    return np.asarray(ndtr(x))


_BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "**": np.power,
}
_COMPARE: dict[str, Callable[[Array, Array], NDArray[np.bool_]]] = {
    "==": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}
_FUNCTIONS: dict[str, Callable[..., Array]] = {
    "exp": np.exp,
    "log": np.log,
    "log10": np.log10,
    "sqrt": np.sqrt,
    "abs": np.abs,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "atan2": np.arctan2,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "int": np.trunc,
    "floor": np.floor,
    "ceil": np.ceil,
    "mod": np.fmod,
    "gamln": _log_gamma,
    "digamma": _digamma,
    "lfac": lambda x: _log_gamma(x + 1.0),
    "phi": _normal,
    "logit": lambda p: np.log(p / (1.0 - p)),
    "invlogit": lambda x: 1.0 / (1.0 + np.exp(-x)),
}
