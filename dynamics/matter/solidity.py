"""The body of an object: the points its surface shows, the solid inside, its form, its mass and inertia."""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.gaussians import DELETED, HIDDEN, Gaussians
from gaussworld.hull import convex_hull
from gaussworld.io.bodies import inertia_of
from gaussworld.neighbors import nearest
from gaussworld.pose import rotation_from_quats
from gaussworld.shape import Mesh, is_closed, joined
from gaussworld.support import outward
from gaussworld.world_object import WorldObject

from .fields import surface_samples
from .geodesic import Web, farthest_points
from .parts import PartKind

#: Fainter Gaussians are no part of a body; more of them than so many are thinned out.
_FAINT, _MOST = 0.3, 20_000
#: Points of a cloud on which paths are sought.
DENSE = 1500
#: A Gaussian whose neighbours are so many deviations farther away than usual floats.
_OUTLIER = 4.0
#: A Gaussian reaches so many of its deviations.
_REACH = 1.0
#: A rope is so many times as long as it is wide; a cloth's thickness is such a part of its width.
_LONG, _THIN = 6.0, 0.12
#: The same of what a closed surface says: twice its volume by its area, to the root of half its area.
_THIN_SOLID = 0.06
#: A solid with less of the volume of a cube as long as it is encloses nothing.
_FLAT = 1e-6

_WORDS = {
    PartKind.ROPE: {"rope", "cable", "cord", "string", "wire", "thread", "chain", "hose", "tube"},
    PartKind.CLOTH: {"cloth", "fabric", "textile", "towel", "napkin", "blanket", "garment"},
    PartKind.VOLUME: {"foam", "sponge", "food", "dough", "plush", "soft", "volume"},
}


@dataclass(frozen=True, eq=False)
class Body:
    """An object as a body, in its own frame."""

    item: WorldObject

    @property
    def meshed(self) -> bool:
        """Whether its surface is known."""
        return self.item.shape is not None and len(self.item.shape.mesh.faces) > 0

    @property
    def empty(self) -> bool:
        """Whether there is nothing of it to see or to touch."""
        return not self.meshed and not len(self.cloud)

    @cached_property
    def cloud(self) -> Float[Tensor, "n 3"]:
        """Middles of its opaque Gaussians, without floaters."""
        return shown_gaussians(self.item.gaussians).means

    @cached_property
    def surface(self) -> Float[Tensor, "n 3"]:
        """Points all over its surface, by its shape, else by its Gaussians."""
        if self.item.shape is not None and self.meshed:
            return surface_samples(self.item.shape.mesh.triangles, 6000)[0]
        return self.cloud

    @cached_property
    def dense(self) -> Float[Tensor, "d 3"]:
        """The surface by at most 1,500 points, evenly spread."""
        return self.surface[farthest_points(self.surface, DENSE)]

    @cached_property
    def closed(self) -> bool:
        """Whether its surface encloses a volume."""
        if self.item.shape is None or not self.meshed:
            return False
        mesh = self.item.shape.mesh
        return _thick(mesh) and is_closed(mesh)

    @cached_property
    def parts(self) -> tuple[Mesh, ...]:
        """Convex parts whose union it is; empty where the surface itself is closed, or nothing is thick."""
        if self.closed:
            return ()
        given = () if self.item.shape is None else self.item.shape.parts
        thick = tuple(outward(part) for part in given if _thick(part))
        if thick:
            return thick
        hull = self.hull
        return () if hull is None else (hull,)

    @cached_property
    def solid(self) -> Mesh | None:
        """What is inside; None where nothing is thick, as with a sheet."""
        if self.closed and self.item.shape is not None:
            return outward(self.item.shape.mesh)
        return joined(self.parts) if self.parts else None

    @cached_property
    def hull(self) -> Mesh | None:
        """The convex hull of its surface, or of its Gaussians with what they reach; None for a flat one."""
        if self.item.shape is not None and self.meshed:
            return convex_hull(self.item.shape.mesh)
        if not len(self.cloud):
            return None
        cloud = _tips(shown_gaussians(self.item.gaussians))
        return convex_hull(Mesh(cloud, torch.zeros(0, 3, dtype=torch.int32)))

    def form(self) -> PartKind:
        """Rope, cloth or volume: what its category says, else what it looks like.

        Seen from one end along the body, a rope is thin at every distance; a cloth is flat as a whole, or its
        surface encloses little.
        """
        word = self.item.material.category.strip().lower()
        named = next((kind for kind, words in _WORDS.items() if word in words), None)
        if named is PartKind.ROPE or named is PartKind.VOLUME or len(self.dense) < 4:
            return named or PartKind.VOLUME
        if _slenderness(self.dense) > _LONG:
            return PartKind.ROPE
        return PartKind.CLOTH if named is PartKind.CLOTH or self._thin() else PartKind.VOLUME

    def _thin(self) -> bool:
        if self.closed and self.item.shape is not None:
            mesh = self.item.shape.mesh
            if 2 * abs(mesh.volume) / mesh.area < _THIN_SOLID * (mesh.area / 2) ** 0.5:
                return True
        spans = torch.linalg.svdvals((self.dense - self.dense.mean(0)).double())
        return float(spans[2]) < _THIN * float(spans[1])

    def inertia(self) -> tuple[float, Float[Tensor, "3"], Float[Tensor, "3 3"]]:
        """[kg] mass, [m] its centre, [kg m^2] inertia about it; of the material where it knows better."""
        material = self.item.material
        if self.solid is not None and self.solid.volume > 0:
            volume, center, inertia = inertia_of(self.solid)
        else:
            volume, center, inertia = _ball(self.surface)
        mass = max(material.density * (volume if material.volume is None else material.volume), 1e-6)
        if material.center_of_mass is not None:
            center = torch.tensor(material.center_of_mass, dtype=torch.float64)
        return mass, center.float(), (inertia * (mass / volume)).float()


