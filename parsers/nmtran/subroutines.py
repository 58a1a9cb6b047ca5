"""$SUBROUTINES and $TOL: which library model, its parameters and the accuracy of its solution."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ...engine.ir.span import Span
from .context import Context
from .library import has_trans, known_trans
from .numbers import whole
from .option_words import with_values
from .parse_code import parse_code
from .syntax import Apply, Assignment, CodeLine, Literal, Option
from .words import resolve, suggest

DEFAULT_TOL = 9  # digits, where nothing says how many
DEFAULT_ATOL = 12

LIBRARY = (1, 2, 3, 4, 10, 11, 12)
LINEAR = (5, 7)  # general linear: rate constants between any compartments
DIFFERENTIAL = (6, 8, 9, 13, 14, 15)
WITH_EQUILIBRIUM = (9, 15)
_DELAY = (16, 17, 18)
_STIFF = (8, 9, 14, 15)

_NUMBERED = re.compile(r"(ADVAN|TRANS|TOL|ATOL|SSTOL|SSATOL|SS)=?(\d{1,6})", re.IGNORECASE)
_DIGITS = ("TOL", "ATOL", "SSTOL", "SSATOL", "TOLC", "ATOLC", "SSTOLC", "SSATOLC")
_LIBRARY_KINDS = ("ADVAN", "TRANS", "SS")
_OWN = tuple(
    """
    OTHER PRED PK ERROR MODEL DES AES INFN MIX CRIT CONTR CCONTR PRIOR USMETA SPTWO
    """.split()
)
_PRECISIONS = ("DP", "SP")
_OPTIONS = (*_LIBRARY_KINDS, *_DIGITS, *_OWN, "SUBROUTINES", "LIBRARY")
_FLAGS = tuple(name for name in _OPTIONS if name not in _DIGITS)  # TOL may stand before its value without =
_WITHOUT_EFFECT = {
    "SSTOL": "steady states are as accurate as TOL says",
    "SSATOL": "steady states are as accurate as ATOL says",
    "TOLC": "the covariance step solves as accurately as the others",
    "ATOLC": "the covariance step solves as accurately as the others",
    "SSTOLC": "the covariance step solves as accurately as the others",
    "SSATOLC": "the covariance step solves as accurately as the others",
}
# Variables of $TOL and what they are in $SUBROUTINES: for amounts, and (index 0) for steady states.
_OF_TOL = {
    "NRD": ("TOL", "SSTOL"),
    "ANRD": ("ATOL", "SSATOL"),
    "NRDC": ("TOLC", "SSTOLC"),
    "ANRDC": ("ATOLC", "SSATOLC"),
}


@dataclass
class Subroutines:
    """What $SUBROUTINES says."""

    advan: int
    trans: int = 1
    tol: int = DEFAULT_TOL
    atol: int = DEFAULT_ATOL
    span: Span | None = field(default=None, compare=False)

    @property
    def is_ode(self) -> bool:
        """True where $DES (or $AES) defines the system."""
        return self.advan in DIFFERENTIAL

    @property
    def has_model(self) -> bool:
        """True where $MODEL defines the compartments."""
        return self.advan in (*LINEAR, *DIFFERENTIAL)

    @property
    def is_stiff(self) -> bool:
        """True where the library's solver is one for stiff systems only."""
        return self.advan in _STIFF


def lower_subroutines(context: Context, records: list[tuple[Option, ...]]) -> Subroutines | None:
    """Return the choice of $SUBROUTINES, or None where there is none or it is not supported."""
    chosen: dict[str, tuple[int, Span]] = {}
    for option in with_values([o for record in records for o in record], _FLAGS, _OPTIONS):
        _take(context, option, chosen)
    for line in (line for lines in context.parse(parse_code, "TOL") for line in lines):
        _take_digits(context, line, chosen)
    if "ADVAN" not in chosen:
        if records and not context.problems and not context.stream.of("PRED"):
            context.error(
                "$SUBROUTINES names no ADVAN", context.stream.of("SUBROUTINES")[0].head, "e.g. ADVAN2"
            )
        return None
    return _subroutines(context, chosen)


