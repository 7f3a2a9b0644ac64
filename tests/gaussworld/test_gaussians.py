"""Gaussians: rows stay together, moving them moves what is seen and nothing else, and bad input is named."""

import math
from dataclasses import FrozenInstanceError, fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaussworld.gaussians import MAX_LOGIT, Gaussians, cat
from gaussworld.pose import invert_pose, normalize_quats, pose_from, rotation_from_quats, transform_points
from gaussworld.sh import coefficient_count, evaluate_sh

DOUBLE = torch.float64
seeds = st.integers(0, 2**31 - 1)


def random_gaussians(seed=0, n=12, degree=3, dtype=DOUBLE):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    ids = torch.randint(0, 5, (n,), generator=generator, dtype=torch.int32)
    flags = torch.randint(0, 16, (n,), generator=generator, dtype=torch.uint8)
    sh = normal(n, coefficient_count(degree), 3)
    return Gaussians(normal(n, 3), normal(n, 4), normal(n, 3) - 3, normal(n), sh, ids, flags)


def random_pose(seed, dtype=DOUBLE):
    generator = torch.Generator().manual_seed(seed)
    rotation = rotation_from_quats(normalize_quats(torch.randn(4, generator=generator, dtype=dtype)))
    return pose_from(rotation, torch.randn(3, generator=generator, dtype=dtype))


def assert_same(a, b):
    for field in fields(Gaussians):
        assert torch.equal(getattr(a, field.name), getattr(b, field.name)), field.name


def assert_same_rows(part, whole, rows):
    for field in fields(Gaussians):
        assert torch.equal(getattr(part, field.name), getattr(whole, field.name)[rows]), field.name


def test_left_out_fields_become_zeros():
    g = Gaussians(
        torch.zeros(4, 3), torch.ones(4, 4), torch.zeros(4, 3), torch.zeros(4), torch.zeros(4, 1, 3)
    )
    assert (g.object_ids.tolist(), g.object_ids.dtype) == ([0] * 4, torch.int32)
    assert (g.flags.tolist(), g.flags.dtype) == ([0] * 4, torch.uint8)
    assert (len(g), g.sh_degree, g.device) == (4, 0, torch.device("cpu"))


def test_activations():
    g = random_gaussians()
    assert torch.equal(g.scales, g.log_scales.exp())
    assert torch.equal(g.opacities, g.opacity_logits.sigmoid())
    assert 0 <= g.rgb.min() and g.rgb.max() <= 1


def test_from_activated_round_trip():
    generator = torch.Generator().manual_seed(1)
    means, quats = torch.randn(6, 3, generator=generator), torch.randn(6, 4, generator=generator)
    scales, rgb = torch.rand(6, 3, generator=generator) + 0.01, torch.rand(6, 3, generator=generator)
    opacities = torch.tensor([0.0, 0.01, 0.5, 0.9, 0.999, 1.0])
    g = Gaussians.from_activated(means, quats, scales, opacities, rgb, sh_degree=2)
    torch.testing.assert_close(g.scales, scales)
    torch.testing.assert_close(g.opacities, opacities, rtol=0, atol=1e-6)
    torch.testing.assert_close(g.rgb, rgb)
    torch.testing.assert_close(g.quats.norm(dim=-1), torch.ones(6))
    assert g.sh.shape == (6, 9, 3)
    assert not g.sh[:, 1:].any()
    assert g.opacity_logits.abs().max() == MAX_LOGIT


@given(seeds)
@settings(max_examples=20)
def test_covariances_in_closed_form(seed):
    g = random_gaussians(seed)
    rotation = rotation_from_quats(g.quats)
    closed = rotation @ torch.diag_embed(g.scales**2) @ rotation.mT
    torch.testing.assert_close(g.covariances, closed, rtol=1e-10, atol=1e-14)
    assert torch.equal(g.covariances, g.covariances.mT)
    eigenvalues = torch.linalg.eigvalsh(g.covariances)
    torch.testing.assert_close(eigenvalues, (g.scales**2).sort(dim=-1).values, rtol=1e-8, atol=1e-12)


def test_covariance_axes_are_the_columns_of_the_rotation():
    """A quarter turn about z lays the long x axis along y."""
    half = math.sqrt(0.5)
    quats, scales = torch.tensor([[half, 0, 0, half]]), torch.tensor([[3.0, 1, 2]])
    g = Gaussians.from_activated(torch.zeros(1, 3), quats, scales, torch.ones(1), torch.ones(1, 3))
    torch.testing.assert_close(g.covariances[0], torch.diag(torch.tensor([1.0, 9, 4])), atol=1e-5, rtol=0)


