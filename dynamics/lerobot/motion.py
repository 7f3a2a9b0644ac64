"""`Motion`: the rows of an episode as states and actions, by what the user says that they mean."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.errors import ConfigError, FileFormatError
from gaussworld.pose import (
    invert_pose,
    normalize_quats,
    pose7_from_pose,
    pose_from,
    pose_from_pose7,
    rotation_from_quats,
    rotation_from_rotvec,
    wxyz_from_xyzw,
)
from gaussworld.state import Action, ActionSpec, State

from .config import ROTATION_COLUMNS, LeRobotConfig
from .dataset import Dataset, Feature

#: [m], [rad]: what is farther from zero has another unit than it was said to have.
_FARTHEST, _LARGEST_ANGLE = 50.0, 30.0


@dataclass(frozen=True, eq=False)
class Motion:
    """What a robot did. No objects: a dataset does not say where they are."""

    states: State
    """Time is the first axis, t + 1 long. Tools, or joints whose ids are 1 to j."""
    actions: Action
    """Time is the first axis, t long."""
    grip: Float[Tensor, "u g"]
    """How far each gripper is closed, for all t + 1 states; with tools that is the states' own."""
    clamped: int
    """Grips outside of the range, which were put to its end."""


def joint_names(dataset: Dataset, config: LeRobotConfig) -> tuple[str, ...]:
    """What the dataset calls the joints, or joint 0, joint 1, ..."""
    feature = dataset.features[config.state]
    columns = _columns(feature, config.state, config.joints)
    named = len(feature.names) == _width(feature)
    return tuple(feature.names[column] if named else f"joint {column}" for column in columns)


def every(dataset: Dataset, config: LeRobotConfig) -> int:
    """How many rows make one step.

    Raises:
        ConfigError: the wanted rate is no whole fraction of the dataset's.
    """
    wanted = dataset.fps if config.rate_hz is None else config.rate_hz
    step = round(dataset.fps / wanted)
    if step < 1 or abs(step * wanted - dataset.fps) > 1e-6 * dataset.fps:
        some = ", ".join(f"{dataset.fps / n:g}" for n in (1, 2, 5))
        raise ConfigError(
            f"--rate-hz: expected a whole fraction of the dataset's {dataset.fps:g} Hz,"
            f" such as {some}, got {wanted:g}"
        )
    return step


def check_columns(dataset: Dataset, config: LeRobotConfig) -> None:
    """Refuse features and columns that the dataset does not have, before anything is read.

    Raises:
        ConfigError: a name, a column, or a rate that the dataset does not have.
    """
    config.check()
    every(dataset, config)
    for name, prefix in ((config.state, ""), (config.action, "action_")):
        feature = dataset.features.get(name)
        if feature is None or feature.pictures:
            known = ", ".join(n for n, f in dataset.features.items() if not f.pictures)
            raise ConfigError(f"expected a feature of numbers ({known}), got {name!r}")
        for field in ("position", "rotation", "joints", "grip"):
            _columns(feature, name, _field(config, prefix, field))


def motion_of(dataset: Dataset, config: LeRobotConfig, rows: Mapping[str, np.ndarray], where: str) -> Motion:
    """The states and actions of one episode.

    A row holds what was observed and the action that followed; the last action leads nowhere: left out.

    Args:
        dataset: for its rate and columns.
        config: what they mean.
        rows: (n, k) for the features of state and action.
        where: the episode, for messages.

    Raises:
        ConfigError: the meaning is incomplete or the dataset has no such columns.
        FileFormatError: fewer than two steps' rows, NaN, or numbers of another unit than was said.
    """
    step = every(dataset, config)
    steps = (len(rows[config.state]) - 1) // step
    if steps < 1:
        raise FileFormatError(f"{where}: expected at least {step + 1} rows, got {len(rows[config.state])}")
    spec = _spec(config, dataset.fps / step)
    said = _Numbers(config, dataset.features[config.state], rows[config.state], config.state, "", where)
    told = _Numbers(
        config, dataset.features[config.action], rows[config.action], config.action, "action_", where
    )
    at = slice(0, steps * step + 1, step)
    grip, before = said.grip()
    asked, outside = told.grip()
    time = torch.arange(steps + 1, dtype=torch.float32) / spec.rate_hz
    grip, last = grip[at], asked[step - 1 : steps * step : step]
    if config.tool_kind:
        poses = said.poses()[at]
        closed = {"grip": grip} if grip.shape[1] else {}
        states = _state(time, tool_poses=pose7_from_pose(poses).float(), **closed)
        targets = pose7_from_pose(_joined(told, config, step, steps)).float()
        actions = Action(spec, tools=targets, grip=last if last.shape[1] else None)
    else:
        joints = said.joints()[at]
        rates = torch.gradient(joints, spacing=1 / spec.rate_hz, dim=0)[0]
        states = _state(time, joint_positions=joints.float(), joint_rates=rates.float())
        wanted = told.joints()[: steps * step].reshape(steps, step, -1)
        wanted = wanted.sum(1) if config.kind == "joint_delta" else wanted[:, -1]
        actions = Action(spec, joints=wanted.float(), grip=last if last.shape[1] else None)
    return Motion(states, actions, grip, before + outside)


