"""How much of what moves a camera sees, where other things may hide it: a coarse z-buffer of points."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.gaussians import Gaussians

#: Cells of the z-buffer, across and down.
_CELLS = (64, 48)
#: Most points that hide, and most of those that are looked for.
_POINTS, _SOUGHT = 40_000, 3_000
#: [m] what is nearer than this to what lies behind it, such as a table under a thing, does not hide it.
_MARGIN = 0.012
#: Gaussians fainter than this hide nothing.
_FAINT = 0.3


@dataclass(frozen=True, eq=False)
class Cloud:
    """Points at one moment, and which of them are looked for."""

    hiding: Float[Tensor, "n 3"]
    """[m] of what does not belong to what is looked for."""
    sought: Float[Tensor, "m 3"]
    """[m]"""
    owners: Int[Tensor, " m"]
    """The object of each point that is looked for."""


def cloud_of(seen: Gaussians, ids: tuple[int, ...]) -> Cloud:
    """Of what is seen at a moment, the objects that are looked for being `ids`."""
    solid = seen.opacities > _FAINT
    wanted = torch.isin(seen.object_ids, torch.tensor(ids, dtype=seen.object_ids.dtype).to(seen.object_ids))
    hiding, sought = _some(solid & ~wanted, _POINTS), _some(solid & wanted, _SOUGHT)
    return Cloud(seen.means[hiding], seen.means[sought], seen.object_ids[sought])


def _some(so: Tensor, most: int) -> Tensor:
    rows = so.nonzero()[:, 0]
    return rows[:: max(1, -(-len(rows) // most))]


def sight(clouds: Sequence[Cloud], camera: Camera) -> tuple[float, int, float]:
    """How much of what is looked for nothing else hides, how much of the picture it fills, and how it moves.

    Args:
        clouds: moments, each with something that is looked for.
        camera: a pinhole; what is outside of its picture is not seen.

    Returns:
        The mean share over objects and moments, range [0, 1]; the cells in which they are seen at one moment
        or another, few where they are edge-on; and how far they go in the picture [cells], little where they
        come straight towards the camera.
    """
    coarse, shares, places = camera.rescaled(*_CELLS), [], []
    passed = torch.zeros(_CELLS[0] * _CELLS[1], dtype=torch.bool)
    for cloud in clouds:
        nearest = torch.full(passed.shape, torch.inf)
        cells, depths, inside = _cells(coarse, cloud.hiding)
        nearest.scatter_reduce_(0, cells[inside], depths[inside], "amin")
        cells, depths, inside = _cells(coarse, cloud.sought)
        seen = inside & (depths < nearest[cells] + _MARGIN)
        passed[cells[seen]] = True
        owners = cloud.owners.cpu()
        places.append(coarse.project(cloud.sought.detach().cpu().float())[0])
        shares += [float(seen[owners == number].float().mean()) for number in owners.unique()]
    # The same Gaussians are solid at all moments.
    far = max(float((place - places[0]).norm(dim=-1).mean()) for place in places)
    return sum(shares) / len(shares), int(passed.sum()), far


def _cells(camera: Camera, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The cell of each point, its depth [m], and whether it is in the picture."""
    pixels, depths = camera.project(points.detach().cpu().float())
    whole = pixels.floor().long()
    inside = (depths > 1e-3) & (whole >= 0).all(-1) & (whole < torch.tensor(_CELLS)).all(-1)
    cells = whole[:, 1].clamp(0, _CELLS[1] - 1) * _CELLS[0] + whole[:, 0].clamp(0, _CELLS[0] - 1)
    return cells, depths, inside
