"""The dynamics alone, as a model whose random effects are the individual parameters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..ir.compartment import Compartment, Dynamics, OdeDynamics
from ..ir.expression import Column, Eta, Expression, Known, Theta, Variable
from ..ir.model import Model
from ..ir.statement import Assign, Statement, transform_statements
from ..kernel.layout import MODIFIERS, Layout


def of_given_parameters(model: Model, order: Layout) -> Model:
    """Return ``model`` with ETA(j) in place of the j-th of what its dynamics take from the individual model.

    ``order`` is the layout of ``model``, whose first ``n_dynamic`` psi these are. Nothing of the result
    varies within a subject, so the event loop integrates on from record to record.
    """
    assert model.dynamics is not None
    given: dict[Expression, Expression] = {e: Eta(j + 1) for j, e in enumerate(order.psi[: order.n_dynamic])}
    # the right-hand side may assign a variable anew that the individual model gives its first value
    individual: tuple[Statement, ...] = tuple(
        Assign(e.name, eta) for e, eta in given.items() if isinstance(e, Variable)
    )
    return model.replace(individual=individual, dynamics=_with(model.dynamics, given))


def _with(dynamics: Dynamics, given: dict[Expression, Expression]) -> Dynamics:
    def of(expression: Expression | None) -> Expression | None:
        return None if expression is None else given[expression]

    def compartment(part: Compartment) -> Compartment:
        modifiers: dict[str, Any] = {name: of(getattr(part, name)) for name in MODIFIERS}
        return replace(part, **modifiers)

    parts = tuple(compartment(part) for part in dynamics.compartments)
    times = tuple(given[time] for time in dynamics.model_times)
    output = dynamics.output
    if output is not None:
        output = replace(output, fraction=of(output.fraction), scale=of(output.scale))
    if isinstance(dynamics, OdeDynamics):

        def change(node: Expression) -> Expression:
            return given.get(node, node) if isinstance(node, Theta | Eta | Column | Known) else node

        statements = transform_statements(dynamics.statements, change)
        return replace(
            dynamics,
            compartments=parts,
            statements=statements,
            output=output,
            model_times=times,
            start=of(dynamics.start),
        )
    transfers = tuple(replace(t, rate=given[t.rate]) for t in dynamics.transfers)
    return replace(dynamics, compartments=parts, transfers=transfers, output=output, model_times=times)
