"""From the records of a control stream to a model."""

from __future__ import annotations

from ...engine.ir.check import check_covariance, unused_parameters
from ...engine.ir.dataset import Inputs
from ...engine.ir.model import Model
from ...engine.ir.observation import ObservationModel
from ...engine.ir.statement import Statement, assignments
from ..problem import Problem
from ..source import Source
from .advan import Subroutines, lower_dynamics, lower_layout, lower_subroutines
from .context import Context
from .kept_values import check_kept_values
from .lower_code import CodeLowering
from .lower_expression import GENERATED_ITEMS, Surroundings
from .lower_inputs import lower_inputs
from .lower_parameters import lower_parameters
from .lower_tables import lower_tables
from .lower_tasks import lower_covariance, lower_estimations
from .parse_code import parse_code
from .parse_records import (
    parse_abbreviated,
    parse_data,
    parse_input,
    parse_matrix,
    parse_model,
    parse_options,
    parse_table,
    parse_theta,
)
from .records import Stream, split_records
from .replace import lower_abbreviated
from .syntax import CodeLine
from .words import SINGLE_RECORDS, SUPPORTED_RECORDS


def lower(source: Source) -> Model:
    """Return the model that the control stream ``source`` describes.

    Raises
    ------
    ProblemError
        With everything found: first what cannot be read; where all can, what is wrong with it.
    """
    stream, problems = split_records(source)
    context = Context(stream, problems)
    _check_records(context)
    model = None
    try:
        parsed = _Parsed(context)
        context.stop_at_errors()
        model = _lower(context, parsed)
    except RecursionError:  # hundreds of nested parentheses, or of terms in one sum
        context.error("an expression is nested too deeply", context.top, "split it into several assignments")
    context.stop_at_errors()
    assert model is not None
    for finding in unused_parameters(model):
        context.notice(finding.message, finding.span)
    return model.replace(notices=tuple(context.notices))


def _check_records(context: Context) -> None:
    seen: set[str] = set()
    for record in context.stream.records:
        if record.name == "PROBLEM" and "PROBLEM" in seen:
            context.error(
                "several problems in one file are not supported yet",
                record.head,
                "put each into its own file",
            )
            kept = context.stream.records[: context.stream.records.index(record)]
            context.stream = Stream(
                context.stream.source, context.stream.clean, kept, context.stream.comments
            )
            context.problems = [p for p in context.problems if _before(p, record.start)]
            return
        if record.name not in SUPPORTED_RECORDS:
            context.error(f"${record.name} is not supported yet", record.head)
        elif record.name in SINGLE_RECORDS and record.name in seen:
            context.error(f"a second ${record.name}", record.head, "a problem has only one")
        elif record.name == "SIZES":
            context.notice("$SIZES has no effect: nothing needs a size in advance", record.head)
        elif record.name == "SCATTERPLOT":
            context.notice("$SCATTERPLOT has no effect: scatterplots are not drawn", record.head)
        seen.add(record.name)


def _before(problem: Problem, offset: int) -> bool:
    return problem.span is None or problem.span.start < offset


class _Parsed:
    """The syntax trees of all records, by kind."""

    def __init__(self, context: Context) -> None:
        self.inputs = context.parse(parse_input, "INPUT")
        self.data = context.parse(parse_data, "DATA")
        self.subroutines = context.parse(parse_options, "SUBROUTINES")
        self.model = context.parse(parse_model, "MODEL")
        self.thetas = context.parse(parse_theta, "THETA")
        self.omegas = context.parse(parse_matrix, "OMEGA")
        self.sigmas = context.parse(parse_matrix, "SIGMA")
        self.abbreviated = context.parse(parse_abbreviated, "ABBREVIATED")
        self.estimations = context.parse(parse_options, "ESTIMATION")
        self.covariance = context.parse(parse_options, "COVARIANCE")
        self.tables = context.parse(parse_table, "TABLE")
        context.parse(parse_options, "SIZES")
        self.code: dict[str, list[CodeLine]] = {
            name: [line for lines in context.parse(parse_code, name) for line in lines]
            for name in ("PK", "PRED", "DES", "ERROR")
        }


