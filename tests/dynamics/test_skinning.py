"""Gaussians and points that follow states: exact for rigid motion, stretched, turned, and back again."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from dynamics.matter.parts import Fields, Ground, Matter, Part, PartKind
from dynamics.skinning.binding import Binding, stretched
from dynamics.skinning.deformation import nearest_rotation
from dynamics.skinning.skin import Skin
from dynamics.skinning.turned_color import turn_colors
from gaussworld.camera import Camera
from gaussworld.gaussians import Gaussians
from gaussworld.pose import (
    look_at,
    pose7_from_pose,
    pose_from,
    quats_from_rotation,
    rotation_from_rotvec,
    transform_points,
)
from gaussworld.render import kernels, render
from gaussworld.sh import rotate_sh
from gaussworld.state import State, stack
from gaussworld.world import World
from gaussworld.world_object import Joint, ObjectKind, WorldObject


def random_gaussians(means: Tensor, degree: int = 3, seed: int = 0) -> Gaussians:
    """Gaussians of all sizes, turns and colours at given places."""
    chance, count = torch.Generator().manual_seed(seed), len(means)

    def normal(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=chance)

    scales = -6 + 0.5 * normal(3)
    return Gaussians(means, normal(4), scales, 1 + normal(), 0.3 * normal((degree + 1) ** 2, 3))


def around(points: Tensor, count: int, size: float, seed: int = 1) -> Tensor:
    """Places close to some of the points."""
    chance = torch.Generator().manual_seed(seed)
    rows = torch.randint(len(points), (count,), generator=chance)
    return points[rows] + size * torch.randn(count, 3, generator=chance)


def rope_points(bend: float = 1.0, count: int = 40) -> Tensor:
    """An arc of 0.4 m in the plane z = 0; bend 0 is straight along x."""
    s = torch.linspace(-0.2, 0.2, count)
    if bend == 0:
        return torch.stack([s, 0 * s, 0 * s], 1)
    radius = 0.4 / bend
    return torch.stack([radius * (s / radius).sin(), radius * (1 - (s / radius).cos()), 0 * s], 1)


def grid_points(shape: tuple[int, int, int], step: float = 0.02) -> Tensor:
    """A lattice about the origin."""
    axes = [torch.arange(n) - (n - 1) / 2 for n in shape]
    return step * torch.cartesian_prod(*axes)


POINTS = {
    PartKind.ROPE: rope_points(),
    PartKind.CLOTH: grid_points((9, 11, 1)),
    PartKind.VOLUME: grid_points((5, 5, 4)),
}


def matter_with(world: World, number: int, points: Tensor, kind: PartKind) -> Matter:
    """One bending part of given particles; edges join what is within one and a half steps."""
    if kind is PartKind.ROPE:
        rows = torch.arange(len(points))
        edges = torch.cat([torch.stack([rows[:-s], rows[s:]], 1) for s in (1, 2)])
    else:
        edges = (torch.cdist(points, points) < 0.03).triu(1).nonzero()
    ids = tuple(world.objects)
    part = Part(number, ids.index(number), kind, 0, len(points), 1.0, torch.zeros(3), torch.eye(3))
    empty = Fields(torch.zeros(1, 2, 2, 2), torch.zeros(1, 3), torch.ones(1, 3))
    ground = Ground(torch.zeros(1), (), torch.ones(1))
    ones = torch.full((len(points),), 1 / len(points))
    owners = torch.zeros(len(points), dtype=torch.int64)
    joints = tuple(n for n, item in world.objects.items() if item.joint is not None)
    return Matter(
        ids, joints, (part,), points, 0.005 * torch.ones(len(points)), ones, owners, edges, empty, ground
    )


def bending(
    kind: PartKind, points: Tensor | None = None, degree: int = 3, count: int = 300
) -> tuple[World, Matter, Skin, State]:
    """A world of one bending thing that stands turned and moved, its skin, and its state at rest."""
    points = POINTS[kind] if points is None else points
    pose = pose_from(rotation_from_rotvec(torch.tensor([0.3, -0.2, 0.9])), torch.tensor([0.2, -0.1, 0.4]))
    gaussians = random_gaussians(around(points, count, 0.004), degree)
    world = World({3: WorldObject(3, "it", gaussians, ObjectKind.DEFORMABLE, pose)}, metres_per_unit=1.0)
    matter = matter_with(world, 3, points, kind)
    state = State.at_rest(world, particle_positions=transform_points(pose, points))
    return world, matter, Skin.bind(matter, world), state


def moved(state: State, motion: Tensor) -> State:
    """All particles moved rigidly."""
    return replace(state, particle_positions=transform_points(motion, state.particle_positions))


def far(found: Gaussians, wanted: Gaussians) -> float:
    """[m, relative] the largest difference of means, covariances and colours.

    Covariances and colours count a third: particles a centimetre apart, rounded to float32 a metre away from
    the origin, know their directions to 1e-5 only.
    """
    size = wanted.covariances.flatten(1).norm(dim=1)
    return max(
        float((found.means - wanted.means).abs().max()),
        float(((found.covariances - wanted.covariances).flatten(1).norm(dim=1) / size).max()) / 3,
        float((found.sh - wanted.sh).abs().max()) / 3,
    )


@pytest.mark.parametrize("kind", list(POINTS))
def test_at_rest_the_skin_is_the_world(kind: PartKind) -> None:
    """Nothing moved: what `World.posed` gives, row by row, with ids and flags."""
    world, _, skin, state = bending(kind)
    found, wanted = skin.gaussians(state), world.posed()
    assert far(found, wanted) < 1e-5
    assert torch.equal(found.object_ids, wanted.object_ids) and torch.equal(found.flags, wanted.flags)


@pytest.mark.parametrize("kind", list(POINTS))
@pytest.mark.parametrize("turn", [(0.0, 0.0, 0.4), (1.0, -2.0, 0.5), (0.0, 0.0, math.pi), (3.1, 0.1, 0.0)])
def test_rigid_motion_of_the_particles_is_exact(kind: PartKind, turn: tuple[float, float, float]) -> None:
    """Particles that turn and move as one carry their Gaussians as one, colours included."""
    world, _, skin, state = bending(kind)
    motion = pose_from(rotation_from_rotvec(torch.tensor(turn)), torch.tensor([0.5, 0.2, -0.3]))
    assert far(skin.gaussians(moved(state, motion)), world.posed().transformed(motion)) < 1e-5


@pytest.mark.parametrize("kind", [PartKind.CLOTH, PartKind.VOLUME])
def test_covariances_stretch_with_the_particles(kind: PartKind) -> None:
    """An even stretch and shear F of a part is F Sigma F^T of each Gaussian; a sheet keeps its thickness."""
    _, _, skin, state = bending(kind)
    stretch = torch.tensor(
        [[1.4, 0.3, 0.0], [0.0, 0.8, 0.0], [0.0, 0.0, 1.0 if kind is PartKind.CLOTH else 1.2]]
    )
    rest = state.particle_positions.clone()
    pose = pose7_to_matrix(state)
    local = transform_points(torch.linalg.inv(pose), rest) @ stretch.T
    found = skin.gaussians(replace(state, particle_positions=transform_points(pose, local)))
    whole = pose[:3, :3] @ stretch
    wanted = whole @ skin.rest.covariances @ whole.T
    assert torch.allclose(found.covariances, wanted, rtol=1e-3, atol=1e-9)
    means = skin.rest.means @ whole.T + pose[:3, 3]
    assert torch.allclose(found.means, means, atol=2e-5)


def pose7_to_matrix(state: State) -> Tensor:
    return state.world_from_objects()[3]


def test_a_rope_stretches_along_itself_only() -> None:
    """A straight rope pulled to 1.5 times its length: longer along x, the same across."""
    _, _, skin, state = bending(PartKind.ROPE, rope_points(0.0))
    pose = pose7_to_matrix(state)
    local = transform_points(torch.linalg.inv(pose), state.particle_positions) * torch.tensor([1.5, 1.0, 1.0])
    found = skin.gaussians(replace(state, particle_positions=transform_points(pose, local)))
    whole = pose[:3, :3] @ torch.diag(torch.tensor([1.5, 1.0, 1.0]))
    assert torch.allclose(found.covariances, whole @ skin.rest.covariances @ whole.T, rtol=1e-3, atol=1e-9)


def test_a_straight_rope_moves_rigidly_without_rolling() -> None:
    """Where particles do not say how a rope rolled, it does not roll: a yaw turns it by that yaw."""
    world, _, skin, state = bending(PartKind.ROPE, rope_points(0.0))
    pose = pose7_to_matrix(state)
    # About an axis at a right angle to the rope.
    axis = pose[:3, :3] @ torch.tensor([0.0, 0.0, 1.0])
    motion = pose_from(rotation_from_rotvec(axis * 1.2), torch.tensor([0.1, 0.0, 0.2]))
    assert far(skin.gaussians(moved(state, motion)), world.posed().transformed(motion)) < 1e-4


def test_a_rope_does_not_flip_when_its_bend_changes_sides() -> None:
    """Bent left, straight, bent right on a table: what was on top of the rope stays on top."""
    world = World({1: WorldObject(1, "rope", random_gaussians(rope_points(1.0)), ObjectKind.DEFORMABLE)})
    matter = matter_with(world, 1, rope_points(1.0), PartKind.ROPE)
    skin = Skin.bind(matter, world)
    where = skin.points(rope_points(1.0) + torch.tensor([0.0, 0.0, 0.005]), torch.ones(40, dtype=torch.int32))
    for bend in (1.0, 0.999, 0.9, 0.5, 0.1, 0.0, -0.1, -0.5, -0.9, -1.2, 3.0, -5.0):
        points = rope_points(bend)
        state = State.at_rest(world, particle_positions=points)
        assert torch.allclose(where(state), points + torch.tensor([0.0, 0.0, 0.005]), atol=6e-4)


def test_frames_of_a_coiled_rope_do_not_break() -> None:
    """A rope wound up by two turns: neighbouring Gaussians' turns stay close to each other everywhere."""
    line = rope_points(0.0, 60)
    world = World({1: WorldObject(1, "rope", random_gaussians(line), ObjectKind.DEFORMABLE)})
    skin = Skin.bind(matter_with(world, 1, line, PartKind.ROPE), world)
    coil = rope_points(4 * math.pi, 60)
    _, turns = skin.posed(State.at_rest(world, particle_positions=coil)).turns[0]
    steps = (turns[1:] * turns[:-1]).sum(1).abs().clamp(max=1).acos() * 2
    assert float(steps.max()) < 2 * 4 * math.pi / 59


