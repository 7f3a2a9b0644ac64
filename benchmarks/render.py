"""Speed and memory of the CPU rasterizer: `python benchmarks/render.py [--sizes 10000] [--no-reference]`.

Prints tables in Markdown. Times are medians of several runs after a warm-up; ratios are to the PyTorch
reference in the same run; the raster stages are also given as a share of the machine's multiply-add peak,
measured first.
"""

import argparse
import gc
import math
import statistics
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import torch
from machine import commit, processor

from gaussworld.camera import Camera
from gaussworld.gaussians import Gaussians
from gaussworld.render import cpu, kernels, render
from gaussworld.render.contract import RenderRequest
from gaussworld.sh import sh0_from_rgb

GARDEN = Path(__file__).resolve().parents[2] / "shared/data/garden_splats/test_garden.npz"
FIELDS = ("means", "quats", "log_scales", "opacity_logits", "sh")
# Floating-point operations for one Gaussian at one pixel, counted in raster.h and raster_backward.h; a
# multiply-add is two.
FORWARD_FLOPS, BACKWARD_FLOPS = 34, 56


def box_scene(n: int, seed: int = 0) -> Gaussians:
    """n Gaussians with SH3 that fill a box; sizes shrink with n, so that the picture stays about as full."""
    g = torch.Generator().manual_seed(seed)
    means = (torch.rand(n, 3, generator=g) * 2 - 1) * torch.tensor([1.3, 1.0, 1.0])
    log_scales = math.log(0.25 * n ** (-1 / 3)) + 0.5 * torch.randn(n, 3, generator=g)
    quats, logits = torch.randn(n, 4, generator=g), 2 * torch.randn(n, generator=g)
    return Gaussians(means, quats, log_scales, logits, 0.2 * torch.randn(n, 16, 3, generator=g))


def garden_scene() -> tuple[Gaussians, Camera]:
    """The garden's points with a camera; sizes from the distance to three neighbours."""
    from scipy.spatial import KDTree

    data = np.load(GARDEN)
    means, n = torch.from_numpy(data["means3d"]), len(data["means3d"])
    distance = KDTree(data["means3d"]).query(data["means3d"], k=4)[0][:, 1:].mean(1)
    sh = torch.zeros(n, 16, 3)
    sh[:, 0] = sh0_from_rgb(torch.from_numpy(data["colors"]).float() / 255)
    log_scales = torch.from_numpy(distance).float().clamp(1e-4, 0.1).log()[:, None].expand(-1, 3)
    quats = torch.tensor([1.0, 0, 0, 0]).expand(n, 4)
    scene = Gaussians(means, quats, log_scales.contiguous(), torch.full((n,), 1.0), sh)
    pose = torch.linalg.inv(torch.from_numpy(data["viewmats"][0]))
    camera = Camera(pose, torch.from_numpy(data["Ks"][0]), int(data["width"]), int(data["height"]))
    return scene, camera


def median_ms(work: Callable[[], object], seconds: float = 2.0, least: int = 3) -> float:
    """Median wall time [ms] of `work`, repeated for about `seconds` after two warm-up runs."""
    work(), work()
    times: list[float] = []
    gc.disable()
    while len(times) < least or (sum(times) < seconds and len(times) < 100):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    gc.enable()
    return statistics.median(times) * 1e3


def set_threads(count: int) -> None:
    torch.set_num_threads(count)
    kernels.set_threads(count)


def peak_gflops() -> float:
    """Multiply-add peak of the threads in use [GFLOP/s]."""
    rounds = 2_000_000
    best = min(median_ms(lambda: kernels.library().gw_multiply_adds(rounds), 0.5) for _ in range(3))
    return 512 * rounds * kernels.threads() / best / 1e6


def learnable(scene: Gaussians) -> Gaussians:
    return Gaussians(*(getattr(scene, name).clone().requires_grad_() for name in FIELDS))


def forward_and_backward(scene: Gaussians, camera: Camera, backend: str) -> Callable[[], None]:
    leaves = learnable(scene)
    g = torch.Generator().manual_seed(1)
    v_rgb = torch.randn(camera.height, camera.width, 3, generator=g) / (camera.height * camera.width)

    def work() -> None:
        render(leaves, camera, backend=backend).rgb.backward(v_rgb)  # type: ignore[arg-type]
        for name in FIELDS:
            getattr(leaves, name).grad = None

    return work


def forward_only(scene: Gaussians, camera: Camera, backend: str) -> Callable[[], object]:
    def work() -> object:
        with torch.no_grad():
            return render(scene, camera, backend=backend)  # type: ignore[arg-type]

    return work


class Stages:
    """The kernels called one by one, timed apart."""

    def __init__(self, scene: Gaussians, camera: Camera) -> None:
        self.leaves, self.camera = learnable(scene), camera
        projection = cpu._project(self.leaves, camera, RenderRequest())
        self.frame = projection.frame
        self.context = projection.means2d.grad_fn
        self.means2d = torch.empty(len(scene), 2)
        self.radii = torch.empty(len(scene), 2, dtype=torch.int32)
        self.rgb, self.alpha = (
            torch.empty(camera.height, camera.width, 3),
            torch.empty(camera.height, camera.width),
        )
        self.v_rgb = torch.randn(camera.height, camera.width, 3) / self.alpha.numel()
        outputs = [torch.empty_like(getattr(scene, name)) for name in FIELDS]
        self.kept = outputs
        pointers = (t.data_ptr() for t in (self.means2d, *outputs))
        self.gradient = kernels.ProjectionGradient(*pointers, None)

    def times(self, rounds: int = 15) -> dict[str, float]:
        """Median wall time of each stage [ms]."""
        calls = {
            "projection": ("gw_project", self.context.input, self.means2d, self.radii),
            "sort": ("gw_sort",),
            "tiles": ("gw_bin", 1),
            "raster": ("gw_blend", None, None, self.rgb, self.alpha, None),
            "raster backward": ("gw_blend_backward", self.v_rgb, None, None, 0, None, None, 0, None),
            "screen gradients": ("gw_screen_gradients", self.means2d, None),
            "projection backward": ("gw_project_backward", self.context.input, self.gradient),
        }
        taken: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(rounds):
            for name, (function, *arguments) in calls.items():
                start = time.perf_counter()
                self.frame.call(function, *arguments)
                taken[name].append((time.perf_counter() - start) * 1e3)
        return {name: statistics.median(times) for name, times in taken.items()}

    def count(self, what: str) -> int:
        return int(getattr(self.frame.library, f"gw_frame_{what}")(self.frame.handle))


