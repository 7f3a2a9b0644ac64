"""What `predict` tells people: paths that nothing can go, what to do instead; and views that hide little."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dynamics.matter.sample import matter_of
from dynamics.prediction.predict import predict, predicting
from dynamics.prediction.question import ask
from dynamics.prediction.stage import Stage, _moments, framing_camera
from dynamics.prediction.summary import warnings_of
from dynamics.prediction.tool_path import path_warnings
from dynamics.prediction.viewpoint import Cloud, sight
from dynamics.tool import Tool
from gaussworld.camera import Camera
from gaussworld.edit import SetScale, SetUp
from gaussworld.errors import ConfigError, FileFormatError, UnknownScale
from gaussworld.io import save
from gaussworld.io.action_script import actions_from_plain
from gaussworld.log import drain
from gaussworld.pose import look_at, pose_from
from gaussworld.session import Session
from gaussworld.shape import Shape
from gaussworld.state import Action, ActionSpec, State
from gaussworld.store.commands import list_objects
from gaussworld.surface import Paint, Surface, box
from gaussworld.surface.objects import Detail, Thing, objects_of
from gaussworld.world import World
from gaussworld.world_object import ObjectKind

SPEC = ActionSpec("tool_pose", 1, "world", "m", 10.0)


@pytest.fixture(scope="module")
def world() -> World:
    """A table with a block to push and a post that stands still."""

    def thing(name: str, size: tuple[float, float, float], at: list[float], kind: ObjectKind) -> Thing:
        solid = box(size)
        paint = Surface(solid.mesh, (Paint((0.8, 0.3, 0.2)),))
        pose = pose_from(torch.eye(3), torch.tensor(at))
        return Thing(name, paint, pose, kind, Shape(solid.mesh, (solid.mesh,)))

    things = [
        thing("table", (0.8, 0.8, 0.04), [0, 0, -0.02], ObjectKind.STATIC),
        thing("post", (0.08, 0.08, 0.2), [0.2, 0.0, 0.1], ObjectKind.STATIC),
        thing("block", (0.1, 0.1, 0.06), [0, 0, 0.03], ObjectKind.RIGID),
    ]
    objects = objects_of(things, Detail(3000, shade=True))
    return World({item.id: item for item in objects}, metres_per_unit=1.0, up=(0.0, 0.0, 1.0))


def straight(start: list[float], end: list[float], steps: int = 11) -> Action:
    poses = torch.zeros(steps, 1, 7)
    poses[..., 3] = 1
    share = torch.linspace(0, 1, steps)[:, None]
    poses[:, 0, :3] = torch.tensor(start) * (1 - share) + torch.tensor(end) * share
    return Action(SPEC, poses)


def said(world: World, actions: Action, tools: list[str | Tool] | None = None) -> list[str]:
    rollout = predict(world, actions, "persistence", tools=tools)
    question = ask(world, actions, tools)
    return path_warnings(world, matter_of(question.world), question.tools, rollout)


@pytest.mark.parametrize(
    ("start", "end", "wanted"),
    [
        ([-0.2, 0.2, 0.04], [-0.2, 0.2, -0.06], ["goes through table from step 6 on, up to 60 mm deep."]),
        ([-0.2, 0.2, -0.03], [-0.2, 0.2, 0.1], ["starts 30 mm inside table: begin its path higher."]),
        ([0.0, 0.0, 0.01], [-0.2, 0.0, 0.01], ["starts 40 mm inside block: begin its path elsewhere."]),
        (
            [0.2, -0.2, 0.01],
            [0.2, 0.2, 0.01],
            ["goes through post, which stands still, from step 5 on, up to"],
        ),
        ([-0.2, 0.2, 0.002], [0.2, 0.2, 0.002], []),
        ([-0.2, 0.0, 0.01], [0.1, 0.0, 0.01], []),
        # Under the table on purpose, and beside it.
        ([0.0, 0.0, -0.5], [0.1, 0.0, -0.5], []),
    ],
)
def test_paths_that_nothing_can_go(
    world: World, start: list[float], end: list[float], wanted: list[str]
) -> None:
    """One sentence for each, with the first step; none for a path along the table, or for pushing."""
    found = said(world, straight(start, end))
    assert len(found) == len(wanted), found
    for sentence, beginning in zip(found, wanted):
        assert sentence.startswith(f"The pusher {beginning}"), sentence


def test_warnings_are_in_the_summary(world: World) -> None:
    """With the depth and the first step."""
    question = ask(world, straight([-0.2, 0.2, 0.04], [-0.2, 0.2, -0.06]))
    told = warnings_of(drain(predicting(question, "persistence")).result)
    assert "The pusher goes through table from step 6 on, up to 60 mm deep." in told


def test_a_hidden_view_is_left(world: World) -> None:
    """What is behind a wall, seen from in front, is seen from another side."""
    solid = box((0.6, 0.02, 0.6))
    wall = Thing(
        "wall",
        Surface(solid.mesh, (Paint((0.2, 0.2, 0.2)),)),
        pose_from(torch.eye(3), torch.tensor([0.05, -0.12, 0.3])),
        ObjectKind.STATIC,
        Shape(solid.mesh, (solid.mesh,)),
    )
    walled = world.with_object(objects_of([wall], Detail(3000), world.next_id)[0])
    state = State.at_rest(walled, tool_poses=torch.tensor([[-0.2, 0.1, 0.05, 1, 0, 0, 0]]))
    states = state.expand(1)
    camera = framing_camera(walled, states, 160, 120)
    clouds = _moments(Stage(walled, []), states)
    assert sight(clouds, camera)[0] > 0.9
    front = Camera.pinhole(
        look_at(torch.tensor([0.2, -0.9, 0.5]), torch.tensor([0.0, 0.0, 0.05])), 160, 120, 40.0
    )
    assert sight(clouds, front)[0] < 0.3
    assert float(camera.world_from_camera[1, 3]) > -0.12


def test_sight_counts_what_is_in_front() -> None:
    """Half of a sheet behind another; one that comes towards the camera moves less than one that crosses."""
    grid = torch.cartesian_prod(torch.linspace(-0.5, 0.5, 80), torch.linspace(-0.5, 0.5, 80))
    sheet = torch.cat([grid, torch.full((len(grid), 1), 2.0)], dim=1)
    hiding = sheet[sheet[:, 0] > 0] - torch.tensor([0.0, 0.0, 0.5])
    owners = torch.ones(len(sheet), dtype=torch.long)
    camera = Camera.pinhole(torch.eye(4), 160, 120, 60.0)
    share, cells, far = sight([Cloud(hiding, sheet, owners)], camera)
    assert share == pytest.approx(0.5, abs=0.06) and cells > 100 and far == 0
    moved = {
        way: sight(
            [Cloud(hiding[:0], sheet + step * torch.tensor(way), owners) for step in (0, 0.1)], camera
        )[2]
        for way in ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
    }
    assert moved[1.0, 0.0, 0.0] > 3 * moved[0.0, 0.0, 1.0]


def recorded_set(folder: Path, names: list[str]) -> Path:
    rows = [{"name": name, "family": "push", "split": "test", "steps": 3} for name in names]
    index = {"format": "gaussworld-episodes", "version": 1, "config": {}, "episodes": rows}
    folder.mkdir()
    (folder / "episodes.json").write_text(json.dumps(index))
    return folder


def test_a_set_is_no_episode(world: World, tmp_path: Path) -> None:
    """In place of a world or of actions it names its first episode."""
    many = recorded_set(tmp_path / "set", ["push-00000", "push-00001"])
    first = "a set of 2; name one of them, such as .*push-00000"
    with pytest.raises(FileFormatError, match=first):
        predict(many)
    with pytest.raises(FileFormatError, match=first):
        predict(world, many)
    from dynamics.prediction.commands import predict as verb

    with pytest.raises(FileFormatError, match=first):
        verb(many, out=tmp_path / "out")
    with pytest.raises(FileFormatError, match="a set of 0; generate some"):
        predict(recorded_set(tmp_path / "none", []))


def test_a_recording_is_no_stored_world(tmp_path: Path) -> None:
    """`world list` says how to look at it, in one sentence."""
    many = recorded_set(tmp_path / "set", ["push-00000"])
    with pytest.raises(ConfigError, match=r"set of recorded episodes; .*`gaussworld predict .*NAME"):
        list_objects(many)
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "episode.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"one, a recorded episode; .*`gaussworld import episode .*one -o"):
        list_objects(tmp_path / "one")


def test_a_bare_file_is_told_what_to_do(world: World, tmp_path: Path) -> None:
    """The commands of the advice, done in its order, make it predictable."""
    actions = straight([-0.2, 0.0, 0.01], [-0.05, 0.0, 0.01])
    save(world.posed(State.at_rest(world)), tmp_path / "bare.ply")
    with pytest.raises(UnknownScale) as told:
        predict(tmp_path / "bare.ply", actions)
    text = str(told.value)
    create = f"`gaussworld world create bare.world --from {tmp_path / 'bare.ply'}`"
    edit = "`gaussworld world edit bare.world set-scale "
    assert text.index(create) < text.index(edit)
    from gaussworld.store.commands import create as world_create

    place = tmp_path / "bare.world"
    world_create(place, source=tmp_path / "bare.ply")
    with pytest.raises(UnknownScale, match=f"world edit {place} set-scale"):
        predict(place, actions)
    with Session(place) as session:
        session.do(SetScale(a=(-0.4, 0.0, 0.0), b=(0.4, 0.0, 0.0), metres=0.8))
    with pytest.raises(ConfigError, match=f"world edit {place} set-up"):
        predict(place, actions)
    with Session(place) as session:
        session.do(SetUp(up=(0.0, 0.0, 1.0)))
    assert len(predict(place, actions, "persistence")) == 11


def test_actions_may_be_a_dict(world: World) -> None:
    """As in a JSON file, tuples for lists; wrong keys and arrays are named; what is empty is refused."""
    via = {"tool": "pusher", "speed": 0.15, "via": [(-0.2, 0.0, 0.01), (-0.08, 0.0, 0.01)]}
    rollout = predict(world, via, "persistence")
    assert len(rollout) == 8
    assert float(rollout.final.tool_poses[0, 0]) == pytest.approx(-0.08)
    for record, message in (
        ({"vai": []}, "actions: expected keys among .* got 'vai'"),
        ({"actions": torch.zeros(3)}, r"use \.tolist\(\) for arrays"),
        ({"actions": []}, "at least 1 action"),
        ({"via": [[0.0, 0.0, float("nan")], [0.0, 0.0, 0.0]]}, "finite numbers"),
        ({"version": 2, "actions": [[0, 0, 0]]}, "of version 1"),
    ):
        with pytest.raises(ValueError, match=message):
            actions_from_plain(record)


def test_the_recipe_for_a_gripper(world: World) -> None:
    """As docs/prediction.md has it: a box of 4 cm is picked up, carried, put down and let go."""
    solid = box((0.06, 0.04, 0.04))
    block = Thing(
        "block",
        Surface(solid.mesh, (Paint((0.8, 0.3, 0.2)),)),
        pose_from(torch.eye(3), torch.tensor([0.1, 0.0, 0.02])),
        ObjectKind.RIGID,
        Shape(solid.mesh, (solid.mesh,)),
    )
    table = replace(world, objects={1: world.objects[1]})
    table = table.with_object(objects_of([block], Detail(800), 2)[0])
    text = (Path(__file__).parents[2] / "docs" / "prediction.md").read_text()
    start = text.index('{"tool": "gripper", "speed"')
    recipe = json.loads(text[start : text.index("```", start)])
    rollout = predict(table, recipe)
    poses = rollout.states.object_poses[:, 1]
    assert float(poses[:, 2].max()) > 0.13
    assert torch.allclose(poses[-1, :3], torch.tensor([0.2, 0.0, 0.02]), atol=4e-3)
    question = ask(table, recipe)
    assert not path_warnings(table, matter_of(table), question.tools, rollout)
