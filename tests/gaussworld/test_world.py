"""Worlds: splitting, posing, moving without touching Gaussians, joints, materials, scale, mistakes."""

import math
from dataclasses import FrozenInstanceError, fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaussworld.camera import Camera
from gaussworld.errors import UnknownScale
from gaussworld.gaussians import Gaussians
from gaussworld.pose import normalize_quats, pose_from, rotation_from_quats, transform_points
from gaussworld.state import State
from gaussworld.world import World
from gaussworld.world_object import Joint, Material, ObjectKind, WorldObject

DOUBLE = torch.float64
seeds = st.integers(0, 2**31 - 1)


def random_pose(seed):
    generator = torch.Generator().manual_seed(seed)
    rotation = rotation_from_quats(normalize_quats(torch.randn(4, generator=generator, dtype=DOUBLE)))
    return pose_from(rotation, torch.randn(3, generator=generator, dtype=DOUBLE))


def blob(seed=0, n=6, degree_count=4, ids=None):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=DOUBLE)

    parts = normal(n, 3), normal(n, 4), normal(n, 3) - 3, normal(n), normal(n, degree_count, 3)
    return Gaussians(*parts) if ids is None else Gaussians(*parts, torch.tensor(ids, dtype=torch.int32))


def cabinet():
    """A background, a cabinet, its door on a hinge, a handle on the door, and a cup."""
    hinge = Joint("revolute", (0.0, 0.0, 1.0), (0.3, 0.0, 0.0), (0.0, 1.5))
    poses = [random_pose(seed) for seed in range(5)]
    items = [
        WorldObject(0, "background", blob(0), world_from_object=poses[0]),
        WorldObject(1, "cabinet", blob(1), ObjectKind.STATIC, poses[1]),
        WorldObject(2, "door", blob(2), ObjectKind.ARTICULATED, poses[2], parent=1, joint=hinge),
        WorldObject(3, "handle", blob(3), ObjectKind.RIGID, poses[3], parent=2),
        WorldObject(7, "cup", blob(7, degree_count=1), ObjectKind.RIGID, poses[4]),
    ]
    return World({item.id: item for item in items})


def assert_close(a, b, tolerance=1e-10):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def test_posed_gaussians_are_in_the_world_frame_with_their_ids():
    world = cabinet()
    posed = world.posed()
    assert posed.object_ids.tolist() == [0] * 6 + [1] * 6 + [2] * 6 + [3] * 6 + [7] * 6
    door = world.objects[2]
    wanted = transform_points(door.world_from_object, door.gaussians.means)
    assert_close(posed.select(posed.object_ids == 2).means, wanted)


def test_splitting_by_ids_and_posing_gives_the_same_gaussians():
    gaussians = blob(3, 9, ids=[5, 0, 0, 2, 5, 2, 0, 5, 5])
    world = World.from_gaussians(gaussians, metres_per_unit=0.5, up=(0.0, 0.0, 1.0))
    assert list(world.objects) == [0, 2, 5]
    assert [item.kind for item in world.objects.values()] == [
        ObjectKind.STATIC,
        ObjectKind.RIGID,
        ObjectKind.RIGID,
    ]
    assert [item.name for item in world.objects.values()] == ["background", "object 2", "object 5"]
    assert (world.metres_per_unit, world.up) == (0.5, (0.0, 0.0, 1.0))
    order = gaussians.select(gaussians.object_ids.argsort(stable=True))
    for field in fields(Gaussians):
        assert_close(getattr(world.posed(), field.name), getattr(order, field.name))


def test_background_rows_come_back_to_the_bit():
    gaussians = blob(4, 20)
    posed = World.from_gaussians(gaussians).posed()
    for field in fields(Gaussians):
        assert torch.equal(getattr(posed, field.name), getattr(gaussians, field.name)), field.name


def test_split_objects_have_their_frame_in_their_middle():
    item = World.from_gaussians(blob(5, 8, ids=[3] * 8)).objects[3]
    assert_close(item.gaussians.means.mean(dim=0), torch.zeros(3, dtype=DOUBLE))


@given(seeds)
@settings(max_examples=10)
def test_moving_changes_the_pose_and_no_gaussians(seed):
    world, pose = cabinet(), random_pose(seed)
    moved = world.moved(7, pose)
    assert_close(moved.objects[7].world_from_object, pose)
    for number, item in world.objects.items():
        assert moved.objects[number].gaussians is item.gaussians
        if number != 7:
            assert moved.objects[number] is item
    assert_close(world.objects[7].world_from_object, cabinet().objects[7].world_from_object, 0)


def test_what_is_mounted_comes_along():
    world, pose = cabinet(), random_pose(9)
    moved = world.moved(1, pose)

    def parent_from(world, parent, child):
        return (
            torch.linalg.inv(world.objects[parent].world_from_object) @ world.objects[child].world_from_object
        )

    for parent, child in ((1, 2), (1, 3), (2, 3)):
        assert_close(parent_from(moved, parent, child), parent_from(world, parent, child))
    assert moved.objects[7] is world.objects[7]
    assert moved.objects[0] is world.objects[0]


