"""How the operations of model code are written in generated source: their values and slopes."""

from __future__ import annotations

# the value of a call, by argument
VALUES: dict[str, str] = {
    "exp": "math.exp({0})",
    "log": "math.log({0})",
    "log10": "math.log10({0})",
    "sqrt": "math.sqrt({0})",
    "abs": "abs({0})",
    "sin": "math.sin({0})",
    "cos": "math.cos({0})",
    "tan": "math.tan({0})",
    "asin": "math.asin({0})",
    "acos": "math.acos({0})",
    "atan": "math.atan({0})",
    "atan2": "math.atan2({0}, {1})",
    "sinh": "math.sinh({0})",
    "cosh": "math.cosh({0})",
    "tanh": "math.tanh({0})",
    "int": "np.trunc({0})",
    "floor": "np.floor({0})",
    "ceil": "np.ceil({0})",
    "mod": "mod({0}, {1})",
    "gamln": "gamln({0})",
    "digamma": "digamma({0})",
    "polygamma": "polygamma({0}, {1})",
    "lfac": "lfac({0})",
    "phi": "phi({0})",
    "logit": "logit({0})",
    "invlogit": "invlogit({0})",
}

# Factors that multiply what arrives at the call to give what arrives at each argument; {v} is the value of
# the call. Empty: no slope. A factor is a product, so that it needs no parentheses behind a "*".
SLOPES: dict[str, tuple[str, ...]] = {
    "exp": ("{v}",),
    "log": ("(1.0 / {0})",),
    "log10": ("(0.43429448190325176 / {0})",),
    "sqrt": ("sqrt_slope({v})",),
    "abs": ("sign({0})",),
    "sin": ("math.cos({0})",),
    "cos": ("(-math.sin({0}))",),
    "tan": ("(1.0 + {v} * {v})",),
    "asin": ("(1.0 / math.sqrt(1.0 - {0} * {0}))",),
    "acos": ("(-1.0 / math.sqrt(1.0 - {0} * {0}))",),
    "atan": ("(1.0 / (1.0 + {0} * {0}))",),
    "atan2": ("({1} / ({0} * {0} + {1} * {1}))", "(-{0} / ({0} * {0} + {1} * {1}))"),
    "sinh": ("math.cosh({0})",),
    "cosh": ("math.sinh({0})",),
    "tanh": ("(1.0 - {v} * {v})",),
    "int": ("",),
    "floor": ("",),
    "ceil": ("",),
    "mod": ("1.0", "(-np.trunc({0} / {1}))"),
    "gamln": ("digamma({0})",),
    "digamma": ("polygamma(1.0, {0})",),
    "polygamma": ("", "polygamma({0} + 1.0, {1})"),
    "lfac": ("digamma({0} + 1.0)",),
    "phi": ("(0.3989422804014327 * math.exp(-0.5 * {0} * {0}))",),
    "logit": ("(1.0 / ({0} * (1.0 - {0})))",),
    "invlogit": ("({v} * (1.0 - {v}))",),
}

# Binding strength of Python's operators; a part that binds looser than its place asks for gets parentheses.
CHOICE, OR, AND, NOT, COMPARE, SUM, TERM, UNARY, POWER, ATOM = range(10)


def times(arriving: str, factor: str) -> str:
    """Return the product of two factors, short where one is 1 or -1."""
    if factor == "1.0":
        return arriving
    if arriving == "1.0":
        return factor
    if arriving == "-1.0":
        return negated(factor)
    if factor == "-1.0":
        return negated(arriving)
    return f"{arriving} * {factor}"


def negated(product: str) -> str:
    """Return minus a product."""
    if product == "1.0":
        return "-1.0"
    return product[1:] if product.startswith("-") else f"-{product}"
