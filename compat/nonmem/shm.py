"""The ``.shm`` file: which random effects of a subject its data cannot inform."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...engine.fit import Fit
from ..files import write_whole
from .numbers import ADDITIONAL, integer
from .phi import observed_subjects
from .titles import fit_line


def write_shm(fits: Sequence[Fit], path: Path) -> Path:
    """Write the ``.shm`` file: 1 for every random effect of a subject without observations, else 0.

    Of a mixture each subject has a row for each subpopulation, with the probability that it belongs there.
    """
    lines = [line for fit in fits for line in _block(fit)]
    return write_whole(path, "\n".join(lines) + "\n")


def _block(fit: Fit) -> list[str]:
    n_etas = fit.model.n_etas
    leading = "".join(f" {label:<12s}" for label in ("SUBJECT_NO", "ID", "SUBPOP", "PMIX"))
    flags = "".join(f"{f'ETS({i + 1})':<10s}" for i in range(n_etas))
    lines = [fit_line(fit), f"{leading} {flags}".rstrip()]
    for k, (subject_id, observed) in enumerate(zip(fit.data.ids, observed_subjects(fit), strict=True)):
        shares = [1.0] if fit.subpopulations is None else fit.subpopulations.probabilities[k].tolist()
        for component, share in enumerate(shares, start=1):
            subject = integer(k + 1) + integer(float(subject_id)) + integer(component)
            lines.append(f"{subject} {ADDITIONAL.number(share)}" + f"{0 if observed else 1:10d}" * n_etas)
    return lines
