"""The hub's own verbs: `info`, `convert`, `render`."""

import json as json_text
import math
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import replace as replaced
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from jaxtyping import Float
from torch import Tensor

from . import io
from .camera import Camera
from .capture import Capture, Frame
from .errors import CaptureError, ConfigError, FileFormatError
from .facts import capture_facts, finite, gaussian_facts, robust_bounds, table, world_facts
from .flags import asked_size
from .gaussians import Gaussians
from .io.images import write_image
from .io.video import write_video
from .pose import look_at, pose_from, rotation_from_rotvec
from .render import Output, Rendering, RenderSettings
from .render import render as draw
from .verbs import resolve

Vector = tuple[float, float, float]
Axis = Literal["+x", "-x", "+y", "-y", "+z", "-z"]
Shown = Literal["rgb", "depth", "normals", "alpha"]
Scene = Annotated[Path, tyro.conf.arg(metavar="SCENE")]
FOV_DEG = 50.0
#: What only a spoke knows, resolved at use: the facts of a run, and the path and size of its turning picture.
_RUN_FACTS = "recon.outcome:run_facts"
_TOUR, _TOUR_SIZE = "recon.tour:scene_tour", "recon.tour:video_size"


@dataclass(frozen=True)
class Viewpoint:
    """Where to look from: a camera of a capture, an eye and a target, or nothing, which frames the scene."""

    camera: Path | None = None
    """A transforms.json, or a world, a run, a capture or a COLMAP model, whose camera to take."""
    index: int | None = None
    """Which of its cameras, counted from 0; default: the first."""
    eye: Vector | None = None
    """[unit of the scene] Where the camera is; default: where it sees the whole scene, a little above."""
    target: Vector | None = None
    """[unit of the scene] What it looks at; default: the middle of the scene."""
    up: Axis | None = None
    """The direction against gravity in the file's axes; default: what the file states, else +z."""
    fov_deg: float | None = None
    """[deg] Vertical field of view, above 0 and below 180; default: 50, or what --camera has."""
    width: int | None = None
    """[px] Default: the camera's, else 640; with only one side given the other keeps the shape."""
    height: int | None = None
    """[px] Default: the camera's, else 480."""


_FRAMED, _SETTINGS = Viewpoint(), RenderSettings()


def info(path: Annotated[Path, tyro.conf.arg(metavar="PATH")], /, *, json: bool = False) -> None:
    """Say what a splat file, a world, a run or a capture holds.

    Args:
        path: a file of Gaussians or of a world, a stored world, a run folder, or a capture.
        json: print JSON for programs.
    """
    facts = {"path": str(path)}
    if _is_capture(path):
        facts |= capture_facts(_cameras(path))
    elif io.keeps_objects(path):
        facts |= world_facts(path)
    else:
        facts |= gaussian_facts(path)
    if (path / "run.json").is_file():
        facts |= resolve(_RUN_FACTS)(path)
    print(json_text.dumps(finite(facts), indent=2, allow_nan=False) if json else table(facts))


