"""The CPU kernels against the reference: pictures, gradients, every variant, every option, bad input."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from gaussworld.camera import Camera, CameraModel
from gaussworld.gaussians import Gaussians
from gaussworld.pose import look_at
from gaussworld.render import Rendering, RenderSettings, cpu, kernels, render
from gaussworld.sh import sh0_from_rgb

pytestmark = pytest.mark.skipif(not kernels.available(), reason="the CPU kernels are not compiled here")

PICTURES = ("rgb", "alpha", "depth", "normals", "features")
FIELDS = ("means", "quats", "log_scales", "opacity_logits", "sh")
GARDEN = Path(__file__).parents[4] / "shared/data/garden_splats/test_garden.npz"


def draw(
    scene: Gaussians,
    camera: Camera,
    backend: str,
    dtype: torch.dtype = torch.float32,
    loss_on: tuple[str, ...] = PICTURES,
    depth_weight: float = 0.1,
    **options: object,
) -> tuple[Rendering, dict[str, Tensor]]:
    """A rendering and all its gradients for fixed random weights on the named pictures."""
    leaves = {name: getattr(scene, name).detach().to(dtype).requires_grad_() for name in FIELDS}
    pose = camera.world_from_camera.detach().to(dtype).requires_grad_()
    view = Camera(pose, camera.K.to(dtype), camera.width, camera.height, camera.model, camera.distortion)
    for name in ("features", "colors", "background"):
        if isinstance(options.get(name), Tensor):
            leaves[name] = options[name] = options[name].detach().to(dtype).requires_grad_()  # type: ignore
    rendering = render(
        Gaussians(*(leaves[name] for name in FIELDS)),
        view,
        backend=backend,  # type: ignore
        outputs=("depth", "normals", "ids", "absgrad"),
        **options,  # type: ignore
    )
    assert rendering.means2d is not None
    rendering.means2d.retain_grad()
    g = torch.Generator().manual_seed(7)
    loss = torch.zeros((), dtype=dtype)
    for name in PICTURES:
        picture = getattr(rendering, name)
        if picture is not None and name in loss_on:
            weight = torch.randn(picture.shape, generator=g, dtype=torch.float64).to(dtype)
            loss = loss + (picture * weight).sum() * (depth_weight if name == "depth" else 1.0)
    loss.backward()
    means2d = rendering.means2d
    gradients = {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
    gradients |= {"pose": pose.grad, "means2d": means2d.grad, "absgrad": means2d.absgrad}  # type: ignore
    return rendering, gradients


def assert_same(
    scene: Gaussians, camera: Camera, picture: float = 1e-5, gradient: float = 1e-4, **options: object
) -> None:
    """Kernels in float32 and the reference in float64 give the same pictures and gradients."""
    expected, expected_gradients = draw(scene, camera, "reference", torch.float64, **options)  # type: ignore
    got, gradients = draw(scene, camera, "cpu", **options)  # type: ignore
    for name in PICTURES:
        if getattr(expected, name) is None:
            continue
        difference = (getattr(got, name) - getattr(expected, name)).abs()
        scale = 1 + getattr(expected, name).abs().mean() if name == "depth" else 1.0
        assert difference.mean() / scale <= picture, f"{name} differs by {difference.mean():.2e} on average"
    assert (got.ids == expected.ids).float().mean() > 0.995
    assert gradients.keys() == expected_gradients.keys()
    for name, value in expected_gradients.items():
        error = (gradients[name] - value).norm() / value.norm().clamp(min=1e-6)
        assert error <= gradient, f"gradient of {name} is off by {error:.2e}"


@pytest.mark.parametrize("variant", kernels.variants())
@pytest.mark.parametrize("antialiased", [False, True])
def test_every_variant_gives_the_reference(
    variant: str,
    antialiased: bool,
    random_scene: Callable[..., Gaussians],
    ring_camera: Callable[..., Camera],
) -> None:
    with kernels.using(variant):
        assert_same(
            random_scene(250),
            ring_camera(1, width=75, height=50),
            features=torch.randn(250, 5, generator=torch.Generator().manual_seed(1)),
            background=torch.tensor([0.2, 0.5, 0.9]),
            settings=RenderSettings(antialiased=antialiased),
        )


@pytest.mark.parametrize("variant", kernels.variants())
def test_nasty_gaussians(
    variant: str, nasty_scene: Callable[..., Gaussians], ring_camera: Callable[..., Camera]
) -> None:
    with kernels.using(variant):
        assert_same(nasty_scene(), ring_camera(), picture=1e-4, gradient=1e-3)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_harmonics_of_each_degree(
    degree: int, random_scene: Callable[..., Gaussians], ring_camera: Callable[..., Camera]
) -> None:
    assert_same(random_scene(60, sh_degree=degree), ring_camera(2))
    assert_same(random_scene(60), ring_camera(2), settings=RenderSettings(sh_degree=degree))
    camera = ring_camera(2)
    bent = Camera(camera.world_from_camera, camera.K, 64, 48, CameraModel.OPENCV, (0.05, -0.03, 0.0, 0.0))
    assert_same(random_scene(60), bent, settings=RenderSettings(sh_degree=degree))


def test_given_colors_replace_harmonics(
    random_scene: Callable[..., Gaussians], ring_camera: Callable[..., Camera]
) -> None:
    assert_same(
        random_scene(60), ring_camera(), colors=torch.rand(60, 3, generator=torch.Generator().manual_seed(2))
    )


def test_settings_are_honoured(
    random_scene: Callable[..., Gaussians], ring_camera: Callable[..., Camera]
) -> None:
    chosen = RenderSettings(near=2.6, far=3.6, eps2d=0.7, radius_clip=4.0, max_alpha=0.9)
    assert_same(random_scene(200), ring_camera(), settings=chosen)


@pytest.mark.parametrize(
    ("model", "distortion"),
    [(CameraModel.OPENCV, (0.05, -0.03, 0.002, -0.001)), (CameraModel.FISHEYE, (0.05, 0.01, -0.02, 0.004))],
)
def test_distorted_cameras(
    model: CameraModel, distortion: tuple[float, ...], random_scene: Callable[..., Gaussians]
) -> None:
    pinhole = Camera.looking_at((0.3, -3.0, 0.4), (0.0, 0.0, 0.0), 61, 47)
    camera = Camera(pinhole.world_from_camera, pinhole.K, 61, 47, model, distortion)
    assert_same(random_scene(80), camera)


def test_masked_pixels_show_the_background_and_give_no_gradient(
    random_scene: Callable[..., Gaussians], ring_camera: Callable[..., Camera]
) -> None:
    mask = torch.rand(48, 64, generator=torch.Generator().manual_seed(3)) > 0.5
    mask[:, 40:] = False
    background = torch.tensor([0.1, 0.2, 0.3])
    assert_same(random_scene(100), ring_camera(), mask=mask, background=background)
    picture = render(random_scene(100), ring_camera(), mask=mask, background=background, backend="cpu")
    assert torch.equal(picture.rgb[~mask], background.expand_as(picture.rgb[~mask]))
    assert (picture.alpha[~mask] == 0).all()


def test_a_batch_equals_its_cameras_one_by_one(
    random_scene: Callable[..., Gaussians],
    ring_camera: Callable[..., Camera],
    with_grad: Callable[..., Gaussians],
) -> None:
    cameras = [ring_camera(i) for i in range(3)]
    backgrounds = torch.rand(3, 3, generator=torch.Generator().manual_seed(4))
    together, alone = with_grad(random_scene(80)), with_grad(random_scene(80))
    batch = render(together, cameras, background=backgrounds, outputs=["depth"])
    batch.means2d.retain_grad()
    batch.rgb.square().sum().backward()
    for i, camera in enumerate(cameras):
        single = render(alone, camera, background=backgrounds[i], outputs=["depth"])
        single.means2d.retain_grad()
        single.rgb.square().sum().backward()
        assert torch.equal(single.rgb, batch.rgb[i])
        assert torch.equal(single.depth, batch.depth[i])
        assert torch.equal(single.means2d.grad[0], batch.means2d.grad[i])
    assert torch.allclose(together.sh.grad, alone.sh.grad, atol=1e-6)


def test_same_bits_whatever_the_threads(
    random_scene: Callable[..., Gaussians], ring_camera: Callable[..., Camera]
) -> None:
    scene, camera = random_scene(5000), ring_camera(1, width=160, height=120)
    before = kernels.threads()
    results = []
    try:
        for threads in (1, 2, 5, 2):
            kernels.set_threads(threads)
            results.append(draw(scene, camera, "cpu", features=torch.ones(5000, 2)))
    finally:
        kernels.set_threads(before)
    for rendering, gradients in results[1:]:
        for name in PICTURES:
            assert torch.equal(getattr(rendering, name), getattr(results[0][0], name)), name
        for name, gradient in gradients.items():
            assert torch.equal(gradient, results[0][1][name]), name


def test_workspace_does_not_grow(
    random_scene: Callable[..., Gaussians],
    ring_camera: Callable[..., Camera],
    with_grad: Callable[..., Gaussians],
) -> None:
    """Reserved memory, not used memory: after two steps nothing more is ever reserved."""
    scene, camera = with_grad(random_scene(2000)), ring_camera(width=160, height=120)
    idle = kernels.Frame._idle.setdefault(id(kernels.library()), [])

    def step() -> tuple[int, int]:
        render(scene, camera).rgb.sum().backward()
        return len(idle), kernels.library().gw_frame_capacity(idle[-1])

    step(), step()
    assert len({step() for _ in range(5)}) == 1


def test_backward_twice_and_of_two_pictures_in_flight(
    random_scene: Callable[..., Gaussians],
    ring_camera: Callable[..., Camera],
    with_grad: Callable[..., Gaussians],
) -> None:
    scene = with_grad(random_scene(80))
    first, second = render(scene, ring_camera(0)), render(scene, ring_camera(3))
    first.rgb.sum().backward(retain_graph=True)
    once = scene.means.grad.clone()
    first.rgb.sum().backward()
    assert torch.allclose(scene.means.grad, 2 * once)
    scene.means.grad = None
    second.rgb.sum().backward()
    assert not torch.allclose(scene.means.grad, once)


def test_gradient_of_the_projection_alone(
    random_scene: Callable[..., Gaussians],
    ring_camera: Callable[..., Camera],
    with_grad: Callable[..., Gaussians],
) -> None:
    gradients = []
    for backend in ("cpu", "reference"):
        scene = with_grad(random_scene(40))
        rendering = render(scene, ring_camera(), backend=backend)
        visible = rendering.radii.amax(-1) > 0
        rendering.means2d[visible].square().sum().backward()
        gradients.append(scene.means.grad)
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-3, atol=1e-2)


def test_gradient_of_the_projection_after_that_of_the_picture(
    random_scene: Callable[..., Gaussians],
    ring_camera: Callable[..., Camera],
    with_grad: Callable[..., Gaussians],
) -> None:
    """A pass that reaches only the means on screen must not find what the picture's pass left behind."""
    scene = with_grad(random_scene(40))
    rendering = render(scene, ring_camera(), backend="cpu")
    torch.autograd.grad(rendering.rgb.sum(), rendering.means2d, retain_graph=True)
    rendering.means2d.sum().backward()
    assert not scene.sh.grad.any() and not scene.opacity_logits.grad.any()
    assert scene.means.grad.any()


