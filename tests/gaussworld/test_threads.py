"""torch's number of threads comes back, whoever ends first."""

import threading

import torch

from gaussworld.render import kernels
from gaussworld.threads import one_torch_thread


def test_blocks_of_several_threads_do_not_disturb_each_other():
    """Each thread gets its own number back, although the blocks overlap."""
    kernels.available()  # loading them sets the number too
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        entered, leave = threading.Event(), threading.Event()
        seen: list[int] = []

        def other() -> None:
            torch.set_num_threads(2)
            with one_torch_thread():
                entered.set()
                leave.wait()
                seen.append(torch.get_num_threads())
            seen.append(torch.get_num_threads())

        thread = threading.Thread(target=other)
        with one_torch_thread():
            thread.start()
            entered.wait()
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 3
        leave.set()
        thread.join()
        assert seen == [1, 2] and torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
