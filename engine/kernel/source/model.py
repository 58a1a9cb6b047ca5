"""The source text of a model's kernel: individual model, right-hand side, its Jacobian, observation model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from ...failure import ModelFailure
from ...ir.compartment import OdeDynamics
from ...ir.derivative import derivative_name, differentiate_each, fold
from ...ir.expression import (
    Amount,
    Column,
    Eps,
    Eta,
    Expression,
    Known,
    Number,
    Theta,
    Time,
    Variable,
)
from ...ir.model import Model
from ...ir.running_extremes import followed
from ...ir.statement import Assign, Statement, transform_statements
from ..layout import Layout, assigned, ode_leaves
from ..specialise import needed_statements
from .names import ZERO_VALUE, Block, Names, Value, indented
from .statements import Writer, needs_interleaving

HEADS = {
    "individual": "col, known, theta, eta, dtheta, deta, kept, dkept, psi, dpsi",
    "slopes": "t, y, dy, p, dp, f, df",
    "jacobian": "t, y, p, J",
    "observe": "col, known, theta, eta, dtheta, deta, kept, dkept, psi, dpsi, a, da, out, dout",
}
RESERVED = (*", ".join(HEADS.values()).split(", "), "nq", "k", "math", "np", "i", "j")
FUNCTIONS = (
    "digamma gamln invlogit lfac logit maximum minimum mod phi polygamma "
    "power_slope power_slope_exponent sign sqrt_slope"
).split()
ALONG = frozenset([0])  # the one direction of code inside the loop over directions

Leaf = Callable[[Expression], Value]
Finish = Callable[[Writer], tuple[list[str], list[str]]]


def element(array: str, index: int) -> Value:
    """Return how element ``index`` of an array and of its derivatives is read."""
    return Value(f"{array}[{index}]", {0: f"d{array}[{index}, k]"})


def record_sources(model: Model, layout: Layout) -> tuple[str, str]:
    """Return the texts of ``individual`` and ``observe``.

    A kept variable that either of them leaves with derivatives has derivatives in both: a fixed point, one
    feeds another.
    """
    active: frozenset[str] = frozenset()
    while True:
        individual, slots, left = _individual_source(model, layout, active)
        observe, also = _observe_source(model, layout, slots, active)
        if left | also <= active:
            return individual, observe
        active |= left | also


def _individual_source(
    model: Model, layout: Layout, active: frozenset[str]
) -> tuple[str, frozenset[int], frozenset[str]]:
    """Return the text, and the psi slots and kept variables that depend on theta or eta."""
    leaf = _record_leaf(layout, None)
    used: frozenset[int] = frozenset()
    slots = {f"psi {i}": e for i, e in enumerate(layout.psi)}
    final = tuple(Assign(name, e) for name, e in slots.items())
    statements = needed_statements((*model.individual, *final), slots)

    def finish(writer: Writer) -> tuple[list[str], list[str]]:
        nonlocal used
        values = [writer.read(Variable(name)) for name in slots]
        used = frozenset(i for i, value in enumerate(values) if value.tangent)
        outputs = [(f"psi[{i}]", value) for i, value in enumerate(values)]
        return _outputs([*outputs, *_kept_outputs(layout, writer)])

    environment = _kept(layout, active)
    text, left = _function("individual", statements, leaf, environment, finish, "dtheta", layout)
    return text, used, left


def _observe_source(
    model: Model, layout: Layout, active_psi: frozenset[int], active: frozenset[str]
) -> tuple[str, frozenset[str]]:
    """Return the text, and the kept variables that depend on theta or eta in the end."""
    statements = observation_statements(model, layout.outputs)
    n = layout.n_compartments
    leaf = _record_leaf(layout, n + 2 if model.dynamics else None)
    own = assigned(model.observation.statements)
    start = {
        e.name: element("psi", i) if i in active_psi else Value(f"psi[{i}]")
        for i, e in enumerate(layout.psi)
        if isinstance(e, Variable) and not (e.name in layout.kept and e.name in own)
    }
    if model.observation.prediction and model.dynamics is not None:
        start[model.observation.prediction] = element("a", n + 1)
    if isinstance(model.dynamics, OdeDynamics) and layout.held:
        places = {name: n + 2 + i for i, name in enumerate(layout.held)}
        start |= {name: element("a", places[name]) for name in followed(model.dynamics.statements)}

    def finish(writer: Writer) -> tuple[list[str], list[str]]:
        outputs = [(f"out[{i}]", writer.read(Variable(n))) for i, n in enumerate(layout.outputs)]
        return _outputs([*outputs, *_kept_outputs(layout, writer)])

    environment = {**_kept(layout, active), **start}
    return _function("observe", statements, leaf, environment, finish, "dtheta", layout)


def observation_statements(model: Model, outputs: Iterable[str]) -> tuple[Statement, ...]:
    """Return the observation model at eps = 0, with the response's derivative to every eps."""
    leaves: dict[str, Expression] = {f"EPS{i}": Eps(i) for i in range(1, model.n_eps + 1)}
    response = model.observation.response
    try:
        statements = differentiate_each(model.observation.statements, leaves)
    except NotImplementedError as failure:
        raise ModelFailure(f"The residual error model needs {failure}.", model.observation.span) from failure

    def at_zero(node: Expression) -> Expression:
        return Number(0.0) if isinstance(node, Eps) else node

    wanted = {derivative_name(response, name) for name in leaves}
    wanted |= {*outputs, *model.kept}
    zero = transform_statements(statements, at_zero)
    return needed_statements(transform_statements(zero, fold), wanted)


