"""The linear numbers that glTF and USD store for a Gaussian, and the parameters that we keep of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import FileFormatError
from ..gaussians import DELETED, HIDDEN, MAX_LOGIT, Gaussians
from ..pose import normalize_quats, xyzw_from_wxyz

#: Scales of zero, which both formats allow, become this: the smallest normal float32.
SMALLEST = float(np.finfo(np.float32).tiny)
#: Quaternions whose length is this near to 1 are written as they are.
UNIT = 1e-6
#: How far an opacity may lie outside [0, 1] and pass for a rounding error.
SLACK = 1e-5


def shown(gaussians: Gaussians) -> Gaussians:
    """Those that are neither deleted nor hidden one by one, detached and on the CPU, in float32."""
    kept = gaussians.detach().to("cpu")
    seen = (kept.flags & (DELETED | HIDDEN)) == 0
    kept = kept if bool(seen.all()) else kept.select(seen)
    return kept.map(lambda value: value.float() if value.is_floating_point() else value)


def linear_from(gaussians: Gaussians, path: Path) -> dict[str, np.ndarray]:
    """Positions, rotations (unit, xyzw), scales and opacities, all linear, and sh (n, k, 3); all float32.

    Positions and sh keep their bits, and so do quaternions of length 1. Scales and opacities are rounded to
    float32: logarithms below -2 survive to the bit, others to 6e-8; opacities to 6e-8.

    Raises:
        ValueError: a number is not finite, or a scale is beyond float32.
    """
    for name in ("means", "quats", "log_scales", "opacity_logits", "sh"):
        if not np.isfinite(getattr(gaussians, name).numpy()).all():
            raise ValueError(
                f"{path}: expected finite numbers, got NaN or infinity in {name}; drop those rows"
            )
    lengths = gaussians.quats.norm(dim=-1, keepdim=True)
    quats = torch.where((lengths - 1).abs() <= UNIT, gaussians.quats, normalize_quats(gaussians.quats))
    scales = gaussians.log_scales.double().exp()
    if len(gaussians) and float(scales.max()) > float(np.finfo(np.float32).max):
        raise ValueError(
            f"{path}: expected scales that float32 can hold, got exp({float(gaussians.log_scales.max()):g});"
            " drop those rows or write a .ply, which stores logarithms"
        )
    return {
        "positions": gaussians.means.contiguous().numpy(),
        "rotations": xyzw_from_wxyz(quats).contiguous().numpy(),
        "scales": scales.clamp(min=SMALLEST).float().numpy(),
        "opacities": gaussians.opacity_logits.double().sigmoid().float().numpy(),
        "sh": gaussians.sh.contiguous().numpy(),
    }


def gaussians_from(linear: Mapping[str, np.ndarray], where: str) -> Gaussians:
    """The Gaussians that `linear_from` described; opacities of 0 and 1 become logits of ∓15.

    Args:
        linear: float32 arrays by the names of `linear_from`, of the same number of rows.
        where: the file and place in it, for messages.

    Raises:
        FileFormatError: a number is not finite, a scale negative, an opacity outside [0, 1], or a quaternion
            zero; the message names the row.
    """
    for name, array in linear.items():
        _refuse(~np.isfinite(array), f"finite {name}", array, where)
    rotations, scales, opacities = linear["rotations"], linear["scales"], linear["opacities"]
    _refuse(~rotations.any(axis=1, keepdims=True), "a non-zero quaternion", rotations, where)
    _refuse(scales < 0, "scales of at least 0", scales, where)
    _refuse((opacities < -SLACK) | (opacities > 1 + SLACK), "opacities in [0, 1]", opacities, where)
    log_scales = np.log(np.maximum(scales, SMALLEST, dtype=np.float64)).astype(np.float32)
    logits = torch.logit(torch.from_numpy(opacities.astype(np.float64)).clamp(0, 1))
    return Gaussians(
        means=torch.from_numpy(np.ascontiguousarray(linear["positions"])),
        quats=torch.from_numpy(np.ascontiguousarray(rotations[:, [3, 0, 1, 2]])),
        log_scales=torch.from_numpy(log_scales),
        opacity_logits=logits.clamp(-MAX_LOGIT, MAX_LOGIT).float(),
        sh=torch.from_numpy(np.ascontiguousarray(linear["sh"])),
    )


def linear_from_srgb(values: np.ndarray) -> np.ndarray:
    """Linear light of colours in [0, 1] encoded as sRGB (IEC 61966-2-1, as in BT.709 primaries)."""
    return np.where(values <= 0.04045, values / 12.92, ((np.maximum(values, 0) + 0.055) / 1.055) ** 2.4)


def srgb_from_linear(values: np.ndarray) -> np.ndarray:
    """The inverse of `linear_from_srgb`; numbers above 1 go on along the curve."""
    return np.where(
        values <= 0.0031308, values * 12.92, 1.055 * np.maximum(values, 1e-9) ** (1 / 2.4) - 0.055
    )


def _refuse(bad: Any, wanted: str, array: np.ndarray, where: str) -> None:
    if np.any(bad):
        row = int(np.argwhere(bad)[0, 0])
        got = " ".join(f"{value:g}" for value in np.ravel(array[row])[:4])
        raise FileFormatError(f"{where}: expected {wanted}, got {got} in row {row}; drop that row")
