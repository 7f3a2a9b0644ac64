"""The plane that pictures of few calibrated cameras lie on, and what is wrong with their calibration.

Structure from motion needs many pictures with small steps between them. Three cameras around a table share
no feature matches; but laid onto about the right plane, their pictures show the same texture from the same
side, a little shifted. Windows of laid pictures are matched, and a bundle adjustment over the plane, the
cameras' poses and their lenses explains the shifts (Triggs et al. 2000, "Bundle adjustment - a modern
synthesis"), with priors: rigs are calibrated to a centimetre and a degree, which is more than the height of a
table may be off. A body whose place and form are known, such as the foot of the robot, pins down what texture
on a plane leaves open.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, grid_sample

from gaussworld.camera import Camera, CameraModel
from gaussworld.errors import CaptureError
from gaussworld.pose import invert_pose, pose_from, rotation_from_rotvec, transform_points

#: Side of a window and step from one to the next [samples], and how far they are looked for, round by round.
_ROUNDS = ((88, 22, 18), (64, 16, 8), (48, 12, 5), (48, 12, 4))
#: A match counts from this correlation on, unless another place is this much as good: holes and tiles repeat.
_ALIKE, _RIVAL = 0.45, 0.9
#: [samples] a peak's own surroundings.
_PEAK = 4
#: A window that varies less than this (a standard deviation in [0, 1]) is blank.
_CONTRAST = 0.012
_LEAST = 12
#: [px] how well matches can be placed.
_MATCH_PX = 0.7
#: How wrong a rig's calibration may be, as standard deviations: turn [rad] and shift [m] of a camera, radial
#: distortion k1 that nobody told, share of the focal length, and principal point [px].
_TURN, _SHIFT, _K1, _FOCAL, _POINT = math.radians(1), 0.01, 0.05, 0.01, 3.0
_PRIOR = torch.tensor([_TURN] * 3 + [_SHIFT] * 3 + [_K1, _FOCAL, _POINT, _POINT], dtype=torch.float64)
_LUMA = (0.2126, 0.7152, 0.0722)


@dataclass(frozen=True)
class Sighting:
    """Where a known body appears in a picture, as points of it."""

    camera: int
    points: Float[Tensor, "k 3"]
    """[unit] in the frame of the cameras."""
    pixels: Float[Tensor, "k 2"]
    error_px: float = 1.5


@dataclass(frozen=True, eq=False)
class PhotoPlane:
    """All x with normal · x = offset, and the cameras with which pictures agree on it."""

    normal: Float[Tensor, "3"]
    """Unit length, float64, on the side of the cameras."""
    offset: float
    """[unit of the poses]"""
    cameras: tuple[Camera, ...]
    """Corrected."""
    matches: int
    """How many windows tell it."""
    residual_px: float
    """Root mean square of matches, in pictures."""
    height_error: float
    """[unit] standard deviation of the height in the middle of the matches."""
    tilt_error: float
    """[rad] standard deviation of the normal's direction."""
    middle: Float[Tensor, "3"] = field(repr=False)
    """The point on it in the middle of the matches."""


@dataclass(frozen=True, eq=False)
class _Matches:
    """Pixels of two pictures that show the same point of the plane."""

    first: int
    second: int
    pixels: Float[Tensor, "m 2"]
    others: Float[Tensor, "m 2"]


