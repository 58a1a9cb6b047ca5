"""The population parameters of a problem: its own records, those of a prior, or a file of an earlier run."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from ...engine.ir.check import check_covariance
from ...engine.ir.parameter import CovarianceBlock, ThetaParameter
from ...engine.ir.prior import Prior
from ...engine.ir.span import Span
from .band_matrices import note_bands
from .context import Context
from .lower_matrix import MatrixLowering
from .lower_parameters import Parameters, lower_parameters, lower_thetas
from .parse_records import parse_matrix, parse_options, parse_theta
from .positive_definite import shift_diagonals
from .priors import Hyperparameters, lower_prior
from .theta_transform import transform_initial_values
from .words import CODE_RECORDS

_MOST_PARAMETERS = 9999


def parse_population(context: Context) -> None:
    """Read the records of the parameters and of their prior, for the problems in their text."""
    context.parse(parse_theta, "THETA", "THETAP", "OMEGAPD", "SIGMAPD")
    context.parse(parse_matrix, "OMEGA", "SIGMA", "THETAPV", "OMEGAP", "SIGMAP")
    context.parse(parse_options, "PRIOR")


def lower_population(context: Context, problem: int, source: str) -> tuple[Parameters, Prior | None]:
    """Return the parameters of the model in ``problem`` and their prior.

    Where the values come from a file that an earlier run left ($MSFI), the parameters that the code uses
    are there, without a value. ``source`` is the file that an earlier problem read for a prior.
    """
    thetas, omegas = context.parse(parse_theta, "THETA"), context.parse(parse_matrix, "OMEGA")
    parameters = lower_parameters(context, thetas, omegas, context.parse(parse_matrix, "SIGMA"))
    code = "\n".join(context.stream.body(record) for record in context.stream.of(*CODE_RECORDS)).upper()
    if not parameters.sigma and _largest(code, ("ERR",)) and not _largest(code, ("ETA", "EPS")):
        # One kind of random effect alone is that of the residuals, and stands in $OMEGA.
        names = {**parameters.names, "ETA": {}, "EPS": parameters.names["ETA"]}
        parameters = replace(parameters, omega=(), sigma=parameters.omega, names=names)
    if context.stream.of("MSFI") and not context.stream.of("THETA", "OMEGA", "SIGMA"):
        return _unknown_values(code, parameters), None
    named = _hyperparameters(context)
    prior, parameters = lower_prior(
        context, context.parse(parse_options, "PRIOR"), parameters, named, problem, source
    )
    if context.stream.of("THETAI"):
        means = None if prior is None else prior.theta
        own, means = transform_initial_values(context, parameters.thetas, means)
        if prior is not None and means is not None:
            prior = replace(prior, theta=means)
            moved = [replace(t, initial=x) for t, x in zip(parameters.beyond, means.mean, strict=False)]
            parameters = replace(parameters, beyond=(*moved, *parameters.beyond[len(moved) :]))
        parameters = replace(parameters, thetas=own)
    parameters = replace(
        parameters,
        omega=shift_diagonals(context, parameters.omega),
        sigma=shift_diagonals(context, parameters.sigma),
    )
    for blocks in (parameters.omega, parameters.sigma):
        note_bands(context, blocks)
        for finding in check_covariance(blocks):
            context.error(finding.message, finding.span, finding.hint)
    return _with_own_places(parameters, context.stream.source.path), prior


def _hyperparameters(context: Context) -> Hyperparameters:
    def thetas(name: str) -> tuple[ThetaParameter, ...]:
        return tuple(lower_thetas(context, context.parse(parse_theta, name), {}, free=False))

    def matrix(name: str) -> tuple[CovarianceBlock, ...]:
        return MatrixLowering(context, name, {}).lower(context.parse(parse_matrix, name))

    found = Hyperparameters(
        thetas("THETAP"),
        matrix("THETAPV"),
        matrix("OMEGAP"),
        thetas("OMEGAPD"),
        matrix("SIGMAP"),
        thetas("SIGMAPD"),
    )
    names = ("THETAP", "THETAPV", "OMEGAP", "OMEGAPD", "SIGMAP", "SIGMAPD")
    records = context.stream.of(*names)
    if records and not context.stream.of("PRIOR"):
        context.error(f"${records[0].name} needs $PRIOR", records[0].head, "add $PRIOR NWPRI")
    return found


def _unknown_values(code: str, parameters: Parameters) -> Parameters:
    """Return as many parameters as the code uses, none with a value."""
    return replace(
        parameters,
        thetas=tuple(ThetaParameter(f"THETA{i}", math.nan) for i in range(1, _largest(code, ("THETA",)) + 1)),
        omega=_variances(_largest(code, ("ETA",))),
        sigma=_variances(_largest(code, ("EPS", "ERR"))),
    )


def _largest(code: str, words: Iterable[str]) -> int:
    pattern = rf"(?<![A-Z0-9_])(?:{'|'.join(words)})\s*\(\s*(\d{{1,6}})\s*\)"
    return max((n for n in map(int, re.findall(pattern, code)) if n <= _MOST_PARAMETERS), default=0)


def _variances(n: int) -> tuple[CovarianceBlock, ...]:
    return tuple(CovarianceBlock(i, 1, (math.nan,)) for i in range(1, n + 1))


def _with_own_places(parameters: Parameters, path: str) -> Parameters:
    """Return ``parameters`` with places of values that a writer may change: alone, in file ``path``."""
    blocks = (*parameters.omega, *parameters.sigma)
    spans = [theta.value_span for theta in parameters.thetas]
    spans += [span for block in blocks for span in block.value_spans]
    uses = Counter(span for span in spans if span is not None)

    def own(span: Span | None) -> Span | None:
        return span if span is not None and span.file == path and uses[span] == 1 else None

    def with_own(block: CovarianceBlock) -> CovarianceBlock:
        return replace(block, value_spans=tuple(map(own, block.value_spans)))

    return replace(
        parameters,
        thetas=tuple(replace(theta, value_span=own(theta.value_span)) for theta in parameters.thetas),
        omega=tuple(map(with_own, parameters.omega)),
        sigma=tuple(map(with_own, parameters.sigma)),
    )
