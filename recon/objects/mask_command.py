"""Masks by somebody else's program: run once for each picture, its answers kept for the next time."""

import hashlib
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from gaussworld.capture import Frame
from gaussworld.errors import CaptureError, ConfigError
from gaussworld.io.images import write_image
from gaussworld.log import Done, Event, Progress

from .masks import Masks, binary_masks, made, read_labels

#: What of a program's last words is repeated.
_WORDS = 300


def masks_by_command(
    command: str, frames: Sequence[Frame], cache: Path, timeout: float
) -> Iterator[Event[Masks]]:
    """Run a program for every picture and read what it wrote.

    Args:
        command: as in `prog {image} {output}`; no shell sees it. {image} becomes the path of a picture,
            {output} that of the PNG of ids or colours to write, or of a folder for binary masks.
        frames: whose pictures.
        cache: a folder of answers, by the content of picture and command.
        timeout: [s] for each picture.

    Raises:
        ConfigError: there is no such program, or the command names no {image} or {output}.
        CaptureError: the program failed, took too long, or wrote nothing that can be read.
    """
    words = split_command(command)
    pictures: list[Int[Tensor, "h w"]] = []
    for i, frame in enumerate(frames):
        yield Progress(i, len(frames), message=frame.name)
        pictures.append(_answer(words, frame, cache, timeout))
    yield Progress(len(frames), len(frames))
    yield Done(replace(made(f"--mask-command {words[0]}", frames, pictures), per_picture=True))


def split_command(command: str) -> list[str]:
    """The words of a command line, as the system's own shell would take them apart.

    Raises:
        ConfigError: unbalanced quotes, or no {image} or {output} in it.
    """
    windows = os.name == "nt"
    try:
        # Under Windows a backslash separates folders and escapes nothing.
        words = [_unquoted(word) if windows else word for word in shlex.split(command, posix=not windows)]
    except ValueError as error:
        raise ConfigError(f"--mask-command: expected a command line, got {command!r}: {error}") from error
    if missing := [each for each in ("{image}", "{output}") if not any(each in word for word in words)]:
        raise ConfigError(
            f"--mask-command: expected {' and '.join(missing)} in it, as in 'prog {{image}} {{output}}', got"
            f" {command!r}"
        )
    return words


def _unquoted(word: str) -> str:
    return word[1:-1] if len(word) > 1 and word[0] == word[-1] and word[0] in "\"'" else word


def _answer(words: Sequence[str], frame: Frame, cache: Path, timeout: float) -> Int[Tensor, "h w"]:
    """The labels of one picture: kept from before, or the program's."""
    content = frame.image.read_bytes() if isinstance(frame.image, Path) else _pixels(frame)
    kept = cache / hashlib.sha256("\0".join(words).encode() + b"\0" + content).hexdigest()[:32]
    if not kept.is_dir():
        work = kept.with_name(f".{kept.name}.{os.getpid()}.tmp")
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        try:
            _run(words, _picture(frame, work), work / "masks.png", frame.name, timeout)
            _read(work, words, frame.name)
            if not kept.is_dir():  # another run may have been faster
                os.replace(work, kept)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return _read(kept, words, frame.name)


def _run(words: Sequence[str], image: Path, output: Path, name: str, timeout: float) -> None:
    places = {"{image}": str(image), "{output}": str(output)}
    filled = [_filled(word, places) for word in words]
    try:
        done = subprocess.run(
            filled, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False
        )
    except FileNotFoundError as error:
        raise ConfigError(
            f"--mask-command: expected a program, got {words[0]!r}, which is not found; give its whole path"
        ) from error
    except OSError as error:
        raise ConfigError(
            f"--mask-command: could not start {words[0]!r}: {error.strerror}; give a program that runs"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise CaptureError(
            f"--mask-command: {words[0]} took more than {timeout:g} s for {name}; raise --mask-timeout"
        ) from error
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        raise CaptureError(
            f"--mask-command: {' '.join(filled)} ended with status {done.returncode} for {name}:"
            f" {lines[-1][:_WORDS]}"
        )


def _filled(word: str, places: dict[str, str]) -> str:
    for name, path in places.items():
        word = word.replace(name, path)
    return word


def _picture(frame: Frame, work: Path) -> Path:
    """The picture's own file, or one made of it."""
    if isinstance(frame.image, Path):
        return frame.image.resolve()
    write_image(work / "picture.png", frame.image)
    return work / "picture.png"


def _pixels(frame: Frame) -> bytes:
    assert isinstance(frame.image, Tensor)
    return (frame.image * 255).round().to(torch.uint8).numpy().tobytes()


def _read(folder: Path, words: Sequence[str], name: str) -> Int[Tensor, "h w"]:
    """What a program wrote: a picture, or a folder of binary masks."""
    output = folder / "masks.png"
    if output.is_file():
        return read_labels(output)
    if output.is_dir() and (labels := binary_masks(output)) is not None:
        return labels
    raise CaptureError(
        f"--mask-command: expected {words[0]} to write {{output}} for {name}, a PNG or a folder of PNGs, but"
        " it did not; check its arguments"
    )
