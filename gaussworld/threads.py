"""One thread for torch while many short operators run, or the rasterizer's own threads do the work."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from .render import kernels


@dataclass
class _Count:
    """How many blocks are open, and what they found."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    inside: int = 0
    before: int = 1


_count = _Count()


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Keep torch's operators to one thread, in a `with` block or as a decorator.

    OpenMP's threads spin for a while after each operator: between two renderings they take the processor from
    the rasterizer's threads (half the speed on a quiet machine), and in short operators they wait for each
    other longer than they work (a tenth of the speed on a busy one). The number is the whole process's: the
    last block that ends, of whatever thread, gives it back.
    """
    # The kernels take over torch's number of threads when they are loaded: that must come first.
    kernels.available()
    with _count.lock:
        if _count.inside == 0:
            _count.before = torch.get_num_threads()
            torch.set_num_threads(1)
        _count.inside += 1
    try:
        yield
    finally:
        with _count.lock:
            _count.inside -= 1
            if _count.inside == 0:
                torch.set_num_threads(_count.before)
