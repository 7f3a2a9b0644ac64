"""`Camera`: one view with OpenCV axes (x right, y down, z forward); projection, rays, distortion, size."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

import torch
from jaxtyping import Float
from torch import Tensor

from .pose import check_rigid, invert_pose, look_at, transform_points


class CameraModel(Enum):
    """How camera-space directions become pixels."""

    PINHOLE = "PINHOLE"
    OPENCV = "OPENCV"
    """Brown-Conrady, distortion k1 k2 p1 p2 k3 k4 k5 k6, the last four zero when left out."""
    FISHEYE = "FISHEYE"
    """Kannala-Brandt equidistant, distortion k1 k2 k3 k4; OpenCV's `fisheye`, COLMAP's OPENCV_FISHEYE."""


_DISTORTION_COUNTS = {CameraModel.PINHOLE: (0,), CameraModel.OPENCV: (4, 5, 8), CameraModel.FISHEYE: (4,)}


@dataclass(frozen=True, eq=False)
class Camera:
    """One calibrated view."""

    world_from_camera: Float[Tensor, "4 4"]
    """[m, or the capture's unit] rigid; columns: the camera's right, down and forward axes, its centre."""
    K: Float[Tensor, "3 3"]
    """[px] intrinsics; the centre of the first pixel lies at (0.5, 0.5)."""
    width: int
    height: int
    model: CameraModel = CameraModel.PINHOLE
    distortion: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if tuple(self.world_from_camera.shape) != (4, 4):
            raise ValueError(
                f"Camera.world_from_camera: expected shape (4, 4), got {tuple(self.world_from_camera.shape)}"
            )
        if tuple(self.K.shape) != (3, 3):
            raise ValueError(f"Camera.K: expected shape (3, 3), got {tuple(self.K.shape)}")
        if self.width < 1 or self.height < 1:
            raise ValueError(
                f"Camera: expected a width and height of at least 1 px, got {self.width}x{self.height}"
            )
        check_rigid(self.world_from_camera, "Camera.world_from_camera")
        (fx, skew, cx), (low, fy, cy), last = self.K.detach().tolist()
        if not all(map(math.isfinite, (fx, skew, cx, fy, cy))) or fx <= 0 or fy <= 0:
            raise ValueError(
                f"Camera.K: expected finite values and positive focal lengths, got fx={fx:g}, fy={fy:g}"
            )
        if skew != 0 or low != 0 or last != [0, 0, 1]:
            raise ValueError(
                f"Camera.K: expected rows fx 0 cx, 0 fy cy, 0 0 1 (no skew), got {self.K.detach().tolist()}"
            )
        counts = _DISTORTION_COUNTS[self.model]
        if len(self.distortion) not in counts:
            wanted = " or ".join(map(str, counts))
            raise ValueError(
                f"Camera.distortion: {self.model.value} expects {wanted} values, got {len(self.distortion)}"
            )
        if not all(map(math.isfinite, self.distortion)):
            raise ValueError(f"Camera.distortion: expected finite values, got {self.distortion}")

    @classmethod
    def pinhole(
        cls, world_from_camera: Float[Tensor, "4 4"], width: int, height: int, fov_deg: float
    ) -> "Camera":
        """An undistorted camera with the given vertical field of view [deg] and a centred principal point.

        Raises:
            ValueError: the field of view is not between 0 and 180 degrees.
        """
        if not 0 < fov_deg < 180:
            raise ValueError(f"expected a field of view between 0 and 180 degrees, got {fov_deg}")
        focal = 0.5 * height / math.tan(math.radians(fov_deg) / 2)
        K = world_from_camera.new_tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
        return cls(world_from_camera, K, width, height)

    @classmethod
    def looking_at(
        cls,
        eye: tuple[float, float, float],
        target: tuple[float, float, float],
        width: int = 640,
        height: int = 480,
        fov_deg: float = 50.0,
    ) -> "Camera":
        """A pinhole camera at `eye` [m] that looks at `target` with +z of the world upward in the picture."""
        return cls.pinhole(
            look_at(torch.tensor(eye).float(), torch.tensor(target).float()), width, height, fov_deg
        )

    @property
    def camera_from_world(self) -> Float[Tensor, "4 4"]:
        return invert_pose(self.world_from_camera)

    @property
    def center(self) -> Float[Tensor, "3"]:
        """The optical centre in the world frame [m]."""
        return self.world_from_camera[:3, 3]

    def to(self, device: torch.device | str) -> "Camera":
        return replace(self, world_from_camera=self.world_from_camera.to(device), K=self.K.to(device))

    def rescaled(self, width: int, height: int) -> "Camera":
        """The same view with another number of pixels; corners stay corners, pixel centres stay at +0.5."""
        K = self.K * self.K.new_tensor([[width / self.width], [height / self.height], [1.0]])
        return replace(self, K=K, width=width, height=height)

    def cropped(self, left: int, top: int, width: int, height: int) -> "Camera":
        """The view of a rectangle of this camera's pixels."""
        shift = torch.zeros_like(self.K)
        shift[0, 2], shift[1, 2] = left, top
        return replace(self, K=self.K - shift, width=width, height=height)

    def undistorted(self) -> "Camera":
        """The pinhole camera with the same pose, intrinsics and size."""
        return replace(self, model=CameraModel.PINHOLE, distortion=())

    def distort(self, points: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 2"]:
        """Camera-space points [m] to distorted image-plane coordinates (before K).

        OPENCV and FISHEYE follow the formulas of OpenCV's calib3d documentation. The fisheye model is defined
        for points beside and behind the camera too, up to an angle of pi.
        """
        x, y, z = points.unbind(-1)
        if self.model is CameraModel.FISHEYE:
            r2 = x * x + y * y
            on_axis = r2 <= 1e-16 * z * z
            r = torch.where(on_axis, torch.ones_like(r2), r2).sqrt()
            theta = torch.atan2(r, z)
            ratio = torch.where(on_axis, 1 / z.abs().clamp(min=1e-8), theta * self._radial(theta * theta) / r)
            return torch.stack([x * ratio, y * ratio], -1)
        plane = torch.stack([x / z, y / z], -1)
        if self.model is CameraModel.PINHOLE:
            return plane
        return plane * self._radial((plane * plane).sum(-1, keepdim=True)) + self._tangential(plane)

    def undistort(self, plane: Float[Tensor, "*b 2"], iterations: int = 20) -> Float[Tensor, "*b 3"]:
        """Distorted image-plane coordinates to unit directions in the camera frame; the inverse of `distort`.

        Coordinates that no direction reaches, beyond the edge of the lens, get a direction at that edge.
        """
        target = plane.double()
        if self.model is CameraModel.FISHEYE:
            bent = target.norm(dim=-1, keepdim=True)
            knots = torch.linspace(0, math.pi, 2049, dtype=target.dtype, device=target.device)
            theta = _solve_rising(lambda t: t * self._radial(t * t), bent, knots)
            ratio = torch.where(bent < 1e-12, torch.ones_like(bent), theta.sin() / bent.clamp(min=1e-12))
            return torch.cat([target * ratio, theta.cos()], -1).to(plane)
        flat = target if self.model is CameraModel.PINHOLE else self._undo_lens(target, iterations)
        directions = torch.cat([flat, torch.ones_like(flat[..., :1])], -1)
        return torch.nn.functional.normalize(directions, dim=-1).to(plane)

    def _radial(self, t2: Tensor) -> Tensor:
        """The factor on a point's radius (OPENCV) or angle (FISHEYE), given that radius or angle squared."""
        if self.model is CameraModel.FISHEYE:
            k1, k2, k3, k4 = self.distortion
            return 1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4)))
        k1, k2, _, _, k3, k4, k5, k6 = (*self.distortion, *(0.0,) * (8 - len(self.distortion)))
        return (1 + t2 * (k1 + t2 * (k2 + t2 * k3))) / (1 + t2 * (k4 + t2 * (k5 + t2 * k6)))

    def _tangential(self, plane: Tensor) -> Tensor:
        """The shift of undistorted image-plane points by a decentred OPENCV lens."""
        (x, y), (p1, p2) = plane.unbind(-1), self.distortion[2:4]
        r2 = x * x + y * y
        return torch.stack(
            [2 * p1 * x * y + p2 * (r2 + 2 * x * x), p1 * (r2 + 2 * y * y) + 2 * p2 * x * y], -1
        )

    def _undo_lens(self, target: Tensor, iterations: int) -> Tensor:
        """Invert an OPENCV lens: the radial part by table, then Newton steps for the tangential part."""
        bent = target.norm(dim=-1, keepdim=True)
        # Radii are tangents of angles off the axis: evenly spaced angles reach far out with few knots.
        knots = torch.linspace(0, 1.55, 2049, dtype=target.dtype, device=target.device).tan()
        radius = _solve_rising(lambda r: r * self._radial(r * r), bent, knots)
        flat = target * torch.where(bent < 1e-12, torch.ones_like(bent), radius / bent.clamp(min=1e-12))
        for _ in range(iterations if any(self.distortion[2:4]) else 0):
            step = self._newton_step(flat.detach(), target)
            flat = flat.detach() - step
            if not bool((step.abs() > 1e-12).any()):
                break
        return flat

    def _newton_step(self, flat: Tensor, target: Tensor) -> Tensor:
        """J^-1 (distort(flat) - target), and zero where the lens cannot be inverted."""
        (x, y), (p1, p2), h = flat.unbind(-1), self.distortion[2:4], 1e-6
        r2 = x * x + y * y
        radial = self._radial(r2)
        slope = (self._radial(r2 + h) - self._radial(r2 - h)) / h
        error_x, error_y = (flat * radial[..., None] + self._tangential(flat) - target).unbind(-1)
        xx = radial + slope * x * x + 2 * p1 * y + 6 * p2 * x
        xy = slope * x * y + 2 * p1 * x + 2 * p2 * y
        yy = radial + slope * y * y + 6 * p1 * y + 2 * p2 * x
        determinant = xx * yy - xy * xy
        step = torch.stack([yy * error_x - xy * error_y, xx * error_y - xy * error_x], -1)
        step = step / determinant.clamp(min=1e-9)[..., None]
        sound = (determinant > 1e-9) & (step.norm(dim=-1) < 0.5 * (1 + r2.sqrt()))
        return torch.where(sound[..., None], step, torch.zeros_like(step))

    def project(self, points: Float[Tensor, "m 3"]) -> tuple[Float[Tensor, "m 2"], Float[Tensor, " m"]]:
        """World points [m] to pixels and z-depths [m]; a depth ≤ 0 means behind the camera."""
        in_camera = transform_points(self.camera_from_world.to(points), points)
        pixels = self.distort(in_camera) @ self.K[:2, :2].to(points).T + self.K[:2, 2].to(points)
        return pixels, in_camera[..., 2]

    def directions(self, pixels: Float[Tensor, "*b 2"]) -> Float[Tensor, "*b 3"]:
        """Unit directions in the camera frame through pixel coordinates."""
        plane = (pixels - self.K[:2, 2].to(pixels)) @ torch.linalg.inv(self.K[:2, :2].to(pixels)).T
        return self.undistort(plane)

    def unproject(self, pixels: Float[Tensor, "m 2"], depths: Float[Tensor, " m"]) -> Float[Tensor, "m 3"]:
        """Pixels at z-depths [m] to world points [m]; the inverse of `project`."""
        directions = self.directions(pixels)
        return transform_points(
            self.world_from_camera.to(pixels), directions * (depths / directions[..., 2])[..., None]
        )

    def pixel_centers(self) -> Float[Tensor, "h w 2"]:
        """Coordinates (x, y) of all pixel centres [px]."""
        y = torch.arange(self.height, dtype=self.K.dtype, device=self.K.device) + 0.5
        x = torch.arange(self.width, dtype=self.K.dtype, device=self.K.device) + 0.5
        return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)

    def rays(self) -> tuple[Float[Tensor, "3"], Float[Tensor, "h w 3"]]:
        """The optical centre and a unit direction per pixel, in the world frame."""
        return self.center, self.directions(self.pixel_centers()) @ self.world_from_camera[:3, :3].T


def _solve_rising(bend: Callable[[Tensor], Tensor], target: Tensor, knots: Tensor) -> Tensor:
    """The t with bend(t) = target, on the first stretch of `knots` on which `bend` rises from bend(0) = 0.

    A table brackets the answer and Newton steps in the bracket finish it; unbracketed they leave the valid
    range of strong lenses. Differentiable in `target` through the last step.
    """
    values = bend(knots)
    last = max(1, int((values[1:] > values[:-1]).int().cumprod(0).sum()))
    right = torch.searchsorted(values[: last + 1], target.detach()).clamp(1, last)
    low, high, start, end = knots[right - 1], knots[right], values[right - 1], values[right]
    t, h = low + ((target.detach() - start) / (end - start)).clamp(0, 1) * (high - low), 1e-7
    for _ in range(3):
        t = t.detach()
        slope = (bend(t + h) - bend(t - h)) / (2 * h)
        t = (t - (bend(t) - target) / slope.clamp(min=1e-9)).clamp(low, high)
    return t
