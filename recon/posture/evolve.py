"""CMA-ES: the lowest place of a function without slopes, by a population that learns where to look."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Cost = Callable[[Float[Tensor, "b n"]], Float[Tensor, " b"]]


@dataclass(frozen=True, eq=False)
class Best:
    """The lowest place so far."""

    place: Float[Tensor, " n"]
    cost: float


def evolve(
    cost: Cost,
    start: Float[Tensor, " n"],
    steps: Float[Tensor, " n"],
    *,
    generations: int,
    population: int,
    generator: torch.Generator,
) -> Iterator[Best]:
    """Search about a place (Hansen, "The CMA Evolution Strategy: A Tutorial", 2016), a best per generation.

    Args:
        cost: of a batch of places.
        start: the middle of the first population; float64.
        steps: its standard deviations.
        generations: how many populations are drawn.
        population: places in each.
        generator: of random numbers.
    """
    n, half = len(start), population // 2
    weights = math.log(half + 0.5) - torch.arange(1, half + 1).double().log()
    weights = weights / weights.sum()
    mass = float(1 / weights.square().sum())
    rate_sigma = (mass + 2) / (n + mass + 5)
    damping = 1 + 2 * max(0.0, math.sqrt((mass - 1) / (n + 1)) - 1) + rate_sigma
    rate_path = (4 + mass / n) / (n + 4 + 2 * mass / n)
    rate_one = 2 / ((n + 1.3) ** 2 + mass)
    rate_mass = min(1 - rate_one, 2 * (mass - 2 + 1 / mass) / ((n + 2) ** 2 + mass))
    expected = math.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n * n))
    mean, sigma, spread = torch.zeros(n).double(), 1.0, torch.eye(n).double()
    path_sigma, path = torch.zeros(n).double(), torch.zeros(n).double()
    best = Best(start, math.inf)
    for generation in range(1, generations + 1):
        values, axes = torch.linalg.eigh((spread + spread.T) / 2)
        root = values.clamp(min=1e-16).sqrt()
        drawn = torch.randn(population, n, generator=generator, dtype=torch.float64) * root @ axes.T
        places = start + (mean + sigma * drawn) * steps
        costs = cost(places)
        order = costs.argsort()
        if float(costs[order[0]]) < best.cost:
            best = Best(places[order[0]], float(costs[order[0]]))
        yield best
        chosen = drawn[order[:half]]
        move = weights @ chosen
        mean = mean + sigma * move
        whitened = axes @ ((axes.T @ move) / root)
        path_sigma = (1 - rate_sigma) * path_sigma + math.sqrt(
            rate_sigma * (2 - rate_sigma) * mass
        ) * whitened
        length = float(path_sigma.norm())
        bound = (1.4 + 2 / (n + 1)) * expected * math.sqrt(1 - (1 - rate_sigma) ** (2 * generation))
        going = 1.0 if length < bound else 0.0
        path = (1 - rate_path) * path + going * math.sqrt(rate_path * (2 - rate_path) * mass) * move
        one = torch.outer(path, path) + (1 - going) * rate_path * (2 - rate_path) * spread
        spread = (1 - rate_one - rate_mass) * spread + rate_one * one
        spread = spread + rate_mass * (chosen.T * weights) @ chosen
        sigma *= math.exp(min(1.0, rate_sigma / damping * (length / expected - 1)))
