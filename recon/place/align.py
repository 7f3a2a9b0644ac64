"""Which way is up in a capture, and moving a capture into another frame without losing the way back."""

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.capture import Capture, Frame
from gaussworld.errors import CaptureError, ConfigError
from gaussworld.pose import check_rigid, pose_from, rotation_from_rotvec, transform_points

from .planes import find_planes

Vector = tuple[float, float, float]

_AXES: dict[str, Vector] = {
    "+x": (1.0, 0.0, 0.0), "+y": (0.0, 1.0, 0.0), "+z": (0.0, 0.0, 1.0),
    "-x": (-1.0, 0.0, 0.0), "-y": (0.0, -1.0, 0.0), "-z": (0.0, 0.0, -1.0),
}  # fmt: skip
#: [rad] standard deviations: how far people roll a camera they hold level, how far they pitch it, and how far
#: floors, tables and walls are from level and upright.
_ROLL, _PITCH, _BUILT = math.radians(4), math.radians(25), math.radians(0.25)
#: Pictures of one walk err alike: no more than this many count as independent.
_INDEPENDENT = 10
#: [rad] A plane this close to level is a floor or a table; one this close to upright is a wall.
_LEVEL, _UPRIGHT = math.radians(20), math.radians(12)
#: Thickness of a plane of points, as a share of their distance from the cameras.
_THICKNESS = 0.01
#: [rad] The error at which confidence is one half.
_HALF_SURE = math.radians(10)


@dataclass(frozen=True)
class Up:
    """The direction against gravity, and how we know."""

    direction: Vector
    """Unit vector in the capture's frame."""
    source: Literal["cameras", "plane", "given"]
    """How the cameras are held; that, and floors, tables or walls among the points; somebody said so."""
    confidence: float
    """Range [0, 1]: 1 / (1 + (e / 10 degrees)²) of the expected error e."""

    def vector(self) -> Float[Tensor, "3"]:
        """`direction` as a tensor."""
        return torch.tensor(self.direction)


def up_from(text: str, capture: Capture) -> Up | None:
    """What a user's `--up` means: found out (auto), nothing asked (keep), or an axis of the input's frame.

    Raises:
        ConfigError: neither auto, keep, nor one of +x +y +z -x -y -z.
        CaptureError: auto was asked of a capture without frames.
    """
    if text == "keep":
        return None
    if text == "auto":
        return estimate_up(capture)
    if text not in _AXES:
        raise ConfigError(f"--up: expected auto, keep or one of {' '.join(_AXES)}, got {text!r}")
    return Up(_AXES[text], "given", 1.0)


def estimate_up(capture: Capture, seed: int = 0) -> Up:
    """Find the direction against gravity from the cameras, made exact by level and upright planes.

    People pitch a camera freely but hardly roll it, so that its right axis stays level: up is the direction
    most nearly at right angles to all right axes. That holds for cameras that look straight down, too.
    Floors, tables and walls among the points, if close to that answer, then decide the last degrees.

    Args:
        capture: at least one frame; points help.
        seed: of the search for planes.

    Raises:
        CaptureError: there is no frame.
    """
    if not capture.frames:
        raise CaptureError("expected at least one camera to find out which way is up, got none")
    poses = torch.stack([frame.camera.world_from_camera.cpu() for frame in capture.frames]).double()
    evidence = _cameras_evidence(poses)
    up, error = _most_likely(evidence, poses)
    planes = find_planes(
        capture.points,
        _THICKNESS * _reach(capture, poses),
        lambda normals: _level(normals, up) | _wall(normals, up),
        seed,
    )
    for plane in planes:
        sign = -1.0 if bool(_level(plane.normal[None], up)[0]) else 1.0
        evidence = evidence + sign / _BUILT**2 * torch.outer(plane.normal, plane.normal)
    if planes:
        up, error = _most_likely(evidence, poses)
    x, y, z = up.tolist()
    return Up((x, y, z), "plane" if planes else "cameras", 1 / (1 + (error / _HALF_SURE) ** 2))


def upright(capture: Capture, up: Up) -> tuple[Capture, Float[Tensor, "4 4"]]:
    """The capture turned about its origin, by the smallest turn that brings up to +z.

    Returns:
        The capture, and `new_from_old`: hand it to `Gaussians.transformed` to bring fitted Gaussians along.
    """
    new_from_old = _turn_to_z(up.vector())
    return reframed(capture, new_from_old), new_from_old


