"""Checkpoints: the state of a fit as one safetensors file, so that it ends as if it was never stopped."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from gaussworld.errors import FileFormatError
from gaussworld.io.atomic import replacing

FORMAT = "1"


def save_checkpoint(path: Path, state: dict[str, Tensor], config: str) -> None:
    """Write a fit's state beside the configuration it belongs to; the old file stays until the new is whole.

    Raises:
        GaussWorldError: the file system refuses.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    with replacing(path) as file:
        file.write(save(tensors, metadata={"format": FORMAT, "config": config}))


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], str]:
    """The state and the configuration that `save_checkpoint` wrote.

    Raises:
        FileFormatError: no such file, a damaged one, or one of another version.
    """
    from safetensors import safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
        state = load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise FileFormatError(
            f"{path}: expected a checkpoint, got: {error}; delete it to begin again"
        ) from error
    if metadata.get("format") != FORMAT:
        raise FileFormatError(
            f"{path}: expected a checkpoint of format {FORMAT}, got {metadata.get('format')!r}, which another"
            " version of GaussWorld wrote; delete it to begin again"
        )
    return state, metadata.get("config", "")
