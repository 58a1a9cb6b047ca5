"""Random numbers: generators made from a seed and a name, and quasi-random normal and t points.

Every use names its stream, so that adding a phase never shifts the digits of another.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .streams import stream_seed


def generator(seed: int, name: str) -> torch.Generator:
    """Return a CPU generator for the stream called ``name``."""
    return torch.Generator().manual_seed(stream_seed(seed, name))


def uniform_points(draws: int, subjects: int, dimensions: int, seed: int, name: str) -> Tensor:
    """Return randomised Sobol points, ``"draw id dim"``, in the open unit cube.

    One scrambled net, rotated (Cranley and Patterson 1976) independently for each subject, so that
    the errors of different subjects are independent while each subject's points stay even.
    """
    net = torch.quasirandom.SobolEngine(  # type: ignore[no-untyped-call]
        dimensions, scramble=True, seed=stream_seed(seed, name) % 2**31
    )
    base: Tensor = net.draw(draws, dtype=torch.float64)
    shift = torch.rand(subjects, dimensions, dtype=torch.float64, generator=generator(seed, name + "/shift"))
    points = torch.remainder(base[:, None, :] + shift[None], 1.0)
    return points.clamp(1e-12, 1.0 - 1e-12)


def normal_points(draws: int, subjects: int, dimensions: int, seed: int, name: str) -> Tensor:
    """Return quasi-random standard normal points, ``"draw id dim"``."""
    points: Tensor = torch.special.ndtri(uniform_points(draws, subjects, dimensions, seed, name))
    return points


def t_points(
    draws: int, subjects: int, dimensions: int, df: int | None, seed: int, name: str
) -> tuple[Tensor, Tensor]:
    """Return quasi-random multivariate t points and their log densities.

    Points are ``"draw id dim"`` with identity scale and ``df`` degrees of freedom (even; None: normal),
    log densities ``"draw id"``.
    """
    if df is None:
        points = normal_points(draws, subjects, dimensions, seed, name)
        log_density = -0.5 * (points.square().sum(-1) + dimensions * math.log(2 * math.pi))
        return points, log_density
    uniforms = uniform_points(draws, subjects, dimensions + 1, seed, name)
    normals = torch.special.ndtri(uniforms[..., :-1])
    mixing = chi_square_quantile(uniforms[..., -1], df) / df
    points = normals / mixing.sqrt()[..., None]
    half = 0.5 * (df + dimensions)
    constant = math.lgamma(half) - math.lgamma(0.5 * df) - 0.5 * dimensions * math.log(df * math.pi)
    return points, constant - half * torch.log1p(points.square().sum(-1) / df)


def chi_square_quantile(probability: Tensor, df: int) -> Tensor:
    """Return the quantiles of the chi-square distribution with an even number of degrees of freedom.

    Its distribution function is then 1 - exp(-x/2) sum_{k < df/2} (x/2)^k / k!; solved by bisection on log x.
    """
    assert df % 2 == 0, "the closed form needs even degrees of freedom"
    low = torch.full_like(probability, -30.0)
    high = torch.full_like(probability, math.log(df + 40.0 * math.sqrt(2.0 * df) + 80.0))
    for _ in range(50):
        middle = 0.5 * (low + high)
        half = 0.5 * middle.exp()
        term = torch.exp(-half)
        above = term.clone()
        for k in range(1, df // 2):
            term = term * half / k
            above += term
        below = 1.0 - above < probability
        low = torch.where(below, middle, low)
        high = torch.where(below, high, middle)
    return (0.5 * (low + high)).exp()