def plane_from_views(
    pictures: Sequence[Float[Tensor, "h w 3"]],
    cameras: Sequence[Camera],
    start: Float[Tensor, "4 4"],
    side: float,
    sightings: Sequence[Sighting] = (),
    spacing: float = 0.0025,
    metres_per_unit: float = 1.0,
) -> PhotoPlane:
    """Find the plane near a first guess that several pictures agree on.

    Args:
        pictures: one of each camera, range [0, 1]; the median over a video has nothing moving in it.
        cameras: two or more, at different places.
        start: pose of the guess: the middle of what is looked at, and +z square to it, towards the cameras.
        side: [unit] of the square there that is looked at.
        sightings: known bodies in the pictures.
        spacing: [unit] between samples on the plane; about a pixel.
        metres_per_unit: of the cameras' frame.

    Raises:
        CaptureError: fewer than two pictures, or no texture that they share.
        ValueError: cameras with a lens that bends.
    """
    if len(pictures) != len(cameras) or len(cameras) < 2:
        raise CaptureError(
            "expected pictures of at least 2 calibrated cameras to find a plane, got"
            f" {len(pictures)} of {len(cameras)} cameras"
        )
    if any(camera.model is not CameraModel.PINHOLE for camera in cameras):
        raise ValueError("expected PINHOLE cameras: undistort pictures first, what is left is found here")
    prior = _PRIOR.clone()
    prior[3:6] /= metres_per_unit
    cameras = [camera.to("cpu") for camera in cameras]
    stage = _Stage(start, side, round(side / spacing))
    answer = _Answer(torch.zeros(3).double(), cameras)
    for size, step, reach in _ROUNDS:
        found = _all_matches(pictures, answer, stage, size, step, reach)
        if (count := sum(len(each.pixels) for each in found)) < _LEAST:
            raise CaptureError(
                f"expected pictures that share a texture on the plane, got {count} matching windows (at least"
                f" {_LEAST}); check the cameras' poses and axes, and that the plane is where it is sought"
            )
        answer = _adjusted(found, cameras, stage, answer.plane, sightings, prior)
    return _plane(answer, stage)


@dataclass(frozen=True, eq=False)
class _Stage:
    """Where the plane is looked at."""

    start: Float[Tensor, "4 4"]
    side: float
    samples: int

    def places(self, spots: Float[Tensor, "m 2"], plane: Float[Tensor, "3"]) -> Float[Tensor, "m 3"]:
        """Points in space of columns and rows of the square, on a plane of a height and two slopes."""
        xy = ((spots.double() + 0.5) / self.samples - 0.5) * self.side
        height = plane[0] + xy @ plane[1:]
        return transform_points(self.start.double(), torch.cat([xy, height[:, None]], dim=1)).float()


@dataclass(frozen=True, eq=False)
class _Answer:
    """What a round knows: the plane's height and slopes, cameras, residuals of matches and its covariance."""

    plane: Float[Tensor, "3"]
    cameras: list[Camera]
    residuals: Float[Tensor, "m 2"] = field(default_factory=lambda: torch.zeros(0, 2))
    covariance: Float[Tensor, "3 3"] = field(default_factory=lambda: torch.eye(3))


def _all_matches(
    pictures: Sequence[Tensor], now: _Answer, stage: _Stage, size: int, step: int, reach: int
) -> list[_Matches]:
    laid = [_laid(picture, camera, now.plane, stage) for picture, camera in zip(pictures, now.cameras)]
    found = []
    for a, b in combinations(range(len(laid)), 2):
        spots, shifts = _matched(laid[a], laid[b], size, step, reach)
        first, second = stage.places(spots, now.plane), stage.places(spots + shifts, now.plane)
        pixels, others = now.cameras[a].project(first)[0], now.cameras[b].project(second)[0]
        found.append(_Matches(a, b, pixels, others))
    return found


def _laid(
    picture: Tensor, camera: Camera, plane: Tensor, stage: _Stage
) -> tuple[Float[Tensor, "3 s s"], Float[Tensor, "s s"]]:
    """A picture as seen on the plane, its slow shading taken out, and which samples it shows."""
    samples = stage.samples
    grid = torch.arange(samples).double()
    y, x = torch.meshgrid(grid, grid, indexing="ij")
    points = stage.places(torch.stack([x, y], dim=-1).reshape(-1, 2), plane)
    pixels, depth = camera.project(points)
    size = pixels.new_tensor([camera.width, camera.height])
    where = (pixels / size * 2 - 1).reshape(1, samples, samples, 2)
    seen = (where.abs().amax(-1) < 1)[0] & (depth.reshape(samples, samples) > 0)
    image = picture.detach().cpu().float().movedim(-1, 0)[None]
    values = grid_sample(image, where.float(), align_corners=False, padding_mode="border")[0]
    luma = (values * torch.tensor(_LUMA)[:, None, None]).sum(0, keepdim=True)
    # Colour differences tell a tape from a table where brightness, with its gloss, does not.
    channels = torch.cat([luma, values[2:] - luma, values[:1] - luma])
    slow = avg_pool2d(channels[None], 65, 1, 32, count_include_pad=False)[0]
    return channels - slow, seen.float()


