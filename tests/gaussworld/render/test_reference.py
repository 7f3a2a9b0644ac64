"""The specification against closed forms, a loop over pixels, finite differences, and gsplat's twins."""

import math
from dataclasses import replace

import pytest
import torch

from gaussworld.camera import Camera
from gaussworld.gaussians import Gaussians, cat
from gaussworld.pose import look_at, pose_from, rotation_from_quats, rotation_from_rotvec
from gaussworld.render import RenderSettings, render
from gaussworld.render.projection import project_pinhole
from gaussworld.render.reference import colors_from_sh, splat_alphas, tile_lists

FOCAL = 40.0


def camera_on_z(width: int = 33, height: int = 33) -> Camera:
    """A camera at the origin that looks along +z; the centre of its middle pixel lies on the axis."""
    K = torch.tensor([[FOCAL, 0, width / 2], [0, FOCAL, height / 2], [0, 0, 1]], dtype=torch.float64)
    return Camera(torch.eye(4, dtype=torch.float64), K, width, height)


def ball(
    z: float,
    scale: float = 0.1,
    opacity: float = 0.8,
    rgb: tuple[float, ...] = (0.9, 0.5, 0.2),
    x: float = 0.0,
):
    """One isotropic Gaussian at (x, 0, z)."""
    t = torch.tensor
    return Gaussians.from_activated(
        t([[x, 0.0, z]]), t([[1.0, 0, 0, 0]]), torch.full((1, 3), scale), t([opacity]), t([rgb]).float()
    ).map(lambda value: value.double() if value.is_floating_point() else value)


def draw(gaussians, cameras, **options):
    return render(gaussians, cameras, backend="reference", **options)


def relative(a, b):
    return float((a - b).norm() / b.norm().clamp(min=1e-300))


def test_one_ball_has_its_closed_form():
    """Alpha at the centre is the opacity o; r pixels away it is o exp(-r^2 / (2 (f^2 s^2 / z^2 + 0.3)))."""
    image = draw(ball(2.0), camera_on_z(), outputs=("depth", "ids"))
    variance = (FOCAL * 0.1 / 2.0) ** 2 + 0.3
    assert image.alpha[16, 16] == pytest.approx(0.8, abs=1e-7)
    assert image.alpha[16 + 2, 16 - 3] == pytest.approx(0.8 * math.exp(-13 / (2 * variance)), abs=1e-7)
    assert image.rgb[16, 16].tolist() == pytest.approx([0.72, 0.4, 0.16], abs=1e-6)
    assert image.depth[16, 16] == pytest.approx(2.0)
    assert image.ids[16, 16] == 0 and image.ids[0, 0] == -1
    assert (
        image.radii[0, 0].tolist()
        == [math.ceil(math.sqrt(2 * math.log(255 * 0.8)) * math.sqrt(variance))] * 2
    )


def test_front_covers_back_and_background_shows_through():
    front, back = ball(2.0, rgb=(1, 0, 0), opacity=0.6), ball(4.0, scale=0.2, rgb=(0, 1, 0), opacity=0.5)
    image = draw(cat([back, front]), camera_on_z(), background=(0.0, 0.0, 1.0), outputs=("depth", "ids"))
    assert image.rgb[16, 16].tolist() == pytest.approx([0.6, 0.4 * 0.5, 0.4 * 0.5], abs=1e-6)
    assert image.alpha[16, 16] == pytest.approx(0.8, abs=1e-6)
    assert image.depth[16, 16] == pytest.approx((0.6 * 2 + 0.2 * 4) / 0.8)
    assert image.ids[16, 16] == 1
    assert image.rgb[0, 0].tolist() == [0, 0, 1] and image.depth[0, 0] == 0


def test_equal_depths_are_ordered_by_row():
    red, green = ball(2.0, rgb=(1, 0, 0)), ball(2.0, rgb=(0, 1, 0))
    assert draw(cat([red, green]), camera_on_z()).rgb[16, 16, 0] == pytest.approx(0.8, abs=1e-6)
    assert draw(cat([green, red]), camera_on_z()).rgb[16, 16, 1] == pytest.approx(0.8, abs=1e-6)


def test_early_stop_leaves_out_the_splat_that_would_darken_below_the_limit():
    """0.2, 0.04, 0.008, 0.0016, 0.00032, and 6.4e-5 is too little: five balls of opacity 0.8 are drawn."""
    stack = cat([ball(2.0 + 0.01 * i) for i in range(8)])
    image = draw(stack, camera_on_z())
    assert image.alpha[16, 16] == pytest.approx(1 - 0.2**5, abs=1e-6)