def convert(
    source: Annotated[Path, tyro.conf.arg(metavar="IN")],
    target: Annotated[Path, tyro.conf.arg(metavar="OUT")],
    /,
    *,
    sh_degree: Literal[0, 1, 2, 3] | None = None,
    up: Axis | None = None,
    force: bool = False,
) -> None:
    """Write Gaussians, or a capture's cameras, in another format; the suffixes decide which.

    Args:
        source: a file of Gaussians or of a world, a run folder, or a capture (transforms.json, COLMAP).
        target: the file to write; glTF and USD keep the objects of a world apart. For a capture a .json, or
            a folder for a COLMAP model.
        sh_degree: drop the bands of spherical harmonics above this, or pad up to it.
        up: state in the file which of its axes points up; nothing is rotated.
        force: overwrite a file that exists.
    """
    _refuse_overwriting(target, force)
    if _is_capture(source):
        if sh_degree is not None or up is not None:
            raise ConfigError(
                f"--sh-degree and --up are for files of Gaussians, got a capture, {source}; leave them out"
            )
        capture = io.load_capture(source)
        io.save_cameras(capture, target)
        print(f"Wrote {len(capture):,} cameras to {target}; pictures are not copied.")
        return
    if target.suffix.lower() in io.WORLD_FORMATS and io.keeps_objects(source):
        return _convert_world(source, target, sh_degree, _direction(up) if up else None)
    gaussians, framing = io.load(source), io.load_framing(source)
    if sh_degree is not None:
        gaussians = gaussians.with_sh_degree(sh_degree)
    stated_up = _direction(up) if up else framing.up
    io.save(gaussians, target, frame=framing.frame, up=stated_up, metres_per_unit=framing.metres_per_unit)
    lost = ""
    if target.suffix.lower() == ".splat" and gaussians.sh_degree:
        lost = f"; .splat keeps no SH above degree 0 (there were {gaussians.sh_degree})"
    print(f"Wrote {len(gaussians):,} Gaussians to {target}{lost}.")


def _convert_world(source: Path, target: Path, sh_degree: int | None, up: Vector | None) -> None:
    """From one format that keeps objects to another, with their kinds, joints and materials."""
    world = io.load_world(source)
    if sh_degree is not None:
        objects = {
            number: replaced(item, gaussians=item.gaussians.with_sh_degree(sh_degree))
            for number, item in world.objects.items()
        }
        world = replaced(world, objects=objects)
    io.save_world(world if up is None else replaced(world, up=up), target)
    count = sum(len(item.gaussians) for item in world.objects.values())
    print(f"Wrote {count:,} Gaussians in {len(world.objects):,} objects to {target}.")


def render(
    scene: Scene,
    /,
    *,
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    output: Shown = "rgb",
    background: Vector = (0.0, 0.0, 0.0),
    turntable: int | None = None,
    force: bool = False,
    view: Annotated[Viewpoint, tyro.conf.arg(name="")] = _FRAMED,
    config: RenderSettings = _SETTINGS,
) -> None:
    """Draw Gaussians as a picture, or as a video of a walk around them.

    Args:
        scene: a file of Gaussians, or a run folder.
        out: the picture (.png, .jpg) or, with --turntable, the video (.mp4) to write.
        output: what to show; depth is white near and black far, normals are (n + 1) / 2.
        background: colour behind everything, range [0, 1].
        turntable: make a video of this many frames, 30 a second, once around the scene; of a run folder from
            where its pictures were taken, unless --camera, --eye, --target or --fov-deg say otherwise.
        force: overwrite a file that exists.
        view: where to look from.
        config: constants of the rasterizer.
    """
    _refuse_overwriting(out, force)
    _check_turntable(turntable, out)
    gaussians = io.load(scene)
    cameras = _viewpoints(view, scene, gaussians, turntable)
    seen: list[bool] = []

    def pictures() -> Iterator[Float[Tensor, "h w 3"]]:
        extra: list[Output] = [output] if output in ("depth", "normals") else []
        for each in cameras:
            with torch.no_grad():
                drawn = draw(gaussians, each, background=background, outputs=extra, settings=config)
            seen.append(bool((drawn.alpha > 0).any()))
            yield picture(drawn, output)

    if turntable is None:
        write_image(out, next(pictures()))
    else:
        write_video(out, pictures(), fps=30.0)
    empty = "" if any(seen) else " No Gaussian is in view: try other --eye and --target, or leave them out."
    print(f"Wrote {out} ({cameras[0].width}x{cameras[0].height}).{empty}")