def test_only_the_background_wants_a_gradient(
    random_scene: Callable[..., Gaussians], ring_camera: Callable[..., Camera]
) -> None:
    gradients = []
    for backend in ("cpu", "reference"):
        background = torch.tensor([0.3, 0.2, 0.1], requires_grad=True)
        rendering = render(random_scene(40), ring_camera(), background=background, backend=backend)
        rendering.rgb.square().sum().backward()
        gradients.append(background.grad)
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-4)


def test_only_the_features_want_a_gradient(
    random_scene: Callable[..., Gaussians], ring_camera: Callable[..., Camera]
) -> None:
    gradients = []
    for backend in ("cpu", "reference"):
        features = torch.ones(40, 3, requires_grad=True)
        render(random_scene(40), ring_camera(), features=features, backend=backend).features.sum().backward()
        gradients.append(features.grad)
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-4, atol=1e-4)


def test_gradients_survive_checkpointing(
    random_scene: Callable[..., Gaussians], ring_camera: Callable[..., Camera]
) -> None:
    scene, camera = random_scene(300), ring_camera()

    def picture(means: Tensor) -> Tensor:
        moved = Gaussians(means * 1.0, scene.quats, scene.log_scales, scene.opacity_logits, scene.sh)
        return render(moved, camera, backend="cpu").rgb

    gradients = []
    for recomputed in (False, True):
        means = scene.means.clone().requires_grad_()
        rgb = checkpoint(picture, means, use_reentrant=False) if recomputed else picture(means)
        torch.randn(5_000_000)  # overwrite whatever was freed
        rgb.square().sum().backward()
        gradients.append(means.grad)
    assert torch.equal(gradients[0], gradients[1])


