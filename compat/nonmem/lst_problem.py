"""The first part of the report: translator messages, the data, the parameters and their form."""

from __future__ import annotations

from importlib.metadata import version

from ...engine.fit import Fit
from ...engine.ir.compartment import LinearDynamics
from ...engine.ir.parameter import CovarianceBlock, matrix
from .numbers import exponent

FORMAT_VERSION = "7.5.1"  # of the report layout; readers refuse a report without one
_NO_BOUND = 1e6  # how the layout writes an infinite bound


def message_lines(fit: Fit) -> list[str]:
    """Return the messages of the translation, our notices among them."""
    lines = [
        "NM-TRAN MESSAGES",
        "  ",
        " WARNINGS AND ERRORS (IF ANY) FOR PROBLEM    1",
        "             ",
        " (WARNING  2) NM-TRAN INFERS THAT THE DATA ARE POPULATION.",
    ]
    for notice in fit.base_model.notices:
        place = f"{notice.span}: " if notice.span is not None else ""
        lines.append(plain_line(f" (NOTE) {place}{notice.message}"))
    return [*lines, ""]


def plain_line(text: str) -> str:
    """Return ``text`` in one line without the two characters that readers take for marks."""
    return " ".join(text.replace("$", "").replace("#", "").splitlines())


def problem_lines(fit: Fit) -> list[str]:
    """Return what was read: counts of records, form and initial values of the parameters."""
    model, data = fit.model, fit.data
    columns = [c.name for c in model.inputs.columns if c.role != "dropped"]
    omitted = fit.uncertainty is None and model.covariance is None
    return [
        f"1NONLINEAR MIXED EFFECTS MODEL PROGRAM (NONMEM) VERSION {FORMAT_VERSION}",
        " COMPATIBILITY: THE LINE ABOVE ONLY NAMES THE LAYOUT OF THIS REPORT, FOR PROGRAMS THAT READ IT.",
        f" THE RUN WAS DONE AND THIS REPORT WRITTEN BY ELBOMIX {version('elbomix')}; NONMEM WAS NOT USED.",
        "",
        " PROBLEM NO.:         1",
        f" {model.title}",
        "0DATA CHECKOUT RUN:              NO",
        f" NO. OF DATA RECS IN DATA SET:{data.n_records:9d}",
        f" NO. OF DATA ITEMS IN DATA SET:{len(columns):4d}",
        "0LABELS FOR DATA ITEMS:",
        *(" " + " ".join(columns[k : k + 12]) for k in range(0, len(columns), 12)),
        "",
        f" TOT. NO. OF OBS RECS:{data.n_observations:9d}",
        f" TOT. NO. OF INDIVIDUALS:{data.n_subjects:9d}",
        f"0LENGTH OF THETA:{len(model.thetas):4d}",
        _bound_test("THETA", fit),
        *_form("OMEGA", model.omega),
        _bound_test("OMEGA", fit),
        *_form("SIGMA", model.sigma),
        _bound_test("SIGMA", fit),
        "0INITIAL ESTIMATE OF THETA:",
        " LOWER BOUND    INITIAL EST    UPPER BOUND",
        *(_bounds(t.lower, t.initial, t.upper) for t in model.thetas),
        *_initial("OMEGA", model.omega),
        *_initial("SIGMA", model.sigma),
        f"0COVARIANCE STEP OMITTED:        {'YES' if omitted else 'NO'}",
        *_tables_summary(fit),
        *_dynamics(fit),
        "1",
        "",
        "",
    ]


def _bound_test(letters: str, fit: Fit) -> str:
    omitted = any(f"NO{letters}BOUNDTEST" in dict(task.options) for task in fit.model.estimations)
    return f"0DEFAULT {letters} BOUNDARY TEST OMITTED:{'YES' if omitted else 'NO':>6s}"


def _bounds(lower: float, value: float, upper: float) -> str:
    shown = [max(lower, -_NO_BOUND), value, min(upper, _NO_BOUND)]
    return "".join(exponent(v, 4, 0).rjust(w) for v, w in zip(shown, (12, 15, 15), strict=True))


def _form(letters: str, blocks: tuple[CovarianceBlock, ...]) -> list[str]:
    n = sum(block.size for block in blocks)
    if all(block.size == 1 and block.same_as is None for block in blocks):
        return [f"0{letters} HAS SIMPLE DIAGONAL FORM WITH DIMENSION:{n:4d}"]
    sets: list[int] = []  # the set number of each block: blocks that repeat another share its number
    for block in blocks:
        sets.append(max(sets, default=0) + 1 if block.same_as is None else sets[block.same_as])
    member = [k for k, block in enumerate(blocks) for _ in range(block.size)]
    lines = [f"0{letters} HAS BLOCK FORM:"]
    for i in range(n):
        row = [sets[member[i]] if member[i] == member[j] else 0 for j in range(i + 1)]
        lines.append("".join(f"{number:3d}" for number in row))
    return lines


def _initial(letters: str, blocks: tuple[CovarianceBlock, ...]) -> list[str]:
    lines = [f"0INITIAL ESTIMATE OF {letters}:"]
    fixed = {block.fixed for block in blocks}
    if all(block.size == 1 and block.same_as is None for block in blocks) and len(fixed) == 1:
        for i, row in enumerate(matrix(blocks)):
            lines.append(exponent(row[0], 4, 0).rjust(11) + "".join(_padded(v) for v in row[1 : i + 1]))
        return lines + ([f"0{letters} CONSTRAINED TO BE THIS INITIAL ESTIMATE"] if fixed == {True} else [])
    lines.append(f" BLOCK SET NO.   BLOCK{'FIXED':>73s}")
    number = 0
    for block in blocks:
        if block.same_as is not None:
            continue
        number += 1
        lines.append(f"{number:9d}{'YES' if block.fixed else 'NO ':>86s}")
        for i in range(block.size):
            lines.append(" " * 15 + "".join(_padded(block.element(i, j)) for j in range(i + 1)))
    return lines


def _padded(value: float) -> str:
    return exponent(value, 4, 0).rjust(13)


def _tables_summary(fit: Fit) -> list[str]:
    tables = fit.model.tables
    if not tables:
        return ["0TABLES STEP OMITTED:    YES"]
    lines = ["0TABLES STEP OMITTED:    NO", f" NO. OF TABLES:{len(tables):12d}"]
    for number, task in enumerate(tables, start=1):
        lines += [f"0-- TABLE {number:3d} --", f" FORMAT:                {task.format.upper()}"]
        lines += ["0USER-CHOSEN ITEMS:", " " + " ".join(task.items)]
    return lines


def _dynamics(fit: Fit) -> list[str]:
    dynamics = fit.model.dynamics
    if dynamics is None:
        return ["1STRUCTURAL MODEL: PREDICTIONS FROM STATEMENTS ALONE"]
    kind = "LINEAR TRANSFERS" if isinstance(dynamics, LinearDynamics) else "DIFFERENTIAL EQUATIONS"
    lines = [f"1STRUCTURAL MODEL: {len(dynamics.compartments)} COMPARTMENTS, {kind}"]
    return lines + [f" {k:4d}  {c.name}" for k, c in enumerate(dynamics.compartments, start=1)]
