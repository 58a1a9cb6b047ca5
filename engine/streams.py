"""Named streams of random numbers: every use names its own, so that adding one never shifts another."""

from __future__ import annotations

import hashlib

import numpy as np


def stream_seed(seed: int, name: str) -> int:
    """Return the seed of the stream called ``name`` under the run's ``seed``."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:7], "big")


def stream(seed: int, name: str) -> np.random.Generator:
    """Return a generator of the stream called ``name`` under the run's ``seed``."""
    return np.random.default_rng(stream_seed(seed, name))
