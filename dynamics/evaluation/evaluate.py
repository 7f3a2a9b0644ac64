"""`evaluating`: many models in many episodes, on several processes, resumed when broken off."""

import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import torch

from gaussworld import __version__
from gaussworld.errors import CaptureError, ConfigError, EditError, GaussWorldError, UnknownScale
from gaussworld.log import Done, Event, Notice, Progress, drain
from gaussworld.threads import one_torch_thread
from gaussworld.verbs import resolve
from gaussworld.world import World

from ..episodes import Episode
from ..episodes.seen import seen_world
from ..models import Builder
from .cases import Sets, cases, check_unseen
from .entrants import Entrant, entrants
from .judge import RECORDING, judge, reference
from .judged import Judged
from .kept import Kept
from .pictures import Gallery, Perceptual
from .report import Report, report_of
from .settings import BASELINES, EvaluateConfig
from .truth import Truth

#: Folder of what was found of single episodes, in a report's folder.
KEPT = "judged"
#: The recording stands beside the models; its figures change with the program only.
_RECORDING = Entrant(RECORDING, None, f"{RECORDING} {__version__}")


@dataclass(frozen=True)
class Job:
    """An episode in which models are judged."""

    folder: Path
    models: tuple[Entrant, ...]
    config: EvaluateConfig
    seen: Path | None


@dataclass(frozen=True)
class Found:
    """What a job found, or why nothing can be said."""

    judged: tuple[Judged, ...]
    left_out: str | None = None


def evaluating(
    episodes: Sets,
    models: Sequence[str | Path] | Mapping[str, Builder] = BASELINES,
    config: EvaluateConfig | None = None,
    *,
    out: Path | None = None,
    seen: Path | None = None,
    workers: int = 1,
    fresh: bool = False,
) -> Iterator[Event[Report]]:
    """Judge models in recorded episodes.

    Args:
        episodes: a set, or several; folders of single episodes are sets, too.
        models: names, folders or NAME=FOLDER, or a mapping of names to what makes them.
        config: what is judged and measured.
        out: keeps what was found of each episode, so that the same call goes on where it was broken off.
        seen: worlds are reconstructed from the episodes' first RGB-D frames, into this folder.
        workers: processes.
        fresh: find everything anew, whatever is kept.

    Raises:
        CaptureError: there are no such episodes, or they do not all mean the same by an action.
        ConfigError: no such model, or one that was trained on these episodes, or is for another rate.
        FileFormatError: a damaged episode or model.
    """
    config = config or EvaluateConfig()
    if workers < 1:
        raise ConfigError(f"--workers: expected at least 1, got {workers}")
    playing, chosen = entrants(models), cases(episodes, config)
    check_unseen(chosen, playing, config)
    kept = Kept(None if out is None else out / KEPT, config, seen)
    begun, found, jobs = time.monotonic(), [], []
    for episode in chosen:
        asked = (_RECORDING, *playing)
        known = {each.name: None if fresh else kept.get(episode, each) for each in asked}
        found += [each for each in known.values() if each is not None]
        rest = tuple(each for each in asked if known[each.name] is None)
        if rest:
            jobs.append(Job(episode.folder, rest, config, seen))
    total = len(chosen)
    yield Progress(total - len(jobs), total, message="judging")
    done, left_out, failing = total - len(jobs), {}, set()
    for job, made in _done(jobs, workers):
        done, episode = done + 1, _episode(job.folder)
        for entrant, each in zip(job.models, made.judged):
            # What failed is tried again.
            if each.failed is None:
                kept.put(episode, entrant, each)
        found += made.judged
        if made.left_out is not None:
            left_out[episode.name] = made.left_out
            yield Notice(f"{episode.name} is left out: {made.left_out}")
        for each in made.judged:
            if each.failed is not None and each.model not in failing:
                failing.add(each.model)
                yield Notice(
                    f"{each.model} failed in {each.episode}, others are in the report: {each.failed}"
                )
        yield Progress(done, total, message="judging")
    facts = facts_of(config, playing, seen, workers, time.monotonic() - begun)
    names = [each.name for each in playing]
    yield Done(report_of(found, names, config.horizons, config.seed, left_out, facts))


def facts_of(
    config: EvaluateConfig, models: Sequence[Entrant], seen: Path | None, workers: int, seconds: float
) -> dict[str, object]:
    """What a report says of how it came about."""
    import platform

    return {
        "made_by": f"gaussworld evaluate {__version__}",
        "created": time.strftime("%Y-%m-%d %H:%M"),
        "seconds": seconds,
        "settings": asdict(config) | {"workers": workers},
        "worlds": f"true meshes, {config.materials} materials" if seen is None else "seen by the cameras",
        "sources": {each.name: each.source for each in models},
        "machine": {
            "system": platform.platform(),
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
    }


def _done(jobs: Sequence[Job], workers: int) -> Iterator[tuple[Job, Found]]:
    """Jobs with what they found, as they are finished."""
    portable = all(model.builder is None for job in jobs for model in job.models)
    if min(workers, len(jobs)) <= 1 or not portable:
        yield from ((job, judged_in(job)) for job in jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(jobs)), context, _alone) as pool:
        waiting = {pool.submit(judged_in, job): job for job in jobs}
        try:
            for future in as_completed(waiting):
                yield waiting[future], future.result()
        except BrokenProcessPool as error:
            raise GaussWorldError(
                "a process that judges was ended from outside, perhaps for want of memory; run the same again"
                " with fewer --workers: what was found is kept"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _alone() -> None:
    """One thread for each process."""
    torch.set_num_threads(1)


def judged_in(job: Job) -> Found:
    """Judge models in one episode.

    Raises:
        ConfigError: a model is for another rate or kind of action.
        FileFormatError: the episode or a model is damaged.
        MissingDependency: what reconstructs is not installed.
    """
    with one_torch_thread():
        try:
            truth = truth_of(job.folder, job.config, job.seen)
            gallery = Gallery(truth, job.config.width, perceptual()) if job.config.pictures else None
        except (CaptureError, EditError, UnknownScale, ValueError) as error:
            # A world that physics cannot work on, such as one in which nothing was seen that can move.
            return Found((), str(error))
        judged = []
        for model in job.models:
            known = model.identity == _RECORDING.identity
            made = reference(truth, job.config) if known else judge(truth, model, job.config, gallery)
            judged.append(made)
        return Found(tuple(judged))


def truth_of(folder: Path, config: EvaluateConfig, seen: Path | None) -> Truth:
    """What happened in an episode, and the world it begins with.

    Raises:
        CaptureError: nothing that can move was followed, or there are no pictures to see the world in.
    """
    episode = _episode(folder)
    return Truth.of(episode, started(episode, config, seen))


def started(episode: Episode, config: EvaluateConfig, seen: Path | None) -> World:
    """The world that an episode begins with: of its true meshes, or as its cameras see it."""
    if seen is None:
        return episode.world(config.gaussians, config.materials == "true")
    return drain(seen_world(episode, seen / episode.name, config.preset)).result


@cache
def perceptual() -> Perceptual | None:
    """LPIPS, where its package and its weights are there."""
    return resolve("recon.perceptual:lpips_metric")()


@cache
def _episode(folder: Path) -> Episode:
    return Episode(folder)


def with_videos(report: Report, videos: Sequence[Mapping[str, str]]) -> Report:
    """The report, telling of videos beside it."""
    return replace(report, videos=tuple(videos))
