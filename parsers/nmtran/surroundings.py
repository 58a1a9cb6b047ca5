"""What the code of one record can see of the rest of the control stream."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...engine.ir.dataset import Inputs
from .context import Context
from .lower_parameters import Parameters
from .replace import Abbreviations

# With compartments these data items exist even where $INPUT does not name them.
GENERATED_ITEMS = ("EVID", "MDV")


@dataclass
class Surroundings:
    """What code can see from outside its record.

    ``variables`` are those assigned by records lowered so far, each with the record; every record adds its
    own. ``everywhere`` are the variables that any record assigns (values of the record before may be read).
    ``shadows`` are data items that code assigns: its own variables from there on.
    """

    context: Context
    inputs: Inputs
    parameters: Parameters
    abbreviations: Abbreviations
    compartments: tuple[str, ...] = ()
    has_output: bool = False
    sources: dict[int, str] = field(default_factory=dict)  # random source -> "uniform" | "normal"
    everywhere: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    inner: set[str] = field(default_factory=set)  # assigned inside $DES, no variables of a record
    inner_read: set[str] = field(default_factory=set)  # those of them that $ERROR reads
    shadows: set[str] = field(default_factory=set)
    subpopulations: int = 0
    reads_mixture: bool = False
    derivatives: dict[str, str] = field(default_factory=dict)  # variable -> what the engine tabulates for it
    individual_call: str = "record"
    keeps_at_observations: bool = False  # $ERROR leaves no values behind at other events

    @property
    def n_compartments(self) -> int:
        """Number of compartments, the output compartment not counted."""
        return len(self.compartments)
