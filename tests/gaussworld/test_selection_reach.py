"""Connected parts, floods, growing and shrinking against all pairs of distances."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaussworld.gaussians import DELETED, HIDDEN, LOCKED, Gaussians
from gaussworld.selection import (
    Neighborhood,
    components,
    connected,
    grow,
    like_color,
    oklab,
    selectable,
    shrink,
    spacing,
)
from gaussworld.selection.cells import REACH, Cells

seeds = st.integers(0, 2**31 - 1)
#: Kinds of point clouds that have each broken some grid: lattices (ties), duplicates, far outliers, clumps.
KINDS = ["uniform", "lattice", "duplicates", "outliers", "clumps", "line"]
kinds = st.sampled_from(KINDS)
distances = st.sampled_from([0.05, 0.2, 0.5, 1.0, 1.5, 4.0])


def places(kind, seed, n=150):
    g = torch.Generator().manual_seed(seed)
    points = 4 * torch.rand(n, 3, generator=g)
    if kind == "lattice":
        return torch.randint(0, 6, (n, 3), generator=g).float()
    if kind == "duplicates":
        return points[torch.randint(0, n // 5, (n,), generator=g)]
    if kind == "outliers":
        points[:5] *= 10.0 ** torch.randint(2, 13, (5, 1), generator=g)
    if kind == "clumps":
        return 0.1 * points + torch.randint(0, 4, (n, 1), generator=g) * torch.tensor([1.0, -1.0, 0.5])
    if kind == "line":
        points[:, 1:] = 0
    return points


def gaussians_at(points, seed=0, flagged=False):
    g, n = torch.Generator().manual_seed(seed), len(points)
    flags = torch.zeros(n, dtype=torch.uint8)
    if flagged:
        flags = torch.tensor([0, 0, 0, 2, DELETED, LOCKED, HIDDEN]).to(torch.uint8)[
            torch.randint(0, 7, (n,), generator=g)
        ]
    sh = torch.randint(-1, 2, (n, 1, 3), generator=g).float()
    return Gaussians(points, torch.ones(n, 4), torch.zeros(n, 3), torch.zeros(n), sh, flags=flags)


def near(points, distance):
    """n x n: who is within the distance, in double precision."""
    apart = points.double()[:, None] - points.double()[None]
    return apart.square().sum(-1) <= distance * distance


def slow_flood(allowed, start, touching):
    """Breadth-first search, neighbour by neighbour."""
    reached = start & allowed
    while True:
        more = reached | (touching[reached].any(dim=0) & allowed)
        if torch.equal(more, reached):
            return reached
        reached = more


def slow_components(allowed, touching):
    """Sets of rows, found by one flood after another."""
    parts, left = [], allowed.clone()
    while bool(left.any()):
        start = torch.zeros_like(left)
        start[left.nonzero()[0, 0]] = True
        parts.append(slow_flood(allowed, start, touching))
        left &= ~parts[-1]
    return parts


@settings(max_examples=15)
@given(kinds, seeds, distances)
def test_components_are_those_of_the_graph_of_all_pairs(kind, seed, distance):
    """The same sets of rows, numbered from the largest on; ties by first row."""
    gaussians = gaussians_at(places(kind, seed), seed, flagged=True)
    labels = components(gaussians, distance)
    parts = slow_components(selectable(gaussians), near(gaussians.means, distance))
    parts.sort(key=lambda part: (-int(part.sum()), int(part.nonzero()[0, 0])))
    expected = torch.full((len(gaussians),), -1)
    for number, part in enumerate(parts):
        expected[part] = number
    assert torch.equal(labels, expected)


@settings(max_examples=15)
@given(kinds, seeds, distances, st.booleans(), st.booleans())
def test_flood_reaches_what_a_search_reaches(kind, seed, distance, indexed, warm):
    """With and without an index, before and after its parts are known."""
    gaussians = gaussians_at(places(kind, seed), seed, flagged=True)
    start = torch.rand(len(gaussians), generator=torch.Generator().manual_seed(seed)) < 0.03
    index = Neighborhood.of(gaussians, distance) if indexed else None
    if index is not None and warm:
        assert len(index.parts) == len(index.cells)
    found = connected(gaussians, start, distance, index=index)
    assert torch.equal(found, slow_flood(selectable(gaussians), start, near(gaussians.means, distance)))


@settings(max_examples=10)
@given(kinds, seeds, distances, st.booleans())
def test_flood_of_one_colour(kind, seed, distance, warm):
    """It runs through likes of the seeds' mean colour only, and keeps the seeds."""
    gaussians = gaussians_at(places(kind, seed), seed, flagged=True)
    start = torch.zeros(len(gaussians), dtype=torch.bool)
    start[seed % len(gaussians)] = True
    index = Neighborhood.of(gaussians, distance)
    if warm:
        assert len(index.parts) == len(index.cells)
    found = connected(gaussians, start, distance, 0.2, index)
    free = selectable(gaussians)
    if not bool((start & free).any()):
        assert not bool(found.any())
        return
    mean = gaussians.rgb[start & free].mean(dim=0)
    allowed = (like_color(gaussians, mean, 0.2) | start) & free
    assert torch.equal(found, slow_flood(allowed, start, near(gaussians.means, distance)))
    away = (oklab(gaussians.rgb[found]) - oklab(mean)).norm(dim=1)
    assert float(away.max()) <= 0.2 + 1e-5


