"""The dynamics of a model: ADVAN, TRANS and what $PK, $DES and $AES assign."""

from __future__ import annotations

from ...engine.ir.compartment import (
    Compartment,
    Dynamics,
    LinearDynamics,
    OdeDynamics,
    OutputCompartment,
    Transfer,
)
from ...engine.ir.dataset import Inputs
from ...engine.ir.expression import Amount, Binary, Expression, Negative, Number, Variable
from ...engine.ir.statement import Assign, Statement, assignments, expressions
from .compartments import Layout
from .context import Context
from .library import library_rates, rate_constants
from .subroutines import LINEAR, Subroutines

# Names with a meaning that is not there.
_NOT_SUPPORTED = {
    "XSCALE": ("the time scale XSCALE is not supported", "give TIME, II and rates in one unit"),
    "TSCALE": ("the time scale TSCALE is not supported", "give TIME, II and rates in one unit"),
    "I_SS": ("an initial steady state (I_SS) is not supported", "assign initial amounts A_0(n)"),
    "ISSMOD": ("an initial steady state (ISSMOD) is not supported", "assign initial amounts A_0(n)"),
}


def lower_dynamics(
    context: Context,
    subroutines: Subroutines,
    layout: Layout,
    inputs: Inputs,
    individual: tuple[Statement, ...],
    derivatives: tuple[Statement, ...],
    observed: tuple[Statement, ...],
) -> Dynamics | None:
    """Return the dynamics, with the reserved names that $PK assigns in their places.

    ``derivatives`` are the statements of $DES and $AES; ``observed`` those of $ERROR, which may read the
    output compartment.
    """
    return _Dynamics(context, subroutines, layout, individual).of(inputs, derivatives, observed)


