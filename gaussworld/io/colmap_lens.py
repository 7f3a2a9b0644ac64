"""COLMAP's camera models: their numbers, their parameters, and which of our lenses each of them is."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..camera import Camera, CameraModel


@dataclass(frozen=True)
class Lens:
    """One of COLMAP's camera models; parameters are focal lengths, principal point, then distortion."""

    id: int
    name: str
    focals: int
    """1 where x and y share a focal length, else 2."""
    distortions: int
    model: CameraModel | None
    """Our model that holds it; None where there is none."""

    @property
    def parameters(self) -> int:
        return self.focals + 2 + self.distortions


LENSES = (
    Lens(0, "SIMPLE_PINHOLE", 1, 0, CameraModel.PINHOLE),
    Lens(1, "PINHOLE", 2, 0, CameraModel.PINHOLE),
    Lens(2, "SIMPLE_RADIAL", 1, 1, CameraModel.OPENCV),
    Lens(3, "RADIAL", 1, 2, CameraModel.OPENCV),
    Lens(4, "OPENCV", 2, 4, CameraModel.OPENCV),
    Lens(5, "OPENCV_FISHEYE", 2, 4, CameraModel.FISHEYE),
    Lens(6, "FULL_OPENCV", 2, 8, CameraModel.OPENCV),
    Lens(7, "FOV", 2, 1, None),
    Lens(8, "SIMPLE_RADIAL_FISHEYE", 1, 1, CameraModel.FISHEYE),
    Lens(9, "RADIAL_FISHEYE", 1, 2, CameraModel.FISHEYE),
    Lens(10, "THIN_PRISM_FISHEYE", 2, 8, None),
    Lens(11, "RAD_TAN_THIN_PRISM_FISHEYE", 2, 12, None),
    Lens(12, "SIMPLE_DIVISION", 1, 1, None),
    Lens(13, "DIVISION", 2, 1, None),
    Lens(14, "SIMPLE_FISHEYE", 1, 0, CameraModel.FISHEYE),
    Lens(15, "FISHEYE", 2, 0, CameraModel.FISHEYE),
    Lens(16, "EUCM", 2, 2, None),
    # Its two parameters are the width and the height: no focal length, no principal point.
    Lens(17, "EQUIRECTANGULAR", 0, 0, None),
)
BY_ID = {lens.id: lens for lens in LENSES}
BY_NAME = {lens.name: lens for lens in LENSES}


def camera_from(
    lens: Lens, width: int, height: int, parameters: Sequence[float], world_from_camera: Float[Tensor, "4 4"]
) -> Camera:
    """The camera that a row of COLMAP's cameras file describes, at a pose.

    Raises:
        ValueError: a lens we have no model for, or values that are no camera's.
    """
    if lens.model is None:
        known = ", ".join(other.name for other in LENSES if other.model)
        raise ValueError(
            f"expected a camera model among {known}, got {lens.name};"
            " undistort first (colmap image_undistorter)"
        )
    fx, fy = parameters[0], parameters[lens.focals - 1]
    cx, cy = parameters[lens.focals : lens.focals + 2]
    K = torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    distortion = tuple(float(value) for value in parameters[lens.focals + 2 :])
    distortion += (0.0,) * (4 - len(distortion))
    if lens.model is CameraModel.FISHEYE:
        return Camera(world_from_camera, K, width, height, CameraModel.FISHEYE, distortion)
    if not any(distortion):
        return Camera(world_from_camera, K, width, height)
    return Camera(world_from_camera, K, width, height, CameraModel.OPENCV, distortion)


def parameters_from(camera: Camera) -> tuple[Lens, tuple[float, ...]]:
    """The COLMAP model and parameters of a camera's intrinsics; the inverse of `camera_from`."""
    pinhole = (camera.K[0, 0], camera.K[1, 1], camera.K[0, 2], camera.K[1, 2])
    focals = tuple(float(value) for value in pinhole)
    if camera.model is CameraModel.PINHOLE:
        return BY_NAME["PINHOLE"], focals
    if camera.model is CameraModel.FISHEYE:
        return BY_NAME["OPENCV_FISHEYE"], focals + camera.distortion
    if len(camera.distortion) == 4:
        return BY_NAME["OPENCV"], focals + camera.distortion
    return BY_NAME["FULL_OPENCV"], focals + camera.distortion + (0.0,) * (8 - len(camera.distortion))
