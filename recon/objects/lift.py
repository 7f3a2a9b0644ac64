"""Ids of pictures lifted to Gaussians: how much of each label every Gaussian draws, over all views."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.gaussians import Gaussians
from gaussworld.log import Done, Event, Progress, drain
from gaussworld.world_object import BACKGROUND_ID

from .seen import gathered
from .smooth import smoothed

#: Of a picture's pixels: those that say nothing.
UNKNOWN = -1
#: A view that has a mask for less than this share of a thing lost it; and what a background's vote counts
#: while it is found out which thing a Gaussian would belong to.
_GAP, _LOST = 0.15, 0.4
#: [px] longer side of the id pictures that are looked at, at most.
LONGEST = 800


@dataclass(frozen=True, eq=False)
class Votes:
    """How much every Gaussian has to do with every label."""

    labels: tuple[int, ...]
    """Ascending; the columns of `weights`."""
    weights: Float[Tensor, "n l"]
    """[px] blending weight summed over the pixels of each label, over all views."""


@dataclass(frozen=True, eq=False)
class Lifted:
    """An id for every Gaussian, and how sure it is."""

    ids: Int[Tensor, " n"]
    confidences: UInt8[Tensor, " n"]
    """Share of the Gaussian's weight that the id has, 255 for all; low where no picture shows it."""


def lift(gaussians: Gaussians, cameras: Sequence[Camera], id_images: Sequence[Int[Tensor, "h w"]]) -> Lifted:
    """Give each Gaussian the id of the pixels that it draws, and those that draw none their neighbours'.

    Args:
        gaussians: in the world frame; all of them take part, so leave out what is not shown.
        cameras: one for each picture; a picture of another size, but the same proportions, is understood.
        id_images: id of each pixel; -1 where it is not known.

    Raises:
        ValueError: there is no picture, or not one for each camera.
    """
    votes = drain(cast_votes(gaussians, cameras, id_images)).result
    return decided(gaussians, votes)


def decided(gaussians: Gaussians, votes: Votes) -> Lifted:
    """The id with the most weight, made to agree with the neighbourhood where the pictures hesitate."""
    rows, sureness = smoothed(gaussians, votes.weights)
    ids = torch.tensor(votes.labels, dtype=torch.int32)[rows]
    return Lifted(ids, (sureness * 255).round().to(torch.uint8))


def cast_votes(
    gaussians: Gaussians, cameras: Sequence[Camera], id_images: Sequence[Int[Tensor, "h w"]]
) -> Iterator[Event[Votes]]:
    """Sum the blending weights of every Gaussian per label, a picture a step; see `lift`.

    What is hidden behind something gets nothing; see `gathered`.
    """
    if not id_images or len(id_images) != len(cameras):
        raise ValueError(f"expected a picture for each camera, got {len(id_images)} for {len(cameras)}")
    labels = sorted({label for image in id_images for label in image.unique().tolist()} - {UNKNOWN})
    column = {label: i for i, label in enumerate(labels)}
    total, views = torch.zeros(len(gaussians), len(labels)), []
    for i, (camera, image) in enumerate(zip(cameras, id_images)):
        there = [label for label in image.unique().tolist() if label != UNKNOWN]
        part = view_weights(gaussians, camera, image, there)
        rows = (part.sum(1) > 0).nonzero()[:, 0]
        weights = torch.zeros(len(rows), len(labels))
        weights[:, [column[label] for label in there]] = part[rows]
        # Three digits are enough for what may be taken away again, and half the memory.
        views.append((rows.int(), weights.bfloat16()))
        total[rows] += weights
        yield Progress(i + 1, len(cameras))
    yield Done(Votes(tuple(labels), _without_gaps(total, labels, views)))


def _without_gaps(
    total: Float[Tensor, "n l"],
    labels: Sequence[int],
    views: Sequence[tuple[Tensor, Tensor]],
) -> Float[Tensor, "n l"]:
    """The weights of all views, but for what a view calls background where it lost a mask.

    A mask program leaves things out now and then: where a view shows a thing that other views know, and has
    next to no mask of it, its background says nothing about that thing.

    Args:
        total: the sum over all views.
        labels: of the columns.
        views: of each, rows that it shows, and their weights.
    """
    if BACKGROUND_ID not in labels or len(labels) < 2:
        return total
    nothing = labels.index(BACKGROUND_ID)
    leaning = total.clone()
    leaning[:, nothing] *= _LOST
    belongs = leaning.argmax(1)
    for rows, weights in views:
        mine = belongs[rows]
        said = torch.zeros(len(labels), len(labels)).index_add_(0, mine, weights.float())
        lost = (said.diag() < _GAP * said.sum(1)) & (said[:, nothing] > 0.5 * said.sum(1))
        lost[nothing] = False
        gaps = lost[mine]
        total[rows[gaps].long(), nothing] -= weights[gaps, nothing].float()
    return total.clamp_(min=0)


def view_weights(
    gaussians: Gaussians, camera: Camera, image: Int[Tensor, "h w"], labels: Sequence[int]
) -> Float[Tensor, "n l"]:
    """[px of the camera] blending weight of every Gaussian in the pixels of each label of one picture."""
    camera, image = fitted(camera, image)
    wanted = torch.tensor(list(labels), dtype=image.dtype)
    return gathered(gaussians, camera, (image[..., None] == wanted).float())


def fitted(camera: Camera, image: Int[Tensor, "h w"]) -> tuple[Camera, Int[Tensor, "h w"]]:
    """The camera at the picture's size, both shrunk to what is worth looking at."""
    height, width = image.shape
    scale = min(1.0, LONGEST / max(height, width))
    height, width = max(1, round(height * scale)), max(1, round(width * scale))
    if (height, width) != tuple(image.shape):
        image = resampled(image, height, width)
    return camera if (camera.height, camera.width) == (height, width) else camera.rescaled(
        width, height
    ), image


def resampled(image: Int[Tensor, "h w"], height: int, width: int) -> Int[Tensor, "h2 w2"]:
    """The nearest pixel's id at another size: ids have no means."""
    rows = ((torch.arange(height) + 0.5) * image.shape[0] / height).long()
    columns = ((torch.arange(width) + 0.5) * image.shape[1] / width).long()
    return image[rows][:, columns]
