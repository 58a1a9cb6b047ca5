"""How the data file of a project reads: what the IR has no words for, kept as options of its inputs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from ...engine.ir.dataset import Inputs

Transform = Literal["identity", "log", "logit"]
RouteKind = Literal["given", "bolus", "duration"]


@dataclass(frozen=True)
class Route:
    """Where doses of administration ``adm`` go: to compartment ``compartment`` (from 1).

    ``kind``: as bolus or infusion just as the record says (``given``), as a bolus whatever it says, or over
    the duration that the model computes.
    """

    adm: int
    compartment: int
    kind: RouteKind


@dataclass(frozen=True)
class Observed:
    """A type of observation that is used: its value in the type column, and the scale on which it is normal.

    ``low`` and ``high`` bound the observations of a logit scale.
    """

    text: str
    transform: Transform = "identity"
    low: float = 0.0
    high: float = 1.0


@dataclass(frozen=True)
class Reading:
    """Choices of the project on its data file; names are those of the header."""

    delimiter: str = ""  # empty: found from the file
    categorical: tuple[str, ...] = ()
    categories: dict[str, tuple[str, ...]] = field(default_factory=dict)  # where the project lists them
    regressors: tuple[str, ...] = ()
    occasions: tuple[str, ...] = ()
    infusion_time: str = ""
    ignored_line: str = ""
    observed: tuple[Observed, ...] = ()
    steady_state_doses: int = 7
    routes: tuple[Route, ...] = ()

    def options(self) -> tuple[tuple[str, str], ...]:
        """Return this as options of :class:`~engine.ir.dataset.Inputs`."""
        found = [("delimiter", self.delimiter)] if self.delimiter else []
        found += [("categorical", name) for name in self.categorical]
        found += [("category", f"{name}={text}") for name, texts in self.categories.items() for text in texts]
        found += [("regressor", name) for name in self.regressors]
        found += [("occasion", name) for name in self.occasions]
        found += [("infusion_time", self.infusion_time)] if self.infusion_time else []
        found += [("ignored_line", self.ignored_line)] if self.ignored_line else []
        for observed in self.observed:
            scale = f" on [{observed.low!r}, {observed.high!r}]" if observed.transform == "logit" else ""
            found.append(("observed", f"{observed.transform}{scale}: {observed.text}"))
        found.append(("steady_state_doses", str(self.steady_state_doses)))
        found += [("route", f"{r.adm} to {r.compartment} {r.kind}") for r in self.routes]
        return tuple(found)


def reading_of(inputs: Inputs) -> Reading:
    """Return what :meth:`Reading.options` wrote."""
    one = dict(inputs.options)

    def every(name: str) -> tuple[str, ...]:
        return tuple(value for key, value in inputs.options if key == name)

    categories: dict[str, tuple[str, ...]] = {}
    for pair in every("category"):
        name, text = pair.split("=", 1)
        categories[name] = (*categories.get(name, ()), text)
    return Reading(
        one.get("delimiter", ""),
        every("categorical"),
        categories,
        every("regressor"),
        every("occasion"),
        one.get("infusion_time", ""),
        one.get("ignored_line", ""),
        tuple(_observed(every("observed"))),
        int(one.get("steady_state_doses", "7")),
        tuple(_routes(every("route"))),
    )


def _observed(texts: Iterable[str]) -> Iterable[Observed]:
    for text in texts:
        scale, value = text.split(": ", 1)
        if scale.startswith("logit on ["):
            low, high = scale.removeprefix("logit on [").removesuffix("]").split(", ")
            yield Observed(value, "logit", float(low), float(high))
        else:
            yield Observed(value, "log" if scale == "log" else "identity")


def _routes(texts: Iterable[str]) -> Iterable[Route]:
    kinds: dict[str, RouteKind] = {"given": "given", "bolus": "bolus", "duration": "duration"}
    for text in texts:
        adm, _, compartment, kind = text.split(" ")
        yield Route(int(adm), int(compartment), kinds[kind])


def codes(categories: tuple[str, ...]) -> dict[str, float]:
    """Return the number for each category: its own value where all are numbers, else 0, 1, 2..."""
    try:
        values = [float(text) for text in categories]
    except ValueError:
        return {text: float(i) for i, text in enumerate(categories)}
    return dict(zip(categories, values, strict=True))
