"""Nearest neighbours against brute force, with duplicates, and what is refused."""

import pytest
import torch

from gaussworld import neighbors
from gaussworld.neighbors import nearest


@pytest.fixture
def points() -> torch.Tensor:
    return torch.rand(200, 3, generator=torch.Generator().manual_seed(0))


def test_tree_and_blocks_agree_with_brute_force(points):
    """Both searches find what sorting all distances finds, without the point itself."""
    matrix = torch.cdist(points.double(), points.double()).fill_diagonal_(float("inf"))
    expected, rows = matrix.topk(4, largest=False)
    distances, found = nearest(points, 4)
    assert torch.equal(found, rows)
    assert torch.allclose(distances.double(), expected, atol=1e-6)
    blocks = neighbors._without_self(*neighbors._by_blocks(points.double(), points.double(), 5))
    assert torch.equal(blocks[1], rows)


def test_duplicates_are_neighbours_of_each_other():
    """A point that is there five times has a neighbour at distance zero, which is another row."""
    distances, rows = nearest(torch.zeros(5, 3), 2)
    assert distances.shape == (5, 2)
    assert bool((distances == 0).all())
    assert bool((rows != torch.arange(5)[:, None]).all())


def test_queries_may_find_every_point(points):
    """With queries of its own the search may return a point that equals the query."""
    distances, rows = nearest(points, 1, points[:7])
    assert torch.equal(rows[:, 0], torch.arange(7))
    assert float(distances.abs().max()) < 1e-6


def test_too_few_points_are_refused():
    """Three points have two neighbours each."""
    with pytest.raises(ValueError, match="expected 1 <= k <= 2 for 3 points, got k=3"):
        nearest(torch.rand(3, 3), 3)
