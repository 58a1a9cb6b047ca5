"""Linear compartment systems solved in extended precision, to test the kernel against."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from elbomix.engine.kernel.linear.systems import advance_linear, decompose, system_size, work_size
from elbomix.engine.kernel.linear.transfer_graph import plan_linear

Array = NDArray[np.float64]
Extended = NDArray[np.longdouble]
Transfers = list[tuple[int, int, int]]

LIBRARY: dict[str, tuple[int, Transfers]] = {
    "one": (1, [(1, 0, 0)]),
    "one, oral": (2, [(1, 2, 0), (2, 0, 1)]),
    "two": (2, [(1, 0, 0), (1, 2, 1), (2, 1, 2)]),
    "two, oral": (3, [(1, 2, 0), (2, 0, 1), (2, 3, 2), (3, 2, 3)]),
    "three": (3, [(1, 0, 0), (1, 2, 1), (2, 1, 2), (1, 3, 3), (3, 1, 4)]),
    "three, oral": (4, [(1, 2, 0), (2, 0, 1), (2, 3, 2), (3, 2, 3), (2, 4, 4), (4, 2, 5)]),
}
CLOSED: dict[str, tuple[int, Transfers]] = {
    **LIBRARY,
    "two, oral, urine": (4, [(1, 2, 0), (2, 4, 1), (2, 3, 2), (3, 2, 3)]),
    "one, oral, not eliminated": (2, [(1, 2, 0)]),
    "two depots, one into both": (4, [(1, 2, 0), (1, 3, 4), (4, 2, 5), (2, 0, 1), (2, 3, 2), (3, 2, 3)]),
    "depot that also loses": (3, [(1, 2, 0), (1, 0, 4), (2, 0, 1), (2, 3, 2), (3, 2, 3)]),
    "catenary, in other order": (
        4,
        [(3, 1, 0), (1, 3, 1), (1, 4, 2), (4, 1, 3), (4, 2, 4), (2, 4, 5), (2, 0, 6)],
    ),
    "parent and metabolite": (2, [(1, 2, 0), (1, 0, 1), (2, 0, 2)]),
    "two drugs": (3, [(1, 0, 0), (2, 0, 1), (2, 3, 2), (3, 2, 3)]),
    "parallel ways out": (2, [(1, 0, 0), (1, 0, 1), (1, 2, 2), (2, 1, 3), (1, 2, 3)]),
}
GENERAL: dict[str, tuple[int, Transfers]] = {
    "chain": (4, [(1, 2, 0), (2, 3, 1), (3, 4, 2), (4, 0, 3)]),
    "cycle": (3, [(1, 2, 0), (2, 3, 1), (3, 1, 2), (2, 0, 3)]),
    "one-way exchange": (3, [(1, 2, 0), (2, 0, 1), (2, 3, 2)]),
    "enterohepatic": (4, [(1, 2, 0), (2, 0, 1), (2, 3, 2), (3, 2, 3), (2, 4, 4), (4, 1, 5)]),
    "two sinks": (3, [(1, 2, 0), (1, 3, 1)]),
    "reversible ring": (3, [(1, 2, 0), (2, 1, 1), (2, 3, 2), (3, 2, 3), (1, 3, 4), (3, 1, 5), (1, 0, 0)]),
}


@dataclass(frozen=True)
class Start:
    """Rates, amounts and inputs of a system with their derivatives."""

    p: Array
    dp: Array
    y: Array
    dy: Array
    r: Array
    dr: Array


def exponential(matrix: Extended) -> Extended:
    """Return exp of a matrix by Taylor series and squaring in extended precision."""
    norm = float(np.abs(matrix).sum(axis=0).max())
    doublings = max(0, int(np.ceil(np.log2(max(norm, 1e-300)))) + 2)
    scaled = matrix / np.longdouble(2) ** doublings
    result = np.eye(len(matrix), dtype=np.longdouble)
    term = result.copy()
    for k in range(1, 24):
        term = (term @ scaled / k).astype(np.longdouble)
        result = result + term
    for _ in range(doublings):
        result = result @ result
    return result


def reference(n: int, transfers: Transfers, start: Start, h: float) -> tuple[Array, Array]:
    """Return amounts and derivatives after ``h``, by block exponentials of the system with its inputs."""
    nq = start.dp.shape[1]

    def augmented(p: Array, r: Array) -> Extended:
        matrix = np.zeros((n + 1, n + 1), dtype=np.longdouble)
        for source, target, slot in transfers:
            matrix[source - 1, source - 1] -= p[slot]
            if target > 0:
                matrix[target - 1, source - 1] += p[slot]
        matrix[:n, n] = r
        return matrix * np.longdouble(h)

    system = augmented(start.p, start.r)
    y = exponential(system)[:n] @ np.append(start.y, 1.0).astype(np.longdouble)
    dy = np.zeros((n, nq))
    for q in range(nq):
        block = np.zeros((2 * n + 2, 2 * n + 2), dtype=np.longdouble)
        block[: n + 1, : n + 1] = system
        block[n + 1 :, n + 1 :] = system
        block[n + 1 :, : n + 1] = augmented(start.dp[:, q], start.dr[:, q])
        state = np.concatenate([start.y, [1.0], start.dy[:, q], [0.0]]).astype(np.longdouble)
        dy[:, q] = (exponential(block) @ state)[n + 1 : 2 * n + 1]
    return y.astype(np.float64), dy


def advanced(
    n: int, transfers: Transfers, start: Start, h: float, *, general: bool = False
) -> tuple[Array, Array]:
    """Return what the kernel makes of it; ``general`` forces the matrix exponential."""
    table = np.array(transfers, dtype=np.int64).reshape(-1, 3)
    plan = plan_linear(n, table)
    if general:
        plan[2] = 0
    m, nq = len(transfers), start.dp.shape[1]
    # what stands in the work spaces must not matter
    system, work = np.full(system_size(n, m, nq), np.nan), np.full(work_size(n, m, nq), np.nan)
    assert decompose(plan, start.p, start.dp, system) == 0
    y, dy = start.y.copy(), start.dy.copy()
    advance_linear(h, y, dy, start.r, start.dr, plan, system, work)
    return y, dy


def random_start(
    generator: np.random.Generator,
    n: int,
    transfers: Transfers,
    nq: int,
    *,
    infused: bool,
    spread: float = 1.5,
) -> Start:
    """Return log-normal rates, and everything else at random."""
    slots = 1 + max(slot for _, _, slot in transfers)
    return Start(
        np.exp(spread * generator.normal(size=slots) - 1.0),
        generator.normal(size=(slots, nq)),
        generator.uniform(0.0, 100.0, n),
        generator.normal(size=(n, nq)),
        generator.uniform(0.0, 5.0, n) * infused,
        generator.normal(size=(n, nq)) * infused,
    )


def distance(found: Array, wanted: Array) -> float:
    """Return the largest difference relative to the largest value."""
    return float(np.abs(found - wanted).max(initial=0.0) / max(np.abs(wanted).max(initial=0.0), 1e-300))
