"""`generate_still`: simulated captures with known truth - scenes at rest, seen by a ring of cameras."""

import json
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gaussworld.camera import Camera
from gaussworld.capture import Capture, Frame
from gaussworld.config import toml_from_config
from gaussworld.errors import ConfigError, GaussWorldError
from gaussworld.io import save_cameras
from gaussworld.io.atomic import replacing
from gaussworld.io.images import write_depth, write_image
from gaussworld.log import Done, Event, Progress

from .arrange import arranged, random_scene
from .cameras import ring
from .config import StillConfig
from .draw import Artist, SimView
from .mjcf import compiled
from .scene import SceneState, SimScene
from .settle import supports
from .truth import truth, write_meshes

_CARD, _MADE_BY, _FORMAT = "generate.json", "gaussworld generate", 1


@dataclass(frozen=True)
class Still:
    """A finished set of simulated captures."""

    folders: tuple[Path, ...]
    """One for each state; each is a capture with truth.json beside it."""
    views: int
    """Pictures of each."""
    drawn: int
    """Pictures that were made now; the others were there."""


@dataclass(frozen=True)
class _Job:
    """One picture to draw."""

    folder: Path
    state: int
    view: int


@dataclass(frozen=True)
class _Studio:
    """All that drawing needs, in a form that other processes can be given."""

    scene: SimScene
    model: Any
    states: list[SceneState]
    rings: list[list[Camera]]

    @cached_property
    def artist(self) -> Artist:
        camera = self.rings[0][0]
        return Artist(self.scene, camera.width, camera.height, self.model)


def generate_still(
    out: Path | str, config: StillConfig | None = None, workers: int | None = None
) -> Iterator[Event[Still]]:
    """Simulate a scene at rest and draw it: calibrated RGB-D with true ids, and the truth behind them.

    The same settings give the same files. A folder that was finished is left as it is; one that was broken
    off is gone on with.

    Args:
        out: folder of the first state; others go into `state-1`, `state-2`, ... in it.
        config: what is in the scene, and how it is seen.
        workers: processes that draw; by default as many as help.

    Raises:
        ConfigError: the folder holds something else, or other settings; or things do not fit on the table.
        GaussWorldError: a process that draws was killed.
        MissingDependency: mujoco is not installed.
        BackendUnavailable: no off-screen OpenGL can be had.
    """
    out, config = Path(out), config or StillConfig()
    if workers is not None and workers < 1:
        raise ConfigError(f"--workers: expected at least 1, got {workers}")
    folders = tuple(out / f"state-{i}" if i else out for i in range(config.states + 1))
    if _claimed(out, config):
        yield Done(Still(folders, config.views, 0), f"{out} is finished already.")
        return
    total = config.views * len(folders)
    yield Progress(0, total, message="arranging")
    scene = random_scene(config)
    model = compiled(scene)
    states = arranged(config, scene, model)
    rings = [ring(config, i) for i in range(len(states))]
    for folder, state, cameras in zip(folders, states, rings):
        _write_truth(folder, config, scene, state, supports(model, scene, state), cameras)
    jobs = [
        job
        for state, folder in enumerate(folders)
        for job in (_Job(folder, state, view) for view in range(config.views))
        if not all(path.is_file() for path in _paths(folder, job.view))
    ]
    done = total - len(jobs)
    for count in _drawn(jobs, _Studio(scene, model, states, rings), workers):
        done += count
        yield Progress(done, total, message="drawing")
    _write_card(out, config, finished=True)
    text = f"Wrote {len(folders)} state(s) with {config.views} views each to {out}."
    yield Done(Still(folders, config.views, len(jobs)), text)


