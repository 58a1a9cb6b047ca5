"""What became of the model at one subject: codes with a text and a remedy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FINE: Final = 0
REJECTED: Final = 1
FATAL: Final = 2
ENDLESS: Final = 3
DRAWN: Final = 4
NEGATIVE_LAG: Final = 10
NEGATIVE_FRACTION: Final = 11
BAD_RATE: Final = 12
BAD_DURATION: Final = 13
NOT_FINITE: Final = 14
NO_STEADY_STATE: Final = 15
STEADY_STATE_SINGULAR: Final = 16
BAD_MODEL_TIME: Final = 17
TOO_MANY_DOSES: Final = 18
NO_BALANCE: Final = 19
FED_WHILE_OFF: Final = 20
INTEGRATION: Final = 100  # plus the integrator's own code


@dataclass(frozen=True)
class Status:
    """A code of the kernel in words: what happened and what to try."""

    code: int
    message: str
    remedy: str = ""


_TEXTS: dict[int, tuple[str, str]] = {
    FINE: ("The model was evaluated.", ""),
    REJECTED: ("The model rejected the parameters (EXIT 1).", "Start from other values, or bound them."),
    FATAL: ("The model asked to stop (EXIT 2).", "See the model's own exit code."),
    ENDLESS: ("A loop of the model did not end.", "Check the condition of its DO WHILE."),
    DRAWN: ("The model draws random numbers.", "Random numbers can be drawn in a simulation only."),
    NEGATIVE_LAG: (
        "An absorption lag is negative or not a number.",
        "Write the lag so that it stays positive.",
    ),
    NEGATIVE_FRACTION: (
        "A bioavailability is negative or not a number.",
        "Write the fraction so that it stays positive.",
    ),
    BAD_RATE: (
        "The rate of an infusion is zero, negative or not a number.",
        "Write the modelled rate so that it stays positive.",
    ),
    BAD_DURATION: (
        "The duration of an infusion is zero, negative or not a number.",
        "Write the modelled duration so that it stays positive.",
    ),
    NOT_FINITE: (
        "An amount grew beyond all numbers or is not a number.",
        "Check rate constants and initial amounts at these parameters.",
    ),
    NO_STEADY_STATE: (
        "No steady state was found.",
        "Check that the system eliminates what it is given; start nearer to the steady state (SS=3), "
        "or give the doses themselves.",
    ),
    STEADY_STATE_SINGULAR: (
        "There is no single steady state: some compartment keeps all that enters it.",
        "Turn that compartment off for the steady-state dose, or give the doses themselves.",
    ),
    NO_BALANCE: (
        "The algebraic equations of the equilibrium compartments were not solved.",
        "Check the equations; give better initial amounts.",
    ),
    FED_WHILE_OFF: (
        "A compartment that is off would fill, and other differential equations depend on its amount.",
        "Multiply what flows into it by a switch that the data set, and leave the compartment on.",
    ),
    TOO_MANY_DOSES: (
        "More infusions of one subject overlap than there is room for.",
        "Shorten the infusions, or make the lag shorter than a few dosing intervals.",
    ),
    BAD_MODEL_TIME: ("A model time is not a number.", "Check the expression of the model time."),
}


def describe(code: int) -> Status:
    """Return what status ``code`` of the kernel means."""
    if code in _TEXTS:
        return Status(code, *_TEXTS[code])
    from .integrators.integrate import REMEDIES

    message, remedy = split_remedy(REMEDIES.get(code - INTEGRATION, f"The integrator stopped ({code})."))
    return Status(code, message, remedy)


def split_remedy(text: object) -> tuple[str, str]:
    """Return message and remedy of an entry of the integrator's table, given as a pair or as sentences."""
    if isinstance(text, tuple):
        return str(text[0]), str(text[1])
    message, _, remedy = str(text).partition(". ")
    return (f"{message}." if remedy else message), remedy
