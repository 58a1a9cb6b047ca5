"""Covariate effects as part of a model: each adds theta * x to the phi of a mu-referenced parameter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .dataflow import dataflow, individual_statements
from .evaluate import evaluate
from .expression import Binary, Call, Column, Eta, Expression, Number, Theta
from .model import Model
from .mu import holder
from .parameter import ThetaParameter
from .statement import transform_statements

Form = Literal["power", "exp", "linear", "cat"]


@dataclass(frozen=True)
class Effect:
    """A covariate effect on a mu-referenced parameter.

    It adds beta * x to the parameter's phi, with x = log(c / reference) (``power``),
    c - reference (``exp``, ``linear``) or 1 where c equals ``level`` (``cat``).
    """

    parameter: str
    eta: int  # from 1
    covariate: str
    form: Form
    reference: float
    level: float | None = None

    def __str__(self) -> str:
        level = "" if self.level is None else f"={self.level:g}"
        return f"{self.parameter}~{self.covariate}{level}"


def design(effect: Effect) -> Expression:
    """Return x of ``effect``: log(c / reference), c - reference, or 1 at the level and 0 elsewhere.

    Levels are whole numbers, so the indicator is max(0, 1 - |c - level|), which needs no conditional.
    """
    covariate = Column(effect.covariate)
    if effect.form == "cat":
        assert effect.level is not None
        distance = Call("abs", (Binary("-", covariate, Number(effect.level)),))
        return Call("max", (Number(0.0), Binary("-", Number(1.0), distance)))
    if effect.form == "power":
        return Call("log", (Binary("/", covariate, Number(effect.reference)),))
    return Binary("-", covariate, Number(effect.reference))


def design_value(effect: Effect, columns: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return x of ``effect`` at every record of ``columns``."""
    return evaluate(design(effect), columns)


def add_effects(model: Model, effects: Sequence[Effect], initial: float = 0.0) -> Model:
    """Return ``model`` with one more theta per effect, in their order, starting at ``initial``.

    In the statement that holds the parameter's eta, ETA(k) becomes ETA(k) + THETA(n) * x; the parameter stays
    mu-referenced.

    Raises
    ------
    ValueError
        Where no single statement holds the eta, so there is no phi to add to.
    """
    flow = dataflow(model)
    thetas = list(model.thetas)
    added: dict[int, Expression] = {}
    for effect in effects:
        thetas.append(ThetaParameter(f"THETA{len(thetas) + 1}", initial, label=label(effect)))
        term = Binary("*", Theta(len(thetas)), design(effect))
        added[effect.eta] = Binary("+", added.get(effect.eta, Eta(effect.eta)), term)
    statements = list(individual_statements(model))
    for eta, phi in added.items():
        place = holder(flow, eta)
        if place is None:
            raise ValueError(f"ETA({eta}) is not in exactly one statement: it cannot take covariate effects.")
        position = flow.definitions[place].position
        (statements[position],) = transform_statements((statements[position],), _replacing(Eta(eta), phi))
    n = len(model.individual)
    observation = model.observation
    if model.dynamics is None:
        observation = replace(observation, statements=tuple(statements[n:]))
    return model.replace(thetas=tuple(thetas), individual=tuple(statements[:n]), observation=observation)


def _replacing(old: Expression, new: Expression) -> Callable[[Expression], Expression]:
    return lambda node: new if node == old else node


def label(effect: Effect) -> str:
    """Return a short description for tables and comments, such as ``"KA~WT power, reference 69.58"``."""
    if effect.form == "cat":
        return f"{effect} cat, reference {effect.reference:g}"
    return f"{effect} {effect.form}, reference {effect.reference:.5g}"
