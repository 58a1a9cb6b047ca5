"""$MODEL: the compartments of the system and their attributes."""

from __future__ import annotations

from dataclasses import dataclass, field

from .context import Context
from .library import COMPARTMENTS
from .numbers import whole
from .subroutines import LINEAR, WITH_EQUILIBRIUM, Subroutines
from .syntax import Compartment, Option, Word
from .words import resolve, suggest

_MOST_COMPARTMENTS = 999
_ATTRIBUTES = ("DEFDOSE", "DEFOBSERVATION", "INITIALOFF", "NOOFF", "NODOSE", "EQUILIBRIUM", "EXCLUDE")


@dataclass(frozen=True)
class Layout:
    """The compartments of the system and which of them records mean by default (from 1).

    ``attributes`` are those of $MODEL that switch something, by compartment.
    """

    names: tuple[str, ...]
    dose: int
    observation: int
    attributes: tuple[frozenset[str], ...] = field(default=())

    def has(self, compartment: int, attribute: str) -> bool:
        """Tell whether a compartment (from 1) has an attribute."""
        return bool(self.attributes) and attribute in self.attributes[compartment - 1]


def lower_layout(
    context: Context, subroutines: Subroutines, records: list[tuple[Option | Compartment, ...]]
) -> Layout | None:
    """Return the compartments of a library model or of $MODEL."""
    advan = subroutines.advan
    if not subroutines.has_model:
        names = COMPARTMENTS[advan]
        for record in context.stream.of("MODEL", "DES", "AES"):
            if advan == 10 and record.name == "DES":
                context.notice("$DES has no effect beside ADVAN10, whose equation is known", record.head)
            else:
                hint = "choose ADVAN13, or remove it"
                context.error(f"ADVAN{advan} has no ${record.name}", record.head, hint)
        # a depot may be turned off, the others may not
        fixed = tuple(frozenset[str]() if name == "DEPOT" else frozenset({"NOOFF"}) for name in names)
        return Layout(names, 1, names.index("CENTRAL") + 1, fixed)
    if advan in LINEAR:
        for record in context.stream.of("DES"):
            context.error(
                f"ADVAN{advan} has no $DES", record.head, "choose ADVAN13, or assign K12 and the like in $PK"
            )
    if not records:
        hint = "e.g. $MODEL COMP=(DEPOT) COMP=(CENTRAL)"
        context.error(f"ADVAN{advan} needs $MODEL", subroutines.span, hint)
        return None
    return _Layout(context, subroutines).of([piece for record in records for piece in record])


class _Layout:
    def __init__(self, context: Context, subroutines: Subroutines) -> None:
        self._context = context
        self._subroutines = subroutines
        self._names: list[str] = []
        self._attributes: list[set[str]] = []
        self._count: int | None = None
        self._equilibrium = 0

    def of(self, pieces: list[Option | Compartment]) -> Layout | None:
        """Return the layout that the pieces of $MODEL describe."""
        for piece in pieces:
            if isinstance(piece, Option):
                self._option(piece)
            else:
                self._compartment(piece)
        self._fill_up()
        if not self._names:
            place = self._context.stream.of("MODEL")[0].head
            self._context.error("$MODEL declares no compartment", place, "e.g. COMP=(CENTRAL)")
            return None
        for given in self._attributes[len(self._names) - self._equilibrium :]:
            given.add("EQUILIBRIUM")
        for given in self._attributes:
            if "EQUILIBRIUM" in given:
                given.add("NODOSE")
        taking = [i for i, given in enumerate(self._attributes, start=1) if "NODOSE" not in given]
        depot = [i for i in taking if self._names[i - 1] == "DEPOT"]
        central = [i for i, name in enumerate(self._names, start=1) if name == "CENTRAL"]
        return Layout(
            tuple(self._names),
            self._with("DEFDOSE") or next(iter((*depot, *taking, 1))),
            self._with("DEFOBSERVATION") or next(iter((*central, 1))),
            tuple(frozenset(given) for given in self._attributes),
        )

    def _with(self, attribute: str) -> int:
        """Return the last compartment with ``attribute``, 0 where none has it."""
        found = [i for i, given in enumerate(self._attributes, start=1) if attribute in given]
        return found[-1] if found else 0

    def _option(self, option: Option) -> None:
        word = option.name.text.upper()
        number = whole(option.value.text) if option.value is not None else None
        if word.startswith("LINK"):
            hint = "assign the rate constants (K12, K1T2) in $PK"
            self._context.error("LINK of $MODEL is not supported", option.span, hint)
        elif word.startswith("NC"):
            self._count = number
        elif word.startswith("NE"):
            self._equilibrium = max(number or 0, 0)
            self._may_be_equilibrium(option.name) if self._equilibrium else None
        elif word.startswith("I_SS") and number:
            hint = "give a dose record with SS=1, AMT=0 and RATE=0, or initial amounts A_0(n)"
            self._context.error("an initial steady state (I_SS) is not supported", option.span, hint)

    def _may_be_equilibrium(self, word: Word) -> None:
        if self._subroutines.advan not in WITH_EQUILIBRIUM:
            self._context.error(
                f"ADVAN{self._subroutines.advan} has no equilibrium compartments", word.span, "choose ADVAN9"
            )

    def _compartment(self, piece: Compartment) -> None:
        entries = list(piece.entries)
        number = len(self._names) + 1
        # without a name, the first word may be an attribute already
        named = bool(entries) and (_is_quoted(entries[0]) or resolve(entries[0].text, _ATTRIBUTES) is None)
        self._names.append(entries.pop(0).text.upper() if named else f"COMP{number}")
        given: set[str] = set()
        self._attributes.append(given)
        for word in entries:
            full = resolve(word.text, _ATTRIBUTES)
            if full is None:
                hint = suggest(word.text, _ATTRIBUTES)
                self._context.error(f"unknown attribute {word.text.upper()}", word.span, hint)
                continue
            if full == "EQUILIBRIUM":
                self._may_be_equilibrium(word)
            elif full == "EXCLUDE":
                self._context.notice(
                    "EXCLUDE has no effect: the output compartment takes what leaves", word.span
                )
            given.add(full)

    def _fill_up(self) -> None:
        """Add the compartments that NCOMPARTMENTS counts and nothing names."""
        place = self._context.stream.of("MODEL")[0].head
        if self._count is None:
            return
        if not 1 <= self._count <= _MOST_COMPARTMENTS:
            self._context.error(f"NCOMPARTMENTS must be 1 to {_MOST_COMPARTMENTS}", place)
            return
        if len(self._names) > self._count:
            self._context.error(
                f"$MODEL declares {len(self._names)} compartments but NCOMPARTMENTS={self._count}", place
            )
        for number in range(len(self._names) + 1, self._count + 1):
            self._names.append(f"COMP{number}")
            self._attributes.append(set())


def _is_quoted(word: Word) -> bool:
    return word.span.stop - word.span.start > len(word.text)
