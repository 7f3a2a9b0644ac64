"""What simulators need of a USD stage (UsdPhysics): surfaces, colliders, masses, friction and joints."""

import logging
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import FileFormatError
from ..pose import invert_pose, pose7_from_pose
from ..shape import Mesh, Shape
from ..world import World
from ..world_object import Material, ObjectKind, WorldObject
from .usd_stage import pxr

logger = logging.getLogger(__name__)

#: How the prims of an object's shape are called below the object's; the number of a part follows the second.
SURFACE, PART = "surface", "collision"
_GRAVITY = 9.81
_BODIES = (ObjectKind.RIGID, ObjectKind.ARTICULATED)


def write_physics(stage: Any, world: World, prims: Mapping[int, Any]) -> None:
    """Give objects with a shape a surface, colliders, a mass and friction, and articulated ones their joint.

    The surface is a proxy: where splats are drawn it is not, and tools that know no splats draw it alone.
    Parts are guides with convex hulls. Lengths are in the stage's unit, masses in kilograms.

    Args:
        stage: holds the objects.
        world: what they are.
        prims: the UsdGeom.Xform of each.
    """
    shaped = {number: item for number, item in world.objects.items() if item.shape is not None}
    if not shaped:
        return
    root = stage.GetDefaultPrim().GetPath()
    scene = pxr().UsdPhysics.Scene.Define(stage, root.AppendChild("physics"))
    up = world.up or (0.0, 0.0, 1.0)
    scene.CreateGravityDirectionAttr().Set(pxr().Gf.Vec3f(*(-value for value in up)))
    scene.CreateGravityMagnitudeAttr().Set(_GRAVITY / (world.metres_per_unit or 1.0))
    pxr().UsdPhysics.SetStageKilogramsPerUnit(stage, 1.0)
    for number, item in shaped.items():
        _write_shape(stage, prims[number].GetPath(), item)
        if is_body(world, item):
            _write_body(prims[number].GetPrim(), item.material, world.metres_per_unit or 1.0)
        elif item.kind in _BODIES:
            logger.warning(
                "%s: is one body with what it is mounted on in USD; MJCF and URDF keep both", item.name
            )
        if item.kind is ObjectKind.ARTICULATED and is_body(world, item):
            _write_joint(stage, world, item, prims)


def is_body(world: World, item: WorldObject) -> bool:
    """Whether an object moves by itself: UsdPhysics knows no body inside another."""
    above = (world.objects[number] for number in world.ancestors(item))
    return item.kind in _BODIES and not any(each.kind in _BODIES for each in above)


def shape_of(stage: Any, prim: Any, where: str) -> Shape | None:
    """The shape below an object's prim; None where there is none.

    Raises:
        FileFormatError: its numbers are no mesh.
    """
    surface = stage.GetPrimAtPath(prim.GetPath().AppendChild(SURFACE))
    if not surface or surface.GetTypeName() != "Mesh":
        return None
    parts = [
        child for child in prim.GetChildren() if child.GetTypeName() == "Mesh" and _index(child) is not None
    ]
    parts.sort(key=lambda child: _index(child) or 0)
    return Shape(_mesh(surface, where), tuple(_mesh(child, where) for child in parts))


def _index(prim: Any) -> int | None:
    name, _, number = prim.GetName().rpartition("_")
    return int(number) if name == PART and number.isdigit() else None


def _mesh(prim: Any, where: str) -> Mesh:
    mesh = pxr().UsdGeom.Mesh(prim)
    points = np.array(mesh.GetPointsAttr().Get() or [], np.float32).reshape(-1, 3)
    counts = np.array(mesh.GetFaceVertexCountsAttr().Get() or [], np.int64)
    rows = np.array(mesh.GetFaceVertexIndicesAttr().Get() or [], np.int64)
    colors = mesh.GetDisplayColorAttr().Get()
    if (counts != 3).any() or rows.size != 3 * counts.size:
        raise FileFormatError(
            f"{where}: expected triangles in {prim.GetName()}, got other faces; triangulate them"
        )
    shades = (
        None
        if colors is None or len(colors) != len(points)
        else torch.from_numpy(np.array(colors, np.float32))
    )
    try:
        return Mesh(torch.from_numpy(points), torch.from_numpy(rows.reshape(-1, 3)), shades)
    except ValueError as error:
        raise FileFormatError(f"{where}: {error}; export it again") from error