def test_a_loop_of_a_thousand_steps_returns() -> None:
    """Small turns and bends, a thousand of them, back to where they began: so are the Gaussians."""
    for kind in POINTS:
        _, _, skin, state = bending(kind, degree=1)
        first = skin.gaussians(state)
        step = pose_from(rotation_from_rotvec(torch.tensor([0.0, 0.0, 2 * math.pi / 1000])), torch.zeros(3))
        particles = state.particle_positions.double()
        for _ in range(1000):
            particles = transform_points(step.double(), particles)
        last = skin.gaussians(replace(state, particle_positions=particles.float()))
        assert far(last, first) < 1e-4


def test_quaternions_keep_their_sign_along_a_turn() -> None:
    """A full turn in small steps: shapes for a player never jump to the other cover."""
    _, _, skin, state = bending(PartKind.CLOTH, degree=0)
    steps = [
        pose_from(rotation_from_rotvec(torch.tensor([0.0, 0.2 * i, 0.1 * i])), torch.zeros(3))
        for i in range(60)
    ]
    shapes = list(skin.shapes(stack([moved(state, motion) for motion in steps]))[3])
    assert len(shapes) == 60
    for before, after in pairwise(shapes):
        assert float((before.quats * after.quats).sum(1).min()) > 0.9


def test_shapes_are_in_the_objects_frame() -> None:
    """At rest the shape is the object's own Gaussians."""
    world, _, skin, state = bending(PartKind.VOLUME)
    shape = next(skin.shapes(stack([state]))[3])
    assert torch.allclose(shape.means, world.objects[3].gaussians.means, atol=1e-5)
    assert torch.allclose(shape.covariances, world.objects[3].gaussians.covariances, atol=1e-8)


