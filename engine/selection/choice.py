"""The choice of covariate effects at the end of training, and what is reported of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from torch import Tensor

from ..estimate import Array, Estimate
from ..ir.effects import Effect
from ..iteration import Iteration
from ..methods.importance import propose, tensors
from ..methods.mstep import EffectPenalty, L0Problem
from ..methods.vae import VaeSettings
from ..objective.joint import Joint
from ..objective.sampling import Draws, effective_sample_size, likelihood_ratio
from ..selection.outcome import EffectResult, Selection
from ..uncertainty.standard_errors import Uncertainty
from .neighbourhood import CovariateSearch, Scored, Support

MAX_DRAWS = 3  # times the draws are renewed around a model that moved
ENOUGH = 0.4  # of the draws: effective sample size at which they serve the chosen model


@dataclass(frozen=True)
class Check:
    """A chosen model after a look at its neighbours.

    ``scored`` is the best model seen, ``toggles`` the BICc changes of single candidates around it,
    ``problem`` the L0 problem of an M-step there.
    """

    scored: Scored
    toggles: Array
    problem: L0Problem


def choose(
    joint: Joint,
    start: Estimate,
    centre: Tensor,
    support: Support,
    penalty: EffectPenalty,
    candidates: Sequence[Effect],
    settings: VaeSettings,
) -> Scored:
    """Return the best covariate model by the real likelihood, on draws that serve it."""
    current = start
    for attempt in range(MAX_DRAWS):
        mode, draws = propose(
            joint,
            current,
            centre,
            settings.draws_for(settings.search_draws, joint.n_subjects),
            seed=settings.seed,
            name=f"selection/{attempt}",
            keep=True,
        )
        centre = mode.mean
        ratio = likelihood_ratio(joint, draws, tensors(current))
        search = CovariateSearch(joint, draws.z, ratio, penalty, candidates, current)
        scored = search.search(current, support)
        share = effective_sample_size(search.em.weights(scored.estimate)) / len(draws.z)
        support, current = scored.support, scored.estimate
        if float(share.min()) > ENOUGH:
            break
    return scored


def check(
    joint: Joint,
    final: Joint,
    draws: Draws,
    estimate: Estimate,
    support: Support,
    penalty: EffectPenalty,
    candidates: Sequence[Effect],
    settings: VaeSettings,
) -> Check:
    """Return the best of a refined model and its neighbours, on the draws of its refinement.

    ``final`` is the refined model with its ``estimate`` in the thetas of the run's model over ``joint``.
    """
    some = settings.draws_for(settings.search_draws, joint.n_subjects)
    kept = [j for j in range(len(estimate.theta)) if j not in penalty.thetas]
    kept += [j for j, inside in zip(penalty.thetas, support, strict=True) if inside]
    own = replace(estimate, theta=estimate.theta[kept])
    base = likelihood_ratio(final, draws, tensors(own))
    z = draws.at(tensors(own)[0])
    search = CovariateSearch(joint, z[:some], base[:some], penalty, candidates, estimate)
    scored = search.descend(search.score(support, estimate))
    return Check(scored, search.toggles(scored), search.problem(scored))


def report(
    checked: Check,
    support: Support,
    candidates: Sequence[Effect],
    penalty: EffectPenalty,
    final: Estimate,
    n_base: int,
    history: Sequence[Iteration],
) -> Selection:
    """Return the selection as reported: values of the final model, path, independent certificate.

    ``final`` is the estimate of the final model (``n_base`` thetas of the user's, then those of ``support``);
    ``history`` is in the run model's parameters.
    """
    from .certificate import certify  # a run without candidates needs no pyomo

    problem = checked.problem
    certificate = certify(
        problem.gram,
        problem.linear,
        penalty.price,
        problem.solution,
        forced=penalty.forced,
        forbidden=penalty.forbidden,
    )
    position = n_base
    results = []
    for j, effect in enumerate(candidates):
        selected = bool(support[j])
        results.append(
            EffectResult(
                effect,
                selected,
                value=float(final.theta[position]) if selected else 0.0,
                se=np.nan,
                theta=position + 1 if selected else None,
                bicc_change=float(checked.toggles[j]),
                forced=bool(penalty.forced[j]),
            )
        )
        position += selected
    index = pd.MultiIndex.from_tuples([(r.phase, r.number) for r in history], names=["phase", "iteration"])
    path = pd.DataFrame(
        [r.estimate.theta[n_base:] for r in history], columns=[str(e) for e in candidates], index=index
    )
    return Selection(tuple(results), path, certificate)


def with_errors(selection: Selection, uncertainty: Uncertainty | None) -> Selection:
    """Return ``selection`` with the standard errors of the chosen effects."""
    if uncertainty is None:
        return selection
    results = tuple(
        r if r.theta is None else replace(r, se=float(uncertainty.se[r.theta - 1])) for r in selection.results
    )
    return replace(selection, results=results)
