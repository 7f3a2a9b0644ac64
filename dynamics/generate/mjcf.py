"""`SimScene` to MuJoCo: bodies, convex collision parts, painted meshes, lamps and a room."""

import os
import sys
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

from gaussworld.errors import BackendUnavailable, MissingDependency
from gaussworld.pose import quats_from_rotation
from gaussworld.world_object import Joint, ObjectKind

from . import forms
from .forms import Piece, box
from .scene import SceneObject, SceneState, SimScene
from .textures import Look, painted

#: Geoms of this group are drawn; those that only collide are in the other.
DRAWN, COLLIDING = 0, 3
#: (contype, conaffinity): what moves on a joint meets loose things only, never what it is mounted on.
_MEETS = {
    ObjectKind.STATIC: (1, 1),
    ObjectKind.RIGID: (1, 3),
    ObjectKind.ARTICULATED: (2, 0),
    ObjectKind.ROBOT: (2, 0),
}
_CAMERA = "camera"
_ROOM_TEXEL = 0.008
"""[m]"""
TIMESTEP = 0.002
"""[s]"""


def mujoco_module() -> Any:
    """The package, or how to get it; where it finds no OpenGL library it simulates, and does not draw.

    Raises:
        MissingDependency: it is not installed.
        BackendUnavailable: it cannot be imported even so.
    """
    # MuJoCo reads this once, when it is first imported; elsewhere it finds its own way.
    if sys.platform.startswith("linux"):
        os.environ.setdefault("MUJOCO_GL", "egl")
    try:
        import mujoco
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"expected mujoco to simulate scenes, found no {error.name}; run `pip install 'gaussworld[sim]'`"
        ) from error
    except Exception as error:  # What it imports for OpenGL raises anything from OSError to AttributeError.
        _missing.append(error)
        os.environ["MUJOCO_GL"] = "disable"
        try:
            import mujoco
        except Exception:
            raise no_opengl(error) from error
    return mujoco


def why_not_drawn(error: Exception) -> BackendUnavailable:
    """What to say when a renderer cannot be had: the first complaint about OpenGL there was."""
    return no_opengl(_missing[0] if _missing else error)


#: What OpenGL's absence raised when mujoco was first imported.
_missing: list[Exception] = []


def no_opengl(error: Exception) -> BackendUnavailable:
    """What to say when nothing can be drawn off screen."""
    return BackendUnavailable(
        f"expected OpenGL that draws off screen, got: {error}; install EGL (apt-get install libegl1"
        " libegl-mesa0 libgl1-mesa-dri), and set MUJOCO_GL=egl before mujoco is imported"
    )


def compiled(scene: SimScene, drawn: bool = True) -> Any:
    """MuJoCo's model of a scene.

    Args:
        scene: what is in it.
        drawn: with painted surfaces and lamps; settling needs none.

    Raises:
        MissingDependency: mujoco is not installed.
    """
    return spec_of(scene, drawn).compile()


def empty_spec() -> Any:
    """MuJoCo's description of nothing yet, with the settings of all our scenes."""
    mujoco = mujoco_module()
    spec = mujoco.MjSpec()
    spec.modelname = "gaussworld"
    spec.compiler.inertiafromgeom = mujoco.mjtInertiaFromGeom.mjINERTIAFROMGEOM_FALSE
    spec.compiler.degree = False
    spec.option.timestep = TIMESTEP
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = 10
    return spec


def spec_of(scene: SimScene, drawn: bool = True) -> Any:
    """MuJoCo's editable description of a scene; `to_xml` of it is the MJCF."""
    spec = empty_spec()
    for item in scene.objects:
        _add_body(spec, item, drawn)
    if drawn:
        add_room(spec, scene)
        add_lamps(spec, scene)
    return spec


def _add_body(spec: Any, item: SceneObject, drawn: bool) -> None:
    # What has a joint hangs in the world too, not in its parent: `place` puts both where they belong.
    body = spec.worldbody.add_body(name=body_name(item))
    body.mocap = item.joint is None and item.kind is not ObjectKind.RIGID
    if item.kind is ObjectKind.RIGID:
        body.add_freejoint(name=f"{body_name(item)}_free")
    if item.joint is not None:
        _add_joint(body, item, item.joint)
    weigh(body, item)
    _add_parts(spec, body, item)
    if drawn:
        for i, piece in enumerate(item.form.pieces):
            add_painted(spec, body, f"{body_name(item)}_skin{i}", piece, item.look(i))


