"""Whether depth is in millimetres: by how far the scene is, and by how depths of several frames agree."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor

from ..camera import Camera
from ..capture import Frame
from ..errors import CaptureError
from .images import read_depth

#: [m] medians of depth outside this range are no room, table or street in millimetres.
_PLAUSIBLE = (0.05, 100.0)
_MILLIMETRE = 1e-3
#: Lengths of one step in 16-bit depth files that people use [m].
_UNITS = (1e-4, 1.25e-4, 2e-4, 2.5e-4, _MILLIMETRE, 1e-2)
#: How many depth pictures are compared with each other, and at about how many rows of pixels.
_COMPARED, _ROWS = 4, 30


def check_millimetres(folder: Path, frames: Sequence[Frame]) -> None:
    """Refuse depth that is no scene in millimetres, or that only fits its own poses [m] in another unit.

    Depth of one frame, moved into another, must be what that one measured. In a wrong unit it is not, as long
    as the camera moves: distances grow by a factor, the way between the cameras does not.

    Raises:
        CaptureError: the depth is in another unit.
        FileFormatError: a depth picture cannot be read.
    """
    with_depth = [frame for frame in frames if frame.depth is not None]
    rows = np.unique(np.linspace(0, max(len(with_depth) - 1, 0), _COMPARED).round().astype(int))
    shots = [_Shot.of(with_depth[row]) for row in rows[: len(with_depth)]]
    medians = [float(shot.depth[shot.depth > 0].median()) for shot in shots if bool((shot.depth > 0).any())]
    if not medians:
        return
    advice = "write millimetres as 16-bit PNG, for instance with gaussworld.io.images.write_depth"
    if not _PLAUSIBLE[0] <= (median := float(np.median(medians))) <= _PLAUSIBLE[1]:
        raise CaptureError(
            f"{folder}: expected depth in millimetres, got a median of {1000 * median:g} mm, which is no"
            f" scene; {advice}"
        )
    errors = {unit: _disagreement(shots, unit / _MILLIMETRE) for unit in _UNITS}
    best = min(errors, key=lambda unit: errors[unit])
    if errors[best] < 0.02 and errors[_MILLIMETRE] > max(0.015, 3 * errors[best]):
        raise CaptureError(
            f"{folder}: expected depth in millimetres, got frames that fit their poses when one step is"
            f" {1000 * best:g} mm (to {errors[best]:.1%}; as millimetres to {errors[_MILLIMETRE]:.1%});"
            f" {advice}"
        )


@dataclass(frozen=True)
class _Shot:
    """One depth picture."""

    camera: Camera
    depth: Float[Tensor, "h w"]
    """[m], if the file is in millimetres."""
    center: Float[Tensor, "3"]
    ways: Float[Tensor, "m 3"]
    """From the centre to what some of the pixels see [m], likewise."""

    @classmethod
    def of(cls, frame: Frame) -> "_Shot":
        assert isinstance(frame.depth, Path)
        depth, camera = read_depth(frame.depth), frame.depth_camera or frame.camera
        camera = camera.rescaled(depth.shape[1], depth.shape[0])
        step = max(1, min(depth.shape) // _ROWS)
        sparse, pixels = (
            grid[step // 2 :: step, step // 2 :: step] for grid in (depth, camera.pixel_centers())
        )
        points = camera.unproject(pixels[sparse > 0], sparse[sparse > 0])
        return cls(camera, depth, camera.center, points - camera.center)


def _disagreement(shots: Sequence[_Shot], scale: float) -> float:
    """Median relative error of depth predicted from other frames, when it is `scale` times what was read."""
    errors = []
    for a, b in permutations(shots, 2):
        there, expected = b.camera.project(a.center + a.ways * scale)
        inside = (there >= 0) & (there < there.new_tensor([b.camera.width, b.camera.height]))
        seen = (expected > 0) & inside.all(-1)
        x, y = there[seen].floor().long().unbind(-1)
        found = b.depth[y, x] * scale
        error = ((found - expected[seen]).abs() / expected[seen])[found > 0]
        if len(error) > max(20, 0.2 * len(a.ways)):
            errors.append(float(error.median()))
    return float(np.median(errors)) if errors else math.inf
