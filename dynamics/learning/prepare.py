"""Recordings of episodes, made side by side on all cores."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

from gaussworld.errors import GaussWorldError
from gaussworld.log import Done, Event, Progress, drain

from ..episodes import Episode
from ..episodes.seen import seen_world
from .recording import Recording, recording_of

#: Fewer are not worth the start of processes.
_FEW = 24


def prepare(
    folders: Sequence[Path], workers: int, gaussians: int, seen: Path | None = None
) -> Iterator[Event[list[Recording]]]:
    """The recordings of episodes, in order.

    Args:
        folders: of the episodes.
        workers: processes.
        gaussians: of each world, about.
        seen: worlds are reconstructed from the first RGB-D frames, into this folder, in place of true meshes.

    Raises:
        GaussWorldError: an episode cannot be used; the message names it.
    """
    made: list[Recording] = []
    for recording in _made(folders, workers, partial(_one, gaussians=gaussians, seen=seen)):
        made.append(recording)
        yield Progress(len(made), len(folders), {}, "preparing")
    yield Done(made)


def _made(folders: Sequence[Path], workers: int, make: Callable[[Path], Recording]) -> Iterator[Recording]:
    if workers <= 1 or len(folders) < _FEW:
        yield from map(make, folders)
        return
    # A fork would copy the parent's threads in whatever state they are.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _alone) as pool:
        try:
            yield from pool.map(make, folders, chunksize=4)
        except BrokenProcessPool as error:
            raise GaussWorldError(
                "a process that prepares episodes was ended from outside, perhaps for want of memory; run the"
                " same again with fewer --workers"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _one(folder: Path, gaussians: int, seen: Path | None) -> Recording:
    episode = Episode(folder)
    world = (
        None if seen is None else drain(seen_world(episode, seen / folder.parent.name / folder.name)).result
    )
    try:
        return recording_of(episode, gaussians, world)
    except ValueError as error:
        raise GaussWorldError(f"{folder}: {error}; leave it out") from error


def _alone() -> None:
    """One thread for each process; tensors travel as bytes, which needs no open files."""
    import torch

    torch.set_num_threads(1)
    torch.multiprocessing.set_sharing_strategy("file_system")
