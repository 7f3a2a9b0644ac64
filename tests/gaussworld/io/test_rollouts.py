"""Files of rollouts: exact, and refused with a sentence where they are damaged or contradict themselves."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from gaussworld.errors import FileFormatError
from gaussworld.gaussians import Gaussians
from gaussworld.io.rollouts import load_rollout, require_rollout, rollout_facts, save_rollout, world_facts
from gaussworld.state import Action, ActionSpec, Rollout, State
from gaussworld.world import World
from gaussworld.world_object import Material, ObjectKind, WorldObject

SPEC = ActionSpec("tool_pose", 1, "world", "m", 30.0)


def made(batch: tuple[int, ...] = (), steps: int = 4) -> Rollout:
    generator = torch.Generator().manual_seed(1)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(steps + 1, *batch, *shape, generator=generator)

    def poses(count: int) -> torch.Tensor:
        values = random(count, 7)
        return torch.cat([values[..., :3], torch.nn.functional.normalize(values[..., 3:], dim=-1)], -1)

    states = State(
        (3, 8),
        poses(2),
        random(2, 6),
        (8,),
        random(1),
        random(1),
        random(5, 3),
        random(5, 3),
        random(5, 3),
        poses(1),
        random(1).sigmoid(),
        random(1, 5) > 0,
        random(),
    )
    actions = Action(SPEC, states.tool_poses[1:], grip=states.grip[1:])
    return Rollout(states, actions, SPEC.dt, random(2).abs(), random(2, 3) > 0)


def same(a: Rollout, b: Rollout) -> bool:
    pairs = [(getattr(a.states, f.name), getattr(b.states, f.name)) for f in fields(State)]
    pairs += [(a.actions.tools, b.actions.tools), (a.actions.grip, b.actions.grip)]
    pairs += [(a.spread, b.spread), (a.contacts, b.contacts), (a.dt, b.dt), (a.actions.spec, b.actions.spec)]
    return all(torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in pairs)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_a_rollout_comes_back_to_the_bit(tmp_path: Path, batch: tuple[int, ...]) -> None:
    """Every tensor, the spec, dt (which no decimal of few digits is) and the ids."""
    rollout = made(batch)
    save_rollout(rollout, tmp_path / "r.safetensors", {"model": "prior", "seed": 7})
    assert same(load_rollout(tmp_path / "r.safetensors"), rollout)
    facts = rollout_facts(tmp_path / "r.safetensors")
    assert facts["model"] == "prior" and facts["seed"] == 7 and facts["object_ids"] == [3, 8]


def test_a_rollout_without_extras(tmp_path: Path) -> None:
    """Spread, contacts, grip, joints and particles may be missing."""
    poses = torch.tensor([0.0, 0, 0, 1, 0, 0, 0]).expand(3, 1, 7)
    rollout = Rollout(State((1,), poses), Action(SPEC, poses[1:]), SPEC.dt)
    save_rollout(rollout, tmp_path / "r.safetensors")
    assert same(load_rollout(tmp_path / "r.safetensors"), rollout)


def test_the_hash_of_a_world_sees_what_physics_sees() -> None:
    """A pose, a material or a Gaussian that differs makes another hash."""
    gaussians = Gaussians.from_activated(
        torch.rand(4, 3),
        torch.tensor([[1.0, 0, 0, 0]]).expand(4, 4),
        torch.ones(4, 3),
        torch.ones(4),
        torch.ones(4, 3),
    )
    item = WorldObject(1, "box", gaussians, ObjectKind.RIGID)
    pose = torch.eye(4)
    pose[0, 3] = 0.5
    others = [
        item,
        replace(item, world_from_object=pose),
        replace(item, material=Material().with_values("user", friction=0.2)),
        replace(item, gaussians=replace(gaussians, means=gaussians.means + 1)),
    ]
    found = {world_facts(World({1: each}))["hash"] for each in others}
    assert len(found) == 4
    assert world_facts(World({1: item}))["hash"] == world_facts(World({1: item}))["hash"]


def test_refusals_when_writing(tmp_path: Path) -> None:
    """Another suffix, and a fact of a name that is taken."""
    with pytest.raises(ValueError, match=r"expected a \.safetensors"):
        save_rollout(made(), tmp_path / "r.npz")
    with pytest.raises(ValueError, match="other names than dt"):
        save_rollout(made(), tmp_path / "r.safetensors", {"dt": 3})
    assert not list(tmp_path.iterdir())


def _changed(path: Path, change: object, metadata: dict[str, str] | None = None) -> None:
    """Write the file again with some tensors changed (None: left out) and other metadata."""
    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as file:
        facts = dict(file.metadata())
    tensors: dict[str, Any] = load_file(path) | dict(change)  # pyright: ignore
    kept = {name: value.contiguous() for name, value in tensors.items() if value is not None}
    save_file(kept, path, facts | (metadata or {}))


_NAN = torch.full((5, 2, 7), float("nan"))


@pytest.mark.parametrize(
    ("change", "metadata", "said"),
    [
        ({"states.object_poses": None}, {}, "expected a rollout with states.object_poses"),
        ({"states.object_poses": _NAN}, {}, "expected finite values, got NaN"),
        ({"states.object_poses": torch.zeros(5, 2, 6)}, {}, r"expected shape \(t, o, 7\)"),
        ({"states.object_poses": torch.zeros(7)}, {}, r"expected shape \(t, o, 7\)"),
        ({"states.object_poses": torch.zeros(5, 3, 7)}, {}, "expected shape"),
        ({"states.grip": torch.zeros(9, 1)}, {}, "State.grip: expected shape"),
        ({"states.grasped": torch.zeros(5, 1, 5)}, {}, "states.grasped: expected bool"),
        ({"states.time": torch.zeros(5, dtype=torch.int32)}, {}, "states.time: expected float32"),
        ({"actions.tools": None}, {}, "Action.tools: tool_pose expects a tensor"),
        ({"actions.tools": torch.zeros(4, 1, 7)}, {}, "unit quaternions"),
        ({"spread": torch.zeros(5, 3)}, {}, "Rollout.spread"),
        ({}, {"spec": '{"rate_hz": 10}'}, "Rollout.dt: expected 0.1 s"),
        ({}, {"spec": '{"frame": "tool"}'}, "expects world"),
        ({}, {"dt": '"soon"'}, "dt: expected seconds"),
        ({}, {"dt": "NaN"}, "Rollout.dt"),
        ({}, {"object_ids": "3"}, "object_ids: expected a list"),
        ({}, {"object_ids": "[3]"}, "expected shape"),
        ({}, {"object_ids": "["}, "expected JSON in its metadata"),
        ({}, {"format": "gaussworld-actions"}, "expected gaussworld-rollout, got 'gaussworld-actions'"),
        ({}, {"version": "2"}, "of version 1, got '2'"),
    ],
)
@pytest.mark.usefixtures("as_in_production")
def test_files_that_contradict_themselves_are_refused(
    tmp_path: Path, change: dict[str, torch.Tensor], metadata: dict[str, str], said: str
) -> None:
    """One sentence that names the file and what is wrong in it."""
    path = tmp_path / "r.safetensors"
    save_rollout(made(), path)
    _changed(path, change, metadata)
    with pytest.raises(FileFormatError, match=said) as caught:
        load_rollout(path)
    assert "r.safetensors" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [0, 4, 60, 900, -1])
def test_a_cut_file_is_refused(tmp_path: Path, keep: int) -> None:
    """Wherever it was cut."""
    path = tmp_path / "r.safetensors"
    save_rollout(made(), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(FileFormatError, match="whole safetensors file"):
        load_rollout(path)


def test_a_header_that_promises_too_much_is_refused(tmp_path: Path) -> None:
    """A length of 2^60 bytes allocates nothing."""
    path = tmp_path / "r.safetensors"
    path.write_bytes((1 << 60).to_bytes(8, "little") + b"{}")
    with pytest.raises(FileFormatError, match="whole safetensors file"):
        load_rollout(path)


def test_where_a_rollout_lies(tmp_path: Path) -> None:
    """A file, or the folder of a prediction; anything else is refused."""
    with pytest.raises(FileFormatError, match="expected a rollout"):
        require_rollout(tmp_path)
    save_rollout(made(), tmp_path / "rollout.safetensors")
    assert require_rollout(tmp_path) == require_rollout(tmp_path / "rollout.safetensors")
