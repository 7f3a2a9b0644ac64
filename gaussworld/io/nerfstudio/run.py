"""A run of nerfstudio's splatfacto as a `World` in the frame of the capture that it was trained on."""

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ...capture import Capture
from ...errors import CaptureError, ConfigError, FileFormatError
from ...gaussians import Gaussians
from ...pose import check_rigid, invert_pose, transform_points
from ...render.contract import MAX_LOG_SCALE
from ...sh import sh0_from_rgb
from ...world import World
from ..json_object import blaming, read_object
from ..transforms_lens import number
from .checkpoint import Checkpoint, Stored, open_checkpoint, tensors_of
from .config import path_setting, read_config, setting

log = logging.getLogger(__name__)

_CONFIG, _TRANSFORMS, _MODELS = "config.yml", "dataparser_transforms.json", "nerfstudio_models"
_STEP = re.compile(r"step-(\d+)\.ckpt")
#: How a parameter of splatfacto is called here, and what follows the number of rows in its shape.
_PARAMETERS: dict[str, tuple[int | None, ...]] = {
    "means": (3,),
    "quats": (4,),
    "scales": (3,),
    "opacities": (1,),
    "features_dc": (3,),
    "features_rest": (None, 3),
}
#: Ways of nerfstudio to turn a capture that end with +z upward.
_UPRIGHT = ("up", "vertical")


@dataclass(frozen=True)
class RunFiles:
    """Where the files of a run lie."""

    folder: Path
    checkpoint: Path
    """That of the newest step."""
    step: int


def load_run(run: Path | str, data: Path | str | None = None) -> World:
    """Read what splatfacto, or a method built on it, has learnt; nothing of the run is executed.

    The world is in the frame in which `load_capture` reads the dataset: nerfstudio's turning, centring and
    scaling are undone. Cameras, scale and the way back to an earlier frame come from the dataset; without it
    the world is in the frame before its `applied_transform`, and one warning says so.

    Args:
        run: the run's folder (outputs/NAME/METHOD/TIME), its config.yml, or a folder with one run below it.
        data: the dataset, when it is no longer where the run found it.

    Raises:
        ConfigError: no run there, or several.
        FileFormatError: a file of the run is missing, damaged, or asks to run code.
        CaptureError: there is nothing to read at `data`.
    """
    files = find_run(Path(run))
    config = read_config(files.folder / _CONFIG)
    capture = _dataset(config, files.folder, None if data is None else Path(data))
    nerf_from_source, scale = _placement(files.folder / _TRANSFORMS)
    with open_checkpoint(files.checkpoint) as checkpoint:
        gaussians = read_gaussians(checkpoint)
    source = torch.eye(4) if capture is None else capture.world_from_source
    with blaming(f"{files.folder / _TRANSFORMS}"):
        turn, shrink = _undone(nerf_from_source, scale, source)
    _tell(config, files.folder)
    if capture is not None:
        _compare(config, capture, invert_pose(turn), shrink)
    return replace(
        World.from_gaussians(
            gaussians.transformed(turn, 1 / shrink),
            cameras=() if capture is None else [frame.camera for frame in capture.frames],
            metres_per_unit=None if capture is None else capture.metres_per_unit,
            up=_up(config, turn),
        ),
        world_from_source=source,
    )


def find_run(path: Path) -> RunFiles:
    """The files of the run at a path, or of the only one below it.

    Raises:
        ConfigError: no run there, or several.
        FileFormatError: a run without a checkpoint.
    """
    if path.name == _CONFIG and path.is_file():
        path = path.parent
    if not (path / _CONFIG).is_file():
        runs = sorted(_runs_below(path))
        if len(runs) != 1:
            got = "none" if not runs else f"{len(runs)}, the last of them {runs[-1]}"
            raise ConfigError(
                f"{path}: expected the folder of one run of nerfstudio, with config.yml in it, got {got};"
                " give outputs/NAME/METHOD/TIME"
            )
        path = runs[0]
    models = path / _MODELS
    steps = {int(m[1]): p for p in models.glob("step-*.ckpt") if (m := _STEP.fullmatch(p.name))}
    if not steps:
        raise FileFormatError(
            f"{models}: expected a checkpoint such as step-000029999.ckpt, got none; train longer, or with"
            " a smaller --steps-per-save"
        )
    return RunFiles(path, steps[max(steps)], max(steps))