def _viewpoints(view: Viewpoint, scene: Path, gaussians: Gaussians, turntable: int | None) -> list[Camera]:
    """The camera of a picture, or those of a video of `turntable` frames."""
    up = torch.tensor(_direction(view.up) if view.up else io.load_framing(scene).up or (0.0, 0.0, 1.0))
    if turntable is None:
        return [choose_camera(_as_captured(view, scene), gaussians, up)[0]]
    free = all(value is None for value in (view.camera, view.index, view.eye, view.target, view.fov_deg))
    if free and (scene / "transforms.json").is_file():
        capture = _cameras(scene / "transforms.json")
        size = asked_size(view.width, view.height, resolve(_TOUR_SIZE)(capture))
        return resolve(_TOUR)(capture, gaussians, up, turntable, *size)
    camera, pivot = choose_camera(view, gaussians, up)
    return around(camera, pivot, up, turntable)


def _as_captured(view: Viewpoint, scene: Path) -> Viewpoint:
    """Of a run folder the first of its cameras, where nothing else is asked for: there the scene is known."""
    asked = (view.camera, view.eye, view.target, view.fov_deg, view.up)
    if any(value is not None for value in asked) or not (scene / "transforms.json").is_file():
        return view
    camera = _cameras(scene / "transforms.json").frames[0].camera
    if view.width is None and view.height is None:
        scale = min(1.0, 960 / max(camera.width, camera.height))
        view = replaced(view, width=round(camera.width * scale), height=round(camera.height * scale))
    return replaced(view, camera=scene / "transforms.json")


def choose_camera(
    view: Viewpoint, gaussians: Gaussians, up: Float[Tensor, "3"]
) -> tuple[Camera, Float[Tensor, "3"]]:
    """The camera that flags ask for, and the point in front of it that a turntable turns about.

    Raises:
        CaptureError: the capture has no camera of that index.
        ConfigError: a flag contradicts another, or a size or field of view is out of its range.
    """
    _check_view(view)
    low, high = robust_bounds(gaussians)
    middle, reach = (low + high) / 2, float((high - low).norm()) / 2 or 1.0
    if view.camera is not None:
        camera = _camera_of(_cameras(view.camera), view.index or 0, view.camera)
        return camera.rescaled(*asked_size(view.width, view.height, (camera.width, camera.height))), middle
    width, height = asked_size(view.width, view.height, (640, 480))
    target = middle if view.target is None else torch.tensor(view.target)
    fov_deg = FOV_DEG if view.fov_deg is None else view.fov_deg
    if view.eye is not None:
        eye = torch.tensor(view.eye)
    else:
        # The narrower field of view must hold the sphere around the scene.
        half = math.radians(fov_deg) / 2
        half = min(half, math.atan(math.tan(half) * width / height))
        eye = target + _from_aside(up) * (reach / math.sin(half))
    pose = look_at(eye.float(), target.float(), up)
    return Camera.pinhole(pose, width, height, fov_deg), target.float()


def around(camera: Camera, pivot: Float[Tensor, "3"], up: Float[Tensor, "3"], count: int) -> list[Camera]:
    """The camera at `count` places of a full turn about the axis `up` through `pivot`, itself first."""
    axis = torch.nn.functional.normalize(up, dim=0)
    cameras = []
    for step in range(count):
        turn = rotation_from_rotvec(axis * (2 * math.pi * step / count))
        pose = pose_from(turn, pivot - turn @ pivot) @ camera.world_from_camera
        cameras.append(replaced(camera, world_from_camera=pose))
    return cameras


def picture(drawn: Rendering, output: Shown) -> Float[Tensor, "h w 3"]:
    """One channel of a rendering as a picture for people."""
    if output == "rgb":
        return drawn.rgb.clamp(0, 1)
    if output == "alpha":
        return drawn.alpha[..., None].expand(-1, -1, 3)
    hit = drawn.alpha > 0.5
    if output == "normals":
        assert drawn.normals is not None
        normals = torch.nn.functional.normalize(drawn.normals, dim=-1)
        return torch.where(hit[..., None], (normals + 1) / 2, torch.zeros_like(normals))
    assert drawn.depth is not None
    if not bool(hit.any()):
        return torch.zeros_like(drawn.rgb)
    near, far = (
        float(drawn.depth[hit].sort().values[int(share * (int(hit.sum()) - 1))]) for share in (0.01, 0.99)
    )
    gray = 1 - 0.9 * ((drawn.depth - near) / max(far - near, 1e-6)).clamp(0, 1)
    return torch.where(hit, gray, torch.zeros_like(gray))[..., None].expand(-1, -1, 3)


