"""The attributes of SPZ files, byte by byte: fixed-point positions, logarithmic scales, packed rotations."""

import numpy as np

from ..gaussians import MAX_LOGIT
from .smallest_three import with_largest, without_largest

_BYTES = np.arange(256)
with np.errstate(divide="ignore"):
    _LOGITS = np.log(_BYTES / 255) - np.log1p(-_BYTES / 255)
#: What the 256 values of a byte stand for.
LOG_SCALES = (_BYTES / 16 - 10).astype(np.float32)
OPACITY_LOGITS = _LOGITS.clip(-MAX_LOGIT, MAX_LOGIT).astype(np.float32)
COLORS = ((_BYTES / 255 - 0.5) / 0.15).astype(np.float32)
SH = ((_BYTES - 128) / 128).astype(np.float32)

#: Largest value of a 24-bit signed integer.
MAX_FIXED = 2**23 - 1
#: More fractional bits than this are finer than anything measured, and only cost space.
MAX_BITS = 16
_QUANTA = 511
#: How many SH bytes become one when written: coefficients of band 1 keep 5 bits, higher ones 4, as usual.
_STEPS = (8, 16)


def positions_from(data: np.ndarray, bits: int) -> np.ndarray:
    """n×3 positions from n·9 bytes: 24-bit signed integers, low byte first, in steps of 2^-bits."""
    low, middle, high = (data[i::3].astype(np.int32) for i in range(3))
    fixed = low | middle << 8 | high << 16
    fixed -= (fixed & 0x800000) << 1
    return (fixed.astype(np.float32) * np.float32(2.0**-bits)).reshape(-1, 3)


def bits_for(means: np.ndarray) -> int:
    """How many fractional bits hold all these positions: as many as fit, up to 16.

    Raises:
        ValueError: a coordinate is beyond ±8388607, where not even integers fit.
    """
    largest = float(np.abs(means).max(initial=0))
    for bits in range(MAX_BITS, -1, -1):
        if np.rint(largest * 2.0**bits) <= MAX_FIXED:
            return bits
    raise ValueError(f"expected coordinates within ±{MAX_FIXED}, which SPZ can hold, got {largest:g}")


def bytes_from_positions(means: np.ndarray, bits: int) -> np.ndarray:
    """Inverse of `positions_from`, rounded to the nearest step of 2^-bits."""
    fixed = np.rint(means.astype(np.float64) * 2.0**bits).astype("<i4")
    return fixed.view(np.uint8).reshape(-1, 4)[:, :3].reshape(-1)


def quats_from_xyz(data: np.ndarray) -> np.ndarray:
    """wxyz quaternions from n·3 bytes (version 2): x, y, z in [-1, 1]; w is at least 0."""
    xyz = data.reshape(-1, 3) / 127.5 - 1
    return with_largest(xyz, np.zeros(len(xyz), np.int64)).astype(np.float32)


def quats_from_codes(codes: np.ndarray) -> np.ndarray:
    """wxyz quaternions from 32-bit words (version 3): 2 bits say which of x, y, z, w is largest.

    Each of the others takes 10 bits: its sign, then its size in steps of √½ / 511.
    """
    parts = np.stack([codes >> 20, codes >> 10, codes], axis=1) & 1023
    small = (parts & _QUANTA) * (np.sqrt(0.5) / _QUANTA) * np.where(parts >> 9, -1.0, 1.0)
    return with_largest(small, (codes >> 30).astype(np.int64))[:, [3, 0, 1, 2]].astype(np.float32)


def codes_from_quats(quats: np.ndarray) -> np.ndarray:
    """The words that `quats_from_codes` reads, of wxyz quaternions of any non-zero length.

    Rounding may change which component is largest, and so the word for what was read back. Words that would
    alternate are replaced by the lowest of them, so that a second round trip changes nothing.
    """
    codes = before = _nearest_codes(quats)
    rows = np.arange(len(codes))
    for _ in range(8):
        again = _nearest_codes(quats_from_codes(codes[rows]))
        moving = again != codes[rows]
        rows, again = rows[moving], again[moving]
        if not len(rows):
            return codes
        before, codes[rows] = codes[rows], again
    codes[rows] = np.minimum(before, codes[rows])
    return codes


def _nearest_codes(quats: np.ndarray) -> np.ndarray:
    wide = quats.astype(np.float64)
    wide /= np.abs(wide).max(axis=1, keepdims=True)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    small, largest = without_largest(wide[:, [1, 2, 3, 0]])
    steps = np.rint(np.abs(small) * (_QUANTA / np.sqrt(0.5))).clip(0, _QUANTA).astype(np.uint32)
    steps |= np.where((small < 0) & (steps > 0), 512, 0).astype(np.uint32)
    return largest.astype(np.uint32) << 30 | steps[:, 0] << 20 | steps[:, 1] << 10 | steps[:, 2]


def bytes_from_log_scales(log_scales: np.ndarray) -> np.ndarray:
    """Steps of 1/16 from -10 to 5.9375; what is beyond becomes the nearest of these."""
    return _rounded((log_scales + 10.0) * 16)


def bytes_from_logits(logits: np.ndarray) -> np.ndarray:
    """Opacity in steps of 1/255."""
    return _rounded(255 / (1 + np.exp(-logits.astype(np.float64).clip(-50, 50))))


def bytes_from_colors(sh0: np.ndarray) -> np.ndarray:
    """SH coefficient 0 in steps of 1/38.25 from -3.33 to 3.33."""
    return _rounded(sh0 * (0.15 * 255) + 127.5)


def bytes_from_sh(sh: np.ndarray) -> np.ndarray:
    """SH coefficients above 0, n×k×3, from -1 to 1: band 1 in steps of 1/16, higher bands in steps of 1/8."""
    steps = np.full((sh.shape[1], 1), _STEPS[1], np.float32)
    steps[:3] = _STEPS[0]
    return _rounded(np.rint(sh * (128 / steps)) * steps + 128)


def _rounded(values: np.ndarray) -> np.ndarray:
    return np.rint(values).clip(0, 255).astype(np.uint8)
