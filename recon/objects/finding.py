"""Finding the objects of a stored world: which way, with which pictures and masks, and with which robot."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from gaussworld.camera import Camera
from gaussworld.capture import Frame
from gaussworld.errors import CaptureError, ConfigError
from gaussworld.log import Done, Event, Notice, part
from gaussworld.pose import pose_from, rotation_from_quats
from gaussworld.robot import load_robot, posed_meshes
from gaussworld.shape import Mesh
from gaussworld.world import World

from .found import Found, seen_rows
from .geometry import from_geometry
from .mask_command import masks_by_command, split_command
from .masks import Masks, capture_masks, read_masks
from .robot import with_robot
from .segment import from_both, from_masks
from .sources import pictures_of

Pose = tuple[float, float, float, float, float, float, float]
How = Literal["auto", "geometry", "masks", "both"]
Way = Literal["geometry", "masks", "both", "robot"]


@dataclass(frozen=True)
class MaskSource:
    """Where masks come from."""

    masks: Path | None = None
    """A folder with PICTURE.png of ids or colours, OBJECT/PICTURE.png or PICTURE/ANY.png, black and white; or
    the word capture for the masks that the capture itself lists."""
    mask_command: str | None = None
    """A program to run for every picture, as in "prog {image} {output}"; it writes a PNG of ids or colours,
    or a folder of black and white ones. Its answers are kept in the world's cache."""
    mask_timeout: float = 600.0
    """[s] for each picture."""
    per_picture: bool = False
    """Ids of different pictures have nothing to do with each other: find out in 3D which belong together. So
    it is always with --mask-command, and with a folder for each picture."""
    capture: Path | None = None
    """The pictures that the world was made of; default: those of the run folder it lies in."""


