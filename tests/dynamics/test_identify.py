"""Identification: numbers that made a recording are found in it again, with honest intervals."""

import json
import shutil
from dataclasses import replace
from functools import cache

import pytest
import torch

from dynamics.episodes import Episode
from dynamics.generate.episodes_config import EpisodesConfig
from dynamics.generate.produce import generate_episodes
from dynamics.identify import Identified, IdentifyConfig, identify
from dynamics.identify.commands import identify_verb
from dynamics.identify.windows import windows_of
from dynamics.observed import Observation, with_twists
from dynamics.physics import examples
from dynamics.physics.settings import PriorConfig
from dynamics.prior import Prior
from dynamics.tool import pusher
from gaussworld.errors import CaptureError, ConfigError
from gaussworld.log import Done, Progress, drain
from gaussworld.pose import pose7_from_pose, pose_from, pose_from_pose7, rotation_from_rotvec
from gaussworld.session import Session
from gaussworld.shape import Shape
from gaussworld.state import Action, Rollout
from gaussworld.surface import box
from gaussworld.surface.objects import Detail, Thing, objects_of
from gaussworld.world import World
from gaussworld.world_object import ObjectKind

QUICK = IdentifyConfig(population=6, generations=4, refine=5, tool_friction=False, seed=3)
FINE = PriorConfig(substeps=10, iterations=10, contacts=False)


@cache
def block_world() -> World:
    """A block of 10 x 8 x 5 cm on a table."""
    table, block = box((0.8, 0.8, 0.04)), box((0.1, 0.08, 0.05))
    things = [
        Thing("table", table, _at(0, 0, -0.02), ObjectKind.STATIC, Shape(table.mesh, (table.mesh,))),
        Thing("block", block, _at(0, 0, 0.025), ObjectKind.RIGID, Shape(block.mesh, (block.mesh,))),
    ]
    objects = {item.id: item for item in objects_of(things, Detail(1500))}
    return World(objects, metres_per_unit=1.0, up=(0.0, 0.0, 1.0))


def _at(x: float, y: float, z: float) -> torch.Tensor:
    return pose_from(torch.eye(3), torch.tensor([x, y, z]).float())


def strike(model: Prior, speed: float = 0.9, off: float = 0.012, steps: int = 9) -> Rollout:
    """The rod hits the block off its middle and stops, so that the block slides and turns on by itself."""
    x = torch.tensor([-0.12 + speed * 0.1 * min(step, 1) for step in range(1, steps + 1)])
    poses = torch.zeros(steps, 1, 7)
    poses[:, 0, 0], poses[:, 0, 1], poses[:, 0, 2], poses[:, 0, 3] = x, off, 0.01, 1.0
    start = replace(model.initial(model.world), tool_poses=torch.tensor([[-0.12, off, 0.01, 1.0, 0, 0, 0]]))
    with torch.no_grad():
        return model.rollout(start, Action(model.action_spec, tools=poses))


def with_friction(model: Prior, friction: float) -> Prior:
    """The same, its block of another friction."""
    parameters = model.parameters
    row = [part.object_id for part in model.matter.parts].index(2)
    changed = parameters.friction.clone()
    changed[row] = friction
    return model.with_parameters(replace(parameters, friction=changed))


@cache
def prior() -> Prior:
    return Prior(block_world(), tools=(pusher(),), config=FINE)


@cache
def found(friction: float) -> Identified:
    """What is identified in a strike of a block of that friction, from the default of 0.5."""
    recording = Observation.of_rollout(strike(with_friction(prior(), friction)))
    events = list(identify(prior(), block_world(), [recording], QUICK))
    assert any(isinstance(event, Progress) for event in events)
    done = events[-1]
    assert isinstance(done, Done)
    return done.result


def of_block(result: Identified):
    return next(each for each in result.found if each.unknown.field == "friction")


@pytest.mark.parametrize("friction", [0.25, 0.9])
def test_friction_is_found_in_a_free_slide(friction):
    """Within 5 %, from a start that was far off, and the interval says so."""
    result = found(friction)
    block = of_block(result)
    assert block.value == pytest.approx(friction, rel=0.05)
    assert block.told and block.low <= block.high
    assert result.error < 0.2 * result.error_before


