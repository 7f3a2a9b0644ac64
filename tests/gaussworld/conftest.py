"""Fixtures that the tests of the hub share; imports nothing of the project before the shape checks are on."""

import jaxtyping
import pytest


@pytest.fixture
def as_in_production():
    """Switch jaxtyping's checks off, so that the messages users see come to light."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
