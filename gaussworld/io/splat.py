"""`.splat` (antimatter15's layout): 32 bytes a Gaussian, no spherical harmonics, no header."""

import os
from pathlib import Path

import numpy as np
import torch

from ..errors import FileFormatError
from ..gaussians import MAX_LOGIT, Gaussians
from ..pose import normalize_quats
from ..sh import rgb_from_sh0, sh0_from_rgb
from .atomic import replacing
from .framing import Framing

_ROW = np.dtype([("position", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("rotation", "u1", 4)])
_SMALLEST = float(np.finfo(np.float32).tiny)


def read(path: Path) -> Gaussians:
    """Read Gaussians of SH degree 0; a scale of zero becomes the smallest positive float32.

    Raises:
        FileFormatError: the file is empty or its size is no multiple of 32, or a row holds a number that is
            not finite, a negative scale or a zero quaternion.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0 or size % _ROW.itemsize:
            raise FileFormatError(
                f"{path}: expected a .splat of {_ROW.itemsize} bytes per Gaussian, got {size} bytes;"
                " fetch it again"
            )
        rows = np.frombuffer(file.read(size - size % _ROW.itemsize), _ROW)
    _refuse(~np.isfinite(rows["position"]), "a finite position", path)
    _refuse(~(np.isfinite(rows["scale"]) & (rows["scale"] >= 0)), "a scale of at least 0", path)
    _refuse((rows["rotation"] == 128).all(axis=1)[:, None], "a non-zero quaternion", path)
    return _unpacked(rows)


def _unpacked(rows: np.ndarray) -> Gaussians:
    quats = (rows["rotation"].astype(np.float32) - 128) / 128
    log_scales = np.log(rows["scale"].astype(np.float64).clip(min=_SMALLEST)).astype(np.float32)
    rgba = torch.from_numpy(rows["rgba"].astype(np.float32) / 255)
    return Gaussians(
        means=torch.from_numpy(rows["position"].copy()),
        quats=normalize_quats(torch.from_numpy(quats)),
        log_scales=torch.from_numpy(log_scales),
        opacity_logits=torch.logit(rgba[:, 3]).clamp(-MAX_LOGIT, MAX_LOGIT),
        sh=sh0_from_rgb(rgba[:, None, :3]),
    )


def _refuse(bad: np.ndarray, wanted: str, path: Path) -> None:
    if bad.any():
        row = int(bad.any(axis=1).argmax())
        raise FileFormatError(
            f"{path}: expected {wanted} in every row, got otherwise in row {row}; drop that row"
        )


def read_framing(path: Path) -> Framing:
    """Nothing: the layout has no place to state a frame, up direction or unit."""
    return Framing()


def write(gaussians: Gaussians, path: Path, framing: Framing) -> None:
    """Write the Gaussians that are not deleted; SH above degree 0, object ids and `framing` are lost.

    Colours and opacities are rounded to 1/255, quaternions to 1/128.

    Raises:
        ValueError: no Gaussians, which would make an empty file that `read` refuses, or a value not finite.
    """
    kept = gaussians.detach().to("cpu").select((gaussians.flags.cpu() & 1) == 0)
    if len(kept) == 0:
        raise ValueError(f"{path}: expected at least one Gaussian, got none; a .ply can hold none")
    for name in ("means", "quats", "log_scales", "opacity_logits", "sh"):
        if not bool(torch.isfinite(getattr(kept, name)).all()):
            raise ValueError(f"{path}: expected finite {name}, got others; drop those rows")
    with replacing(path) as file:
        file.write(_settled(kept).tobytes())


def _settled(gaussians: Gaussians) -> np.ndarray:
    """Rows that stay as they are when they are read and written again.

    A rounded quaternion has not quite unit length, and the logarithm of a scale is rounded too, so that the
    nearest row for what was read may be another; after one or two such steps it no longer is.
    """
    rows = _packed(gaussians)
    which = np.arange(len(rows))
    for _ in range(8):
        again = _packed(_unpacked(rows[which]))
        moved = (again.view(np.uint8) != rows[which].view(np.uint8)).reshape(len(which), -1).any(axis=1)
        which, again = which[moved], again[moved]
        if not len(which):
            break
        rows[which] = again
    return rows


def _packed(kept: Gaussians) -> np.ndarray:
    rows = np.empty(len(kept), _ROW)
    rows["position"] = kept.means.numpy()
    largest = np.log(np.finfo(np.float32).max)
    rows["scale"] = np.exp(kept.log_scales.numpy().astype(np.float64).clip(max=largest))
    rgba = torch.cat([rgb_from_sh0(kept.sh[:, 0]), kept.opacities[:, None]], dim=1)
    rows["rgba"] = (rgba.clamp(0, 1) * 255).round().numpy()
    rows["rotation"] = (normalize_quats(kept.quats) * 128 + 128).round().clamp(0, 255).numpy()
    return rows
