"""Camera errors against a capture that knows better: the same pictures, found by their names."""

import torch

from gaussworld.capture import Capture
from gaussworld.errors import CaptureError

from .trajectory import ate, rpe


def camera_errors(capture: Capture, truth: Capture) -> dict[str, float | int]:
    """Absolute and relative trajectory errors of a capture's cameras, in the unit of the true ones.

    A capture that knows its scale is held to it; another is scaled to fit.

    Raises:
        CaptureError: fewer than three pictures have true cameras.
    """
    known = {frame.name: frame.camera.world_from_camera for frame in truth.frames}
    pairs = [(f.camera.world_from_camera, known[f.name]) for f in capture.frames if f.name in known]
    if len(pairs) < 3:
        raise CaptureError(
            f"expected true cameras for at least 3 of {len(capture)} pictures, got {len(pairs)}; pictures are"
            " matched by file name"
        )
    estimated, true = (torch.stack(poses).double() for poses in zip(*pairs))
    free = capture.metres_per_unit is None or truth.metres_per_unit is None
    if not free:
        estimated[:, :3, 3] *= capture.metres_per_unit / truth.metres_per_unit  # pyright: ignore
    absolute, relative = ate(estimated, true, with_scale=free), rpe(estimated, true, with_scale=free)
    return {
        "cameras": len(pairs),
        "ate_rmse": absolute.rmse,
        "ate_median": absolute.median,
        "ate_max": absolute.max,
        "scale": absolute.scale,
        "rpe_translation": relative.translation,
        "rpe_rotation_deg": relative.rotation_deg,
    }