def _take(context: Context, option: Option, chosen: dict[str, tuple[int, Span]]) -> None:
    value = option.value.text if option.value is not None else ""
    text = f"{option.name.text}={value}" if value else option.name.text
    name = resolve(option.name.text, _OPTIONS)
    match = _NUMBERED.fullmatch(text) or (_NUMBERED.fullmatch(value) if name else None)
    number = whole(value)
    if match is not None:
        chosen[match.group(1).upper()] = (int(match.group(2)), option.span)
    elif name in (*_LIBRARY_KINDS, *_DIGITS) and number is not None:
        chosen[name] = (number, option.span)
    elif name in _DIGITS and value:
        context.error(f"{text}: a tolerance is a number of digits", option.span, "e.g. TOL=9")
    elif name in ("SUBROUTINES", "LIBRARY") or (text.upper() in _PRECISIONS and not value):
        return  # which precision: there is one only
    elif name is not None and value:
        hint = "write the model in abbreviated code ($PK, $DES, $ERROR, $PRED)"
        context.error(f"{text}: Fortran routines of your own are not supported", option.span, hint)
    else:
        context.error(f"unknown option {text.upper()} of $SUBROUTINES", option.span, suggest(text, _OPTIONS))


def _take_digits(context: Context, line: CodeLine, chosen: dict[str, tuple[int, Span]]) -> None:
    """Take an assignment of $TOL; of different compartments, the most digits hold for all."""
    if isinstance(line, Assignment) and isinstance(line.value, Literal):
        target, digits = line.target, whole(line.value.text)
        name, index = (target.text, 1) if not isinstance(target, Apply) else (target.name, _index(target))
        if name in _OF_TOL and digits is not None and index is not None:
            word = _OF_TOL[name][index == 0]
            if word in chosen and chosen[word][0] != digits:
                context.notice(f"one {word} holds for all compartments: the most accurate", line.span)
                digits = max(digits, chosen[word][0])
            chosen[word] = (digits, line.span)
            return
    context.error("$TOL holds nothing but numbers of digits", line.span, "e.g. NRD(1)=6")


def _index(target: Apply) -> int | None:
    argument = target.arguments[0]
    return whole(argument.text) if len(target.arguments) == 1 and isinstance(argument, Literal) else None


def _subroutines(context: Context, chosen: dict[str, tuple[int, Span]]) -> Subroutines | None:
    advan, span = chosen["ADVAN"]
    trans, trans_span = chosen.get("TRANS", (1, span))
    if advan in _DELAY:
        context.error(
            f"delay differential equations (ADVAN{advan}) are not supported",
            span,
            "a chain of transit compartments (ADVAN13) comes near a delay",
        )
        return None
    if advan not in (*LIBRARY, *LINEAR, *DIFFERENTIAL):
        context.error(f"there is no ADVAN{advan}", span, "ADVAN1 to ADVAN15")
        return None
    if not has_trans(advan, trans):
        context.error(f"ADVAN{advan} has no TRANS{trans}", trans_span, known_trans(advan))
        return None
    tol, tol_span = chosen.get("TOL", (DEFAULT_TOL, span))
    atol, atol_span = chosen.get("ATOL", (DEFAULT_ATOL, span))
    for digits, place in ((tol, tol_span), (atol, atol_span)):
        if not 1 <= digits <= 15:
            context.error("a tolerance is a number of digits from 1 to 15", place)
    if advan in (10, *DIFFERENTIAL) and "TOL" not in chosen:
        context.notice(f"there is no TOL: amounts are accurate to {DEFAULT_TOL} digits", span)
    for word, why in _WITHOUT_EFFECT.items():
        if word in chosen:
            context.notice(f"{word} has no effect: {why}", chosen[word][1])
    return Subroutines(advan, trans, tol, atol, span)