def test_defaults_of_torch_and_autocast_change_nothing(
    random_scene: Callable[..., Gaussians], ring_camera: Callable[..., Camera]
) -> None:
    scene, camera = random_scene(60), ring_camera()
    expected, expected_gradients = draw(scene, camera, "cpu", features=torch.ones(60, 2))
    torch.set_default_dtype(torch.float64)
    try:
        got, gradients = draw(scene, camera, "cpu", features=torch.ones(60, 2, dtype=torch.float32))
    finally:
        torch.set_default_dtype(torch.float32)
    assert got.rgb.dtype == torch.float32 and torch.equal(got.rgb, expected.rgb)
    assert torch.equal(gradients["means"], expected_gradients["means"])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(render(scene, camera, backend="cpu").rgb, expected.rgb)


@pytest.mark.parametrize("length", [1e-25, 1e25])
def test_length_of_quaternions_does_not_matter(
    length: float, random_scene: Callable[..., Gaussians], ring_camera: Callable[..., Camera]
) -> None:
    scene = random_scene(60)
    scaled = Gaussians(scene.means, scene.quats * length, scene.log_scales, scene.opacity_logits, scene.sh)
    for backend in ("cpu", "reference"):
        expected = render(scene, ring_camera(), backend=backend).rgb
        assert torch.allclose(render(scaled, ring_camera(), backend=backend).rgb, expected, atol=1e-5)


