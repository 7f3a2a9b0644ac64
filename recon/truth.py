"""Camera errors against a capture that knows better: the same pictures, found by their names."""

from collections import Counter

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
    for what, frames in (("capture", capture.frames), ("true cameras", truth.frames)):
        names = Counter(frame.name for frame in frames)
        if twice := [name for name, count in names.items() if count > 1]:
            raise CaptureError(
                f"expected pictures of different names to match with the truth, got {twice[0]} twice in the"
                f" {what}; rename them"
            )
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
