"""URDF files: read into a `Robot`, with every wrong thing named in one sentence."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import FileFormatError
from ..pose import pose_from
from ..surface import Paint, Surface, box, cylinder, load_surface, sphere
from ..world_object import Vector
from .model import Link, LinkJoint, Mimic, Piece, Robot
from .places import candidates

logger = logging.getLogger(__name__)

#: What to do where a file of a mesh is not found.
Missing = Literal["refuse", "substitute"]
_KINDS = ("revolute", "continuous", "prismatic", "fixed")
_LOOSE = ("floating", "planar")


def load_robot(
    path: Path | str, package_paths: Sequence[Path | str] = (), *, missing: Missing = "refuse"
) -> Robot:
    """Read a URDF with its meshes.

    Args:
        path: the file.
        package_paths: folders that hold the ROS packages which `package://` names; sought before
            ROS_PACKAGE_PATH and the folders above the URDF.
        missing: refuse, or go on without the elements whose meshes are not there: then a link shows its
            collision geometry, or nothing.

    Raises:
        FileFormatError: no such file, no URDF, no tree of links, meshes that are not there (all are
            named, with where they were sought), or a mesh that cannot be read.
        MissingDependency: a .dae mesh without pycollada.
    """
    path = Path(path)
    root = _root(path)
    reader = _Reader(path, [Path(each) for each in package_paths], _materials(root, path))
    links = {_name(each, path): reader.link(each) for each in root.findall("link")}
    if reader.absent and missing == "refuse":
        raise FileFormatError(_absent(path, reader.absent))
    if reader.absent:
        reader.notices.append(_absent(path, reader.absent))
    joints = [reader.joint(each) for each in root.findall("joint")]
    _warn_of_losses(root, joints, path)
    return Robot(root.get("name") or path.stem, *_sorted(links, joints, path), tuple(reader.notices))


def _root(path: Path) -> Element:
    if not path.is_file():
        raise FileFormatError(f"{path}: expected a URDF file, got no such file")
    try:
        root = ElementTree.fromstring(path.read_bytes())
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise FileFormatError(f"{path}: expected a URDF, got XML that is broken ({error})") from error
    if root.tag != "robot":
        raise FileFormatError(f"{path}: expected a URDF with <robot> at its root, got <{root.tag:.40}>")
    if any("ros.org" in each.tag and "xacro" in each.tag for each in root.iter()):
        raise FileFormatError(
            f"{path}: expected a plain URDF, got xacro macros; expand them: `xacro in.urdf.xacro > out.urdf`"
        )
    return root


def _warn_of_losses(root: Element, joints: Sequence[LinkJoint], path: Path) -> None:
    """What the file says that worlds have no place for."""
    if root.find("link/inertial/inertia") is not None:
        logger.warning(
            "%s: its inertia tensors are not kept: exports work them out of each link's shape and mass", path
        )
    if coupled := [joint.name for joint in joints if joint.mimic is not None]:
        names = ", ".join(coupled)
        logger.warning("%s: worlds keep no coupling of joints: there %s can move alone", path, names)


def _absent(path: Path, absent: Mapping[str, Sequence[Path]]) -> str:
    names = "; ".join(
        f"{name} (sought at {', '.join(map(str, list(places)[:4]))}{', ...' if len(places) > 4 else ''})"
        for name, places in absent.items()
    )
    return (
        f"{path}: expected the mesh files it names, got {len(absent)} that are not there: {names}; say where"
        " the packages are (package path), or go on without them (missing meshes: substitute)"
    )


def _sorted(
    links: Mapping[str, Link], joints: Sequence[LinkJoint], path: Path
) -> tuple[tuple[Link, ...], tuple[LinkJoint, ...]]:
    """Links with each after its parent, depth first, and the joints in the same order."""
    if not links:
        raise FileFormatError(f"{path}: expected links, got none")
    above: dict[str, LinkJoint] = {}
    for joint in joints:
        for name in (joint.parent, joint.child):
            if name not in links:
                raise FileFormatError(f"{path}: joint {joint.name}: expected a link, got {name!r:.80}")
        if joint.child in above:
            other = above[joint.child].name
            raise FileFormatError(
                f"{path}: link {joint.child}: expected one joint above it, got {other} and {joint.name}"
            )
        above[joint.child] = joint
    bases = [name for name in links if name not in above]
    if len(bases) != 1:
        got = f"{len(bases)} ({', '.join(bases[:8])})" if bases else "a loop"
        raise FileFormatError(f"{path}: expected a tree of links with one base, got {got}")
    below: dict[str, list[LinkJoint]] = {}
    for joint in joints:
        below.setdefault(joint.parent, []).append(joint)
    order: list[LinkJoint] = []
    waiting = [*reversed(below.get(bases[0], []))]
    while waiting:
        joint = waiting.pop()
        order.append(joint)
        waiting += reversed(below.get(joint.child, []))
    if len(order) != len(joints):
        lost = ", ".join(sorted(set(links) - {bases[0]} - {joint.child for joint in order})[:8])
        raise FileFormatError(f"{path}: expected a tree of links, got a loop through {lost}")
    _check_mimics(order, path)
    return (links[bases[0]], *(links[joint.child] for joint in order)), tuple(order)


def _check_mimics(joints: Sequence[LinkJoint], path: Path) -> None:
    named = {joint.name: joint for joint in joints}
    if len(named) != len(joints):
        raise FileFormatError(f"{path}: expected a name of its own for every joint, got one twice")
    for joint in joints:
        chain, each = [joint.name], joint
        while each.mimic is not None:
            followed = named.get(each.mimic.joint)
            if followed is None or followed.kind == "fixed" or followed.name in chain:
                raise FileFormatError(
                    f"{path}: joint {joint.name}: expected to mimic a joint that moves, got"
                    f" {each.mimic.joint!r:.80}"
                )
            chain.append(followed.name)
            each = followed


@dataclass
class _Reader:
    """What the elements of one file share."""

    path: Path
    package_paths: Sequence[Path]
    materials: Mapping[str, Paint]
    absent: dict[str, list[Path]] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    loaded: dict[Path, Surface] = field(default_factory=dict)

    def link(self, element: Element) -> Link:
        name = _name(element, self.path)
        where = f"{self.path}: link {name}"
        visual, collision = (
            tuple(
                piece
                for each in element.findall(tag)
                if (piece := self.piece(each, f"{where}: {tag}")) is not None
            )
            for tag in ("visual", "collision")
        )
        inertial, mass = element.find("inertial"), element.find("inertial/mass")
        origin = element.find("inertial/origin")
        # Without <origin> the centre is the link's own origin.
        center = None if inertial is None else (0.0, 0.0, 0.0)
        if origin is not None:
            center = _numbers(origin, "xyz", (0.0, 0.0, 0.0), where)
        return Link(name, visual, collision, None if mass is None else _number(mass, "value", where), center)

    def piece(self, element: Element, where: str) -> Piece | None:
        geometry = element.find("geometry")
        shapes = [] if geometry is None else list(geometry)
        if len(shapes) != 1:
            raise FileFormatError(f"{where}: expected one geometry, got {len(shapes)}")
        surface = self.surface(shapes[0], where)
        if surface is None:
            return None
        paint = self.paint(element.find("material"), where)
        # A material in the URDF is for meshes that have no colours of their own.
        if paint is not None and surface.plain:
            surface = Surface(surface.mesh, (paint,))
        return Piece(surface, _origin(element, where), shapes[0].tag != "mesh")

    def surface(self, shape: Element, where: str) -> Surface | None:
        if shape.tag == "box":
            return box(_sizes(_numbers(shape, "size", None, where), f"{where}: size"))
        if shape.tag == "cylinder":
            sizes = (_number(shape, "radius", where), _number(shape, "length", where), 1.0)
            return cylinder(*_sizes(sizes, f"{where}: radius and length")[:2])
        if shape.tag == "sphere":
            return sphere(_sizes((_number(shape, "radius", where), 1.0, 1.0), f"{where}: radius")[0])
        if shape.tag == "mesh":
            return self.mesh(shape, where)
        raise FileFormatError(f"{where}: expected a box, cylinder, sphere or mesh, got <{shape.tag:.40}>")

    def mesh(self, shape: Element, where: str) -> Surface | None:
        name = shape.get("filename")
        if not name:
            raise FileFormatError(f"{where}: expected a mesh with a filename, got none")
        scale = _numbers(shape, "scale", (1.0, 1.0, 1.0), where)
        if 0 in scale:
            raise FileFormatError(f"{where}: expected a scale other than 0, got {scale}")
        places = candidates(name, self.path, self.package_paths)
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            self.absent[name] = places
            return None
        if found not in self.loaded:
            self.loaded[found] = load_surface(found)
        surface = self.loaded[found]
        return surface if scale == (1.0, 1.0, 1.0) else surface.stretched(scale)

    def paint(self, element: Element | None, where: str) -> Paint | None:
        if element is None:
            return None
        return _paint(element, where) or self.materials.get(element.get("name", ""))

    def joint(self, element: Element) -> LinkJoint:
        name, kind = _name(element, self.path), element.get("type", "")
        where = f"{self.path}: joint {name}"
        if kind in _LOOSE:
            self.notices.append(f"{where}: its kind, {kind}, is read as fixed, in its zero position")
            kind = "fixed"
        if kind not in _KINDS:
            raise FileFormatError(f"{where}: expected a kind among {', '.join(_KINDS)}, got {kind!r:.40}")
        ends = [each.get("link", "") for tag in ("parent", "child") for each in element.findall(tag)]
        if len(ends) != 2:
            raise FileFormatError(f"{where}: expected one parent and one child, got {len(ends)} in all")
        return LinkJoint(
            name, kind, ends[0], ends[1], _origin(element, where),  # pyright: ignore[reportArgumentType]
            (1.0, 0.0, 0.0) if kind == "fixed" else _axis(element, where),
            _limits(element, kind, where), _mimic(element, kind, where),
        )  # fmt: skip


def _materials(root: Element, path: Path) -> dict[str, Paint]:
    """Colours by name, of the whole file: some define them in the first link that uses them."""
    found: dict[str, Paint] = {}
    for element in root.iter("material"):
        paint = _paint(element, f"{path}: material {element.get('name', '')}")
        if paint is not None:
            found.setdefault(element.get("name", ""), paint)
    return found


def _paint(element: Element, where: str) -> Paint | None:
    color = element.find("color")
    if color is None:
        return None
    values = (color.get("rgba") or "").split()
    try:
        r, g, b = (min(max(float(each), 0.0), 1.0) for each in values[:3])
    except ValueError as error:
        raise FileFormatError(f"{where}: expected rgba of 4 numbers, got {values}") from error
    return Paint((r, g, b))


def _origin(element: Element, where: str) -> Float[Tensor, "4 4"]:
    origin = element.find("origin")
    if origin is None:
        return torch.eye(4)
    xyz, rpy = (_numbers(origin, each, (0.0, 0.0, 0.0), where) for each in ("xyz", "rpy"))
    return pose_from(rotation_from_rpy(rpy), torch.tensor(xyz))


def rotation_from_rpy(rpy: Vector) -> Float[Tensor, "3 3"]:
    """The rotation of roll, pitch and yaw [rad]: about the fixed x, then y, then z axis, as URDF has it."""
    (a, b, c), (d, e, f) = (tuple(map(function, rpy)) for function in (math.cos, math.sin))
    rows = [
        [b * c, d * e * c - a * f, a * e * c + d * f],
        [b * f, d * e * f + a * c, a * e * f - d * c],
        [-e, d * b, a * b],
    ]
    return torch.tensor(rows)


def _axis(element: Element, where: str) -> Vector:
    axis = element.find("axis")
    x, y, z = (1.0, 0.0, 0.0) if axis is None else _numbers(axis, "xyz", (1.0, 0.0, 0.0), where)
    length = math.hypot(x, y, z)
    if not length > 0:
        raise FileFormatError(f"{where}: expected an axis of a length above 0, got 0 0 0")
    return x / length, y / length, z / length


def _limits(element: Element, kind: str, where: str) -> tuple[float, float]:
    limit = element.find("limit")
    if kind in ("continuous", "fixed"):
        return -math.inf, math.inf
    if limit is None:
        raise FileFormatError(f"{where}: expected <limit>, because it is {kind}, got none")
    low, high = (_number(limit, each, where, 0.0) for each in ("lower", "upper"))
    if low > high:
        raise FileFormatError(f"{where}: expected lower <= upper limit, got {low:g} and {high:g}")
    return low, high


def _mimic(element: Element, kind: str, where: str) -> Mimic | None:
    mimic = element.find("mimic")
    if mimic is None or kind == "fixed":
        return None
    values = (
        _number(mimic, each, where, default) for each, default in (("multiplier", 1.0), ("offset", 0.0))
    )
    return Mimic(mimic.get("joint", ""), *values)


def _name(element: Element, path: Path) -> str:
    name = element.get("name")
    if not name:
        raise FileFormatError(f"{path}: expected a name for every {element.tag}, got none")
    return name


def _number(element: Element, key: str, where: str, default: float | None = None) -> float:
    text = element.get(key)
    if text is None and default is not None:
        return default
    try:
        value = float(text or "")
    except ValueError as error:
        raise FileFormatError(f"{where}: {key}: expected a number, got {text!r:.40}") from error
    if not math.isfinite(value):
        raise FileFormatError(f"{where}: {key}: expected a finite number, got {value}")
    return value


def _numbers(element: Element, key: str, default: Vector | None, where: str) -> Vector:
    text = element.get(key)
    if text is None and default is not None:
        return default
    try:
        x, y, z = (float(each) for each in (text or "").split())
    except ValueError as error:
        raise FileFormatError(f"{where}: {key}: expected 3 numbers, got {text!r:.80}") from error
    if not all(map(math.isfinite, (x, y, z))):
        raise FileFormatError(f"{where}: {key}: expected finite numbers, got {text!r:.80}")
    return x, y, z


def _sizes(sizes: Vector, where: str) -> Vector:
    if not min(sizes) > 0:
        raise FileFormatError(f"{where}: expected positive sizes, got {sizes}")
    return sizes
