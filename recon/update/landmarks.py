"""Landmarks of a world: features of its renderings, each with its place in space and its object."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.errors import CaptureError, MissingDependency
from gaussworld.gaussians import Gaussians
from gaussworld.render import Rendering, render

from ..frames import undistorted_camera

#: A pixel counts where this much is hit, and where depth does not jump by more than this share of itself.
_SOLID, _JUMP = 0.9, 0.03
_FEATURES, _CONTRAST = 2500, 0.015


@dataclass(frozen=True, eq=False)
class Features:
    """Keypoints of one picture."""

    pixels: Float[Tensor, "m 2"]
    """[px] the centre of the first pixel is at (0.5, 0.5)."""
    descriptors: Float[Tensor, "m 128"]
    """RootSIFT (Arandjelovic and Zisserman 2012): unit length, compared by their product."""


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Features of renderings of a world."""

    points: Float[Tensor, "m 3"]
    """[unit of the world]"""
    descriptors: Float[Tensor, "m 128"]
    object_ids: Int[Tensor, " m"]
    starts: tuple[int, ...]
    """Row of the first landmark of each rendering, and the number of all."""


@dataclass(frozen=True, eq=False)
class Matches:
    """Keypoints of a picture and what they seem to be."""

    pixels: Float[Tensor, "k 2"]
    points: Float[Tensor, "k 3"]
    object_ids: Int[Tensor, " k"]


def find_features(image: Float[Tensor, "h w 3"], most: int = _FEATURES) -> Features:
    """SIFT keypoints (Lowe 2004) of a picture in [0, 1]."""
    cv2 = opencv()
    grey = (
        (image.detach().clamp(0, 1) @ image.new_tensor([0.299, 0.587, 0.114]) * 255).round().to(torch.uint8)
    )
    detector = cv2.SIFT_create(nfeatures=most, contrastThreshold=_CONTRAST)
    keypoints, descriptors = detector.detectAndCompute(grey.numpy(), None)
    if descriptors is None or not len(keypoints):
        return Features(torch.zeros(0, 2), torch.zeros(0, 128))
    # OpenCV's first pixel has its centre at 0.
    pixels = torch.tensor([keypoint.pt for keypoint in keypoints]).reshape(-1, 2) + 0.5
    root = torch.nn.functional.normalize(torch.from_numpy(descriptors), p=1, dim=1).clamp(min=0).sqrt()
    return Features(pixels, root)


@torch.no_grad()
def drawn(gaussians: Gaussians, camera: Camera) -> Rendering:
    """A rendering with depth and the row of the Gaussian that each pixel shows most of."""
    return render(gaussians, camera, outputs=("depth", "ids"))


def landmarks(gaussians: Gaussians, cameras: Sequence[Camera], longest: int, most: int) -> Landmarks:
    """Features of a world as its own cameras see it.

    Args:
        gaussians: what is shown of the world, with object ids.
        cameras: whence to look; at most `most` of them, evenly spread, are taken.
        longest: [px] longer side of the renderings.
        most: how many renderings.

    Raises:
        CaptureError: there are no cameras, or nothing to be recognised.
    """
    if not cameras:
        raise CaptureError(
            "expected a world with cameras to look at it from, got none; make it of a run of gaussworld recon"
        )
    chosen = [cameras[i * len(cameras) // most] for i in range(most)] if len(cameras) > most else cameras
    parts = [_of_view(gaussians, sized(camera, longest)) for camera in chosen]
    starts = [0]
    for points, _, _ in parts:
        starts.append(starts[-1] + len(points))
    if not starts[-1]:
        raise CaptureError(
            "expected a world in which something can be recognised, got no feature in any rendering of it"
        )
    points, descriptors, ids = (torch.cat(column) for column in zip(*parts))
    return Landmarks(points, descriptors, ids, tuple(starts))


def sized(camera: Camera, longest: int) -> Camera:
    """The pinhole camera of a view, with at most so many pixels a side."""
    flat = undistorted_camera(camera)
    share = longest / max(flat.width, flat.height)
    if share >= 1:
        return flat
    return flat.rescaled(max(1, round(flat.width * share)), max(1, round(flat.height * share)))


def match(features: Features, known: Landmarks, ratio: float = 0.85) -> Matches:
    """Keypoints that are clearly nearer to one landmark of a rendering than to its second (Lowe 2004, 7.1).

    Each rendering is asked by itself: several show the same place, and those must not outdo each other.
    """
    rows, columns = [], []
    for start, stop in zip(known.starts, known.starts[1:]):
        if stop - start < 2 or not len(features.pixels):
            continue
        likeness = features.descriptors @ known.descriptors[start:stop].T
        best, at = likeness.topk(2, dim=1)
        # Unit vectors: the squared distance is 2 - 2 times the product.
        near = (1 - best[:, 0]) < ratio**2 * (1 - best[:, 1])
        # And the landmark has no nearer keypoint either.
        mutual = likeness.argmax(dim=0)[at[:, 0]] == torch.arange(len(at))
        kept = (near & mutual).nonzero()[:, 0]
        rows.append(kept)
        columns.append(at[kept, 0] + start)
    if not rows:
        return Matches(torch.zeros(0, 2), torch.zeros(0, 3), torch.zeros(0, dtype=torch.int32))
    row, column = torch.cat(rows), torch.cat(columns)
    return Matches(features.pixels[row], known.points[column], known.object_ids[column])


def _of_view(gaussians: Gaussians, camera: Camera) -> tuple[Tensor, Tensor, Tensor]:
    drawing = drawn(gaussians, camera)
    assert drawing.depth is not None and drawing.ids is not None
    features = find_features(drawing.rgb)
    x, y = features.pixels.long().unbind(1)
    good = _solid(drawing)[y, x] if len(x) else torch.zeros(0, dtype=torch.bool)
    x, y, features = x[good], y[good], Features(features.pixels[good], features.descriptors[good])
    points = camera.unproject(features.pixels, drawing.depth[y, x])
    ids = gaussians.object_ids[drawing.ids[y, x].clamp(min=0).long()]
    return points, features.descriptors, ids


def _solid(drawing: Rendering) -> Bool[Tensor, "h w"]:
    """Where a rendering shows a surface, and no edge of one."""
    assert drawing.depth is not None
    depth = drawing.depth[None, None]
    pool = torch.nn.functional.max_pool2d
    high, low = pool(depth, 3, 1, 1)[0, 0], -pool(-depth, 3, 1, 1)[0, 0]
    return (drawing.alpha > _SOLID) & (low > 0) & (high - low < _JUMP * drawing.depth)


def with_pose(camera: Camera, world_from_camera: Float[Tensor, "4 4"]) -> Camera:
    """The same camera elsewhere."""
    return replace(camera, world_from_camera=world_from_camera)


def opencv() -> Any:
    """OpenCV, in one thread: the processor is shared with the rasterizer.

    Raises:
        MissingDependency: it is not installed.
    """
    try:
        return importlib.import_module("cv2")
    except ImportError as error:
        raise MissingDependency(
            f"expected OpenCV to recognise places, got: {error}; run `pip install opencv-python-headless`"
        ) from error
