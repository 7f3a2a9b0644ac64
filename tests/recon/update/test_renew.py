"""Fitting anew: what is locked stays bit for bit, and an object that lost a part has no shape any more."""

from dataclasses import replace

import pytest
import torch

from gaussworld.gaussians import DELETED, LOCKED
from gaussworld.log import drain
from gaussworld.render import render
from gaussworld.shape import Mesh, Shape
from gaussworld.world import World
from gaussworld.world_object import WorldObject
from recon.frames import View
from recon.update.exposure_match import Exposure
from recon.update.relocalise import Shot
from recon.update.renew import Renewal, renewed

TABLE, CRATE, BALL = 1, 2, 3
TRIANGLE = Shape(Mesh(torch.eye(3), torch.tensor([[0, 1, 2]])))


def _shots(place, truth: World) -> list[Shot]:
    """Pictures of what has become of the world."""
    exposure = Exposure(torch.ones(3), torch.zeros(3))
    pictures = [render(truth.shown(), camera).rgb.clamp(0, 1) for camera in place.world.cameras]
    return [
        Shot(f"new {i}", View.of(camera, picture), exposure)
        for i, (camera, picture) in enumerate(zip(place.world.cameras, pictures))
    ]


def _renewed(world: World, shots: list[Shot]) -> Renewal:
    known = [torch.ones(shot.camera.height, shot.camera.width, dtype=torch.bool) for shot in shots]
    return drain(renewed(world, shots, known, 10, 0)).result


@pytest.fixture(scope="module")
def shots(place) -> list[Shot]:
    """The ball is gone."""
    with torch.no_grad():
        return _shots(place, place.world.without_object(BALL))


def _with(world: World, **changes) -> World:
    """Both changed, and the ball black: it differs from all that is behind it."""
    ball = world.find(BALL)
    black = replace(ball.gaussians, sh=torch.full_like(ball.gaussians.sh, -1.7))
    world = world.with_object(replace(ball, gaussians=black))
    for number in (TABLE, BALL):
        world = world.with_object(replace(world.find(number), **changes))
    return world


def _erased(item: WorldObject) -> int:
    return int(((item.gaussians.flags & DELETED) != 0).sum())


def test_what_is_gone_is_erased_and_has_no_shape(place, shots):
    """Nothing is locked: much of the ball goes, and its shape; the table lost nothing and keeps its own."""
    found = _renewed(_with(place.world, shape=TRIANGLE), shots)
    ball, table = found.world.find(BALL), found.world.find(TABLE)
    assert found.changed and _erased(ball) > 0.3 * len(place.world.find(BALL).gaussians)
    assert ball.shape is None and table.shape is TRIANGLE


def test_locked_objects_are_not_fitted_anew(place, shots):
    """They lose no Gaussian and gain none, although pictures show something else."""
    found = _renewed(_with(place.world, locked=True, shape=TRIANGLE), shots)
    for number in (TABLE, BALL):
        old, new = place.world.find(number).gaussians, found.world.find(number)
        assert len(new.gaussians) == len(old) and torch.equal(new.gaussians.flags, old.flags)
        assert new.shape is TRIANGLE and new.locked


def test_locked_gaussians_are_not_erased(place, shots):
    """Those of an object that is free otherwise."""
    black = _with(place.world)
    ball = black.find(BALL)
    flags = ball.gaussians.flags.clone()
    flags[::2] |= LOCKED
    world = black.with_object(replace(ball, gaussians=replace(ball.gaussians, flags=flags)))
    found = _renewed(world, shots)
    after = found.world.find(BALL).gaussians.flags[: len(flags)]
    assert torch.equal(after[::2], flags[::2])
    assert found.erased == _erased(found.world.find(BALL))