def reframed(capture: Capture, new_from_old: Float[Tensor, "4 4"], scale: float = 1.0) -> Capture:
    """The same capture in another frame: positions times `scale`, then the rigid `new_from_old`.

    Cameras, points and depth in memory move; depth files stay in millimetres. `metres_per_unit` and
    `world_from_source` follow, so that nothing is lost.

    Raises:
        ValueError: `new_from_old` is not rigid or `scale` is not positive.
    """
    check_rigid(new_from_old, "new_from_old")
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"expected a positive scale, got {scale}")
    move = new_from_old.detach().cpu().double()
    points = transform_points(move.to(capture.points.device), capture.points.double() * scale)
    source = capture.world_from_source
    stretch = torch.diag(torch.tensor([scale, scale, scale, 1.0], dtype=torch.float64))
    return replace(
        capture,
        frames=tuple(_reframed_frame(frame, move, scale) for frame in capture.frames),
        points=points.to(capture.points),
        metres_per_unit=None if capture.metres_per_unit is None else capture.metres_per_unit / scale,
        world_from_source=(move @ stretch @ source.double().cpu()).to(source),
    )


def _reframed_frame(frame: Frame, move: Tensor, scale: float) -> Frame:
    return replace(
        frame,
        camera=_reframed_camera(frame.camera, move, scale),
        depth=frame.depth * scale if isinstance(frame.depth, Tensor) else frame.depth,
        depth_camera=frame.depth_camera and _reframed_camera(frame.depth_camera, move, scale),
    )


def _reframed_camera(camera: Camera, move: Tensor, scale: float) -> Camera:
    pose = camera.world_from_camera.detach().cpu().double()
    moved = move @ pose_from(pose[:3, :3], pose[:3, 3] * scale)
    return replace(camera, world_from_camera=moved.to(camera.world_from_camera))


def _turn_to_z(up: Float[Tensor, "3"]) -> Float[Tensor, "4 4"]:
    """The rotation by the smallest angle that takes `up` to +z, about an axis in the x-y plane."""
    x, y, z = torch.nn.functional.normalize(up.double(), dim=0).tolist()
    level = math.hypot(x, y)
    # Upside down, any level axis will do.
    axis = torch.tensor([y, -x, 0.0]) / level if level > 1e-12 else torch.tensor([1.0, 0.0, 0.0])
    rotation = rotation_from_rotvec(axis.double() * math.atan2(level, z))
    return pose_from(rotation, torch.zeros(3, dtype=torch.float64)).float()


def _cameras_evidence(poses: Float[Tensor, "c 4 4"]) -> Float[Tensor, "3 3"]:
    """E in the negative log-likelihood uᵀ E u / 2 of an up direction u, from roll and, weakly, from pitch.

    Cameras that somebody turned on their side are outliers, which reweighting takes out (Geman and McClure).
    """
    rights, upwards = poses[:, :3, 0], -poses[:, :3, 1].mean(0)
    weights = torch.ones(len(poses), dtype=poses.dtype)
    count, roll = min(len(poses), _INDEPENDENT), _ROLL
    evidence = torch.zeros(3, 3, dtype=poses.dtype)
    for _ in range(20):
        scatter = (weights[:, None] * rights).T @ rights / weights.sum()
        evidence = count / roll**2 * scatter - torch.outer(upwards, upwards) / _PITCH**2
        up = torch.linalg.eigh(evidence).eigenvectors[:, 0]
        rolls = rights @ up
        roll = max(_ROLL, 1.5 * float(rolls.abs().median()))
        weights = (1 + (rolls / (2 * roll)).square()) ** -2
    return evidence


def _most_likely(evidence: Tensor, poses: Tensor) -> tuple[Tensor, float]:
    """The up direction of least uᵀ E u, and how far off it may be [rad]."""
    values, vectors = torch.linalg.eigh(evidence)
    up = vectors[:, 0]
    error = float((1 / (values[1:] - values[0]).clamp(min=1e-3)).sum().sqrt())
    against, forward = float((-poses[:, :3, 1] @ up).mean()), float((poses[:, :3, 2] @ up).mean())
    # Cameras that look straight down or up have no upper edge; down is what people do.
    upside = against if abs(against) > 0.1 else -forward
    return (up if upside >= 0 else -up), error


def _level(normals: Float[Tensor, "p 3"], up: Float[Tensor, "3"]) -> Bool[Tensor, " p"]:
    return (normals @ up).abs() > math.cos(_LEVEL)


def _wall(normals: Float[Tensor, "p 3"], up: Float[Tensor, "3"]) -> Bool[Tensor, " p"]:
    return (normals @ up).abs() < math.sin(_UPRIGHT)


def _reach(capture: Capture, poses: Tensor) -> float:
    """Median distance [unit] of the points from the middle of the cameras."""
    if not len(capture.points):
        return 0.0
    return float((capture.points.cpu().double() - poses[:, :3, 3].mean(0)).norm(dim=-1).median())
