"""The folder of results of one run: made when the first row is there, complete when the run is."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ..parsers.problem import Problem
from .files import write_whole
from .nonmem.ext import ExtStream
from .nonmem.tables import table_file

if TYPE_CHECKING:
    from ..engine.fit import Fit
    from ..engine.ir.model import Model
    from ..engine.iteration import Iteration
    from ..engine.run.planned_step import PlannedStep
    from ..engine.selection.outcome import Selection
    from ..engine.uncertainty.sampling_importance_resampling import Resampling

FIT, ENCODER, SELECTION, PATH = "fit.json", "encoder.pt", "selection.csv", "covariate_path.csv"
_BY_ROOT = (
    *(".lst", ".ext", ".phi", ".phm", ".shk", ".shm", ".grd", ".cnv", "_final.ctl"),
    *(".cov", ".cor", ".coi", ".rmt", ".smt", "_sir.csv"),
    *(f"_{plot}.{form}" for plot in ("convergence", "covariates", "gof") for form in ("png", "pdf")),
)


class OutputFolder:
    """Where a run writes; also its observer, which streams the rows of the ``.ext`` file.

    Nothing touches the disk before the first iteration, so a run refused at its start leaves no
    trace. Files of an earlier run of the same model in the same folder are removed then.
    """

    def __init__(self, path: Path, root: str, model: Model) -> None:
        self.path = path
        self.root = root
        self._model = model
        self._stream: ExtStream | None = None

    def __call__(self, step: PlannedStep, iteration: Iteration) -> None:
        """Append ``iteration`` of ``step`` to the ``.ext`` file."""
        if self._stream is None:
            self._begin()
            self._stream = ExtStream(self.path / f"{self.root}.ext", self._model)
        self._stream(step.number, step.method, step.evaluate_only, iteration, step.with_prior)

    def close(self) -> None:
        """Close the streamed file."""
        if self._stream is not None:
            self._stream.close()

    def write(self, fits: Sequence[Fit], started: datetime, ended: datetime) -> tuple[Path, ...]:
        """Write every file of the steps ``fits`` and return their paths, ``fit.json`` last.

        The report echoes the control stream; after a selection that of the final model. Programs that look
        for a control stream under the name of the report find the final one, unless another is there.
        """
        from .fit_json import write_fit_json
        from .nonmem.control_stream import final_control_stream
        from .nonmem.write import write_nonmem
        from .plots import write_plots

        if self._stream is None:
            self._begin()
        self.close()
        fit = fits[-1]
        written: list[Path] = []
        echo = None
        # a model made by a program has no text to write back, a project has another form
        if fit.base_model.source and fit.base_model.language == "nmtran":
            data_file = Path(os.path.relpath(fit.data.path, self.path)).as_posix()
            final = final_control_stream(fit, data_file)
            written.append(write_whole(self.path / f"{self.root}_final.ctl", final))
            beside = self.path / f"{self.root}{Path(fit.base_model.path).suffix}"
            if _is_ours(beside):
                written.append(write_whole(beside, final))
            if fit.selection is not None and fit.selection.selected:
                echo = final  # the report echoes the text whose parameters it holds
        if fit.selection is not None:
            written += self._write_selection(fit.selection)
        written += write_nonmem(fits, self.path, self.root, started, ended, echo)
        written += [self._write_samples(f.resampling, f) for f in fits if f.resampling is not None]
        if fit.encoder is not None:
            import torch

            buffer = io.BytesIO()
            torch.save(fit.encoder, buffer)
            written.append(write_whole(self.path / ENCODER, buffer.getvalue()))
        written += write_plots(fit, self.path, self.root)
        # last: whoever waits for this file finds the others in place
        write_fit_json(fits, self.path / FIT)
        written.append(self.path / FIT)
        return tuple(written)

    def _begin(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        for stale in self.own_files():
            stale.unlink(missing_ok=True)

    def own_files(self) -> list[Path]:
        """Return the paths that a run of this model may write."""
        tables = [name for table in self._model.tables if (name := table_file(table))]
        return [self.path / name for name in (*self._names(), *tables)]

    def taken_names(self) -> list[Problem]:
        """Return the tables that have the name of another file of the run."""
        message = "the run writes a file of its own named {}"
        return [
            Problem(message.format(table_file(table)), table.span, "give the table another name")
            for table in self._model.tables
            if table_file(table) in self._names()
        ]

    def _names(self) -> tuple[str, ...]:
        return (*(f"{self.root}{end}" for end in _BY_ROOT), FIT, ENCODER, SELECTION, PATH)

    def _write_samples(self, resampling: Resampling, fit: Fit) -> Path:
        """Write the samples of the estimates: objective, weight, whether resampled, all parameters."""
        import numpy as np
        import pandas as pd

        from ..engine.estimate import names

        table = pd.DataFrame(resampling.samples, columns=list(names(fit.model)))
        chosen = np.isin(np.arange(len(table)), resampling.chosen).astype(int)
        for name, values in (("resampled", chosen), ("weight", resampling.weights), ("OBJ", resampling.ofv)):
            table.insert(0, name, values)
        return write_whole(self.path / f"{self.root}_sir.csv", table.to_csv(index_label="sample"))

    def _write_selection(self, selection: Selection) -> list[Path]:
        import pandas as pd

        rows = [
            {
                "parameter": r.effect.parameter,
                "covariate": r.effect.covariate,
                "form": r.effect.form,
                "reference": r.effect.reference,
                "level": r.effect.level,
                "selected": int(r.selected),
                "forced": int(r.forced),
                "theta": r.theta,
                "value": r.value,
                "se": r.se,
                "bicc_change": r.bicc_change,
            }
            for r in selection.results
        ]
        table = pd.DataFrame(rows).astype({"theta": "Int64"})
        return [
            write_whole(self.path / SELECTION, table.to_csv(index=False)),
            write_whole(self.path / PATH, selection.path.to_csv()),
        ]


def _is_ours(path: Path) -> bool:
    """Return whether ``path`` is free, or holds what an earlier run of ours wrote there."""
    from .nonmem.control_stream import FINAL

    if not path.exists():
        return True
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.readline().startswith(FINAL)
