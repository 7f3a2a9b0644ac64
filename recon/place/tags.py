"""AprilTags in pictures: their corners to a tenth of a pixel, and where those corners are in space."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.capture import Frame
from gaussworld.errors import MissingDependency
from gaussworld.io.images import read_frame

from .triangulate import LEAST_PARALLAX, triangulate

#: Names as the AprilTag library writes them -> constants of OpenCV.
FAMILIES = {
    "tag16h5": "DICT_APRILTAG_16h5",
    "tag25h9": "DICT_APRILTAG_25h9",
    "tag36h10": "DICT_APRILTAG_36h10",
    "tag36h11": "DICT_APRILTAG_36h11",
}
#: [px] A corner whose ray misses the triangulated one by more was mistaken, or its camera is.
_MOST_ERROR = 3.0


@dataclass(frozen=True, eq=False)
class Tag:
    """One tag in space."""

    id: int
    corners: Float[Tensor, "4 3"]
    """[unit of the poses] around the black square."""
    pictures: int
    """How many pictures it was triangulated from."""
    error: float
    """[px] median distance of the rays from the corners."""

    def sides(self) -> Float[Tensor, "6"]:
        """[unit of the poses] its side six times over: from the four sides and the two diagonals."""
        sides = (self.corners - self.corners.roll(1, 0)).norm(dim=-1)
        diagonals = (self.corners[:2] - self.corners[2:]).norm(dim=-1) / 2**0.5
        return torch.cat([sides, diagonals])


@dataclass(frozen=True, eq=False)
class Seen:
    """One tag in one picture."""

    id: int
    camera: Camera
    corners: Float[Tensor, "4 2"]
    """[px] around the black square, in the order that the tag's pattern defines."""


def see_tags(frames: Sequence[Frame], family: str = "tag36h11") -> list[Seen]:
    """Look for tags in every picture; a tag of which one picture shows two is left out of that picture.

    Raises:
        ValueError: the family is not known.
        MissingDependency: OpenCV is not installed.
    """
    seen = []
    for frame in frames:
        image, camera = read_frame(frame)
        grey = (image[..., :3].mean(dim=-1) * 255).round().to(torch.uint8)
        found = find_tags(grey, family)
        ids = [number for number, _ in found]
        seen += [Seen(number, camera, corners) for number, corners in found if ids.count(number) == 1]
    return seen


def find_tags(
    picture: UInt8[Tensor, "h w"], family: str = "tag36h11"
) -> list[tuple[int, Float[Tensor, "4 2"]]]:
    """Ids and corners [px] of the tags in a grey picture, found fast and then refined where they are.

    Raises:
        ValueError: the family is not known.
        MissingDependency: OpenCV is not installed.
    """
    if family not in FAMILIES:
        raise ValueError(f"expected a tag family among {', '.join(FAMILIES)}, got {family!r}")
    aruco, pixels = _cv2().aruco, picture.numpy()
    quick, exact = aruco.DetectorParameters(), aruco.DetectorParameters()
    quick.minMarkerPerimeterRate = 0.01
    exact.cornerRefinementMethod = aruco.CORNER_REFINE_APRILTAG
    dictionary = aruco.getPredefinedDictionary(getattr(aruco, FAMILIES[family]))
    found = []
    for number, corners in _detect(aruco.ArucoDetector(dictionary, quick), pixels):
        found += _refined(aruco.ArucoDetector(dictionary, exact), pixels, number, corners)
    return found


def _refined(detector: Any, pixels: np.ndarray, number: int, corners: np.ndarray) -> list[tuple[int, Tensor]]:
    """Lines fitted to the tag's edges meet in its corners: costly for a picture, cheap for a cut-out."""
    low, high = corners.min(0), corners.max(0)
    margin = 0.4 * float((high - low).max()) + 4
    left, top = np.maximum(low - margin, 0).astype(int)
    right, bottom = (high + margin).astype(int)
    cut = np.ascontiguousarray(pixels[top:bottom, left:right])
    # With this method OpenCV counts from the picture's corner, unlike everywhere else: no half pixel to add.
    same = [exact for again, exact in _detect(detector, cut) if again == number]
    return [(number, torch.from_numpy(same[0] + (left, top)).float())] if len(same) == 1 else []


def _detect(detector: Any, pixels: np.ndarray) -> list[tuple[int, np.ndarray]]:
    corners, ids, _ = detector.detectMarkers(pixels)
    return [] if ids is None else [(int(i), c.reshape(4, 2)) for i, c in zip(np.ravel(ids), corners)]


def place_tags(seen: Sequence[Seen]) -> list[Tag]:
    """Triangulate each tag that two or more pictures show from different sides; the others are left out."""
    tags = []
    for number in sorted({each.id for each in seen}):
        views = [each for each in seen if each.id == number]
        tag = _placed(number, views)
        if tag is not None and tag.error <= _MOST_ERROR:
            tags.append(tag)
    return tags


def _placed(number: int, views: Sequence[Seen]) -> Tag | None:
    if len(views) < 2:
        return None
    found = triangulate([view.camera for view in views], torch.stack([view.corners for view in views]))
    if float(found.parallax.median()) < LEAST_PARALLAX:
        return None
    # A picture counts if its rays go where the others' do.
    agreeing = int((found.errors.amax(dim=1) <= _MOST_ERROR).sum())
    return Tag(number, found.points, agreeing, float(found.errors.median())) if agreeing >= 2 else None


def _cv2() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise MissingDependency(
            "expected OpenCV to find AprilTags, found none; run `pip install opencv-python-headless`"
        ) from error
    return cv2