def _from_aside(up: Float[Tensor, "3"]) -> Float[Tensor, "3"]:
    """A unit direction from the scene to a viewer who looks 25 degrees downward."""
    up = torch.nn.functional.normalize(up, dim=0)
    # The horizontal axis nearest to -y, so that a z-up scene is seen from its front.
    front = torch.tensor([0.3, -1.0, 0.0]) if abs(float(up[1])) < 0.9 else torch.tensor([0.3, 0.0, -1.0])
    front = torch.nn.functional.normalize(front - (front @ up) * up, dim=0)
    return math.cos(math.radians(25)) * front + math.sin(math.radians(25)) * up


def _check_view(view: Viewpoint) -> None:
    """Refuse what would be ignored or cannot be drawn."""
    if view.camera is None:
        if view.index is not None:
            raise ConfigError(f"--index: expected --camera beside it, got {view.index} alone; add --camera")
    elif view.eye is not None or view.target is not None:
        raise ConfigError("expected either --camera or --eye and --target, got both; leave one out")
    elif view.fov_deg is not None:
        raise ConfigError(
            "expected either --camera, which has its lens, or --fov-deg, got both; leave one out"
        )
    if view.fov_deg is not None and not 0 < view.fov_deg < 180:
        raise ConfigError(f"--fov-deg: expected more than 0 and less than 180, got {view.fov_deg:g}")


def _check_turntable(count: int | None, out: Path) -> None:
    """Refuse a video under a picture's name, and a picture under a video's, before anything is loaded."""
    video = out.suffix.lower() == ".mp4"
    if count is None and video:
        raise ConfigError(f"expected a picture (.png, .jpg), got {out}; add --turntable 90 for a video")
    if count is not None and not video:
        raise ConfigError(f"--turntable: expected an .mp4 to write, got {out}; change its suffix")
    if count is not None and count < 1:
        raise ConfigError(f"--turntable: expected at least 1 frame, got {count}")


def _cameras(path: Path) -> Capture:
    """A capture; one whose pictures are all elsewhere still has its cameras, and so has a stored world."""
    if io.holds_world(path):
        cameras = io.load_world(path).cameras
        return Capture(tuple(Frame(camera, Path(f"camera {i}")) for i, camera in enumerate(cameras)))
    try:
        return io.load_capture(path)
    except CaptureError:
        return io.load_capture(path, need_pictures=False)


def _camera_of(capture: Capture, index: int, path: Path) -> Camera:
    if not 0 <= index < len(capture):
        raise CaptureError(f"{path}: expected --index between 0 and {len(capture) - 1}, got {index}")
    return capture.frames[index].camera


def _direction(axis: Axis) -> Vector:
    sign = 1.0 if axis[0] == "+" else -1.0
    x, y, z = (sign if axis[1] == name else 0.0 for name in "xyz")
    return x, y, z


def _refuse_overwriting(path: Path, force: bool) -> None:
    if path.exists() and not force:
        raise ConfigError(f"expected a new file, got {path}, which exists; add --force to overwrite it")


def _is_capture(path: Path) -> bool:
    if not path.exists():
        raise FileFormatError(f"expected a file of Gaussians or a capture, got {path}, which does not exist")
    scene = io.holds_scene(path) or io.holds_world(path)
    return (path.is_dir() and not scene) or path.suffix.lower() == ".json"