def slopes_source(model: Model, layout: Layout, name: str = "slopes") -> str:
    """Return the text of the right-hand side with its derivatives along the directions."""
    dynamics = model.dynamics
    assert isinstance(dynamics, OdeDynamics)
    results = right_hand_sides(dynamics)
    statements = needed_statements(dynamics.statements, results)
    return right_hand_side_source(model, layout, name, statements, [Variable(e) for e in results])


def right_hand_side_source(
    model: Model, layout: Layout, name: str, statements: tuple[Statement, ...], results: list[Variable]
) -> str:
    """Return the text of a function of the arguments of ``slopes`` that leaves ``results`` in f."""
    environment, leaf = _ode_reading(model, layout, lambda i: element("y", i), lambda i: element("p", i))

    def finish(writer: Writer) -> tuple[list[str], list[str]]:
        return _outputs([(f"f[{i}]", writer.read(result)) for i, result in enumerate(results)])

    return _function(name, statements, leaf, environment, finish, "dy", layout)[0]


def right_hand_sides(dynamics: OdeDynamics) -> list[str]:
    """Return the variable that holds the derivative, or the residual, of each compartment."""
    return [
        f"E({i})" if compartment.equilibrium else f"DADT({i})"
        for i, compartment in enumerate(dynamics.compartments, start=1)
    ]


def jacobian_source(model: Model, layout: Layout, name: str = "jacobian") -> str:
    """Return the text of the right-hand side's derivative to the amounts; only what is not 0 is computed."""
    dynamics = model.dynamics
    assert isinstance(dynamics, OdeDynamics)
    statements = needed_statements(dynamics.statements, right_hand_sides(dynamics))
    n = len(dynamics.compartments)
    environment, leaf = _ode_reading(
        model, layout, lambda i: Value(f"y[{i}]", {i + 1: "1.0"}), lambda i: Value(f"p[{i}]")
    )
    interleaved = needs_interleaving(statements)
    writer = Writer(leaf, environment, Names((*RESERVED, *FUNCTIONS)), _leave(name), interleaved)
    block = Block(interleaved)
    if interleaved:
        writer.declare(statements, frozenset(range(1, n + 1)), block)
    writer.write(statements, block)
    lines = list(block.values)
    if not interleaved:
        lines += [*block.partials, *block.tangents]
    lines += ["for i in range(J.shape[0]):", "    for j in range(J.shape[1]):", "        J[i, j] = 0.0"]
    for i, variable in enumerate(right_hand_sides(dynamics)):
        tangent = writer.read(Variable(variable)).tangent
        lines += [f"J[{i}, {d - 1}] = {tangent[d]}" for d in sorted(tangent)]
    return _text(name, lines)


def _ode_reading(
    model: Model, layout: Layout, amount: Callable[[int], Value], parameter: Callable[[int], Value]
) -> tuple[dict[str, Value], Leaf]:
    dynamics = model.dynamics
    assert isinstance(dynamics, OdeDynamics)
    position = {e: layout.psi.index(e) for e in ode_leaves(dynamics, assigned(model.individual))}
    environment = {e.name: parameter(i) for e, i in position.items() if isinstance(e, Variable)}
    environment |= {name: parameter(layout.n_dynamic + i) for i, name in enumerate(layout.held)}

    def leaf(node: Expression) -> Value:
        match node:
            case Amount(i):
                return amount(i - 1)
            case Time():
                return Value("t")
            case Column() | Known():  # constant between two records
                return Value(f"p[{position[node]}]")
            case Theta() | Eta():
                return parameter(position[node])
        raise AssertionError(f"{node!r} in a right-hand side")

    return environment, leaf


