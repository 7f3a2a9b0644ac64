"""Files of rollouts: the states and actions to the bit, and what made them, as safetensors."""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import FileFormatError
from ..object_record import record_of
from ..state import Action, Rollout, State
from ..world import World
from .action_script import spec_from_record
from .json_object import blaming
from .tensor_file import read_tensors, write_tensors

FORMAT, VERSION = "gaussworld-rollout", 1
_STATE = tuple(field.name for field in fields(State) if field.name not in ("object_ids", "joint_ids"))
_ACTION = ("tools", "joints", "grip")
_BESIDE = ("spread", "contacts")
_BOOL = ("states.grasped", "contacts")
#: Facts that the rollout itself needs; whoever writes a file may add others.
_OWN = ("spec", "dt", "object_ids", "joint_ids")


def save_rollout(rollout: Rollout, path: Path | str, facts: Mapping[str, Any] | None = None) -> None:
    """Write a rollout, batched or not, and facts about it; the file appears only when it is whole.

    Args:
        rollout: what to write.
        path: a .safetensors.
        facts: JSON values by name: `world`, `model`, `seed`, `objects`, `tools` and whatever else is known.

    Raises:
        ValueError: another suffix, a fact of a name that is taken, or one that is no JSON.
        GaussWorldError: the file system refuses.
    """
    path, facts = Path(path), dict(facts or {})
    if path.suffix.lower() != ".safetensors":
        raise ValueError(f"{path}: expected a .safetensors to write, got {path.suffix!r}")
    if taken := set(facts) & {*_OWN, "format", "version"}:
        raise ValueError(f"facts: expected other names than {', '.join(sorted(taken))}")
    states, actions = rollout.states, rollout.actions
    tensors = {f"states.{name}": getattr(states, name) for name in _STATE}
    given = {f"actions.{name}": getattr(actions, name) for name in _ACTION}
    given |= {name: getattr(rollout, name) for name in _BESIDE}
    tensors |= {name: value for name, value in given.items() if value is not None}
    own = {
        "spec": asdict(actions.spec),
        "dt": rollout.dt,
        "object_ids": list(states.object_ids),
        "joint_ids": list(states.joint_ids),
    }
    write_tensors(path, FORMAT, VERSION, tensors, own | facts)


def load_rollout(path: Path | str) -> Rollout:
    """Read a rollout that `save_rollout` wrote, to the bit.

    Raises:
        FileFormatError: no such file, a damaged one, one of another format or version, or parts of it that
            are missing, contradict each other or are not finite.
    """
    path = Path(path)
    tensors, facts = read_tensors(path, FORMAT, VERSION)
    with blaming(str(path)):
        _check(tensors, facts)
        try:
            return _rollout(tensors, facts)
        except (KeyError, IndexError, RuntimeError) as error:
            raise ValueError(f"expected the parts of a rollout, got no {error}; write it again") from error


def rollout_facts(path: Path | str) -> dict[str, Any]:
    """What a file says about its rollout: spec, dt, ids, and what `save_rollout` was told.

    Raises:
        FileFormatError: as `load_rollout`; tensors are not read.
    """
    return read_tensors(path, FORMAT, VERSION, ())[1]


def world_facts(world: World, path: Path | str | None = None) -> dict[str, Any]:
    """Which world a rollout belongs to: its path, its stored revision, and a hash of what is in it."""
    return {
        "path": None if path is None else str(path),
        "revision": world.revision,
        "hash": world_hash(world),
    }


def world_hash(world: World) -> str:
    """A hash of objects, their places, joints and materials, and where their Gaussians are."""
    found = blake2b(digest_size=16)
    found.update(json.dumps([world.metres_per_unit, world.up]).encode())
    for item in world.objects.values():
        found.update(json.dumps(record_of(item), sort_keys=True).encode())
        found.update(item.gaussians.means.detach().cpu().float().contiguous().numpy().tobytes())
    return found.hexdigest()


def _check(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    missing = [name for name in _OWN if name not in facts]
    missing += [f"states.{name}" for name in _STATE if f"states.{name}" not in tensors]
    if missing:
        raise ValueError(f"expected a rollout with {', '.join(missing[:4])}, got none; write it again")
    for name, value in tensors.items():
        kind = value.dtype is torch.bool if name in _BOOL else value.dtype in (torch.float32, torch.float64)
        if not kind:
            wanted = "bool" if name in _BOOL else "float32"
            raise ValueError(f"{name}: expected {wanted}, got {value.dtype}")
        if name not in _BOOL and not bool(value.isfinite().all()):
            raise ValueError(f"{name}: expected finite values, got NaN or infinity")
    for name in ("object_ids", "joint_ids"):
        ids = facts[name]
        if not isinstance(ids, list) or not all(type(number) is int for number in ids):
            raise ValueError(f"{name}: expected a list of whole numbers, got {ids!r:.60}")
    if type(facts["dt"]) not in (int, float):
        raise ValueError(f"dt: expected seconds, got {facts['dt']!r:.40}")


def _rollout(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Rollout:
    for name, length in (("object_poses", 7), ("object_twists", 6), ("tool_poses", 7)):
        value = tensors[f"states.{name}"]
        if value.ndim < 3 or value.shape[-1] != length:
            raise ValueError(f"states.{name}: expected shape (t, o, {length}), got {tuple(value.shape)}")
    states = State(
        tuple(facts["object_ids"]),
        joint_ids=tuple(facts["joint_ids"]),
        **{name: tensors[f"states.{name}"] for name in _STATE},
    )
    given = {name: tensors.get(f"actions.{name}") for name in _ACTION}
    actions = Action(spec_from_record(facts["spec"]), **given)
    return Rollout(states, actions, float(facts["dt"]), *(tensors.get(name) for name in _BESIDE))


def require_rollout(path: Path) -> Path:
    """The file of a rollout, or that in the folder of a prediction.

    Raises:
        FileFormatError: neither.
    """
    found = path / "rollout.safetensors" if path.is_dir() else path
    if not found.is_file():
        raise FileFormatError(f"{path}: expected a rollout, or a folder of `gaussworld predict`, got neither")
    return found
