"""Events of long work and their listeners: progress bar, plain lines, metrics.jsonl; logging's set-up.

Long work (training, reconstruction, planning) is an iterator of events that ends with `Done`; prints nothing.
`drain` runs it to its end; `follow` does so for the command line, and shows how it goes:

    fitted = follow(train(capture, config), "Fitting", metrics=run / "metrics.jsonl").result
"""

import json
import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import FrameType
from typing import IO, Generic, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """So much is done: `step` of `total`, and how it goes."""

    step: int
    """Steps finished so far."""
    total: int | None
    """Steps there will be; None while nobody knows."""
    values: Mapping[str, float] = field(default_factory=dict)
    """Figures worth plotting, such as loss, psnr [dB] or the number of Gaussians."""
    message: str = ""
    """What is being done right now, in a few words."""
    stage: str = ""
    """What the steps count, where long work has several parts: each gets a bar of its own."""


@dataclass(frozen=True)
class Notice:
    """One sentence the user should read; work goes on."""

    message: str


@dataclass(frozen=True)
class Done(Generic[T]):
    """The last event of a stream, with what the work made."""

    result: T
    message: str = ""


Event = Progress | Notice | Done[T]


def part(events: Iterable[Event[T]], stage: str) -> Generator[Progress | Notice, None, T]:
    """Work that is a stage of longer work: `result = yield from part(train(...), "Training")`.

    Raises:
        ValueError: the work ended without `Done`.
    """
    for event in events:
        if isinstance(event, Done):
            return event.result
        yield replace(event, stage=event.stage or stage) if isinstance(event, Progress) else event
    raise ValueError(f"{stage}: expected a stream of events that ends with Done, but it ended without")


_Listener = Callable[[Progress | Notice], None]
_SECONDS_BETWEEN_LINES = 10.0


def drain(
    events: Iterable[Event[T]], listen: Callable[[Event[T]], None] | None = None, title: str = "work"
) -> Done[T]:
    """Run long work to its end, in Python as on the command line.

    The first Ctrl-C waits for the next event and closes work that is a generator there, so that its `finally`
    blocks find everything whole; a second one does not wait. One line on stderr says so, nothing else is
    shown.

    Args:
        events: the work; its last event is `Done`.
        listen: is handed every event, `Done` too.
        title: what the work is called if it has no end.

    Returns:
        The `Done` event.

    Raises:
        KeyboardInterrupt: Ctrl-C; the work is closed.
        ValueError: the work ended without `Done`.
    """
    with ExitStack() as stack:
        if isinstance(events, Generator):
            stack.callback(events.close)
        interrupted = stack.enter_context(_patient_interrupts())
        for event in events:
            if listen is not None:
                listen(event)
            if isinstance(event, Done):
                return event
            if interrupted.is_set():
                raise KeyboardInterrupt
    raise ValueError(f"{title}: expected a stream of events that ends with Done, but it ended without")


def follow(events: Iterable[Event[T]], title: str, metrics: Path | str | None = None) -> Done[T]:
    """Run long work to its end; show a progress bar on a terminal and a line every few seconds elsewhere.

    Everything is shown on stderr. Ctrl-C ends it as `drain` says.

    Args:
        events: the work; its last event is `Done`.
        title: what the work is called in front of the bar.
        metrics: a file to which one JSON object per `Progress` is added: step, seconds since now, values.

    Returns:
        The `Done` event.

    Raises:
        KeyboardInterrupt: Ctrl-C; the work is closed.
        ValueError: the work ended without `Done`.
    """
    with ExitStack() as stack:
        listeners = [stack.enter_context(_shown(title))]
        if metrics is not None:
            listeners.append(stack.enter_context(_recorded(Path(metrics))))

        def listen(event: Event[T]) -> None:
            if not isinstance(event, Done):
                for listener in listeners:
                    listener(event)

        done = drain(events, listen, title)
    if done.message:
        _console().print(escape(done.message))
    return done


def setup_logging(verbose: bool = False) -> None:
    """Send log records to stderr without breaking progress bars: warnings, or from INFO up when `verbose`."""
    from rich.logging import RichHandler

    handler = RichHandler(console=_console(), show_time=verbose, show_path=verbose, markup=False)
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(message)s", handlers=[handler]
    )


