"""What rests on what: stacks, bridges, neighbours, things in the air, with and without shapes."""

import math
from dataclasses import replace

import pytest
import torch

from gaussworld import edit
from gaussworld.gaussians import HIDDEN, Gaussians
from gaussworld.pose import pose_from, rotation_from_rotvec, transform_points
from gaussworld.shape import Mesh, Shape
from gaussworld.support import physical_edits, supports
from gaussworld.world import World
from gaussworld.world_object import Joint, Material, ObjectKind, WorldObject

CORNERS = torch.cartesian_prod(*[torch.tensor([-0.5, 0.5])] * 3)
FACES = [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1]]
FACES += [[2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]]


def box_mesh(size: tuple[float, float, float]) -> Mesh:
    """A box about its own middle."""
    return Mesh(CORNERS * torch.tensor(size), torch.tensor(FACES))


def _cloud(size: tuple[float, float, float], seen_from_above: bool) -> Gaussians:
    """Gaussians on the sides of a box, without the underside where nobody looked from below."""
    count, draw = 3000, torch.Generator().manual_seed(0)
    points = torch.rand(count, 3, generator=draw) - 0.5
    side = torch.randint(1 if seen_from_above else 0, 6, (count,), generator=draw)
    axis, sign = (2 - side // 2), (side % 2).float() - 0.5
    points[torch.arange(count), axis] = sign
    points = points * torch.tensor(size) + 0.0005 * torch.randn(count, 3, generator=draw)
    quats = torch.tensor([1.0, 0, 0, 0]).expand(count, 4)
    scales = torch.full((count, 3), 0.003)
    return Gaussians.from_activated(points, quats, scales, torch.full((count,), 0.9), torch.rand(count, 3))


def box(number, size, at, *, shape=True, kind=ObjectKind.RIGID, turn=0.0, seen_from_above=True, **more):
    """An object: a box with its middle at `at`, turned about +z."""
    pose = pose_from(rotation_from_rotvec(torch.tensor([0.0, 0.0, turn])), torch.tensor(at))
    gaussians = _cloud(size, seen_from_above)
    surface = Shape(box_mesh(size), (box_mesh(size),)) if shape else None
    return WorldObject(number, f"box {number}", gaussians, kind, pose, shape=surface, **more)


def world_of(*items: WorldObject, **more) -> World:
    """A world of metres with +z up."""
    return World({item.id: item for item in items}, metres_per_unit=1.0, up=(0.0, 0.0, 1.0), **more)


def _scene(shape: bool) -> World:
    """A table with a block, a block on that, a bridge over two, their neighbour, and one in the air."""
    return world_of(
        box(1, (1.0, 0.8, 0.04), (0.0, 0.0, -0.02), shape=shape, kind=ObjectKind.STATIC),
        box(2, (0.1, 0.1, 0.1), (0.2, 0.2, 0.05), shape=shape, turn=0.4),
        box(3, (0.06, 0.06, 0.06), (0.2, 0.2, 0.13), shape=shape),
        box(4, (0.08, 0.08, 0.08), (-0.2, -0.2, 0.04), shape=shape),
        box(5, (0.08, 0.08, 0.08), (-0.02, -0.2, 0.04), shape=shape),
        box(6, (0.2, 0.06, 0.02), (-0.11, -0.2, 0.09), shape=shape),
        box(7, (0.08, 0.08, 0.08), (0.061, -0.2, 0.04), shape=shape),
        box(8, (0.05, 0.05, 0.05), (0.3, -0.3, 0.2), shape=shape),
    )


@pytest.mark.parametrize("shape", [True, False])
def test_stacks_bridges_neighbours_and_things_in_the_air(shape):
    """Each rests on what is below it and touches it, not on what is beside it; by shapes and by Gaussians."""
    found = supports(_scene(shape))
    assert found == {1: (), 2: (1,), 3: (2,), 4: (1,), 5: (1,), 6: (4, 5), 7: (1,), 8: ()}


@pytest.mark.parametrize("shape", [True, False])
def test_what_is_hidden_holds_nothing_up(shape):
    """A hidden object has no entry and carries nothing; nor do Gaussians that are hidden."""
    world = _scene(shape)
    assert supports(world.with_object(replace(world.objects[2], hidden=True))) == {
        1: (), 3: (), 4: (1,), 5: (1,), 6: (4, 5), 7: (1,), 8: ()
    }  # fmt: skip
    block = world.objects[2].gaussians
    veiled = replace(block, flags=block.flags | HIDDEN)
    rows = world.with_object(replace(world.objects[2], gaussians=veiled, shape=None))
    assert 2 not in supports(rows) and supports(rows)[3] == ()


def test_up_may_point_anywhere():
    """The same scene turned over and in another unit."""
    turn = pose_from(rotation_from_rotvec(torch.tensor([1.9, 0.3, -0.2])), torch.tensor([1.0, 2.0, 3.0]))
    world = _scene(True).reframed(turn, 10.0)
    assert supports(world)[6] == (4, 5) and supports(world)[8] == ()
    assert supports(replace(world, metres_per_unit=None))[3] == (2,)


def test_a_shape_on_gaussians_and_gaussians_on_a_shape():
    """Either side may lack a shape."""
    for top, under in ((False, True), (True, False)):
        table = box(1, (1.0, 0.8, 0.04), (0.0, 0.0, -0.02), kind=ObjectKind.STATIC, shape=under)
        world = world_of(table, box(2, (0.1, 0.1, 0.1), (0.2, 0.2, 0.05), shape=top))
        assert supports(world) == {1: (), 2: (1,)}


def test_a_scanned_table_with_holes_where_things_stand():
    """An open mesh without faces below the object still holds it."""
    step = torch.linspace(-0.5, 0.5, 41)
    x, y = torch.meshgrid(step, step, indexing="ij")
    vertices = torch.stack([x, y, torch.zeros_like(x)], -1).reshape(-1, 3)
    row = (torch.arange(40)[:, None] * 41 + torch.arange(40)).reshape(-1)
    faces = torch.cat(
        [torch.stack([row, row + 41, row + 1], 1), torch.stack([row + 1, row + 41, row + 42], 1)]
    )
    hole = (vertices[faces].mean(1)[:, :2].abs() < 0.055).all(1)
    surface = Shape(Mesh(vertices, faces[~hole]))
    table = replace(box(1, (1.0, 1.0, 0.01), (0.0, 0.0, 0.0), kind=ObjectKind.STATIC), shape=surface)
    world = world_of(table, box(2, (0.1, 0.1, 0.1), (0.0, 0.0, 0.052)))
    assert supports(world)[2] == (1,)
    assert supports(world_of(table, box(2, (0.1, 0.1, 0.1), (0.0, 0.0, 0.09))))[2] == ()


def test_what_lies_in_a_tray_rests_on_its_floor():
    """A container holds what is in it although its walls are higher."""
    parts = [((0.4, 0.3, 0.01), (0, 0, 0.005)), ((0.01, 0.3, 0.08), (0.2, 0, 0.04))]
    parts += [((0.01, 0.3, 0.08), (-0.2, 0, 0.04))]
    moved = [box_mesh(size).transformed(_at(*at)) for size, at in parts]
    tray = replace(box(2, (0.4, 0.3, 0.01), (0.0, 0.0, 0.0)), shape=Shape(moved[0], tuple(moved)))
    table = box(1, (1.0, 0.8, 0.04), (0.0, 0.0, -0.02), kind=ObjectKind.STATIC)
    world = world_of(table, tray, box(3, (0.05, 0.05, 0.05), (0.1, 0.0, 0.035)))
    assert supports(world) == {1: (), 2: (1,), 3: (2,)}


def _at(x, y, z):
    return pose_from(torch.eye(3), torch.tensor([float(x), float(y), float(z)]))


def test_robots_joints_and_what_is_mounted():
    """Robots hold nothing up; what is mounted or slides does not rest, but holds other things up."""
    slide = Joint("prismatic", (1.0, 0.0, 0.0))
    world = world_of(
        box(1, (1.0, 0.8, 0.04), (0.0, 0.0, -0.02), kind=ObjectKind.STATIC),
        box(2, (0.1, 0.1, 0.1), (0.2, 0.2, 0.05), kind=ObjectKind.ROBOT),
        box(3, (0.05, 0.05, 0.05), (0.2, 0.2, 0.125)),
        box(4, (0.2, 0.2, 0.1), (-0.2, 0.0, 0.05), kind=ObjectKind.ARTICULATED, joint=slide),
        box(5, (0.05, 0.05, 0.05), (-0.2, 0.0, 0.125)),
        box(6, (0.05, 0.05, 0.05), (0.4, -0.2, 0.025), parent=1),
    )
    assert supports(world) == {1: (), 3: (), 5: (4,)}


def test_the_background_can_be_the_floor():
    """A table stands on Gaussians that no object has."""
    floor = box(0, (3.0, 3.0, 0.01), (0.0, 0.0, -0.705), shape=False, kind=ObjectKind.STATIC)
    table = box(1, (0.6, 0.6, 0.7), (0.0, 0.0, -0.35), kind=ObjectKind.STATIC)
    assert supports(world_of(floor, table)) == {1: (0,)}


def test_a_ball_and_a_mesh_that_is_inside_out():
    """Round things touch in a point; faces that look inwards are turned."""
    trimesh = pytest.importorskip("trimesh")
    ball = trimesh.creation.icosphere(subdivisions=3, radius=0.04)
    surface = Mesh(torch.tensor(ball.vertices).float(), torch.tensor(ball.faces).flip(1))
    table = box(1, (1.0, 0.8, 0.04), (0.0, 0.0, -0.02), kind=ObjectKind.STATIC)
    upright = box_mesh((1.0, 0.8, 0.04))
    inverted = Mesh(upright.vertices, upright.faces.flip(1))
    table = replace(table, shape=Shape(inverted))
    item = replace(box(2, (0.1, 0.1, 0.1), (0.2, 0.2, 0.04)), shape=Shape(surface))
    assert supports(world_of(table, item))[2] == (1,)


def test_nothing_and_one_object():
    """A world with a single object, and one without any."""
    assert supports(world_of()) == {}
    assert supports(world_of(box(1, (0.1, 0.1, 0.1), (0.0, 0.0, 0.0)))) == {1: ()}


def test_without_up_nobody_can_say():
    """The message names the edit that helps."""
    with pytest.raises(ValueError, match="where up is"):
        supports(World({}))


def test_edits_write_down_what_is_known_and_do_it_once():
    """Volume, centre and category with their sources; a second time there is nothing left to do."""
    world = _scene(True)
    edits = physical_edits(world, {2: "Wood", 3: "steel"})
    assert {type(each) for each in edits} == {edit.SetMaterial, edit.SetSupport}
    for each in edits:
        world = edit.applied(each, world)
    wood = world.objects[2].material
    assert math.isclose(wood.volume or 0, 1e-3, rel_tol=1e-4) and wood.sources["volume"] == "shape"
    assert (wood.category, wood.density, wood.sources["density"]) == ("wood", 600, "category")
    assert wood.mass is not None and abs(wood.mass - 0.6) < 1e-3
    assert world.objects[3].supported_by == (2,) and world.objects[8].supported_by == ()
    assert world.objects[4].material.sources["density"] == "default"
    assert physical_edits(world) == []


def test_edits_leave_locked_objects_alone():
    """Locks are respected, not run into."""
    world = world_of(replace(box(1, (0.1, 0.1, 0.1), (0.0, 0.0, 0.0), material=Material()), locked=True))
    assert physical_edits(world, {1: "wood"}) == []


def test_the_cloud_helper_is_where_the_box_is():
    """The fixtures are sound: a cloud seen from above has no underside."""
    points = transform_points(torch.eye(4), _cloud((1.0, 1.0, 1.0), True).means)
    inner = (points[:, :2].abs() < 0.4).all(1)
    assert float(points[inner, 2].min()) > 0.4