def test_no_gaussians_at_all(ring_camera: Callable[..., Camera]) -> None:
    empty = Gaussians(
        torch.zeros(0, 3), torch.zeros(0, 4), torch.zeros(0, 3), torch.zeros(0), torch.zeros(0, 4, 3)
    )
    picture = render(empty, ring_camera(), background=(0.5, 0.25, 1.0), outputs=["depth", "ids", "normals"])
    assert torch.equal(picture.rgb[0, 0], torch.tensor([0.5, 0.25, 1.0]))
    assert (picture.ids == -1).all() and (picture.depth == 0).all()


finite = st.floats(-1.5, 1.5, width=32)


@st.composite
def scenes(draw_value: st.DrawFn) -> Gaussians:
    """Up to a dozen Gaussians of any size between dust and walls, anywhere around the camera."""
    n = draw_value(st.integers(1, 12))

    def values(low: float, high: float, *shape: int) -> Tensor:
        count = int(np.prod(shape))
        drawn = draw_value(st.lists(st.floats(low, high, width=32), min_size=count, max_size=count))
        return torch.tensor(drawn).reshape(shape)

    quats = values(-1, 1, n, 4)
    quats[quats.norm(dim=1) < 1e-3] = torch.tensor([1.0, 0, 0, 0])
    return Gaussians(
        values(-4, 4, n, 3), quats, values(-12, 2, n, 3), values(-6, 8, n), values(-1, 1, n, 4, 3)
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(scenes())
def test_any_scene_gives_the_picture_of_the_reference(scene: Gaussians) -> None:
    """In float32 both: a pixel that lies on the 1/255 or the 1e-4 cutoff may fall to either side."""
    camera = Camera.looking_at((0.0, -3.0, 0.5), (0.0, 0.0, 0.0), 40, 33)
    expected = render(scene, camera, backend="reference", outputs=["depth"])
    got = render(scene, camera, backend="cpu", outputs=["depth"])
    assert torch.isfinite(got.rgb).all() and torch.isfinite(got.depth).all()
    assert (got.rgb - expected.rgb).abs().mean() < 1e-4
    assert (got.alpha - expected.alpha).abs().mean() < 1e-4


@settings(max_examples=25, deadline=None)
@given(scenes())
def test_any_scene_gives_finite_gradients(scene: Gaussians) -> None:
    camera = Camera.looking_at((0.0, -3.0, 0.5), (0.0, 0.0, 0.0), 24, 20)
    _, gradients = draw(scene, camera, "cpu")
    for name, gradient in gradients.items():
        assert torch.isfinite(gradient).all(), name


@pytest.mark.skipif(not GARDEN.exists(), reason="the garden capture is not beside this checkout")
def test_real_scene() -> None:
    """8,000 of the garden's points at a quarter of the resolution."""
    data = np.load(GARDEN)
    keep = np.random.default_rng(0).choice(len(data["means3d"]), 8000, replace=False)
    means = torch.from_numpy(data["means3d"][keep])
    # A colour of exactly 0 lies on the clamp, where the gradient jumps.
    colors = 0.01 + 0.98 * torch.from_numpy(data["colors"][keep]).float() / 255
    n = len(means)
    g = torch.Generator().manual_seed(0)
    sh = torch.zeros(n, 16, 3)
    sh[:, 0] = sh0_from_rgb(colors)
    log_scales = -4.5 + 0.7 * torch.randn(n, 3, generator=g)
    scene = Gaussians(means, torch.randn(n, 4, generator=g), log_scales, torch.randn(n, generator=g), sh)
    view = torch.from_numpy(data["viewmats"][0])
    K = torch.from_numpy(data["Ks"][0])
    camera = Camera(torch.linalg.inv(view), K, int(data["width"]), int(data["height"])).rescaled(162, 105)
    assert_same(scene, camera, picture=1e-4, gradient=1e-3)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused_by_name(
    field: str, bad: float, random_scene: Callable[..., Gaussians], ring_camera: Callable[..., Camera]
) -> None:
    scene = random_scene(30)
    getattr(scene, field).view(30, -1)[17, 0] = bad
    with pytest.raises(ValueError, match=rf"Gaussians\.{field}: expected finite values, got .* in row 17"):
        render(scene, ring_camera(), backend="cpu")


def test_zero_quaternions_and_huge_scales_are_refused(
    random_scene: Callable[..., Gaussians], ring_camera: Callable[..., Camera]
) -> None:
    scene = random_scene(30)
    scene.quats[5] = 0
    with pytest.raises(ValueError, match="non-zero quaternions, got zeros in row 5"):
        render(scene, ring_camera(), backend="cpu")
    scene = random_scene(30)
    scene.log_scales[6, 1] = 90
    with pytest.raises(ValueError, match=r"expected at most 40 .* got 90 in row 6"):
        render(scene, ring_camera(), backend="cpu")


def test_other_dtypes_are_refused_and_pictures_too_large(
    random_scene: Callable[..., Gaussians], ring_camera: Callable[..., Camera]
) -> None:
    with pytest.raises(ValueError, match=r"expect float32 on cpu, got torch\.float64"):
        render(random_scene(5, dtype=torch.float64), ring_camera(), backend="cpu")
    with pytest.raises(ValueError, match="at most 1048560 px a side, got 2000000x48"):
        render(random_scene(5), ring_camera(width=2_000_000), backend="cpu")


def test_without_kernels_the_reference_runs_and_says_so_once(
    random_scene: Callable[..., Gaussians],
    ring_camera: Callable[..., Camera],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected = render(random_scene(20), ring_camera(), backend="reference")
    monkeypatch.setattr(kernels, "_best", lambda: None)
    cpu.available.cache_clear()
    try:
        pictures = [render(random_scene(20), ring_camera()) for _ in range(2)]
        assert torch.equal(pictures[1].rgb, expected.rgb)
        assert caplog.text.count("CPU kernels are not compiled") == 1
        with pytest.raises(Exception, match=r"install a C\+\+17 compiler"):
            render(random_scene(20), ring_camera(), backend="cpu")
    finally:
        cpu.available.cache_clear()


def test_every_variant_knows_itself() -> None:
    names = {"v4": "avx512", "v3": "avx2", "v1": "sse2", "neon": "neon"}
    for variant in kernels.variants():
        with kernels.using(variant):
            assert kernels.library().gw_instruction_set().decode() == names[variant]


def test_camera_looking_along_every_axis(random_scene: Callable[..., Gaussians]) -> None:
    for eye in ((3.0, 0, 0), (0, 0, 3.0), (0, 0, -3.0), (-2.0, 2.0, 1.0)):
        camera = Camera.pinhole(look_at(torch.tensor(eye), torch.zeros(3)), 40, 30, 50.0)
        assert_same(random_scene(50), camera)
