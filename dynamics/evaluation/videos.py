"""Videos of held-out episodes: the truth beside what models predicted."""

import hashlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from gaussworld.errors import CaptureError, EditError, GaussWorldError, UnknownScale
from gaussworld.io.video import read_video
from gaussworld.log import Done, Event, Notice, Progress, part
from gaussworld.state import State
from gaussworld.threads import one_torch_thread

from ..episodes import Episode
from ..prediction.picture import Column, Picture, film, fitted
from ..prediction.truth_view import recorded
from .entrants import Entrant, is_baseline
from .errors import first_state
from .evaluate import truth_of
from .judge import checked
from .pictures import Gallery
from .report import Report
from .settings import EvaluateConfig
from .truth import Truth

FOLDER = "videos"
#: [px] of each picture, and Gaussians of the world in it; models beside the truth.
_WIDTH, _GAUSSIANS, _MOST_MODELS = 400, 20_000, 3


def filming(
    report: Report, episodes: Sequence[Episode], models: Sequence[Entrant], config: EvaluateConfig,
    out: Path, count: int, seen: Path | None = None, fresh: bool = False,
) -> Generator[Progress | Notice, None, tuple[dict[str, str], ...]]:  # fmt: skip
    """Film some episodes of each family and shift, in which something moves; those that are there are kept.

    Args:
        report: says in which episodes something moves.
        episodes: that were judged.
        models: that were judged; at most three are shown, learned ones first.
        config: how they were.
        out: the report's folder.
        count: episodes of each family and shift.
        seen: where their reconstructed worlds are, if they were judged in those.
        fresh: film those again that are there.

    Raises:
        MissingDependency: PyAV is not installed.
    """
    shown = shown_models(models)
    moving = {each.episode for each in report.judged if not each.still}
    told, counts = [], dict.fromkeys(report.groups, 0)
    for episode in episodes:
        group = episode.family, episode.shift
        if episode.name not in moving or counts.get(group, count) >= count:
            continue
        counts[group] += 1
        path = out / FOLDER / f"{episode.name}-{_key(episode, shown, seen)}.mp4"
        if fresh or not path.is_file():
            said = yield from part(_filmed(path, episode, shown, config, seen), f"Filming {episode.name}")
            if said is not None:
                yield Notice(f"{episode.name} is not filmed: {said}")
                continue
        told.append(
            {
                "file": f"{FOLDER}/{path.name}",
                "episode": episode.name,
                "family": episode.family,
                "shift": group[1] or "",
                "shows": ", ".join(["truth", *(each.name for each in shown)]),
            }
        )
    return tuple(told)


def shown_models(models: Sequence[Entrant]) -> tuple[Entrant, ...]:
    """Those worth watching: learned ones, then physics, then baselines where there is room."""
    learned = [each for each in models if not is_baseline(each.name)]
    others = [each for name in ("prior", "persistence") for each in models if each.name == name]
    return tuple([*learned[: _MOST_MODELS - 1], *others][: max(2, min(_MOST_MODELS, len(learned) + 1))])


def _key(episode: Episode, models: Sequence[Entrant], seen: Path | None) -> str:
    told = [str(episode.folder.resolve()), str(seen), *(f"{each.name} {each.identity}" for each in models)]
    return hashlib.blake2b("\n".join(told).encode(), digest_size=5).hexdigest()


def _filmed(
    path: Path, episode: Episode, models: Sequence[Entrant], config: EvaluateConfig, seen: Path | None
) -> Iterator[Event[str | None]]:
    """Film one episode; why not, where it cannot be."""
    with one_torch_thread():
        try:
            truth = truth_of(episode.folder, replace(config, gaussians=_GAUSSIANS), seen)
        except (CaptureError, EditError, UnknownScale, ValueError) as error:
            yield Done(str(error))
            return
        gallery = Gallery(truth, _WIDTH)
        columns = [Column("truth", [_true_frames(truth, gallery)])]
        for model in models:
            states = _predicted(truth, model)
            if states is not None:
                columns.append(Column(model.name, [_frames(truth, gallery, states)]))
        path.parent.mkdir(parents=True, exist_ok=True)
        yield from film(path, columns, episode.spec.dt, len(truth.states))
    yield Done(None)


def _predicted(truth: Truth, entrant: Entrant) -> State | None:
    """None where the model fails."""
    episode = truth.episode
    try:
        with torch.no_grad():
            model = entrant.made(truth.world, truth.matter, episode.tools, episode.spec.rate_hz)
            rollout = model.rollout(first_state(model, truth.world, episode), episode.actions)
            return checked(rollout, truth, getattr(model, "matter", truth.matter)).states
    except (ValueError, ArithmeticError, RuntimeError, GaussWorldError):
        return None


def _true_frames(truth: Truth, gallery: Gallery) -> Iterator[Picture]:
    episode, camera = truth.episode, gallery.camera
    if not recorded(episode):
        yield from _frames(truth, gallery, truth.states)
        return
    for _, picture in read_video(episode.video(next(iter(episode.cameras)))):
        yield fitted(picture, camera.width, camera.height)


def _frames(truth: Truth, gallery: Gallery, states: State) -> Iterator[Picture]:
    for step in range(len(states)):
        yield gallery.drawn(gallery.with_true_tools(states[step], step)).rgb
