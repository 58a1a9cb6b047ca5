"""The choice of covariate effects at the end of training, and what is reported of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..estimate import Array, Estimate
from ..fit import Effect, EffectResult, Iteration, Selection, Uncertainty
from ..methods.importance import propose, tensors
from ..methods.mstep import EffectPenalty, L0Problem
from ..methods.vae import VaeSettings
from ..objective.joint import Joint
from ..objective.sampling import chunk_log_weights, effective_sample_size
from .neighbourhood import CovariateSearch, Scored, Support

MAX_DRAWS = 3  # times the draws are renewed around a model that moved
ENOUGH = 0.4  # of the draws: effective sample size at which they serve the chosen model


@dataclass(frozen=True)
class Choice:
    """The chosen model among the run's candidates, BICc changes of single toggles, the last L0 problem."""

    scored: Scored
    problem: L0Problem
    toggles: Array


def choose(
    joint: Joint,
    start: Estimate,
    centre: Tensor,
    support: Support,
    penalty: EffectPenalty,
    candidates: Sequence[Effect],
    settings: VaeSettings,
) -> Choice:
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
        with torch.no_grad():
            parts = [
                chunk_log_weights(joint, draws, p, tensors(current), with_prior=False)
                for p in range(len(draws.chunks))
            ]
        search = CovariateSearch(joint, draws, torch.cat(parts, 1), penalty, candidates)
        scored, problem = search.search(current, support)
        share = effective_sample_size(search.em.weights(scored.estimate)) / len(draws.z)
        support, current = scored.support, scored.estimate
        if float(share.min()) > ENOUGH:
            break
    return Choice(scored, problem, search.toggles(scored))


def report(
    choice: Choice,
    candidates: Sequence[Effect],
    penalty: EffectPenalty,
    final_theta: Array,
    n_base: int,
    history: Sequence[Iteration],
) -> Selection:
    """Return the selection as reported: values of the final model, path, independent certificate.

    ``final_theta`` are the final model's thetas (``n_base`` of the user's model, then chosen effects);
    ``history`` is in the run model's parameters.
    """
    from .certificate import certify  # a run without candidates needs no pyomo

    problem = choice.problem
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
        selected = bool(choice.scored.support[j])
        results.append(
            EffectResult(
                effect,
                selected,
                value=float(final_theta[position]) if selected else 0.0,
                se=np.nan,
                theta=position + 1 if selected else None,
                bicc_change=float(choice.toggles[j]),
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
