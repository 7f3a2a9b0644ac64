"""Random colours of things and random light, as edits."""

import colorsys
from collections.abc import Sequence

import torch

from gaussworld.edit import Grade, Recolour, Target
from gaussworld.gaussians import DELETED, LOCKED
from gaussworld.world import World

#: Half of the things keep their colour: a network must know them too.
_CHANCE = 0.5


def _uniform(generator: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def recolours(
    world: World, objects: Sequence[int], strength: float, generator: torch.Generator
) -> list[Recolour]:
    """A colour for about half of these objects, between their own and another; what is locked is left out."""
    edits = []
    for number in objects:
        chosen = float(torch.rand((), generator=generator)) < _CHANCE
        hue, saturation = _uniform(generator, 0.0, 1.0), _uniform(generator, 0.3, 0.9)
        rgb = colorsys.hsv_to_rgb(hue, saturation, _uniform(generator, 0.35, 0.95))
        amount = round(strength * _uniform(generator, 0.5, 1.0) * 2 / (1 + strength), 4)
        if strength > 0 and chosen and _free(world, number):
            red, green, blue = (round(value, 4) for value in rgb)
            edits.append(Recolour(Target((number,)), (red, green, blue), min(1.0, amount)))
    return edits


def light(world: World, strength: float, generator: torch.Generator) -> Grade | None:
    """Another light on everything: exposure to 0.8 stops, white balance, contrast and saturation to 30 %."""
    draws = [round(strength * _uniform(generator, -1.0, 1.0), 4) for _ in range(5)]
    everything = tuple(number for number in world.objects if _free(world, number))
    if strength == 0 or not everything:
        return None
    stops, warm, pink, contrast, saturation = draws
    return Grade(
        Target(everything),
        exposure=0.8 * stops,
        contrast=1 + 0.3 * contrast,
        saturation=1 + 0.3 * saturation,
        temperature=0.6 * warm,
        tint=0.2 * pink,
    )


def _free(world: World, number: int) -> bool:
    item = world.objects[number]
    flags = item.gaussians.flags[(item.gaussians.flags & DELETED) == 0]
    return not item.locked and len(flags) > 0 and not bool(((flags & LOCKED) != 0).any())
