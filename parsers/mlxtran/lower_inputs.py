"""<DATAFILE>: the data file, its columns and what each is used for."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from ...engine.ir.dataset import InputColumn, Inputs, Role
from ...engine.ir.span import Span
from .context import Context, Entry, listed, suggest
from .lexical import Definition, definitions
from .reading import Reading
from .syntax import Item, options, word

_DELIMITERS = {
    "comma": "comma",
    "tab": "tab",
    "space": "space",
    "spaces": "space",
    "semicolon": "semicolon",
    "semicolumn": "semicolon",
}

_ROLES: dict[str, Role] = {
    "identifier": "id",
    "time": "time",
    "amount": "amt",
    "rate": "rate",
    "infusiontime": "dropped",
    "administration": "cmt",
    "observation": "dv",
    "observationtype": "dvid",
    "eventidentifier": "evid",
    "missingdependentvariable": "mdv",
    "censored": "cens",
    "limit": "limit",
    "additionaldose": "addl",
    "interdoseinterval": "ii",
    "steadystate": "ss",
    "occasion": "covariate",
    "regressor": "covariate",
    "covariate": "covariate",
    "ignoredline": "dropped",
    "ignored": "dropped",
    "ignore": "dropped",
}
_SEVERAL = {"covariate", "regressor", "occasion", "ignored", "ignore"}
_KNOWN_OPTIONS = {"use", "name", "yname", "ytype", "type", "categories", "nbdoses", "delimiter"}
_NOT_YET = {
    "FILTER": "filters of the data",
    "APPLICATION": "filters of the data",
}


@dataclass
class DataFile:
    """What the project says of its data.

    ``observations`` are (name in <FIT>, value in the type column, type).
    """

    inputs: Inputs
    reading: Reading
    observations: list[tuple[str, str, str]]
    observation_span: Span | None
    time: str
    covariates: dict[str, str] = field(default_factory=dict)  # name -> continuous | categorical
    administration: str | None = None
    observation_type: str | None = None


def lower_data_file(context: Context) -> DataFile | None:
    """Return the data source of the project, or None where it is not complete."""
    document = context.project
    for block in document.blocks:
        if block.section == "DATA_FORMATTING" and not block.subsection:
            context.error("<DATA_FORMATTING> is not supported yet", block.head, "save the formatted data")
        elif block.section == "DATAFILE" and block.subsection in _NOT_YET and not block.name:
            context.error(
                f"{_NOT_YET[block.subsection]} ([{block.subsection}]) are not supported yet",
                block.head,
                "apply them to the file; to leave them out would change the data",
            )
    found = {
        d.key: d
        for block in document.of("FILEINFO", section="DATAFILE")
        for d in definitions(document, block)
        if isinstance(d, Definition)
    }
    content = context.entries(document, document.of("CONTENT", section="DATAFILE"))
    for key, definition in found.items():
        if key not in ("file", "delimiter", "header"):
            context.notice(f"{key} of [FILEINFO] has no effect", definition.key_span)
    path = _path(context, found.get("file"))
    columns = _header(context, found.get("header"))
    if path is None or columns is None:
        return None
    delimiter = _delimiter(context, found.get("delimiter"))
    file, file_span = path
    inputs = Inputs(file, (), interval_value="start", span=found["file"].key_span, file_span=file_span)
    return _content(context, DataFile(inputs, Reading(delimiter), [], None, ""), columns, content)


def file_name(text: str) -> str | None:
    """Return the path in ``'path'``, ``"path"``, ``{path='path'}`` or bare text, None where there is none."""
    text = text.strip()
    match = re.fullmatch(r"\{\s*path\s*=\s*(.*?)\s*\}", text, re.S)
    text = match.group(1) if match else text
    text = text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text
    return text.replace("\\", "/") or None


def _path(context: Context, definition: Definition | None) -> tuple[str, Span] | None:
    document = context.project
    if definition is None:
        context.error("no data file is named", context.top, "[FILEINFO] needs file = '...'")
        return None
    raw = document.clean[definition.start : definition.stop]
    start = definition.start + len(raw) - len(raw.lstrip())
    name = file_name(raw)
    span = document.source.span(start, start + max(len(raw.strip()), 1))
    if name is None:
        context.error("no data file is named", definition.key_span, "file = '...'")
        return None
    return name, span


def _delimiter(context: Context, definition: Definition | None) -> str:
    if definition is None:
        return ""
    text = context.project.clean[definition.start : definition.stop].strip().strip("'\"").lower()
    if text and text not in _DELIMITERS:
        context.error(f"unknown delimiter '{text}'", definition.key_span, "comma, tab, space or semicolon")
    return _DELIMITERS.get(text, "")


def _header(context: Context, definition: Definition | None) -> list[InputColumn] | None:
    if definition is None:
        context.error("the columns are not named", context.top, "[FILEINFO] needs header = {...}")
        return None
    document = context.project
    columns: list[InputColumn] = []
    raw = document.clean[definition.start : definition.stop]
    for match in re.finditer(r"'[^']*'|\"[^\"]*\"|[^\s,{}'\"]+(?:[ \t]+[^\s,{}'\"]+)*", raw):
        span = document.source.span(definition.start + match.start(), definition.start + match.end())
        columns.append(InputColumn(match.group().strip("'\""), "dropped", span=span))
    if not columns:
        context.error("the header names no column", definition.key_span, "header = {ID, TIME, ...}")
        return None
    return columns


def _content(
    context: Context, data: DataFile, columns: list[InputColumn], content: list[Entry]
) -> DataFile | None:
    before = len(context.problems)
    places = {column.name: i for i, column in reversed(list(enumerate(columns)))}
    uses: dict[str, list[str]] = {}
    for entry in content:
        place = places.get(entry.key)
        chosen = options(entry.value) if entry.value is not None else {}
        use = (word(chosen["use"].value) if "use" in chosen else None) or ""
        if not use and "type" in chosen and word(chosen["type"].value) == "categorical":
            _categories(context, data, entry)
            continue
        use = use.lower()
        if use not in _ROLES:
            context.error(
                f"unknown use '{use}' of column {entry.key}" if use else f"column {entry.key} has no use",
                entry.span,
                suggest(use, _ROLES) or "e.g. {use=covariate, type=continuous}",
            )
        elif place is None and _ROLES[use] == "dropped" and use != "infusiontime":
            continue
        elif place is None:
            context.error(f"the header has no column {entry.key}", entry.span, suggest(entry.key, places))
        elif use in uses and use not in _SEVERAL:
            context.error(f"a second column is used as {use}", entry.span, f"{uses[use][0]} is the first")
        else:
            uses.setdefault(use, []).append(entry.key)
            columns[place] = replace(columns[place], role=_ROLES[use])
            _options(context, data, entry, use)
    for use, example in (("identifier", "ID"), ("time", "TIME"), ("observation", "DV")):
        if use not in uses and len(context.problems) == before:
            context.error(f"no column is used as {use}", context.top, f"[CONTENT] {example} = {{use={use}}}")
    if len(context.problems) > before:
        return None
    data.reading = replace(
        data.reading,
        regressors=tuple(uses.get("regressor", ())),
        occasions=tuple(uses.get("occasion", ())),
        infusion_time=next(iter(uses.get("infusiontime", ())), ""),
        ignored_line=next(iter(uses.get("ignoredline", ())), ""),
        categorical=tuple(name for name, kind in data.covariates.items() if kind == "categorical"),
    )
    data.time = uses["time"][0]
    data.administration = next(iter(uses.get("administration", ())), None)
    data.observation_type = next(iter(uses.get("observationtype", ())), None)
    data.inputs = replace(data.inputs, columns=tuple(columns))
    return data


def _options(context: Context, data: DataFile, entry: Entry, use: str) -> None:
    """Read what else the entry of a column says."""
    assert entry.value is not None
    chosen = options(entry.value)
    for name, item in chosen.items():
        if name not in _KNOWN_OPTIONS:
            context.notice(f"the option {name} of column {entry.key} has no effect", item.span)
    if use == "covariate":
        kind = word(chosen["type"].value) if "type" in chosen else "continuous"
        if kind not in ("continuous", "categorical"):
            context.error(f"unknown type '{kind}' of a covariate", entry.span, "continuous or categorical")
        data.covariates[entry.key] = kind or "continuous"
        if "categories" in chosen:
            _categories(context, data, entry)
    elif use == "observation":
        data.observation_span = entry.span
        names = _words(chosen, "name")
        values = _words(chosen, "yname") or _words(chosen, "ytype")
        kinds = _words(chosen, "type")
        counts = {len(words) for words in (names, values, kinds) if words}
        if len(counts) > 1:
            context.error(
                f"{len(names or values)} names, {len(values)} values and {len(kinds)} types of observations",
                entry.span,
                "one of each for every type of observation",
            )
        for i in range(max(len(names), len(values), len(kinds), 1)):
            value = values[i] if i < len(values) else ""
            name = names[i] if i < len(names) else value or entry.key
            kind = kinds[i].lower() if i < len(kinds) else "continuous"
            data.observations.append((name, value, kind))
    elif use == "steadystate" and "nbdoses" in chosen:
        text = word(chosen["nbdoses"].value) or ""
        if not text.isdigit():
            context.error("nbdoses must be a whole number", chosen["nbdoses"].span)
        else:
            data.reading = replace(data.reading, steady_state_doses=int(text))


def _words(chosen: dict[str, Item], key: str) -> list[str]:
    values = listed(chosen[key].value) if key in chosen else ()
    return [text for node in values if (text := word(node)) is not None]


def _categories(context: Context, data: DataFile, entry: Entry) -> None:
    assert entry.value is not None
    chosen = options(entry.value)
    names = _words(chosen, "categories")
    if names:
        declare_categories(context, data, entry.key, tuple(names), entry.span)


def declare_categories(
    context: Context, data: DataFile, name: str, categories: tuple[str, ...], span: Span
) -> None:
    """Note the categories of a covariate, and report where an earlier list says otherwise."""
    known = data.reading.categories.get(name)
    if known is not None and set(known) != set(categories):
        context.error(
            f"the categories of {name} differ from those given before", span, f"before: {', '.join(known)}"
        )
        return
    if known is None:
        data.reading = replace(data.reading, categories={**data.reading.categories, name: categories})
