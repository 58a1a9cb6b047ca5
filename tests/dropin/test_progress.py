"""Progress: plain lines in a pipe, one live line on a terminal, nothing when quiet."""

from __future__ import annotations

import io
import math
from pathlib import Path

from support.fits import theophylline_fit

from elbomix.compat.progress import EVERY, Lines, Live, Silent, progress
from elbomix.engine.methods.conditional import ConditionalSettings
from elbomix.engine.run.planned_step import PlannedStep

VAE = PlannedStep(1, "vae", ConditionalSettings())


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_display_suits_the_stream() -> None:
    assert type(progress(10, quiet=True, stream=Terminal())) is Silent
    assert type(progress(10, quiet=False, stream=io.StringIO())) is Lines
    assert type(progress(10, quiet=False, stream=Terminal())) is Live


def test_plain_lines_come_at_phase_changes_and_every_tenth_iteration(tmp_path: Path) -> None:
    history = theophylline_fit(tmp_path).history
    out = io.StringIO()
    with progress(132, quiet=False, stream=out) as observer:
        for iteration in history:
            observer(VAE, iteration)
    lines = out.getvalue().splitlines()
    assert lines[0].split() == ["phase", "iteration", "-2LL", "elapsed", "left"]
    wanted = [
        i
        for before, i in zip([None, *history], history, strict=False)
        if before is None or before.phase != i.phase or i.number % EVERY == 0
    ]
    assert [line.split()[:2] for line in lines[1:]] == [[i.phase, str(i.number)] for i in wanted]
    # the constant that objectives leave out
    assert float(lines[1].split()[2]) == round(history[0].objective + 132 * math.log(2 * math.pi), 3)


def test_a_live_line_ends_with_the_last_iteration(tmp_path: Path) -> None:
    history = theophylline_fit(tmp_path).history
    out = Terminal()
    with progress(132, quiet=False, stream=out) as observer:
        for iteration in history:
            observer(VAE, iteration)
    assert history[-1].phase in out.getvalue()


def test_quiet_writes_nothing(tmp_path: Path) -> None:
    out = io.StringIO()
    with progress(132, quiet=True, stream=out) as observer:
        observer(VAE, theophylline_fit(tmp_path).history[0])
    assert out.getvalue() == ""
