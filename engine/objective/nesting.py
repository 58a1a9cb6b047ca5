"""Random effects that groups of subjects share ($LEVEL): groups, their means, and what they cost.

As Bauer describes it (NONMEM 7 technical guide, appendix L): the effects of a group are no unknowns of an
integral but means over its subjects of the sums of all their effects, each less the mean of the groups that
it is one of. They are then held while the effects of the subjects are found anew.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..estimate import Array
from ..failure import ModelFailure
from ..ir.dataset import DataSet
from ..ir.model import Model
from ..ir.parameter import matrix
from ..ir.prior import Level

_WHOLE = "give the random effects of one level blocks of $OMEGA of their own"


@dataclass(frozen=True)
class NestingSettings:
    """How shared effects are made and weighed.

    Attributes
    ----------
    centred
        Whether the effects of groups side by side have mean zero.
    top_loss
        Degrees of freedom that the highest level loses to that mean.
    by_subjects
        Whether a group counts by its subjects; else every group of a level counts the same.
    averaged
        Whether the objective is the mean of one that leaves groups out of account and of the one given the
        shared effects; else it is the latter.
    """

    centred: bool = True
    top_loss: int = 1
    by_subjects: bool = False
    averaged: bool = True


@dataclass(frozen=True, eq=False)
class _Groups:
    """One level: ``outer`` effects made of sums over the chains of ``base`` effects (both from 0).

    ``group`` [id], ``is_first`` [id] of its group, ``size`` subjects of each group, ``means`` [group, id] the
    linear map from sums to effects.
    """

    outer: tuple[int, ...]
    base: tuple[int, ...]
    group: NDArray[np.int64]
    size: NDArray[np.int64]
    means: Array
    is_first: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class _Block:
    """A block of omega (``etas`` from 0) and the weights [id] of its quadratic form and log determinant."""

    etas: NDArray[np.int64]
    square: Array
    determinant: Array


class Nesting:
    """The levels of a model over its data.

    Attributes
    ----------
    outer
        int64, shared effects (from 0).
    divisor
        [id, eta]: with these weights the squares of conditional estimates sum up to omega.
    counted
        bool[id, eta]: one subject of each group for its effects, everybody for the others.
    loss
        int64[eta]: degrees of freedom that conditional estimates lose to means of groups.

    Raises
    ------
    ModelFailure
        Where the levels are no levels of these data, or share a block of omega.
    """

    def __init__(self, model: Model, data: DataSet, settings: NestingSettings = NestingSettings()) -> None:
        if model.mixture is not None:
            raise ModelFailure(
                "shared random effects of a mixture of subpopulations are not available", model.mixture.span
            )
        self.settings, self.n = settings, data.n_subjects
        variances = np.array([row[i] for i, row in enumerate(matrix(model.omega))])
        self.active = variances > 0
        self.chains = _chains(model)
        self.levels = _levels(model, data, self.chains, settings)
        self.outer = np.array([k for level in self.levels for k in level.outer], dtype=np.int64)
        self._blocks: list[_Block] = []
        self.divisor = np.full((self.n, model.n_etas), 1.0 / max(self.n - 1, 1))
        self.counted = np.ones((self.n, model.n_etas), dtype=bool)
        self.loss = np.zeros(model.n_etas, dtype=np.int64)
        for block in model.omega:
            self._weigh(tuple(range(block.first - 1, block.first - 1 + block.size)), model)

    def shared(self, eta: Array) -> Array:
        """Return the shared effects [id, eta] that conditional estimates [id, eta] give; others are zero."""
        made = np.zeros_like(eta)
        for level in self.levels:
            for outer, base in zip(level.outer, level.base, strict=True):
                sums = eta[:, self.chains[base]].sum(1)
                made[:, outer] = (level.means @ sums)[level.group]
        return made

    def own(self, eta: Array, shared: Array) -> Array:
        """Return effects of the subjects [id, eta] whose sums with ``shared`` are those of ``eta``."""
        made = eta.copy()
        made[:, self.outer] = 0.0
        for base, chain in self.chains.items():
            made[:, base] = (eta - shared)[:, chain].sum(1)
        return made

    def pulled(self, slopes: Array) -> Array:
        """Return derivatives to conditional estimates from those to the shared effects, both [id, eta]."""
        made = np.zeros_like(slopes)
        for level in self.levels:
            for outer, base in zip(level.outer, level.base, strict=True):
                by_group = np.bincount(level.group, slopes[:, outer], len(level.size))
                made[:, self.chains[base]] += (by_group @ level.means)[:, None]
        return made

    def held(self, omega: Array) -> Array:
        """Return ``omega`` without the variances of the shared effects."""
        made = omega.copy()
        made[self.outer] = 0.0
        made[:, self.outer] = 0.0
        return made

    def cost(self, omega: Array, shared: Array) -> Array:
        """Return what the shared effects add to the contributions [id], lost degrees of freedom included."""
        total = np.zeros(self.n)
        for block in self._blocks:
            own = omega[np.ix_(block.etas, block.etas)]
            e = shared[:, block.etas]
            sign, logarithm = np.linalg.slogdet(own)
            if sign <= 0:
                return np.full(self.n, np.inf)
            total += block.square * (e * np.linalg.solve(own, e.T).T).sum(1) + block.determinant * logarithm
        return total

    def cost_slopes(self, omega: Array, shared: Array) -> tuple[Array, Array]:
        """Return derivatives of :meth:`cost` to the shared effects [id, eta] and to omega [id, eta, eta]."""
        by_eta = np.zeros_like(shared)
        by_omega = np.zeros((*shared.shape, shared.shape[1]))
        for block in self._blocks:
            inverse = np.linalg.inv(omega[np.ix_(block.etas, block.etas)])
            turned = shared[:, block.etas] @ inverse
            by_eta[:, block.etas] += 2.0 * block.square[:, None] * turned
            by_omega[:, block.etas[:, None], block.etas] += (
                block.determinant[:, None, None] * inverse
                - block.square[:, None, None] * turned[:, :, None] * turned[:, None, :]
            )
        return by_eta, by_omega

    def _weigh(self, etas: tuple[int, ...], model: Model) -> None:
        """Note the weights of a block of omega."""
        ranks = {self._rank(k) for k in etas}
        if len(ranks) > 1:
            raise ModelFailure(
                f"a block of $OMEGA (ETA({etas[0] + 1}) to ETA({etas[-1] + 1})) has random effects of "
                "several levels",
                model.levels[0].span,
                _WHOLE,
            )
        rank, above = ranks.pop()
        n, loss = self.n, 0
        if above is not None:
            loss = len(self.levels[above].size) if self.settings.centred else 0
        elif rank is not None:
            loss = self.settings.top_loss
        known = np.array([k for k in etas if self.active[k]], dtype=np.int64)
        if rank is None:
            self.loss[list(etas)] = loss
            self.divisor[:, list(etas)] = 1.0 / max(n - max(loss, 1), 1)
            self._blocks.append(_Block(known, np.zeros(n), np.full(n, -loss / n)))
            return
        level = self.levels[rank]
        groups = len(level.size)
        left = groups - loss
        if left <= 0:
            raise ModelFailure(
                f"{model.levels[rank].column} has {groups} group(s), too few for a variance among them",
                model.levels[rank].span,
            )
        weight = np.full(n, groups / n) if self.settings.by_subjects else 1.0 / level.size[level.group]
        self.divisor[:, list(etas)] = weight[:, None] / left
        self.loss[list(etas)] = loss
        self.counted[:, list(etas)] = level.is_first[:, None]
        self._blocks.append(_Block(known, weight, left / groups * weight))

    def _rank(self, eta: int) -> tuple[int | None, int | None]:
        """Return the level of an effect (None: the subject's own) and the one above it, if it is nested."""
        chain = next((c for c in self.chains.values() if eta in c), [eta])
        place = chain.index(eta)
        return (place - 1 if place else None), (place if place + 1 < len(chain) else None)


def _chains(model: Model) -> dict[int, list[int]]:
    """Return for each effect of subjects that is nested: itself and the effects above it (from 0)."""
    chains: dict[int, list[int]] = {}
    for i, level in enumerate(model.levels):
        outer = [o - 1 for o, _ in level.pairs]
        inner = [n - 1 for _, n in level.pairs]
        if i == 0:
            chains = {k: [k] for k in inner}
        seen = {k for chain in chains.values() for k in chain}
        ends = {chain[-1]: chain for chain in chains.values()}
        if len({*outer}) < len(outer) or seen & {*outer} or sorted(inner) != sorted(ends):
            raise ModelFailure(
                f"the random effects of {level.column} do not stand each above one of the level below",
                level.span,
                "e.g. $LEVEL SID=(3[1],4[2]) CID=(5[3],6[4]): ETA(5) above ETA(3), which is above ETA(1)",
            )
        for above, below in zip(outer, inner, strict=True):
            ends[below].append(above)
    return chains


def _levels(
    model: Model, data: DataSet, chains: dict[int, list[int]], settings: NestingSettings
) -> tuple[_Groups, ...]:
    below: NDArray[np.int64] | None = None
    codes = [_codes(level, data) for level in model.levels]
    levels = []
    for i, level in enumerate(model.levels):
        code = codes[i]
        if below is not None and len(np.unique(np.stack([below, code]), axis=1).T) > below.max() + 1:
            raise ModelFailure(
                f"a value of {model.levels[i - 1].column} belongs to several values of {level.column}",
                level.span,
                "levels are given from the lowest to the highest",
            )
        size = np.bincount(code).astype(np.int64)
        means = (code[None, :] == np.arange(len(size))[:, None]) / size[:, None]
        parent = codes[i + 1] if i + 1 < len(codes) else np.zeros_like(code)
        is_top = i + 1 == len(codes)
        outer = tuple(o - 1 for o, _ in level.pairs)
        base = tuple(next(b for b, chain in chains.items() if k in chain) for k in outer)
        if settings.centred or not is_top:
            means = means - _of_siblings(means, size, code, parent, settings)
        is_first = np.isin(np.arange(len(code)), np.unique(code, return_index=True)[1])
        levels.append(_Groups(outer, base, code, size, means, is_first))
        below = code
    return tuple(levels)


def _of_siblings(
    means: Array,
    size: NDArray[np.int64],
    code: NDArray[np.int64],
    parent: NDArray[np.int64],
    settings: NestingSettings,
) -> Array:
    """Return for each group [group, id] the mean of the groups within the same group of the next level."""
    first = np.array([int(np.flatnonzero(code == g)[0]) for g in range(len(size))])
    above = parent[first]
    weight = size if settings.by_subjects or not settings.centred else np.ones(len(size))
    together = (above[:, None] == above[None, :]) * weight[None, :]
    made: Array = together / together.sum(1, keepdims=True) @ means
    return made


def _codes(level: Level, data: DataSet) -> NDArray[np.int64]:
    """Return the group of each subject, numbered from 0 in the order of the data."""
    values = data.values[level.column]
    first = np.array([values[np.argmax(data.subject == i)] for i in range(data.n_subjects)])
    strange = np.flatnonzero(values != first[data.subject])
    if len(strange):
        raise ModelFailure(
            f"{level.column} changes within subject {data.ids[data.subject[strange[0]]]:g} "
            f"({data.path}:{data.line[strange[0]]})",
            level.span,
            "a level above the subject has one value in all records of a subject",
        )
    _, index, code = np.unique(first, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(index))
    return np.asarray(order[code.reshape(-1)], dtype=np.int64)
