"""What tests of reconstruction share."""

import pytest

from gaussworld.log import Done


@pytest.fixture(autouse=True)
def things_found(monkeypatch):
    """The worlds in which runs looked for objects; that has tests of its own, and takes its time."""
    asked = []

    def with_things(world, path, masks=None):
        asked.append(path)
        yield Done(world)

    monkeypatch.setattr("recon.reconstruct.with_things", with_things)
    monkeypatch.setattr("recon.demo.with_things", with_things)
    return asked
