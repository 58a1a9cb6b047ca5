"""$INPUT and $DATA: the columns of the data file and which of its lines are records."""

from __future__ import annotations

from ...engine.ir.dataset import InputColumn, Inputs, Role, RowCondition, RowSelection
from ...engine.ir.expression import Comparison
from ...engine.ir.span import Span
from .context import Context
from .numbers import number, whole
from .syntax import Condition, DataSource, InputItem, Option
from .words import resolve, suggest

_ROLES: dict[str, Role] = {
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
}

_UNSUPPORTED_ITEMS = {
    "DATE": "dates",
    "DAT1": "dates",
    "DAT2": "dates",
    "DAT3": "dates",
    "L1": "the L1 data item",
    "L2": "correlated observations (L2)",
    "PCMT": "the PCMT data item",
    "CALL": "the CALL data item",
    "CONT": "the CONT data item",
}

_DROP = ("DROP", "SKIP")

DATA_OPTIONS = (
    "IGNORE",
    "ACCEPT",
    "NULL",
    "RECORDS",
    "RECS",
    "REWIND",
    "NOREWIND",
    "NOOPEN",
    "OPEN",
    "WIDE",
    "NOWIDE",
    "CHECKOUT",
    "LRECL",
    "LAST20",
    "TRANSLATE",
    "BLANKOK",
    "MISDAT",
    "REPL",
    "PRED_IGNORE_DATA",
    "FORMAT",
)
_NO_EFFECT = ("REWIND", "NOREWIND", "OPEN", "WIDE", "NOWIDE", "LRECL", "LAST20", "BLANKOK")

# As NM-TRAN has it: = .EQ. /= .NE. compare texts, the others numbers.
_OPERATORS: dict[str, tuple[Comparison, bool]] = {
    ".EQ.": ("==", False),
    "=": ("==", False),
    "==": ("==", False),
    ".NE.": ("!=", False),
    "/=": ("!=", False),
    ".EQN.": ("==", True),
    ".NEN.": ("!=", True),
    ".LT.": ("<", True),
    "<": ("<", True),
    ".LE.": ("<=", True),
    "<=": ("<=", True),
    ".GT.": (">", True),
    ">": (">", True),
    ".GE.": (">=", True),
    ">=": (">=", True),
}


def lower_inputs(
    context: Context, items: list[tuple[InputItem, ...]], sources: list[DataSource]
) -> Inputs | None:
    """Return the data source of the problem, or None where $INPUT or $DATA is missing."""
    ok = True
    for name, found in (("INPUT", items), ("DATA", sources)):
        if not found:
            context.error(f"there is no ${name}", context.top, f"${name} is needed to read the data")
            ok = False
    if not ok:
        return None
    columns = _columns(context, [item for record in items for item in record])
    file = sources[0].file
    assert file is not None  # the grammar demands it in the first record
    source = DataSource(
        file, tuple(o for s in sources for o in s.options), tuple(f for s in sources for f in s.filters)
    )
    rows = _rows(context, columns, source)
    return Inputs(
        file.text,
        tuple(columns),
        rows,
        span=context.stream.span(context.stream.of("DATA")[0]),
        file_span=file.span,
    )


def _columns(context: Context, items: list[InputItem]) -> list[InputColumn]:
    columns: list[InputColumn] = []
    for item in items:
        column = _column(context, item)
        earlier = {n for c in columns if c.role != "dropped" for n in (c.name, *c.aliases)}
        again = [n for n in (column.name, *column.aliases) if n in earlier and column.role != "dropped"]
        if again:
            context.error(f"data item {again[0]} is named twice", column.span, "drop one: NAME=DROP")
        columns.append(column)
    kept = {c.role for c in columns}
    for role in ("id", "dv"):
        if role not in kept:
            span = context.stream.of("INPUT")[0].head
            context.error(f"there is no {role.upper()} in $INPUT", span, "name its column, e.g. DV=CONC")
    return columns


