"""$SUBROUTINES and $MODEL: which compartments there are and how amounts move between them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ...engine.ir.compartment import Compartment, Dynamics, LinearDynamics, OdeDynamics, Transfer
from ...engine.ir.expression import Binary, Expression, Number, Variable
from ...engine.ir.span import Span
from ...engine.ir.statement import Assign, Statement, assignments
from .context import Context
from .numbers import whole
from .option_words import with_values
from .syntax import Compartment as CompartmentSyntax
from .syntax import Option, Word
from .words import resolve, suggest

DEFAULT_TOL = 9  # digits, where $SUBROUTINES gives no TOL
DEFAULT_ATOL = 12
_MOST_COMPARTMENTS = 999

_LIBRARY = {1: ("CENTRAL",), 2: ("DEPOT", "CENTRAL")}
_DIFFERENTIAL = (6, 8, 9, 13, 14, 15)
_STIFF = (8, 9, 14, 15)
_ALL_ADVANS = (*range(1, 19),)
# Names that $PK must assign, by ADVAN and TRANS.
_NEEDED = {
    (1, 1): ("K",),
    (1, 2): ("CL", "V"),
    (2, 1): ("KA", "K"),
    (2, 2): ("KA", "CL", "V"),
}
_NUMBERED = re.compile(r"(ADVAN|TRANS|TOL|ATOL|SS)[=]?(\d{1,6})", re.IGNORECASE)
_OPTIONS = (
    "ADVAN",
    "TRANS",
    "TOL",
    "ATOL",
    "SSTOL",
    "SSATOL",
    "SS",
    "INFN",
    "OTHER",
    "PK",
    "ERROR",
    "MODEL",
    "DES",
    "AES",
    "CONTR",
    "CCONTR",
    "MIX",
    "CRIT",
    "PRED",
    "SUBROUTINES",
    "LIBRARY",
)
_FLAGS = tuple(name for name in _OPTIONS if "TOL" not in name)  # TOL may stand before its value without =
_ATTRIBUTES = ("DEFDOSE", "DEFOBSERVATION", "INITIALOFF", "NOOFF", "NODOSE", "EQUILIBRIUM", "EXCLUDE")


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
        """True where $DES defines the system."""
        return self.advan in _DIFFERENTIAL


@dataclass(frozen=True)
class Layout:
    """The compartments of the system and which of them records mean by default (from 1)."""

    names: tuple[str, ...]
    dose: int
    observation: int


def lower_subroutines(context: Context, records: list[tuple[Option, ...]]) -> Subroutines | None:
    """Return the choice of $SUBROUTINES, or None where there is none or it is not supported."""
    chosen: dict[str, tuple[int, Span]] = {}
    for option in with_values([o for record in records for o in record], _FLAGS, _OPTIONS):
        text = option.name.text if option.value is None else f"{option.name.text}={option.value.text}"
        name = resolve(option.name.text, _OPTIONS)
        value = option.value.text if option.value is not None else ""
        match = _NUMBERED.fullmatch(text) or (_NUMBERED.fullmatch(value) if name else None)
        if match is not None:
            chosen[match.group(1).upper()] = (int(match.group(2)), option.span)
        elif name in ("ADVAN", "TRANS", "TOL", "ATOL", "SSTOL", "SSATOL") and whole(value) is not None:
            chosen[name] = (whole(value) or 0, option.span)
        elif name is not None and option.value is not None:
            context.error(f"{text}: own subroutines are not supported yet", option.span)
        else:
            context.error(
                f"unknown option {text.upper()} of $SUBROUTINES", option.span, suggest(text, _OPTIONS)
            )
    if "ADVAN" not in chosen:
        if records and not context.problems:
            context.error(
                "$SUBROUTINES names no ADVAN", context.stream.of("SUBROUTINES")[0].head, "e.g. ADVAN2"
            )
        return None
    return _subroutines(context, chosen)


def _subroutines(context: Context, chosen: dict[str, tuple[int, Span]]) -> Subroutines | None:
    advan, span = chosen["ADVAN"]
    trans, trans_span = chosen.get("TRANS", (1, span))
    if advan not in _LIBRARY and advan not in _DIFFERENTIAL:
        known = advan in _ALL_ADVANS
        context.error(
            f"ADVAN{advan} is not supported yet" if known else f"there is no ADVAN{advan}",
            span,
            "write the system with $MODEL and $DES (ADVAN13)" if known else "",
        )
        return None
    if advan in _LIBRARY and (advan, trans) not in _NEEDED:
        context.error(f"ADVAN{advan} has no TRANS{trans}", trans_span, "TRANS1 or TRANS2")
        return None
    if advan in _DIFFERENTIAL and trans != 1:
        context.error(f"ADVAN{advan} has no TRANS{trans}", trans_span, "leave TRANS out")
    tol, tol_span = chosen.get("TOL", (DEFAULT_TOL, span))
    atol, atol_span = chosen.get("ATOL", (DEFAULT_ATOL, span))
    for digits, place in ((tol, tol_span), (atol, atol_span)):
        if not 1 <= digits <= 15:
            context.error("a tolerance is a number of digits from 1 to 15", place)
    for word in ("SSTOL", "SSATOL", "SS"):
        if word in chosen:
            context.notice(f"{word} has no effect", chosen[word][1])
    return Subroutines(advan, trans, tol, atol, span)


def lower_layout(
    context: Context, subroutines: Subroutines, records: list[tuple[Option | CompartmentSyntax, ...]]
) -> Layout | None:
    """Return the compartments of a library model or of $MODEL."""
    if not subroutines.is_ode:
        for record in context.stream.of("MODEL", "DES"):
            context.error(
                f"ADVAN{subroutines.advan} has no ${record.name}", record.head, "choose ADVAN13, or remove it"
            )
        names = _LIBRARY[subroutines.advan]
        return Layout(names, 1, len(names))
    if not records:
        context.error(
            f"ADVAN{subroutines.advan} needs $MODEL",
            subroutines.span,
            "e.g. $MODEL COMP=(DEPOT) COMP=(CENTRAL)",
        )
        return None
    return _layout(context, [piece for record in records for piece in record])


def _layout(context: Context, pieces: list[Option | CompartmentSyntax]) -> Layout | None:
    names: list[str] = []
    defaults: dict[str, int] = {}
    count: int | None = None
    span = context.stream.of("MODEL")[0].head
    for piece in pieces:
        if isinstance(piece, Option):
            if piece.name.text.upper().startswith("NC"):
                count = whole(piece.value.text) if piece.value is not None else None
            elif piece.name.text.upper().startswith("NE") and piece.value and piece.value.text != "0":
                context.error("equilibrium compartments are not supported yet", piece.span)
            continue
        name = piece.entries[0].text.upper() if piece.entries else f"COMP{len(names) + 1}"
        names.append(name)
        for word in piece.entries[1:]:
            _attribute(context, word, defaults, len(names))
    if count is not None and not 1 <= count <= _MOST_COMPARTMENTS:
        context.error(f"NCOMPARTMENTS must be 1 to {_MOST_COMPARTMENTS}", span)
    elif count is not None:
        if len(names) > count:
            context.error(f"$MODEL declares {len(names)} compartments but NCOMPARTMENTS={count}", span)
        names += [f"COMP{i + 1}" for i in range(len(names), count)]
    if not names:
        context.error("$MODEL declares no compartment", span, "e.g. COMP=(CENTRAL)")
        return None
    dose = defaults.get("DEFDOSE", _named(names, "DEPOT"))
    return Layout(tuple(names), dose, defaults.get("DEFOBSERVATION", _named(names, "CENTRAL")))


def _attribute(context: Context, word: Word, defaults: dict[str, int], compartment: int) -> None:
    full = resolve(word.text, _ATTRIBUTES)
    if full is None:
        context.error(f"unknown attribute {word.text.upper()}", word.span, suggest(word.text, _ATTRIBUTES))
    elif full in ("DEFDOSE", "DEFOBSERVATION"):
        defaults[full] = compartment
    elif full not in ("NOOFF", "NODOSE"):
        context.error(f"{full} of a compartment is not supported yet", word.span)


def _named(names: list[str], wanted: str) -> int:
    return names.index(wanted) + 1 if wanted in names else 1


def lower_dynamics(
    context: Context,
    subroutines: Subroutines,
    layout: Layout,
    individual: tuple[Statement, ...],
    derivatives: tuple[Statement, ...],
) -> Dynamics | None:
    """Return the dynamics, with the reserved names that $PK assigns in their places."""
    assigned = {statement.target for statement in assignments(individual)}
    compartments = tuple(
        _compartment(name, i, layout, assigned, subroutines) for i, name in enumerate(layout.names, start=1)
    )
    for name in sorted(assigned & {"S0", "SO", "F0", "FO"}):
        context.notice(f"{name} has no effect: there is no output compartment", subroutines.span)
    if subroutines.is_ode:
        given = {statement.target for statement in assignments(derivatives)}
        for i, name in enumerate(layout.names, start=1):
            if f"DADT({i})" not in given:
                place = next((r.head for r in context.stream.of("DES")), subroutines.span)
                context.notice(
                    f"DADT({i}) is not assigned: the amount in {name} changes by doses only", place
                )
                derivatives = (*derivatives, Assign(f"DADT({i})", Number(0.0)))
        return OdeDynamics(
            compartments,
            derivatives,
            layout.dose,
            layout.observation,
            10.0**-subroutines.tol,
            10.0**-subroutines.atol,
            subroutines.advan in _STIFF,
            span=subroutines.span,
        )
    missing = [n for n in _NEEDED[subroutines.advan, subroutines.trans] if n not in assigned]
    if missing and context.stream.of("PK"):
        context.error(
            f"$PK does not assign {' and '.join(missing)}",
            subroutines.span,
            f"ADVAN{subroutines.advan} TRANS{subroutines.trans} needs "
            + ", ".join(_NEEDED[subroutines.advan, subroutines.trans]),
        )
        return None
    elimination: Expression = Variable("K")
    if subroutines.trans == 2:
        elimination = Binary("/", Variable("CL"), Variable("V"))
    transfers = [Transfer(len(compartments), 0, elimination)]
    if subroutines.advan == 2:
        transfers.insert(0, Transfer(1, 2, Variable("KA")))
    return LinearDynamics(
        compartments, tuple(transfers), layout.dose, layout.observation, span=subroutines.span
    )


def _compartment(
    name: str, i: int, layout: Layout, assigned: set[str], subroutines: Subroutines
) -> Compartment:
    def variable(*names: str) -> Variable | None:
        return next((Variable(n) for n in names if n in assigned), None)

    central = not subroutines.is_ode and i == layout.observation
    return Compartment(
        name,
        scale=variable(f"S{i}", *(["SC"] if central else [])),
        bioavailability=variable(f"F{i}"),
        lag=variable(f"ALAG{i}"),
        rate=variable(f"R{i}"),
        duration=variable(f"D{i}"),
        initial=variable(f"A_0({i})"),
    )
