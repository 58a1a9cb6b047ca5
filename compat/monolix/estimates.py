"""Estimates of Monolix: ``populationParameters.txt``, before 2018 ``estimates.txt``."""

from __future__ import annotations

import csv
from pathlib import Path

from ...engine.estimate import initial, is_fixed, names
from ...engine.ir.model import Model
from ...parsers.problem import Problem, ProblemError


def is_monolix(text: str) -> bool:
    """Return whether ``text`` begins as one of Monolix's files of estimates does."""
    head = text.lstrip("\ufeff").split("\n", 1)[0].replace(" ", "").lower()
    return head.startswith(("parameter,", ";parameter"))


def monolix_estimates(text: str, path: Path, model: Model) -> dict[str, float]:
    """Return the estimates in ``text`` by the names of :func:`..engine.estimate.names`.

    ``omega_V`` is a standard deviation, ``omega2_V`` a variance, ``corr_V_Cl`` (or ``corr(V,Cl)``) a
    correlation. Parameters that ``model`` fixes may be absent. Raises :class:`ProblemError` for a number that
    cannot be read, and for parameters that ``model`` has no place for unless they are zero.
    """
    found = _rows(text, path)
    start = zip(names(model), initial(model).flatten(), is_fixed(model), strict=True)
    values = {name: float(value) for name, value, fixed in start if fixed}
    for index, theta in enumerate(model.thetas, start=1):
        if theta.name in found:
            values[f"THETA{index}"] = found.pop(theta.name)
    for block in model.omega:
        sds: list[float] = []
        for i, label in enumerate(block.labels):
            sd, variance = found.pop(label, None), found.pop(label.replace("omega_", "omega2_", 1), None)
            if variance is not None:
                sd = variance**0.5
            if sd is None:
                break
            sds.append(sd)
            for j in range(i):
                r = _correlation(found, block.labels[j], label)
                if r is not None:
                    values[f"OMEGA({block.first + i},{block.first + j})"] = r * sds[i] * sds[j]
            values[f"OMEGA({block.first + i},{block.first + i})"] = sds[i] ** 2
    extra = [name for name, value in found.items() if value != 0]
    if extra:
        problem = Problem(
            f"{path} has {', '.join(extra)}, which the model does not have",
            None,
            "it must come from a run of this project",
        )
        raise ProblemError([problem])
    return values


def _rows(text: str, path: Path) -> dict[str, float]:
    head, *lines = text.lstrip("\ufeff").splitlines()
    found: dict[str, float] = {}
    for number, row in enumerate(csv.reader(lines, delimiter=";" if ";" in head else ","), start=2):
        if len(row) < 2:
            continue
        try:
            found[row[0].strip()] = float(row[1])
        except ValueError as error:
            raise ProblemError([Problem(f"{path}:{number}: {row[1]!r} is no number", None)]) from error
    return found


def _correlation(found: dict[str, float], first: str, second: str) -> float | None:
    """Take the correlation of the effects with the labels ``omega_A`` and ``omega_B`` out of ``found``."""
    a, b = first.removeprefix("omega_"), second.removeprefix("omega_")
    for name in (f"corr_{a}_{b}", f"corr_{b}_{a}", f"corr({a},{b})", f"corr({b},{a})"):
        if name in found:
            return found.pop(name)
    return None
