"""Dynamics: compartments, linear transfer graphs and differential equations.

A closed-form model is a graph of first-order transfers whose rate constants are variables of the
individual model; which formula solves it is the decoder's business. So one form serves every
library model of either language.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .expression import Expression
from .span import Span
from .statement import Statement


@dataclass(frozen=True)
class Compartment:
    """One compartment and the individual-model expressions that modify its doses and outputs.

    All modifiers are evaluated from the individual model at the dose's record (scale: at the
    observation's). ``None`` means the neutral value (1 for bioavailability and scale, 0 for lag
    and initial amount); ``rate`` and ``duration`` serve doses whose record asks for a modelled
    rate or duration.
    """

    name: str
    scale: Expression | None = None
    bioavailability: Expression | None = None
    lag: Expression | None = None
    rate: Expression | None = None
    duration: Expression | None = None
    initial: Expression | None = None


@dataclass(frozen=True)
class Transfer:
    """First-order transfer with rate constant ``rate`` from ``source`` to ``target`` (0: out)."""

    source: int
    target: int
    rate: Expression


@dataclass(frozen=True)
class LinearDynamics:
    """A linear compartment model, dA/dt given by its transfers."""

    compartments: tuple[Compartment, ...]
    transfers: tuple[Transfer, ...]
    default_dose: int  # compartment (from 1)
    default_observation: int
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class OdeDynamics:
    """General differential equations.

    ``statements`` run with :class:`~.expression.Time`, :class:`~.expression.Amount` and all
    individual variables in reach and assign every ``"DADT(n)"``.
    """

    compartments: tuple[Compartment, ...]
    statements: tuple[Statement, ...]
    default_dose: int
    default_observation: int
    relative_tolerance: float
    absolute_tolerance: float
    stiff: bool = False  # the user asked for a stiff solver
    span: Span | None = field(default=None, compare=False, repr=False)


Dynamics = LinearDynamics | OdeDynamics