def _column(context: Context, item: InputItem) -> InputColumn:
    names = [item.name.text.upper()]
    span = item.name.span
    if item.synonym is not None:
        names.append(item.synonym.text.upper())
        span = span.to(item.synonym.span)
    dropped = any(name in _DROP for name in names)
    for name in names:
        if name in _UNSUPPORTED_ITEMS and not (dropped and not name.startswith("DAT")):
            what = _UNSUPPORTED_ITEMS[name]
            context.error(
                f"{what} are not supported yet" if what == "dates" else f"{what}: not supported yet",
                span,
                "rename the item; NM-TRAN computes time from a DATE even when it is dropped"
                if what == "dates"
                else "drop or rename the item",
            )
    if dropped:
        label = next((name for name in names if name not in _DROP), names[0])
        return InputColumn(label, "dropped", span=span)
    names.sort(key=lambda name: name not in _ROLES)  # the reserved name is the name
    return InputColumn(names[0], _ROLES.get(names[0], "covariate"), tuple(names[1:]), span)


def _rows(context: Context, columns: list[InputColumn], source: DataSource) -> RowSelection:
    comment, null, limit = "#", 0.0, None
    until_change: int | None = None
    missing_code: float | None = None
    for option in source.options:
        name = resolve(option.name.text, DATA_OPTIONS)
        if name is None:
            context.error(
                f"unknown option {option.name.text.upper()} of $DATA",
                option.span,
                suggest(option.name.text, DATA_OPTIONS),
            )
        elif name in ("IGNORE", "ACCEPT"):
            if name == "ACCEPT" or option.value is None:
                context.error("ACCEPT needs a list", option.span, "e.g. ACCEPT=(DVID.EQ.1)")
            else:
                comment = option.value.text
        elif name in ("RECORDS", "RECS"):
            limit = whole(option.value.text) if option.value is not None else None
            if option.value is not None and limit is None:
                until_change = _position(context, columns, option.value.text, option.value.span)
        elif name in ("NULL", "MISDAT"):
            value = _number(context, option)
            null, missing_code = (value, missing_code) if name == "NULL" else (null, value)
        elif name == "CHECKOUT":
            context.notice("CHECKOUT has no effect: the data are always checked", option.span)
        elif name not in _NO_EFFECT:
            what = "a FORMAT specification" if name == "FORMAT" else name
            context.error(f"{what} of $DATA is not supported yet", option.span)
    lists: dict[str, list[RowCondition]] = {"IGNORE": [], "ACCEPT": []}
    for word, conditions in source.filters:
        kind = resolve(word.text, ("IGNORE", "ACCEPT"))
        assert kind is not None
        lists[kind] += [c for c in (_condition(context, columns, c) for c in conditions) if c is not None]
    return RowSelection(
        comment, tuple(lists["IGNORE"]), tuple(lists["ACCEPT"]), limit, until_change, null, missing_code
    )


def _number(context: Context, option: Option) -> float:
    value = number(option.value.text) if option.value is not None else None
    if value is None:
        context.error(f"{option.name.text.upper()} needs a number", option.span, "e.g. NULL=-99")
        return 0.0
    return value


def _condition(context: Context, columns: list[InputColumn], condition: Condition) -> RowCondition | None:
    position = _position(context, columns, condition.item.text, condition.item.span)
    operator, numeric = _OPERATORS[condition.operator]
    if numeric and number(condition.value.text) is None:
        context.error(
            f"'{condition.value.text}' is no number", condition.value.span, ".EQ. and .NE. compare texts"
        )
        return None
    if position is None:
        return None
    return RowCondition(position, operator, condition.value.text, numeric)


def _position(context: Context, columns: list[InputColumn], name: str, span: Span) -> int | None:
    wanted = name.upper()
    for i, column in enumerate(columns):
        if wanted in (column.name, *column.aliases):
            return i
    context.error(f"{wanted} is no item of $INPUT", span, suggest(wanted, [c.name for c in columns]))
    return None
