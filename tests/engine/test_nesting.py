"""Random effects that groups of subjects share: NONMEM's run, closed forms of linear models, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support.nonmem_runs import load
from support.streams import Row, read

from elbomix.engine.estimate import Estimate, initial
from elbomix.engine.failure import ModelFailure
from elbomix.engine.methods.conditional import ConditionalSettings
from elbomix.engine.methods.its import TwoStageSettings, estimate_its
from elbomix.engine.methods.trend import TrendTest
from elbomix.engine.objective.nesting import Nesting, NestingSettings
from elbomix.engine.objective.of_method import objective_of
from elbomix.engine.objective.population import Population
from elbomix.engine.run.planned_step import PlannedStep
from elbomix.engine.run.steps import run_steps
from elbomix.engine.uncertainty.covariance_step import CovarianceSettings

Floats = NDArray[np.float64]

STREAM = """$PROBLEM line
$INPUT {{columns}}
$DATA {{file}} IGNORE=@
$PRED
A = THETA(1) + ETA(1) + ETA(3) + ETA(5)
B = THETA(2) + ETA(2) + ETA(4) + ETA(6)
Y = A + B*TIME + EPS(1)
$THETA 2 -0.5
$OMEGA BLOCK(2) 0.3 0.02 0.1
$OMEGA BLOCK(2) 0.2 -0.03 0.15
$OMEGA BLOCK(2) 0.4 0.05 0.2
$SIGMA 0.25
$LEVEL {levels}
$ESTIMATION METHOD=1
"""
TWO = "SID=(3[1],4[2]) CID=(5[3],6[4])"


def rows(countries: int = 3) -> list[Row]:
    """Countries of 2 or 3 sites with 2 to 5 subjects each, of 2 to 5 samples."""
    rng = np.random.default_rng(11)
    made: list[Row] = []
    subject = site = 0
    for country in range(countries):
        c = rng.normal(0, 0.5, 2)
        for _ in range(2 + country % 2):
            site += 1
            s = rng.normal(0, 0.4, 2)
            for _ in range(rng.integers(2, 6)):
                subject += 1
                a, b = np.array([2.0, -0.5]) + c + s + rng.normal(0, [0.5, 0.3])
                for t in np.sort(rng.uniform(0, 3, rng.integers(2, 6))):
                    y = a + b * t + rng.normal(0, 0.5)
                    own = {"ID": subject, "SID": site, "CID": 10 + country, "TIME": float(t)}
                    made.append({**own, "DV": float(y)})
    return made


def group_effects(sums: Floats, groups: dict[str, Floats], settings: NestingSettings) -> list[Floats]:
    """Return the effects of sites and countries of each subject, from sums of all its effects."""
    site, country = groups["SID"], groups["CID"]
    mean = {s: sums[site == s].mean(0) for s in set(site)}
    above = {s: country[site == s][0] for s in mean}
    grand = {c: sums[country == c].mean(0) for c in set(country)}

    def average(values: dict[float, Floats], size: Floats) -> Floats:
        weights = [(size == k).sum() if settings.by_subjects else 1 for k in values]
        return np.average(list(values.values()), axis=0, weights=weights)

    if not settings.centred:
        return [np.array([mean[s] - grand[above[s]] for s in site]), np.array([grand[c] for c in country])]
    middle = {
        c: average({s: mean[s] for s in mean if above[s] == c}, np.where(country == c, site, np.nan))
        for c in grand
    }
    centre = average(grand, country)
    return [
        np.array([mean[s] - middle[above[s]] for s in site]),
        np.array([grand[c] - centre for c in country]),
    ]


def by_hand(data: list[Row], at: Estimate, settings: NestingSettings) -> Floats:
    """Return the contributions [id] by Bauer's formulas; FOCE is exact for a line."""
    ids = sorted({row["ID"] for row in data})
    own = [[row for row in data if row["ID"] == i] for i in ids]
    groups = {name: np.array([rows[0][name] for rows in own]) for name in ("SID", "CID")}
    blocks = [at.omega[k : k + 2, k : k + 2] for k in (0, 2, 4)]
    total = sum(blocks)
    free, sums, parts = [], [], []
    for records in own:
        z = np.array([[1.0, row["TIME"]] for row in records])
        r = np.array([row["DV"] for row in records]) - z @ at.theta
        noise = at.sigma[0, 0] * np.eye(len(r))
        v = z @ total @ z.T + noise
        free.append(np.linalg.slogdet(v)[1] + r @ np.linalg.solve(v, r))
        sums.append(total @ z.T @ np.linalg.solve(v, r))
        parts.append((z, r, z @ blocks[0] @ z.T + noise))
    effects = group_effects(np.array(sums), groups, settings)
    n, n_sites, n_countries = len(ids), len(set(groups["SID"])), len(set(groups["CID"]))
    losses = (n_sites, n_countries, settings.top_loss) if settings.centred else (0, 0, settings.top_loss)
    given = []
    for i, (z, r, v) in enumerate(parts):
        left = r - z @ (effects[0][i] + effects[1][i])
        value = np.linalg.slogdet(v)[1] + left @ np.linalg.solve(v, left)
        value -= losses[0] / n * np.linalg.slogdet(blocks[0])[1]
        for k, (name, count) in enumerate((("SID", n_sites), ("CID", n_countries))):
            weight = 1.0 / (groups[name] == groups[name][i]).sum()
            if settings.by_subjects:
                weight = count / n
            e = effects[k][i]
            value += weight * e @ np.linalg.solve(blocks[k + 1], e)
            value += (count - losses[k + 1]) / count * weight * np.linalg.slogdet(blocks[k + 1])[1]
        given.append(value)
    if not settings.averaged:
        return np.array(given)
    both: Floats = 0.5 * (np.array(free) + np.array(given))
    return both


