"""Fixtures of the whole suite."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Before any test imports numpy or torch: digits must not depend on the number of cores.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ.setdefault("MPLBACKEND", "Agg")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository root."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with reference results of other programs that lies beside some checkouts."""
    folder = ROOT.parent / "shared"
    if not (folder / "corpus").is_dir():
        pytest.skip("the reference results (a folder 'shared' beside the checkout) are not here")
    return folder


@pytest.fixture(scope="session")
def theophylline() -> Path:
    """The control stream of the theophylline example."""
    return ROOT / "examples" / "theophylline" / "theophylline.ctl"
