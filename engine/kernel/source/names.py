"""Names, values and lines of generated source text."""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass, field

INDENT = "    "


@dataclass(frozen=True)
class Value:
    """The text that reads a value, and those that read its derivatives, by direction.

    Without ``tangent`` the value is constant in every direction.
    """

    code: str
    tangent: dict[int, str] = field(default_factory=dict)


ZERO_VALUE = Value("0.0")


class Names:
    """Identifiers for names of the model: readable, and each given once."""

    def __init__(self, reserved: tuple[str, ...] = ()) -> None:
        self._used = set(reserved)

    def fresh(self, name: str) -> str:
        """Return a new identifier that looks like ``name``."""
        base = re.sub(r"_+$", "", re.sub(r"[^0-9A-Za-z]+", "_", name)) or "v"
        if base[0].isdigit() or keyword.iskeyword(base):
            base = f"v_{base}"
        found, count = base, 1
        while found in self._used:
            count += 1
            found = f"{base}_{count}"
        self._used.add(found)
        return found


class Block:
    """Lines of one block: values, slopes of the expressions, and derivatives along the directions.

    Where ``interleaved``, all three are one list.
    """

    def __init__(self, interleaved: bool = False) -> None:
        self.values: list[str] = []
        self.partials: list[str] = self.values if interleaved else []
        self.tangents: list[str] = self.values if interleaved else []


def indented(lines: list[str], depth: int = 1) -> list[str]:
    """Return ``lines`` moved to the right."""
    return [INDENT * depth + line for line in lines]
