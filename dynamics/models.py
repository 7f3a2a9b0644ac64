"""The models that predict, by the name that flags use."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

from gaussworld.errors import ConfigError, FileFormatError
from gaussworld.state import ActionSpec, Dynamics, Rollout
from gaussworld.verbs import resolve
from gaussworld.world import World

from .learning.model_file import is_model, read_card
from .matter.parts import Matter
from .tool import Tool

#: Makes a model for a world in metres, what it is made of, the tools that act in it, and a rate [1/s].
Builder = Callable[[World, Matter, tuple[Tool, ...], float], Dynamics]


@runtime_checkable
class Learned(Protocol):
    """What a learned model can say besides `Dynamics`."""

    def surprise(self, rollout: Rollout) -> float:
        """The share of training situations that are less unusual than a rollout of it, range [0, 1]."""
        ...


def known_model(name: str) -> str:
    """The name of a model that there is.

    Raises:
        ConfigError: there is none of this name, and no folder of one.
        FileFormatError: a folder whose model is damaged, or of another version or kind.
    """
    if name in MODELS:
        return name
    known, path = ", ".join(MODELS), Path(name)
    if not is_model(path):
        what = "a folder without model.json" if path.is_dir() else "no model"
        raise ConfigError(
            f"model: expected one of {known}, or a folder that `gaussworld fit` wrote, got {name!r}, which is"
            f" {what}"
        )
    if (kind := read_card(path).get("kind")) not in LEARNED:
        raise FileFormatError(f"{path}: expected a model of kind {', '.join(LEARNED)}, got {kind!r}")
    return name


def model_named(
    name: str, world: World, matter: Matter, tools: tuple[Tool, ...], rate_hz: float = 10.0
) -> Dynamics:
    """The model of a name or in a folder, for a world in metres, its matter, and the tools that act in it.

    Raises:
        ConfigError: there is no such model, or it was trained at another rate.
        FileFormatError: the folder's files are damaged, or of another version.
    """
    if known_model(name) in MODELS:
        return MODELS[name](world, matter, tools, rate_hz)
    load = resolve(LEARNED[read_card(Path(name))["kind"]])
    return load(Path(name), world, matter, tools, rate_hz)


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

#: What loads a folder, by the kind that its card names.
LEARNED: dict[str, str] = {
    "hybrid": "dynamics.residual.files:loaded_residual",
    "network": "dynamics.residual.files:loaded_residual",
    "prior": "dynamics.residual.files:loaded_prior",
    "latent": "dynamics.latent.model:loaded",
}