@given(seeds, st.floats(0.1, 10))
@settings(max_examples=25)
def test_transforming_turns_covariances_and_moves_means(seed, scale):
    g, pose = random_gaussians(seed), random_pose(seed)
    moved, rotation = g.transformed(pose, scale), pose[:3, :3]
    torch.testing.assert_close(moved.means, transform_points(pose, g.means * scale))
    wanted = rotation @ g.covariances @ rotation.T * scale**2
    torch.testing.assert_close(moved.covariances, wanted, rtol=1e-9, atol=1e-13)
    for name in ("opacity_logits", "object_ids", "flags"):
        assert torch.equal(getattr(moved, name), getattr(g, name))


@given(seeds, st.integers(0, 3))
@settings(max_examples=25)
def test_a_camera_that_moves_along_sees_the_same_colours(seed, degree):
    g, pose = random_gaussians(seed, degree=degree), random_pose(seed)
    eye = torch.tensor([[4.0, -3.0, 2.0]], dtype=DOUBLE)
    moved, moved_eye = g.transformed(pose), transform_points(pose, eye)
    torch.testing.assert_close(
        evaluate_sh(moved.sh, moved.means - moved_eye), evaluate_sh(g.sh, g.means - eye), rtol=0, atol=1e-11
    )


@given(seeds, st.floats(0.1, 10))
@settings(max_examples=25)
def test_the_inverse_returns(seed, scale):
    g, pose = random_gaussians(seed), random_pose(seed)
    there = g.transformed(pose, scale)
    # positions * scale, then pose: the way back moves first, so its translation carries the scale.
    back = invert_pose(pose)
    back = pose_from(back[:3, :3], back[:3, 3] / scale)
    again = there.transformed(back, 1 / scale)
    for name in ("means", "log_scales", "sh", "covariances"):
        torch.testing.assert_close(getattr(again, name), getattr(g, name), rtol=1e-9, atol=1e-10)
    assert ((again.quats * g.quats).sum(-1).abs() / g.quats.square().sum(-1)).min() > 1 - 1e-12


@given(seeds)
@settings(max_examples=15)
def test_transforms_compose(seed):
    g, a, b = random_gaussians(seed), random_pose(seed), random_pose(seed + 1)
    stepwise, at_once = g.transformed(b).transformed(a), g.transformed(a @ b)
    for name in ("means", "covariances", "sh"):
        torch.testing.assert_close(getattr(stepwise, name), getattr(at_once, name), rtol=1e-9, atol=1e-11)


def test_the_identity_changes_nothing():
    g = random_gaussians(dtype=torch.float32)
    g = replace(g, quats=normalize_quats(g.quats))
    assert_same(g.transformed(torch.eye(4)), g)


def test_a_pose_of_another_precision_is_taken():
    moved = random_gaussians().transformed(torch.eye(4, dtype=torch.float32), 2.0)
    assert moved.means.dtype == DOUBLE
    torch.testing.assert_close(
        moved.log_scales, random_gaussians().log_scales + math.log(2), rtol=0, atol=1e-15
    )


def test_transforming_is_differentiable():
    g = random_gaussians(n=3, degree=2)
    pose = random_pose(3)

    def moved(means, quats, log_scales, sh):
        out = replace(g, means=means, quats=quats, log_scales=log_scales, sh=sh).transformed(pose, 1.5)
        return out.means, out.covariances, out.sh

    inputs = [getattr(g, name).clone().requires_grad_() for name in ("means", "quats", "log_scales", "sh")]
    assert torch.autograd.gradcheck(moved, inputs)


def test_select_by_indices_mask_and_slice():
    g = random_gaussians()
    indices = torch.tensor([7, 0, 7, 3])
    assert_same_rows(g.select(indices), g, indices)
    mask = g.object_ids == 2
    assert 0 < mask.sum() < len(g)
    assert_same_rows(g.select(mask), g, mask)
    assert_same_rows(g.select(slice(2, 9, 3)), g, slice(2, 9, 3))
    assert len(g.select(torch.tensor([], dtype=torch.int64))) == 0


@given(seeds, st.integers(0, 12))
@settings(max_examples=15)
def test_cutting_and_joining_is_the_identity(seed, cut):
    g = random_gaussians(seed)
    assert_same(cat([g.select(slice(0, cut)), g.select(slice(cut, None))]), g)


def test_cat_pads_lower_degrees_with_zeros():
    parts = [random_gaussians(seed, n=seed + 1, degree=degree) for seed, degree in enumerate((1, 3, 0))]
    joined = cat(parts)
    assert (len(joined), joined.sh_degree) == (6, 3)
    assert torch.equal(joined.sh[:1, :4], parts[0].sh)
    assert not joined.sh[:1, 4:].any()
    assert torch.equal(joined.sh[1:3], parts[1].sh)
    assert not joined.sh[3:, 1:].any()
    assert torch.equal(joined.object_ids, torch.cat([p.object_ids for p in parts]))


def test_cat_of_nothing_is_refused():
    with pytest.raises(ValueError, match="expected at least one Gaussians to join, got none"):
        cat([])


def test_changing_the_degree():
    g = random_gaussians(degree=2)
    assert torch.equal(g.with_sh_degree(1).sh, g.sh[:, :4])
    assert torch.equal(g.with_sh_degree(3).sh[:, :9], g.sh)
    assert torch.equal(g.with_sh_degree(2).sh, g.sh)


