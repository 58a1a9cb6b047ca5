"""Observations: error models, and which data each one fits."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ...engine.ir.expression import (
    Binary,
    Call,
    Column,
    Compare,
    Eps,
    Expression,
    Number,
    Variable,
)
from ...engine.ir.observation import ObservationModel
from ...engine.ir.parameter import CovarianceBlock
from ...engine.ir.span import Span
from ...engine.ir.statement import Assign, If, Statement
from ..problem import ProblemError
from .context import Context, Entry, suggest
from .individual import to_unit
from .lexical import Definition, Document
from .longitudinal import Longitudinal
from .lower_inputs import DataFile
from .parameters import Parameters, constant
from .parse import parse_value
from .reading import Observed, Transform, codes
from .structure import Structure
from .syntax import Apply, Item, Name, options, word

# name -> its parameters
_ERROR_MODELS = {
    "constant": "a",
    "proportional": "b",
    "combined1": "ab",
    "combined2": "ab",
    "proportionalc": "bc",
    "combined1c": "abc",
    "combined2c": "abc",
    "exponential": "a",
}
_TRANSFORMS: dict[str, Transform] = {"normal": "identity", "lognormal": "log", "logitnormal": "logit"}
_KEYS = {"distribution", "type", "prediction", "errormodel", "min", "max", "sd"}
_NOT_CONTINUOUS = re.compile(r"\btype\s*=\s*(event|count|categorical|discrete)\b", re.I)


@dataclass(frozen=True)
class _Definition:
    """The definition of one continuous observation."""

    name: str
    prediction: Name
    model: str
    arguments: tuple[Item, ...]
    transform: Transform
    low: float
    high: float
    span: Span


def lower_observations(
    context: Context, model: Longitudinal, structure: Structure, data: DataFile, parameters: Parameters
) -> tuple[ObservationModel, tuple[CovarianceBlock, ...], tuple[Observed, ...]] | None:
    """Return the observation model, the variances of its eps, and the types of observation it uses."""
    pairs = _pairs(context, model, data)
    fitted = {name for _, name, _ in pairs}
    found: dict[str, _Definition] = {}
    for document, definition in model.observations:
        if definition.key in fitted and (read := _read(context, document, definition, structure)) is not None:
            found[read.name] = read
    missing = [(name, span) for _, name, span in pairs if name not in found]
    if not context.problems:
        for name, span in missing:
            known = [d.key for _, d in model.observations]
            context.error(f"there is no definition of the observation {name}", span, suggest(name, known))
    if missing or not pairs:
        return None
    chosen = [(position, found[name]) for position, name, _ in pairs]
    response = chosen[0][1].name
    taken = {*structure.known, *(data.inputs.names)}
    if len(chosen) > 1:
        response = "Y"
    while response in taken:
        response += "_"
    observed = tuple(
        Observed(data.observations[position][1], d.transform, d.low, d.high) for position, d in chosen
    )
    bodies = [
        (Assign(response, _response(context, structure, parameters, d, k), span=d.span),)
        for k, (_, d) in enumerate(chosen, start=1)
    ]
    statements = structure.predictions({d.prediction.text for _, d in chosen}, data.time)
    statements += _by_type(data, observed, bodies)
    sigma = tuple(
        CovarianceBlock(k, 1, (1.0,), fixed=True, labels=("",), span=d.span)
        for k, (_, d) in enumerate(chosen, start=1)
    )
    return ObservationModel(statements, response, None, span=chosen[0][1].span), sigma, observed


def _by_type(
    data: DataFile, observed: tuple[Observed, ...], bodies: list[tuple[Assign]]
) -> tuple[Statement, ...]:
    if len(bodies) == 1:
        return bodies[0]
    assert data.observation_type is not None
    numbers = codes(tuple(o.text for o in observed))
    branches = tuple(
        (Compare("==", Column(data.observation_type), Number(numbers[o.text])), body)
        for o, body in zip(observed[:-1], bodies[:-1], strict=True)
    )
    return (If(branches, bodies[-1], span=bodies[0][0].span),)


def _pairs(context: Context, model: Longitudinal, data: DataFile) -> list[tuple[int, str, Span]]:
    """Return (position among the data's types, observation) of what is fitted, with its place."""
    document = context.project
    entries = {e.key: e for e in context.entries(document, document.of("", section="FIT"))}
    known = [name for name, _, _ in data.observations]
    if "data" not in entries or "model" not in entries:
        defined = [d for _, d in model.observations if d.key != "correlation"]
        places = list(range(min(len(known), len(defined))))
        names = [(defined[i].key, defined[i].key_span) for i in places]
        if not names:
            context.error("no observation is defined", context.top, "<FIT> data=... model=...")
    else:
        places, names = _fit(context, entries["data"], entries["model"], data)
    pairs = [(place, name, span) for place, (name, span) in zip(places, names, strict=True)]
    if len(known) > 1 and data.observation_type is None:
        context.error("no column tells the observations apart", data.observation_span, "use=observationtype")
        return []
    for place, _, _ in pairs:
        kind = data.observations[place][2]
        if kind != "continuous":
            context.error(f"{kind} observations are not supported yet", data.observation_span)
            return []
        if data.observation_type is not None and not data.observations[place][1]:
            name, _, kind = data.observations[place]
            data.observations[place] = (name, name, kind)
    return pairs


def _fit(
    context: Context, left: Entry, right: Entry, data: DataFile
) -> tuple[list[int], list[tuple[str, Span]]]:
    if len(left.names) != len(right.names) or not left.names:
        context.error(
            f"<FIT> pairs {len(left.names)} data with {len(right.names)} observations",
            right.span,
            "data = {y1, y2} and model = {Concentration, Effect}",
        )
        return [], []
    places = []
    for name in left.names:
        found = [i for i, (own, value, _) in enumerate(data.observations) if name in (own, value)]
        if not found:
            known = [own for own, _, _ in data.observations]
            context.error(f"the data have no observations {name}", left.span, f"they have {', '.join(known)}")
            return [], []
        places.append(found[0])
    return places, [(name, right.span) for name in right.names]


def _read(
    context: Context, document: Document, definition: Definition, structure: Structure
) -> _Definition | None:
    raw = document.clean[definition.start : definition.stop]
    kind = _NOT_CONTINUOUS.search(raw)
    if kind is not None:
        place = document.source.span(definition.start + kind.start(), definition.start + kind.end())
        context.error(f"{kind.group(1).lower()} observations are not supported yet", place)
        return None
    try:
        value = parse_value(document, definition.start, definition.stop)
    except ProblemError as error:
        context.problems += error.problems
        return None
    chosen = {key.lower(): item for key, item in (options(value) if value is not None else {}).items()}
    name, span = definition.key, definition.key_span
    before = len(context.problems)
    for key, item in chosen.items():
        if key == "autocorrcoef":
            context.error("autocorrelated residual errors are not supported yet", item.span)
        elif key not in _KEYS:
            context.error(f"unknown option {key} of {name}", item.span, suggest(key, _KEYS))
    prediction = chosen["prediction"].value if "prediction" in chosen else None
    if not isinstance(prediction, Name):
        context.error(f"{name} needs a prediction", span, "prediction=Cc")
    elif prediction.text not in structure.known and prediction.text not in structure.amounts:
        known = [*structure.known, *structure.amounts]
        context.error(f"{prediction.text} is not defined", prediction.span, suggest(prediction.text, known))
    distribution = (
        word(chosen["distribution"].value) or "" if "distribution" in chosen else "normal"
    ).lower()
    if distribution not in _TRANSFORMS:
        context.error(f"unknown distribution '{distribution}'", span, ", ".join(_TRANSFORMS))
    low, high = (_number(context, chosen.get(key), default) for key, default in (("min", 0.0), ("max", 1.0)))
    model = _error_model(context, name, span, chosen)
    if len(context.problems) > before or model is None or not isinstance(prediction, Name):
        return None
    transform = _TRANSFORMS[distribution]
    if model[0] == "exponential":
        model, transform = ("constant", model[1]), "log"
    return _Definition(name, prediction, *model, transform, low, high, span)


def _number(context: Context, item: Item | None, default: float) -> float:
    value = constant(item.value) if item is not None else default
    if value is None:
        context.error("a bound is a number", item.span if item is not None else None)
    return default if value is None else value


def _error_model(
    context: Context, name: str, span: Span, chosen: dict[str, Item]
) -> tuple[str, tuple[Item, ...]] | None:
    if "errormodel" not in chosen:
        if "sd" in chosen:
            return "constant", (chosen["sd"],)
        context.error(f"{name} needs an error model", span, "errorModel=combined1(a, b)")
        return None
    node = chosen["errormodel"].value
    if not isinstance(node, Apply):
        context.error("an error model names its parameters", node.span, "e.g. combined1(a, b)")
        return None
    model = node.name.lower()
    if model not in _ERROR_MODELS:
        context.error(f"unknown error model {node.name}", node.span, suggest(model, _ERROR_MODELS))
        return None
    if len(node.items) != len(_ERROR_MODELS[model]):
        wanted = ", ".join(_ERROR_MODELS[model])
        context.error(f"{node.name} has {len(node.items)} parameters", node.span, f"{model}({wanted})")
        return None
    return model, node.items


def _response(
    context: Context, structure: Structure, parameters: Parameters, definition: _Definition, eps: int
) -> Expression:
    """Return u(f) + g e, with g in terms of u(f)."""
    span = definition.prediction.span
    amount = structure.amounts.get(definition.prediction.text)
    prediction = amount if amount is not None else Variable(definition.prediction.text, span=span)
    if definition.transform == "log":
        prediction = Call("log", (prediction,), span=span)
    elif definition.transform == "logit":
        prediction = Call("logit", (to_unit(prediction, definition.low, definition.high),), span=span)
    letters = _ERROR_MODELS[definition.model]
    p: dict[str, Expression] = {}
    for letter, item in zip(letters, definition.arguments, strict=True):
        p[letter] = parameters.fixed_effect(item.value, 0.0, closed=True)
    power: Expression = prediction
    if "c" in p:
        power = Binary("**", prediction, p["c"])
    scaled = Binary("*", p["b"], power) if "b" in p else Number(0.0)
    if definition.model == "constant":
        slope: Expression = p["a"]
    elif definition.model.startswith("proportional"):
        slope = scaled
    elif definition.model.startswith("combined1"):
        slope = Binary("+", p["a"], scaled)
    else:
        squares = Binary("+", Binary("**", p["a"], Number(2.0)), Binary("**", scaled, Number(2.0)))
        slope = Call("sqrt", (squares,))
    return Binary("+", prediction, Binary("*", slope, Eps(eps)), span=definition.span)