@pytest.mark.parametrize("kind", list(POINTS))
def test_degenerate_particles_give_finite_gaussians_and_gradients(kind: PartKind) -> None:
    """All particles in one point, on one line, in a plane, folded flat, or turned inside out: no NaN."""
    _, _, skin, state = bending(kind, degree=1, count=60)
    rest = state.particle_positions
    middle = rest.mean(0)
    flat = [
        torch.zeros(3),
        torch.tensor([1.0, 0.0, 0.0]),
        torch.tensor([1.0, 1.0, 0.0]),
        torch.tensor([-1.0, 1.0, 1.0]),
    ]
    cases = [middle + (rest - middle) * factor for factor in flat]
    cases.append(middle + (rest - middle).abs())
    for positions in cases:
        positions = positions.clone().requires_grad_()
        found = skin.gaussians(replace(state, particle_positions=positions))
        for name in ("means", "quats", "log_scales", "sh"):
            assert bool(getattr(found, name).isfinite().all()), name
        (found.means.sum() + found.quats.sum() + found.log_scales.clamp(min=-15).sum()).backward()
        assert positions.grad is not None and bool(positions.grad.isfinite().all())


def test_gradients_are_those_of_small_differences() -> None:
    """Means, covariances and tracks towards the particles of a bent cloth, in double precision."""
    _, _, skin, state = bending(PartKind.CLOTH, degree=0, count=5)
    chance = torch.Generator().manual_seed(5)
    start = state.particle_positions.double()
    start = start + 0.004 * torch.randn(start.shape, generator=chance, dtype=torch.float64)
    wanted = torch.randn(5, 3, 3, generator=chance, dtype=torch.float64)

    def loss(positions: Tensor) -> Tensor:
        double = replace(
            state.map(lambda v: v if v.dtype == torch.bool else v.double()), particle_positions=positions
        )
        found = skin.posed(double).unturned()
        return found.means.square().sum() + 1e4 * (found.covariances * wanted).sum()

    leaf = start.clone().requires_grad_()
    loss(leaf).backward()
    direction = torch.randn(start.shape, generator=chance, dtype=torch.float64)
    step = 1e-6
    slope = (loss(start + step * direction) - loss(start - step * direction)) / (2 * step)
    assert leaf.grad is not None
    assert float((leaf.grad * direction).sum()) == pytest.approx(float(slope), rel=1e-4)


