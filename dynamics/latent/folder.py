"""Latent models on disk."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from gaussworld.errors import ConfigError, FileFormatError

from ..learning.calibration import Radius, Usual
from ..learning.model_file import (
    CARD,
    TENSORS,
    check_rate,
    load_weights,
    model_tensors,
    read_card,
    save_model,
)
from .config import LatentConfig
from .network import LatentNetwork

KIND = "latent"
_USUAL = ("mean", "whitening", "distances")


@dataclass(frozen=True, eq=False)
class Made:
    """What a folder holds."""

    network: LatentNetwork
    radius: Radius | None
    usual: Usual | None


def write_model(
    folder: Path,
    network: LatentNetwork,
    radius: Radius | None,
    usual: Usual | None,
    facts: Mapping[str, Any],
) -> None:
    """Write a model; an older one stays until the new is whole.

    Args:
        folder: is made if it is missing.
        network: with its config.
        radius: of its predictions, if it was calibrated.
        usual: what training was like, if that is known.
        facts: plain values that the card says besides; `spec` among them.
    """
    tensors: dict[str, Tensor] = {f"weights.{name}": value for name, value in network.state_dict().items()}
    if radius is not None:
        tensors["radius.factors"] = radius.factors
    if usual is not None:
        tensors |= {f"usual.{name}": getattr(usual, name) for name in _USUAL}
    save_model(folder, KIND, {**facts, "config": asdict(network.config)}, tensors)


def read_model(folder: Path, rate_hz: float) -> Made:
    """The model in a folder, its weights frozen.

    Raises:
        FileFormatError: no such model, a damaged one, or one of another kind or version.
        ConfigError: it was trained at another rate [1/s].
    """
    card = read_card(folder, KIND)
    for name, key in (("config", "token"), ("spec", "rate_hz")):
        if not isinstance(card.get(name), dict) or key not in card[name]:
            raise FileFormatError(
                f"{folder / CARD}: expected {key} in the {name} of a model, got none; fit it anew"
            )
    check_rate(card, rate_hz, folder)
    tensors = model_tensors(folder)
    try:
        network = LatentNetwork(LatentConfig(**card["config"]))
    except (ConfigError, TypeError) as error:
        raise FileFormatError(
            f"{folder / CARD}: expected the config of a latent model, got: {error}; fit it anew"
        ) from error
    load_weights(network, tensors, folder)
    for name in ("radius.factors", *(f"usual.{each}" for each in _USUAL)):
        if name in tensors and not bool(tensors[name].isfinite().all()):
            raise FileFormatError(
                f"{folder / TENSORS}: expected finite numbers, got NaN or infinity in {name}; fit it anew"
            )
    radius = Radius(tensors["radius.factors"]) if "radius.factors" in tensors else None
    known = all(f"usual.{name}" in tensors for name in _USUAL)
    usual = Usual(*(tensors[f"usual.{name}"] for name in _USUAL)) if known else None
    return Made(network.requires_grad_(False), radius, usual)
