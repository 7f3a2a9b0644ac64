"""What one view of a world shows besides colour, in the forms that other programs expect."""

import colorsys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.errors import MissingDependency
from gaussworld.gaussians import Gaussians
from gaussworld.io.atomic import replacing
from gaussworld.render import RenderSettings, render
from gaussworld.world_object import BACKGROUND_ID

#: A pixel shows something when this much of it is covered.
_COVERED = 0.5
#: Colour of normals where nothing is: that of a surface which faces the camera.
FLAT = (0.5, 0.5, 1.0)
_GOLDEN = 0.6180339887


@dataclass(frozen=True, eq=False)
class Seen:
    """One view."""

    rgb: Float[Tensor, "h w 3"]
    """Range [0, 1]."""
    depth: Float[Tensor, "h w"]
    """[unit of the world] z-depth, 0 where nothing is."""
    normals: Float[Tensor, "h w 3"]
    """Unit vectors in the camera's frame with the axes of OpenGL (x right, y up, z to the viewer); 0 where
    nothing is."""
    ids: Int[Tensor, "h w"]
    """Object of each pixel, the one that covers it most; 0 for the background and for nothing."""


@torch.no_grad()
def seen(
    gaussians: Gaussians,
    camera: Camera,
    background: tuple[float, float, float] = (0.0, 0.0, 0.0),
    settings: RenderSettings | None = None,
) -> Seen:
    """Draw colour, depth, normals and objects at once.

    Args:
        gaussians: as `World.shown` gives them, with `object_ids`.
        camera: where from.
        background: colour behind everything, range [0, 1].
        settings: constants of the rasterizer.
    """
    drawn = render(
        gaussians, camera, background=background, outputs=("depth", "normals", "ids"), settings=settings
    )
    assert drawn.depth is not None and drawn.normals is not None and drawn.ids is not None
    hit = drawn.alpha > _COVERED
    turn = camera.world_from_camera[:3, :3].to(drawn.normals)
    normals = torch.nn.functional.normalize(drawn.normals @ turn, dim=-1)
    normals = normals * normals.new_tensor([1.0, -1.0, -1.0])
    ids = torch.full_like(drawn.ids, BACKGROUND_ID)
    if len(gaussians):
        ids = gaussians.object_ids[drawn.ids.clamp(min=0).long()]
    return Seen(
        drawn.rgb.clamp(0, 1),
        torch.where(hit, drawn.depth, torch.zeros_like(drawn.depth)),
        torch.where(hit[..., None], normals, torch.zeros_like(normals)),
        torch.where(hit, ids, torch.full_like(ids, BACKGROUND_ID)).int(),
    )


def depth_picture(depth: Float[Tensor, "h w"], near: float, far: float) -> Float[Tensor, "h w 3"]:
    """Inverse depth as grey: white at `near`, black at `far` and where nothing is.

    `(1 / z - 1 / far) / (1 / near - 1 / far)`, clamped: the relative disparity that monocular depth networks
    (Ranftl et al. 2020, arXiv 1907.01341) give, on which depth-controlled models are trained.
    """
    inverse = torch.where(depth > 0, 1 / depth.clamp(min=1e-9), torch.zeros_like(depth))
    grey = ((inverse - 1 / far) / (1 / near - 1 / far)).clamp(0, 1)
    return grey[..., None].expand(*grey.shape, 3)


def normal_picture(normals: Float[Tensor, "h w 3"]) -> Float[Tensor, "h w 3"]:
    """Normals as `(n + 1) / 2`; (0.5, 0.5, 1) where nothing is."""
    nothing = (normals == 0).all(dim=-1, keepdim=True)
    return torch.where(nothing, normals.new_tensor(FLAT), (normals + 1) / 2)


def edge_picture(rgb: Float[Tensor, "h w 3"], low: float, high: float) -> Float[Tensor, "h w 3"]:
    """Edges, white on black (Canny 1986), of the 8-bit grey picture.

    Args:
        rgb: range [0, 1].
        low: gradients below are no edge, range [0, 1000] as OpenCV counts.
        high: gradients above are.

    Raises:
        MissingDependency: OpenCV is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise MissingDependency(
            "expected OpenCV to find edges, found none; run `pip install opencv-python-headless`"
        ) from error
    pixels = (rgb.clamp(0, 1) * 255).round().to(torch.uint8).contiguous().cpu().numpy()
    edges = cv2.Canny(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), low, high)
    return (torch.from_numpy(edges).float() / 255)[..., None].expand(*edges.shape, 3)


def palette_color(object_id: int) -> tuple[float, float, float]:
    """The colour of an object, the same in every clip; the background is black.

    Hues go round by the golden ratio, so that neighbouring ids differ; every third is dark, every fifth pale.
    """
    if object_id == BACKGROUND_ID:
        return 0.0, 0.0, 0.0
    hue = (object_id * _GOLDEN) % 1
    red, green, blue = colorsys.hsv_to_rgb(
        hue, 0.55 if object_id % 5 == 4 else 0.9, 0.65 if object_id % 3 == 2 else 1.0
    )
    return round(red * 255) / 255, round(green * 255) / 255, round(blue * 255) / 255


def segment_picture(ids: Int[Tensor, "h w"]) -> Float[Tensor, "h w 3"]:
    """Every object in its colour."""
    known, rows = ids.unique(return_inverse=True)
    colors = torch.tensor([palette_color(number) for number in known.tolist()]).reshape(-1, 3)
    return colors[rows]


def write_ids(path: Path, ids: Int[Tensor, "h w"]) -> None:
    """Write object ids as 16-bit grey.

    Raises:
        ValueError: an id above 65535.
        GaussWorldError: the file system refuses.
    """
    if ids.numel() and int(ids.max()) > 65535:
        raise ValueError(f"{path}: expected ids up to 65535, got {int(ids.max())}")
    with replacing(path) as file:
        Image.fromarray(ids.cpu().numpy().astype(np.uint16)).save(file, "PNG")