def rigid_world() -> World:
    """A box, a hidden static thing, and a door on it."""
    chance = torch.Generator().manual_seed(2)
    means = 0.05 * torch.randn(100, 3, generator=chance)
    door = WorldObject(
        9,
        "door",
        random_gaussians(means, 2, 4),
        ObjectKind.ARTICULATED,
        parent=5,
        joint=Joint("revolute", (0.0, 0.0, 1.0)),
    )
    box = WorldObject(
        2, "box", random_gaussians(means, 3, 5), ObjectKind.RIGID, pose_from(torch.eye(3), torch.ones(3))
    )
    return World({2: box, 5: WorldObject(5, "body", random_gaussians(means, 1, 6), hidden=True), 9: door})


def test_rigid_things_follow_poses_exactly() -> None:
    """What `World.posed` does with the same state, flags included; particles are not asked."""
    world = rigid_world()
    matter = matter_with(world, 2, torch.zeros(1, 3), PartKind.RIGID)
    skin = Skin.bind(matter, world)
    pose = pose_from(rotation_from_rotvec(torch.tensor([0.5, 2.5, -1.0])), torch.tensor([0.3, 0.2, 0.1]))
    state = State.at_rest(world, particle_positions=torch.full((1, 3), 77.0))
    poses = torch.stack([pose7_from_pose(pose), state.object_poses[1], -pose7_from_pose(pose)])
    poses[2, :3] = 0.2
    state = replace(state, object_poses=poses)
    found, wanted = skin.gaussians(state), world.posed(state)
    assert far(found, wanted) < 2e-5
    assert torch.equal(found.flags, wanted.flags) and torch.equal(found.object_ids, wanted.object_ids)


def test_turning_the_view_is_turning_the_colours() -> None:
    """`colors` on unturned Gaussians draws the picture that turned spherical harmonics draw."""
    world, _, skin, state = bending(PartKind.CLOTH)
    chance = torch.Generator().manual_seed(3)
    state = replace(
        state, particle_positions=state.particle_positions + 0.004 * torch.randn(99, 3, generator=chance)
    )
    pose = look_at(torch.tensor([0.2, -0.6, 0.7]), torch.tensor([0.2, -0.1, 0.4]))
    camera = Camera(pose, torch.tensor([[90.0, 0.0, 32.0], [0.0, 90.0, 32.0], [0.0, 0.0, 1.0]]), 64, 64)
    posed = skin.posed(state)
    turned = render(posed.gaussians(), camera).rgb
    quick = render(posed.unturned(), camera, colors=posed.colors(camera.center)).rgb
    assert float(turned.max()) > 0.3
    assert torch.allclose(turned, quick, atol=1e-4)
    assert len(world.objects) == 1


