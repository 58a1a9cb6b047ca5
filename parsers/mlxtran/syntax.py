"""The syntax tree of Mlxtran: close to the text, every node with its place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ...engine.ir.span import Span


@dataclass(frozen=True)
class Literal:
    """A number as written."""

    text: str
    span: Span


@dataclass(frozen=True)
class Name:
    """An identifier, or a bare word such as ``no-variability``."""

    text: str
    span: Span


@dataclass(frozen=True)
class Quoted:
    """A quoted text, without its quotes."""

    text: str
    span: Span


@dataclass(frozen=True)
class Prefix:
    """A sign or a negation before an operand."""

    operator: str
    operand: Node
    span: Span


@dataclass(frozen=True)
class Infix:
    """Two operands and the operator between them."""

    operator: str
    left: Node
    right: Node
    span: Span


@dataclass(frozen=True)
class Item:
    """An item of a list or of arguments: ``key = value``, or a value alone."""

    key: Node | None
    value: Node
    span: Span


@dataclass(frozen=True)
class Apply:
    """A name with arguments: a function, a macro, a task."""

    name: str
    items: tuple[Item, ...]
    span: Span


@dataclass(frozen=True)
class Braces:
    """A list in braces."""

    items: tuple[Item, ...]
    span: Span


Node = Literal | Name | Quoted | Prefix | Infix | Apply | Braces


@dataclass(frozen=True)
class Assignment:
    """``target = value``; several targets for macros with several results."""

    targets: tuple[Name, ...]
    value: Node
    span: Span


@dataclass(frozen=True)
class Conditional:
    """``if ... elseif ... else ... end``."""

    branches: tuple[tuple[Node, tuple[Line, ...]], ...]
    otherwise: tuple[Line, ...]
    span: Span


Line = Assignment | Conditional | Apply


def elements(node: Node) -> tuple[Node, ...]:
    """Return the values of a list, or the node itself: a list of one may drop its braces."""
    return tuple(item.value for item in node.items) if isinstance(node, Braces) else (node,)


def word(node: Node | None) -> str | None:
    """Return the text of a name, number or quoted text, else None."""
    return node.text if isinstance(node, Name | Literal | Quoted) else None


def options(node: Node) -> dict[str, Item]:
    """Return the items of a list by key, the first of each; an item without key is a flag, its own key."""
    found: dict[str, Item] = {}
    for item in node.items if isinstance(node, Braces) else ():
        key = word(item.key if item.key is not None else item.value)
        if key is not None:
            found.setdefault(key, item)
    return found


def assigned(lines: tuple[Line, ...] | list[Line]) -> Iterator[Name]:
    """Yield every target assigned anywhere in ``lines``."""
    for line in lines:
        if isinstance(line, Assignment):
            yield from line.targets
        elif isinstance(line, Conditional):
            for _, body in line.branches:
                yield from assigned(body)
            yield from assigned(line.otherwise)
