"""Identification: numbers that made a recording are found in it again, with honest intervals."""

from dataclasses import replace
from functools import cache

import pytest
import torch

from dynamics.identify import Identified, IdentifyConfig, identify
from dynamics.observed import Observation, with_twists
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

QUICK = IdentifyConfig(population=6, generations=6, refine=5, tool_friction=False, seed=3)
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
