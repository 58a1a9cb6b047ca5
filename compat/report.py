"""The final table of a run, for a person: as tables on a terminal, as aligned text elsewhere."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from .progress import duration

if TYPE_CHECKING:
    from ..engine.fit import Fit


@dataclass(frozen=True)
class Section:
    """A titled piece of the report: a table (``header`` and ``rows``) or, without header, lines."""

    title: str
    rows: tuple[tuple[str, ...], ...]
    header: tuple[str, ...] = ()


def show_report(fits: Sequence[Fit], files: Sequence[Path], stream: TextIO | None = None) -> None:
    """Write the report of the steps ``fits`` and their ``files`` to ``stream`` (standard output)."""
    out = sys.stdout if stream is None else stream
    parts = sections(fits, files)
    if out.isatty():
        _show_rich(parts, out)
    else:
        out.write("\n\n".join(plain(part) for part in parts) + "\n")


def sections(fits: Sequence[Fit], files: Sequence[Path]) -> list[Section]:
    """Return the report of a run, part by part; of several steps the last one in full."""
    fit = fits[-1]
    parts = [_summary(fit)]
    if len(fits) > 1:
        parts.append(_steps(fits))
    parts += [_likelihood(fit), _parameters(fit)]
    if fit.selection is not None:
        parts.append(_selection(fit))
    remarks = _remarks(fits)
    if remarks:
        parts.append(Section("Remarks", tuple((line,) for line in remarks)))
    if files:
        parts.append(Section(f"Files in {files[0].parent}", tuple((path.name,) for path in sorted(files))))
    return parts


def plain(part: Section) -> str:
    """Return ``part`` as text with aligned columns, the first to the left, figures to the right."""
    lines = [part.title]
    if not part.header:
        return "\n".join([*lines, *("  " + row[0] for row in part.rows)])
    table = [part.header, *part.rows]
    widths = [max(len(row[c]) for row in table) for c in range(len(part.header))]
    left = _text_columns(part)
    for row in table:
        cells = [
            cell.ljust(w) if c in left else cell.rjust(w)
            for c, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines)


def figure(value: float | None, digits: int = 4) -> str:
    """Return ``value`` with at least ``digits`` significant digits, ``-`` where there is none."""
    if value is None or not math.isfinite(value):
        return "-"
    if value == 0:
        return "0"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{value:.{max(places, 0)}f}" if -4 <= places <= 7 else f"{value:.{digits - 1}e}"


def _summary(fit: Fit) -> Section:
    status = fit.status
    seed = "" if fit.search is not None else f"seed {fit.seed}, "  # a search draws no numbers
    rows = [
        (f"{fit.status.code.replace('_', ' ')}: {status.message}",),
        (
            f"{fit.n_subjects} subjects, {fit.n_observations} observations, method {fit.method}, "
            f"{seed}{duration(fit.seconds.get('total', sum(fit.seconds.values())))}",
        ),
    ]
    if status.remedy:
        rows.insert(1, (f"what to try: {status.remedy}",))
    return Section(fit.model.title or fit.model.path, tuple(rows))


def _steps(fits: Sequence[Fit]) -> Section:
    rows = [
        (
            f"{fit.number} {fit.method}",
            f"{fit.ofv:.3f}",
            duration(fit.seconds.get("total", sum(fit.seconds.values()))),
            f"{fit.status.code.replace('_', ' ')}: {fit.status.message}",
        )
        for fit in fits
    ]
    return Section("Steps", tuple(rows), ("", "OFV", "time", "remark"))


def _likelihood(fit: Fit) -> Section:
    rows: list[tuple[str, ...]] = []
    sampled = fit.importance
    if sampled is not None:
        note = f"SE {figure(sampled.se, 2)}, min. ESS {sampled.ess.min():.0f} of {sampled.draws} draws"
        rows.append(("-2LL, importance sampling", f"{sampled.value:.3f}", note))
    if fit.linearised is not None:
        rows.append(("-2LL, linearised", f"{fit.linearised.value:.3f}", ""))
    if fit.minus_two_elbo is not None:
        rows.append(("-2 ELBO", f"{fit.minus_two_elbo:.3f}", "upper bound of -2LL"))
    note = "-2LL less N log(2 pi)" if fit.method == "vae" else f"{fit.method}, without N log(2 pi)"
    if fit.objective_se is not None:
        note += f", SE {figure(fit.objective_se, 2)}"
    rows.append(("OFV", f"{fit.ofv:.3f}", note))
    if math.isfinite(fit.bicc):
        rows.append(("BICc", f"{fit.bicc:.3f}", ""))
    if fit.search is not None and fit.search.significant_digits is not None:
        rows.append(("significant digits", f"{fit.search.significant_digits:.1f}", ""))
    if fit.uncertainty is not None:
        condition = fit.uncertainty.condition_number
        rows.append(("condition number", figure(condition), "of the correlations of the estimates"))
    return Section("Likelihood", tuple(rows), ("", "value", "remark"))


def _parameters(fit: Fit) -> Section:
    from ..engine.estimate import is_fixed, names
    from ..engine.estimate import labels as given_labels
    from .start_values import required_names

    values = fit.estimate.flatten()
    fixed = is_fixed(fit.model)
    errors = None if fit.uncertainty is None else fit.uncertainty.se
    extra = _spread(fit)
    labels = given_labels(fit.model)
    inside = required_names(fit.model)
    rows = []
    for i, name in enumerate(names(fit.model)):
        if name not in inside:
            continue  # a structural zero
        se = None if errors is None else float(errors[i])
        if fixed[i]:
            shown, relative = "fixed", ""
        else:
            shown = figure(se, 3)
            relative = figure(100 * se / abs(values[i]), 3) if se is not None and values[i] else "-"
        value = figure(float(values[i]))
        rows.append((name, labels.get(name, ""), value, shown, relative, *extra.get(name, ("", "", ""))))
    header = ("parameter", "label", "value", "SE", "RSE %", "SD/corr.", "CV %", "shrink %")
    return Section("Parameters", tuple(rows), header)


def _spread(fit: Fit) -> dict[str, tuple[str, str, str]]:
    """Return SD or correlation, CV and shrinkage of the elements of omega and sigma.

    A CV is that of a lognormal parameter, 100 sqrt(exp(variance) - 1); others have none.
    """
    from ..engine.ir.mu import mu_references

    lognormal = {r.eta - 1 for r in mu_references(fit.model) if r.link == "log"}
    found: dict[str, tuple[str, str, str]] = {}
    for letter, full, shrinkage in (
        ("OMEGA", fit.estimate.omega, fit.shrinkage.eta_sd),
        ("SIGMA", fit.estimate.sigma, fit.shrinkage.eps_sd),
    ):
        for i in range(len(full)):
            # below zero the figure is a tiny number, as in the files
            of_row = figure(round(float(shrinkage[i]), 6), 3) if i < len(shrinkage) else ""
            known = letter == "OMEGA" and i in lognormal
            cv = figure(100 * math.sqrt(math.expm1(full[i, i])), 3) if known else ""
            found[f"{letter}({i + 1},{i + 1})"] = (figure(math.sqrt(full[i, i])), cv, of_row)
            for j in range(i):
                scale = math.sqrt(full[i, i] * full[j, j])
                correlation = figure(full[i, j] / scale) if scale else ""
                found[f"{letter}({i + 1},{j + 1})"] = (correlation, "", "")
    return found


def _selection(fit: Fit) -> Section:
    assert fit.selection is not None
    rows = []
    for result in fit.selection.results:
        choice = "in" if result.selected else "out"
        if result.forced:
            choice += ", forced"
        effect = result.effect
        form = effect.form if effect.level is None else f"{effect.form} {effect.level:g}"
        reference = figure(effect.reference)
        value = (figure(result.value), figure(result.se, 3)) if result.selected else ("", "")
        change = f"{result.bicc_change:+.2f}" if math.isfinite(result.bicc_change) else "-"
        rows.append((effect.parameter, effect.covariate, form, reference, choice, *value, change))
    header = ("on", "covariate", "form", "reference", "chosen", "value", "SE", "BICc, toggled")
    certificate = fit.selection.certificate
    title = "Covariate effects"
    if certificate is not None:
        verdict = "agrees" if certificate.agrees else "DISAGREES"
        title += f" (last selection checked by {certificate.solver}: {verdict})"
    return Section(title, tuple(rows), header)


def _remarks(fits: Sequence[Fit]) -> list[str]:
    places = [(f"{n.span}: " if n.span is not None else "") + n.message for n in fits[-1].model.notices]
    said = []
    for fit in fits:
        head = f"step {fit.number}: " if len(fits) > 1 else ""
        said += [head + warning for warning in fit.warnings]
        if fit.covariance_failure:
            said.append(f"{head}no standard errors: {fit.covariance_failure}")
    return list(dict.fromkeys([*said, *places]))


def _text_columns(part: Section) -> set[int]:
    return {c for c, name in enumerate(part.header) if name in _TEXT}


_TEXT = {"", "remark", "parameter", "label", "on", "covariate", "form", "chosen"}


def _show_rich(parts: Sequence[Section], stream: TextIO) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=stream)
    for part in parts:
        if not part.header:
            console.print(Text(part.title, style="bold"))
            for row in part.rows:
                console.print(Text("  " + row[0]))
        else:
            table = Table(
                title=Text(part.title, style="bold"), title_justify="left", box=SIMPLE_HEAD, pad_edge=False
            )
            left = _text_columns(part)
            for c, name in enumerate(part.header):
                table.add_column(name, justify="left" if c in left else "right", no_wrap=c == 0)
            for row in part.rows:
                table.add_row(*(Text(cell) for cell in row))
            console.print(table)
        console.print()
