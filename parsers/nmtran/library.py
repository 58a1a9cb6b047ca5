"""The library models of PREDPP: compartments, and rate constants from the parameters of each TRANS."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from ...engine.ir.expression import Binary, BinaryOperator, Expression, Number, Variable

# Compartments by ADVAN, without the output compartment, which comes after them.
COMPARTMENTS: dict[int, tuple[str, ...]] = {
    1: ("CENTRAL",),
    2: ("DEPOT", "CENTRAL"),
    3: ("CENTRAL", "PERIPHERAL"),
    4: ("DEPOT", "CENTRAL", "PERIPHERAL"),
    10: ("CENTRAL",),
    11: ("CENTRAL", "PERIPHERAL1", "PERIPHERAL2"),
    12: ("DEPOT", "CENTRAL", "PERIPHERAL1", "PERIPHERAL2"),
}
_TRANS: dict[int, tuple[int, ...]] = {
    1: (1, 2),
    2: (1, 2),
    3: (1, 3, 4, 5, 6),
    4: (1, 3, 4, 5, 6),
    11: (1, 4, 6),
    12: (1, 4, 6),
}
_RATE = re.compile(r"K(\d+)(?:T(\d+))?")


def has_trans(advan: int, trans: int) -> bool:
    """Tell whether TRANS ``trans`` fits ADVAN ``advan``; TRANS1 fits all."""
    return trans in _TRANS.get(advan, (1,))


def known_trans(advan: int) -> str:
    """Return the TRANS that fit ADVAN ``advan``, in words."""
    *names, last = (f"TRANS{trans}" for trans in _TRANS.get(advan, (1,)))
    return f"{', '.join(names)} or {last}" if names else "leave TRANS out"


@dataclass(frozen=True)
class Rates:
    """Transfers of a library model: (source, target, rate constant), and the variables $PK must assign."""

    needed: tuple[str, ...]
    transfers: tuple[tuple[int, int, Expression], ...]


def library_rates(advan: int, trans: int) -> Rates:
    """Return the rate constants of a linear library model (ADVAN1 to 4, 11 and 12).

    The relations are those of NONMEM Users Guide VI, chapter III.A and VII.C.
    """
    central = COMPARTMENTS[advan].index("CENTRAL") + 1
    peripheral = tuple(range(central + 1, len(COMPARTMENTS[advan]) + 1))
    absorbed = ("KA",) if central == 2 else ()
    rates = _Constants(central, peripheral)
    needed = getattr(rates, f"trans{trans}")()
    transfers: list[tuple[int, int, Expression]] = [(1, 2, Variable("KA"))] if absorbed else []
    transfers.append((central, 0, rates.elimination))
    for p in peripheral:
        transfers += [(central, p, rates.out[p]), (p, central, rates.back[p])]
    return Rates((*absorbed, *needed), tuple(transfers))


class _Constants:
    """Rate constants of a central compartment with peripheral ones around it, by each TRANS."""

    def __init__(self, central: int, peripheral: tuple[int, ...]) -> None:
        self.central = central
        self.peripheral = peripheral
        self.elimination: Expression = Variable("K")
        self.out = {p: self._constant(central, p) for p in peripheral}
        self.back = {p: self._constant(p, central) for p in peripheral}

    @staticmethod
    def _constant(source: int, target: int) -> Expression:
        return Variable(f"K{source}{target}")

    def trans1(self) -> tuple[str, ...]:
        """K and the constants themselves."""
        pairs = [(f"K{self.central}{p}", f"K{p}{self.central}") for p in self.peripheral]
        return ("K", *(name for pair in pairs for name in pair))

    def trans2(self) -> tuple[str, ...]:
        """Clearance and volume of one compartment."""
        self.elimination = _over("CL", "V")
        return ("CL", "V")

    def trans3(self) -> tuple[str, ...]:
        """Clearances, central volume and volume at steady state."""
        (p,) = self.peripheral
        self.elimination = _over("CL", "V")
        self.out[p] = _over("Q", "V")
        self.back[p] = _over("Q", _minus(Variable("VSS"), Variable("V")))
        return ("CL", "V", "Q", "VSS")

    def trans4(self) -> tuple[str, ...]:
        """Clearances and volumes."""
        volume = f"V{self.central}"
        self.elimination = _over("CL", volume)
        names = ["CL", volume]
        for p in self.peripheral:
            flow = "Q" if len(self.peripheral) == 1 else f"Q{p}"
            self.out[p], self.back[p] = _over(flow, volume), _over(flow, f"V{p}")
            names += [flow, f"V{p}"]
        return tuple(names)

    def trans5(self) -> tuple[str, ...]:
        """Exponents and the ratio of their coefficients."""
        (p,) = self.peripheral
        ratio, alpha, beta = Variable("AOB"), Variable("ALPHA"), Variable("BETA")
        back = _over(_plus(_times(ratio, beta), alpha), _plus(ratio, Number(1.0)))
        self._from_exponents(p, back)
        return ("AOB", "ALPHA", "BETA")

    def trans6(self) -> tuple[str, ...]:
        """Exponents and the constants back into the central compartment."""
        names = [f"K{p}{self.central}" for p in self.peripheral]
        if len(self.peripheral) == 1:
            self._from_exponents(self.peripheral[0], Variable(names[0]))
            return ("ALPHA", "BETA", *names)
        alpha, beta, gamma = Variable("ALPHA"), Variable("BETA"), Variable("GAMMA")
        p, q = self.peripheral
        back_p, back_q = self.back[p], self.back[q]
        total = _plus(alpha, beta, gamma)
        pairs = _plus(_times(alpha, beta), _times(alpha, gamma), _times(beta, gamma))
        self.elimination = _over(_times(alpha, beta, gamma), _times(back_p, back_q))
        above = _minus(
            _plus(pairs, _times(back_q, back_q)), _times(back_q, total), _times(self.elimination, back_p)
        )
        self.out[q] = _over(above, _minus(back_p, back_q))
        self.out[p] = _minus(total, self.elimination, self.out[q], back_p, back_q)
        return ("ALPHA", "BETA", "GAMMA", *names)

    def _from_exponents(self, p: int, back: Expression) -> None:
        alpha, beta = Variable("ALPHA"), Variable("BETA")
        self.back[p] = back
        self.elimination = _over(_times(alpha, beta), back)
        self.out[p] = _minus(_plus(alpha, beta), back, self.elimination)


def _joined(operator: BinaryOperator, *parts: Expression | str) -> Expression:
    first, *others = (Variable(part) if isinstance(part, str) else part for part in parts)
    for other in others:
        first = Binary(operator, first, other)
    return first


def _plus(*parts: Expression) -> Expression:
    return _joined("+", *parts)


def _minus(*parts: Expression) -> Expression:
    return _joined("-", *parts)


def _times(*parts: Expression) -> Expression:
    return _joined("*", *parts)


def _over(above: Expression | str, below: Expression | str) -> Expression:
    return _joined("/", above, below)


def rate_constant(name: str, compartments: int) -> tuple[tuple[int, int], ...]:
    """Return the (source, target) pairs that ``name`` may mean as a rate constant of ADVAN5 and ADVAN7.

    ``K12`` and ``K1T2`` go from 1 to 2; target 0 and that after the last compartment mean out. Several pairs:
    the name is ambiguous.
    """
    match = _RATE.fullmatch(name)
    if match is None:
        return ()
    digits, after = match.groups()
    splits = (
        [(digits, after)] if after is not None else [(digits[:i], digits[i:]) for i in range(1, len(digits))]
    )
    found: list[tuple[int, int]] = []
    for source, target in splits:
        plain = all(number == "0" or number[0] != "0" for number in (source, target))
        i, j = int(source[:6]), int(target[:6])
        if plain and 1 <= i <= compartments and j <= compartments + 1 and i != j:
            found.append((i, 0 if j == compartments + 1 else j))
    return tuple(found)


def rate_constants(names: Collection[str], compartments: int) -> dict[str, tuple[tuple[int, int], ...]]:
    """Return those of ``names`` that may be rate constants, in order of their compartments."""
    found = {name: rate_constant(name, compartments) for name in names}
    return dict(sorted(((n, pairs) for n, pairs in found.items() if pairs), key=lambda item: item[1]))
