"""Plots of a run: convergence, covariate paths, goodness of fit; PNG and PDF."""

from __future__ import annotations

import io
import math
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..engine.estimate import is_fixed, names
from ..engine.estimate import labels as given_labels
from ..engine.fit import Fit
from ..engine.iteration import Iteration
from ..engine.selection.outcome import Selection
from .files import write_whole
from .nonmem.iterations import project

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

_LINE, _POINT, _BURN_IN, _EXCLUDED = "#1f4e79", "#3b6ea5", "#d9d9d9", "#f2f2f2"
_ANNEALED, _SMOOTHING, _SMOOTHER = "#2e8b57", "#c0392b", "#c0392b"
_COLUMNS = 3
_DPI = 150
_TITLE_WIDTH = 36


def write_plots(fit: Fit, folder: Path, root: str) -> list[Path]:
    """Write the plots that ``fit`` has data for and return their paths.

    ``<root>_convergence`` needs iterations, ``<root>_covariates`` a selection path, ``<root>_gof``
    observations; each as ``.png`` and ``.pdf``.
    """
    figures = {
        "convergence": convergence_figure(fit),
        "covariates": covariate_figure(fit),
        "gof": gof_figure(fit),
    }
    written = []
    for name, figure in figures.items():
        if figure is not None:
            for suffix, content in (("png", _png(figure)), ("pdf", _pdf(figure))):
                written.append(write_whole(folder / f"{root}_{name}.{suffix}", content))
    return written


def convergence_figure(fit: Fit) -> Figure | None:
    """Return one panel for the objective and one for each estimated parameter over the iterations."""
    history = [project(fit, i) for i in fit.history if i.phase != "likelihood"]
    if len(history) < 2:
        return None
    values = np.array([i.estimate.flatten() for i in history])
    labels = given_labels(fit.model)
    shown = [(k, n) for k, n in enumerate(names(fit.model)) if not is_fixed(fit.model)[k]]
    figure, axes = _panels(len(shown) + 1, "Iteration")
    x = np.arange(len(history))
    objective = np.array([i.objective for i in history])
    _trace(axes[0], x, objective, "Objective")
    _limit_to_main(axes[0], history, objective)
    for axis, (k, name) in zip(axes[1:], shown, strict=True):
        title = f"{name}  {labels[name]}" if name in labels else name
        _trace(axis, x, values[:, k], shorten(title, _TITLE_WIDTH, placeholder="..."))
    for axis in axes:
        _mark_phases(axis, [i.phase for i in history])
    _legend(figure, axes[0])
    return figure


def covariate_figure(fit: Fit) -> Figure | None:
    """Return one panel for each candidate effect; those left out are on light grey."""
    if fit.selection is None or len(fit.selection.path) < 2:
        return None
    selection: Selection = fit.selection
    figure, axes = _panels(len(selection.results), "Iteration")
    path = selection.path
    phases = [str(key[0]) if isinstance(key, tuple) else str(key) for key in path.index]
    for axis, result in zip(axes, selection.results, strict=True):
        verdict = f"chosen, {result.value:.3g}" if result.selected else "left out"
        _trace(axis, np.arange(len(path)), np.asarray(path[str(result.effect)], dtype=float), "")
        axis.set_title(f"{result.effect}  ({verdict})", fontsize=9)
        axis.axhline(0.0, color="black", linewidth=0.6, zorder=1)
        if not result.selected:
            axis.set_facecolor(_EXCLUDED)
        _mark_phases(axis, phases)
    axes[0].set_ylabel("Coefficient", fontsize=9)
    _legend(figure, axes[0])
    return figure


def gof_figure(fit: Fit) -> Figure | None:
    """Return DV against PRED and IPRED, CWRES against TIME and PRED, as far as the fit has them."""
    observed = fit.data.is_observation
    table = fit.table[observed]
    pairs = [("PRED", "DV"), ("IPRED", "DV"), ("TIME", "CWRES"), ("PRED", "CWRES")]
    kept = [(x, y) for x, y in pairs if x in table.columns and y in table.columns]
    if not kept or not observed.any():
        return None
    figure, axes = _panels(len(kept), "", columns=2, size=(4.3, 3.6))
    titles = {"PRED": "Population prediction (PRED)", "IPRED": "Individual prediction (IPRED)"}
    titles |= {"DV": "Observed (DV)", "TIME": "Time", "CWRES": "Conditional weighted residual (CWRES)"}
    for axis, (x_name, y_name) in zip(axes, kept, strict=True):
        x = np.asarray(table[x_name], dtype=float)
        y = np.asarray(table[y_name], dtype=float)
        finite = np.isfinite(x) & np.isfinite(y)
        x, y = x[finite], y[finite]
        axis.scatter(x, y, s=14, color=_POINT, alpha=0.6, linewidths=0, zorder=2)
        if y_name == "DV":
            _identity(axis, x, y)
        else:
            for level in (-1.96, 0.0, 1.96):
                style = "-" if level == 0 else ":"
                axis.axhline(level, color="black", linewidth=0.8, linestyle=style, zorder=1)
        _smooth(axis, x, y)
        axis.set_xlabel(titles[x_name], fontsize=9)
        axis.set_ylabel(titles[y_name], fontsize=9)
    _legend(figure, axes[0])
    return figure


