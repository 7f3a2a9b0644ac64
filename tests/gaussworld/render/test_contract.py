"""Bad input to `render`: every message names the field, what came, and what was expected."""

import math
from dataclasses import fields, replace

import jaxtyping
import pytest
import torch

from gaussworld.camera import Camera
from gaussworld.gaussians import Gaussians
from gaussworld.render import RenderSettings, render
from gaussworld.render.contract import MAX_LOG_SCALE, check_finite, facing_normals

PARAMETERS = ("means", "quats", "log_scales", "opacity_logits", "sh")


@pytest.fixture
def unchecked():
    """Annotations are checked under pytest only: without them, users meet the messages of the code itself."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def spoilt(scene: Gaussians, name: str, value: float, row: int = 2) -> Gaussians:
    field = getattr(scene, name).clone()
    field[row] = value
    return replace(scene, **{name: field})


@pytest.mark.parametrize("backend", ["reference", None])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", PARAMETERS)
def test_nan_and_infinity_are_refused(random_scene, ring_camera, name, value, backend):
    with pytest.raises(ValueError, match=rf"Gaussians\.{name}: expected finite values, got .* in row 2"):
        render(spoilt(random_scene(4), name, value), ring_camera(), backend=backend)


def test_zero_quaternions_are_refused(random_scene, ring_camera):
    with pytest.raises(
        ValueError, match=r"Gaussians\.quats: expected non-zero quaternions, got zeros in row 2"
    ):
        render(spoilt(random_scene(4), "quats", 0.0), ring_camera(), backend="reference")


def test_scales_whose_exponential_overflows_are_refused(random_scene, ring_camera):
    """Linear scales handed in as logarithms are how it happens: the message says where those go."""
    with pytest.raises(
        ValueError, match=r"log_scales: expected at most 40 .*, got 89 in row 2.*from_activated"
    ):
        render(spoilt(random_scene(4), "log_scales", 89.0), ring_camera(), backend="reference")
    check_finite(spoilt(random_scene(4), "log_scales", MAX_LOG_SCALE))
    check_finite(spoilt(random_scene(4), "log_scales", -500.0))


def test_the_largest_scales_are_drawn_without_nan(random_scene, ring_camera, with_grad):
    scene = with_grad(spoilt(random_scene(4), "log_scales", MAX_LOG_SCALE))
    image = render(scene, ring_camera(), backend="reference", outputs=("depth",))
    (image.rgb.sum() + image.depth.sum()).backward()
    assert torch.isfinite(image.rgb).all()
    assert all(torch.isfinite(getattr(scene, name).grad).all() for name in PARAMETERS)


def test_no_gaussians_are_fine():
    check_finite(
        Gaussians(
            torch.zeros(0, 3), torch.zeros(0, 4), torch.zeros(0, 3), torch.zeros(0), torch.zeros(0, 4, 3)
        )
    )


@pytest.mark.parametrize("opacity", [-0.01, 1.01, math.nan])
def test_opacities_outside_their_range_are_refused(opacity):
    with pytest.raises(ValueError, match="opacit"):
        Gaussians.from_activated(
            torch.zeros(1, 3), torch.eye(4)[:1], torch.ones(1, 3), torch.tensor([opacity]), torch.zeros(1, 3)
        )


@pytest.mark.parametrize(
    "name, shape, expected",
    [
        ("quats", (4, 3), r"\(4, 4\)"),
        ("quats", (3, 4), r"\(4, 4\)"),
        ("log_scales", (4,), r"\(4, 3\)"),
        ("opacity_logits", (4, 1), r"\(4,\)"),
        ("sh", (4, 3), r"\(4, k, 3\)"),
        ("sh", (4, 5, 3), "1, 4, 9 or 16"),
        ("object_ids", (3,), r"\(4,\)"),
    ],
)
def test_wrong_shapes_name_the_field(unchecked, random_scene, name, shape, expected):
    with pytest.raises(ValueError, match=expected) as caught:
        replace(random_scene(4), **{name: torch.zeros(shape, dtype=getattr(random_scene(4), name).dtype)})
    assert name in str(caught.value) or name == "sh"


@pytest.mark.parametrize("name", [field.name for field in fields(Gaussians) if field.name != "means"])
def test_wrong_devices_name_the_field(random_scene, name):
    scene = random_scene(4)
    with pytest.raises(ValueError, match=rf"Gaussians\.{name}: expected device cpu .*, got meta"):
        replace(scene, **{name: getattr(scene, name).to("meta")})


def test_arguments_on_another_device_are_refused(random_scene, ring_camera):
    for name in ("colors", "features"):
        with pytest.raises(ValueError, match=rf"{name}: expected device cpu .*, got meta"):
            render(
                random_scene(4),
                ring_camera(),
                backend="reference",
                **{name: torch.zeros(4, 3, device="meta")},
            )


def test_a_mask_on_another_device_is_refused(random_scene, ring_camera):
    mask = torch.ones(48, 64, dtype=torch.bool, device="meta")
    with pytest.raises(ValueError, match=r"mask: expected device cpu .*, got meta"):
        render(random_scene(4), ring_camera(), mask=mask)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("name", ["colors", "features"])
def test_colors_and_features_must_be_finite(name, backend, random_scene, ring_camera):
    values = torch.zeros(4, 3)
    values[2, 1] = float("nan")
    with pytest.raises(ValueError, match=rf"{name}: expected finite values, got .* in row 2"):
        render(random_scene(4), ring_camera(), backend=backend, **{name: values})


@pytest.mark.parametrize(
    "wrong",
    [
        {"near": 0.0},
        {"near": float("nan")},
        {"near": 2.0, "far": 1.0},
        {"eps2d": -0.1},
        {"radius_clip": -1.0},
        {"max_alpha": 1.0},
        {"max_alpha": -1.0},
        {"sh_degree": -1},
        {"sh_degree": 4},
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=r"^expected .*got "):
        RenderSettings(**wrong)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"background": [0.0, 0.0]}, r"background: expected shape \(3,\) or \(1, 3\), got \(2,\)"),
        ({"background": [0.0, float("nan"), 0.0]}, "background: expected finite values, got "),
        ({"background": torch.zeros(2, 3)}, r"background: expected shape .* got \(2, 3\)"),
        (
            {"mask": torch.ones(64, 48, dtype=torch.bool)},
            r"mask: expected shape \(48, 64\) .* got \(64, 48\)",
        ),
        ({"outputs": ("depht",)}, "expected outputs among depth, normals, ids, absgrad, got depht"),
    ],
)
def test_wrong_arguments_are_named(unchecked, random_scene, ring_camera, options, message):
    with pytest.raises(ValueError, match=message):
        render(random_scene(4), ring_camera(), backend="reference", **options)


@pytest.mark.parametrize("name, shape", [("colors", (3, 3)), ("features", (5, 2))])
def test_arguments_of_another_length_are_refused(random_scene, ring_camera, name, shape):
    with pytest.raises(ValueError, match=rf"{name}: expected shape \(4, .*got"):
        render(random_scene(4), ring_camera(), backend="reference", **{name: torch.zeros(shape)})


def test_an_unknown_backend_is_named(unchecked, random_scene, ring_camera):
    with pytest.raises(ValueError, match=r"backend"):
        render(random_scene(4), ring_camera(), backend="vulkan")


def test_a_batch_must_share_its_size(random_scene, ring_camera):
    with pytest.raises(ValueError, match=r"cameras of one size .* got 64x48, 65x48"):
        render(random_scene(4), [ring_camera(), ring_camera(width=65)])
    with pytest.raises(ValueError, match="at least one camera"):
        render(random_scene(4), [])


@pytest.mark.parametrize("width, height", [(0, 10), (10, 0), (-3, 10)])
def test_cameras_have_pixels(width, height):
    with pytest.raises(ValueError, match=f"got {width}x{height}"):
        Camera(torch.eye(4), torch.tensor([[10.0, 0, 5], [0, 10, 5], [0, 0, 1]]), width, height)


@pytest.mark.parametrize("fx, fy", [(0.0, 10.0), (10.0, 0.0), (-1.0, 10.0), (math.nan, 10.0)])
def test_singular_intrinsics_are_refused(fx, fy):
    with pytest.raises(ValueError, match=r"Camera\.K: expected .*focal"):
        Camera(torch.eye(4), torch.tensor([[fx, 0, 5], [0, fy, 5], [0, 0, 1]]), 10, 10)


def test_normals_are_unit_vectors_that_face_the_camera(random_scene, ring_camera):
    scene, camera = random_scene(50), ring_camera(3)
    normals = facing_normals(scene, camera)
    torch.testing.assert_close(normals.norm(dim=-1), torch.ones(50))
    assert ((camera.center - scene.means) * normals).sum(-1).min() >= 0
    along = torch.einsum("ni,nij,nj->n", normals, scene.covariances, normals)
    torch.testing.assert_close(along, scene.scales.amin(-1) ** 2)


@pytest.mark.parametrize("outputs", ["depth", ["rgb", "alpha", "depth"]])
def test_outputs_may_be_one_word_or_name_what_is_there_anyway(
    outputs, random_scene, ring_camera, as_in_production
):
    picture = render(random_scene(4), ring_camera(), outputs=outputs)
    assert picture.depth is not None and picture.normals is None


def test_what_is_no_gaussians_is_refused(ring_camera, as_in_production):
    with pytest.raises(TypeError, match="gaussians: expected Gaussians, got NoneType"):
        render(None, ring_camera())
