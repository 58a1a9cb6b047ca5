"""$SIMULATION: random sources and what is to be simulated."""

from __future__ import annotations

from ...engine.ir.task import SimulationTask
from .context import Context
from .numbers import whole
from .option_words import is_group, option_value, separate_groups, with_values
from .syntax import Option
from .words import resolve, suggest

_OPTIONS: tuple[str, ...] = (
    "SUBPROBLEMS",
    "ONLYSIMULATION",
    "OMITTED",
    "REQUESTFIRST",
    "REQUESTSECOND",
    "PREDICTION",
    "NOPREDICTION",
    "TRUE",
    "CLOCKSEED",
    "SOURCE_EPS",
    "TTDF",
    "BOOTSTRAP",
    "REPLACE",
    "NOREPLACE",
    "STRAT",
    "STRATF",
    "NOREWIND",
    "REWIND",
    "SUPRESET",
    "NOSUPRESET",
    "RANMETHOD",
    "PARAFILE",
)
_ALIASES = {"SUBPROBS": "SUBPROBLEMS", "NSUBPROBLEMS": "SUBPROBLEMS", "NSUBPROBS": "SUBPROBLEMS"}
_FLAGS = frozenset(
    """
    ONLYSIMULATION OMITTED REQUESTFIRST REQUESTSECOND PREDICTION NOPREDICTION REPLACE NOREPLACE NOREWIND
    REWIND SUPRESET NOSUPRESET
    """.split()
)
_TRUE = ("INITIAL", "FINAL", "PRIOR")
_SOURCE_WORDS = ("NORMAL", "UNIFORM", "NONPARAMETRIC", "NEW")
_LARGEST_SEED = 2147483647


def lower_simulation(context: Context, records: list[tuple[Option, ...]]) -> SimulationTask | None:
    """Return the request for simulated data, or None where there is none.

    Attributes of the n-th random source other than its seed become options named ``SOURCEn``.
    """
    if not records:
        return None
    seeds: list[int] = []
    options: dict[str, str] = {}
    for option in with_values(separate_groups([o for r in records for o in r]), _FLAGS, _OPTIONS, _ALIASES):
        if is_group(option):
            _source(context, option, seeds, options)
        else:
            _option(context, option, options)
    head = context.stream.of("SIMULATION")[0]
    if options.pop("OMITTED", None) is not None:
        return None
    if not seeds and "BOOTSTRAP" not in options:
        context.error("$SIMULATION needs a seed", head.head, "e.g. $SIMULATION (12345)")
    count = options.pop("SUBPROBLEMS", "1")
    return SimulationTask(
        tuple(seeds),
        max(1, whole(count) or 1),
        options.pop("ONLYSIMULATION", None) is not None,
        tuple(options.items()),
        span=context.stream.span(head),
    )


def _source(context: Context, group: Option, seeds: list[int], options: dict[str, str]) -> None:
    assert group.items is not None
    numbers: list[int] = []
    words: list[str] = []
    for item in group.items:
        number = _seed(item.text)
        if number is not None:
            numbers.append(number)
        elif (word := resolve(item.text, _SOURCE_WORDS)) is not None:
            words.append(word)
        else:
            hint = suggest(item.text, _SOURCE_WORDS)
            context.error(f"{item.text} is neither a seed nor an attribute of a source", item.span, hint)
            return
    if not numbers or len(numbers) > 2:
        context.error("a random source has one or two seeds", group.span, "e.g. (12345) or (678 UNIFORM)")
        return
    seeds.append(numbers[0])
    more = [f"SEED2={numbers[1]}"] if len(numbers) > 1 else []
    more += [word for word in words if word != "NORMAL"]
    if more:
        options[f"SOURCE{len(seeds)}"] = " ".join(more)


def _seed(text: str) -> int | None:
    digits = text.removeprefix("-").removeprefix("+")
    if not (digits.isascii() and digits.isdecimal()) or len(digits) > 18:
        return None
    value = int(text)
    return value if -1 <= value <= _LARGEST_SEED else None


def _option(context: Context, option: Option, options: dict[str, str]) -> None:
    text = option.name.text.upper()
    name = resolve(text, _OPTIONS, _ALIASES)
    if name is None:
        context.error(f"unknown option {text} of $SIMULATION", option.span, suggest(text, _OPTIONS))
        return
    value = option_value(option)
    if not value and name not in _FLAGS:
        context.error(f"{name} needs a value", option.span, f"{name}=...")
    elif name == "SUBPROBLEMS" and (whole(value) is None or value.startswith("-")):
        context.error(f"{text} needs a number of replicates", option.span, "e.g. SUBPROBLEMS=100")
    elif name == "TRUE":
        known = resolve(value, _TRUE)
        if known is None:
            context.error(f"TRUE={value} is unknown", option.span, "TRUE is INITIAL, FINAL or PRIOR")
        value = known or value
    options[name] = value


def random_sources(task: SimulationTask | None) -> dict[int, str]:
    """Return for each source of random numbers (from 1) whether they are ``"uniform"`` or ``"normal"``."""
    options = dict(task.options) if task is not None else {}
    count = len(task.seeds) if task is not None else 0
    words = {i: options.get(f"SOURCE{i}", "").split() for i in range(1, count + 1)}
    return {i: "uniform" if "UNIFORM" in found else "normal" for i, found in words.items()}
