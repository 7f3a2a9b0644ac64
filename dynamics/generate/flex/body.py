"""`Flex` to MuJoCo: bodies on sliding joints, elasticity, contacts and paint; and where its vertices are."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ..mjcf import COLLIDING, DRAWN, mujoco_module, pose7_of
from .flex import Flex
from .paint import paint, rope_colors

#: Bits of contype that only elastic things have: what they touch has the first in its conaffinity, and they
#: have the second themselves.
_TOUCHING, _ITSELF = 4, 8
_ITERATIONS = 300
"""The solver's limit; its default is too low for several elastic things in one scene."""
_STIFF = (0.006, 1.0)
"""[s] time constant and damping ratio of contacts."""
_CELLS = 2
"""Cells of the deformation of a soft block along each side."""


def add_flex(spec: Any, flex: Flex, friction: float | None = None, drawn: bool = True) -> None:
    """Put an elastic thing into a scene, after everything that it shall touch.

    Stiffness shows, and can be identified, as follows. A *rope* bends as a discrete elastic rod does, with
    the flexural rigidity E I of its circular section, and stretches by springs of E A / l along its edges.
    Both are integrated implicitly: the sag of a clamped rope is that of Euler and Bernoulli, and a hanging
    one lengthens by rho g L^2 / 2 E. What tracks show is mostly bending: a lifted end bends on the scale
    (E r^2 / 4 rho g)^(1/3), so a recording tells stiffness over density, and neither alone. A *cloth* is a
    shell of linear triangles with E t against stretching and E t^3 / 12 (1 - nu^2) against bending; a *soft
    block* is made of trilinear cells of Saint Venant and Kirchhoff's material.

    Sets the discrete integrator, the only one of MuJoCo 4 that integrates elasticity implicitly, and lets all
    geoms of the colliding group touch elastic things.

    Args:
        spec: MuJoCo's description of the scene.
        flex: what to add; `place_flex` puts a bent one where it starts.
        friction: Coulomb coefficient of all its contacts, whatever it touches; None is its own.
        drawn: with paint.
    """
    _set_options(spec, flex)
    for geom in spec.geoms:
        if geom.group == COLLIDING and geom.contype != _TOUCHING:
            geom.conaffinity |= _TOUCHING
    slides = [flex.friction if friction is None else friction, 0.0, 0.0]
    made = _add_block(spec, flex) if flex.kind == "soft" else _add_net(spec, flex, slides)
    made.radius, made.young, made.poisson, made.damping = flex.radius, flex.young, flex.poisson, flex.damping
    _set_contacts(made, flex, slides)
    if flex.kind == "rope":
        _add_springs(spec, flex)
        # The springs are drawn in its stead, because they can have a colour each.
        made.group = COLLIDING
    elif drawn:
        paint(spec, flex_name(flex), flex, made)


def _set_options(spec: Any, flex: Flex) -> None:
    mujoco = mujoco_module()
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_DISCRETE
    spec.option.iterations = max(_ITERATIONS, spec.option.iterations)
    if flex.kind == "cloth":
        # Twice as fast for so many vertices as Newton's method, and the same motion.
        spec.option.solver, spec.option.tolerance = mujoco.mjtSolver.mjSOL_CG, 1e-6


def _set_contacts(made: Any, flex: Flex, slides: list[float]) -> None:
    """Ropes and cloths touch themselves too; balls at a cloth's vertices touch other things in its stead."""
    modes = mujoco_module().mjtFlexSelf
    if flex.kind == "soft":
        made.selfcollide = modes.mjFLEXSELF_NONE
        made.contype, made.conaffinity = _TOUCHING, 0
    else:
        made.selfcollide = modes.mjFLEXSELF_AUTO
        made.contype = _ITSELF if flex.kind == "cloth" else _ITSELF | _TOUCHING
        made.conaffinity = _ITSELF
    made.condim, made.priority, made.solref, made.friction = 3, 1, list(_STIFF), slides


def flex_name(flex: Flex) -> str:
    """What its body is called, and what the names of all that belongs to it begin with."""
    return f"{flex.id:02d}_{flex.name.replace(' ', '_')}"