def test_what_is_found_becomes_the_material(tmp_path):
    """As an edit with its source, that can be undone."""
    with Session.create(tmp_path / "block.world", block_world()) as session:
        for edit in found(0.25).edits():
            session.do(edit)
        material = session.world.find("block").material
        assert material.friction == pytest.approx(0.25, rel=0.05)
        assert material.sources["friction"] == "identified"
        session.undo()
        assert session.world.find("block").material.friction == 0.5


def test_the_same_seed_finds_the_same():
    """Nothing is random that the seed does not say."""
    quick = replace(QUICK, generations=2, refine=1)
    recording = Observation.of_rollout(strike(with_friction(prior(), 0.3)))
    one, two = (drain(identify(prior(), block_world(), [recording], quick)).result for _ in range(2))
    assert [each.value for each in one.found] == [each.value for each in two.found]


def test_a_recording_in_which_all_rest_is_refused():
    """One sentence says what to record."""
    model = prior()
    still = strike(model, speed=0.0, steps=4)
    with pytest.raises(CaptureError, match="in which things move, got one in which all rest"):
        drain(identify(model, block_world(), [Observation.of_rollout(still)], QUICK))


def test_observed_frames_may_be_others():
    """Objects whose frames differ between recording and world begin where they were seen to be."""
    model, world = prior(), block_world()
    recording = Observation.of_rollout(strike(with_friction(prior(), 0.3)))
    states = recording.states
    row = states.object_ids.index(2)
    other = pose_from(rotation_from_rotvec(torch.tensor([0.3, -0.2, 0.5])), torch.tensor([0.02, 0.01, -0.03]))
    poses, twists = states.object_poses.clone(), states.object_twists.clone()
    old = pose_from_pose7(states.object_poses[:, row])
    poses[:, row] = pose7_from_pose(old @ other)
    lever = poses[:, row, :3] - old[:, :3, 3]
    twists[:, row, :3] += torch.linalg.cross(twists[:, row, 3:], lever)
    turned = replace(recording, states=replace(states, object_poses=poses, object_twists=twists))
    moments = torch.tensor([3, 5])
    a, b = (each.begin(model.initial(world), world, moments) for each in (recording, turned))
    torch.testing.assert_close(a.object_poses[:, row, :3], b.object_poses[:, row, :3], atol=1e-5, rtol=0)
    torch.testing.assert_close(a.object_twists[:, row], b.object_twists[:, row], atol=1e-4, rtol=0)


def test_twists_are_worked_out_from_poses():
    """A thing that moves and turns evenly has that twist."""
    states = strike(prior(), steps=4).states
    poses = states.object_poses.clone()
    for step in range(5):
        turn = rotation_from_rotvec(torch.tensor([0.0, 0.0, 0.05 * step]))
        poses[step, 1] = pose7_from_pose(pose_from(turn, torch.tensor([0.02 * step, 0.0, 0.025])))
    twists = with_twists(replace(states, object_poses=poses), 0.1).object_twists[1:, 1]
    wanted = torch.tensor([0.2, 0, 0, 0, 0, 0.5]).expand(4, 6)
    torch.testing.assert_close(twists, wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("name", "value"), [("population", 2), ("window", 1), ("seconds", 0.0)])
def test_settings_that_cannot_be_are_refused(name, value):
    """Before anything is predicted."""
    with pytest.raises(ConfigError, match=f"--{name}: expected"):
        IdentifyConfig(**{name: value})


def test_free_slides_are_found():
    """From the moment at which the rod stops to that at which the block does, and nothing before."""
    recording = Observation.of_rollout(strike(with_friction(prior(), 0.25)))
    free = [each for each in windows_of([recording], prior().matter, QUICK) if each.slide is not None]
    assert [each.start for each in free] == [1, 2, 3]
    speeds = recording.states.object_twists[:, 1, :3].norm(dim=-1)
    assert {each.stop for each in free} == {4} and float(speeds[4]) < 0.01
    assert {each.slide for each in free} == {0}


