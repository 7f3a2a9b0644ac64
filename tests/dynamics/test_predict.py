"""`gaussworld predict`: worlds and actions become states, a 4D file, a video, a summary; or one sentence."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import jaxtyping
import pytest
import torch

from dynamics import models
from dynamics.prediction.commands import predict as verb
from dynamics.prediction.outcome import ShowConfig, write_prediction
from dynamics.prediction.predict import PredictConfig, joined, predict, predicting
from dynamics.prediction.props import rounded_box, tool_box_poses, tool_objects
from dynamics.prediction.question import ask
from dynamics.prediction.stage import Stage, framing_camera
from dynamics.tool import Tool, gripper, pusher
from gaussworld.errors import ConfigError, FileFormatError, UnknownScale
from gaussworld.io.action_script import ActionFile
from gaussworld.io.rollouts import load_rollout, rollout_facts
from gaussworld.log import drain
from gaussworld.pose import pose_from, pose_from_pose7, transform_points
from gaussworld.render import render
from gaussworld.shape import Shape, is_closed
from gaussworld.state import Action, ActionSpec, Rollout, State, stack
from gaussworld.surface import Paint, Surface, box
from gaussworld.surface.objects import Detail, Thing, objects_of
from gaussworld.world import World
from gaussworld.world_object import ObjectKind

SPEC = ActionSpec("tool_pose", 1, "world", "m", 10.0)


class Sliding:
    """A model with which everything near to the tip slides along."""

    def __init__(self, world: World, matter: object, tools: tuple[Tool, ...], rate_hz: float) -> None:
        self.tools, self.action_spec = tools, ActionSpec("tool_pose", len(tools), "world", "m", rate_hz)

    def initial(self, world: World) -> State:
        return State.at_rest(world, tool_poses=torch.tensor([[0.0, 0, 1, 1, 0, 0, 0]] * len(self.tools)))

    def step(self, state: State, action: Action) -> State:
        self.action_spec.check(action)
        assert action.tools is not None
        tip, poses = action.tools[..., :1, :2], state.object_poses.clone()
        near = (poses[..., :2] - tip).norm(dim=-1, keepdim=True) < 0.08
        movable = torch.tensor([False, True, True])[:, None]
        poses[..., :2] += (near & movable) * (tip - state.tool_poses[..., :1, :2])
        grip = state.grip if action.grip is None else action.grip
        time = state.time + self.action_spec.dt
        return replace(state, object_poses=poses, tool_poses=action.tools, grip=grip, time=time)

    def rollout(self, state: State, actions: Action) -> Rollout:
        states = [state]
        for step in range(len(actions)):
            states.append(self.step(states[-1], actions[step]))
        made = stack(states)
        contacts = torch.zeros(*made.batch_shape, 3, 4, dtype=torch.bool)
        contacts[..., 2, 3] = (made.object_poses[..., 2, 0] > 0.001).reshape(made.batch_shape)
        return Rollout(made, actions, self.action_spec.dt, contacts=contacts)


@cache
def table(movable: bool = True) -> World:
    def thing(name: str, size: tuple[float, float, float], at: list[float], kind: ObjectKind) -> Thing:
        solid = box(size)
        paint = Surface(solid.mesh, (Paint((0.8, 0.3, 0.2)),))
        pose = pose_from(torch.eye(3), torch.tensor(at))
        return Thing(name, paint, pose, kind, Shape(solid.mesh, (solid.mesh,)))

    kind = ObjectKind.RIGID if movable else ObjectKind.STATIC
    things = [
        thing("table", (0.8, 0.6, 0.04), [0, 0, -0.02], ObjectKind.STATIC),
        thing("mug", (0.06, 0.06, 0.08), [0.15, 0.2, 0.04], kind),
        thing("block", (0.1, 0.1, 0.06), [0, 0, 0.03], kind),
    ]
    objects = objects_of(things, Detail(600, shade=True))
    return World({item.id: item for item in objects}, metres_per_unit=1.0, up=(0.0, 0.0, 1.0))


def pushing(steps: int = 12, size: int = 1) -> Action:
    poses = torch.zeros(steps, size, 7)
    poses[..., 3] = 1
    poses[..., 2] = 0.005
    poses[:, :, 0] = torch.linspace(-0.09, 0.04, steps)[:, None]
    return Action(replace(SPEC, size=size), poses)


@pytest.fixture
def sliding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.MODELS, "sliding", Sliding)


def test_python_predicts_as_the_model_steps(sliding: None) -> None:
    """The rollout is the model's own, in chunks or not, with the tool where the actions begin."""
    world, actions = table(), pushing()
    rollout = predict(world, actions, "sliding")
    model = Sliding(world, None, (pusher(),), 10.0)
    assert actions.tools is not None
    start = replace(model.initial(world), tool_poses=actions.tools[0])
    whole = model.rollout(start, actions)
    assert torch.equal(rollout.states.object_poses, whole.states.object_poses)
    assert rollout.contacts is not None and torch.equal(rollout.contacts, whole.contacts)  # pyright: ignore
    assert rollout.spread is None and len(rollout) == 12
    assert float(rollout.final.object_poses[2, 0]) > 0.05


