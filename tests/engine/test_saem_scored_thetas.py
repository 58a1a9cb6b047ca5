"""SAEM where thetas have no mu: they follow scores, of which most may be noise of the random effects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support import linear_mixed as lmm
from support.streams import read

from elbomix.engine.estimate import initial
from elbomix.engine.methods.saem import SaemSettings, estimate_saem
from elbomix.engine.objective.population import Population


@pytest.mark.slow
def test_thetas_without_mu_do_not_crawl(tmp_path: Path) -> None:
    # exact samples: next to nothing of the information on the thetas is left when random effects are unknown
    rng = np.random.default_rng(4)
    rows: list[lmm.Row] = []
    for i in range(40):
        a, b = rng.multivariate_normal([2.0, -0.5], [[0.5, 0.1], [0.1, 0.3]])
        x = float(rng.normal())
        for t in np.linspace(0, 4, 10):
            y = a + 0.7 * x + b * t + rng.normal(0, 0.1)
            rows.append({"ID": i + 1, "TIME": float(t), "X": x, "DV": float(y)})
    model, data = read(tmp_path, lmm.stream(), rows)
    settings = SaemSettings(burn_in=150, iterations=150, not_mu=frozenset({0, 1, 2}), information=False)
    found = estimate_saem(Population(model, data), initial(model), settings).estimate
    exact = lmm.maximum(rows, found)
    assert lmm.by_subject(rows, found).sum() - lmm.by_subject(rows, exact).sum() < 0.1
