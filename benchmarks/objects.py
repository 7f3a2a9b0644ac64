"""How well objects are found: `python benchmarks/objects.py SCENE RUN [SCENE RUN ...]`.

SCENE is what `gaussworld generate --still` wrote, with the true id of every pixel; RUN is a run folder of
`gaussworld recon` on it. Prints a table in Markdown: intersection over union of every object in pictures that
were held out from training, between the true ids and those drawn from the Gaussians, for

* masks: the true masks of the training pictures, as they are;
* noisy: those masks with a fifth of all masks dropped, and borders moved in or out by up to two pixels;
* shuffled: the noisy masks, numbered anew in each picture;
* geometry: no masks at all.

An object that geometry finds is compared with the true one that it overlaps the most.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from machine import commit, processor
from PIL import Image
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.gaussians import Gaussians
from gaussworld.io import load, load_capture
from gaussworld.log import drain
from recon.objects import cast_votes, cast_votes_of_pictures, decided, draw_ids, from_geometry

Ids = Int[Tensor, "h w"]
#: An object with fewer pixels in a picture does not count there.
FEWEST = 50


@dataclass(frozen=True, eq=False)
class Bench:
    """A reconstructed scene with its true ids."""

    name: str
    gaussians: Gaussians
    trained: list[tuple[Camera, Ids]]
    held_out: list[tuple[Camera, Ids]]
    names: dict[int, str]
    up: tuple[float, float, float]


def read(scene: Path, run: Path) -> Bench:
    """A scene and its run; the run's cameras are used, which are those of the scene."""
    truth = json.loads((scene / "truth.json").read_text())
    views: dict[str, list[tuple[Camera, Ids]]] = {"train": [], "test": []}
    for frame in load_capture(run).frames:
        assert isinstance(frame.image, Path)
        ids = np.array(Image.open(scene / "ids" / f"{frame.image.stem}.png")).astype(np.int64)
        views.setdefault(frame.split, []).append((frame.camera, torch.from_numpy(ids)))
    names = {item["id"]: item["name"] for item in truth["objects"]}
    return Bench(scene.name, load(run), views["train"], views["test"], names, tuple(truth["up"]))


