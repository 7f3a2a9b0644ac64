"""Memory for large gradients that is used again from step to step."""

import math
import threading
import weakref

import numpy as np
import torch
from torch import Tensor

#: Smaller tensors cost next to nothing to allocate.
SMALLEST_BYTES = 1 << 20
#: Idle blocks that are kept; the oldest is let go.
KEPT = 12

_idle: list[np.ndarray] = []
_lock = threading.RLock()  # a finalizer may run while this thread holds it


def recycled(shape: tuple[int, ...] | torch.Size) -> Tensor:
    """An uninitialised float32 CPU tensor, in memory that an earlier one has given back where that fits.

    The C library returns large blocks to the operating system at once; a training step with 500k Gaussians
    would spend a fifth of its time having the same pages zeroed again.
    """
    count = math.prod(shape)
    if 4 * count < SMALLEST_BYTES:
        return torch.empty(shape, dtype=torch.float32, device="cpu")
    block = _take(count)
    # The tensor owns `view`; when the last reference to it is gone, the block becomes idle.
    view = block[:count].reshape(shape)
    weakref.finalize(view, _give_back, block).atexit = False
    return torch.from_numpy(view)


def _take(count: int) -> np.ndarray:
    with _lock:
        for i, block in enumerate(_idle):
            if count <= block.size <= count + count // 2:
                return _idle.pop(i)
    return np.empty(count + count // 8, dtype=np.float32)


def _give_back(block: np.ndarray) -> None:
    with _lock:
        _idle.append(block)
        del _idle[:-KEPT]