def _matched(
    a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor], size: int, step: int, reach: int
) -> tuple[Float[Tensor, "m 2"], Float[Tensor, "m 2"]]:
    """Middles of windows of one laid picture, and how far they are shifted in another [samples]."""
    (one, seen_one), (two, seen_two) = a, b
    spots, shifts = [], []
    last = one.shape[-1] - size - reach
    for top in range(reach, last, step):
        for left in range(reach, last, step):
            here = slice(top, top + size), slice(left, left + size)
            around = slice(top - reach, top + size + reach), slice(left - reach, left + size + reach)
            if float(seen_one[here].mean()) < 1 or float(seen_two[around].mean()) < 1:
                continue
            shift = _shift(one[:, *here], two[:, *around], reach)
            if shift is not None:
                spots.append([left + size / 2 - 0.5, top + size / 2 - 0.5])
                shifts.append(shift)
    return torch.tensor(spots).double().reshape(-1, 2), torch.tensor(shifts).double().reshape(-1, 2)


def _shift(
    window: Float[Tensor, "3 s s"], area: Float[Tensor, "3 t t"], reach: int
) -> tuple[float, float] | None:
    """Where a window is found in a larger area, from its middle; None if nowhere, or at several places."""
    size = window.shape[-1]
    window = window - window.mean((1, 2), keepdim=True)
    ones = torch.ones(3, 1, size, size) / size**2
    mean = conv2d(area[None], ones, groups=3)[0]
    square = conv2d(area[None] ** 2, ones, groups=3)[0]
    spread = (square - mean**2).clamp(min=0).sum(0)
    own = float(window.square().mean((1, 2)).sum())
    if own < _CONTRAST**2 or float(spread.min()) < _CONTRAST**2:
        return None
    product = conv2d(area[None], window[None])[0, 0] / size**2
    alike = product / (spread * own).sqrt()
    best = int(alike.argmax())
    row, column = divmod(best, alike.shape[1])
    if not (0 < row < 2 * reach and 0 < column < 2 * reach) or float(alike.max()) < _ALIKE:
        return None
    rest = alike.clone()
    rest[max(0, row - _PEAK) : row + _PEAK + 1, max(0, column - _PEAK) : column + _PEAK + 1] = -1
    if float(rest.max()) > _RIVAL * float(alike.max()):
        return None
    dy = _vertex(alike[row - 1 : row + 2, column])
    dx = _vertex(alike[row, column - 1 : column + 2])
    return column - reach + dx, row - reach + dy


def _vertex(values: Float[Tensor, "3"]) -> float:
    """Where the parabola through three values is highest, from the middle one."""
    low, middle, high = values.tolist()
    return 0.5 * (low - high) / min(low - 2 * middle + high, -1e-9)


def _adjusted(
    found: Sequence[_Matches],
    cameras: Sequence[Camera],
    stage: _Stage,
    plane: Tensor,
    sightings: Sequence[Sighting],
    prior: Float[Tensor, "10"],
) -> _Answer:
    """The plane and cameras that explain matches and sightings best."""
    from scipy.optimize import least_squares

    count = len(prior)

    def residuals(x: Tensor) -> tuple[Tensor, Tensor]:
        changes = x[3:].reshape(-1, count)
        rig = [_Corrected(camera, change) for camera, change in zip(cameras, changes)]
        across = torch.cat([_transfer(each, rig, stage.start, x[:3]).flatten() for each in found])
        bodies = [
            (rig[s.camera].seen(s.points) - rig[s.camera].ideal(s.pixels)) / s.error_px for s in sightings
        ]
        return across, torch.cat([*map(torch.flatten, bodies), (changes / prior).flatten()])

    def cost(x: Any) -> Any:
        across, rest = residuals(torch.as_tensor(x))
        # Windows on things that stand on the plane do not match it: their pull is bounded.
        scaled = across / _MATCH_PX
        bounded = scaled.sign() * (2 * ((1 + scaled**2).sqrt() - 1)).sqrt()
        return torch.cat([bounded, rest]).numpy()

    first = torch.cat([plane, torch.zeros(count * len(cameras)).double()])
    answer = least_squares(cost, first.numpy())
    solved, slopes = torch.from_numpy(answer.x), torch.from_numpy(answer.jac)
    covariance = torch.linalg.inv(slopes.T @ slopes)[:3, :3]
    rig = [_Corrected(camera, change) for camera, change in zip(cameras, solved[3:].reshape(-1, count))]
    across = residuals(solved)[0].reshape(-1, 2)
    return _Answer(solved[:3], [each.camera() for each in rig], across, covariance)


