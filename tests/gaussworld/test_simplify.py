"""Merging Gaussians: how many come out, what is kept, what may not mix, and that it beats pruning."""

from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaussworld.camera import Camera
from gaussworld.gaussians import DELETED, HIDDEN, LOCKED, Gaussians
from gaussworld.metrics import psnr
from gaussworld.render import render
from gaussworld.simplify import _areas, _mixture, simplify


def ball(seed=0, n=300, objects=3):
    """Opaque flat Gaussians on spheres, one sphere per object, with a soft pattern."""
    g = torch.Generator().manual_seed(seed)
    normal = torch.nn.functional.normalize(torch.randn(n, 3, generator=g), dim=1)
    ids = torch.randint(0, objects, (n,), generator=g, dtype=torch.int32)
    scales = torch.rand(n, 3, generator=g) * 0.1 + 0.02
    opacities = torch.rand(n, generator=g) * 0.9 + 0.05
    made = Gaussians.from_activated(
        normal + ids[:, None] * torch.tensor([0.5, 0.0, 0.0]),
        torch.randn(n, 4, generator=g),
        scales,
        opacities,
        0.5 + 0.4 * (3 * normal).sin(),
        sh_degree=1,
    )
    return replace(made, object_ids=ids)


def same_rows(a, b):
    return all(torch.equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(Gaussians))


@settings(max_examples=15)
@given(st.integers(0, 2**31 - 1), st.floats(0.0, 1.0))
def test_exactly_as_many_as_asked_for(seed, share):
    """Any count that is possible, all finite, every time the same, with the input untouched."""
    gaussians = ball(seed)
    copy = gaussians.map(torch.clone)
    count = round(3 + share * 297)
    out = simplify(gaussians, count)
    assert len(out) == count
    assert all(bool(torch.isfinite(getattr(out, f.name).double()).all()) for f in fields(Gaussians))
    assert same_rows(out, simplify(gaussians, count))
    assert same_rows(copy, gaussians)
    assert out.object_ids.unique().tolist() == [0, 1, 2]


def test_all_of_them_are_themselves():
    """Nothing merges when nothing has to; what has no partner yet is bit for bit what it was."""
    gaussians = ball()
    assert same_rows(simplify(gaussians, 300), gaussians)
    out = simplify(gaussians, 290)
    kept = (out.means[:, None] == gaussians.means[None]).all(dim=2).any(dim=1)
    assert int(kept.sum()) >= 280
    rows = (out.means[kept][:, None] == gaussians.means[None]).all(dim=2).int().argmax(dim=1)
    assert same_rows(out.select(kept), gaussians.select(rows))
    assert bool((rows.diff() > 0).all())


def test_two_become_one_with_their_moments():
    """Mean, covariance and colour by weight; nothing more opaque than both behind each other."""
    gaussians = ball(5, n=2, objects=1).map(lambda v: v.double() if v.is_floating_point() else v)
    out = simplify(gaussians, 1)
    w = _mixture(gaussians, torch.arange(2)).weights
    w = w / w.sum()
    mean = (w[:, None] * gaussians.means).sum(dim=0)
    apart = gaussians.means - mean
    moments = gaussians.covariances + apart[:, :, None] * apart[:, None, :]
    torch.testing.assert_close(out.means[0], mean)
    torch.testing.assert_close(out.covariances[0], (w[:, None, None] * moments).sum(dim=0))
    torch.testing.assert_close(out.sh[0], (w[:, None, None] * gaussians.sh).sum(dim=0))
    both = 1 - (1 - gaussians.opacities).prod()
    assert float(out.opacities[0]) <= float(both) + 1e-6


def test_coinciding_halves_make_a_whole():
    """Two equal Gaussians in one place are as opaque together as seen through each other."""
    one = ball(1, n=1)
    out = simplify(Gaussians(*(torch.cat([getattr(one, f.name)] * 2) for f in fields(Gaussians))), 1)
    torch.testing.assert_close(out.covariances, one.covariances, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(out.opacities, 1 - (1 - one.opacities) ** 2, rtol=1e-4, atol=1e-6)


def test_face_of_a_box_of_deviations():
    """Against deviations 1, 2 and 3: sqrt(4 + 9 + 36)."""
    assert float(_areas(torch.tensor([[1.0, 0, 0, 4, 0, 9]]))[0]) == pytest.approx(7.0)


def test_objects_locked_and_hidden_do_not_mix():
    """As many of each object at least as must be; locked rows are there unchanged; deleted ones are gone."""
    gaussians = ball(2)
    flags = torch.zeros(300, dtype=torch.uint8)
    flags[:40], flags[40:60], flags[60:80] = LOCKED, DELETED, HIDDEN
    gaussians = replace(gaussians, flags=flags)
    out = simplify(gaussians, 100)
    assert len(out) == 100
    assert same_rows(out.select(out.flags == LOCKED), gaussians.select(slice(0, 40)))
    assert set(out.flags.tolist()) == {0, LOCKED, HIDDEN}
    for number in range(3):
        x = out.means[(out.object_ids == number) & (out.flags == 0), 0]
        assert abs(float(x.mean()) - 0.5 * number) < 0.3


def test_impossible_counts_are_refused():
    """Too many, and fewer than there are objects and locked rows."""
    gaussians = ball()
    with pytest.raises(ValueError, match=r"expected a count from 3 .* to 300, got 301"):
        simplify(gaussians, 301)
    with pytest.raises(ValueError, match="got 2"):
        simplify(gaussians, 2)
    empty = gaussians.select(slice(0, 0))
    assert len(simplify(empty, 0)) == 0


def test_better_than_leaving_out():
    """At half and a quarter a picture stays nearer to the whole than by dropping what covers least."""
    whole = ball(3, n=2000, objects=1)
    view = Camera.looking_at((0.0, -3.0, 0.5), (0.0, 0.0, 0.0), 120, 90, 45.0)
    truth = render(whole, view).rgb
    weights = _mixture(whole, torch.arange(len(whole))).weights
    for count in (1000, 500):
        pruned = whole.select(weights.topk(count).indices.sort().values)
        merged = float(psnr(render(simplify(whole, count), view).rgb, truth))
        assert merged > float(psnr(render(pruned, view).rgb, truth)) + 1