def test_colours_turn_row_by_row() -> None:
    """One rotation for each row is what `rotate_sh` does for all of them."""
    chance = torch.Generator().manual_seed(1)
    sh = torch.randn(7, 16, 3, generator=chance)
    turns = torch.nn.functional.normalize(torch.randn(7, 4, generator=chance), dim=1)
    for degree in range(4):
        part = sh[:, : (degree + 1) ** 2]
        found = turn_colors(part, turns)
        from gaussworld.pose import rotation_from_quats

        wanted = torch.cat([rotate_sh(part[i : i + 1], rotation_from_quats(turns[i])) for i in range(7)])
        assert torch.allclose(found, wanted, atol=1e-5)


def test_points_follow_batches_with_gradients() -> None:
    """Tracks on a cloth and on a rigid thing, in a batch of states of two axes, as when they are rigid."""
    _, _, skin, state = bending(PartKind.CLOTH)
    rest = around(POINTS[PartKind.CLOTH], 20, 0.01)
    where = skin.points(rest, torch.full((20,), 3, dtype=torch.int32))
    wanted = transform_points(pose7_to_matrix(state), rest)
    assert torch.allclose(where(state), wanted, atol=1e-5)
    batch = state.expand(2, 3).map(lambda value: value.clone())
    batch.particle_positions.requires_grad_()
    found = where(batch)
    assert found.shape == (2, 3, 20, 3) and torch.allclose(found[1, 2], wanted, atol=1e-5)
    found.sum().backward()
    gradient = batch.particle_positions.grad
    assert gradient is not None and float(gradient.sum()) == pytest.approx(2 * 3 * 20 * 3, rel=1e-4)
    with pytest.raises(ValueError, match=r"ids among \[3\], got 8"):
        skin.points(rest, torch.full((20,), 8, dtype=torch.int32))


def test_order_of_points_is_kept() -> None:
    """Points of several objects in any order come back in that order."""
    world = rigid_world()
    skin = Skin.bind(matter_with(world, 2, torch.zeros(1, 3), PartKind.RIGID), world)
    rest = torch.arange(12).float().reshape(4, 3)
    ids = torch.tensor([9, 2, 9, 5], dtype=torch.int32)
    state = State.at_rest(world, particle_positions=torch.zeros(1, 3))
    found = skin.points(rest, ids)(state)
    assert torch.allclose(found, rest + torch.tensor([[0.0], [1.0], [0.0], [0.0]]))


def test_a_point_on_one_leg_does_not_hang_on_the_other() -> None:
    """Two legs of a rope 15 mm apart, with a particle each 10 mm."""
    s = torch.arange(20) * 0.01
    there = torch.stack([s, torch.zeros(20), torch.zeros(20)], 1)
    turn = torch.tensor([[0.2, 0.0075, 0.0]])
    line = torch.cat([there, turn, there.flip(0) + torch.tensor([0.0, 0.015, 0.0])])
    rows = torch.arange(len(line))
    edges = torch.cat([torch.stack([rows[:-n], rows[n:]], 1) for n in (1, 2)])
    binding = Binding.of(there[:15] + torch.tensor([0.0, 0.004, 0.0]), line, edges)
    held = binding.rows[binding.weights > 1e-6]
    assert int(held.max()) < 20


def test_one_and_two_particles() -> None:
    """A crumb of one particle moves with it; one of two turns with them."""
    for points in (torch.zeros(1, 3), torch.tensor([[0.0, 0.0, 0.0], [0.02, 0.0, 0.0]])):
        world, _, skin, state = bending(PartKind.VOLUME, points, degree=1, count=10)
        assert far(skin.gaussians(state), world.posed()) < 1e-5
        shift = pose_from(torch.eye(3), torch.tensor([0.1, 0.0, 0.0]))
        assert far(skin.gaussians(moved(state, shift)), world.posed().transformed(shift)) < 1e-5


def test_rotations_nearest_to_matrices() -> None:
    """What a singular value decomposition finds; rotations stay; mirrors and zeros become some rotation."""
    chance = torch.Generator().manual_seed(4)
    matrices = torch.eye(3) + 0.4 * torch.randn(50, 3, 3, generator=chance)
    matrices = matrices[torch.linalg.det(matrices) > 0.05]
    u, _, v = torch.linalg.svd(matrices)
    assert torch.allclose(nearest_rotation(matrices), u @ v, atol=1e-4)
    odd = torch.stack([torch.zeros(3, 3), torch.diag(torch.tensor([1.0, 1.0, -1.0])), torch.ones(3, 3)])
    assert bool(nearest_rotation(odd).isfinite().all())


