"""Worlds for the tests of formats that keep objects: any number, any names, kinds, joints and parents."""

from types import SimpleNamespace

import pytest
from hypothesis import strategies as st

_UPS = [(0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (0.0, -1.0, 0.0), (-1.0, 0.0, 0.0), (0.6, 0.0, -0.8)]
_SEEDS = st.integers(0, 2**20)
_KINDS = ("STATIC", "RIGID", "ARTICULATED", "DEFORMABLE", "ROBOT")


@st.composite
def _objects(draw, number, parents):
    """What an object is made of, as plain values: the shape checks may not run while hypothesis draws."""
    return {
        "id": number,
        "name": draw(st.text(max_size=12)),
        "kind": draw(st.sampled_from(_KINDS)),
        "parent": draw(st.sampled_from([None, *parents])),
        "pose": draw(_SEEDS),
        "seed": draw(_SEEDS),
        "n": draw(st.integers(0, 4)),
        "k": draw(st.sampled_from([1, 4, 9, 16])),
        "joint": draw(st.sampled_from(["revolute", "prismatic"])),
        "axis": draw(st.sampled_from(_UPS)),
        "limits": sorted(draw(st.tuples(st.floats(-9, 9), st.floats(-9, 9)))),
        "unlimited": draw(st.booleans()),
        "density": draw(st.none() | st.floats(1, 1e4)),
        "hidden": draw(st.booleans()),
        "locked": draw(st.booleans()),
    }


@st.composite
def _recipes(draw):
    numbers = draw(st.lists(st.integers(0, 2**31 - 1), unique=True, max_size=4))
    items = [draw(_objects(number, numbers[:place])) for place, number in enumerate(numbers)]
    return {
        # Not parents first: the order of objects is theirs to choose.
        "objects": draw(st.permutations(items)),
        "unit": draw(st.none() | st.floats(1e-3, 1e3)),
        "up": draw(st.none() | st.sampled_from(_UPS)),
        "source": draw(_SEEDS),
    }


@pytest.fixture(scope="session")
def worlds():
    """`recipes`, a strategy; `build`, a world of one; `check_same`, that a world came back.

    Nothing of the project is imported before, because the shape checks hook into imports that come later.
    """
    import torch

    from gaussworld.gaussians import Gaussians
    from gaussworld.pose import normalize_quats, pose_from, rotation_from_quats
    from gaussworld.world import World
    from gaussworld.world_object import Joint, Material, ObjectKind, WorldObject

    def gaussians(seed, n, k):
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape):
            return torch.randn(*shape, generator=generator)

        means, quats = normal(n, 3) * 10.0 ** (seed % 7 - 3), normalize_quats(normal(n, 4))
        return Gaussians(means, quats, normal(n, 3) * 3 - 3, normal(n) * 3, normal(n, k, 3))

    def pose(seed):
        generator = torch.Generator().manual_seed(seed)
        if seed % 5 == 0:
            return torch.eye(4)
        rotation = rotation_from_quats(torch.randn(4, generator=generator))
        return pose_from(rotation, torch.randn(3, generator=generator) * 10.0 ** (seed % 5 - 2))

    def built(recipe):
        kind, joint, material = ObjectKind(recipe["kind"]), None, Material()
        if kind is ObjectKind.ARTICULATED or (kind is ObjectKind.ROBOT and recipe["seed"] % 2):
            limits = (float("-inf"), float("inf")) if recipe["unlimited"] else tuple(recipe["limits"])
            joint = Joint(recipe["joint"], recipe["axis"], (0.1, -0.2, 0.0), limits, 0.25)
        if recipe["density"] is not None:
            material = Material(density=recipe["density"]).with_values("measured", friction=0.3)
        return WorldObject(
            recipe["id"], recipe["name"], gaussians(recipe["seed"], recipe["n"], recipe["k"]), kind,
            pose(recipe["pose"]), recipe["parent"], joint, material, recipe["hidden"], recipe["locked"],
        )  # fmt: skip

    def build(recipe):
        objects = {each["id"]: built(each) for each in recipe["objects"]}
        return World(objects, (), recipe["unit"], recipe["up"], pose(recipe["source"]))

    def check_same(read, written):
        """Facts, poses, positions, quaternions and SH to the bit, scales and opacities nearly."""
        assert (read.up, read.metres_per_unit) == (written.up, written.metres_per_unit)
        assert torch.equal(read.world_from_source, written.world_from_source)
        assert list(read.objects) == list(written.objects)
        for got, wanted in zip(read.objects.values(), written.objects.values()):
            for name in ("id", "name", "kind", "parent", "joint", "material", "hidden", "locked"):
                assert getattr(got, name) == getattr(wanted, name)
            assert torch.equal(got.world_from_object, wanted.world_from_object)
            assert len(got.gaussians) == len(wanted.gaussians)
            if len(wanted.gaussians):
                check_gaussians(got.gaussians, wanted.gaussians)

    def check_gaussians(a, b):
        for name in ("means", "quats", "sh"):
            assert torch.equal(getattr(a, name).view(torch.int32), getattr(b, name).view(torch.int32))
        # exp and log in between: from 2 on, float32's steps are wider than the rounding of the scale.
        far = b.log_scales.abs() >= 2
        assert torch.equal(a.log_scales[far], b.log_scales[far])
        torch.testing.assert_close(a.log_scales, b.log_scales, rtol=0, atol=1.2e-7)
        inner = b.opacity_logits.abs() < 14
        torch.testing.assert_close(a.opacities[inner], b.opacities[inner], rtol=0, atol=1.2e-7)
        torch.testing.assert_close(a.opacities, b.opacities, rtol=0, atol=1e-6)

    return SimpleNamespace(recipes=_recipes(), build=build, check_same=check_same)
