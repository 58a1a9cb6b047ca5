"""$LEVEL: random effects that groups of subjects share."""

from __future__ import annotations

import re

from ...engine.ir.dataset import Inputs
from ...engine.ir.prior import Level
from .context import Context
from .syntax import Option, Word
from .words import suggest

_PAIR = re.compile(r"(\d{1,4})(?:(?::|TO)(\d{1,4})(?:BY([+-]?\d{1,4}))?)?\[(\d{1,4})(?:(?::|TO)\d{1,4})?"
                   r"(?:BY([+-]?\d{1,4}))?\]", re.IGNORECASE)  # fmt: skip


def lower_levels(
    context: Context, records: list[tuple[Option, ...]], inputs: Inputs, n_etas: int
) -> tuple[Level, ...]:
    """Return the levels above the subject, from the lowest to the highest."""
    levels: list[Level] = []
    for option in (o for record in records for o in record):
        column = inputs.resolve(option.name.text)
        if column is None:
            hint = suggest(option.name.text, inputs.names)
            context.error(f"{option.name.text.upper()} is no item of $INPUT", option.name.span, hint)
        elif not option.items:
            hint = "SID=(3[1],4[2]): ETA(3) is shared within equal SID, with ETA(1) nested in it"
            context.error("$LEVEL needs pairs of random effects", option.span, hint)
        else:
            pairs = _pairs(context, option.items, n_etas)
            levels.append(Level(column.name, tuple(pairs), span=option.span))
    return tuple(levels)


def _pairs(context: Context, items: tuple[Word, ...], n_etas: int) -> list[tuple[int, int]]:
    """Return (outer eta, inner eta) of ``n[m]``; in a range ``n TO k BY i[m]`` m counts up with n."""
    span = items[0].span.to(items[-1].span)
    text = "".join(item.text if "]" not in item.text else f"{item.text} " for item in items)
    pairs: list[tuple[int, int]] = []
    for part in text.split():
        match = _PAIR.fullmatch(part)
        if match is None:
            context.error(f"{part} is no pair of random effects", span, "e.g. 3[1], or 3 TO 4[1]")
            return []
        first, last, inner = int(match[1]), int(match[2] or match[1]), int(match[4])
        step = int(match[3] or 1) or 1
        if (last - first) * step < 0:
            step = -step
        inner_step = int(match[5] or match[3] or 1)
        count = (last - first) // step + 1
        pairs += [(first + i * step, inner + i * inner_step) for i in range(count)]
    for eta in (eta for pair in pairs for eta in pair):
        if not 1 <= eta <= n_etas:
            context.error(f"ETA({eta}) of $LEVEL does not exist: $OMEGA has {n_etas}", span)
            break
    return pairs