def shown_gaussians(gaussians: Gaussians) -> Gaussians:
    """Opaque Gaussians that do not float; all that are shown where hardly any is opaque."""
    rows = ((gaussians.flags & (DELETED | HIDDEN)) == 0) & gaussians.means.isfinite().all(1)
    opaque = rows & (gaussians.opacities.detach() > _FAINT)
    found = (opaque if int(opaque.sum()) >= min(20, int(rows.sum())) else rows).nonzero()[:, 0]
    found = found[:: max(1, -(-len(found) // _MOST))]
    means = gaussians.means.detach()[found]
    return gaussians.detach().select(found[_together(means)])


def _together(points: Tensor) -> Tensor:
    """Which points have neighbours as near as most have, and hang together with most of them."""
    if len(points) < 20:
        return torch.ones(len(points), dtype=torch.bool)
    gaps = nearest(points, 8)[0].mean(1).clamp(min=1e-9).log()
    middle = gaps.median()
    spread = 1.4826 * (gaps - middle).abs().median()
    return gaps < middle + max(_OUTLIER * float(spread), 1.0)


def _tips(gaussians: Gaussians) -> Tensor:
    """Middles of Gaussians, and where their axes end: a few flat ones too have a hull."""
    scales = gaussians.scales.clamp(min=1e-4, max=0.05)
    axes = (rotation_from_quats(gaussians.quats) * (_REACH * scales)[:, None, :]).transpose(1, 2)
    middle = gaussians.means[:, None]
    return torch.cat([middle, middle + axes, middle - axes], 1).reshape(-1, 3)


def _slenderness(dense: Tensor) -> float:
    """Length along a body by its typical width across."""
    _, along = Web(dense).ends()
    length = float(along.max())
    place = (along / length * 16).long().clamp(max=15)
    widths = []
    for number in range(16):
        points = dense[place == number]
        if len(points) >= 4:
            # Across: a slice of a thin thing is as long as it is thick, so its second extent tells.
            spread = (points - points.mean(0)).double()
            widths.append(float(torch.linalg.svdvals(spread)[0]) / len(points) ** 0.5 * 3.46)
    return length / max(sorted(widths)[len(widths) // 2], 1e-9) if widths else 1.0


def _thick(mesh: Mesh) -> bool:
    if len(mesh.vertices) < 4 or not len(mesh.faces):
        return False
    length = float((mesh.vertices.amax(0) - mesh.vertices.amin(0)).norm())
    return abs(mesh.volume) > _FLAT * length**3


def _ball(points: Tensor) -> tuple[float, Tensor, Tensor]:
    """A ball in the middle of something that encloses nothing."""
    middle = points.double().mean(0)
    radius = max(1e-3, float((points.double() - middle).norm(dim=1).mean()) / 2)
    volume = 4 / 3 * torch.pi * radius**3
    return volume, middle, torch.eye(3, dtype=torch.float64) * 0.4 * volume * radius**2
