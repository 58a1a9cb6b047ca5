"""The problems of a control stream, and what a later one takes over from those before it."""

from __future__ import annotations

from dataclasses import replace

from .context import Context
from .records import Record, Stream

_CODE = ("PK", "PRED", "ERROR", "DES", "AES", "AESINITIAL", "MIX", "INFN", "TOL")
_OF_THE_RUN = (*_CODE, "SUBROUTINES", "MODEL", "ABBREVIATED", "BIND", "PRIOR", "THETAI", "THETAR")
_PARAMETERS = ("THETA", "OMEGA", "SIGMA", "THETAP", "THETAPV", "OMEGAP", "OMEGAPD", "SIGMAP", "SIGMAPD")
_OWN_MODEL = (*_CODE, "SUBROUTINES", "MODEL")
_TAKEN_OVER = (*_OF_THE_RUN, *_PARAMETERS, "INPUT", "DATA")
_BEFORE = ("SIZES", "SUPERPROBLEM")  # stand before the $PROBLEM they belong to
# A problem with one of these has a model of its own.
_MODEL = ("PK", "PRED", "ERROR", "DES", "SUBROUTINES")


def split_problems(context: Context) -> tuple[Stream, ...]:
    """Return one stream for each $PROBLEM, complete with what it takes over.

    The model code is that of the first problem that has any. $INPUT and $DATA carry on to the next
    problem where it has none; so do parameters where it has none of any kind.
    """
    streams: list[Stream] = []
    earlier: dict[str, tuple[Record, ...]] = {}
    for records in _split(context.stream.records):
        own = {record.name: tuple(r for r in records if r.name == record.name) for record in records}
        taken = dict(earlier)
        if any(name in own for name in _PARAMETERS):
            taken = {name: found for name, found in taken.items() if name not in _PARAMETERS}
        if any(name in own for name in _MODEL):  # a model of its own
            taken = {name: found for name, found in taken.items() if name not in _OWN_MODEL}
        inherited = tuple(r for name, found in taken.items() if name not in own for r in found)
        streams.append(replace(context.stream, records=(*records, *inherited)))
        earlier = taken | {name: found for name, found in own.items() if name in _TAKEN_OVER}
    return tuple(streams)


def _split(records: tuple[Record, ...]) -> list[tuple[Record, ...]]:
    groups: list[list[Record]] = [[]]
    waiting: list[Record] = []
    for record in records:
        if record.name in _BEFORE:
            waiting.append(record)
        elif record.name == "PROBLEM":
            if any(r.name == "PROBLEM" for r in groups[-1]):
                groups.append([])
            groups[-1] += [record, *waiting]
            waiting = []
        else:
            groups[-1] += [*waiting, record]
            waiting = []
    groups[-1] += waiting
    return [tuple(group) for group in groups]


def note_own_model(context: Context) -> None:
    """Note a problem after the first that has a model of its own."""
    begin = context.stream.of("PROBLEM")[0].start
    for record in context.stream.of(*_MODEL):
        if record.start > begin:
            message = "a problem after the first has a model of its own; NM-TRAN knows one model per file"
            context.notice(message, record.head)
            return