def _state(time: Tensor, **fields: Tensor) -> State:
    joints = fields.get("joint_positions")
    ids = tuple(range(1, 1 + joints.shape[1])) if joints is not None else ()
    return State((), torch.zeros(len(time), 0, 7), joint_ids=ids, time=time, **fields)  # pyright: ignore


def _spec(config: LeRobotConfig, rate: float) -> ActionSpec:
    assert config.kind is not None
    if config.tool_kind:
        frame = "world" if config.kind == "tool_pose" else config.frame
        return ActionSpec(config.kind, len(config.tools), frame, "m", rate)
    return ActionSpec(config.kind, len(config.joints), "joint", "rad", rate)


def _joined(told: "_Numbers", config: LeRobotConfig, step: int, steps: int) -> Float[Tensor, "t a 4 4"]:
    """What is asked for in each step: the last pose of its rows, or all of their motions together."""
    if config.kind == "tool_pose":
        return told.poses()[step - 1 : steps * step : step]
    motions = told.motions()[: steps * step]
    motions = motions.reshape(steps, step, *motions.shape[1:])
    whole = motions[:, 0]
    for later in motions.unbind(1)[1:]:
        if config.frame == "tool":
            whole = whole @ later
        else:
            turned = later[..., :3, :3] @ whole[..., :3, :3]
            whole = pose_from(turned, whole[..., :3, 3] + later[..., :3, 3])
    return whole


