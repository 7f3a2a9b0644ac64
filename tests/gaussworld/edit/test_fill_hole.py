"""Holes behind things are filled from around, their traces go, and undo brings all back."""

import dataclasses
import json
import math

import pytest
import torch

from gaussworld import edit
from gaussworld.camera import Camera
from gaussworld.edit.fill import FillHole
from gaussworld.edit.plain import to_plain
from gaussworld.errors import EditError
from gaussworld.gaussians import DELETED, Gaussians
from gaussworld.render import render
from gaussworld.world import World
from gaussworld.world_object import ObjectKind, WorldObject

STEP = 0.01


def stripes(x: torch.Tensor) -> torch.Tensor:
    """A brown board whose brightness goes up and down along x."""
    return torch.tensor([0.6, 0.4, 0.2]) * (1 + 0.3 * torch.sin(x * 2 * math.pi / 0.06))[:, None]


def sheet(bend: float = 0.0, side: float = 0.8) -> Gaussians:
    """A striped square of flat Gaussians about the origin, arched by `bend`."""
    line = torch.arange(-side / 2, side / 2, STEP)
    x, y = torch.cartesian_prod(line, line).unbind(1)
    means = torch.stack([x, y, -bend * (x * x + y * y)], dim=1)
    n = len(means)
    quats = torch.tensor([[1.0, 0.0, 0.0, 0.0]]).expand(n, 4)
    scales = torch.tensor([0.7 * STEP, 0.7 * STEP, 0.1 * STEP]).expand(n, 3)
    return Gaussians.from_activated(means, quats, scales, torch.full((n,), 0.95), stripes(x))


def cube(size: float = 0.12) -> Gaussians:
    """A red block that stands on z = 0, filled with Gaussians."""
    line = torch.linspace(-size / 2, size / 2, 13)
    means = torch.cartesian_prod(line, line, line) + torch.tensor([0.0, 0.0, size / 2])
    n = len(means)
    quats = torch.tensor([[1.0, 0.0, 0.0, 0.0]]).expand(n, 4)
    red = torch.tensor([[0.9, 0.1, 0.1]]).expand(n, 3)
    return Gaussians.from_activated(means, quats, torch.full((n, 3), 0.004), torch.full((n,), 0.95), red)


def scene(bend: float = 0.0, dark: float = 0.0) -> World:
    """A cube on a sheet that was never seen below it; the sheet around it may be darkened."""
    board = sheet(bend)
    x, y = board.means[:, 0], board.means[:, 1]
    shadow = (x > 0) & (x < 0.12) & (y.abs() < 0.06)
    sh = torch.where(shadow[:, None, None], board.sh - dark, board.sh)
    board = dataclasses.replace(board, sh=sh)
    board = board.select((x.abs() > 0.055) | (y.abs() > 0.055))
    table = WorldObject(1, "table", board)
    return World({1: table, 2: WorldObject(2, "cube", cube(), ObjectKind.RIGID)}, up=(0.0, 0.0, 1.0))


def seen(world: World, object_id: int = 1) -> torch.Tensor:
    """An object from above."""
    camera = Camera.looking_at((0.0, -0.3, 0.8), (0.0, 0.0, 0.0), 96, 96, 30.0)
    return render(world.find(object_id).posed().shown(), camera, background=(0.0, 0.0, 1.0)).rgb.clamp(0, 1)


def whole(bend: float = 0.0) -> World:
    return World({1: WorldObject(1, "table", sheet(bend))})


def error(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).square().mean().sqrt())


@pytest.mark.parametrize("bend", [0.0, 0.4])
def test_a_hole_under_a_thing_gets_the_surface_s_own_texture(bend: float):
    """On a plane and on an arch: the stripes go on below, and the hole is gone."""
    world = scene(bend)
    filled = edit.applied(FillHole(1, (2,), undersides=False), world)
    truth = seen(whole(bend))
    before, after = error(seen(world), truth), error(seen(filled), truth)
    assert before > 0.1 and after < 0.02
    assert filled.objects[2] is world.objects[2]


def test_traces_around_a_thing_go():
    """The shadow it casts is part of the hole; the surface elsewhere is left as it is."""
    world = scene(dark=0.8)
    filled = edit.applied(FillHole(1, (2,)), world)
    assert error(seen(filled), seen(whole())) < 0.03
    old, new = world.objects[1].gaussians, filled.objects[1].gaussians
    gone = (new.flags[: len(old)] & DELETED) != 0
    assert torch.equal(new.means[: len(old)], old.means) and torch.equal(new.sh[: len(old)], old.sh)
    assert bool((old.means[gone].norm(dim=1) < 0.2).all()) and 50 < int(gone.sum()) < 400


