"""All result files of a run, in the layouts that the tools around NONMEM read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from ...engine.fit import Fit
from .cnv import write_cnv
from .ext import write_ext
from .grd import write_grd
from .lst import write_lst
from .matrices import write_matrices
from .phi import write_phi, write_phm
from .shk import write_shk
from .shm import write_shm
from .tables import write_tables

_CONDITIONAL = (".phi", ".phm", ".shk", ".shm", ".grd", ".cnv", ".cov", ".cor", ".coi", ".rmt", ".smt")


def write_nonmem(
    fits: Sequence[Fit],
    folder: Path,
    root: str,
    started: datetime,
    ended: datetime,
    control_stream: str | None = None,
) -> list[Path]:
    """Write ``folder/root`` with the endings of NONMEM's files, and the tables.

    ``fits`` are the steps of the run, each a block of every file it has something for; tables are those of
    the last one. ``.phi``, ``.shk`` and ``.shm`` need random effects, the matrices a covariance step, and a
    step that failed has none of these and no tables; files of those names from an earlier run are removed,
    because readers would pair them with this one. ``control_stream`` is the text that the report echoes
    (``None``: that of the last model). Returns the paths written, the report last: where it stands, all is
    there.
    """
    stem = folder / root
    written = [write_ext(fits, _with(stem, ".ext"))]
    ended_well = [fit for fit in fits if fit.status.code != "failed"]
    if ended_well:
        if fits[0].model.n_etas:
            written.append(write_phi(ended_well, _with(stem, ".phi")))
            written.append(write_shk(ended_well, _with(stem, ".shk")))
            written.append(write_shm(ended_well, _with(stem, ".shm")))
        optional = (
            write_phm(ended_well, _with(stem, ".phm")),
            write_grd(fits, _with(stem, ".grd")),
            write_cnv(fits, _with(stem, ".cnv")),
        )
        written += [path for path in optional if path is not None]
        written += write_matrices(ended_well, stem)
    if fits[-1].status.code != "failed":
        written += write_tables(fits[-1], folder)
    for suffix in _CONDITIONAL:
        if _with(stem, suffix) not in written:
            _with(stem, suffix).unlink(missing_ok=True)
    written.append(write_lst(fits, _with(stem, ".lst"), started, ended, control_stream))
    return written


def _with(stem: Path, suffix: str) -> Path:
    # a root may hold dots itself, so Path.with_suffix would cut it
    return stem.with_name(stem.name + suffix)
