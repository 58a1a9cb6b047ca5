"""$ESTIMATION and $COVARIANCE: what is to be computed."""

from __future__ import annotations

from typing import Literal

from ...engine.ir.task import CovarianceTask, EstimationTask, Method
from .context import Context
from .numbers import number
from .option_words import (
    COVARIANCE_FLAGS,
    COVARIANCE_OPTIONS,
    ESTIMATION_ALIASES,
    ESTIMATION_FLAGS,
    ESTIMATION_OFF,
    ESTIMATION_OPTIONS,
    ESTIMATION_RIVALS,
    METHOD_ALIASES,
    METHODS,
    option_value,
    with_values,
)
from .syntax import Option
from .words import resolve, suggest

_SAMPLING: dict[str, Method] = {
    "ITS": "its",
    "IMP": "imp",
    "IMPMAP": "impmap",
    "SAEM": "saem",
    "BAYES": "bayes",
    "NUTS": "nuts",
    "DIRECT": "imp",
    "CHAIN": "chain",
    "VAE": "vae",
}


def lower_estimations(context: Context, records: list[tuple[Option, ...]]) -> tuple[EstimationTask, ...]:
    """Return the estimation steps; each starts from the options of the one before."""
    tasks: list[EstimationTask] = []
    carried: dict[str, str] = {}
    for record, head in zip(records, context.stream.of("ESTIMATION"), strict=True):
        before, carried = carried, dict(carried)
        for option in with_values(record, ESTIMATION_FLAGS, ESTIMATION_OPTIONS, ESTIMATION_ALIASES):
            _estimation_option(context, option, carried)
        if _draws(carried) != _draws(before) and not _gives(record, "ISAMPLE"):
            carried.pop("ISAMPLE", None)  # each kind of sampling has its own default
        if carried.pop("OMITTED", None) is not None:
            continue
        tasks.append(
            EstimationTask(
                _method(carried),
                tuple(carried.items()),
                _evaluate_only(carried),
                span=context.stream.span(head),
            )
        )
        if carried.get("METHOD") == "CHAIN":  # draws initial values; its options are its own
            carried = before
    return tuple(tasks)


def _draws(options: dict[str, str]) -> str:
    """Return which kind of samples of the random effects, if any, the method of ``options`` draws."""
    method = _SAMPLING.get(options.get("METHOD", ""), "")
    return {"imp": "importance", "impmap": "importance", "saem": "chains", "bayes": "posterior",
            "nuts": "posterior"}.get(method, "")  # fmt: skip


def _gives(record: tuple[Option, ...], name: str) -> bool:
    return any(resolve(o.name.text, ESTIMATION_OPTIONS, ESTIMATION_ALIASES) == name for o in record)


def _estimation_option(context: Context, option: Option, carried: dict[str, str]) -> None:
    text = option.name.text.upper()
    switched = ESTIMATION_OFF.get(text) or (
        ESTIMATION_OFF.get(resolve(text, ESTIMATION_OFF) or "") if text.startswith("NO") else None
    )
    name = resolve(text, ESTIMATION_OPTIONS, ESTIMATION_ALIASES)
    if switched is not None and text not in ESTIMATION_OPTIONS:
        carried.pop(switched, None)
        return
    if name is None:
        words = (*ESTIMATION_OPTIONS, *ESTIMATION_ALIASES, *ESTIMATION_OFF)
        context.error(f"unknown option {text} of $ESTIMATION", option.name.span, suggest(text, words))
        return
    value = option_value(option)
    if not value and name not in ESTIMATION_FLAGS:
        context.error(f"{name} needs a value", option.span, f"{name}=...")
    elif name == "METHOD":
        method = resolve(value, METHODS, METHOD_ALIASES)
        if method is None:
            context.error(f"unknown method {value.upper()}", option.span, suggest(value, METHODS))
            return
        value = method
    elif name == "MAXEVALS" and (number(value) is None or value.startswith("-")):
        context.error("MAXEVALS needs a number", option.span, "e.g. MAXEVALS=9999, or 0 to evaluate only")
    for rivals in ESTIMATION_RIVALS:
        if name in rivals:
            for other in rivals - {name}:
                carried.pop(other, None)
    carried[name] = value


def response_kind(tasks: tuple[EstimationTask, ...]) -> Literal["normal", "likelihood", "minus_two_ll"]:
    """Return what the response of the model is, by the options of the last estimation step."""
    words = {name for name, _ in tasks[-1].options} if tasks else set()
    if "LIKELIHOOD" in words:
        return "likelihood"
    return "minus_two_ll" if "-2LOGLIKELIHOOD" in words else "normal"


def _method(options: dict[str, str]) -> Method:
    word = options.get("METHOD", "ZERO")
    if word in _SAMPLING:
        return _SAMPLING[word]
    interaction = "INTERACTION" in options
    if word == "ZERO":
        return "foi" if interaction else "fo"
    if "LAPLACIAN" in options:
        return "laplacei" if interaction else "laplace"
    return "focei" if interaction else "foce"


def _evaluate_only(options: dict[str, str]) -> bool:
    word = options.get("METHOD", "ZERO")

    def value(name: str) -> float | None:
        return number(options[name]) if name in options else None

    if word in ("ZERO", "CONDITIONAL", "HYBRID"):
        return value("MAXEVALS") == 0
    if word in ("IMP", "IMPMAP", "DIRECT"):
        return value("EONLY") in (1.0, 2.0, 3.0) or value("NITER") == 0
    if word == "VAE":
        return value("MAXEVALS") == 0 or value("EONLY") in (1.0, 2.0, 3.0) or value("NITER") == 0
    return word in ("ITS", "SAEM") and value("NITER") == 0 and value("NBURN") in (None, 0.0)


def lower_covariance(context: Context, records: list[tuple[Option, ...]]) -> CovarianceTask | None:
    """Return the request for standard errors, or None where there is none."""
    if not records:
        return None
    options: dict[str, str] = {}
    for option in with_values(
        [o for record in records for o in record], COVARIANCE_FLAGS, COVARIANCE_OPTIONS
    ):
        name = resolve(option.name.text, COVARIANCE_OPTIONS)
        if name is None:
            text = option.name.text.upper()
            context.error(
                f"unknown option {text} of $COVARIANCE", option.name.span, suggest(text, COVARIANCE_OPTIONS)
            )
        else:
            options[name] = option_value(option).upper()
    if options.pop("OMITTED", None) is not None:
        return None
    return CovarianceTask(
        tuple(options.items()),
        print_eigenvalues="E" in options.get("PRINT", ""),
        span=context.stream.span(context.stream.of("COVARIANCE")[0]),
    )
