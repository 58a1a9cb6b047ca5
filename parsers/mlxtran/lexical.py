"""The layout of Mlxtran: comments, sections, blocks, and where one definition ends and the next begins.

``<SECTION>``, ``[SUBSECTION]`` and ``BLOCK:`` stand on lines of their own. A definition ``name = value``
begins on a new line and goes on while brackets are open or the next line begins no other definition.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ...engine.ir.span import Span
from ..problem import Problem
from ..source import Source

_HEAD = re.compile(
    r"^[ \t]*(?:<[ \t]*(?P<angle>[A-Za-z_]+)[ \t]*>|\[[ \t]*(?P<square>[A-Za-z_]+)[ \t]*\]"
    r"|(?P<block>[A-Za-z_]+):)"
    r"(?P<rest>[^\n]*)$",
    re.M,
)
_BLOCKS = {
    "DESCRIPTION", "EQUATION", "DEFINITION", "PK", "OUTPUT", "INPUT", "OBSERVATION", "PARAMETERS",
    "GLOBAL", "POPULATION", "INDIVIDUAL", "FIM", "LL", "REPORTING", "STATISTICALTESTS", "PLOTS",
}  # fmt: skip
_BEGINS = re.compile(
    r"[ \t]*(?P<key>'[^'\n]*'|\"[^\"\n]*\"|[^\s={}(),<>\[\]'\"][^={}(),'\"\n]*?)[ \t]*(?P<mark>=(?!=)|\()"
)
_OPENING, _CLOSING = "({", ")}"
_DANGLING = "+-*/^=<>&|,~!"


@dataclass(frozen=True)
class Block:
    """The content of one block: the characters from ``start`` to ``stop``, under its section names."""

    section: str  # of <SECTION>; empty in a model file
    subsection: str  # of [SUBSECTION]
    name: str  # of BLOCK:; empty before the first
    head: Span
    start: int
    stop: int


@dataclass(frozen=True)
class Definition:
    """``key = value`` or ``key(...)`` by its places; ``is_call`` tells which."""

    key: str
    key_span: Span
    is_call: bool
    start: int  # of the value, or of the call
    stop: int


@dataclass(frozen=True)
class Document:
    """One file: its text with comments as blanks, and its blocks in order."""

    source: Source
    clean: str
    blocks: tuple[Block, ...]

    def of(self, subsection: str, name: str = "", section: str | None = None) -> list[Block]:
        """Return the blocks under these names, under any section if ``section`` is None."""
        return [
            b
            for b in self.blocks
            if b.subsection == subsection and b.name == name and section in (None, b.section)
        ]

    def text(self, block: Block) -> str:
        """Return the content of ``block`` without comments."""
        return self.clean[block.start : block.stop]


def read_document(source: Source) -> Document:
    """Cut ``source`` into its blocks."""
    clean = without_comments(source.text)
    blocks: list[Block] = []
    section = subsection = name = ""
    head, start, described = source.span(0, 0), 0, False
    for match in _HEAD.finditer(clean):
        block = (match["block"] or "").upper()
        inline = match["rest"].strip()
        if match["block"] and (
            (inline and block != "DESCRIPTION")
            or (described and block not in _BLOCKS)
            or match["block"] != block
        ):
            continue  # no head: a text with a colon
        if inline and not match["block"]:
            continue
        blocks.append(Block(section, subsection, name, head, start, match.start()))
        if match["angle"]:
            section, subsection, name = match["angle"].upper(), "", ""
        elif match["square"]:
            subsection, name = match["square"].upper(), ""
        else:
            name = block
        described = name == "DESCRIPTION"
        first = match.start() + len(match.group()) - len(match.group().lstrip())
        head = source.span(first, max(match.end("rest") - len(match["rest"]), first + 1))
        start = match.end() if not described else match.start("rest")
    blocks.append(Block(section, subsection, name, head, start, len(clean)))
    return Document(source, clean, tuple(blocks))


def without_comments(text: str) -> str:
    """Return ``text`` with every comment blanked out; a semicolon inside quotes begins none."""
    lines = []
    for line in text.split("\n"):
        cut = len(line)
        if ";" in line:
            quote = ""
            for i, c in enumerate(line):
                if quote:
                    quote = "" if c == quote else quote
                elif c in "'\"" and c in line[i + 1 :]:
                    quote = c
                elif c == ";":
                    cut = i
                    break
        lines.append(line[:cut] + " " * (len(line) - cut))
    return "\n".join(lines)


def joined(text: str) -> str:
    """Return ``text`` with blanks for the line breaks that do not end a statement.

    Those are inside brackets, and after an operator. The length stays.
    """
    out = list(text)
    depth, last = 0, "\n"
    for i, c in enumerate(text):
        if c in _OPENING:
            depth += 1
        elif c in _CLOSING:
            depth = max(0, depth - 1)
        elif c == "\n" and (depth or last in _DANGLING):
            out[i] = " "
            continue
        if not c.isspace() or c == "\n":
            last = c
    return "".join(out)


def definitions(document: Document, block: Block) -> Iterator[Definition | Problem]:
    """Yield the definitions and calls of ``block`` in order, and what is neither."""
    text, source = document.clean, document.source
    current: tuple[str, Span, bool, int] | None = None
    depth, position, stray = 0, block.start, False
    while position < block.stop:
        end = text.find("\n", position, block.stop)
        end = block.stop if end < 0 else end
        match = _BEGINS.match(text, position, end) if depth == 0 else None
        if match is not None:
            if current is not None:
                yield Definition(*current, position)
            is_call = match["mark"] == "("
            begin = match.start("key") if is_call else match.end()
            current = (
                match["key"].strip(),
                source.span(match.start("key"), match.end("key")),
                is_call,
                begin,
            )
            stray = False
        elif current is None and text[position:end].strip() and not stray:
            stray = True
            first = position + len(text[position:end]) - len(text[position:end].lstrip())
            yield Problem(
                "this is no definition", source.span(first, end), "a definition is written name = value"
            )
        depth = max(0, depth + _balance(text[position:end]))
        position = end + 1
    if current is not None:
        yield Definition(*current, block.stop)


def _balance(line: str) -> int:
    """Return how many brackets ``line`` leaves open, those in quotes apart."""
    bare = re.sub(r"'[^']*'|\"[^\"]*\"", "", line)
    return sum(bare.count(c) for c in _OPENING) - sum(bare.count(c) for c in _CLOSING)
