"""A path for the turning picture of a scene that stays where the capture's cameras were."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.camera import Camera, CameraModel
from gaussworld.capture import Capture
from gaussworld.gaussians import Gaussians
from gaussworld.pose import look_at

from .walk import walk_poses

#: Share of the pictures that must show the pivot for a turn about it.
_LOOKING = 0.8
#: [rad] A ring of cameras with no wider gap than this is turned round in full; a narrower arc is no arc.
_WIDEST_GAP, _NARROWEST_ARC = math.radians(75), math.radians(8)
#: Mean squared sine of the angles between optical axes (here of 2 degrees) below which they are parallel.
_PARALLEL = 1e-3
#: [rad] Least and largest width of the kernels over angles; two cameras' spacing, if that is between.
_SMOOTH = math.radians(12), math.radians(30)
#: How much of the covered arc a swing uses.
_SWING = 0.9
#: [rad] The steepest view; beyond, the horizon spins.
_STEEPEST = math.radians(80)
#: [rad / frame] A swing is never faster than this, in a video of at least so many frames.
_FASTEST, _FRAMES = math.radians(2.5), 90
#: Points of a loop between which its frames are spaced.
_FINE = 2000
#: Gaussians that stand in for sparse points.
_POINTS = 2000
#: The widest field of view [rad] that a fisheye's focal length may ask of a picture without distortion.
_WIDEST_VIEW = math.radians(100)


def scene_tour(
    capture: Capture,
    gaussians: Gaussians,
    up: Float[Tensor, "3"],
    frames: int,
    width: int | None = None,
    height: int | None = None,
) -> list[Camera]:
    """The path of a reconstructed scene's turning picture, see `turning_path`.

    Args:
        capture: the scene's; Gaussians stand in where it brings no points.
        gaussians: in the capture's frame.
        up: the direction against gravity in that frame.
        frames: of the video.
        width: [px] of the video; with height, default: `video_size`.
        height: [px]
    """
    if not len(capture.points):
        rows = torch.linspace(0, len(gaussians) - 1, min(len(gaussians), _POINTS)).long()
        some = gaussians.to("cpu").select(rows)
        capture = replace(capture, points=some.means, colors=some.rgb.clamp(0, 1))
    usual = video_size(capture)
    return turning_path(capture, up, frames, width or usual[0], height or usual[1])


def turning_path(
    capture: Capture, up: Float[Tensor, "3"], frames: int, width: int, height: int
) -> list[Camera]:
    """Cameras of a video that shows the scene from where it was seen, smoothly and in a closed loop.

    Cameras all around what they look at give one full turn about it, at their own distances and elevations;
    cameras on one side of it a swing to and fro; cameras that walk through a scene their own path, smoothed,
    there and back, or as much of it as the eye can follow.

    Args:
        capture: its cameras, in the order they were taken, and points, where there are any.
        up: the direction against gravity in the capture's frame.
        frames: of the video.
        width: [px] of the video, see `video_size`.
        height: [px] of the video.

    Raises:
        ValueError: no camera, no frame, or an up direction of length zero.
    """
    if not len(capture) or frames < 1:
        raise ValueError(f"expected cameras and frames, got {len(capture)} cameras and frames={frames}")
    if not float(up.norm()) > 0:
        raise ValueError("expected an up direction of non-zero length, got 0 0 0")
    cameras = [frame.camera.to("cpu") for frame in capture.frames]
    up = torch.nn.functional.normalize(up.detach().cpu().double(), dim=0)
    points = capture.points.detach().cpu().double()
    ring = _ring(cameras, points, up)
    poses = walk_poses(_poses(cameras), points, up, frames) if ring is None else ring.path(frames)
    K = _lens(cameras, width, height)
    return [Camera(pose.float(), K, width, height) for pose in poses]


def video_size(capture: Capture, longest: int = 640) -> tuple[int, int]:
    """Width and height [px] of a video with the proportions of the capture's pictures; both even, for codecs.

    Raises:
        ValueError: there is no camera, or `longest` is below 2.
    """
    if not len(capture) or longest < 2:
        raise ValueError(f"expected cameras and 2 px or more, got {len(capture)} cameras and {longest} px")
    aspect = _median([frame.camera.width / frame.camera.height for frame in capture.frames])
    width, height = longest * min(1.0, aspect), longest * min(1.0, 1 / aspect)
    return max(2, 2 * round(width / 2)), max(2, 2 * round(height / 2))


@dataclass(frozen=True, eq=False)
class _Ring:
    """Where cameras stand about what they look at: azimuths, elevations, distances."""

    pivot: Float[Tensor, "3"]
    frame: Float[Tensor, "3 3"]
    """Columns: azimuth 0, azimuth 90 degrees, up."""
    azimuths: Float[Tensor, " c"]
    """[rad] ascending; the covered arc begins at the first and ends at the last."""
    elevations: Float[Tensor, " c"]
    """[rad]"""
    distances: Float[Tensor, " c"]
    """[unit of the poses]"""
    first: Float[Tensor, "3"]
    """Where the first camera was: people begin with the view they like."""

    @property
    def arc(self) -> float:
        return float(self.azimuths[-1] - self.azimuths[0])

    def path(self, frames: int) -> Float[Tensor, "f 4 4"]:
        """A closed loop at even speed: a full turn where the ring has no wide gap, else a swing along it."""
        phase = torch.linspace(0, 2 * math.pi, _FINE + 1, dtype=torch.float64)
        eyes = self._eyes(phase, frames)
        gone = torch.nn.functional.pad(torch.diff(eyes, dim=0).norm(dim=-1).cumsum(0), (1, 0))
        wanted = gone[-1] * torch.arange(frames, dtype=torch.float64) / frames
        right = torch.searchsorted(gone, wanted, right=True).clamp(1, _FINE)
        share = (wanted - gone[right - 1]) / (gone[right] - gone[right - 1]).clamp(min=1e-12)
        eyes = eyes[right - 1] * (1 - share)[:, None] + eyes[right] * share[:, None]
        eyes = eyes.roll(-int((eyes - self.first).norm(dim=-1).argmin()), 0)
        return look_at(eyes, self.pivot.expand_as(eyes), self.frame[:, 2])

    def _eyes(self, phase: Float[Tensor, " f"], frames: int) -> Float[Tensor, "f 3"]:
        if 2 * math.pi - self.arc <= _WIDEST_GAP:
            return self._near_cameras(self.azimuths[0] + phase, torch.zeros_like(phase))
        fastest = _FASTEST * max(frames, _FRAMES) / 4
        amplitude = min(0.5 * _SWING * self.arc, fastest)
        middle = float(self.azimuths[0] + self.azimuths[-1]) / 2
        return self._near_cameras(middle + amplitude * phase.sin(), phase.cos())

    def _near_cameras(self, azimuths: Float[Tensor, " f"], bob: Float[Tensor, " f"]) -> Float[Tensor, "f 3"]:
        """Places at these azimuths, as far and as high as cameras were.

        Kernel regression (Nadaraya 1964, Watson 1964) of the elevations over azimuth tells the middle height;
        `bob` standard deviations from it is aimed at. A second one, over both angles, draws that to the
        cameras which were about there: rings at two heights are not averaged into none.
        """
        width = min(max(2 * self.arc / len(self.azimuths), _SMOOTH[0]), _SMOOTH[1])
        about = ((azimuths[:, None] - self.azimuths).cos() - 1) / width**2
        weights = about.softmax(dim=1)
        level = weights @ self.elevations
        spread = (weights * (self.elevations - level[:, None]).square()).sum(1).sqrt()
        aim = (level + bob * spread)[:, None]
        weights = (about + ((aim - self.elevations).cos() - 1) / width**2).softmax(dim=1)
        elevations = (weights @ self.elevations).clamp(-_STEEPEST, _STEEPEST)
        distances = (weights @ self.distances.log()).exp()
        around, sideways = elevations.cos() * azimuths.cos(), elevations.cos() * azimuths.sin()
        offsets = torch.stack([around, sideways, elevations.sin()], dim=-1) @ self.frame.T
        return self.pivot + distances[:, None] * offsets


def _ring(cameras: Sequence[Camera], points: Tensor, up: Float[Tensor, "3"]) -> _Ring | None:
    """The ring of the cameras that look at a common pivot; None where they do not, or from one side only."""
    for pivot in _pivots(cameras, points):
        looking = [camera for camera in cameras if _shows(camera, pivot)]
        if len(looking) >= max(2, _LOOKING * len(cameras)):
            ring = _about(pivot, _poses(looking)[:, :3, 3], up)
            if ring.arc >= _NARROWEST_ARC:
                return ring
    return None


def _pivots(cameras: Sequence[Camera], points: Tensor) -> list[Float[Tensor, "3"]]:
    """Where optical axes meet; where the points are, for cameras side by side whose axes do not meet."""
    poses = _poses(cameras)
    axes, centers = poses[:, :3, 2], poses[:, :3, 3]
    across = torch.eye(3, dtype=torch.float64) - axes[:, :, None] * axes[:, None, :]
    mean, pivots = across.mean(0), []
    if float(torch.linalg.eigvalsh(mean)[0]) > _PARALLEL:
        pivots.append(torch.linalg.solve(mean, (across @ centers[..., None])[..., 0].mean(0)))
    if len(points) >= 4:
        pivots.append(points.median(dim=0).values)
    return pivots


def _about(pivot: Tensor, centers: Float[Tensor, "c 3"], up: Float[Tensor, "3"]) -> _Ring:
    frame = look_at(torch.zeros_like(up), up, torch.eye(3, dtype=up.dtype)[up.abs().argmin()])[:3, :3]
    across = (centers - pivot) @ frame
    azimuths = torch.atan2(across[:, 1], across[:, 0])
    order = azimuths.argsort()
    # Begin after the widest gap, so that azimuths ascend along the arc that is covered.
    gaps = torch.diff(azimuths[order], append=azimuths[order][:1] + 2 * math.pi)
    order = order.roll(-(int(gaps.argmax()) + 1))
    azimuths = azimuths[order]
    azimuths = azimuths + 2 * math.pi * (azimuths < azimuths[0])
    distances = across[order].norm(dim=-1).clamp(min=1e-9)
    return _Ring(pivot, frame, azimuths, (across[order, 2] / distances).asin(), distances, centers[0])


def _shows(camera: Camera, pivot: Tensor) -> bool:
    pixels, depths = camera.undistorted().project(pivot[None].float())
    x, y = pixels[0].tolist()
    return float(depths[0]) > 0 and 0 <= x <= camera.width and 0 <= y <= camera.height


def _poses(cameras: Sequence[Camera]) -> Float[Tensor, "c 4 4"]:
    return torch.stack([camera.world_from_camera.detach() for camera in cameras]).double()


def _lens(cameras: Sequence[Camera], width: int, height: int) -> Float[Tensor, "3 3"]:
    """A centred pinhole lens that shows no more, across or down, than the cameras' median picture."""
    across = _median([float(camera.K[0, 0]) / camera.width for camera in cameras]) * width
    down = _median([float(camera.K[1, 1]) / camera.height for camera in cameras]) * height
    focal = max(across, down)
    if any(camera.model is CameraModel.FISHEYE for camera in cameras):
        focal = max(focal, max(width, height) / 2 / math.tan(_WIDEST_VIEW / 2))
    return torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])


def _median(values: Sequence[float]) -> float:
    return float(torch.tensor(values, dtype=torch.float64).median())
