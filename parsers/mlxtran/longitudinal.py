"""[LONGITUDINAL]: the project's part and the model file's, as one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ...engine.ir.expression import Column, Expression, Variable
from ...engine.ir.span import Span
from ..source import read_source
from .context import Context, Entry, suggest
from .lexical import Block, Definition, Document, definitions, read_document
from .lower_inputs import DataFile, file_name
from .syntax import Braces, Line, Name, Node, elements, options, word

_PARTS = {"", "INPUT", "PK", "EQUATION", "DEFINITION", "OUTPUT", "DESCRIPTION", "OBSERVATION"}


@dataclass
class Longitudinal:
    """Inputs, equations in the order of the text, definitions of observations, and names of outputs.

    ``names`` are the inputs by what they stand for; ``missing`` says why a name may not be used.
    """

    names: dict[str, Expression] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)
    observations: list[tuple[Document, Definition]] = field(default_factory=list)
    outputs: list[tuple[str, Span]] = field(default_factory=list)


@dataclass
class _Inputs:
    """The inputs of all parts: places by name, and which are regressors."""

    places: dict[str, Span] = field(default_factory=dict)
    regressors: list[str] = field(default_factory=list)


def lower_longitudinal(context: Context, data: DataFile, individual: list[str]) -> Longitudinal | None:
    """Read [LONGITUDINAL] of the project and its model file; None where that is missing."""
    project = context.project
    head = project.of("LONGITUDINAL", section="MODEL")
    if not head:
        context.error("there is no [LONGITUDINAL]", context.top, "<MODEL> needs [LONGITUDINAL]")
        return None
    parts: list[tuple[Document, list[Block]]] = []
    named = [
        d
        for block in head
        for d in definitions(project, block)
        if isinstance(d, Definition) and d.key == "file"
    ]
    if named:
        document = _model_file(context, named[0])
        if document is None:
            return None
        parts.append((document, _longitudinal_blocks(context, document)))
    parts.append((project, [b for b in project.blocks if b.subsection == "LONGITUDINAL"]))
    found, inputs = Longitudinal(), _Inputs()
    for document, blocks in parts:
        for block in blocks:
            _read(context, found, inputs, document, block)
    _resolve(context, found, inputs, data, individual)
    return found


def _model_file(context: Context, definition: Definition) -> Document | None:
    raw = context.project.clean[definition.start : definition.stop]
    name = file_name(raw)
    start = definition.start + len(raw) - len(raw.lstrip())
    span = context.project.source.span(start, start + max(1, len(raw.strip())))
    if name is None:
        context.error("no model file is named", definition.key_span, "file = 'model.txt'")
        return None
    if name.lower().startswith("lib:"):
        context.error(
            f"models of the library ({name}) are not supported yet",
            span,
            "save the text of the model beside the project and name it here",
        )
        return None
    path = Path(context.project.source.path).parent / name
    try:
        source = read_source(path)
    except OSError as error:
        context.error(
            f"cannot read the model file {path}: {error.strerror or type(error).__name__}",
            span,
            "a relative path starts at the project's folder",
        )
        return None
    context.add_source(source)
    return read_document(source)


def _longitudinal_blocks(context: Context, document: Document) -> list[Block]:
    """Return the blocks of a model file that make the structural model; others are not used by a project."""
    sections = {b.subsection for b in document.blocks}
    wanted = "LONGITUDINAL" if "LONGITUDINAL" in sections else ""
    for block in document.blocks:
        if block.subsection not in (wanted, "") and not block.name:
            context.notice(
                f"[{block.subsection}] of the model file has no effect: the project has its own", block.head
            )
    return [b for b in document.blocks if b.subsection == wanted]


def _read(context: Context, found: Longitudinal, inputs: _Inputs, document: Document, block: Block) -> None:
    if block.name in ("", "INPUT"):
        entries = [
            d for d in definitions(document, block) if not (isinstance(d, Definition) and d.key == "file")
        ]
        if entries:
            for entry in context.entries(document, [block]):
                if entry.key != "file":
                    _input(context, inputs, entry)
    elif block.name in ("PK", "EQUATION"):
        found.lines += context.lines(document, [block])
    elif block.name == "DEFINITION" or (block.name == "OBSERVATION" and document is context.project):
        for definition in definitions(document, block):
            if isinstance(definition, Definition):
                found.observations.append((document, definition))
            else:
                context.problems.append(definition)
    elif block.name == "OUTPUT":
        for entry in context.entries(document, [block]):
            if entry.key in ("output", "table"):
                if entry.key == "output":
                    found.outputs += [(name, entry.span) for name in entry.names]
            else:
                context.notice(f"{entry.key} of OUTPUT: has no effect", entry.span)
    elif block.name == "OBSERVATION":
        context.notice("OBSERVATION: of the model file has no effect", block.head)
    elif block.name not in _PARTS:
        context.notice(f"the block {block.name}: is not known and has no effect", block.head)


def _input(context: Context, inputs: _Inputs, entry: Entry) -> None:
    value = entry.value
    if value is None:
        return
    if entry.key in ("input", "parameter", "regressor"):
        inner = options(value)
        if entry.key == "input" and isinstance(value, Braces) and {"parameter", "regressor"} & set(inner):
            for key, item in inner.items():
                _names(context, inputs, item.value, key == "regressor")
        else:
            _names(context, inputs, value, entry.key == "regressor")
        return
    use = options(value).get("use")
    if use is not None and word(use.value) == "regressor":
        inputs.regressors.append(entry.key)
        inputs.places.setdefault(entry.key, entry.span)
    elif use is not None and word(use.value) == "parameter":
        inputs.places.setdefault(entry.key, entry.span)
    else:
        context.notice(f"{entry.key} of [LONGITUDINAL] is not known and has no effect", entry.span)


def _names(context: Context, inputs: _Inputs, node: Node, regressor: bool) -> None:
    for element in elements(node):
        if not isinstance(element, Name):
            context.error("an input is a name", element.span)
            continue
        inputs.places.setdefault(element.text, element.span)
        if regressor:
            inputs.regressors.append(element.text)


def _resolve(
    context: Context, found: Longitudinal, inputs: _Inputs, data: DataFile, individual: list[str]
) -> None:
    """Say what every input stands for: regressors by name, else in order."""
    columns = list(data.reading.regressors)
    regressors = list(dict.fromkeys(inputs.regressors))
    by_name = all(name in columns for name in regressors)
    populations = {
        e.key for e in context.entries(context.project, context.project.of("", section="PARAMETER"))
    }
    for i, name in enumerate(regressors):
        if by_name or i < len(columns):
            found.names[name] = Column(name if by_name else columns[i])
        else:
            context.error(
                f"the regressor {name} has no column",
                inputs.places[name],
                f"{name} = {{use=regressor}} in [CONTENT]",
            )
            found.names[name] = Variable(name)
    for name, span in inputs.places.items():
        if name in found.names:
            continue
        if name in individual:
            found.names[name] = Variable(name)
        elif name in populations:
            found.missing[name] = f"{name} is a population parameter; equations need individual ones"
        else:
            context.error(
                f"the input {name} is defined nowhere",
                span,
                suggest(name, individual) or "define it in [INDIVIDUAL], or as a regressor",
            )
            found.names[name] = Variable(name)
    found.missing |= {
        name: f"{name} is not among the inputs of [LONGITUDINAL]"
        for name in individual
        if name not in found.names
    }
