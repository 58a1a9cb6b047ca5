"""Results folders of Monolix: estimates and predictions, old and new layout."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from elbomix.engine.ir.model import Model

Array = NDArray[np.float64]


def estimates(folder: Path) -> dict[str, float]:
    """Return the estimates in ``populationParameters.txt``, before 2018 in ``estimates.txt``."""
    path = folder / "populationParameters.txt"
    delimiter = ","
    if not path.exists():
        path, delimiter = folder / "estimates.txt", ";"
    with path.open(encoding="utf-8-sig") as file:
        rows = list(csv.reader(file, delimiter=delimiter))
    return {row[0].strip(): float(row[1]) for row in rows[1:] if len(row) > 1}


def predictions(path: Path) -> dict[str, list[str]]:
    """Return the columns of a predictions file."""
    with path.open(encoding="utf-8-sig") as file:
        rows = list(csv.reader(file))
    return {name: [row[i] for row in rows[1:]] for i, name in enumerate(rows[0])}


def theta(model: Model, values: dict[str, float]) -> Array:
    """Return the fixed effects of ``model`` at ``values``; what is not there was fixed."""
    return np.array([values.get(t.name, t.initial) for t in model.thetas])
