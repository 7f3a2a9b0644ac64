"""Shapes of objects and the mesh of a scene: closed, of the right size, in place, cut at their support."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from gaussworld.gaussians import Gaussians, cat
from gaussworld.log import Notice, drain
from gaussworld.pose import invert_pose, pose_from, rotation_from_rotvec
from gaussworld.shape import is_closed
from gaussworld.world import World
from gaussworld.world_object import WorldObject
from recon.mesh import MeshSettings, scene_mesh, shapes
from recon.mesh.depth import DepthView
from recon.mesh.extent import floor_under

pytest.importorskip("open3d")
QUICK = MeshSettings(
    views=12, pixels=96, voxels=60_000, faces=2000,
    scene_voxels=120, scene_pixels=160, scene_depth="surface",
)  # fmt: skip


def numbered(gaussians: Gaussians, number: int) -> Gaussians:
    return replace(gaussians, object_ids=torch.full((len(gaussians),), number, dtype=torch.int32))


def world_of(things: SimpleNamespace, *parts: Gaussians) -> World:
    """A table (1) at z = 0 and things on it (2, 3, ...), with a ring of cameras around."""
    every = [things.sheet(0.8, 0.8, 0.02, (0.6, 0.5, 0.4)), *parts]
    gaussians = cat([numbered(part, i + 1) for i, part in enumerate(every)])
    return World.from_gaussians(gaussians, cameras=things.ring(), metres_per_unit=1.0, up=(0.0, 0.0, 1.0))


def test_box_and_ball_on_a_table(things: SimpleNamespace) -> None:
    """Closed, few parts, volumes as they are, coloured, flat below at the table."""
    box, ball = things.box((0.12, 0.1, 0.08), (0.1, 0.0, 0.04)), things.ball(0.05, (-0.12, 0.05, 0.05))
    world = world_of(things, box, ball)
    made = drain(shapes(world, [2, 3], QUICK)).result
    for number, volume in ((2, 0.12 * 0.1 * 0.08), (3, 4 / 3 * math.pi * 0.05**3)):
        shape, item = made[number], world.objects[number]
        assert is_closed(shape.mesh) and len(shape.mesh.faces) <= 2000
        assert shape.mesh.volume == pytest.approx(volume, rel=0.15)
        assert len(shape.parts) <= 5 and all(is_closed(part) for part in shape.parts)
        placed = shape.mesh.transformed(item.world_from_object)
        assert float(placed.vertices[:, 2].min()) == pytest.approx(0.0, abs=3e-3)
        assert shape.mesh.colors is not None
        wanted = torch.tensor((0.8, 0.3, 0.2) if number == 2 else (0.2, 0.6, 0.3))
        assert (shape.mesh.colors.mean(0) - wanted).abs().max() < 0.05


def test_shape_is_in_the_objects_own_frame(things: SimpleNamespace) -> None:
    """Moving and turning the object first changes nothing in its frame but for rounding."""
    world = world_of(things, things.box((0.12, 0.1, 0.08), (0.0, 0.0, 0.04)))
    item = world.objects[2]
    turn = pose_from(rotation_from_rotvec(torch.tensor([0.0, 0.3, 0.5])), torch.tensor([0.3, -0.2, 0.1]))
    own = item.gaussians.transformed(invert_pose(turn))
    turned = replace(item, gaussians=own, world_from_object=item.world_from_object @ turn)
    (shape,) = drain(shapes(world.with_object(turned), [2], QUICK)).result.values()
    placed = shape.mesh.transformed(turned.world_from_object)
    assert placed.vertices.amin(0).tolist() == pytest.approx([-0.06, -0.05, 0.0], abs=6e-3)
    assert placed.vertices.amax(0).tolist() == pytest.approx([0.06, 0.05, 0.08], abs=6e-3)


def test_object_under_another_one_is_not_hollow(things: SimpleNamespace) -> None:
    """A block whose top nobody saw below what stands on it keeps its volume, and its hull ends there."""
    lower = things.box((0.2, 0.2, 0.06), (0.0, 0.0, 0.03))
    covered = (lower.means[:, :2].abs().amax(1) < 0.075) & (lower.means[:, 2] > 0.055)
    upper = things.box((0.15, 0.15, 0.08), (0.0, 0.0, 0.10))
    world = world_of(things, lower.select(~covered), upper)
    made = drain(shapes(world, [2, 3], QUICK)).result
    assert made[2].mesh.volume == pytest.approx(0.2 * 0.2 * 0.06, rel=0.12)
    top = made[2].parts[0].transformed(world.objects[2].world_from_object).vertices[:, 2].max()
    assert float(top) == pytest.approx(0.06, abs=2e-3)


def test_without_cameras_a_ring_is_used(things: SimpleNamespace) -> None:
    """A world of a file of Gaussians has none; in its own unit, with another up, the form is the same."""
    ball = things.ball(0.05, (0.0, 0.0, 0.05))
    up_y = pose_from(rotation_from_rotvec(torch.tensor([-math.pi / 2, 0.0, 0.0])), torch.zeros(3))
    gaussians = numbered(ball.transformed(up_y, 100.0), 1)
    world = World.from_gaussians(gaussians, up=(0.0, 1.0, 0.0))
    (shape,) = drain(shapes(world, None, QUICK)).result.values()
    assert is_closed(shape.mesh) and shape.mesh.volume == pytest.approx(4 / 3 * math.pi * 5**3, rel=0.12)


def test_too_few_gaussians_get_a_notice(things: SimpleNamespace) -> None:
    """Three Gaussians enclose nothing: no shape, one sentence, and no error."""
    few = things.ball(0.02, (0.0, 0.0, 0.3)).select(slice(0, 3))
    events = []
    done = drain(shapes(World({5: WorldObject(5, "crumb", few)}), None, QUICK), events.append)
    assert done.result == {}
    assert any(isinstance(event, Notice) and "crumb" in event.message for event in events)


def test_single_object_and_no_plane(things: SimpleNamespace) -> None:
    """A thing that floats alone has no floor, and is closed all the same."""
    ball = things.ball(0.05, (0.0, 0.0, 0.05))
    assert floor_under(ball, ball.select(slice(0, 0)), torch.tensor([0.0, 0.0, 1.0])) is None
    world = World.from_gaussians(numbered(ball, 1), cameras=things.ring())
    (shape,) = drain(shapes(world, None, QUICK)).result.values()
    assert is_closed(shape.mesh)


def test_floor_is_the_table_and_not_the_neighbour(things: SimpleNamespace) -> None:
    """The level layer around the foot counts, not the side of a box that stands close."""
    own = things.box((0.1, 0.1, 0.1), (0.0, 0.0, 0.05))
    others = cat([things.sheet(0.6, 0.6, 0.02), things.box((0.1, 0.1, 0.2), (0.12, 0.0, 0.1), 0.01)])
    found = floor_under(own, others, torch.tensor([0.0, 0.0, 1.0]))
    assert found == pytest.approx(0.0, abs=1e-3)


def test_scene_mesh(things: SimpleNamespace) -> None:
    """One coloured surface of all: vertices lie on the table or the box."""
    world = world_of(things, things.box((0.2, 0.2, 0.1), (0.0, 0.0, 0.05)))
    mesh = drain(scene_mesh(world, QUICK)).result
    assert len(mesh.faces) > 500 and mesh.colors is not None
    v = mesh.vertices
    on_table, on_top = v[:, 2].abs(), (v[:, 2] - 0.1).abs()
    on_side = (v[:, :2].abs().amax(1) - 0.1).abs()
    off = torch.stack([on_table, on_top, on_side]).amin(0)
    assert off.median() < 2e-3 and off.quantile(0.95) < 8e-3
    top = mesh.colors[(v[:, 2] > 0.095) & (v[:, :2].abs().amax(1) < 0.08)].mean(0)
    assert (top - torch.tensor([0.8, 0.3, 0.2])).abs().max() < 0.06


def test_scene_mesh_of_measured_depth(things: SimpleNamespace) -> None:
    """A sensor's depth alone: a wall half a metre behind the Gaussians' table."""
    world = world_of(things)
    views = [
        DepthView(camera, torch.full((150, 200), 1.5), torch.ones(150, 200, 3), torch.ones(150, 200))
        for camera in (things.ring()[0],) * 3
    ]
    mesh = drain(scene_mesh(world, QUICK, views, rendered=False)).result
    depth = (mesh.vertices - views[0].camera.center) @ views[0].camera.world_from_camera[:3, 2]
    assert len(mesh.faces) and (depth - 1.5).abs().max() < 0.02


def test_background_is_an_open_surface(things: SimpleNamespace) -> None:
    """What surrounds the things encloses nothing: it gets its surface and no parts."""
    world = World.from_gaussians(things.sheet(0.8, 0.8, 0.02), cameras=things.ring())
    assert drain(shapes(world, None, QUICK)).result == {}
    shape = drain(shapes(world, [0], QUICK)).result[0]
    assert shape.parts == () and shape.mesh.vertices[:, 2].abs().median() < 2e-3


def test_nothing_to_mesh() -> None:
    """An empty world is refused."""
    with pytest.raises(ValueError, match="got none"):
        drain(scene_mesh(World(), QUICK))


def test_unknown_object_is_refused(things: SimpleNamespace) -> None:
    """The sentence lists what there is."""
    with pytest.raises(ValueError, match="the id"):
        drain(shapes(world_of(things), [9], QUICK))
