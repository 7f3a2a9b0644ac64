"""URDF: each assembly of a world as a robot of its own, and all of it as one scene."""

import json
import math
from pathlib import Path
from xml.etree import ElementTree as xml

import torch
from jaxtyping import Float
from torch import Tensor

from ..pose import invert_pose, pose_from
from ..world import World
from .atomic import replacing
from .bodies import Body, bodies_of, children_of, moves_freely, upright

SCENE, POSITIONS = "scene.urdf", "positions.json"
#: URDF demands both for every joint that moves: [N m or N], [rad/s or m/s].
_EFFORT, _VELOCITY = 100.0, 10.0
#: [m] stands for no limit where URDF demands one.
_FAR = 1000.0


def save_urdf(world: World, folder: Path) -> Path:
    """Write `scene.urdf`, a file for each assembly, and the meshes, in metres with +z up; the scene's path.

    An assembly is an object with what is mounted on it; its file has the name of that object, which is its
    root link. In the scene a link `world` carries them all: by floating joints what moves freely, by fixed
    ones the rest. Joints have their own zero, as robots' do: `positions.json` tells by name where they stand
    now, and at these values every link is where the world has it. The frame of a link that turns or slides
    is the object's, moved to its joint's origin, as URDF demands.

    Args:
        world: of known scale, its objects with shapes.
        folder: made if it is not there; paths in the files are relative to it.

    Raises:
        UnknownScale: the scale is unknown.
        EditError: an object has no shape.
        GaussWorldError: the file system refuses.
    """
    folder = Path(folder)
    bodies = bodies_of(upright(world), folder)
    scene = _robot("scene")
    xml.SubElement(scene, "link", name="world")
    names = {body.name.casefold() for body in bodies.values()}
    for body in children_of(bodies, None):
        assembly = _robot(body.name)
        _tree(assembly, body, bodies)
        _tree(scene, body, bodies)
        _mounted(scene, body)
        # An object may be called scene; its own file must not take the scene's place.
        own = body.name if body.name.casefold() != "scene" else _free("scene_object", names)
        _write(assembly, folder / f"{own}.urdf")
    _write(scene, folder / SCENE)
    stand = {b.name: b.item.joint.position for b in bodies.values() if b.item.joint is not None}
    with replacing(folder / POSITIONS) as file:
        file.write((json.dumps(stand, indent=2) + "\n").encode())
    return folder / SCENE


def _tree(robot: xml.Element, body: Body, bodies: dict[int, Body]) -> None:
    """A link, and what is mounted on it with the joints in between."""
    _link(robot, body)
    for child in children_of(bodies, body.item.id):
        _tree(robot, child, bodies)
        own = invert_pose(body.item.world_from_object.double()) @ _at_zero(child)
        _connect(robot, child, body.name, invert_pose(_object_from_link(body)) @ own)


def _mounted(scene: xml.Element, body: Body) -> None:
    """The joint between the world and the root of an assembly."""
    if moves_freely(body):
        joint = xml.SubElement(scene, "joint", name=f"{body.name}_to_world", type="floating")
        _ends(joint, "world", body.name, body.item.world_from_object.double())
    else:
        _connect(scene, body, "world", _at_zero(body))


def _connect(robot: xml.Element, body: Body, parent: str, parent_from_object: Float[Tensor, "4 4"]) -> None:
    """The joint of a body: `parent_from_object` is its pose at the joint's zero."""
    pose = parent_from_object @ _object_from_link(body)
    joint = body.item.joint
    if joint is None:
        made = xml.SubElement(robot, "joint", name=f"{body.name}_fixed", type="fixed")
        _ends(made, parent, body.name, pose)
        return
    endless = joint.kind == "revolute" and not all(map(math.isfinite, joint.limits))
    made = xml.SubElement(robot, "joint", name=body.name, type="continuous" if endless else joint.kind)
    _ends(made, parent, body.name, pose)
    xml.SubElement(made, "axis", xyz=_text(*joint.axis))
    limit = {"effort": _text(_EFFORT), "velocity": _text(_VELOCITY)}
    if not endless:
        low, high = (max(-_FAR, min(_FAR, value)) for value in joint.limits)
        limit |= {"lower": _text(low), "upper": _text(high)}
    xml.SubElement(made, "limit", limit)
    friction = {"damping": _text(body.item.material.damping * 0.1), "friction": "0"}
    xml.SubElement(made, "dynamics", friction)


