"""`fit`: from episodes to a learned model in a folder, as a stream of events."""

import json
import os
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from gaussworld.config import save_config, toml_from_config
from gaussworld.errors import CaptureError, ConfigError, FileFormatError
from gaussworld.io.atomic import replacing
from gaussworld.log import Done, Event, Notice, Progress, drain, part
from gaussworld.state import ActionSpec

from ..episodes import EpisodeSet
from ..latent.config import LatentConfig
from ..residual.globals import Globals, find_globals
from ..residual.learner import ResidualConfig, ResidualLearner
from .crew import Crew
from .learner import Learner
from .model_file import is_model, spec_record
from .prepare import prepare
from .recording import Recording
from .trainer import Training, TrainingConfig, train

Kind = Literal["hybrid", "network", "latent"]
#: Where an episode keeps what cameras saw first.
START = "start"
CHECKPOINT, CONFIG, STATE, METRICS = "checkpoint.safetensors", "config.toml", "fit.json", "metrics.jsonl"
#: What may lie in a folder before it is claimed.
_OURS = {METRICS}
#: [s] between two checkpoints.
_SECONDS_BETWEEN = 20.0
#: Of a set without held-out recordings every so many-th is held out.
_EVERY = 8
#: Gaussians of the worlds: only the latent model looks at them.
_GAUSSIANS = {"hybrid": 200, "network": 200, "latent": 1000}
#: Recordings of training that tell what is usual.
_USUAL = 40


