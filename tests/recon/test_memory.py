"""Peak and available memory, as all systems tell it, and the arithmetic of what a run will take."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gaussworld.camera import Camera, CameraModel
from gaussworld.capture import Frame
from gaussworld.io.images import write_image
from recon import memory
from recon.fit import TrainConfig
from recon.memory import available_memory, peak_device_memory, peak_memory
from recon.read import decoding_memory, decoding_threads, memory_needed

MB = 1_000_000
OVERHEAD = 600 << 20


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


def _frame(width: int, height: int, distorted: bool = False) -> Frame:
    camera = Camera.pinhole(torch.eye(4), width, height, 50.0)
    if distorted:
        camera = replace(camera, model=CameraModel.OPENCV, distortion=(0.1, 0.0, 0.0, 0.0))
    return Frame(camera, Path("a.jpg"))


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine of four cores that does not say how much memory is free."""
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    monkeypatch.setattr("recon.read.available_memory", lambda: None)
    return monkeypatch


def test_training_counts_pictures_gaussians_and_the_checkpoint(four_cores):
    """Few pixels, many Gaussians: rows with gradients, moments and workspace, and nine more to save them."""
    config = TrainConfig(max_gaussians=10**7, coarse=1, resolution=0)
    frames = [_frame(100, 80)] * 5
    rows = (4 * 236 + 600 + 9 * 236) * 10**7
    assert memory_needed(frames, config) == 5 * 8000 * 3 + 8000 * 200 + rows + OVERHEAD
    tried = memory_needed(frames, replace(config, refine_poses=True)) - memory_needed(frames, config)
    assert tried == 4 * 236 * 10**7


def test_reading_counts_the_buffers_of_each_thread(four_cores):
    """Large pictures, few Gaussians: four of them are decoded at once, whole, however small they end."""
    config = TrainConfig(max_gaussians=1000, resolution=500)
    frames = [_frame(8000, 6000)] * 3 + [_frame(4000, 3000)] * 3
    buffers = 44 * (3 * 48 + 12) * MB
    assert decoding_memory(frames, 500, 4) == buffers
    assert memory_needed(frames, config) == 6 * 500 * 375 * 3 + buffers + OVERHEAD
    assert decoding_memory(frames[:1], 0, 4) == 54 * 48 * MB
    assert decoding_memory([_frame(8000, 6000, distorted=True)], 0, 4) == 120 * 48 * MB
    # Shrunk by whole factors to no less than twice the size asked for: here by 2, before it is straightened.
    assert decoding_memory([_frame(4000, 3000, distorted=True)], 1000, 4) == 44 * 12 * MB
    assert decoding_memory([_frame(3900, 3000, distorted=True)], 1000, 4) == 120 * 3900 * 3000


@pytest.mark.parametrize(("gigabytes", "threads"), [(100.0, 4), (8.0, 3), (5.0, 2), (0.1, 1)])
def test_little_memory_means_fewer_threads(four_cores, gigabytes, threads):
    """As many pictures at once as there is room for, at least one: its buffers then decide."""
    four_cores.setattr("recon.read.available_memory", lambda: int(gigabytes * 1e9))
    frames = [_frame(8000, 6000)] * 6
    assert decoding_threads(frames, 500) == threads
    needed = memory_needed(frames, TrainConfig(max_gaussians=1000, resolution=500))
    assert needed == 6 * 500 * 375 * 3 + threads * 44 * 48 * MB + OVERHEAD


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the peak of one call")
def test_reading_takes_no_more_than_is_counted(tmp_path):
    """A large photograph through a bent lens, in a process of its own: the estimate is above the peak."""
    write_image(tmp_path / "a.jpg", torch.rand(150, 200, 3).repeat_interleave(10, 0).repeat_interleave(10, 1))
    asked = (
        "import sys, torch; from pathlib import Path; from dataclasses import replace;"
        "from gaussworld.camera import Camera, CameraModel; from gaussworld.capture import Frame;"
        "from recon.frames import load_view; from recon.memory import peak_memory;"
        "from recon.read import decoding_memory; torch.set_num_threads(1);"
        "camera = Camera.pinhole(torch.eye(4), 2000, 1500, 50.0);"
        "camera = replace(camera, model=CameraModel.OPENCV, distortion=(0.1, 0.0, 0.0, 0.0));"
        "small = Frame(camera.rescaled(80, 60), torch.rand(60, 80, 3)); load_view(small);"
        "before = peak_memory(); frame = Frame(camera, Path(sys.argv[1])); view = load_view(frame);"
        "print(peak_memory() - before, decoding_memory([frame], 0, 1))"
    )
    words = [sys.executable, "-c", asked, str(tmp_path / "a.jpg")]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    taken, counted = map(int, said.split())
    assert counted / 3 < taken < counted * 1.1
