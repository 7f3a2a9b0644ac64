"""The listener of long work: what it shows, what it writes, and that it closes what it was given."""

import json
import logging
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from gaussworld.log import Done, Event, Notice, Progress, drain, follow, setup_logging


def work(steps: int, closed: list[bool]) -> Iterator[Event[str]]:
    try:
        for step in range(1, steps + 1):
            yield Progress(step, steps, {"loss": 1 / step, "gaussians": 1000.0 * step})
        yield Notice("half of the pictures [are dark]")
        yield Done("the result", "All done.")
    finally:
        closed.append(True)


def test_follow_returns_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    """Away from a terminal: first and last step, notices and the last word as plain lines on stderr."""
    closed: list[bool] = []
    assert follow(work(50, closed), "Fitting").result == "the result"
    assert closed == [True]
    shown = capsys.readouterr()
    assert shown.out == ""
    lines = shown.err.splitlines()
    assert lines[0] == "Fitting 1/50 loss 1  gaussians 1,000"
    assert lines[-3].startswith("Fitting 50/50")
    assert lines[-2:] == ["half of the pictures [are dark]", "All done."]


def test_metrics_are_json_lines(tmp_path: Path) -> None:
    """One object a step that has values; what is not finite is null, as JSON has no NaN."""
    events = [
        Progress(1, None, {"loss": float("nan")}),
        Progress(2, None),
        Progress(3, None, {"loss": 0.5}),
        Done(0),
    ]
    follow(events, "Fitting", tmp_path / "run" / "metrics.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], row["loss"]) for row in rows] == [(1, None), (3, 0.5)]
    assert all(row["seconds"] >= 0 for row in rows)


def test_interrupt_closes_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while an event is shown: the generator's finally runs before the interrupt goes on."""
    closed: list[bool] = []

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gaussworld.log._figures", interrupt)
    with pytest.raises(KeyboardInterrupt):
        follow(work(5, closed), "Fitting")
    assert closed == [True]


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C as Python handles it; shells start background jobs with the signal ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_signal_waits_for_the_next_event(interruptible: None, capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C in the middle of a step: the step is finished, then the work is closed where it yielded."""
    seen: list[str] = []

    def steps() -> Iterator[Event[str]]:
        try:
            for step in range(1, 4):
                if step == 2:
                    signal.raise_signal(signal.SIGINT)
                seen.append(f"step {step}")
                yield Progress(step, 3)
        finally:
            seen.append("closed")

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        follow(steps(), "Fitting")
    assert seen == ["step 1", "step 2", "closed"]
    assert signal.getsignal(signal.SIGINT) is before
    assert "press Ctrl-C again" in capsys.readouterr().err


def test_in_python_a_signal_waits_too(interruptible: None, capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C while `drain` waits: the step is finished, the work is closed; else all events are handed on."""
    closed: list[bool] = []
    heard: list[Event[str]] = []
    assert drain(work(2, closed), heard.append).result == "the result"
    assert [type(event) for event in heard] == [Progress, Progress, Notice, Done]
    assert capsys.readouterr().err == ""

    def interrupt(event: Event[str]) -> None:
        heard.append(event)
        signal.raise_signal(signal.SIGINT)

    heard.clear()
    with pytest.raises(KeyboardInterrupt):
        drain(work(2, closed), interrupt)
    assert (len(heard), closed) == (1, [True, True])
    assert "press Ctrl-C again" in capsys.readouterr().err


def test_a_second_signal_does_not_wait(interruptible: None) -> None:
    """Twice Ctrl-C within one step interrupts that step."""

    def stuck() -> Iterator[Event[str]]:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("went on")
        yield Progress(1, 1)

    with pytest.raises(KeyboardInterrupt):
        follow(stuck(), "Fitting")


def test_stages_count_for_themselves(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Each stage shows its own name and its first step; metrics of an earlier run stay."""
    events: list[Event[int]] = [
        Progress(1, 9, stage="Reading"),
        Progress(2, 9, stage="Reading"),
        Progress(700, 900, {"loss": 0.5}, stage="Training"),
        Done(0),
    ]
    for _ in range(2):
        follow(events, "Work", tmp_path / "metrics.jsonl")
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["Reading 1/9", "Training 700/900 loss 0.5"]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_work_without_an_end_is_refused() -> None:
    """A stream's last event is Done."""
    with pytest.raises(ValueError, match="Fitting: expected a stream of events that ends with Done"):
        follow([Progress(1, 1)], "Fitting")


def test_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """On a terminal a bar with the figures is drawn."""
    from gaussworld import log

    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    log._console.cache_clear()
    try:
        follow(work(3, []), "Fitting")
    finally:
        log._console.cache_clear()
    shown = capsys.readouterr().err
    assert "3/3" in shown and "gaussians 3,000" in shown and "[are dark]" in shown and "━" in shown


def test_logging_goes_to_stderr(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Warnings always, information with --verbose."""
    root = logging.getLogger()
    for verbose, expected in ((False, ["a warning"]), (True, ["some information", "a warning"])):
        monkeypatch.setattr(root, "handlers", [])
        monkeypatch.setattr(root, "level", root.level)
        setup_logging(verbose)
        logging.getLogger("gaussworld.test").info("some information")
        logging.getLogger("gaussworld.test").warning("a warning")
        shown = capsys.readouterr()
        assert shown.out == ""
        assert [text for text in ("some information", "a warning") if text in shown.err] == expected
