"""Mu-referencing found by analysis of ordinary model code.

An eta is mu-referenced where the model depends on it through phi = mu + eta alone, with

    parameter = link^-1(phi),   mu = offset + sum_j design_j * g_j(theta_j),

and no estimated theta of mu has another part in the model. Other etas may be added to phi (those of
occasions, say): they are no part of mu; of two that enter one parameter alike, and nothing else, the lower
number carries mu. The statements are interpreted over linear forms (:mod:`.linear_form`) instead of numbers,
so intermediate variables, products, powers, logs and MU_n coding need no special treatment, and
:mod:`.dataflow` tells whether eta and thetas go anywhere else.

Not mu-referenced, and estimated in other ways: proportional etas (``TVCL*(1+ETA(1))``), factors that are not
linear in a transformed theta (``1+THETA(2)*(WT-70)`` under a log link), conditions on thetas, etas or thetas
shared by two parameters (a FIXed theta may be shared), and etas of the observation model. A conditional on
data makes designs with comparisons, whose values are 1 and 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from . import linear_form as lf
from .dataflow import Dataflow, dataflow
from .derivative import ONE, ZERO, multiply, subtract
from .expression import (
    Binary,
    Call,
    Column,
    Compare,
    Conditional,
    Eta,
    Expression,
    Logical,
    Negative,
    Not,
    Number,
    Theta,
    Variable,
    walk,
)
from .linear_form import Atom, Form, Maybe
from .model import Model
from .span import Span
from .statement import Assign, If, Statement, assignments

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
    as those of occasions. ``offset`` (None: 0) depends on data only. Offset and designs are values per
    record: where they change within a subject, phi does too.
    """

    eta: int  # from 1
    parameter: str
    link: Link
    terms: tuple[MuTerm, ...]
    offset: Expression | None
    alone: bool = True
    span: Span | None = field(default=None, compare=False, repr=False)

    @property
    def columns(self) -> frozenset[str]:
        """The data columns that mu depends on."""
        parts = [t.design for t in self.terms] + ([self.offset] if self.offset is not None else [])
        return frozenset(n.name for part in parts for n in walk(part) if isinstance(n, Column))


def mu_references(model: Model) -> tuple[MuReference, ...]:
    """Return the mu-reference of every eta that has one, in the order of the etas."""
    flow = dataflow(model)
    forms = _interpret(model, flow)
    found = (_reference(model, flow, forms, eta) for eta in range(1, model.n_etas + 1))
    return tuple(reference for reference in found if reference is not None)


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
    form = _interpret(model, flow)[places[-1]]
    if form is None or form.link != "identity" or any(a.kind not in TRANSFORMS for a, _ in form.parts):
        return None
    return LinearVariable(_terms(form), None if form.offset == ZERO else form.offset)


def holder(flow: Dataflow, eta: int) -> int | None:
    """Return the one live definition that names ``eta``, or None where there are several or none."""
    if eta in flow.sinks.etas:
        return None
    holders = [d for d in flow.reached().definitions if eta in flow.definitions[d].uses.etas]
    return holders[0] if len(holders) == 1 else None


def _reference(model: Model, flow: Dataflow, forms: list[Maybe], eta: int) -> MuReference | None:
    current = holder(flow, eta)
    best: tuple[int, Form] | None = None
    while current is not None:
        form = forms[current]
        if form is None or not _is_phi(form, eta):
            break
        if _is_all(model, flow, current, form, eta) and (
            best is None or _is_better(flow, best, (current, form))
        ):
            best = (current, form)
        users = flow.users(current)
        current = users[0] if len(users) == 1 and current not in flow.sinks.definitions else None
    if best is None or _is_bare(best[1]):
        return None
    place, form = best
    definition = flow.definitions[place]
    assert form.link != "odds"
    return MuReference(
        eta,
        definition.target,
        form.link,
        _terms(form),
        None if form.offset == ZERO else form.offset,
        not _others(form, eta),
        span=flow.statements[definition.position].span,
    )


def _is_all(model: Model, flow: Dataflow, place: int, form: Form, eta: int) -> bool:
    """Return whether the eta and thetas of ``form`` go into the model through definition ``place`` alone."""
    thetas = [atom.index for atom, _ in form.parts if atom.kind in TRANSFORMS]
    estimated = {t for t in thetas if not model.thetas[t - 1].fixed}
    elsewhere = flow.reached(cut=place)
    # another eta that is added as this one is and has no other part could carry mu as well
    alike = {
        atom.index for atom, coefficient in _others(form, eta) if atom.kind == "eta" and coefficient == ONE
    }
    return (
        len(set(thetas)) == len(thetas)
        and not estimated & elsewhere.thetas
        and eta not in elsewhere.etas
        and eta < min(alike - elsewhere.etas, default=model.n_etas + 1)
    )


def _terms(form: Form) -> tuple[MuTerm, ...]:
    return tuple(MuTerm(a.index, TRANSFORMS[a.kind], c) for a, c in form.parts if a.kind in TRANSFORMS)


def _others(form: Form, eta: int) -> list[tuple[Atom, Expression]]:
    """Return what is added to mu and the eta."""
    return [part for part in form.parts if part[0].kind not in TRANSFORMS and part[0] != Atom("eta", eta)]


def _is_phi(form: Form, eta: int) -> bool:
    return form.link != "odds" and (Atom("eta", eta), ONE) in form.parts


def _is_bare(form: Form) -> bool:
    return form.link == "identity" and form.offset == ZERO and not _n_thetas(form)