def speed_rows(
    name: str, scene: Gaussians, camera: Camera, threads: list[int], with_reference: bool
) -> list[str]:
    cells: list[str] = []
    times: dict[int, tuple[float, float]] = {}
    for count in threads:
        set_threads(count)
        forward = median_ms(forward_only(scene, camera, "cpu"))
        times[count] = forward, median_ms(forward_and_backward(scene, camera, "cpu"))
        cells += [f"{times[count][0]:.1f}", f"{times[count][1]:.1f}"]
    first, last = times[threads[0]], times[threads[-1]]
    cells.append(f"{first[1] / last[1]:.2f}" if len(threads) > 1 else "–")
    if with_reference:
        forward = median_ms(forward_only(scene, camera, "reference"), 0, 1)
        both = median_ms(forward_and_backward(scene, camera, "reference"), 0, 1)
        cells += [f"{forward / last[0]:.0f}×", f"{both / last[1]:.0f}×"]
    else:
        cells += ["–", "–"]
    stages = Stages(scene, camera)
    stages.times(2)
    visible = max(stages.count("visible"), 1)
    cells += [f"{visible}", f"{stages.count('bytes') / visible:.0f}"]
    return [f"| {name} | {camera.width}×{camera.height} | " + " | ".join(cells) + " |"]


def stage_rows(name: str, scene: Gaussians, camera: Camera, threads: int, peak: float) -> list[str]:
    set_threads(threads)
    stages = Stages(scene, camera)
    times = stages.times()
    total = sum(times.values())
    evaluations = 16 * stages.count("contributions")
    forward = evaluations * FORWARD_FLOPS / times["raster"] / 1e6
    backward = evaluations * BACKWARD_FLOPS / times["raster backward"] / 1e6
    cells = [f"{t:.2f} ({100 * t / total:.0f} %)" for t in times.values()]
    cells += [f"{total:.1f}", f"{evaluations / 1e6:.1f}"]
    cells += [f"{100 * forward / peak:.0f} %", f"{100 * backward / peak:.0f} %"]
    return [f"| {name}, {camera.width}×{camera.height}, {threads} threads | " + " | ".join(cells) + " |"]


def cases(sizes: list[int]) -> list[tuple[str, Gaussians, Camera]]:
    found: list[tuple[str, Gaussians, Camera]] = []
    for n in sizes:
        for width, height in ((640, 480), (1920, 1080)):
            camera = Camera.looking_at((0.0, -3.0, 0.0), (0.0, 0.0, 0.0), width, height, 45.0)
            found.append((f"{n:,}", box_scene(n), camera))
    if GARDEN.exists():
        scene, camera = garden_scene()
        found.append((f"garden, {len(scene):,}", scene, camera))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 50_000, 100_000, 500_000, 2_000_000])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--no-reference", action="store_true", help="skip the slow PyTorch reference")
    arguments = parser.parse_args()
    print(
        f"{date.today()}, commit {commit()}, {processor()}, {kernels.environment()}, "
        f"torch {torch.__version__}\n"
    )
    peaks = {}
    for count in arguments.threads:
        set_threads(count)
        peaks[count] = peak_gflops()
    print(
        "Multiply-add peak: " + ", ".join(f"{p:.0f} GFLOP/s on {c} threads" for c, p in peaks.items()) + "\n"
    )
    heads = [f"{what}, {count} thr [ms]" for count in arguments.threads for what in ("fwd", "fwd+bwd")]
    heads += [
        "scaling",
        "reference / fwd",
        "reference / fwd+bwd",
        "visible",
        "workspace [B a visible Gaussian]",
    ]
    print("| Gaussians | picture | " + " | ".join(heads) + " |\n|" + "---|" * (len(heads) + 2))
    prepared = cases(arguments.sizes)
    for name, scene, camera in prepared:
        reference = not arguments.no_reference and len(scene) <= 100_000 and camera.width <= 640
        print("\n".join(speed_rows(name, scene, camera, arguments.threads, reference)), flush=True)
    heads = ["projection", "sort", "tiles", "raster", "raster bwd", "screen", "projection bwd", "sum [ms]"]
    heads += ["evaluations [M]", "raster, of peak", "raster bwd, of peak"]
    print("\n| stages [ms (share)] | " + " | ".join(heads) + " |\n|" + "---|" * (len(heads) + 1))
    for name, scene, camera in prepared:
        for count in arguments.threads:
            print("\n".join(stage_rows(name, scene, camera, count, peaks[count])), flush=True)
    try:
        import resource

        print(
            "\nPeak resident memory of the whole run: "
            f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB"
        )
    except ImportError:
        pass


if __name__ == "__main__":
    main()
