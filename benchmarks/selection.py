"""Speed of selecting, and quality of simplifying: `python benchmarks/selection.py [--size 500000] [RUN ...]`.

Prints tables in Markdown. Times are medians of several runs after a warm-up: of the wall, and of all threads'
processor time, which other jobs on the machine disturb less. RUN are folders with scene.ply and
transforms.json, as `gaussworld recon` and `gaussworld demo` write them: for those the likeness after
simplifying and after removing floaters is told too.
"""

import argparse
import gc
import math
import os
import statistics
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import torch
from machine import commit, processor

import gaussworld as gw
from gaussworld.camera import Camera, CameraModel
from gaussworld.floaters import floaters
from gaussworld.gaussians import Gaussians
from gaussworld.metrics import psnr
from gaussworld.render import render
from gaussworld.selection import (
    Neighborhood,
    components,
    connected,
    grow,
    in_box,
    in_brush,
    in_polygon,
    in_rectangle,
    in_sphere,
    like_color,
    pick,
    shrink,
    spacing,
)
from gaussworld.sh import sh0_from_rgb
from gaussworld.simplify import simplify

#: [m] step of floods and growth; about three times the spacing of 500,000 Gaussians in `room`.
DISTANCE = 0.025


def room(n: int, seed: int = 0) -> Gaussians:
    """A floor, two walls, twelve spheres of a colour each, and one Gaussian in 200 floating about."""
    g = torch.Generator().manual_seed(seed)
    flat, loose = int(0.6 * n), n // 200
    u, which = torch.rand(flat, 2, generator=g), torch.randint(0, 3, (flat,), generator=g)
    noise = 0.003 * torch.randn(flat, generator=g)
    floor = torch.stack([5 * u[:, 0], 4 * u[:, 1], noise], dim=1)
    left = torch.stack([5 * u[:, 0], noise, 2.4 * u[:, 1]], dim=1)
    right = torch.stack([noise, 4 * u[:, 0], 2.4 * u[:, 1]], dim=1)
    planes = torch.stack([floor, left, right])[which, torch.arange(flat)]
    ball = torch.randint(0, 12, (n - flat - loose,), generator=g)
    centers = torch.rand(12, 3, generator=g) * torch.tensor([4.0, 3.0, 1.0]) + 0.5
    around = torch.nn.functional.normalize(torch.randn(len(ball), 3, generator=g), dim=1)
    air = torch.rand(loose, 3, generator=g) * torch.tensor([5.0, 4.0, 2.5])
    means = torch.cat([planes, centers[ball] + 0.25 * around, air])
    label = torch.cat([which, 3 + ball, torch.full((loose,), 15)])
    rgb = torch.rand(16, 3, generator=g)[label] + 0.03 * torch.randn(n, 3, generator=g)
    log_scales = math.log(0.006 * math.sqrt(500_000 / n)) + 0.4 * torch.randn(n, 3, generator=g)
    log_scales[:, 0] -= 1.5
    logits = 1 + 2 * torch.randn(n, generator=g)
    order = torch.randperm(n, generator=g)
    rotations = torch.randn(n, 4, generator=g)
    return Gaussians(means[order], rotations, log_scales, logits, sh0_from_rgb(rgb[order])[:, None])


def medians_ms(work: Callable[[], object], rounds: int = 9) -> tuple[float, float]:
    """Median wall and processor time [ms] after a warm-up."""
    work()
    wall: list[float] = []
    cpu: list[float] = []
    gc.disable()
    for _ in range(rounds):
        start, busy = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - busy)
    gc.enable()
    return statistics.median(wall) * 1e3, statistics.median(cpu) * 1e3


def tools(scene: Gaussians) -> dict[str, Callable[[], object]]:
    """Every tool as a user would call it in a picture of 1280 x 720."""
    view = Camera.looking_at((4.8, 3.8, 2.2), (1.0, 1.0, 0.5), 1280, 720, 60.0)
    lens = Camera(view.world_from_camera, view.K, 1280, 720, CameraModel.OPENCV, (-0.05, 0.01, 0.001, 0.001))
    angle = torch.linspace(0, 2 * math.pi, 201)[:-1]
    radius = 300 * (1 + 0.2 * (9 * angle).sin())
    lasso = torch.stack([640 + 1.6 * radius * angle.cos(), 360 + radius * angle.sin()], dim=1)
    along = torch.linspace(0, 1, 100)
    stroke = torch.stack([100 + 1000 * along, 360 + 200 * (9 * along).sin()], dim=1)
    low, high = (200.0, 100.0), (900.0, 600.0)
    return {
        "pick": lambda: pick(scene, view.center, view.world_from_camera[:3, 2]),
        "rectangle": lambda: in_rectangle(scene, view, low, high),
        "rectangle, distorted lens": lambda: in_rectangle(scene, lens, low, high),
        "rectangle, front only": lambda: in_rectangle(scene, view, low, high, front_only=True),
        "polygon of 200 corners": lambda: in_polygon(scene, view, lasso),
        "brush of 100 points": lambda: in_brush(scene, view, stroke, 30.0),
        "box": lambda: in_box(scene, torch.eye(4), (3.0, 3.0, 1.0)),
        "sphere": lambda: in_sphere(scene, torch.ones(3), 1.0),
        "colour": lambda: like_color(scene, 0, 0.1),
    }


