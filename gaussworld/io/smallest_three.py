"""Unit quaternions as their three smaller components and the place of the largest, which is left out."""

import numpy as np


def without_largest(quats: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The three smaller components (n×3, in order) of unit quaternions (n×4), and where the largest was (n).

    Signs are chosen so that the one left out is positive: q and -q are the same rotation.
    """
    largest = np.abs(quats).argmax(axis=1)
    signs = np.where(np.take_along_axis(quats, largest[:, None], 1) < 0, -1.0, 1.0)
    columns = np.arange(3)[None] + (np.arange(3)[None] >= largest[:, None])
    return np.take_along_axis(quats, columns, 1) * signs, largest


def with_largest(small: np.ndarray, largest: np.ndarray) -> np.ndarray:
    """Unit quaternions (n×4) of which `without_largest` gave these.

    Components that are too large to be those of a unit quaternion stay as they are, beside a zero.
    """
    quats = np.empty((len(small), 4), small.dtype)
    columns = np.arange(3)[None] + (np.arange(3)[None] >= largest[:, None])
    np.put_along_axis(quats, columns, small, 1)
    rest = np.sqrt(np.maximum(1 - np.square(small).sum(axis=1, keepdims=True), 0))
    np.put_along_axis(quats, largest[:, None], rest, 1)
    return quats
