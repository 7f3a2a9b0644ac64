"""MJCF: a world as a MuJoCo model - bodies with inertia, convex colliders, joints, friction and cameras."""

import math
from pathlib import Path
from xml.etree import ElementTree as xml

import numpy as np
import torch

from ..camera import Camera
from ..pose import pose7_from_pose
from ..world import World
from ..world_object import Joint, ObjectKind
from .atomic import replacing
from .bodies import Body, bodies_of, children_of, moves_freely, parent_from, unique_names, upright

FILE = "scene.xml"
#: Torsional and rolling friction [m], MuJoCo's defaults.
_SPIN, _ROLL = 0.005, 0.0001
#: [N m/rad or N/m] stiffness of a robot's position actuators, per kilogram that hangs on the joint.
_GAIN = 100.0


def save_mjcf(world: World, folder: Path, *, cameras: int = 4, ground: bool = True) -> Path:
    """Write `scene.xml` and its meshes, in metres with +z up; gives the file's path.

    Static objects and bases of robots are fixed bodies, rigid ones and deformable ones move freely, and what
    has a joint moves along it, at the position it has now and within its limits; robots get position
    actuators that hold it. Each body's surface is a visual geom (group 2), its convex parts are colliders
    (group 3); links without geometry are bodies without geoms. Masses and centres are those of the material,
    else of volume and density.

    Args:
        world: of known scale, its objects with shapes.
        folder: made if it is not there; paths in the file are relative to it.
        cameras: so many of the world's cameras at most.
        ground: put a plane under everything.

    Raises:
        UnknownScale: the scale is unknown.
        EditError: an object has no shape.
        GaussWorldError: the file system refuses.
    """
    folder = Path(folder)
    metric = upright(world)
    bodies = bodies_of(metric, folder)
    root = xml.Element("mujoco", model="gaussworld")
    xml.SubElement(root, "compiler", angle="radian", autolimits="true")
    option = xml.SubElement(root, "option", integrator="implicitfast")
    # Meshes that lie flat on each other need more than one point of contact to lie still.
    xml.SubElement(option, "flag", multiccd="enable")
    _defaults(root)
    assets, scene = xml.SubElement(root, "asset"), xml.SubElement(root, "worldbody")
    _assets(assets, bodies)
    xml.SubElement(scene, "light", pos="0 0 3", dir="0 0 -1", directional="true")
    if ground:
        size = f"0 0 {_text(0.05)}"
        floor = {"name": "ground", "type": "plane", "size": size, "material": "ground"}
        xml.SubElement(scene, "geom", floor, pos=f"0 0 {_text(_lowest(bodies))}")
    for camera, name in zip(_some(metric.cameras, cameras), unique_names(["camera"] * cameras)):
        _camera(scene, camera, name)
    for body in children_of(bodies, None):
        _body(scene, body, bodies)
    _exclusions(root, bodies)
    _actuators(root, bodies)
    _keyframe(root, bodies)
    xml.indent(root)
    with replacing(folder / FILE) as file:
        file.write(xml.tostring(root, encoding="utf-8"))
    return folder / FILE


def _defaults(root: xml.Element) -> None:
    default = xml.SubElement(root, "default")
    visual = xml.SubElement(default, "default", {"class": "visual"})
    xml.SubElement(visual, "geom", type="mesh", contype="0", conaffinity="0", group="2", density="0")
    collision = xml.SubElement(default, "default", {"class": "collision"})
    xml.SubElement(collision, "geom", type="mesh", group="3", rgba="0.4 0.6 0.9 0.5")


def _assets(assets: xml.Element, bodies: dict[int, Body]) -> None:
    xml.SubElement(assets, "material", name="ground", rgba="0.6 0.6 0.6 1")
    for body in bodies.values():
        # Inertia is stated; what encloses nothing must not be refused for its volume.
        if body.visual is not None and _drawable(body):
            xml.SubElement(assets, "mesh", name=body.name, file=body.visual, inertia="shell")
        for path in body.parts:
            xml.SubElement(assets, "mesh", name=Path(path).stem, file=path)


def _body(parent: xml.Element, body: Body, bodies: dict[int, Body]) -> None:
    pose = pose7_from_pose(parent_from(body, bodies)).tolist()
    made = xml.SubElement(parent, "body", name=body.name, pos=_text(*pose[:3]), quat=_text(*pose[3:]))
    if body.item.kind is ObjectKind.ROBOT:
        made.set("gravcomp", "1")
    if moves_freely(body):
        xml.SubElement(made, "freejoint", name=body.name)
    elif body.item.joint is not None:
        _joint(made, body, body.item.joint)
    _inertial(made, body)
    if _drawable(body):
        color = _text(*body.color, 1.0)
        xml.SubElement(made, "geom", {"class": "visual", "mesh": body.name, "rgba": color})
    friction = _text(body.item.material.friction, _SPIN, _ROLL)
    for name in (Path(path).stem for path in body.parts):
        geom = {"class": "collision", "name": name, "mesh": name}
        xml.SubElement(made, "geom", geom, friction=friction)
    for child in children_of(bodies, body.item.id):
        _body(made, child, bodies)


