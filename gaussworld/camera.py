"""`Camera`: one view with OpenCV axes (x right, y down, z forward); projection, rays, distortion, rescaling."""

import math
from dataclasses import dataclass, replace
from enum import Enum

import torch
from jaxtyping import Float
from torch import Tensor

from .pose import invert_pose, look_at, transform_points


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
    """[m, or the capture's unit] rigid pose; columns are the camera's right, down and forward axes and its centre."""
    K: Float[Tensor, "3 3"]
    """[px] intrinsics; the centre of the first pixel lies at (0.5, 0.5)."""
    width: int
    height: int
    model: CameraModel = CameraModel.PINHOLE
    distortion: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if tuple(self.world_from_camera.shape) != (4, 4):
            raise ValueError(f"Camera.world_from_camera: expected shape (4, 4), got {tuple(self.world_from_camera.shape)}")
        if tuple(self.K.shape) != (3, 3):
            raise ValueError(f"Camera.K: expected shape (3, 3), got {tuple(self.K.shape)}")
        if self.width < 1 or self.height < 1:
            raise ValueError(f"Camera: expected a width and height of at least 1 px, got {self.width}x{self.height}")
        K = self.K.detach()
        if not bool(torch.isfinite(K).all()) or float(K[0, 0]) <= 0 or float(K[1, 1]) <= 0:
            fx, fy = float(K[0, 0]), float(K[1, 1])
            raise ValueError(f"Camera.K: expected finite values and positive focal lengths, got fx={fx}, fy={fy}")
        if not bool(torch.isfinite(self.world_from_camera.detach()).all()):
            raise ValueError("Camera.world_from_camera: expected finite values, got NaN or infinity")
        counts = _DISTORTION_COUNTS[self.model]
        if len(self.distortion) not in counts:
            wanted = " or ".join(map(str, counts))
            raise ValueError(f"Camera.distortion: {self.model.value} expects {wanted} values, got {len(self.distortion)}")

    @classmethod
    def pinhole(cls, world_from_camera: Float[Tensor, "4 4"], width: int, height: int, fov_deg: float) -> "Camera":
        """An undistorted camera with the given vertical field of view [deg] and a centred principal point."""
        focal = 0.5 * height / math.tan(math.radians(fov_deg) / 2)
        K = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]).to(world_from_camera)
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
        return cls.pinhole(look_at(torch.tensor(eye).float(), torch.tensor(target).float()), width, height, fov_deg)

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
        """The same view with another number of pixels; corners stay corners, so pixel centres stay at +0.5."""
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

        OPENCV and FISHEYE follow the formulas of OpenCV's calib3d documentation. The fisheye model is defined for
        points beside and behind the camera too, up to an angle of pi.
        """
        x, y, z = points.unbind(-1)
        if self.model is CameraModel.FISHEYE:
            k1, k2, k3, k4 = self.distortion
            r = torch.hypot(x, y)
            theta = torch.atan2(r, z)
            t2 = theta * theta
            bent = theta * (1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4))))
            on_axis = r < 1e-8 * z.abs().clamp(min=1e-8)
            ratio = torch.where(on_axis, 1 / z.abs().clamp(min=1e-8), bent / torch.where(on_axis, torch.ones_like(r), r))
            return torch.stack([x * ratio, y * ratio], -1)
        x, y = x / z, y / z
        if self.model is CameraModel.OPENCV:
            k1, k2, p1, p2, k3, k4, k5, k6 = (*self.distortion, *(0.0,) * (8 - len(self.distortion)))
            r2 = x * x + y * y
            radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
            dx = 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
            dy = p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
            x, y = x * radial + dx, y * radial + dy
        return torch.stack([x, y], -1)

    def undistort(self, plane: Float[Tensor, "*b 2"], iterations: int = 20) -> Float[Tensor, "*b 3"]:
        """Distorted image-plane coordinates to unit directions in the camera frame (Newton's method)."""
        if self.model is CameraModel.FISHEYE:
            return self._undistort_fisheye(plane, iterations)
        guess = plane.detach().clone()
        if self.model is CameraModel.OPENCV:
            for _ in range(iterations):
                guess = guess - self._newton_step(guess, plane)
        return torch.nn.functional.normalize(torch.cat([guess, torch.ones_like(guess[..., :1])], -1), dim=-1)

    def _newton_step(self, guess: Tensor, plane: Tensor) -> Tensor:
        """Solve J step = distort(guess) - plane with a central-difference Jacobian, in double precision."""

        def residual(at: Tensor) -> Tensor:
            return self.distort(torch.cat([at, torch.ones_like(at[..., :1])], -1)) - plane.double()

        guess, h = guess.double(), 1e-6
        step_x, step_y = guess.new_tensor([h, 0.0]), guess.new_tensor([0.0, h])
        columns = [(residual(guess + s) - residual(guess - s)) / (2 * h) for s in (step_x, step_y)]
        jacobian = torch.stack(columns, dim=-1)
        return torch.linalg.solve(jacobian, residual(guess)[..., None])[..., 0].to(plane)

    def _undistort_fisheye(self, plane: Tensor, iterations: int) -> Tensor:
        k1, k2, k3, k4 = self.distortion
        bent = plane.norm(dim=-1)
        theta = bent.clone()
        for _ in range(iterations):
            t2 = theta * theta
            value = theta * (1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4)))) - bent
            slope = 1 + t2 * (3 * k1 + t2 * (5 * k2 + t2 * (7 * k3 + t2 * 9 * k4)))
            theta = theta - value / slope
        theta = theta.clamp(0, math.pi)
        ratio = torch.where(bent < 1e-8, torch.ones_like(bent), theta.sin() / bent.clamp(min=1e-8))
        return torch.cat([plane * ratio[..., None], theta.cos()[..., None]], -1)

    def project(self, points: Float[Tensor, "m 3"]) -> tuple[Float[Tensor, "m 2"], Float[Tensor, " m"]]:
        """World points [m] to pixels and z-depths [m]; a depth ≤ 0 means behind the camera."""
        in_camera = transform_points(self.camera_from_world.to(points), points)
        pixels = self.distort(in_camera) @ self.K[:2, :2].to(points).T + self.K[:2, 2].to(points)
        return pixels, in_camera[..., 2]

    def directions(self, pixels: Float[Tensor, "*b 2"]) -> Float[Tensor, "*b 3"]:
        """Unit directions in the camera frame through pixel coordinates."""
        plane = (pixels - self.K[:2, 2].to(pixels)) @ torch.linalg.inv(self.K[:2, :2]).to(pixels).T
        return self.undistort(plane)

    def unproject(self, pixels: Float[Tensor, "m 2"], depths: Float[Tensor, " m"]) -> Float[Tensor, "m 3"]:
        """Pixels at z-depths [m] to world points [m]; the inverse of `project`."""
        directions = self.directions(pixels)
        return transform_points(self.world_from_camera.to(pixels), directions * (depths / directions[..., 2])[..., None])

    def pixel_centers(self) -> Float[Tensor, "h w 2"]:
        """Coordinates (x, y) of all pixel centres [px]."""
        y = torch.arange(self.height, device=self.K.device) + 0.5
        x = torch.arange(self.width, device=self.K.device) + 0.5
        return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)

    def rays(self) -> tuple[Float[Tensor, "3"], Float[Tensor, "h w 3"]]:
        """The optical centre and a unit direction per pixel, in the world frame."""
        return self.center, self.directions(self.pixel_centers()) @ self.world_from_camera[:3, :3].T
