"""Parameter values read back from results: an ``.ext`` file, ``fit.json``, or Monolix's file of estimates."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np

from ..engine.estimate import Estimate, names
from ..engine.ir.model import Model
from ..parsers.problem import Problem, ProblemError
from .monolix.estimates import is_monolix, monolix_estimates

_FINAL_ROW = "-1000000000"
_BETWEEN_LABELS = re.compile(r"\s+|\s*,(?=\s*[A-Z])")  # the comma inside SIGMA(1,1) is none
_BARE_EXPONENT = re.compile(r"(\d)([+-]\d{3})$")  # 1.23457-100, as Fortran prints it


def read_estimates(path: Path, model: Model) -> Estimate:
    """Read final estimates for the parameters of ``model`` by their names.

    Of an ``.ext`` file with several tables the last one counts. Elements of omega and sigma outside all
    blocks of ``model`` may be absent. Raises :class:`ProblemError` where the file cannot be read, lacks a
    parameter, or has a parameter that ``model`` has no place for.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise _refusal(f"cannot read the estimates in {path}: {error.strerror}") from error
    if text.lstrip().startswith("{"):
        values = _from_json(text, path)
    elif is_monolix(text):
        values = monolix_estimates(text, path, model)
    else:
        values = _from_ext(text, path)
    return _assemble(values, model, path)


def required_names(model: Model) -> set[str]:
    """Return the names of all thetas and of the omega and sigma elements inside blocks."""
    required = {f"THETA{i + 1}" for i in range(len(model.thetas))}
    for letters, blocks in (("SIGMA", model.sigma), ("OMEGA", model.omega)):
        for block in blocks:
            for i in range(block.first, block.first + block.size):
                required |= {f"{letters}({i},{j})" for j in range(block.first, i + 1)}
    return required


def _refusal(message: str, hint: str = "") -> ProblemError:
    return ProblemError([Problem(message, None, hint)])


def _from_json(text: str, path: Path) -> dict[str, float]:
    try:
        content = json.loads(text)
        if content["schema"] != 1:
            raise _refusal(f"{path} has schema {content['schema']}; this version reads schema 1")
        return {str(p["name"]): float(p["value"]) for p in content["parameters"]}
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise _refusal(f"{path} is no fit.json", "write it with elbomix fit") from error


def _from_ext(text: str, path: Path) -> dict[str, float]:
    labels: list[str] = []
    final: list[str] = []
    for line in text.splitlines():
        if line.lstrip().startswith("TABLE NO."):
            labels, final = [], []
        elif line.lstrip().startswith("ITERATION"):
            labels = [label for label in _BETWEEN_LABELS.split(line.strip()) if label]
        elif re.split(r"[,\s]+", line.strip())[0] == _FINAL_ROW:
            final = re.split(r"[,\s]+", line.strip())
    if not labels:
        known = "expected an .ext file, fit.json or populationParameters.txt"
        raise _refusal(f"{path} has no line of column labels", known)
    if not final:
        raise _refusal(
            f"{path} has no final estimates (row {_FINAL_ROW}) in its last table",
            "the run that wrote it did not end",
        )
    if len(final) != len(labels):
        raise _refusal(f"{path}: row {_FINAL_ROW} has {len(final)} columns, the labels have {len(labels)}")
    try:
        numbers = [float(_BARE_EXPONENT.sub(r"\1E\2", word)) for word in final]
    except ValueError as error:
        raise _refusal(f"{path}: row {_FINAL_ROW} holds text that is no number: {error}") from error
    found = dict(zip(labels, numbers, strict=True))
    return {k: v for k, v in found.items() if k.startswith(("THETA", "OMEGA(", "SIGMA("))}


def _assemble(values: dict[str, float], model: Model, path: Path) -> Estimate:
    missing = [name for name in names(model) if name in required_names(model) and name not in values]
    if missing:
        raise _refusal(
            f"{path} has no value for {', '.join(missing)}",
            "it must come from a model with the same parameters",
        )
    wrong = [name for name, value in values.items() if not np.isfinite(value)]
    if wrong:
        raise _refusal(f"{path} has no finite value for {', '.join(wrong)}")
    extra = [n for n, v in values.items() if n not in required_names(model) and v != 0]
    if extra:
        raise _refusal(
            f"{path} has {', '.join(extra)}, which the model does not have",
            "estimates of a run with covariate selection belong to its final control stream",
        )
    n_thetas = len(model.thetas)
    theta = np.array([values[f"THETA{i + 1}"] for i in range(n_thetas)])
    return Estimate(theta, _matrix(values, "OMEGA", model.n_etas), _matrix(values, "SIGMA", model.n_eps))


def _matrix(
    values: dict[str, float], letters: str, n: int
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    full = np.zeros((n, n))
    for i in range(n):
        for j in range(i + 1):
            full[i, j] = full[j, i] = values.get(f"{letters}({i + 1},{j + 1})", 0.0)
    return full