SETTINGS = [
    NestingSettings(),
    NestingSettings(top_loss=0, by_subjects=True),
    NestingSettings(centred=False, top_loss=0),
    NestingSettings(averaged=False),
]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("method", ["foce", "focei", "laplacei"])
def test_two_levels_of_a_line_in_closed_form(tmp_path: Path, settings: NestingSettings, method: str) -> None:
    data_rows = rows()
    model, data = read(tmp_path, STREAM.format(levels=TWO), data_rows)
    population = Population(model, data).with_nesting(settings)
    at = initial(model)
    found = objective_of(population, method).value(at)  # type: ignore[arg-type]
    np.testing.assert_allclose(found.by_subject, by_hand(data_rows, at, settings), rtol=1e-9, atol=1e-9)
    assert found.ofv == pytest.approx(found.by_subject.sum()) and found.converged.all()


@pytest.mark.parametrize("settings", SETTINGS)
def test_gradients_are_those_of_the_closed_form(tmp_path: Path, settings: NestingSettings) -> None:
    data_rows = rows()
    model, data = read(tmp_path, STREAM.format(levels=TWO), data_rows)
    objective = objective_of(Population(model, data).with_nesting(settings), "focei")
    at = initial(model)
    made = objective.gradient(objective.value(at))

    def moved(theta: Floats, omega: Floats, sigma: Floats) -> float:
        there = Estimate(at.theta + theta, at.omega + omega, at.sigma + sigma)
        return float(by_hand(data_rows, there, settings).sum())

    zero = (np.zeros(2), np.zeros((6, 6)), np.zeros((1, 1)))
    step = 1e-5  # of central differences, whose error is about the square of it
    for which, gradient in enumerate((made.theta.sum(0), made.omega.sum(0), made.sigma.sum(0))):
        for place in np.ndindex(*gradient.shape):
            if which == 1 and at.omega[place] == 0:
                continue
            change = [part.copy() for part in zero]
            change[which][place] = change[which][place[::-1]] = step
            slope = (moved(*change) - moved(*(-part for part in change))) / (2 * step)
            own = gradient[place] if place == place[::-1] else gradient[place] + gradient[place[::-1]]
            assert own == pytest.approx(slope, rel=2e-5, abs=2e-5)


def test_its_of_rich_balanced_data_ends_at_the_analysis_of_variance(tmp_path: Path) -> None:
    """With effects that the data determine, omegas are mean squares within and among groups."""
    rng = np.random.default_rng(3)
    effects = rng.normal(0, 0.5, (6, 1)) + rng.normal(0, 0.3, (6, 5))
    noise = [0.02, -0.02]
    data_rows: list[Row] = [
        {"ID": 1 + 5 * g + i, "SID": g, "TIME": t, "DV": 3.0 + effects[g, i] + noise[t % 2]}
        for g in range(6)
        for i in range(5)
        for t in range(20)
    ]
    stream = """$PROBLEM means
$INPUT {columns}
$DATA {file} IGNORE=@
$PRED
MU_1 = THETA(1)
A = MU_1 + ETA(1) + ETA(2)
Y = A + EPS(1)
$THETA 2
$OMEGA 0.2 0.2
$SIGMA 0.01
$LEVEL SID=(2[1])
$ESTIMATION METHOD=ITS
"""
    model, data = read(tmp_path, stream, data_rows)
    settings = TwoStageSettings(iterations=200, test=TrendTest("all", 1, 10), significant_digits=6)
    step = estimate_its(Population(model, data), initial(model), settings)
    assert step.status.code == "converged"
    within = effects - effects.mean(1, keepdims=True)
    # the residual error, 4e-4 of variance over 20 samples, hides 2e-5 of the variance of an effect: 3e-4
    assert step.estimate.theta[0] == pytest.approx(3.0 + effects.mean(), abs=1e-5)
    assert step.estimate.omega[0, 0] == pytest.approx((within**2).sum() / 24, rel=5e-4)
    assert step.estimate.omega[1, 1] == pytest.approx(np.var(effects.mean(1), ddof=1), rel=5e-4)
    assert step.estimate.sigma[0, 0] == pytest.approx(4e-4, rel=0.06)


