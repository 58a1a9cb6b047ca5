"""From the records of a control stream to models, one for each problem."""

from __future__ import annotations

from dataclasses import replace

from ...engine.ir.check import unused_parameters
from ...engine.ir.dataset import Inputs
from ...engine.ir.model import Model
from ...engine.ir.observation import ObservationModel
from ...engine.ir.running_extremes import followed
from ...engine.ir.span import Span
from ...engine.ir.statement import Statement, assignments
from ..problem import Problem, ProblemError
from ..source import Source
from .advan import lower_dynamics
from .call_protocol import keeping_at_observations
from .code_records import lower_code_records, parse_code_records, renamed
from .compartments import lower_layout
from .context import Context, in_order
from .include import include_files
from .kept_values import kept_names
from .levels import lower_levels
from .lower_inputs import lower_inputs
from .lower_tables import lower_tables
from .lower_tasks import lower_covariance, lower_estimations, response_kind
from .other_tasks import lower_other_tasks, parse_other_tasks
from .parse_abbreviated import parse_abbreviated
from .parse_records import parse_data, parse_input, parse_model, parse_options, parse_table
from .population import lower_population, parse_population
from .problems import note_own_model, split_problems
from .records import split_records
from .replace import lower_abbreviated
from .simulation import lower_simulation, random_sources
from .structure import check_response, check_structure, check_time
from .subroutines import lower_subroutines
from .surroundings import GENERATED_ITEMS
from .syntax import DataSource


def lower(source: Source) -> tuple[Model, ...]:
    """Return the models that the control stream ``source`` describes, one for each of its problems.

    Raises
    ------
    ProblemError
        With everything found: first what cannot be read; where all can, what is wrong with it.
    """
    spliced, problems = include_files(source)
    stream, more = split_records(spliced)
    whole = Context(stream, [*problems, *more])
    streams = split_problems(whole)
    contexts = [Context(stream, trees=whole.trees) for stream in streams]
    found = list(whole.problems)
    parsed: list[_Parsed] = []
    for i, context in enumerate(contexts):
        parsed.append(_Parsed(context, parsed[i - 1] if i else None))
        found += context.problems
    models: list[Model] = []
    if not found:
        prior_source = ""
        for number, (context, trees) in enumerate(zip(contexts, parsed, strict=True), start=1):
            try:
                before = models[-1].inputs if models else None
                model = _lower(context, trees, number, prior_source, before)
            except RecursionError:  # hundreds of nested parentheses, or of terms in one sum
                hint = "split it into several assignments"
                context.error("an expression is nested too deeply", context.top, hint)
                model = None
            found += _of_problem(context.problems, number, found)
            if model is not None and not context.problems:
                if number > 1:
                    note_own_model(context)
                for finding in unused_parameters(model):
                    context.notice(finding.message, finding.span)
                models.append(
                    model.replace(
                        problem=number,
                        problems=len(contexts),
                        notices=tuple(context.notices),
                        source=source.text,
                        source_sha256=source.sha256,
                    )
                )
                prior_source = _prior_source(model) or prior_source
    if found:
        raise ProblemError(in_order(found), spliced.files)
    return tuple(models)


def _of_problem(problems: list[Problem], number: int, known: list[Problem]) -> list[Problem]:
    """Return ``problems`` that are not known yet, told apart by the number of the problem they are in."""
    new = [p for p in problems if p not in known]
    if number == 1:
        return new
    return [replace(p, message=f"{p.message} (in problem {number})") for p in new]


class _Parsed:
    """The syntax trees of all records of one problem, by kind."""

    def __init__(self, context: Context, before: _Parsed | None) -> None:
        self.data: list[DataSource] = []
        try:
            self._parse(context, before)
        except RecursionError:
            hint = "split it into several assignments"
            context.error("an expression is nested too deeply", context.top, hint)

    def _parse(self, context: Context, before: _Parsed | None) -> None:
        self.inputs = context.parse(parse_input, "INPUT")
        self.data = _same_data(context.parse(parse_data, "DATA"), before)
        self.subroutines = context.parse(parse_options, "SUBROUTINES")
        self.model = context.parse(parse_model, "MODEL")
        self.abbreviated = context.parse(parse_abbreviated, "ABBREVIATED")
        self.estimations = context.parse(parse_options, "ESTIMATION")
        self.covariance = context.parse(parse_options, "COVARIANCE")
        self.simulation = context.parse(parse_options, "SIMULATION")
        self.levels = context.parse(parse_options, "LEVEL")
        self.tables = context.parse(parse_table, "TABLE")
        parse_population(context)
        parse_other_tasks(context)
        self.code = parse_code_records(context)