def _drawable(body: Body) -> bool:
    """Whether there is a surface, and one that MuJoCo takes: it refuses fewer than four vertices."""
    return body.shape is not None and len(body.shape.mesh.vertices.unique(dim=0)) >= 4


def _joint(made: xml.Element, body: Body, joint: Joint) -> None:
    """The joint as it stands: `ref` is the position at which the body has its pose."""
    kind = "hinge" if joint.kind == "revolute" else "slide"
    facts = {"name": body.name, "type": kind, "axis": _text(*joint.axis), "pos": _text(*joint.origin)}
    facts |= {"ref": _text(joint.position), "damping": _text(body.item.material.damping * 0.1)}
    if all(map(math.isfinite, joint.limits)):
        facts["range"] = _text(*joint.limits)
    xml.SubElement(made, "joint", facts)


def _inertial(made: xml.Element, body: Body) -> None:
    i = body.inertia
    rows = (i[0, 0], i[1, 1], i[2, 2], i[0, 1], i[0, 2], i[1, 2])
    facts = {"pos": _text(*body.center.tolist()), "mass": _text(body.mass)}
    xml.SubElement(made, "inertial", facts, fullinertia=_text(*map(float, rows)))


def _exclusions(root: xml.Element, bodies: dict[int, Body]) -> None:
    """What a joint connects may touch: MuJoCo filters that itself unless the parent is fixed to the world."""
    pairs = [body for body in bodies.values() if body.parent is not None]
    if not pairs:
        return
    contact = xml.SubElement(root, "contact")
    for body in pairs:
        assert body.parent is not None
        xml.SubElement(contact, "exclude", body1=bodies[body.parent].name, body2=body.name)


def _actuators(root: xml.Element, bodies: dict[int, Body]) -> None:
    driven = [b for b in bodies.values() if b.item.kind is ObjectKind.ROBOT and b.item.joint is not None]
    if not driven:
        return
    actuator = xml.SubElement(root, "actuator")
    for body in driven:
        assert body.item.joint is not None
        gain = _GAIN * max(1.0, sum(each.mass for each in _carried(body, bodies)))
        facts = {"name": body.name, "joint": body.name, "kp": _text(gain), "dampratio": "1"}
        if all(map(math.isfinite, body.item.joint.limits)):
            facts["ctrlrange"] = _text(*body.item.joint.limits)
        xml.SubElement(actuator, "position", facts)


def _keyframe(root: xml.Element, bodies: dict[int, Body]) -> None:
    """Targets of the actuators that hold robots where they stand."""
    driven = [b for b in bodies.values() if b.item.kind is ObjectKind.ROBOT and b.item.joint is not None]
    positions = [body.item.joint.position for body in driven if body.item.joint is not None]
    if positions:
        keyframe = xml.SubElement(root, "keyframe")
        xml.SubElement(keyframe, "key", name="home", ctrl=_text(*positions))


def _carried(body: Body, bodies: dict[int, Body]) -> list[Body]:
    """A body and all that is mounted on it."""
    return [
        body,
        *(each for child in children_of(bodies, body.item.id) for each in _carried(child, bodies)),
    ]


def _camera(scene: xml.Element, camera: Camera, name: str) -> None:
    """MuJoCo looks along -z with +y up in the picture; its principal point is the picture's middle."""
    pose = camera.world_from_camera.double()
    axes = [*pose[:3, 0].tolist(), *(-pose[:3, 1]).tolist()]
    fovy = 2 * math.degrees(math.atan(camera.height / 2 / float(camera.K[1, 1])))
    facts = {"name": name, "pos": _text(*pose[:3, 3].tolist()), "xyaxes": _text(*axes)}
    facts["resolution"] = f"{camera.width} {camera.height}"
    xml.SubElement(scene, "camera", facts, fovy=_text(fovy))


def _some(cameras: tuple[Camera, ...], count: int) -> list[Camera]:
    if not cameras or count < 1:
        return []
    rows = np.unique(np.linspace(0, len(cameras) - 1, min(count, len(cameras))).round().astype(int))
    return [cameras[i] for i in rows]


def _lowest(bodies: dict[int, Body]) -> float:
    """[m] height of the lowest point of all surfaces."""
    heights = []
    for body in bodies.values():
        if body.shape is None:
            continue
        pose = body.item.world_from_object.double()
        vertices = [part.vertices for part in body.shape.parts] or [body.shape.mesh.vertices]
        heights.append(float((torch.cat(vertices).double() @ pose[2, :3] + pose[2, 3]).min()))
    return min(heights)


def _text(*values: float) -> str:
    return " ".join(f"{value:.9g}" for value in values)
