"""The observation model: what turns amounts into predictions and residual errors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from .span import Span
from .statement import Statement


@dataclass(frozen=True)
class ObservationModel:
    """Statements that assign ``response`` as a function of prediction, amounts and eps.

    The scaled amount in the observation compartment (amount / scale) is available as the variable
    named ``prediction`` before the first statement (absent when the model has no dynamics).
    The mean is the response at eps = 0 and its variance G Sigma G' with G = d response / d eps
    at eps = 0, both at the current eta.

    ``kind`` says what the response is: a normal observation, the likelihood of the record, or minus twice its
    logarithm. Where ``flag`` names a variable, its value at a record decides instead: 0 normal, 1 likelihood,
    2 minus two log-likelihood. ``level`` names the data column within whose equal consecutive values
    residuals of a subject are correlated through shared eps (None: all records have their own eps).
    """

    statements: tuple[Statement, ...]
    response: str  # "Y"
    prediction: str | None  # "F"
    kind: Literal["normal", "likelihood", "minus_two_ll"] = "normal"
    flag: str | None = None
    level: str | None = None
    span: Span | None = field(default=None, compare=False, repr=False)
