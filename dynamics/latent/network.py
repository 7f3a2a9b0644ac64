"""`LatentNetwork`: shapes to codes, situations to tokens, tokens and actions to tokens and motion."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .config import LatentConfig
from .relations import (
    EDGE,
    GROUND,
    NEAR,
    PAIR,
    PER_VECTOR,
    SPEED,
    SPIN,
    TOOL,
    TRAITS,
    TURN,
    WAY,
    WIDE,
    Touch,
    gate,
    ground,
    pairs,
    present_tokens,
    soft,
    tool_facts,
    touch,
    traits,
)
from .scene import FACTS, Scene
from .situation import Hands, Situation

#: Directions that are learned at each anchor, beside its normal and its arm from the centre.
_LEARNED = 2
#: How much more an anchor counts that is nearer to a tool, in logits.
_PULL = 3.0


@dataclass(frozen=True, eq=False)
class Shapes:
    """What the network keeps of a scene's Gaussians, worked out once."""

    vectors: Float[Tensor, "n m A v 3"]
    """In the rest frame."""
    local: Float[Tensor, "n m k A h"]
    """What each anchor and each box of a tool add to what passes between them."""
    codes: Float[Tensor, "n m h"]
    """Of each whole shape."""

    def repeated(self, times: int) -> "Shapes":
        """Every world so many times in a row."""
        if times == 1:
            return self
        return Shapes(*(v.repeat_interleave(times, 0) for v in (self.vectors, self.local, self.codes)))


@dataclass(frozen=True, eq=False)
class Motion:
    """How things moved in a step, and how fast they are at its end; the world's axes."""

    ways: Float[Tensor, "n m 3"]
    """[m] of free rigid things."""
    rotvecs: Float[Tensor, "n m 3"]
    """[rad] of free rigid things."""
    joints: Float[Tensor, "n m"]
    """[rad] or [m]"""
    bends: Float[Tensor, "n m A 3"]
    """[m] of the anchors of what bends."""
    faster: Float[Tensor, "n m 7"]
    """[m/s], [rad/s] and the joint's rate: the end of the step less the mean of it."""
    doubts: Float[Tensor, "n m"]
    """[m] by how much places got less sure; 0 for what nothing could have moved."""


