"""Worlds as physics sees them: parts, particles, masses, edges, fields, ground, and what is refused."""

import math
import time
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from dynamics.matter.fields import look_up, surface_samples
from dynamics.matter.parts import Matter, PartKind
from dynamics.matter.sample import MatterConfig, matter_of, tied
from gaussworld.errors import UnknownScale
from gaussworld.gaussians import Gaussians
from gaussworld.pose import pose_from, quats_from_rotation, rotation_from_rotvec
from gaussworld.shape import Mesh, Shape, joined
from gaussworld.surface import box, cylinder
from gaussworld.world import World
from gaussworld.world_object import Joint, Material, ObjectKind, WorldObject


def tube(line: Tensor, radius: float, around: int = 12) -> Mesh:
    """A closed tube about a line in a plane z = const."""
    count = len(line)
    along = torch.nn.functional.normalize(torch.gradient(line, dim=0)[0], dim=1)
    u = torch.linalg.cross(along, torch.tensor([0.0, 0.0, 1.0]).expand_as(along))
    v = torch.linalg.cross(along, u)
    angle = torch.arange(around) * (2 * math.pi / around)
    ring = angle.cos()[None, :, None] * u[:, None] + angle.sin()[None, :, None] * v[:, None]
    i, j = (
        x.reshape(-1) for x in torch.meshgrid(torch.arange(count - 1), torch.arange(around), indexing="ij")
    )
    k = (j + 1) % around
    a, b, c, d = i * around + j, i * around + k, (i + 1) * around + j, (i + 1) * around + k
    ends = torch.arange(around)
    after, first, last = (ends + 1) % around, count * around, (count - 1) * around
    faces = torch.cat(
        [
            torch.stack([a, c, b], 1),
            torch.stack([b, c, d], 1),
            torch.stack([torch.full_like(ends, first), ends, after], 1),
            torch.stack([torch.full_like(ends, first + 1), last + after, last + ends], 1),
        ]
    )
    mesh = Mesh(torch.cat([(line[:, None] + radius * ring).reshape(-1, 3), line[[0, -1]]]), faces)
    return mesh if mesh.volume > 0 else Mesh(mesh.vertices, mesh.faces.flip(1))


def u_bend(length: float = 0.5, gap: float = 0.03, count: int = 100) -> Tensor:
    """A line that runs out, turns, and comes back at a small distance."""
    turn = gap / 2
    straight = (length - math.pi * turn) / 2
    s = torch.linspace(0, length, count)
    angle = ((s - straight) / turn).clamp(0, math.pi)
    back = (s - straight - math.pi * turn).clamp(min=0)
    x = s.clamp(max=straight) + turn * angle.sin() - back
    return torch.stack([x, -turn * angle.cos(), torch.zeros(count)], 1)


def painted(mesh: Mesh, count: int = 3000) -> Gaussians:
    """Flat Gaussians all over a surface."""
    points, face = surface_samples(mesh.triangles, count)
    a, b, c = mesh.triangles[face].unbind(1)
    normal = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=1)
    side = torch.nn.functional.normalize(b - a, dim=1)
    turn = torch.stack([side, torch.linalg.cross(normal, side), normal], 2)
    size = 0.5 * (mesh.area / count) ** 0.5
    scales = torch.tensor([size, size, 0.05 * size]).expand(count, 3)
    rgb = torch.full((count, 3), 0.5)
    return Gaussians.from_activated(points, quats_from_rotation(turn), scales, torch.full((count,), 0.9), rgb)


def thing(mesh: Mesh, kind: ObjectKind, number: int = 1, shaped: bool = True, **facts: Any) -> WorldObject:
    """An object with Gaussians on a surface."""
    shape = Shape(mesh, facts.pop("parts", ())) if shaped else None
    return WorldObject(number, f"thing {number}", painted(mesh), kind, shape=shape, **facts)


def world_of(*items: WorldObject) -> World:
    return World({item.id: item for item in items}, metres_per_unit=1.0, up=(0.0, 0.0, 1.0))


