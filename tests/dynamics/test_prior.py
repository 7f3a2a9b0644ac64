"""`Prior` as a `Dynamics`: what every implementation keeps, gradients, and clear words for bad input."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from dynamics.baselines import ConstantVelocity, Persistence
from dynamics.matter.sample import matter_of
from dynamics.physics import examples
from dynamics.physics.settings import PriorConfig
from dynamics.prior import Prior
from dynamics.tool import gripper, pusher
from gaussworld.errors import ConfigError, UnknownScale
from gaussworld.gaussians import Gaussians
from gaussworld.state import Action, ActionSpec, Dynamics, State
from gaussworld.world import World
from gaussworld.world_object import ObjectKind, WorldObject


@pytest.fixture(autouse=True)
def _quick(quick: None) -> None:
    """As in production."""


WORLDS: dict[str, Any] = {"box": examples.box, "door": examples.door, "rope": examples.rope}
MODELS = [Prior, Persistence, ConstantVelocity]
START = torch.tensor([[0.2, 0.06, 0.01, 1.0, 0.0, 0.0, 0.0]])


def pushes(spec: ActionSpec, steps: int, samples: int) -> Action:
    """Different straight ways towards -y."""
    t = torch.arange(1, steps + 1)[:, None, None, None] / steps
    goals = torch.linspace(-0.1, 0.0, samples)[:, None, None]
    way = torch.cat([torch.zeros_like(goals), goals - 0.06, torch.zeros_like(goals)], -1)
    place = START[..., :3] + t * way
    upright = torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(*place.shape[:-1], 4)
    return Action(spec, torch.cat([place, upright], -1))


def values(state: State) -> dict[str, Tensor]:
    names = ("object_poses", "object_twists", "joint_positions", "joint_rates", "particle_positions",
             "particle_velocities", "tool_poses", "grip", "grasped", "time")  # fmt: skip
    return {name: getattr(state, name) for name in names}


def same(a: State, b: State) -> bool:
    return all(torch.equal(x, y) for x, y in zip(values(a).values(), values(b).values()))


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("name", WORLDS)
def test_every_dynamics_keeps_the_protocol(kind: Any, name: str) -> None:
    """Deterministic, without memory, step is rollout, arguments untouched, samples independent."""
    world, matter = WORLDS[name]()
    model = kind(world, matter)
    one = model.initial(world, START)
    assert isinstance(model, Dynamics)
    state = one.expand(3).map(torch.clone)
    actions = pushes(model.action_spec, 4, 3)
    before = values(state.map(torch.clone))
    rollout = model.rollout(state, actions)
    assert all(torch.equal(value, values(state)[key]) for key, value in before.items())
    assert same(model.rollout(state, actions).states, rollout.states)
    stepped = state
    for index in range(4):
        assert same(stepped, rollout.states[index])
        stepped = model.step(stepped, actions[index])
    assert same(stepped, rollout.final)
    alone = model.rollout(one, actions.map(lambda value: value[:, 1]))
    for key, value in values(alone.states).items():
        torch.testing.assert_close(value, values(rollout.states)[key][:, 1], rtol=1e-4, atol=1e-5)
    other = actions.map(lambda value: torch.cat([value[:, :2], value[:, :1]], 1))
    changed = model.rollout(state, other).states
    for key, value in values(changed).items():
        torch.testing.assert_close(value[:, :2], values(rollout.states)[key][:, :2], rtol=1e-5, atol=1e-6)
    assert rollout.states.time[-1].tolist() == pytest.approx([0.4] * 3)


def test_batches_of_any_shape_are_alike() -> None:
    """Two leading axes, and none of length zero, change nothing but the shape."""
    world, matter = examples.box()
    prior = Prior(world, matter)
    state, action = prior.initial(world, START), pushes(prior.action_spec, 1, 4)[0]
    flat = prior.step(state.expand(4), action)
    square = prior.step(state.expand(2, 2), action.map(lambda value: value.unflatten(0, (2, 2))))
    assert torch.equal(square.object_poses.flatten(0, 1), flat.object_poses)
    assert square.batch_shape == (2, 2)


def pushed(friction: Tensor, aside: Tensor) -> Tensor:
    """Where a slow and then loose push leaves a box."""
    world, matter = examples.box()
    prior = Prior(world, matter, config=PriorConfig(contacts=False))
    prior = prior.with_parameters(replace(prior.parameters, friction=friction.reshape(1)))
    state = prior.initial(world, torch.tensor([[-0.08, 0.01, 0.02, 1.0, 0, 0, 0]]))
    t = torch.arange(1, 7) / 6
    zero = torch.zeros(6)
    tools = torch.stack([-0.08 + 0.08 * t, 0.01 + t * aside, zero + 0.02, zero + 1, zero, zero, zero], -1)
    return prior.rollout(state, Action(prior.action_spec, tools[:, None])).final.object_poses[0]


def test_gradients_match_finite_differences() -> None:
    """Of a push's final pose towards friction and the action, within the differences' own error."""
    friction, aside = torch.tensor(0.4, requires_grad=True), torch.tensor(0.01, requires_grad=True)
    final = pushed(friction, aside)
    with torch.no_grad():
        steps = (0.02, 0.002)
        by_friction = (pushed(friction + steps[0], aside) - pushed(friction - steps[0], aside)) / (
            2 * steps[0]
        )
        by_aside = (pushed(friction, aside + steps[1]) - pushed(friction, aside - steps[1])) / (2 * steps[1])
    for row in (0, 1, 6):
        got = torch.autograd.grad(final[row], [friction, aside], retain_graph=True)
        assert all(bool(torch.isfinite(value)) for value in got)
        assert float(got[1]) == pytest.approx(float(by_aside[row]), rel=0.1, abs=0.01)
        assert float(got[0]) == pytest.approx(float(by_friction[row]), rel=0.1, abs=5e-4)


def test_a_ropes_stiffness_has_a_gradient() -> None:
    """A softer hanging rope ends lower; the derivative says how much."""
    world, matter = examples.rope(
        20, stiffness=1e5, damping=5.0, fixed=torch.eye(20)[0], place=(0.0, 0.0, 2.0)
    )
    prior = Prior(world, matter, config=PriorConfig(contacts=False, substeps=3))

    def end(stiffness: Tensor) -> Tensor:
        model = prior.with_parameters(replace(prior.parameters, stiffness=stiffness.reshape(1)))
        state = model.initial(world, START)
        tools = state.tool_poses.expand(4, 1, 7).contiguous()
        return model.rollout(state, Action(model.action_spec, tools)).final.particle_positions[-1, 2]

    stiffness = torch.tensor(1e5, requires_grad=True)
    (got,) = torch.autograd.grad(end(stiffness), stiffness)
    with torch.no_grad():
        wanted = (end(stiffness * 1.05) - end(stiffness * 0.95)) / (0.1 * 1e5)
    assert bool(torch.isfinite(got))
    assert float(got) == pytest.approx(float(wanted), rel=0.1)


def test_a_world_that_physics_cannot_use_is_refused() -> None:
    """Without scale, in other units, upside down, without objects."""
    world, matter = examples.box()
    with pytest.raises(UnknownScale, match="metres_per_unit"):
        Prior(replace(world, metres_per_unit=None), matter)
    with pytest.raises(ValueError, match=r"in metres, got 0\.5 m per unit"):
        Prior(replace(world, metres_per_unit=0.5), matter)
    with pytest.raises(ValueError, match="up is 0 0 1"):
        Prior(replace(world, up=(0.0, 1.0, 0.0)), matter)
    with pytest.raises(ValueError, match="with objects, got none"):
        Prior(World(metres_per_unit=1.0), matter)
    with pytest.raises(ValueError, match="expected objects"):
        Prior(examples.rigid([[((0.0, 0.0, 0.0), (0.1, 0.1, 0.1))]] * 2, [(0.0, 0.0, 0.1)] * 2)[0], matter)


def test_an_object_of_three_gaussians_moves_all_the_same() -> None:
    """It is taken for their hull: it stands still, and a push moves it."""
    points = torch.tensor([[-0.03, -0.02, -0.02], [0.03, -0.02, -0.02], [0.0, 0.03, 0.02]])
    quats = torch.tensor([[1.0, 0.0, 0.0, 0.0]]).repeat(3, 1)
    made = Gaussians(points, quats, torch.full((3, 3), -4.5), torch.full((3,), 4.0), torch.zeros(3, 1, 3))
    pose = torch.eye(4)
    pose[2, 3] = 0.05
    item = WorldObject(1, "crumb", made, ObjectKind.RIGID, pose)
    world = World({1: item}, metres_per_unit=1.0, up=(0.0, 0.0, 1.0))
    prior = Prior(world, matter_of(world))
    state = prior.initial(world, torch.tensor([[-0.15, 0.0, 0.03, 1.0, 0, 0, 0]]))
    path = torch.cat([torch.linspace(-0.13, 0.1, 12)[:, None], torch.tensor([[0.0, 0.03]]).expand(12, 2)], 1)
    tools = torch.cat([path, quats[:1].expand(12, 4)], 1)[:, None]
    after = prior.rollout(state, Action(prior.action_spec, tools)).final.object_poses
    assert bool(torch.isfinite(after).all()) and float(after[0, 0]) > 0.05


def test_broken_states_and_other_actions_are_refused() -> None:
    """NaN, another batch, another frame, rate, number of tools or kind, and targets beyond the limits."""
    world, matter = examples.box()
    prior = Prior(world, matter)
    state, action = prior.initial(world, START), Action(prior.action_spec, START)
    with pytest.raises(ValueError, match=r"State.object_twists: expected finite values"):
        prior.step(replace(state, object_twists=torch.full((1, 6), torch.nan)), action)
    with pytest.raises(ValueError, match="of one batch"):
        prior.step(state.expand(2), action)
    with pytest.raises(ValueError, match="particles, got 3"):
        particles = {
            name: torch.zeros(3, 3) for name in ("particle_positions", "particle_velocities", "residual")
        }
        prior.step(replace(state, **particles, grasped=torch.zeros(1, 3, dtype=torch.bool)), action)
    slower = ActionSpec("tool_pose", 1, "world", "m", 5.0)
    with pytest.raises(ValueError, match=r"action rate_hz: expected 10\.0, got 5\.0"):
        prior.step(state, Action(slower, START))
    delta = ActionSpec("tool_delta", 1, "tool", "m", 10.0)
    with pytest.raises(ValueError, match="action kind: expected 'tool_pose'"):
        prior.rollout(state, Action(delta, START[None]))
    with pytest.raises(ValueError, match="tool_pose expects world, got 'tool'"):
        ActionSpec("tool_pose", 1, "tool", "m", 10.0)
    with pytest.raises(ValueError, match="tool_pose expects m, got 'rad'"):
        ActionSpec("tool_pose", 1, "world", "rad", 10.0)
    limited = replace(prior.action_spec, limits=((-0.1, -0.1, 0.0), (0.1, 0.1, 0.3)))
    with pytest.raises(ValueError, match="expected targets within"):
        Action(limited, START)


def test_settings_that_compute_nothing_are_refused() -> None:
    """And a spec of other tools."""
    with pytest.raises(ConfigError, match="substeps: expected at least 1, got 0"):
        PriorConfig(substeps=0)
    with pytest.raises(ConfigError, match="stick_speed: expected more than 0"):
        PriorConfig(stick_speed=0.0)
    world, matter = examples.box()
    with pytest.raises(ValueError, match="tool_pose of 2 tools"):
        Prior(
            world, matter, [pusher(), gripper()], action_spec=ActionSpec("tool_pose", 1, "world", "m", 10.0)
        )
