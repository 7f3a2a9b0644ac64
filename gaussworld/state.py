"""What changes and what is wanted: `State`, `ActionSpec`, `Action`, `Rollout`; the `Dynamics` protocol."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .pose import pose7_from_pose, pose_from_pose7
from .world import World

ActionKind = Literal["tool_pose", "tool_delta", "joint_position", "joint_delta", "gripper"]
Index = int | slice | Tensor

#: Trailing shape of each field of `State`, in the axis letters of the conventions page.
_STATE_AXES: dict[str, tuple[str | int, ...]] = {
    "object_poses": ("o", 7), "object_twists": ("o", 6), "joint_positions": ("j",), "joint_rates": ("j",),
    "particle_positions": ("p", 3), "particle_velocities": ("p", 3), "residual": ("p", 3),
    "tool_poses": ("a", 7), "grip": ("a",), "grasped": ("a", "p"), "time": (),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class State:
    """Everything that changes: the same state and action always give the same next state.

    Fields that are left out become zeros of the batch shape of `object_poses`.
    """

    object_ids: tuple[int, ...]
    """Which object of the world each of the o rows is."""
    object_poses: Float[Tensor, "*b o 7"]
    """World frame: x y z [m], w x y z."""
    object_twists: Float[Tensor, "*b o 6"] = None  # pyright: ignore[reportAssignmentType]
    """World frame: velocity of the object frame's origin [m/s], then angular velocity [rad/s]."""
    joint_ids: tuple[int, ...] = ()
    """Which object of the world each of the j joints moves."""
    joint_positions: Float[Tensor, "*b j"] = None  # pyright: ignore[reportAssignmentType]
    """[rad] revolute, [m] prismatic."""
    joint_rates: Float[Tensor, "*b j"] = None  # pyright: ignore[reportAssignmentType]
    """[rad/s] or [m/s]."""
    particle_positions: Float[Tensor, "*b p 3"] = None  # pyright: ignore[reportAssignmentType]
    """[m] world frame."""
    particle_velocities: Float[Tensor, "*b p 3"] = None  # pyright: ignore[reportAssignmentType]
    """[m/s] world frame."""
    residual: Float[Tensor, "*b p 3"] = None  # pyright: ignore[reportAssignmentType]
    """[m/s] the last observed difference between true and predicted particle velocity, world frame."""
    tool_poses: Float[Tensor, "*b a 7"] = None  # pyright: ignore[reportAssignmentType]
    """World frame: x y z [m], w x y z."""
    grip: Float[Tensor, "*b a"] = None  # pyright: ignore[reportAssignmentType]
    """How far each tool is closed, range [0, 1]; 0 is open."""
    grasped: Bool[Tensor, "*b a p"] = None  # pyright: ignore[reportAssignmentType]
    """Which particles each tool holds; frozen while it stays closed."""
    time: Float[Tensor, "*b"] = None  # pyright: ignore[reportAssignmentType]
    """[s] since the beginning."""

    def __post_init__(self) -> None:
        poses = self.object_poses
        if poses.ndim < 2:
            raise ValueError(f"State.object_poses: expected shape (*b, o, 7), got {tuple(poses.shape)}")
        sizes: dict[str | int, int] = {7: 7, 6: 6, 3: 3, "o": len(self.object_ids), "j": len(self.joint_ids)}
        for axis, name in (("p", "particle_positions"), ("a", "tool_poses")):
            given = getattr(self, name)
            sizes[axis] = 0 if given is None or given.ndim < 2 else given.shape[-2]
        for name, axes in _STATE_AXES.items():
            shape = (*self.batch_shape, *(sizes[axis] for axis in axes))
            if getattr(self, name) is None:
                dtype = torch.bool if name == "grasped" else poses.dtype
                object.__setattr__(self, name, torch.zeros(shape, dtype=dtype, device=poses.device))
            value = getattr(self, name)
            if tuple(value.shape) != shape:
                raise ValueError(f"State.{name}: expected shape {shape}, got {tuple(value.shape)}")
            if value.device != poses.device:
                raise ValueError(
                    f"State.{name}: expected device {poses.device} (that of the poses), got {value.device}"
                )

    def __repr__(self) -> str:
        count = {name: getattr(self, name).shape[-2] for name in ("particle_positions", "tool_poses")}
        batch = f"{self.batch_shape} of " if self.batch_shape else ""
        return (
            f"State({batch}{len(self.object_ids)} objects, {len(self.joint_ids)} joints,"
            f" {count['particle_positions']} particles, {count['tool_poses']} tools)"
        )

    @classmethod
    def at_rest(
        cls,
        world: World,
        particle_positions: Float[Tensor, "p 3"] | None = None,
        tool_poses: Float[Tensor, "a 7"] | None = None,
    ) -> "State":
        """The world as it stands at time 0, nothing moving, with a model's particles and tools."""
        joints = {number: item.joint for number, item in world.objects.items() if item.joint is not None}
        poses = [item.world_from_object.to(item.gaussians.means) for item in world.objects.values()]
        stacked = torch.stack(poses) if poses else torch.zeros(0, 4, 4)
        positions = stacked.new_tensor([joint.position for joint in joints.values()])
        return cls(
            tuple(world.objects),
            pose7_from_pose(stacked),
            joint_ids=tuple(joints),
            joint_positions=positions,
            particle_positions=stacked.new_zeros(0, 3) if particle_positions is None else particle_positions,
            tool_poses=stacked.new_zeros(0, 7) if tool_poses is None else tool_poses,
        )

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Sizes of the leading axes `*b`."""
        return tuple(self.object_poses.shape[:-2])

    def map(self, change: Callable[[Tensor], Tensor]) -> "State":
        """The same function applied to every tensor; it must treat the leading axes alike."""
        return replace(self, **{name: change(getattr(self, name)) for name in _STATE_AXES})

    def __getitem__(self, index: Index) -> "State":
        """Index the first batch axis of every tensor.

        Raises:
            ValueError: this state is no batch.
        """
        _check_batch(self.batch_shape, "state")
        return self.map(lambda value: value[index])

    def __len__(self) -> int:
        """Size of the first batch axis."""
        return _check_batch(self.batch_shape, "state")

    def expand(self, *sizes: int) -> "State":
        """This state as seen by a batch: new leading axes that share memory."""
        return self.map(lambda value: value.expand(*sizes, *value.shape))

    def to(self, device: torch.device | str) -> "State":
        return self.map(lambda value: value.to(device))

    def detach(self) -> "State":
        return self.map(lambda value: value.detach())

    def world_from_objects(self) -> Mapping[int, Float[Tensor, "4 4"]]:
        """Pose of every object by id; this is what `World.posed` asks for.

        Raises:
            ValueError: this state is a batch.
        """
        if self.batch_shape:
            raise ValueError(f"expected one state, got a batch of shape {self.batch_shape}; index it first")
        return dict(zip(self.object_ids, pose_from_pose7(self.object_poses)))


def stack(states: Sequence[State]) -> State:
    """Join states of one world along a new first axis; `stack(states)[i]` is `states[i]`.

    Raises:
        ValueError: there are none, or they describe other objects, joints, or shapes.
    """
    if not states:
        raise ValueError("expected at least one state to stack, got none")
    first = states[0]
    for state in states:
        for name in ("object_ids", "joint_ids"):
            if getattr(state, name) != getattr(first, name):
                raise ValueError(
                    f"{name}: expected {getattr(first, name)} in every state, got {getattr(state, name)}"
                )
        for name in _STATE_AXES:
            wanted, got = tuple(getattr(first, name).shape), tuple(getattr(state, name).shape)
            if wanted != got:
                raise ValueError(f"State.{name}: expected shape {wanted} in every state, got {got}")
    return replace(
        first, **{name: torch.stack([getattr(state, name) for state in states]) for name in _STATE_AXES}
    )


#: What each kind of action is measured in, and the frames in which it can be given.
_UNITS: dict[str, str] = {
    "tool_pose": "m", "tool_delta": "m", "joint_position": "rad", "joint_delta": "rad", "gripper": "fraction",
}  # fmt: skip
_FRAMES: dict[str, tuple[str, ...]] = {
    "tool_pose": ("world",), "tool_delta": ("world", "tool"),
    "joint_position": ("joint",), "joint_delta": ("joint",), "gripper": ("tool",),
}  # fmt: skip


@dataclass(frozen=True)
class ActionSpec:
    """What the numbers of an action mean. Two parties agree or there is an error: nothing is reinterpreted.

    Raises:
        ValueError: a frame or unit that the kind does not have, a size or rate not above 0, or bad limits.
    """

    kind: ActionKind
    size: int
    """How many tools a (tool and gripper kinds) or joints j (joint kinds)."""
    frame: Literal["world", "tool", "joint"]
    """Axes of the numbers: tool poses are in the world's, tool deltas in the world's or the tool's own."""
    units: Literal["m", "rad", "fraction"]
    """m: positions [m] and quaternions wxyz; rad: [rad], or [m] for prismatic joints; fraction: [0, 1]."""
    rate_hz: float
    """[1/s] one action is one step of 1 / rate_hz seconds."""
    limits: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    """Lowest and highest x y z [m] of all tools' targets or deltas, or of each joint; None is no limit."""

    def __post_init__(self) -> None:
        if self.kind not in _UNITS:
            raise ValueError(f"ActionSpec.kind: expected one of {', '.join(_UNITS)}, got {self.kind!r}")
        if self.frame not in _FRAMES[self.kind]:
            wanted = " or ".join(_FRAMES[self.kind])
            raise ValueError(
                f"ActionSpec.frame: {self.kind} expects {wanted}, got {self.frame!r}; convert before"
            )
        if self.units != _UNITS[self.kind]:
            wanted = _UNITS[self.kind]
            raise ValueError(
                f"ActionSpec.units: {self.kind} expects {wanted}, got {self.units!r}; convert before"
            )
        if self.size < 1:
            raise ValueError(f"ActionSpec.size: expected at least 1 tool or joint, got {self.size}")
        if not 0 < self.rate_hz < float("inf"):
            raise ValueError(f"ActionSpec.rate_hz: expected a positive finite rate, got {self.rate_hz}")
        if self.limits is not None:
            self._check_limits(*self.limits)

    def _check_limits(self, low: tuple[float, ...], high: tuple[float, ...]) -> None:
        if self.kind == "gripper":
            raise ValueError("ActionSpec.limits: expected None for a gripper, whose range is [0, 1]")
        count = self.size if self.kind.startswith("joint") else 3
        if len(low) != count or len(high) != count or not all(a <= b for a, b in zip(low, high)):
            raise ValueError(
                f"ActionSpec.limits: expected {count} values, lowest <= highest, got {low} and {high}"
            )

    @property
    def dt(self) -> float:
        """[s] length of one step."""
        return 1 / self.rate_hz

    def check(self, action: "Action") -> None:
        """Refuse an action that means something else; a model calls this with the spec it was built for.

        Raises:
            ValueError: kind, size, frame, units or rate differ; limits are the action's own affair.
        """
        for name in ("kind", "size", "frame", "units", "rate_hz"):
            wanted, got = getattr(self, name), getattr(action.spec, name)
            if wanted != got:
                raise ValueError(
                    f"action {name}: expected {wanted!r}, got {got!r}; convert it, it is never guessed"
                )


