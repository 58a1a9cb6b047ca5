"""Random points have the distributions they claim, and streams do not disturb each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chi2, kstest, multivariate_t, norm, t

from elbomix.engine.randomness import (
    chi_square_quantile,
    generator,
    normal_points,
    t_points,
    uniform_points,
)
from elbomix.engine.streams import stream_seed

# Even points lie closer to the distribution than independent ones, so the false-alarm rate of a
# Kolmogorov-Smirnov test at this level is below it.
FALSE_ALARM = 1e-4


@pytest.mark.parametrize("df", [2, 4, 6, 8, 20, 30])
def test_chi_square_quantiles(df: int) -> None:
    p = np.concatenate([np.geomspace(1e-12, 0.5, 40), 1 - np.geomspace(1e-12, 0.5, 40)])
    found = chi_square_quantile(torch.from_numpy(p), df).numpy()
    # in the outermost tails the probability itself has but few digits left in 1 - p
    np.testing.assert_allclose(found, chi2.ppf(p, df), rtol=1e-3)
    inner = (p > 1e-8) & (p < 1 - 1e-6)
    np.testing.assert_allclose(found[inner], chi2.ppf(p[inner], df), rtol=1e-7)


@pytest.mark.parametrize("df", [4, 6, None])
@pytest.mark.parametrize("dimensions", [1, 2, 5])
def test_points_have_their_distribution(df: int | None, dimensions: int) -> None:
    points, log_density = t_points(4096, 3, dimensions, df, 7, "test")
    one = norm if df is None else t(df)
    for i in range(3):
        for k in range(dimensions):
            assert kstest(points[:, i, k].numpy(), one.cdf).pvalue > FALSE_ALARM
    direction = torch.ones(dimensions, dtype=torch.float64) / dimensions**0.5  # all directions are alike
    assert kstest((points[:, 0] @ direction).numpy(), one.cdf).pvalue > FALSE_ALARM
    if df is None:
        expected = norm.logpdf(points.numpy()).sum(-1)
    else:
        expected = multivariate_t(np.zeros(dimensions), np.eye(dimensions), df).logpdf(points.numpy())
    np.testing.assert_allclose(log_density.numpy(), expected.reshape(log_density.shape), rtol=1e-12)


def test_t_points_share_their_scale_over_dimensions() -> None:
    """Components of a multivariate t are uncorrelated but not independent: squares correlate."""
    points, _ = t_points(2**15, 1, 2, 6, 1, "dependence")
    squares = points[:, 0].square().numpy()
    # correlation of squares of a bivariate t with 6 degrees of freedom: (1/(df-4)) / (3/(df-4) + 1) ... = 1/4
    e2, e4, e22 = 6 / 4, 3 * 36 / (4 * 2), 36 / (4 * 2)
    expected = (e22 - e2**2) / (e4 - e2**2)
    assert np.corrcoef(squares.T)[0, 1] == pytest.approx(expected, abs=0.12)  # fourth moments converge slowly


def test_even_points_beat_independent_ones() -> None:
    """The mean of a smooth function: error of 1024 even points below a tenth of 1 / sqrt(1024)."""
    points = normal_points(1024, 20, 3, 5, "even")
    means = torch.exp(0.3 * points.sum(-1)).mean(0)
    truth = np.exp(0.5 * 3 * 0.09)
    sd = truth * np.sqrt(np.exp(3 * 0.09) - 1)
    error = float((means - truth).square().mean().sqrt())
    assert error < 0.1 * sd / np.sqrt(1024) * 3


def test_points_of_two_subjects_are_unrelated() -> None:
    points = uniform_points(4096, 30, 1, 3, "subjects")[:, :, 0].numpy()
    assert (points > 0).all() and (points < 1).all()
    means = normal_points(256, 200, 1, 3, "means").mean(0)[:, 0].numpy()
    # the errors of the subjects' means have no common part: their mean is as small as their scatter says
    assert abs(means.mean()) < 5 * means.std(ddof=1) / np.sqrt(200)


def test_streams_are_reproducible_and_apart() -> None:
    assert stream_seed(1, "a") == stream_seed(1, "a")
    seeds = {stream_seed(s, n) for s in range(200) for n in ("a", "b", "refinement/1", "refinement/2")}
    assert len(seeds) == 800
    torch.testing.assert_close(
        torch.rand(5, generator=generator(4, "x")), torch.rand(5, generator=generator(4, "x"))
    )
    a, b = normal_points(64, 2, 2, 1, "a"), normal_points(64, 2, 2, 1, "b")
    assert not torch.equal(a, b)
    torch.testing.assert_close(a, normal_points(64, 2, 2, 1, "a"), rtol=0, atol=0)


def test_global_generators_are_left_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    t_points(64, 3, 2, 6, 1, "a")
    generator(1, "b")
    torch.testing.assert_close(torch.get_rng_state(), before)
