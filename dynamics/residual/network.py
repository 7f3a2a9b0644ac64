"""`ImpulseNetwork`: from what a graph says, how hard each edge pushes, and how sure that is."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gaussworld.errors import ConfigError

from .graph import DIRECTIONS, EDGE_FACTS, NODE_FACTS, Graph
from .touch import EDGES

#: Corrections of places, and of the velocities at the end of a step.
KINDS = 2
#: An edge acts at most so strongly, in parts of the velocities that it sees.
_MOST = 1.5


@dataclass(frozen=True)
class NetworkConfig:
    """How large the network is."""

    width: int = 64
    """Of what is known of each body and edge."""
    rounds: int = 2
    """How often bodies hear of their edges, and edges of their bodies."""
    heads: int = 3
    """Opinions, each learned from a part of what happened; they come apart where nobody knows."""

    def __post_init__(self) -> None:
        for name, least in (("width", 4), ("rounds", 0), ("heads", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name}: expected at least {least}, got {getattr(self, name)}")


@dataclass(frozen=True, eq=False)
class Pushes:
    """What a network says of a graph."""

    strengths: Float[Tensor, "h E k d"]
    """Of each head, for places and for velocities, along the directions of each edge."""
    rates: Float[Tensor, " G"]
    """[m/s] how fast a body gets unsure, before speeds count."""
    latent: Float[Tensor, "G w"]
    """What is known of each body: how unusual it is can be told from it."""


class ImpulseNetwork(nn.Module):
    """Message passing between bodies along what touches (Battaglia et al. 2018; Sanchez-Gonzalez et al. 2020)

    An untrained network pushes nothing.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width = config.width
        self.config = config
        self.node_scale: Tensor
        self.edge_scale: Tensor
        self.register_buffer("node_scale", torch.stack([torch.zeros(NODE_FACTS), torch.ones(NODE_FACTS)]))
        self.register_buffer("edge_scale", torch.stack([torch.zeros(EDGE_FACTS), torch.ones(EDGE_FACTS)]))
        self.register_buffer("seen", torch.ones(EDGES))
        self.seen: Tensor
        self.nodes = _layers(NODE_FACTS, width, width)
        self.edges = _layers(EDGE_FACTS + 2 * width, width, width)
        self.hear = nn.ModuleList(_layers(3 * width, width, width) for _ in range(config.rounds))
        self.tell = nn.ModuleList(_layers(3 * width, width, width) for _ in range(config.rounds))
        self.push = nn.Linear(width, config.heads * KINDS * DIRECTIONS)
        self.doubt = nn.Linear(2 * width, 1)
        nn.init.zeros_(self.push.weight)
        nn.init.zeros_(self.push.bias)
        nn.init.zeros_(self.doubt.weight)
        nn.init.constant_(self.doubt.bias, -3.0)

    def forward(self, graph: Graph) -> Pushes:
        """How hard every edge pushes."""
        known = self.nodes(_scaled(graph.nodes, self.node_scale))
        # The world, of which nothing is known.
        rest = known.new_zeros(1, known.shape[1])
        facts = _scaled(graph.facts, self.edge_scale)
        edges = self.edges(torch.cat([facts, *_ends(known, rest, graph)], -1))
        for hear, tell in zip(self.hear, self.tell):
            known = known + hear(torch.cat([known, _heard(edges, graph)], -1))
            edges = edges + tell(torch.cat([edges, *_ends(known, rest, graph)], -1))
        raw = self.push(edges).reshape(-1, self.config.heads, KINDS, DIRECTIONS).movedim(1, 0)
        # Of a kind of contact that was never learned from nothing is known.
        raw = raw * self.seen[graph.kinds][:, None, None]
        latent = torch.cat([known, _heard(edges, graph)[:, : self.config.width]], -1)
        rates = nn.functional.softplus(self.doubt(latent.detach())[:, 0])
        return Pushes(_MOST * torch.tanh(raw / _MOST), rates, latent)

    @torch.no_grad()
    def fit_scale(self, graph: Graph) -> None:
        """Take over from typical graphs what is usual of each number, and which kinds of edge there are."""
        self.seen.copy_((torch.bincount(graph.kinds, minlength=EDGES) > 0).float())
        for name, values in (("node_scale", graph.nodes), ("edge_scale", graph.facts)):
            if len(values) > 1:
                spread = values.std(0)
                # What never varied says nothing, and must not shout where it does vary.
                spread = torch.where(spread > 1e-3, spread, torch.ones_like(spread))
                getattr(self, name).copy_(torch.stack([values.mean(0), spread]))


def _layers(start: int, width: int, end: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(start, width), nn.SiLU(), nn.Linear(width, end))


def _scaled(values: Tensor, scale: Tensor) -> Tensor:
    return ((values - scale[0]) / scale[1]).clamp(-8, 8)


def _ends(known: Tensor, rest: Tensor, graph: Graph) -> tuple[Tensor, Tensor]:
    whole = torch.cat([known, rest])
    return whole.index_select(0, graph.source), whole.index_select(0, graph.target)


def _heard(edges: Tensor, graph: Graph) -> Tensor:
    """What comes to each body from its edges, those that push it and those that it pushes with."""
    width = edges.shape[1]
    to = edges.new_zeros(graph.size + 1, width).index_add(0, graph.target, edges)
    away = edges.new_zeros(graph.size + 1, width).index_add(0, graph.source, edges)
    return torch.cat([to, away], -1)[:-1]