def place_flex(model: Any, data: Any, flex: Flex, vertices: Float[np.ndarray, "v 3"] | None = None) -> None:
    """Put a rope or a cloth somewhere, at rest; `mj_forward` has to follow.

    Args:
        model: of the scene.
        data: of the model.
        flex: what was added.
        vertices: [m] in the world; None is where it starts. A soft block can only be put there.
    """
    if flex.kind == "soft":
        return
    vertices = flex.start if vertices is None else vertices
    for body, to in zip(_bodies(model, flex), vertices):
        if model.body_dofnum[body] == 0:
            model.body_pos[body] = to
        else:
            at, speed = model.jnt_qposadr[model.body_jntadr[body]], model.body_dofadr[body]
            data.qpos[at : at + 3], data.qvel[speed : speed + 3] = to - model.body_pos[body], 0.0


def flex_vertices(model: Any, data: Any, flex: Flex) -> Float[np.ndarray, "v 3"]:
    """[m] its vertices in the world as simulated, in the order of `Flex.rest`."""
    return data.flexvert_xpos[_vertices(model, flex)].copy()


def flex_velocities(model: Any, data: Any, flex: Flex) -> Float[np.ndarray, "v 3"]:
    """[m/s] of its vertices."""
    bodies = _bodies(model, flex)
    rates = data.qvel[model.body_dofadr[bodies][:, None] + np.arange(3)]
    # The joints slide along the axes of the body that holds them all.
    rates = rates @ data.xmat[model.body_parentid[bodies[0]]].reshape(3, 3).T
    rates[model.body_dofnum[bodies] == 0] = 0.0
    if flex.kind != "soft":
        return rates
    return _node_weights(model.flex_vert0[_vertices(model, flex)]) @ rates


def flex_touches(model: Any, data: Any, flex: Flex) -> Int[np.ndarray, " g"]:
    """The geoms that it touches, among them none of its own."""
    row, root = _row(model, flex), model.body(flex_name(flex)).id
    geoms, flexes = data.contact.geom.reshape(-1, 2), data.contact.flex.reshape(-1, 2)
    own = (model.body_parentid[model.geom_bodyid[geoms]] == root) & (geoms >= 0)
    own |= flexes == row
    others = geoms[:, ::-1][own & ~own[:, ::-1]]
    return np.unique(others[others >= 0])


def flex_ids(
    model: Any, flexes: Sequence[Flex], segmentation: Int[np.ndarray, "h w 2"]
) -> Int[np.ndarray, "h w"]:
    """The elastic thing at every pixel of what MuJoCo's renderer gives for segmentation; 0 where none is."""
    mujoco = mujoco_module()
    kinds = mujoco.mjtObj
    rows, types = segmentation[..., 0], segmentation[..., 1]
    found = np.zeros(rows.shape, dtype=np.int32)
    for flex in flexes:
        if flex.kind == "rope":
            first = mujoco.mj_name2id(model, kinds.mjOBJ_TENDON, f"{flex_name(flex)}_spring0")
            hit = (types == kinds.mjOBJ_TENDON) & (rows >= first) & (rows < first + len(flex.edges))
        else:
            hit = (types == kinds.mjOBJ_FLEX) & (rows == _row(model, flex))
        found[hit] = flex.id
    return found


def _row(model: Any, flex: Flex) -> int:
    mujoco = mujoco_module()
    return mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_FLEX, flex_name(flex))


def _vertices(model: Any, flex: Flex) -> slice:
    row = _row(model, flex)
    return slice(model.flex_vertadr[row], model.flex_vertadr[row] + model.flex_vertnum[row])


def _bodies(model: Any, flex: Flex) -> Int[np.ndarray, " b"]:
    """Of the vertices; of the corners of the cells of a block."""
    if flex.kind != "soft":
        return model.flex_vertbodyid[_vertices(model, flex)]
    row = _row(model, flex)
    first = model.flex_nodeadr[row]
    return model.flex_nodebodyid[first : first + model.flex_nodenum[row]]


