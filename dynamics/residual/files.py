"""Corrected models on disk, and as models of a world."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gaussworld.errors import FileFormatError
from gaussworld.state import ActionSpec, Dynamics
from gaussworld.world import World

from ..baselines import ConstantVelocity
from ..learning.calibration import Radius, Usual
from ..learning.model_file import check_rate, load_weights, model_tensors, read_card, save_model
from ..matter.parts import Matter
from ..prior import Prior
from ..tool import Tool
from .globals import Globals
from .model import Gate, Residual
from .network import ImpulseNetwork, NetworkConfig


def save_residual(
    folder: Path,
    network: ImpulseNetwork,
    base: str,
    given: Globals,
    gate: Gate,
    radius: Radius | None,
    usual: Usual | None,
    facts: dict[str, Any],
) -> None:
    """Write a corrected model, and beside it its prior alone, as a model of its own."""
    tensors: dict[str, Tensor] = {f"weights.{k}": v for k, v in network.state_dict().items()}
    if radius is not None:
        tensors["radius.factors"] = radius.factors
    if usual is not None:
        tensors |= {"usual.mean": usual.mean, "usual.whitening": usual.whitening}
        tensors["usual.distances"] = usual.distances
    told = {
        **facts,
        "base": base,
        "network": asdict(network.config),
        "prior": dict(given.factors),
        "gate": {"shares": dict(gate.shares), "persisted": gate.persisted},
    }
    save_model(folder, "hybrid" if base == "prior" else "network", told, tensors)
    if base == "prior":
        save_model(folder / "prior", "prior", {**facts, "prior": dict(given.factors)}, {})


def loaded_residual(
    folder: Path, world: World, matter: Matter, tools: tuple[Tool, ...], rate_hz: float
) -> Dynamics:
    """The model in a folder, for a world.

    Raises:
        FileFormatError: damaged, of another version or kind.
        ConfigError: it was trained at another rate.
    """
    card = read_card(folder)
    check_rate(card, rate_hz, folder)
    tensors = model_tensors(folder)
    try:
        network = ImpulseNetwork(NetworkConfig(**{k: int(v) for k, v in card["network"].items()}))
        gate = Gate(
            {str(k): float(v) for k, v in card["gate"]["shares"].items()}, float(card["gate"]["persisted"])
        )
        base = str(card["base"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FileFormatError(
            f"{folder}: expected network, gate and base of a model, got {error!r}; fit it anew"
        ) from error
    load_weights(network, tensors, folder)
    radius = Radius(tensors["radius.factors"]) if "radius.factors" in tensors else None
    usual = None
    if "usual.mean" in tensors:
        usual = Usual(tensors["usual.mean"], tensors["usual.whitening"], tensors["usual.distances"])
    spec = ActionSpec("tool_pose", len(tools), "world", "m", rate_hz)
    network.requires_grad_(False)
    if base == "none":
        return Residual(ConstantVelocity(world, matter, tools, spec), network, gate, radius, usual)
    prior = _prior(card, folder, world, matter, tools, spec)
    return Residual(prior, network, gate, radius, usual)


def loaded_prior(
    folder: Path, world: World, matter: Matter, tools: tuple[Tool, ...], rate_hz: float
) -> Dynamics:
    """The physics prior with the numbers that a family has in common.

    Raises:
        FileFormatError: damaged, of another version or kind.
        ConfigError: it was fitted at another rate.
    """
    card = read_card(folder, "prior")
    check_rate(card, rate_hz, folder)
    return _prior(
        card, folder, world, matter, tools, ActionSpec("tool_pose", len(tools), "world", "m", rate_hz)
    )


def _prior(
    card: dict[str, Any],
    folder: Path,
    world: World,
    matter: Matter,
    tools: tuple[Tool, ...],
    spec: ActionSpec,
) -> Prior:
    prior = Prior(world, matter, tools, action_spec=spec)
    try:
        given = Globals({str(name): float(value) for name, value in card["prior"].items()})
        parameters = given.applied(prior.parameters)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FileFormatError(
            f"{folder}: expected factors on the prior's parameters, got {error!r}; fit it anew"
        ) from error
    if not all(torch.tensor(value).isfinite() for value in given.factors.values()):
        raise FileFormatError(
            f"{folder}: expected finite factors on the prior's parameters, got {dict(given.factors)}"
        )
    return prior.with_parameters(parameters)
