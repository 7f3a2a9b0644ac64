"""A tool's bodies as they are drawn, for tools of other sizes than the usual ones, too."""

import math
from dataclasses import replace
from functools import partial

import numpy as np

from ..tool import TOOLS, Tool
from .forms import Form, box, turned
from .scene import SceneObject
from .tools import tool_objects


def tool_bodies(tool: Tool, first_id: int) -> list[SceneObject]:
    """A tool's bodies as they are drawn; a rod has the round end of its capsule."""
    bodies = tool_objects("gripper" if tool.grips else "pusher", first_id)
    if tool.name in TOOLS and tool.grips:
        return bodies
    bodies[0] = replace(bodies[0], name=tool.name)
    if tool.grips:
        return [bodies[0], *map(partial(_finger, tool), bodies[1:])]
    if float(tool.halves[0, 0]) > 0:
        x, y, z = (round(2 * value, 6) for value in (tool.halves[0] + tool.radii[0]).tolist())
        return [replace(bodies[0], form=Form((box(x, y, z, (0.0, 0.0, 0.08)), bodies[0].form.pieces[1])))]
    radius = float(tool.radii[0])
    bend = np.linspace(0.0, 1.0, 9) * math.pi / 2
    tip = [(radius * math.sin(t), radius * (1 - math.cos(t))) for t in bend]
    rod = turned([*tip, (radius, 0.16), (0.0, 0.16)])
    return [replace(bodies[0], form=Form((rod, bodies[0].form.pieces[1])))]


def _finger(tool: Tool, item: SceneObject) -> SceneObject:
    """A finger as wide as a tool's."""
    assert item.joint is not None
    wide = round(2 * float(tool.halves[0, 0] + tool.radii[0]), 6)
    at = (0.0, item.joint.axis[1] * 0.006, 0.05)
    return replace(item, form=Form((box(wide, 0.012, 0.1, at),)))
