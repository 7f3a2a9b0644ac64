"""Masks whose numbers mean nothing beyond their picture, made one object each across all pictures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.gaussians import Gaussians
from gaussworld.log import Done, Event, Progress
from gaussworld.world_object import BACKGROUND_ID

from .lift import UNKNOWN, Votes, view_weights

#: [px] A Gaussian that draws less than this of a picture is not seen there.
_SEEN = 0.5
#: Gaussians that a mask must have the most of, to be more than noise.
_FEWEST = 5
#: A mask is seen in a picture that shows this share of its Gaussians, and lies in the mask there that has
#: this share of what is shown of it. Where less than half is in any mask, the picture says nothing about it.
_VISIBLE, _CONTAINED, _TOLD = 0.3, 0.8, 0.5
#: A mask that is cut in more than this share of the pictures is several things taken for one.
_MOST_CUT = 0.5
#: Masks are one thing where this share of the pictures that show both have them in one mask.
_CONSENSUS = 0.6
#: Those that many pictures show together are joined first: share of pairs in each round.
_ROUNDS = (0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0)


@dataclass(frozen=True, eq=False)
class PictureMasks:
    """m masks of all pictures, as weights of n Gaussians."""

    weights: Any
    """[px] scipy's sparse rows, m by n: blending weight of each Gaussian in each mask."""
    picture: Int[ndarray, " m"]
    """Which picture a mask is of."""
    is_nothing: Bool[ndarray, " m"]
    """Whether a row stands for the pixels of its picture that no mask covers."""


def cast_votes_of_pictures(
    gaussians: Gaussians, cameras: Sequence[Camera], pictures: Sequence[Int[Tensor, "h w"]]
) -> Iterator[Event[Votes]]:
    """Find which masks of different pictures are the same thing, and sum up their votes as `cast_votes` does.

    Things are numbered from 1, the largest first.

    Args:
        gaussians: in the world frame; those that are shown.
        cameras: one for each picture.
        pictures: number of the mask at each pixel, 0 for none, -1 for not known.
    """
    from scipy.sparse import csr_matrix, vstack

    rows, picture, is_nothing = [], [], []
    for i, (camera, image) in enumerate(zip(cameras, pictures)):
        labels = sorted(set(image.unique().tolist()) - {UNKNOWN})
        rows.append(csr_matrix(view_weights(gaussians, camera, image, labels).T.numpy()))
        picture += [i] * len(labels)
        is_nothing += [label == BACKGROUND_ID for label in labels]
        yield Progress(i + 1, len(cameras))
    masks = PictureMasks(vstack(rows).tocsr(), np.array(picture), np.array(is_nothing))
    yield Done(_summed(masks, associated(masks)))


def associated(masks: PictureMasks) -> Int[ndarray, " m"]:
    """The thing that each mask shows, numbered from 0; -1 for rows that are no mask or not listened to.

    Two masks are one thing if the pictures that show both agree to it: nearly all of them have a mask that
    holds both. A mask that most other pictures cut in pieces is several things taken for one, and is not
    listened to (the view consensus of Yan et al. 2024, "MaskClustering").
    """
    held, seen, sound = _containment(masks)
    group = np.where(sound, np.arange(len(sound)), -1)
    for share in _ROUNDS:
        group = _joined(held, seen, group, share)
    return _without_strays(masks, group)


def _containment(masks: PictureMasks) -> tuple[ndarray, ndarray, ndarray]:
    """Which mask lies in which other, which picture says something about which mask, and sound masks."""
    covered, shown = _coverage(masks)
    size = np.asarray(covered.sum(1)).ravel()
    overlap = (covered @ covered.T).toarray().astype(np.float32)
    visible = (covered @ shown.T).toarray().astype(np.float32)
    is_mask = ~masks.is_nothing & (size >= _FEWEST)
    in_view = visible[:, masks.picture]
    told = np.stack([overlap[:, (masks.picture == v) & is_mask].sum(1) for v in range(shown.shape[0])], 1)
    seen = (visible >= _VISIBLE * size[:, None]) & (told >= _TOLD * np.maximum(visible, 1))
    held = (overlap >= _CONTAINED * np.maximum(in_view, 1)) & seen[:, masks.picture] & is_mask[None]
    whole = _by_picture(held, masks.picture)
    cut = (seen & ~whole).sum(1) / np.maximum(seen.sum(1), 1)
    sound = is_mask & (cut <= _MOST_CUT)
    held[:, ~sound] = False
    # A picture with nothing better than a mask of several things has no opinion.
    return held, seen & ~(whole & ~_by_picture(held, masks.picture)), sound


