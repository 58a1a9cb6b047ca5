"""A matrix that breaks down in the middle of a run ends it with a message, not with a traceback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

import elbomix.engine.run.autoencoder
from elbomix.compat.cli import command


def test_a_singular_matrix_ends_the_run_with_exit_code_1(
    theophylline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks_down(*_: Any) -> None:
        torch.linalg.cholesky(-torch.eye(2))

    monkeypatch.setattr(elbomix.engine.run.autoencoder, "train", breaks_down)
    done = CliRunner().invoke(command, ["fit", str(theophylline), "--output", str(tmp_path / "out")])
    assert done.exit_code == 1
    assert "broke down numerically" in done.output
    assert "Traceback" not in done.output
