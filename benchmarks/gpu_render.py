"""gsplat's CUDA kernels against the PyTorch reference, then their speed; prints markdown for results.md.

Needs an NVIDIA GPU, gsplat 1.5.x, and for gsplat's first build nvcc, a C++ compiler and ninja.

    python benchmarks/gpu_render.py            # everything
    python benchmarks/gpu_render.py --no-speed # only the comparison
"""

import argparse
import math
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import torch
from torch import Tensor

from gaussworld.camera import Camera, CameraModel
from gaussworld.gaussians import Gaussians
from gaussworld.pose import pose_from, rotation_from_rotvec
from gaussworld.render import Rendering, RenderSettings, cuda, render
from gaussworld.sh import coefficient_count

#: The bar to pass: mean absolute difference of pictures, relative norm of gradients.
IMAGE_LIMIT, GRADIENT_LIMIT = 1e-4, 1e-3
#: Pixels that may name another row, where two weights are equal up to rounding.
IDS_LIMIT = 1e-3
SIZES = ((640, 480), (1920, 1080))
COUNTS = (10_000, 100_000, 500_000, 2_000_000)
FIELDS = ("means", "quats", "log_scales", "opacity_logits", "sh")


def main() -> int:
    """Compare, time, print; the exit status is 1 when a comparison fails or gsplat cannot run on the GPU."""
    options = _options()
    if not torch.cuda.is_available():
        print("no CUDA device: nothing to compare or time here")
        return 0
    if missing := cuda.missing():
        print(missing)
        return 1
    print(_heading())
    good = True
    if options.parity:
        good = _print_parity(list(compare_all(torch.device("cuda"), "cuda")))
    if options.speed:
        _print_speed(options.counts, options.repeat)
    return 0 if good else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--parity", action=argparse.BooleanOptionalAction, default=True, help="compare pictures"
    )
    parser.add_argument("--speed", action=argparse.BooleanOptionalAction, default=True, help="time them")
    parser.add_argument(
        "--counts", type=int, nargs="+", default=list(COUNTS), help="numbers of Gaussians to time"
    )
    parser.add_argument("--repeat", type=int, default=20, help="timed runs of each; the median is printed")
    return parser.parse_args()


def _heading() -> str:
    import gsplat

    device = torch.cuda.get_device_properties(0)
    lines = [
        f"## CUDA rasterizer, {date.today()}",
        "",
        f"{device.name} ({device.total_memory / 2**30:.0f} GiB), torch {torch.__version__} for CUDA"
        f" {torch.version.cuda}, gsplat {gsplat.__version__}, commit {_commit()}",
        "",
    ]
    return "\n".join(lines)


