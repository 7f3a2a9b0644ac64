"""`Trial`: all that an episode is simulated from - scene, start, tool, joints, and who moves the tool."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from ..tool import Tool
from .flex.flex import Flex
from .furniture import Front
from .scene import SceneState, SimScene

Family = Literal["push_t", "push", "push_many", "lift", "door", "drawer", "rope", "cloth", "soft"]
FAMILIES: tuple[Family, ...] = get_args(Family)
Policy = Literal["scripted", "random", "expert", "strike", "arch"]
POLICIES: tuple[Policy, ...] = get_args(Policy)
#: Policies whose motions tell materials, and the families that have them.
TELLING: dict[Policy, tuple[Family, ...]] = {"strike": ("push_t", "push", "push_many"), "arch": ("rope",)}
#: x y z [m], yaw [rad] and grip [0, 1] of a tool.
Hand = np.ndarray


@dataclass(frozen=True)
class JointFeel:
    """What resists a joint."""

    damping: float
    """[N s/m] or [N m s/rad]"""
    friction: float
    """[N] or [N m] that has to be overcome."""


@dataclass(frozen=True, eq=False)
class Trial:
    """One episode before it is simulated."""

    family: Family
    seed: int
    policy: Policy
    scene: SimScene
    """What is there, the table first and the bodies of the tool last."""
    start: SceneState
    """Where everything is put; it settles from there before time 0."""
    tool: Tool
    hand: Hand
    """Where the tool is at time 0: x y z [m], yaw [rad], grip."""
    feel: Mapping[int, JointFeel] = field(default_factory=dict)
    """By the id of what has the joint."""
    flexes: tuple[Flex, ...] = ()
    """What bends; the scene has an object of the same id for each."""
    front: Front | None = None
    """Where to touch the door or the drawer."""


def stream(seed: int, *which: int) -> np.random.Generator:
    """Random numbers of their own for each purpose, so that one more draw here changes nothing there."""
    return np.random.default_rng([seed, *which])
