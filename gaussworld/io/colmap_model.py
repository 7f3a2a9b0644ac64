"""The rows of a COLMAP model, whichever way they are written."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from .colmap_lens import Lens


@dataclass(frozen=True)
class CameraRow:
    """Intrinsics as the cameras file has them."""

    lens: Lens
    width: int
    height: int
    parameters: tuple[float, ...]


@dataclass(frozen=True)
class ImageRow:
    """A registered picture: its name below the images folder, its camera and its pose `camera_from_world`."""

    name: str
    camera_id: int
    quaternion: tuple[float, ...]
    """wxyz."""
    translation: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Points:
    """The sparse points."""

    positions: Float[np.ndarray, "m 3"]
    colors: UInt8[np.ndarray, "m 3"]