def _record_leaf(layout: Layout, n_amounts: int | None) -> Leaf:
    """Return how the leaves of statements at a record are read; ``n_amounts``: None where there are none."""

    def leaf(node: Expression) -> Value:
        match node:
            case Column(name):
                return Value(f"col[{layout.columns.index(name)}]")
            case Known():
                return Value(f"known[{layout.known.index(node)}]")
            case Theta(index):
                return element("theta", index - 1)
            case Eta(index):
                return element("eta", index - 1)
            case Amount(compartment) if n_amounts is not None:
                return element("a", compartment - 1)
        raise ModelFailure(
            f"{type(node).__name__.lower()} cannot be used here: the individual model is computed "
            "before amounts are, and has no running time and no residual error.",
            node.span,
            "compute it in the observation model or in the differential equations",
        )

    return leaf


def _kept(layout: Layout, active: frozenset[str]) -> dict[str, Value]:
    return {
        name: Value(f"kept_{i}", {0: f"d_kept_{i}"} if name in active else {})
        for i, name in enumerate(layout.kept)
    }


def _kept_outputs(layout: Layout, writer: Writer) -> list[tuple[str, Value]]:
    values = [writer.environment.get(name, ZERO_VALUE) for name in layout.kept]
    return [(f"kept[{i}]", value) for i, value in enumerate(values) if value.code != f"kept_{i}"]


def _outputs(pairs: Sequence[tuple[str, Value]]) -> tuple[list[str], list[str]]:
    """Return the lines that write values, and those that write derivatives."""
    values = [f"{place} = {value.code}" for place, value in pairs]
    tangents = [f"d{place[:-1]}, k] = {value.tangent.get(0, '0.0')}" for place, value in pairs]
    return values, tangents


def _kind(name: str) -> str:
    """Return which function of :data:`HEADS` a function is, itself or an inner one."""
    return name.removeprefix("raw_")


def _leave(name: str) -> Callable[[int], list[str]]:
    array = {"slopes": "f", "jacobian": "J"}.get(_kind(name))
    if array is None:
        return lambda status: [f"return {status}"]
    return lambda status: [f"{array}[:] = math.nan", "return"]


def _function(
    name: str,
    statements: tuple[Statement, ...],
    leaf: Leaf,
    environment: Mapping[str, Value],
    finish: Finish,
    directions: str,
    layout: Layout,
) -> tuple[str, frozenset[str]]:
    """Return the text of a function with directions, and the kept variables that end with derivatives."""
    kept = [f"kept_{i}" for i in range(len(layout.kept))]
    names = Names((*RESERVED, *FUNCTIONS, *kept, *(f"d_{k}" for k in kept)))
    kept_used = [v for v in environment.values() if v.code in kept]
    lines = [f"nq = {directions}.shape[1]"]
    lines += [f"{v.code} = kept[{v.code[5:]}]" for v in kept_used]
    first = [f"{v.tangent[0]} = dkept[{v.code[5:]}, k]" for v in kept_used if v.tangent]
    leave = _leave(name)
    if needs_interleaving(statements):
        still = {n: Value(v.code) for n, v in environment.items()}
        alone = Writer(lambda node: Value(leaf(node).code), still, names, leave, interleaved=True)
        block = Block(interleaved=True)
        alone.declare(statements, frozenset(), block)
        alone.write(statements, block)
        lines += ["if nq == 0:", *indented([*block.values, *finish(alone)[0]])]
        writer = Writer(leaf, environment, names, leave, interleaved=True)
        block = Block(interleaved=True)
        block.values += first
        writer.declare(statements, ALONG, block)
        writer.write(statements, block)
        values, tangents = finish(writer)
        lines += ["for k in range(nq):", *indented([*block.values, *values, *tangents])]
    else:
        writer = Writer(leaf, environment, names, leave)
        block = Block()
        writer.write(statements, block)
        values, tangents = finish(writer)
        lines += [*block.values, *values, "if nq > 0:", *indented(block.partials)]
        inside = [*first, *block.tangents, *tangents] or ["pass"]
        lines += indented(["for k in range(nq):", *indented(inside)])
    if name in ("individual", "observe"):
        lines.append("return 0")
    active = frozenset(n for n in layout.kept if writer.environment.get(n, ZERO_VALUE).tangent)
    return _text(name, lines), active


def _text(name: str, lines: list[str]) -> str:
    return "\n".join([f"def {name}({HEADS[_kind(name)]}):", *indented(lines)]) + "\n"
