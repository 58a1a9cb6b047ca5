"""$INPUT: the columns of the data file and what they mean."""

from __future__ import annotations

from dataclasses import replace

from ...engine.ir.dataset import InputColumn, Role
from .clock import DATE_ORDERS
from .context import Context
from .syntax import InputItem

# Of two reserved names of one item, the one that comes first here is its name.
ROLES: dict[str, Role] = {
    "ID": "id",
    "TIME": "time",
    "AMT": "amt",
    "RATE": "rate",
    "II": "ii",
    "ADDL": "addl",
    "SS": "ss",
    "EVID": "evid",
    "CMT": "cmt",
    "DV": "dv",
    "MDV": "mdv",
    "L1": "l1",
    "L2": "l2",
    "CALL": "call",
    "PCMT": "pcmt",
    "CONT": "cont",
    "RAW_": "raw",
    "MRG_": "marginal",
    "RPT_": "repeat",
    **dict.fromkeys(DATE_ORDERS, "date"),
}
_DROP = ("DROP", "SKIP")
_NOT_SUPPORTED = {
    **{f"XVID{i}": "calls with other events (XVID) are not supported" for i in range(1, 6)},
    "REPL_": "a template of data (REPL_) is not supported",
}
_ORDER = list(ROLES)


def lower_columns(context: Context, items: list[InputItem]) -> list[InputColumn]:
    """Return the columns of $INPUT, in the order of the file."""
    columns: list[InputColumn] = []
    for item in items:
        column = _column(context, item)
        earlier = {n for c in columns if c.role != "dropped" for n in (c.name, *c.aliases)}
        again = [n for n in (column.name, *column.aliases) if n in earlier and column.role != "dropped"]
        if again:
            context.error(f"data item {again[0]} is named twice", column.span, "drop one: NAME=DROP")
        columns.append(column)
    columns = _identified(columns)
    place = context.stream.of("INPUT")[0].head
    kept = {c.role for c in columns}
    dates = [c for c in columns if c.role == "date" or _is_date(c)]
    for column in dates[1:]:
        context.error(f"a second date item: {column.name}", column.span, "one date belongs to each TIME")
    if "dv" not in kept:
        context.error("there is no DV in $INPUT", place, "name its column, e.g. DV=CONC")
    if "id" not in kept:
        if context.stream.of("SIGMA"):
            context.error("there is no ID in $INPUT", place, "name its column, e.g. ID=SUBJ")
        else:
            context.notice("there is no ID in $INPUT: all records are those of one subject", place)
    return columns


def date_option(columns: list[InputColumn]) -> tuple[tuple[str, str], ...]:
    """Return the name and the position of the date item as an option of the data's reader."""
    found = next((i for i, c in enumerate(columns) if c.role == "date" or _is_date(c)), None)
    if found is None:
        return ()
    name = next(n for n in (columns[found].name, *columns[found].aliases) if n in DATE_ORDERS)
    return (("DATE", f"{name} {found}"),)


def _is_date(column: InputColumn) -> bool:
    """Tell whether a dropped item is a date: times are computed from it all the same."""
    return column.role == "dropped" and column.name in DATE_ORDERS


def _column(context: Context, item: InputItem) -> InputColumn:
    names = [item.name.text.upper()]
    span = item.name.span
    if item.synonym is not None:
        span = span.to(item.synonym.span)
        if item.synonym.text.upper() not in names:
            names.append(item.synonym.text.upper())
    if any(name in _DROP for name in names):
        label = next((name for name in names if name not in _DROP), names[0])
        return InputColumn(label, "dropped", span=span)
    for name in names:
        if name in _NOT_SUPPORTED:
            context.error(_NOT_SUPPORTED[name], span, "drop the item, or rename it")
    # the reserved name is the name
    names.sort(key=lambda name: _ORDER.index(name) if name in ROLES else len(_ORDER))
    label = _label(item)
    shown = label if label != names[0] else ""
    return InputColumn(names[0], ROLES.get(names[0], "covariate"), tuple(names[1:]), span, shown)


def _label(item: InputItem) -> str:
    """Return what heads the column in tables: the synonym of a reserved name, spelled as it is written."""
    name, synonym = item.name.text, item.synonym
    if synonym is None or synonym.text.upper() in ROLES:
        return name
    return synonym.text if name.upper() in ROLES else ""


def _identified(columns: list[InputColumn]) -> list[InputColumn]:
    """Give L1, where there is one, the role of ID; an ID beside it is an ordinary item."""
    if not any(c.role == "l1" for c in columns):
        return columns
    roles: dict[Role, Role] = {"l1": "id", "id": "covariate"}
    return [replace(c, role=roles.get(c.role, c.role)) for c in columns]
