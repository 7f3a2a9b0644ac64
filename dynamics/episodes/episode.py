"""`Episode`: one recording on disk - what happened, with which actions, and what is known of everything."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.camera_record import camera_from_record
from gaussworld.errors import CaptureError, FileFormatError
from gaussworld.io.json_object import blaming, read_object
from gaussworld.state import Action, ActionSpec, State
from gaussworld.world import World
from gaussworld.world_object import Joint, ObjectKind

from ..matter.parts import PartKind
from ..tool import tool_from_record
from .layout import ACTIONS, ARRAYS, CARD, FIXED, FORMAT, FRAME, MOMENTS, MOST_BYTES, VERSION

#: What the actions of generated episodes mean.
SPEC = ActionSpec("tool_pose", size=1, frame="world", units="m", rate_hz=10.0)


@dataclass(frozen=True)
class EpisodeObject:
    """What is true of one object; a model that shall predict must not look at all of it."""

    id: int
    name: str
    kind: ObjectKind
    part: PartKind | None
    """How it moves; None for what belongs to a robot."""
    category: str
    """What it is made of."""
    mass: float
    """[kg]"""
    volume: float
    """[m^3]"""
    friction: float
    """Coulomb coefficient; for two that touch, the geometric mean counts."""
    mesh: Path
    """Surface in the object's frame, at time 0."""
    parts: tuple[Path, ...] = ()
    """Convex meshes that collide."""
    color: tuple[float, float, float] = (0.7, 0.7, 0.7)
    """sRGB, range [0, 1]: the mean of its paint."""
    parent: int | None = None
    """Id of what its joint is mounted on."""
    joint: Joint | None = None
    """In the object's frame; its position is that at time 0."""
    joint_damping: float = 0.0
    """[N s/m] or [N m s/rad]"""
    joint_friction: float = 0.0
    """[N] or [N m]"""
    stiffness: float | None = None
    """[Pa] Young's modulus of what bends."""
    damping: float | None = None
    """[s] of what bends: stress at a strain rate over that at the strain."""
    fixed: tuple[int, ...] = ()
    """Rows among its own points that never move."""


@dataclass(frozen=True, eq=False)
class Tracks:
    """Points of the objects and where they went."""

    objects: Int[Tensor, " q"]
    """The object of each point."""
    rest: Float[Tensor, "q 3"]
    """[m] in the object's frame at time 0."""
    points: Float[Tensor, "u q 3"]
    """[m] world frame, at each moment."""


