"""A run, a capture or a world as a dataset that nerfstudio's own parser loads."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ...camera import Camera, CameraModel
from ...capture import Capture, Frame
from ...errors import CaptureError, ConfigError
from ...gaussians import Gaussians
from ...log import Done, Event, Notice, Progress
from ...world import World
from .. import transforms
from ..atomic import appearing, replacing
from ..images import image_size, read_depth, read_frame, read_mask, write_depth, write_image

Vector = tuple[float, float, float]
_FILE = "transforms.json"
#: Points that splatfacto starts from, at most, and the opacity from which a Gaussian is one.
_MOST_POINTS, _SOLID = 200_000, 0.1
#: Below this number of pictures nerfstudio's own split leaves none to evaluate on.
_FEWEST_TO_SPLIT = 10
#: Kinds of pictures that nerfstudio decodes: 8 bits a channel.
_COPIED = ("RGB", "RGBA", "L")


@dataclass(frozen=True)
class SavedDataset:
    """What was written."""

    folder: Path
    pictures: int
    rendered: bool
    """Whether the pictures were drawn of the Gaussians; else they are those of the cameras."""
    points: int


def save_dataset(
    source: World | Capture | Path | str,
    folder: Path | str,
    *,
    depth: bool = False,
    background: Vector = (0.0, 0.0, 0.0),
) -> Iterator[Event[SavedDataset]]:
    """Write a dataset for `ns-train --data FOLDER`, in the frame and unit of its source.

    Pictures of a run or a capture are copied, lens and all: nerfstudio straightens them itself. A world keeps
    no pictures, so its Gaussians are drawn as its cameras see them. The points that splatfacto starts from
    are the Gaussians' centres, or a capture's own. No `applied_transform` is written: the frame that
    nerfstudio calls the world's is the source's.

    Args:
        source: a world, a capture, or the path of a stored world, a run, or a capture.
        folder: the folder to make; it appears when it is whole.
        depth: write depth maps too, drawn or as captured.
        background: colour behind drawn pictures, range [0, 1].

    Raises:
        ConfigError: the folder exists and is not empty.
        CaptureError: no cameras, or lenses that nerfstudio cannot have in one dataset.
        FileFormatError: a picture cannot be read.
        GaussWorldError: the file system refuses.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: expected a new or an empty folder, got one with files; choose another")
    capture, gaussians = _opened(source)
    if not len(capture):
        raise CaptureError(
            f"{_named(source)}: expected a world with cameras, got none; export the run or the capture that"
            " it was made of"
        )
    rendered = gaussians is not None and isinstance(capture.frames[0].image, Tensor)
    model = _common_model(capture)
    with appearing(folder) as temporary:
        if rendered and gaussians is not None:
            frames = yield from _drawn(capture, gaussians, temporary, depth, background)
        else:
            frames = yield from _copied(capture, temporary, depth)
        points, colors = _points(capture, gaussians)
        written = Capture(tuple(frames), points, colors, capture.metres_per_unit)
        transforms.write(written, temporary / _FILE)
        _complete(temporary / _FILE, model)
    yield Done(SavedDataset(folder, len(frames), rendered, len(points)))


def _named(source: World | Capture | Path | str) -> str:
    return f"{source}" if isinstance(source, Path | str) else type(source).__name__


def _opened(source: World | Capture | Path | str) -> tuple[Capture, Gaussians | None]:
    """Frames, and Gaussians where there are any; frames of a world have no pictures but empty ones."""
    from .. import holds_scene, holds_world, load, load_capture

    if isinstance(source, Capture):
        return source, None
    if not isinstance(source, World):
        path = Path(source)
        if path.is_dir() and holds_scene(path):
            return load_capture(path), load(path)
        if not holds_world(path):
            return load_capture(path), None
        source = World.open(path)
    blank = torch.zeros(0, 0, 3)
    frames = tuple(Frame(camera, blank) for camera in source.cameras)
    return Capture(frames, metres_per_unit=source.metres_per_unit), source.shown()


def _common_model(capture: Capture) -> str:
    """The `camera_model` of all pictures: nerfstudio takes one for a dataset."""
    cameras = [frame.camera for frame in capture.frames]
    if any(any(camera.distortion[5:]) for camera in cameras if camera.model is CameraModel.OPENCV):
        raise CaptureError(
            "expected lenses that nerfstudio knows, got rational distortion (k4 to k6); straighten the"
            " pictures first"
        )
    models = {camera.model for camera in cameras}
    if CameraModel.FISHEYE in models:
        if len(models) > 1:
            raise CaptureError(
                "expected fisheye pictures or others, since nerfstudio takes one kind for a dataset, got"
                " both; export them apart"
            )
        return "OPENCV_FISHEYE"
    return "OPENCV" if CameraModel.OPENCV in models else "PINHOLE"


def _drawn(
    capture: Capture, gaussians: Gaussians, folder: Path, depth: bool, background: Vector
) -> Iterator[Event[SavedDataset]]:
    """Frames of pictures drawn of the Gaussians; straight, because a picture to be drawn can be."""
    from ...render import Output, render

    depth, notice = _depth_fits(capture, depth)
    if notice is not None:
        yield notice
    outputs: list[Output] = ["depth"] if depth else []
    frames = []
    for index, frame in enumerate(capture.frames):
        camera = frame.camera.undistorted()
        with torch.no_grad():
            picture = render(gaussians, camera, background=background, outputs=outputs)
        name = f"{index:04d}.png"
        write_image(folder / "images" / name, picture.rgb)
        measured = None
        if picture.depth is not None:
            measured = folder / "depth" / name
            write_depth(measured, picture.depth)
        frames.append(Frame(camera, folder / "images" / name, depth=measured))
        yield Progress(index + 1, len(capture), message="drawing pictures")
    return frames


