"""How tightly the classical methods integrate differential equations.

A control stream's tolerance is the least that its author accepts of predictions. Conditional modes and their
second derivatives ask for more: at three digits the value jumps from step sequence to step sequence by more
than the last steps of a search gain, modes do not settle, and the search creeps.
"""

from __future__ import annotations

from dataclasses import replace

from ..ir.compartment import OdeDynamics
from ..ir.model import Model

LOOSEST = 1e-5  # relative


def tightened(model: Model) -> Model:
    """Return ``model`` with a relative tolerance of at most :data:`LOOSEST`."""
    dynamics = model.dynamics
    if not isinstance(dynamics, OdeDynamics) or dynamics.relative_tolerance <= LOOSEST:
        return model
    return replace(model, dynamics=replace(dynamics, relative_tolerance=LOOSEST))


def tolerance_note(model: Model) -> str:
    """Return what to say of the tolerance of ``model``; nothing where it is used as it stands."""
    if tightened(model) is model:
        return ""
    assert isinstance(model.dynamics, OdeDynamics)
    return (
        f"the differential equations were integrated with a relative tolerance of {LOOSEST:g}, not the "
        f"{model.dynamics.relative_tolerance:g} that the model asks for: derivatives need the digits"
    )
