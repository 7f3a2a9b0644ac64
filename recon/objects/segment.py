"""Objects from masks, from geometry, or from both: geometry proposes, masks decide."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.errors import CaptureError
from gaussworld.gaussians import Gaussians
from gaussworld.log import Done, Event, Notice, part
from gaussworld.world_object import BACKGROUND_ID, ObjectKind, Vector

from .associate import cast_votes_of_pictures
from .found import Found
from .geometry import from_geometry
from .lift import cast_votes, decided
from .masks import Masks

#: Words in the name of a thing that stays where it is.
_FIXED = re.compile(r"\b(table|desk|floor|ground|wall|counter|shelf|bench|ceiling)\b", re.IGNORECASE)
#: Of several objects, one as wide as this share of all of them together carries the others.
_CARRIES_ALL = 0.7
#: An object of geometry that masks call background in this share is none that they know.
_UNKNOWN = 0.6
#: Pictures from fewer sides than this leave much unseen.
_FEW = 3


def from_masks(gaussians: Gaussians, masks: Masks, per_picture: bool = False) -> Iterator[Event[Found]]:
    """Objects from masks of pictures.

    Args:
        gaussians: in the world frame; those that are shown.
        masks: with cameras in the frame of the world.
        per_picture: ids of different pictures have nothing to do with each other.

    Raises:
        CaptureError: no Gaussian shows what the masks are of.
    """
    yield from (Notice(sentence) for sentence in masks.notices)
    if len(masks.frames) < _FEW:
        yield Notice(
            f"Only {len(masks.frames)} picture(s) have masks: what they do not show is guessed from its"
            " neighbours, with low confidence."
        )
    cameras = [frame.camera for frame in masks.frames]
    cast = cast_votes_of_pictures if per_picture or masks.per_picture else cast_votes
    votes = yield from part(cast(gaussians, cameras, masks.pictures), "Lifting")
    lifted = decided(gaussians, votes)
    told = {label for label, weight in zip(votes.labels, votes.weights.sum(0).tolist()) if weight > 0}
    present = told & set(lifted.ids.unique().tolist()) - {BACKGROUND_ID}
    if not present:
        raise CaptureError(
            f"expected Gaussians that show what the masks are of, got none in {len(cameras)} pictures; check"
            " that masks and pictures are of this world"
        )
    absent = sorted(set(votes.labels) - present - {BACKGROUND_ID})
    if absent:
        names = [masks.names.get(number, str(number)) for number in absent]
        yield Notice(f"No Gaussian mostly shows {_listed(names)}: left out.")
    found = Found(lifted.ids, lifted.confidences, {i: masks.names[i] for i in present & set(masks.names)})
    yield Done(replace(found, kinds=_kinds(gaussians, found)))


def from_both(
    gaussians: Gaussians, cameras: Sequence[Camera], up: Vector | None, masked: Found
) -> Iterator[Event[Found]]:
    """What masks found, and what geometry finds where they say nothing.

    Args:
        gaussians: in the world frame; those that are shown.
        cameras: that look at the scene.
        up: against gravity; found out where it is None.
        masked: what masks found.
    """
    try:
        shaped = yield from part(from_geometry(gaussians, cameras, up), "Geometry")
    except CaptureError as error:
        yield Notice(f"Masks alone decide: {error}.")
        yield Done(masked)
        return
    yield Done(combined(masked, shaped))


def combined(masked: Found, shaped: Found) -> Found:
    """Objects of masks, and those of geometry that masks say nothing about.

    What stays where it is by its shape, stays so under the name that a mask has for it.
    """
    ids, confidences = masked.ids.clone(), masked.confidences.clone()
    names, kinds = dict(masked.names), dict(masked.kinds)
    for number in shaped.numbers:
        rows = shaped.ids == number
        free = rows & (masked.ids == BACKGROUND_ID)
        kind = shaped.kinds.get(number, ObjectKind.RIGID)
        if float(free.sum()) > _UNKNOWN * float(rows.sum()):
            new = max(0, *ids.unique().tolist()) + 1
            ids[free], confidences[free] = new, shaped.confidences[free]
            kinds[new] = kind
            names |= {new: shaped.names[number]} if number in shaped.names else {}
        elif kind is ObjectKind.STATIC:
            most = int(masked.ids[rows].mode().values)
            if most != BACKGROUND_ID and float((masked.ids[rows] == most).float().mean()) > 0.5:
                kinds[most] = kind
    return replace(masked, ids=ids, confidences=confidences, names=names, kinds=kinds)


def _kinds(gaussians: Gaussians, found: Found) -> dict[int, ObjectKind]:
    """Things are rigid, but for one that carries all others, and those whose names say otherwise."""
    means, ids, numbers = gaussians.means.detach(), found.ids, found.numbers
    sure = found.confidences > 128
    fixed = {number for number, name in found.names.items() if _FIXED.search(name)}
    if len(numbers) > 2:
        everything = _extent(means[(ids != BACKGROUND_ID) & sure])
        wide = [i for i in numbers if _extent(means[(ids == i) & sure]) > _CARRIES_ALL * everything]
        fixed |= set(wide) if len(wide) == 1 else set()
    return {number: ObjectKind.STATIC if number in fixed else ObjectKind.RIGID for number in numbers}


def _extent(points: Tensor) -> float:
    """Diagonal of the box that holds nearly all points."""
    if len(points) < 2:
        return 0.0
    some = points[:: max(1, len(points) // 50_000)]
    low, high = torch.quantile(some, torch.tensor([0.02, 0.98]), dim=0)
    return float((high - low).norm())


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