def _panels(
    n: int, x_label: str, columns: int = _COLUMNS, size: tuple[float, float] = (3.3, 2.3)
) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    columns = min(n, columns)
    rows = math.ceil(n / columns)
    width, height = size[0] * columns + 0.15, size[1] * rows + 0.6
    # margins in inches: matplotlib's own layout would cost more than the drawing
    left, top, below, across, down = 0.75, 0.35, 0.95, 0.8, 0.6
    figure = Figure(figsize=(width, height), dpi=_DPI)
    figure.subplots_adjust(
        left=left / width,
        right=1 - 0.15 / width,
        top=1 - top / height,
        bottom=below / height,
        wspace=across / (size[0] - across),
        hspace=down / (size[1] - down),
    )
    axes = [figure.add_subplot(rows, columns, k + 1) for k in range(n)]
    for k, axis in enumerate(axes):
        axis.tick_params(labelsize=8)
        axis.locator_params(nbins=5)
        axis.spines[["top", "right"]].set_visible(False)
        if x_label and k + columns >= n:
            axis.set_xlabel(x_label, fontsize=9)
    return figure, axes


def _png(figure: Figure) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)  # type: ignore[no-untyped-call]
    return buffer.getvalue()


def _pdf(figure: Figure) -> bytes:
    from matplotlib.backends.backend_pdf import FigureCanvasPdf

    buffer = io.BytesIO()
    figure.set_dpi(72)  # the unit of PDF
    FigureCanvasPdf(figure).print_pdf(buffer)  # type: ignore[no-untyped-call]
    figure.set_dpi(_DPI)
    return buffer.getvalue()


def _trace(axis: Axes, x: NDArray[np.int64], y: Array, title: str) -> None:
    axis.plot(x, y, color=_LINE, linewidth=1.2, zorder=2)
    axis.set_title(title, fontsize=9)
    axis.set_xlim(0, max(len(x) - 1, 1))


def _mark_phases(axis: Axes, phases: list[str]) -> None:
    """Shade the burn-in; mark where the annealing of the KL term ends and the smoothing starts."""
    burn_in = phases.count("burn-in")
    if burn_in:
        axis.axvspan(0, burn_in, color=_BURN_IN, linewidth=0, zorder=0, label="burn-in")
    if "annealing" in phases:
        end = len(phases) - phases[::-1].index("annealing")
        axis.axvline(end, color=_ANNEALED, linestyle="--", linewidth=1.0, label="KL term fully on")
    if "smoothing" in phases:
        start = phases.index("smoothing")
        axis.axvline(start, color=_SMOOTHING, linestyle="--", linewidth=1.0, label="smoothing starts")


def _legend(figure: Figure, axis: Axes) -> None:
    handles, texts = axis.get_legend_handles_labels()
    if handles:
        figure.legend(handles, texts, loc="lower center", ncols=3, fontsize=8, frameon=False)


def _limit_to_main(axis: Axes, history: list[Iteration], objective: Array) -> None:
    """Cut off the first steep fall of the objective, which would flatten everything after it."""
    main = np.array([i.phase not in ("burn-in", "annealing") for i in history]) & np.isfinite(objective)
    if main.any():
        low, high = float(np.min(objective[main])), float(np.max(objective[main]))
        margin = max(0.5 * (high - low), 1.0)
        axis.set_ylim(low - margin, high + 3 * margin)


def _identity(axis: Axes, x: Array, y: Array) -> None:
    if len(x):
        low, high = min(x.min(), y.min()), max(x.max(), y.max())
        axis.plot([low, high], [low, high], color="black", linewidth=0.8, zorder=1, label="identity")


def _smooth(axis: Axes, x: Array, y: Array) -> None:
    """Draw means over tenths of the points, ordered by x, as a guide for the eye."""
    if len(x) < 50:
        return
    tenths = np.array_split(np.argsort(x, kind="stable"), 10)
    means = np.array([(x[part].mean(), y[part].mean()) for part in tenths])
    axis.plot(means[:, 0], means[:, 1], color=_SMOOTHER, linewidth=1.4, zorder=3, label="mean of each tenth")