def _runs_below(path: Path) -> Iterator[Path]:
    for pattern in ("*", "*/*", "*/*/*"):
        yield from (found.parent for found in path.glob(f"{pattern}/{_CONFIG}") if found.is_file())


def read_gaussians(checkpoint: Checkpoint) -> Gaussians:
    """The Gaussians of a checkpoint of splatfacto, in nerfstudio's frame.

    Rows that training has driven to infinity or NaN are left out, as nerfstudio's own export does.

    Raises:
        FileFormatError: another method's checkpoint, or parameters that do not fit each other.
    """
    content = checkpoint.content
    stored = tensors_of(content.get("pipeline") if isinstance(content, dict) else None)
    found = {name: _parameter(checkpoint.path, stored, name) for name in _PARAMETERS}
    rows = {name: value.shape[0] for name, value in found.items()}
    if len(set(rows.values())) != 1:
        raise FileFormatError(f"{checkpoint.path}: expected parameters of one length, got {rows}")
    if not rows["means"]:
        raise FileFormatError(f"{checkpoint.path}: expected Gaussians, got a checkpoint without any")
    if (bands := found["features_rest"].shape[1] + 1) not in (1, 4, 9, 16):
        raise FileFormatError(
            f"{checkpoint.path}: expected spherical harmonics of degree 0 to 3, got {bands} coefficients"
        )
    values = {name: checkpoint.read(each).float() for name, each in found.items()}
    first = values["features_dc"]
    if bands == 1:
        # Without spherical harmonics splatfacto learns logits of colours.
        first = sh0_from_rgb(first.sigmoid())
    gaussians = Gaussians(
        values["means"],
        values["quats"],
        values["scales"],
        values["opacities"].squeeze(-1),
        torch.cat([first[:, None], values["features_rest"]], dim=1),
    )
    return _sound(gaussians, checkpoint.path)


def _parameter(path: Path, stored: dict[str, Stored], name: str) -> Stored:
    # Before nerfstudio 1.0 the parameters were the model's own.
    named = [key for key in stored if key.endswith((f".gauss_params.{name}", f"_model.{name}"))]
    if len(named) != 1:
        got = ", ".join(named or list(stored)[:3]) or "no tensors at all"
        raise FileFormatError(
            f"{path}: expected the checkpoint of splatfacto, with one tensor gauss_params.{name}, got {got};"
            " other methods of nerfstudio keep no Gaussians"
        )
    found, tail = stored[named[0]], _PARAMETERS[name]
    fits = len(found.shape) == len(tail) + 1 and all(
        want is None or have == want for have, want in zip(found.shape[1:], tail)
    )
    if not fits or not found.dtype.is_floating_point:
        wanted = ", ".join("n" if size is None else str(size) for size in (None, *tail))
        raise FileFormatError(
            f"{path}: expected {named[0]} of shape ({wanted}), got {found.shape} of {found.dtype}"
        )
    return found


def _sound(gaussians: Gaussians, path: Path) -> Gaussians:
    rows = torch.ones(len(gaussians), dtype=torch.bool)
    for name in ("means", "quats", "log_scales", "opacity_logits", "sh"):
        rows &= torch.isfinite(getattr(gaussians, name)).reshape(len(rows), -1).all(dim=1)
    rows &= (gaussians.quats != 0).any(dim=1) & (gaussians.log_scales < MAX_LOG_SCALE).all(dim=1)
    if bool(rows.all()):
        return gaussians
    log.warning("%s: %d of %d Gaussians are not finite and are left out", path, int((~rows).sum()), len(rows))
    return gaussians.select(rows)


def _placement(path: Path) -> tuple[Float[Tensor, "4 4"], float]:
    """nerfstudio's rigid `nerf_from_source`, and the scale that follows it."""
    meta = read_object(path, 1 << 20, "an object with transform and scale")
    with blaming(f"{path}"):
        rows = torch.tensor(meta.get("transform"), dtype=torch.float64)
        if tuple(rows.shape) != (3, 4):
            raise ValueError(f"expected a 3x4 matrix for 'transform', got shape {tuple(rows.shape)}")
        pose = torch.cat([rows, rows.new_tensor([[0.0, 0.0, 0.0, 1.0]])])
        check_rigid(pose, "transform")
        if (scale := number(meta, "scale")) <= 0:
            raise ValueError(f"expected a positive 'scale', got {scale}")
    return pose, scale


