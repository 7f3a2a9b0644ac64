"""The path of cameras that walk through a scene, smoothed, there and back."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.pose import pose_from, quats_from_rotation, rotation_from_quats

#: Length of a path: radians turned, plus metres gone over the distance of the scene. Shaking is smoothed over
#: this much of it, and the eye follows this much in one frame.
_SMOOTH, _FASTEST = 0.12, 0.02
#: A stretch of at least so many frames' worth is shown, however short the video.
_FRAMES = 90
_FINEST, _MOST_SAMPLES = 0.01, 2000
#: Cameras this close along no path but in space and direction support a view.
_NEAR = 0.4


def walk_poses(
    poses: Float[Tensor, "c 4 4"], points: Float[Tensor, "m 3"], up: Float[Tensor, "3"], frames: int
) -> Float[Tensor, "f 4 4"]:
    """There and back along the smoothed path of the cameras, at rest at both ends; the horizon stays level.

    Of a path that is too long for the eye to follow in so few frames, the stretch is taken near which most
    cameras are.

    Args:
        poses: `world_from_camera` in the order they were taken; float64.
        points: of the scene; they tell how far away it is.
        up: unit direction against gravity.
        frames: of the video.
    """
    reach = _reach(poses, points)
    path = _smoothed(_resampled(poses, reach), reach, up)
    along = _lengths(path, reach)
    longest = _FASTEST * max(frames, _FRAMES) / math.pi
    start, length = _best_stretch(path, along, longest, poses, reach)
    phase = 2 * math.pi * torch.arange(frames, dtype=torch.float64) / frames
    return _at(path, along, start + length * (1 - phase.cos()) / 2, up)


def _reach(poses: Tensor, points: Tensor) -> float:
    """How far away the scene is [unit]: median distance of the points, else the extent of the walk."""
    centers = poses[:, :3, 3]
    if len(points) >= 4:
        return max(1e-9, float((points - centers.mean(0)).norm(dim=-1).median()))
    return float((centers - centers.mean(0)).norm(dim=-1).max()) or 1.0


def _lengths(poses: Float[Tensor, "c 4 4"], reach: float) -> Float[Tensor, " c"]:
    """How far along the path each pose is, turning included; strictly ascending."""
    gone = torch.diff(poses[:, :3, 3], dim=0).norm(dim=-1) / reach
    turned = _angles(poses[:-1], poses[1:])
    return torch.cat([torch.zeros(1).double(), (gone + turned + 1e-9).cumsum(0)])


def _angles(a: Float[Tensor, "*#b 4 4"], b: Float[Tensor, "*#b 4 4"]) -> Float[Tensor, "*b"]:
    """[rad] between the orientations of two poses."""
    # The chord between rotation matrices is sqrt(8) sin(angle / 2).
    chord = (a[..., :3, :3] - b[..., :3, :3]).square().sum((-1, -2)).sqrt()
    return 2 * (chord / 8**0.5).clamp(max=1.0).asin()


def _resampled(poses: Tensor, reach: float) -> Float[Tensor, "s 4 4"]:
    """Poses at even steps of length along straight lines between the cameras."""
    along = _lengths(poses, reach)
    total = float(along[-1])
    count = min(_MOST_SAMPLES, 2 + math.ceil(total / _FINEST))
    return _between(poses, along, torch.linspace(0, total, count, dtype=torch.float64))


def _between(poses: Tensor, along: Tensor, wanted: Tensor) -> Tensor:
    """Interpolate linearly; orientations by quaternions on the shorter side (normalised)."""
    if len(poses) == 1:
        return poses.expand(len(wanted), 4, 4)
    right = torch.searchsorted(along, wanted).clamp(1, len(along) - 1)
    share = ((wanted - along[right - 1]) / (along[right] - along[right - 1])).clamp(0, 1)[:, None]
    quats = quats_from_rotation(poses[:, :3, :3])
    a, b = quats[right - 1], quats[right]
    b = torch.where((a * b).sum(-1, keepdim=True) < 0, -b, b)
    centers = poses[right - 1, :3, 3] * (1 - share) + poses[right, :3, 3] * share
    return pose_from(rotation_from_quats(a * (1 - share) + b * share), centers)


def _smoothed(poses: Tensor, reach: float, up: Tensor) -> Tensor:
    """Gaussian averages of places and directions along the path."""
    along = _lengths(poses, reach)
    weights = (-0.5 * ((along[:, None] - along) / _SMOOTH).square()).softmax(dim=1)
    axes = torch.einsum("st,tij->sij", weights, poses[:, :3, :3])
    return _facing(weights @ poses[:, :3, 3], axes[..., 2], -axes[..., 1], up)


def _facing(eyes: Tensor, forward: Tensor, upper: Tensor, up: Tensor) -> Tensor:
    """Poses with a level horizon; towards straight up or down the cameras' own upper edge takes over."""
    forward = torch.nn.functional.normalize(forward, dim=-1)
    steep = (forward @ up)[:, None].square()
    hint = (1 - steep) * up + steep * torch.nn.functional.normalize(upper, dim=-1)
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, hint), dim=-1)
    down = torch.linalg.cross(forward, right)
    return pose_from(torch.stack([right, down, forward], dim=-1), eyes)


def _best_stretch(
    path: Tensor, along: Tensor, longest: float, poses: Tensor, reach: float
) -> tuple[float, float]:
    """Start and length of the stretch of the path, at most `longest`, that most cameras are near."""
    total = float(along[-1])
    if total <= longest:
        return 0.0, total
    gone = torch.cdist(path[:, :3, 3], poses[:, :3, 3]) / reach
    near = gone + _angles(path[:, None], poses[None]) < _NEAR
    support = torch.cat([torch.zeros(1).double(), near.double().sum(1).cumsum(0)])
    starts = along[along <= total - longest]
    last = torch.searchsorted(along, starts + longest)
    first = torch.arange(len(starts))
    best = ((support[last] - support[first]) / (last - first)).argmax()
    return float(starts[best]), longest


def _at(path: Tensor, along: Tensor, wanted: Tensor, up: Tensor) -> Tensor:
    poses = _between(path, along, wanted)
    return _facing(poses[:, :3, 3], poses[:, :3, 2], -poses[:, :3, 1], up)