def test_a_model_in_hand_and_a_start(sliding: None) -> None:
    """A model may be handed in itself; a file's start is where the tool begins."""
    world, actions = table(), pushing()
    start = torch.tensor([[-0.15, 0, 0.005, 1, 0, 0, 0]])
    told = ActionFile(actions, ("pusher",), start)
    rollout = predict(world, told, Sliding(world, None, (pusher(),), 10.0), steps=3)
    assert torch.equal(rollout.states.tool_poses[0], start) and len(rollout) == 3


def test_samples_come_apart_and_repeat(sliding: None) -> None:
    """The first sample is the plain prediction; the spread grows with the noise; a seed repeats it."""
    world, actions = table(), pushing()
    plain = predict(world, actions, "sliding")
    many = predict(world, actions, "sliding", config=PredictConfig(samples=40, seed=2))
    again = predict(world, actions, "sliding", config=PredictConfig(samples=40, seed=2))
    assert many.spread is not None and again.spread is not None and torch.equal(many.spread, again.spread)
    assert torch.equal(many.states.object_poses, plain.states.object_poses)
    assert float(many.spread[0, 0]) < 1e-6
    # Nine of ten are within 2.15 standard deviations of a place in the plane: 4.3 mm of 2 mm.
    assert float(many.spread[0, 2]) == pytest.approx(0.0043, rel=0.2)


def test_a_folder_is_written_and_read(sliding: None, tmp_path: Path) -> None:
    """States to the bit, a 4D file with the tool in it, a video of every state, a summary."""
    pytest.importorskip("av")
    pytest.importorskip("pxr")
    from gaussworld.io.usd_rollout import read_rollout_poses
    from gaussworld.io.video import read_video

    question = ask(table(), pushing(6))
    prediction = drain(predicting(question, "sliding")).result
    show = ShowConfig(width=96, height=64)
    written = drain(write_prediction(prediction, tmp_path / "out", "sliding", show=show)).result
    names = {"rollout.safetensors", "rollout.usdc", "prediction.mp4", "summary.json"}
    assert (
        {path.name for path in written.files} == names == {path.name for path in (tmp_path / "out").iterdir()}
    )
    rollout = load_rollout(tmp_path / "out" / "rollout.safetensors")
    assert torch.equal(rollout.states.object_poses, prediction.rollout.states.object_poses)
    facts = rollout_facts(tmp_path / "out" / "rollout.safetensors")
    assert facts["model"] == "sliding" and facts["tools"][0]["name"] == "pusher"
    times, poses = read_rollout_poses(tmp_path / "out" / "rollout.usdc")
    assert len(times) == 7 and set(poses) == {1, 2, 3, 4}
    assert torch.allclose(poses[3], rollout.states.object_poses[:, 2], atol=1e-5)
    assert torch.allclose(poses[4][:, 0], rollout.states.tool_poses[:, 0, 0], atol=1e-5)
    frames = [frame for _, frame in read_video(tmp_path / "out" / "prediction.mp4")]
    assert len(frames) == 7 and frames[0].shape == (64, 96, 3)
    assert float((frames[0] - frames[-1]).abs().max()) > 0.3
    told = json.loads((tmp_path / "out" / "summary.json").read_text())
    block = next(each for each in told["objects"] if each["name"] == "block")
    assert block["moved_m"] > 0.05 and block["final"][0] == pytest.approx(block["moved_m"], abs=1e-4)
    assert told["contacts"][0] | {"first_s": 0} == {
        "object": "block", "with": "pusher", "is_tool": True, "first_s": 0,
        "last_s": pytest.approx(0.6), "states": told["contacts"][0]["states"],
    }  # fmt: skip


