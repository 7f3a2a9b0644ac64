"""Where Gaussians of what is new begin: on surfaces that changed for every picture, and in carved space."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gaussworld.gaussians import Gaussians

from .changes import Difference
from .landmarks import opencv

#: Seeds at most, of surfaces and of new things; places that one picture offers.
_MOST, _OFFERED = 4000, 3000
#: Share of the pictures that must agree.
_AGREE_SURFACE, _AGREE_SPACE = 0.75, 0.9
#: Cells along the longest side of the space that is carved, and cells of a thing at least.
_CELLS, _FEWEST_CELLS = 56, 40
_FEWEST_VIEWS = 3


@dataclass(frozen=True, eq=False)
class Seeds:
    """Gaussians to begin with, and what each belongs to."""

    gaussians: Gaussians
    owners: Int[Tensor, " n"]
    """Id of the object whose surface it mends, or -1, -2, ... for the first, second, ... new thing."""


def seeds(
    differences: Sequence[Difference],
    masks: Sequence[Tensor],
    kept: Gaussians,
    generator: torch.Generator,
) -> Seeds:
    """Places for new Gaussians.

    A place on a surface that every picture finds changed has changed itself. What is left is carved: space
    that every picture shows as changed, in front of what has not (Kutulakos and Seitz 2000).
    """
    places, colors, owners, width = _surface_places(differences, masks)
    surface = _judged(places, differences, masks, 0.02) >= _AGREE_SURFACE
    chosen = _thinned(surface.nonzero()[:, 0], _MOST, generator)
    parts = [(places[chosen], colors[chosen], owners[chosen], width[chosen])]
    things = _things(differences, masks, places[~surface], generator)
    parts += things
    points, rgb, owner, spacing = (torch.cat(column) for column in zip(*parts))
    quats = torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(len(points), 4)
    opacities = torch.full((len(points),), 0.7)
    scales = spacing[:, None].expand(-1, 3).clamp(min=1e-9)
    gaussians = Gaussians.from_activated(points, quats, scales, opacities, rgb.clamp(0, 1))
    return Seeds(gaussians, owner)


def _surface_places(
    differences: Sequence[Difference], masks: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Unexplained pixels on the surface that the world has there: place, colour, object, spacing."""
    found: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    for each, mask in zip(differences, masks):
        depth = mended_depth(each, mask)
        rows = (mask & (depth > 0)).flatten().nonzero()[:, 0]
        rows = rows[:: max(1, len(rows) * len(differences) // _OFFERED)]
        camera, picture = each.shot.camera, each.shot.exposure.undone(each.shot.view.image)
        z = depth.flatten()[rows]
        places = camera.unproject(camera.pixel_centers().reshape(-1, 2)[rows], z)
        owners = _owners(each, mask).flatten()[rows]
        found.append((places, picture.reshape(-1, 3)[rows], owners, 1.5 * z / float(camera.K[0, 0])))
    places, colors, owners, width = (torch.cat(column) for column in zip(*found))
    return places, colors, owners, width


def mended_depth(each: Difference, mask: Tensor) -> Float[Tensor, "h w"]:
    """Depth with holes closed from their rims; inverse depth, because of a plane it is linear in pixels."""
    cv2 = opencv()
    hole = each.hollow
    if not bool(hole.any()):
        return each.depth
    inverse = torch.where(each.depth > 0, 1 / each.depth.clamp(min=1e-9), 0.0)
    top = float(inverse[~hole].max()) if bool((~hole).any()) else 1.0
    source = (inverse / top).clamp(0, 1).contiguous().numpy().astype("float32")
    closed = torch.from_numpy(cv2.inpaint(source, hole.to(torch.uint8).numpy(), 5, cv2.INPAINT_NS)) * top
    return torch.where(hole & (closed > 0), 1 / closed.clamp(min=1e-9), each.depth)


def _owners(each: Difference, mask: Tensor) -> Tensor:
    """The object that the world shows in each pixel, nearby where it shows nothing."""
    ids = each.object_ids.clone()
    around = ids[(ids >= 0) & ~mask]
    ids[ids < 0] = int(around.mode().values) if len(around) else 0
    return ids


def _judged(
    places: Tensor, differences: Sequence[Difference], masks: Sequence[Tensor], slack: float
) -> Float[Tensor, " n"]:
    """Which share of the pictures that could see a place find it changed; 0 where too few could."""
    seen, agree = torch.zeros(len(places)), torch.zeros(len(places))
    for each, mask in zip(differences, masks):
        camera = each.shot.camera
        at, z = camera.project(places)
        x, y = at.floor().long().unbind(1)
        inside = (z > 0) & (x >= 0) & (y >= 0) & (x < camera.width) & (y < camera.height)
        rows = inside.nonzero()[:, 0]
        depth, changed = each.depth[y[rows], x[rows]], mask[y[rows], x[rows]]
        # What the world shows in front hides the place, unless that is what has changed.
        visible = (z[rows] < depth * (1 + slack)) | (depth <= 0) | changed
        void = each.alpha[y[rows], x[rows]] < 0.5
        rows, changed = rows[visible & ~void], changed[visible & ~void]
        seen[rows] += 1
        agree[rows] += changed.float()
    enough = seen >= max(min(_FEWEST_VIEWS, len(differences)), len(differences) / 2)
    return torch.where(enough, agree / seen.clamp(min=1), 0.0)


def _things(
    differences: Sequence[Difference], masks: Sequence[Tensor], near: Tensor, generator: torch.Generator
) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Seeds inside each piece of carved space, largest first."""
    if len(near) < 100:
        return []
    low, high = near.quantile(0.02, dim=0), near.quantile(0.98, dim=0)
    # Things stand in front of the surface that is seen behind them.
    eyes = torch.stack([each.shot.camera.center for each in differences]).mean(0)
    reach = (high - low).max()
    low, high = (
        torch.minimum(low, low + 0.25 * (eyes - low)),
        torch.maximum(high, high + 0.25 * (eyes - high)),
    )
    cell = float(torch.minimum((high - low).max(), 2 * reach) / _CELLS)
    counts = ((high - low) / cell).ceil().long().clamp(1, 2 * _CELLS)
    axes = [float(a) + cell * (torch.arange(int(n)) + 0.5) for a, n in zip(low, counts)]
    cells = torch.cartesian_prod(*axes)
    inside = _judged(cells, differences, masks, 0.0) >= _AGREE_SPACE
    pieces = _pieces(inside.reshape(*map(len, axes)))
    found = []
    for label, size in enumerate(pieces.flatten().bincount().tolist()):
        if label == 0 or size < _FEWEST_CELLS:
            continue
        rows = (pieces.flatten() == label).nonzero()[:, 0]
        rows = _thinned(rows, _MOST // 2, generator)
        places = cells[rows]
        if not _solid_thing(places, differences, cell):
            continue
        colors = _colors(places, differences)
        owner = torch.full((len(rows),), -1 - len(found))
        found.append((places, colors, owner, torch.full((len(rows),), 0.6 * cell)))
    return found


def _pieces(inside: Tensor) -> Tensor:
    """Connected pieces of carved space, numbered from 1; 0 is empty."""
    from scipy.ndimage import label

    numbered: Any = label(inside.numpy())
    return torch.from_numpy(numbered[0]).long()


def _solid_thing(places: Tensor, differences: Sequence[Difference], cell: float) -> bool:
    """Whether a piece stands out from the surface: a stain or a shadow has no height."""
    heights = []
    for each in differences:
        at, z = each.shot.camera.project(places)
        x, y = at.floor().long().unbind(1)
        camera = each.shot.camera
        inside = (z > 0) & (x >= 0) & (y >= 0) & (x < camera.width) & (y < camera.height)
        if bool(inside.any()):
            behind = each.depth[y[inside], x[inside]]
            heights.append(float((behind - z[inside]).quantile(0.8)))
    return bool(heights) and float(torch.tensor(heights).median()) > 3 * cell


def _colors(places: Tensor, differences: Sequence[Difference]) -> Float[Tensor, "n 3"]:
    """The middle of what the pictures show there."""
    shown = []
    for each in differences:
        camera, picture = each.shot.camera, each.shot.exposure.undone(each.shot.view.image)
        at, _ = camera.project(places)
        x, y = at.floor().long().unbind(1)
        shown.append(picture[y.clamp(0, camera.height - 1), x.clamp(0, camera.width - 1)])
    return torch.stack(shown).median(0).values


def _thinned(rows: Tensor, most: int, generator: torch.Generator) -> Tensor:
    return rows if len(rows) <= most else rows[torch.randperm(len(rows), generator=generator)[:most]]
