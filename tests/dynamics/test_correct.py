"""Correction and tracking: what was observed pulls a prediction to where things are; nothing else does."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache

import jaxtyping
import pytest
import torch

from dynamics.correction.correct import (
    CorrectConfig,
    ImageView,
    PointView,
    believed,
    moved_objects,
    moved_particles,
)
from dynamics.correction.images import ImageCorrection
from dynamics.correction.points import PointCorrection
from dynamics.correction.track import TrackConfig, Tracker, track
from dynamics.matter.parts import Matter
from dynamics.matter.sample import matter_of
from dynamics.prediction.props import rounded_box, tool_box_poses
from dynamics.prediction.stage import Stage
from dynamics.skinning.skin import Skin
from dynamics.tool import pusher
from gaussworld.camera import Camera
from gaussworld.log import drain
from gaussworld.pose import (
    look_at,
    pose7_from_pose,
    pose_from,
    pose_from_pose7,
    rotation_from_rotvec,
    rotvec_from_rotation,
    transform_points,
)
from gaussworld.render import render
from gaussworld.shape import Shape
from gaussworld.state import Action, ActionSpec, Rollout, State, stack
from gaussworld.surface import Paint, Surface, box
from gaussworld.surface.objects import Detail, Thing, objects_of
from gaussworld.world import World
from gaussworld.world_object import Joint, ObjectKind

EYES = ((0.45, -0.4, 0.4), (-0.35, 0.45, 0.45))


@cache
def table(kind: ObjectKind = ObjectKind.RIGID) -> World:
    """A box, or a door, or something soft, on a table."""

    def thing(name: str, size: tuple[float, float, float], z: float, kind: ObjectKind) -> Thing:
        solid, color = box(size), (0.8, 0.3, 0.2) if name == "box" else (0.6, 0.6, 0.55)
        paint = Surface(solid.mesh, (Paint(color),))
        joint = Joint("revolute", (0.0, 0.0, 1.0), (-0.08, 0.0, 0.0), (-1.5, 1.5))
        hinge = joint if kind is ObjectKind.ARTICULATED else None
        pose = pose_from(torch.eye(3), torch.tensor([0.0, 0.0, z]))
        return Thing(name, paint, pose, kind, Shape(solid.mesh, (solid.mesh,)), joint=hinge)

    things = [
        thing("table", (0.5, 0.5, 0.02), -0.01, ObjectKind.STATIC),
        thing("box", (0.16, 0.1, 0.06), 0.03, kind),
    ]
    objects = objects_of(things, Detail(900, shade=True))
    return World({item.id: item for item in objects}, metres_per_unit=1.0, up=(0.0, 0.0, 1.0))


def start(world: World, tip: tuple[float, float, float] = (-0.3, 0.3, 0.2)) -> State:
    return State.at_rest(world, tool_poses=torch.tensor([[*tip, 1.0, 0.0, 0.0, 0.0]]))


def displaced(state: State, shift: Sequence[float], turn: Sequence[float]) -> State:
    poses = state.object_poses.clone()
    pose = pose_from_pose7(poses[1])
    moved = pose_from(
        rotation_from_rotvec(torch.tensor(turn)) @ pose[:3, :3], pose[:3, 3] + torch.tensor(shift)
    )
    poses[1] = pose7_from_pose(moved)
    return replace(state, object_poses=poses)


def apart(a: State, b: State) -> tuple[float, float]:
    """[mm] and [deg] between the boxes of two states."""
    first, second = pose_from_pose7(a.object_poses[1]), pose_from_pose7(b.object_poses[1])
    turn = rotvec_from_rotation(first[:3, :3] @ second[:3, :3].T).norm()
    return 1000 * float((first[:3, 3] - second[:3, 3]).norm()), math.degrees(float(turn))


def seen(world: World, state: State, noise: float = 0.002) -> list[ImageView]:
    """What two cameras see of a state, the depth a little off."""
    generator, views = torch.Generator().manual_seed(5), []
    for eye in EYES:
        camera = Camera.pinhole(look_at(torch.tensor(eye), torch.zeros(3)), 64, 48, 40.0)
        drawn = render(Stage(world, [pusher()]).gaussians(state), camera, outputs=["depth"])
        assert drawn.depth is not None
        off = noise * torch.randn(drawn.depth.shape, generator=generator)
        depth = torch.where(drawn.alpha > 0.5, drawn.depth + off, torch.zeros_like(drawn.depth))
        views.append(ImageView(camera, drawn.rgb.clamp(0, 1), depth))
    return views


def cloud(world: World, state: State, noise: float = 0.002) -> PointView:
    """Points of the surfaces of the upper half of everything, the tool too, a little off."""
    generator, parts = torch.Generator().manual_seed(5), []
    tip = tool_box_poses([pusher()], state.tool_poses, state.grip)[0]
    meshes = [(rounded_box(pusher().halves[0], 0.0125), tip)]
    for row, item in enumerate(world.objects.values()):
        assert item.shape is not None
        meshes.append((item.shape.mesh, state.object_poses[row]))
    for mesh, pose in meshes:
        faces = mesh.triangles[torch.randint(len(mesh.faces), (2500,), generator=generator)]
        share = torch.rand(2500, 3, 1, generator=generator).log().neg()
        places = (faces * share / share.sum(1, keepdim=True)).sum(1)
        parts.append(transform_points(pose_from_pose7(pose), places))
    points = torch.cat(parts)
    points = points[points[:, 2] > -0.001]
    return PointView(points + noise * torch.randn(points.shape, generator=generator))


@pytest.mark.parametrize(
    ("shift", "turn"), [((0.02, -0.012, 0.0), (0.0, 0.0, 0.15)), ((-0.01, 0.015, 0.006), (0.03, 0.0, -0.1))]
)
def test_points_that_nobody_named_bring_a_box_back(shift: tuple[float, ...], turn: tuple[float, ...]) -> None:
    """From 2 cm and 8 degrees to a few millimetres, by depth with 2 mm of noise."""
    world = table()
    truth = start(world)
    wrong = displaced(truth, shift, turn)
    found = PointCorrection(world, [pusher()]).correct(wrong, cloud(world, truth))
    millimetres, degrees = apart(found.state, truth)
    assert millimetres < 0.25 * apart(wrong, truth)[0] and millimetres < 4 and degrees < 2.5
    assert found.moved[2] > 0.008 and found.seen[2] > 100


def test_what_is_right_stays() -> None:
    """A prediction that agrees with what is seen is moved by less than the noise."""
    world = table()
    truth = start(world)
    found = PointCorrection(world, [pusher()]).correct(truth, cloud(world, truth))
    assert apart(found.state, truth)[0] < 2.5 and apart(found.state, truth)[1] < 1.5


def test_a_tool_and_a_table_are_no_box() -> None:
    """Points of the table and of a tool beside the box do not pull it."""
    world = table()
    truth = start(world, (-0.095, 0.0, 0.005))
    with_tool = PointCorrection(world, [pusher()]).correct(truth, cloud(world, truth))
    assert apart(with_tool.state, truth)[0] < 2.5
    flat = torch.cat(
        [torch.rand(3000, 2, generator=torch.Generator().manual_seed(1)) - 0.5, torch.zeros(3000, 1)], 1
    )
    only_table = PointCorrection(world, [pusher()]).correct(truth, PointView(flat))
    assert torch.equal(only_table.state.object_poses, truth.object_poses) and not only_table.seen


def test_outliers_do_not_pull() -> None:
    """A fifth of the points is somewhere else."""
    world = table()
    truth = start(world)
    view = cloud(world, truth)
    generator = torch.Generator().manual_seed(2)
    count = len(view.points) // 4
    wild = torch.rand(count, 3, generator=generator) * torch.tensor([0.3, 0.3, 0.15]) - torch.tensor(
        [0.15, 0.15, 0]
    )
    wrong = displaced(truth, (0.015, 0.0, 0.0), (0.0, 0.0, 0.1))
    found = PointCorrection(world).correct(wrong, PointView(torch.cat([view.points, wild])))
    assert apart(found.state, truth)[0] < 5


def test_points_with_names_are_exact() -> None:
    """Where it is known which point each is, far is no trouble: 10 cm and 40 degrees."""
    world = table()
    truth = start(world)
    rest = world.objects[2].gaussians.means[::5]
    points = transform_points(pose_from_pose7(truth.object_poses[1]), rest)
    view = PointView(points, torch.full((len(rest),), 2), rest)
    wrong = displaced(truth, (0.1, -0.05, 0.02), (0.1, 0.2, 0.7))
    config = CorrectConfig(tolerance=0.05, place_doubt=1.0, turn_doubt=3.0, rounds=12)
    found = PointCorrection(world, config=config).correct(wrong, view)
    assert apart(found.state, truth)[0] < 0.5 and apart(found.state, truth)[1] < 0.5


def test_a_door_moves_about_its_hinge_only() -> None:
    """Points turn a joint, and its object stays on the axis and within the limits."""
    world = table(ObjectKind.ARTICULATED)
    closed = start(world)
    angle = torch.tensor(0.2)
    opened = moved_objects(world, closed, {}, {2: angle}, None)
    found = PointCorrection(world, [pusher()]).correct(closed, cloud(world, opened))
    assert float(found.state.joint_positions[0]) == pytest.approx(0.2, abs=0.02)
    hinge = torch.tensor([[-0.08, 0.0, 0.0]])
    before, after = (pose_from_pose7(each.object_poses[1]) for each in (closed, found.state))
    assert torch.allclose(transform_points(before, hinge), transform_points(after, hinge), atol=1e-5)


@cache
def soft() -> tuple[World, Matter, Skin]:
    world = table(ObjectKind.DEFORMABLE)
    matter = matter_of(world)
    return world, matter, Skin.bind(matter, world)


def test_what_bends_follows_its_points() -> None:
    """A soft thing whose one side was bent upwards: its particles come nearer to where they are."""
    world, matter, skin = soft()
    rest = matter.rest + torch.tensor([0.0, 0.0, 0.03])
    flat = State.at_rest(world, rest)
    lift = torch.zeros_like(rest)
    lift[:, 2] = (rest[:, 0].clamp(min=0) / 0.08) ** 2 * 0.025
    truth = moved_particles(flat, rest + lift, matter)
    points = skin.gaussians(truth).select(skin.gaussians(truth).object_ids == 2).means
    tracked = PointCorrection(world, (), matter, skin.gaussians)
    found = tracked.correct(flat, PointView(points, torch.full((len(points),), 2)))
    error = (found.state.particle_positions - truth.particle_positions).norm(dim=1)
    assert float(error.mean()) < 0.6 * float(lift.norm(dim=1).mean())
    assert float(found.state.object_poses[1, 2]) > float(flat.object_poses[1, 2]) + 0.001


@pytest.mark.parametrize("depth", [True, False])
def test_pictures_bring_a_box_back(depth: bool) -> None:
    """Through the rasterizer, from 1.3 cm and 5 degrees to about a millimetre, also by colours alone."""
    world = table()
    truth = start(world)
    views = seen(world, truth)
    # The light is another than the Gaussians have baked in.
    views = [replace(v, rgb=(v.rgb * 0.8).clamp(0, 1), depth=v.depth if depth else None) for v in views]
    wrong = displaced(truth, (0.01, -0.008, 0.0), (0.0, 0.0, 0.09))
    config = CorrectConfig(steps=15)
    found = ImageCorrection(world, [pusher()], config=config).correct(wrong, views)
    assert apart(found.state, truth)[0] < 2.5 and apart(found.state, truth)[1] < 2
    assert found.seen[2] > 100


def test_pictures_without_the_box_move_nothing() -> None:
    """Masked out, or looking elsewhere, a picture has no say."""
    world = table()
    truth = start(world)
    views = [replace(view, mask=torch.zeros(48, 64, dtype=torch.bool)) for view in seen(world, truth)]
    found = ImageCorrection(world, [pusher()]).correct(truth, views)
    assert torch.equal(found.state.object_poses, truth.object_poses) and not found.seen


def test_speeds_learn_from_corrections() -> None:
    """A shift becomes a speed by the gain, and the whole of it the residual."""
    world, matter, _ = soft()
    rest = matter.rest + torch.tensor([0.0, 0.0, 0.03])
    before = State.at_rest(world, rest)
    after = moved_particles(before, rest + torch.tensor([0.01, 0.0, 0.0]), matter)
    found = believed(before, after, 0.1, 0.5)
    assert torch.allclose(
        found.particle_velocities, torch.tensor([0.05, 0.0, 0.0]).expand_as(rest), atol=1e-5
    )
    assert torch.allclose(found.residual, torch.tensor([0.1, 0.0, 0.0]).expand_as(rest), atol=1e-5)
    assert float(found.object_twists[1, 0]) == pytest.approx(0.05, abs=1e-4)


@pytest.fixture
def as_in_production():
    """Without shape checks, so that our own messages are seen."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("as_in_production")