def test_map_detach_and_to_touch_every_field():
    g = replace(random_gaussians(), means=torch.zeros(12, 3, requires_grad=True))
    assert not g.detach().means.requires_grad
    meta = g.to("meta")
    assert {getattr(meta, field.name).device.type for field in fields(Gaussians)} == {"meta"}


def test_gaussians_are_frozen():
    with pytest.raises(FrozenInstanceError):
        random_gaussians().means = torch.zeros(12, 3)


@pytest.mark.parametrize("degree", range(4))
def test_no_gaussians_work_everywhere(degree):
    none = random_gaussians(n=0, degree=degree)
    moved = none.transformed(random_pose(0), 2.0)
    chosen = moved.select(torch.zeros(0, dtype=torch.bool)).select(slice(0, 3)).with_sh_degree(3)
    assert (len(chosen), chosen.sh_degree) == (0, 3)
    assert chosen.covariances.shape == (0, 3, 3)
    assert chosen.rgb.shape == (0, 3)
    some = random_gaussians(n=2, degree=degree)
    assert_same(cat([none, some]), some)
    empty = torch.zeros(0, 3)
    assert len(Gaussians.from_activated(empty, torch.zeros(0, 4), empty, torch.zeros(0), empty, degree)) == 0


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("means", torch.zeros(3), r"Gaussians.means: expected shape \(3, 3\), got \(3,\)"),
        ("means", torch.zeros(()), r"Gaussians.means: expected shape \(0, 3\), got \(\)"),
        ("quats", torch.zeros(2, 4), r"Gaussians.quats: expected shape \(3, 4\), got \(2, 4\)"),
        ("log_scales", torch.zeros(3, 1), r"Gaussians.log_scales: expected shape \(3, 3\), got \(3, 1\)"),
        (
            "opacity_logits",
            torch.zeros(3, 1),
            r"Gaussians.opacity_logits: expected shape \(3,\), got \(3, 1\)",
        ),
        ("sh", torch.zeros(3, 3), r"Gaussians.sh: expected shape \(3, k, 3\), got \(3, 3\)"),
        ("sh", torch.zeros(3, 5, 3), r"Gaussians.sh: expected k = 1, 4, 9 or 16 .*, got shape \(3, 5, 3\)"),
        ("object_ids", torch.zeros(4).int(), r"Gaussians.object_ids: expected shape \(3,\), got \(4,\)"),
        ("flags", torch.zeros(3, 3).byte(), r"Gaussians.flags: expected shape \(3,\), got \(3, 3\)"),
        (
            "sh",
            torch.zeros(3, 1, 3, device="meta"),
            r"Gaussians.sh: expected device cpu \(that of means\), got meta",
        ),
    ],
)
def test_wrong_fields_are_named(name, value, message, as_in_production):
    good = dict(
        means=torch.zeros(3, 3), quats=torch.ones(3, 4), log_scales=torch.zeros(3, 3),
        opacity_logits=torch.zeros(3), sh=torch.zeros(3, 1, 3),
    )  # fmt: skip
    Gaussians(**good)
    with pytest.raises(ValueError, match=message):
        Gaussians(**{**good, name: value})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scales": torch.tensor([[1.0, 0, 1]])}, "expected positive finite scales, got a minimum of 0.0"),
        ({"scales": torch.tensor([[1.0, math.inf, 1]])}, "expected positive finite scales"),
        ({"scales": torch.tensor([[1.0, math.nan, 1]])}, "expected positive finite scales"),
        (
            {"opacities": torch.tensor([1.5])},
            r"expected opacities in \[0, 1\], got values from 1.5 to 1.5; logits go",
        ),
        ({"opacities": torch.tensor([-0.1])}, r"expected opacities in \[0, 1\]"),
        ({"opacities": torch.tensor([math.nan])}, r"expected opacities in \[0, 1\]"),
        ({"quats": torch.zeros(1, 4)}, "expected quaternions of non-zero length"),
    ],
)
def test_values_out_of_range_are_refused(changes, message):
    good = dict(
        means=torch.zeros(1, 3), quats=torch.ones(1, 4), scales=torch.ones(1, 3), opacities=torch.ones(1),
        rgb=torch.ones(1, 3),
    )  # fmt: skip
    with pytest.raises(ValueError, match=message):
        Gaussians.from_activated(**{**good, **changes})


def test_bad_transforms_and_masks_are_refused(as_in_production):
    g = random_gaussians()
    with pytest.raises(ValueError, match="a_from_b: expected a rotation with orthonormal columns"):
        g.transformed(torch.diag(torch.tensor([2.0, 2, 2, 1])))
    for scale in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="expected a positive scale"):
            g.transformed(torch.eye(4), scale)
    with pytest.raises(ValueError, match="expected a mask of 12 rows, got 5"):
        g.select(torch.ones(5, dtype=torch.bool))