def test_no_splat_covers_more_than_max_alpha():
    opaque = ball(2.0, opacity=1.0)
    assert draw(opaque, camera_on_z()).alpha[16, 16] == pytest.approx(0.999)
    assert draw(opaque, camera_on_z(), settings=RenderSettings(max_alpha=0.99)).alpha[
        16, 16
    ] == pytest.approx(0.99)


def test_splats_fainter_than_a_grey_level_are_skipped():
    assert (draw(ball(2.0, opacity=1 / 256), camera_on_z()).radii == 0).all()
    image = draw(ball(2.0, opacity=0.5), camera_on_z())
    assert float(image.alpha[image.alpha > 0].min()) >= 1 / 255
    offsets, conic = (
        torch.tensor([[[0.0, 0.0]], [[1.0, 0.0]]]).double(),
        torch.tensor([[-1.0, 0.0, 1.0]]).double(),
    )
    assert splat_alphas(offsets, conic, torch.ones(1).double(), 0.999)[:, 0].tolist() == [0.999, 0.0]


def test_antialiasing_keeps_the_light_of_small_splats():
    small = ball(2.0, scale=0.01)
    variance = (FOCAL * 0.01 / 2.0) ** 2
    image = draw(small, camera_on_z(), settings=RenderSettings(antialiased=True))
    assert image.alpha[16, 16] == pytest.approx(0.8 * variance / (variance + 0.3), abs=1e-6)


@pytest.mark.parametrize(
    "settings, shown",
    [
        (RenderSettings(near=2.1), 0),
        (RenderSettings(far=1.9), 0),
        (RenderSettings(near=1.9, far=2.1), 1),
        (RenderSettings(radius_clip=7.0), 0),
        (RenderSettings(radius_clip=6.0), 1),
    ],
)
def test_near_far_and_radius_clip_drop_splats(settings, shown):
    """The ball's extent is 7 px at z = 2."""
    image = draw(ball(2.0), camera_on_z(), settings=settings)
    assert int((image.radii.amax(-1) > 0).sum()) == shown and (float(image.alpha.max()) > 0) == bool(shown)


def test_sh_degree_of_the_settings_limits_the_bands(random_scene, ring_camera):
    scene = random_scene(50)
    limited = draw(scene, ring_camera(), settings=RenderSettings(sh_degree=1))
    torch.testing.assert_close(limited.rgb, draw(scene.with_sh_degree(1), ring_camera()).rgb)


def test_colors_replace_the_sh_and_features_are_blended_like_them(random_scene, ring_camera):
    scene = random_scene(50)
    values = torch.rand(50, 3)
    image = draw(scene, ring_camera(), colors=values, features=values)
    torch.testing.assert_close(image.rgb, image.features)


def test_normals_of_a_flat_disc_face_the_camera():
    disc = replace(ball(2.0), log_scales=torch.tensor([[0.2, 0.2, 1e-4]]).double().log())
    image = draw(disc, camera_on_z(), outputs=("normals",))
    assert image.normals[16, 16].tolist() == pytest.approx([0, 0, -0.8], abs=1e-6)


