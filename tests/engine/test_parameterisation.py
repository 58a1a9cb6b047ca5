"""The unconstrained vector: every estimate inside its bounds comes back, whatever its size."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.models import oral_model

from elbomix.engine.estimate import Estimate, Gradient, initial, names
from elbomix.engine.ir.model import Model
from elbomix.engine.ir.parameter import CovarianceBlock, ThetaParameter
from elbomix.engine.parameterisation.tensor import TensorParameterisation, theta_from_free
from elbomix.engine.parameterisation.unconstrained import Parameterisation, ThetaTransform

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
    free = transform.to_free(value)
    assert transform.natural(free)[0] == pytest.approx(value, rel=1e-9, abs=0)
    back = theta_from_free(transform, torch.tensor(free, dtype=torch.float64))
    assert float(back) == pytest.approx(value, rel=1e-9, abs=0)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.sampled_from([(-INF, INF), (0.0, INF), (-INF, 5.0), (-1.0, 3.0)]),
    st.floats(-500, 500, allow_nan=False),
)
def test_free_values_stay_inside_bounds(bounds: tuple[float, float], free: float) -> None:
    value = ThetaTransform(*bounds).natural(free)[0]
    assert bounds[0] <= value <= bounds[1]


@pytest.mark.parametrize("value", [0.0, -4.0, 1.0, 7.0])
def test_values_on_a_bound_or_beyond_start_inside(value: float) -> None:
    transform = ThetaTransform(0.0, 1.0)
    inside = transform.natural(transform.to_free(value))[0]
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
    back = parameterisation.natural(parameterisation.pack(given_))
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
    free = parameterisation.pack(initial(model))
    free[3] = math.log(0.5)  # of an SD
    flat = parameterisation.natural(free).flatten()
    np.testing.assert_allclose(flat[:3], initial(model).theta)
    np.testing.assert_allclose(flat[4:], [0.4, 0, 0.25, 0, 0, 0.25])


def _blocks_with_repeats() -> Model:
    omega = (
        CovarianceBlock(1, 2, (0.3, 0.1, 0.2)),
        CovarianceBlock(3, 2, (0.3, 0.1, 0.2), same_as=0),
        CovarianceBlock(5, 1, (0.05,)),
        CovarianceBlock(6, 1, (0.4,), fixed=True),
    )
    thetas = (
        ThetaParameter("THETA1", 1.5, 0.0),
        ThetaParameter("THETA2", -2.0),
        ThetaParameter("THETA3", 0.3, 0.0, 1.0),
        ThetaParameter("THETA4", -4.0, -INF, 3.0),
        ThetaParameter("THETA5", 7.0, fixed=True),
    )
    return oral_model().replace(thetas=thetas, omega=omega)


def _weighted(estimate: Estimate, weights: Gradient) -> float:
    """A function of all natural parameters whose gradient is ``weights`` everywhere."""
    linear = (weights.theta * estimate.theta).sum() + (weights.omega * estimate.omega).sum()
    return float(linear + (weights.sigma * estimate.sigma).sum())


def test_chain_rule_against_differences() -> None:
    """Central differences of a linear function of the natural parameters; SAME blocks add up."""
    model = _blocks_with_repeats()
    parameterisation = Parameterisation(model)
    free = parameterisation.pack(initial(model)) + np.linspace(-0.2, 0.3, parameterisation.size)
    rng = np.random.default_rng(3)
    root = rng.normal(size=(model.n_etas, model.n_etas))
    weights = Gradient(rng.normal(size=5), root + root.T, rng.normal(size=(1, 1)))
    exact = parameterisation.free_gradient(free, weights)
    step = 1e-6
    for k in range(parameterisation.size):
        up, down = free.copy(), free.copy()
        up[k] += step
        down[k] -= step
        ends = [_weighted(parameterisation.natural(point), weights) for point in (up, down)]
        assert exact[k] == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-7, abs=1e-8)


def test_jacobian_against_torch() -> None:
    model = _blocks_with_repeats()
    parameterisation = TensorParameterisation(model)
    free = parameterisation.pack(initial(model))

    def flat(vector: torch.Tensor) -> torch.Tensor:
        theta, omega, sigma = parameterisation.unpack(vector)
        lower = [full[tuple(np.tril_indices(len(full)))] for full in (sigma, omega)]
        return torch.cat([theta, *lower])

    expected = torch.autograd.functional.jacobian(flat, torch.from_numpy(free)).numpy()  # type: ignore[no-untyped-call]
    assert parameterisation.jacobian(free).shape == (len(names(model)), parameterisation.size)
    np.testing.assert_allclose(parameterisation.jacobian(free), expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(parameterisation.natural(free).flatten(), flat(torch.from_numpy(free)).numpy())
