"""A compiled model and its subjects as the tuples of arrays that the compiled passes take."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..failure import ModelFailure
from ..ir.compartment import Dynamics, LinearDynamics, OdeDynamics
from ..ir.expression import Amount, Column, Known, Variable, walk
from ..ir.model import Model
from ..ir.running_extremes import followed
from ..ir.statement import assignments, conditions, expressions, flatten
from .compile import CompiledModel
from .events.course import Events
from .events.individual import AT_DOSE, DOSE_TIME, MODEL_TIME, NEXT, PASSED, STATIC, Items
from .events.motion import DURATION, LINEAR, ODE, RATE, Design
from .integrators.cascade import upstream_links
from .layout import MODIFIERS, Layout
from .subjects import Subjects, failure_at

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

MAX_STEPS = 100_000.0  # of the integrator between two events
AUTOMATIC, STIFF = 0.0, 2.0
SPARE_PLACES = 64  # for infusions that overlap where the individual model is run at doses

KINDS = {
    "mtime": MODEL_TIME,
    "mpast": PASSED,
    "mnext": NEXT,
    "callfl": AT_DOSE,
    "dose_time": DOSE_TIME,
}
# items that describe the event itself: at an additional dose they are those of its record
OF_DOSE = frozenset("dv mdv id l2 evid amt rate ss ii cmt pcmt call cont addl date raw repeat".split())


def design_of(compiled: CompiledModel, subjects: Subjects) -> Design:
    """Return what the event loop knows of the model."""
    layout, model = compiled.layout, compiled.model
    dynamics = model.dynamics
    kind, settings = 0, np.zeros(4)
    parts = dynamics.compartments if dynamics else ()
    output = dynamics.output if dynamics else None
    if isinstance(dynamics, LinearDynamics):
        kind, settings = LINEAR, np.array([1e-12, 0.0, 1.0, AUTOMATIC])
    elif isinstance(dynamics, OdeDynamics):
        kind = ODE
        method = STIFF if dynamics.stiff else AUTOMATIC
        settings = np.array(
            [dynamics.relative_tolerance, dynamics.absolute_tolerance, MAX_STEPS, method, *layout.signs]
        )
    seen = _seen(compiled, subjects)
    no_links = np.zeros((0, 2), dtype=np.int64)
    on = [not part.initially_off for part in parts] + [output is not None and output.initially_on]
    return Design(
        kind=kind,
        n=len(parts),
        n_dynamic=layout.n_dynamic,
        has_output=int(output is not None),
        start_rules=int(model.inputs.interval_value == "start"),
        goes_back=int(model.language == "nmtran"),
        modifiers=np.ascontiguousarray(layout.modifiers.reshape(-1, len(MODIFIERS))),
        transfers=np.ascontiguousarray(layout.transfers.reshape(-1, 3)),
        model_times=layout.model_times,
        output=layout.output,
        start=int(layout.start),
        initially_on=np.array(on, dtype=np.int64),
        feeds=_feeds(dynamics, len(parts)),
        upstream=upstream_links(dynamics, seen) if isinstance(dynamics, OdeDynamics) else no_links,
        held=len(layout.held),
        restarts=layout.restarts,
        runs_at_all=int(model.individual_call != "first"),
        free=np.array([not part.equilibrium for part in parts], dtype=np.int64),
        settings=settings,
    )


def _seen(compiled: CompiledModel, subjects: Subjects) -> set[int]:
    """Return the compartments (from 0) that more than the equations read.

    An output compartment reads all; so may running extremes.
    """
    observation = compiled.model.observation
    nodes = list(expressions(observation.statements))
    seen = {node.compartment - 1 for node in nodes if isinstance(node, Amount)}
    names = {node.name for node in nodes if isinstance(node, Variable)} | set(compiled.layout.outputs)
    if observation.prediction in names:
        calm = (subjects.evid == 0) | (subjects.evid == 2)
        seen |= set((subjects.observed[calm] - 1).tolist())
    n = compiled.layout.n_compartments
    return set(range(n)) if n in seen or any(compiled.layout.signs) else seen


def _feeds(dynamics: Dynamics | None, n: int) -> Integers:
    """Return which compartments' amounts are read by more than their own differential equation."""
    feeds = np.zeros(n, dtype=np.int64)
    if isinstance(dynamics, OdeDynamics):
        for assignment in assignments(dynamics.statements):
            for node in walk(assignment.value):
                if isinstance(node, Amount) and assignment.target != f"DADT({node.compartment})":
                    feeds[node.compartment - 1] = 1
        for statement in flatten(dynamics.statements):
            for condition in conditions(statement):
                for node in walk(condition):
                    if isinstance(node, Amount):
                        feeds[node.compartment - 1] = 1
    return feeds