class LatentNetwork(nn.Module):
    """Nothing here depends on where the world's origin is, or on which way x points."""

    def __init__(self, config: LatentConfig) -> None:
        """Untrained, it predicts that nothing moves."""
        super().__init__()
        self.config = config
        h, d = config.hidden, config.token
        self.near = _mlp(FACTS + 5, h, h + 2 * _LEARNED)
        self.whole = _mlp(h + 2, h, h)
        self.local = nn.Linear(2 * h, h)
        self.edge = nn.Linear(EDGE + PER_VECTOR * (_LEARNED + 2), h, bias=False)
        self.box = nn.Linear(4, h, bias=False)
        self.edge_out = nn.Linear(h, h)
        self.logits = nn.Linear(h, config.heads)
        facts = 2 * h + TRAITS + 6 + GROUND
        self.state = _mlp(facts, d, d)
        self.thing = nn.Linear(facts + d, d)
        self.tool = _mlp(TOOL, d, d)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(d)
        self.next = nn.Linear(d, d)
        self.motion = nn.Linear(d, 14)
        self.doubt = nn.Linear(d, 1)
        self.bend = _mlp(h + d + 9, h, 3)
        last, first = self.bend[2], self.state[2]
        assert isinstance(last, nn.Linear) and isinstance(first, nn.Linear)
        # So that tokens differ from the beginning about as much as they shall.
        nn.init.orthogonal_(first.weight, gain=4.0)
        for layer in (self.motion, last):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def shapes(self, scene: Scene) -> Shapes:
        """A set encoder over the Gaussians at each anchor (PointNet, Qi et al. 2017), turned with the shape.

        Directions are weighted sums of offsets and normals, with weights that no turn of the shape changes.
        """
        scale = scene.sizes[..., None, None, None].clamp(min=1e-4)
        offsets, normals = scene.near_offsets / scale, scene.near_normals
        own, arms = scene.normals[..., None, :], scene.arms[..., None, :] / scale
        along = [
            (offsets.square().sum(-1) + 1e-8).sqrt(),
            (normals * own).sum(-1),
            (offsets * own).sum(-1),
            (offsets * normals).sum(-1),
            (arms * normals).sum(-1),
        ]
        out = self.near(torch.cat([torch.stack(along, -1), scene.near_facts], -1))
        codes, weights = out[..., : self.config.hidden].mean(-2), out[..., self.config.hidden :]
        pulls = weights[..., :_LEARNED].transpose(-1, -2) @ offsets
        pulls = pulls + weights[..., _LEARNED:].transpose(-1, -2) @ normals
        vectors = torch.cat([own, pulls / weights.shape[-2], arms], -2)
        far = (arms[..., 0, :].square().sum(-1, keepdim=True) + 1e-8).sqrt()
        size = (scene.sizes.clamp(min=1e-4).log() + 3)[..., None, None].expand_as(far)
        pooled = self.whole(torch.cat([codes, far, size], -1)).amax(-2)
        local = self.local(torch.cat([codes, pooled[..., None, :].expand_as(codes)], -1))
        boxes = self.box(torch.cat([scene.radii[..., None], scene.halves], -1) / WIDE)
        return Shapes(vectors, local[:, :, None] + boxes[:, None, :, None], pooled)

    def encode(self, scene: Scene, shapes: Shapes, at: Situation, hands: Hands) -> Float[Tensor, "n m d"]:
        """The token of every thing: its shape as seen from the tool, and how it moves."""
        touched = touch(scene, shapes.vectors, at, hands, hands)
        pooled, _ = self._passed(scene, shapes, touched)
        return self.state(self._facts(scene, shapes, at, touched, pooled))

    def advance(
        self,
        scene: Scene,
        shapes: Shapes,
        tokens: Float[Tensor, "n m d"],
        at: Situation,
        before: Hands,
        after: Hands,
    ) -> tuple[Float[Tensor, "n m d"], Motion]:
        """The tokens a step later, and the motion that they decode to."""
        touched = touch(scene, shapes.vectors, at, before, after)
        pooled, each = self._passed(scene, shapes, touched)
        things = self.thing(torch.cat([self._facts(scene, shapes, at, touched, pooled), tokens], -1))
        tools = self.tool(tool_facts(scene, before, after))
        seen, contact = pairs(scene, at, touched)
        for layer in self.layers:
            things = layer(things, tools, seen, present_tokens(scene))
        out = self.norm(things)
        open_ = gate(scene, at, touched, contact)
        return tokens + self.next(out), self._motion(scene, at, touched, out, each, open_)

    def _passed(self, scene: Scene, shapes: Shapes, touched: Touch) -> tuple[Tensor, Tensor]:
        """What comes from the tools to every thing (n, m, h), and to every anchor (n, m, A, h)."""
        hidden = F.relu(self.edge(touched.edges) + shapes.local)
        hidden = F.relu(self.edge_out(hidden))
        logits = self.logits(hidden) - _PULL * touched.edges[..., :1]
        if scene.lacking:
            logits = logits.masked_fill(~scene.box_present[:, None, :, None, None], -1e4)
        values = hidden.unflatten(-1, (self.config.heads, -1))
        weights = logits.flatten(2, 3).softmax(2)
        pooled = torch.einsum("nmah,nmahc->nmhc", weights, values.flatten(2, 3)).flatten(-2)
        if not scene.bending:
            return pooled, pooled
        each = (logits.softmax(2)[..., None] * values).sum(2).flatten(-2)
        return pooled, each

    def _facts(
        self, scene: Scene, shapes: Shapes, at: Situation, touched: Touch, pooled: Tensor
    ) -> Float[Tensor, "n m f"]:
        frames = touched.frames
        moving = torch.stack([at.velocities / SPEED, at.spins / SPIN], -2) @ frames
        codes = shapes.codes.expand(*pooled.shape[:2], -1)
        numbers = [codes, pooled, traits(scene, at, frames), soft(moving, 10.0).flatten(-2)]
        return torch.cat([*numbers, ground(scene, at, frames)], -1)

    def _motion(
        self, scene: Scene, at: Situation, touched: Touch, out: Tensor, each: Tensor, gates: Tensor
    ) -> Motion:
        frames = touched.frames.transpose(-1, -2)
        values = self.motion(out) * gates[..., None]
        level = values[..., :12].unflatten(-1, (4, 3)) @ frames
        ways, rotvecs, velocity, spin = level.unbind(-2)
        joints = values[..., 12] * (scene.slides * (WAY - TURN) + TURN)
        rate = values[..., 13] * (scene.slides * (SPEED - SPIN) + SPIN)
        faster = torch.cat([velocity * SPEED, spin * SPIN, rate[..., None]], -1)
        bends = self._bends(scene, at, touched, out, each, gates)
        # What is learned of doubt must not change what is doubted.
        doubts = F.softplus(self.doubt(out.detach())[..., 0] - 2) * gates * NEAR
        return Motion(ways * WAY, rotvecs * TURN, joints, bends, faster, doubts)

    def _bends(
        self, scene: Scene, at: Situation, touched: Touch, out: Tensor, each: Tensor, gates: Tensor
    ) -> Float[Tensor, "n m A 3"]:
        if not scene.bending:
            return torch.zeros_like(at.anchors)
        arms = (at.anchors - at.centers[..., None, :]) @ touched.frames
        rest = (scene.arms @ at.turns.transpose(-1, -2)) @ touched.frames
        drifts = at.drifts @ touched.frames
        numbers = torch.cat([arms / WIDE, rest / WIDE, drifts / SPEED], -1)
        whole = out[..., None, :].expand(*each.shape[:3], -1)
        bent = self.bend(torch.cat([each, whole, numbers], -1))
        return (bent * WAY * gates[..., None, None] * scene.free[..., None]) @ touched.frames.transpose(
            -1, -2
        )


