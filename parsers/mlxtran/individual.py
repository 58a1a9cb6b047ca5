"""[INDIVIDUAL]: distributions of the individual parameters, as statements and covariance blocks."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...engine.ir.expression import Binary, Call, Eta, Expression, Number, Variable
from ...engine.ir.parameter import CovarianceBlock
from ...engine.ir.statement import Assign, If, Statement
from .context import Context, Entry, listed, suggest
from .covariates import Covariates
from .lower_expression import simple_sum
from .parameters import Parameters, constant
from .random_effects import RandomEffect, RandomEffects
from .syntax import Braces, Item, Node, options, word

_DISTRIBUTIONS = {"normal", "lognormal", "logitnormal", "probitnormal"}
_TYPICAL = ("typical", "reference", "prediction")
_KEYS = {
    "distribution",
    *_TYPICAL,
    "mean",
    "sd",
    "var",
    "no-variability",
    "covariate",
    "coefficient",
    "varlevel",
    "min",
    "max",
}


@dataclass
class Individual:
    """The individual parameters by name, the statements that make them, and their random effects."""

    names: list[str] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)
    omega: tuple[CovarianceBlock, ...] = ()


@dataclass(frozen=True)
class _Draft:
    """One definition: its distribution, fixed part and random effect (None: no variability)."""

    name: str
    entry: Entry
    distribution: str
    low: float
    high: float
    effect: RandomEffect | None
    chosen: dict[str, Item]


def lower_individual(context: Context, parameters: Parameters, covariates: Covariates) -> Individual:
    """Read the definitions of [INDIVIDUAL]."""
    document = context.project
    found = Individual()
    effects = RandomEffects(context, parameters)
    drafts: list[_Draft] = []
    for entry in context.entries(document, document.of("INDIVIDUAL", "DEFINITION", "MODEL")):
        if entry.key == "correlation":
            effects.correlate(entry)
            continue
        found.names.append(entry.key)
        draft = _draft(context, effects, entry)
        if draft is not None and any(draft.name == other.name for other in drafts):
            context.error(f"{draft.name} is defined twice", entry.span)
        elif draft is not None:
            drafts.append(draft)
    for block in document.of("INDIVIDUAL", "EQUATION", "MODEL"):
        context.error("equations in [INDIVIDUAL] are not supported yet", block.head)
    found.omega = effects.blocks()
    taken = {draft.name for draft in drafts} | set(covariates.continuous)
    for draft in drafts:
        found.statements += _statements(context, parameters, covariates, effects, draft, taken)
    return found


def _draft(context: Context, effects: RandomEffects, entry: Entry) -> _Draft | None:
    chosen = options(entry.value) if entry.value is not None else {}
    if "distribution" not in chosen:
        context.error(
            f"{entry.key} has no distribution",
            entry.span,
            f"{entry.key} = {{distribution=logNormal, typical={entry.key}_pop, sd=omega_{entry.key}}}",
        )
        return None
    item = chosen["distribution"]
    distribution = (word(item.value) or "").lower()
    if distribution not in _DISTRIBUTIONS:
        context.error(
            f"unknown distribution '{word(item.value) or ''}'",
            item.span,
            suggest(distribution, _DISTRIBUTIONS),
        )
        return None
    if distribution == "probitnormal":
        context.error("probitNormal is not supported yet", item.span, "logitNormal is near to it")
        return None
    for key, other in chosen.items():
        if key not in _KEYS:
            context.error(f"unknown option {key} of {entry.key}", other.span, suggest(key, _KEYS))
    if distribution != "logitnormal" and (bound := chosen.get("min") or chosen.get("max")) is not None:
        context.error(f"{distribution} has no bounds", bound.span, "logitNormal has")
    if "sd" in chosen and "var" in chosen:
        context.error(f"{entry.key} has both sd and var", chosen["var"].span, "give one of them")
    low, high = _bounds(context, chosen)
    if "varlevel" in chosen and [word(n) for n in listed(chosen["varlevel"].value)] != ["id"]:
        context.error("variability between occasions is not supported yet", chosen["varlevel"].span)
        return None
    effect = None
    if "sd" in chosen or "var" in chosen:
        key = "sd" if "sd" in chosen else "var"
        effect = effects.add(entry.key, chosen[key].value, key == "var")
    elif "no-variability" not in chosen:
        context.error(f"{entry.key} has neither sd nor no-variability", entry.span, f"sd=omega_{entry.key}")
    return _Draft(entry.key, entry, distribution, low, high, effect, chosen)


def _bounds(context: Context, chosen: dict[str, Item]) -> tuple[float, float]:
    limits = [0.0, 1.0]
    for i, key in enumerate(("min", "max")):
        if key in chosen:
            value = constant(chosen[key].value)
            if value is None:
                context.error(f"{key} must be a number", chosen[key].span)
            else:
                limits[i] = value
    if limits[0] >= limits[1]:
        context.error("min must be below max", (chosen.get("max") or chosen["min"]).span)
    return limits[0], limits[1]


def _statements(
    context: Context,
    parameters: Parameters,
    covariates: Covariates,
    effects: RandomEffects,
    draft: _Draft,
    taken: set[str],
) -> list[Statement]:
    """Return the statements that compute one individual parameter."""
    span = draft.entry.span
    typical = _typical(context, parameters, draft)
    statements, terms = _covariate_terms(context, parameters, covariates, draft, taken)
    if draft.effect is not None:
        terms.append(Eta(effects.number(draft.effect), span=span))
    if not terms and typical[1] is not None:
        return [Assign(draft.name, typical[1], span=span)]
    phi = simple_sum([typical[0], *terms])
    return [*statements, Assign(draft.name, _inverse(draft, phi), span=span)]


def _typical(context: Context, parameters: Parameters, draft: _Draft) -> tuple[Expression, Expression | None]:
    """Return the typical value on the Gaussian scale, and on the natural one where it is given there."""
    given = [key for key in (*_TYPICAL, "mean") if key in draft.chosen]
    if len(given) != 1:
        context.error(f"{draft.name} needs one typical value", draft.entry.span, f"typical={draft.name}_pop")
        return Number(0.0), None
    node = draft.chosen[given[0]].value
    if given[0] == "mean":
        return parameters.fixed_effect(node), None
    if draft.distribution == "normal":
        value = parameters.fixed_effect(node)
        return value, value
    if draft.distribution == "lognormal":
        value = parameters.fixed_effect(node, 0.0)
        return Call("log", (value,), span=node.span), value
    value = parameters.fixed_effect(node, draft.low, draft.high)
    return Call("logit", (to_unit(value, draft.low, draft.high),), span=node.span), value


def _inverse(draft: _Draft, phi: Expression) -> Expression:
    span = draft.entry.span
    if draft.distribution == "normal":
        return phi
    if draft.distribution == "lognormal":
        return Call("exp", (phi,), span=span)
    unit = Call("invlogit", (phi,), span=span)
    if (draft.low, draft.high) == (0.0, 1.0):
        return unit
    scaled = Binary("*", Number(draft.high - draft.low), unit)
    return scaled if draft.low == 0.0 else Binary("+", Number(draft.low), scaled)


def to_unit(value: Expression, low: float, high: float) -> Expression:
    """Return ``value`` moved from [low, high] to [0, 1]."""
    if (low, high) == (0.0, 1.0):
        return value
    moved = value if low == 0.0 else Binary("-", value, Number(low))
    return Binary("/", moved, Number(high - low))


def _covariate_terms(
    context: Context, parameters: Parameters, covariates: Covariates, draft: _Draft, taken: set[str]
) -> tuple[list[Statement], list[Expression]]:
    """Return what covariates add on the Gaussian scale, and the statements that this needs."""
    if "covariate" not in draft.chosen:
        return [], []
    names = listed(draft.chosen["covariate"].value)
    coefficients = listed(draft.chosen["coefficient"].value) if "coefficient" in draft.chosen else ()
    first = word(names[0]) if len(names) == 1 else None
    if first in covariates.categorical and not any(isinstance(c, Braces) for c in coefficients):
        coefficients = (draft.chosen["coefficient"].value,) if coefficients else ()
    if len(names) != len(coefficients):
        context.error(
            f"{draft.name} has {len(names)} covariates and {len(coefficients)} coefficients",
            draft.chosen["covariate"].span,
            "coefficient={...} with one entry per covariate",
        )
        return [], []
    statements: list[Statement] = []
    terms: list[Expression] = []
    for name, coefficient in zip(names, coefficients, strict=True):
        text = word(name) or ""
        if text in covariates.categorical:
            statement, term = _by_category(
                context, parameters, covariates, f"{draft.name}_{text}", text, coefficient, taken
            )
            statements += [statement] if statement is not None else []
            terms += [term] if term is not None else []
        elif text in covariates.continuous:
            beta = parameters.fixed_effect(coefficient)
            terms.append(Binary("*", beta, covariates.continuous[text], span=name.span))
        elif covariates.data.covariates.get(text) == "categorical":
            context.error(
                f"the categories of {text} are not listed", name.span, f"{text} = {{type=categorical, ...}}"
            )
        else:
            known = [*covariates.continuous, *covariates.categorical]
            context.error(f"there is no covariate {text}", name.span, suggest(text, known))
    return statements, terms


def _by_category(
    context: Context,
    parameters: Parameters,
    covariates: Covariates,
    variable: str,
    covariate: str,
    node: Node,
    taken: set[str],
) -> tuple[Statement | None, Expression | None]:
    """Return the conditional that sets ``variable`` to the coefficient of the subject's category."""
    categories = list(covariates.categorical[covariate].groups)
    coefficients = listed(node)
    if len(coefficients) != len(categories):
        context.error(
            f"{covariate} has {len(categories)} categories, not {len(coefficients)}",
            node.span,
            f"one coefficient for each of {', '.join(categories)}, 0 for the reference",
        )
        return None, None
    while variable in taken:
        variable += "_"
    taken.add(variable)
    branches = []
    for category, coefficient in zip(categories, coefficients, strict=True):
        if constant(coefficient) == 0.0:
            continue
        beta = parameters.fixed_effect(coefficient)
        holds = covariates.indicator(covariate, category, node.span)
        branches.append((holds, (Assign(variable, beta, span=coefficient.span),)))
    if not branches:
        return None, None
    otherwise = (Assign(variable, Number(0.0), span=node.span),)
    return If(tuple(branches), otherwise, span=node.span), Variable(variable, span=node.span)
