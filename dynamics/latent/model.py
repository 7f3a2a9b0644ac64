"""`Latent`: a world's future in tokens, as a `Dynamics` - encoded once, stepped in latent space, decoded."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.state import Action, ActionSpec, Rollout, State
from gaussworld.threads import one_torch_thread
from gaussworld.world import World

from ..learning.calibration import Radius, Usual
from ..matter.parts import Matter
from ..prior import Prior
from ..tool import Tool
from .decode import Decoder
from .folder import read_model
from .network import LatentNetwork
from .scene import Scene, scene_of
from .situation import Follower, Situation, hands_of
from .unroll import Unrolled, unroll


class Latent:
    """The latent model of one world.

    A rollout encodes its first state and steps in latent space only, so that a rollout is not the same as
    steps one after the other, each of which encodes anew: only the first states are equal.
    """

    def __init__(
        self,
        network: LatentNetwork,
        world: World,
        matter: Matter,
        tools: Sequence[Tool],
        rate_hz: float = 10.0,
        radius: Radius | None = None,
        usual: Usual | None = None,
    ) -> None:
        """Code the shapes of a world.

        Args:
            network: that was trained.
            world: in metres.
            matter: of the world.
            tools: what acts.
            rate_hz: [1/s] of the steps that it was trained on.
            radius: makes honest radii of doubts.
            usual: knows what training situations were like.

        Raises:
            UnknownScale: the world's scale is unknown.
            ValueError: its unit is not one metre, or the matter is of others.
        """
        self._spec = ActionSpec("tool_pose", len(tools), "world", "m", rate_hz)
        self._prior = Prior(world, matter, tools, action_spec=self._spec)
        self.network, self.world, self.matter, self.tools = network, world, matter, tuple(tools)
        self._radius, self._usual = radius, usual
        self.device = next(network.parameters()).device
        self.scene: Scene = scene_of(world, matter, self.tools, network.config).to(self.device)
        self._follower = Follower(self.scene, matter.to(self.device))
        self._decoder = Decoder(world, self._follower, len(self.tools))
        with torch.no_grad():
            self.shapes = network.shapes(self.scene)

    @property
    def action_spec(self) -> ActionSpec:
        """Poses that the tools reach at the end of a step."""
        return self._spec

    def initial(self, world: World, tool_poses: Float[Tensor, "a 7"] | None = None) -> State:
        """As `Prior.initial`."""
        return self._prior.initial(world, tool_poses)

    def step(self, state: State, action: Action) -> State:
        """The state one period later: encoded, a step in latent space, decoded."""
        self._prior.check(state, action, action.batch_shape)
        return self._predicted(state, action.map(lambda value: value[None]))[0][1]

    def rollout(self, state: State, actions: Action) -> Rollout:
        """Encode a state, then predict tokens from tokens; the first axis of actions is time."""
        self._prior.check(state, actions, actions.batch_shape[1:])
        if not len(actions):
            return Rollout(state.map(lambda value: value[None]), actions, self._spec.dt)
        states, spread = self._predicted(state, actions)
        return Rollout(states, actions, self._spec.dt, spread=spread)

    def surprise(self, rollout: Rollout) -> float:
        """The share of training situations that are less unusual than a rollout's, range [0, 1].

        Args:
            rollout: unbatched, of this world.
        """
        return 0.0 if self._usual is None else self._usual.rank(self.situation(rollout)[0])

    @torch.no_grad()
    def situation(self, rollout: Rollout) -> tuple[Float[Tensor, " f"], Float[Tensor, "q d"]]:
        """What an unbatched rollout was like, by which it is known as usual; and all its tokens."""
        states = rollout.states.to(self.device)
        with one_torch_thread():
            at = self._follower.situation(states)
            hands = hands_of(self.scene, states.tool_poses, states.grip)
            tokens = self.network.encode(self.scene, self.shapes, at, hands)
            found = unusual(self.scene, self.shapes.codes, tokens, at)
        return found.cpu(), tokens.flatten(0, 1).cpu()

    def _predicted(self, state: State, actions: Action) -> tuple[State, Tensor | None]:
        """The states (u, *b), and the spread."""
        shape, steps = state.batch_shape, len(actions)
        count, axes = math.prod(shape), len(shape)
        begin = state.to(self.device).map(lambda value: value.reshape(count, *value.shape[axes:]))
        like = begin.object_poses
        assert actions.tools is not None
        tools = actions.tools.reshape(steps, count, *actions.tools.shape[axes + 1 :]).to(like)
        tools = torch.cat([begin.tool_poses[None], tools])
        grip = begin.grip.expand(steps, -1, -1) if actions.grip is None else actions.grip
        grip = torch.cat([begin.grip[None], grip.reshape(steps, count, -1).to(like)])
        with one_torch_thread():
            said = self._unrolled(begin, tools, grip)
            path = Situation(**{name: torch.stack([getattr(at, name) for at in said.situations])
                                for name in Situation.__dataclass_fields__})  # fmt: skip
            states = self._decoder.states(begin, path, tools, grip, self._spec.dt)
            spread = None if self._radius is None else self._radius(self.doubts(said))
        whole = states.map(lambda value: value.reshape(steps + 1, *shape, *value.shape[2:]))
        home = state.object_poses.device
        spread = None if spread is None else spread.reshape(steps + 1, *shape, -1).to(home)
        return whole.to(home), spread

    def _unrolled(self, begin: State, tools: Tensor, grip: Tensor) -> Unrolled:
        hands = hands_of(self.scene, tools, grip)
        each = [hands[moment] for moment in range(len(tools))]
        at = self._follower.situation(begin)
        return unroll(self.network, self.scene, self.shapes, at, each, self._spec.dt)

    def doubts(self, said: Unrolled) -> Float[Tensor, "u n o"]:
        """[m] how unsure the places of objects are, uncalibrated."""
        grown = torch.stack(said.doubts).cumsum(0)
        doubts = grown.new_zeros(len(grown) + 1, grown.shape[1], len(self.matter.object_ids))
        doubts[1:, :, self._follower.rows] = grown
        return doubts


def unusual(
    scene: Scene, codes: Tensor, tokens: Float[Tensor, "u m d"], at: Situation
) -> Float[Tensor, " f"]:
    """What a stretch of time was like: shapes, sizes and tokens of what moved most, and their number."""
    spins = at.spins.norm(dim=-1) * scene.sizes
    weights = (at.velocities.norm(dim=-1) + spins).mean(0).clamp(max=0.1) + 1e-3
    weights = weights / weights.sum()
    mean, wide = tokens.mean(0), tokens.std(0, correction=0)
    facts = scene.near_facts[0].mean((1, 2))
    own = torch.cat([codes[0], mean, wide, facts, scene.sizes[0, :, None].log()], -1)
    tools = torch.stack([scene.radii.amin(), scene.halves.amax(), scene.halves.mean()]) * 10
    number = tools.new_tensor([math.log(len(own))])
    return torch.cat([(weights[:, None] * own).sum(0), tools, number])


def loaded(folder: Path, world: World, matter: Matter, tools: Sequence[Tool], rate_hz: float) -> Latent:
    """The model that `LatentLearner.save` wrote, for a world.

    Raises:
        FileFormatError: no such model, a damaged one, or one of another kind or version.
        ConfigError: it was trained at another rate.
    """
    made = read_model(Path(folder), rate_hz)
    return Latent(made.network, world, matter, tools, rate_hz, made.radius, made.usual)