def _link(robot: xml.Element, body: Body) -> None:
    link = xml.SubElement(robot, "link", name=body.name)
    link_from_object = invert_pose(_object_from_link(body))
    inertial = xml.SubElement(link, "inertial")
    center = (link_from_object[:3, :3] @ body.center.double() + link_from_object[:3, 3]).tolist()
    xml.SubElement(inertial, "origin", xyz=_text(*center), rpy="0 0 0")
    xml.SubElement(inertial, "mass", value=_text(body.mass))
    i = body.inertia
    rows = {"ixx": i[0, 0], "ixy": i[0, 1], "ixz": i[0, 2], "iyy": i[1, 1], "iyz": i[1, 2], "izz": i[2, 2]}
    xml.SubElement(inertial, "inertia", {name: _text(float(value)) for name, value in rows.items()})
    if body.visual is not None:
        visual = _shown(link, "visual", body.visual, link_from_object)
        material = xml.SubElement(visual, "material", name=f"{body.name}_color")
        xml.SubElement(material, "color", rgba=_text(*body.color, 1.0))
    for path in body.parts:
        _shown(link, "collision", path, link_from_object)


def _shown(link: xml.Element, what: str, path: str, link_from_object: Float[Tensor, "4 4"]) -> xml.Element:
    made = xml.SubElement(link, what)
    _origin(made, link_from_object)
    xml.SubElement(xml.SubElement(made, "geometry"), "mesh", filename=path)
    return made


def _object_from_link(body: Body) -> Float[Tensor, "4 4"]:
    """A link's frame lies on its joint's axis; only that of a revolute joint need be moved there."""
    joint = body.item.joint
    origin = joint.origin if joint is not None and joint.kind == "revolute" else (0.0, 0.0, 0.0)
    return pose_from(torch.eye(3, dtype=torch.float64), torch.tensor(origin, dtype=torch.float64))


def _at_zero(body: Body) -> Float[Tensor, "4 4"]:
    """The world pose that a body has when its joint stands at 0 and its parent rests."""
    pose, joint = body.item.world_from_object.double(), body.item.joint
    return pose if joint is None else pose @ joint.motion(torch.zeros((), dtype=torch.float64))


def _ends(joint: xml.Element, parent: str, child: str, pose: Float[Tensor, "4 4"]) -> None:
    _origin(joint, pose)
    xml.SubElement(joint, "parent", link=parent)
    xml.SubElement(joint, "child", link=child)


def _origin(element: xml.Element, pose: Float[Tensor, "4 4"]) -> None:
    """Fixed-axis roll, pitch and yaw: R = Rz(yaw) Ry(pitch) Rx(roll)."""
    r = pose[:3, :3].tolist()
    across = math.hypot(r[0][0], r[1][0])
    pitch = math.atan2(-r[2][0], across)
    if across > 1e-9:
        roll, yaw = math.atan2(r[2][1], r[2][2]), math.atan2(r[1][0], r[0][0])
    else:
        roll, yaw = math.atan2(-r[1][2], r[1][1]), 0.0
    xml.SubElement(element, "origin", xyz=_text(*pose[:3, 3].tolist()), rpy=_text(roll, pitch, yaw))


def _robot(name: str) -> xml.Element:
    return xml.Element("robot", name=name)


def _free(name: str, taken: set[str]) -> str:
    return name if name not in taken else _free(f"{name}_", taken)


def _write(robot: xml.Element, path: Path) -> None:
    xml.indent(robot)
    with replacing(path) as file:
        file.write(xml.tostring(robot, encoding="utf-8", xml_declaration=True))


def _text(*values: float) -> str:
    return " ".join(f"{0.0 if abs(value) < 1e-15 else value:.10g}" for value in values)