class _Numbers:
    """The numbers of one feature, turned into metres and radians of the world."""

    def __init__(
        self, config: LeRobotConfig, feature: Feature, rows: np.ndarray, name: str, prefix: str, where: str
    ) -> None:
        self._config, self._feature, self._rows = config, feature, rows
        self._name, self._prefix, self._where = name, prefix, where
        scales = (config.action_metres_per_unit if prefix else None, config.metres_per_unit)
        self._scale = next((scale for scale in scales if scale is not None), 1.0)

    def poses(self) -> Float[Tensor, "n a 4 4"]:
        """World from tool."""
        world = _pose(self._config.world_from_data) @ self._tracked() @ _pose(self._config.data_from_tool)
        if self._config.height is not None:
            world[..., 2, 3] = self._config.height
        self._check(world[..., :3, 3], _FARTHEST, "m", "--metres-per-unit")
        return world

    def motions(self) -> Float[Tensor, "n a 4 4"]:
        """What to move by, along the world's axes or the tool's own."""
        moved = self._tracked()
        self._check(moved[..., :3, 3], _FARTHEST, "m", "--action-metres-per-unit")
        if self._config.frame == "tool":
            tool = _pose(self._config.data_from_tool)
            return invert_pose(tool) @ moved @ tool
        turn = _pose(self._config.world_from_data)[:3, :3]
        shift = (turn @ moved[..., :3, 3:])[..., 0]
        return pose_from(turn @ moved[..., :3, :3] @ turn.T, shift)

    def joints(self) -> Float[Tensor, "n j"]:
        """[rad], or [m] for prismatic ones."""
        values = self._values("joints")
        if self._config.angles == "deg":
            return torch.deg2rad(values)
        self._check(values, _LARGEST_ANGLE, "rad", "--angles")
        return values

    def grip(self) -> tuple[Float[Tensor, "n g"], int]:
        """How far each gripper is closed, and how many numbers lay outside of the range."""
        values = self._values("grip").float()
        if self._config.grip_range is None:
            return values, 0
        opened, closed = self._config.grip_range
        values = (values - opened) / (closed - opened)
        outside = int(((values < -1e-3) | (values > 1 + 1e-3)).sum())
        return values.clamp(0, 1), outside

    def _tracked(self) -> Float[Tensor, "n a 4 4"]:
        """The dataset's own frame, in metres, with y upward."""
        count = len(self._config.tools)
        places = self._values("position").reshape(len(self._rows), count, -1) * self._scale
        if places.shape[-1] == 2:
            places = torch.cat([places, torch.zeros_like(places[..., :1])], -1)
        poses = pose_from(self._turns(count), places)
        if self._config.y_down:
            # Mirrored twice, a rotation stays one.
            mirror = torch.diag(torch.tensor([1.0, -1.0, 1.0, 1.0], dtype=torch.float64))
            poses = mirror @ poses @ mirror
        return poses

    def _turns(self, count: int) -> Float[Tensor, "n a 3 3"]:
        kind, values = self._config.rotation_as, self._values("rotation")
        if not values.shape[1] or kind is None:
            return torch.eye(3, dtype=torch.float64).expand(len(self._rows), count, 3, 3)
        values = values.reshape(len(self._rows), count, ROTATION_COLUMNS[kind])
        if kind in ("wxyz", "xyzw"):
            return self._from_quats(values if kind == "wxyz" else wxyz_from_xyzw(values))
        values = torch.deg2rad(values) if self._config.angles == "deg" else values
        self._check(values, _LARGEST_ANGLE, "rad", "--angles")
        if kind == "rotvec":
            return rotation_from_rotvec(values)
        axes = torch.eye(3, dtype=torch.float64)
        about = [
            rotation_from_rotvec(values[..., i, None] * axis)
            for i, axis in enumerate(axes[-values.shape[-1] :])
        ]
        return about[0] if kind == "yaw" else about[2] @ about[1] @ about[0]

    def _from_quats(self, quats: Float[Tensor, "n a 4"]) -> Float[Tensor, "n a 3 3"]:
        if bool(((quats.norm(dim=-1) - 1).abs() > 1e-2).any()):
            raise FileFormatError(
                f"{self._where}, {self._name}: expected unit quaternions, got other lengths;"
                " are the columns right?"
            )
        return rotation_from_quats(normalize_quats(quats))

    def _values(self, field: str) -> Float[Tensor, "n k"]:
        columns = _columns(self._feature, self._name, _field(self._config, self._prefix, field))
        values = torch.from_numpy(self._rows[:, columns])
        if not bool(torch.isfinite(values).all()):
            row, column = (~torch.isfinite(values)).nonzero()[0].tolist()
            raise FileFormatError(
                f"{self._where}, {self._name}: expected finite numbers, got {float(values[row, column])}"
                f" in column {columns[column]} of row {row}; leave that episode out"
            )
        return values

    def _check(self, values: Tensor, largest: float, unit: str, flag: str) -> None:
        if values.numel() and (worst := float(values.abs().max())) > largest:
            raise FileFormatError(
                f"{self._where}, {self._name}: expected numbers up to {largest:g} {unit}, got"
                f" {worst:.4g} {unit}; is {flag} right?"
            )


def _pose(numbers: tuple[float, ...]) -> Float[Tensor, "4 4"]:
    return pose_from_pose7(torch.tensor(numbers, dtype=torch.float64))


def _field(config: LeRobotConfig, prefix: str, field: str) -> tuple[str, ...]:
    """Columns of the state, or of the action, which are the same where nothing else is said."""
    return getattr(config, prefix + field) or getattr(config, field)


def _width(feature: Feature) -> int:
    return int(np.prod(feature.shape)) if feature.shape else 1


def _columns(feature: Feature, name: str, given: tuple[str, ...]) -> list[int]:
    """Numbers of columns that are given by number or by name."""
    width, columns = _width(feature), []
    for column in given:
        number = int(column) if column.isdecimal() else -1
        if column in feature.names:
            number = feature.names.index(column)
        if not 0 <= number < width:
            named = f" ({', '.join(feature.names)})" if feature.names else ""
            raise ConfigError(f"expected a column of {name}, 0 to {width - 1}{named}, got {column!r}")
        columns.append(number)
    return columns
