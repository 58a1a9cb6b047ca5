"""The page of the report on covariate selection."""

from __future__ import annotations

import math

from ...engine.fit import Fit
from ...engine.selection.outcome import EffectResult, Selection
from .pages import boxed_head


def selection_page(fit: Fit) -> list[str]:
    """Return every candidate effect, whether it is in, and BICc with and without it."""
    selection = fit.selection
    if selection is None:
        return []
    lines = [
        *boxed_head("COVARIATE SELECTION", "EFFECTS OF THE FINAL MODEL AND ALL CANDIDATES"),
        f" {'CANDIDATE':<24s}{'FORM':<8s}{'CHOSEN':<8s}{'THETA':<7s}"
        f"{'VALUE':>12s}{'SE':>12s}{'BICC WITH':>14s}{'BICC WITHOUT':>14s}",
    ]
    lines += [_candidate(result, fit.bicc) for result in selection.results]
    return [*lines, " ", f" BICC OF THE FINAL MODEL: {fit.bicc:.3f}", *_certificate(selection), " "]


def _candidate(result: EffectResult, bicc: float) -> str:
    chosen = "FORCED" if result.forced and result.selected else ("YES" if result.selected else "NO")
    theta = f"TH{result.theta:2d}" if result.theta is not None else "-"
    other = bicc + result.bicc_change
    with_it, without_it = (bicc, other) if result.selected else (other, bicc)
    value = _short(result.value, ".4g") if result.selected else "-"
    se = _short(result.se, ".4g") if result.selected else "-"
    return (
        f" {result.effect!s:<23s} {result.effect.form:<8s}{chosen:<8s}{theta:<7s}"
        f"{value:>12s}{se:>12s}{_short(with_it, '.3f'):>14s}{_short(without_it, '.3f'):>14s}"
    )


def _short(value: float, form: str) -> str:
    return format(value, form) if math.isfinite(value) else "-"


def _certificate(selection: Selection) -> list[str]:
    certificate = selection.certificate
    if certificate is None:
        return []
    verdict = "AGREES" if certificate.agrees else "DOES NOT AGREE"
    values = f"OBJECTIVE {certificate.objective:.6f}, BOUND {certificate.bound:.6f}"
    return [f" INDEPENDENT CHECK BY {certificate.solver}: {verdict} ({values})"]
