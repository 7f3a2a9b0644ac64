"""`Kept`: figures that were found before, on disk, so that work that was broken off goes on."""

import hashlib
import json
import logging
from dataclasses import asdict
from functools import cache
from pathlib import Path

from gaussworld.errors import FileFormatError
from gaussworld.facts import finite
from gaussworld.io.atomic import replacing
from gaussworld.io.json_object import read_object

from ..episodes import Episode
from ..episodes.layout import ARRAYS, CARD
from .entrants import Entrant
from .judged import Judged
from .settings import EvaluateConfig

_log = logging.getLogger(__name__)
#: Goes up when figures mean something else.
_MEANING = 1
_MOST_BYTES = 1 << 26
#: Of `dynamics`, all that a prediction with physics rests on.
_PHYSICS = ("prior.py", "baselines.py", "rollout.py", "tool.py", "matter", "physics", "skinning")


@cache
def physics_digest() -> str:
    """Of the code that moves and samples things: what it found before it changed is true no more."""
    root, total = Path(__file__).resolve().parent.parent, hashlib.blake2b(digest_size=12)
    for name in _PHYSICS:
        for path in sorted((root / name).rglob("*.py")) if (root / name).is_dir() else [root / name]:
            total.update(path.read_bytes())
    return total.hexdigest()


class Kept:
    """The figures of single episodes in a folder; one file for each episode and model.

    A file counts only for the same bytes of the episode, of the model and of our physics, and for the same
    settings.
    """

    def __init__(self, folder: Path | None, config: EvaluateConfig, seen: Path | None = None) -> None:
        """In a folder; None keeps nothing."""
        self._folder = folder
        told = asdict(config)
        # What is chosen, and how it is summed up, changes no episode's figures.
        settings = {k: v for k, v in told.items() if k not in ("split", "most", "family", "seed")}
        work = None if seen is None else str(seen.resolve())
        self._settings = json.dumps([_MEANING, physics_digest(), settings, work], sort_keys=True)

    def path(self, episode: Episode, name: str, identity: str | None) -> Path | None:
        """Where its figures are kept; None where they are not."""
        if self._folder is None or identity is None:
            return None
        total = hashlib.blake2b(digest_size=12)
        for part in (self._settings, identity, name):
            total.update(part.encode() + b"\0")
        for file in (CARD, ARRAYS):
            total.update(hashlib.blake2b((episode.folder / file).read_bytes()).digest())
        return self._folder / f"{episode.name}-{total.hexdigest()}.json"

    def get(self, episode: Episode, entrant: Entrant) -> Judged | None:
        """What was found before, if it still counts."""
        path = self.path(episode, entrant.name, entrant.identity)
        if path is None or not path.is_file():
            return None
        try:
            return Judged.of_record(read_object(path, _MOST_BYTES, "the figures of an episode"))
        except FileFormatError as error:
            _log.info("found anew: %s", error)
            return None

    def put(self, episode: Episode, entrant: Entrant, judged: Judged) -> None:
        """Keep what was found.

        Raises:
            GaussWorldError: the file system refuses.
        """
        path = self.path(episode, entrant.name, entrant.identity)
        if path is not None:
            with replacing(path) as file:
                file.write(json.dumps(finite(judged.record()), allow_nan=False).encode())
