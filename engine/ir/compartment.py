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
    rate or duration. A compartment that is ``initially_off`` holds nothing until a record turns it on.
    An ``equilibrium`` compartment has no derivative: its amount solves an algebraic equation.
    """

    name: str
    scale: Expression | None = None
    bioavailability: Expression | None = None
    lag: Expression | None = None
    rate: Expression | None = None
    duration: Expression | None = None
    initial: Expression | None = None
    initially_off: bool = False
    can_be_off: bool = True
    takes_doses: bool = True
    equilibrium: bool = False


@dataclass(frozen=True)
class OutputCompartment:
    """What has left the system since the compartment was turned on (urine, say); numbered after all others.

    It is off until a record turns it on, unless ``initially_on``. ``fraction`` of what leaves arrives.
    """

    scale: Expression | None = None
    fraction: Expression | None = None
    initially_on: bool = False


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
    output: OutputCompartment | None = None
    model_times: tuple[Expression, ...] = ()
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class OdeDynamics:
    """General differential equations.

    ``statements`` run with :class:`~.expression.Time`, :class:`~.expression.Amount` and all
    individual variables in reach and assign every ``"DADT(n)"``, and ``"E(n)"`` (to become zero) for
    equilibrium compartments. ``model_times`` are times of discontinuity that the individual model
    computes; ``start`` is the time before which the system keeps its initial amounts (None: the subject's
    first record).
    """

    compartments: tuple[Compartment, ...]
    statements: tuple[Statement, ...]
    default_dose: int
    default_observation: int
    relative_tolerance: float
    absolute_tolerance: float
    stiff: bool = False  # the user asked for a stiff solver
    output: OutputCompartment | None = None
    model_times: tuple[Expression, ...] = ()
    start: Expression | None = None
    span: Span | None = field(default=None, compare=False, repr=False)


Dynamics = LinearDynamics | OdeDynamics
