"""Copies of a world on disk: stored worlds whose edits are their history, pictures on request, labels."""

import json
import os
import shutil
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gaussworld.edit.plain import to_plain
from gaussworld.errors import ConfigError
from gaussworld.io.atomic import replacing
from gaussworld.log import Done, Event, Notice, Progress
from gaussworld.session import Session
from gaussworld.store import Store
from gaussworld.threads import one_torch_thread
from gaussworld.world import World

from .pictures import LAYOUT, write_pictures
from .settings import VaryConfig
from .variation import Base, Variation, prepared, record, varied

LABELS = "labels.json"
_MADE_BY = "gaussworld vary"


@dataclass(frozen=True)
class Varied:
    """What was written."""

    folder: Path
    copies: int
    moved: int
    """Things that were placed anew, over all copies."""
    judged: int
    """Of these, how many rest by simulation."""
    largest_drift: float | None
    """[mm] the farthest that one of them went in it."""
    without_room: int
    """Things that found no room and stayed, over all copies."""
    restless: int
    """Things that did not come to rest."""


def variations(
    world: World,
    out: Path,
    n: int,
    seed: int = 0,
    config: VaryConfig | None = None,
    *,
    render: bool = False,
    source: str = "",
) -> Generator[Event[Varied], None, None]:
    """Write n randomised copies of a world: OUT/0000.world, ..., OUT/0000/ with pictures, OUT/labels.json.

    Copy i is that of seed + i, whatever n is. The packs of copies are hard links of one file where the file
    system has them, so that what did not change is on the disk once.

    Args:
        world: what to vary.
        out: a new or empty folder.
        n: how many.
        seed: of the first copy.
        config: what may change; default: `VaryConfig()`.
        render: draw pictures with labels from each copy's cameras.
        source: where the world is from, for the labels.

    Raises:
        ConfigError: the folder holds something, or nothing can be varied.
        GaussWorldError: the file system refuses.
    """
    config = config or VaryConfig()
    if n < 1:
        raise ConfigError(f"--n: expected at least 1 copy, got {n}")
    _claim(out)
    yield Progress(0, n, message="finding what can be moved")
    try:
        with one_torch_thread():
            base = prepared(world, config)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    yield from (Notice(notice) for notice in base.notices)
    head = {"made_by": _MADE_BY, "source": source, "seed": seed, "settings": asdict(config)}
    head |= {"metres_per_unit": world.metres_per_unit, "up": world.up, "layout": LAYOUT if render else {}}
    copies: list[dict[str, Any]] = []
    template = out / ".base.world"
    try:
        _store_base(template, world, base, source)
        for i in range(n):
            with one_torch_thread():
                variation = varied(base, config, seed + i)
            _write_copy(out, f"{i:04d}", template, variation)
            labels = {"world": f"{i:04d}.world", **record(base, variation)}
            if render:
                labels["pictures"] = list(_drawn(variation, out / f"{i:04d}"))
            copies.append(labels)
            _write_labels(out, {**head, "copies": copies})
            yield from _told(base, variation, i)
            yield Progress(i + 1, n, message="copies")
    finally:
        shutil.rmtree(template, ignore_errors=True)
    yield Done(_summed(out, copies))


def _claim(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(
            f"--out: expected a new or empty folder, got {out}, which holds something; name another"
        )
    out.mkdir(parents=True, exist_ok=True)


def _store_base(path: Path, world: World, base: Base, source: str) -> None:
    with Store.create(path, world, details={"from": source}) as store:
        branch = store.branch()
        number, stored = branch.revision, store.read(branch.revision)
        # Not by a session, which would do them again: filling holes takes seconds.
        for each, after in base.steps:
            stored, number = store.commit(
                after,
                stored,
                parent=number,
                branch=branch.name,
                op=each.name,
                details=to_plain(each),
                author="vary",
            )


def _write_copy(out: Path, name: str, template: Path, variation: Variation) -> None:
    """A stored world whose history is the template's and the copy's edits; it appears when it is whole."""
    build = out / f".{name}.tmp"
    try:
        shutil.copytree(template, build, copy_function=_linked)
        with Session(build) as session:
            for each in variation.edits:
                session.do(each, "vary")
        build.rename(out / f"{name}.world")
    finally:
        shutil.rmtree(build, ignore_errors=True)


def _linked(source: str, target: str) -> str:
    """A hard link of a pack, which is never changed once it is closed; a copy of everything else."""
    if source.endswith(".pack"):
        try:
            os.link(source, target)
            return target
        except OSError:
            # Not every file system has links.
            pass
    return shutil.copy2(source, target)


def _drawn(variation: Variation, folder: Path) -> Iterator[dict[str, Any]]:
    with one_torch_thread():
        yield from write_pictures(variation.world, variation.cameras, folder)


def _write_labels(out: Path, labels: dict[str, Any]) -> None:
    with replacing(out / LABELS) as file:
        file.write((json.dumps(labels, indent=1, allow_nan=False) + "\n").encode())


def _told(base: Base, variation: Variation, number: int) -> Iterator[Notice]:
    def names(objects: tuple[int, ...]) -> str:
        return ", ".join(base.world.objects[each].name for each in objects)

    if variation.stuck:
        yield Notice(f"Copy {number}: no room for {names(variation.stuck)}; they stay where they were.")
    if variation.restless:
        yield Notice(f"Copy {number}: {names(variation.restless)} did not come to rest; labels.json says so.")


def _summed(out: Path, copies: list[dict[str, Any]]) -> Varied:
    things = [item for copy in copies for item in copy["objects"]]
    drifts = [item["drift_mm"] for item in things if item["drift_mm"] is not None]
    return Varied(
        folder=out,
        copies=len(copies),
        moved=sum(item["moved"] for item in things),
        judged=len(drifts),
        largest_drift=max(drifts, default=None),
        without_room=sum(len(copy["without_room"]) for copy in copies),
        restless=sum(len(copy["not_resting"]) for copy in copies),
    )
