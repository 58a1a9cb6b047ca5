"""The time line of each subject cut at doses, ends of infusions and resets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..data.events import EventTable


@dataclass(frozen=True)
class Segments:
    """Segments of all subjects, padded; a padded segment is not ``active`` and has a dummy length.

    ``start``, ``end``, ``active``, ``reset`` (amounts return to their initial values first) and
    ``parameter_record`` (the record whose individual values rule) are ``"id segment"``;
    ``evaluation`` ``"id segment eval"`` ends with the segment's end. ``record_segment`` and
    ``record_slot`` (``"id record"``) say where each record is evaluated. ``bolus`` and ``infusion``
    (``"id segment dose"``) hold 1, or the rate, where a dose enters or runs.
    """

    start: Tensor
    end: Tensor
    active: Tensor
    reset: Tensor
    parameter_record: Tensor
    evaluation: Tensor
    record_segment: Tensor
    record_slot: Tensor
    bolus: Tensor
    infusion: Tensor
    dose_compartment: Tensor

    @property
    def n_segments(self) -> int:
        """Segments of the subject that has most."""
        return self.start.shape[1]


@dataclass
class _Segment:
    start: float
    reset: bool
    doses: list[int]
    running: list[int]
    records: list[int]


def build_segments(events: EventTable, per_record: bool) -> Segments:
    """Return the segments of every subject.

    With ``per_record`` every record ends a segment, so that individual values which change between
    records rule the interval that ends at their record.
    """
    cut = [_cut(events, i, per_record) for i in range(events.n_subjects)]
    n = max(len(c) for c in cut)
    width = max(len(s.records) for c in cut for s in c) + 1
    shape = (events.n_subjects, n)
    span = max(float(np.ptp(events.time)), 1.0)
    start, end = np.zeros(shape), np.zeros(shape)
    active, reset = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    ruling = np.zeros(shape, dtype=np.int64)
    evaluation = np.zeros((*shape, width))
    record_segment = np.full(events.row.shape, -1, dtype=np.int64)
    record_slot = np.zeros(events.row.shape, dtype=np.int64)
    doses = (*shape, events.dose_time.shape[1])
    bolus, infusion = np.zeros(doses), np.zeros(doses)
    for i, segments in enumerate(cut):
        stop = float(events.time[i, -1])
        for s in range(n):
            if s >= len(segments):
                start[i, s], end[i, s] = stop, stop + 1e-6 * span
                ruling[i, s] = int((events.row[i] >= 0).sum()) - 1
                evaluation[i, s] = end[i, s]
                continue
            segment = segments[s]
            finish = segments[s + 1].start if s + 1 < len(segments) else max(stop, segment.start)
            start[i, s] = segment.start
            active[i, s] = finish > segment.start
            end[i, s] = finish if active[i, s] else segment.start + 1e-6 * span
            reset[i, s] = segment.reset
            times = events.time[i, segment.records]
            evaluation[i, s] = end[i, s]
            evaluation[i, s, : len(times)] = times
            record_segment[i, segment.records] = s
            record_slot[i, segment.records] = np.arange(len(times))
            later = [r for t in segments[s:] for r in t.records]
            ruling[i, s] = later[0] if later else int((events.row[i] >= 0).sum()) - 1
            for d in segment.doses:
                if events.dose_rate[i, d] == 0:
                    bolus[i, s, d] = 1.0
            for d in segment.running:
                infusion[i, s, d] = events.dose_rate[i, d]
    padded = events.row < 0  # a padded record repeats the last one
    for place in (record_segment, record_slot):
        final = place[np.arange(len(place)), (~padded).sum(axis=1) - 1]
        place[padded] = np.broadcast_to(final[:, None], place.shape)[padded]
    return Segments(
        torch.from_numpy(start),
        torch.from_numpy(end),
        torch.from_numpy(active),
        torch.from_numpy(reset),
        torch.from_numpy(ruling),
        torch.from_numpy(evaluation),
        torch.from_numpy(record_segment),
        torch.from_numpy(record_slot),
        torch.from_numpy(bolus),
        torch.from_numpy(infusion),
        torch.from_numpy(events.dose_compartment),
    )


def _cut(events: EventTable, i: int, per_record: bool) -> list[_Segment]:
    """Return the segments of subject ``i`` by one walk along its sorted events and records."""
    marks: list[tuple[float, int, int, int, str]] = []  # time, additional first, record, rank, kind
    n_records = int((events.row[i] >= 0).sum())
    for r in range(n_records):
        if events.evid[i, r] in (3, 4):
            marks.append((float(events.time[i, r]), 1, r, 0, "reset"))
        marks.append((float(events.time[i, r]), 1, r, 2, "record"))
    for d in np.flatnonzero(events.dose_valid[i]):
        time, record = float(events.dose_time[i, d]), int(events.dose_record[i, d])
        additional = events.dose_additional[i, d] > 0
        marks.append((time, 0 if additional else 1, -1 if additional else record, 1, f"dose {d}"))
        rate = events.dose_rate[i, d]
        if rate > 0:
            marks.append((time + float(events.dose_amount[i, d] / rate), 0, -1, 1, f"stop {d}"))
    last = float(events.time[i, n_records - 1])
    segments = [_Segment(float(events.time[i, 0]), False, [], [], [])]
    epoch = 0
    for time, _, record, _, kind in sorted(m for m in marks if m[0] <= last):
        current = segments[-1]
        if kind == "record":
            if per_record and current.records:
                current = _Segment(
                    float(events.time[i, current.records[-1]]), False, [], [*current.running], []
                )
                segments.append(current)
            current.records.append(record)
            continue
        word, _, number = kind.partition(" ")
        if word != "reset" and events.dose_epoch[i, int(number)] != epoch:
            continue  # additional doses and infusions end with a reset
        if current.records or time > current.start:
            current = _Segment(time, False, [], [*current.running], [])
            segments.append(current)
        if word == "reset":
            epoch += 1
            current.reset, current.running = True, []
        elif word == "dose":
            current.doses.append(int(number))
            if events.dose_rate[i, int(number)] > 0:
                current.running.append(int(number))
        elif int(number) in current.running:
            current.running.remove(int(number))
    return segments
