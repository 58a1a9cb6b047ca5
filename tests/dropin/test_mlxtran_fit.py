"""A Monolix project through the whole run, against what Monolix found."""

from __future__ import annotations

from pathlib import Path

import pytest

from elbomix import fit
from elbomix.engine.estimate import labels


def test_theophylline_project(shared: Path, tmp_path: Path) -> None:
    """Monolix's -2LL by linearisation is 339.48, at SAEM estimates with their Monte Carlo errors."""
    project = shared / "corpus" / "monolix" / "m2rx-theophylline" / "theophylline_project.mlxtran"
    done = fit(project, output=tmp_path / "out")
    assert done.status.code == "converged"
    assert done.linearised is not None
    assert done.linearised.value == pytest.approx(339.482, abs=0.2)
    # populationParameters.txt; SAEM and importance sampling differ by some tenths of a standard error
    for name, value, se in (
        ("ka_pop", 1.5326, 0.3128),
        ("V_pop", 0.4555, 0.0205),
        ("Cl_pop", 0.0402, 0.0034),
        ("a", 0.4333, 0.1238),
        ("b", 0.0543, 0.0237),
    ):
        position = [label for label in labels(done.model).values()].index(name)
        assert abs(done.estimate.theta[position] - value) < 0.2 * se
    assert (tmp_path / "out" / "theophylline_project.ext").exists()
    assert not (tmp_path / "out" / "theophylline_project_final.ctl").exists()