class Episode:
    """One episode's folder; arrays are read when they are asked for."""

    def __init__(self, folder: Path | str, spec: ActionSpec | None = None) -> None:
        """Read the card.

        Args:
            folder: of the episode.
            spec: what its actions have to mean; None takes what is there.

        Raises:
            FileFormatError: no episode, one of a newer version, or one that is damaged.
            CaptureError: its frame, its rate or its units are others.
        """
        self.folder = Path(folder)
        path = self.folder / CARD
        self.card = read_object(path, MOST_BYTES, "an episode")
        check_version(self.card, path)
        try:
            self.name, self.family = self.folder.name, str(self.card["family"])
            self.seed, self.steps = int(self.card["seed"]), int(self.card["steps"])
            self.split, self.policy = str(self.card["split"]), str(self.card["policy"])
            self.shift: str | None = None if self.card.get("shift") is None else str(self.card["shift"])
            """What of it lies outside of all that others are drawn from; None: nothing."""
            _check_frame(self.card, path)
            with blaming(str(path)):
                self.spec = _spec(self.card, path)
                self.tools = tuple(tool_from_record(record) for record in self.card["tools"])
                self.objects = {item.id: item for item in map(self._object, self.card["objects"])}
                cameras = self.card.get("cameras", [])
                self.cameras = {str(each["name"]): camera_from_record(each) for each in cameras}
        except (KeyError, TypeError) as error:
            raise FileFormatError(
                f"{path}: expected all facts of an episode, got none or another kind for {error};"
                " generate it again"
            ) from error
        if spec is not None:
            _check_spec(self.spec, spec, path)

    def __len__(self) -> int:
        """The number t of actions."""
        return self.steps

    def __repr__(self) -> str:
        return f"Episode({str(self.folder)!r}, {self.family}, {self.steps} steps)"

    @cached_property
    def states(self) -> State:
        """All t + 1 states, without particles; time is the batch axis."""
        return self.states_between(0, self.steps)

    @cached_property
    def actions(self) -> Action:
        """All t actions; time is the batch axis."""
        return self.actions_between(0, self.steps)

    @cached_property
    def tracks(self) -> Tracks:
        """All points at all moments."""
        return self.tracks_between(0, self.steps)

    @cached_property
    def contacts(self) -> Bool[Tensor, "u o m"]:
        """Whether an object touched another or, in the last columns, a tool, in the step that ended there."""
        return self._rows("contacts", 0, self.steps + 1)

    def states_between(self, start: int, stop: int) -> State:
        """The states before action `start`, and after each action up to `stop`.

        Raises:
            FileFormatError: the arrays are damaged, or a number is not finite.
        """
        read = {
            name: self._rows(name, start, stop + 1) for name in MOMENTS if name not in ("points", "contacts")
        }
        ids, joints = (tuple(self._whole(name).tolist()) for name in ("object_ids", "joint_ids"))
        return State(object_ids=ids, joint_ids=joints, **read)

    def actions_between(self, start: int, stop: int) -> Action:
        """The actions from `start` to before `stop`.

        Raises:
            FileFormatError: the arrays are damaged, or an action makes no sense.
        """
        tools, grip = (self._rows(name, start, stop) for name in ("action_tools", "action_grip"))
        with blaming(str(self.folder / ARRAYS)):
            return Action(self.spec, tools=tools, grip=grip)

    def tracks_between(self, start: int, stop: int) -> Tracks:
        """The points at the moments of `states_between`."""
        points = self._rows("points", start, stop + 1)
        return Tracks(self._whole("point_objects"), self._whole("point_rest"), points)

    def world(self, gaussians: int = 8_000, truth: bool = False) -> World:
        """The world at time 0 as a model may know it: Gaussians and shapes of the true meshes.

        Args:
            gaussians: about so many for all objects together.
            truth: with the true masses, frictions and stiffnesses as materials; else with the defaults.
        """
        from .world import world_of

        return world_of(self, gaussians, truth)

    def video(self, camera: str) -> Path:
        """The colour video of a camera, such as "camera-0".

        Raises:
            CaptureError: nothing was drawn with such a camera.
        """
        return self._seen(camera) / "rgb.mp4"

    def depth(self, camera: str, moment: int) -> Float[Tensor, "h w"]:
        """[m] z-depth of a camera's picture; 0 is unknown."""
        from gaussworld.io.images import read_depth

        return read_depth(self._seen(camera) / "depth" / f"{moment:04d}.png")

    def ids(self, camera: str, moment: int) -> Int[Tensor, "h w"]:
        """The object at every pixel of a camera's picture; 0 is the background."""
        import numpy as np
        from PIL import Image

        path = self._seen(camera) / "ids" / f"{moment:04d}.png"
        try:
            return torch.from_numpy(np.asarray(Image.open(path)).astype(np.int64))
        except OSError as error:
            raise FileFormatError(f"{path}: expected a picture of ids, got: {error}") from error

    @property
    def start(self) -> Path:
        """The capture of the first frame, which `gaussworld recon` reads.

        Raises:
            CaptureError: the episode was not drawn.
        """
        if not (self.folder / "start" / "transforms.json").is_file():
            raise CaptureError(
                f"{self.folder}: expected pictures, got an episode without; generate it with --cameras 4"
            )
        return self.folder / "start"

    def camera(self, name: str) -> Camera:
        """A camera by its name.

        Raises:
            CaptureError: there is none of that name.
        """
        self._seen(name)
        return self.cameras[name]

    def _seen(self, camera: str) -> Path:
        if camera not in self.cameras:
            known = ", ".join(self.cameras) or "none: generate with --cameras 4"
            raise CaptureError(f"{self.folder}: expected one of its cameras ({known}), got {camera!r}")
        return self.folder / camera

    def _rows(self, name: str, start: int, stop: int) -> Tensor:
        """Some rows of an array, checked."""
        if not 0 <= start <= stop <= self.steps + (name in MOMENTS):
            raise ValueError(f"{self.name}: expected rows within its {self.steps} steps, got {start}:{stop}")
        with self._opened() as file:
            got = tuple(file.get_slice(name).get_shape())
            rows = file.get_slice(name)[start:stop]
        wanted = (self.steps + (name in MOMENTS), *self._tail(name))
        self._check(name, wanted, got)
        return self._finite(name, rows)

    def _whole(self, name: str) -> Tensor:
        with self._opened() as file:
            values = file.get_tensor(name)
        self._check(name, self._tail(name), tuple(values.shape))
        return self._finite(name, values)

    def _tail(self, name: str) -> tuple[int, ...]:
        objects, tools = len(self.objects), len(self.tools)
        joints = sum(item.joint is not None for item in self.objects.values())
        sizes: dict[str | int, int] = {"o": objects, "a": tools, "m": objects + tools, "j": joints, "q": -1}
        axes = {**MOMENTS, **ACTIONS, **FIXED}[name]
        return tuple(sizes.get(axis, axis) if isinstance(axis, int) else sizes[axis] for axis in axes)

    def _check(self, name: str, wanted: tuple[int, ...], got: tuple[int, ...]) -> None:
        alike = len(wanted) == len(got) and all(a in (-1, b) for a, b in zip(wanted, got))
        if not alike:
            raise FileFormatError(
                f"{self.folder / ARRAYS}: expected shape {wanted} for {name}, got {got};"
                " card and arrays are not of one episode: generate it again"
            )

    def _finite(self, name: str, values: Tensor) -> Tensor:
        if values.is_floating_point() and not bool(torch.isfinite(values).all()):
            raise FileFormatError(
                f"{self.folder / ARRAYS}: expected finite numbers in {name}, got NaN or infinity;"
                " generate it again"
            )
        return values

    def _opened(self) -> Any:
        from safetensors import safe_open

        return _Opened(self.folder / ARRAYS, safe_open)

    def _object(self, record: Mapping[str, Any]) -> EpisodeObject:
        joint = record["joint"]
        part = str(record["part"])
        return EpisodeObject(
            id=int(record["id"]),
            name=str(record["name"]),
            kind=ObjectKind(record["kind"]),
            part=None if part == "ROBOT" else PartKind(part),
            category=str(record["category"]),
            mass=float(record["mass"]),
            volume=float(record["volume"]),
            friction=float(record["friction"]),
            mesh=self.folder / str(record["mesh"]),
            parts=tuple(self.folder / str(name) for name in record.get("parts", ())),
            color=tuple(float(value) for value in record.get("color", (0.7, 0.7, 0.7))),  # pyright: ignore
            parent=None if record["parent"] is None else int(record["parent"]),
            joint=None if joint is None else _joint(joint),
            joint_damping=float(record.get("joint_damping") or 0.0),
            joint_friction=float(record.get("joint_friction") or 0.0),
            stiffness=record.get("stiffness"),
            damping=record.get("damping"),
            fixed=tuple(int(row) for row in record.get("fixed") or ()),
        )


