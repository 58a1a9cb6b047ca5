"""The estimated natural parameters, and the scaled ones in which searches are reported."""

from __future__ import annotations

import numpy as np
from support.models import oral_model

from elbomix.engine.estimate import Estimate, Gradient, initial, names
from elbomix.engine.ir.model import Model
from elbomix.engine.ir.parameter import CovarianceBlock, ThetaParameter
from elbomix.engine.parameterisation.natural import NaturalParameters
from elbomix.engine.parameterisation.scaled import ScaledParameters
from elbomix.engine.parameterisation.unconstrained import Parameterisation


def repeated() -> Model:
    omega = (
        CovarianceBlock(1, 2, (0.3, 0.1, 0.2)),
        CovarianceBlock(3, 2, (0.3, 0.1, 0.2), same_as=0),
        CovarianceBlock(5, 1, (0.05,), fixed=True),
    )
    return oral_model().replace(omega=omega)


def test_each_parameter_stands_once() -> None:
    natural = NaturalParameters(repeated())
    expected = ("THETA1", "THETA2", "THETA3", "SIGMA(1,1)", "OMEGA(1,1)", "OMEGA(2,1)", "OMEGA(2,2)")
    assert natural.names == expected


def test_moves_and_gradients_agree() -> None:
    """A linear function of all matrix elements moves by gradient times change, repeats included."""
    model = repeated()
    natural = NaturalParameters(model)
    rng = np.random.default_rng(1)
    root = rng.normal(size=(5, 5))
    weights = Gradient(
        rng.normal(size=(2, 3)), np.stack([root + root.T, root @ root.T]), rng.normal(size=(2, 1, 1))
    )
    change = rng.normal(size=natural.size)
    before, after = initial(model), natural.moved(initial(model), change)
    moved = (
        (weights.theta * (after.theta - before.theta)).sum(-1)
        + (weights.omega * (after.omega - before.omega)).sum((-1, -2))
        + (weights.sigma * (after.sigma - before.sigma)).sum((-1, -2))
    )
    np.testing.assert_allclose(natural.gradient(weights) @ change, moved, rtol=1e-12)
    np.testing.assert_allclose(natural.values(after) - natural.values(before), change, rtol=1e-12)
    np.testing.assert_array_equal(after.omega[:2, :2], after.omega[2:4, 2:4])
    assert after.omega[4, 4] == before.omega[4, 4]


def test_covariance_of_a_repeated_block() -> None:
    model = repeated()
    natural = NaturalParameters(model)
    full = natural.expand(np.diag(np.arange(1.0, 8.0)))
    at = {name: k for k, name in enumerate(names(model))}
    assert full[at["OMEGA(3,3)"], at["OMEGA(3,3)"]] == full[at["OMEGA(1,1)"], at["OMEGA(1,1)"]] == 5.0
    assert full[at["OMEGA(3,3)"], at["OMEGA(1,1)"]] == 5.0  # the same parameter
    assert not full[at["OMEGA(5,5)"]].any()


def test_scaled_parameters_are_nonmems() -> None:
    """Iteration 5 of a NONMEM run (metrum-research-group/expo, model 106): NPARAMETR and PARAMETER rows.

    Printed to 5 digits, of which the proportional ones keep 1e-5 and the logarithms 1e-5 absolute.
    """
    thetas = tuple(ThetaParameter(f"THETA{k}", v) for k, v in enumerate((0.5, 3.5, 1.0), start=1))
    omega = (CovarianceBlock(1, 3, (0.2, 0.01, 0.2, 0.01, 0.01, 0.2)),)
    sigma = (CovarianceBlock(1, 1, (0.05,)),)
    model = oral_model().replace(thetas=thetas, omega=omega, sigma=sigma)
    parameterisation = Parameterisation(model)
    start = parameterisation.pack(initial(model))
    scaled = ScaledParameters(parameterisation, start)
    np.testing.assert_allclose(scaled.values(start), 0.1)
    a, b, c, d, e, f = 1.9931e-1, 1.0054e-2, 1.0051e-2, 1.9868e-1, 1.0047e-2, 2.0059e-1
    there = Estimate(
        np.array([4.8437e-1, 3.9275, 1.4539]),
        np.array([[a, b, c], [b, d, e], [c, e, f]]),
        np.array([[4.7938e-2]]),
    )
    printed = [9.6874e-2, 1.1221e-1, 1.4539e-1]  # thetas
    printed += [9.8280e-2, 1.0071e-1, 1.0069e-1, 9.6660e-2, 1.0075e-1, 1.0145e-1]  # omega, column by column
    printed += [7.8944e-2]
    np.testing.assert_allclose(scaled.values(parameterisation.pack(there)), printed, atol=1.5e-5)
    np.testing.assert_allclose(scaled.natural(there)[3:9], [a, b, c, d, e, f])


def test_scaled_gradient_is_that_of_the_scaled_values() -> None:
    model = repeated()
    parameterisation = Parameterisation(model)
    start = parameterisation.pack(initial(model))
    scaled = ScaledParameters(parameterisation, start)
    rng = np.random.default_rng(5)
    gradient, change = rng.normal(size=len(start)), rng.normal(size=len(start))
    moved = scaled.values(start + change) - scaled.values(start)
    np.testing.assert_allclose(scaled.gradient(gradient) @ moved, gradient @ change)
