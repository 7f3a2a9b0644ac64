"""Speed of worlds on disk: `python benchmarks/store.py [--size 1000000] [--objects 200] [--folder DIR]`.

Prints a table in Markdown: medians of several runs after a warm-up, and the spread. The peers, in the same
run, write and read the same arrays with safetensors and with numpy.save, both with fsync.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import torch
from machine import commit, processor
from safetensors.torch import load_file, save_file

import gaussworld as gw
from gaussworld import edit
from gaussworld.session import Session
from gaussworld.store import Store

ARRAYS = ("means", "quats", "log_scales", "opacity_logits", "sh")


def world_of(size: int, objects: int) -> gw.World:
    """Objects of equal size, SH degree 3, and one of 5,000 Gaussians."""
    g = torch.Generator().manual_seed(0)
    sizes = [5000, *[(size - 5000) // (objects - 1)] * (objects - 1)]
    made = {}
    for number, n in enumerate(sizes):
        arrays = (torch.randn(n, *tail, generator=g) for tail in ((3,), (4,), (3,), (), (16, 3)))
        made[number] = gw.WorldObject(number, f"object {number}", gw.Gaussians(*arrays), gw.ObjectKind.RIGID)
    return gw.World(made)


def times(work: Callable[[], object], runs: int, before: Callable[[], object] = lambda: None) -> list[float]:
    """[s] of each run but the first, which warms up."""
    taken = []
    for _ in range(runs + 1):
        before()
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return taken[1:]


def synced(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def numpy_saved(arrays: dict[str, torch.Tensor], folder: Path) -> None:
    for name, values in arrays.items():
        with (folder / f"{name}.npy").open("wb") as file:
            np.save(file, values.numpy())
            file.flush()
            os.fsync(file.fileno())


def row(name: str, taken: list[float], note: str = "") -> None:
    low, middle, high = min(taken) * 1e3, statistics.median(taken) * 1e3, max(taken) * 1e3
    sys.stdout.write(f"| {name} | {middle:.1f} ms | {low:.1f} to {high:.1f} ms | {note} |\n")


def pack_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in (path / "packs").iterdir())


def database_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.glob("world.db*"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=1_000_000, help="Gaussians in the world")
    parser.add_argument("--objects", type=int, default=200)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument(
        "--folder", type=Path, default=None, help="where to write; default: the temporary folder"
    )
    args = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="store-", dir=args.folder))
    try:
        measured(scratch, world_of(args.size, args.objects), args.runs)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def measured(scratch: Path, world: gw.World, runs: int) -> None:
    path, peer = scratch / "a.world", scratch / "a.safetensors"
    parts = [item.gaussians for item in world.objects.values()]
    whole = {name: torch.cat([getattr(part, name) for part in parts]) for name in ARRAYS}
    size = sum(map(len, parts))
    sys.stdout.write(
        f"{date.today()}, commit {commit()}, {processor()}, {os.cpu_count()} cores;"
        f" {size:,} Gaussians, SH degree 3, {len(parts)} objects, {size * 236 / 1e6:.0f} MB."
        "\n\n| what | median | spread | |\n|---|---|---|---|\n"
    )

    def safetensors() -> None:
        save_file(whole, peer)
        synced(peer)

    # Taken in turn, so that a busy disk hits both alike.
    ours, theirs, plain = [], [], []
    for _ in range(runs):
        theirs += times(safetensors, 1)
        plain += times(lambda: numpy_saved(whole, scratch), 1)
        ours += times(
            lambda: Store.create(path, world).close(), 1, lambda: shutil.rmtree(path, ignore_errors=True)
        )
    row("write with safetensors, fsync", theirs)
    row("write with numpy.save, fsync", plain)
    ratios = [statistics.median(ours) / statistics.median(peer) for peer in (theirs, plain)]
    row("first write of a world", ours, f"{ratios[0]:.2f} × safetensors, {ratios[1]:.2f} × numpy")
    row("read with safetensors", times(lambda: load_file(peer), runs))
    row("open", times(lambda: gw.World.open(path), runs))
    with Session(path) as session:
        edits(session, runs)
    whole_object(scratch, whole, runs)


def edits(session: Session, runs: int) -> None:
    path = session.path
    session.do(edit.Move((7,), (0.1, 0.0, 0.0)))
    packs, database = pack_bytes(path), database_bytes(path)
    taken = times(lambda: session.do(edit.Move((7,), (0.1, 0.0, 0.0))), 20)
    payload, pages = pack_bytes(path) - packs, database_bytes(path) - database
    note = f"{payload / 21:.0f} B of payload, {pages / 21:.0f} B of SQLite"
    row("move one object, committed", taken, note)
    packs = pack_bytes(path)
    shades = iter(torch.linspace(0.1, 0.9, 100).tolist())
    taken = times(lambda: session.do(edit.Recolour(edit.Target((0,)), (next(shades), 0.5, 0.5))), 20)
    row("recolour an object of 5,000", taken, f"{(pack_bytes(path) - packs) / 21 / 1e6:.2f} MB of payload")
    row("undo that", times(session.undo, 15))
    row("redo it", times(session.redo, 15))


def whole_object(scratch: Path, whole: dict[str, torch.Tensor], runs: int) -> None:
    """All Gaussians as one object: what an edit of everything costs."""
    path = scratch / "b.world"
    world = gw.World({0: gw.WorldObject(0, "all", gw.Gaussians(**whole))})
    with Session.create(path, world) as session:
        row("one object of all: open", times(lambda: gw.World.open(path), runs))
        shades = iter(torch.linspace(0.1, 0.9, 100).tolist())
        everything = edit.Target((0,))
        row("recolour all", times(lambda: session.do(edit.Recolour(everything, (next(shades), 0.5, 0.5))), 3))
        row("undo that", times(session.undo, 3))
        count, starts = len(whole["means"]), iter(range(0, 10**9, 5000))

        def erase() -> None:
            mask = torch.zeros(count, dtype=torch.bool)
            start = next(starts)
            mask[start : start + 5000] = True
            session.do(edit.Erase(edit.Target(rows=edit.Rows.from_masks({0: mask}))))

        row("erase 5,000 of it", times(erase, 5))
        row("undo that", times(session.undo, 5))


if __name__ == "__main__":
    main()
