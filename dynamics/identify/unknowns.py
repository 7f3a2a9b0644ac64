"""What can be identified: the numbers, their ranges, and where they belong."""

from collections.abc import Collection
from dataclasses import dataclass

from gaussworld.errors import ConfigError

from ..matter.parts import PartKind
from ..prior import Prior

#: Lowest and highest value that is looked for.
RANGES: dict[str, tuple[float, float]] = {
    "friction": (0.03, 2.0),
    "stiffness": (1e3, 1e8),
    "damping": (0.01, 100.0),
    "joint_friction": (0.01, 50.0),
    "tool_friction": (0.03, 2.0),
    "patch": (0.3, 2.0),
}
#: What can be found out about a part of a kind; the rest is the same for every motion it makes.
_OF_PART = {
    PartKind.RIGID: ("friction",),
    PartKind.JOINT: ("joint_friction", "damping"),
    PartKind.ROPE: ("stiffness", "damping", "friction"),
    PartKind.CLOTH: ("stiffness", "damping", "friction"),
    PartKind.VOLUME: ("stiffness", "damping", "friction"),
}


@dataclass(frozen=True)
class IdentifyConfig:
    """How long, and how hard, is searched."""

    window: int = 6
    """Steps of a push that are predicted at once: longer ones tell more, but a small error grows in them."""
    stride: int = 4
    """Steps between the beginnings of two windows."""
    population: int = 10
    """Guesses that are tried at once."""
    generations: int = 15
    """Of guesses, at most."""
    refine: int = 8
    """Steps of Levenberg's method after that."""
    seconds: float = 100.0
    """[s] after which the search ends with the best so far."""
    tool_friction: bool = True
    """Find the tools' friction, too."""
    patch: bool = True
    """Find how the load is spread below rigid things, too."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in {"window": 2, "stride": 1, "population": 4, "generations": 1, "refine": 0}.items():
            if getattr(self, name) < least:
                raise ConfigError(f"--{name}: expected at least {least}, got {getattr(self, name)}")
        if not self.seconds > 0:
            raise ConfigError(f"--seconds: expected a positive time, got {self.seconds:g}")


@dataclass(frozen=True)
class Unknown:
    """One number that is looked for."""

    field: str
    """Of `Parameters`."""
    column: int | None
    """Row of the part or tool; None where there is one for the whole world."""
    object_id: int | None
    """Whose it is; None for a tool's, or the world's."""
    label: str

    @property
    def range(self) -> tuple[float, float]:
        """Lowest and highest value."""
        return RANGES[self.field]


@dataclass(frozen=True)
class Found:
    """A number that was identified."""

    unknown: Unknown
    value: float
    low: float
    """Lower end of its 90 % interval; that of the range where the recording does not tell."""
    high: float

    @property
    def told(self) -> bool:
        """Whether the recording tells this number at all: its interval is narrower than a factor of 4."""
        return self.high <= 4 * self.low


def unknowns_of(model: Prior, moved: Collection[int], tools: bool, config: IdentifyConfig) -> list[Unknown]:
    """What windows can tell.

    Args:
        model: of the world.
        moved: ids of the objects that move in them.
        tools: whether tools touch those.
        config: what is asked for.
    """
    unknowns: list[Unknown] = []
    kinds: set[PartKind] = set()
    for row, part in enumerate(model.matter.parts):
        if part.kind not in _OF_PART or part.object_id not in moved:
            continue
        kinds.add(part.kind)
        name = model.world.objects[part.object_id].name
        unknowns += [
            Unknown(field, row, part.object_id, f"{field.replace('_', ' ')} of {name}")
            for field in _OF_PART[part.kind]
        ]
    if tools and config.tool_friction and kinds & {PartKind.RIGID, PartKind.JOINT}:
        unknowns += [
            Unknown("tool_friction", row, None, f"friction of the {tool.name}")
            for row, tool in enumerate(model.tools)
        ]
    if config.patch and PartKind.RIGID in kinds:
        unknowns.append(Unknown("patch", None, None, "patch that carries the load"))
    return unknowns
