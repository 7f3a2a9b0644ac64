"""Actions as people write them: targets or corners of a path in JSON, rows of numbers in CSV."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import FileFormatError
from ..pose import slerp_quats
from ..state import Action, ActionSpec
from .json_object import read_object

FORMAT, VERSION = "gaussworld-actions", 1
#: What actions mean where a file does not say: targets of one tool in the world's frame, ten a second.
DEFAULT_SPEC = ActionSpec("tool_pose", 1, "world", "m", 10.0)
_PAIRS = ([list, list], [tuple, tuple])
MAX_BYTES, MAX_STEPS = 256 << 20, 1_000_000


@dataclass(frozen=True, eq=False)
class ActionFile:
    """A sequence of actions, what they move, and where that is before the first of them.

    Raises:
        ValueError: a start of another shape, or not finite.
    """

    actions: Action
    """The first axis is time."""
    tools: tuple[str | Mapping[str, Any], ...] = ()
    """For each tool its name, or its record as `dynamics.tool.tool_record` gives it; empty: not stated."""
    start: Float[Tensor, "a 7"] | None = None
    """Poses of the tools at time 0; None: they begin at their first targets."""
    start_grip: Float[Tensor, " a"] | None = None
    """How far they are closed at time 0; None: as their first targets say."""

    def __post_init__(self) -> None:
        size = self.actions.spec.size
        for name, shape in (("start", (size, 7)), ("start_grip", (size,))):
            value = getattr(self, name)
            if value is not None and (tuple(value.shape) != shape or not bool(value.isfinite().all())):
                raise ValueError(
                    f"{name}: expected finite values of shape {shape}, got {value.tolist()!s:.80}"
                )
        if self.tools and len(self.tools) != size:
            raise ValueError(f"tools: expected {size}, as the actions' spec says, got {len(self.tools)}")
        if self.start is not None:
            # The same checks as for targets: unit quaternions, a grip in [0, 1]; limits are the targets'.
            spec = ActionSpec("tool_pose", size, "world", "m", self.actions.spec.rate_hz)
            Action(spec, self.start, grip=self.start_grip)

    def __len__(self) -> int:
        return len(self.actions)


def spec_from_record(record: Any) -> ActionSpec:
    """The spec that a JSON object states; what it leaves out is as in `DEFAULT_SPEC`.

    Raises:
        ValueError: an unknown key, a value of the wrong type, or one that `ActionSpec` refuses.
    """
    if not isinstance(record, dict):
        raise ValueError(f"spec: expected a JSON object, got {record!r:.60}")
    known: dict[str, Any] = asdict(DEFAULT_SPEC)
    if unknown := set(record) - set(known):
        raise ValueError(f"spec: expected keys among {', '.join(known)}, got {', '.join(sorted(unknown))}")
    values: dict[str, Any] = known | record
    limits = values["limits"]
    if limits is not None:
        if not isinstance(limits, list | tuple) or [type(each) for each in limits] not in _PAIRS:
            raise ValueError(f"spec.limits: expected lists of lowest and highest, got {limits!r:.60}")
        values["limits"] = tuple(tuple(map(float, each)) for each in limits)
    size, rate = values["size"], values["rate_hz"]
    if not isinstance(size, int) or isinstance(size, bool) or isinstance(rate, bool | str):
        raise ValueError(f"spec: expected a whole size and a rate in 1/s, got {size!r} and {rate!r}")
    values["rate_hz"] = float(rate)
    return ActionSpec(**values)


#: Keys of the file, and of a target in it.
_KEYS = ("format", "version", "spec", "tool", "tools", "start", "actions", "via", "speed", "comment")
_TARGET_KEYS = ("position", "quat", "yaw_deg", "grip", "repeat")


@dataclass(frozen=True)
class _Target:
    """Where one tool shall be: 7 numbers of its pose, and its grip."""

    pose: tuple[float, ...] = (0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
    grip: float = 0.0


def read_json(path: Path) -> ActionFile:
    return actions_from_record(read_object(path, MAX_BYTES, "a JSON object with `actions` or `via`"))


def actions_from_plain(record: Mapping[str, Any]) -> ActionFile:
    """The actions that a dict states as a JSON file would.

    Raises:
        ValueError: a key or a value that such a file cannot have, or no actions.
    """
    try:
        # Tuples become lists, and what JSON has not is refused, as if it came out of a file.
        plain = json.loads(json.dumps(dict(record)))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"actions: expected plain numbers, names and lists, as in a JSON file, got: {error}; use"
            " .tolist() for arrays"
        ) from error
    try:
        found = actions_from_record(plain)
    except ValueError as error:
        raise ValueError(f"actions: {error}") from error
    if not len(found.actions):
        raise ValueError("actions: expected at least 1 action, got none; add targets to `actions`")
    return found


def actions_from_record(record: dict[str, Any]) -> ActionFile:
    """The actions that a JSON object states.

    Raises:
        ValueError: a key or a value that makes no sense.
    """
    if record.get("format", FORMAT) != FORMAT or record.get("version", VERSION) != VERSION:
        got = f"{record.get('format')!r:.60} of version {record.get('version')!r:.20}"
        raise ValueError(f"expected {FORMAT} of version {VERSION}, got {got}")
    if unknown := set(record) - set(_KEYS):
        raise ValueError(f"expected keys among {', '.join(_KEYS)}, got {', '.join(sorted(unknown))!r:.80}")
    if ("actions" in record) == ("via" in record):
        raise ValueError("expected either `actions` (a target for each step) or `via` (corners of a path)")
    tools = record.get("tools", [record["tool"]] if "tool" in record else [])
    if not isinstance(tools, list) or not all(isinstance(each, str | dict) for each in tools):
        raise ValueError(f"tools: expected names or records of tools, got {tools!r:.60}")
    stated = record.get("spec", {})
    sized = {"size": max(1, len(tools))} | stated if isinstance(stated, dict) else stated
    spec = spec_from_record(sized)
    if spec.kind != "tool_pose":
        raise ValueError(f"spec: expected tool_pose in a .json, got {spec.kind}; use a .safetensors")
    rows, start = _via(record, spec) if "via" in record else _steps(record, spec)
    return _from_rows(rows, start, spec, tuple(tools))


def _from_rows(
    rows: Sequence[Sequence[_Target]],
    start: Sequence[_Target] | None,
    spec: ActionSpec,
    tools: tuple[Any, ...],
) -> ActionFile:
    poses = torch.tensor([[each.pose for each in row] for row in rows]).reshape(-1, spec.size, 7)
    grips = torch.tensor([[each.grip for each in row] for row in rows]).reshape(-1, spec.size)
    first = start_grip = None
    if start is not None:
        first = _unit(torch.tensor([each.pose for each in start]))
        start_grip = torch.tensor([each.grip for each in start])
    return ActionFile(Action(spec, _unit(poses), grip=grips), tools, first, start_grip)


def _unit(poses: Float[Tensor, "*b 7"]) -> Float[Tensor, "*b 7"]:
    """Quaternions that people rounded become unit ones; others keep their bits."""
    turns = poses[..., 3:]
    length = turns.norm(dim=-1, keepdim=True)
    turns = torch.where((length - 1).abs() > 1e-6, turns / length, turns)
    return torch.cat([poses[..., :3], turns], dim=-1)


def _steps(record: Mapping[str, Any], spec: ActionSpec) -> tuple[list[list[_Target]], list[_Target] | None]:
    """A target for each step; what one leaves out is as in the one before."""
    now, start, rows = [_Target()] * spec.size, None, []
    if "start" in record:
        now = start = _targets(record["start"], now, "start")[0]
    elements = record["actions"]
    if not isinstance(elements, list):
        raise ValueError(f"actions: expected a list, got {type(elements).__name__}")
    for number, element in enumerate(elements):
        now, times = _targets(element, now, f"actions[{number}]")
        if len(rows) + times > MAX_STEPS:
            raise ValueError(f"actions: expected at most {MAX_STEPS} steps, got more")
        rows += [now] * times
    return rows, start


def _targets(element: Any, before: list[_Target], where: str) -> tuple[list[_Target], int]:
    """The targets of all tools in one element, and for how many steps."""
    if isinstance(element, dict) and "tools" in element:
        parts, times = element["tools"], element.get("repeat", 1)
    elif len(before) == 1:
        parts, times = [element], element.get("repeat", 1) if isinstance(element, dict) else 1
    else:
        raise ValueError(
            f'{where}: expected {{"tools": [...]}} with {len(before)} targets, got {element!r:.60}'
        )
    if not isinstance(times, int) or isinstance(times, bool) or times < 1:
        raise ValueError(f"{where}.repeat: expected a whole number of at least 1, got {times!r:.20}")
    if not isinstance(parts, list) or len(parts) != len(before):
        raise ValueError(f"{where}: expected targets of {len(before)} tools, got {parts!r:.60}")
    return [_target(part, old, where) for part, old in zip(parts, before)], times


def _target(part: Any, before: _Target, where: str) -> _Target:
    """One target: x y z, or x y z and w x y z, or an object with some of position, quat, yaw_deg, grip."""
    if isinstance(part, list):
        numbers = _numbers(part, (3, 7), where)
        return _Target((*numbers[:3], *(numbers[3:] or before.pose[3:])), before.grip)
    if not isinstance(part, dict):
        raise ValueError(f"{where}: expected a list of numbers or an object, got {part!r:.60}")
    if unknown := set(part) - set(_TARGET_KEYS):
        wanted, got = ", ".join(_TARGET_KEYS), ", ".join(sorted(unknown))
        raise ValueError(f"{where}: expected keys among {wanted}, got {got!r:.80}")
    position, turn, grip = before.pose[:3], before.pose[3:], before.grip
    if "position" in part:
        position = _numbers(part["position"], (3,), f"{where}.position")
    if "quat" in part and "yaw_deg" in part:
        raise ValueError(f"{where}: expected either quat or yaw_deg, got both")
    if "quat" in part:
        turn = _numbers(part["quat"], (4,), f"{where}.quat")
        if abs(sum(value * value for value in turn) - 1) > 2e-2:
            raise ValueError(f"{where}.quat: expected a unit quaternion w x y z, got {part['quat']!r:.60}")
    if "yaw_deg" in part:
        (degrees,) = _numbers([part["yaw_deg"]], (1,), f"{where}.yaw_deg")
        half = torch.tensor(degrees, dtype=torch.float64).deg2rad() / 2
        turn = (float(half.cos()), 0.0, 0.0, float(half.sin()))
    if "grip" in part:
        (grip,) = _numbers([part["grip"]], (1,), f"{where}.grip")
    return _Target((*position, *turn), grip)


def _numbers(values: Any, counts: tuple[int, ...], where: str) -> tuple[float, ...]:
    if (
        not isinstance(values, list)
        or len(values) not in counts
        or not all(type(value) in (int, float) and abs(value) < 1e9 for value in values)
    ):
        wanted = " or ".join(map(str, counts))
        raise ValueError(f"{where}: expected {wanted} finite numbers, got {values!r:.60}")
    return tuple(map(float, values))


def _via(record: Mapping[str, Any], spec: ActionSpec) -> tuple[list[list[_Target]], list[_Target]]:
    """A path along straight lines at one speed [m/s]; a corner in the same place as the last takes its time
    for `repeat` steps, in which the grip closes."""
    corners, speed = record["via"], record.get("speed", 0.1)
    if spec.size != 1:
        raise ValueError(f"via: expected one tool, got {spec.size}; list `actions` for several")
    if not isinstance(corners, list) or len(corners) < 2:
        raise ValueError(f"via: expected at least 2 corners of a path, got {corners!r:.60}")
    if type(speed) not in (int, float) or not 0 < speed < 1e6:
        raise ValueError(f"speed: expected metres per second above 0, got {speed!r:.20}")
    if "start" in record:
        raise ValueError("start: the first of `via` is where the tool begins; leave `start` out")
    (now,), _ = _targets(corners[0], [_Target()], "via[0]")
    start, rows = [now], []
    for number, corner in enumerate(corners[1:], 1):
        (then,), times = _targets(corner, [now], f"via[{number}]")
        length = sum((a - b) ** 2 for a, b in zip(now.pose[:3], then.pose[:3])) ** 0.5
        steps = max(times, round(length / (float(speed) * spec.dt)))
        if len(rows) + steps > MAX_STEPS:
            raise ValueError(f"via: expected at most {MAX_STEPS} steps, got more; raise `speed`")
        rows += [[_between(now, then, (step + 1) / steps)] for step in range(steps)]
        now = then
    return rows, start


def _between(a: _Target, b: _Target, share: float) -> _Target:
    if share == 1:
        return b
    position = [p + share * (q - p) for p, q in zip(a.pose[:3], b.pose[:3])]
    old, new = (torch.tensor(each.pose[3:], dtype=torch.float64) for each in (a, b))
    turn = slerp_quats(old, new, share).tolist()
    return _Target((*position, *turn), a.grip + share * (b.grip - a.grip))


def json_record(found: ActionFile, spec: dict[str, Any], tools: list[Any]) -> dict[str, Any]:
    actions = found.actions
    if actions.tools is None or actions.spec.kind != "tool_pose":
        raise ValueError(f"expected tool_pose for a .json, got {actions.spec.kind}; write a .safetensors")
    grips = torch.zeros(actions.tools.shape[:2]) if actions.grip is None else actions.grip
    record = {"format": FORMAT, "version": VERSION, "spec": spec, "tools": tools}
    if found.start is not None:
        closed = torch.zeros(len(found.start)) if found.start_grip is None else found.start_grip
        record["start"] = _element(found.start, closed)
    return record | {"actions": [_element(*row) for row in zip(actions.tools, grips)]}


def _element(poses: Tensor, grips: Tensor) -> dict[str, Any]:
    rows = [
        {"position": pose[:3], "quat": pose[3:], "grip": grip}
        for pose, grip in zip(poses.tolist(), grips.tolist())
    ]
    return rows[0] if len(rows) == 1 else {"tools": rows}


_COLUMNS = ("x", "y", "z", "qw", "qx", "qy", "qz", "grip")


def read_csv(path: Path) -> ActionFile:
    """A line of column names among x y z qw qx qy qz grip, then a line for each step; # states a fact."""
    import csv

    if path.stat().st_size > MAX_BYTES:
        raise FileFormatError(f"{path}: expected at most {MAX_BYTES} bytes, got {path.stat().st_size}")
    lines = path.read_text(encoding="utf-8").splitlines()
    stated_lines = [line[1:].strip().partition(" ") for line in lines if line.startswith("#")]
    facts = {key: value.strip() for key, _, value in stated_lines}
    rows = list(csv.reader([line for line in lines if line.strip() and not line.startswith("#")]))
    names = [name.strip() for name in rows[0]] if rows else []
    if set("xyz") - set(names) or set(names) - set(_COLUMNS) or len(set(names)) != len(names):
        raise ValueError(f"expected columns among {', '.join(_COLUMNS)}, x y z at least, got {names!s:.80}")
    if set(facts) - {"rate_hz", "tool", "frame", "units"}:
        raise ValueError(f"expected # rate_hz, tool, frame or units, got {', '.join(facts)!r:.80}")
    stated: dict[str, Any] = {key: facts[key] for key in ("frame", "units") if key in facts}
    spec = spec_from_record(stated | ({"rate_hz": float(facts["rate_hz"])} if "rate_hz" in facts else {}))
    targets = [[_csv_target(dict(zip(names, row)), row, names, n)] for n, row in enumerate(rows[1:], 1)]
    return _from_rows(targets, None, spec, (facts["tool"],) if "tool" in facts else ())


def _csv_target(values: Mapping[str, str], row: Sequence[str], names: Sequence[str], number: int) -> _Target:
    if len(row) != len(names):
        raise ValueError(f"row {number}: expected {len(names)} values, got {len(row)}")
    read = {name: float(text) for name, text in values.items()}
    part: dict[str, Any] = {"position": [read[name] for name in "xyz"]}
    if "qw" in read:
        part["quat"] = [read.get(name, 0.0) for name in ("qw", "qx", "qy", "qz")]
    return _target(part | ({"grip": read["grip"]} if "grip" in read else {}), _Target(), f"row {number}")