class _Opened:
    """safetensors' file, whose every complaint becomes one sentence."""

    def __init__(self, path: Path, safe_open: Any) -> None:
        self._path, self._safe_open = path, safe_open

    def __enter__(self) -> Any:
        try:
            self._file = self._safe_open(str(self._path), framework="pt")
            return self._file.__enter__()
        except Exception as error:  # safetensors raises OSError, SafetensorError or FileNotFoundError.
            raise _damaged(self._path, error) from error

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._file.__exit__(kind, error, trace)
        if error is not None and not isinstance(error, FileFormatError | KeyboardInterrupt):
            raise _damaged(self._path, error) from error


def _damaged(path: Path, error: BaseException) -> FileFormatError:
    return FileFormatError(
        f"{path}: expected the whole arrays of an episode, got a file that cannot be read ({error});"
        " it may be cut short: generate it again"
    )


def check_version(card: Mapping[str, Any], path: Path) -> None:
    """Refuse what is no episode of ours, or newer than we are.

    Raises:
        FileFormatError: so it is.
    """
    if card.get("format") != FORMAT:
        got = card.get("format")
        raise FileFormatError(f"{path}: expected format {FORMAT!r}, got {got!r}; choose another file")
    version = card.get("version")
    if not isinstance(version, int) or version > VERSION or version < 1:
        raise FileFormatError(
            f"{path}: expected version {VERSION} or older, got {version!r}; a newer GaussWorld reads it"
        )


def _check_frame(card: Mapping[str, Any], path: Path) -> None:
    if card["frame"] != FRAME:
        raise CaptureError(
            f"{path}: expected the frame {FRAME!r}, got {card['frame']!r}; convert it, it is never guessed"
        )


def _spec(card: Mapping[str, Any], path: Path) -> ActionSpec:
    record = dict(card["action_spec"])
    limits = record.get("limits")
    record["limits"] = None if limits is None else tuple(tuple(map(float, row)) for row in limits)
    try:
        spec = ActionSpec(**record)
    except ValueError as error:
        raise CaptureError(f"{path}: {error}") from error
    if not math.isclose(float(card["rate_hz"]), spec.rate_hz, rel_tol=1e-6):
        raise CaptureError(
            f"{path}: expected the rate of its actions, {spec.rate_hz:g} Hz, for the states too, got"
            f" {card['rate_hz']:g} Hz; resample them"
        )
    return spec


def _check_spec(got: ActionSpec, wanted: ActionSpec, path: Path) -> None:
    for name in ("kind", "size", "frame", "units", "rate_hz"):
        a, b = getattr(wanted, name), getattr(got, name)
        if a != b:
            raise CaptureError(f"{path}: expected actions of {name} {a!r}, got {b!r}; choose other episodes")


def _joint(record: Mapping[str, Any]) -> Joint:
    low, high = record["limits"]
    x, y, z = (float(value) for value in record["axis"])
    a, b, c = (float(value) for value in record["origin"])
    limits = (-math.inf if low is None else float(low), math.inf if high is None else float(high))
    return Joint(record["kind"], (x, y, z), (a, b, c), limits, float(record["position"]))
