"""`Framing`: what a file states about its coordinates, and its spelling as PLY comments."""

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Framing:
    """The frame, the up direction and the unit of a file's coordinates; None where nobody said."""

    frame: str | None = None
    """A name for the frame, for people: printable ASCII on one line."""
    up: tuple[float, float, float] | None = None
    """The direction against gravity, in the file's axes."""
    metres_per_unit: float | None = None
    """[m] length of one unit of the file's coordinates."""

    def __post_init__(self) -> None:
        if self.frame is not None and not (self.frame and self.frame.isascii() and self.frame.isprintable()):
            raise ValueError(
                f"Framing.frame: expected a name of printable ASCII characters, got {self.frame!r}"
            )
        if self.up is not None:
            up = tuple(float(value) for value in self.up)
            if len(up) != 3 or not all(map(math.isfinite, up)) or not any(up):
                raise ValueError(f"Framing.up: expected 3 finite numbers, not all zero, got {self.up}")
            object.__setattr__(self, "up", up)
        scale = self.metres_per_unit
        if scale is not None and not (math.isfinite(scale) and scale > 0):
            raise ValueError(f"Framing.metres_per_unit: expected a positive finite number, got {scale}")


def comments_from(framing: Framing) -> list[str]:
    """The PLY comments that state `framing`."""
    lines = []
    if framing.frame is not None:
        lines.append(f"frame {framing.frame}")
    if framing.up is not None:
        lines.append("up " + " ".join(f"{value:.9g}" for value in framing.up))
    if framing.metres_per_unit is not None:
        lines.append(f"metres_per_unit {framing.metres_per_unit:.17g}")
    return lines


def framing_from(comments: Iterable[str]) -> Framing:
    """What PLY comments state; comments of other programs, which say something else, are passed over."""
    stated = Framing()
    for comment in comments:
        word, _, rest = comment.strip().partition(" ")
        rest = rest.strip()
        try:
            if word == "frame":
                stated = Framing(rest, stated.up, stated.metres_per_unit)
            elif word == "up":
                x, y, z = (float(value) for value in rest.split())
                stated = Framing(stated.frame, (x, y, z), stated.metres_per_unit)
            elif word == "metres_per_unit":
                stated = Framing(stated.frame, stated.up, float(rest))
        except ValueError:
            continue
    return stated