def at(x: float, y: float, z: float) -> Tensor:
    return pose_from(torch.eye(3), torch.tensor([x, y, z]))


def test_box_has_corners_first_and_the_inertia_of_a_box() -> None:
    """A rigid box: 128 particles on its surface, its 8 corners first, and what mechanics books say."""
    size = (0.1, 0.06, 0.04)
    matter = matter_of(world_of(thing(box(size).mesh, ObjectKind.RIGID)))
    part, points = matter.parts[0], matter.rest
    half = torch.tensor(size) / 2
    assert (part.kind, part.stop - part.start, part.joint_row) == (PartKind.RIGID, 128, None)
    assert torch.allclose(points[:8].abs(), half.expand(8, 3), atol=1e-6)
    assert torch.allclose((points.abs() - half).amax(1), torch.zeros(128), atol=1e-5)
    mass = 500 * size[0] * size[1] * size[2]
    assert part.mass == pytest.approx(mass, rel=1e-4)
    assert float(matter.masses.sum()) == pytest.approx(mass, rel=1e-4)
    a, b, c = (side**2 for side in size)
    books = mass / 12 * torch.diag(torch.tensor([b + c, a + c, a + b]))
    assert torch.allclose(part.inertia, books, rtol=1e-3, atol=1e-9)
    assert not matter.edges.numel() and not matter.bending


def test_field_of_a_box_is_its_distance() -> None:
    """The signed distance at all grid points of a box, and 4 cm around it."""
    matter = matter_of(world_of(thing(box((0.1, 0.06, 0.04)).mesh, ObjectKind.RIGID)))
    low, spacing = matter.fields.low[0], matter.fields.spacing[0]
    steps = torch.arange(32).float()
    grid = low + spacing * torch.cartesian_prod(steps, steps, steps)
    apart = grid.abs() - torch.tensor([0.05, 0.03, 0.02])
    true = apart.clamp(min=0).norm(dim=1) + apart.amax(1).clamp(max=0)
    assert torch.allclose(matter.fields.values[0].reshape(-1), true, atol=1e-6)
    assert bool((low <= torch.tensor([-0.09, -0.07, -0.06]) + 1e-6).all())


@pytest.mark.parametrize("shaped", [True, False])
def test_field_of_a_round_thing_is_its_distance_to_a_millimetre(shaped: bool) -> None:
    """A cylinder of hundreds of narrow faces, and the hull of its Gaussians, which reach a little further."""
    matter = matter_of(world_of(thing(cylinder(0.03, 0.1).mesh, ObjectKind.RIGID, shaped=shaped)))
    low, spacing = matter.fields.low[0], matter.fields.spacing[0]
    steps = torch.arange(32).float()
    grid = low + spacing * torch.cartesian_prod(steps, steps, steps)
    flat = torch.stack([grid[:, :2].norm(dim=1) - 0.03, grid[:, 2].abs() - 0.05], 1)
    true = flat.clamp(min=0).norm(dim=1) + flat.amax(1).clamp(max=0)
    assert float((matter.fields.values[0].reshape(-1) - true).abs().max()) < (1e-3 if shaped else 4e-3)


def test_convex_parts_make_one_solid() -> None:
    """A T of two overlapping boxes whose surface is open: no wall where they overlap, hollows outside."""
    bar = box((0.2, 0.05, 0.04)).mesh
    stem = box((0.05, 0.15, 0.04)).mesh.transformed(at(0.0, -0.08, 0.0))
    whole = joined([bar, stem])
    surface = Mesh(whole.vertices, whole.faces[1:])
    item = thing(surface, ObjectKind.RIGID, parts=(bar, stem))
    matter = matter_of(world_of(item))
    points = torch.tensor([[0.0, -0.005, 0.0], [0.06, -0.08, 0.0], [0.0, -0.1, 0.0]])
    found = look_up(matter.fields.values[0], matter.fields.low[0], matter.fields.spacing[0], points)
    assert float(found[0]) < -0.012 and float(found[2]) < -0.015
    assert float(found[1]) == pytest.approx(0.035, abs=2e-3)