def _by_picture(held: ndarray, picture: ndarray) -> ndarray:
    """Which picture has a mask that holds which mask."""
    return np.stack([held[:, picture == v].any(1) for v in range(int(picture.max()) + 1)], 1)


def _coverage(masks: PictureMasks) -> tuple[Any, Any]:
    """Sparse ones: Gaussians that each mask has most of in its picture, and those that each picture shows."""
    from scipy.sparse import csr_matrix

    views, (m, n) = int(masks.picture.max()) + 1, masks.weights.shape
    of_view = csr_matrix((np.ones(m, np.float32), (masks.picture, np.arange(m))), shape=(views, m))
    total = (of_view @ masks.weights).tocsr()
    shown = total.multiply(total > _SEEN).tocsr()
    entries = masks.weights.tocoo()
    covered = []
    for v in range(views):
        dense = np.zeros(n, np.float32)
        row = shown.getrow(v)
        dense[row.indices] = row.data
        here = masks.picture[entries.row] == v
        most = here & (entries.data > 0.5 * dense[entries.col]) & (dense[entries.col] > 0)
        covered.append(np.stack([entries.row[most], entries.col[most]]))
    pairs = np.concatenate(covered, 1)
    ones = np.ones(pairs.shape[1], np.float32)
    shown.data[:] = 1
    return csr_matrix((ones, tuple(pairs)), shape=(m, n)), shown


def _joined(held: ndarray, seen: ndarray, group: ndarray, share: float) -> ndarray:
    """One round: groups that enough pictures show together, and hold in one mask, become one."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    if not len(groups := np.unique(group[group >= 0])):
        return group
    # A group lies in a mask, or is seen in a picture, where any of its masks is.
    h = np.stack([held[group == g].any(0) for g in groups]).astype(np.float32)
    s = np.stack([seen[group == g].any(0) for g in groups]).astype(np.float32)
    supporters, observers = h @ h.T, s @ s.T
    pairs = observers[np.triu_indices(len(groups), 1)]
    least = max(1.0, float(np.quantile(pairs[pairs > 0], share)) if (pairs > 0).any() else 1.0)
    edges = (observers >= least) & (supporters >= _CONSENSUS * observers)
    _, label = connected_components(csr_matrix(edges), directed=False)
    merged = group.copy()
    merged[group >= 0] = label[np.searchsorted(groups, group[group >= 0])]
    return merged


def _without_strays(masks: PictureMasks, group: ndarray) -> ndarray:
    """Groups of a single mask are noise where there are pictures enough to see better; numbered by size."""
    known = group >= 0
    if not known.any():
        return group
    counts = np.bincount(group[known])
    pictures = len(np.unique(masks.picture))
    strays = counts < (2 if pictures >= 3 else 1)
    weight = np.bincount(group[known], np.asarray(masks.weights.sum(1)).ravel()[known])
    order = np.argsort(-np.where(strays, -1, weight), kind="stable")
    rank = np.empty(len(counts), int)
    rank[order] = np.arange(len(counts))
    return np.where(known & ~strays[np.maximum(group, 0)], rank[np.maximum(group, 0)], -1)


def _summed(masks: PictureMasks, things: Int[ndarray, " m"]) -> Votes:
    """Weights added up by thing; column 0 is what no mask covers."""
    from scipy.sparse import csr_matrix

    label = np.where(masks.is_nothing, 0, np.where(things >= 0, things + 1, -1))
    used = (label >= 0).nonzero()[0]
    count = int(label.max()) + 1 if len(used) else 1
    pick = csr_matrix((np.ones(len(used), np.float32), (label[used], used)), shape=(count, len(label)))
    weights: Float[Tensor, "n l"] = torch.from_numpy((pick @ masks.weights).toarray().T.copy())
    return Votes(tuple(range(count)), weights)
