"""Numbers as Fortran edit descriptors print them, in fixed widths that every reader can parse.

Two departures, both because readers stop at them: a three-digit exponent keeps its ``E`` and gives up
digits of the mantissa instead (Fortran drops the ``E``), and NaN and infinity never appear as text (NaN is
printed as 0, infinity as the largest value of the format). Asterisks stand only where not one digit fits.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

_FORMAT = re.compile(
    r"(?P<separator>[s,t;cq])?(?:(?P<scale>-?\d+)P)?,?(?P<kind>ES|[EFG])(?P<width>\d+)\.(?P<decimals>\d+)"
    r"(?:E(?P<exponent>\d+))?(?::\d+)?",
    re.IGNORECASE,
)
_SEPARATORS = {"s": " ", ",": ",", "t": "\t", ";": ";", "c": ",", "q": ","}
_WHOLE_FORMATS = {"CSV": "c1PG23.16", "QCSV": "q1PG23.16"}


@dataclass(frozen=True)
class FieldFormat:
    """A numeric format of output files, such as ``s1PE11.4``: separator, then a Fortran descriptor.

    ``compact`` leaves out all blanks; ``quoted`` puts labels with a comma between quotes.
    """

    separator: str
    kind: Literal["E", "F", "G"]
    width: int
    decimals: int
    scale: int = 0
    exponent_digits: int = 2
    compact: bool = False
    quoted: bool = False

    def number(self, value: float) -> str:
        """Return ``value`` in exactly ``width`` characters."""
        value = _finite(value)
        if self.kind == "F":
            text = f"{value:.{self.decimals}f}" + ("." if self.decimals == 0 else "")
        elif self.kind == "G":
            text = _general(value, self)
        else:
            text = exponent(value, self.decimals, self.scale, self.exponent_digits)
        if len(text) > self.width and text.lstrip("-").startswith("0."):
            text = text.replace("0.", ".", 1)  # Fortran too drops this zero where it does not fit
        if len(text) > self.width:
            text = _squeezed(value, self.width)
        return text.rjust(self.width)

    def label(self, text: str) -> str:
        """Return ``text`` left-justified in ``width`` characters, cut where it is longer."""
        if self.compact:
            return f'"{text}"' if self.quoted and "," in text else text
        return text[: self.width].ljust(self.width)

    def row(self, fields: list[str]) -> str:
        """Return one line of already formatted ``fields``: a blank, then the fields with separators."""
        if self.compact:
            return self.separator.join(field.strip() for field in fields)
        return " " + self.separator.join(fields)


def parse_format(text: str, numbers: str = "1PE11.4") -> FieldFormat:
    """Read a format such as ``s1PE11.4``, ``,1PE13.6``, ``tF10.3`` or ``sG15.9``.

    ``numbers`` is the descriptor where ``text`` is a separator alone. Raises ``ValueError`` where the text is
    no such format.
    """
    if text.strip().lower() in _SEPARATORS:
        text = text.strip() + numbers
    match = _FORMAT.fullmatch(_WHOLE_FORMATS.get(text.strip().upper(), text.strip()))
    if match is None:
        raise ValueError(
            f"'{text}' is not a number format: expected a separator (s, comma or t) and a descriptor, "
            "as in s1PE11.4, ,1PE13.6, sF10.3 or sG15.9"
        )
    kind = match["kind"].upper()
    scale = int(match["scale"] or (1 if kind == "ES" else 0))
    width, decimals = int(match["width"]), int(match["decimals"])
    if kind == "F" and scale != 0:
        raise ValueError(f"'{text}': a scale factor multiplies F numbers by powers of ten; leave it out")
    needed = decimals + (2 if kind == "F" else 7 if scale > 0 else 6)  # sign, point, exponent
    if width < needed:
        raise ValueError(f"'{text}': {width} characters cannot hold a number with {decimals} decimals")
    separator = (match["separator"] or "s").lower()
    return FieldFormat(
        separator=_SEPARATORS[separator],
        kind="E" if kind in ("E", "ES") else ("F" if kind == "F" else "G"),
        width=width,
        decimals=decimals,
        scale=scale,
        exponent_digits=int(match["exponent"] or 2),
        compact=separator in ("c", "q"),
        quoted=separator == "q",
    )


ADDITIONAL = parse_format("s1PE12.5")  # .ext, .phi, .cov, ... where nothing else is asked


def exponent(value: float, decimals: int, scale: int = 1, exponent_digits: int = 2) -> str:
    """Return ``value`` as the descriptor ``kPE`` prints it (k: ``scale``), without padding.

    With k = 1: ``1.10000E+02``; with k = 0: ``0.1100E+03``.
    """
    significant = decimals + 1 if scale > 0 else decimals + scale
    if value == 0:
        digits, power = "0" * significant, 0
    else:
        mantissa, tail = f"{abs(value):.{significant - 1}E}".split("E")
        digits, power = mantissa.replace(".", ""), int(tail) + 1 - scale
    sign = "-" if value < 0 else ""
    if scale > 0:
        before, after = digits[:scale].ljust(scale, "0"), digits[scale:]
    else:
        before, after = "0", "0" * -scale + digits
    return f"{sign}{before}.{after}E{'-' if power < 0 else '+'}{abs(power):0{exponent_digits}d}"


def objective(value: float) -> str:
    """Return an objective, right-justified in 22 characters: 17 significant digits, 15 below 0.1."""
    value = _finite(value)
    if value == 0:
        text = "0." + "0" * 16
    elif 0.1 <= abs(value) < 1e16:
        text = f"{value:.{16 - _power(value, 17)}f}"
    else:
        text = _squeezed(value, 21)
    return text.rjust(22)


def integer(value: float) -> str:
    """Return a count, subject number or ID in 13 characters; an ID that is no integer as a real."""
    if float(value).is_integer() and abs(value) < 1e12:
        return f"{int(value):13d}"
    return " " + ADDITIONAL.number(value)


def _finite(value: float) -> float:
    if math.isnan(value):
        return 0.0
    if math.isinf(value):
        return math.copysign(9.99e99, value)
    return value + 0.0  # no negative zero


def _power(value: float, significant: int) -> int:
    """Return the decimal exponent of ``value`` after rounding to ``significant`` digits."""
    return int(f"{value:.{significant - 1}E}".split("E")[1])


def _general(value: float, form: FieldFormat) -> str:
    digits = form.decimals
    if value == 0:
        return f"{value:.{digits - 1}f}    "
    power = _power(value, digits)
    if -1 <= power < digits:
        return f"{value:.{digits - 1 - power}f}    "
    return exponent(value, digits, form.scale, form.exponent_digits)


def _squeezed(value: float, width: int) -> str:
    """Return ``value`` with as many digits as ``width`` holds."""
    for decimals in range(min(width, 14), -1, -1):
        text = exponent(value, decimals) if decimals else f"{value:.0E}"
        if len(text) <= width:
            return text
    return "*" * width