class _Dynamics:
    def __init__(
        self, context: Context, subroutines: Subroutines, layout: Layout, individual: tuple[Statement, ...]
    ) -> None:
        self._context = context
        self._subroutines = subroutines
        self._layout = layout
        self._n = len(layout.names)
        self._assigned = {statement.target: statement for statement in assignments(individual)}

    def of(
        self, inputs: Inputs, derivatives: tuple[Statement, ...], observed: tuple[Statement, ...]
    ) -> Dynamics | None:
        """Return the dynamics of the whole model."""
        for name, (message, hint) in _NOT_SUPPORTED.items():
            if name in self._assigned:
                self._context.error(message, self._assigned[name].span, hint)
        compartments = tuple(self._compartment(i) for i in range(1, self._n + 1))
        dose, observation = self._layout.dose, self._layout.observation
        output, model_times = self._output(inputs, observed), self._model_times()
        subroutines = self._subroutines
        if subroutines.is_ode or subroutines.advan == 10:
            statements = self._complete(derivatives) if subroutines.is_ode else self._saturable()
            return OdeDynamics(
                compartments,
                statements,
                dose,
                observation,
                10.0**-subroutines.tol,
                10.0**-subroutines.atol,
                subroutines.is_stiff,
                output,
                model_times,
                span=subroutines.span,
            )
        transfers = self._general() if subroutines.advan in LINEAR else self._library()
        if transfers is None:
            return None
        return LinearDynamics(
            compartments, transfers, dose, observation, output, model_times, span=subroutines.span
        )

    def _variable(self, *names: str) -> Variable | None:
        return next((Variable(name) for name in names if name in self._assigned), None)

    def _compartment(self, i: int) -> Compartment:
        layout = self._layout
        central = not self._subroutines.has_model and i == layout.observation
        return Compartment(
            layout.names[i - 1],
            scale=self._variable(f"S{i}", *(["SC"] if central else [])),
            bioavailability=self._variable(f"F{i}"),
            lag=self._variable(f"ALAG{i}"),
            rate=self._variable(f"R{i}"),
            duration=self._variable(f"D{i}"),
            initial=self._variable(f"A_0({i})"),
            initially_off=layout.has(i, "INITIALOFF"),
            can_be_off=not layout.has(i, "NOOFF"),
            takes_doses=not layout.has(i, "NODOSE"),
            equilibrium=layout.has(i, "EQUILIBRIUM"),
        )

    def _output(self, inputs: Inputs, observed: tuple[Statement, ...]) -> OutputCompartment | None:
        """Return the output compartment, None where nothing could turn it on, observe or read it."""
        number = self._n + 1
        scale = self._variable(f"S{number}", "S0", "SO")
        fraction = self._variable(f"F{number}", "F0", "FO")
        chosen = inputs.with_role("cmt") is not None or inputs.with_role("pcmt") is not None
        read = any(isinstance(e, Amount) and e.compartment == number for e in expressions(observed))
        return OutputCompartment(scale, fraction) if scale or fraction or chosen or read else None

    def _model_times(self) -> tuple[Expression, ...]:
        """Return MTIME(1) and so on; all up to the last must be assigned."""
        names = [name for name in self._assigned if name.startswith("MTIME(")]
        for i in range(1, len(names) + 1):
            if f"MTIME({i})" not in self._assigned:
                place = self._assigned[names[0]].span
                self._context.error(f"$PK does not assign MTIME({i})", place, "number model times from 1")
                return ()
        return tuple(Variable(f"MTIME({i})") for i in range(1, len(names) + 1))

    def _complete(self, statements: tuple[Statement, ...]) -> tuple[Statement, ...]:
        """Return the equations with those that are missing."""
        given = {statement.target for statement in assignments(statements)}
        records = self._context.stream.of("DES", "AES")
        place = records[0].head if records else self._subroutines.span
        for i, name in enumerate(self._layout.names, start=1):
            if self._layout.has(i, "EQUILIBRIUM"):
                if f"E({i})" not in given:
                    hint = f"E({i}) = ... is what becomes zero"
                    self._context.error(f"$AES does not assign E({i}) of {name}", place, hint)
                if f"DADT({i})" in given:
                    hint = "its amount solves E(n) = 0; remove DADT"
                    self._context.error(f"{name} is an equilibrium compartment", place, hint)
            elif f"DADT({i})" not in given:
                self._context.notice(
                    f"DADT({i}) is not assigned: the amount in {name} changes by doses only", place
                )
                statements = (*statements, Assign(f"DADT({i})", Number(0.0)))
        return statements

    def _saturable(self) -> tuple[Statement, ...]:
        """Return the equation of ADVAN10: elimination VM A / (KM + A)."""
        self._demand(("VM", "KM"))
        amount = Amount(1)
        speed = Binary("/", Binary("*", Variable("VM"), amount), Binary("+", Variable("KM"), amount))
        return (Assign("DADT(1)", Negative(speed)),)

    def _library(self) -> tuple[Transfer, ...] | None:
        rates = library_rates(self._subroutines.advan, self._subroutines.trans)
        if not self._demand(rates.needed):
            return None
        return tuple(Transfer(*transfer) for transfer in rates.transfers)

    def _demand(self, needed: tuple[str, ...]) -> bool:
        """Report parameters of the library model that $PK does not assign."""
        missing = [name for name in needed if name not in self._assigned]
        if not missing or not self._context.stream.of("PK"):
            return not missing
        subroutines = self._subroutines
        self._context.error(
            f"$PK does not assign {' and '.join(missing)}",
            subroutines.span,
            f"ADVAN{subroutines.advan} TRANS{subroutines.trans} needs " + ", ".join(needed),
        )
        return False

    def _general(self) -> tuple[Transfer, ...] | None:
        """Return the transfers of ADVAN5 and ADVAN7, one for each K12 or K1T2."""
        transfers: dict[tuple[int, int], Transfer] = {}
        for name, pairs in rate_constants(self._assigned, self._n).items():
            place = self._assigned[name].span
            if len(pairs) > 1:
                first = f"K{pairs[0][0]}T{pairs[0][1]}"
                self._context.error(f"{name} is ambiguous", place, f"write {first} if you mean that")
            elif pairs[0] in transfers:
                self._context.error(f"{name} is assigned by another name too", place, "keep one of them")
            else:
                transfers[pairs[0]] = Transfer(*pairs[0], Variable(name))
        if not transfers:
            self._context.error(
                "$PK assigns no rate constant",
                self._subroutines.span,
                "K12 goes from compartment 1 to 2, K20 out of 2; K1T12 where numbers have two digits",
            )
            return None
        return tuple(transfers.values())
