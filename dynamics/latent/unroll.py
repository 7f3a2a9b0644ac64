"""Stepping in latent space: tokens and the places that they decode to, step after step, without Gaussians."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.pose import rotation_from_rotvec

from .network import LatentNetwork, Motion, Shapes
from .scene import Scene
from .situation import Hands, Situation


@dataclass(frozen=True, eq=False)
class Unrolled:
    """What was predicted for each of u moments."""

    tokens: list[Float[Tensor, "n m d"]]
    situations: list[Situation]
    doubts: list[Float[Tensor, "n m"]]
    """[m] by which places got less sure in the t = u - 1 steps between: 0 where nothing could have moved."""


def unroll(
    network: LatentNetwork, scene: Scene, shapes: Shapes, begin: Situation, hands: Sequence[Hands], dt: float
) -> Unrolled:
    """Encode once, then predict tokens from tokens.

    Args:
        network: that predicts.
        scene: of the n worlds, or of the one that all n samples are of.
        shapes: of the scene.
        begin: where its things are.
        hands: where the tools are at all u moments.
        dt: [s] of a step.
    """
    tokens, at = [network.encode(scene, shapes, begin, hands[0])], [begin]
    doubts = []
    for before, after in pairwise(hands):
        following, motion = network.advance(scene, shapes, tokens[-1], at[-1], before, after)
        tokens.append(following)
        at.append(moved(scene, at[-1], motion, dt))
        doubts.append(motion.doubts)
    return Unrolled(tokens, at, doubts)


def moved(scene: Scene, at: Situation, motion: Motion, dt: float) -> Situation:
    """Where things are after a motion: free ones anywhere, those on joints along them, bending ones bent."""
    bends, hinged = scene.kinds[..., 2:].sum(-1, keepdim=True), scene.kinds[..., 1:2]
    free = scene.kinds[..., :1]
    ways, rotvecs, joints, rates = motion.ways * free, motion.rotvecs * free, at.joints, at.rates
    if scene.hinged:
        after = (joints + motion.joints * hinged[..., 0]).clamp(scene.limits[..., 0], scene.limits[..., 1])
        joints = torch.where(hinged[..., 0] > 0, after, joints)
        along = (joints - at.joints)[..., None] * (at.turns @ scene.axes[..., None])[..., 0]
        slides = scene.slides[..., None]
        arm = -(at.turns @ scene.origins[..., None])[..., 0]
        spun = (1 - slides) * along
        swung = (rotation_from_rotvec(spun) @ arm[..., None])[..., 0] - arm
        ways, rotvecs = ways + hinged * (slides * along + swung), rotvecs + hinged * spun
        rates = ((joints - at.joints) / dt + motion.faster[..., 6]) * hinged[..., 0]
    turns = rotation_from_rotvec(rotvecs) @ at.turns
    centers = at.centers + ways
    anchors = centers[..., None, :] + scene.arms @ turns.transpose(-1, -2)
    drifts = at.drifts
    if scene.bending:
        bent = bends[..., None] > 0
        anchors = torch.where(bent, at.anchors + motion.bends, anchors)
        drifts = torch.where(bent, motion.bends / dt, drifts)
        centers = torch.where(bends > 0, anchors.mean(-2), centers)
        ways = centers - at.centers
    velocities = ways / dt + motion.faster[..., :3] * free
    spins = rotvecs / dt + motion.faster[..., 3:6] * free
    return Situation(centers, turns, anchors, velocities, spins, drifts, joints, rates)
