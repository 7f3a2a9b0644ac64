"""`generate_episodes`: sets of simulated episodes, made on all cores, resumed when broken off."""

import multiprocessing
import shutil
import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gaussworld.errors import ConfigError, FileFormatError, GaussWorldError
from gaussworld.io.json_object import read_object
from gaussworld.log import Done, Event, Progress

from ..episodes import FORMAT, SPLITS, VERSION, write_episode, write_index
from ..episodes.layout import CARD, INDEX, MOST_BYTES
from .episodes_config import EpisodesConfig
from .families import trial_of
from .film import COARSER, film
from .forms import coarser
from .record import arrays_of, card_of, write_surfaces
from .shift import Shift
from .simulate import simulate
from .still import default_workers
from .trial import Family, Policy

_SECONDS_BETWEEN_LISTS = 5.0
_GOLDEN = 0.6180339887498949
_MIXED: tuple[Policy, ...] = ("scripted", "expert", "scripted", "random")


@dataclass(frozen=True)
class Made:
    """A finished set of episodes."""

    folder: Path
    episodes: int
    """In the folder."""
    steps: int
    """Control steps of all."""
    made: int
    """Episodes that were made now; the others were there."""


@dataclass(frozen=True)
class Job:
    """One episode to make."""

    name: str
    family: Family
    seed: int
    policy: Policy
    split: str
    steps: int
    row: int = 0
    """Among the episodes of its family."""
    filmed: bool = False
    shift: Shift = "none"

    @property
    def entry(self) -> dict[str, Any]:
        """Its line in the list of the set."""
        plain = {
            "name": self.name,
            "family": self.family,
            "seed": self.seed,
            "policy": self.policy,
            "split": self.split,
            "steps": self.steps,
        }
        return plain if self.shift == "none" else {**plain, "shift": self.shift}


def generate_episodes(
    out: Path | str, config: EpisodesConfig | None = None, workers: int | None = None
) -> Iterator[Event[Made]]:
    """Simulate episodes and write them; the same settings give the same files, on any number of processes.

    What is there already is kept, so that work that was broken off is gone on with, and a set grows when more
    `episodes` are asked for.

    Args:
        out: folder of the set.
        config: what to make.
        workers: processes; by default one for each core, at most eight.

    Raises:
        ConfigError: the folder holds something else, or episodes made with other settings.
        GaussWorldError: a process was killed.
        MissingDependency: mujoco is not installed.
        BackendUnavailable: cameras are asked for, and no off-screen OpenGL can be had.
    """
    out, config = Path(out), config or EpisodesConfig()
    if workers is not None and workers < 1:
        raise ConfigError(f"--workers: expected at least 1, got {workers}")
    jobs = jobs_of(config)
    _check_claim(out, config)
    finished = {job.name for job in jobs if (out / job.name / CARD).is_file()}
    _list(out, config, jobs, finished)
    # The first of every family come first, so that a set that is being made can be looked at.
    open_jobs = [job for job in jobs if job.name not in finished]
    open_jobs.sort(key=lambda job: job.row)
    yield Progress(len(finished), len(jobs), message="simulating")
    listed = time.monotonic()
    try:
        for name in _made(out, config, open_jobs, workers):
            finished.add(name)
            if time.monotonic() - listed > _SECONDS_BETWEEN_LISTS:
                _list(out, config, jobs, finished)
                listed = time.monotonic()
            yield Progress(len(finished), len(jobs), message="simulating")
    finally:
        _list(out, config, jobs, finished)
    steps = sum(job.steps for job in jobs)
    text = f"{len(jobs)} episodes of {', '.join(config.families)} are in {out}; {len(open_jobs)} are new."
    yield Done(Made(out, len(jobs), steps, len(open_jobs)), text)


