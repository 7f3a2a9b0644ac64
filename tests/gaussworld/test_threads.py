"""torch's number of threads comes back, whoever ends first."""

import threading

import torch

from gaussworld.render import kernels
from gaussworld.threads import one_torch_thread


def test_the_number_comes_back_from_blocks_that_overlap():
    """The first block to end must not be the one that decides."""
    kernels.available()  # loading them sets the number too
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        entered, leave = threading.Event(), threading.Event()

        def other() -> None:
            with one_torch_thread():
                entered.set()
                leave.wait()

        thread = threading.Thread(target=other)
        with one_torch_thread():
            thread.start()
            entered.wait()
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
        leave.set()
        thread.join()
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
