"""What a control stream must hold to be a model: which records need, or exclude, each other."""

from __future__ import annotations

from ...engine.ir.dataset import Inputs
from ...engine.ir.statement import Statement, assignments
from .context import Context
from .subroutines import Subroutines


def check_structure(context: Context, subroutines: Subroutines | None) -> None:
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


def check_response(context: Context, statements: tuple[Statement, ...]) -> None:
    """Report a model that never assigns Y."""
    records = context.stream.of("PRED", "ERROR")
    if records and not any(statement.target == "Y" for statement in assignments(statements)):
        context.error(f"Y is not assigned in ${records[-1].name}", records[-1].head, "e.g. Y = F + EPS(1)")


def check_time(context: Context, inputs: Inputs, subroutines: Subroutines) -> None:
    """Report a compartment model whose data have no time."""
    if inputs.with_role("time") is None:
        context.error(
            "there is no TIME in $INPUT",
            context.stream.of("INPUT")[0].head,
            f"ADVAN{subroutines.advan} needs the time of each record",
        )
