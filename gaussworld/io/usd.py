"""USD with UsdVol.ParticleField3DGaussianSplat (`.usda`, `.usdc`, `.usd`, `.usdz`): a prim an object."""

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import FileFormatError
from ..gaussians import Gaussians
from ..object_record import record_of
from ..pose import pose7_from_pose, pose_from
from ..sh import MAX_DEGREE, coefficient_count
from ..world import World
from .framing import Framing
from .linear import gaussians_from, linear_from, shown
from .scene_nodes import (
    OURS,
    Frame,
    Node,
    facts_of,
    frame_from,
    local_poses,
    nothing,
    record_from_text,
    turned_up,
    world_from_nodes,
    world_of,
)
from .usd_physics import shape_of, write_physics
from .usd_stage import SPLATS, export, opened, pxr, quiet

logger = logging.getLogger(__name__)

#: How the prim that holds an object's Gaussians is called below the object's.
PART = "gaussians"
_ROOT = "World"
_UP = {"Y": (0.0, 1.0, 0.0), "Z": (0.0, 0.0, 1.0)}
#: How far out a Gaussian is taken to reach, in standard deviations, for the extent that viewers frame.
_REACH, _FARTHEST = 3.0, float(np.finfo(np.float32).max)


def read(path: Path) -> Gaussians:
    """What is shown, each with its object's id: in our files in the world's frame, else in the stage's.

    Raises:
        FileFormatError: as `read_world`.
        MissingDependency: as `read_world`.
    """
    return read_world(path).posed().shown()


def read_framing(path: Path) -> Framing:
    """What our facts, or the stage's upAxis and metersPerUnit where somebody has set them, say of the frame.

    Raises:
        FileFormatError: not a USD file.
        MissingDependency: usd-core is not installed.
    """
    with opened(path) as stage:
        return _frame(stage, path).framing


def read_world(path: Path) -> World:
    """One object for each ParticleField3DGaussianSplat; kinds, joints and materials come back from our files.

    Attributes that are absent or too short have the schema's defaults, longer ones are cut, and half floats
    serve where there are no floats, as the schema says. Of time samples the values without a time are read,
    else the first.

    Raises:
        FileFormatError: not USD, broken, no Gaussians in it, files beside it that lie outside its folder,
            numbers that are not finite or out of range, or a prim that shears or mirrors.
        MissingDependency: usd-core is not installed, or too old to know the schema.
    """
    with opened(path) as stage:
        return world_from_nodes(_nodes(stage, path), _frame(stage, path), path)


def write(gaussians: Gaussians, path: Path, framing: Framing) -> None:
    """Write the Gaussians that are not deleted, one prim for each object id, all at the origin.

    Raises:
        ValueError: as `write_world`.
        MissingDependency: as `write_world`.
    """
    with new_stage(world_of(gaussians, framing), facts_of(framing), path):
        pass


def write_world(world: World, path: Path) -> None:
    """Write a world: below /World, in the world's own frame and unit, a prim for each object.

    Shapes are meshes and colliders, with masses, friction and joints, so that a simulator can run the stage.
    Hidden objects are there and marked invisible. Cameras and Gaussians that are deleted or hidden one by
    one are not written.

    Raises:
        ValueError: a number is not finite, or a scale beyond float32.
        GaussWorldError: the file system refuses.
        MissingDependency: usd-core is not installed, or too old to know the schema.
    """
    framing = Framing(None, world.up, world.metres_per_unit)
    with new_stage(world, facts_of(framing, world.world_from_source), path):
        pass


@contextmanager
def new_stage(world: World, facts: Mapping[str, Any], path: Path) -> Iterator[tuple[Any, dict[int, Any]]]:
    """A stage with the world in it and the prims of its objects by id; it becomes the file when all is well.

    Raises:
        ValueError: a number is not finite, or a scale beyond float32.
        GaussWorldError: the file system refuses.
        MissingDependency: usd-core is not installed, or too old to know the schema.
    """
    with quiet(path):
        stage = pxr().Usd.Stage.CreateInMemory()
        root = pxr().UsdGeom.Xform.Define(stage, f"/{_ROOT}")
        stage.SetDefaultPrim(root.GetPrim())
        axis = "Y" if world.up == _UP["Y"] else "Z"
        pxr().UsdGeom.SetStageUpAxis(stage, axis)
        pxr().UsdGeom.SetStageMetersPerUnit(stage, world.metres_per_unit or 1.0)
        set_pose(root, pose_from(turned_up(world.up, _UP[axis]), torch.zeros(3, dtype=torch.float64)))
        _state(root.GetPrim(), "world", facts)
        prims = _objects(stage, world, path)
        write_physics(stage, world, prims)
        yield stage, prims
        export(stage, path)