def test_the_verb(sliding: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From a stored world and a file of actions; the second time it wants --force; --json is JSON."""
    table().save(tmp_path / "w.world")
    script = {"via": [[-0.1, 0, 0.005], [0.05, 0, 0.005]], "speed": 0.2}
    (tmp_path / "a.json").write_text(json.dumps(script))
    quiet = ShowConfig(video=False, scene=False)
    arguments = {"actions": tmp_path / "a.json", "out": tmp_path / "out", "model": "sliding", "show": quiet}
    verb(tmp_path / "w.world", **arguments)
    said = capsys.readouterr().out
    assert "block  moved 0." in said and "rollout.safetensors  all states" in said
    with pytest.raises(ConfigError, match="add --force"):
        verb(tmp_path / "w.world", **arguments)
    verb(tmp_path / "w.world", **arguments, force=True, json=True, config=PredictConfig(samples=3))
    told = json.loads(capsys.readouterr().out)
    assert told["samples"] == 3 and told["objects"][1]["spread_m"] >= 0
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_broken_off_prediction_leaves_nothing(sliding: None, tmp_path: Path) -> None:
    """Stopped while it draws, no folder of that name is there, and none besides; an old one stays whole."""
    pytest.importorskip("av")
    prediction = drain(predicting(ask(table(), pushing(6)), "sliding")).result
    quiet = ShowConfig(video=False, scene=False)
    drain(write_prediction(prediction, tmp_path / "out", "sliding", show=quiet))
    before = (tmp_path / "out" / "summary.json").read_bytes()
    show = ShowConfig(width=64, height=48, scene=False)
    work = write_prediction(prediction, tmp_path / "out", "sliding", show=show, force=True)
    for _ in range(3):
        next(work)
    work.close()
    assert (tmp_path / "out" / "summary.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_foreign_folder_is_never_replaced(sliding: None, tmp_path: Path) -> None:
    """--force replaces predictions only."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("x")
    prediction = drain(predicting(ask(table(), pushing(3)), "sliding")).result
    with pytest.raises(ConfigError, match="which is none"):
        drain(write_prediction(prediction, tmp_path / "out", "sliding", force=True))


@pytest.fixture
def as_in_production():
    """Without shape checks, so that our own messages are seen."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def _with(world: World, **changes: object) -> World:
    return replace(world, **changes)  # pyright: ignore[reportArgumentType]


@pytest.mark.usefixtures("as_in_production", "sliding")
def test_worlds_that_cannot_be_predicted() -> None:
    """Without scale, without an up, lying on its side, with nothing to move, empty."""
    actions = pushing()
    with pytest.raises(UnknownScale, match="set-scale"):
        predict(_with(table(), metres_per_unit=None), actions, "sliding")
    for up in (None, (0.0, 1.0, 0.0), (0.0, 0.0, -1.0)):
        with pytest.raises(ConfigError, match="set-up"):
            predict(_with(table(), up=up), actions, "sliding")
    with pytest.raises(ConfigError, match="an object that can move, got table STATIC"):
        predict(table(movable=False), actions, "sliding")
    with pytest.raises(ConfigError, match="got an empty one"):
        predict(_with(table(), objects={}), actions, "sliding")


def test_a_world_in_centimetres_is_predicted_in_metres(sliding: None) -> None:
    """Actions are in metres whatever the world's unit is."""
    world = table().reframed(torch.eye(4), 100.0)
    assert world.metres_per_unit == pytest.approx(0.01)
    a, b = predict(world, pushing(), "sliding"), predict(table(), pushing(), "sliding")
    assert torch.allclose(a.states.object_poses, b.states.object_poses, atol=1e-5)


@pytest.mark.usefixtures("as_in_production", "sliding")
def test_actions_that_cannot_be_done() -> None:
    """Another kind, another rate than the model's, a jump, several tools and one name, none at all."""
    world = table()
    joints = Action(ActionSpec("joint_position", 3, "joint", "rad", 10.0), joints=torch.zeros(4, 3))
    with pytest.raises(ValueError, match="expected the kind tool_pose"):
        predict(world, joints, "sliding")
    with pytest.raises(ValueError, match=r"rate_hz: expected 10\.0, got 20\.0"):
        fast = Action(replace(SPEC, rate_hz=20.0), pushing().tools)
        predict(world, fast, Sliding(world, None, (pusher(),), 10.0))
    tools = pushing().tools
    assert tools is not None
    jump = tools.clone()
    jump[1:, 0, 0] += 0.9 - float(tools[1, 0, 0] - tools[0, 0, 0])
    with pytest.raises(ValueError, match=r"got 0\.9 m in step 1; put targets in between"):
        predict(world, Action(SPEC, jump), "sliding")
    assert len(predict(world, Action(SPEC, jump), "sliding", config=PredictConfig(max_speed=20.0))) == 12
    with pytest.raises(ConfigError, match="expected 2 tools, as many as the actions move, got 1"):
        predict(world, pushing(size=2), "sliding", tools=["pusher"])
    with pytest.raises(ValueError, match="t of at least 1"):
        predict(world, pushing()[:0], "sliding")
    with pytest.raises(ValueError, match="finite"):
        Action(SPEC, torch.full((3, 1, 7), float("nan")))
    with pytest.raises(ConfigError, match="--steps: expected at least 1"):
        predict(world, pushing(), "sliding", steps=0)
    with pytest.raises(ConfigError, match="samples"):
        PredictConfig(samples=0)


@pytest.mark.usefixtures("as_in_production", "sliding")
def test_names_and_paths_that_are_not_there(tmp_path: Path) -> None:
    """An unknown model lists those there are, an unknown tool likewise; wrong paths are named."""
    with pytest.raises(ConfigError, match=r"prior, persistence, constant-velocity.*got 'oracle'"):
        predict(table(), pushing(), "oracle")
    with pytest.raises(ConfigError, match=r"expected a tool \(pusher, gripper\)"):
        predict(table(), pushing(), "sliding", tools=["spoon"])
    with pytest.raises(ConfigError, match="expected the record of a tool"):
        predict(table(), ActionFile(pushing(), ({"name": "x"},)), "sliding")
    with pytest.raises(FileFormatError, match="no such file"):
        predict(tmp_path / "none.ply", pushing(), "sliding")
    with pytest.raises(FileFormatError, match="got another folder"):
        predict(table(), tmp_path, "sliding")
    with pytest.raises(ConfigError, match="expected --actions"):
        verb(tmp_path, out=tmp_path / "out", model="sliding")


@pytest.mark.usefixtures("as_in_production", "sliding")
def test_cameras_and_sizes_that_are_not_there(tmp_path: Path) -> None:
    """A camera that the world has not, a picture of no size."""
    prediction = drain(predicting(ask(table(), pushing(3)), "sliding")).result
    for show, said in (
        (ShowConfig(camera=(0,)), "none: leave --camera out"),
        (ShowConfig(width=3), "at least 16 px"),
    ):
        with pytest.raises(ConfigError, match=said):
            drain(write_prediction(prediction, tmp_path / "out", "sliding", show=show))
    assert not list(tmp_path.iterdir())


class _Wild(Sliding):
    def step(self, state: State, action: Action) -> State:
        after = super().step(state, action)
        return replace(after, object_poses=after.object_poses * float("nan"))


def test_a_model_that_goes_astray_says_so(sliding: None) -> None:
    """NaN in a state is never handed on."""
    world = table()
    with pytest.raises(ValueError, match="NaN or infinity in object_poses after step 1"):
        predict(world, pushing(), _Wild(world, None, (pusher(),), 10.0))


def test_parts_join_to_the_whole(sliding: None) -> None:
    """Chunks have one state in common, which is there once."""
    world, actions = table(), pushing(7)
    model = Sliding(world, None, (pusher(),), 10.0)
    state = replace(model.initial(world), tool_poses=torch.tensor([[-0.1, 0, 0.005, 1, 0, 0, 0]]))
    first = model.rollout(state, actions[:4])
    second = model.rollout(first.final, actions[4:])
    whole = joined([first, second], actions)
    assert torch.equal(whole.states.object_poses, model.rollout(state, actions).states.object_poses)


@pytest.mark.parametrize("half", [(0.0, 0.0, 0.0), (0.0, 0.0, 0.05), (0.02, 0.01, 0.03)])
@pytest.mark.parametrize("radius", [0.0, 0.01])
def test_rounded_boxes_are_the_tools_own(half: tuple[float, float, float], radius: float) -> None:
    """Every vertex is on the surface that physics collides with, and the mesh is closed."""
    if radius == 0 and min(half) == 0:
        pytest.skip("no body")
    mesh = rounded_box(torch.tensor(half), radius)
    tool = Tool("x", torch.zeros(1, 3), torch.tensor([half]), torch.tensor([radius]), torch.zeros(1, 3))
    assert float(tool.distance(mesh.vertices, torch.tensor(0.0)).abs().max()) < 1e-4
    assert is_closed(mesh) and mesh.volume > 0
    x, y, z = (2 * (each + radius) for each in half)
    assert mesh.volume <= x * y * z * 1.0001 and mesh.volume > 0.5 * x * y * z


def test_fingers_close() -> None:
    """What is drawn of a gripper moves with its grip as its boxes do."""
    tool = gripper()
    poses = torch.tensor([[0.1, 0, 0.2, 1, 0, 0, 0]])
    for grip in (0.0, 0.5, 1.0):
        closed = torch.tensor([grip])
        placed = tool_box_poses([tool], poses, closed)
        assert torch.allclose(placed[:, :3], tool.boxes(torch.tensor(grip)) + poses[0, :3])
    items = tool_objects([tool], 7)
    assert [item.id for item in items] == [7, 8, 9] and {item.kind for item in items} == {ObjectKind.ROBOT}


def test_a_robot_of_its_own_is_not_drawn_twice() -> None:
    """The tool's boxes stand in for a robot only where there is none."""
    world = table()
    state = State.at_rest(world, tool_poses=torch.tensor([[0.0, 0, 0.3, 1, 0, 0, 0]]))
    bare = len(Stage(world, []).gaussians(state))
    assert len(Stage(world, [pusher()]).gaussians(state)) > bare + 500
    robot = replace(world.objects[2], kind=ObjectKind.ROBOT)
    assert len(Stage(world.with_object(robot), [pusher()]).gaussians(state)) == bare


def test_the_default_camera_sees_all_that_moves(sliding: None) -> None:
    """Everything movable and the tool's tip are in the picture in all states."""
    world, actions = table(), pushing()
    rollout = predict(world, actions, "sliding")
    camera = framing_camera(world, rollout.states, 160, 120)
    for step in (0, -1):
        for row, number in ((1, 2), (2, 3)):
            pose = pose_from_pose7(rollout.states.object_poses[step, row])
            pixels, depth = camera.project(transform_points(pose, world.objects[number].gaussians.means))
            inside = (pixels > 0).all(1) & (pixels < torch.tensor([160.0, 120.0])).all(1) & (depth > 0)
            assert float(inside.float().mean()) > 0.98
    seen = render(Stage(world, [pusher()]).gaussians(rollout.final), camera)
    assert float(seen.alpha.mean()) > 0.3