def _undone(
    nerf_from_source: Float[Tensor, "4 4"], scale: float, world_from_source: Float[Tensor, "4 4"]
) -> tuple[Float[Tensor, "4 4"], float]:
    """The rigid `world_from_nerf` for points divided by the scale beside it.

    nerfstudio multiplies its own turn with the dataset's `applied_transform`, and its own scale with the
    `applied_scale`; each is taken out of its product again.
    """
    source = world_from_source.double()
    if (volume := float(torch.linalg.det(source[:3, :3]))) <= 0:
        raise ValueError(f"expected an applied_transform that mirrors nothing, got determinant {volume:g}")
    applied_scale = volume ** (1 / 3)
    applied = source.clone()
    applied[:3] /= applied_scale
    check_rigid(applied, "applied_transform")
    return (applied @ invert_pose(nerf_from_source)).float(), scale / applied_scale


def _dataset(config: dict[str, Any], folder: Path, data: Path | None) -> Capture | None:
    """The cameras that the run was trained on, pictures or not; None, with a warning, when they are gone."""
    from .. import load_capture

    if data is not None:
        return load_capture(data, need_pictures=False)
    listed = _listed_data(config)
    # The run tells more than the folder we happen to be in: training ran where `outputs` was made.
    above = [] if listed is None else [*folder.resolve().parents, Path()]
    for place in (parent / str(listed) for parent in above):
        for each in (place, place / "colmap" / "sparse" / "0"):
            try:
                return load_capture(each, need_pictures=False)
            except CaptureError:
                continue
    log.warning(
        "%s: its dataset %s is not there, so the world has no cameras and is in the frame before the"
        " dataset's applied_transform, if it has one; --data says where it is now",
        folder, listed or "is not named and",
    )  # fmt: skip
    return None


def _listed_data(config: dict[str, Any]) -> PurePosixPath | None:
    manager = ("pipeline", "datamanager")
    places = ((*manager, "data"), (*manager, "dataparser", "data"), ("data",))
    return next((path for keys in places if (path := path_setting(config, *keys)) is not None), None)


def _up(config: dict[str, Any], world_from_nerf: Float[Tensor, "4 4"]) -> tuple[float, float, float] | None:
    """The direction that nerfstudio took for up, where it looked for one."""
    if setting(config, "pipeline", "datamanager", "dataparser", "orientation_method") not in _UPRIGHT:
        return None
    x, y, z = torch.nn.functional.normalize(world_from_nerf[:3, 2].double(), dim=0).tolist()
    return x, y, z


def _compare(
    config: dict[str, Any], capture: Capture, nerf_from_world: Float[Tensor, "4 4"], scale: float
) -> None:
    """Warn of a dataset that is not the run's: nerfstudio scales cameras to fill a cube of known size."""
    parser = setting(config, "pipeline", "datamanager", "dataparser")
    size = setting(parser, "scale_factor")
    if setting(parser, "auto_scale_poses") is not True or not isinstance(size, int | float):
        return
    centers = torch.stack([frame.camera.center for frame in capture.frames])
    got = float((transform_points(nerf_from_world, centers) * scale).abs().max())
    if abs(got - size) > 0.02 * abs(size):
        log.warning(
            "the cameras of the dataset do not lie as those that the run was trained on (they reach to %.3f"
            " in nerfstudio's frame, not to %g): if it is another dataset, --data says where the run's is",
            got, size,
        )  # fmt: skip


def _tell(config: dict[str, Any], folder: Path) -> None:
    """Warn of settings that Gaussians alone do not carry."""
    model = setting(config, "pipeline", "model")
    if setting(model, "rasterize_mode") == "antialiased":
        log.warning("%s was trained antialiased: draw it with RenderSettings(antialiased=True)", folder)
    if setting(model, "camera_optimizer", "mode") not in (None, "off"):
        log.warning(
            "%s has refined its cameras: those of the world are the dataset's, and may be a little off",
            folder,
        )
