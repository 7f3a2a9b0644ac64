"""Lifting ids of pictures to Gaussians, and masks whose numbers mean nothing beyond their picture."""

from typing import Any

import pytest
import torch

from gaussworld.log import drain
from recon.objects import cast_votes, cast_votes_of_pictures, decided, lift

NUMBERS = (1, 2, 3)


def shuffled(pictures: Any, seed: int = 0) -> list[torch.Tensor]:
    """The same masks under other numbers in each picture."""
    generator = torch.Generator().manual_seed(seed)
    renumbered = []
    for picture in pictures:
        names = torch.cat([torch.zeros(1).long(), torch.randperm(9, generator=generator) + 1])
        renumbered.append(names[picture.long()])
    return renumbered


def test_true_pictures_give_true_ids(scene: Any) -> None:
    """What cameras see of each object gets its id, surely; what none sees is unsure."""
    lifted = lift(scene.gaussians, scene.cameras, scene.pictures)
    seen = lifted.confidences > 64
    for number in NUMBERS:
        assert bool((lifted.ids == scene.ids)[seen & (scene.ids == number)].float().mean() > 0.97)
    right = lifted.ids == scene.ids
    assert float(lifted.confidences[right].float().mean()) > float(lifted.confidences[~right].float().mean())


def test_votes_are_the_blending_weights(scene: Any) -> None:
    """All votes for all labels of a picture add up to its opacity: nothing is lost or counted twice."""
    from gaussworld.render import render

    camera, picture = scene.cameras[0], scene.pictures[0]
    votes = drain(cast_votes(scene.gaussians, [camera], [picture])).result
    alpha = render(scene.gaussians, camera).alpha
    for column, label in enumerate(votes.labels):
        assert float(votes.weights[:, column].sum()) == pytest.approx(
            float(alpha[picture == label].sum()), rel=1e-3
        )


def test_pixels_that_are_not_known_do_not_vote(scene: Any) -> None:
    """A picture of -1 says nothing, not even background."""
    pictures = [scene.pictures[0], torch.full_like(scene.pictures[1], -1)]
    votes = drain(cast_votes(scene.gaussians, scene.cameras[:2], pictures)).result
    alone = drain(cast_votes(scene.gaussians, scene.cameras[:1], pictures[:1])).result
    assert torch.equal(votes.weights, alone.weights)


def test_what_nobody_sees_is_like_its_neighbours_and_unsure(scene: Any) -> None:
    """From one camera the far sides are hidden: their ids are guesses of low confidence."""
    lifted = lift(scene.gaussians, scene.cameras[:1], scene.pictures[:1])
    votes = drain(cast_votes(scene.gaussians, scene.cameras[:1], scene.pictures[:1])).result
    unseen = votes.weights.sum(1) == 0
    assert bool(unseen.any()) and int(lifted.confidences[unseen].max()) <= 64
    assert set(lifted.ids[unseen].tolist()) >= {0, 1, 2, 3}


def test_lost_masks_do_not_make_background(scene: Any) -> None:
    """Five of eight pictures lack the mask of a box: the three that have it win on the sides they show."""
    pictures = [torch.where((p == 2) & (i % 3 > 0), 0, p) for i, p in enumerate(scene.pictures)]
    lifted = lift(scene.gaussians, scene.cameras, pictures)
    seen = (lifted.confidences > 64) & (scene.ids == 2)
    assert float((lifted.ids[seen] == 2).float().mean()) > 0.75


def test_pictures_and_cameras_must_be_as_many(scene: Any) -> None:
    """A picture for each camera, and at least one."""
    with pytest.raises(ValueError, match="a picture for each camera, got 1 for 8"):
        lift(scene.gaussians, scene.cameras, scene.pictures[:1])


def test_numbers_of_single_pictures_are_brought_together(scene: Any) -> None:
    """Every object is one thing again, though each picture numbers it otherwise."""
    votes = drain(cast_votes_of_pictures(scene.gaussians, scene.cameras, shuffled(scene.pictures))).result
    ids = decided(scene.gaussians, votes).ids
    assert votes.labels == (0, 1, 2, 3)
    for number in NUMBERS:
        assert max(scene.right(ids, number, found) for found in (1, 2, 3)) > 0.9


def test_some_pictures_may_cut_and_join(scene: Any) -> None:
    """A box cut in two in two pictures, and boxes taken for one in another, change nothing."""
    pictures = shuffled(scene.pictures)
    for i in (1, 4):
        red = scene.pictures[i] == 2
        right = torch.arange(red.shape[1]) > red.nonzero()[:, 1].float().mean()
        pictures[i] = torch.where(red & right, 20, pictures[i])
    pictures[6] = torch.where(scene.pictures[6] >= 2, 21, pictures[6])
    votes = drain(cast_votes_of_pictures(scene.gaussians, scene.cameras, pictures)).result
    ids = decided(scene.gaussians, votes).ids
    for number in NUMBERS:
        assert max(scene.right(ids, number, found) for found in votes.labels[1:]) > 0.9


def test_masks_may_be_missing_here_and_there(scene: Any) -> None:
    """A fifth of the masks dropped at random, objects stay whole."""
    generator = torch.Generator().manual_seed(1)
    pictures = shuffled(scene.pictures)
    for picture in pictures:
        for label in picture.unique().tolist():
            if label and float(torch.rand(1, generator=generator)) < 0.2:
                picture[picture == label] = 0
    votes = drain(cast_votes_of_pictures(scene.gaussians, scene.cameras, pictures)).result
    ids = decided(scene.gaussians, votes).ids
    for number in NUMBERS:
        assert max(scene.right(ids, number, found) for found in votes.labels[1:]) > 0.85
