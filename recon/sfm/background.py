"""A call into COLMAP in its own thread: its progress is told, and it ends when nobody listens."""

import importlib
import threading
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from gaussworld.errors import MissingDependency

T = TypeVar("T")

_SECONDS_BETWEEN_LOOKS = 0.2


def colmap() -> Any:
    """The library, quiet: errors reach us as exceptions.

    Raises:
        MissingDependency: it is not installed, or one of its system libraries is missing.
    """
    try:
        pycolmap = importlib.import_module("pycolmap")
    except ImportError as error:
        raise MissingDependency(
            f"expected pycolmap 4.2 or later to find cameras, got: {error}; run `pip install 'pycolmap>=4.2'`"
        ) from error
    pycolmap.logging.minloglevel = 3
    return pycolmap


def in_background(work: Callable[[Any], T], look: Callable[[], float]) -> Generator[float, None, T]:
    """Run `work` in a thread, and yield what share of it is done, range [0, 1].

    Args:
        work: is given COLMAP's cancellation token; cancelled when the generator is closed.
        look: tells the share; called often.
    """
    token = colmap().CancellationToken()
    outcome: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(work(token))
        # Whatever it is belongs to the thread that asked for the work.
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, name="colmap", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            yield min(max(look(), 0.0), 1.0)
            thread.join(_SECONDS_BETWEEN_LOOKS)
    finally:
        token.cancel()
        thread.join()
    if failure:
        raise failure[0]
    return outcome[0]