class _Layer(nn.Module):
    """Things attend to things and tools, with what they are to each other in logits and values."""

    def __init__(self, config: LatentConfig) -> None:
        super().__init__()
        d = config.token
        self.heads = config.heads
        self.before, self.after = nn.LayerNorm(d), nn.LayerNorm(d)
        self.query, self.key_value = nn.Linear(d, d), nn.Linear(d, 2 * d)
        self.logit, self.value = nn.Linear(PAIR, config.heads), nn.Linear(PAIR, d)
        self.out = nn.Linear(d, d)
        self.each = _mlp(d, 2 * d, d)

    def forward(self, things: Tensor, tools: Tensor, seen: Tensor, present: Tensor) -> Tensor:
        mine = self.before(things)
        every = torch.cat([mine, tools], 1)
        query = self.query(mine).unflatten(-1, (self.heads, -1))
        key, value = self.key_value(every).chunk(2, -1)
        key = key.unflatten(-1, (self.heads, -1))
        logits = (query[:, :, None] * key[:, None]).sum(-1) / key.shape[-1] ** 0.5 + self.logit(seen)
        logits = logits.masked_fill(~present[:, None, :, None], -1e4)
        values = (value[:, None] + self.value(seen)).unflatten(-1, (self.heads, -1))
        mixed = (logits.softmax(2)[..., None] * values).sum(2).flatten(-2)
        things = things + self.out(mixed)
        return things + self.each(self.after(things))


def _mlp(given: int, hidden: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(given, hidden), nn.SiLU(), nn.Linear(hidden, out))
