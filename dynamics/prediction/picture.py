"""Videos of rollouts: prediction beside truth, one row for each camera, with the tools in them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.io.video import write_video
from gaussworld.log import Progress
from gaussworld.render import render
from gaussworld.state import State

from .stage import Stage

Picture = Float[Tensor, "_ _ 3"]
#: [px] between pictures, and sRGB there and behind everything.
_GAP, _GUTTER, BACKGROUND = 4, 1.0, (0.93, 0.93, 0.92)


@dataclass(frozen=True, eq=False)
class Column:
    """One of the things that are shown side by side."""

    label: str
    frames: Sequence[Iterable[Picture]]
    """For each camera its pictures, one for each state."""


def drawn(stage: Stage, states: State, camera: Camera) -> Iterator[Picture]:
    """How a rollout looks from a camera, state after state."""
    for step in range(len(states)):
        with torch.no_grad():
            seen = render(stage.gaussians(states[step]), camera, background=BACKGROUND)
        yield seen.rgb.clamp(0, 1)


def film(path: Path, columns: Sequence[Column], dt: float, count: int) -> Iterator[Progress]:
    """Write columns side by side, and cameras below each other, as a video in real time.

    Args:
        path: an .mp4, which appears only when it is whole.
        columns: what to show.
        dt: [s] between states.
        count: of states.

    Raises:
        MissingDependency: PyAV is not installed.
    """
    from queue import Queue
    from threading import Thread

    # The encoder asks for frames, and so do those who watch the progress: it gets them through a queue.
    frames: Queue[Picture | None] = Queue(maxsize=2)
    failed: list[BaseException] = []

    def handed() -> Iterator[Picture]:
        while (frame := frames.get()) is not None:
            yield frame

    def encode() -> None:
        source = handed()
        try:
            write_video(path, source, 1 / dt)
        except BaseException as error:
            failed.append(error)
            # Nobody may wait for a place in the queue of an encoder that is gone.
            for _ in source:
                pass

    writer = Thread(target=encode, daemon=True)
    writer.start()
    done = 0
    try:
        for frame in mosaic(columns, dt):
            if failed:
                break
            frames.put(frame)
            done += 1
            yield Progress(done, count, message="drawing")
    finally:
        frames.put(None)
        writer.join()
    if failed:
        raise failed[0]


def mosaic(columns: Sequence[Column], dt: float) -> Iterator[Picture]:
    """Each moment as one picture; ends with the shortest of the columns."""
    moments = zip(*(zip(*column.frames) for column in columns))
    for step, moment in enumerate(moments):
        parts = []
        for column, pictures in zip(columns, moment):
            stacked = torch.cat([_spaced(picture, 0) for picture in pictures], dim=0)
            parts.append(_spaced(labelled(stacked, f"{column.label}  {step * dt:.1f} s"), 1))
        yield torch.cat(parts, dim=1)[:-_GAP, :-_GAP]


def labelled(picture: Picture, text: str) -> Picture:
    """A picture with a line of text in its upper left corner."""
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    height = max(12, picture.shape[0] // 26)
    image = Image.fromarray((picture.clamp(0, 1) * 255 + 0.5).to(torch.uint8).numpy())
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(height)
    box = draw.textbbox((height // 2, height // 2), text, font=font)
    draw.rectangle((box[0] - 4, box[1] - 3, box[2] + 4, box[3] + 3), fill=(255, 255, 255))
    draw.text((height // 2, height // 2), text, fill=(25, 25, 25), font=font)
    return torch.from_numpy(np.asarray(image, np.float32) / 255)


def fitted(picture: Picture, width: int, height: int) -> Picture:
    """A picture in another size."""
    if tuple(picture.shape[:2]) == (height, width):
        return picture
    moved = picture.permute(2, 0, 1)[None]
    shrunk = torch.nn.functional.interpolate(moved, (height, width), mode="bilinear", antialias=True)
    return shrunk[0].permute(1, 2, 0).clamp(0, 1)


def _spaced(picture: Picture, dim: int) -> Picture:
    """With a gutter below or beside it."""
    shape = list(picture.shape)
    shape[dim] = _GAP
    return torch.cat([picture, torch.full(shape, _GUTTER)], dim=dim)
