"""Ids as a picture: what every pixel mostly shows."""

import torch
from jaxtyping import Int
from torch import Tensor

from gaussworld.camera import Camera
from gaussworld.gaussians import Gaussians
from gaussworld.render import render
from gaussworld.threads import one_torch_thread
from gaussworld.world_object import BACKGROUND_ID


@one_torch_thread()
@torch.no_grad()
def draw_ids(gaussians: Gaussians, ids: Int[Tensor, " n"], camera: Camera) -> Int[Tensor, "h w"]:
    """The id with the most blending weight in each pixel; the background's where little is drawn at all.

    Args:
        gaussians: in the world frame.
        ids: of each Gaussian.
        camera: of any model.
    """
    labels, columns = ids.unique(return_inverse=True)
    features = torch.nn.functional.one_hot(columns, len(labels)).float()
    drawn = render(gaussians, camera, colors=torch.zeros_like(gaussians.means), features=features)
    assert drawn.features is not None
    picture = labels[drawn.features.argmax(-1)]
    return torch.where(drawn.alpha < 0.5, torch.full_like(picture, BACKGROUND_ID), picture)
