"""$INPUT and $DATA: the columns of the data file and which of its lines are records."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ...engine.ir.dataset import InputColumn, Inputs, RowCondition, RowSelection
from ...engine.ir.expression import Comparison
from ...engine.ir.span import Span
from .clock import parse_translate
from .context import Context
from .fixed_width import parse_format
from .input_items import date_option, lower_columns
from .numbers import number, whole
from .option_words import with_values
from .syntax import Condition, DataSource, InputItem, Option, Word
from .words import resolve, suggest

DATA_OPTIONS = (
    "IGNORE",
    "ACCEPT",
    "NULL",
    "RECORDS",
    "RECS",
    "NRECORDS",
    "NRECS",
    "REWIND",
    "NOREWIND",
    "NOOPEN",
    "OPEN",
    "WIDE",
    "NOWIDE",
    "CHECKOUT",
    "CHECKDATA",
    "LRECL",
    "LAST20",
    "TRANSLATE",
    "BLANKOK",
    "MISDAT",
    "REPL",
    "PRED_IGNORE_DATA",
    "NOFDATACSV",
    "FDATACSV",
    "FORMAT",
)
_WITH_VALUE = ("IGNORE", "NULL", "RECORDS", "RECS", "NRECORDS", "NRECS", "LRECL", "LAST20", "MISDAT", "REPL")
_FLAGS = tuple(name for name in DATA_OPTIONS if name not in _WITH_VALUE)
_NO_EFFECT = ("REWIND", "OPEN", "WIDE", "NOWIDE", "LRECL", "NOFDATACSV", "FDATACSV")
_BY_SUBJECT = ("IR", "INDREC", "INDIVIDUALRECORD")

_COMBINED = re.compile(r"\.(AND|OR|NOT)\.", re.IGNORECASE)

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
    context: Context,
    items: list[tuple[InputItem, ...]],
    sources: list[DataSource],
    before: Inputs | None = None,
) -> Inputs | None:
    """Return the data source of the problem, or None where $INPUT or $DATA is missing.

    ``before`` are the inputs of the problem before: where it read a part of the same file, this one goes on
    after it, unless it says REWIND.
    """
    ok = True
    for name, found in (("INPUT", items), ("DATA", sources)):
        if not found:
            context.error(f"there is no ${name}", context.top, f"${name} is needed to read the data")
            ok = False
    if not ok:
        return None
    columns = lower_columns(context, [item for record in items for item in record])
    file = sources[0].file
    assert file is not None  # the grammar demands it in the first record
    source = DataSource(
        file, tuple(o for s in sources for o in s.options), tuple(f for s in sources for f in s.filters)
    )
    reading = _Reading(context, columns, file)
    reading.take(source)
    reading.go_on(before)
    lists = _lists(context, columns, source)
    rows = RowSelection(
        reading.comment,
        tuple(lists["IGNORE"]),
        tuple(lists["ACCEPT"]),
        reading.limit,
        reading.until_change,
        reading.null,
        reading.missing_code,
    )
    return Inputs(
        file.text,
        tuple(columns),
        rows,
        options=(*reading.options, *date_option(columns)),
        span=context.stream.span(context.stream.of("DATA")[0]),
        file_span=file.span,
    )


@dataclass
class _Reading:
    """What the options of $DATA say, but for the lists of conditions."""

    context: Context
    columns: list[InputColumn]
    file: Word
    comment: str = "#"
    null: float = 0.0
    limit: int | None = None
    until_change: int | None = None
    missing_code: float | None = None
    rewind: bool = False
    options: list[tuple[str, str]] = field(default_factory=list)

    def take(self, source: DataSource) -> None:
        """Read all options in order; the last of a kind holds."""
        for option in with_values(source.options, _FLAGS, DATA_OPTIONS):
            name = resolve(option.name.text, DATA_OPTIONS)
            if name is None:
                word = option.name.text.upper()
                hint = suggest(option.name.text, DATA_OPTIONS)
                self.context.error(f"unknown option {word} of $DATA", option.span, hint)
            elif name in _WITH_VALUE or name == "ACCEPT":
                self._with_value(name, option)
            elif name == "TRANSLATE":
                self._translate(option)
            elif name == "FORMAT":
                self._format(option)
            elif name in ("CHECKOUT", "CHECKDATA"):
                self.context.notice("CHECKOUT has no effect: the data are always checked", option.span)
            elif name == "PRED_IGNORE_DATA":
                self.context.error(
                    "PRED_IGNORE_DATA is not supported", option.span, "select records with IGNORE or ACCEPT"
                )
            elif name == "NOOPEN":
                self.context.notice(f"{self.file.text} must be there before the run (NOOPEN)", option.span)
            elif name == "BLANKOK":
                self.options.append((name, ""))
            self.rewind |= name == "REWIND"

    def _with_value(self, name: str, option: Option) -> None:
        text = option.value.text if option.value is not None else ""
        if name == "ACCEPT" or (name == "IGNORE" and not text):
            self.context.error(f"{name} needs a list", option.span, f"e.g. {name}=(DVID.EQ.1)")
        elif name == "IGNORE":
            self.comment = text
        elif "REC" in name and name != "LRECL":
            self._records(option)
        elif name == "NULL":
            self.null = 0.0 if text == "." else self._number(option)
        elif name == "MISDAT" and self.missing_code is None:
            self.missing_code = self._number(option)
        elif name == "MISDAT":
            self.options.append((name, f"{self._number(option):.17g}"))
        elif name == "LAST20":
            self.options.append((name, f"{self._number(option):.0f}"))
        elif name == "REPL" and self._number(option) != 1:
            self.context.error(
                "REPL of $DATA is not supported", option.span, "write the records as often as you want them"
            )

    def _records(self, option: Option) -> None:
        if option.value is None:
            self.context.error("RECORDS needs a number or a data item", option.span, "e.g. RECORDS=100")
            return
        word = option.value
        self.limit = whole(word.text)
        if self.limit is None:
            name = "ID" if word.text.upper() in _BY_SUBJECT else word.text
            self.until_change = _position(self.context, self.columns, name, word.span)

    def _number(self, option: Option) -> float:
        value = number(option.value.text) if option.value is not None else None
        if value is None:
            self.context.error(f"{option.name.text.upper()} needs a number", option.span, "e.g. NULL=-99")
            return 0.0
        return value

    def _translate(self, option: Option) -> None:
        text = option.value.text.strip("() ") if option.value is not None else ""
        if parse_translate(text) is None:
            self.context.error(
                "TRANSLATE is a list of TIME/factor and II/factor", option.span, "e.g. TRANSLATE=(TIME/24/4)"
            )
        self.options.append(("TRANSLATE", text))

    def _format(self, option: Option) -> None:
        text = option.value.text if option.value is not None else ""
        found = parse_format(text)
        if found is None:
            self.context.error("this is no FORMAT specification", option.span, "e.g. (F4.0,3F8.2)")
        elif len(found.fields) != len(self.columns):
            self.context.error(
                f"this FORMAT has {len(found.fields)} fields, $INPUT names {len(self.columns)}", option.span
            )
        self.options.append(("FORMAT", text))

    def go_on(self, before: Inputs | None) -> None:
        """Leave out what the problem before has read of the same file."""
        if before is None or before.file != self.file.text or self.rewind:
            return
        if before.file_span == self.file.span:  # the same record, for the same records again
            self.options += [option for option in before.options if option[0] == "SKIP_RECORDS"]
            return
        if before.rows.until_change is not None:
            self.context.error(
                "this problem would go on in the middle of the data file, after RECORDS=label",
                self.file.span,
                "give the problem before a number of RECORDS, or this one REWIND",
            )
        elif before.rows.limit is not None:
            skipped = int(dict(before.options).get("SKIP_RECORDS", "0")) + before.rows.limit
            self.options.append(("SKIP_RECORDS", str(skipped)))


def _lists(context: Context, columns: list[InputColumn], source: DataSource) -> dict[str, list[RowCondition]]:
    """Return the conditions of all IGNORE and of all ACCEPT lists."""
    lists: dict[str, list[RowCondition]] = {"IGNORE": [], "ACCEPT": []}
    for word, conditions in source.filters:
        kind = resolve(word.text, ("IGNORE", "ACCEPT"))
        assert kind is not None
        lists[kind] += [c for c in (_condition(context, columns, c) for c in conditions) if c is not None]
        if lists["IGNORE"] and lists["ACCEPT"]:
            context.notice(
                "NM-TRAN takes no IGNORE list beside an ACCEPT list; here both must hold", word.span
            )
    return lists


def _condition(context: Context, columns: list[InputColumn], condition: Condition) -> RowCondition | None:
    position = _position(context, columns, condition.item.text, condition.item.span)
    operator, numeric = _OPERATORS[condition.operator]
    if _COMBINED.search(condition.value.text):
        context.error(
            "a condition of IGNORE and ACCEPT compares one item with one value",
            condition.value.span,
            "commas mean OR; IGNORE=(A.EQ.1.AND.B.EQ.2) is ACCEPT=(A.NE.1,B.NE.2)",
        )
        return None
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
