"""`Grid`: a chart cut into cells, and pictures of Gaussians on it as seen from straight above."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..camera import Camera
from ..gaussians import Gaussians
from ..render import render

#: The eye is so many times the grid's size away: parallel rays, near enough.
_FAR = 60.0


@dataclass(frozen=True)
class Grid:
    """Square cells along x (columns) and y (rows)."""

    x: float
    """Lower corner."""
    y: float
    cell: float
    """[m, or the world's unit] side of a cell."""
    width: int
    height: int

    @classmethod
    def around(cls, xy: Float[Tensor, "m 2"], margin: float, cell: float, most: int = 192) -> "Grid":
        """A grid over some places and a margin; cells grow until there are at most `most` along a side."""
        low, high = xy.amin(0) - margin, xy.amax(0) + margin
        cell = max(cell, float((high - low).max()) / most)
        width, height = (max(1, math.ceil(side / cell)) for side in (high - low).tolist())
        return cls(float(low[0]), float(low[1]), cell, width, height)

    def index(self, xy: Float[Tensor, "m 2"]) -> Int[Tensor, " m"]:
        """Cell of each place, row after row; -1 outside."""
        column = ((xy[:, 0] - self.x) / self.cell).floor().long()
        row = ((xy[:, 1] - self.y) / self.cell).floor().long()
        inside = (column >= 0) & (column < self.width) & (row >= 0) & (row < self.height)
        return torch.where(inside, row * self.width + column, -1)

    def marked(self, xy: Float[Tensor, "m 2"]) -> Bool[Tensor, "h w"]:
        """Cells with something in them."""
        cells = torch.zeros(self.height * self.width, dtype=torch.bool)
        index = self.index(xy)
        cells[index[index >= 0]] = True
        return cells.reshape(self.height, self.width)

    def within(self, cells: Bool[Tensor, "h w"], xy: Float[Tensor, "m 2"]) -> Bool[Tensor, " m"]:
        """Places in cells that are true."""
        index = self.index(xy)
        return cells.flatten()[index.clamp(min=0)] & (index >= 0)

    def centers(self, cells: Bool[Tensor, "h w"]) -> Float[Tensor, "m 2"]:
        """Middles of the cells that are true."""
        row, column = cells.nonzero().unbind(1)
        return torch.stack([self.x + (column + 0.5) * self.cell, self.y + (row + 0.5) * self.cell], dim=1)

    def picture(self, flat: Gaussians) -> tuple[Float[Tensor, "h w 3"], Float[Tensor, "h w"]]:
        """Colour and coverage of Gaussians of the chart, one pixel a cell."""
        if not len(flat):
            return torch.zeros(self.height, self.width, 3), torch.zeros(self.height, self.width)
        side = self.cell * max(self.width, self.height)
        pose = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
        pose[:3, 3] = torch.tensor([self.x, self.y + self.height * self.cell, _FAR * side])
        focal = _FAR * side / self.cell
        K = torch.tensor([[focal, 0.0, 0.0], [0.0, focal, 0.0], [0.0, 0.0, 1.0]])
        drawn = render(replace(flat, sh=flat.sh[:, :1]), Camera(pose, K, self.width, self.height))
        rgb = drawn.rgb / drawn.alpha.clamp(min=1e-3)[..., None]
        # Pictures count rows downwards, the grid counts them along y.
        return rgb.clamp(0, 1).flip(0), drawn.alpha.flip(0)


def widened(cells: Bool[Tensor, "h w"], radius: float) -> Bool[Tensor, "h w"]:
    """Cells within `radius` cells of one that is true."""
    if not bool(cells.any()):
        return cells
    return distance_to(cells) <= radius


def distance_to(cells: Bool[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """[cells] how far the nearest cell that is true is; infinite where there is none."""
    from scipy.ndimage import distance_transform_edt

    if not bool(cells.any()):
        return torch.full(cells.shape, math.inf)
    return torch.from_numpy(distance_transform_edt(~cells.numpy())).float()


def closed(cells: Bool[Tensor, "h w"], radius: float) -> Bool[Tensor, "h w"]:
    """Cells with gaps narrower than twice the radius bridged, and all that they surround."""
    from scipy.ndimage import binary_fill_holes

    pad = math.ceil(radius) + 1
    wide = widened(torch.nn.functional.pad(cells, (pad,) * 4), radius)
    narrow = ~widened(~wide, radius)
    filled = torch.from_numpy(binary_fill_holes(narrow.numpy()))
    return filled[pad:-pad, pad:-pad] | cells


def connected_to(cells: Bool[Tensor, "h w"], seed: Bool[Tensor, "h w"]) -> Bool[Tensor, "h w"]:
    """Cells that hang together with the seed's."""
    from scipy.ndimage import binary_propagation

    if not bool(seed.any()):
        return seed
    grown = binary_propagation(seed.numpy(), mask=(cells | seed).numpy())
    return torch.from_numpy(grown)
