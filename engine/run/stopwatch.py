"""Seconds spent in the phases of a run."""

from __future__ import annotations

import time


class Stopwatch:
    """Books wall time under phase names; ``began`` is the start of the run."""

    def __init__(self) -> None:
        self.began = self._last = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def lap(self, phase: str) -> None:
        """Book the time since the last lap under ``phase``."""
        now = time.perf_counter()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self._last
        self._last = now

    def total(self) -> dict[str, float]:
        """Return seconds by phase, and their ``total`` since the start."""
        return {**self.seconds, "total": time.perf_counter() - self.began}
