"""`LeRobotConfig`: what the numbers of a LeRobot dataset mean; presets in `configs/lerobot`."""

from dataclasses import dataclass
from typing import Literal

from gaussworld.errors import ConfigError

Rotation = Literal["wxyz", "xyzw", "rotvec", "rpy", "yaw"]
#: Columns that each form of rotation takes for a tool.
ROTATION_COLUMNS: dict[str, int] = {"wxyz": 4, "xyzw": 4, "rotvec": 3, "rpy": 3, "yaw": 1}
_IDENTITY = (0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class LeRobotConfig:
    """Which columns are what, in which unit and frame. A dataset does not say so, and nothing is guessed.

    Columns are numbers from 0, or names as meta/info.json lists them; the tools' columns follow one another.
    """

    kind: Literal["tool_pose", "tool_delta", "joint_position", "joint_delta"] | None = None
    """What an action is: a pose for the tool to reach, a motion for it to make, or the same of joints."""
    frame: Literal["world", "tool"] = "world"
    """Axes of a tool_delta: the dataset's (turned into the world's) or the tool's own."""
    state: str = "observation.state"
    """The feature that says where the robot is."""
    action: str = "action"
    """The feature that says where it is told to go."""
    position: tuple[str, ...] = ()
    """Columns of the tools' x y z in the state, or of their x y where `height` is given."""
    action_position: tuple[str, ...] = ()
    """The same in the action; by default the same columns as in the state."""
    height: float | None = None
    """[m] z of the tools in the world, where the dataset has none."""
    rotation: tuple[str, ...] = ()
    """Columns of the tools' rotations in the state; without them the tools stay upright."""
    action_rotation: tuple[str, ...] = ()
    """The same in the action; by default the same columns as in the state."""
    rotation_as: Rotation | None = None
    """wxyz or xyzw quaternion, rotvec (axis times angle), rpy (about fixed x, then y, then z), or yaw."""
    joints: tuple[str, ...] = ()
    """Columns of the joints in the state."""
    action_joints: tuple[str, ...] = ()
    """The same in the action; by default the same columns as in the state."""
    grip: tuple[str, ...] = ()
    """A column for each gripper in the state."""
    action_grip: tuple[str, ...] = ()
    """The same in the action; by default the same columns as in the state."""
    grip_range: tuple[float, float] | None = None
    """The numbers of an open and of a closed gripper."""
    metres_per_unit: float | None = None
    """[m] what one unit of a position in the state is: 1 for metres, 0.001 for millimetres."""
    action_metres_per_unit: float | None = None
    """The same in the action; by default as in the state."""
    angles: Literal["rad", "deg"] | None = None
    """Unit of joints and of angles; quaternions have none. Prismatic joints [m] go with rad."""
    y_down: bool = False
    """The dataset's y points down in a picture that is seen from above, as in gym-pusht: y is mirrored."""
    world_from_data: tuple[float, float, float, float, float, float, float] = _IDENTITY
    """x y z [m], w x y z: the dataset's frame (after mirroring) in the world, which is level with +z up."""
    data_from_tool: tuple[float, float, float, float, float, float, float] = _IDENTITY
    """x y z [m], w x y z: the tool's frame (tip; z to the wrist) in the frame that the dataset tracks."""
    tools: tuple[str, ...] = ()
    """What each tool is: pusher, gripper, or a JSON file that describes one."""
    rate_hz: float | None = None
    """Actions a second to make of it, a whole fraction of the dataset's; by default the dataset's own."""
    family: str = "lerobot"
    """What the episodes are called."""

    def __post_init__(self) -> None:
        if self.family != self.family.strip() or not self.family.replace("_", "").replace("-", "").isalnum():
            raise ConfigError(f"--family: expected letters, digits, - and _, got {self.family!r}")
        for name in ("metres_per_unit", "action_metres_per_unit", "rate_hz"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1e6:
                raise ConfigError(f"--{name.replace('_', '-')}: expected a number above 0, got {value:g}")
        if self.grip_range is not None and self.grip_range[0] == self.grip_range[1]:
            raise ConfigError(
                f"--grip-range: expected two different numbers, got {self.grip_range[0]:g} twice"
            )
        for name in ("world_from_data", "data_from_tool"):
            values = getattr(self, name)
            if abs(sum(value * value for value in values[3:]) - 1) > 1e-3:
                raise ConfigError(
                    f"--{name.replace('_', '-')}: expected a unit quaternion at the end, got {values[3:]}"
                )

    @property
    def tool_kind(self) -> bool:
        """Whether actions are about tools, not joints."""
        return self.kind in ("tool_pose", "tool_delta")

    def check(self) -> None:
        """Refuse a meaning that leaves something open; the defaults alone are no meaning.

        Raises:
            ConfigError: it names what is missing.
        """
        if self.kind is None:
            raise ConfigError(
                "expected the meaning of the dataset's numbers, got none: choose --config pusht or aloha,"
                " or say --kind and the columns, as docs/lerobot.md shows"
            )
        self._check_tools() if self.tool_kind else self._check_joints()
        if self.grip and self.grip_range is None:
            raise ConfigError("--grip-range: expected the numbers of an open and a closed gripper, got none")
        turns = self.rotation or self.action_rotation
        if turns and self.rotation_as is None:
            raise ConfigError(
                "--rotation-as: expected wxyz, xyzw, rotvec, rpy or yaw for the rotations, got none"
            )
        if self.angles is None and (
            not self.tool_kind or (turns and self.rotation_as not in ("wxyz", "xyzw"))
        ):
            raise ConfigError("--angles: expected rad or deg, got none; a dataset does not say which")

    def _check_tools(self) -> None:
        if not self.tools:
            raise ConfigError("--tools: expected what each tool is, such as pusher or gripper, got none")
        if self.metres_per_unit is None:
            raise ConfigError(
                "--metres-per-unit: expected what one unit of a position is, such as 1, got none"
            )
        count, size = len(self.tools), 3 if self.height is None else 2
        turn = ROTATION_COLUMNS.get(self.rotation_as or "", 0)
        sizes = {
            "position": size * count,
            "action_position": size * count,
            "grip": count,
            "action_grip": count,
        }
        for name, wanted in (sizes | {"rotation": turn * count, "action_rotation": turn * count}).items():
            got = len(getattr(self, name))
            if (name == "position" or got) and got != wanted and not (name.endswith("rotation") and not turn):
                why = f"{count} tool{'s' * (count > 1)}" + (
                    ", and --height for what has no z" if name.endswith("position") else ""
                )
                raise ConfigError(
                    f"--{name.replace('_', '-')}: expected {wanted} columns for {why}, got {got}"
                )

    def _check_joints(self) -> None:
        if not self.joints:
            raise ConfigError("--joints: expected the columns of the joints, got none")
        if self.action_joints and len(self.action_joints) != len(self.joints):
            raise ConfigError(
                f"--action-joints: expected {len(self.joints)} columns as in the state,"
                f" got {len(self.action_joints)}"
            )
        if self.tools and self.grip and len(self.tools) != len(self.grip):
            raise ConfigError(
                f"--tools: expected one for each of {len(self.grip)} grippers, got {len(self.tools)}"
            )
