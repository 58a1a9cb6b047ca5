"""Records that are understood and not run here, and those that have nothing to say to this engine."""

from __future__ import annotations

from dataclasses import dataclass

from ...engine.ir.task import OtherTask
from .context import Context
from .numbers import number
from .option_words import is_group, option_value, separate_groups, with_values
from .parse_records import parse_options
from .records import Record
from .syntax import Option
from .words import resolve, suggest


@dataclass(frozen=True)
class _Kind:
    """How a record reads: a file name first, words with a value, words without, or bare values."""

    words: str = ""
    flags: str = ""
    file_first: bool = False
    values: bool = False
    needs: str = ""  # the option it cannot do without


# A request that this engine does not fulfil: running the model as written is refused at it.
_STEPS: dict[str, _Kind] = {
    "MSFI": _Kind(
        "POPETAS VERSION", "NORESCALE RESCALE NPOPETAS ONLYREAD NOMSFTEST MSFTEST NEW", file_first=True
    ),
    "NONPARAMETRIC": _Kind(
        "NPSUPP NPSUPPE STRAT STRATF PARAFILE NPESTIM NPMAXITER",
        "MARGINALS ETAS MSFO RECOMPUTE EXPAND BOOTSTRAP UNCONDITIONAL CONDITIONAL OMITTED",
    ),
    "ETAS": _Kind("FILE FORMAT DELIM TBLN", values=True),
    "PHIS": _Kind("FILE FORMAT DELIM TBLN", values=True),
    "RCOV": _Kind("FILE FORMAT DELIM TBLN", needs="FILE"),
    "RCOVI": _Kind("FILE FORMAT DELIM TBLN", needs="FILE"),
    "CHAIN": _Kind(
        """FILE FORMAT DELIM ORDER NOTITLE NOLABEL ISAMPLE NSAMPLE SEED CLOCKSEED SELECT RANMETHOD CTYPE DF
        DFS IACCEPT TBLN""",
    ),
    "DESIGN": _Kind(
        """APPROX OFVTYPE GROUPSIZE FIMTYPE FIMDIAG VARCROSS EOPTD SEED CLOCKSEED MODE DATASIM SIGL SIGLO
        MAXEVALS PRINT NOPRIOR FILE FORMAT DELIM FNLETA DESEL DESELSTRAT DESELMIN DESELMAX NMIN NMAX STRAT
        STRATF ATOL TOL NTPOOL RANMETHOD PARAFILE NOCOV NUMDER""",
        """ABORT NOABORT NOHABORT NUMERICAL NONUMERICAL LIKELIHOOD -2LOGLIKELIHOOD -2LL SLOW NOSLOW FAST
        POSTHOC NOPOSTHOC NELDER FEDOROV RS STGR DISCRETE DISCRETE_RS DISCRETE_SG OMITTED INTERACTION""",
    ),
    "SUPERPROBLEM": _Kind("SCOPE ITERATIONS NITERATIONS", "NOPRINT PRINT", needs="SCOPE"),
    "ANNEAL": _Kind(values=True),
    "OLKJDF": _Kind(values=True),
    "OVARF": _Kind(values=True),
    "SLKJDF": _Kind(values=True),
    "SVARF": _Kind(values=True),
    "TTDF": _Kind(values=True),
    "BIND": _Kind(values=True),
}

_WITHOUT_EFFECT = {
    "SIZES": "nothing needs a size in advance",
    "WARNINGS": "it limits messages of another program",
    "SCATTERPLOT": "scatterplots are not drawn",
    "FORMAT": "numbers in the report have their own form",
    "DEFAULT": "labels are not substituted",
    "OMIT": "no template matching takes place",
    "INDEX": "only a user's own Fortran routine could read it",
    "CONTR": "only a user's own Fortran routine could read it",
    "THETAR": "thetas are reported as they are estimated",
}
# Those whose whole text is taken on trust: it is none of this engine's business.
_ANY_TEXT = frozenset({"WARNINGS", "SCATTERPLOT", "THETAR"})


def parse_other_tasks(context: Context) -> None:
    """Read the records of :func:`lower_other_tasks`, for the problems in their text."""
    context.parse(parse_options, *(name for name in (*_STEPS, *_WITHOUT_EFFECT) if name not in _ANY_TEXT))


def lower_other_tasks(context: Context) -> tuple[OtherTask, ...]:
    """Return the steps that cannot be run, and note the records that have no effect."""
    tasks: list[OtherTask] = []
    for record in context.stream.records:
        if record.name in _WITHOUT_EFFECT:
            if record.name not in _ANY_TEXT:
                context.parse_one(parse_options, record)
            context.notice(f"${record.name} has no effect: {_WITHOUT_EFFECT[record.name]}", record.head)
        elif record.name in _STEPS:
            options = context.parse_one(parse_options, record)
            if options is not None:
                task = _step(context, record, _STEPS[record.name], options)
                if task is not None:
                    tasks.append(task)
    return tuple(tasks)


def _step(
    context: Context, record: Record, kind: _Kind, record_options: tuple[Option, ...]
) -> OtherTask | None:
    flags = kind.flags.split()
    words = (*kind.words.split(), *flags)
    pieces = list(record_options)
    options: dict[str, str] = {}
    if kind.file_first:
        if not pieces or pieces[0].value is not None or pieces[0].items is not None:
            span = pieces[0].span if pieces else record.head
            context.error(f"${record.name} begins with a file name", span, f"${record.name} name")
            return None
        options["FILE"] = pieces.pop(0).name.text
    values: list[str] = []
    for option in with_values(separate_groups(pieces) if kind.values else pieces, flags, words):
        text = option.name.text
        name = resolve(text, words)
        if kind.values and (is_group(option) or (name is None and option.value is None)):
            values.append(option_value(option) if is_group(option) else text.upper())
        elif name is None:
            shown = f"${record.name}"
            context.error(f"unknown option {text.upper()} of {shown}", option.name.span, suggest(text, words))
        elif not (value := option_value(option)) and name not in flags:
            context.error(f"{name} needs a value", option.span, f"{name}=...")
        else:
            options[name] = value
    if kind.needs and kind.needs not in options:
        context.error(f"${record.name} needs {kind.needs}=", record.head)
    if values:
        options["VALUES"] = " ".join(values)
    if options.pop("OMITTED", None) is not None or _is_neutral(record.name, values):
        return None
    return OtherTask(record.name.lower(), tuple(options.items()), span=context.stream.span(record))


def _is_neutral(name: str, values: list[str]) -> bool:
    """Tell whether a record of bare values asks for what happens anyway."""
    if name == "BIND":
        return all(value in ("-", "SKIP", "DROP") for value in values)
    if name in ("OLKJDF", "OVARF", "SLKJDF", "SVARF", "TTDF"):
        plain = [value.strip("()") for value in values if not value.startswith("X")]
        return all(number(value) == 0.0 for value in plain)
    return False
