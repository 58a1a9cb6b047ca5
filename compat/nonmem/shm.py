"""The ``.shm`` file: which random effects of a subject its data cannot inform."""

from __future__ import annotations

from pathlib import Path

from ...engine.fit import Fit
from ..files import write_whole
from .numbers import ADDITIONAL, integer
from .phi import observed_subjects
from .titles import fit_title, table_line


def write_shm(fit: Fit, path: Path) -> Path:
    """Write the ``.shm`` file: 1 for every random effect of a subject without observations, else 0."""
    n_etas = fit.model.n_etas
    leading = "".join(f" {label:<12s}" for label in ("SUBJECT_NO", "ID", "SUBPOP", "PMIX"))
    flags = "".join(f"{f'ETS({i + 1})':<10s}" for i in range(n_etas))
    lines = [table_line(fit_title(fit)), f"{leading} {flags}".rstrip()]
    for k, (subject_id, observed) in enumerate(zip(fit.data.ids, observed_subjects(fit), strict=True)):
        subject = integer(k + 1) + integer(float(subject_id)) + integer(1) + " " + ADDITIONAL.number(1.0)
        lines.append(subject + f"{0 if observed else 1:10d}" * n_etas)
    return write_whole(path, "\n".join(lines) + "\n")