def test_what_nobody_saw_is_said_to_be_guessed():
    """New Gaussians have the surface's id and little confidence, in the frame of the surface."""
    world = edit.applied(edit.Rotate((1, 2), (0.9, 0.3, 0.2, 0.1), (0.0, 0.0, 0.0)), scene())
    count = len(world.objects[1].gaussians)
    table = edit.applied(FillHole(1, (2,)), world).objects[1]
    new = table.gaussians.select(slice(count, None))
    assert len(new) > 50 and set(new.object_ids.tolist()) == {1}
    assert int(new.id_confidences.max()) < 128 and not bool(new.flags.any())
    assert float(new.means[:, 2].abs().max()) < 0.004 and float(new.means[:, :2].abs().max()) < 0.11


def test_a_thing_gets_an_underside():
    """A shell without a bottom is closed in its own colour, and the lid moves with it."""
    world = scene()
    shell = world.objects[2].gaussians
    shell = shell.select((shell.means[:, :2].abs() > 0.055).any(1) | (shell.means[:, 2] > 0.115))
    world = world.with_object(dataclasses.replace(world.objects[2], gaussians=shell))
    filled = edit.applied(FillHole(1, (2,)), world)
    lid = filled.objects[2].gaussians.select(slice(len(shell), None))
    assert (
        float(lid.means[:, 2].abs().max()) < 0.02
        and float((lid.rgb - torch.tensor([0.9, 0.1, 0.1])).abs().max()) < 0.05
    )
    below = Camera.looking_at((0.0, 0.0, -0.5), (0.0, 0.01, 0.0), 48, 48, 8.0)
    tipped = [render(w.objects[2].gaussians, below).rgb[24, 24] for w in (world, filled)]
    assert float(tipped[1][0]) > 0.8


@pytest.mark.parametrize(
    "place",
    [edit.Box((0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0), (0.12, 0.12, 0.1)), edit.Sphere((0.0, 0.0, 0.0), 0.09)],
)
def test_a_hole_that_nothing_stands_on(place: edit.Box | edit.Sphere):
    """After the thing went, a volume says where the hole is."""
    world = edit.applied(edit.Delete((2,)), scene())
    filled = edit.applied(FillHole(1, inside=place), world)
    assert error(seen(filled), seen(whole())) < 0.03


def test_other_things_are_not_copied():
    """What lies under another object is no model for the surface."""
    world = scene()
    board = world.objects[1].gaussians
    spot = (board.means[:, :2] - torch.tensor([0.0, 0.2])).norm(dim=1) < 0.07
    sh = torch.where(spot[:, None, None], torch.full_like(board.sh, -2.0), board.sh)
    item = dataclasses.replace(world.objects[1], gaussians=dataclasses.replace(board, sh=sh))
    pose = torch.eye(4)
    pose[1, 3] = 0.2
    world = world.with_object(item).with_object(WorldObject(3, "other", cube(), ObjectKind.RIGID, pose))
    count = len(board)
    new = edit.applied(FillHole(1, (2,)), world).objects[1].gaussians.select(slice(count, None))
    assert float(new.rgb[:, 0].min()) > 0.2


def test_the_same_seed_gives_the_same_world_and_undo_the_old_one():
    """Bit for bit."""
    world = scene(dark=0.4)
    change = FillHole(1, (2,), seed=5)
    a, way = edit.do(change, world)
    b = edit.applied(change, world)
    for name in ("means", "quats", "log_scales", "opacity_logits", "sh", "flags", "id_confidences"):
        assert torch.equal(getattr(a.objects[1].gaussians, name), getattr(b.objects[1].gaussians, name))
        back = way.undo(a).objects[1].gaussians
        assert torch.equal(getattr(back, name), getattr(world.objects[1].gaussians, name))
    assert json.dumps(to_plain(change)) == (
        '{"object_id": 1, "objects": [2], "inside": null, "undersides": true, "seed": 5}'
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (FillHole(1), "fill-hole: expected objects that stand there, or a volume, got neither"),
        (FillHole(1, (1,)), "fill-hole: objects: expected others than the surface's own 1"),
        (FillHole(2, (9,)), "fill-hole: expected the id of an object"),
        (FillHole(1, inside=edit.Sphere((0.0, 0.0, 5.0), 0.1)), r"object 1 \(table\) that carries the vol"),
        (FillHole(1, inside=edit.Sphere((0.0, 0.0, 0.0), -0.1)), "inside: expected a positive radius, got"),
        (FillHole(1, (3,)), r"surface of object 1 \(table\) that carries object 3 \(kite\)"),
    ],
)  # fmt: skip
def test_nonsense_is_refused_in_one_sentence(as_in_production: None, change: FillHole, message: str):
    """It says what was expected."""
    pose = torch.eye(4)
    pose[2, 3] = 3.0
    world = scene().with_object(WorldObject(3, "kite", cube(), ObjectKind.RIGID, pose))
    with pytest.raises(EditError, match=message):
        edit.applied(change, world)
