"""Mlxtran files of many hands: each becomes a model or problems at their lines, in no time."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import projects

from elbomix.engine.ir.model import Model
from elbomix.parsers.mlxtran.lower import lower
from elbomix.parsers.problem import ProblemError
from elbomix.parsers.read import parse_model, read_model
from elbomix.parsers.source import Source, read_source

SECONDS = 2.0  # for any file

# what its project asks for is not there yet, or the corpus lacks a file
REFUSED = {
    "pbpk.mlxtran": "cannot read the model file",
    "censoring1_project.mlxtran": "models of the library",
    "project.mlxtran": "variability between occasions",
    "cat_00.mlxtran": "cannot read the model file",
    "cat_00_patched_modelpath.mlxtran": "cannot read the model file",
    "cat_00_local.mlxtran": "discrete observations",
    "hcv_project.mlxtran": "projects of Monolix 4.2 and before",
    "pkrtte_project.mlxtran": "",  # one has events, the other is of 4.2
    "warfarin_seq_project.mlxtran": "projects of Monolix 4.2 and before",
    "theophylline1_project.mlxtran": "models of the library",
    "theophylline2_project.mlxtran": "models of the library",
    "RsmlxDemo1.mlxtran": "models of the library",
    "RsmlxDemo2.mlxtran": "models of the library",
}

# function of the source that reads a fragment -> its place in a project
PLACES = {
    ".pk": "PK:\n{}\nEQUATION:\n",
    ".equation": "{}\n",
}


def outcome(text: str, path: str = "p.mlxtran") -> Model | ProblemError:
    """Return the model or the problems of a text, in time and with their places."""
    begun = time.process_time()
    found: Model | ProblemError
    try:
        found = lower(Source(path, text))
    except ProblemError as error:
        found = error
        assert error.problems and all(p.span is not None for p in error.problems)
        str(error)
    assert time.process_time() - begun < SECONDS
    return found


def parse_corpus(shared: Path) -> Iterator[tuple[Path, dict[str, object]]]:
    """Yield every file of the parser corpus with what is known of it."""
    root = shared / "corpus" / "mlxtran-parse"
    for group, items in json.loads((root / "index.json").read_text())["groups"].items():
        for item in items:
            yield root / group / item["file"], item


def test_projects_with_results_become_models_or_known_problems(shared: Path) -> None:
    files = [
        path for path in (shared / "corpus" / "monolix").rglob("*.mlxtran") if ".Internals" not in path.parts
    ]
    models = 0
    for path in files:
        try:
            read_model(path)
            assert path.name not in REFUSED
            models += 1
        except ProblemError as error:
            assert path.name in REFUSED, error
            assert REFUSED[path.name] in str(error)
    assert models >= 12


def test_every_file_gives_a_model_or_problems(shared: Path) -> None:
    count = 0
    for path, _ in parse_corpus(shared):
        text = read_source(path).text
        outcome(text, str(path))
        # and as the model file and as parts of a project that is otherwise fine
        outcome(projects.project(text))
        outcome(projects.project(content=text))
        outcome(projects.project(correlation=text))
        outcome(projects.project(error=text))
        count += 1
    assert count >= 300


def test_what_its_source_rejects_is_rejected(shared: Path) -> None:
    rejected = 0
    for path, item in parse_corpus(shared):
        if not item.get("expect_error_in_source"):
            continue
        text, readers = path.read_text(), item["called_by"]
        assert isinstance(readers, list)
        if ".content" in readers:
            found = outcome(
                projects.project(content=text.replace("DV =", "Y ="), header="ID, TIME, AMT, DV, Y")
            )
        elif ".indDef" in readers:
            found = outcome(projects.project(correlation=text))
        else:
            place = next(PLACES[reader] for reader in readers if reader in PLACES)
            found = outcome(projects.project(place.format(text) + "\nCc2 = V"))
        assert isinstance(found, ProblemError), path
        rejected += 1
    assert rejected >= 15


@pytest.mark.slow
def test_mutated_projects_give_models_or_problems(shared: Path) -> None:
    """Characters and lines lost, doubled and swapped: nothing crashes or hangs."""
    dice = random.Random(20)
    texts = [read_source(p).text for p in (shared / "corpus" / "monolix").rglob("*.mlxtran")]
    texts += [p.read_text() for p in (Path(__file__).parent / "good").glob("*.mlxtran")]
    for _ in range(3000):
        text = dice.choice(texts)
        for _ in range(dice.randint(1, 4)):
            i = dice.randrange(len(text))
            j = min(len(text), i + dice.randint(1, 30))
            text = dice.choice(
                [
                    text[:i] + text[j:],
                    text[:j] + text[i:],
                    text[:i] + dice.choice("{}()[]<>=,;'\"\n+-*/^:&|~ 0aA_.\\") + text[i:],
                    text[:i] + dice.choice(texts)[:j][-40:] + text[j:],
                ]
            )
        outcome(text)


@pytest.mark.parametrize(
    "text", ["(" * 5000, "{" * 5000, "x = " + "-" * 5000 + "1", "x = " + "1+" * 20000 + "1"]
)
def test_what_is_too_deep_is_a_problem(text: str) -> None:
    with pytest.raises(ProblemError):
        parse_model(projects.project(text), "p.mlxtran")