def set_pose(prim: Any, pose: Float[Tensor, "4 4"], time: float | None = None) -> None:
    """Give a prim a rigid pose as a translation and a quaternion, which USD interpolates along the arc.

    Args:
        prim: a UsdGeom.Xformable.
        pose: in its parent's frame.
        time: the time code of a sample; None for the value without a time.
    """
    ops = prim.GetOrderedXformOps()
    if not ops:
        double = pxr().UsdGeom.XformOp.PrecisionDouble
        ops = [prim.AddTranslateOp(double), prim.AddOrientOp(double)]
    at = pxr().Usd.TimeCode.Default() if time is None else pxr().Usd.TimeCode(time)
    x, y, z, w, i, j, k = pose7_from_pose(pose.double()).tolist()
    ops[0].Set(pxr().Gf.Vec3d(x, y, z), at)
    ops[1].Set(pxr().Gf.Quatd(w, pxr().Gf.Vec3d(i, j, k)), at)


def set_splats(prim: Any, gaussians: Gaussians, path: Path, time: float | None = None) -> None:
    """Give a splat prim its attributes; at a time, only what a deformation changes.

    Args:
        prim: a UsdVol.ParticleField3DGaussianSplat.
        gaussians: in the prim's frame.
        path: the file, for messages.
        time: the time code of a sample of positions and orientations; None for all without a time.
    """
    linear = linear_from(gaussians, path)
    at = pxr().Usd.TimeCode.Default() if time is None else pxr().Usd.TimeCode(time)
    positions, scales = linear["positions"], linear["scales"]
    prim.CreatePositionsAttr().Set(pxr().Vt.Vec3fArray.FromNumpy(positions), at)
    # Vt keeps a quaternion's imaginary part first, as glTF does.
    prim.CreateOrientationsAttr().Set(pxr().Vt.QuatfArray.FromNumpy(linear["rotations"]), at)
    reach = _REACH * scales.max(axis=1, keepdims=True).astype(np.float64)
    extent = np.stack([(positions - reach).min(0), (positions + reach).max(0)])
    extent = np.clip(extent, -_FARTHEST, _FARTHEST).astype(np.float32)
    prim.CreateExtentAttr().Set(pxr().Vt.Vec3fArray.FromNumpy(extent), at)
    if time is not None:
        return
    prim.CreateScalesAttr().Set(pxr().Vt.Vec3fArray.FromNumpy(scales))
    prim.CreateOpacitiesAttr().Set(pxr().Vt.FloatArray.FromNumpy(linear["opacities"]))
    flat = np.ascontiguousarray(linear["sh"].reshape(-1, 3))
    prim.CreateRadianceSphericalHarmonicsDegreeAttr().Set(gaussians.sh_degree)
    prim.CreateRadianceSphericalHarmonicsCoefficientsAttr().Set(pxr().Vt.Vec3fArray.FromNumpy(flat))
    prim.CreateProjectionModeHintAttr().Set("perspective")
    prim.CreateSortingModeHintAttr().Set("zDepth")


def splats_of(stage: Any, prim: Any) -> Any:
    """The splat prim below an object's prim; an invalid one where the object has no Gaussians."""
    return pxr().UsdVol.ParticleField3DGaussianSplat(stage.GetPrimAtPath(prim.GetPath().AppendChild(PART)))


def objects_of(stage: Any) -> Iterator[tuple[Any, dict[str, Any]]]:
    """The prims that are objects of ours, and their records, in the world's order.

    Raises:
        FileFormatError: a record is no JSON object.
    """
    found = []
    for prim in stage.Traverse():
        text = prim.GetCustomDataByKey(f"{OURS}:object")
        if text is not None:
            place = prim.GetCustomDataByKey(f"{OURS}:place")
            record = record_from_text(text, f"{stage.GetRootLayer().realPath}: prim {prim.GetPath()}")
            found.append((place if isinstance(place, int) else len(found), prim, record))
    yield from ((prim, record) for _, prim, record in sorted(found, key=lambda each: each[0]))