def _add_parts(spec: Any, body: Any, item: SceneObject) -> None:
    """The convex meshes that collide; they have no weight, because the body's is given."""
    mujoco = mujoco_module()
    contype, conaffinity = _MEETS[item.kind]
    for i, part in enumerate(item.form.shape.parts):
        name = f"{body_name(item)}_part{i}"
        spec.add_mesh(
            name=name,
            uservert=part.vertices.double().numpy().ravel(),
            userface=part.faces.numpy().ravel(),
            inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_CONVEX,
        )
        body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_MESH,
            meshname=name,
            group=COLLIDING,
            contype=contype,
            conaffinity=conaffinity,
            condim=6,
            friction=[item.friction, 0.002, 0.0008],
            solref=[0.006, 1.0],
            mass=0,
        )


def _add_joint(body: Any, item: SceneObject, joint: Joint) -> None:
    mujoco = mujoco_module()
    hinge = joint.kind == "revolute"
    body.add_joint(
        name=f"{body_name(item)}_joint",
        type=mujoco.mjtJoint.mjJNT_HINGE if hinge else mujoco.mjtJoint.mjJNT_SLIDE,
        axis=joint.axis,
        pos=joint.origin,
        limited=mujoco.mjtLimited.mjLIMITED_TRUE,
        range=joint.limits,
        damping=0.5,
        frictionloss=1.0,
    )


def weigh(body: Any, item: SceneObject) -> None:
    """Mass and inertia of the evenly filled surface.

    The second moments are sums over the tetrahedra between the faces and the centre (Blow and Binstock 2004,
    "How to find the inertia tensor, or other mass properties, of a 3D solid body represented by a triangle
    mesh").
    """
    mesh = item.form.shape.mesh
    center = mesh.center_of_mass.double().numpy()
    a, b, c = (mesh.triangles.double().numpy() - center).transpose(1, 0, 2)
    six = np.einsum("fi,fi->f", a, np.cross(b, c))
    corners = np.stack([a, b, c])
    total = corners.sum(0)
    moments = np.einsum("f,kfi,kfj->ij", six, corners, corners) + np.einsum("f,fi,fj->ij", six, total, total)
    second = item.mass / mesh.volume * moments / 120
    inertia = np.trace(second) * np.eye(3) - second
    body.explicitinertial = True
    body.mass = item.mass
    body.ipos = center
    body.fullinertia = inertia[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]]


def add_painted(spec: Any, body: Any, name: str, piece: Piece, look: Look) -> None:
    """A mesh that is drawn and never collides."""
    mujoco = mujoco_module()
    _add_material(spec, name, painted(look, piece.chart.texels()))
    spec.add_mesh(
        name=name,
        uservert=piece.vertices.ravel(),
        usernormal=piece.normals.ravel(),
        usertexcoord=piece.uv.ravel(),
        userface=piece.faces.ravel(),
        inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_CONVEX,
    )
    body.add_geom(
        name=name,
        type=mujoco.mjtGeom.mjGEOM_MESH,
        meshname=name,
        material=name,
        group=DRAWN,
        contype=0,
        conaffinity=0,
        mass=0,
    )


def _add_material(spec: Any, name: str, picture: UInt8[np.ndarray, "h w 3"]) -> None:
    """A matt paint: nothing of it depends on where it is seen from."""
    mujoco = mujoco_module()
    height, width, _ = picture.shape
    texture = spec.add_texture(
        name=name, type=mujoco.mjtTexture.mjTEXTURE_2D, width=width, height=height, nchannel=3
    )
    texture.data = picture.tobytes()
    material = spec.add_material(name=name, specular=0.0, shininess=0.0, reflectance=0.0)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name


def _add_floor(spec: Any, scene: SimScene, look: Look) -> None:
    """A plane on which the table's soft shadows of the lamps without shadow maps are painted."""
    mujoco = mujoco_module()
    wide, deep = scene.room
    texel = _ROOM_TEXEL * forms.COARSER
    across = np.arange(-wide, wide, texel) + texel / 2
    x, y = np.meshgrid(across, across)
    picture = painted(look, np.stack([x, y, np.full_like(x, -deep)], axis=-1))
    dark = np.ones_like(x)
    for lamp in (lamp for lamp in scene.lamps if not lamp.shadow):
        to_lamp = np.subtract(lamp.position, lamp.target)
        shift = -deep * to_lamp[:2] / to_lamp[2]
        inside = [
            1 / (1 + np.exp((np.abs(c - s) - t / 2) / 0.05)) for c, s, t in zip((x, y), shift, scene.table)
        ]
        dark -= lamp.strength * inside[0] * inside[1]
    # The rows of a plane's painting run towards -y.
    _add_material(spec, "floor", (picture * dark[..., None]).round().astype(np.uint8)[::-1].copy())
    spec.worldbody.add_geom(
        name="floor",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=[wide, wide, 1.0],
        pos=[0.0, 0.0, -deep],
        material="floor",
        group=DRAWN,
        contype=0,
        conaffinity=0,
    )


