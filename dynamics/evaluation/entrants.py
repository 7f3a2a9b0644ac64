"""`Entrant`: a model that is judged, by name, by folder, or as what makes it; what it was trained on."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gaussworld import __version__
from gaussworld.errors import ConfigError, FileFormatError
from gaussworld.state import Dynamics
from gaussworld.world import World

from ..episodes import Episode
from ..learning.model_file import CARD, is_model, read_card
from ..matter import Matter
from ..models import Builder, known_model, model_named
from ..tool import Tool
from .settings import BASELINES

#: What the name of a model becomes for the prior that was fitted with it, which lies in this folder inside.
OWN_PRIOR, _PRIOR = "'s prior", "prior"


@dataclass(frozen=True)
class Entrant:
    """A model that is judged."""

    name: str
    """In tables."""
    source: str | None
    """Its name or folder, from which every process can make it."""
    identity: str | None
    """Changes with the model's bytes; None: nobody knows, so nothing of it is kept."""
    trained_on: frozenset[str] = frozenset()
    """Episodes as family:seed."""
    builder: Builder | None = field(default=None, compare=False)

    def made(self, world: World, matter: Matter, tools: tuple[Tool, ...], rate_hz: float) -> Dynamics:
        """The model for a world.

        Raises:
            ConfigError: it is for another rate or kind of action.
            FileFormatError: its folder is damaged.
        """
        if self.builder is not None:
            return self.builder(world, matter, tools, rate_hz)
        assert self.source is not None
        return model_named(self.source, world, matter, tools, rate_hz)

    def trained_with(self, episode: Episode) -> bool:
        """Whether it has seen this episode in training."""
        return identity_of(episode) in self.trained_on


def is_baseline(name: str) -> bool:
    """Whether a model of this name is there to be beaten."""
    return name in BASELINES or name.endswith(OWN_PRIOR) or name == "fitted prior"


def identity_of(episode: Episode) -> str:
    """Which episode it is, wherever its files lie: what is drawn at random follows from family and seed."""
    return f"{episode.family}:{episode.seed}"


def entrants(models: Sequence[str | Path] | Mapping[str, Builder]) -> tuple[Entrant, ...]:
    """Models by name, by folder, as NAME=FOLDER, or as a mapping of names to what makes them.

    Raises:
        ConfigError: none at all, there is no such model, or two have one name.
        FileFormatError: a folder is not that of a model.
    """
    if isinstance(models, Mapping):
        found = [Entrant(name, None, None, builder=builder) for name, builder in models.items()]
    else:
        found = [each for text in dict.fromkeys(map(str, models)) for each in _with_prior(_named(text))]
    if not found:
        raise ConfigError("expected at least one model to judge, got none; add --model prior")
    names = [each.name for each in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(
            f"--model: expected a name for each model, got {twice[0]} twice; name them: first=FOLDER"
        )
    return tuple(found)


def _named(text: str) -> Entrant:
    name, _, rest = text.partition("=")
    if rest and not Path(text).exists():
        return _of_folder(Path(rest), name) if Path(rest).is_dir() else _built_in(rest, name)
    if Path(text).is_dir():
        return _of_folder(Path(text), None)
    return _built_in(text, text)


def _built_in(source: str, name: str) -> Entrant:
    # A built-in model is as its version has it.
    return Entrant(name, known_model(source), f"{source} {__version__}")


def _of_folder(folder: Path, name: str | None) -> Entrant:
    card = read_card(folder)
    trained = card.get("trained_on", [])
    if not isinstance(trained, list) or not all(isinstance(each, str) for each in trained):
        raise FileFormatError(
            f"{folder / CARD}: expected trained_on to list episodes as family:seed, got {str(trained)[:60]};"
            " train it again"
        )
    kind = str(card.get("kind", folder.name))
    known = name or ("fitted prior" if kind == _PRIOR else kind)
    return Entrant(known, known_model(str(folder)), _digest(folder), frozenset(trained))


def _with_prior(entrant: Entrant) -> list[Entrant]:
    """A learned model after the prior that it corrects, which was fitted as well: the fairest baseline."""
    own = Path(entrant.source or "") / _PRIOR
    if entrant.source is None or not Path(entrant.source).is_dir() or not is_model(own):
        return [entrant]
    return [_of_folder(own, entrant.name + OWN_PRIOR), entrant]


def _digest(folder: Path) -> str:
    """Of all its files' names and bytes."""
    total = hashlib.blake2b(digest_size=16)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        total.update(f"{path.relative_to(folder)}\0".encode())
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "blake2b").digest())
    return total.hexdigest()
