"""Covariate effects as abbreviated code, the way one would write it by hand.

Where the eta stands in ``EXP(ETA(n))`` the effect is a factor: ``KAWT = (WT/70)**THETA(4)`` before the
statement, and ``KAWT*EXP(ETA(n))`` in it. Elsewhere (MU coding, additive and logit parameters) it is a term
beside the eta: ``KAWT = THETA(4)*LOG(WT/70)`` and ``ETA(n)+KAWT``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ...engine.ir.dataflow import dataflow, individual_statements
from ...engine.ir.effects import Effect
from ...engine.ir.expression import Binary, Call, Eta, Expression, Negative, children
from ...engine.ir.model import Model
from ...engine.ir.mu import holder
from ...engine.ir.span import Span
from ...engine.ir.statement import Statement, assignments
from ...engine.selection.outcome import EffectResult
from .text_edit import Edit, line_end, line_start

_LONGEST_NAME = 20
_ALIAS = re.compile(r"""([A-Za-z_]\w*(?:\s*\(\s*\w+\s*\))?)\s*=\s*["']?\Z""")  # left of what replaces it


def effect_edits(model: Model, chosen: Sequence[EffectResult]) -> list[Edit]:
    """Return the edits that put ``chosen`` into the code of ``model``.

    Raises
    ------
    ValueError
        Where the text names an eta in a way that is not understood.
    """
    taken = _names(model)
    edits: list[Edit] = []
    by_eta: dict[int, list[EffectResult]] = {}
    for result in chosen:
        by_eta.setdefault(result.effect.eta, []).append(result)
    flow = dataflow(model)
    for eta, results in by_eta.items():
        place = holder(flow, eta)
        assert place is not None
        statement = individual_statements(model)[flow.definitions[place].position]
        edits += _statement_edits(model, statement, eta, results, taken)
    return edits


def _statement_edits(
    model: Model, statement: Statement, eta: int, results: list[EffectResult], taken: set[str]
) -> list[Edit]:
    text = model.source
    assert statement.span is not None
    found = list(_etas(statement, eta))
    places = _places(text, statement.span, [node for node, _ in found])
    factor = all(isinstance(parent, Call) and parent.function == "exp" for _, parent in found)
    by_covariate: dict[str, list[EffectResult]] = {}
    for result in results:
        by_covariate.setdefault(result.effect.covariate, []).append(result)
    lines: list[str] = []
    names: list[str] = []
    for covariate, group in by_covariate.items():
        name = _new_name(f"{group[0].effect.parameter}{covariate}", taken)
        names.append(name)
        lines += _definition(name, group, factor)
    edits = [_insertion(text, statement.span, lines)]
    for (node, parent), (start, stop) in zip(found, places, strict=True):
        if factor:
            assert parent is not None and parent.span is not None
            edits.append(Edit(parent.span.start, parent.span.start, "*".join(names) + "*", code=True))
            continue
        written = text[start:stop] + "".join(f"+{name}" for name in names)
        if isinstance(parent, Negative) or (isinstance(parent, Binary) and not _keeps_sum(parent, node)):
            written = f"({written})"
        edits.append(Edit(start, stop, written, code=True))
    return edits


def _places(text: str, statement: Span, nodes: list[Eta]) -> list[tuple[int, int]]:
    """Return where the statement's text names the eta: at the nodes, or by a name that $ABBR replaces."""
    spans = [node.span for node in nodes if node.span is not None]
    if len(spans) == len(nodes) and all(statement.start <= s.start < statement.stop for s in spans):
        return [(s.start, s.stop) for s in spans]
    alias = _ALIAS.search(text, 0, spans[0].start) if spans else None
    if alias is not None:
        written = r"\s*".join(re.escape(part) for part in re.findall(r"\w+|\S", alias.group(1)))
        pattern = re.compile(rf"(?<!\w){written}(?!\w)", re.IGNORECASE)
        matches = list(pattern.finditer(text, statement.start, line_end(text, statement.stop)))
        if len(matches) == len(nodes):
            return [match.span() for match in matches]
    raise ValueError(f"{statement}: the name of the random effect was not found, so no effect can be added.")


def _definition(name: str, group: list[EffectResult], factor: bool) -> list[str]:
    """Return the statements that assign the effect of one covariate on one parameter."""
    first = group[0].effect
    if first.form == "cat":
        lines = [f"{name} = {1 if factor else 0}"]
        for result in group:
            assert result.effect.level is not None
            value = f"EXP(THETA({result.theta}))" if factor else f"THETA({result.theta})"
            lines.append(f"IF ({first.covariate}.EQ.{_number(result.effect.level)}) {name} = {value}")
        return lines
    theta = f"THETA({group[0].theta})"
    if first.form == "power":
        ratio = f"{first.covariate}/{_number(first.reference)}"
        return [f"{name} = ({ratio})**{theta}" if factor else f"{name} = {theta}*LOG({ratio})"]
    term = f"{theta}*{_difference(first)}"
    return [f"{name} = EXP({term})" if factor else f"{name} = {term}"]


def _difference(effect: Effect) -> str:
    if effect.reference == 0:
        return effect.covariate
    sign = "-" if effect.reference > 0 else "+"
    return f"({effect.covariate}{sign}{_number(abs(effect.reference))})"


def _insertion(text: str, span: Span, lines: list[str]) -> Edit:
    """Return the edit that puts ``lines`` before the statement at ``span``, indented like it."""
    start = line_start(text, span.start)
    lead = text[start : span.start]
    if lead.strip():  # the statement shares its line with the name of the record
        return Edit(span.start, span.start, "".join(f"{line}\n " for line in ["", *lines]).lstrip(" "))
    return Edit(start, start, "".join(f"{lead}{line}\n" for line in lines))


def _etas(statement: Statement, eta: int) -> Iterator[tuple[Eta, Expression | None]]:
    """Yield every node of ``eta`` with the expression right above it."""

    def below(node: Expression, parent: Expression | None) -> Iterator[tuple[Eta, Expression | None]]:
        if isinstance(node, Eta) and node.index == eta:
            yield node, parent
        for child in children(node):
            yield from below(child, node)

    for assignment in assignments((statement,)):
        yield from below(assignment.value, None)


def _keeps_sum(parent: Binary, node: Expression) -> bool:
    """Return whether ``node`` + x needs no parentheses below ``parent``."""
    return parent.operator == "+" or (parent.operator == "-" and parent.left is node)


def _names(model: Model) -> set[str]:
    """Return every name that the model's code knows, in upper case."""
    words = re.findall(r"[A-Za-z_]\w*", re.sub(r";[^\n]*", "", model.source))
    return {word.upper() for word in words}


def _new_name(wanted: str, taken: set[str]) -> str:
    name = wanted.upper()[:_LONGEST_NAME]
    number = 2
    while name in taken:
        name = f"{wanted.upper()[: _LONGEST_NAME - 2]}{number}"
        number += 1
    taken.add(name)
    return name


def _number(value: float) -> str:
    return f"{value:.10G}"