def _depth_fits(capture: Capture, depth: bool) -> tuple[bool, Notice | None]:
    """Depth files are in millimetres, which nerfstudio takes for thousandths of the poses' unit."""
    if depth and capture.metres_per_unit not in (None, 1.0):
        return False, Notice(
            f"Depth is left out: nerfstudio wants metres, and one unit here is {capture.metres_per_unit} m."
        )
    return depth, None


def _copied(capture: Capture, folder: Path, depth: bool) -> Iterator[Event[SavedDataset]]:
    """Frames of the pictures that there are, under names of their own."""
    depth, notice = _depth_fits(capture, depth)
    if depth and any(frame.depth is None or frame.depth_camera is not None for frame in capture.frames):
        depth, notice = (
            False,
            Notice("Depth is left out: nerfstudio wants it for every picture."),
        )
    if notice is not None:
        yield notice
    masked = any(frame.mask is not None for frame in capture.frames)
    frames = []
    for index, (frame, name) in enumerate(zip(capture.frames, _names(capture))):
        path, camera = _picture(frame, folder / "images" / name)
        size = (camera.height, camera.width)
        frames.append(
            replace(
                frame,
                camera=camera,
                image=path,
                mask=_mask(frame, folder / "masks" / f"{path.stem}.png", size) if masked else None,
                depth=_depth(frame, folder / "depth" / f"{path.stem}.png", size) if depth else None,
                depth_camera=None,
            )
        )
        yield Progress(index + 1, len(capture), message="copying pictures")
    return frames


def _names(capture: Capture) -> list[str]:
    """File names, each stem once: those that the pictures have, numbered where two are alike."""
    names = [
        frame.image.name if isinstance(frame.image, Path) else f"{index:04d}.png"
        for index, frame in enumerate(capture.frames)
    ]
    if len({Path(name).stem.casefold() for name in names}) == len(names):
        return names
    return [f"{index:04d}_{name}" for index, name in enumerate(names)]


def _picture(frame: Frame, path: Path) -> tuple[Path, Camera]:
    """A picture that nerfstudio reads as its camera sees it: the file itself, or one written anew as a PNG.

    nerfstudio looks at pixels as they are stored, and wants as many as the camera has.
    """
    if isinstance(frame.image, Path):
        stored = image_size(frame.image, upright=False)
        if stored == (frame.camera.width, frame.camera.height) and _mode(frame.image) in _COPIED:
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(frame.image, path)
            return path, frame.camera
    image, camera = read_frame(frame)
    path = path.with_name(f"{path.stem}.png")
    write_image(path, image)
    return path, camera


def _mode(path: Path) -> str:
    from PIL import Image

    with Image.open(path) as picture:
        return picture.mode


def _mask(frame: Frame, path: Path, size: tuple[int, int]) -> Path:
    """One channel, white where the picture counts; all white for a picture without a mask."""
    mask = torch.ones(size) if frame.mask is None else read_mask(frame.mask).float()
    write_image(path, _resized(mask, size, frame))
    return path


def _depth(frame: Frame, path: Path, size: tuple[int, int]) -> Path:
    depth = frame.depth
    assert depth is not None
    write_depth(path, _resized(depth if isinstance(depth, Tensor) else read_depth(depth), size, frame))
    return path


def _resized(layer: Float[Tensor, "h w"], size: tuple[int, int], frame: Frame) -> Float[Tensor, "h2 w2"]:
    """A layer with as many pixels as its picture, each the nearest one."""
    (h, w), (height, width) = layer.shape, size
    if (h, w) == size:
        return layer
    if abs(h * width - w * height) > 2 * max(size):
        raise CaptureError(
            f"{frame.name}: expected a mask or depth map with the proportions of its picture,"
            f" {width}x{height}, got {w}x{h}; make it anew"
        )
    return torch.nn.functional.interpolate(layer[None, None], size, mode="nearest-exact")[0, 0]


def _points(
    capture: Capture, gaussians: Gaussians | None
) -> tuple[Float[Tensor, "m 3"], Float[Tensor, "m 3"]]:
    """Where splatfacto begins: the centres of what is solid, thinned out evenly."""
    if gaussians is None or not len(gaussians):
        return capture.points, capture.colors
    rows = (gaussians.opacities > _SOLID).nonzero()[:, 0]
    if len(rows) > _MOST_POINTS:
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
        rows = rows[order[:_MOST_POINTS].sort().values]
    solid = gaussians.select(rows)
    return solid.means.detach(), solid.rgb.detach()


def _complete(path: Path, model: str) -> None:
    """Add what nerfstudio needs beside our own keys: one camera model, and pictures to evaluate on."""
    meta = json.loads(path.read_text(encoding="utf-8"))
    meta["camera_model"] = model
    names = [frame["file_path"] for frame in meta["frames"]]
    lists = [meta.get(f"{split}_filenames", []) for split in ("train", "val", "test")]
    if any(lists) or len(names) < _FEWEST_TO_SPLIT:
        train, val, test = lists
        judged = val or test or names[-1:]
        meta |= {
            "train_filenames": train or names,
            "val_filenames": judged,
            "test_filenames": test or judged,
        }
    with replacing(path) as file:
        file.write((json.dumps(meta, indent=1) + "\n").encode())
