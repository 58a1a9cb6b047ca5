"""Mu-referencing found by analysis of ordinary model code.

An eta is mu-referenced where the model depends on it through phi = mu + eta alone, with

    parameter = link^-1(phi),   mu = offset + sum_j design_j * g_j(theta_j),

and no estimated theta of mu has another part in the model. Other etas may be added to phi (those of
occasions, say): they are no part of mu; of two that enter one parameter alike, and nothing else, the lower
number carries mu. The statements are interpreted over linear forms (:mod:`.linear_form`) instead of numbers,
so intermediate variables, products, powers, logs and MU_n coding need no special treatment, and
:mod:`.dataflow` tells whether eta and thetas go anywhere else.

Not mu-referenced, and estimated in other ways: proportional etas (``TVCL*(1+ETA(1))``), conditions on thetas,
etas shared by two parameters, and etas of the observation model. Thetas that are shared by two parameters (a
FIXed one may be) and factors that are not linear in a transformed theta (``1+THETA(2)*(WT-70)`` under a log
link) make mus only where curves are asked for. A conditional on data makes designs with comparisons, whose
values are 1 and 0.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

from .dataflow import Dataflow, dataflow
from .derivative import ONE, ZERO, add, multiply
from .expression import Column, Expression, Theta, walk
from .interpretation import interpret
from .linear_form import Atom, Form, Maybe, transformed
from .model import Model
from .span import Span

Link = Literal["identity", "log", "logit"]
TRANSFORMS: dict[str, Link] = {"theta": "identity", "log theta": "log", "logit theta": "logit"}


@dataclass(frozen=True)
class MuTerm:
    """One term of mu: ``design`` times the transformed theta.

    The design holds data columns and numbers; a comparison in it stands for 1 or 0.
    """

    theta: int  # from 1
    transform: Link
    design: Expression


@dataclass(frozen=True)
class MuReference:
    """What is known of a mu-referenced eta.

    ``parameter`` is the variable that phi makes, with what ``alone`` False says is added: other etas, such
    as those of occasions. ``offset`` (None: 0) depends on data only; ``curve`` (None: 0) on thetas too, not
    linearly. Offset, curve and designs are values per record: where they change within a subject, phi does
    too.
    """

    eta: int  # from 1
    parameter: str
    link: Link
    terms: tuple[MuTerm, ...]
    offset: Expression | None
    alone: bool = True
    curve: Expression | None = None
    span: Span | None = field(default=None, compare=False, repr=False)

    @property
    def thetas(self) -> frozenset[int]:
        """The thetas (from 1) of mu."""
        curved = set() if self.curve is None else _thetas(self.curve)
        return frozenset(curved | {t.theta for t in self.terms})

    @property
    def columns(self) -> frozenset[str]:
        """The data columns that mu depends on."""
        parts = [t.design for t in self.terms]
        parts += [part for part in (self.offset, self.curve) if part is not None]
        return frozenset(n.name for part in parts for n in walk(part) if isinstance(n, Column))


def mu_references(
    model: Model, *, curves: bool = False, columns: Collection[str] | None = None
) -> tuple[MuReference, ...]:
    """Return the mu-reference of every eta that has one, in the order of the etas.

    ``columns``: the data columns that mu may depend on (None: any). With ``curves`` mu may be any function of
    its thetas, and a theta may be in several mus, as long as it is nowhere else.
    """
    flow = dataflow(model)
    search = _Search(model, flow, interpret(model, flow, curves), curves, columns)
    found = search.chosen()
    return tuple(_reference(flow, *found[eta], eta) for eta in sorted(found))


@dataclass(frozen=True)
class LinearVariable:
    """A variable that is linear in transformed thetas: offset (None: 0) plus the sum of ``terms``."""

    terms: tuple[MuTerm, ...]
    offset: Expression | None


def linear_variable(model: Model, name: str) -> LinearVariable | None:
    """Return the last value that the individual model gives to ``name``; None where it is not linear.

    Raises
    ------
    KeyError
        Where nothing is assigned to it.
    """
    flow = dataflow(model)
    places = [k for k, definition in enumerate(flow.definitions) if definition.target == name]
    if not places:
        raise KeyError(name)
    form = interpret(model, flow)[places[-1]]
    if form is None or form.link != "identity" or any(a.kind not in TRANSFORMS for a, _ in form.parts):
        return None
    return LinearVariable(_terms(form), None if form.offset == ZERO else form.offset)


def holder(flow: Dataflow, eta: int) -> int | None:
    """Return the one live definition that names ``eta``, or None where there are several or none."""
    if eta in flow.sinks.etas:
        return None
    holders = [d for d in flow.reached().definitions if eta in flow.definitions[d].uses.etas]
    return holders[0] if len(holders) == 1 else None


class _Search:
    """For every eta the definition that is its parameter."""

    def __init__(
        self,
        model: Model,
        flow: Dataflow,
        forms: list[Maybe],
        curves: bool,
        columns: Collection[str] | None,
    ) -> None:
        self.model, self.flow, self.forms = model, flow, forms
        self.curves, self.columns = curves, columns
        self.estimated = {t for t, theta in enumerate(model.thetas, start=1) if not theta.fixed}

    def chosen(self) -> dict[int, tuple[int, Form]]:
        """Return place and form by eta, such that no estimated theta of a mu is anywhere else."""
        found: dict[int, tuple[int, Form]] = {}
        sharing: dict[int, list[tuple[int, Form]]] = {}
        for eta in range(1, self.model.n_etas + 1):
            places = self._places(eta)
            own = [p for p in places if not self._shared(p[1], [p[0]])]
            if own:
                found[eta] = self._best(own)
            elif self.curves:
                sharing[eta] = places
        while sharing:  # until those left share thetas with one another alone
            sharing = {eta: places for eta, places in sharing.items() if places}
            trial = {eta: self._best(places) for eta, places in sharing.items()}
            cut = [place for place, _ in (found | trial).values()]
            wrong = [eta for eta, (_, form) in trial.items() if self._shared(form, cut)]
            if not wrong:
                found |= trial
                break
            for eta in wrong:
                sharing[eta] = [p for p in sharing[eta] if p[0] != trial[eta][0]]
        return {eta: best for eta, best in found.items() if not _is_bare(best[1])}

    def _places(self, eta: int) -> list[tuple[int, Form]]:
        """Return the definitions through which alone ``eta`` goes, as a part of phi."""
        found = []
        current = holder(self.flow, eta)
        while current is not None:
            form = self.forms[current]
            if form is None or not _is_phi(form, eta):
                break
            if self._is_all(current, form, eta):
                found.append((current, form))
            users = self.flow.users(current)
            current = users[0] if len(users) == 1 and current not in self.flow.sinks.definitions else None
        return found

    def _is_all(self, place: int, form: Form, eta: int) -> bool:
        """Return whether ``eta`` goes into the model through definition ``place`` alone, and mu is known."""
        elsewhere = self.flow.reached((place,))
        others = _others(form, eta)
        # another eta that is added as this one is and has no other part could carry mu as well
        alike = {atom.index for atom, coefficient in others if atom.kind == "eta" and coefficient == ONE}
        if any(_thetas(coefficient) & self.estimated for _, coefficient in others):
            return False
        linear = [atom.index for atom, _ in form.parts if atom.kind in TRANSFORMS]
        if not self.curves and len(set(linear)) < len(linear):
            return False
        inside = [form.offset, *(c for atom, c in form.parts if atom.kind in TRANSFORMS)]
        named = {n.name for part in inside for n in walk(part) if isinstance(n, Column)}
        return (
            (self.columns is None or named <= set(self.columns))
            and eta not in elsewhere.etas
            and eta < min(alike - elsewhere.etas, default=self.model.n_etas + 1)
        )

    def _shared(self, form: Form, cut: list[int]) -> bool:
        """Return whether an estimated theta of ``form`` has a part in the model beside the places ``cut``."""
        return bool(_form_thetas(form) & self.estimated & self.flow.reached(cut).thetas)

    def _best(self, places: list[tuple[int, Form]]) -> tuple[int, Form]:
        best = places[0]
        for new in places[1:]:
            if _is_better(self.flow, best, new):
                best = new
        return best


def _reference(flow: Dataflow, place: int, form: Form, eta: int) -> MuReference:
    definition = flow.definitions[place]
    assert form.link != "odds"
    terms, offset, curve = _parted(form)
    return MuReference(
        eta,
        definition.target,
        form.link,
        terms,
        offset,
        not _others(form, eta),
        curve,
        span=flow.statements[definition.position].span,
    )


def _parted(form: Form) -> tuple[tuple[MuTerm, ...], Expression | None, Expression | None]:
    """Return the terms, the offset and the rest of a mu that is not linear in transformed thetas."""
    numbers = [atom.index for atom, _ in form.parts if atom.kind in TRANSFORMS]
    curved = {t for t in numbers if numbers.count(t) > 1} | _thetas(form.offset)
    for atom, coefficient in form.parts:
        if atom.kind in TRANSFORMS and _thetas(coefficient):
            curved |= _thetas(coefficient) | {atom.index}
    linear = tuple(p for p in form.parts if p[0].kind in TRANSFORMS and p[0].index not in curved)
    terms = tuple(MuTerm(a.index, TRANSFORMS[a.kind], c) for a, c in linear)
    if not curved:
        return terms, None if form.offset == ZERO else form.offset, None
    curve = form.offset
    for atom, coefficient in form.parts:
        if atom.kind in TRANSFORMS and atom.index in curved:
            curve = add(curve, multiply(coefficient, transformed(atom)))
    return terms, None, curve


def _terms(form: Form) -> tuple[MuTerm, ...]:
    return tuple(MuTerm(a.index, TRANSFORMS[a.kind], c) for a, c in form.parts if a.kind in TRANSFORMS)


def _others(form: Form, eta: int) -> list[tuple[Atom, Expression]]:
    """Return what is added to mu and the eta."""
    return [part for part in form.parts if part[0].kind not in TRANSFORMS and part[0] != Atom("eta", eta)]


def _is_phi(form: Form, eta: int) -> bool:
    return form.link != "odds" and (Atom("eta", eta), ONE) in form.parts


def _is_bare(form: Form) -> bool:
    return form.link == "identity" and form.offset == ZERO and not _form_thetas(form)


def _is_better(flow: Dataflow, old: tuple[int, Form], new: tuple[int, Form]) -> bool:
    """Return whether a variable made of ``old`` alone is the parameter rather than ``old`` itself."""
    return (
        _is_bare(old[1])
        or (old[1].link == "identity" and new[1].link != "identity")
        or flow.definitions[old[0]].target == flow.definitions[new[0]].target
        or len(_form_thetas(new[1])) > len(_form_thetas(old[1]))
    )


def _form_thetas(form: Form) -> set[int]:
    """Return the thetas of mu."""
    inside = [form.offset, *(c for atom, c in form.parts if atom.kind in TRANSFORMS)]
    linear = {atom.index for atom, _ in form.parts if atom.kind in TRANSFORMS}
    return linear.union(*map(_thetas, inside))


def _thetas(expression: Expression) -> set[int]:
    return {node.index for node in walk(expression) if isinstance(node, Theta)}
