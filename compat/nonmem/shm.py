"""The ``.shm`` file: which random effects of a subject its data cannot inform."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...engine.fit import Fit
from ..files import write_whole
from .file_layout import layout_of
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
    layout = layout_of(fit)
    leading = [layout.form.label(label) for label in ("SUBJECT_NO", "ID", "SUBPOP", "PMIX")]
    flags = [f"ETS({i + 1})".ljust(9) for i in range(n_etas)]
    lines = layout.head(fit_line(fit), layout.form.row([*leading, *flags]).rstrip())
    for k, (subject_id, observed) in enumerate(zip(fit.data.ids, observed_subjects(fit), strict=True)):
        shares = [1.0] if fit.subpopulations is None else fit.subpopulations.probabilities[k].tolist()
        for component, share in enumerate(shares, start=1):
            subject = [layout.first(k + 1), layout.identifier(float(subject_id)), layout.count(component)]
            ignorant = [layout.flag(0 if observed else 1)] * n_etas
            lines.append(layout.line([*subject, layout.form.number(share), *ignorant]))
    return lines
