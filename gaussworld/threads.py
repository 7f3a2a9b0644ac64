"""One thread for torch while many short operators run, or the rasterizer's own threads do the work."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from .render import kernels


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Keep torch's operators to one thread, in a `with` block or as a decorator.

    OpenMP's threads spin for a while after each operator: between two renderings they take the processor from
    the rasterizer's threads (half the speed on a quiet machine), and in short operators they wait for each
    other longer than they work (a tenth of the speed on a busy one). OpenMP keeps the number for each calling
    thread, so blocks in several threads do not disturb each other.
    """
    # The kernels take over torch's number of threads when they are loaded: that must come first.
    kernels.available()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