def test_stretched_axes_are_those_of_the_covariance() -> None:
    """Quaternions and scales of F Sigma F^T for strong shears; isotropic Gaussians are not turned."""
    gaussians = random_gaussians(torch.zeros(200, 3))
    chance = torch.Generator().manual_seed(6)
    gradients = torch.eye(3) + 0.5 * torch.randn(200, 3, 3, generator=chance)
    turns = quats_from_rotation(nearest_rotation(gradients))
    quats, log_scales = stretched(gaussians.quats, gaussians.scales, gradients, turns)
    found = replace(gaussians, quats=quats, log_scales=log_scales).covariances
    wanted = gradients @ gaussians.covariances @ gradients.transpose(1, 2)
    size = wanted.flatten(1).norm(dim=1)
    assert float(((found - wanted).flatten(1).norm(dim=1) / size).max()) < 1e-3


@pytest.mark.parametrize("kind", list(POINTS))
def test_the_kernel_is_the_twin(kind: PartKind) -> None:
    """Bent, stretched and rolled Gaussians: what the compiled code says is what PyTorch says."""
    if not kernels.available():
        pytest.skip("the kernels are not compiled")
    _, _, skin, state = bending(kind, degree=0, count=1037)
    chance = torch.Generator().manual_seed(8)
    bent = state.particle_positions + 0.004 * torch.randn(state.particle_positions.shape, generator=chance)
    for positions in (state.particle_positions, bent, bent * torch.tensor([1.0, 1.0, 0.1])):
        twin = skin.posed(replace(state, particle_positions=positions.clone().requires_grad_()))
        for variant in kernels.variants():
            with kernels.using(variant):
                quick = skin.posed(replace(state, particle_positions=positions))
            assert not quick.means.requires_grad and twin.means.requires_grad
            a, b = quick.unturned(), twin.unturned().detach()
            size = b.covariances.flatten(1).norm(dim=1)
            assert torch.allclose(a.means, b.means, atol=1e-6)
            assert float(((a.covariances - b.covariances).flatten(1).norm(dim=1) / size).max()) < 1e-4
            assert torch.allclose(a.log_scales, b.log_scales, atol=2e-2)
            # Where two axes are alike nobody knows which way they lie.
            assert float((a.quats * b.quats).sum(1).median()) > 1 - 1e-5
            assert torch.allclose(quick.turns[0][1], twin.turns[0][1], atol=1e-5)


def test_the_kernel_of_colours_is_the_twin() -> None:
    """All degrees, rigid and bending, from two eyes, one of them at a Gaussian."""
    if not kernels.available():
        pytest.skip("the kernels are not compiled")
    for degree in range(4):
        _, _, skin, state = bending(PartKind.CLOTH, degree=degree)
        posed = skin.posed(state)
        twin = replace(posed, means=posed.means.clone().requires_grad_())
        for eye in (torch.tensor([0.2, -0.9, 1.0]), posed.means[5]):
            quick, slow = posed.colors(eye), twin.colors(eye)
            assert slow.requires_grad == (degree > 0) and not quick.requires_grad
            assert torch.allclose(quick, slow.detach(), atol=1e-5)
    world = rigid_world()
    skin = Skin.bind(matter_with(world, 2, torch.zeros(1, 3), PartKind.RIGID), world)
    posed = skin.posed(State.at_rest(world, particle_positions=torch.zeros(1, 3)))
    twin = replace(posed, means=posed.means.clone().requires_grad_())
    eye = torch.tensor([3.0, 1.0, 2.0])
    assert torch.allclose(posed.colors(eye), twin.colors(eye).detach(), atol=1e-5)


def test_states_of_others_are_refused() -> None:
    """Other objects, another number of particles, a batch where one state is meant."""
    world, matter, skin, state = bending(PartKind.ROPE)
    with pytest.raises(ValueError, match="a state of 40 particles, got 7"):
        skin.gaussians(State.at_rest(world, particle_positions=torch.zeros(7, 3)))
    with pytest.raises(ValueError, match="expected one state, got a batch of shape"):
        skin.gaussians(state.expand(2))
    other = rigid_world()
    with pytest.raises(ValueError, match=r"objects \(3,\), got \(2, 5, 9\)"):
        skin.gaussians(State.at_rest(other, particle_positions=state.particle_positions))
    with pytest.raises(ValueError, match="matter of this world's objects"):
        Skin.bind(matter, other)
    with pytest.raises(ValueError, match="a sequence of states"):
        skin.shapes(state)