@contextmanager
def _patient_interrupts() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets; the next raises. Outside the main thread nothing changes."""
    asked = threading.Event()
    usual = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or usual is not signal.default_int_handler:
        yield asked
        return

    def wait(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        _console().print("Stopping at the next safe point; press Ctrl-C again to stop at once.")

    signal.signal(signal.SIGINT, wait)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, usual)


@cache
def _console() -> Console:
    # One console for bars, lines and log records, so that none of them tears another apart.
    return Console(stderr=True, highlight=False)


@contextmanager
def _shown(title: str) -> Iterator[_Listener]:
    console = _console()
    if not console.is_terminal:
        yield _plain_lines(console, title)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console, transient=False) as bar:
        task = bar.add_task(escape(title), total=None, figures="")
        pace = _Pace()

        def listen(event: Progress | Notice) -> None:
            nonlocal task
            if isinstance(event, Notice):
                bar.console.print(escape(event.message))
                return
            if pace.enters(event) and event.stage:
                if pace.stages > 1:
                    bar.stop_task(task)
                    task = bar.add_task(escape(event.stage), total=None, figures="")
                bar.update(task, description=escape(event.stage))
            figures = _figures(event, pace.rate(event))
            bar.update(task, completed=event.step, total=event.total, figures=escape(figures))

        yield listen


def _plain_lines(console: Console, title: str) -> _Listener:
    """The first step of a stage, its last, and one every few seconds in between."""
    due, pace = time.monotonic(), _Pace()

    def listen(event: Progress | Notice) -> None:
        nonlocal due
        now = time.monotonic()
        if isinstance(event, Notice):
            console.print(escape(event.message), soft_wrap=True)
        elif pace.enters(event) or now >= due or event.step == event.total:
            due = now + _SECONDS_BETWEEN_LINES
            of = f"/{event.total}" if event.total is not None else ""
            line = f"{event.stage or title} {event.step}{of} {_figures(event, pace.rate(event))}"
            console.print(escape(line.rstrip()), soft_wrap=True)

    return listen


class _Pace:
    """Steps per second since the stage began, which for resumed work is not at step 0."""

    def __init__(self) -> None:
        self._stage: str | None = None
        self._start, self._first, self.stages = time.monotonic(), 0, 0

    def enters(self, event: Progress) -> bool:
        """Whether this event is the first of its stage."""
        if event.stage == self._stage:
            return False
        # A step far along that comes at once was reached before, by the run that is resumed.
        now = time.monotonic()
        known = self._stage is None and now - self._start > 0.2
        self._stage, self._first = event.stage, 0 if known else event.step
        self._start, self.stages = self._start if known else now, self.stages + 1
        return True

    def rate(self, event: Progress) -> float | None:
        """None while it is too early to tell."""
        steps, seconds = event.step - self._first, time.monotonic() - self._start
        return steps / seconds if steps > 0 and seconds > 0.2 else None


def _figures(event: Progress, rate: float | None) -> str:
    """Message, speed and values in one line: `fitting 41.2 steps/s loss 0.0312 gaussians 12,345`."""
    parts = [event.message] if event.message else []
    if rate is not None:
        parts.append(f"{rate:.1f} steps/s" if rate >= 1 else f"{1 / rate:.1f} s/step")
    parts += [f"{name.replace('_', ' ')} {_figure(value)}" for name, value in event.values.items()]
    return "  ".join(parts)


def _figure(value: float) -> str:
    return f"{int(value):,}" if math.isfinite(value) and value == int(value) else f"{value:.4g}"


@contextmanager
def _recorded(path: Path) -> Iterator[_Listener]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        yield _json_lines(file)


def _json_lines(file: IO[str]) -> _Listener:
    start = time.monotonic()

    def listen(event: Progress | Notice) -> None:
        if isinstance(event, Progress) and event.values:
            # NaN and infinity are no JSON: a reader must find null, not a parse error.
            values = {k: float(v) if math.isfinite(v) else None for k, v in event.values.items()}
            file.write(
                json.dumps({"step": event.step, "seconds": round(time.monotonic() - start, 3), **values})
                + "\n"
            )
            file.flush()

    return listen
