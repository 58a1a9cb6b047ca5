"""Random effects that the EM methods begin with: every one a fit could tell apart from eta = 0."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.streams import read

from elbomix.engine.estimate import initial
from elbomix.engine.inner.metropolis import Kernels
from elbomix.engine.methods.conditional import ConditionalSettings
from elbomix.engine.methods.importance_sampling import ImportanceSettings, estimate_importance
from elbomix.engine.methods.importance_step import ProposalSettings
from elbomix.engine.methods.its import TwoStageSettings, estimate_its
from elbomix.engine.methods.saem import SaemSettings, estimate_saem
from elbomix.engine.methods.stochastic_em import Annealing, StochasticEM
from elbomix.engine.objective.population import Population
from elbomix.engine.run.planned_step import PlannedStep
from elbomix.engine.run.steps import run_steps

# the posterior has two modes of equal height, at eta = 2 and -2 less a little
SQUARE = """$PROBLEM square
$INPUT {columns}
$DATA {file} IGNORE=@
$PRED
Y = (THETA(1) + ETA(1))**2 + EPS(1)
$THETA 0 FIX
$OMEGA 1
$SIGMA 0.01
$ESTIMATION METHOD=ITS
"""
SIGNS = np.array([1.0, -1.0, -1.0, 1.0, 1.0, -1.0])


def population(folder: Path, etas: np.ndarray[tuple[int, int], np.dtype[np.float64]] | None) -> Population:
    rows = [{"ID": i + 1, "DV": 4.0} for i in range(len(SIGNS))]
    model, data = read(folder, SQUARE, rows)
    return Population(model, data, start_etas=etas)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_its_finds_the_modes_nearest(tmp_path: Path, sign: float) -> None:
    own = population(tmp_path, sign * SIGNS[:, None])
    step = estimate_its(own, initial(own.model), TwoStageSettings(iterations=0))
    np.testing.assert_array_equal(np.sign(step.individuals.ebe[:, 0]), sign * SIGNS)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("modes", [0, 1])
def test_proposals_stand_there(tmp_path: Path, sign: float, modes: int) -> None:
    own = population(tmp_path, 2.0 * sign * SIGNS[:, None])
    narrow = ProposalSettings(acceptance=1.0, scale_max=0.1)  # sees one of the modes only
    settings = ImportanceSettings(
        iterations=0, evaluate_only=True, mode_iterations=modes, proposal=narrow, information=False
    )
    step = estimate_importance(own, initial(own.model), settings)
    np.testing.assert_array_equal(np.sign(step.individuals.cond_mean[:, 0]), sign * SIGNS)


def test_chains_begin_there(tmp_path: Path) -> None:
    etas = 2.0 * SIGNS[:, None]
    own = population(tmp_path, etas)
    start = initial(own.model)
    method = StochasticEM(own, start, Kernels(), 3, Annealing(False, False, 0), 1)
    np.testing.assert_array_equal(method.begin(start, etas).chains[0].phi, np.tile(etas, (3, 1, 1)))
    # short walks cannot leave a mode
    walks = Kernels(population=0, learned=0, joint=1, single=1, acceptance=0.4, largest_scale=0.01)
    settings = SaemSettings(burn_in=0, iterations=20, kernels=walks, evaluate_only=True, information=False)
    step = estimate_saem(own, start, settings)
    np.testing.assert_array_equal(np.sign(step.individuals.cond_mean[:, 0]), SIGNS)
    # a step before says more than the stream
    before = estimate_its(population(tmp_path, -etas), start, TwoStageSettings(iterations=0)).individuals
    step = estimate_saem(own, start, settings, individuals=before)
    np.testing.assert_array_equal(np.sign(step.individuals.cond_mean[:, 0]), -SIGNS)


@pytest.mark.parametrize("begins", [True, False])
def test_a_step_may_begin_at_zero_all_the_same(tmp_path: Path, begins: bool) -> None:
    own = population(tmp_path, None)
    step = PlannedStep(1, "focei", ConditionalSettings(max_evaluations=0), begins_at_etas=begins)
    etas = 2.0 * SIGNS[:, None]
    (fit,) = run_steps(own.model, own.data, [step], start_etas=etas)
    (zero,) = run_steps(own.model, own.data, [step])
    assert fit.individuals is not None and zero.individuals is not None
    if begins:
        np.testing.assert_array_equal(np.sign(fit.individuals.ebe[:, 0]), SIGNS)
    else:
        np.testing.assert_array_equal(fit.individuals.ebe, zero.individuals.ebe)
