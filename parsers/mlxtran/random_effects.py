"""Random effects: standard deviations and correlations as blocks of a covariance matrix."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...engine.ir.check import check_covariance
from ...engine.ir.parameter import CovarianceBlock
from ...engine.ir.span import Span
from .context import Context, Entry, suggest
from .parameters import Initial, Parameters, constant
from .syntax import Apply, Braces, Name, Node, word


@dataclass(frozen=True)
class RandomEffect:
    """The random effect of one parameter: its standard deviation, and what the project calls it."""

    parameter: str
    name: str  # of the population parameter; empty for a number
    sd: float
    fixed: bool
    is_variance: bool
    span: Span
    value_span: Span


@dataclass(frozen=True)
class _Correlation:
    name: str
    value: float
    fixed: bool
    span: Span
    value_span: Span | None


@dataclass
class RandomEffects:
    """Collects the random effects of all parameters, then numbers them so that blocks are contiguous."""

    context: Context
    parameters: Parameters
    effects: dict[str, RandomEffect] = field(default_factory=dict)
    _correlations: dict[frozenset[str], _Correlation] = field(default_factory=dict)
    _entries: list[Entry] = field(default_factory=list)
    _numbers: dict[str, int] = field(default_factory=dict)

    def add(self, parameter: str, node: Node, is_variance: bool) -> RandomEffect | None:
        """Note that ``parameter`` varies with the standard deviation (or variance) ``node``."""
        value = constant(node)
        initial: Initial | None = None
        if value is None:
            if not isinstance(node, Name):
                self.context.error("a parameter or a number is needed here", node.span)
                return None
            initial = self.parameters.find(node)
            value = initial.value if initial is not None else 1.0
        place = initial.value_span if initial is not None else node.span
        if value < 0 or (value == 0 and initial is not None and not initial.fixed):
            self.context.error(f"a standard deviation must be positive, not {value:g}", place)
            value = 1.0
        sd = value**0.5 if is_variance else value
        name = node.text if isinstance(node, Name) and initial is not None else ""
        fixed = initial.fixed if initial is not None else True
        if name and any(other.name == name for other in self.effects.values()):
            self.context.error(f"{name} is the sd of two parameters: not supported yet", node.span)
        effect = RandomEffect(parameter, name, sd, fixed, is_variance, node.span, place)
        self.effects[parameter] = effect
        return effect

    def correlate(self, entry: Entry) -> None:
        """Note ``correlation = {level=id, r(V, Cl)=corr_V_Cl}``; read once all parameters are known."""
        self._entries.append(entry)

    def number(self, effect: RandomEffect) -> int:
        """Return the index of the eta of ``effect``; only after :meth:`blocks`."""
        return self._numbers[effect.parameter]

    def blocks(self) -> tuple[CovarianceBlock, ...]:
        """Return the blocks, and number the etas: parameters that are correlated stand together."""
        for entry in self._entries:
            self._read(entry)
        blocks: list[CovarianceBlock] = []
        for name in self.effects:
            if name in self._numbers:
                continue
            members = self._connected(name)
            first = len(self._numbers) + 1
            self._numbers |= {member: first + i for i, member in enumerate(members)}
            blocks.append(self._block(first, members))
        for finding in check_covariance(tuple(blocks)):
            self.context.error(finding.message, finding.span, finding.hint)
        return tuple(blocks)

    def _connected(self, name: str) -> list[str]:
        """Return the parameters correlated with ``name`` directly or through others, in definition order."""
        found, waiting = {name}, [name]
        while waiting:
            current = waiting.pop()
            for pair in self._correlations:
                if current in pair and (new := pair - found):
                    found |= new
                    waiting += new
        return [other for other in self.effects if other in found]

    def _block(self, first: int, members: list[str]) -> CovarianceBlock:
        effects = [self.effects[member] for member in members]
        values: list[float] = []
        places: list[Span | None] = []
        fixed = {effect.fixed for effect in effects}
        for i, a in enumerate(effects):
            for b in effects[: i + 1]:
                if a is b:
                    values.append(a.sd**2)
                    places.append(a.value_span)
                    continue
                found = self._correlations.get(frozenset((a.parameter, b.parameter)))
                if found is None:
                    self.context.error(
                        f"the correlation of {b.parameter} and {a.parameter} is not given",
                        a.span,
                        f"all pairs of {', '.join(members)} are needed: r({b.parameter}, {a.parameter})=...",
                    )
                    return CovarianceBlock(first, 1, (1.0,))
                values.append(found.value * a.sd * b.sd)
                places.append(found.value_span)
                fixed.add(found.fixed)
        if len(fixed) > 1:
            self.context.error(
                "a block with fixed and estimated elements is not supported yet",
                effects[0].span,
                f"fix all of {', '.join(members)}, or none",
            )
        return CovarianceBlock(
            first,
            len(members),
            tuple(values),
            True in fixed,
            labels=tuple(effect.name for effect in effects),
            span=effects[0].span,
            value_spans=tuple(places),
        )

    def _read(self, entry: Entry) -> None:
        for item in entry.value.items if isinstance(entry.value, Braces) else ():
            if word(item.key) == "level":
                if word(item.value) != "id":
                    self.context.error("variability between occasions is not supported yet", item.span)
                continue
            names = [word(i.value) for i in item.key.items] if isinstance(item.key, Apply) else []
            if len(names) != 2 or not isinstance(item.key, Apply) or item.key.name != "r":
                self.context.error("this is no correlation", item.span, "r(V, Cl)=corr_V_Cl")
                continue
            unknown = [name for name in names if name is None or name not in self.effects]
            if unknown or names[0] == names[1]:
                name = unknown[0] or ""
                self.context.error(
                    f"{name or 'this'} has no random effect to correlate",
                    item.key.span,
                    suggest(name, self.effects),
                ) if unknown else self.context.error("a correlation needs two parameters", item.key.span)
                continue
            found = self._correlation(item.value)
            if found is not None:
                self._correlations[frozenset(str(name) for name in names)] = found

    def _correlation(self, node: Node) -> _Correlation | None:
        value = constant(node)
        fixed, place, name = True, node.span, ""
        if value is None:
            if not isinstance(node, Name):
                self.context.error("a parameter or a number is needed here", node.span)
                return None
            name, initial = node.text, self.parameters.initial.get(node.text)
            if initial is None:
                self.context.notice(f"{name} has no initial value: it starts at 0", node.span)
                return _Correlation(name, 0.0, False, node.span, None)
            value, fixed, place = initial.value, initial.fixed, initial.value_span
        if not -1 < value < 1:
            self.context.error(f"a correlation lies between -1 and 1, not at {value:g}", place)
            return None
        return _Correlation(name, value, fixed, node.span, place)
