"""<MONOLIX>: tasks and settings."""

from __future__ import annotations

from ...engine.ir.task import CovarianceTask, EstimationTask
from .context import Context, suggest
from .syntax import Apply, Braces, Item, Node, elements, word

_TASKS = (
    "populationParameters",
    "individualParameters",
    "fim",
    "logLikelihood",
    "plotResult",
)
# block -> settings that are kept; a method reads those it knows
_SETTINGS: dict[str, set[str]] = {
    "GLOBAL": {"exportpath", "nbchains", "autochains", "seed"},
    "POPULATION": {
        "burniniterations",
        "exploratoryiterations",
        "exploratoryautostop",
        "exploratoryinterval",
        "exploratoryalpha",
        "smoothingiterations",
        "smoothingautostop",
        "smoothinginterval",
        "smoothingalpha",
        "simulatedannealing",
        "simulatedannealingiterations",
        "omegatau",
        "errormodeltau",
        "variability",
        "optimizationiterations",
        "optimizationtolerance",
    },
    "FIM": {"miniterations", "maxiterations"},
    "LL": {"nbfixediterations", "samplesize", "montecarlosize", "df", "methodll"},
}


def lower_tasks(context: Context) -> tuple[tuple[EstimationTask, ...], CovarianceTask | None]:
    """Return what the project asks to be run: estimation steps, and standard errors."""
    document = context.project
    settings = _settings(context)
    estimations: list[EstimationTask] = []
    covariance: CovarianceTask | None = None
    for entry in context.entries(document, document.of("TASKS", section="MONOLIX")):
        task = entry.value
        if not isinstance(task, Apply):
            context.notice(f"{entry.key} is no task and has no effect", entry.span)
            continue
        if task.name not in _TASKS:
            hint = suggest(task.name, _TASKS)
            context.notice(
                f"the task {task.name} is not known and has no effect; {hint}".rstrip("; "), task.span
            )
            continue
        arguments = {word(item.key): item for item in task.items if item.key is not None}
        if _text(arguments.get("run")).lower() == "false":
            continue
        method = _text(arguments.get("method")).lower()
        if task.name == "populationParameters":
            options = (*settings["GLOBAL"], *settings["POPULATION"])
            estimations.insert(0, EstimationTask("saem", options, span=task.span))
        elif task.name == "fim":
            covariance = CovarianceTask(
                (("method", method or "stochasticapproximation"), *settings["FIM"]), span=task.span
            )
        elif task.name == "logLikelihood" and method == "linearization":
            estimations.append(EstimationTask("focei", (("method", method),), True, span=task.span))
        elif task.name == "logLikelihood":
            estimations.append(EstimationTask("imp", settings["LL"], True, span=task.span))
        elif task.name == "plotResult":
            context.notice("plotResult has no effect: plots are asked for on the command line", task.span)
    return tuple(estimations), covariance


def _text(item: Item | None) -> str:
    return "" if item is None else _value(item.value)


def _value(node: Node) -> str:
    if isinstance(node, Braces):
        return ",".join(_value(element) for element in elements(node))
    return word(node) or ""


def _settings(context: Context) -> dict[str, tuple[tuple[str, str], ...]]:
    """Return the known settings of each block; others are noted."""
    document = context.project
    found: dict[str, tuple[tuple[str, str], ...]] = {name: () for name in _SETTINGS}
    for block in document.blocks:
        if (block.section, block.subsection) != ("MONOLIX", "SETTINGS"):
            continue
        for entry in context.entries(document, [block]):
            key = entry.key.lower()
            if key in _SETTINGS.get(block.name, ()):
                text = _value(entry.value) if entry.value is not None else ""
                found[block.name] += ((key, text),)
            else:
                context.notice(f"the setting {entry.key} has no effect", entry.span)
    return found
