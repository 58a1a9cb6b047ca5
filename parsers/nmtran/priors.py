"""$PRIOR: prior distributions of the population parameters, and the records that hold their values.

NWPRI puts the values of the prior after the model's own parameters: means of the first NTHP thetas and then
degrees of freedom as thetas; the covariance of the means, then modes of omega, as blocks of omega; modes of
sigma as blocks of sigma. The records with names of their own ($THETAP...) are put there first, so one rule
reads both forms.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ...engine.ir.parameter import CovarianceBlock, ThetaParameter, dimension
from ...engine.ir.prior import NormalPrior, Prior, WishartPrior
from ...engine.ir.span import Span
from .context import Context
from .lower_parameters import Parameters
from .numbers import whole
from .option_words import option_value, separate_groups
from .prior_clauses import applies, is_clause
from .syntax import Option
from .words import suggest

_COUNTS = ("NTHETA", "NETA", "NEPS", "NTHP", "NETP", "NEPP", "NPEXP")
_ARGUMENTS = (*_COUNTS, "ITYP", "NSAM", "ISS", "PLEV", "CNT", "IFND", "MODE", "IVAR", "ICMAX", "DISPLAY")


@dataclass(frozen=True)
class Hyperparameters:
    """What $THETAP, $THETAPV, $OMEGAP, $OMEGAPD, $SIGMAP and $SIGMAPD hold."""

    theta: tuple[ThetaParameter, ...] = ()
    theta_covariance: tuple[CovarianceBlock, ...] = ()
    omega: tuple[CovarianceBlock, ...] = ()
    omega_degrees: tuple[ThetaParameter, ...] = ()
    sigma: tuple[CovarianceBlock, ...] = ()
    sigma_degrees: tuple[ThetaParameter, ...] = ()


@dataclass
class _Call:
    """One use of a prior routine: its arguments, the conditions on its use."""

    routine: str
    span: Span
    arguments: dict[str, Option] = field(default_factory=dict)
    clauses: list[Option] = field(default_factory=list)

    def count(self, context: Context, name: str, default: int) -> int:
        """Return an argument that counts, ``default`` where it is absent."""
        option = self.arguments.get(name)
        if option is None:
            return default
        value = whole(option_value(option))
        if value is None or value < 0:
            context.error(f"{name} must be a whole number", option.span)
            return default
        return value


def lower_prior(
    context: Context,
    records: list[tuple[Option, ...]],
    parameters: Parameters,
    named: Hyperparameters,
    problem: int,
    source: str,
) -> tuple[Prior | None, Parameters]:
    """Return the prior in force in ``problem``, and the parameters without the values of the prior.

    ``source`` is the file that an earlier problem read for a prior of the transformed parameters.
    """
    calls = [call for record in records for call in _calls(context, record)]
    counted = next((call for call in calls if call.routine == "NWPRI"), None)
    if counted is None:
        if records and named != Hyperparameters() and not calls:
            context.error("$PRIOR names no routine", context.stream.of("PRIOR")[0].head, "$PRIOR NWPRI")
        in_force = [call for call in calls if applies(context, call.clauses, problem)]
        span = in_force[0].span if in_force else None
        return (Prior(transformed=True, source=source, span=span) if in_force else None), parameters
    prior, parameters = _Wishart(context, counted, parameters, named).split()
    return (prior if applies(context, counted.clauses, problem) else None), parameters


def _calls(context: Context, record: tuple[Option, ...]) -> list[_Call]:
    calls: list[_Call] = []
    for option in separate_groups(record):
        text = option.name.text.upper()
        if text in ("NWPRI", "TNPRI"):
            calls.append(_Call(text, option.span))
        elif not calls:
            context.error("$PRIOR begins with NWPRI or TNPRI", option.span)
            return []
        elif is_clause(option):
            calls[-1].clauses.append(option)
        elif text in _ARGUMENTS:
            if option.value is None and text != "DISPLAY":
                context.error(f"{text} needs a value", option.span, f"{text}=...")
            calls[-1].arguments[text] = option
        else:
            context.error(f"unknown argument {text} of $PRIOR", option.span, suggest(text, _ARGUMENTS))
    return calls


class _Wishart:
    """Divides the parameters of a problem into the model's own and those of its NWPRI prior."""

    def __init__(self, context: Context, call: _Call, parameters: Parameters, named: Hyperparameters) -> None:
        self.context = context
        self.call = call
        self.thetas = [*parameters.thetas, *named.theta, *named.omega_degrees, *named.sigma_degrees]
        self.omega = [*parameters.omega, *_moved(named.theta_covariance, parameters.omega)]
        self.omega += _moved(named.omega, tuple(self.omega))
        self.sigma = [*parameters.sigma, *_moved(named.sigma, parameters.sigma)]
        self.parameters = parameters
        self.n_theta = call.count(context, "NTHETA", len(parameters.thetas))
        self.n_eta = call.count(context, "NETA", dimension(parameters.omega))
        self.n_theta_prior = call.count(context, "NTHP", len(named.theta))
        self.n_eta_prior = call.count(context, "NETP", dimension(named.omega))
        self.n_eps_prior = call.count(context, "NEPP", dimension(named.sigma))
        own = dimension(tuple(self.sigma)) - self.n_eps_prior
        self.n_eps = call.count(context, "NEPS", own) or own  # older releases did not read it

    def split(self) -> tuple[Prior | None, Parameters]:
        if self.call.count(self.context, "NPEXP", 1) > 1:
            self.context.error("more than one prior experiment (NPEXP) is not supported", self.call.span)
            return None, self.parameters
        before = len(self.context.problems)
        own_omega = self._blocks(self.omega, 0, self.n_eta, "OMEGA", "NETA")
        covariance = self._blocks(self.omega, self.n_eta, self.n_theta_prior, "OMEGA", "NTHP")
        modes = self._blocks(self.omega, self.n_eta + self.n_theta_prior, self.n_eta_prior, "OMEGA", "NETP")
        own_sigma = self._blocks(self.sigma, 0, self.n_eps, "SIGMA", "NEPS")
        sigma_modes = self._blocks(self.sigma, self.n_eps, self.n_eps_prior, "SIGMA", "NEPP")
        omega_sets = [block for block in modes if block.same_as is None]
        sigma_sets = [block for block in sigma_modes if block.same_as is None]
        needed = self.n_theta + self.n_theta_prior + len(omega_sets) + len(sigma_sets)
        if len(self.thetas) < needed:
            self.context.error(
                f"the prior needs {needed} thetas in all, and there are {len(self.thetas)}",
                self.call.span,
                f"{self.n_theta} of the model, {self.n_theta_prior} means, "
                f"{len(omega_sets) + len(sigma_sets)} degrees of freedom (one for each block of its modes)",
            )
        if len(self.context.problems) > before:
            return None, self.parameters
        rest = self.thetas[self.n_theta :]
        means, degrees = rest[: self.n_theta_prior], rest[self.n_theta_prior :]
        prior = Prior(
            NormalPrior(tuple(theta.initial for theta in means), covariance) if means else None,
            _wishart(omega_sets, degrees),
            _wishart(sigma_sets, degrees[len(omega_sets) :]),
            span=self.call.span,
        )
        parameters = replace(
            self.parameters,
            thetas=self.parameters.thetas[: self.n_theta],
            omega=own_omega,
            sigma=own_sigma,
            beyond=tuple(rest),
        )
        return (prior if means or omega_sets or sigma_sets else None), parameters

    def _blocks(
        self, blocks: list[CovarianceBlock], start: int, size: int, record: str, argument: str
    ) -> tuple[CovarianceBlock, ...]:
        """Return the blocks of rows ``start`` to ``start + size`` (from 0), numbered from 1."""
        inside = [b for b in blocks if start < b.first <= start + size]
        if dimension(tuple(inside)) != size or (inside and inside[0].first != start + 1):
            self.context.error(
                f"{argument}={size} of $PRIOR does not fit the blocks of ${record}",
                self.call.span,
                f"blocks of ${record} begin at {', '.join(str(b.first) for b in blocks) or 'none'}",
            )
            return ()
        skipped = blocks.index(inside[0]) if inside else 0
        return tuple(
            replace(
                block,
                first=block.first - start,
                same_as=None if block.same_as is None or block.same_as < skipped else block.same_as - skipped,
            )
            for block in inside
        )


def _moved(blocks: tuple[CovarianceBlock, ...], before: tuple[CovarianceBlock, ...]) -> list[CovarianceBlock]:
    """Return ``blocks`` as they are numbered behind ``before``."""
    rows = dimension(before)
    return [
        replace(
            block,
            first=block.first + rows,
            same_as=None if block.same_as is None else block.same_as + len(before),
        )
        for block in blocks
    ]


def _wishart(sets: list[CovarianceBlock], degrees: list[ThetaParameter]) -> tuple[WishartPrior, ...]:
    return tuple(
        WishartPrior(block, theta.initial) for block, theta in zip(sets, degrees[: len(sets)], strict=True)
    )
