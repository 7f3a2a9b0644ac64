"""`Flex`: a rope, a cloth or a soft block - what it is made of, its vertices, and how it lies at first."""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Int

from ..ranges import ORDINARY, Ranges
from ..scene import upright
from ..textures import Look, random_look

FlexKind = Literal["rope", "cloth", "soft"]
FLEX_KINDS: tuple[FlexKind, ...] = get_args(FlexKind)
Random = np.random.Generator


@dataclass(frozen=True, eq=False)
class Flex:
    """One elastic thing that is straight, flat or a cuboid at rest, in its own frame with its middle at 0.

    A rope runs along x, a cloth lies in x and y, and vertices are counted with the last axis fastest.
    """

    id: int
    """At least 1; 0 is the background."""
    name: str
    kind: FlexKind
    size: tuple[float, float, float]
    """[m] of the rest shape: a rope's length between its end vertices, and twice its diameter; width,
    depth and thickness of a cloth; the sides of a block."""
    counts: tuple[int, int, int]
    """Vertices along x, y and z."""
    young: float
    """[Pa] Young's modulus, of stretching and of bending."""
    poisson: float
    """Of cloth and block, range [0, 0.5)."""
    density: float
    """[kg/m^3]"""
    damping: float
    """[s] of strain rates: the stress at a strain rate is that of the strain times this (Rayleigh)."""
    friction: float
    """Coulomb coefficient."""
    look: Look
    pose: Float[np.ndarray, "4 4"]
    """[m] `world_from_object` at the start."""
    bent: Float[np.ndarray, "v 3"] | None = None
    """[m] vertices at the start in the object's frame; None is the rest shape. Of rope and cloth only."""
    tied: tuple[int, ...] = ()
    """Vertices that stay where they start, of rope and cloth only."""

    def __post_init__(self) -> None:
        if self.id < 1:
            raise ValueError(f"Flex.id: expected at least 1, got {self.id}")
        wanted = {"rope": (2, 1, 1), "cloth": (2, 2, 1), "soft": (3, 3, 3)}[self.kind]
        if any(n < low or (low == 1 and n != 1) for n, low in zip(self.counts, wanted)):
            raise ValueError(f"Flex.counts: expected at least {wanted} for a {self.kind}, got {self.counts}")
        if not (min(self.size) > 0 and self.young > 0 and self.density > 0 and 0 <= self.poisson < 0.5):
            raise ValueError("Flex: expected size, young and density above 0, poisson in [0, 0.5)")
        if self.spacing <= 2 * self.radius:
            got = f"{self.spacing:g} m and {2 * self.radius:g} m"
            raise ValueError(f"Flex.counts: expected vertices further apart than it is thick, got {got}")
        if self.kind == "soft" and (self.tied or self.bent is not None):
            raise ValueError("Flex: expected neither tied nor bent vertices of a soft block, got some")
        if self.bent is not None and self.bent.shape != self.rest.shape:
            raise ValueError(f"Flex.bent: expected shape {self.rest.shape}, got {self.bent.shape}")
        if self.tied and not (min(self.tied) >= 0 and max(self.tied) < self.count):
            raise ValueError(f"Flex.tied: expected vertices below {self.count}, got {self.tied}")

    @property
    def count(self) -> int:
        """Vertices."""
        return math.prod(self.counts)

    @property
    def radius(self) -> float:
        """[m] from a vertex to the surface that collides."""
        return 0.001 if self.kind == "soft" else self.size[2] / 2

    @property
    def volume(self) -> float:
        """[m^3]"""
        if self.kind == "rope":
            return math.pi * self.radius**2 * self.size[0]
        return math.prod(self.size)

    @property
    def mass(self) -> float:
        """[kg]"""
        return self.density * self.volume

    @property
    def spacing(self) -> float:
        """[m] smallest distance of two neighbours at rest."""
        return min(step for step in self.steps if step > 0)

    @property
    def steps(self) -> tuple[float, float, float]:
        """[m] between neighbours along x, y and z at rest; 0 where there is one vertex only."""
        inset = 2 * self.radius if self.kind == "soft" else 0.0
        x, y, z = ((size - inset) / (n - 1) if n > 1 else 0.0 for size, n in zip(self.size, self.counts))
        return x, y, z

    @cached_property
    def rest(self) -> Float[np.ndarray, "v 3"]:
        """[m] vertices without forces, in the object's frame."""
        axes = [(np.arange(n) - (n - 1) / 2) * step for n, step in zip(self.counts, self.steps)]
        return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)

    @property
    def start(self) -> Float[np.ndarray, "v 3"]:
        """[m] vertices at the start, in the world."""
        local = self.rest if self.bent is None else self.bent
        return local @ self.pose[:3, :3].T + self.pose[:3, 3]

    @cached_property
    def masses(self) -> Float[np.ndarray, " v"]:
        """[kg] share of every vertex: of what lies nearer to it than to others."""
        weights = np.ones(1)
        for n in self.counts:
            line = np.ones(n)
            line[[0, -1]] = 0.5 if n > 1 else 1.0
            weights = np.multiply.outer(weights, line)
        return self.mass * (weights / weights.sum()).ravel()

    @cached_property
    def edges(self) -> Int[np.ndarray, "e 2"]:
        """Neighbours along the axes."""
        rows = np.arange(self.count).reshape(self.counts)
        pairs = [
            np.stack([np.delete(rows, -1, axis).ravel(), np.delete(rows, 0, axis).ravel()], axis=1)
            for axis in range(3)
        ]
        return np.concatenate(pairs)