def _commit() -> str:
    """The commit of this checkout, or that there is none."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=10"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


@dataclass(frozen=True)
class Comparison:
    """How far one backend is from the double-precision reference on one scene."""

    name: str
    pictures: dict[str, float]
    """Mean absolute difference of each output."""
    gradients: dict[str, float]
    """Norm of the difference over the norm, for each parameter."""
    ids: float
    """Share of pixels that name another row."""

    @property
    def good(self) -> bool:
        """Within the limits; a NaN is not."""
        pictures = all(value <= IMAGE_LIMIT for value in self.pictures.values())
        gradients = all(value <= GRADIENT_LIMIT for value in self.gradients.values())
        return pictures and gradients and self.ids <= IDS_LIMIT


def compare_all(device: torch.device, backend: str) -> Iterator[Comparison]:
    """Every scene through every kind of camera, with both filters and with a mask."""
    scenes = {"random": random_scene(3000), "nasty": nasty_scene()}
    for scene_name, scene in scenes.items():
        for camera_name, camera in cameras().items():
            for antialiased in (False, True):
                settings = RenderSettings(antialiased=antialiased)
                name = f"{scene_name}, {camera_name}{', antialiased' if antialiased else ''}"
                yield compare(name, scene.to(device), camera.to(device), backend, settings)
        mask = torch.rand(240, 320, generator=torch.Generator().manual_seed(0)) > 0.3
        mask[32:100, 60:200] = False
        pinhole = cameras()["pinhole"].to(device)
        yield compare(
            f"{scene_name}, masked", scene.to(device), pinhole, backend, RenderSettings(), mask.to(device)
        )


def compare(
    name: str,
    gaussians: Gaussians,
    camera: Camera,
    backend: str,
    settings: RenderSettings,
    mask: Tensor | None = None,
) -> Comparison:
    """Draw and differentiate with `backend` in single and with the reference in double precision."""
    ours, our_gradients = _drawn(gaussians, camera, backend, settings, mask)
    exact = gaussians.map(lambda value: value.double() if value.is_floating_point() else value)
    theirs, their_gradients = _drawn(exact, camera, "reference", settings, mask)
    pictures = {}
    for output in ("rgb", "alpha", "depth", "normals", "features"):
        a, b = getattr(ours, output).detach().double(), getattr(theirs, output).detach()
        if output == "depth":
            # A splat at the 1/255 threshold switches a pixel's depth between 0 and its own: weigh by alpha.
            a, b = a * ours.alpha.detach().double(), b * theirs.alpha.detach()
        pictures[output] = float((a - b).abs().mean())
    shown = (ours.radii.amax(-1) > 0) & (theirs.radii.amax(-1) > 0)
    pairs = {key: (our_gradients[key], their_gradients[key]) for key in our_gradients}
    for attribute in ("grad", "absgrad"):
        a, b = getattr(ours.means2d, attribute), getattr(theirs.means2d, attribute)
        pairs[f"means2d.{attribute}"] = (a[shown], b[shown])
    gradients = {key: _relative(a, b) for key, (a, b) in pairs.items()}
    return Comparison(name, pictures, gradients, float((ours.ids != theirs.ids).double().mean()))


def _relative(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm().clamp(min=1e-12))


def _drawn(
    gaussians: Gaussians, camera: Camera, backend: str, settings: RenderSettings, mask: Tensor | None
) -> tuple[Rendering, dict[str, Tensor]]:
    """The picture, and the gradients of a loss that weighs every output by fixed random numbers."""
    scene = gaussians.map(lambda v: v.detach().clone().requires_grad_() if v.is_floating_point() else v)
    twist = scene.means.new_zeros(6).requires_grad_()
    step = pose_from(rotation_from_rotvec(twist[:3]), twist[3:])
    view = replace(camera, world_from_camera=camera.world_from_camera.to(scene.means) @ step)
    image = render(
        scene,
        view,
        background=(0.2, 0.4, 0.6),
        features=scene.means.detach(),
        mask=mask,
        outputs=("depth", "normals", "ids", "absgrad"),
        settings=settings,
        backend=backend,
    )
    g = torch.Generator().manual_seed(0)
    loss = scene.means.new_zeros(())
    for output in ("rgb", "alpha", "normals", "features"):
        picture = getattr(image, output)
        loss = loss + (picture * torch.randn(picture.shape, generator=g).to(picture)).sum()
    loss = (
        loss
        + (image.depth * image.alpha.detach() * torch.rand(image.depth.shape, generator=g).to(loss)).sum()
    )
    loss.backward()
    gradients = {name: getattr(scene, name).grad for name in FIELDS}
    return image, {**gradients, "pose": twist.grad}


def _print_parity(results: list[Comparison]) -> bool:
    print(
        f"Against the reference in float64; limits {IMAGE_LIMIT:g} and, for gradients, {GRADIENT_LIMIT:g}:\n"
    )
    print("| scene | worst picture | | worst gradient | | other ids | |")
    print("|---|---|--:|---|--:|--:|---|")
    for result in results:
        picture = max(result.pictures, key=lambda key: _or_infinity(result.pictures[key]))
        gradient = max(result.gradients, key=lambda key: _or_infinity(result.gradients[key]))
        print(
            f"| {result.name} | {picture} | {result.pictures[picture]:.1e} | {gradient}"
            f" | {result.gradients[gradient]:.1e} | {result.ids:.1e} | {'ok' if result.good else 'TOO FAR'} |"
        )
    print()
    return all(result.good for result in results)


def _or_infinity(value: float) -> float:
    return math.inf if math.isnan(value) else value


def _print_speed(counts: list[int], repeat: int) -> None:
    print("Random scene with SH degree 3; median of", repeat, "runs.\n")
    print("| Gaussians | picture | forward ms | forward + backward ms | peak MiB |")
    print("|--:|---|--:|--:|--:|")
    for count in counts:
        scene = random_scene(count, for_speed=True).to("cuda")
        leaves = scene.map(lambda v: v.requires_grad_() if v.is_floating_point() else v)
        for width, height in SIZES:
            camera = Camera.looking_at((0.0, -3.0, 0.5), (0.0, 0.0, 0.0), width, height).to("cuda")
            try:
                row = _timed_row(leaves, camera, repeat)
            except torch.cuda.OutOfMemoryError:
                row = "out of memory | | "
                torch.cuda.empty_cache()
            print(f"| {count:,} | {width}x{height} | {row} |", flush=True)


def _timed_row(leaves: Gaussians, camera: Camera, repeat: int) -> str:
    wanted = torch.rand(camera.height, camera.width, 3, device="cuda")

    def forward() -> None:
        with torch.no_grad():
            render(leaves, camera, backend="cuda")

    def both() -> None:
        for name in FIELDS:
            getattr(leaves, name).grad = None
        (render(leaves, camera, backend="cuda").rgb * wanted).sum().backward()

    torch.cuda.reset_peak_memory_stats()
    times = [milliseconds(run, repeat) for run in (forward, both)]
    return f"{times[0]:.2f} | {times[1]:.2f} | {torch.cuda.max_memory_allocated() / 2**20:.0f}"


def milliseconds(run: Callable[[], None], repeat: int, warm_up: int = 3) -> float:
    """Median time of `run` on the GPU's own clock."""
    for _ in range(warm_up):
        run()
    times = []
    for _ in range(repeat):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def cameras() -> dict[str, Camera]:
    """One view through each camera model."""
    pinhole = Camera.looking_at((0.0, -3.0, 0.0), (0.0, 0.0, 0.0), 320, 240)
    return {
        "pinhole": pinhole,
        "opencv": replace(pinhole, model=CameraModel.OPENCV, distortion=(-0.1, 0.03, 0.001, -0.001)),
        "fisheye": replace(pinhole, model=CameraModel.FISHEYE, distortion=(-0.03, 0.01, -0.003, 0.0)),
    }


