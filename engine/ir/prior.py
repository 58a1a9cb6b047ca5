"""Priors on the population parameters and mixtures of subpopulations."""

from __future__ import annotations

from dataclasses import dataclass, field

from .parameter import CovarianceBlock
from .span import Span
from .statement import Statement


@dataclass(frozen=True)
class NormalPrior:
    """Normal prior on the first fixed effects: their means and the covariance of those."""

    mean: tuple[float, ...]
    covariance: tuple[CovarianceBlock, ...]


@dataclass(frozen=True)
class WishartPrior:
    """Inverse Wishart prior on one block of a covariance matrix: its mode and degrees of freedom."""

    mode: CovarianceBlock
    degrees_of_freedom: float


@dataclass(frozen=True)
class Prior:
    """Normal prior on theta, inverse Wishart priors on blocks of omega and sigma.

    ``transformed`` marks a prior in the space of the transformed parameters, whose values
    come from the file ``source`` of an earlier run.
    """

    theta: NormalPrior | None = None
    omega: tuple[WishartPrior, ...] = ()
    sigma: tuple[WishartPrior, ...] = ()
    transformed: bool = False
    source: str = ""
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Mixture:
    """Subpopulations: ``statements`` assign the probabilities ``"P(1)"``... of each subject."""

    n: int
    statements: tuple[Statement, ...]
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Level:
    """Random effects nested above the subject: ``column`` groups subjects, pairs (outer eta, inner eta)."""

    column: str
    pairs: tuple[tuple[int, int], ...]
    span: Span | None = field(default=None, compare=False, repr=False)
