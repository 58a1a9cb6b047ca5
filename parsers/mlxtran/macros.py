"""Macros of the PK block and pkmodel: compartments, transfers and routes of administration.

Macros are read twice: first for the compartments they make, so that every name is known, then for the
formulas in their arguments.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ...engine.ir.expression import Amount, Binary, Expression, Number
from ...engine.ir.span import Span
from ...engine.ir.statement import Assign
from .context import Context, suggest
from .lower_expression import ExpressionLowering
from .reading import RouteKind
from .syntax import Apply, Literal, Name, Node, word

_ADMINISTRATION = ("adm", "type")
_ABSORPTION = ("ka", "Tk0", "Ktr", "Mtt", "Tlag", "p")
ARGUMENTS: dict[str, tuple[str, ...]] = {
    "pkmodel": ("V", "k", "Cl", "Vm", "Km", "k12", "k21", "k13", "k31", "ke0", *_ABSORPTION),
    "compartment": ("cmt", "amount", "volume", "concentration"),
    "peripheral": ("amount", "volume", "concentration"),
    "elimination": ("cmt", "k", "Cl", "Vm", "Km", "V"),
    "absorption": (*_ADMINISTRATION, "cmt", *_ABSORPTION),
    "oral": (*_ADMINISTRATION, "cmt", *_ABSORPTION),
    "iv": (*_ADMINISTRATION, "cmt", "Tlag", "p"),
    "depot": (*_ADMINISTRATION, "target", *_ABSORPTION),
    "transfer": ("from", "to", "kt"),
    "effect": ("cmt", "ke0", "concentration"),
    "empty": (*_ADMINISTRATION, "target"),
    "reset": (*_ADMINISTRATION, "target"),
}
MACROS = frozenset(ARGUMENTS)
_EXCHANGE = re.compile(r"k_?(\d)_?(\d)")


@dataclass(frozen=True)
class Macro:
    """A macro with its arguments by name."""

    name: str
    arguments: dict[str, Node]
    places: dict[str, Span]
    results: tuple[Name, ...]
    span: Span

    def integer(self, *names: str) -> int:
        """Return the first of these arguments that is given as a whole number, 1 by default."""
        for name in names:
            node = self.arguments.get(name)
            if isinstance(node, Literal) and node.text.isdigit():
                return int(node.text)
        return 1


@dataclass(frozen=True)
class Input:
    """A route of administration: what it does to a dose, all as expressions of individual parameters."""

    adm: int
    compartment: int
    kind: RouteKind
    bioavailability: Expression | None
    lag: Expression | None
    duration: Expression | None
    span: Span


@dataclass
class System:
    """The compartments in order, and what moves between them.

    ``slopes`` are terms that are not first-order transfers: (compartment, term of its derivative).
    """

    names: list[str] = field(default_factory=list)
    amounts: dict[str, int] = field(default_factory=dict)  # amount variable -> compartment
    transfers: list[tuple[int, int, Expression]] = field(default_factory=list)
    slopes: list[tuple[int, Expression]] = field(default_factory=list)
    inputs: list[Input] = field(default_factory=list)
    definitions: list[Assign] = field(default_factory=list)

    def add(self, name: str) -> int:
        """Add a compartment and return its number."""
        while name in self.names:
            name += "_"
        self.names.append(name)
        return len(self.names)


@dataclass
class MacroLowering:
    """Lowers all macros of a model into one system; ``states`` are variables with differential equations."""

    context: Context
    macros: list[Macro]
    states: list[str]
    system: System = field(default_factory=System)
    _central: dict[int, int] = field(default_factory=dict)  # cmt= -> compartment
    _depots: dict[int, int] = field(default_factory=dict)  # position of the macro -> its depot
    _effects: dict[int, int] = field(default_factory=dict)
    _volumes: dict[int, Expression] = field(default_factory=dict)  # compartment -> volume

    def declare(self) -> dict[str, Expression]:
        """Make all compartments; return what the macros define for use in equations: amounts and states."""
        for number, macro in enumerate(self.macros):
            if macro.name in ("compartment", "pkmodel"):
                amount = word(macro.arguments.get("amount"))
                if amount in self.states:
                    continue
                if macro.name == "pkmodel" and "ka" in macro.arguments:
                    self._depots[number] = self.system.add("depot")
                self._central[macro.integer("cmt")] = self._compartment(amount or "central", amount)
        for state in self.states:
            self.system.amounts[state] = self.system.add(state)
        for number, macro in enumerate(self.macros):
            if macro.name == "compartment" and word(macro.arguments.get("amount")) in self.states:
                self._central[macro.integer("cmt")] = self.system.amounts[
                    str(word(macro.arguments["amount"]))
                ]
            elif macro.name in ("absorption", "oral", "depot") and "ka" in macro.arguments:
                self._depots[number] = self.system.add("depot")
            elif macro.name == "peripheral" or macro.name == "pkmodel":
                for i, j in sorted(_pairs(macro)):
                    if i < j and j not in self._central:
                        name = word(macro.arguments.get("amount"))
                        self._central[j] = self._compartment(name or f"peripheral{j}", name)
            if macro.name == "effect" or "ke0" in macro.arguments:
                self._effects[number] = self.system.add("effect")
        return {name: Amount(number) for name, number in self.system.amounts.items()}

    def _compartment(self, name: str, amount: str | None) -> int:
        number = self.system.add(name)
        if amount is not None:
            self.system.amounts[amount] = number
        return number

    @property
    def results(self) -> list[str]:
        """The variables that macros assign: concentrations."""
        names = [name.text for macro in self.macros for name in macro.results]
        return names + [
            text
            for macro in self.macros
            if macro.name in ("compartment", "peripheral", "effect")
            and (text := word(macro.arguments.get("concentration"))) is not None
        ]

    def lower(self, values: ExpressionLowering) -> System:
        """Read the formulas of all macros."""
        for macro in self.macros:
            if macro.name == "compartment":
                self._volume(values, macro, self._central[macro.integer("cmt")])
        for number, macro in enumerate(self.macros):
            if macro.name == "pkmodel":
                self._pkmodel(values, number, macro)
            elif macro.name == "peripheral":
                self._peripheral(values, macro)
            elif macro.name == "elimination":
                compartment = self._find(macro, macro.integer("cmt"), "cmt")
                if compartment is not None:
                    self._elimination(values, macro, compartment)
            elif macro.name in ("absorption", "oral", "iv", "depot"):
                target = self._target(macro)
                if target is not None:
                    self._input(values, number, macro, target)
            elif macro.name == "transfer":
                self._transfer(values, macro)
            elif macro.name == "effect":
                source = self._find(macro, macro.integer("cmt"), "cmt")
                if source is not None and self._needs(macro, "ke0", "concentration"):
                    name = word(macro.arguments["concentration"]) or "Ce"
                    self._effect(values, number, macro, source, name)
            elif macro.name in ("empty", "reset"):
                self.context.error(f"the macro {macro.name} is not supported yet", macro.span)
        return self.system

    def _needs(self, macro: Macro, *names: str) -> bool:
        missing = [name for name in names if name not in macro.arguments]
        if missing:
            self.context.error(f"{macro.name} needs the argument {missing[0]}", macro.span)
        return not missing

    def _find(self, macro: Macro, cmt: int, argument: str) -> int | None:
        found = self._central.get(cmt)
        if found is None:
            self.context.error(
                f"there is no compartment {cmt}",
                macro.places.get(argument, macro.span),
                f"compartment(cmt={cmt}, amount=A)",
            )
        return found

    def _target(self, macro: Macro) -> int | None:
        if macro.name != "depot":
            return self._find(macro, macro.integer("cmt"), "cmt")
        if not self._needs(macro, "target"):
            return None
        name = word(macro.arguments["target"]) or ""
        if name not in self.system.amounts:
            self.context.error(
                f"there is no compartment {name}",
                macro.arguments["target"].span,
                suggest(name, self.system.amounts) or f"give it an equation: ddt_{name} = ...",
            )
        return self.system.amounts.get(name)

    def _value(self, values: ExpressionLowering, macro: Macro, name: str) -> Expression | None:
        return values.value(macro.arguments[name]) if name in macro.arguments else None

    def _volume(self, values: ExpressionLowering, macro: Macro, compartment: int) -> None:
        volume = self._value(values, macro, "volume")
        if volume is not None:
            self._volumes[compartment] = volume
        name = word(macro.arguments.get("concentration"))
        if name is not None:
            amount = Amount(compartment, span=macro.span)
            value: Expression = amount if volume is None else Binary("/", amount, volume, span=macro.span)
            self.system.definitions.append(Assign(name, value, span=macro.span))

    def _pkmodel(self, values: ExpressionLowering, number: int, macro: Macro) -> None:
        central = self._central[1]
        if not self._needs(macro, "V"):
            return
        volume = values.value(macro.arguments["V"])
        self._volumes[central] = volume
        if macro.results:
            value = Binary("/", Amount(central), volume, span=macro.span)
            self.system.definitions.append(Assign(macro.results[0].text, value, span=macro.span))
        self._elimination(values, macro, central)
        self._exchange(values, macro)
        self._input(values, number, macro, central)
        if (len(macro.results) == 2) != ("ke0" in macro.arguments):
            self.context.error(
                "an effect compartment needs two results and ke0", macro.span, "{Cc, Ce} = pkmodel(V, k, ke0)"
            )
        elif "ke0" in macro.arguments:
            self._effect(values, number, macro, central, macro.results[1].text)

    def _elimination(self, values: ExpressionLowering, macro: Macro, compartment: int) -> None:
        given = [name for name in ("k", "Cl", "Vm", "Km") if name in macro.arguments]
        if given not in (["k"], ["Cl"], ["Vm", "Km"]):
            self.context.error(
                f"{macro.name} needs k, Cl, or Vm and Km" + (f", not {' and '.join(given)}" if given else ""),
                macro.places[given[-1]] if given else macro.span,
            )
            return
        own = self._value(values, macro, "V") or self._volumes.get(compartment) or Number(1.0)
        if given == ["k"]:
            self.system.transfers.append((compartment, 0, values.value(macro.arguments["k"])))
        elif given == ["Cl"]:
            rate = values.value(macro.arguments["Cl"])
            if own != Number(1.0):
                rate = Binary("/", rate, own, span=macro.span)
            self.system.transfers.append((compartment, 0, rate))
        else:
            most, half = (values.value(macro.arguments[name]) for name in given)
            amount = Amount(compartment, span=macro.span)
            concentration: Expression = amount if own == Number(1.0) else Binary("/", amount, own)
            rate = Binary("/", Binary("*", most, concentration), Binary("+", half, concentration))
            self.system.slopes.append((compartment, Binary("-", Number(0.0), rate, span=macro.span)))

    def _peripheral(self, values: ExpressionLowering, macro: Macro) -> None:
        pairs = _pairs(macro)
        if len(pairs) != 2 or {(j, i) for i, j in pairs} != pairs:
            self.context.error("peripheral needs two rates", macro.span, "peripheral(k12, k21)")
            return
        i, j = min(pairs)
        if self._find(macro, i, "") is not None:
            self._exchange(values, macro)
            self._volume(values, macro, self._central[j])

    def _exchange(self, values: ExpressionLowering, macro: Macro) -> None:
        pairs = _pairs(macro)
        for i, j in sorted(pairs):
            name = next(n for n in macro.arguments if _match(n) == (i, j))
            if (j, i) not in pairs:
                self.context.error(f"{name} needs k{j}{i} beside it", macro.places[name])
                continue
            rate = values.value(macro.arguments[name])
            self.system.transfers.append((self._central[i], self._central[j], rate))

    def _transfer(self, values: ExpressionLowering, macro: Macro) -> None:
        source = self._find(macro, macro.integer("from"), "from")
        target = self._find(macro, macro.integer("to"), "to")
        if source is not None and target is not None and self._needs(macro, "kt"):
            self.system.transfers.append((source, target, values.value(macro.arguments["kt"])))

    def _effect(self, values: ExpressionLowering, number: int, macro: Macro, source: int, name: str) -> None:
        """Add dCe/dt = ke0 (Cc - Ce), which takes nothing from the source."""
        effect = self._effects[number]
        amount: Expression = Amount(source)
        if source in self._volumes:
            amount = Binary("/", amount, self._volumes[source])
        slope = Binary("*", values.value(macro.arguments["ke0"]), Binary("-", amount, Amount(effect)))
        self.system.slopes.append((effect, slope))
        self.system.definitions.append(Assign(name, Amount(effect), span=macro.span))

    def _input(self, values: ExpressionLowering, number: int, macro: Macro, target: int) -> None:
        for name in ("Ktr", "Mtt"):
            if name in macro.arguments:
                self.context.error(
                    f"absorption through transit compartments ({name}) is not supported yet",
                    macro.places[name],
                    "write the compartments as differential equations",
                )
                return
        if "ka" in macro.arguments and "Tk0" in macro.arguments:
            self.context.error("ka and Tk0 exclude each other", macro.places["Tk0"])
            return
        kind: RouteKind = "given"
        compartment = target
        if "ka" in macro.arguments:
            kind, compartment = "bolus", self._depots[number]
            self.system.transfers.append((compartment, target, values.value(macro.arguments["ka"])))
        elif "Tk0" in macro.arguments:
            kind = "duration"
        elif macro.name in ("absorption", "oral"):
            self.context.error(f"{macro.name} needs ka or Tk0", macro.span)
            return
        self.system.inputs.append(
            Input(
                macro.integer(*_ADMINISTRATION),
                compartment,
                kind,
                self._neutral(values, macro, "p", 1.0),
                self._neutral(values, macro, "Tlag", 0.0),
                self._value(values, macro, "Tk0"),
                macro.span,
            )
        )

    def _neutral(
        self, values: ExpressionLowering, macro: Macro, name: str, neutral: float
    ) -> Expression | None:
        value = self._value(values, macro, name)
        return None if value == Number(neutral) else value


def _match(name: str) -> tuple[int, int] | None:
    match = _EXCHANGE.fullmatch(name)
    return None if match is None else (int(match.group(1)), int(match.group(2)))


def _pairs(macro: Macro) -> set[tuple[int, int]]:
    """Return the (from, to) of all exchange rates among the arguments."""
    return {pair for name in macro.arguments if (pair := _match(name)) is not None}


def read_macro(context: Context, node: Apply, results: tuple[Name, ...] = ()) -> Macro | None:
    """Return a macro with its arguments by name, or None where one is unknown or given twice."""
    known = ARGUMENTS[node.name]
    arguments: dict[str, Node] = {}
    places: dict[str, Span] = {}
    before = len(context.problems)
    for item in node.items:
        name = word(item.key if item.key is not None else item.value) or ""
        if item.key is None and not isinstance(item.value, Name):
            context.error(f"an argument of {node.name} needs a name", item.span, f"{known[0]}=...")
        elif name in arguments:
            context.error(f"{name} is given twice", item.span)
        elif name not in known and not (node.name == "peripheral" and _match(name)):
            context.error(f"{node.name} has no argument {name}", item.span, suggest(name, known))
        else:
            arguments[name], places[name] = item.value, item.span
    for name in ("cmt", "from", "to", *_ADMINISTRATION):
        value = arguments.get(name)
        if value is not None and not (isinstance(value, Literal) and value.text.isdigit()):
            context.error(f"{name} must be a whole number", places[name])
    if node.name == "pkmodel" and len(results) > 2:
        context.error("pkmodel has one or two results", node.span, "{Cc, Ce} = pkmodel(...)")
    return (
        Macro(node.name, arguments, places, results, node.span) if len(context.problems) == before else None
    )
