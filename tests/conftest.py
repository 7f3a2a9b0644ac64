"""What all tests share: where the captures are, and hypothesis without deadlines."""

from pathlib import Path

import pytest
from hypothesis import settings

# Nothing of the project may be imported here: the shape checks hook into imports that come later.

ROOT = Path(__file__).resolve().parent.parent

# A slow machine is no failure; the same examples every time make failures repeatable.
settings.register_profile("gaussworld", deadline=None, derandomize=True)
settings.load_profile("gaussworld")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def captures() -> Path:
    """The folder of real captures beside the checkout; tests that need it are skipped without it."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real captures (../shared/data) are not here")
    return folder
