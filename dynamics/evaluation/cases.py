"""Which episodes are judged: by split, family and shift; those a model was trained on are refused."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from gaussworld.errors import CaptureError, ConfigError

from ..episodes import Episode, EpisodeSet
from .entrants import Entrant, identity_of
from .settings import EvaluateConfig

Sets = Path | str | EpisodeSet | Sequence[Path | str | EpisodeSet]


def cases(episodes: Sets, config: EvaluateConfig) -> list[Episode]:
    """The episodes of one or several sets that are to be judged, each once, in order.

    Raises:
        ConfigError: no set is named.
        CaptureError: there are none, or they do not all mean the same by an action.
        FileFormatError: a folder holds no episodes, or damaged ones.
    """
    single = isinstance(episodes, Path | str | EpisodeSet)
    sets = [_opened(each) for each in ([episodes] if single else episodes)]
    if not sets:
        raise ConfigError("expected EPISODES, folders that `gaussworld generate` made, got none; name one")
    counts: Counter[tuple[str, str | None]] = Counter()
    found: dict[tuple[str, str | None], Episode] = {}
    for episode in (episode for each in sets for episode in each.split(config.split)):
        if config.family and episode.family not in config.family:
            continue
        group = episode.family, episode.shift
        key = identity_of(episode), group[1]
        if key in found or (config.most is not None and counts[group] >= config.most):
            continue
        counts[group] += 1
        found[key] = episode
    if not found:
        raise CaptureError(_nothing(sets, config))
    _check_alike(list(found.values()))
    return list(found.values())


def _opened(episodes: Path | str | EpisodeSet) -> EpisodeSet:
    return episodes if isinstance(episodes, EpisodeSet) else EpisodeSet(episodes)


def _nothing(sets: Sequence[EpisodeSet], config: EvaluateConfig) -> str:
    there = Counter(f"{e.split} {e.family}" for each in sets for e in each)
    listed = ", ".join(f"{count} of {name}" for name, count in there.items()) or "none at all"
    wanted = f"split {config.split}" + (f" of {', '.join(config.family)}" if config.family else "")
    folders = ", ".join(str(each.folder) for each in sets)
    return f"{folders}: expected episodes of the {wanted}, got {listed}; choose another --split or set"


def _check_alike(episodes: Sequence[Episode]) -> None:
    """Refuse sets in which a step or an action is something else: their figures could not be averaged.

    Raises:
        CaptureError: so it is.
    """
    first = episodes[0]
    for episode in episodes[1:]:
        for name in ("kind", "frame", "units", "rate_hz"):
            wanted, got = getattr(first.spec, name), getattr(episode.spec, name)
            if wanted != got:
                raise CaptureError(
                    f"{episode.folder}: expected actions of {name} {wanted!r} as in {first.folder}, got"
                    f" {got!r}; judge them apart, nothing is converted"
                )


def check_unseen(episodes: Sequence[Episode], models: Sequence[Entrant], config: EvaluateConfig) -> None:
    """Refuse to judge a model by what it was trained on.

    Raises:
        ConfigError: an episode is one of those, and train was not asked for.
    """
    if config.split == "train":
        return
    for model in models:
        known = [episode for episode in episodes if model.trained_with(episode)]
        if known:
            raise ConfigError(
                f"--model {model.name}: expected episodes that it was not trained on, got {len(known)} of its"
                f" own, such as {known[0].folder} ({identity_of(known[0])}); generate others with another"
                " --seed, or ask for --split train"
            )
