"""All result files of one estimation step, in the layouts that the tools around NONMEM read."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from ...engine.fit import Fit
from .ext import write_ext
from .lst import write_lst
from .matrices import write_matrices
from .phi import write_phi
from .shk import write_shk
from .shm import write_shm
from .tables import write_tables

_CONDITIONAL = (".phi", ".shk", ".shm", ".cov", ".cor", ".coi")


def write_nonmem(
    fit: Fit,
    folder: Path,
    root: str,
    started: datetime,
    ended: datetime,
    control_stream: str | None = None,
) -> list[Path]:
    """Write ``folder/root`` + ``.ext .phi .shk .shm .cov .cor .coi .lst`` and the tables.

    ``.phi``, ``.shk`` and ``.shm`` need random effects, the matrices standard errors, and a run that
    failed has none of these and no tables; files of those names from an earlier run are removed, because
    readers would pair them with this one. ``control_stream`` is the text that the report echoes (``None``:
    ``fit.model.source``). Returns the paths written, the report last: where it stands, all is there.
    """
    stem = folder / root
    written = [write_ext(fit, _with(stem, ".ext"))]
    if fit.status.code != "failed":
        if fit.model.n_etas:
            written.append(write_phi(fit, _with(stem, ".phi")))
            written.append(write_shk(fit, _with(stem, ".shk")))
            written.append(write_shm(fit, _with(stem, ".shm")))
        written += write_matrices(fit, stem)
        written += write_tables(fit, folder)
    for suffix in _CONDITIONAL:
        if _with(stem, suffix) not in written:
            _with(stem, suffix).unlink(missing_ok=True)
    written.append(write_lst(fit, _with(stem, ".lst"), started, ended, control_stream))
    return written


def _with(stem: Path, suffix: str) -> Path:
    # a root may hold dots itself, so Path.with_suffix would cut it
    return stem.with_name(stem.name + suffix)
