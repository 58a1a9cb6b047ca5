"""The M-step against exact maxima of the likelihood: with exact posteriors EM must reach them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support import linear_mixed as lmm
from support.models import dataset, oral_model
from support.streams import read

from elbomix.engine.data.batch import build_batch
from elbomix.engine.estimate import Estimate, initial
from elbomix.engine.failure import ModelFailure
from elbomix.engine.methods.em_statistics import Scores
from elbomix.engine.methods.em_step import EMStep, louis_step
from elbomix.engine.methods.louis import WeightedDraws, louis_information
from elbomix.engine.mu_design import MuDesign
from elbomix.engine.mu_model import MuModel
from elbomix.engine.objective.population import Population


def iterate(em: EMStep, rows: list[lmm.Row], start: Estimate, n: int) -> list[Estimate]:
    """Return the estimates of ``n`` iterations with exact posteriors."""
    made = [start]
    for _ in range(n):
        statistics = em.statistics(made[-1], *lmm.exact_draws(rows, made[-1]))
        made.append(em.maximise(made[-1], statistics))
    return made


def test_em_reaches_the_exact_maximum(tmp_path: Path) -> None:
    rows = lmm.rows()
    model, data = read(tmp_path, lmm.stream(), rows)
    em = EMStep(Population(model, data))
    assert em.mu.mu_thetas == [0, 1, 2] and em.others.single_eps
    found = iterate(em, rows, initial(model), 200)
    objectives = [float(lmm.by_subject(rows, at).sum()) for at in found[:60]]
    assert (np.diff(objectives) < 1e-9).all()  # EM never goes up
    exact = lmm.maximum(rows, found[-1])
    np.testing.assert_allclose(found[-1].flatten(), exact.flatten(), rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize(
    ("slope", "not_mu"),
    [
        ("B = THETA(2) + ETA(2)", frozenset({1})),  # told not to
        ("B = THETA(2)*(1 + ETA(2)/THETA(2))", frozenset()),  # not found by analysis
        ("B = THETA(2) + ETA(2)", frozenset({0, 1})),
    ],
)
def test_thetas_without_mu_get_there_no_later(tmp_path: Path, slope: str, not_mu: frozenset[int]) -> None:
    rows = lmm.rows()
    model, data = read(tmp_path, lmm.stream(slope), rows)
    em = EMStep(Population(model, data), not_mu=not_mu)
    assert 1 in em.others.thetas
    found = iterate(em, rows, initial(model), 200)
    exact = lmm.maximum(rows, found[-1])
    np.testing.assert_allclose(found[-1].flatten(), exact.flatten(), rtol=2e-4, atol=2e-5)
    plain = EMStep(Population(*read(tmp_path, lmm.stream(), rows)))
    mine, theirs = (
        [float(lmm.by_subject(rows, at).sum()) for at in run]
        for run in (found[:40], iterate(plain, rows, initial(model), 39))
    )
    reached = [next(k for k, v in enumerate(run) if v < mine[-1] + 0.05) for run in (mine, theirs)]
    assert reached[0] <= reached[1] + 3


def test_no_crawling_where_almost_all_information_is_missing(tmp_path: Path) -> None:
    # twelve exact samples a subject: given its random effects the thetas are known a thousand times better
    # than without, so that EM itself would take thousands of iterations
    rng = np.random.default_rng(4)
    rows: list[lmm.Row] = []
    for i in range(60):
        a, b = rng.multivariate_normal([2.0, -0.5], [[0.5, 0.1], [0.1, 0.3]])
        x = float(rng.normal())
        for t in np.linspace(0, 4, 12):
            y = a + 0.7 * x + b * t + rng.normal(0, 0.03)
            rows.append({"ID": i + 1, "TIME": float(t), "X": x, "DV": float(y)})
    model, data = read(tmp_path, lmm.stream(), rows)
    em = EMStep(Population(model, data), not_mu=frozenset({0, 2}))
    assert em.others.thetas == [0, 2]
    found = iterate(em, rows, initial(model), 12)
    exact = lmm.maximum(rows, found[-1])
    gap = lmm.by_subject(rows, found[-1]).sum() - lmm.by_subject(rows, exact).sum()
    assert gap < 0.1


def test_random_effects_that_go_along_change_no_score_and_take_its_noise(tmp_path: Path) -> None:
    # exact posteriors: the added slope has mean 0; along the regression of the random effects on the thetas
    # the score of a linear model is the same for every draw, and its information that of the observations
    rows = lmm.rows()
    model, data = read(tmp_path, lmm.stream(), rows)
    em, at = EMStep(Population(model, data), not_mu=frozenset({0, 1, 2})), initial(model)
    likelihood, precision = em.population.likelihoods[0], em.precision(at)
    k, made = 3, {}
    sizes = [z.T @ z / at.sigma[0, 0] for _, _, z in lmm.subjects(rows)]
    crosses = [z.T @ x / at.sigma[0, 0] for _, x, z in lmm.subjects(rows)]
    along = np.array([-np.linalg.solve(s + precision, c) for s, c in zip(sizes, crosses, strict=True)])
    shifts = {"none": None, "any": np.random.default_rng(2).normal(size=along.shape), "best": along}
    for name, shift in shifts.items():
        scores = Scores(em.others, at, likelihood, shift, precision)
        scores.add(*lmm.exact_draws(rows, at))
        made[name] = scores
        np.testing.assert_allclose(scores.score[:, :k], made["none"].score[:, :k], rtol=1e-8, atol=1e-8)
    best = made["best"]
    spread = best.outer[:, :k, :k] - best.score[:, :k, None] * best.score[:, None, :k]
    np.testing.assert_allclose(spread, 0.0, atol=1e-7)
    marginal = sum(
        x.T @ np.linalg.solve(z @ at.omega @ z.T + at.sigma[0, 0] * np.eye(len(y)), x)
        for y, x, z in lmm.subjects(rows)
    )
    np.testing.assert_allclose(best.information[:k, :k], marginal, rtol=1e-8)


def test_fixed_blocks_stay_and_diagonals_stay_diagonal(tmp_path: Path) -> None:
    rows = lmm.rows(20)
    model, data = read(tmp_path, lmm.stream(omega="0.2 FIX 0.1", sigma="0.3 FIX"), rows)
    found = iterate(EMStep(Population(model, data)), rows, initial(model), 3)[-1]
    assert found.omega[0, 0] == 0.2 and found.omega[1, 0] == 0.0 and found.sigma[0, 0] == 0.3
    assert found.omega[1, 1] != 0.1


def test_repeated_blocks_share_their_moments(tmp_path: Path) -> None:
    rows = lmm.rows(20)
    model, data = read(tmp_path, lmm.stream(omega="BLOCK(1) 0.2\n$OMEGA BLOCK(1) SAME"), rows)
    em = EMStep(Population(model, data))
    statistics = em.statistics(initial(model), *lmm.exact_draws(rows, initial(model)))
    found = em.maximise(initial(model), statistics)
    moment = statistics.second - 0.0
    mu = em.mu(found.theta)
    first = statistics.first
    spread = np.einsum("ikk->ik", moment) - 2 * first * mu + mu**2
    assert found.omega[0, 0] == found.omega[1, 1] == pytest.approx(spread.mean())


def test_the_steps_of_sigma_and_its_closed_form_end_alike(tmp_path: Path) -> None:
    # two eps whose variances add up: no closed form, the sum of both variances is what the data know
    rows = lmm.rows()
    model, data = read(tmp_path, lmm.stream(), rows)
    closed = iterate(EMStep(Population(model, data)), rows, initial(model), 60)[-1]
    em = EMStep(Population(model, data))
    em.others.single_eps = False
    found = iterate(em, rows, initial(model), 60)[-1]
    np.testing.assert_allclose(found.flatten(), closed.flatten(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("factor", ["TIME", "TIME*SQRT(SIGMA(2,2))", "(TIME + SIGMA(2,1))*SIGMA(1,1)"])
def test_scores_are_the_slopes_of_the_expected_deviance(tmp_path: Path, factor: str) -> None:
    rows = lmm.rows(10)
    stream = lmm.stream().replace("EPS(1)", f"EPS(1) + {factor}*EPS(2)")
    stream = stream.replace("$SIGMA 1", "$SIGMA BLOCK(2) 1 .1 .3")
    model, data = read(tmp_path, stream, rows)
    em = EMStep(Population(model, data), not_mu=frozenset({1}))
    start = initial(model)
    rng = np.random.default_rng(1)
    eta = rng.normal(0, 0.3, (7, data.n_subjects, 2))
    weights = rng.dirichlet(np.ones(7), data.n_subjects).T
    statistics = em.statistics(start, eta, weights)
    free = em.parameterisation.pack(start)
    for k, place in enumerate(em.others.places):
        ends = []
        for sign in (1.0, -1.0):
            moved = free.copy()
            moved[place] += sign * 1e-5
            ends.append(em.statistics(em.parameterisation.natural(moved), eta, weights).deviance)
        slope = 0.5 * (ends[0] - ends[1]) / 2e-5
        np.testing.assert_allclose(statistics.score[:, k], slope, rtol=1e-5, atol=1e-6)


def test_statistics_are_linear_in_the_posterior(tmp_path: Path) -> None:
    rows = lmm.rows(10)
    model, data = read(tmp_path, lmm.stream(), rows)
    em, at = EMStep(Population(model, data), not_mu=frozenset({1})), initial(model)
    rng = np.random.default_rng(1)
    eta = rng.normal(0, 0.3, (4, data.n_subjects, 2))
    parts = [em.statistics(at, eta[k : k + 1], np.ones((1, data.n_subjects))) for k in range(4)]
    mean = parts[0]
    for k in range(1, 4):  # the gains of a plain mean
        mean = mean.towards(parts[k], 1.0 / (k + 1))
    together = em.statistics(at, eta, np.full((4, data.n_subjects), 0.25))
    for name in vars(together):
        np.testing.assert_allclose(getattr(mean, name), getattr(together, name), rtol=1e-10, atol=1e-12)


def test_priors_make_it_the_maximum_of_the_posterior(tmp_path: Path) -> None:
    rows = lmm.rows()
    stream = lmm.stream().replace("$THETA 1 0.1 0.2", "$PRIOR NWPRI\n$THETA 1 0.1 0.2") + (
        "$THETAP (1 FIX) (-1 FIX) (0.5 FIX)\n$THETAPV BLOCK(3) FIX 0.01 0.002 0.02 0 0 0.01\n"
        "$OMEGAP BLOCK(2) FIX 0.8 0.1 0.6\n$OMEGAPD (20 FIX)\n"
    )
    model, data = read(tmp_path, stream, rows)
    population = Population(model, data)
    assert population.prior is not None
    for not_mu in (frozenset[int](), frozenset({1})):
        found = iterate(EMStep(population, not_mu=not_mu), rows, initial(model), 150)[-1]
        exact = lmm.maximum(rows, found, population.prior.value)
        np.testing.assert_allclose(found.flatten(), exact.flatten(), rtol=5e-4, atol=5e-5)


def test_a_step_is_one_of_newton_within_limits() -> None:
    score = np.array([1.0, -2.0])
    complete = np.array([[4.0, 1.0], [1.0, 3.0]])
    missing = np.array([[1.0, 0.2], [0.2, 0.5]])
    np.testing.assert_allclose(
        louis_step(score, complete, missing), -np.linalg.solve(complete - missing, score)
    )
    # all is missing: 50 steps of EM; more than nothing is missing: one
    np.testing.assert_allclose(
        louis_step(score, complete, complete), -50 * np.linalg.solve(complete, score), rtol=1e-6
    )
    np.testing.assert_allclose(
        louis_step(score, complete, -complete), -np.linalg.solve(complete, score), rtol=1e-6
    )


def test_a_sigma_that_the_statements_read_gets_to_the_same_maximum(tmp_path: Path) -> None:
    # the variance is sigma squared here, and sigma there
    rows = lmm.rows()
    plain, data = read(tmp_path, lmm.stream(), rows)
    twice, _ = read(tmp_path, lmm.stream().replace("EPS(1)", "SQRT(SIGMA(1,1))*EPS(1)"), rows)
    em, other = EMStep(Population(plain, data)), EMStep(Population(twice, data))
    expected = iterate(em, rows, initial(plain), 100)[-1]
    read_sigma = initial(twice)
    for _ in range(100):  # exact posteriors are those of the plain model
        same = Estimate(read_sigma.theta, read_sigma.omega, read_sigma.sigma**2)
        read_sigma = other.maximise(read_sigma, other.statistics(read_sigma, *lmm.exact_draws(rows, same)))
    np.testing.assert_allclose(read_sigma.theta, expected.theta, rtol=1e-5)
    np.testing.assert_allclose(read_sigma.omega, expected.omega, rtol=1e-4)
    np.testing.assert_allclose(read_sigma.sigma**2, expected.sigma, rtol=1e-4)
    # and its information is that of the variance, by the chain rule: d variance = 2 sigma d sigma
    draws = WeightedDraws(*lmm.exact_draws(rows, expected))
    theirs, their_scores = louis_information(em, expected, (draws,))
    ours, our_scores = louis_information(other, read_sigma, (draws,))
    chain = np.ones(len(theirs))
    chain[len(expected.theta)] = 2.0 * float(read_sigma.sigma[0, 0])
    np.testing.assert_allclose(our_scores, their_scores * chain, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(ours, theirs * np.outer(chain, chain), rtol=1e-2, atol=0.05)


def test_an_omega_that_the_statements_read_is_refused(tmp_path: Path) -> None:
    model, data = read(tmp_path, lmm.stream().replace("+ EPS(1)", "+ OMEGA(1,1)*EPS(1)"), lmm.rows(5))
    with pytest.raises(ModelFailure, match="OMEGA"):
        EMStep(Population(model, data))


def test_both_faces_of_mu_agree() -> None:
    model = oral_model()
    data = dataset(
        [{"ID": i, "TIME": t, "AMT": 100.0 * (t == 0), "WT": 60.0 + i} for i in (1, 2) for t in (0, 1)]
    )
    theta = np.array([t.initial for t in model.thetas])
    numpy_face, torch_face = MuModel.of(model, data), MuDesign(model, build_batch(model, data))
    np.testing.assert_allclose(numpy_face(theta), torch_face(torch.from_numpy(theta)).numpy(), rtol=1e-14)
    assert numpy_face.mu_thetas == torch_face.mu_thetas
    step = 1e-6
    for j in range(len(theta)):
        unit = np.zeros_like(theta)
        unit[j] = step
        slope = (numpy_face(theta + unit) - numpy_face(theta - unit)) / (2 * step)
        np.testing.assert_allclose(numpy_face.jacobian(theta)[..., j], slope, rtol=1e-7, atol=1e-9)