def _is_better(flow: Dataflow, old: tuple[int, Form], new: tuple[int, Form]) -> bool:
    """Return whether a variable made of ``old`` alone is the parameter rather than ``old`` itself."""
    return (
        _is_bare(old[1])
        or (old[1].link == "identity" and new[1].link != "identity")
        or flow.definitions[old[0]].target == flow.definitions[new[0]].target
        or _n_thetas(new[1]) > _n_thetas(old[1])
    )


def _n_thetas(form: Form) -> int:
    return sum(atom.kind in TRANSFORMS for atom, _ in form.parts)


def _interpret(model: Model, flow: Dataflow) -> list[Maybe]:
    """Return the form of each definition, None where it has none."""
    initial = {i: t.initial for i, t in enumerate(model.thetas, start=1)}
    domain = lf.Domain(
        frozenset(i for i, value in initial.items() if value > 0),
        frozenset(i for i, value in initial.items() if 0 < value < 1),
    )
    known: dict[str, Maybe] = {}
    forms: list[Maybe] = []
    for position, statement in enumerate(flow.statements):
        _run((statement,), known, domain)
        for definition in (d for d in flow.definitions if d.position == position):
            if known.get(definition.target) is None and not flow.origins(len(forms)).thetas:
                known[definition.target] = lf.single("other", len(forms))
            forms.append(known.get(definition.target))
    return forms


def _run(statements: tuple[Statement, ...], known: dict[str, Maybe], domain: lf.Domain) -> None:
    """Run ``statements`` over forms, updating ``known``."""
    for statement in statements:
        if isinstance(statement, Assign):
            known[statement.target] = _form(statement.value, known, domain)
            continue
        if not isinstance(statement, If):
            known.update({a.target: None for a in assignments((statement,))})
            continue
        rest: Expression | None = ONE  # 1 where no earlier condition held
        worlds: list[tuple[Expression, dict[str, Maybe]]] = []
        for condition, body in statement.branches:
            holds = _condition(condition, known, domain)
            if holds is None or rest is None:
                rest = None
                break
            world = dict(known)
            _run(body, world, domain)
            worlds.append((multiply(rest, holds), world))
            rest = multiply(rest, subtract(ONE, holds))
        world = dict(known)
        _run(statement.otherwise, world, domain)
        for target in dict.fromkeys(a.target for a in assignments((statement,))):
            if rest is None:
                known[target] = None
            else:
                cases = [(weight, w.get(target)) for weight, w in (*worlds, (rest, world))]
                known[target] = lf.choose(cases, domain)


def _condition(node: Expression, known: dict[str, Maybe], domain: lf.Domain) -> Expression | None:
    """Return ``node`` over data columns alone, or None where it depends on more."""
    match node:
        case Compare(comparison, left, right):
            a, b = _form(left, known, domain), _form(right, known, domain)
            if a is None or b is None or not (a.is_data and b.is_data):
                return None
            return Compare(comparison, a.offset, b.offset)
        case Logical(logical, left, right):
            first, second = _condition(left, known, domain), _condition(right, known, domain)
            return None if first is None or second is None else Logical(logical, first, second)
        case Not(operand):
            inner = _condition(operand, known, domain)
            return None if inner is None else Not(inner)
    return None


def _form(node: Expression, known: dict[str, Maybe], domain: lf.Domain) -> Maybe:
    match node:
        case Number() | Column():
            return lf.data(node)
        case Theta(index):
            return lf.single("theta", index)
        case Eta(index):
            return lf.single("eta", index)
        case Variable(name):
            return known.get(name)
        case Negative(operand):
            a = _form(operand, known, domain)
            if a is not None and a.is_data and not isinstance(a.offset, Number):
                return lf.data(Negative(a.offset))
            return lf.minus(a)
        case Binary(operator, left, right):
            a, b = _form(left, known, domain), _form(right, known, domain)
            if a is None or b is None:
                return None
            if a.is_data and b.is_data:
                return lf.data(Binary(operator, a.offset, b.offset))
            match operator:
                case "+":
                    return lf.plus(a, b)
                case "-":
                    return lf.plus(a, lf.minus(b))
                case "*":
                    return lf.times(a, b, domain)
                case "/":
                    return lf.over(a, b, domain)
                case "**":
                    return lf.power(a, b, domain)
        case Conditional(condition, then, otherwise):
            holds = _condition(condition, known, domain)
            if holds is None:
                return None
            first, second = _form(then, known, domain), _form(otherwise, known, domain)
            return lf.choose([(holds, first), (subtract(ONE, holds), second)], domain)
        case Call(function, arguments):
            inner = [_form(argument, known, domain) for argument in arguments]
            if any(a is None for a in inner):
                return None
            if all(a is not None and a.is_data for a in inner):
                return lf.data(replace(node, arguments=tuple(a.offset for a in inner if a is not None)))
            return _call(function, inner[0], domain)
    return None


def _call(function: str, a: Maybe, domain: lf.Domain) -> Maybe:
    match function:
        case "exp":
            return lf.exponential(a)
        case "log":
            return lf.logarithm(a, domain)
        case "log10":
            return lf.over(lf.logarithm(a, domain), lf.data(lf.LOG_TEN), domain)
        case "sqrt":
            return lf.power(a, lf.data(Number(0.5)), domain)
        case "logit":
            return lf.logit(a, domain)
        case "invlogit":
            return lf.inverse_logit(a)
    return None