def test_adding_replacing_and_removing():
    world = cabinet()
    assert world.next_id == 8
    added = world.with_object(WorldObject(8, "spoon", blob(8)))
    assert list(added.objects) == [0, 1, 2, 3, 7, 8]
    assert list(world.objects) == [0, 1, 2, 3, 7]
    renamed = added.with_object(replace(added.objects[1], name="cupboard"))
    assert [item.name for item in renamed.objects.values()][1] == "cupboard"
    assert list(renamed.without_object(8).objects) == list(world.objects)
    assert World().next_id == 1


def test_a_state_places_objects():
    world = cabinet()
    rest = State.at_rest(world)
    assert_close(world.posed(rest).means, world.posed().means)
    rows = rest.object_poses.clone()
    rows[4, :3] += 1
    moved = world.posed(replace(rest, object_poses=rows))
    assert_close(moved.means[-6:], world.posed().means[-6:] + 1)
    assert_close(moved.means[:-6], world.posed().means[:-6])


def test_a_state_may_leave_objects_out():
    world = cabinet()
    state = State((7,), State.at_rest(world).object_poses[4:])
    assert_close(world.posed(state).means, world.posed().means)


def test_strange_states_are_refused():
    world = cabinet()
    with pytest.raises(
        ValueError, match=r"id of an object of this world, got 9; there are 0 \(background\), 1 \(cabinet\)"
    ):
        world.posed(State((9,), torch.tensor([[0.0, 0, 0, 1, 0, 0, 0]])))
    with pytest.raises(ValueError, match=r"expected one state, got a batch of shape \(3,\); index it first"):
        world.posed(State.at_rest(world).expand(3))


def test_an_empty_world():
    world = World()
    assert len(world.posed()) == 0
    assert len(world.posed(State.at_rest(world))) == 0
    assert World.from_gaussians(blob(n=0)).objects == {}


def test_scale_is_required_with_the_call_that_sets_it():
    with pytest.raises(UnknownScale, match=r"gaussworld world edit W set-scale"):
        cabinet().require_scale()
    with pytest.raises(UnknownScale):
        cabinet().in_metres()
    assert replace(cabinet(), metres_per_unit=0.1).require_scale() == 0.1


@given(seeds, st.floats(0.01, 100))
@settings(max_examples=10)
def test_reframing_moves_everything_alike(seed, scale):
    """Posing and then transforming equals reframing and then posing; pixels stay where they were."""
    camera = Camera(random_pose(seed + 1), torch.tensor([[90.0, 0, 32], [0, 90, 24], [0, 0, 1]]), 64, 48)
    world = replace(cabinet(), cameras=(camera,), metres_per_unit=2.0, up=(0.0, 1.0, 0.0))
    pose = random_pose(seed)
    new = world.reframed(pose, scale)
    a, b = new.posed(), world.posed().transformed(pose, scale)
    for name in ("means", "covariances", "sh"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=1e-7, atol=1e-7)
    before, _ = camera.project(world.posed().means)
    after, _ = new.cameras[0].project(a.means)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)
    assert new.metres_per_unit == pytest.approx(2.0 / scale)
    assert_close(torch.tensor(new.up, dtype=DOUBLE), pose[:3, 1])
    point = torch.tensor([[1.0, 2, 3]])
    way = transform_points(new.world_from_source, point).double()
    torch.testing.assert_close(way, transform_points(pose, point.double() * scale), rtol=1e-4, atol=1e-4)


def test_in_metres_has_a_unit_of_one_metre_and_scales_joints():
    drawer = Joint("prismatic", (1.0, 0.0, 0.0), (0.0, 2.0, 0.0), (0.0, 4.0), 1.0)
    world = replace(cabinet(), metres_per_unit=0.1)
    world = world.with_object(replace(world.objects[2], joint=drawer)).in_metres()
    assert world.metres_per_unit == 1
    joint = world.objects[2].joint
    assert joint.limits == pytest.approx((0, 0.4))
    assert (joint.origin[1], joint.position) == pytest.approx((0.2, 0.1))
    assert cabinet().objects[2].joint.scaled(0.1).limits == (0.0, 1.5)
    assert world.in_metres().objects[1].gaussians is world.objects[1].gaussians


def test_a_revolute_joint_turns_about_its_axis():
    joint = Joint("revolute", (0.0, 0.0, 1.0), (1.0, 0.0, 0.0))
    quarter = joint.motion(torch.tensor(math.pi / 2, dtype=DOUBLE))
    points = torch.tensor([[1.0, 0, 5], [2.0, 0, 0]], dtype=DOUBLE)
    assert_close(transform_points(quarter, points), torch.tensor([[1.0, 0, 5], [1, 1, 0]], dtype=DOUBLE))


def test_a_prismatic_joint_slides_from_where_it_is():
    joint = Joint("prismatic", (0.0, 1.0, 0.0), limits=(0.0, 0.4), position=0.1)
    motion = joint.motion(torch.tensor([0.1, 0.3]))
    assert motion.shape == (2, 4, 4)
    assert torch.equal(motion[0], torch.eye(4))
    assert motion[1, :3, 3].tolist() == pytest.approx([0, 0.2, 0])