def _write_shape(stage: Any, path: Any, item: WorldObject) -> None:
    assert item.shape is not None
    physics, tokens = pxr().UsdPhysics, pxr().UsdGeom.Tokens
    surface = _write_mesh(stage, path.AppendChild(SURFACE), item.shape.mesh)
    surface.CreatePurposeAttr().Set(tokens.proxy)
    if item.shape.mesh.colors is not None:
        colors = pxr().Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(item.shape.mesh.colors.cpu().numpy()))
        surface.CreateDisplayColorPrimvar(tokens.vertex).Set(colors)
    if item.hidden:
        surface.CreateVisibilityAttr().Set("invisible")
    friction = _friction(stage, path, item.material)
    for number, part in enumerate(item.shape.parts):
        mesh = _write_mesh(stage, path.AppendChild(f"{PART}_{number}"), part)
        mesh.CreatePurposeAttr().Set(tokens.guide)
        physics.CollisionAPI.Apply(mesh.GetPrim())
        physics.MeshCollisionAPI.Apply(mesh.GetPrim()).CreateApproximationAttr().Set(
            physics.Tokens.convexHull
        )
        binding = pxr().UsdShade.MaterialBindingAPI.Apply(mesh.GetPrim())
        binding.Bind(friction, pxr().UsdShade.Tokens.weakerThanDescendants, "physics")


def _write_mesh(stage: Any, path: Any, mesh: Mesh) -> Any:
    prim, vt = pxr().UsdGeom.Mesh.Define(stage, path), pxr().Vt
    points = np.ascontiguousarray(mesh.vertices.detach().cpu().numpy())
    prim.CreatePointsAttr().Set(vt.Vec3fArray.FromNumpy(points))
    prim.CreateFaceVertexCountsAttr().Set(vt.IntArray.FromNumpy(np.full(len(mesh.faces), 3, np.int32)))
    prim.CreateFaceVertexIndicesAttr().Set(vt.IntArray.FromNumpy(mesh.faces.cpu().numpy().reshape(-1).copy()))
    prim.CreateSubdivisionSchemeAttr().Set(pxr().UsdGeom.Tokens.none)
    if len(points):
        prim.CreateExtentAttr().Set(vt.Vec3fArray.FromNumpy(np.stack([points.min(0), points.max(0)])))
    return prim


def _friction(stage: Any, path: Any, material: Material) -> Any:
    made = pxr().UsdShade.Material.Define(stage, path.AppendChild("physics_material"))
    api = pxr().UsdPhysics.MaterialAPI.Apply(made.GetPrim())
    api.CreateStaticFrictionAttr().Set(material.friction)
    api.CreateDynamicFrictionAttr().Set(material.friction)
    api.CreateRestitutionAttr().Set(material.restitution)
    return made


def _write_body(prim: Any, material: Material, metres_per_unit: float) -> None:
    physics = pxr().UsdPhysics
    physics.RigidBodyAPI.Apply(prim)
    mass = physics.MassAPI.Apply(prim)
    # A density is in kilograms per cube of the stage's unit.
    mass.CreateDensityAttr().Set(material.density * metres_per_unit**3)
    if material.volume is not None:
        mass.CreateMassAttr().Set(material.density * material.volume * metres_per_unit**3)
    if material.center_of_mass is not None:
        mass.CreateCenterOfMassAttr().Set(pxr().Gf.Vec3f(*material.center_of_mass))


def _write_joint(stage: Any, world: World, item: WorldObject, prims: Mapping[int, Any]) -> None:
    """The joint of an articulated object, towards what it is mounted on, or towards the world."""
    joint, physics, gf = item.joint, pxr().UsdPhysics, pxr().Gf
    assert joint is not None
    kind = physics.RevoluteJoint if joint.kind == "revolute" else physics.PrismaticJoint
    made = kind.Define(stage, prims[item.id].GetPath().AppendChild("joint"))
    made.CreateAxisAttr().Set("X")
    frame = torch.eye(4, dtype=torch.float64)
    frame[:3, :3] = _turned_to(torch.tensor(joint.axis).double())
    frame[:3, 3] = torch.tensor(joint.origin)
    above = None if item.parent is None else world.objects[item.parent]
    own = item.world_from_object.double()
    outer = own if above is None else invert_pose(above.world_from_object.double()) @ own
    if above is not None:
        made.CreateBody0Rel().SetTargets([prims[above.id].GetPath()])
    made.CreateBody1Rel().SetTargets([prims[item.id].GetPath()])
    for local, pose in ((0, outer @ frame), (1, frame)):
        x, y, z, w, i, j, k = pose7_from_pose(pose).tolist()
        getattr(made, f"CreateLocalPos{local}Attr")().Set(gf.Vec3f(x, y, z))
        getattr(made, f"CreateLocalRot{local}Attr")().Set(gf.Quatf(w, gf.Vec3f(i, j, k)))
    # Where the object stands is the zero of the stage's joint; angles are in degrees there.
    unit = 180 / math.pi if joint.kind == "revolute" else 1.0
    for name, limit in zip(("Lower", "Upper"), joint.limits):
        if math.isfinite(limit):
            getattr(made, f"Create{name}LimitAttr")().Set((limit - joint.position) * unit)


def _turned_to(axis: Tensor) -> Tensor:
    """A rotation that takes +x to an axis."""
    seed = torch.eye(3, dtype=torch.float64)[int(axis.abs().argmin())]
    y = torch.nn.functional.normalize(torch.linalg.cross(seed, axis), dim=0)
    return torch.stack([axis, y, torch.linalg.cross(axis, y)], dim=1)
