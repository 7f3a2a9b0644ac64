"""Recorded episodes of manipulation: files that others can read, opened lazily and streamed for training."""

from .episode import SPEC, Episode, EpisodeObject, Tracks
from .episode_set import SPLITS, EpisodeSet, Window
from .layout import FORMAT, FRAME, VERSION
from .write import write_episode, write_index

__all__ = [
    "FORMAT",
    "FRAME",
    "SPEC",
    "SPLITS",
    "VERSION",
    "Episode",
    "EpisodeObject",
    "EpisodeSet",
    "Tracks",
    "Window",
    "write_episode",
    "write_index",
]
