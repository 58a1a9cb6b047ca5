"""What a user sees while a run goes on: a live line on a terminal, plain lines in a pipe."""

from __future__ import annotations

import math
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from ..engine.iteration import Iteration
    from ..engine.run.planned_step import PlannedStep

EVERY = 10  # iterations between two plain lines of one phase


def duration(seconds: float) -> str:
    """Return ``seconds`` as a person would say it: ``"8 s"``, ``"2:05 min"``, ``"1:02:05 h"``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d} min"
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d} h"


class Silent:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def __call__(self, step: PlannedStep, iteration: Iteration) -> None:
        """Take one row of the iteration table of ``step``."""


class Lines(Silent):
    """Writes a plain line at each change of phase and every tenth iteration.

    ``n_observations`` turns objectives of the VAE (no constant) into -2LL: N log(2 pi) is added. While its
    network trains the figure is that of a few draws and noisy by some units. Other methods show their
    objective.
    """

    def __init__(self, stream: TextIO, n_observations: int) -> None:
        self._stream = stream
        self._constant = n_observations * math.log(2 * math.pi)
        self._step = 0
        self._phase = ""
        self._begun = time.monotonic()

    def __call__(self, step: PlannedStep, iteration: Iteration) -> None:
        """Write the row if it is one of those shown."""
        constant = self._constant if step.method == "vae" else 0.0
        if step.number != self._step:
            self._step, self._phase = step.number, ""
            self._write("phase", "iteration", "-2LL" if step.method == "vae" else "OFV", "elapsed", "left")
        if iteration.phase != self._phase or iteration.number % EVERY == 0:
            self._write(
                iteration.phase,
                str(iteration.number),
                f"{iteration.objective + constant:.3f}",
                duration(time.monotonic() - self._begun),
                _left(iteration),
            )
        self._phase = iteration.phase

    def _write(self, phase: str, number: str, value: str, elapsed: str, left: str) -> None:
        print(
            f"{phase:<12} {number:>9} {value:>14} {elapsed:>10} {left:>10}",
            file=self._stream,
            flush=True,
        )


class Live(Silent):
    """Keeps one line on a terminal up to date."""

    def __init__(self, stream: TextIO, n_observations: int) -> None:
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._constant = n_observations * math.log(2 * math.pi)
        self._progress: Progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<12}"),
            TextColumn("iteration {task.fields[number]:>5}"),
            TextColumn("{task.fields[name]} {task.fields[value]:>12}"),
            TimeElapsedColumn(),
            TextColumn("left {task.fields[left]}"),
            console=Console(file=stream),
        )
        self._task: TaskID = self._progress.add_task(
            "starting", total=None, number=0, name="-2LL", value="-", left="-"
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, step: PlannedStep, iteration: Iteration) -> None:
        """Show the row."""
        with_constant = step.method == "vae"
        self._progress.update(
            self._task,
            description=iteration.phase,
            number=iteration.number,
            name="-2LL" if with_constant else "OFV",
            value=f"{iteration.objective + (self._constant if with_constant else 0.0):.3f}",
            left=_left(iteration),
        )


def progress(n_observations: int, *, quiet: bool, stream: TextIO | None = None) -> Silent:
    """Return the display that suits ``stream`` (standard error): silent, live or plain lines."""
    if quiet:
        return Silent()
    out = sys.stderr if stream is None else stream
    return Live(out, n_observations) if out.isatty() else Lines(out, n_observations)


def _left(iteration: Iteration) -> str:
    left = iteration.expected_seconds_left
    return "-" if left is None else duration(left)