def test_views_that_contradict_themselves_are_refused() -> None:
    """Another size, another count, NaN, points with names of nothing."""
    camera = Camera.pinhole(torch.eye(4), 8, 6, 40.0)
    with pytest.raises(ValueError, match="expected 3 rows, got 2"):
        PointView(torch.zeros(3, 3), torch.zeros(2, dtype=torch.long))
    with pytest.raises(ValueError, match="NaN"):
        PointView(torch.full((3, 3), float("nan")))
    with pytest.raises(ValueError, match="expected `objects`"):
        PointView(torch.zeros(3, 3), None, torch.zeros(3, 3))
    with pytest.raises(ValueError, match=r"depth: expected \(6, 8\) pixels"):
        ImageView(camera, torch.zeros(6, 8, 3), torch.zeros(3, 8))


class Slow:
    """A model that thinks the box is moved half as far as it is."""

    action_spec = ActionSpec("tool_pose", 1, "world", "m", 10.0)

    def __init__(self, share: float) -> None:
        self.share = share

    def initial(self, world: World) -> State:
        return start(world)

    def step(self, state: State, action: Action) -> State:
        assert action.tools is not None
        poses = state.object_poses.clone()
        poses[1, :3] += self.share * (action.tools[0, :3] - state.tool_poses[0, :3])
        return replace(state, object_poses=poses, tool_poses=action.tools, time=state.time + 0.1)

    def rollout(self, state: State, actions: Action) -> Rollout:
        states = [state]
        for step in range(len(actions)):
            states.append(self.step(states[-1], actions[step]))
        return Rollout(stack(states), actions, 0.1)