def random_flex(
    random: Random,
    kind: FlexKind,
    id: int,
    hue: float,
    place: tuple[float, float] = (0.0, 0.0),
    ranges: Ranges | None = None,
) -> Flex:
    """A rope, cloth or block that lies on the table, its stiffness drawn evenly on a logarithmic scale.

    Args:
        random: where the numbers are from.
        kind: of thing.
        id: at least 1.
        hue: of its paint, range [0, 1].
        place: [m] where its middle lies.
        ranges: of size, density and friction; None are the ordinary ones.
    """
    return _RANDOM[kind](random, id, random_look(random, hue), place, ranges or ORDINARY[kind])


def hanging(flex: Flex, *, height: float, place: tuple[float, float] = (0.0, 0.0)) -> Flex:
    """The same rope or cloth hung up at its first vertices: one end of a rope, two corners of a cloth.

    Args:
        flex: rope or cloth.
        height: [m] of where it is tied.
        place: [m] in x and y.
    """
    down = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = flex.pose[:3, :3] @ down, (*place, height)
    pose[2, 3] -= flex.size[0] / 2
    tied = (0,) if flex.kind == "rope" else (0, flex.counts[1] - 1)
    return replace(flex, pose=pose, bent=None, tied=tied)


def _rope(random: Random, id: int, look: Look, place: tuple[float, float], ranges: Ranges) -> Flex:
    assert ranges.density is not None
    length, radius = (random.uniform(*span) for span in ranges.sizes)
    count = round(length / max(0.016, 2.6 * radius)) + 1
    turn = np.linspace(-0.5, 0.5, count - 1)
    bends = random.uniform(-1, 1, 2) * (1.2, 0.5)
    heading = bends[0] * turn * 2 + bends[1] * np.sin(2 * math.pi * turn)
    steps = np.column_stack([np.cos(heading), np.sin(heading), np.zeros(count - 1)]) * length / (count - 1)
    bent = np.concatenate([np.zeros((1, 3)), np.cumsum(steps, axis=0)])
    return Flex(
        id=id,
        name="rope",
        kind="rope",
        size=(length, 2 * radius, 2 * radius),
        counts=(count, 1, 1),
        young=_log_uniform(random, 1e5, 3e6),
        poisson=0.45,
        density=random.uniform(*ranges.density),
        damping=random.uniform(0.005, 0.02),
        friction=random.uniform(*ranges.friction),
        look=look,
        pose=upright(*place, radius, random.uniform(-math.pi, math.pi)),
        bent=bent - bent.mean(0),
    )


def _cloth(random: Random, id: int, look: Look, place: tuple[float, float], ranges: Ranges) -> Flex:
    assert ranges.density is not None
    *spans, thick = ranges.sizes
    side = np.array([random.uniform(*span) for span in spans])
    thickness = random.uniform(*thick)
    counts = np.maximum(10, np.round(side / 0.0185)).astype(int) + 1
    return Flex(
        id=id,
        name="cloth",
        kind="cloth",
        size=(float(side[0]), float(side[1]), thickness),
        counts=(int(counts[0]), int(counts[1]), 1),
        young=_log_uniform(random, 1e4, 2e5),
        poisson=0.2,
        density=random.uniform(*ranges.density),
        damping=random.uniform(0.005, 0.02),
        friction=random.uniform(*ranges.friction),
        look=look,
        pose=upright(*place, thickness / 2, random.uniform(-math.pi, math.pi)),
    )


def _soft(random: Random, id: int, look: Look, place: tuple[float, float], ranges: Ranges) -> Flex:
    assert ranges.density is not None
    x, y, z = (random.uniform(*span) for span in ranges.sizes)
    return Flex(
        id=id,
        name="soft block",
        kind="soft",
        size=(x, y, z),
        counts=(5, 5, 5),
        young=_log_uniform(random, 2e4, 2e5),
        poisson=random.uniform(0.2, 0.4),
        density=random.uniform(*ranges.density),
        damping=random.uniform(0.01, 0.03),
        friction=random.uniform(*ranges.friction),
        look=look,
        pose=upright(*place, z / 2, random.uniform(-math.pi, math.pi)),
    )


_RANDOM = {"rope": _rope, "cloth": _cloth, "soft": _soft}


def _log_uniform(random: Random, low: float, high: float) -> float:
    return float(np.exp(random.uniform(math.log(low), math.log(high))))