def test_known_mass_and_centre_win() -> None:
    """What somebody measured counts more than the shape."""
    material = Material(density=1000.0, volume=1e-4, center_of_mass=(0.01, 0.0, 0.0))
    item = thing(box((0.1, 0.1, 0.1)).mesh, ObjectKind.RIGID, material=material)
    part = matter_of(world_of(item)).parts[0]
    assert part.mass == pytest.approx(0.1)
    assert torch.allclose(part.center, torch.tensor([0.01, 0.0, 0.0]))
    assert torch.allclose(part.inertia, 0.1 * 0.01 / 6 * torch.eye(3), rtol=1e-3, atol=1e-8)


@pytest.mark.parametrize("shaped", [True, False])
def test_rope_in_a_u_bend_is_a_chain_on_its_axis(shaped: bool) -> None:
    """Particles in order on the centre line, evenly spaced; no edge from one leg to the other."""
    line = u_bend()
    item = thing(tube(line, 0.005), ObjectKind.DEFORMABLE, shaped=shaped)
    matter = matter_of(world_of(item))
    points, steps = matter.rest, (matter.rest[1:] - matter.rest[:-1]).norm(dim=1)
    assert matter.parts[0].kind is PartKind.ROPE
    fine = u_bend(count=2000)
    assert float(torch.cdist(points, fine).amin(1).max()) < 1e-3
    assert float(steps.max() / steps.min()) < 1.1
    assert float(steps.sum()) == pytest.approx(0.49, abs=0.005)
    assert float(matter.radii.max()) == pytest.approx(0.005, abs=5e-4)
    rows = torch.arange(len(points))
    wanted = torch.cat([torch.stack([rows[:-s], rows[s:]], 1) for s in (1, 2)])
    assert sorted(matter.edges.tolist()) == sorted(wanted.tolist())
    true = 500 * math.pi * 0.005**2 * 0.5
    assert matter.parts[0].mass == pytest.approx(true, rel=0.1)
    assert float(matter.masses.sum()) == pytest.approx(matter.parts[0].mass, rel=1e-5)


@pytest.mark.parametrize("shaped", [True, False])
def test_cloth_is_a_sheet_between_its_sides(shaped: bool) -> None:
    """Particles in the middle of a thin box, with half its thickness, joined with 8 neighbours."""
    item = thing(box((0.25, 0.2, 0.004)).mesh, ObjectKind.DEFORMABLE, shaped=shaped)
    matter = matter_of(world_of(item))
    assert matter.parts[0].kind is PartKind.CLOTH
    assert float(matter.rest[:, 2].abs().max()) < 1e-3
    assert float(matter.radii.mean()) == pytest.approx(0.002, abs=3e-4)
    assert float(matter.rest[:, 0].max()) > 0.12 and float(matter.rest[:, 1].min()) < -0.095
    degree = matter.edges.reshape(-1).bincount()
    assert len(degree) == 128 and int(degree.min()) >= 8
    assert bool((matter.edges[:, 0] < matter.edges[:, 1]).all())
    assert len(matter.edges.unique(dim=0)) == len(matter.edges)


def test_edges_do_not_cross_a_fold() -> None:
    """A sheet folded over with 2 cm of air between its layers: no edge from one to the other."""
    across = torch.linspace(0, 0.2, 60)
    line = u_bend(0.4, 0.02, 160)
    points = torch.stack([torch.stack([p[0].expand(60), across, p[1].expand(60)], 1) for p in line]).reshape(
        -1, 3
    )
    quats = torch.tensor([[1.0, 0.0, 0.0, 0.0]]).expand(len(points), 4)
    sizes = torch.full((len(points), 3), 1e-3)
    gaussians = Gaussians.from_activated(
        points, quats, sizes, torch.ones(len(points)), torch.ones(len(points), 3)
    )
    item = WorldObject(1, "towel", gaussians, ObjectKind.DEFORMABLE, material=Material(category="fabric"))
    matter = matter_of(world_of(item))
    assert matter.parts[0].kind is PartKind.CLOTH
    ends = matter.rest[matter.edges]
    straight = (ends[..., 0] < 0.16).all(1)
    assert bool(straight.any())
    assert not bool((ends[straight, 0, 2].sign() != ends[straight, 1, 2].sign()).any())