def _recording(world: World) -> tuple[State, Action, Rollout]:
    poses = torch.zeros(4, 1, 7)
    poses[:, 0, 3] = 1
    poses[:, 0, 0] = -0.15 + 0.015 * torch.arange(1, 5)
    poses[:, 0, 2] = 0.005
    begin = start(world, (-0.15, 0.0, 0.005))
    actions = Action(Slow.action_spec, poses)
    return begin, actions, Slow(1.0).rollout(begin, actions)


@pytest.mark.parametrize("config", [TrackConfig(images=False, stride=1), TrackConfig(points=False)])
def test_tracking_is_nearer_than_prediction(config: TrackConfig) -> None:
    """A model that is wrong by half is held to the truth by what is seen, and repeats to the bit."""
    world = table()
    begin, actions, truth = _recording(world)

    def views() -> Iterator[list[ImageView] | list[PointView]]:
        for step in range(len(truth.states)):
            state = truth.states[step]
            yield [cloud(world, state)] if config.points else seen(world, state)

    model, quick = Slow(0.5), CorrectConfig(steps=8)
    tracker = Tracker(model, world, [pusher()], config=config, correct=quick)
    followed = drain(track(tracker, begin, actions, views())).result
    alone = model.rollout(begin, actions)
    assert apart(alone.final, truth.final)[0] > 25
    assert apart(followed.final, truth.final)[0] < 5
    assert len(followed) == 4


def test_tracking_in_the_dark_is_prediction() -> None:
    """Where nothing is seen the states are the model's own."""
    world = table()
    begin, actions, _ = _recording(world)
    model = Slow(0.5)
    followed = drain(track(Tracker(model, world, [pusher()]), begin, actions, [])).result
    assert torch.equal(followed.states.object_poses, model.rollout(begin, actions).states.object_poses)
