"""A reconstruction ends with a world; a later one never covers what the user did to it."""

from pathlib import Path

import torch

import gaussworld as gw
from gaussworld import edit
from gaussworld.session import Session
from gaussworld.store import Store
from recon.keep import keep_world


def world_of(value: float) -> gw.World:
    arrays = (torch.full((10, *tail), value) for tail in ((3,), (4,), (3,), (), (1, 3)))
    return gw.World({0: gw.WorldObject(0, "background", gw.Gaussians(*arrays))})


def value_of(world: gw.World) -> float:
    return float(world.objects[0].gaussians.means[0, 0])


def test_runs_follow_each_other(tmp_path: Path):
    """Without edits the world stands at the newest run, and undo leads to the one before."""
    path = tmp_path / "scene.world"
    assert keep_world(path, world_of(1.0), "desk") is None
    assert keep_world(path, world_of(2.0), "desk") is None
    assert value_of(gw.World.open(path)) == 2
    with Session(path) as session:
        assert [revision.op for revision in session.history()] == ["reconstruct", "reconstruct"]
        session.undo()
        assert value_of(session.world) == 1


def test_edits_are_not_covered(tmp_path: Path):
    """After an edit, or an undo, a new run is a branch of its own, which the sentence names."""
    path = tmp_path / "scene.world"
    keep_world(path, world_of(1.0), "desk")
    with Session(path) as session:
        session.do(edit.Rename(0, "desk"))
    said = keep_world(path, world_of(2.0), "desk")
    assert said is not None and "the new Gaussians are revision 3, on branch recon-2;" in said
    said = keep_world(path, world_of(3.0), "desk")
    assert said is not None and "revision 4, on branch recon-3;" in said
    assert gw.World.open(path).objects[0].name == "desk"
    assert value_of(gw.World.open(path, "recon-2")) == 2 and value_of(gw.World.open(path, "recon-3")) == 3
    with Store(path) as store:
        assert {ref.name: ref.revision for ref in store.refs()} == {"main": 2, "recon-2": 3, "recon-3": 4}
