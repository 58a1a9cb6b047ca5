"""The tolerance with which the classical methods integrate."""

from __future__ import annotations

import numpy as np
import pytest
from support.nonmem_runs import load

from elbomix.engine.estimate import initial
from elbomix.engine.ir.compartment import OdeDynamics
from elbomix.engine.objective.observations import ObservationLikelihood
from elbomix.engine.objective.tolerance import LOOSEST, tightened, tolerance_note


def test_three_digits_are_tightened_and_said() -> None:
    """Predictions at 1e-3 are as those at the tolerance used; tighter ones stay as they are."""
    run = load("nonmem", "ddmore-298-sultiame")  # TOL=3
    model = run.model()
    assert isinstance(model.dynamics, OdeDynamics)
    assert model.dynamics.relative_tolerance == 1e-3
    assert "1e-05, not the 0.001" in tolerance_note(model)
    likelihood = ObservationLikelihood(model, run.data(model))
    assert isinstance(likelihood.model.dynamics, OdeDynamics)
    assert likelihood.model.dynamics.relative_tolerance == LOOSEST
    at = initial(model)
    made = likelihood.predict(at.theta, np.zeros((1, 4, 4)), sigma=at.sigma)
    assert np.isfinite(made.values).all()


@pytest.mark.parametrize("name", ["warfarin-ode-lag", "warfarin-advan2"])
def test_other_models_are_used_as_they_stand(name: str) -> None:
    model = load("nonmem", name).model()
    assert tightened(model) is model
    assert tolerance_note(model) == ""
