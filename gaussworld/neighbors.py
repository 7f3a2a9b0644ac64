"""Nearest neighbours of points: a k-d tree on the CPU, blocks of distances on a GPU."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

#: Distances held at once on a GPU: 1 GiB as float32.
_BLOCK_ELEMENTS = 1 << 28


def nearest(
    points: Float[Tensor, "m 3"], k: int, queries: Float[Tensor, "q 3"] | None = None
) -> tuple[Float[Tensor, "q k"], Int[Tensor, "q k"]]:
    """Distances [unit of points] to the k nearest points, ascending, and their rows.

    Without `queries` each point asks for its neighbours among the others and never finds itself.

    Raises:
        ValueError: there are fewer points than neighbours asked for.
    """
    available = len(points) - (queries is None)
    if not 1 <= k <= available:
        raise ValueError(f"nearest: expected 1 <= k <= {available} for {len(points)} points, got k={k}")
    search = _by_blocks if points.device.type == "cuda" else _by_tree
    if queries is not None:
        return search(points, queries, k)
    distances, rows = search(points, points, k + 1)
    return _without_self(distances, rows)


def _without_self(distances: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Drop each row's own index, or its last entry where duplicates of the point crowded the index out."""
    own = rows == torch.arange(len(rows), device=rows.device)[:, None]
    own[:, -1] |= ~own.any(dim=1)
    shape = (len(rows), rows.shape[1] - 1)
    return distances[~own].reshape(shape), rows[~own].reshape(shape)


def _by_tree(points: Tensor, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    from scipy.spatial import KDTree

    tree = KDTree(points.detach().numpy())
    nearest = list(range(1, k + 1))  # a list keeps the axis for k = 1
    distances, rows = tree.query(queries.detach().numpy(), k=nearest, workers=torch.get_num_threads())  # pyright: ignore
    return torch.from_numpy(distances).to(points.dtype), torch.from_numpy(rows).long()


def _by_blocks(points: Tensor, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    block = max(1, _BLOCK_ELEMENTS // len(points))
    found = [
        torch.cdist(part, points).topk(k, dim=1, largest=False) for part in queries.detach().split(block)
    ]
    return torch.cat([f.values for f in found]), torch.cat([f.indices for f in found])
