"""Where a point is towards other things: distance fields of parts, patches of ground, boxes of tools."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..matter.parts import Fields, Ground


@dataclass(frozen=True, eq=False)
class FieldLookup:
    """Distances of parts with their gradients, laid out for torch's interpolation."""

    volumes: Tensor
    """(m, 4, r, r, r): distance [m] and its gradient, at (z, y, x)."""
    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, fields: Fields) -> "FieldLookup":
        values = fields.values
        slopes = [
            torch.gradient(values, dim=axis + 1)[0] / fields.spacing[:, axis, None, None, None]
            for axis in range(3)
        ]
        volumes = torch.stack([values, *slopes], dim=1).permute(0, 1, 4, 3, 2).contiguous()
        return cls(volumes, fields.low, fields.low + fields.spacing * (values.shape[-1] - 1))

    def __call__(self, part: int, points: Tensor) -> tuple[Tensor, Tensor]:
        """Signed distance (B, n) [m] and outward normal (B, n, 3) at points (B, n, 3) of the part's frame."""
        low, high = self.low[part], self.high[part]
        inside = torch.minimum(torch.maximum(points, low), high)
        grid = (inside - low) * (2 / (high - low)) - 1
        found = functional.grid_sample(
            self.volumes[part][None], grid.reshape(1, -1, 1, 1, 3), align_corners=True, padding_mode="border"
        )
        found = found.reshape(4, *points.shape[:-1])
        away = (points - inside).square().sum(-1)
        far = torch.where(away > 0, (away + 1e-24).sqrt(), torch.zeros_like(away))
        slope = found[1:].movedim(0, -1)
        normal = slope / (slope.square().sum(-1, keepdim=True) + 1e-12).sqrt()
        return found[0] + far, normal


@dataclass(frozen=True, eq=False)
class GroundLookup:
    """The patches of ground, with their outlines as half planes."""

    heights: Tensor
    frictions: Tensor
    planes: tuple[tuple[Tensor, Tensor], ...]
    """Inward normals (k, 2) and offsets (k) of each patch that ends."""
    depth: float = 0.03
    """[m] things lower than this below a patch are beside it, not on it."""
    sunk: float = 0.01
    """[m] also what has its middle lower than this below a patch went over its edge."""

    @classmethod
    def of(cls, ground: Ground) -> "GroundLookup":
        planes = []
        for outline in ground.outlines:
            along = outline.roll(-1, 0) - outline
            inward = torch.stack([-along[:, 1], along[:, 0]], -1)
            inward = inward / inward.norm(dim=-1, keepdim=True).clamp(min=1e-12)
            planes.append((inward, (inward * outline).sum(-1)))
        return cls(ground.heights, ground.frictions, tuple(planes))

    def __call__(self, points: Tensor, middle: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Height (*b, n) [m] of points over what would carry them, and the friction (*b, n) of that.

        Args:
            points: (*b, n, 3) [m]
            middle: (*b) [m] height of the centre of mass, for the points of one rigid thing.
        """
        level = points[..., 2]
        height, friction = self.heights[-1], self.frictions[-1]
        for row in range(len(self.planes) - 1, -1, -1):
            inward, offsets = self.planes[row]
            over = (points[..., :2] @ inward.T >= offsets).all(-1) & (level > self.heights[row] - self.depth)
            if middle is not None:
                over &= (middle > self.heights[row] - self.sunk)[..., None]
            height = torch.where(over, self.heights[row], height)
            friction = torch.where(over, self.frictions[row], friction)
        return level - height, friction.expand_as(level)