def events_of(subjects: Subjects, model: Model, design: Design, known: tuple[Known, ...]) -> Events:
    """Return the event arrays; doses with a modelled rate or duration must have one."""
    for value, column, letter in ((-1.0, RATE, "R"), (-2.0, DURATION, "D")):
        modelled = (subjects.dosed > 0) & (subjects.rate == value)
        missing = modelled & (design.modifiers[subjects.dosed - 1, column] < 0) if design.n else modelled
        if missing.any():
            row = int(np.flatnonzero(missing)[0])
            name = f"{letter}{subjects.dosed[row]}"
            message = f"RATE={value:g} asks for {name}, which the model does not define"
            raise failure_at(subjects.data, row, message, f"assign {name}, or give a positive RATE")
    settling = (subjects.dosed > 0) & (subjects.steady > 0)
    extremes = followed(model.dynamics.statements) if isinstance(model.dynamics, OdeDynamics) else {}
    if design.held > len(extremes) and settling.any():
        row = int(np.flatnonzero(settling)[0])
        message = (
            "a variable of the differential equations keeps its values, and this dose is at steady state"
        )
        raise failure_at(subjects.data, row, message, "compute the variable from amounts, or give the doses")
    additional = (subjects.dosed > 0) & (subjects.additional > 0)
    if additional.any() and any(k.quantity.startswith("last_dose_") for k in known):
        row = int(np.flatnonzero(additional)[0])
        message = "the model reads time or amount of the last dose, and this one is repeated (ADDL)"
        raise failure_at(subjects.data, row, message, "write every dose on its own line")
    calm = (subjects.evid == 0) | (subjects.evid == 2)
    quiet = calm & (subjects.dosed == 0) & (subjects.turned == 0) & (subjects.observed <= design.n)
    amounts = {n.compartment - 1 for n in expressions(model.observation.statements) if isinstance(n, Amount)}
    seen = set((subjects.observed[quiet] - 1).tolist()) | amounts
    watched = np.array(sorted(i for i in seen if 0 <= i < design.n), dtype=np.int64)
    if design.kind == LINEAR and amounts - set(watched.tolist()):
        quiet[:] = False  # the output compartment is read
    return Events(
        first=subjects.first,
        time=subjects.time,
        evid=subjects.evid,
        amount=subjects.amount,
        rate=subjects.rate,
        interval=subjects.interval,
        additional=subjects.additional,
        steady=subjects.steady,
        dosed=subjects.dosed,
        observed=subjects.observed,
        turned=subjects.turned,
        quiet=quiet.astype(np.int64),
        watched=watched,
        at_doses=int(model.individual_call == "dose"),
    )


def places_of(events: Events) -> int:
    """Return how many series of doses may wait at once for one subject."""
    most = 0
    for first, last in zip(events.first[:-1], events.first[1:], strict=True):
        dosed = events.dosed[first:last] > 0
        count = 2 * int(dosed.sum())
        if events.at_doses:
            count += int((1 + events.additional[first:last])[dosed].sum()) + SPARE_PLACES
        most = max(most, count)
    return most + 1


def items_of(subjects: Subjects, compiled: CompiledModel, run: Mapping[str, float | Floats]) -> Items:
    """Return what the statements read at every record; ``run``: see :func:`known_values`."""
    layout, model = compiled.layout, compiled.model
    n = subjects.n_records
    columns = np.empty((n, len(layout.columns)))
    of_dose = np.zeros(len(layout.columns), dtype=np.int64)
    for i, name in enumerate(layout.columns):
        columns[:, i] = column_values(subjects, model, name)
        column = model.inputs.resolve(name)
        of_dose[i] = column is not None and column.role in OF_DOSE
    known = np.zeros((n, len(layout.known)))
    kinds = np.array([KINDS.get(k.quantity, STATIC) for k in layout.known], dtype=np.int64)
    for i, quantity in enumerate(layout.known):
        if kinds[i] == STATIC:
            known[:, i] = known_values(subjects, quantity, run)
    # what the individual model does not read may change
    nodes = [*expressions(model.individual), *(n for e in layout.psi for n in walk(e))]
    reads = {n.name for n in nodes if isinstance(n, Column)}
    ours = [i for i, name in enumerate(layout.columns) if name in reads]
    asks = [i for i, quantity in enumerate(layout.known) if quantity in nodes]
    same = np.zeros(n, dtype=bool)
    if model.individual_call == "first":
        same[1:] = True
    elif not layout.kept and not np.isin(kinds[asks], (MODEL_TIME, DOSE_TIME)).any():
        same[1:] = (columns[1:, ours] == columns[:-1, ours]).all(axis=1)
        same[1:] &= (known[1:, asks] == known[:-1, asks]).all(axis=1)
    same[subjects.first[:-1][np.diff(subjects.first) > 0]] = False
    return Items(
        columns=columns,
        known=known,
        kinds=kinds,
        index=np.array([max(k.index - 1, 0) for k in layout.known], dtype=np.int64),
        of_dose=of_dose,
        same=same.astype(np.int64),
        single=int(len(layout.kept) > 0 or len(layout.model_times) > 0 or bool((kinds != STATIC).any())),
    )


