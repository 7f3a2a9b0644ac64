"""One thread for torch while the rasterizer's own threads do the work."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from gaussworld.render import kernels


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Keep torch's operators to one thread inside a `with` block.

    OpenMP's threads spin for a while after each operator: between two renderings they take the processor from
    the rasterizer's threads (half the speed on a quiet machine), and on a busy one they wait for each other
    (a tenth of it).
    """
    # The kernels take over torch's number of threads when they are loaded: that must come first.
    kernels.available()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