def _frame(stage: Any, path: Path) -> Frame:
    for prim in stage.GetPseudoRoot().GetChildren():
        if (text := prim.GetCustomDataByKey(f"{OURS}:world")) is not None:
            where = f"{path}: prim {prim.GetPath()}"
            return frame_from(record_from_text(text, where), _matrices(stage)(prim), where)
    geom, up, unit = pxr().UsdGeom, None, None
    if geom.StageHasAuthoredMetersPerUnit(stage):
        unit = float(geom.GetStageMetersPerUnit(stage))
    if stage.HasAuthoredMetadata(geom.Tokens.upAxis):
        up = _UP.get(str(geom.GetStageUpAxis(stage)))
    if unit is not None and not 0 < unit < float("inf"):
        raise FileFormatError(f"{path}: expected positive metersPerUnit, got {unit}")
    return Frame(Framing(None, up, unit))


def _matrices(stage: Any) -> Callable[[Any], Tensor]:
    """A function from a prim to its matrix in the stage (float64), for column vectors as everywhere here."""
    cache = pxr().UsdGeom.XformCache()

    def matrix(prim: Any) -> Tensor:
        # Gf multiplies row vectors from the left.
        return torch.from_numpy(np.array(cache.GetLocalToWorldTransform(prim)).T.copy())

    return matrix


def _nodes(stage: Any, path: Path) -> list[Node]:
    """Our objects in their order, then prims of Gaussians that are none of ours."""
    matrix, parts = _matrices(stage), set()
    found: list[tuple[Any, Node]] = []
    for prim, record in objects_of(stage):
        part = splats_of(stage, prim)
        parts.add(prim.GetPath().AppendChild(PART))
        gaussians = _gaussians(part, f"{path}: prim {part.GetPath()}") if part else nothing()
        shape = shape_of(stage, prim, f"{path}: prim {prim.GetPath()}")
        found.append((prim, Node(prim.GetName(), matrix(prim), gaussians, None, record, shape=shape)))
    ours = False
    for prim in pxr().Usd.PrimRange.Stage(stage, pxr().Usd.TraverseInstanceProxies()):
        ours = ours or prim.GetCustomDataByKey(f"{OURS}:world") is not None
        if prim.GetTypeName() == SPLATS and prim.GetPath() not in parts:
            part = pxr().UsdVol.ParticleField3DGaussianSplat(prim)
            gaussians = _gaussians(part, f"{path}: prim {prim.GetPath()}")
            hidden = str(part.ComputeVisibility()) == "invisible"
            found.append((prim, Node(_name(prim), matrix(prim), gaussians, hidden=hidden)))
    if not found and not ours:
        raise FileFormatError(f"{path}: expected prims of {SPLATS}, got a stage without any; export one")
    rows = {prim.GetPath(): row for row, (prim, _) in enumerate(found)}
    return [replace(node, parent=_row_above(prim, rows)) for prim, node in found]


def _row_above(prim: Any, rows: Mapping[Any, int]) -> int | None:
    above = prim.GetParent()
    while above and above.GetPath() not in rows:
        above = above.GetParent()
    return rows[above.GetPath()] if above else None


def _name(prim: Any) -> str:
    """A prim's name; that of the one above where it is only called what every such prim is called."""
    above = prim.GetParent()
    plain = prim.GetName().lower() in (PART, "splat", "splats", "gaussian", "particlefield")
    return above.GetName() if plain and above and not above.IsPseudoRoot() else prim.GetName()


