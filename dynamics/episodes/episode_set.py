"""`EpisodeSet`: many episodes on disk, by split, and as windows that are streamed to training."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import overload

import torch

from gaussworld.errors import CaptureError, FileFormatError
from gaussworld.io.json_object import read_object
from gaussworld.state import Action, ActionSpec, State

from .episode import Episode, Tracks, check_version
from .layout import CARD, INDEX, MOST_BYTES

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class _Entry:
    name: str
    family: str
    split: str
    steps: int
    shift: str | None = None


@dataclass(frozen=True, eq=False)
class Window:
    """A stretch of an episode."""

    episode: Episode
    start: int
    """The first action's row in the episode."""
    states: State
    """One more than actions; time is the batch axis."""
    actions: Action
    """Time is the batch axis."""
    tracks: Tracks


class EpisodeSet:
    """The episodes that a folder lists; each is opened when it is asked for."""

    def __init__(self, folder: Path | str, spec: ActionSpec | None = None) -> None:
        """Read the list; a folder that is one episode is a set of one.

        Args:
            folder: with episodes.json, or with episode.json.
            spec: what all actions have to mean; None takes what is there.

        Raises:
            FileFormatError: no list of episodes, or one of a newer version.
        """
        self.folder, self.spec = Path(folder), spec
        if not (self.folder / INDEX).is_file() and (self.folder / CARD).is_file():
            alone = Episode(self.folder, spec)
            self._entries: tuple[_Entry, ...] = (
                _Entry(".", alone.family, alone.split, alone.steps, alone.shift),
            )
            self.config = {}
            return
        path = self.folder / INDEX
        index = read_object(path, MOST_BYTES, "a list of episodes")
        check_version(index, path)
        self.config = index.get("config", {})
        try:
            rows = [
                _Entry(str(e["name"]), str(e["family"]), str(e["split"]), int(e["steps"]), e.get("shift"))
                for e in index["episodes"]
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise FileFormatError(
                f"{path}: expected name, family, split and steps of every episode, got {error};"
                " generate the set again"
            ) from error
        self._entries = tuple(rows)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the episodes, in order."""
        return tuple(entry.name for entry in self._entries)

    @property
    def families(self) -> tuple[str, ...]:
        """That there are episodes of."""
        return tuple(dict.fromkeys(entry.family for entry in self._entries))

    @property
    def shifts(self) -> tuple[str | None, ...]:
        """What is shifted in its episodes; None stands for those in which nothing is."""
        return tuple(dict.fromkeys(entry.shift for entry in self._entries))

    def split(self, name: str) -> "EpisodeSet":
        """The episodes for training ("train"), choosing ("val") or judging ("test").

        Raises:
            ValueError: there is no such split.
        """
        if name not in SPLITS:
            raise ValueError(f"split: expected one of {', '.join(SPLITS)}, got {name!r}")
        return self._of(entry for entry in self._entries if entry.split == name)

    def family(self, name: str) -> "EpisodeSet":
        """The episodes of a family.

        Raises:
            CaptureError: there are none.
        """
        if name not in self.families:
            known = ", ".join(self.families) or "none"
            raise CaptureError(
                f"{self.folder}: expected episodes of {name!r}, got only {known}; generate some"
            )
        return self._of(entry for entry in self._entries if entry.family == name)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Episode]:
        return (self[row] for row in range(len(self)))

    @overload
    def __getitem__(self, row: int | str) -> Episode: ...
    @overload
    def __getitem__(self, row: slice) -> "EpisodeSet": ...
    def __getitem__(self, row: int | str | slice) -> "Episode | EpisodeSet":
        """An episode by its row or name, or a part of the set.

        Raises:
            KeyError: there is no episode of that name.
        """
        if isinstance(row, slice):
            return self._of(self._entries[row])
        if isinstance(row, str):
            if row not in self.names:
                raise KeyError(f"expected an episode of {self.folder}, got {row!r}")
            row = self.names.index(row)
        return _opened(self.folder / self._entries[row].name, self.spec)

    def windows(
        self, length: int, stride: int | None = None, generator: torch.Generator | None = None
    ) -> Iterator[Window]:
        """Stretches of `length` actions; only the rows of each are read.

        Args:
            length: actions of each.
            stride: actions from one to the next; default: `length`, so that none overlap.
            generator: shuffles them; in order without.

        Raises:
            ValueError: a length or stride below 1.
        """
        stride = length if stride is None else stride
        if length < 1 or stride < 1:
            raise ValueError(f"windows: expected length and stride of at least 1, got {length} and {stride}")
        places = [
            (row, start)
            for row, entry in enumerate(self._entries)
            for start in range(0, entry.steps - length + 1, stride)
        ]
        order: Sequence[int] = range(len(places))
        if generator is not None:
            order = torch.randperm(len(places), generator=generator).tolist()
        for i in order:
            row, start = places[i]
            episode, stop = self[row], start + length
            states, actions = episode.states_between(start, stop), episode.actions_between(start, stop)
            yield Window(episode, start, states, actions, episode.tracks_between(start, stop))

    def _of(self, entries: Iterable[_Entry]) -> "EpisodeSet":
        part = object.__new__(EpisodeSet)
        part.folder, part.spec, part.config = self.folder, self.spec, self.config
        part._entries = tuple(entries)
        return part


@lru_cache(maxsize=256)
def _opened(folder: Path, spec: ActionSpec | None) -> Episode:
    # Cards are small; arrays are read from the file at every call.
    return Episode(folder, spec)
