"""`Prior`: physics alone as a `Dynamics` - it asks a `Solver` and checks what goes in."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.pose import pose_from_pose7
from gaussworld.state import Action, ActionSpec, Rollout, State, stack
from gaussworld.world import World

from .matter.parts import Matter
from .physics.parameters import Parameters
from .physics.settings import PriorConfig
from .physics.solver import ContactSolver
from .rollout import Accounts
from .tool import Tool, pusher


class Solver(Protocol):
    """What computes a step; see `dynamics.physics`."""

    def step(
        self, state: State, tool_poses: Float[Tensor, "n a 7"], grip: Float[Tensor, "n a"] | None, dt: float
    ) -> State:
        """The state `dt` [s] later, of a state with one batch axis, when the tools get there."""
        ...


#: What makes a solver: for a world, its matter, tools, parameters and settings.
SolverMaker = Callable[[World, Matter, tuple[Tool, ...], Parameters, PriorConfig], Solver]


class Prior:
    """Physics alone, for one world."""

    def __init__(
        self,
        world: World,
        matter: Matter | None = None,
        tools: Sequence[Tool] | None = None,
        config: PriorConfig | None = None,
        parameters: Parameters | None = None,
        action_spec: ActionSpec | None = None,
        solver: SolverMaker = ContactSolver,
    ) -> None:
        """Make the physics of a world.

        Args:
            world: in metres; its joints, parents and materials are read.
            matter: what it is made of; default: `matter_of(world)`.
            tools: what acts; default: one pusher.
            config: how finely it computes.
            parameters: default: what the objects' materials and the tools say.
            action_spec: default: poses of these tools, ten a second.
            solver: what computes.

        Raises:
            UnknownScale: the world's scale is unknown.
            ValueError: its unit is not one metre, it has no objects, its up is not +z, or the matter is
                of others.
        """
        check_world(world)
        self.tools = (pusher(),) if tools is None else tuple(tools)
        if matter is None:
            from .matter.sample import matter_of

            matter = matter_of(world)
        if matter.object_ids != tuple(world.objects):
            raise ValueError(f"matter: expected objects {tuple(world.objects)}, got {matter.object_ids}")
        spec = ActionSpec("tool_pose", max(len(self.tools), 1), "world", "m", 10.0)
        self._spec = spec if action_spec is None else action_spec
        if self._spec.kind != "tool_pose" or self._spec.size != len(self.tools):
            raise ValueError(
                f"action_spec: expected tool_pose of {len(self.tools)} tools, got {self._spec.kind} of"
                f" {self._spec.size}"
            )
        self.world, self.matter = world, matter
        self.config = PriorConfig() if config is None else config
        self.parameters = Parameters.of(world, matter, self.tools) if parameters is None else parameters
        self.accounts = Accounts(world, matter, self.tools, self.config.gravity)
        self._maker = solver
        self.solver = solver(world, matter, self.tools, self.parameters, self.config)

    def with_parameters(self, parameters: Parameters) -> "Prior":
        """The same with other parameters."""
        return Prior(self.world, self.matter, self.tools, self.config, parameters, self._spec, self._maker)

    @property
    def action_spec(self) -> ActionSpec:
        """Poses that the tools reach at the end of a step."""
        return self._spec

    def initial(self, world: World, tool_poses: Float[Tensor, "a 7"] | None = None) -> State:
        """The world at rest, with its particles.

        Args:
            world: the one this was made for, its objects perhaps at other poses.
            tool_poses: default: above everything, upright.

        Raises:
            UnknownScale: the world's scale is unknown.
            ValueError: its unit is not one metre, or its objects are others.
        """
        check_world(world)
        if tuple(world.objects) != self.matter.object_ids:
            raise ValueError(f"world: expected objects {self.matter.object_ids}, got {tuple(world.objects)}")
        state = State.at_rest(world)
        poses = pose_from_pose7(state.object_poses)
        rest, rows = self.matter.rest, [self.matter.parts[k].row for k in self.matter.owners.tolist()]
        turned = (poses[rows, :3, :3] @ rest[..., None])[..., 0]
        positions = turned + poses[rows, :3, 3]
        return State.at_rest(world, positions, self._parked(positions) if tool_poses is None else tool_poses)

    def placed(self, state: State) -> State:
        """A state whose particles are where its poses and twists say; those of what bends stay.

        For states that come from elsewhere, such as an episode's. State and particles have no batch axis.
        """
        positions, velocities = list(state.particle_positions), list(state.particle_velocities)
        for part in self.matter.parts:
            if part.kind.bends or part.start == part.stop:
                continue
            pose, twist = pose_from_pose7(state.object_poses[part.row]), state.object_twists[part.row]
            arms = self.matter.rest[part.rows] @ pose[:3, :3].T
            positions[part.rows] = (arms + pose[:3, 3]).unbind(0)
            speed = twist[:3] + torch.linalg.cross(twist[3:].expand_as(arms), arms)
            velocities[part.rows] = speed.unbind(0)
        if not positions:
            return state
        return replace(
            state, particle_positions=torch.stack(positions), particle_velocities=torch.stack(velocities)
        )

    def _parked(self, positions: Tensor) -> Tensor:
        top = positions.amax(0) if len(positions) else positions.new_zeros(3)
        pose = torch.cat([positions.mean(0)[:2], top[2:] + 0.3, top.new_tensor([1.0, 0, 0, 0])])
        return torch.stack([pose + pose.new_tensor([0.3 * k] + [0.0] * 6) for k in range(len(self.tools))])

    def step(self, state: State, action: Action) -> State:
        """The state one period later."""
        self.check(state, action, action.batch_shape)
        return self.advanced(state, action)

    def advanced(self, state: State, action: Action) -> State:
        """As `step`, of what was checked."""
        shape = state.batch_shape
        assert action.tools is not None
        count, axes = math.prod(shape), len(shape)
        flat = state.map(lambda value: value.reshape(count, *value.shape[axes:]))
        tools = action.tools.reshape(count, *action.tools.shape[axes:]).to(flat.object_poses)
        grip = None if action.grip is None else action.grip.reshape(count, len(self.tools)).to(tools)
        after = self.solver.step(flat, tools, grip, self._spec.dt)
        return after.map(lambda value: value.reshape((*shape, *value.shape[1:])))

    def rollout(self, state: State, actions: Action) -> Rollout:
        """Step through actions, whose first axis is time."""
        self.check(state, actions, actions.batch_shape[1:])
        states = [state]
        for index in range(len(actions)):
            states.append(self.advanced(states[-1], actions[index]))
        stacked = stack(states)
        contacts = self.accounts.contacts(stacked) if self.config.contacts else None
        return Rollout(stacked, actions, self._spec.dt, contacts=contacts)

    def check(self, state: State, action: Action, batch: tuple[int, ...]) -> None:
        """Refuse what cannot be stepped.

        Raises:
            ValueError: actions of another spec or batch, or a state that is broken or of another world.
        """
        self._spec.check(action)
        if state.batch_shape != batch:
            raise ValueError(f"expected a state and actions of one batch, got {state.batch_shape}, {batch}")
        check_state(state, self.matter, len(self.tools))


def check_world(world: World) -> None:
    """Refuse a world that physics cannot work on.

    Raises:
        UnknownScale: its scale is unknown.
        ValueError: its unit is not one metre, +z is not up, or it has no objects.
    """
    scale = world.require_scale()
    if abs(scale - 1) > 1e-6:
        raise ValueError(f"expected a world in metres, got {scale:g} m per unit; use world.in_metres()")
    if world.up is not None and world.up[2] < 0.999:
        raise ValueError(f"expected a world whose up is 0 0 1, got {world.up}; align it first")
    if not world.objects:
        raise ValueError("expected a world with objects, got none; segment it first")


def check_state(state: State, matter: Matter, tools: int) -> None:
    """Refuse a state that is broken, or of another world.

    Raises:
        ValueError: other objects, particles or tools, or a value that is not finite.
    """
    if state.object_ids != matter.object_ids or state.joint_ids != matter.joint_ids:
        raise ValueError(
            f"State: expected objects {matter.object_ids} and joints {matter.joint_ids},"
            f" got {state.object_ids} and {state.joint_ids}"
        )
    if state.particle_positions.shape[-2] != len(matter.rest):
        raise ValueError(
            f"State.particle_positions: expected {len(matter.rest)} particles, got"
            f" {state.particle_positions.shape[-2]}; start from initial(world)"
        )
    if state.tool_poses.shape[-2] != tools:
        raise ValueError(f"State.tool_poses: expected {tools} tools, got {state.tool_poses.shape[-2]}")
    for name in ("object_poses", "object_twists", "joint_positions", "joint_rates", "particle_positions",
                 "particle_velocities", "tool_poses", "grip"):  # fmt: skip
        if not bool(torch.isfinite(getattr(state, name)).all()):
            raise ValueError(f"State.{name}: expected finite values, got NaN or infinity")