def test_volume_is_filled() -> None:
    """A soft block: balls inside it up to its surface, some of them deep inside, masses that sum up."""
    item = thing(box((0.08, 0.08, 0.06)).mesh, ObjectKind.DEFORMABLE)
    matter = matter_of(world_of(item))
    half = torch.tensor([0.04, 0.04, 0.03])
    radius = float(matter.radii[0])
    assert matter.parts[0].kind is PartKind.VOLUME
    assert torch.allclose(matter.rest.amax(0), half - radius, atol=1e-3)
    assert int((matter.rest.abs() < half - 0.01).all(1).sum()) > 20
    assert matter.parts[0].mass == pytest.approx(500 * 0.08 * 0.08 * 0.06, rel=1e-3)
    assert float(matter.fields.values.min()) > 1


def test_form_can_be_said() -> None:
    """A category that names a form, and the setting, win over looks."""
    block = thing(box((0.08, 0.08, 0.06)).mesh, ObjectKind.DEFORMABLE)
    named = replace(block, material=replace(block.material, category="rope"))
    assert matter_of(world_of(named)).parts[0].kind is PartKind.ROPE
    assert matter_of(world_of(named), MatterConfig(cloths=(1,))).parts[0].kind is PartKind.CLOTH


def test_parts_are_what_is_neither_background_nor_robot() -> None:
    """A cabinet with a drawer, a robot with a link, a hidden box, the background: two parts."""
    cabinet = thing(box((0.3, 0.3, 0.4)).mesh, ObjectKind.STATIC, 1)
    drawer = thing(
        box((0.2, 0.2, 0.1)).mesh,
        ObjectKind.ARTICULATED,
        2,
        parent=1,
        joint=Joint("prismatic", (1.0, 0.0, 0.0)),
    )
    robot = thing(box((0.1, 0.1, 0.1)).mesh, ObjectKind.ROBOT, 3)
    plate = thing(box((0.1, 0.1, 0.1)).mesh, ObjectKind.STATIC, 4, parent=3)
    hidden = thing(box((0.1, 0.1, 0.1)).mesh, ObjectKind.RIGID, 5, hidden=True)
    background = replace(thing(box((0.1, 0.1, 0.1)).mesh, ObjectKind.STATIC, 1), id=0)
    matter = matter_of(world_of(background, cabinet, drawer, robot, plate, hidden))
    assert [part.object_id for part in matter.parts] == [1, 2]
    assert [part.kind for part in matter.parts] == [PartKind.STATIC, PartKind.JOINT]
    assert (matter.parts[1].row, matter.parts[1].joint_row) == (2, 0)
    assert (matter.object_ids, matter.joint_ids) == ((0, 1, 2, 3, 4, 5), (2,))
    # The static body of a joint has a field, and its top is no table.
    assert float(matter.fields.values[0].min()) < -0.1
    assert not matter.ground.outlines


def test_the_same_world_gives_the_same_matter() -> None:
    """Nothing is drawn by chance."""
    world = world_of(thing(tube(u_bend(), 0.005), ObjectKind.DEFORMABLE, shaped=False))
    first, second = matter_of(world), matter_of(world)
    for name in ("rest", "masses", "radii", "edges"):
        assert torch.equal(getattr(first, name), getattr(second, name))