def _gaussians(prim: Any, where: str) -> Gaussians:
    """The attributes of a splat prim, under the rules of the schema's documentation."""
    positions = _array(prim, "positions", 3, where)
    n = 0 if positions is None else len(positions)
    if positions is None or n == 0:
        return nothing()
    degree = prim.GetRadianceSphericalHarmonicsDegreeAttr().Get()
    sh_name = "radiance:sphericalHarmonicsCoefficients"
    if not isinstance(degree, int) or degree < 0:
        raise FileFormatError(f"{where}: expected an SH degree of 0 or more, got {degree!r:.40}")
    count = coefficient_count(degree)
    sh = _rows(_array(prim, sh_name, 3, where), n * count, sh_name, where)
    sh = np.zeros((n, 1, 3), np.float32) if sh is None else sh.reshape(n, count, 3)
    if degree > MAX_DEGREE:
        logger.warning("%s: SH above degree %d is left out (there was %d)", where, MAX_DEGREE, degree)
        sh = sh[:, : coefficient_count(MAX_DEGREE)]
    rotations = _rows(_array(prim, "orientations", 4, where), n, "orientations", where)
    scales = _rows(_array(prim, "scales", 3, where), n, "scales", where)
    opacities = _rows(_array(prim, "opacities", 1, where), n, "opacities", where)
    identity = np.array([[0, 0, 0, 1]], np.float32)
    linear = {
        "positions": positions,
        "rotations": np.repeat(identity, n, axis=0) if rotations is None else rotations,
        "scales": np.ones((n, 3), np.float32) if scales is None else scales,
        "opacities": np.ones(n, np.float32) if opacities is None else opacities[:, 0],
        "sh": sh,
    }
    return gaussians_from(linear, where)


def _array(prim: Any, name: str, width: int, where: str) -> np.ndarray | None:
    """An attribute as float32 rows: the float one, else the half one; None where neither has a value."""
    for spelling in (name, f"{name}h"):
        attribute = prim.GetPrim().GetAttribute(spelling)
        value = attribute.Get() if attribute else None
        if value is None and attribute and (times := attribute.GetTimeSamples()):
            value = attribute.Get(times[0])
        if value is not None:
            array = np.array(value, dtype=np.float32)
            if array.size % width:
                raise FileFormatError(f"{where}: expected {spelling} in rows of {width}, got {array.shape}")
            return array.reshape(-1, width)
    return None


def _rows(array: np.ndarray | None, wanted: int, name: str, where: str) -> np.ndarray | None:
    """As many rows as there should be; longer arrays are cut, shorter ones count as absent."""
    if array is None or len(array) >= wanted:
        return None if array is None else array[:wanted]
    logger.warning("%s: %s has %d of %d values and is left out, as USD asks", where, name, len(array), wanted)
    return None


def _state(prim: Any, kind: str, facts: Mapping[str, Any]) -> None:
    """Our facts as customData: as JSON, whose numbers and texts come back exactly."""
    prim.SetCustomDataByKey(f"{OURS}:{kind}", json.dumps(facts, allow_nan=False))


def _objects(stage: Any, world: World, path: Path) -> dict[int, Any]:
    """A prim for each object below its parent's, and one for its Gaussians below that."""
    prims, local, paths = {}, local_poses(world), _prim_paths(world)
    for place, (number, item) in enumerate(world.objects.items()):
        prims[number] = pxr().UsdGeom.Xform.Define(stage, paths[number])
        prim = prims[number].GetPrim()
        prim.SetDisplayName(_text(item.name))
        set_pose(prims[number], local[number])
        _state(prim, "object", record_of(item))
        prim.SetCustomDataByKey(f"{OURS}:place", place)
        prim.SetCustomDataByKey(f"{OURS}:kind", item.kind.value)
        if len(gaussians := shown(item.gaussians)):
            part = pxr().UsdVol.ParticleField3DGaussianSplat.Define(stage, f"{paths[number]}/{PART}")
            set_splats(part, gaussians, path)
            if item.hidden:
                part.CreateVisibilityAttr().Set("invisible")
    return prims


def _text(name: str) -> str:
    """What can be stored as UTF-8: half of a surrogate pair cannot."""
    return name.encode("utf-8", "replace").decode("utf-8")


def _prim_paths(world: World) -> dict[int, str]:
    """By object id, where its prim is: below its parent's, under a valid name that no other object has."""
    names, taken = {}, {PART}
    for number, item in world.objects.items():
        name = re.sub(r"[^A-Za-z0-9]+", "_", item.name).strip("_") or "object"
        name = f"_{name}" if name[0].isdigit() else name
        if name in taken:
            name = f"{name}_{number}"
        while name in taken:
            name += "_"
        taken.add(name)
        names[number] = name
    paths = {}
    for number in names:
        above, chain = number, list[str]()
        while above is not None:
            chain.append(names[above])
            above = world.objects[above].parent
        paths[number] = "/".join(["", _ROOT, *reversed(chain)])
    return paths
