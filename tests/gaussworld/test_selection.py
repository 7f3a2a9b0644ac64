"""Selection by volume, colour and picture against slow loops; flags; how selections combine."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaussworld.camera import Camera, CameraModel
from gaussworld.gaussians import DELETED, HIDDEN, LOCKED, SELECTED, Gaussians
from gaussworld.pose import look_at, pose_from, rotation_from_quats, transform_points
from gaussworld.selection import (
    combined,
    components,
    connected,
    grow,
    in_box,
    in_brush,
    in_polygon,
    in_rectangle,
    in_sphere,
    invert,
    like_color,
    oklab,
    pick,
    seen,
    selectable,
    shrink,
)

seeds = st.integers(0, 2**31 - 1)


def cloud(seed, n=120, flagged=True):
    """Gaussians of all colours in a ball, some of them flagged."""
    g = torch.Generator().manual_seed(seed)
    flags = torch.zeros(n, dtype=torch.uint8)
    if flagged:
        flags = torch.randint(0, 16, (n,), generator=g).to(torch.uint8)
    return Gaussians(
        torch.randn(n, 3, generator=g),
        torch.randn(n, 4, generator=g),
        -1.5 + 0.7 * torch.randn(n, 3, generator=g),
        2 * torch.randn(n, generator=g),
        torch.randn(n, 4, 3, generator=g),
        torch.randint(0, 3, (n,), generator=g, dtype=torch.int32),
        flags,
    )


def camera(model=CameraModel.PINHOLE, distortion=(), seed=0):
    g = torch.Generator().manual_seed(seed)
    pose = look_at(2 * torch.randn(3, generator=g), 0.3 * torch.randn(3, generator=g))
    K = torch.tensor([[90.0, 0, 60], [0, 90, 50], [0, 0, 1]])
    return Camera(pose, K, 120, 100, model, distortion)


LENSES = [
    (CameraModel.PINHOLE, ()),
    (CameraModel.OPENCV, (-0.2, 0.05, 0.01, -0.01)),
    (CameraModel.FISHEYE, (0.02, -0.01, 0.0, 0.0)),
]


def free(gaussians, row):
    return int(gaussians.flags[row]) & (DELETED | HIDDEN | LOCKED) == 0


def folds(view, point):
    """Whether a lens of this test, the OPENCV one, has turned back before this point."""
    x, y, z = point.tolist()
    if view.model is not CameraModel.OPENCV:
        return False
    k1, k2, *_ = view.distortion
    far = math.hypot(x, y) / z
    steps = [far * i / 400 for i in range(401)]
    bent = [r * (1 + k1 * r**2 + k2 * r**4) for r in steps]
    return any(b <= a for a, b in pairwise(bent))


def visible_pixels(gaussians, view):
    """Row -> pixel of each selectable centre in front of the camera, one by one."""
    found = {}
    for row in range(len(gaussians)):
        point = transform_points(view.camera_from_world, gaussians.means[row][None])[0]
        if free(gaussians, row) and point[2] > 0 and not folds(view, point):
            pixel, _ = view.project(gaussians.means[row][None])
            found[row] = pixel[0].double().tolist()
    return found


def assert_same(mask, rows, unsure=()):
    different = {int(row) for row in mask.nonzero()[:, 0]} ^ set(rows)
    assert different <= set(unsure), different


@settings(max_examples=6)
@given(seeds, st.sampled_from(LENSES))
def test_rectangle_is_a_comparison_per_centre(seed, lens):
    """Corners may be given in any order; what is behind the camera is never in it."""
    gaussians, view = cloud(seed), camera(lens[0], lens[1], seed)
    pixels = visible_pixels(gaussians, view)
    rows = [row for row, (x, y) in pixels.items() if 20 <= x <= 90 and 10 <= y <= 70]
    edge = [
        row
        for row, (x, y) in pixels.items()
        if min(abs(x - 20), abs(x - 90), abs(y - 10), abs(y - 70)) < 1e-3
    ]
    assert_same(in_rectangle(gaussians, view, (90.0, 10.0), (20.0, 70.0)), rows, edge)


def inside_by_angle(x, y, corners):
    """Even-odd by counting crossings of a ray to the left, in the plainest way."""
    odd = False
    for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], corners[0]]):
        if (y0 > y) != (y1 > y) and x > x0 + (y - y0) * (x1 - x0) / (y1 - y0):
            odd = not odd
    return odd


def to_segment(x, y, a, b):
    along, away = (b[0] - a[0], b[1] - a[1]), (x - a[0], y - a[1])
    square = along[0] ** 2 + along[1] ** 2
    t = 0.0 if square == 0 else min(1.0, max(0.0, (along[0] * away[0] + along[1] * away[1]) / square))
    return math.hypot(away[0] - t * along[0], away[1] - t * along[1])


def to_outline(x, y, corners):
    return min(to_segment(x, y, a, b) for a, b in zip(corners, [*corners[1:], corners[0]]))


@settings(max_examples=8)
@given(seeds, st.sampled_from(LENSES), st.integers(3, 12), st.sampled_from([1.0, 60.0]))
def test_polygon_is_even_odd_per_centre(seed, lens, count, stretch):
    """Any polygon, crossing itself or not, larger than the picture or not."""
    gaussians, view = cloud(seed), camera(lens[0], lens[1], seed)
    g = torch.Generator().manual_seed(seed + 1)
    corners = torch.tensor([60.0, 50.0]) + stretch * 40 * torch.randn(count, 2, generator=g)
    plain = corners.double().tolist()
    pixels = visible_pixels(gaussians, view)
    rows = [row for row, (x, y) in pixels.items() if inside_by_angle(x, y, plain)]
    edge = [row for row, (x, y) in pixels.items() if to_outline(x, y, plain) < 1e-3]
    assert_same(in_polygon(gaussians, view, corners), rows, edge)


def test_polygon_with_level_edges_and_centres_on_corners():
    """Squares whose sides pass through pixel centres count each centre once."""
    xy = torch.cartesian_prod(torch.arange(8.0), torch.arange(8.0))
    means = torch.cat([xy, torch.ones(64, 1)], dim=1)
    one, zero = torch.ones(64), torch.zeros(64)
    gaussians = Gaussians(
        means, torch.ones(64, 4), torch.zeros(64, 3), zero, one[:, None, None].expand(-1, 1, 3)
    )
    view = Camera(torch.eye(4), torch.eye(3), 8, 8)
    square = torch.tensor([[2.0, 2.0], [5.0, 2.0], [5.0, 5.0], [2.0, 5.0]])
    assert int(in_polygon(gaussians, view, square).sum()) == 9
    both = torch.cat([square, square + torch.tensor([3.0, 0.0])[None], square[:1]])
    assert int(in_polygon(gaussians, view, both).sum()) > 9


@settings(max_examples=10)
@given(seeds, st.sampled_from(LENSES), st.integers(1, 9), st.floats(0.3, 40.0))
def test_brush_is_a_distance_per_centre(seed, lens, count, radius):
    """A dab is a disc, a stroke what discs sweep."""
    gaussians, view = cloud(seed), camera(lens[0], lens[1], seed)
    g = torch.Generator().manual_seed(seed + 1)
    stroke = torch.tensor([60.0, 50.0]) + 40 * torch.randn(count, 2, generator=g)
    plain = stroke.double().tolist()
    ends = list(zip(plain, [*plain[1:], plain[-1]]))
    away = {
        row: min(to_segment(pixel[0], pixel[1], a, b) for a, b in ends)
        for row, pixel in visible_pixels(gaussians, view).items()
    }
    rows = [row for row, far in away.items() if far <= radius]
    assert_same(
        in_brush(gaussians, view, stroke, radius),
        rows,
        [row for row, far in away.items() if abs(far - radius) < 1e-3],
    )


def wall(x, object_id, n=30, flags=0):
    """A dense opaque wall across the x axis."""
    side = torch.linspace(-1, 1, n)
    y, z = torch.meshgrid(side, side, indexing="ij")
    means = torch.stack([torch.full((n * n,), x), y.flatten(), z.flatten()], dim=1)
    scales = torch.tensor([0.002, 0.05, 0.05]).expand(n * n, 3)
    made = Gaussians.from_activated(
        means,
        torch.tensor([1.0, 0, 0, 0]).expand(n * n, 4),
        scales,
        torch.full((n * n,), 0.9),
        means * 0 + 0.5,
    )
    ids = torch.full((n * n,), object_id, dtype=torch.int32)
    return replace(made, object_ids=ids, flags=torch.full((n * n,), flags, dtype=torch.uint8))


def two_walls(front_flags=0):
    from gaussworld.gaussians import cat

    return cat([wall(0.0, 1, flags=front_flags), wall(1.0, 2)])


FRONT_VIEW = Camera.looking_at((-4.0, 0.3, 0.2), (0.0, 0.0, 0.0), 200, 160, 40.0)


def test_front_only_leaves_out_what_is_behind():
    """The wall behind shows only where it overlaps nothing; all of the front wall is there."""
    gaussians = two_walls()
    everything = in_rectangle(gaussians, FRONT_VIEW, (0.0, 0.0), (200.0, 160.0))
    front = in_rectangle(gaussians, FRONT_VIEW, (0.0, 0.0), (200.0, 160.0), front_only=True)
    assert bool(everything.all())
    assert bool(front[:900].all())
    assert float(front[900:].float().mean()) < 0.15
    assert torch.equal(front, seen(gaussians, FRONT_VIEW) & everything)
    corners = torch.tensor([[60.0, 40.0], [140.0, 40.0], [140.0, 120.0], [60.0, 120.0]])
    assert not bool(in_polygon(gaussians, FRONT_VIEW, corners, front_only=True)[900:].any())
    assert not bool(in_brush(gaussians, FRONT_VIEW, corners, 5.0, front_only=True)[900:].any())


@pytest.mark.parametrize(("flags", "hides"), [(LOCKED, True), (HIDDEN, False), (DELETED, False)])
def test_locked_hides_what_is_behind_it_and_hidden_does_not(flags, hides):
    """What one sees is what one selects, but never a flagged one."""
    gaussians = two_walls(flags)
    found = in_rectangle(gaussians, FRONT_VIEW, (80.0, 60.0), (120.0, 100.0), front_only=True)
    assert not bool(found[:900].any())
    assert bool(found.any()) is not hides


def slow_pick(gaussians, origin, direction):
    """Gaussian by Gaussian, with inverse covariances in double precision."""
    direction = direction.double() / direction.double().norm()
    met = []
    for row in range(len(gaussians)):
        if int(gaussians.flags[row]) & (DELETED | HIDDEN):
            continue
        one = gaussians.select(torch.tensor([row])).map(lambda v: v.double() if v.is_floating_point() else v)
        precision = torch.linalg.inv(one.covariances[0])
        away = one.means[0] - origin.double()
        square = float(direction @ precision @ direction)
        t = float(direction @ precision @ away) / square
        rest = away - t * direction
        alpha = min(0.999, float(one.opacities[0]) * math.exp(-0.5 * float(rest @ precision @ rest)))
        if alpha >= 1 / 255 and t > 0:
            met.append((t, row, alpha, 1 / math.sqrt(square)))
    left, weights, surface = 1.0, [], None
    for t, row, alpha, deviation in sorted(met):
        weights.append((left * alpha, t, row, deviation))
        left *= 1 - alpha
        if surface is None and left < 0.5:
            surface = t
    if surface is None:
        return None
    near = [(w, row) for w, t, row, deviation in weights if abs(t - surface) <= deviation]
    return surface, max(near)[1]


@settings(max_examples=30)
@given(seeds)
def test_pick_agrees_with_a_loop(seed):
    """Depth of half transmittance and the strongest Gaussian there, or None."""
    gaussians = cloud(seed, 60)
    g = torch.Generator().manual_seed(seed + 1)
    origin = 3 * torch.randn(3, generator=g)
    direction = -origin + 0.5 * torch.randn(3, generator=g)
    expected, hit = slow_pick(gaussians, origin, direction), pick(gaussians, origin, direction)
    if expected is None or int(gaussians.flags[expected[1]]) & LOCKED:
        assert hit is None
        return
    assert hit is not None
    assert hit.row == expected[1]
    assert hit.object_id == int(gaussians.object_ids[hit.row])
    assert hit.depth == pytest.approx(expected[0], rel=1e-3)
    assert torch.allclose(hit.point, origin + hit.depth * direction / direction.norm(), atol=1e-4)


def test_pick_meets_the_front_wall_first():
    """From the other side it is the other wall; past both nothing."""
    gaussians = two_walls()
    origin = torch.tensor([-4.0, 0.02, 0.03])
    forward = torch.tensor([1.0, 0.0, 0.0])
    hit = pick(gaussians, origin, forward)
    assert hit is not None
    assert (hit.object_id, round(hit.depth, 2)) == (1, 4.0)
    back = pick(gaussians, -origin, -5 * forward)
    assert back is not None and back.object_id == 2
    assert pick(gaussians, origin, -forward) is None
    assert pick(gaussians, origin + 3, forward) is None
    assert pick(two_walls(LOCKED), origin, forward) is None
    with pytest.raises(ValueError, match="expected a finite origin and a direction other than zero"):
        pick(gaussians, origin, 0 * forward)


@settings(max_examples=15)
@given(seeds)
def test_box_and_sphere_per_centre(seed):
    """A turned box and a sphere, compared centre by centre."""
    gaussians = cloud(seed)
    g = torch.Generator().manual_seed(seed + 1)
    pose = pose_from(rotation_from_quats(torch.randn(4, generator=g)), torch.randn(3, generator=g))
    size, center = (1.0, 2.0, 3.0), torch.randn(3, generator=g)
    rows, ball = [], []
    for row in range(len(gaussians)):
        local = pose[:3, :3].T @ (gaussians.means[row] - pose[:3, 3])
        if free(gaussians, row) and all(abs(float(v)) <= s / 2 for v, s in zip(local, size)):
            rows.append(row)
        if free(gaussians, row) and math.dist(gaussians.means[row].tolist(), center.tolist()) <= 1.2:
            ball.append(row)
    assert_same(in_box(gaussians, pose, size), rows)
    assert_same(in_sphere(gaussians, center, 1.2), ball)


def test_oklab_of_known_colours():
    """White, black, and red as tabulated by Ottosson."""
    colors = torch.tensor([[1.0, 1, 1], [0, 0, 0], [1, 0, 0]], dtype=torch.float64)
    expected = torch.tensor([[1.0, 0, 0], [0, 0, 0], [0.62796, 0.22486, 0.12585]], dtype=torch.float64)
    torch.testing.assert_close(oklab(colors), expected, rtol=0, atol=2e-4)


@settings(max_examples=10)
@given(seeds, st.floats(0.0, 0.6))
def test_like_color_is_a_distance_in_oklab(seed, tolerance):
    """By colour and by the row that has it."""
    gaussians = cloud(seed)
    lab = oklab(gaussians.rgb.double())
    away = (lab - lab[7]).norm(dim=1)
    rows = [row for row in range(len(gaussians)) if free(gaussians, row) and float(away[row]) <= tolerance]
    unsure = ((away - tolerance).abs() < 1e-4).nonzero()[:, 0].tolist()
    assert_same(like_color(gaussians, gaussians.rgb[7], tolerance), rows, unsure)
    assert_same(like_color(gaussians, 7, tolerance), rows, unsure)


def test_ways_to_combine():
    """The truth table of replace, add, remove and intersect; nothing shares memory with what came in."""
    old, new = torch.tensor([True, True, False, False]), torch.tensor([True, False, True, False])
    table = {"replace": "1010", "add": "1110", "remove": "0100", "intersect": "1000"}
    for how, bits in table.items():
        found = combined(old, new, how)  # type: ignore[arg-type]
        assert found.tolist() == [bit == "1" for bit in bits]
        assert found.data_ptr() not in (old.data_ptr(), new.data_ptr())


def test_what_cannot_be_combined(as_in_production):
    """Masks of other lengths, and ways that do not exist; the message names the four."""
    with pytest.raises(ValueError, match="expected two masks of equal length, got 4 and 3 rows"):
        combined(torch.ones(4).bool(), torch.ones(3).bool(), "add")
    with pytest.raises(ValueError, match="expected how = replace, add, remove or intersect, got 'xor'"):
        combined(torch.ones(1).bool(), torch.ones(1).bool(), "xor")  # type: ignore[arg-type]


def test_no_tool_selects_flagged_rows_or_places_that_are_nowhere():
    """Deleted, hidden, locked and NaN rows stay out; selected ones do not count as flagged."""
    gaussians = replace(cloud(3, 300), means=cloud(3, 300).means.index_fill(0, torch.arange(5), math.nan))
    barred = (gaussians.flags & (DELETED | HIDDEN | LOCKED)) != 0
    barred[:5] = True
    everything, view = torch.ones(300, dtype=torch.bool), camera()
    corners = torch.tensor([[-1e4, -1e4], [1e4, -1e4], [1e4, 1e4], [-1e4, 1e4]])
    masks = [
        in_rectangle(gaussians, view, (-1e4, -1e4), (1e4, 1e4)),
        in_polygon(gaussians, view, corners),
        in_brush(gaussians, view, corners, 1e4),
        in_box(gaussians, torch.eye(4), (99.0, 99.0, 99.0)),
        in_sphere(gaussians, torch.zeros(3), 99.0),
        like_color(gaussians, 7, 9.0),
        connected(gaussians, everything, 9.0),
        components(gaussians, 9.0) >= 0,
        grow(gaussians, everything, 1.0),
        shrink(gaussians, everything, 1.0),
        invert(gaussians, ~everything),
        selectable(gaussians),
    ]
    for number, mask in enumerate(masks):
        assert not bool((mask & barred).any()), number
        assert bool(mask[(gaussians.flags == SELECTED) & ~barred].any()), number


def test_nothing_to_select_from():
    """Empty Gaussians give empty masks everywhere."""
    nothing, none = cloud(0, 4).select(slice(0, 0)), torch.zeros(0, dtype=torch.bool)
    view, square = camera(), torch.tensor([[0.0, 0], [9, 0], [9, 9]])
    found = [
        in_rectangle(nothing, view, (0.0, 0.0), (9.0, 9.0), front_only=True),
        in_polygon(nothing, view, square),
        in_brush(nothing, view, square, 2.0),
        like_color(nothing, torch.zeros(3), 1.0),
        connected(nothing, none),
        components(nothing),
        grow(nothing, none, 1.0),
        seen(nothing, view),
    ]
    assert all(mask.shape == (0,) for mask in found)
    assert pick(nothing, torch.zeros(3), torch.ones(3)) is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g: in_polygon(g, camera(), torch.zeros(2, 2)), "expected at least 3 finite corners"),
        (lambda g: in_brush(g, camera(), torch.zeros(2, 2), 0.0), "a positive radius"),
        (lambda g: in_box(g, torch.eye(4), (1.0, -1.0, 1.0)), "expected lengths of at least 0"),
        (lambda g: in_sphere(g, torch.zeros(3), -1.0), "expected a radius of at least 0"),
        (lambda g: like_color(g, 999), "expected the row of one of 120 Gaussians, got 999"),
        (lambda g: like_color(g, 0, -1.0), "expected a tolerance of at least 0"),
        (lambda g: components(g, 0.0), "expected a positive finite distance, got 0.0"),
    ],
)
def test_bad_calls_are_refused(call, message):
    """One sentence each."""
    with pytest.raises(ValueError, match=message):
        call(cloud(0))


def test_plain_numbers_do_as_well_as_tensors(as_in_production):
    """Centres, colours and rays may be written as they are spoken."""
    gaussians = two_walls()
    center = (0.0, 0.0, 0.0)
    assert torch.equal(in_sphere(gaussians, center, 0.5), in_sphere(gaussians, torch.zeros(3), 0.5))
    assert torch.equal(like_color(gaussians, (0.5, 0.5, 0.5)), like_color(gaussians, torch.full((3,), 0.5)))
    eye, ahead = (-5.0, 0.0, 0.0), (1.0, 0.0, 0.0)
    plain, tensors = pick(gaussians, eye, ahead), pick(gaussians, torch.tensor(eye), torch.tensor(ahead))
    assert plain is not None and tensors is not None and plain.row == tensors.row
    with pytest.raises(ValueError, match="center: expected 3 numbers, got shape"):
        in_sphere(gaussians, torch.zeros(3)[:2], 0.5)
