"""Peak and available memory, on this system and as other systems tell it."""

import subprocess
import sys

import pytest
import torch

from recon import memory
from recon.memory import available_memory, peak_device_memory, peak_memory

MB = 1_000_000


def test_peak_remembers_what_was_let_go():
    """A hundred megabytes that are freed again stay in the peak."""
    before = peak_memory()
    if before is None:
        pytest.skip("this system does not say")
    held = torch.ones(max(before // 4, 25 * MB) + 25 * MB)
    size = held.numel() * 4
    del held
    after = peak_memory()
    assert after is not None and after >= size
    assert after >= before


@pytest.mark.skipif(sys.platform != "linux", reason="how Linux starts programs")
def test_the_parents_memory_is_not_the_childs():
    """A large program that starts a small one does not lend it its peak."""
    held = torch.ones(75 * MB)
    # Without torch a Python process is small.
    asked = (
        "import sys; sys.modules['torch'] = sys; from recon.memory import peak_memory; print(peak_memory())"
    )
    said = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout
    assert held.numel() * 4 > int(said) > 1 * MB


def test_available_is_some_memory():
    """More than a megabyte, less than a petabyte."""
    left = available_memory()
    assert left is None or 1 * MB < left < 10**15


def test_a_containers_limit_counts(tmp_path):
    """What is left below the limit, with the pages that can be dropped."""
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 150\nactive_file 50\n")
    assert memory._cgroup_room(tmp_path) == 450
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._cgroup_room(tmp_path) is None


def test_free_pages_of_macos():
    """What vm_stat prints, as bytes."""
    said = (
        "Mach Virtual Memory Statistics: (page size of 16384 bytes)\n"
        "Pages free:                               10.\n"
        "Pages active:                            999.\n"
        "Pages inactive:                           20.\n"
        "Pages speculative:                         3.\n"
        "Pages wired down:                        500.\n"
        "Pages purgeable:                           4.\n"
    )
    assert memory._free_pages(said) == 37 * 16384
    assert memory._free_pages("nothing of the kind") is None


def test_no_device_has_no_peak():
    """Without CUDA in use there is nothing to tell."""
    if not torch.cuda.is_initialized():
        assert peak_device_memory() is None