class _Corrected:
    """A camera turned about itself, shifted in its own axes, and with another lens; in float64."""

    def __init__(self, camera: Camera, change: Float[Tensor, "10"]) -> None:
        self._camera, self.k1, self.zoom = camera, change[6], 1 + change[7]
        self.pose = camera.world_from_camera.double() @ pose_from(
            rotation_from_rotvec(change[:3]), change[3:6]
        )
        self.focal = camera.K.double().diagonal()[:2]
        self.point = camera.K[:2, 2].double() + change[8:]

    def ideal(self, pixels: Float[Tensor, "m 2"]) -> Float[Tensor, "m 2"]:
        """Slopes x/z and y/z of pixels' rays: the lens undone to first order, in which k1 is small."""
        slopes = (pixels.double() - self.point) / self.focal / self.zoom
        return slopes * (1 - self.k1 * slopes.square().sum(-1, keepdim=True)) * self.focal

    def seen(self, points: Float[Tensor, "m 3"]) -> Float[Tensor, "m 2"]:
        """Where points would be in a picture without errors of the lens [px from the principal point]."""
        local = transform_points(invert_pose(self.pose), points.double())
        return local[:, :2] / local[:, 2:] * self.focal

    def camera(self) -> Camera:
        """The corrected camera."""
        K = self._camera.K.double().clone()
        K[:2, :2] *= self.zoom
        K[:2, 2] = self.point
        distortion = (float(self.k1), 0.0, 0.0, 0.0)
        return replace(
            self._camera,
            world_from_camera=self.pose.float(),
            K=K.float(),
            model=CameraModel.OPENCV,
            distortion=distortion,
        )


def _transfer(
    each: _Matches, rig: Sequence[_Corrected], start: Tensor, plane: Tensor
) -> Float[Tensor, "m 2"]:
    """[px] How far matches are off, when pixels go over the plane from one picture to the other."""
    first, second = rig[each.first], rig[each.second]
    stage_from_camera = invert_pose(start.double()) @ first.pose
    slopes = first.ideal(each.pixels) / first.focal
    rays = torch.cat([slopes, torch.ones_like(slopes[:, :1])], dim=1) @ stage_from_camera[:3, :3].T
    normal = torch.cat([-plane[1:], plane.new_ones(1)])
    origin = stage_from_camera[:3, 3]
    along = (plane[0] - origin @ normal) / (rays @ normal)
    points = transform_points(start.double(), origin + along[:, None] * rays)
    return second.seen(points) - second.ideal(each.others)


def _plane(answer: _Answer, stage: _Stage) -> PhotoPlane:
    plane, covariance = answer.plane, answer.covariance
    steep = math.sqrt(1 + float(plane[1:].square().sum()))
    normal = stage.start[:3, :3].double() @ (torch.cat([-plane[1:], plane.new_ones(1)]) / steep)
    middle = torch.cat([plane.new_zeros(2), plane[:1]])
    middle = transform_points(stage.start.double(), middle[None])[0]
    return PhotoPlane(
        normal,
        float(normal @ middle),
        tuple(answer.cameras),
        len(answer.residuals),
        float(answer.residuals.square().sum(1).mean().sqrt()),
        math.sqrt(float(covariance[0, 0])) / steep,
        math.sqrt(float(covariance[1, 1] + covariance[2, 2])) / steep,
        middle,
    )
