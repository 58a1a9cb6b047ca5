"""Predictions and residuals of every kind at an estimate, as NONMEM defines them.

Bauer, Introduction to NONMEM 7, section "New diagnostic items", has the definitions; the moments are those of
:mod:`.weighted_residuals` and :mod:`.simulation_residuals`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..estimate import Array, Estimate
from ..objective.population import Population
from ..objective.terms import FLAGGED, NORMAL
from ..tables.items import TableSettings
from ..tables.tabulation import evaluated, known_values
from .eps_dependence import ExactResponse, is_linear
from .simulation_residuals import Limits, Simulated, draw_eps, draw_etas, expected_residuals
from .weighted_residuals import Expansion, Grouping, Response, individual_weighted


@dataclass(frozen=True, eq=False)
class Individual:
    """What is known of each subject where residuals are computed.

    Attributes
    ----------
    eta
        [id, eta] as tables show them: conditional modes, or zero where none were asked for.
    centre
        [id, eta] around which conditional residuals are expanded: the conditional modes, or the conditional
        means after a method that samples. Not looked at after a first-order method.
    shown
        Whether ``eta`` are conditional estimates.
    component, component_eta
        Most likely subpopulation of each subject (from 1), and [component, id, eta] under each of them; None:
        no mixture.
    """

    eta: Array
    centre: Array
    shown: bool = True
    component: NDArray[np.int64] | None = None
    component_eta: Array | None = None


class Residuals:
    """Predictions and residuals of all records.

    Parameters
    ----------
    interaction
        Whether the estimation let residual variances depend on eta; if not, they are those of eta = 0 where
        the definition does not say otherwise.
    first_order
        Whether there are no conditional estimates: conditional residuals then are those of eta = 0.
    left_out
        [record], 1 where an observation has no weighted residual (MDVRES).
    """

    def __init__(
        self,
        population: Population,
        estimate: Estimate,
        individual: Individual,
        *,
        interaction: bool,
        first_order: bool = False,
        settings: TableSettings | None = None,
        left_out: Array | None = None,
    ) -> None:
        self.population, self.estimate, self.component = population, estimate, individual.component
        self.settings, self.interaction = settings or TableSettings(), interaction
        self.effects, self.first_order, self.left_out = individual, first_order, left_out
        self.likelihood = population.likelihoods[0]
        self.dv, self.subject = self.likelihood.dv, population.data.subject
        self.base, self.omega = np.zeros_like(individual.eta), estimate.omega
        if self.settings.fixed_etas:
            fixed = np.array(self.settings.fixed_etas) - 1
            self.base[:, fixed] = individual.centre[:, fixed]
            self.omega = estimate.omega.copy()
            self.omega[fixed] = 0.0
            self.omega[:, fixed] = 0.0
        self.centre = self.base if first_order else individual.centre
        self.typical, _ = self._response(self.base)
        self.individual, flag = self._response(self.centre)
        kind = self.likelihood.kind
        self.normal = (kind == NORMAL) | ((kind == FLAGGED) & (flag == NORMAL))
        kept = self.normal if left_out is None else self.normal & (left_out != 1.0)
        out = ~self.normal if left_out is None else ~self.normal & (left_out != 1.0)
        mixed = np.bincount(self.subject, population.data.is_observation & out, population.n_subjects) > 0
        level, cholesky = self.likelihood.group, self.settings.cholesky
        # a subject with other than normal observations has no mean and covariance of all of them
        self.whole = kept & ~mixed[self.subject]
        self.of_population = Grouping.build(self.subject, self.whole, level, cholesky)
        self.of_individuals = Grouping.build(self.subject, kept, level, cholesky)

    def without_options(self) -> Residuals:
        """Return what these residuals are where no table changes them, as shrinkage is made from them."""
        if not (self.settings.cholesky or self.settings.fixed_etas):
            return self
        return Residuals(
            self.population,
            self.estimate,
            self.effects,
            interaction=self.interaction,
            first_order=self.first_order,
            left_out=self.left_out,
        )

    def response(self, eta: Array) -> Response:
        """Return the response at ``eta`` [id, eta]."""
        return self._response(eta)[0]

    def _response(self, eta: Array) -> tuple[Response, Array]:
        """Return the response at ``eta`` and the kind of each record as the model decides it."""
        known = known_values(self.estimate, self.component)
        made = evaluated(self.likelihood.kernel, self.estimate, eta, known, self.population.threads, True)
        flag = (
            made.values[0, :, self.likelihood.flag] if self.likelihood.flag >= 0 else np.zeros(len(self.dv))
        )
        return Response.of(made, self.likelihood.n_eps), flag

    def columns(self) -> dict[str, Array]:
        """Return all predictions and residuals but those by simulation."""
        out = self._typical() | self._conditional() | self._individual()
        letter = "I" if self.interaction else "N"
        out["WRES"] = out["WRESI"] if letter == "I" else out["NWRES"]
        return out

    def _typical(self) -> dict[str, Array]:
        """Return the kinds expanded at eta = 0."""
        prediction = self.typical.value
        residual = self._residual(prediction)
        expansion = self._expansion(self.typical, self.base)
        weighted = expansion.weighted(residual, self.typical)
        with_interaction = expansion.weighted(residual, None) if self.interaction else weighted
        own = individual_weighted(residual, self.typical, self.estimate.sigma, self.of_individuals)
        out = dict.fromkeys(("PRED", "NPRED", "PREDI", "IPRD", "NIPRED", "IPREDI"), prediction)
        out |= dict.fromkeys(("RES", "NRES", "RESI", "IRS", "NIRES", "IRESI"), residual)
        out |= dict.fromkeys(("IWRS", "NIWRES", "IWRESI"), own)
        return out | {"NWRES": weighted, "WRESI": with_interaction}

    def _conditional(self) -> dict[str, Array]:
        """Return the kinds expanded at the conditional estimates."""
        expansion = self._expansion(self.individual, self.centre)
        other = self.population.data.is_observation & ~self.normal
        prediction = np.where(other, self.typical.value, expansion.mean)
        residual = self._residual(prediction)
        variance = self.individual if self.interaction else self.typical
        out = dict.fromkeys(("CPRED", "CPREDI"), prediction) | dict.fromkeys(("CRES", "CRESI"), residual)
        out["CWRES"] = expansion.weighted(residual, variance)
        out["CWRESI"] = expansion.weighted(residual, None)
        return out

    def _individual(self) -> dict[str, Array]:
        """Return the residuals of individual predictions."""
        prediction = self.individual.value
        residual = self._residual(prediction)
        sigma, grouping = self.estimate.sigma, self.of_individuals
        variance = self.individual if self.interaction else self.typical
        out = dict.fromkeys(("CIPRED", "CIPREDI"), prediction)
        out |= dict.fromkeys(("CIRES", "CIRESI"), residual)
        out["CIWRES"] = individual_weighted(residual, variance, sigma, grouping)
        out["CIWRESI"] = individual_weighted(residual, self.individual, sigma, grouping)
        return out

    def by_eps(self, subjects: NDArray[np.bool_] | None = None) -> Array:
        """Return individual weighted residuals of the observations each eps takes part in, [record, eps].

        NaN elsewhere, and for all but ``subjects`` [id] where given.
        """
        variance = self.individual if self.interaction else self.typical
        prediction = self.individual.value
        weighted = individual_weighted(
            self._residual(prediction), variance, self.estimate.sigma, self.of_individuals
        )
        rows = np.zeros(len(self.dv), dtype=bool)
        for block in self.of_individuals.blocks:
            rows[block] = True
        if subjects is not None:
            rows &= subjects[self.subject]
        there = rows[:, None] & (variance.eps != 0)
        return np.where(there, weighted[:, None], np.nan)

    def _residual(self, prediction: Array) -> Array:
        return np.where(self.normal, self.dv - prediction, 0.0)

    def _expansion(self, at: Response, eta: Array) -> Expansion:
        return Expansion(
            at, eta, self.base, self.estimate.sigma, self.omega, self.subject, self.of_population
        )

    def simulated(
        self, limits: Limits | None = None, quantified: NDArray[np.bool_] | None = None
    ) -> dict[str, Array]:
        """Return the residuals against simulated observations.

        ``limits`` [record] of quantification; an observation that is not ``quantified`` [record] lies below
        its lower limit, whatever the data say.
        """
        rows, dv = np.flatnonzero(self.whole), self.dv
        if limits is not None and quantified is not None:
            low = ~quantified & np.isfinite(limits.lower) & ~np.isfinite(limits.upper)
            dv = np.where(low, np.minimum(dv, limits.lower), dv)
        settings, level = self.settings, self.likelihood.group[rows]
        etas = self.base + draw_etas(self.omega, settings.draws, len(self.base), settings.seed)
        eps = draw_eps(self.estimate.sigma, settings.draws, level, settings.seed)
        known = known_values(self.estimate, self.component)
        made = evaluated(self.likelihood.kernel, self.estimate, etas, known, self.population.threads, False)
        value, slopes = made.values[:, rows, 0], made.values[:, rows, 1 : 1 + self.likelihood.n_eps]
        observation = value + np.einsum("kre,kre->kr", slopes, eps)
        model = self.population.model
        if not is_linear(model):
            everywhere = np.zeros((settings.draws, len(dv), eps.shape[2]))
            everywhere[:, rows] = eps
            exact = ExactResponse(model, self.population.data, self.population.threads)
            observation = exact(self.estimate.theta, etas, everywhere, known)[:, rows]
        found = expected_residuals(
            Simulated(value, slopes, observation),
            dv[rows],
            self.estimate.sigma,
            (self.individual if self.interaction else self.typical).eps[rows],
            Grouping.build(self.subject[rows], np.ones(len(rows), dtype=bool), level, settings.cholesky),
            exact=settings.simulated_observations,
            limits=None if limits is None else Limits(limits.lower[rows], limits.upper[rows]),
            seed=settings.seed,
        )
        out = {name: np.zeros(len(self.dv)) for name in found}
        for name, values in found.items():
            out[name][rows] = values
        return out | {"EIPRED": out["EPRED"], "EIRES": out["ERES"]}
