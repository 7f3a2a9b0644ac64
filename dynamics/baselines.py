"""What every prediction has to beat: nothing moves (`Persistence`), or all goes on (`ConstantVelocity`)."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.pose import rotation_from_quats
from gaussworld.state import Action, ActionSpec, Rollout, State, stack
from gaussworld.world import World

from .matter.parts import Matter
from .physics.motion import turned
from .prior import Prior
from .tool import Tool


class Persistence:
    """Only the tools move."""

    def __init__(
        self,
        world: World,
        matter: Matter | None = None,
        tools: Sequence[Tool] | None = None,
        action_spec: ActionSpec | None = None,
    ) -> None:
        """As `Prior`: for the same world, matter, tools and actions."""
        self._prior = Prior(world, matter, tools, action_spec=action_spec)

    @property
    def prior(self) -> Prior:
        """What knows world, matter and tools."""
        return self._prior

    @property
    def action_spec(self) -> ActionSpec:
        """Poses that the tools reach at the end of a step."""
        return self._prior.action_spec

    def initial(self, world: World, tool_poses: Float[Tensor, "a 7"] | None = None) -> State:
        """As `Prior.initial`."""
        return self._prior.initial(world, tool_poses)

    def step(self, state: State, action: Action) -> State:
        """The state one period later."""
        self._prior.check(state, action, action.batch_shape)
        return self.advanced(state, action)

    def rollout(self, state: State, actions: Action) -> Rollout:
        """Step through actions, whose first axis is time."""
        self._prior.check(state, actions, actions.batch_shape[1:])
        states = [state]
        for index in range(len(actions)):
            states.append(self.advanced(states[-1], actions[index]))
        return Rollout(stack(states), actions, self.action_spec.dt)

    def advanced(self, state: State, action: Action) -> State:
        """As `step`, of what was checked: with tools and clock as they will be."""
        assert action.tools is not None
        grip = state.grip if action.grip is None else action.grip.to(state.grip)
        poses = action.tools.to(state.tool_poses)
        return replace(state, tool_poses=poses, grip=grip, time=state.time + self.action_spec.dt)


class ConstantVelocity(Persistence):
    """Everything goes on as fast as it does, and turns as fast."""

    def advanced(self, state: State, action: Action) -> State:
        """As `step`, of what was checked."""
        dt = self.action_spec.dt
        after = super().advanced(state, action)
        poses, twists = state.object_poses, state.object_twists
        places = poses[..., :3] + dt * twists[..., :3]
        turns = turned(poses[..., 3:], dt * twists[..., 3:])
        joints = state.joint_positions + dt * state.joint_rates
        particles, velocities = [], []
        for part in self._prior.matter.parts:
            if part.kind.bends:
                speed = state.particle_velocities[..., part.rows, :]
                particles.append(state.particle_positions[..., part.rows, :] + dt * speed)
                velocities.append(speed)
                continue
            rest = self._prior.matter.rest[part.rows]
            arms = rest @ rotation_from_quats(turns[..., part.row, :]).transpose(-1, -2)
            particles.append(places[..., part.row, None, :] + arms)
            spin = twists[..., part.row, None, 3:].expand_as(arms)
            velocities.append(twists[..., part.row, None, :3] + torch.linalg.cross(spin, arms))
        if particles:
            after = replace(
                after,
                particle_positions=torch.cat(particles, -2),
                particle_velocities=torch.cat(velocities, -2),
            )
        return replace(after, object_poses=torch.cat([places, turns], -1), joint_positions=joints)
