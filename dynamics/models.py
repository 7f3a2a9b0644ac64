"""The models that predict, by the name that flags use."""

from collections.abc import Callable
from pathlib import Path

from gaussworld.errors import ConfigError
from gaussworld.state import ActionSpec, Dynamics
from gaussworld.world import World

from .matter.parts import Matter
from .tool import Tool

#: Makes a model for a world in metres, what it is made of, the tools that act in it, and a rate [1/s].
Builder = Callable[[World, Matter, tuple[Tool, ...], float], Dynamics]


def known_model(name: str) -> str:
    """The name of a model that there is.

    Raises:
        ConfigError: there is none of this name.
    """
    if name not in MODELS:
        known = ", ".join(MODELS)
        what = "a folder" if Path(name).is_dir() else "no model"
        raise ConfigError(f"model: expected one of {known}, got {name!r}, which is {what}")
    return name


def model_named(
    name: str, world: World, matter: Matter, tools: tuple[Tool, ...], rate_hz: float = 10.0
) -> Dynamics:
    """The model of a name, for a world in metres, its matter, and the tools that act in it.

    Raises:
        ConfigError: there is no such model.
    """
    return MODELS[known_model(name)](world, matter, tools, rate_hz)


def _spec(tools: tuple[Tool, ...], rate_hz: float) -> ActionSpec:
    return ActionSpec("tool_pose", len(tools), "world", "m", rate_hz)


def _prior(world: World, matter: Matter, tools: tuple[Tool, ...], rate_hz: float) -> Dynamics:
    from .prior import Prior

    return Prior(world, matter, tools, action_spec=_spec(tools, rate_hz))


def _persistence(world: World, matter: Matter, tools: tuple[Tool, ...], rate_hz: float) -> Dynamics:
    from .baselines import Persistence

    return Persistence(world, matter, tools, _spec(tools, rate_hz))


def _constant_velocity(world: World, matter: Matter, tools: tuple[Tool, ...], rate_hz: float) -> Dynamics:
    from .baselines import ConstantVelocity

    return ConstantVelocity(world, matter, tools, _spec(tools, rate_hz))


MODELS: dict[str, Builder] = {
    "prior": _prior,
    "persistence": _persistence,
    "constant-velocity": _constant_velocity,
}
