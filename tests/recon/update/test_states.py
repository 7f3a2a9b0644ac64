"""States of a drawer in a world's history: what turned, scaled or carried it is none."""

from dataclasses import replace
from pathlib import Path

import torch

from gaussworld.edit import Place, SetScale, SetUp
from gaussworld.pose import pose7_from_pose
from gaussworld.session import Session
from gaussworld.world import World
from recon.update.states import poses_seen

TABLE, CRATE, BALL = 1, 2, 3


def _place(world: World, number: int, shift: tuple[float, float, float]) -> Place:
    pose = world.find(number).world_from_object.clone()
    pose[:3, 3] += torch.tensor(shift)
    x, y, z, a, b, c, d = pose7_from_pose(pose).tolist()
    return Place(number, (x, y, z, a, b, c, d))


def _stored(world: World, path: Path) -> Path:
    """A world without a scale in which the ball is a drawer of the crate."""
    world.with_object(replace(world.find(BALL), parent=CRATE)).save(path)
    return path


def test_a_drawer_that_never_moved_has_one_state(place, tmp_path):
    """The world was turned and scaled, and the cupboard was carried elsewhere."""
    path = _stored(replace(place.world, metres_per_unit=None), tmp_path / "a.world")
    with Session(path) as session:
        session.do(_place(session.world, CRATE, (0.1, 0.0, 0.0)))
        session.do(SetUp((0.0, 1.0, 0.0)))
        session.do(SetScale((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), 3.0))
        session.do(_place(session.world, CRATE, (0.0, 0.4, 0.1)))
    (pose,) = poses_seen(path, BALL)
    # 0.31 m and 0.04 m apart then, three times as far now.
    assert torch.allclose(pose[:3, 3].norm(), 3 * torch.tensor([0.31, 0.04]).norm(), atol=1e-4)
    assert len(poses_seen(path, TABLE)) == 1


def test_states_from_before_a_new_frame_count_in_the_new_one(place, tmp_path):
    """Opened by 0.1 units, then scaled by 3: two states, 0.3 m apart; without a parent just so."""
    path = _stored(replace(place.world, metres_per_unit=None), tmp_path / "a.world")
    with Session(path) as session:
        session.do(_place(session.world, BALL, (0.1, 0.0, 0.0)))
        session.do(SetUp((0.0, 1.0, 0.0)))
        session.do(SetScale((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), 3.0))
    for number, count in ((BALL, 2), (CRATE, 1)):
        assert len(poses_seen(path, number)) == count
    closed, opened = poses_seen(path, BALL)
    assert torch.allclose((opened - closed)[:3, 3].norm(), torch.tensor(0.3), atol=1e-4)
