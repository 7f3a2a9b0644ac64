"""The intrinsics of transforms.json: focal lengths, fields of view and distortion by their keys."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..camera import Camera, CameraModel

_PERSPECTIVE = ("PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV")


def number(values: Mapping[str, Any], key: str, default: float | None = None) -> float:
    """A finite number out of JSON.

    Raises:
        ValueError: the key is absent and has no default, or its value is no finite number.
    """
    value = values.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"expected a finite number for {key!r}, got {value!r}")
    return float(value)


def camera_from(
    values: Mapping[str, Any],
    world_from_camera: Float[Tensor, "4 4"],
    picture_size: Callable[[], tuple[int, int]],
) -> Camera:
    """A camera of a frame's keys over the file's; `picture_size` is asked when `w` or `h` is not among them.

    Raises:
        ValueError: no focal length and no field of view, a bad number, or a lens that is not supported.
    """
    if "w" in values and "h" in values:
        width, height = round(number(values, "w")), round(number(values, "h"))
    else:
        width, height = picture_size()
    fx, fy = _focal_lengths(values, width, height)
    cx, cy = number(values, "cx", width / 2), number(values, "cy", height / 2)
    K = torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    model, distortion = _lens(values)
    return Camera(world_from_camera, K, width, height, model, distortion)


def _focal_lengths(values: Mapping[str, Any], width: int, height: int) -> tuple[float, float]:
    if "fl_x" in values:
        fx = number(values, "fl_x")
    elif "camera_angle_x" in values:
        fx = _focal_from_angle(number(values, "camera_angle_x"), width)
    else:
        raise ValueError(
            "expected a focal length 'fl_x' [px] or a field of view 'camera_angle_x' [rad], got neither"
        )
    if "fl_y" in values:
        return fx, number(values, "fl_y")
    if "camera_angle_y" in values and "fl_x" not in values:
        return fx, _focal_from_angle(number(values, "camera_angle_y"), height)
    return fx, fx


def _focal_from_angle(angle: float, pixels: int) -> float:
    if not 0 < angle < math.pi:
        raise ValueError(f"expected a field of view between 0 and pi rad, got {angle}")
    return 0.5 * pixels / math.tan(0.5 * angle)


def _lens(values: Mapping[str, Any]) -> tuple[CameraModel, tuple[float, ...]]:
    k1, k2, k3, k4, p1, p2 = (number(values, key, 0.0) for key in ("k1", "k2", "k3", "k4", "p1", "p2"))
    name = values.get("camera_model", "OPENCV_FISHEYE" if values.get("is_fisheye") else "OPENCV")
    if name == "OPENCV_FISHEYE":
        if p1 or p2:
            raise ValueError(
                "expected no p1, p2 with camera_model OPENCV_FISHEYE, which has no tangential distortion"
            )
        return CameraModel.FISHEYE, (k1, k2, k3, k4)
    if name not in _PERSPECTIVE or values.get("ftheta_p0") is not None:
        known = ", ".join((*_PERSPECTIVE, "OPENCV_FISHEYE"))
        raise ValueError(f"expected camera_model among {known}, got {name!r}; undistort the pictures first")
    if k4:
        # Elsewhere k4 is OpenCV's rational term, here it multiplies r^8: nothing we render knows that one.
        raise ValueError(f"expected k4 = 0 with camera_model {name}, got {k4}; undistort the pictures first")
    distortion = (k1, k2, p1, p2, k3) if k3 else (k1, k2, p1, p2)
    return (CameraModel.OPENCV, distortion) if any(distortion) else (CameraModel.PINHOLE, ())


def keys_from(camera: Camera) -> dict[str, Any]:
    """The keys that state a camera's intrinsics; the inverse of `camera_from`.

    Raises:
        ValueError: a rational distortion (k4 to k6), for which transforms.json has no keys.
    """
    keys: dict[str, Any] = {
        "fl_x": float(camera.K[0, 0]), "fl_y": float(camera.K[1, 1]),
        "cx": float(camera.K[0, 2]), "cy": float(camera.K[1, 2]),
        "w": camera.width, "h": camera.height,
    }  # fmt: skip
    if camera.model is CameraModel.FISHEYE:
        return (
            keys | {"camera_model": "OPENCV_FISHEYE"} | dict(zip(("k1", "k2", "k3", "k4"), camera.distortion))
        )
    if any(camera.distortion[5:]):
        raise ValueError(
            f"expected a lens without rational terms, got k4 to k6 = {camera.distortion[5:]};"
            " save as COLMAP instead"
        )
    if camera.model is CameraModel.PINHOLE:
        return keys | {"camera_model": "PINHOLE"}
    return keys | {"camera_model": "OPENCV"} | dict(zip(("k1", "k2", "p1", "p2", "k3"), camera.distortion))
