"""`Capture`: what the cameras saw - frames with cameras, pictures, masks and depth, plus sparse points."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from .camera import Camera

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture and the camera that took it."""

    camera: Camera
    image: Path | Float[Tensor, "h w 3"] | Float[Tensor, "h w 4"]
    """A file on disk, or pixels in [0, 1] for captures that never touch one; a fourth channel is alpha."""
    mask: Path | None = None
    """White where the picture counts."""
    depth: Path | Float[Tensor, "h w"] | None = None
    """z-depth; a 16-bit file is in millimetres, a tensor in the capture's unit; 0 means unknown."""
    depth_camera: Camera | None = None
    """The camera of the depth picture where that is another one than the picture's."""
    time: float | None = None
    """[s] since the capture began."""
    split: Split = "train"

    @property
    def name(self) -> str:
        return self.image.name if isinstance(self.image, Path) else "in memory"


@dataclass(frozen=True, eq=False)
class Capture:
    """Calibrated pictures of a scene, in one frame."""

    frames: tuple[Frame, ...]
    points: Float[Tensor, "m 3"] = field(default_factory=lambda: torch.zeros(0, 3))
    """Sparse points of the scene [unit of the poses]."""
    colors: Float[Tensor, "m 3"] = field(default_factory=lambda: torch.zeros(0, 3))
    """Colours of the points, range [0, 1]."""
    metres_per_unit: float | None = None
    """How long one unit of the poses is [m]; None while nobody knows."""
    world_from_source: Float[Tensor, "4 4"] = field(default_factory=lambda: torch.eye(4))
    """The way back to the frame the input came in."""

    def __post_init__(self) -> None:
        for name in ("points", "colors"):
            value, wanted = getattr(self, name), (len(self.points), 3)
            if tuple(value.shape) != wanted:
                raise ValueError(f"Capture.{name}: expected shape {wanted}, got {tuple(value.shape)}")
        if self.metres_per_unit is not None and not self.metres_per_unit > 0:
            raise ValueError(
                f"Capture.metres_per_unit: expected a positive length or None, got {self.metres_per_unit}"
            )

    def __len__(self) -> int:
        return len(self.frames)

    def of(self, *splits: Split) -> Iterator[Frame]:
        """The frames of the given splits, in order.

        Raises:
            ValueError: a split is none of train, validation, test.
        """
        if unknown := set(splits) - set(get_args(Split)):
            raise ValueError(
                f"expected splits among {', '.join(get_args(Split))}, got {', '.join(sorted(unknown))}"
            )
        return (frame for frame in self.frames if frame.split in splits)

    def with_holdout(self, every: int) -> "Capture":
        """Every `every`-th frame becomes a test view (frames 0, every, 2*every, ...), the others train.

        Raises:
            ValueError: `every` is below 2, which would leave nothing to train on.
        """
        if every < 2:
            raise ValueError(f"expected to hold out every 2nd frame or fewer, got every={every}")
        frames = tuple(
            replace(f, split="test" if i % every == 0 else "train") for i, f in enumerate(self.frames)
        )
        return replace(self, frames=frames)