@dataclass(frozen=True, eq=False)
class Action:
    """Targets at the end of a step, or a sequence of them: then the first batch axis is time, t steps.

    Tool kinds have `tools`, joint kinds `joints`, either perhaps `grip`; the gripper kind has `grip` alone.

    Raises:
        ValueError: a field is missing, superfluous, of the wrong shape, not finite, or outside its range.
    """

    spec: ActionSpec
    tools: Float[Tensor, "*b a 7"] | None = None
    """x y z [m], w x y z: the pose to reach, or for `tool_delta` the motion to make."""
    joints: Float[Tensor, "*b j"] | None = None
    """[rad] or [m]: positions to reach, or for `joint_delta` the motion to make."""
    grip: Float[Tensor, "*b g"] | None = None
    """How far each tool shall be closed, range [0, 1]; 0 is open. None leaves the grip as it is."""

    def __post_init__(self) -> None:
        needed = {"tool": "tools", "joint": "joints", "gripper": "grip"}[self.spec.kind.split("_")[0]]
        for name in ("tools", "joints", "grip"):
            given = getattr(self, name) is not None
            if given != (name == needed) and not (given and name == "grip"):
                wanted, got = ("a tensor", "None") if name == needed else ("None", "a tensor")
                raise ValueError(f"Action.{name}: {self.spec.kind} expects {wanted}, got {got}")
        self._check_shapes()
        self._check_values()

    def _check_shapes(self) -> None:
        size, tools, joints, grip = self.spec.size, self.tools, self.joints, self.grip
        if tools is not None and tuple(tools.shape[-2:]) != (size, 7):
            raise ValueError(f"Action.tools: expected shape (*b, {size}, 7), got {tuple(tools.shape)}")
        if joints is not None and (joints.ndim < 1 or joints.shape[-1] != size):
            raise ValueError(f"Action.joints: expected shape (*b, {size}), got {tuple(joints.shape)}")
        if grip is None:
            return
        # An arm of many joints has a grip for each of its tools, whose number the spec does not count.
        tail = grip.shape[-1:] if joints is not None else (size,)
        if grip.ndim < 1 or tuple(grip.shape) != (*self.batch_shape, *tail):
            raise ValueError(
                f"Action.grip: expected shape {(*self.batch_shape, *tail)}, got {tuple(grip.shape)}"
            )

    def _check_values(self) -> None:
        for name in ("tools", "joints", "grip"):
            value = getattr(self, name)
            if value is not None and not bool(torch.isfinite(value).all()):
                raise ValueError(f"Action.{name}: expected finite values, got NaN or infinity")
        if self.grip is not None and not bool(((self.grip >= 0) & (self.grip <= 1)).all()):
            low, high = float(self.grip.min()), float(self.grip.max())
            raise ValueError(f"Action.grip: expected values in [0, 1] (0 is open), got {low:g} to {high:g}")
        if self.tools is not None and bool(((self.tools[..., 3:].norm(dim=-1) - 1).abs() > 1e-3).any()):
            raise ValueError(
                "Action.tools: expected unit quaternions wxyz in columns 3 to 6, got another length"
            )
        values = self.joints if self.tools is None else self.tools[..., :3]
        if self.spec.limits is not None and values is not None:
            low, high = (values.new_tensor(limit) for limit in self.spec.limits)
            outside = (values < low - 1e-6) | (values > high + 1e-6)
            if bool(outside.any()):
                got = float(values[outside][0])
                raise ValueError(
                    f"Action: expected targets within {self.spec.limits}, got {got:g}; clamp them first"
                )

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Sizes of the leading axes `*b`."""
        if self.tools is not None:
            return tuple(self.tools.shape[:-2])
        return tuple((self.grip if self.joints is None else self.joints).shape[:-1])  # pyright: ignore

    def __repr__(self) -> str:
        return f"Action({self.batch_shape} of {self.spec.kind} x {self.spec.size}, {self.spec.rate_hz:g} Hz)"

    def map(self, change: Callable[[Tensor], Tensor]) -> "Action":
        """The same function applied to every tensor; it must treat the leading axes alike."""
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "spec"}
        return replace(self, **{name: change(value) for name, value in given.items() if value is not None})

    def __getitem__(self, index: Index) -> "Action":
        """Index the first batch axis, which is time in a sequence.

        Raises:
            ValueError: this action is no batch.
        """
        _check_batch(self.batch_shape, "action")
        return self.map(lambda value: value[index])

    def __len__(self) -> int:
        """Size of the first batch axis: the number t of steps in a sequence."""
        return _check_batch(self.batch_shape, "action")

    def to(self, device: torch.device | str) -> "Action":
        return self.map(lambda value: value.to(device))


def _check_batch(shape: tuple[int, ...], what: str) -> int:
    if not shape:
        raise ValueError(f"expected a batch, got a single {what}; stack several first")
    return shape[0]


@dataclass(frozen=True, eq=False)
class Rollout:
    """A predicted future: `actions[i]` leads from `states[i]` to `states[i + 1]`.

    Raises:
        ValueError: lengths, batches or `dt` of the parts contradict each other.
    """

    states: State
    """Time is the first batch axis, t + 1 long."""
    actions: Action
    """Time is the first batch axis, t long."""
    dt: float
    """[s] length of one step."""
    spread: Float[Tensor, "u *b o"] | None = None
    """[m] radius about each object's place that holds the true one nine times out of ten; None is unknown."""
    contacts: Bool[Tensor, "u *b o m"] | None = None
    """Whether object o touches column m: the o objects in the order of the states, then the a tools."""

    def __post_init__(self) -> None:
        if len(self.states) != len(self.actions) + 1:
            raise ValueError(
                f"Rollout: expected one state more than actions, got {len(self.states)} states"
                f" and {len(self.actions)} actions"
            )
        if self.states.batch_shape[1:] != self.actions.batch_shape[1:]:
            wanted, got = self.states.batch_shape[1:], self.actions.batch_shape[1:]
            raise ValueError(f"Rollout: expected actions with the states' batch {wanted}, got {got}")
        if not abs(self.dt - self.actions.spec.dt) <= 1e-6 * self.actions.spec.dt:
            raise ValueError(
                f"Rollout.dt: expected {self.actions.spec.dt:g} s, the actions' period, got {self.dt:g} s"
            )
        objects = self.states.object_poses.shape[-2]
        shapes = {"spread": (objects,), "contacts": (objects, objects + self.states.tool_poses.shape[-2])}
        for name, tail in shapes.items():
            value, wanted = getattr(self, name), (*self.states.batch_shape, *tail)
            if value is not None and tuple(value.shape) != wanted:
                raise ValueError(f"Rollout.{name}: expected shape {wanted}, got {tuple(value.shape)}")

    def __len__(self) -> int:
        """The number t of steps."""
        return len(self.actions)

    def __repr__(self) -> str:
        return f"Rollout({len(self)} steps of {self.dt:g} s, states: {self.states!r})"

    @property
    def final(self) -> State:
        """The last state."""
        return self.states[-1]


@runtime_checkable
class Dynamics(Protocol):
    """A model of how a world changes under actions.

    Every implementation is deterministic (the same arguments give the same bits on the same machine), keeps
    no state of its own between calls, and treats the elements of a batch independently of each other.
    """

    @property
    def action_spec(self) -> ActionSpec:
        """The only kind of action this model understands; its `dt` is the length of a step."""
        ...

    def initial(self, world: World) -> State:
        """The unbatched state at time 0: `State.at_rest` with this model's particles and tools.

        Raises:
            UnknownScale: the world's `metres_per_unit` is None.
            ValueError: its unit is not one metre; `World.in_metres` makes it so.
        """
        ...

    def step(self, state: State, action: Action) -> State:
        """The state one period later; `state` and `action` share their batch shape and are left as they are.

        Raises:
            ValueError: the action's spec is not `action_spec`, or the batches differ.
        """
        ...

    def rollout(self, state: State, actions: Action) -> Rollout:
        """Step through `actions`, whose first axis is time and whose others are the state's batch.

        `states[0]` is `state`, and `states[i + 1]` equals `step(states[i], actions[i])`.

        Raises:
            ValueError: the actions' spec is not `action_spec`, or the batches differ.
        """
        ...
