"""Borders of objects become clean, nothing else changes, and what is below them can be made whole."""

from dataclasses import replace

import pytest
import torch

from gaussworld.camera import Camera
from gaussworld.gaussians import DELETED, Gaussians
from gaussworld.log import drain
from gaussworld.render import render
from gaussworld.world import World
from gaussworld.world_object import ObjectKind, WorldObject
from recon.fill import PolishConfig, polish, tidy_cut
from recon.frames import View

RED, GREY = torch.tensor([0.9, 0.1, 0.1]), torch.tensor([0.5, 0.5, 0.5])


def board(step: float = 0.02) -> Gaussians:
    line = torch.arange(-0.3, 0.3, step)
    xy = torch.cartesian_prod(line, line)
    return flat(torch.cat([xy, torch.zeros(len(xy), 1)], dim=1), GREY, 0.6 * step)


def flat(means: torch.Tensor, rgb: torch.Tensor, scale: float) -> Gaussians:
    n = len(means)
    one = torch.tensor([[1.0, 0.0, 0.0, 0.0]]).expand(n, 4)
    scales = torch.tensor([scale, scale, scale / 4]).expand(n, 3)
    return Gaussians.from_activated(means, one, scales, torch.full((n,), 0.9), rgb.expand(n, 3))


def block(side: float = 0.1) -> Gaussians:
    line = torch.linspace(-side / 2, side / 2, 7)
    return flat(torch.cartesian_prod(line, line, line) + torch.tensor([0.0, 0.0, side / 2]), RED, 0.01)


@pytest.fixture
def world() -> World:
    """A red block on a grey board with nothing below it."""
    ground = board()
    ground = ground.select((ground.means[:, :2].abs() > 0.05).any(1))
    return World(
        {
            1: WorldObject(1, "board", ground),
            2: WorldObject(2, "block", block(), ObjectKind.RIGID),
        },
        up=(0.0, 0.0, 1.0),
    )


def looks(world: World) -> tuple[list[View], list[torch.Tensor]]:
    """Pictures of the world, and whose pixels they are."""
    eyes = [(0.5, 0.1, 0.4), (-0.3, 0.4, 0.4), (-0.2, -0.5, 0.4), (0.1, 0.0, 0.7)]
    cameras = [Camera.looking_at(eye, (0.0, 0.0, 0.03), 64, 48, 45.0) for eye in eyes]
    gaussians, ids = world.shown(), []
    marks = torch.nn.functional.one_hot(gaussians.object_ids.long(), 3).float()
    for camera in cameras:
        features = render(gaussians, camera, features=marks).features
        assert features is not None
        ids.append(torch.where(features.sum(-1) > 0.5, features.argmax(-1), 0))
    return [View.of(camera, render(gaussians, camera).rgb.clamp(0, 1)) for camera in cameras], ids


def test_gaussians_draw_back_behind_their_border(world: World):
    """A grey Gaussian of the block's, lying on the board, shrinks or fades; pictures stay as they were."""
    views, ids = looks(world)
    fringe = flat(torch.tensor([[0.12, 0.0, 0.004], [0.0, 0.13, 0.004]]), GREY, 0.03)
    item = world.objects[2]
    spoilt = world.with_object(replace(item, gaussians=joined(item.gaussians, fringe)))
    after = drain(polish(spoilt, views, ids, PolishConfig(steps=60, lambda_ids=1.0))).result

    def outside(some: World) -> float:
        alone = some.objects[2].posed()
        return sum(float(render(alone, v.camera).alpha[i != 2].sum()) for v, i in zip(views, ids))

    assert outside(after) < 0.6 * outside(spoilt)
    assert [len(o.gaussians) for o in after.objects.values()] == [
        len(o.gaussians) for o in spoilt.objects.values()
    ]


def joined(a: Gaussians, b: Gaussians) -> Gaussians:
    from gaussworld.gaussians import cat

    return cat([a, b])


def test_hidden_and_deleted_ones_stay_as_they_are(world: World):
    """Bit for bit, with poses, ids and flags."""
    views, ids = looks(world)
    pose = torch.eye(4)
    pose[0, 3] = 0.01
    item = world.objects[2]
    flags = item.gaussians.flags.clone()
    flags[:20] = DELETED
    world = world.with_object(
        replace(item, gaussians=replace(item.gaussians, flags=flags), world_from_object=pose)
    )
    after = drain(polish(world, views, ids, PolishConfig(steps=3))).result
    old, new = world.objects[2].gaussians, after.objects[2].gaussians
    assert torch.equal(old.means[:20], new.means[:20]) and torch.equal(old.flags, new.flags)
    assert not torch.equal(old.means[20:], new.means[20:])
    assert torch.allclose(old.means, new.means, atol=0.01)


def test_pictures_need_ids(world: World):
    """One for each."""
    views, ids = looks(world)
    with pytest.raises(ValueError, match="expected ids for every picture, got 1 for 4"):
        drain(polish(world, views, ids[:1]))
    with pytest.raises(ValueError, match="expected at least 1 step"):
        PolishConfig(steps=0)


def test_tidy_cut_fills_below_what_may_move(world: World):
    """The carrier is the nearest thing that does not move, or the one that is known."""
    for known in (None, (1,)):
        start = world.with_object(replace(world.objects[2], supported_by=known))
        tidy = tidy_cut(start)
        camera = Camera.looking_at((0.0, -0.01, 0.5), (0.0, 0.0, 0.0), 32, 32, 12.0)
        before, after = (render(w.objects[1].posed().shown(), camera).alpha.mean() for w in (start, tidy))
        assert float(before) < 0.5 and float(after) > 0.9


def test_what_hangs_in_the_air_stays_as_it_is(world: World):
    """Nothing carries it."""
    pose = torch.eye(4)
    pose[2, 3] = 2.0
    world = world.moved(2, pose)
    tidy = tidy_cut(world)
    assert tidy.objects[1] is world.objects[1] and tidy.objects[2] is world.objects[2]
