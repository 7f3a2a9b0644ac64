"""Files: a module per format; `load` and `save` choose by suffix, `load_capture` by what it finds."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

from ..capture import Capture
from ..errors import CaptureError, FileFormatError
from ..gaussians import Gaussians
from ..world import World
from .framing import Framing

__all__ = [
    "FORMATS",
    "Framing",
    "load",
    "load_capture",
    "load_framing",
    "load_world",
    "save",
    "save_cameras",
    "save_world",
]

#: What a run folder calls its Gaussians.
SCENE = "scene.ply"
#: Suffix of a file of Gaussians -> module of this package that reads and writes it, as `GaussianFormat` says.
FORMATS = {
    ".ply": "ply",
    ".splat": "splat",
    ".glb": "gltf",
    ".gltf": "gltf",
    ".usd": "usd",
    ".usda": "usd",
    ".usdc": "usd",
    ".usdz": "usd",
    ".spz": "spz",
    ".sog": "sog",
    ".json": "sog",
}
#: Those of them whose modules are `WorldFormat`s too.
WORLD_FORMATS: tuple[str, ...] = (".glb", ".gltf", ".usd", ".usda", ".usdc", ".usdz")


@runtime_checkable
class GaussianFormat(Protocol):
    """What a module in `FORMATS` must offer."""

    def read(self, path: Path) -> Gaussians: ...

    def read_framing(self, path: Path) -> Framing: ...

    def write(self, gaussians: Gaussians, path: Path, framing: Framing) -> None: ...


@runtime_checkable
class WorldFormat(Protocol):
    """What a module in `FORMATS` offers beside, when its files keep objects apart."""

    def read_world(self, path: Path) -> World: ...

    def write_world(self, world: World, path: Path) -> None: ...


def load(path: Path | str) -> Gaussians:
    """Read Gaussians of a file, a run folder or a stored world, in their frame and unit; see `load_framing`.

    Raises:
        FileFormatError: no such file, an unknown suffix, or a file that is malformed or of another kind.
    """
    path = _existing(path)
    if holds_world(path):
        return World.open(path).shown()
    try:
        return _format_of(path).read(path)
    except OSError as error:
        raise FileFormatError(f"{path}: expected a readable file, got: {error.strerror or error}") from error


def load_framing(path: Path | str) -> Framing:
    """What a file of Gaussians states about its frame, up direction and unit; None where it says nothing.

    Raises:
        FileFormatError: no such file, an unknown suffix, or a file that is malformed.
    """
    path = _existing(path)
    if holds_world(path):
        world = World.open(path)
        return Framing(None, world.up, world.metres_per_unit)
    try:
        return _format_of(path).read_framing(path)
    except OSError as error:
        raise FileFormatError(f"{path}: expected a readable file, got: {error.strerror or error}") from error


def save(
    gaussians: Gaussians,
    path: Path | str,
    *,
    frame: str | None = None,
    up: tuple[float, float, float] | None = None,
    metres_per_unit: float | None = None,
) -> None:
    """Write Gaussians that are not deleted, as they are; the file appears only when it is whole.

    Args:
        gaussians: what to write; nothing is moved or rescaled.
        path: its suffix chooses the format.
        frame: a name for the frame of the coordinates, written where the format has a place for it.
        up: the direction against gravity in that frame, likewise.
        metres_per_unit: [m] length of one unit of the coordinates, likewise.

    Raises:
        ValueError: an unknown suffix, a bad `frame`, `up` or `metres_per_unit`, or nothing to write.
        GaussWorldError: the file system refuses.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"{path}: expected a suffix among {', '.join(FORMATS)}, got {path.suffix!r}")
    _format_of(path).write(gaussians, path, Framing(frame, up, metres_per_unit))


def load_world(path: Path | str) -> World:
    """Read a world from a file of Gaussians or a run folder; formats without objects give the ids they have.

    Raises:
        FileFormatError: as `load`.
    """
    folder, path = Path(path), _existing(path)
    if holds_world(path):
        return World.open(path)
    if path.suffix.lower() in WORLD_FORMATS:
        return cast(WorldFormat, _format_of(path)).read_world(path)
    gaussians, framing = load(path), load_framing(path)
    world = World.from_gaussians(gaussians, metres_per_unit=framing.metres_per_unit, up=framing.up)
    if not folder.is_dir():
        return world
    try:
        capture = load_capture(folder, need_pictures=False)
    except CaptureError:
        # Somebody kept the Gaussians alone.
        return world
    cameras = tuple(frame.camera for frame in capture.frames)
    return replace(world, cameras=cameras, world_from_source=capture.world_from_source)