def test_a_slow_push_is_no_free_slide():
    """What goes with the rod does not go alone."""
    model = prior()
    x = torch.linspace(-0.11, 0.0, 11)[1:]
    poses = torch.zeros(10, 1, 7)
    poses[:, 0, 0], poses[:, 0, 2], poses[:, 0, 3] = x, 0.01, 1.0
    start = replace(model.initial(model.world), tool_poses=torch.tensor([[-0.11, 0, 0.01, 1.0, 0, 0, 0]]))
    with torch.no_grad():
        recording = Observation.of_rollout(model.rollout(start, Action(model.action_spec, tools=poses)))
    windows = windows_of([recording], model.matter, QUICK)
    assert windows and all(each.slide is None for each in windows)


def test_stiffness_is_found_in_how_a_rope_droops():
    """One end of a rope is held level; within 5 %, from a start that is ten times too soft."""
    fixed = (torch.arange(14) < 2).float()
    world, matter = examples.rope(14, 0.3, fixed=fixed, place=(0.0, 0.0, 0.5), stiffness=1e5, damping=3.0)
    config = PriorConfig(substeps=4, bend_iterations=3, contacts=False, self_contact=False)
    model = Prior(world, matter, config=config)
    stiff = model.with_parameters(replace(model.parameters, stiffness=torch.tensor([1e6])))
    actions = Action(model.action_spec, tools=model.initial(world).tool_poses.expand(6, -1, -1))
    with torch.no_grad():
        rollout = stiff.rollout(stiff.initial(world), actions)
    points = rollout.states.particle_positions
    recording = Observation(rollout.states, rollout.actions, torch.ones(14, dtype=torch.int64), points)
    result = drain(identify(model, world, [recording], replace(QUICK, generations=3, refine=10))).result
    found = next(each for each in result.found if each.unknown.field == "stiffness")
    assert found.value == pytest.approx(1e6, rel=0.05)
    assert found.low < 1e6 < found.high


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A struck box of the simulator, and its stored world."""
    pytest.importorskip("mujoco")
    folder = tmp_path_factory.mktemp("recorded")
    config = EpisodesConfig(family=("push",), policy="strike", episodes=2, steps=14, seed=1001)
    drain(generate_episodes(folder / "set", config, 1))
    world = Episode(folder / "set" / "push-00000").world(gaussians=1500)
    Session.create(folder / "push.world", world).close()
    return folder


def test_the_verb_shows_what_it_finds(recorded, capsys):
    """A dry run prints JSON, changes nothing, and is near the simulator's truth."""
    episode = recorded / "set" / "push-00000"
    identify_verb(recorded / "push.world", recordings=(episode,), dry_run=True, json=True, config=QUICK)
    facts = json.loads(capsys.readouterr().out)
    box = next(row for row in facts["found"] if row["field"] == "friction")
    true = Episode(episode)
    wanted = true.objects[2].friction * true.objects[1].friction
    assert (box["value"] * 0.5) ** 0.5 == pytest.approx(wanted**0.5, rel=0.1)
    assert box["object"] == 2
    with Session(recorded / "push.world", read_only=True) as session:
        assert facts["revision"] == session.revision
        assert session.world.objects[2].material.sources.get("friction") != "identified"


def test_a_recording_of_another_world_is_refused(recorded):
    """One sentence says which thing is elsewhere."""
    other = recorded / "set" / "push-00001"
    with pytest.raises(CaptureError, match="expected a recording that begins with this world, got one whose"):
        identify_verb(recorded / "push.world", recordings=(other,), dry_run=True, config=QUICK)


def test_other_tools_are_refused(recorded, tmp_path):
    """Recordings of one tool only can be told from together."""
    one = recorded / "set" / "push-00000"
    shutil.copytree(one, tmp_path / "other")
    card = json.loads((one / "episode.json").read_text())
    card["tools"][0]["name"] = "spoon"
    (tmp_path / "other" / "episode.json").write_text(json.dumps(card))
    with pytest.raises(CaptureError, match="expected the tool of the others, pusher, got spoon"):
        identify_verb(recorded / "push.world", recordings=(one, tmp_path / "other"), config=QUICK)