def _node_weights(unit: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "v n"]:
    """How much each node of the cells moves each vertex, of vertices in the unit cube."""
    axes = []
    for axis in range(3):
        cell = unit[:, axis] * _CELLS
        axes.append((1 - np.abs(cell[:, None] - np.arange(_CELLS + 1))).clip(min=0))
    return np.einsum("vi,vj,vk->vijk", *axes).reshape(len(unit), -1)


def _add_net(spec: Any, flex: Flex, friction: list[float]) -> Any:
    """A body for every vertex; those of a cloth are balls that collide in place of its triangles."""
    mujoco = mujoco_module()
    root = spec.worldbody.add_body(name=flex_name(flex))
    names = [f"{flex_name(flex)}_{i}" for i in range(flex.count)]
    for i, (name, at, mass) in enumerate(zip(names, flex.rest, flex.masses)):
        body = root.add_body(name=name, pos=at, explicitinertial=True, mass=mass, inertia=[1e-3 * mass] * 3)
        body.add_site(name=name, size=[flex.radius] * 3, group=COLLIDING)
        for axis in np.eye(3) if i not in flex.tied else ():
            body.add_joint(type=mujoco.mjtJoint.mjJNT_SLIDE, axis=axis)
        if flex.kind == "cloth":
            body.add_geom(
                type=mujoco.mjtGeom.mjGEOM_SPHERE,
                size=[flex.radius, 0.0, 0.0],
                mass=0,
                group=COLLIDING,
                contype=_TOUCHING,
                conaffinity=0,
                condim=3,
                priority=1,
                friction=friction,
                solref=list(_STIFF),
            )
    made = spec.add_flex(name=flex_name(flex), dim=1 if flex.kind == "rope" else 2)
    made.vertbody, made.vert, made.elem = names, np.zeros(3 * flex.count), _elements(flex).ravel()
    if flex.kind == "cloth":
        made.thickness, made.elastic2d = flex.size[2], 3
    return made


def _elements(flex: Flex) -> Int[np.ndarray, "e k"]:
    """The rope's edges; the cloth's triangles, whose diagonals alternate."""
    if flex.kind == "rope":
        return flex.edges
    rows = np.arange(flex.count).reshape(flex.counts[:2])
    a, b, c, d = rows[:-1, :-1], rows[1:, :-1], rows[1:, 1:], rows[:-1, 1:]
    even = (np.add.outer(*(np.arange(n - 1) for n in flex.counts[:2])) % 2 == 0)[..., None]
    one = np.where(even, np.stack([a, b, c], axis=-1), np.stack([a, b, d], axis=-1))
    two = np.where(even, np.stack([a, c, d], axis=-1), np.stack([b, c, d], axis=-1))
    return np.stack([one, two], axis=2).reshape(-1, 3)


def _add_springs(spec: Any, flex: Flex) -> None:
    """A rope's edges stretch by E A / l: MuJoCo's own edge equality is far softer than any rope."""
    name, length = flex_name(flex), flex.steps[0]
    stiffness = flex.young * math.pi * flex.radius**2 / length
    colors = rope_colors(flex)
    for i, (a, b) in enumerate(flex.edges):
        spring = spec.add_tendon(
            name=f"{name}_spring{i}",
            stiffness=stiffness,
            springlength=[length, length],
            damping=flex.damping * stiffness,
            width=flex.radius,
            rgba=[*colors[i], 1.0],
            group=DRAWN,
        )
        spring.wrap_site(f"{name}_{a}")
        spring.wrap_site(f"{name}_{b}")


def _add_block(spec: Any, flex: Flex) -> Any:
    pose = pose7_of(flex.pose)
    # MuJoCo lays the cells around the vertices before it turns them by the pose that `make_flex` takes.
    root = spec.worldbody.add_body(name=flex_name(flex), pos=pose[:3], quat=pose[3:])
    return root.make_flex(
        name=flex_name(flex),
        type="grid",
        dim=3,
        dof="trilinear",
        count=list(flex.counts),
        cellcount=[_CELLS] * 3,
        spacing=list(flex.steps),
        radius=flex.radius,
        mass=flex.mass,
    )