@pytest.mark.parametrize("kind", ["revolute", "prismatic"])
def test_joint_motions_compose_and_have_gradients(kind):
    joint = Joint(kind, (0.6, 0.0, 0.8), (0.1, 0.2, 0.3))
    a, b = torch.tensor([0.3, 0.5], dtype=DOUBLE)
    assert_close(joint.motion(a) @ joint.motion(b), joint.motion(a + b))
    assert torch.autograd.gradcheck(joint.motion, torch.tensor([0.0, 0.7], dtype=DOUBLE, requires_grad=True))


def test_material_remembers_where_numbers_are_from():
    material = Material().with_values("measured", friction=0.3, density=1200.0)
    assert (material.friction, material.density, material.restitution) == (0.3, 1200.0, 0.0)
    assert material.sources["friction"] == material.sources["density"] == "measured"
    assert material.sources["stiffness"] == "default"
    later = material.with_values("identified", friction=0.35)
    assert (later.sources["friction"], later.sources["density"]) == ("identified", "measured")
    assert later == Material(density=1200.0, friction=0.35, sources=later.sources)


def test_worlds_are_frozen_and_keep_their_own_objects():
    objects = dict(cabinet().objects)
    world = World(objects)
    objects.clear()
    assert len(world.objects) == 5
    with pytest.raises(FrozenInstanceError):
        world.up = (0.0, 0.0, 1.0)
    with pytest.raises(FrozenInstanceError):
        world.objects[1].name = "shelf"


HINGE = Joint("revolute", (0.0, 0.0, 1.0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Joint("spherical", (0.0, 0.0, 1.0)),
            "Joint.kind: expected revolute or prismatic, got 'spherical'",
        ),
        (lambda: Joint("revolute", (0.0, 0.0, 2.0)), "Joint.axis: expected a direction of length 1"),
        (
            lambda: replace(HINGE, limits=(1.0, 0.0)),
            "Joint.limits: expected lowest <= highest, got 1.0 and 0.0",
        ),
        (lambda: Material(density=0.0), "Material.density: expected a positive finite value, got 0.0"),
        (
            lambda: Material(stiffness=math.nan),
            "Material.stiffness: expected a positive finite value, got nan",
        ),
        (
            lambda: Material(restitution=1.5),
            r"Material.restitution: expected a finite value in \[0, 1\], got 1.5",
        ),
        (
            lambda: Material(friction=-0.1),
            r"Material.friction: expected a finite value in \[0, inf\], got -0.1",
        ),
        (
            lambda: Material(sources={"colour": "user"}),
            "Material.sources: expected keys among density.*got colour",
        ),
        (
            lambda: Material(sources={"friction": "guess"}),
            "Material.sources: expected values among default.*got guess",
        ),
        (lambda: WorldObject(-1, "x", blob()), "WorldObject.id: expected 0 to 2.31 - 1, got -1"),
        (
            lambda: WorldObject(1, "x", blob(), world_from_object=torch.eye(3)),
            r"expected shape \(4, 4\), got \(3, 3\)",
        ),
        (
            lambda: WorldObject(1, "x", blob(), world_from_object=-torch.eye(4)),
            "WorldObject.world_from_object",
        ),
        (lambda: WorldObject(1, "x", blob(), ObjectKind.ARTICULATED), r"object 1 \(x\): expected a joint"),
        (
            lambda: WorldObject(1, "x", blob(), ObjectKind.RIGID, joint=HINGE),
            "expected kind ARTICULATED or ROBOT.*got RIGID",
        ),
        (lambda: World({2: WorldObject(1, "x", blob())}), "every key to be its object's id, got 2 for 1"),
        (lambda: World({1: WorldObject(1, "x", blob(), parent=4)}), r"got 4; there are 1 \(x\)"),
        (
            lambda: World({1: WorldObject(1, "x", blob(), parent=1)}),
            r"object 1 \(x\): expected a tree of parents",
        ),
        (
            lambda: World(metres_per_unit=-1.0),
            "World.metres_per_unit: expected a positive length or None, got -1.0",
        ),
        (lambda: World(up=(0.0, 0.0, 0.0)), "World.up: expected a direction of length 1 or None"),
        (lambda: World(world_from_source=torch.eye(3)), r"World.world_from_source: expected shape \(4, 4\)"),
        (lambda: cabinet().without_object(5), "expected the id of an object of this world, got 5"),
        (lambda: cabinet().without_object(1), r"object 1: expected nothing mounted on it, got \[2\]"),
        (lambda: cabinet().moved(5, torch.eye(4)), "expected the id of an object of this world, got 5"),
        (lambda: cabinet().moved(1, 2 * torch.eye(4)), "expected the last row 0 0 0 1"),
    ],
)
def test_mistakes_say_why(make, message, as_in_production):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_cycle_of_parents_is_refused():
    a, b = WorldObject(1, "a", blob(), parent=2), WorldObject(2, "b", blob(), parent=1)
    with pytest.raises(ValueError, match="expected a tree of parents, got a cycle"):
        World({1: a, 2: b})
