"""Programs that must be read, and programs that must be refused, with the whole output."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from elbomix.engine.ir.model import Model
from elbomix.engine.ir.show import show
from elbomix.parsers.problem import ProblemError
from elbomix.parsers.read import parse_model, parse_models

HERE = Path(__file__).parent
GOOD = sorted((HERE / "good").glob("*.ctl"))
BAD = sorted((HERE / "bad").glob("*.ctl"))


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8")  # line ends as they are


def test_there_are_programs() -> None:
    assert len(GOOD) >= 7 and len(BAD) >= 80


@pytest.mark.parametrize("path", GOOD, ids=lambda p: p.stem)
def test_good_program_gives_the_expected_model(path: Path) -> None:
    expected = _text(path.with_suffix(".expected"))
    assert "".join(map(show, parse_models(_text(path), path.name))) == expected


@pytest.mark.parametrize("path", BAD, ids=lambda p: p.stem)
def test_bad_program_gives_the_expected_problems(path: Path) -> None:
    with pytest.raises(ProblemError) as caught:
        parse_model(_text(path), path.name)
    assert str(caught.value) + "\n" == _text(path.with_suffix(".expected"))
    assert all(problem.span is not None for problem in caught.value.problems)


@pytest.mark.parametrize("path", GOOD, ids=lambda p: p.stem)
@pytest.mark.parametrize("change", ["crlf", "lower", "tabs", "comments"])
def test_layout_does_not_matter(path: Path, change: str) -> None:
    """Line ends, case, tabs and comments change nothing but the labels that comments give."""
    text = _text(path)
    model = parse_model(text, path.name)
    changed = {
        "crlf": text.replace("\n", "\r\n"),
        "lower": text if "'" in text or ".msf" in text else text.swapcase(),
        "tabs": text.replace(" ", "\t"),
        "comments": text.replace("\n$", " ; a comment\n$").replace("$", "; another\n$", 1),
    }[change]
    other = parse_model(changed, path.name)
    assert _without_texts(other.replace(title="")) == _without_texts(model.replace(title=""))


def _without_texts(model: Model) -> str:
    """The printout without what keeps the user's own spelling, as the headings of tables do."""
    lines = [line.split("  #")[0].upper() for line in show(model).splitlines()]
    return "\n".join(re.sub(r"\b(\w+)=\1\b", r"\1", line.replace("\t", " ")) for line in lines)
