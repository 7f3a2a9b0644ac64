"""The floods' compiled kernels against the torch code that they replace, to the last bit."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gaussworld.gaussians import DELETED, HIDDEN, LOCKED, Gaussians
from gaussworld.render import kernels
from gaussworld.selection import Neighborhood, compiled, components, connected, grow, shrink, spacing
from gaussworld.selection.cells import Cells
from gaussworld.selection.connect import _flooded, connected_cubes
from gaussworld.selection.margin import _reached

pytestmark = pytest.mark.skipif(not kernels.available(), reason="the kernels are not compiled")

seeds = st.integers(0, 2**31 - 1)
KINDS = ["uniform", "lattice", "duplicates", "outliers", "clumps", "line", "crowds"]
kinds = st.sampled_from(KINDS)
distances = st.sampled_from([0.02, 0.05, 0.2, 0.5, 1.0, math.sqrt(2), 1.5, 4.0, 1e4])
FIELDS = ("points", "rows", "keys", "starts", "counts")


def places(kind, seed, n=300):
    """Clouds with ties, empty stretches, many points in a cube, and cubes just within reach of each other."""
    g = torch.Generator().manual_seed(seed)
    points = 4 * torch.rand(n, 3, generator=g)
    if kind == "lattice":
        return torch.randint(0, 7, (n, 3), generator=g).float()
    if kind == "duplicates":
        return points[torch.randint(0, max(n // 5, 1), (n,), generator=g)]
    if kind == "outliers":
        points[:5] *= 10.0 ** torch.randint(2, 16, (min(n, 5), 1), generator=g)
    if kind == "clumps":
        return 0.1 * points + torch.randint(0, 4, (n, 1), generator=g) * torch.tensor([1.0, -1.0, 0.5])
    if kind == "line":
        points[:, 1:] = 0
    if kind == "crowds":
        # Gaps between crowds of 0.5 and of 0.52, to compare with distances of one half.
        where = torch.tensor([0.0, 0.6, 1.22, 5.0])[torch.randint(0, 4, (n,), generator=g)]
        return torch.stack([where, 0 * where, 0 * where], dim=1) + 0.025 * points
    return points


def slowly(work):
    """What the torch code answers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "usable", lambda points: False)
        return work()


def at_threads(work):
    """The same answer from one thread and from two, of every variant."""
    before, found = kernels.threads(), []
    for variant in kernels.variants():
        with kernels.using(variant):
            for count in (1, 2):
                kernels.set_threads(count)
                found.append(work())
    kernels.set_threads(before)
    return found


def same(a, b):
    """Equal cells or tensors."""
    if isinstance(a, Cells):
        return a.steps == b.steps and all(torch.equal(getattr(a, f), getattr(b, f)) for f in FIELDS)
    return torch.equal(a, b)


def gaussians_at(points, seed=0, spoilt=True):
    """Some of them flagged, some at no place."""
    g, n = torch.Generator().manual_seed(seed), len(points)
    flags = torch.tensor([0, 0, 0, 0, DELETED, LOCKED, HIDDEN]).to(torch.uint8)
    flags = flags[torch.randint(0, 7 if spoilt else 4, (n,), generator=g)]
    if spoilt:
        lost = torch.rand(n, 3, generator=g) < 0.02
        points = torch.where(lost, torch.tensor([math.nan, math.inf, -math.inf]), points)
    sh = torch.randint(-1, 2, (n, 1, 3), generator=g).float()
    return Gaussians(points, torch.ones(n, 4), torch.zeros(n, 3), torch.zeros(n), sh, flags=flags)


@settings(max_examples=40, deadline=None)
@given(kinds, seeds, distances, st.sampled_from([0, 1, 2, 40, 300]))
@example("lattice", 0, 1.0, 300)
@example("crowds", 0, 0.5, 300)
@example("outliers", 3, 0.02, 300)
def test_cells_parts_and_reach_are_those_of_the_torch_code(kind, seed, distance, n):
    """Sorting, connected cubes, floods and growth: every tensor, any number of threads."""
    points = places(kind, seed, n)
    cells = slowly(lambda: Cells.of(points, distance))
    inside = torch.rand(n, generator=torch.Generator().manual_seed(seed)) < (0.01, 0.5, 0.97)[seed % 3]
    wet = cells.any(inside)
    for work in (
        lambda: Cells.of(points, distance),
        lambda: connected_cubes(cells),
        lambda: _flooded(cells, wet),
        lambda: _reached(cells, inside),
    ):
        slow = slowly(work)
        assert all(same(fast, slow) for fast in at_threads(work))


