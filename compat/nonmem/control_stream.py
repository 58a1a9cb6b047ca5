"""The final control stream: the user's text with the chosen effects as code and estimates as initial values.

Every change replaces exactly the characters that the reader saw, so comments, layout and all that was not
touched stay as written.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from ...engine.estimate import Array
from ...engine.fit import Fit
from ...engine.ir.effects import label
from ...engine.ir.model import Model
from ...engine.ir.parameter import CovarianceBlock, ThetaParameter
from ...engine.ir.span import Span
from ...engine.selection.outcome import EffectResult
from .effect_code import effect_edits
from .text_edit import Edit, apply_edits, line_end

_PLAIN_PATH = re.compile(r"[\w.\-/\\:~]+")


FINAL = "; initial values: final estimates"  # how every final control stream begins


def final_control_stream(fit: Fit, data_file: str) -> str:
    """Return the control stream of the final model.

    ``data_file`` replaces the file of $DATA. Each chosen effect becomes a $THETA record and ordinary
    abbreviated code. Values whose record does not give variances and covariances one by one (STANDARD,
    CORRELATION, CHOLESKY, repeated values) stay, and a comment at the top says so.

    Raises
    ------
    ValueError
        Where the model was not read from a control stream.
    """
    model = fit.base_model
    if model.language != "nmtran" or not model.source:
        raise ValueError("A final control stream needs a model that was read from one.")
    text = model.source
    chosen: Sequence[EffectResult] = ()
    if fit.selection is not None:
        chosen = sorted(fit.selection.selected, key=lambda r: r.theta or 0)
    edits, kept = _estimate_edits(model, fit)
    if model.inputs.file_span is not None:
        span = model.inputs.file_span
        edits.append(Edit(span.start, span.stop, _quoted(data_file)))
    if chosen:
        edits.append(_theta_records(model, fit.estimate.theta, chosen))
        edits += effect_edits(model, chosen)
    edits.append(Edit(0, 0, _head(chosen, kept)))
    return apply_edits(text, edits)


def _head(chosen: Sequence[EffectResult], kept: list[str]) -> str:
    lines = [FINAL]
    if chosen:
        lines[0] += ", with the selected covariate effects"
        lines += [f";   {result.effect} ({result.effect.form})" for result in chosen]
    lines += [f"; left as it was: {note}" for note in kept]
    return "".join(line + "\n" for line in lines)


def _estimate_edits(model: Model, fit: Fit) -> tuple[list[Edit], list[str]]:
    """Return the edits that write the estimates, and notes on those that have no place of their own."""
    edits: list[Edit] = []
    kept: list[str] = []
    for i, theta in enumerate(model.thetas):
        value = float(fit.estimate.theta[i])
        if theta.fixed:
            continue
        if theta.value_span is None:
            kept.append(f"{theta.name}, estimate {_number(value)}")
        else:
            edits += _value_edits(model.source, theta.value_span, _inside(value, theta))
    for name, blocks, matrix in (
        ("OMEGA", model.omega, fit.estimate.omega),
        ("SIGMA", model.sigma, fit.estimate.sigma),
    ):
        for block in blocks:
            if not block.fixed and block.same_as is None:
                _block_edits(model.source, name, block, matrix, edits, kept)
    return edits, kept


def _value_edits(text: str, span: Span, number: str) -> list[Edit]:
    """Return the edits that write ``number``, taking blanks from before a comment that would move."""
    edits = [Edit(span.start, span.stop, number)]
    longer = len(number) - (span.stop - span.start)
    blanks = re.compile(r"[^\d;\n]*?( +);").match(text, span.stop)
    if blanks is not None and longer > 0:
        stop = blanks.end(1)
        edits.append(Edit(max(stop - longer, blanks.start(1) + 1), stop, ""))
    return edits


def _block_edits(
    text: str, name: str, block: CovarianceBlock, matrix: Array, edits: list[Edit], kept: list[str]
) -> None:
    pairs = [(i, j) for i in range(block.size) for j in range(i + 1)]
    first = block.first - 1
    values = [float(matrix[first + i, first + j]) for i, j in pairs]
    spans = [span for span in block.value_spans if span is not None]
    if len(spans) == len(pairs):
        for span, value in zip(spans, values, strict=True):
            edits += _value_edits(text, span, _number(value))
        return
    for (i, j), value in zip(pairs, values, strict=True):
        kept.append(f"{name}({block.first + i},{block.first + j}), estimate {_number(value)}")


def _theta_records(model: Model, theta: Array, chosen: Sequence[EffectResult]) -> Edit:
    """Return the edit that adds a $THETA record for each effect after the last one of the text."""
    text = model.source
    record = re.compile(r"^[ \t]*\$", re.MULTILINE)
    spans = [t.span for t in model.thetas if t.span is not None]
    if spans:
        before = max(s.stop for s in spans)
        following = record.search(text, before)
        end = len(text) if following is None else following.start()
        # after the last line that is more than a comment: what follows belongs to the next record
        place = line_end(text, before)
        for match in re.compile(r"^[ \t]*[^;\s].*\n?", re.MULTILINE).finditer(text, place, end):
            place = match.end()
    else:  # before the first $OMEGA
        omega = model.omega[0].span
        assert omega is not None
        place = [match.start() for match in record.finditer(text) if match.start() <= omega.start][-1]
    records = ""
    for result in chosen:
        assert result.theta is not None
        number = _number(float(theta[result.theta - 1]))
        # an initial value of zero is not allowed
        records += f"$THETA  {number if float(number) else '1E-06':<14} ; {label(result.effect)}\n"
    newline = "" if place == 0 or text[place - 1] == "\n" else "\n"
    return Edit(place, place, newline + records)


def _inside(value: float, theta: ThetaParameter) -> str:
    """Return ``value`` as text, strictly between the bounds and not zero as an initial value must be."""
    number = _number(value)
    if theta.lower < float(number) < theta.upper and float(number) != 0.0:
        return number
    width = theta.upper - theta.lower
    step = 1e-6 * (width if math.isfinite(width) else max(1.0, abs(value)))
    inner = max(min(value, theta.upper - step), theta.lower + step)
    return _number(inner if inner != 0.0 else step, 10)


def _number(value: float, digits: int = 7) -> str:
    return f"{value:.{digits}G}"


def _quoted(path: str) -> str:
    return path if _PLAIN_PATH.fullmatch(path) else f'"{path}"'