def floods(scene: Gaussians) -> dict[str, Callable[[Neighborhood | None], object]]:
    """Tools that need neighbours, with an index or without."""
    seed = torch.zeros(len(scene), dtype=torch.bool)
    seed[int(scene.means.sub(torch.tensor([2.5, 2.0, 0.0])).norm(dim=1).argmin())] = True
    box = in_box(scene, torch.eye(4), (3.0, 3.0, 1.0))
    return {
        "connected": lambda index: connected(scene, seed, DISTANCE, index=index),
        "connected, of one colour": lambda index: connected(scene, seed, DISTANCE, 0.1, index),
        "components": lambda index: components(scene, DISTANCE, index),
        "grow": lambda index: grow(scene, box, DISTANCE, index),
        "shrink": lambda index: shrink(scene, box, DISTANCE, index),
    }


def print_speed(scene: Gaussians) -> None:
    print("| tool | wall [ms] | processor [ms] |\n|---|---|---|")
    for name, work in tools(scene).items():
        print("| {} | {:.1f} | {:.1f} |".format(name, *medians_ms(work)), flush=True)
    index = Neighborhood.of(scene, DISTANCE)
    start, busy = time.perf_counter(), time.process_time()
    count = len(index.parts)
    parts = (time.perf_counter() - start) * 1e3, (time.process_time() - busy) * 1e3
    heads = "wall [ms] | processor [ms] | with index: wall [ms] | with index: processor [ms]"
    print(f"\n| with neighbours | {heads} |\n|---|---|---|---|---|")
    for name, work in floods(scene).items():
        alone, indexed = medians_ms(partial(work, None), 5), medians_ms(partial(work, index))
        print("| {} | {:.0f} | {:.0f} | {:.1f} | {:.1f} |".format(name, *alone, *indexed), flush=True)
    built = medians_ms(lambda: Neighborhood.of(scene, DISTANCE), 5)
    measured = medians_ms(lambda: spacing(scene.means), 3)
    print(
        "\nIndex, once a revision: sorting {:.0f} ms ({:.0f} ms processor), parts {:.0f} ms ({:.0f}),"
        " default distance {:.0f} ms ({:.0f}); {:,} cubes.".format(*built, *parts, *measured, count)
    )


def print_peers(scene: Gaussians) -> None:
    """What the same takes with a k-d tree; open3d's clustering on a fifth of them, if it is there."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import KDTree

    points = scene.means.double().numpy()
    start = time.perf_counter()
    tree = KDTree(points)
    build = time.perf_counter() - start
    pairs = tree.query_pairs(DISTANCE, output_type="ndarray")
    graph = coo_matrix((np.ones(len(pairs), dtype=np.int8), tuple(pairs.T)), shape=(len(points),) * 2)
    connected_components(graph, directed=False)
    whole = time.perf_counter() - start
    print(f"\nscipy KDTree: {build:.2f} s to build; components by pairs {whole:.2f} s, {len(pairs):,} pairs.")
    try:
        import open3d
    except ImportError:
        return
    few = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points[::5]))
    ours = scene.select(torch.arange(0, len(scene), 5))
    start = time.perf_counter()
    few.cluster_dbscan(DISTANCE, 1)
    theirs = time.perf_counter() - start
    print(
        f"open3d cluster_dbscan, {len(ours):,} points: {theirs * 1e3:.0f} ms;"
        f" components {medians_ms(lambda: components(ours, DISTANCE), 3)[0]:.0f} ms."
    )


def likeness(part: Gaussians, whole: Gaussians, cameras: list[Camera]) -> float:
    """[dB] mean PSNR of renderings against those of the whole scene."""
    with torch.no_grad():
        values = [psnr(render(part, c).rgb.clamp(0, 1), render(whole, c).rgb.clamp(0, 1)) for c in cameras]
    return sum(map(float, values)) / len(values)


def print_run(folder: Path) -> None:
    """Rows of the table of likeness for one reconstruction."""
    scene = gw.load(folder / "scene.ply")
    held_out = [f.camera for f in gw.load_capture(folder / "transforms.json").of("test")]
    scaled = [c.undistorted().rescaled(*_within(c.width, c.height, 480)) for c in held_out]
    rows = [("floaters removed", scene.select(~floaters(scene)))]
    areas = torch.sort(scene.log_scales, dim=1).values[:, 1:].sum(dim=1).exp()
    for share in (0.5, 0.25):
        count = round(share * len(scene))
        kept = (scene.opacities * areas).topk(count).indices.sort().values
        rows.append((f"{share:.0%} by opacity × area", scene.select(kept)))
        rows.append((f"{share:.0%} merged", simplify(scene, count)))
    for name, part in rows:
        like = likeness(part, scene, scaled)
        print(f"| {folder.name}, {len(scene):,} | {name} | {len(part):,} | {like:.1f} |")


def _within(width: int, height: int, longest: int) -> tuple[int, int]:
    scale = min(1.0, longest / max(width, height))
    return round(width * scale), round(height * scale)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="*", help="folders with scene.ply and transforms.json")
    parser.add_argument("--size", type=int, default=500_000)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--no-speed", action="store_true", help="only the runs")
    parser.add_argument("--no-peers", action="store_true", help="skip the slow k-d tree")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else math.nan
    print(
        f"{date.today()}, commit {commit()}, {processor()}, {arguments.threads} threads, load {load:.1f}"
        f" at the start, torch {torch.__version__}; {arguments.size:,} Gaussians\n"
    )
    if not arguments.no_speed:
        scene = room(arguments.size)
        print_speed(scene)
        start, busy = time.perf_counter(), time.process_time()
        simplify(scene, arguments.size // 2)
        wall, cpu = time.perf_counter() - start, time.process_time() - busy
        print(f"\nSimplify to half: {wall:.1f} s ({cpu:.1f} s processor).")
        if not arguments.no_peers:
            print_peers(scene)
    if arguments.runs:
        print("\n| scene | what | Gaussians left | PSNR to the whole scene, held-out cameras [dB] |")
        print("|---|---|---|---|")
    for folder in arguments.runs:
        print_run(folder)


if __name__ == "__main__":
    main()
