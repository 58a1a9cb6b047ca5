"""Reserved variables of abbreviated code: what the run knows at a record."""

from __future__ import annotations

from ...engine.ir.expression import (
    Column,
    Compare,
    Comparison,
    Conditional,
    Expression,
    Known,
    Logical,
    Number,
)
from ...engine.ir.span import Span

_KNOWN = {
    "NEWIND": "newind",
    "ICALL": "icall",
    "COMACT": "comact",
    "NIREC": "nind",
    "NDREC": "ndrec",
    "LIREC": "nirec",
    "IREP": "irep",
    "NREP": "nrep",
    "IPROB": "nprob",
    "CALLFL": "callfl",
    "MIXNUM": "mixnum",
    "MIXEST": "mixest",
    "NPDE_MODE": "npde_mode",
}
_KNOWN_ARRAYS = {"MTIME": "mtime", "MPAST": "mpast", "MNEXT": "mnext"}
# Constants, and modes that this engine is never in.
_CONSTANTS = {"LNTWOPI": 1.8378770664093454836, "BAYES_EXTRA": 0.0, "ITER_REPORT": 0.0}
# Variables that may be assigned and change nothing but how a legacy engine works or prints.
WITHOUT_EFFECT: dict[str, str] = {
    "COMRES": "every variable can be tabulated",
    "COMSAV": "every variable can be tabulated",
    "MTDIFF": "model times are those of each record",
    "SKIP_": "no problem or step is skipped",
    "BAYES_EXTRA_REQUEST": "the model is not called again after a sample",
}
# ICALL compared with a number so that it holds before the first record only.
_EARLY: frozenset[tuple[Comparison, float]] = frozenset(
    {("==", 0.0), ("==", 1.0), ("<=", 0.0), ("<=", 1.0), ("<", 1.0), ("<", 2.0)}
)
_MIRRORED: dict[Comparison, Comparison] = {"==": "==", "!=": "!=", "<": ">", ">": "<", "<=": ">=", ">=": "<="}


def known_value(name: str, record: str, span: Span | None) -> Expression | None:
    """Return what the reserved variable ``name`` means in ``record``, or None if it has no such meaning."""
    if name in _KNOWN:
        return Known(_KNOWN[name], span=span)
    if name in _CONSTANTS:
        return Number(_CONSTANTS[name], span=span)
    if name == "A_0FLG" and record == "PK":
        reset = Compare(">=", Column("EVID"), Number(3.0))
        first = Compare("!=", Known("newind"), Number(2.0))
        return Conditional(Logical("or", first, reset), Number(1.0), Number(0.0), span=span)
    if name == "DOSTIM" and record in ("PK", "DES", "AES"):
        between = Compare("==", Known("callfl"), Number(1.0))
        return Conditional(between, Known("dose_time"), Number(0.0), span=span)
    return None


def known_element(name: str, index: int, span: Span | None) -> Expression | None:
    """Return what element ``index`` of the reserved array ``name`` means, or None where it means nothing."""
    return Known(_KNOWN_ARRAYS[name], index, span=span) if name in _KNOWN_ARRAYS else None


def at_first_call(compare: Compare) -> Compare:
    """Return ``compare``, moved to the subject's first record where it asks for the calls before all others.

    A legacy engine calls the model at the start of the run (ICALL 0) and of the problem (ICALL 1); what is
    assigned then lasts. Here only records are evaluated, so it is assigned at the first of each subject.
    """
    operator, left, right = compare.operator, compare.left, compare.right
    if isinstance(right, Known):
        operator, left, right = _MIRRORED[operator], right, left
    if not (isinstance(left, Known) and left.quantity == "icall" and isinstance(right, Number)):
        return compare
    if (operator, right.value) not in _EARLY:
        return compare
    return Compare("!=", Known("newind"), Number(2.0), span=compare.span)
