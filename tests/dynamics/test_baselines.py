"""Persistence and constant velocity: the least a prediction has to beat."""

from dataclasses import replace

import torch

from dynamics.baselines import ConstantVelocity, Persistence
from dynamics.physics import examples
from gaussworld.state import Action


def test_persistence_moves_the_tools_only() -> None:
    """Whatever the speeds are."""
    world, matter = examples.box()
    model = Persistence(world, matter)
    state = replace(model.initial(world), object_twists=torch.ones(1, 6))
    goal = torch.tensor([[[0.1, 0.2, 0.3, 1.0, 0.0, 0.0, 0.0]]])
    after = model.rollout(state, Action(model.action_spec, goal)).final
    assert torch.equal(after.object_poses, state.object_poses)
    assert torch.equal(after.particle_positions, state.particle_positions)
    assert torch.equal(after.tool_poses, goal[0])


def test_constant_velocity_goes_on_and_turns_on() -> None:
    """A metre a second for ten steps is a metre; particles stay with their thing."""
    world, matter = examples.box()
    model = ConstantVelocity(world, matter)
    twist = torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0, torch.pi / 2]])
    state = replace(model.initial(world), object_twists=twist)
    tools = state.tool_poses.expand(10, 1, 7).contiguous()
    after = model.rollout(state, Action(model.action_spec, tools)).final
    wanted = torch.tensor([1.0, 0.0, 0.025, 0.5**0.5, 0.0, 0.0, 0.5**0.5])
    torch.testing.assert_close(after.object_poses[0], wanted, atol=1e-5, rtol=0.0)
    moved = matter.rest[:, [1, 0, 2]] * torch.tensor([-1.0, 1.0, 1.0]) + wanted[:3]
    torch.testing.assert_close(after.particle_positions, moved, atol=1e-5, rtol=0.0)


def test_constant_velocity_of_what_bends_is_that_of_its_particles() -> None:
    """Each goes its own way."""
    world, matter = examples.rope()
    model = ConstantVelocity(world, matter)
    state = model.initial(world)
    speed = torch.rand(40, 3, generator=torch.Generator().manual_seed(0))
    state = replace(state, particle_velocities=speed)
    after = model.step(state, Action(model.action_spec, state.tool_poses))
    torch.testing.assert_close(after.particle_positions, state.particle_positions + 0.1 * speed)
