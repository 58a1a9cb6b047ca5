"""Runs of NONMEM kept in the corpus: their streams, final estimates, modes and tables."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from elbomix.engine.ir.dataset import DataSet
from elbomix.engine.ir.model import Model
from elbomix.parsers.read import read_data, read_model

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
CORPUS = SHARED / "corpus"
Floats = NDArray[np.float64]


def corpus(folder: str) -> Path:
    """Return a folder of the corpus, or skip the test."""
    path = CORPUS / folder
    if not path.is_dir():
        pytest.skip(f"the reference runs ({folder}) are not here")
    return path


def case_names(folder: str) -> list[str]:
    """Return the names of the runs in a folder of the corpus; none where it is absent."""
    return sorted(p.parent.name for p in (CORPUS / folder).glob("*/case.json"))


@dataclass(frozen=True)
class Table:
    """A table that NONMEM wrote: columns by name (the first of equal names), values as printed."""

    file: str
    columns: dict[str, Floats]
    texts: dict[str, list[str]]

    def unit(self, name: str) -> Floats:
        """Return half a unit in the last printed digit of every value."""
        return np.array([_half_unit(text) for text in self.texts[name]])


@dataclass(frozen=True)
class Run:
    """One run: its folder and what case.json says."""

    folder: Path
    case: dict[str, Any]

    @property
    def stream(self) -> Path:
        """The control stream that NONMEM ran."""
        written = self.folder / str(self.case["control"])
        ran = self.folder / str(self.case.get("control_as_run") or self.case["control"])
        return ran if ran.exists() else written

    def model(self) -> Model:
        """Return the model of the stream."""
        return read_model(self.stream)

    def data(self, model: Model) -> DataSet:
        """Return its data."""
        return read_data(model, self.folder / self.case["data"])

    @property
    def theta(self) -> Floats:
        """Final fixed effects, as exact as NONMEM printed them."""
        return np.array(self.case["estimates"][-1]["theta"], dtype=float)

    def modes(self) -> Floats | None:
        """Return the conditional modes ``"id eta"`` of the .phi file, None without one that holds modes."""
        for path in sorted(self.folder.glob("*.phi")):
            lines = path.read_text(encoding="latin-1").splitlines()
            heads = [i for i, line in enumerate(lines) if "SUBJECT_NO" in line]
            if not heads:
                continue
            names = _fields(lines[heads[-1]])
            wanted = [i for i, name in enumerate(names) if name.startswith("ETA(")]
            if wanted:
                rows = [_fields(line) for line in lines[heads[-1] + 1 :]]
                return np.array([[float(row[i]) for i in wanted] for row in rows if len(row) == len(names)])
        return None

    def tables(self, model: Model) -> list[Table]:
        """Return the tables of the model that are in the folder, one row a record."""
        found = []
        for task in model.tables:
            name = Path(task.file).name if task.file else ""
            path = next((p for p in self.folder.iterdir() if p.name.lower() == name.lower()), None)
            if path is not None and task.rows == "all":
                found.append(read_table(path))
        return found


def load(folder: str, name: str) -> Run:
    """Return a run of the corpus, or skip the test."""
    path = corpus(folder) / name
    return Run(path, json.loads((path / "case.json").read_text(encoding="utf-8")))


def read_table(path: Path) -> Table:
    """Read a table file, headers repeated or not."""
    names: list[str] = []
    rows: list[list[str]] = []
    for line in path.read_text(encoding="latin-1").splitlines():
        parts = re.split(r"[,\s]+", line.strip().rstrip(","))
        if line.startswith("TABLE NO") or not line.strip():
            continue
        if re.match(r"[A-Za-z]", parts[0]):
            names = parts
            continue
        rows.append(parts)
    texts: dict[str, list[str]] = {}
    for i, name in enumerate(names):
        if name not in texts:
            texts[name] = [row[i] for row in rows]
    return Table(path.name, {k: np.array(v, dtype=float) for k, v in texts.items()}, texts)


def read_page(path: Path, title: str) -> tuple[list[str], Floats]:
    """Read a matrix from a page of a report: names without blanks, and the symmetric matrix, NaN for dots."""
    lines = path.read_text(encoding="latin-1").splitlines()
    start = next(i for i, line in enumerate(lines) if re.fullmatch(rf" \*+ +{title} +\*+", line)) + 3
    labels: list[str] = []
    rows: dict[str, list[float]] = {}
    name = ""
    for line in lines[start:]:
        if line.startswith((" ***", " Elapsed", " #")):
            break
        words = re.sub(r"(TH|OM|SG) (\d)", r"\1\2", line.lstrip(" +")).split()
        if words in ([], ["1"]):  # 1 starts a page, with the names over again
            continue
        if not re.match(r"(TH|OM|SG)\d", words[0]):
            rows[name] += [np.nan if word.startswith("..") else float(word) for word in words]
        elif len(words) == 1 and words[0] in labels and words[0] not in rows:
            name = words[0]
            rows[name] = []
        else:
            labels += [word for word in words if word not in labels]
    matrix = np.full((len(labels),) * 2, np.nan)
    for k, label in enumerate(labels):
        matrix[k, : k + 1] = matrix[: k + 1, k] = rows[label]
    return labels, matrix


def _fields(line: str) -> list[str]:
    return re.split(r"[,\s]+(?![^(]*\))", line.strip().rstrip(","))  # not within ETC(2,1)


def _half_unit(text: str) -> float:
    mantissa, _, exponent = text.upper().partition("E")
    digits = len(mantissa.partition(".")[2])
    return float(0.5 * 10.0 ** (int(exponent or 0) - digits))