def table_world(*, shaped: bool, tilt: float = 0.0) -> World:
    """A table of 0.8 x 0.6 m at z = 0, with a box on it, above a floor at -0.7."""
    turn = rotation_from_rotvec(torch.tensor([0.0, 0.0, tilt]))
    table = thing(
        box((0.8, 0.6, 0.03)).mesh, ObjectKind.STATIC, 1, shaped,
        world_from_object=pose_from(turn, torch.tensor([0.1, 0.0, -0.015])), material=Material(friction=0.3),
    )  # fmt: skip
    cube = thing(box((0.1, 0.1, 0.1)).mesh, ObjectKind.RIGID, 2, world_from_object=at(0.1, 0.0, 0.05))
    floor = replace(
        thing(box((4.0, 4.0, 0.02)).mesh, ObjectKind.STATIC, 1, world_from_object=at(0, 0, -0.71)), id=0
    )
    return world_of(floor, table, cube)


@pytest.mark.parametrize("shaped", [True, False])
def test_ground_is_the_table_and_the_floor(shaped: bool) -> None:
    """The height, outline and friction of a turned table's top; the floor has no edge."""
    ground = matter_of(table_world(shaped=shaped, tilt=0.5)).ground
    assert ground.heights.tolist() == pytest.approx([0.0, -0.7], abs=0.004)
    assert ground.frictions.tolist() == pytest.approx([0.3, 0.5])
    outline = ground.outlines[0]
    x, y = outline.double().unbind(1)
    assert float((x * y.roll(-1) - y * x.roll(-1)).sum() / 2) == pytest.approx(0.48, rel=0.05)


def test_a_small_still_thing_has_a_field_and_is_no_table() -> None:
    """A box of 30 cm that never moves: things run into its sides, so it must not be a level patch alone."""
    wall = thing(box((0.3, 0.3, 0.3)).mesh, ObjectKind.STATIC, 3, world_from_object=at(0.3, 0.0, 0.15))
    matter = matter_of(table_world(shaped=True).with_object(wall))
    assert [part.object_id for part in matter.parts] == [1, 2, 3]
    assert float(matter.fields.values[0].min()) > 1 and float(matter.fields.values[2].min()) < -0.1
    assert len(matter.ground.outlines) == 1


def test_table_without_a_room_has_a_floor_below() -> None:
    """Nothing but a table and a thing: the floor is a table's height below."""
    world = table_world(shaped=True).without_object(0)
    assert matter_of(world).ground.heights.tolist() == pytest.approx([0.0, -0.75], abs=0.004)


def test_ground_of_things_alone_is_under_the_lowest() -> None:
    """A plane without an edge."""
    world = world_of(thing(box((0.1, 0.1, 0.1)).mesh, ObjectKind.RIGID, world_from_object=at(0.0, 0.0, 0.3)))
    ground = matter_of(world).ground
    assert ground.heights.tolist() == pytest.approx([0.25], abs=1e-3) and ground.outlines == ()


def test_ground_of_a_background_that_nobody_segmented() -> None:
    """A table top in the background carries what stands on it, and ends where it ends."""
    world = table_world(shaped=False)
    both = [world.objects[0].posed(), world.objects[1].posed()]
    whole = Gaussians(*(torch.cat([getattr(g, n) for g in both]) for n in vars(both[0])))
    ground = matter_of(world_of(WorldObject(0, "background", whole), world.objects[2])).ground
    assert ground.heights.tolist() == pytest.approx([0.0, -0.7], abs=0.005)
    assert torch.allclose(ground.outlines[0].amax(0), torch.tensor([0.5, 0.3]), atol=0.05)


def few(count: int) -> WorldObject:
    """An object of a few Gaussians."""
    means = torch.tensor([[0.0, 0.0, 0.0], [0.03, 0.0, 0.0], [0.0, 0.03, 0.0], [0.0, 0.0, 0.03]])[:count]
    quats = torch.tensor([[1.0, 0.0, 0.0, 0.0]]).expand(count, 4)
    made = Gaussians.from_activated(
        means, quats, torch.full((count, 3), 0.005), torch.ones(count), torch.ones(count, 3)
    )
    return WorldObject(1, "crumb", made, ObjectKind.RIGID)


