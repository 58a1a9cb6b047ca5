"""Whether every observation has a likelihood at the initial estimates, said before anything is fitted."""

from __future__ import annotations

import numpy as np

from ..estimate import Estimate
from ..failure import ModelFailure
from ..tables.tabulation import evaluated, known_values
from .observations import ObservationLikelihood
from .terms import FLAGGED, LIKELIHOOD, NORMAL


def check_predictions(likelihood: ObservationLikelihood, start: Estimate) -> None:
    """Raise :class:`ModelFailure` at the first observation that has no likelihood for a typical subject."""
    zero = np.zeros((likelihood.n_subjects, likelihood.n_etas))
    component = None
    if likelihood.component is not None:
        component = np.full(likelihood.n_subjects, likelihood.component)
    made = evaluated(
        likelihood.kernel, start, zero, known_values(start, component), likelihood.threads, False
    )
    value, slopes = made.values[0, :, 0], made.values[0, :, 1 : 1 + likelihood.n_eps]
    variance = np.einsum("re,ef,rf->r", slopes, start.sigma, slopes)
    kind = likelihood.kind
    if likelihood.flag >= 0:
        kind = np.where(kind == FLAGGED, made.values[0, :, likelihood.flag], kind)
    defined = np.isfinite(value)
    defined &= (kind != NORMAL) | (np.isfinite(variance) & (variance > 0))
    defined &= (kind != LIKELIHOOD) | (value > 0)
    bad = np.flatnonzero(likelihood.data.is_observation & ~defined)
    if not len(bad):
        return
    row, data = int(bad[0]), likelihood.data
    what = f"prediction {value[row]:g}, residual variance {variance[row]:g}"
    hint = (
        "proportional errors and logarithms need positive predictions: leave out observations before the "
        "first dose (MDV=1), add an additive error, or try other initial estimates"
    )
    if not slopes.any():
        hint = "the response needs a residual error (EPS)"
    if kind[row] != NORMAL:
        what, hint = (
            f"the model gives {value[row]:g}",
            "keep the likelihood away from zero at these estimates",
        )
    failure = made.failure
    if failure is not None and made.status[0, data.subject[row]] != 0:
        what, hint = failure.message, failure.remedy
    raise ModelFailure(
        f"{data.path}:{data.line[row]}: subject {data.ids[data.subject[row]]:g}: this observation has no "
        f"likelihood at the initial estimates: {what}",
        likelihood.model.observation.span,
        hint,
    )