def published(step: int) -> tuple[Population, Estimate, Floats]:
    """Return the run of the corpus at NONMEM's estimates of a step (from 0), and its .phi rows."""
    run = load("nonmem", "bauer-superid30-level-foce")
    model = run.model()
    lines = [line.split() for line in (run.folder / "superid30_1_foce.ext").read_text().splitlines()]
    names = [line for line in lines if line and line[0] == "ITERATION"][step]
    values = [line for line in lines if line and line[0] == "-1000000000"][step]
    known = dict(zip(names, map(float, values), strict=True))
    n = model.n_etas
    omega = [[known[f"OMEGA({max(i, j)},{min(i, j)})"] for j in range(1, n + 1)] for i in range(1, n + 1)]
    theta = [known[f"THETA{i + 1}"] for i in range(len(model.thetas))]
    at = Estimate(np.array(theta), np.array(omega), np.array([[known["SIGMA(1,1)"]]]))
    table = (run.folder / "superid30_1_foce.phi").read_text().split("TABLE NO.")[step + 1].splitlines()[2:]
    phi = np.array([[float(word) for word in line.split()] for line in table if line.strip()])
    return Population(model, run.data(model)).without_prior(), at, phi


@pytest.mark.parametrize(("step", "ofv"), [(0, 1772.05470849072), (1, 1771.98954396937)])
def test_nonmem_at_its_estimates(step: int, ofv: float) -> None:
    population, at, phi = published(step)
    found = objective_of(population, "focei").value(at)
    # estimates are printed to six digits; the objective is flat there
    assert found.ofv == pytest.approx(ofv, abs=2e-5)
    np.testing.assert_allclose(found.by_subject, phi[:, -1], atol=2e-3)
    modes = phi[:, 2:12].copy()
    if step == 0:
        modes[:, :2] -= at.theta[:2]
    np.testing.assert_allclose(found.modes[0], modes, atol=1e-5)


@pytest.mark.slow
def test_nonmem_ends_the_two_stage_method_at_the_same_point() -> None:
    population, at, _ = published(0)
    settings = TwoStageSettings(iterations=60, test=TrendTest("all", 1, 10), significant_digits=3)
    step = estimate_its(population, initial(population.model), settings)
    assert step.status.code == "converged"
    np.testing.assert_allclose(step.estimate.theta, at.theta, rtol=1e-5)
    np.testing.assert_allclose(step.estimate.omega, at.omega, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(step.estimate.sigma, at.sigma, rtol=1e-4)


def test_a_fit_counts_groups(tmp_path: Path) -> None:
    stream = STREAM.format(levels=TWO).replace("METHOD=1", "METHOD=1\n$COVARIANCE MATRIX=R")
    model, data = read(tmp_path, stream, rows(6))
    nesting = NestingSettings()
    step = PlannedStep(1, "foce", ConditionalSettings(), covariance=CovarianceSettings("r"), nesting=nesting)
    (fit,) = run_steps(model, data, [step])
    assert fit.status.code == "converged" and fit.shrinkage.count is not None
    subjects, sites, countries = data.n_subjects, 15, 6
    np.testing.assert_array_equal(fit.shrinkage.count, np.repeat([subjects, sites, countries], 2))
    assert fit.shrinkage.effective is not None
    lost = np.repeat([sites, countries, 1], 2)
    np.testing.assert_array_equal(fit.shrinkage.effective, fit.shrinkage.count - lost)
    np.testing.assert_allclose(fit.shrinkage.etabar[4:], 0.0, atol=1e-10)
    given = Population(model, data).given_shared_effects()
    assert given.nesting is not None and not given.nesting.settings.averaged


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ("SID=(3[1],3[2])", "do not stand each above"),
        ("SID=(3[1],4[2]) CID=(5[3])", "do not stand each above"),
        ("SID=(3[1])", "several levels"),
        ("CID=(3[1],4[2]) SID=(5[3],6[4])", "belongs to several values of SID"),
        ("TIME=(3[1],4[2])", "TIME changes within subject 1"),
    ],
)
def test_what_is_no_level(tmp_path: Path, levels: str, message: str) -> None:
    model, data = read(tmp_path, STREAM.format(levels=levels), rows())
    with pytest.raises(ModelFailure, match=message):
        Nesting(model, data)


def test_methods_without_levels(tmp_path: Path) -> None:
    model, data = read(tmp_path, STREAM.format(levels=TWO), rows())
    with pytest.raises(ModelFailure, match="SAEM is not available with random effects that groups"):
        run_steps(model, data, [PlannedStep(1, "saem", ConditionalSettings())])
    step = PlannedStep(1, "foce", ConditionalSettings(), covariance=CovarianceSettings("s"))
    with pytest.raises(ModelFailure, match="needs MATRIX=R"):
        run_steps(model, data, [step])
