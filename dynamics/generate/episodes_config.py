"""`EpisodesConfig` and `GenerateConfig`: what sets of episodes are made of; presets in `configs/scenes`."""

from dataclasses import dataclass, fields
from typing import Literal

from gaussworld.errors import ConfigError

from .config import StillConfig
from .shift import Shift, check_shift
from .trial import FAMILIES, POLICIES, TELLING, Family, Policy

Wanted = Literal["all"] | Family
Mover = Literal["mixed"] | Policy


@dataclass(frozen=True)
class EpisodesConfig:
    """A set of episodes, and the cameras that see them."""

    family: tuple[Wanted, ...] = ("all",)
    """What is done: pushing a T-block, one thing or many, lifting, opening, bending things; or all of it."""
    episodes: int = 12
    """Of each family."""
    steps: int = 60
    """Control steps of 0.1 s of each episode."""
    policy: Mover = "mixed"
    """Who moves the tool; mixed is half scripted, a quarter random, a quarter expert. To tell materials:
    strike hits what can be pushed and lets it slide, arch lifts a rope by its middle."""
    split: tuple[float, float, float] = (0.8, 0.1, 0.1)
    """Shares of episodes for training, choosing and judging."""
    shift: Shift = "none"
    """What lies outside of all that is drawn otherwise, to judge generalisation: shape, size, mass, friction,
    color, count of things, or tool; all of these episodes are for judging."""
    cameras: int = 0
    """Cameras that record RGB-D and ids of every moment; 0 draws nothing."""
    filmed: int | None = None
    """Episodes of each family that cameras record, the first ones; by default all."""
    width: int = 640
    """[px]"""
    height: int = 480
    """[px]"""
    fov_deg: float = 45.0
    """[deg] vertical field of view."""
    seed: int = 0
    """Of everything."""

    def __post_init__(self) -> None:
        if not self.family:
            raise ConfigError(f"--family: expected all or some of {', '.join(FAMILIES)}, got none")
        if unknown := [name for name in self.family if name not in ("all", *FAMILIES)]:
            raise ConfigError(f"--family: expected all or some of {', '.join(FAMILIES)}, got {unknown[0]!r}")
        if self.policy not in ("mixed", *POLICIES):
            raise ConfigError(f"--policy: expected mixed, {', '.join(POLICIES)}, got {self.policy!r}")
        check_shift(self.shift, self.families)
        apt = TELLING.get(self.policy, FAMILIES) if self.policy != "mixed" else FAMILIES
        if others := [name for name in self.families if name not in apt]:
            raise ConfigError(
                f"--policy {self.policy}: expected --family {' or '.join(apt)}, got {others[0]}"
            )
        ranges = {"episodes": (1, 1_000_000), "steps": (1, 10_000), "cameras": (0, 64)}
        ranges |= {"width": (8, 4096), "height": (8, 4096), "seed": (0, 2**63 - 1)}
        for name, (low, high) in ranges.items():
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"--{name}: expected {low} to {high}, got {getattr(self, name)}")
        if self.filmed is not None and self.filmed < 0:
            raise ConfigError(f"--filmed: expected 0 or more, got {self.filmed}")
        if not 5 <= self.fov_deg <= 120:
            raise ConfigError(f"--fov-deg: expected 5 to 120 degrees, got {self.fov_deg:g}")
        if min(self.split) < 0 or abs(sum(self.split) - 1) > 1e-6:
            got = " ".join(f"{share:g}" for share in self.split)
            raise ConfigError(f"--split: expected three shares of at least 0 that sum to 1, got {got}")

    @property
    def families(self) -> tuple[Family, ...]:
        """In the order of the table, each once."""
        return tuple(name for name in FAMILIES if "all" in self.family or name in self.family)


@dataclass(frozen=True)
class GenerateConfig(StillConfig):
    """Scenes at rest (--still), or episodes; settings that say of which are read for those alone."""

    family: tuple[Wanted, ...] = ("all",)
    """Episodes: what is done: pushing a T-block, one thing or many, lifting, opening, bending; or all."""
    episodes: int = 12
    """Episodes: of each family."""
    steps: int = 60
    """Episodes: control steps of 0.1 s of each."""
    policy: Mover = "mixed"
    """Episodes: who moves the tool; mixed is half scripted, a quarter random, a quarter a noisy expert."""
    split: tuple[float, float, float] = (0.8, 0.1, 0.1)
    """Episodes: shares for training, choosing and judging."""
    shift: Shift = "none"
    """Episodes: what lies outside of all that is drawn otherwise, to judge generalisation; all of these
    episodes are for judging."""
    cameras: int = 0
    """Episodes: cameras that record RGB-D and ids of every moment; 0 draws nothing."""
    filmed: int | None = None
    """Episodes: how many of each family the cameras record, the first ones; by default all."""

    @property
    def still(self) -> StillConfig:
        """What matters to scenes at rest."""
        return StillConfig(**{f.name: getattr(self, f.name) for f in fields(StillConfig)})

    @property
    def moving(self) -> EpisodesConfig:
        """What matters to episodes."""
        return EpisodesConfig(**{f.name: getattr(self, f.name) for f in fields(EpisodesConfig)})