def per_pixel_loop(gaussians: Gaussians, camera: Camera, settings: RenderSettings):
    """The rasterizer once more, pixel by pixel on Python floats, with neither tiles nor autograd."""
    pose = camera.camera_from_world.double()
    fx, fy, cx, cy = (float(camera.K[i, j]) for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    colors = colors_from_sh(gaussians, camera)
    splats = []
    for row in range(len(gaussians)):
        x, y, z = (pose[:3, :3] @ gaussians.means[row] + pose[:3, 3]).tolist()
        if not settings.near < z < settings.far:
            continue
        tan_x = min(
            max(x / z, -cx / fx - 0.15 * camera.width / fx), (camera.width - cx + 0.15 * camera.width) / fx
        )
        tan_y = min(
            max(y / z, -cy / fy - 0.15 * camera.height / fy), (camera.height - cy + 0.15 * camera.height) / fy
        )
        rows = [[fx / z, 0, -fx * tan_x / z], [0, fy / z, -fy * tan_y / z]]
        jacobian = torch.tensor(rows, dtype=torch.float64)
        half = (
            jacobian @ pose[:3, :3] @ rotation_from_quats(gaussians.quats[row]) @ gaussians.scales[row].diag()
        )
        before = half @ half.T
        after = before + 0.3 * torch.eye(2).double()
        opacity = float(gaussians.opacities[row])
        if settings.antialiased:
            opacity *= math.sqrt(max(float(before.det() / after.det()), 0.0))
        splats.append((z, row, fx * x / z + cx, fy * y / z + cy, after.inverse().tolist(), opacity))
    picture = torch.zeros(camera.height, camera.width, 4).double()
    for v in range(camera.height):
        for u in range(camera.width):
            light = 1.0
            for _, row, px, py, ((a, b), (_, c)), opacity in sorted(splats):
                dx, dy = px - u - 0.5, py - v - 0.5
                sigma = 0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy
                alpha = min(settings.max_alpha, opacity * math.exp(-sigma))
                if alpha < 1 / 255:
                    continue
                if light * (1 - alpha) <= 1e-4:
                    break
                picture[v, u, :3] += light * alpha * colors[row]
                light *= 1 - alpha
            picture[v, u, 3] = 1 - light
    return picture


@pytest.mark.parametrize("antialiased", [False, True])
def test_random_and_nasty_scenes_match_a_loop_over_pixels(
    random_scene, nasty_scene, ring_camera, antialiased
):
    """Tiles change nothing: beyond its extents a splat is fainter than 1/255."""
    settings = RenderSettings(antialiased=antialiased)
    for scene in (random_scene(40, seed=3, dtype=torch.float64), nasty_scene(dtype=torch.float64)):
        camera = ring_camera(width=37, height=21, dtype=torch.float64)
        image, expected = draw(scene, camera, settings=settings), per_pixel_loop(scene, camera, settings)
        torch.testing.assert_close(image.rgb, expected[..., :3], atol=1e-9, rtol=1e-7)
        torch.testing.assert_close(image.alpha, expected[..., 3], atol=1e-9, rtol=1e-7)


def losses(gaussians, twist, base, background, features, antialiased=False):
    """A scalar that depends on every output, for finite differences."""
    step = pose_from(rotation_from_rotvec(twist[:3]), twist[3:])
    camera = replace(base, world_from_camera=base.world_from_camera @ step)
    image = draw(
        gaussians,
        camera,
        background=background,
        features=features,
        outputs=("depth", "normals"),
        settings=RenderSettings(antialiased=antialiased),
    )
    g = torch.Generator().manual_seed(1)
    layers = (image.rgb, image.alpha, image.depth, image.normals, image.features)
    return sum((layer * torch.randn(layer.shape, generator=g, dtype=layer.dtype)).sum() for layer in layers)


@pytest.mark.parametrize("antialiased", [False, True])
def test_gradients_match_central_differences(placed_scene, ring_camera, with_grad, antialiased):
    """Every entry of every parameter, camera pose, background and features, in double precision."""
    scene = with_grad(placed_scene())
    camera = ring_camera(1, width=20, height=17, dtype=torch.float64)
    rest = {
        "twist": torch.zeros(6, dtype=torch.float64, requires_grad=True),
        "background": torch.tensor([0.3, 0.6, 0.1], dtype=torch.float64, requires_grad=True),
        "features": torch.linspace(-1, 1, 10, dtype=torch.float64).reshape(5, 2).requires_grad_(),
    }
    fields = {n: getattr(scene, n) for n in ("means", "quats", "log_scales", "opacity_logits", "sh")}
    leaves = {**fields, **rest}

    def loss():
        return losses(scene, rest["twist"], camera, rest["background"], rest["features"], antialiased)

    gradients = dict(zip(leaves, torch.autograd.grad(loss(), list(leaves.values()))))
    h = 1e-6
    with torch.no_grad():
        for name, leaf in leaves.items():
            numeric = torch.zeros_like(leaf)
            flat, out = leaf.view(-1), numeric.view(-1)
            for i in range(len(flat)):
                value = float(flat[i])
                flat[i] = value + h
                up = loss()
                flat[i] = value - h
                out[i] = (up - loss()) / (2 * h)
                flat[i] = value
            assert relative(gradients[name], numeric) < 1e-6, name


def test_gradients_stay_finite_in_nasty_scenes(nasty_scene, ring_camera, with_grad):
    """Dropped Gaussians get exact zeros, the others finite numbers, in single precision too."""
    scene = with_grad(nasty_scene())
    image = draw(
        scene, ring_camera(), outputs=("depth", "normals"), settings=RenderSettings(antialiased=True)
    )
    (image.rgb.square().sum() + image.depth.sum() + image.normals.sum()).backward()
    hidden = image.radii[0].amax(-1) == 0
    assert 5 <= int(hidden.sum()) < len(scene) - 10
    for name in ("means", "quats", "log_scales", "opacity_logits", "sh"):
        gradient = getattr(scene, name).grad
        assert torch.isfinite(gradient).all(), name
        # Normals depend on quaternions of visible rows only; the centre's side only flips a sign.
        assert (gradient[hidden] == 0).all(), name


def test_means2d_carries_the_gradient_of_positions_on_screen(random_scene, ring_camera, with_grad):
    scene = with_grad(random_scene(30, dtype=torch.float64))
    image = draw(scene, [ring_camera(0), ring_camera(3)], outputs=("absgrad",))
    image.means2d.retain_grad()
    image.rgb.square().sum().backward()
    assert image.means2d.shape == (2, 30, 2) and image.means2d.grad.abs().sum() > 0
    assert (image.means2d.absgrad >= image.means2d.grad.abs() - 1e-12).all()
    assert (image.means2d.absgrad > 2 * image.means2d.grad.abs()).any()


def test_absolute_gradients_are_sums_over_pixels(placed_scene, ring_camera, with_grad):
    """Summing |gradient| of one pixel's loss over all pixels, one rendering each, gives the same."""
    scene, camera = with_grad(placed_scene()), ring_camera(width=9, height=7, dtype=torch.float64)
    image = draw(scene, camera, outputs=("absgrad",))
    image.rgb.square().sum().backward()
    total = torch.zeros_like(image.means2d)
    for v in range(7):
        for u in range(9):
            single = draw(scene, camera)
            total += torch.autograd.grad(single.rgb[v, u].square().sum(), single.means2d)[0].abs()
    torch.testing.assert_close(image.means2d.absgrad, total)


def test_masked_pixels_show_the_background_and_give_no_gradient(random_scene, ring_camera, with_grad):
    scene, camera = with_grad(random_scene(60)), ring_camera()
    mask = torch.rand(48, 64, generator=torch.Generator().manual_seed(0)) > 0.5
    mask[16:32, 16:32] = False
    full = draw(scene, camera, background=(0.1, 0.2, 0.3))
    masked = draw(scene, camera, background=(0.1, 0.2, 0.3), mask=mask, outputs=("ids",))
    torch.testing.assert_close(masked.rgb[mask], full.rgb[mask])
    assert (masked.rgb[~mask] == torch.tensor([0.1, 0.2, 0.3])).all() and (masked.alpha[~mask] == 0).all()
    assert (masked.ids[~mask] == -1).all()
    a = torch.autograd.grad((masked.rgb**2).sum(), scene.means)[0]
    b = torch.autograd.grad((full.rgb[mask] ** 2).sum(), scene.means)[0]
    assert relative(a, b) < 1e-5


def test_a_batch_is_its_cameras_one_by_one(random_scene, ring_camera):
    scene, cameras = random_scene(60), [ring_camera(i) for i in range(3)]
    backgrounds = torch.rand(3, 3)
    batch = draw(scene, cameras, background=backgrounds, outputs=("depth", "ids"))
    for i, camera in enumerate(cameras):
        single = draw(scene, camera, background=backgrounds[i : i + 1], outputs=("depth", "ids"))
        for name in ("rgb", "alpha", "depth", "ids"):
            assert torch.equal(getattr(batch, name)[i], getattr(single, name)), name


def test_the_order_of_rows_does_not_matter(random_scene, ring_camera):
    scene = random_scene(80, dtype=torch.float64)
    order = torch.randperm(80, generator=torch.Generator().manual_seed(2))
    a, b = (
        draw(scene, ring_camera(), outputs=("ids",)),
        draw(scene.select(order), ring_camera(), outputs=("ids",)),
    )
    torch.testing.assert_close(a.rgb, b.rgb)
    hit = b.ids >= 0
    assert torch.equal(a.ids[hit], order[b.ids[hit]]) and torch.equal(hit, a.ids >= 0)


def test_moving_scene_and_camera_together_changes_nothing(random_scene, ring_camera):
    """Spherical harmonics turn with the scene."""
    scene, camera = random_scene(60, dtype=torch.float64), ring_camera(2, dtype=torch.float64)
    move = pose_from(
        rotation_from_rotvec(torch.tensor([0.7, -1.1, 0.4]).double()), torch.tensor([3.0, -2.0, 5.0]).double()
    )
    moved = draw(scene.transformed(move), replace(camera, world_from_camera=move @ camera.world_from_camera))
    torch.testing.assert_close(moved.rgb, draw(scene, camera).rgb, atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize("n", [0, 3])
def test_empty_pictures_are_background(random_scene, with_grad, n):
    """No Gaussian at all, or all of them behind the camera; the backward pass works too."""
    scene = with_grad(random_scene(n))
    camera = Camera.pinhole(look_at(torch.tensor([0.0, 9, 0]), torch.tensor([0.0, 99, 0])), 20, 10, 40.0)
    image = draw(scene, camera, background=(0.2, 0.4, 0.6), outputs=("depth", "normals", "ids", "absgrad"))
    assert (
        (image.rgb == torch.tensor([0.2, 0.4, 0.6])).all() and not image.alpha.any() and not image.depth.any()
    )
    assert (image.ids == -1).all() and image.means2d.shape == (1, n, 2) and image.radii.dtype == torch.int32
    image.rgb.sum().backward() if image.rgb.requires_grad else None
    assert scene.means.grad is None or not scene.means.grad.any()


def test_single_precision_is_close_to_double(random_scene, nasty_scene, ring_camera):
    for build in (random_scene, nasty_scene):
        n = 200 if build is random_scene else 12
        single, double = draw(build(n), ring_camera()), draw(build(n, dtype=torch.float64), ring_camera())
        assert float((single.rgb - double.rgb).abs().mean()) < 1e-5


def gsplat_functions():
    return pytest.importorskip("gsplat.cuda._torch_impl", reason="gsplat is not installed")


def test_projection_agrees_with_gsplat(random_scene, ring_camera):
    """Against the twin of gsplat's projection kernel; it ignores opacities, so extents may be larger."""
    theirs = gsplat_functions()
    scene = replace(random_scene(300, dtype=torch.float64), opacity_logits=torch.full((300,), 15.0).double())
    camera, settings = ring_camera(1, dtype=torch.float64, radius=1.2), RenderSettings(antialiased=True)
    ours = project_pinhole(scene, camera, settings)
    radii, means2d, depths, conics, compensations = theirs._fully_fused_projection(
        scene.means,
        scene.covariances,
        camera.camera_from_world[None],
        camera.K[None],
        64,
        48,
        calc_compensations=True,
    )
    seen = ours.radii.amax(-1) > 0
    assert int(seen.sum()) > 100 and int((~seen).sum()) > 20
    assert float((seen != (radii[0].amax(-1) > 0)).double().mean()) < 0.02
    torch.testing.assert_close(ours.means2d[seen], means2d[0][seen])
    torch.testing.assert_close(ours.depths[seen], depths[0][seen])
    torch.testing.assert_close(ours.conics[seen], conics[0][seen])
    torch.testing.assert_close(ours.opacities[seen], scene.opacities[seen] * compensations[0][seen])
    # Opaque Gaussians: 3.33 deviations there, sqrt(2 ln 255) = 3.329 here.
    smaller = (radii[0] - project_pinhole(scene, camera, RenderSettings()).radii)[seen]
    assert smaller.min() >= 0 and smaller.max() <= 1 and (smaller == 0).double().mean() > 0.95


def test_tile_lists_agree_with_gsplat(random_scene, nasty_scene, ring_camera):
    """The same splats in the same order in every tile."""
    theirs = gsplat_functions()
    for scene in (random_scene(60), nasty_scene()):
        projected = project_pinhole(scene, ring_camera(width=70, height=50), RenderSettings())
        ours = tile_lists(projected, 70, 50)
        _, keys, rows = theirs._isect_tiles(
            projected.means2d[None], projected.radii[None].clamp(max=10**6), projected.depths[None], 16, 5, 4
        )
        starts = theirs._isect_offset_encode(keys, 1, 5, 4).flatten()
        assert ours.starts[:-1].tolist() == starts.tolist() and int(ours.starts[-1]) == len(rows)
        # gsplat's torch sort is not stable: compare tiles as sets, and depths as they come.
        for begin, end in zip(ours.starts[:-1].tolist(), ours.starts[1:].tolist()):
            assert sorted(ours.rows[begin:end].tolist()) == sorted(rows[begin:end].tolist())
            assert torch.equal(
                projected.depths[ours.rows[begin:end]], projected.depths[rows[begin:end].long()]
            )


def test_colors_agree_with_gsplat(random_scene, ring_camera):
    theirs = gsplat_functions()
    scene, camera = random_scene(100, dtype=torch.float64), ring_camera(1, dtype=torch.float64)
    expected = (theirs._spherical_harmonics(3, scene.means - camera.center, scene.sh) + 0.5).clamp(min=0)
    torch.testing.assert_close(colors_from_sh(scene, camera), expected)
