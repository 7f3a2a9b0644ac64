"""`Layout`: which bodies of a world a network sees, and what of them never changes."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gaussworld.state import State
from gaussworld.world import World
from gaussworld.world_object import Joint

from ..matter.parts import Matter, Part, PartKind
from ..physics.lookup import FieldLookup, GroundLookup
from ..physics.motion import ToolPoints, rotations, tool_points
from ..physics.parameters import Parameters
from ..tool import Tool

#: Kinds of body that a network tells apart.
KINDS = (PartKind.RIGID, PartKind.JOINT, PartKind.ROPE, PartKind.CLOTH, PartKind.VOLUME)
#: [m] Between points on tools that ask for distances.
_SPACING = 0.012
#: [kg] for logarithms of masses.
_KILO = 1e-4
FACTS = len(KINDS) + 9


@dataclass(frozen=True, eq=False)
class Hinge:
    """A part on a joint."""

    node: int
    part: Part
    joint: Joint
    row: int
    """Of the state's joints."""
    inertia: float
    """[kg m^2] about the axis, or [kg] along it."""
    carried: tuple[int, ...]
    """Rows of the objects that go with it, itself among them."""


@dataclass(frozen=True, eq=False)
class Layout:
    """N bodies: first the parts that have a pose, then every particle of the parts that bend."""

    matter: Matter
    tools: tuple[Tool, ...]
    solid: tuple[Part, ...]
    """Parts with a pose that can move, in the order of their nodes."""
    bent: tuple[Part, ...]
    hinges: tuple[Hinge, ...]
    particles: Int[Tensor, " n"]
    """Rows of the matter's particles that are nodes, after the solid ones."""
    masses: Float[Tensor, " N"]
    """[kg]"""
    facts: Float[Tensor, "N f"]
    """What a network is told of each body."""
    offsets: Float[Tensor, "s 3"]
    """[m] centres of mass of solid parts in their objects' frames."""
    inertias: Float[Tensor, "s 3 3"]
    """[kg m^2] about them."""
    free: Bool[Tensor, " n"]
    """Particles that are tied to nothing."""
    webs: Int[Tensor, "e 2"]
    """Nodes at the ends of the edges inside what bends, both ways round."""
    lengths: Float[Tensor, " e"]
    """[m] of those at rest."""
    points: ToolPoints
    fields: FieldLookup
    ground: GroundLookup

    @property
    def size(self) -> int:
        """The number N of bodies."""
        return len(self.masses)

    @property
    def rows(self) -> list[int]:
        """Of the states' objects, of the solid parts."""
        return [part.row for part in self.solid]

    def turns(self, states: State) -> Float[Tensor, "b s 3 3"]:
        """Rotations of solid parts."""
        return rotations(states.object_poses[:, self.rows, 3:])

    @classmethod
    def of(cls, world: World, matter: Matter, tools: tuple[Tool, ...], parameters: Parameters) -> "Layout":
        """For a world with matter, tools, and what is known of materials."""
        solid = tuple(part for _, part in matter.of(PartKind.RIGID, PartKind.JOINT) if part.mass > 0)
        bent = tuple(part for part in matter.parts if part.kind.bends)
        particles = torch.cat([torch.arange(0), *(torch.arange(p.start, p.stop) for p in bent)])
        node_of = torch.full((len(matter.rest),), -1)
        node_of[particles] = len(solid) + torch.arange(len(particles))
        inside = node_of[matter.edges[:, 0]] >= 0 if len(matter.edges) else torch.zeros(0, dtype=torch.bool)
        pairs = matter.edges[inside]
        lengths = (matter.rest[pairs[:, 0]] - matter.rest[pairs[:, 1]]).norm(dim=-1)
        webs = node_of[pairs]
        ties = [torch.zeros(p.stop - p.start) if p.fixed is None else p.fixed for p in bent]
        masses = torch.cat([matter.rest.new_tensor([p.mass for p in solid]), matter.masses[particles]])
        zeros = matter.rest.new_zeros
        return cls(
            matter=matter,
            tools=tools,
            solid=solid,
            bent=bent,
            hinges=_hinges(world, matter, solid),
            particles=particles,
            masses=masses.clamp(min=_KILO),
            facts=_facts(matter, solid, bent, parameters),
            offsets=torch.stack([p.center for p in solid]) if solid else zeros(0, 3),
            inertias=torch.stack([p.inertia for p in solid]) if solid else zeros(0, 3, 3),
            free=torch.cat([torch.zeros(0), *ties]) == 0,
            webs=torch.cat([webs, webs.flip(1)]),
            lengths=lengths.repeat(2),
            points=tool_points(tools, _SPACING, matter.rest),
            fields=FieldLookup.of(matter.fields),
            ground=GroundLookup.of(matter.ground),
        )


def _hinges(world: World, matter: Matter, solid: tuple[Part, ...]) -> tuple[Hinge, ...]:
    result = []
    for node, part in enumerate(solid):
        joint = world.objects[part.object_id].joint
        if part.joint_row is None or joint is None:
            continue
        axis, arm = torch.tensor(joint.axis), part.center - torch.tensor(joint.origin)
        inertia = part.mass
        if joint.kind == "revolute":
            off = torch.linalg.cross(axis, arm).square().sum()
            inertia = float(axis @ part.inertia.float() @ axis + part.mass * off)
        carried = tuple(
            row
            for row, number in enumerate(matter.object_ids)
            if number == part.object_id or part.object_id in world.ancestors(world.objects[number])
        )
        result.append(Hinge(node, part, joint, part.joint_row, inertia, carried))
    return tuple(result)


def _facts(
    matter: Matter, solid: tuple[Part, ...], bent: tuple[Part, ...], parameters: Parameters
) -> Float[Tensor, "N f"]:
    """Kind, size, mass and what is known of the material: all of the order of one."""
    known = parameters.rows()
    place = {part.object_id: row for row, part in enumerate(matter.parts)}
    result = []
    for part in (*solid, *bent):
        row = place[part.object_id]
        friction, stiffness = float(known.friction[0, row]), max(float(known.stiffness[0, row]), 1.0)
        kind = [float(part.kind is each) for each in KINDS]
        if part.kind.bends:
            radius = float(matter.radii[part.rows].mean())
            mass = float(matter.masses[part.rows].mean())
            sizes, extra = [radius] * 3, [math.log10(stiffness) - 5]
            count = part.stop - part.start
        else:
            mass, count, extra = part.mass, 1, [0.0]
            moments = torch.linalg.eigvalsh(part.inertia.double() / max(part.mass, _KILO)).clamp(min=0)
            sizes = moments.sqrt().tolist()
        tall = float(matter.rest[part.rows, 2].max() - matter.rest[part.rows, 2].min())
        numbers = [20 * value for value in sizes]
        numbers += [10 * tall, 0.3 * math.log(max(mass, _KILO) / 0.1), friction, *extra]
        result += [[*kind, *numbers, float(part.joint_row is not None), float(count > 1)]] * count
    return matter.rest.new_tensor(result).reshape(-1, FACTS)
