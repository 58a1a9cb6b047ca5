"""[COVARIATE]: covariates of the data, their transformations and groups of categories."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...engine.ir.expression import Column, Compare, Expression, Logical, Number, Variable
from ...engine.ir.span import Span
from ...engine.ir.statement import Assign, If, Statement
from .context import Context, Entry, listed, suggest
from .lower_expression import ExpressionLowering
from .lower_inputs import DataFile, declare_categories
from .reading import codes
from .syntax import Apply, Assignment, Braces, Line, options, word


@dataclass(frozen=True)
class Categorical:
    """A categorical covariate: each of its categories, in order, with those of ``column`` in it."""

    column: str
    groups: dict[str, tuple[str, ...]]


@dataclass
class Covariates:
    """What [INDIVIDUAL] may use: continuous covariates as expressions, categorical ones by their groups."""

    context: Context
    data: DataFile
    continuous: dict[str, Expression] = field(default_factory=dict)
    categorical: dict[str, Categorical] = field(default_factory=dict)
    statements: list[Statement] = field(default_factory=list)

    def indicator(self, covariate: str, category: str, span: Span) -> Expression:
        """Return the condition that ``covariate`` is in ``category``."""
        found = self.categorical[covariate]
        numbers = codes(self.data.reading.categories[found.column])
        condition: Expression | None = None
        for text in found.groups[category]:
            equal = Compare("==", Column(found.column), Number(numbers[text]), span=span)
            condition = equal if condition is None else Logical("or", condition, equal, span=span)
        assert condition is not None
        return condition


def lower_covariates(context: Context, data: DataFile) -> Covariates:
    """Read [COVARIATE], and the lists of categories that [INDIVIDUAL] gives."""
    document = context.project
    found = Covariates(context, data)
    for name, kind in data.covariates.items():
        if kind == "continuous":
            found.continuous[name] = Column(name)
    definitions = context.entries(document, document.of("COVARIATE", "DEFINITION"))
    transformed = {entry.key for entry in definitions}
    heads = context.entries(document, [*document.of("COVARIATE"), *document.of("INDIVIDUAL")])
    for entry in heads:
        if entry.value is not None and "categories" in options(entry.value) and entry.key not in transformed:
            _declare(found, entry)
    for name, texts in data.reading.categories.items():
        found.categorical.setdefault(name, Categorical(name, {text: (text,) for text in texts}))
    for entry in definitions:
        _transform(found, entry)
    for line in context.lines(document, document.of("COVARIATE", "EQUATION")):
        _equation(found, line)
    for block in (*document.of("COVARIATE", "PK"), *document.of("COVARIATE", "OUTPUT")):
        context.notice(f"{block.name}: has no place in [COVARIATE]", block.head)
    return found


def _declare(found: Covariates, entry: Entry) -> None:
    assert entry.value is not None
    names = tuple(
        text for node in listed(options(entry.value)["categories"].value) if (text := word(node)) is not None
    )
    kind = found.data.covariates.get(entry.key)
    if kind == "continuous":
        found.context.error(
            f"{entry.key} is a continuous covariate in [CONTENT]", entry.span, "use type=categorical there"
        )
    elif kind is None:
        found.context.notice(f"{entry.key} is no covariate of the data", entry.span)
    elif not names:
        found.context.error(f"{entry.key} has no category", entry.span, "categories={'0', '1'}")
    else:
        declare_categories(found.context, found.data, entry.key, names, entry.span)


def _transform(found: Covariates, entry: Entry) -> None:
    """Read ``tSex = {transform=sex, categories={'F'={'0'}, 'M'={'1'}}, reference='M'}``."""
    context = found.context
    chosen = options(entry.value) if entry.value is not None else {}
    column = word(chosen["transform"].value) if "transform" in chosen else None
    if column is None or "categories" not in chosen:
        context.error(
            f"{entry.key} needs transform and categories", entry.span, "{transform=SEX, categories={F={'0'}}}"
        )
        return
    if found.data.covariates.get(column) != "categorical":
        context.error(
            f"{column} is no categorical covariate",
            chosen["transform"].span,
            suggest(column, found.data.covariates),
        )
        return
    groups: dict[str, tuple[str, ...]] = {}
    value = chosen["categories"].value
    for item in value.items if isinstance(value, Braces) else ():
        name = word(item.key if item.key is not None else item.value)
        members = tuple(text for node in listed(item.value) if (text := word(node)) is not None)
        if name is None or not members:
            context.error("a category needs a name and its members", item.span, "F = {'0'}")
            return
        groups[name] = members
    everything = tuple(text for members in groups.values() for text in members)
    if len(set(everything)) < len(everything):
        context.error(f"a category of {column} is in two groups", chosen["categories"].span)
        return
    declared = found.data.reading.categories.get(column)
    if declared is None:
        declare_categories(context, found.data, column, everything, entry.span)
    elif unknown := [text for text in everything if text not in declared]:
        context.error(f"'{unknown[0]}' is no category of {column}", entry.span, suggest(unknown[0], declared))
        return
    found.categorical[entry.key] = Categorical(column, groups)


def _equation(found: Covariates, line: Line) -> None:
    known = {name: value for name, value in found.continuous.items()}
    for name in found.data.reading.categories:
        known[name] = Column(name)
    statement = lower_line(ExpressionLowering(found.context, known), line)
    if statement is not None:
        found.statements.append(statement)
        targets = [statement.target] if isinstance(statement, Assign) else _targets(statement)
        found.continuous |= {name: Variable(name) for name in targets}


def _targets(statement: Statement) -> list[str]:
    if isinstance(statement, Assign):
        return [statement.target]
    if isinstance(statement, If):
        bodies = [*(body for _, body in statement.branches), statement.otherwise]
        return list(dict.fromkeys(name for body in bodies for s in body for name in _targets(s)))
    return []


def lower_line(lowering: ExpressionLowering, line: Line) -> Statement | None:
    """Return the statement that ``line``, an assignment or a conditional, is; None after a problem."""
    context = lowering.context
    if isinstance(line, Apply):
        context.error(f"the macro {line.name} has no place here", line.span)
        return None
    if isinstance(line, Assignment):
        if len(line.targets) != 1:
            context.error("several variables take the results of pkmodel only", line.span)
            return None
        return Assign(line.targets[0].text, lowering.value(line.value), span=line.span)
    branches = []
    for condition, body in line.branches:
        holds = lowering.condition(condition)
        branches.append((holds, _body(lowering, body)))
    return If(tuple(branches), _body(lowering, line.otherwise), span=line.span)


def _body(lowering: ExpressionLowering, lines: tuple[Line, ...]) -> tuple[Statement, ...]:
    return tuple(s for line in lines if (s := lower_line(lowering, line)) is not None)