def jobs_of(config: EpisodesConfig) -> list[Job]:
    """All episodes of a set; an episode does not change with how many others there are."""
    jobs = []
    for family in config.families:
        salt = zlib.crc32(family.encode())
        for i in range(config.episodes):
            words = [config.seed, salt, i]
            if config.shift != "none":
                # No shifted episode has the seed of one that somebody trains on.
                words.append(zlib.crc32(config.shift.encode()))
            state = np.random.SeedSequence(words).generate_state(1)
            policy: Policy = _MIXED[i % 4] if config.policy == "mixed" else config.policy
            split = _split(config, salt, i) if config.shift == "none" else "test"
            filmed = config.cameras > 0 and (config.filmed is None or i < config.filmed)
            name, seed = f"{family}-{i:05d}", int(state[0])
            jobs.append(Job(name, family, seed, policy, split, config.steps, i, filmed, config.shift))
    return jobs


def _split(config: EpisodesConfig, salt: int, i: int) -> str:
    """Golden-ratio steps keep the shares of any first so many episodes near what was asked for."""
    place = (salt / 2**32 + i * _GOLDEN) % 1.0
    bounds = np.cumsum(config.split)
    return SPLITS[min(int(np.searchsorted(bounds, place, side="right")), 2)]


def make(out: Path, job: Job, config: EpisodesConfig) -> str:
    """Make one episode: its folder appears when it is whole."""
    with coarser(COARSER):
        trial = trial_of(job.family, job.seed, job.policy, job.shift)
    recorded = simulate(trial, job.steps)
    begun = out / f".{job.name}.part"
    shutil.rmtree(begun, ignore_errors=True)
    begun.mkdir(parents=True)
    card = card_of(trial, recorded, job.split)
    if job.shift != "none":
        card["shift"] = job.shift
    write_surfaces(trial, recorded, begun)
    if job.filmed:
        card["cameras"] = film(trial, recorded, begun, config)
    write_episode(begun, card, arrays_of(trial, recorded))
    shutil.rmtree(out / job.name, ignore_errors=True)
    begun.rename(out / job.name)
    return job.name


def _made(out: Path, config: EpisodesConfig, jobs: Sequence[Job], workers: int | None) -> Iterator[str]:
    """Names of episodes as they are finished."""
    count = min(workers or default_workers(), len(jobs))
    if count <= 1:
        yield from (make(out, job, config) for job in jobs)
        return
    # A GL context does not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, context, _alone) as pool:
        waiting = [pool.submit(make, out, job, config) for job in jobs]
        try:
            for future in as_completed(waiting):
                yield future.result()
        except BrokenProcessPool as error:
            raise GaussWorldError(
                "a process that simulates was ended from outside, perhaps for want of memory; run the same"
                " again, with fewer --workers: the episodes that are there are kept"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _alone() -> None:
    """One thread for each process."""
    import torch

    torch.set_num_threads(1)


def _check_claim(out: Path, config: EpisodesConfig) -> None:
    """Refuse a folder that is not ours.

    Raises:
        ConfigError: it holds something else, or episodes made with other settings.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"expected a folder for the episodes, got the file {out}; name another place")
    if not out.is_dir() or not any(out.iterdir()):
        return
    try:
        index = read_object(out / INDEX, MOST_BYTES)
    except FileFormatError:
        index = {}
    before, now = index.get("config"), _settings(config)
    if index.get("format") != FORMAT or index.get("version") != VERSION or not isinstance(before, dict):
        raise ConfigError(
            f"expected a new folder or one that gaussworld generate wrote, got {out}, which holds other"
            " files; name another folder"
        )
    # More episodes and families make a set grow; all else makes another set.
    grown = ("episodes", "family")
    if other := sorted(
        key for key in {*before, *now} if before.get(key) != now.get(key) and key not in grown
    ):
        changed = ", ".join(f"{key} = {before.get(key)}" for key in other)
        raise ConfigError(
            f"expected the settings with which {out} was made ({changed}), got others; name another folder"
        )


def _settings(config: EpisodesConfig) -> dict[str, Any]:
    plain = asdict(config)
    if config.shift == "none":
        # Sets that were made before there were shifts go on.
        del plain["shift"]
    return {**plain, "family": list(config.families), "split": list(config.split)}


def _list(out: Path, config: EpisodesConfig, jobs: Sequence[Job], finished: set[str]) -> None:
    """Write the list of what is there."""
    write_index(out, _settings(config), [job.entry for job in jobs if job.name in finished])