def column_values(subjects: Subjects, model: Model, name: str) -> Floats:
    """Return data item ``name`` at every record."""
    data = subjects.data
    if name in data.values:
        return data.values[name]
    column = model.inputs.resolve(name)
    if column is not None and column.name in data.values:
        return data.values[column.name]
    if name.upper() in data.event:
        return data.event[name.upper()]
    raise ModelFailure(f"{data.path}: the model reads {name}, which is no column of the data")


def known_values(subjects: Subjects, known: Known, run: Mapping[str, float | Floats]) -> Floats:
    """Return a static known quantity at every record.

    ``run`` may hold icall, comact, irep, nrep, nprob, mixnum, mixest: one value, or one for each subject.
    """
    first, n = subjects.first, subjects.n_records
    subject = np.repeat(np.arange(subjects.n_subjects), np.diff(first))
    number = np.arange(n) - first[subject] + 1.0
    match known.quantity:
        case "newind":
            return np.asarray(np.where(number > 1, 2.0, np.where(subject == 0, 0.0, 1.0)))
        case "ndrec":
            return np.asarray(number, dtype=np.float64)
        case "nirec":
            return np.asarray(np.diff(first)[subject], dtype=np.float64)
        case "nindr":
            observed = np.bincount(subject, subjects.data.is_observation, subjects.n_subjects)
            return np.asarray(observed[subject], dtype=np.float64)
        case "nind":
            return np.asarray(subject + 1, dtype=np.float64)
        case "last_dose_time" | "last_dose_amount" | "last_dose_duration" as quantity:
            return last_doses(subjects)[quantity]
    if known.quantity in ("omega", "sigma"):
        name = f"{known.quantity}({known.index})"
        if name not in run:
            raise ModelFailure(f"the model reads {name}, whose value was not given")
        return np.full(n, float(run[name]))
    default = {
        "icall": 2.0,
        "irep": 1.0,
        "nrep": 1.0,
        "nprob": 1.0,
        "mixnum": 1.0,
        "mixest": 1.0,
        "mixp": 0.0,
    }
    given = np.asarray(run.get(known.quantity, default.get(known.quantity, 0.0)), dtype=np.float64)
    return given[subject] if given.ndim else np.full(n, float(given))


def last_doses(subjects: Subjects) -> dict[str, Floats]:
    """Return time, amount and duration of the last dose at every record, its own one counted."""
    found = {f"last_dose_{name}": np.zeros(subjects.n_records) for name in ("time", "amount", "duration")}
    for first, last in zip(subjects.first[:-1], subjects.first[1:], strict=True):
        doses: list[int] = []
        for k in range(first, last):
            if subjects.evid[k] >= 3:
                doses.clear()
            if subjects.dosed[k] > 0:
                doses.append(k)
            best = -1
            for d in doses:
                time, interval = subjects.time[d], subjects.interval[d]
                if interval > 0:
                    time += min(subjects.additional[d], (subjects.time[k] - time) // interval) * interval
                if best < 0 or time >= found["last_dose_time"][k]:
                    best, found["last_dose_time"][k] = d, time
            if best >= 0:
                rate = subjects.rate[best]
                found["last_dose_amount"][k] = subjects.amount[best]
                found["last_dose_duration"][k] = subjects.amount[best] / rate if rate > 0 else 0.0
    return found


def has_steady_states(events: Events) -> bool:
    """Return whether some dose asks for a steady state."""
    return bool(((events.steady > 0) & (events.dosed > 0)).any())


def layout_sizes(layout: Layout, events: Events) -> Integers:
    """Return what the passes allocate by.

    Numbers of psi, kept variables and places for doses, whether there are steady states, and the most records
    of a subject.
    """
    longest = int(np.diff(events.first).max(initial=1))
    sizes = [len(layout.psi), len(layout.kept), places_of(events), has_steady_states(events), longest]
    return np.array(sizes, dtype=np.int64)
