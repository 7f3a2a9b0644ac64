"""The folder of a learned model: `model.json` says what it is, `model.safetensors` holds its tensors."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from gaussworld import __version__
from gaussworld.errors import ConfigError, FileFormatError
from gaussworld.io.atomic import replacing
from gaussworld.io.json_object import read_object
from gaussworld.io.tensor_file import read_tensors, write_tensors
from gaussworld.state import ActionSpec

FORMAT, VERSION = "gaussworld-model", 1
CARD, TENSORS = "model.json", "model.safetensors"
_MOST_BYTES = 50_000_000


def is_model(folder: Path) -> bool:
    """Whether a folder holds a learned model."""
    return (folder / CARD).is_file()


def save_model(folder: Path, kind: str, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write a model; an older one stays until the new is whole.

    Args:
        folder: is made if it is missing.
        kind: which of the learned models it is.
        facts: plain values that its kind needs, and where it comes from.
        tensors: weights and everything else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    card = {"format": FORMAT, "version": VERSION, "kind": kind, "made_by": __version__, **facts}
    write_tensors(folder / TENSORS, FORMAT, VERSION, tensors, {})
    with replacing(folder / CARD) as file:
        file.write((json.dumps(card, indent=2) + "\n").encode())


def read_card(folder: Path, kind: str | None = None) -> dict[str, Any]:
    """What `model.json` says.

    Raises:
        FileFormatError: no model, one of a newer version, or of another kind.
    """
    path = folder / CARD
    card = read_object(path, _MOST_BYTES, "a learned model")
    if card.get("format") != FORMAT:
        raise FileFormatError(
            f"{path}: expected format {FORMAT!r}, got {card.get('format')!r}; choose another folder"
        )
    version = card.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= VERSION:
        raise FileFormatError(
            f"{path}: expected version {VERSION} or older, got {version!r}; a newer GaussWorld reads it, or"
            " `gaussworld fit` makes it anew"
        )
    if kind is not None and card.get("kind") != kind:
        raise FileFormatError(f"{path}: expected a model of kind {kind!r}, got {card.get('kind')!r}")
    return card


def model_tensors(folder: Path) -> dict[str, Tensor]:
    """What `model.safetensors` holds.

    Raises:
        FileFormatError: it is missing, damaged or of another version.
    """
    return read_tensors(folder / TENSORS, FORMAT, VERSION)[0]


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Put weights named `weights.*` into a module.

    Raises:
        FileFormatError: they are of another network, or not finite.
    """
    mine = {name.removeprefix("weights."): v for name, v in tensors.items() if name.startswith("weights.")}
    wanted = module.state_dict()
    for name, value in wanted.items():
        got = mine.get(name)
        if got is None or got.shape != value.shape:
            what = "nothing" if got is None else f"shape {tuple(got.shape)}"
            raise FileFormatError(
                f"{path / TENSORS}: expected shape {tuple(value.shape)} for {name}, got {what};"
                " card and tensors are not of one model: fit it anew"
            )
        if got.is_floating_point() and not bool(got.isfinite().all()):
            raise FileFormatError(f"{path / TENSORS}: expected finite weights, got NaN or infinity in {name}")
    module.load_state_dict(mine, strict=True)


def spec_record(spec: ActionSpec) -> dict[str, Any]:
    """An action spec as plain values; how many tools there are is the world's affair."""
    return {"kind": spec.kind, "frame": spec.frame, "units": spec.units, "rate_hz": spec.rate_hz}


def check_rate(card: Mapping[str, Any], rate_hz: float, folder: Path) -> None:
    """Refuse another rate than the model was trained at.

    Raises:
        ConfigError: so it is.
    """
    wanted = float(card["spec"]["rate_hz"])
    if abs(wanted - rate_hz) > 1e-6 * wanted:
        raise ConfigError(
            f"{folder}: expected actions at {wanted:g} Hz, which this model was trained at, got"
            f" {rate_hz:g} Hz; resample them"
        )
