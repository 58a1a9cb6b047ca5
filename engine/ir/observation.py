"""The observation model: what turns amounts into predictions and residual errors."""

from __future__ import annotations

from dataclasses import dataclass, field

from .span import Span
from .statement import Statement


@dataclass(frozen=True)
class ObservationModel:
    """Statements that assign ``response`` as a function of prediction, amounts and eps.

    The scaled amount in the observation compartment (amount / scale) is available as the variable
    named ``prediction`` before the first statement (absent when the model has no dynamics).
    The mean is the response at eps = 0 and its variance G Sigma G' with G = d response / d eps
    at eps = 0, both at the current eta.
    """

    statements: tuple[Statement, ...]
    response: str  # "Y"
    prediction: str | None  # "F"
    span: Span | None = field(default=None, compare=False, repr=False)