def random_scene(n: int, for_speed: bool = False) -> Gaussians:
    """A ball of Gaussians of mixed sizes; `for_speed` makes them as small as those of a real scene are."""
    g = torch.Generator().manual_seed(0)
    size = math.log((0.25 if for_speed else 0.35) / n ** (0.4 if for_speed else 1 / 3))
    return Gaussians(
        means=0.5 * torch.randn(n, 3, generator=g),
        quats=torch.randn(n, 4, generator=g),
        log_scales=size + 0.6 * torch.randn(n, 3, generator=g),
        opacity_logits=1.5 * torch.randn(n, generator=g),
        sh=0.3 * torch.randn(n, coefficient_count(3), 3, generator=g),
    )


def nasty_scene() -> Gaussians:
    """Huge, tiny, needle-like, edge-on, behind the camera, too near, stacked; seen from (0, -3, 0)."""
    rows = [
        ((0.0, 0.5, 0.0), (2.5, 2.5, 2.5), -1.0),  # the camera is inside
        ((5.0, 40.0, 9.0), (3.5, 3.0, 2.0), 0.5),  # a wall behind everything
        ((0.1, 0.0, 0.1), (-14.0, -14.0, -14.0), 3.0),  # far smaller than a pixel
        ((-0.2, 0.1, 0.2), (0.3, -9.0, -9.0), 1.0),  # a needle
        ((0.0, 0.2, 0.3), (-16.0, -0.7, -0.7), 2.0),  # a disc, edge-on
        ((0.0, -4.0, 0.0), (-1.0, -1.0, -1.0), 2.0),  # behind the camera
        ((0.001, -2.98, 0.001), (-7.0, -7.0, -7.0), 0.0),  # just beyond the near plane
        ((0.0, -2.995, 0.0), (-4.0, -4.0, -4.0), 2.0),  # before it
        ((30.0, 0.0, 0.0), (1.0, 1.0, 1.0), 2.0),  # far to the side
        ((0.3, 0.3, 0.3), (-1.5, -2.0, -1.0), 15.0),  # opaque
        ((-0.3, 0.3, 0.3), (-1.5, -2.0, -1.0), -15.0),  # invisible
        *[((-0.1, -0.2, 0.0), (-1.2, -1.2, -1.2), 2.5)] * 12,  # one place: order by row, early stop
    ]
    g = torch.Generator().manual_seed(0)
    n = len(rows)
    return Gaussians(
        means=torch.tensor([row[0] for row in rows]),
        quats=torch.tensor([[1.0, 0.0, 0.0, 0.0]]) + 0.02 * torch.randn(n, 4, generator=g),
        log_scales=torch.tensor([row[1] for row in rows]),
        opacity_logits=torch.tensor([row[2] for row in rows]),
        sh=0.4 * torch.randn(n, coefficient_count(3), 3, generator=g),
    )


if __name__ == "__main__":
    sys.exit(main())