@settings(max_examples=20, deadline=None)
@given(kinds, seeds, distances, st.booleans())
def test_tools_answer_the_same_with_kernels_and_without(kind, seed, distance, indexed):
    """Flags, rows that are nowhere, an index or none, a flood of one colour."""
    gaussians = gaussians_at(places(kind, seed), seed)
    mask = torch.rand(300, generator=torch.Generator().manual_seed(seed)) < (0.02, 0.5, 0.97)[seed % 3]

    def answers():
        index = Neighborhood.of(gaussians, distance) if indexed else None
        return torch.stack(
            [
                components(gaussians, distance, index),
                connected(gaussians, mask, distance, index=index).long(),
                connected(gaussians, mask, distance, 0.2, index).long(),
                grow(gaussians, mask, distance, index).long(),
                shrink(gaussians, mask, distance, index).long(),
            ]
        )

    assert torch.equal(answers(), slowly(answers))


def test_many_points_take_all_threads_and_stay_the_same():
    """40,000 points on surfaces, in crowds and far away: more than one piece of work for each thread."""
    g = torch.Generator().manual_seed(1)
    sheet = torch.rand(25_000, 3, generator=g) * torch.tensor([4.0, 4.0, 0.02])
    balls = torch.nn.functional.normalize(torch.randn(15_000, 3, generator=g), dim=1)
    balls = 0.3 * balls + torch.randint(0, 5, (15_000, 1), generator=g)
    points = torch.cat([sheet, balls, 100 + 1e3 * torch.rand(50, 3, generator=g)])
    points = points[torch.randperm(len(points), generator=g)]
    for distance in (0.01, 0.04, 0.3):
        cells = slowly(lambda: Cells.of(points, distance))  # noqa: B023
        inside = cells.points[:, 0] < 1.7
        for work in (
            lambda: Cells.of(points, distance),  # noqa: B023
            lambda: connected_cubes(cells),  # noqa: B023
            lambda: _reached(cells, inside),  # noqa: B023
        ):
            slow = slowly(work)
            assert all(same(fast, slow) for fast in at_threads(work))


def test_places_too_far_apart_to_number_go_the_slow_way():
    """Cubes of a hundredth between places 1e30 apart: the same answer, from torch."""
    points = torch.tensor([[0.0, 0, 0], [0.005, 0, 0], [1e30, -1e30, 1e30], [1e30, -1e30, 1e30]])
    assert compiled.sorted_cubes(points, 0.01) is None
    assert components(gaussians_at(points, spoilt=False), 0.01).tolist() == [0, 0, 1, 1]


def test_wide_keys_and_rows_that_do_not_fit_one_number():
    """A kilometre in tenths of a millimetre: 2^60 cubes, sorted as pairs of numbers."""
    g = torch.Generator().manual_seed(2)
    points = torch.rand(2000, 3, generator=g).double().mul_(1e3).float()
    points[1000:] = points[torch.randint(0, 1000, (1000,), generator=g)]
    cells = slowly(lambda: Cells.of(points, 2e-3))
    assert int(cells.keys.max()) >= 1 << 52
    assert all(same(fast, cells) for fast in at_threads(lambda: Cells.of(points, 2e-3)))


def test_double_precision_and_steps_in_memory():
    """Points of other types go to torch; a view that is not contiguous is read as it looks."""
    points = places("uniform", 5)
    assert not compiled.usable(points.double())
    assert len(Cells.of(points.double(), 0.5).points) == 300
    wide = torch.zeros(300, 6)
    wide[:, ::2] = points
    assert same(Cells.of(wide[:, ::2], 0.5), Cells.of(points, 0.5))


@pytest.mark.parametrize("status", [kernels.OUT_OF_MEMORY, kernels.FAILED])
def test_what_goes_wrong_inside_is_said(status, monkeypatch):
    """Memory and threads may run out."""
    cells = Cells.of(places("uniform", 5), 0.5)

    class Broken:
        def gw_cells_parts(self, cubes, parts):
            return status

    monkeypatch.setattr(kernels, "library", Broken)
    with pytest.raises(MemoryError if status == kernels.OUT_OF_MEMORY else RuntimeError):
        connected_cubes(cells)


def test_index_of_the_kernels_keeps_no_spare_room():
    """A kept index holds as many numbers as there are cubes, and spacing needs no kernel."""
    gaussians = replace(gaussians_at(places("duplicates", 1), spoilt=False))
    cells = Neighborhood.of(gaussians, 0.05).cells
    assert cells.keys.untyped_storage().nbytes() == 8 * len(cells)
    assert spacing(gaussians.means) == slowly(lambda: spacing(gaussians.means))
