"""`StillConfig`: what simulated captures are made of; presets in `configs/scenes`."""

from dataclasses import dataclass
from typing import Literal

from gaussworld.errors import ConfigError

from .tools import Tool

SceneKind = Literal["tabletop", "cabinet"]


@dataclass(frozen=True)
class StillConfig:
    """A scene at rest, and the cameras around it."""

    scene: SceneKind = "tabletop"
    """Things on a table, or beside a cabinet with a door and a drawer."""
    objects: int | None = None
    """Things on the table; by default 5, and 2 beside a cabinet."""
    size: tuple[float, float] = (0.07, 0.15)
    """[m] smallest and largest longest side of a thing."""
    stacked: int = 0
    """Things that lie on others, at most half of them."""
    tool: Tool = "pusher"
    """The robot's tool over the table."""
    states: int = 0
    """Further states of the same scene, with things moved, or door and drawer opened differently."""
    views: int = 40
    """Cameras on the ring."""
    width: int = 640
    """[px]"""
    height: int = 480
    """[px]"""
    fov_deg: float = 45.0
    """[deg] vertical field of view."""
    radius: float | None = None
    """[m] mean distance of the cameras; by default 0.82, and 1.2 around a cabinet."""
    seed: int = 0
    """Of everything: things, places, paint and cameras."""

    def __post_init__(self) -> None:
        if self.objects is not None and not 0 <= self.objects <= 40:
            raise ConfigError(f"--objects: expected 0 to 40, got {self.objects}")
        if not 0.02 <= self.size[0] <= self.size[1] <= 0.3:
            got = f"{self.size[0]:g} {self.size[1]:g}"
            raise ConfigError(f"--size: expected two lengths between 0.02 and 0.3 m, rising, got {got}")
        ranges = {"states": (0, 100), "views": (1, 2000), "width": (8, 4096), "height": (8, 4096)}
        ranges["stacked"] = (0, self.count // 2)
        for name, (low, high) in ranges.items():
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"--{name}: expected {low} to {high}, got {getattr(self, name)}")
        if not 5 <= self.fov_deg <= 120:
            raise ConfigError(f"--fov-deg: expected 5 to 120 degrees, got {self.fov_deg:g}")
        if self.radius is not None and not 0.4 <= self.radius <= 2.0:
            raise ConfigError(f"--radius: expected 0.4 to 2 m, inside the room, got {self.radius:g}")
        if self.seed < 0:
            raise ConfigError(f"--seed: expected 0 or more, got {self.seed}")

    @property
    def count(self) -> int:
        """Things on the table."""
        if self.objects is not None:
            return self.objects
        return 5 if self.scene == "tabletop" else 2

    @property
    def distance(self) -> float:
        """[m] of the cameras."""
        if self.radius is not None:
            return self.radius
        return 0.82 if self.scene == "tabletop" else 1.2
