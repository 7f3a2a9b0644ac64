"""Control videos: a clip for each kind of picture, frame by frame alike, and what each means."""

import json
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.capture import Capture, Frame
from gaussworld.errors import ConfigError
from gaussworld.io import save_cameras
from gaussworld.io.atomic import replacing
from gaussworld.io.images import write_depth
from gaussworld.io.video import write_video
from gaussworld.log import Done, Event, Progress
from gaussworld.render import render
from gaussworld.threads import one_torch_thread
from gaussworld.world import World

from .channels import (
    FLAT,
    Seen,
    depth_picture,
    edge_picture,
    normal_picture,
    palette_color,
    seen,
    segment_picture,
    write_ids,
)

Control = Literal["rgb", "depth", "normal", "edge", "segmentation"]
CONTROLS: tuple[Control, ...] = ("rgb", "depth", "normal", "edge", "segmentation")
CONVENTIONS = "control.json"
#: Frames and longer side [px] that are looked at for the range of depth.
_LOOKS, _SMALL = 24, 160
#: Shares of the pixels that are nearer than white and farther than black.
_NEAR, _FAR = 0.005, 0.995


@dataclass(frozen=True)
class ControlConfig:
    """How clips are drawn."""

    background: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Colour behind everything, range [0, 1]; edges see it too."""
    near: float | None = None
    """[m, or the world's unit] what is white in depth; default: the nearest of the whole clip."""
    far: float | None = None
    """[m, or the world's unit] what is black in depth; default: the farthest of the whole clip."""
    edge_low: float = 100.0
    """Canny's lower threshold; 100 and 200 are what edge-controlled models call medium."""
    edge_high: float = 200.0
    """Canny's upper threshold."""
    exact: bool = False
    """Write 16-bit depth [mm] and object ids of every frame as PNG as well: videos lose some."""


@dataclass(frozen=True)
class Clips:
    """What was written."""

    folder: Path
    files: tuple[Path, ...]
    frames: int


def control_clips(
    world: World,
    cameras: Sequence[Camera],
    out: Path,
    controls: Sequence[Control] = CONTROLS,
    fps: float = 24.0,
    config: ControlConfig | None = None,
) -> Generator[Event[Clips], None, None]:
    """Write OUT/depth.mp4 and so on: what a world looks like to models that are steered by such videos.

    Conventions are in OUT/control.json, cameras in OUT/transforms.json. The range of depth and the palette do
    not change from frame to frame.

    Args:
        world: what is drawn.
        cameras: of the frames, all of one size.
        out: a new or empty folder.
        controls: which kinds.
        fps: frames per second.
        config: how.

    Raises:
        ConfigError: the folder holds something, no such kind, or a range that is none.
        MissingDependency: PyAV or OpenCV is not installed.
        GaussWorldError: the file system refuses.
    """
    config = config or ControlConfig()
    _check(out, controls, fps, config)
    out.mkdir(parents=True, exist_ok=True)
    with one_torch_thread():
        near, far = _depth_range(world, cameras, config)
        yield Progress(0, len(cameras), message="drawing")
        with ExitStack() as stack:
            files: dict[Control, Path] = {kind: out / f"{kind}.mp4" for kind in controls}
            writers: dict[Control, _Writer] = {
                kind: stack.enter_context(_Writer(path, fps)) for kind, path in files.items()
            }
            shown, frames = world.shown(), []
            for i, camera in enumerate(cameras):
                view = seen(shown, camera, config.background)
                for kind, writer in writers.items():
                    writer.add(_picture(kind, view, near, far, config))
                frames.append(_exact(world, view, camera, out, i, config))
                yield Progress(i + 1, len(cameras), message="drawing")
    save_cameras(Capture(tuple(frames), metres_per_unit=world.metres_per_unit), out / "transforms.json")
    text = json.dumps(_conventions(world, cameras, files, fps, near, far, config), indent=1)
    with replacing(out / CONVENTIONS) as file:
        file.write((text + "\n").encode())
    yield Done(Clips(out, tuple(files.values()), len(cameras)))


def _check(out: Path, controls: Sequence[str], fps: float, config: ControlConfig) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(
            f"--out: expected a new or empty folder, got {out}, which holds something; name another"
        )
    unknown = set(controls) - set(CONTROLS)
    if unknown or not controls:
        got = ", ".join(sorted(unknown)) or "none"
        raise ConfigError(f"--control: expected some of {', '.join(CONTROLS)}, got {got}")
    if not 0 < fps < 1000:
        raise ConfigError(f"--fps: expected more than 0 and less than 1000, got {fps:g}")
    if config.near is not None and not config.near > 0:
        raise ConfigError(f"--near: expected more than 0, got {config.near:g}")
    if config.far is not None and not config.far > (config.near or 0):
        raise ConfigError(f"--far: expected more than --near, got {config.far:g}")
    if not 0 <= config.edge_low <= config.edge_high:
        raise ConfigError(
            f"expected 0 <= --edge-low <= --edge-high, got {config.edge_low:g} and {config.edge_high:g}"
        )


def _depth_range(world: World, cameras: Sequence[Camera], config: ControlConfig) -> tuple[float, float]:
    """Nearest and farthest of a clip [unit]; one range for all of it, or the picture would flicker."""
    if config.near is not None and config.far is not None:
        return config.near, config.far
    depths, shown = [], world.shown()
    step = max(1, len(cameras) // _LOOKS)
    for camera in cameras[::step]:
        scale = min(1.0, _SMALL / max(camera.width, camera.height))
        small = camera.rescaled(max(1, round(camera.width * scale)), max(1, round(camera.height * scale)))
        with torch.no_grad():
            drawn = render(shown, small, outputs=("depth",))
        assert drawn.depth is not None
        depths.append(drawn.depth[drawn.alpha > 0.5])
    ordered = torch.cat(depths).sort().values
    if not len(ordered):
        return config.near or 0.1, config.far or max(10.0, 2 * (config.near or 0.1))
    low, high = (float(ordered[int(share * (len(ordered) - 1))]) for share in (_NEAR, _FAR))
    near = config.near or low
    return near, config.far or max(high, 1.01 * near)


def _picture(kind: Control, view: Seen, near: float, far: float, config: ControlConfig) -> Tensor:
    if kind == "depth":
        return depth_picture(view.depth, near, far)
    if kind == "normal":
        return normal_picture(view.normals)
    if kind == "edge":
        return edge_picture(view.rgb, config.edge_low, config.edge_high)
    return segment_picture(view.ids) if kind == "segmentation" else view.rgb


def _exact(world: World, view: Seen, camera: Camera, out: Path, i: int, config: ControlConfig) -> Frame:
    picture = Path(out / "frames" / f"{i:04d}.png")
    if not config.exact:
        return Frame(camera, picture)
    depth = out / "depth" / f"{i:04d}.png"
    write_depth(depth, view.depth * (world.metres_per_unit or 1.0))
    write_ids(out / "ids" / f"{i:04d}.png", view.ids)
    return Frame(camera, picture, depth=depth)


def _conventions(
    world: World,
    cameras: Sequence[Camera],
    files: dict[Control, Path],
    fps: float,
    near: float,
    far: float,
    config: ControlConfig,
) -> dict[str, Any]:
    """What every file means, for programs and people."""
    metre = world.metres_per_unit
    meanings = {
        "rgb": {"background": [*config.background]},
        "depth": {
            "meaning": "(1/z - 1/far) / (1/near - 1/far), z-depth; white is near, black is far or nothing",
            "near": near,
            "far": far,
            "unit": "the world's" if metre is None else f"{metre:g} m",
        },
        "normal": {
            "meaning": "(n + 1) / 2 in the camera's frame: x right, y up, z towards the viewer",
            "nothing": [*FLAT],
        },
        "edge": {
            "meaning": "Canny on the 8-bit grey picture, white on black",
            "low": config.edge_low,
            "high": config.edge_high,
        },
        "segmentation": {
            "meaning": "one colour for each object, black for the background; the same in every clip",
            "objects": [
                {"id": n, "name": item.name, "rgb": [round(255 * value) for value in palette_color(n)]}
                for n, item in world.objects.items()
            ],
        },
    }
    clips = {kind: {"file": path.name, **meanings[kind]} for kind, path in files.items()}
    facts = {"frames": len(cameras), "fps": fps, "size": [cameras[0].width, cameras[0].height]}
    if config.exact:
        facts["exact"] = {"depth": "depth/*.png: 16-bit z-depth in mm, 0 nothing", "ids": "ids/*.png: 16-bit"}
    return {**facts, "cameras": "transforms.json", "controls": clips}


class _Abandoned(Exception):
    """The block that draws frames ended with an error."""


class _Writer:
    """A video that is written as its frames come; it appears when the block ends without error."""

    def __init__(self, path: Path, fps: float) -> None:
        self._frames: Queue[Float[Tensor, "h w 3"] | BaseException | None] = Queue(maxsize=4)
        self._failure: BaseException | None = None
        self._ended = False
        self._thread = Thread(target=self._work, args=(path, fps), daemon=True)

    def add(self, frame: Float[Tensor, "h w 3"]) -> None:
        """The next frame; waits while the encoder is behind."""
        self._frames.put(frame)
        if self._failure is not None:
            raise self._failure

    def __enter__(self) -> "_Writer":
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        self._frames.put(error)
        self._thread.join()
        if error is None and self._failure is not None:
            raise self._failure

    def _work(self, path: Path, fps: float) -> None:
        try:
            write_video(path, self._coming(), fps)
        except BaseException as error:
            self._failure = error
            # Whoever puts frames must not wait for ever.
            while not self._ended:
                self._ended = not isinstance(self._frames.get(), Tensor)

    def _coming(self) -> Iterator[Float[Tensor, "h w 3"]]:
        while isinstance(frame := self._frames.get(), Tensor):
            yield frame
        self._ended = True
        if frame is not None:
            raise _Abandoned from frame