def save_world(world: World, path: Path | str) -> None:
    """Write what is shown of a world; formats that have no objects get all Gaussians in the world frame.

    Raises:
        ValueError: an unknown suffix, or nothing to write.
        GaussWorldError: the file system refuses.
    """
    path = Path(path)
    if path.suffix.lower() in WORLD_FORMATS:
        cast(WorldFormat, _format_of(path)).write_world(world, path)
    else:
        save(world.shown(), path, up=world.up, metres_per_unit=world.metres_per_unit)


def load_capture(
    path: Path | str, images: Path | str | None = None, *, need_pictures: bool = True
) -> Capture:
    """Read calibrated pictures, in whichever form they are there; of several, the first that is named here.

    Args:
        path: a transforms.json (nerfstudio, instant-ngp, Blender), one of a COLMAP model's files, an RGB-D
            folder's intrinsics, a poses_bounds.npy, or a folder that holds one of these forms.
        images: where the pictures are, when they are not in one of the usual places.
        need_pictures: leave out frames whose pictures do not exist; else a transforms.json and a COLMAP model
            give all their cameras, the absent pictures under the paths they should have.

    Raises:
        FileFormatError: a malformed file.
        CaptureError: none of these is there, or no picture that is listed exists.
    """
    from . import colmap, llff, rgbd, transforms

    path, images = Path(path), None if images is None else Path(images)
    if not path.exists():
        raise CaptureError(
            f"{path}: expected a transforms.json, a COLMAP model or a folder with either, got no such path"
        )
    if transforms.find(path):
        return transforms.read(path, images, need_pictures)
    if colmap.find(path):
        return colmap.read(path, images, need_pictures)
    if rgbd.find(path):
        return rgbd.read(path)
    if llff.find(path):
        return llff.read(path, images)
    raise CaptureError(
        f"{path}: expected a transforms.json, a COLMAP model (cameras.bin or cameras.txt, or sparse/0), RGB-D"
        " frames (frame-000000.color.png) or a poses_bounds.npy, got none of them; for pictures without"
        " cameras run `gaussworld sfm` first"
    )


def save_cameras(capture: Capture, path: Path | str) -> None:
    """Write a capture's cameras and points: to a `.json` as transforms.json, to a folder as a COLMAP model.

    Raises:
        ValueError: pictures in memory only, or a lens the format cannot express.
        GaussWorldError: the file system refuses.
    """
    from . import colmap, transforms

    path = Path(path)
    if path.suffix.lower() == ".json":
        transforms.write(capture, path)
    elif path.suffix and not path.is_dir():
        raise ValueError(
            f"{path}: expected a .json file (transforms.json) or a folder (COLMAP), got {path.suffix!r}"
        )
    else:
        colmap.write(capture, path)


def holds_scene(path: Path) -> bool:
    """Whether a folder is that of a run: the Gaussians lie in it as scene.ply."""
    return (path / SCENE).is_file()


def keeps_objects(path: Path) -> bool:
    """Whether `load_world` finds objects at a path with kinds, joints and materials, not only with ids."""
    return path.suffix.lower() in WORLD_FORMATS or holds_world(path)


def holds_world(path: Path) -> bool:
    """Whether a folder is a stored world."""
    return (path / "world.db").is_file()


def _existing(path: Path | str) -> Path:
    path = Path(path) / SCENE if holds_scene(Path(path)) else Path(path)
    if not path.is_file() and not holds_world(path):
        got = (
            "a folder" if path.is_dir() else "something that is no file" if path.exists() else "no such file"
        )
        kinds = f"a stored world, the folder of a run, or a file of Gaussians ({', '.join(FORMATS)})"
        raise FileFormatError(f"{path}: expected {kinds}, got {got}")
    if path.suffix.lower() == ".worldz":
        raise FileFormatError(f"{path} is a packed world; unpack it: gaussworld world unpack {path}")
    return path


def _format_of(path: Path) -> GaussianFormat:
    name = FORMATS.get(path.suffix.lower())
    if name is None:
        raise FileFormatError(f"{path}: expected a suffix among {', '.join(FORMATS)}, got {path.suffix!r}")
    return cast(GaussianFormat, import_module(f".{name}", __package__))