@dataclass(frozen=True)
class FitConfig:
    """What is learned, and how."""

    kind: Kind = "hybrid"
    """hybrid: physics corrected by a network; network: the same network without physics; latent: a
    transformer over what the Gaussians of each object are encoded to."""
    episodes: int = 0
    """Learn from so many of each family at most; 0: from all."""
    identify: bool = True
    """First fit the few numbers of the prior that a family has in common."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    residual: ResidualConfig = field(default_factory=ResidualConfig)
    """Of hybrid and network."""
    latent: LatentConfig = field(default_factory=LatentConfig)

    def __post_init__(self) -> None:
        if self.kind not in ("hybrid", "network", "latent"):
            raise ConfigError(f"kind: expected hybrid, network or latent, got {self.kind!r}")
        if self.episodes < 0:
            raise ConfigError(f"episodes: expected 0 (all) or more, got {self.episodes}")


@dataclass(frozen=True)
class Fitted:
    """A model that was made."""

    folder: Path
    kind: str
    steps: int
    seconds: float
    """[s] of training proper."""
    held_out: float
    """[m] mean distance on held-out recordings at the best moment."""


@dataclass(frozen=True)
class Material:
    """The folders of episodes that are learned from, and of those that are held out."""

    learned: tuple[Path, ...]
    held_out: tuple[Path, ...]
    families: tuple[str, ...]
    spec: ActionSpec


def material_of(folders: Sequence[Path], most: int, filmed: bool = False) -> Material:
    """What there is to learn from; test episodes are never touched.

    Args:
        folders: sets of episodes.
        most: of each family; 0: all.
        filmed: only episodes whose first moment cameras saw.

    Raises:
        CaptureError: no episodes to learn from, or some whose actions mean something else than the others'.
    """
    learned: list[Path] = []
    held: list[Path] = []
    families: dict[str, None] = {}
    spec: ActionSpec | None = None
    for folder in folders:
        episodes = EpisodeSet(folder)
        families |= dict.fromkeys(episodes.families)
        for family in episodes.families:
            train_set = episodes.family(family).split("train")
            names = [episodes.folder / name for name in train_set.names][: most or None]
            val = [episodes.folder / name for name in episodes.family(family).split("val").names]
            if not val:
                val, names = (
                    names[_EVERY - 1 :: _EVERY],
                    [name for i, name in enumerate(names) if i % _EVERY != _EVERY - 1],
                )
            learned += names
            held += val
            for episode in (*train_set, *episodes.family(family).split("val")):
                spec = episode.spec if spec is None else spec
                if (episode.spec.kind, episode.spec.frame, episode.spec.units, episode.spec.rate_hz) != (
                    spec.kind,
                    spec.frame,
                    spec.units,
                    spec.rate_hz,
                ):
                    raise CaptureError(
                        f"{episode.folder}: expected actions of kind {spec.kind} in the {spec.frame} frame,"
                        f" {spec.units}, at {spec.rate_hz:g} Hz, like the others, got {episode.spec.kind},"
                        f" {episode.spec.frame}, {episode.spec.units}, at {episode.spec.rate_hz:g} Hz;"
                        " fit them apart"
                    )
    if filmed:
        learned, held = ([each for each in group if (each / START).is_dir()] for group in (learned, held))
    if len(learned) < 2 or not held or spec is None:
        raise CaptureError(
            f"{', '.join(map(str, folders))}: expected at least 2 episodes to learn from and 1 held out, got"
            f" {len(learned)} and {len(held)}{' that were filmed' if filmed else ''};"
            f" `gaussworld generate OUT --episodes 200{' --cameras 4' if filmed else ''}` makes some"
        )
    return Material(tuple(learned), tuple(held), tuple(families), spec)


def fit(
    episodes: Sequence[Path | str] | Path | str,
    out: Path | str,
    config: FitConfig | None = None,
    *,
    resume: bool = True,
    workers: int | None = None,
    seen: Path | str | None = None,
) -> Fitted:
    """Fit a model to episodes; `gaussworld.predict(..., model=str(out))` then uses it.

    Args:
        episodes: a set that `gaussworld generate` wrote, or several.
        out: the model's folder.
        config: what is learned, and how.
        resume: go on with what is in `out`; otherwise begin anew.
        workers: processes that prepare episodes; default: one for each core.
        seen: worlds are reconstructed from the first RGB-D frames, into this folder, in place of true meshes.

    Raises:
        CaptureError: no episodes to learn from, or of several kinds of action.
        ConfigError: the folder holds something else.
        GaussWorldError: training met NaN; names the episode.
    """
    sets = [episodes] if isinstance(episodes, Path | str) else episodes
    count = workers or os.cpu_count() or 1
    events = fitting(
        [Path(each) for each in sets],
        Path(out),
        config or FitConfig(),
        resume=resume,
        workers=count,
        seen=None if seen is None else Path(seen),
    )
    return drain(events).result


def claim_folder(
    folders: Sequence[Path], out: Path, config: FitConfig, *, resume: bool = True, seen: Path | None = None
) -> None:
    """Make a folder that of a model, before anything is written there; see `fitting`.

    Raises:
        CaptureError: no episodes to learn from.
        ConfigError: the folder holds something else.
    """
    material = material_of(folders, config.episodes, seen is not None)
    _check_claim(out, _claim(material, config, seen), config, resume)


def fitting(
    folders: Sequence[Path],
    out: Path,
    config: FitConfig,
    *,
    resume: bool = True,
    workers: int = 2,
    seen: Path | None = None,
) -> Generator[Event[Fitted], None, None]:
    """Fit a model to episodes; what was broken off is gone on with.

    Args:
        folders: sets of episodes.
        out: the model's folder.
        config: what and how.
        resume: go on with what is in `out`; otherwise begin anew.
        workers: processes that prepare episodes.
        seen: worlds are reconstructed from the first RGB-D frames, into this folder; of filmed episodes only.

    Raises:
        CaptureError: no episodes to learn from.
        ConfigError: the folder holds a model that was made of something else.
        GaussWorldError: training met NaN; names the episode.
    """
    crew = Crew.here()
    if config.training.slices % crew.size:
        raise ConfigError(
            f"training.slices: expected a multiple of the {crew.size} processes, got {config.training.slices}"
        )
    material = material_of(folders, config.episodes, seen is not None)
    claim = _claim(material, config, seen)
    if crew.leads:
        _check_claim(out, claim, config, resume)
    slices, mine = config.training.slices, range(config.training.slices)[crew.rank :: crew.size]
    asked = [list(material.learned[number::slices]) if number in mine else [] for number in range(slices)]
    flat = [folder for group in asked for folder in group]
    judges = material.held_out[:: max(1, len(material.held_out) // config.training.judges)]
    judges = judges[: config.training.judges]
    held = list(material.held_out) if crew.leads else crew.mine(judges)
    made = yield from part(prepare([*flat, *held], workers, _GAUSSIANS[config.kind], seen), "Preparing")
    learned: list[list[Recording]] = []
    for group in asked:
        learned.append(made[: len(group)])
        made = made[len(group) :]
    if any(not group for number, group in enumerate(learned) if number in mine):
        raise CaptureError(
            f"expected at least {slices} episodes to learn from, one for each of training.slices, got"
            f" {len(material.learned)}"
        )
    by_name = dict(zip(held, made))
    own_judges = [by_name[name] for name in crew.mine(judges)]
    learner = yield from _learner(config, learned, crew, out, resume)
    if crew.leads:
        learner.begin(learned[0])
    learner.module.load_state_dict(crew.told(learner.module.state_dict()))
    training = Training.begin(learner, config.training)
    if resume and (out / CHECKPOINT).is_file():
        _restore(training, out / CHECKPOINT)
        yield Notice(f"going on at step {training.step}")
    yield from part(_kept(training, train(training, learned, own_judges, crew), out, crew), "Learning")
    if crew.leads:
        everything = [each for group in learned for each in group]
        some = everything[:: max(1, len(everything) // _USUAL)]
        yield from part(_finished(learner, [by_name[name] for name in material.held_out], some), "Finishing")
        learner.save(out, _facts(material, training, config))
        (out / CHECKPOINT).unlink(missing_ok=True)
    least = training.least
    yield Done(Fitted(out, config.kind, training.step, training.seconds, least))


def _learner(
    config: FitConfig, learned: Sequence[Sequence[Recording]], crew: Crew, out: Path, resume: bool
) -> Generator[Event[Any], None, Learner]:
    generator = torch.Generator().manual_seed(config.training.seed)
    if config.kind == "latent":
        from ..latent.learner import LatentLearner

        return LatentLearner(config.latent, generator)
    given = Globals()
    if config.kind == "hybrid" and config.identify:
        path, everything = out / "prior.json", [each for group in learned for each in group]
        if resume and path.is_file():
            given = Globals(json.loads(path.read_text(encoding="utf-8")))
        elif crew.leads:
            given = yield from part(find_globals(everything, config.training.seed), "Fitting the prior")
            with replacing(path) as file:
                file.write(json.dumps(dict(given.factors)).encode())
        given = crew.told(given)
    base = "prior" if config.kind == "hybrid" else "none"
    return ResidualLearner(config.residual, given, generator, base)


def _kept(training: Training, events: Iterator[Event[None]], out: Path, crew: Crew) -> Iterator[Event[None]]:
    """The events of training, with checkpoints in between and at the end, however it ends."""
    saved, done = time.monotonic(), training.step
    try:
        for event in events:
            yield event
            if crew.leads and isinstance(event, Progress) and time.monotonic() - saved > _SECONDS_BETWEEN:
                _save(training, out)
                saved = time.monotonic()
    finally:
        # A step that failed has left everything as it was before.
        if crew.leads and training.step > done:
            _save(training, out)


def _save(training: Training, out: Path) -> None:
    state = {name: value.contiguous() for name, value in training.state().items()}
    with replacing(out / CHECKPOINT) as file:
        file.write(save(state))


def _restore(training: Training, path: Path) -> None:
    """Go on from a checkpoint.

    Raises:
        FileFormatError: it is damaged, or of another network.
    """
    try:
        training.restore(load(path.read_bytes()))
    except (OSError, SafetensorError, KeyError, RuntimeError, ValueError) as error:
        raise FileFormatError(
            f"{path}: expected the checkpoint of this training, got {error!r:.160}; delete it to begin anew"
        ) from error


def _finished(
    learner: Learner, held: Sequence[Recording], learned: Sequence[Recording]
) -> Iterator[Event[None]]:
    yield from learner.finish(held, learned)
    yield Done(None)


def _claim(material: Material, config: FitConfig, seen: Path | None) -> dict[str, Any]:
    """What a folder is made of: going on with something else would mix two models."""
    names = [str(Path(*folder.parts[-2:])) for folder in (*material.learned, *material.held_out)]
    return {
        "format": "gaussworld-fit",
        "config": toml_from_config(config),
        "episodes": names,
        "seen": seen is not None,
    }


def _check_claim(out: Path, claim: dict[str, Any], config: FitConfig, resume: bool) -> None:
    """Make the folder ours, or refuse it.

    Raises:
        ConfigError: it holds something else, or the model of other episodes or settings.
    """
    path = out / STATE
    if out.exists() and not out.is_dir():
        raise ConfigError(f"expected a folder for the model, got the file {out}; name another place")
    if out.is_dir() and any(item.name not in _OURS for item in out.iterdir()):
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            before = None
        if before is None or before.get("format") != claim["format"]:
            raise ConfigError(
                f"expected a new folder, or one that `gaussworld fit` wrote, got {out}, which holds other"
                " files; name another folder"
            )
        if resume and before != claim:
            what = "settings" if before.get("config") != claim["config"] else "episodes"
            raise ConfigError(
                f"expected the {what} with which {out} was begun, got others; name another folder, or begin"
                " anew with --no-resume"
            )
        if not resume:
            for name in (CHECKPOINT, "prior.json"):
                (out / name).unlink(missing_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write((json.dumps(claim, indent=2) + "\n").encode())
    save_config(config, out / CONFIG)


def finished(out: Path, folders: Sequence[Path], config: FitConfig, seen: Path | None = None) -> bool:
    """Whether a folder already holds just this model."""
    try:
        before = json.loads((out / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    whole = is_model(out) and not (out / CHECKPOINT).exists()
    return whole and before == _claim(material_of(folders, config.episodes, seen is not None), config, seen)


def _facts(material: Material, training: Training, config: FitConfig) -> dict[str, Any]:
    """What a model's card says of where it is from."""
    identities = [_identity(folder) for folder in material.learned]
    return {
        "spec": spec_record(material.spec),
        "families": list(material.families),
        "trained_on": identities,
        "held_out": [_identity(folder) for folder in material.held_out],
        "training": {
            "steps": training.step,
            "seconds": round(training.seconds, 1),
            "held_out_mm": [round(1000 * value, 2) for value in training.judgements],
            "seed": config.training.seed,
            "cores": os.cpu_count(),
        },
    }


def _identity(folder: Path) -> str:
    from ..episodes import Episode

    episode = Episode(folder)
    return f"{episode.family}:{episode.seed}"