@dataclass(frozen=True)
class RobotSource:
    """A robot whose links become objects."""

    urdf: Path | None = None
    """The robot's URDF."""
    joints: str = ""
    """[rad or m] as NAME=VALUE,NAME=VALUE; those left out are at rest."""
    base: Pose = (0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
    """[m] where its base stands in the world: x y z and the quaternion w x y z."""
    tolerance: float = 0.01
    """[m] how far the meshes may be off, by errors of calibration and joint values."""


def checked(source: How, mask: MaskSource, robot: RobotSource) -> Way:
    """What is to be done, as far as the flags make sense together.

    Raises:
        ConfigError: they do not.
    """
    given = [
        flag for flag, value in (("--masks", mask.masks), ("--mask-command", mask.mask_command)) if value
    ]
    if len(given) > 1:
        raise ConfigError("expected --masks or --mask-command, got both; give one")
    if source == "geometry" and given:
        raise ConfigError(f"expected no masks with --from geometry, got {given[0]}; use --from both")
    if source in ("masks", "both") and not given:
        raise ConfigError(f"--from {source}: expected --masks FOLDER or --mask-command, got neither")
    if mask.mask_command is not None:
        split_command(mask.mask_command)
    if not mask.mask_timeout > 0:
        raise ConfigError(f"--mask-timeout: expected a positive time, got {mask.mask_timeout:g}")
    if not robot.tolerance > 0:
        raise ConfigError(f"--tolerance: expected a positive length, got {robot.tolerance:g}")
    if robot.urdf is None and robot.joints:
        raise ConfigError("--joints: expected --urdf with it, got none; name the robot's URDF")
    if source == "auto":
        return "masks" if given else "robot" if robot.urdf else "geometry"
    return source


def finding(
    path: Path, world: World, how: Way, mask: MaskSource, robot: RobotSource
) -> Iterator[Event[Found]]:
    """Find objects among what is shown of a world.

    Args:
        path: where the world is stored.
        world: as it is now.
        how: as `checked` says.
        mask: where masks come from.
        robot: which robot.

    Raises:
        CaptureError: pictures or masks cannot be used, or there is nothing to find.
        ConfigError: pictures are needed and nobody knows where they are.
    """
    everything = world.posed().detach()
    gaussians = everything.select(seen_rows(everything))
    if not len(gaussians):
        raise CaptureError(f"{path}: expected Gaussians, got a world that shows none; unhide or restore some")
    found: Found | None = None
    cameras = world.cameras
    if how in ("masks", "both"):
        capture = pictures_of(path, world, mask.capture)
        cameras = tuple(frame.camera for frame in capture.frames)
        masks = yield from part(_masks(path, capture.frames, mask), "Masks")
        found = yield from part(from_masks(gaussians, masks, mask.per_picture), "Lifting")
    if how == "both":
        assert found is not None
        found = yield from part(from_both(gaussians, cameras, world.up, found), "Geometry")
    if how == "geometry":
        if not cameras and mask.capture is not None:
            cameras = tuple(frame.camera for frame in pictures_of(path, world, mask.capture).frames)
        _need_cameras(path, cameras)
        found = yield from part(from_geometry(gaussians, cameras, world.up), "Geometry")
    if robot.urdf is not None:
        meshes = robot_meshes(world, robot)
        found = with_robot(gaussians, meshes, robot.tolerance / (world.metres_per_unit or 1.0), found)
        if not set(found.names.values()) & set(meshes):
            yield Notice(
                f"No Gaussian is within {robot.tolerance:g} m of {robot.urdf.name}: check --base, --joints"
                " and the scale of the world."
            )
    assert found is not None
    yield Done(found)


def robot_meshes(world: World, robot: RobotSource) -> dict[str, Mesh]:
    """The meshes of a robot's links in the world's frame and unit.

    Raises:
        ConfigError: joint values that are none, of unknown joints, or beyond their limits.
        FileFormatError: the URDF or its meshes cannot be read.
    """
    assert robot.urdf is not None
    model = load_robot(robot.urdf)
    position, quat = torch.tensor(robot.base[:3]).float(), torch.tensor(robot.base[3:]).float()
    if not float(quat.norm()) > 0.5:
        raise ConfigError(f"--base: expected x y z and a quaternion w x y z, got {robot.base}")
    world_from_base = pose_from(rotation_from_quats(quat / quat.norm()), position)
    try:
        meshes = posed_meshes(model, joint_values(robot.joints), world_from_base)
    except ValueError as error:
        raise ConfigError(f"--joints: {error}") from error
    return {
        name: mesh.transformed(torch.eye(4), 1 / (world.metres_per_unit or 1.0))
        for name, mesh in meshes.items()
    }


def joint_values(text: str) -> dict[str, float]:
    """NAME=VALUE,NAME=VALUE as a mapping.

    Raises:
        ConfigError: something else.
    """
    values: dict[str, float] = {}
    for word in filter(None, map(str.strip, text.split(","))):
        name, equals, value = word.partition("=")
        try:
            values[name.strip()] = float(value)
        except ValueError as error:
            raise ConfigError(f"--joints: expected NAME=VALUE,NAME=VALUE, got {word!r}") from error
        if not equals or not name.strip():
            raise ConfigError(f"--joints: expected NAME=VALUE,NAME=VALUE, got {word!r}")
    return values


def _masks(path: Path, frames: Sequence[Frame], mask: MaskSource) -> Iterator[Event[Masks]]:
    if mask.mask_command is not None:
        cache = path / "cache" / "masks"
        yield from masks_by_command(mask.mask_command, frames, cache, mask.mask_timeout)
        return
    assert mask.masks is not None
    yield Done(capture_masks(frames) if str(mask.masks) == "capture" else read_masks(mask.masks, frames))


def _need_cameras(path: Path, cameras: Sequence[Camera]) -> None:
    if not cameras:
        raise CaptureError(
            f"expected cameras that look at the scene, got {path}, which keeps none; name a capture with"
            " --capture, or give masks"
        )
