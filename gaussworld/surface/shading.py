"""Light baked into colours: for those who want a look of depth without a renderer of light."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from ..gaussians import Gaussians
from ..pose import rotation_from_quats
from ..sh import rgb_from_sh0, sh0_from_rgb

#: Where the light is from, and what share of it comes from everywhere.
LIGHT, AMBIENT = (0.4, -0.5, 0.77), 0.45


def shaded(gaussians: Gaussians, world_from_object: Float[Tensor, "4 4"]) -> Gaussians:
    """Discs with the colours that a matt surface has under a lamp above (Lambert's cosine law).

    The first axis of each must be the outward normal.
    """
    light = torch.nn.functional.normalize(torch.tensor(LIGHT), dim=0)
    normals = rotation_from_quats(gaussians.quats)[:, :, 0] @ world_from_object[:3, :3].T.to(gaussians.means)
    factor = AMBIENT + (1 - AMBIENT) * (normals @ light).clamp(min=0)
    sh = gaussians.sh.clone()
    sh[:, 0] = sh0_from_rgb(rgb_from_sh0(sh[:, 0]) * factor[:, None])
    return replace(gaussians, sh=sh)
