"""A camera as JSON, to the bit."""

from collections.abc import Mapping
from typing import Any

import torch

from .camera import Camera, CameraModel
from .object_record import numbers_from, pose_from_numbers


def camera_record(camera: Camera) -> dict[str, Any]:
    """The camera as plain values: pose (three rows), K, size [px], model, distortion."""
    return {
        "pose": numbers_from(camera.world_from_camera[:3]),
        "K": numbers_from(camera.K),
        "size": [camera.width, camera.height],
        "model": camera.model.value,
        "distortion": list(camera.distortion),
    }


def camera_from_record(record: Mapping[str, Any]) -> Camera:
    """The camera that `camera_record` described.

    Raises:
        ValueError: a value is missing, of the wrong type, or out of range.
    """
    try:
        width, height = record["size"]
        return Camera(
            world_from_camera=pose_from_numbers(record["pose"]),
            K=torch.tensor(record["K"], dtype=torch.float64).float().reshape(3, 3),
            width=int(width),
            height=int(height),
            model=CameraModel(record["model"]),
            distortion=tuple(float(value) for value in record["distortion"]),
        )
    except (KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"expected a camera's facts, got {str(record)[:80]} ({error})") from error
