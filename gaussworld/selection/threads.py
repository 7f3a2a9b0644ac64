"""One thread for torch while something is selected."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..render import kernels


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep torch's operators to one thread, in a `with` block or as a decorator.

    Selecting is many short operators: OpenMP's threads wait for each other longer than they work, five to
    twenty times longer on a busy machine.
    """
    # The rasterizer takes over torch's number of threads when it is loaded: that must come first.
    kernels.available()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