def add_room(spec: Any, scene: SimScene) -> None:
    """Floor and walls, which are the background: something that stands still behind everything."""
    wide, deep = scene.room
    tall, thick = deep + 1.6, 0.05
    middle = tall / 2 - deep
    gray = ((0.62, 0.63, 0.65), (0.70, 0.71, 0.72), (0.56, 0.58, 0.62))
    floor = Look("checker", gray, 0.23, 0.05, 0.03, scene.seed)
    wall = Look(
        "plain", ((0.80, 0.82, 0.84), (0.92, 0.92, 0.90), (0.5, 0.5, 0.5)), 0.6, 0.03, 0.05, scene.seed + 1
    )
    room = spec.worldbody
    _add_floor(spec, scene, floor)
    for i, (x, y) in enumerate(((1, 0), (-1, 0), (0, 1), (0, -1))):
        sides = (thick if x else 2 * wide + 2 * thick, thick if y else 2 * wide)
        at = (x * (wide + thick / 2), y * (wide + thick / 2), middle)
        add_painted(spec, room, f"wall{i}", box(*sides, tall, at, _ROOM_TEXEL), wall)


def add_lamps(spec: Any, scene: SimScene) -> None:
    """Lamps that stay where they are, and the camera that is aimed later."""
    mujoco = mujoco_module()
    dark = [0.0, 0.0, 0.0]
    spec.visual.headlight.active = 1
    spec.visual.headlight.ambient = [scene.ambient] * 3
    spec.visual.headlight.diffuse, spec.visual.headlight.specular = dark, dark
    for i, lamp in enumerate(scene.lamps):
        spec.worldbody.add_light(
            name=f"lamp{i}",
            type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
            pos=lamp.position,
            dir=np.subtract(lamp.target, lamp.position),
            diffuse=[lamp.strength] * 3,
            ambient=dark,
            specular=dark,
            castshadow=lamp.shadow,
        )
    spec.visual.quality.shadowsize = 4096
    spec.visual.quality.offsamples = 0
    spec.visual.map.znear, spec.visual.map.zfar = 0.05, 12.0
    # Just wide enough for the table: farther out the map leaves stripes on the floor, which shades itself.
    spec.visual.map.shadowclip = 0.78 * max(scene.table)
    spec.stat.extent, spec.stat.center = 1.0, [0.0, 0.0, 0.0]
    spec.worldbody.add_camera(name=_CAMERA)


def place(model: Any, data: Any, scene: SimScene, state: SceneState) -> None:
    """Put everything where a state says, at rest, and bring positions up to date."""
    mujoco = mujoco_module()
    data.qvel[:] = 0
    for item in scene.objects:
        pose7 = pose7_of(state.poses[item.id])
        body = model.body(body_name(item))
        if item.kind is ObjectKind.RIGID:
            start = model.joint(f"{body_name(item)}_free").qposadr[0]
            data.qpos[start : start + 7] = pose7
        elif item.joint is None:
            data.mocap_pos[body.mocapid[0]], data.mocap_quat[body.mocapid[0]] = pose7[:3], pose7[3:]
        else:
            model.body_pos[body.id], model.body_quat[body.id] = pose7[:3], pose7[3:]
            joint = model.joint(f"{body_name(item)}_joint")
            data.qpos[joint.qposadr[0]] = state.positions.get(item.id, 0.0)
    mujoco.mj_forward(model, data)


def body_pose(data: Any, item: SceneObject) -> Float[np.ndarray, "4 4"]:
    """`world_from_object` [m] as simulated."""
    body = data.body(body_name(item))
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = body.xmat.reshape(3, 3), body.xpos
    return pose


def object_of_geom(model: Any, scene: SimScene) -> Int[np.ndarray, " g"]:
    """The object id of every geom; 0 for the room."""
    ids = {body_name(item): item.id for item in scene.objects}
    return np.array([ids.get(model.body(body).name, 0) for body in model.geom_bodyid], dtype=np.int64)


def pose7_of(pose: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "7"]:
    """Position [m] and wxyz quaternion of a pose."""
    return np.concatenate([pose[:3, 3], quats_from_rotation(torch.from_numpy(pose[:3, :3].copy())).numpy()])


def body_name(item: SceneObject) -> str:
    """What an object's body, and the names of what is in it begin with, are called in a model."""
    return f"{item.id:02d}_{item.name.replace(' ', '_')}"