def _same_data(sources: list[DataSource], before: _Parsed | None) -> list[DataSource]:
    """Return ``sources``, those of the problem before where a star asks for its data again."""
    if (
        before is None
        or not before.data
        or not sources
        or sources[0].file is None
        or sources[0].file.text != "*"
    ):
        return sources
    return [*before.data, *(replace(source, file=None) for source in sources)]


def _lower(
    context: Context, parsed: _Parsed, problem: int, prior_source: str, before: Inputs | None
) -> Model | None:
    inputs = lower_inputs(context, parsed.inputs, parsed.data, before)
    parameters, prior = lower_population(context, problem, prior_source)
    subroutines = lower_subroutines(context, parsed.subroutines)
    abbreviations = lower_abbreviated(context, parsed.abbreviated)
    estimations = lower_estimations(context, parsed.estimations)
    covariance = lower_covariance(context, parsed.covariance)
    simulation = lower_simulation(context, parsed.simulation)
    other_tasks = lower_other_tasks(context)
    check_structure(context, subroutines)
    if inputs is None:
        return None
    layout = lower_layout(context, subroutines, parsed.model) if subroutines is not None else None
    if layout is None and not context.stream.of("PRED"):
        return None  # the code cannot be read without its compartments
    code = lower_code_records(
        context,
        parsed.code,
        inputs,
        parameters,
        abbreviations,
        layout.names if layout is not None else (),
        random_sources(simulation),
        {word.text.upper() for record in parsed.tables for o in record for word in (o.name, o.value) if word},
    )
    check_response(context, code.observed)
    dynamics = None
    if subroutines is not None and layout is not None:
        check_time(context, inputs, subroutines)
        dynamics = lower_dynamics(
            context, subroutines, layout, inputs, code.individual, code.slopes, code.observed
        )
    known = {*inputs.names, *code.variables, *code.derivatives, *(("F", *GENERATED_ITEMS) if layout else ())}
    n_etas = sum(block.size for block in parameters.omega)
    tables = lower_tables(context, parsed.tables, inputs, known, code.inner, parameters.names["ETA"], n_etas)
    tables = tuple(renamed(table, code.derivatives) for table in tables)
    tabulated = {item.rpartition("=")[2] for table in tables for item in table.items}
    kept = kept_names(code.individual, dynamics, code.observed, tabulated)
    extremes = followed(code.slopes)
    kept = tuple(name for name in kept if name not in extremes)
    observed = code.observed
    if code.keeps_at_observations:
        observed = keeping_at_observations(observed, kept, inputs)
    return Model(
        _title(context),
        "nmtran",
        context.stream.source.path,
        inputs,
        parameters.thetas,
        parameters.omega,
        parameters.sigma,
        code.individual,
        dynamics,
        ObservationModel(
            observed,
            "Y",
            "F" if layout else None,
            response_kind(estimations),
            code.flag,
            _level(inputs),
            span=_observation_place(context, code.observed, code.flag),
        ),
        estimations,
        covariance,
        tables,
        kept=kept,
        individual_call=code.individual_call,
        mixture=code.mixture,
        prior=prior,
        levels=lower_levels(context, parsed.levels, inputs, n_etas),
        simulation=simulation,
        other_tasks=other_tasks,
    )


def _prior_source(model: Model) -> str:
    """Return the file that a problem does nothing but read, for a prior of a later one."""
    for task in model.other_tasks:
        options = dict(task.options)
        if task.name == "msfi" and "ONLYREAD" in options:
            return options["FILE"]
    return ""


def _observation_place(context: Context, statements: tuple[Statement, ...], flag: str | None) -> Span | None:
    """Return where the kind of the observations is decided, or where their model begins."""
    decided = next((a.span for a in assignments(statements) if a.target == flag), None)
    heads = context.stream.of("ERROR", "PRED")
    return decided or (heads[0].head if heads else None)


def _level(inputs: Inputs) -> str | None:
    """Return the data item within whose equal values residuals are correlated."""
    column = inputs.with_role("l2")
    return column.name if column is not None else None


def _title(context: Context) -> str:
    records = context.stream.of("PROBLEM")
    first = context.stream.body(records[0]).strip().split("\n", 1)[0] if records else ""
    return " ".join(first.split())