def _lower(context: Context, parsed: _Parsed) -> Model | None:
    inputs = lower_inputs(context, parsed.inputs, parsed.data)
    parameters = lower_parameters(context, parsed.thetas, parsed.omegas, parsed.sigmas)
    for blocks in (parameters.omega, parameters.sigma):
        for finding in check_covariance(blocks):
            context.error(finding.message, finding.span, finding.hint)
    subroutines = lower_subroutines(context, parsed.subroutines)
    replacements = lower_abbreviated(context, parsed.abbreviated)
    estimations = lower_estimations(context, parsed.estimations)
    covariance = lower_covariance(context, parsed.covariance)
    _check_structure(context, subroutines)
    if inputs is None:
        return None
    layout = lower_layout(context, subroutines, parsed.model) if subroutines is not None else None
    if layout is None and not context.stream.of("PRED"):
        return None  # the code cannot be read without its compartments
    outside = Surroundings(context, inputs, parameters, replacements, len(layout.names) if layout else 0)
    code = {
        name: CodeLowering(outside, name).lower(parsed.code[name])
        for name in ("PRED", "PK", "DES", "ERROR")
        if context.stream.of(name)
    }
    observed = code.get("PRED", code.get("ERROR", ()))
    _check_response(context, observed)
    dynamics = None
    if subroutines is not None and layout is not None:
        _check_time(context, inputs, subroutines)
        dynamics = lower_dynamics(context, subroutines, layout, code.get("PK", ()), code.get("DES", ()))
    statements = tuple(s for name in ("PRED", "PK", "DES", "ERROR") for s in code.get(name, ()))
    check_kept_values(context, inputs, statements, dynamics)
    known = {*inputs.names, *outside.variables, *(("F", *GENERATED_ITEMS) if layout else ())}
    n_etas = sum(block.size for block in parameters.omega)
    tables = lower_tables(context, parsed.tables, known, outside.inner, n_etas)
    return Model(
        _title(context),
        "nmtran",
        context.stream.source.path,
        inputs,
        parameters.thetas,
        parameters.omega,
        parameters.sigma,
        code.get("PK", ()),
        dynamics,
        ObservationModel(observed, "Y", "F" if layout else None),
        estimations,
        covariance,
        tables,
        source=context.stream.source.text,
        source_sha256=context.stream.source.sha256,
    )


def _check_structure(context: Context, subroutines: Subroutines | None) -> None:
    """Report code records that contradict each other or are missing."""
    stream = context.stream
    if stream.of("PRED"):
        for record in stream.of("SUBROUTINES", "PK", "ERROR", "DES", "MODEL"):
            context.error(
                f"${record.name} has no place beside $PRED", record.head, "use $PRED, or $PK with $ERROR"
            )
        return
    if not stream.of("SUBROUTINES"):
        context.error(
            "there is neither $PRED nor $SUBROUTINES",
            context.top,
            "$PRED holds a model without compartments",
        )
        return
    wanted = ["PK", "ERROR"] + (["DES"] if subroutines is not None and subroutines.is_ode else [])
    for name in wanted:
        if not stream.of(name):
            context.error(
                f"there is no ${name}", stream.of("SUBROUTINES")[0].head, f"this ADVAN needs ${name}"
            )


def _check_response(context: Context, statements: tuple[Statement, ...]) -> None:
    records = context.stream.of("PRED", "ERROR")
    if records and not any(statement.target == "Y" for statement in assignments(statements)):
        context.error(f"Y is not assigned in ${records[-1].name}", records[-1].head, "e.g. Y = F + EPS(1)")


def _check_time(context: Context, inputs: Inputs, subroutines: Subroutines) -> None:
    if inputs.with_role("time") is None:
        context.error(
            "there is no TIME in $INPUT",
            context.stream.of("INPUT")[0].head,
            f"ADVAN{subroutines.advan} needs the time of each record",
        )


def _title(context: Context) -> str:
    records = context.stream.of("PROBLEM")
    first = context.stream.body(records[0]).strip().split("\n", 1)[0] if records else ""
    return " ".join(first.split())
