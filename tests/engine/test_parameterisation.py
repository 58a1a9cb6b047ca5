"""The unconstrained vector: every estimate inside its bounds comes back, whatever its size."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.models import oral_model

from elbomix.engine.estimate import Estimate, initial
from elbomix.engine.ir.parameter import CovarianceBlock, ThetaParameter
from elbomix.engine.parameterisation import Parameterisation, ThetaTransform

INF = math.inf


@pytest.mark.parametrize(
    ("lower", "upper", "value"),
    [
        (-INF, INF, -3.2),
        (0.0, INF, 1e-9),
        (0.0, INF, 4e7),
        (2.0, INF, 2.001),
        (-INF, 0.0, -5.0),
        (0.0, 1.0, 0.3),
        (0.0, 1e4, 1e-3),  # a wide upper bound must not keep a small value away
        (0.0, 1.0, 1.0 - 1e-9),
        (-2.0, 2.0, 0.0),
        (1e-12, 1e-10, 3e-11),
    ],
)
def test_values_come_back(lower: float, upper: float, value: float) -> None:
    transform = ThetaTransform(lower, upper)
    back = transform.from_free(torch.tensor(transform.to_free(value), dtype=torch.float64))
    assert float(back) == pytest.approx(value, rel=1e-9, abs=0)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.sampled_from([(-INF, INF), (0.0, INF), (-INF, 5.0), (-1.0, 3.0)]),
    st.floats(-500, 500, allow_nan=False),
)
def test_free_values_stay_inside_bounds(bounds: tuple[float, float], free: float) -> None:
    value = float(ThetaTransform(*bounds).from_free(torch.tensor(free, dtype=torch.float64)))
    assert bounds[0] <= value <= bounds[1]


@pytest.mark.parametrize("value", [0.0, -4.0, 1.0, 7.0])
def test_values_on_a_bound_or_beyond_start_inside(value: float) -> None:
    transform = ThetaTransform(0.0, 1.0)
    inside = float(transform.from_free(torch.tensor(transform.to_free(value), dtype=torch.float64)))
    assert 0.0 < inside < 1.0
    assert min(inside, 1.0 - inside) < 1e-3 or 0 < value < 1


def test_bounds_of_a_million_are_none() -> None:
    theta = ThetaParameter("THETA1", 0.5, -1e6, 1e6)
    model = oral_model().replace(thetas=(theta, *oral_model().thetas[1:]))
    assert Parameterisation(model).pack(initial(model))[0] == 0.5


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1.0, 1e6])
def test_covariances_of_every_size_come_back(scale: float) -> None:
    rng = np.random.default_rng(1)
    root = rng.normal(size=(3, 3))
    omega = scale * (root @ root.T + 0.1 * np.eye(3))
    sigma = scale**2 * np.array([[0.7]])
    model = oral_model().replace(omega=(CovarianceBlock(1, 3, (1.0, 0.0, 1.0, 0.0, 0.0, 1.0)),))
    parameterisation = Parameterisation(model)
    given_ = Estimate(initial(model).theta, omega, sigma)
    back = parameterisation.estimate(parameterisation.pack(given_))
    np.testing.assert_allclose(back.omega, omega, rtol=1e-9)
    np.testing.assert_allclose(back.sigma, sigma, rtol=1e-9)
    np.testing.assert_allclose(back.theta, given_.theta, rtol=1e-12)


def test_fixed_same_and_zero_elements() -> None:
    """SAME repeats the free block, FIX stays, elements outside blocks are zero."""
    omega = (
        CovarianceBlock(1, 1, (0.4,), fixed=True),
        CovarianceBlock(2, 1, (0.2,)),
        CovarianceBlock(3, 1, (0.2,), same_as=1),
    )
    model = oral_model().replace(omega=omega)
    parameterisation = Parameterisation(model)
    assert parameterisation.size == 3 + 1 + 1
    free = torch.from_numpy(parameterisation.pack(initial(model))).clone()
    free[3] = math.log(0.5)  # of an SD
    flat = parameterisation.flat(free).numpy()
    np.testing.assert_allclose(flat[:3], initial(model).theta)
    np.testing.assert_allclose(flat[4:], [0.4, 0, 0.25, 0, 0, 0.25])
