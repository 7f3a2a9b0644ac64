"""`Parameters`: the numbers of the prior that can be identified, one for each part or for the whole world."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float
from torch import Tensor

from gaussworld.world import World

from ..matter.parts import Matter, Part
from ..tool import Tool

#: [m/s^2] deceleration by dry friction of what slides in guides, as long as nobody knows better.
_SLIDING = 2.0


@dataclass(frozen=True, eq=False)
class Parameters:
    """What things are made of, for the m parts and a tools; a leading axis is a batch of such guesses.

    The prior is differentiable towards all of them.
    """

    friction: Float[Tensor, "*b m"]
    """Coulomb coefficient of each part; with that of what it touches, the geometric mean counts."""
    mass: Float[Tensor, "*b m"]
    """Factor on the matter's masses and inertias."""
    stiffness: Float[Tensor, "*b m"]
    """[Pa] Young's modulus of parts that bend."""
    density: Float[Tensor, "*b m"]
    """[kg/m^3] of parts that bend; only stiffness over density counts."""
    damping: Float[Tensor, "*b m"]
    """[1/s] rate at which motion inside a part that bends, or along a joint, dies out."""
    joint_friction: Float[Tensor, "*b m"]
    """[rad/s^2] or [m/s^2]: deceleration of a joint that moves freely by its dry friction."""
    tool_friction: Float[Tensor, "*b a"]
    """Coulomb coefficient of each tool."""
    patch: Float[Tensor, "*b"]
    """Size of the patch that carries a rigid part's friction on the ground, over that of what touches it."""

    @classmethod
    def of(cls, world: World, matter: Matter, tools: Sequence[Tool]) -> "Parameters":
        """As the objects' materials and the tools say."""
        materials = [world.objects[part.object_id].material for part in matter.parts]
        columns = {
            name: matter.rest.new_tensor([getattr(material, name) for material in materials])
            for name in ("friction", "stiffness", "density", "damping")
        }
        ones = matter.rest.new_ones(len(materials))
        return cls(
            **columns,
            mass=ones,
            joint_friction=ones.new_tensor([_SLIDING * _slides(world, part) for part in matter.parts]),
            tool_friction=ones.new_tensor([tool.friction for tool in tools]),
            patch=ones.new_ones(()),
        )

    def rows(self) -> "Parameters":
        """The same with exactly one batch axis: of length 1 for a single guess."""
        changed = {}
        for entry in fields(self):
            value = getattr(self, entry.name)
            tail = value.shape[-1:] if entry.name != "patch" else ()
            changed[entry.name] = value.reshape(-1, *tail)
        return replace(self, **changed)

    def to(self, device: torch.device | str) -> "Parameters":
        """The same on a device."""
        return replace(self, **{entry.name: getattr(self, entry.name).to(device) for entry in fields(self)})


def _slides(world: World, part: Part) -> bool:
    joint = world.objects[part.object_id].joint
    return joint is not None and joint.kind == "prismatic"
