"""The engine's array shapes are checked while tests run."""

from __future__ import annotations

import jaxtyping
import pytest
import torch

from elbomix.engine.objective.joint import log_normal_density


def test_a_wrong_shape_is_caught() -> None:
    with pytest.raises(jaxtyping.TypeCheckError):
        log_normal_density(torch.zeros(3), torch.eye(3))