@settings(max_examples=15)
@given(kinds, seeds, distances, st.sampled_from([0.02, 0.5, 0.98]), st.booleans())
def test_grow_and_shrink_compare_all_pairs(kind, seed, distance, share, indexed):
    """Growing takes what is near the selection, shrinking drops what is near the rest."""
    gaussians = gaussians_at(places(kind, seed), seed, flagged=True)
    free = selectable(gaussians)
    mask = torch.rand(len(gaussians), generator=torch.Generator().manual_seed(seed)) < share
    touching = near(gaussians.means, distance)
    index = Neighborhood.of(gaussians, distance) if indexed else None
    inside, outside = mask & free, ~mask & free
    before = mask.clone()
    assert torch.equal(grow(gaussians, mask, distance, index), touching[inside].any(dim=0) & free)
    assert torch.equal(shrink(gaussians, mask, distance, index), inside & ~touching[outside].any(dim=0))
    assert torch.equal(mask, before)


def test_many_gaussians_take_the_ways_that_few_do_not():
    """20,000 points: hashed dilation, blocks and several rounds of a flood, against a k-d tree."""
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import KDTree

    g = torch.Generator().manual_seed(4)
    points = torch.rand(20_000, 3, generator=g) * torch.tensor([4.0, 4.0, 0.05])
    gaussians, tree = gaussians_at(points), KDTree(points.double().numpy())
    for distance in (0.012, 0.03):
        graph = tree.sparse_distance_matrix(tree, distance, output_type="coo_matrix")
        labels = torch.from_numpy(connected_components(graph, directed=False)[1])
        ours = components(gaussians, distance)
        pairs = torch.stack([labels.long(), ours], dim=1).unique(dim=0)
        assert len(pairs) == len(labels.unique()) == len(ours.unique())
        start = torch.zeros(20_000, dtype=torch.bool)
        start[int((ours == 0).nonzero()[0, 0])] = True
        assert torch.equal(connected(gaussians, start, distance), ours == 0)
        half = points[:, 0] < 2
        to_half = KDTree(points[half].double().numpy()).query(points.double().numpy())[0]
        assert torch.equal(grow(gaussians, half, distance), torch.from_numpy(to_half <= distance))


@settings(max_examples=8)
@given(kinds, seeds, distances)
def test_two_points_of_a_cube_are_near_and_near_cubes_are_found(kind, seed, distance):
    """What the exactness of everything above rests on."""
    points = places(kind, seed)
    cells = Cells.of(points, distance)
    assert torch.equal(points[cells.rows], cells.points)
    assert torch.equal(cells.counts.cumsum(0), torch.cat([cells.starts[1:], torch.tensor([len(points)])]))
    same = cells.owners[:, None] == cells.owners[None]
    touching = near(cells.points, distance)
    assert bool((touching | ~same).all())
    found = torch.zeros(len(cells), len(cells), dtype=torch.bool)
    for mine, theirs in cells.pairs_with(cells):
        found[mine, theirs] = True
    assert bool((found[cells.owners][:, cells.owners] | ~touching).all())
    assert REACH == 2


@settings(max_examples=8)
@given(kinds, seeds)
def test_spacing_is_a_quartile_of_nearest_distances(kind, seed):
    """Of a cloud small enough to be its own sample, found by brute force."""
    points = places(kind, seed)
    apart = (points.double()[:, None] - points.double()[None]).norm(dim=2)
    apart[apart == 0] = math.inf
    expected = float(apart.amin(dim=1).sort().values.quantile(0.75, interpolation="lower"))
    assert spacing(points) == pytest.approx(expected if expected < math.inf else 1.0, rel=1e-9)


def test_spacing_without_neighbours():
    """One place, or none: any number will do, as long as it is one."""
    assert spacing(torch.zeros(0, 3)) == 1.0
    assert spacing(torch.zeros(7, 3)) == 1.0
    assert components(gaussians_at(torch.zeros(7, 3))).tolist() == [0] * 7


def test_default_distance_joins_a_surface_and_parts_two():
    """Points strewn on two sheets, further apart than they are dense, are two parts."""
    g = torch.Generator().manual_seed(0)
    sheet = torch.rand(2000, 3, generator=g) * torch.tensor([1.0, 1.0, 0.0])
    gaussians = gaussians_at(torch.cat([sheet, sheet + torch.tensor([0.0, 0.0, 0.5])]))
    labels = components(gaussians)
    assert labels.bincount().tolist() == [2000, 2000]
    seed = torch.zeros(4000, dtype=torch.bool)
    seed[2500] = True
    assert torch.equal(connected(gaussians, seed), torch.arange(4000) >= 2000)


def test_an_index_of_other_gaussians_is_refused():
    """It would answer for rows that are not there."""
    gaussians = gaussians_at(places("uniform", 0))
    index = Neighborhood.of(gaussians, 0.5)
    fewer = gaussians.select(slice(0, 100))
    with pytest.raises(ValueError, match="expected an index of these 100 Gaussians, got one of 150"):
        components(fewer, index=index)
    with pytest.raises(ValueError, match="expected a mask of 100 rows, got 150"):
        grow(fewer, torch.ones(150, dtype=torch.bool), 0.5)


def test_flags_of_an_index_are_those_it_was_built_with():
    """Hidden bridges do not connect."""
    chain = gaussians_at(torch.arange(5.0)[:, None] * torch.tensor([1.0, 0.0, 0.0]))
    assert components(chain, 1.0).tolist() == [0] * 5
    broken = replace(chain, flags=torch.tensor([0, 0, HIDDEN, 0, 0], dtype=torch.uint8))
    assert components(broken, 1.0).tolist() == [0, 0, -1, 1, 1]
