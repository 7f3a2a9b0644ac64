"""How long one unit of a capture is in metres: from depth sensors, measured distances, or AprilTags."""

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.capture import Capture, Frame
from gaussworld.errors import CaptureError

from .depth_ratio import depth_ratio
from .tags import place_tags, see_tags
from .triangulate import LEAST_PARALLAX, located, triangulate

logger = logging.getLogger(__name__)

Vector = tuple[float, float, float]
Pixel = tuple[float, float]

#: The relative spread of several measurements at which confidence is one half.
_HALF_SURE = 0.05
#: Distances that people measure and pick are seldom better than this.
_PICKED = 0.02
_MOST_DEPTH_FRAMES = 60
_MOST_POINTS = 20_000
_FEWEST_RATIOS, _LEAST_SHARE = 30, 0.1


@dataclass(frozen=True)
class Scale:
    """The length of one unit of a capture's coordinates, and how we know."""

    metres_per_unit: float
    """[m]"""
    source: Literal["given", "input", "depth", "points", "apriltag"]
    """Somebody said so; the input states its unit; sensor depth; a measured distance; tags of known size."""
    confidence: float
    """Range [0, 1]: 0.5 where the measurements spread by 5 %, lower when there are few of them."""
    detail: str
    """One sentence with the figures."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.metres_per_unit) and self.metres_per_unit > 0):
            raise ValueError(f"expected a positive length of one unit in metres, got {self.metres_per_unit}")


def chosen_scale(
    capture: Capture,
    *,
    metres_per_unit: float | None = None,
    tag_size: float | None = None,
    tag_family: str = "tag36h11",
    points: tuple[Vector, Vector, float] | None = None,
    pixels: tuple[int, Pixel, Pixel, float] | None = None,
) -> Scale | None:
    """The best-founded scale there is: given, AprilTags, a distance, the input's own, sensor depth, or None.

    Args:
        capture: with poses in one frame.
        metres_per_unit: [m] a length that is taken at its word.
        tag_size: [m] side of the black squares of the tags in the scene.
        tag_family: see `recon.tags.FAMILIES`.
        points: two places in the capture's frame and their distance [m].
        pixels: a frame's index, two pixels in its picture and the distance [m] of what they show.

    Raises:
        ValueError: a length is not positive, or the two places are one.
        CaptureError: tags or pixels were asked for, and the pictures or points do not show them.
    """
    if metres_per_unit is not None:
        return Scale(metres_per_unit, "given", 1.0, f"One unit is {metres_per_unit:g} m, as given.")
    if tag_size is not None:
        return scale_from_tags(capture, tag_size, tag_family)
    if points is not None:
        return scale_from_points(*points)
    if pixels is not None:
        return scale_from_pixels(capture, *pixels)
    known = known_scale(capture)
    if known is not None or not _depth_frames(capture) or not len(capture.points):
        return known
    try:
        return scale_from_depth(capture)
    except CaptureError as error:
        logger.warning("the scale stays unknown: %s", error)
        return None


def known_scale(capture: Capture) -> Scale | None:
    """The scale that the input came with: RGB-D, a calibrated rig, or a file that states its unit."""
    if capture.metres_per_unit is None:
        return None
    return Scale(
        capture.metres_per_unit, "input", 1.0, f"One unit of the input is {capture.metres_per_unit:g} m."
    )


def scale_from_points(a: Vector, b: Vector, distance_m: float) -> Scale:
    """Scale from two places in the capture's frame whose distance was measured [m].

    Raises:
        ValueError: the distance is not positive, or the places are one.
    """
    return _from_distance(torch.tensor([a, b]).double(), distance_m, _PICKED, "two places")


def scale_from_pixels(
    capture: Capture,
    frame_index: int,
    pixel_a: Pixel,
    pixel_b: Pixel,
    distance_m: float,
    second: tuple[int, Pixel, Pixel] | None = None,
) -> Scale:
    """Scale from two spots in a picture whose distance was measured [m].

    One picture takes their depths from the sparse points around them; a second one that shows the same two
    spots triangulates them, which is better.

    Args:
        capture: with points, where only one picture is given.
        frame_index: of the picture.
        pixel_a: the first spot [px of the frame's camera].
        pixel_b: the second spot.
        distance_m: [m] between them.
        second: index and pixels of another picture of the same spots.

    Raises:
        ValueError: no such frame, a pixel outside its picture, or a distance that is not positive.
        CaptureError: too few points in the picture, or two pictures that do not agree.
    """
    camera, picked = _picked(capture, frame_index, pixel_a, pixel_b)
    if second is not None:
        other, again = _picked(capture, *second)
        found = triangulate([camera, other], torch.stack([picked, again]))
        error, parallax = float(found.errors.max()), float(found.parallax.min())
        if parallax < LEAST_PARALLAX or error > 0.01 * camera.width:
            raise CaptureError(
                f"expected the pixels of frames {frame_index} and {second[0]} to meet in space, got rays that"
                f" miss by {error:.3g} px at {math.degrees(parallax):.2g} degrees; pick the same two spots in"
                " two pictures from different places"
            )
        spread = _PICKED + error / float(camera.K[0, 0]) / parallax
        return _from_distance(found.points, distance_m, spread, "two spots in two pictures")
    try:
        places, spreads = located(camera, capture.points, picked)
    except ValueError as error:
        raise CaptureError(f"frame {frame_index}: {error}; pick the spots in two pictures instead") from error
    spread = 2 * _PICKED + float(spreads.max())
    return _from_distance(places.double(), distance_m, spread, "two spots in a picture and the points around")


def scale_from_tags(capture: Capture, size_m: float, family: str = "tag36h11") -> Scale:
    """Scale from AprilTags of known size that two or more pictures show.

    Args:
        capture: with poses; all its pictures are read.
        size_m: [m] side of the tags' black squares.
        family: see `recon.tags.FAMILIES`.

    Raises:
        ValueError: the size is not positive, or the family is not known.
        CaptureError: no tag is seen from two sides.
    """
    if not (math.isfinite(size_m) and size_m > 0):
        raise ValueError(f"expected a positive tag size in metres, got {size_m}")
    seen = see_tags(capture.frames, family)
    tags = place_tags(seen)
    if not tags:
        raise CaptureError(_why_no_tags(len(capture), len(seen), family))
    sides = torch.stack([tag.sides() for tag in tags])
    unit = size_m / float(sides.mean(dim=1).quantile(0.5))
    spread = float((sides * unit / size_m - 1).square().mean().sqrt())
    pictures = sum(tag.pictures for tag in tags)
    ids = ", ".join(str(tag.id) for tag in tags[:8]) + (", ..." if len(tags) > 8 else "")
    return Scale(
        unit,
        "apriltag",
        _confidence(spread, pictures),
        f"One unit is {unit:.4g} m: {len(tags)} tag(s) {family} of {size_m:g} m (id {ids}), seen {pictures}"
        f" times, have sides that spread by {100 * spread:.2g} %.",
    )


def scale_from_depth(capture: Capture, seed: int = 0) -> Scale:
    """Scale from sensor depth [mm files] against the depth of the capture's points in the same pictures.

    Args:
        capture: frames with depth files, and points.
        seed: of the draw when there are very many points.

    Raises:
        CaptureError: there are no depth files or points, or their ratios do not agree.
    """
    frames, points = _depth_frames(capture), capture.points.detach().cpu()
    if len(points) > _MOST_POINTS:
        order = torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))
        points = points[order[:_MOST_POINTS]]
    step = max(1, math.ceil(len(frames) / _MOST_DEPTH_FRAMES))
    ratio = depth_ratio(frames[::step], points)
    if ratio is None or ratio.count < _FEWEST_RATIOS:
        raise CaptureError(
            f"expected at least {_FEWEST_RATIOS} points with sensor depth, got {ratio.count if ratio else 0}"
            f" from {len(points)} points and {len(frames)} depth files; check that the depth pictures belong"
            " to the colour pictures"
        )
    if ratio.share < _LEAST_SHARE:
        raise CaptureError(
            "expected sensor depth and points to agree on a scale, got only"
            f" {100 * ratio.share:.0f} % of {ratio.count} ratios within 5 % of each other; check the depth's"
            " unit and its camera"
        )
    spread = _HALF_SURE if math.isnan(ratio.spread) else ratio.spread
    return Scale(
        ratio.value,
        "depth",
        _confidence(spread, ratio.pictures) * min(1.0, 2 * ratio.share),
        f"One unit is {ratio.value:.4g} m: sensor depth over point depth, {100 * ratio.share:.0f} % of"
        f" {ratio.count} ratios within 5 %; {ratio.pictures} pictures spread by {100 * spread:.2g} %.",
    )


def _from_distance(places: Float[Tensor, "2 3"], distance_m: float, spread: float, what: str) -> Scale:
    if not (math.isfinite(distance_m) and distance_m > 0):
        raise ValueError(f"expected a positive distance in metres, got {distance_m}")
    units = float((places[0] - places[1]).norm())
    if not units > 1e-9 * float(places.abs().max()):
        raise ValueError("expected two different places to measure between, got the same one twice")
    unit = distance_m / units
    return Scale(
        unit,
        "points",
        _confidence(spread),
        f"One unit is {unit:.4g} m: {what}, {units:.4g} units apart, were measured as {distance_m:g} m.",
    )


def _picked(capture: Capture, index: int, a: Pixel, b: Pixel) -> tuple[Camera, Float[Tensor, "2 2"]]:
    if not 0 <= index < len(capture):
        raise ValueError(f"expected the index of one of {len(capture)} frames, got {index}")
    camera = capture.frames[index].camera.to("cpu")
    for x, y in (a, b):
        if not (0 <= x <= camera.width and 0 <= y <= camera.height):
            raise ValueError(
                f"expected a pixel inside the {camera.width}x{camera.height} picture of frame {index},"
                f" got ({x:g}, {y:g})"
            )
    return camera, torch.tensor([a, b]).float()


def _depth_frames(capture: Capture) -> list[Frame]:
    return [frame for frame in capture.frames if isinstance(frame.depth, Path)]


def _confidence(spread: float, count: int | None = None) -> float:
    """One half at a spread of 5 %; times n / (n + 3) of n pictures, which may agree by chance."""
    return 1 / (1 + (spread / _HALF_SURE) ** 2) * (1.0 if count is None else count / (count + 3))


def _why_no_tags(pictures: int, seen: int, family: str) -> str:
    if not seen:
        return (
            f"expected AprilTags of family {family} in the pictures, got none in {pictures}; print one flat"
            " with a white margin, let it fill 30 pixels or more, or say another family"
        )
    return (
        f"expected an AprilTag in two pictures from different places, got {seen} sighting(s) in {pictures}"
        " pictures of which none could be triangulated; take more pictures of the tag"
    )
