"""The conditions of $PRIOR: for which problems and steps a prior is in force."""

from __future__ import annotations

import re
from operator import eq, ge, gt, le, lt, ne

from .context import Context
from .option_words import is_group
from .syntax import Option

_CONDITION = re.compile(
    r"(?P<name>[A-Z]+)\s*(?P<operator>\.[A-Z]{2}\.|[=/<>]=?)?\s*(?P<value>\d{1,6})?", re.IGNORECASE
)
_OPERATORS = {"=": eq, "==": eq, ".EQ.": eq, ".NE.": ne, "/=": ne, ".LT.": lt, "<": lt, ".LE.": le}
_OPERATORS |= {"<=": le, ".GT.": gt, ">": gt, ".GE.": ge, ">=": ge}


def is_clause(option: Option) -> bool:
    """Tell whether ``option`` is a conditional clause, a list in parentheses."""
    return is_group(option)


def applies(context: Context, clauses: list[Option], problem: int) -> bool:
    """Tell whether a prior with ``clauses`` is in force in the estimation of ``problem``."""
    if not clauses:
        return True
    return any([_holds(context, clause, problem) for clause in clauses])


def _holds(context: Context, clause: Option, problem: int) -> bool:
    """Tell whether all conditions of one clause hold; words without a comma between belong together."""
    assert clause.items is not None
    text = " ".join(item.text for item in clause.items)
    found = True
    position = 0
    while position < len(text):
        match = _CONDITION.match(text, position)
        known = None if match is None else _condition(match, problem)
        if match is None or known is None:
            message = f"'{text[position:].strip()}' is no condition of $PRIOR"
            context.error(message, clause.span, "e.g. (PROBLEM 2) or (ESTIMATION, PROBLEM.GE.3)")
            return False
        found = found and known
        position = match.end()
        while position < len(text) and text[position] == " ":
            position += 1
    return found


def _condition(match: re.Match[str], problem: int) -> bool | None:
    """Return whether one condition holds, None where it is unknown."""
    name, value = match["name"].upper(), match["value"]
    operator = _OPERATORS.get((match["operator"] or "=").upper())
    if operator is None:
        return None
    if value is None:
        step = name[:3]
        return {"EST": True, "SIM": False}.get(step) if match["operator"] is None else None
    if name == "IPROB" or (len(name) >= 3 and "PROBLEM".startswith(name[:7])):
        return bool(operator(problem, int(value)))
    return bool(operator(2, int(value))) if name == "ICALL" else None