@pytest.mark.parametrize("kind", [ObjectKind.RIGID, ObjectKind.DEFORMABLE])
def test_an_object_of_three_gaussians_is_their_hull(kind: ObjectKind) -> None:
    """Three Gaussians, and one, make a small part with a mass, and nothing is NaN."""
    for count in (1, 3):
        matter = matter_of(world_of(replace(few(count), kind=kind)))
        assert matter.parts[0].mass > 0 and len(matter.rest) >= 1
        assert bool(matter.rest.isfinite().all() and matter.masses.isfinite().all())
        assert bool(matter.parts[0].inertia.isfinite().all())
        assert float(matter.masses.sum()) == pytest.approx(matter.parts[0].mass, rel=1e-4)


def test_worlds_that_physics_refuses() -> None:
    """No scale, another unit, another up, nothing that moves, nothing at all: one sentence each."""
    item = few(3)
    with pytest.raises(UnknownScale, match="metres_per_unit = None"):
        matter_of(World({1: item}, up=(0.0, 0.0, 1.0)))
    with pytest.raises(ValueError, match=r"in metres, got a unit of 0\.01 m"):
        matter_of(World({1: item}, metres_per_unit=0.01, up=(0.0, 0.0, 1.0)))
    for up in (None, (0.0, 1.0, 0.0)):
        with pytest.raises(ValueError, match=r"up is \+z"):
            matter_of(World({1: item}, metres_per_unit=1.0, up=up))
    with pytest.raises(ValueError, match="an object that can move, got 1 objects"):
        matter_of(world_of(replace(item, kind=ObjectKind.STATIC)))
    with pytest.raises(ValueError, match="got 0 objects"):
        matter_of(World(metres_per_unit=1.0, up=(0.0, 0.0, 1.0)))


def test_a_rope_can_be_tied() -> None:
    """The particle nearest to a point is held, others are not; a rigid thing cannot be tied."""
    rope = thing(tube(u_bend(), 0.005), ObjectKind.DEFORMABLE)
    cube = thing(box((0.1, 0.1, 0.1)).mesh, ObjectKind.RIGID, 2)
    matter = tied(matter_of(world_of(rope, cube)), 1, u_bend()[:1])
    fixed = matter.parts[0].fixed
    assert fixed is not None and float(fixed.sum()) == 1.0 and int(fixed.argmax()) in (0, len(fixed) - 1)
    assert matter.parts[1].fixed is None
    with pytest.raises(ValueError, match=r"bends, among \[1\], got 2"):
        tied(matter, 2, torch.zeros(1, 3))


def test_settings_that_make_no_sense() -> None:
    """Too few particles, a field without a margin."""
    with pytest.raises(ValueError, match="particles: expected at least 16, got 3"):
        MatterConfig(particles=3)
    with pytest.raises(ValueError, match="field_margin"):
        MatterConfig(field_margin=0.0)


def test_floaters_do_not_count() -> None:
    """A few Gaussians far from a box without a shape change neither its particles nor its mass much."""
    item = thing(box((0.1, 0.1, 0.1)).mesh, ObjectKind.RIGID, shaped=False)
    means = item.gaussians.means.clone()
    means[:3] = torch.tensor([[0.5, 0.0, 0.0], [0.0, -0.4, 0.2], [0.0, 0.3, 0.6]])
    item = replace(item, gaussians=replace(item.gaussians, means=means), material=Material())
    matter = matter_of(world_of(item))
    assert float(matter.rest.abs().max()) < 0.06
    assert matter.parts[0].mass == pytest.approx(0.5, rel=0.15)


def test_a_world_of_five_things_is_quick() -> None:
    """200,000 Gaussians in five objects: seconds at most, on a busy machine too."""
    mesh = box((0.1, 0.08, 0.06)).mesh
    many = painted(mesh, 40_000)
    items = [replace(thing(mesh, ObjectKind.RIGID, 1 + row), gaussians=many) for row in range(5)]
    started = time.perf_counter()
    matter: Matter = matter_of(world_of(*items))
    assert time.perf_counter() - started < 8
    assert len(matter.parts) == 5 and matter.fields.values.shape == (5, 32, 32, 32)
    assert matter.rest.dtype == torch.float32 and matter.owners.dtype == torch.int64