def _drawn(jobs: list[_Job], studio: _Studio, workers: int | None) -> Iterator[int]:
    """Draw pictures, here or in several processes; yields how many more are there."""
    count = min(workers or default_workers(), max(1, len(jobs) // 8))
    if count == 1:
        yield from _draw(jobs, studio)
        if jobs:
            studio.artist.close()
        return
    chunks = [jobs[start :: 4 * count] for start in range(4 * count)]
    # A GL context does not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, context, _open, (studio,)) as pool:
        waiting = [pool.submit(_draw_chunk, chunk) for chunk in chunks]
        try:
            for future in as_completed(waiting):
                yield future.result()
        except BrokenProcessPool as error:
            raise GaussWorldError(
                "a process that draws was ended from outside, perhaps for want of memory; run the same again,"
                " with fewer --workers: what was drawn is kept"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def default_workers() -> int:
    """As many as there are cores, but no more than eight."""
    usable = getattr(os, "sched_getaffinity", None)
    return min(8, len(usable(0)) if usable else os.cpu_count() or 1)


_here: dict[str, _Studio] = {}


def _open(studio: _Studio) -> None:
    """Get a process of the pool ready to draw."""
    _here["studio"] = studio


def _draw_chunk(jobs: list[_Job]) -> int:
    return sum(_draw(jobs, _here["studio"]))


def _draw(jobs: list[_Job], studio: _Studio) -> Iterator[int]:
    """Draw and write one picture after the other."""
    for job in jobs:
        studio.artist.show(studio.states[job.state])
        _write_view(job.folder, job.view, studio.artist.draw(studio.rings[job.state][job.view]))
        yield 1


def _paths(folder: Path, view: int) -> tuple[Path, Path, Path]:
    picture, depth, ids = (folder / kind / f"{view:04d}.png" for kind in ("images", "depth", "ids"))
    return picture, depth, ids


def _write_view(folder: Path, view: int, seen: SimView) -> None:
    picture, depth, ids = _paths(folder, view)
    write_image(picture, seen.rgb)
    write_depth(depth, seen.depth)
    with replacing(ids) as file:
        Image.fromarray(seen.ids.numpy().astype(np.uint16)).save(file, "PNG")


def _write_truth(
    folder: Path,
    config: StillConfig,
    scene: SimScene,
    state: SceneState,
    rests_on: dict[int, tuple[int, ...]],
    cameras: list[Camera],
) -> None:
    """Everything of a state but its pictures."""
    write_meshes(scene, folder)
    _write_json(folder / "truth.json", truth(scene, state, rests_on, config.seed))
    frames = []
    for i, camera in enumerate(cameras):
        picture, depth, _ = _paths(folder, i)
        frames.append(Frame(camera, picture, depth=depth))
    save_cameras(Capture(tuple(frames), metres_per_unit=1.0), folder / "transforms.json")


def _claimed(out: Path, config: StillConfig) -> bool:
    """Make the folder ours; True if all is there already.

    Raises:
        ConfigError: it holds something else, or pictures made with other settings.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"expected a folder for the captures, got the file {out}; name another place")
    if not out.is_dir() or not any(out.iterdir()):
        _write_card(out, config, finished=False)
        return False
    card = _read_card(out)
    before, now = card.get("settings"), _settings(config)
    if card.get("made_by") != _MADE_BY or card.get("format") != _FORMAT or not isinstance(before, dict):
        raise ConfigError(
            f"expected a new folder or one that gaussworld generate wrote, got {out}, which holds other"
            " files; name another folder"
        )
    if other := sorted(key for key in {*before, *now} if before.get(key) != now.get(key)):
        changed = ", ".join(f"{key} = {before.get(key)}" for key in other)
        raise ConfigError(
            f"expected the settings with which {out} was made ({changed}), got others; name another folder"
        )
    return card.get("finished") is True


def _settings(config: StillConfig) -> dict[str, str]:
    lines = (line.partition(" = ") for line in toml_from_config(config).splitlines() if " = " in line)
    return {key: value for key, _, value in lines}


def _read_card(out: Path) -> dict[str, Any]:
    try:
        card = json.loads((out / _CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return card if isinstance(card, dict) else {}


def _write_card(out: Path, config: StillConfig, finished: bool) -> None:
    card = {"made_by": _MADE_BY, "format": _FORMAT, "settings": _settings(config), "finished": finished}
    _write_json(out / _CARD, card)


def _write_json(path: Path, value: object) -> None:
    with replacing(path) as file:
        file.write((json.dumps(value, indent=1) + "\n").encode())
