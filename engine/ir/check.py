"""Checks of a model that hold in every control language; findings are plain values."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .expression import Eps, Eta, Theta, nodes
from .model import Model
from .parameter import CovarianceBlock
from .span import Span


@dataclass(frozen=True)
class Finding:
    """Something wrong with a model: a message, its place, a hint."""

    message: str
    span: Span | None
    hint: str = ""


def check_covariance(blocks: tuple[CovarianceBlock, ...]) -> list[Finding]:
    """Return what keeps the blocks from being covariance matrices that can be estimated."""
    findings: list[Finding] = []
    for block in blocks:
        if block.same_as is not None:
            continue
        bad = [i for i in range(block.size) if not _diagonal_fits(block, i)]
        for i in bad:
            value = block.element(i, i)
            if value < 0:
                findings.append(Finding(f"a variance cannot be negative ({value:g})", _place(block, i)))
            elif value == 0:
                findings.append(
                    Finding(
                        "a variance of zero must be fixed",
                        _place(block, i),
                        "write 0 FIX, or a positive value",
                    )
                )
            else:
                findings.append(Finding("a variance must be finite", _place(block, i)))
        if not bad and block.size > 1 and not _is_positive(block):
            findings.append(
                Finding(
                    "this block is not positive definite",
                    block.span,
                    "make the covariances smaller: |cov(i,j)| < sqrt(var(i) var(j))",
                )
            )
    return findings


def unused_parameters(model: Model) -> list[Finding]:
    """Return the fixed effects and random effects that no statement uses."""
    thetas: set[int] = set()
    etas: set[int] = set()
    eps: set[int] = set()
    for node in nodes((model.individual, model.dynamics, model.observation, model.mixture)):
        if isinstance(node, Theta):
            thetas.add(node.index)
        elif isinstance(node, Eta):
            etas.add(node.index)
        elif isinstance(node, Eps):
            eps.add(node.index)
    findings = [
        Finding(f"{theta.name} is not used", theta.span)
        for i, theta in enumerate(model.thetas, start=1)
        if i not in thetas
    ]
    for word, blocks, used in (("ETA", model.omega, etas), ("EPS", model.sigma, eps)):
        for block in blocks:
            findings += [
                Finding(f"{word}{i} is not used", block.span)
                for i in range(block.first, block.first + block.size)
                if i not in used
            ]
    return findings


def _diagonal_fits(block: CovarianceBlock, i: int) -> bool:
    value = block.element(i, i)
    return math.isfinite(value) and (value > 0 or (value == 0 and block.fixed))


def _is_positive(block: CovarianceBlock) -> bool:
    full = np.array([[block.element(i, j) for j in range(block.size)] for i in range(block.size)])
    if not np.isfinite(full).all():
        return False
    scale = np.sqrt(np.where(np.diag(full) > 0, np.diag(full), 1.0))
    smallest = float(np.linalg.eigvalsh(full / np.outer(scale, scale))[0])
    return smallest >= -1e-12 if block.fixed else smallest > 1e-12


def _place(block: CovarianceBlock, i: int) -> Span | None:
    position = i * (i + 3) // 2
    found = block.value_spans[position] if position < len(block.value_spans) else None
    return found or block.span