def noisy(picture: Ids, generator: torch.Generator) -> Ids:
    """Masks as a program makes them: a fifth is missing, borders are off by up to two pixels."""
    result = torch.zeros_like(picture)
    for label in picture.unique().tolist():
        if not label or float(torch.rand(1, generator=generator)) < 0.2:
            continue
        mask = (picture == label).float()[None, None]
        size = int(torch.randint(0, 3, (1,), generator=generator)) * 2 + 1
        grown = bool(torch.rand(1, generator=generator) < 0.5)
        pooled = torch.nn.functional.max_pool2d(mask if grown else 1 - mask, size, 1, size // 2)[0, 0]
        result[(pooled if grown else 1 - pooled) > 0.5] = label
    return result


def shuffled(picture: Ids, generator: torch.Generator) -> Ids:
    """The same masks under other numbers."""
    names = torch.randperm(int(picture.max()) + 20, generator=generator) + 1
    return torch.where(picture > 0, names[picture], 0)


def scores(bench: Bench, ids: Int[Tensor, " n"]) -> dict[str, float]:
    """Intersection over union of each true object with the found one that overlaps it the most."""
    most, rows = int(ids.max()) + 1, max(bench.names) + 1
    shared = torch.zeros(rows, most)
    for camera, truth in bench.held_out:
        drawn = draw_ids(bench.gaussians, ids, camera).long()
        pairs = torch.bincount((truth * most + drawn).flatten(), minlength=rows * most).reshape(rows, most)
        # A sliver at the border of one picture is no measure of anything, but what is drawn there counts.
        slivers = pairs.sum(1) < FEWEST
        shared[0] += pairs[slivers].sum(0)
        shared[~slivers] += pairs[~slivers]
    union = shared.sum(0) + shared.sum(1, keepdim=True) - shared
    ratio = (shared / union.clamp(min=1))[:, 1:]
    seen = [number for number in bench.names if shared[number].sum() > 0]
    return {bench.names[i]: float(ratio[i].max()) if ratio.shape[1] else 0.0 for i in seen}


def ways(bench: Bench) -> dict[str, Callable[[], Int[Tensor, " n"]]]:
    """Every way of finding objects."""
    generator = torch.Generator().manual_seed(0)
    cameras = [camera for camera, _ in bench.trained]
    true = [ids for _, ids in bench.trained]
    rough = [noisy(ids, generator) for ids in true]
    mixed = [shuffled(ids, generator) for ids in rough]
    g = bench.gaussians
    return {
        "masks": lambda: decided(g, drain(cast_votes(g, cameras, true)).result).ids,
        "noisy": lambda: decided(g, drain(cast_votes(g, cameras, rough)).result).ids,
        "shuffled": lambda: decided(g, drain(cast_votes_of_pictures(g, cameras, mixed)).result).ids,
        "geometry": lambda: drain(from_geometry(g, cameras, bench.up)).result.ids,
    }


def measured(bench: Bench) -> list[float]:
    """Prints a table of one scene; gives the scores of all objects by geometry, for the last line."""
    found: dict[str, dict[str, float]] = {}
    seconds: dict[str, tuple[float, float]] = {}
    for name, way in ways(bench).items():
        wall, cpu = time.perf_counter(), time.process_time()
        ids = way()
        seconds[name] = time.perf_counter() - wall, time.process_time() - cpu
        found[name] = scores(bench, ids)
    sys.stdout.write(
        f"\n{bench.name}, {len(bench.gaussians):,} Gaussians, {len(bench.trained)} pictures with masks,"
        f" {len(bench.held_out)} held out\n\n| object | {' | '.join(found)} |\n|---{'|---' * len(found)}|\n"
    )
    for item in found["masks"]:
        line(item, [f"{found[way].get(item, 0.0):.3f}" for way in found])
    values = [list(found[way].values()) for way in found]
    line("**mean**", [f"{statistics.mean(each):.3f}" for each in values])
    line("**worst**", [f"{min(each):.3f}" for each in values])
    line("seconds (of processor)", [f"{wall:.1f} ({cpu:.1f})" for wall, cpu in seconds.values()])
    return values[-1]


def line(head: str, cells: Sequence[str]) -> None:
    sys.stdout.write(f"| {head} | {' | '.join(cells)} |\n")


def enlarged(gaussians: Gaussians, count: int) -> Gaussians:
    """So many Gaussians of the same scene: each is split into several smaller ones, for timing."""
    generator = torch.Generator().manual_seed(0)
    times = -(-count // len(gaussians))
    rows = torch.arange(len(gaussians)).repeat_interleave(times)[:count]
    many = gaussians.select(rows)
    shift = torch.randn(count, 3, generator=generator) * many.scales.amin(1, keepdim=True)
    smaller = many.log_scales - 0.5 * float(np.log(times))
    return Gaussians(many.means + shift, many.quats, smaller, many.opacity_logits, many.sh)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", type=Path, nargs="+", help="SCENE RUN, as often as there are scenes")
    parser.add_argument(
        "--size", type=int, default=200_000, help="Gaussians of the scene that is timed; 0: none"
    )
    args = parser.parse_args()
    if len(args.paths) % 2:
        parser.error("expected a run after every scene")
    sys.stdout.write(
        f"{date.today()}, commit {commit()}, {processor()}, {os.cpu_count()} cores,"
        f" {torch.get_num_threads()} threads\n"
    )
    benches = [read(scene, run) for scene, run in zip(args.paths[::2], args.paths[1::2])]
    for bench in benches:
        measured(bench)
    if args.size:
        first = benches[0]
        large = enlarged(first.gaussians, args.size)
        measured(
            Bench(
                f"{first.name} split for timing", large, first.trained, first.held_out, first.names, first.up
            )
        )


if __name__ == "__main__":
    main()
