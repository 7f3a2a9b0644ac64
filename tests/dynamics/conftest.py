"""MuJoCo draws off screen: it reads this once, when the first test imports it."""

import os
import sys
from collections.abc import Iterator

import jaxtyping
import pytest
import torch

if sys.platform.startswith("linux"):
    os.environ.setdefault("MUJOCO_GL", "egl")


@pytest.fixture
def quick() -> Iterator[None]:
    """Small operators gain nothing from threads; users see our messages, not those of the shape checks."""
    before, checked = torch.get_num_threads(), jaxtyping.config.jaxtyping_disable
    torch.set_num_threads(1)
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    torch.set_num_threads(before)
    jaxtyping.config.update("jaxtyping_disable", checked)
