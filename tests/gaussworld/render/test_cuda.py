"""The CUDA adapter on the processor: a stand-in for gsplat checks how its functions are called."""

import inspect
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import Tensor

from gaussworld.camera import Camera, CameraModel
from gaussworld.errors import BackendUnavailable
from gaussworld.gaussians import Gaussians
from gaussworld.pose import invert_pose, pose_from, rotation_from_quats, rotation_from_rotvec
from gaussworld.render import RenderSettings, cuda, render
from gaussworld.render.projection import Projected, project_pinhole
from gaussworld.render.reference import TILE, TileLists, blend, blend_weights, splat_alphas, tile_lists
from gaussworld.sh import sh_basis

FUNCTIONS = (
    "fully_fused_projection",
    "spherical_harmonics",
    "isect_tiles",
    "isect_offset_encode",
    "rasterize_to_pixels",
    "rasterize_to_indices_in_range",
)


def module(name: str, **attributes) -> ModuleType:
    made = ModuleType(name)
    vars(made).update(attributes)
    return made


def garbage(values: Tensor, kept: Tensor) -> Tensor:
    """What gsplat leaves in memory that its kernels skip."""
    return torch.where(kept, values, torch.nan)


def fully_fused_projection(
    means, covars, quats, scales, viewmats, Ks, width, height, eps2d=0.3, near_plane=0.01, far_plane=1e10,
    radius_clip=0.0, packed=False, calc_compensations=False, opacities=None,
):  # fmt: skip
    """viewmats are camera_from_world, quats wxyz of any length, scales linear, opacities in [0, 1]."""
    assert covars is None and packed is False and bool((scales > 0).all())
    assert bool(((opacities >= 0) & (opacities <= 1)).all()) and opacities.shape == means.shape[:1]
    assert means.dtype == quats.dtype == scales.dtype == viewmats.dtype == Ks.dtype == torch.float32
    sh = means.new_zeros(len(means), 1, 3)
    gaussians = Gaussians(means, quats, scales.log(), opacities.detach().logit(), sh)
    settings = RenderSettings(near_plane, far_plane, eps2d, radius_clip, antialiased=calc_compensations)
    views = [
        project_pinhole(gaussians, Camera(invert_pose(pose), K, width, height), settings)
        for pose, K in zip(viewmats, Ks)
    ]
    radii, means2d, depths, conics, seen = (
        torch.stack([getattr(view, name) for view in views])
        for name in ("radii", "means2d", "depths", "conics", "opacities")
    )
    kept = (radii > 0).all(-1)
    compensations = garbage(seen / opacities.detach(), kept) if calc_compensations else None
    return (
        radii, garbage(means2d, kept[..., None]), garbage(depths, kept), garbage(conics, kept[..., None]),
        compensations,
    )  # fmt: skip


def spherical_harmonics(degrees_to_use, dirs, coeffs, masks=None):
    """Without the 0.5 that makes a colour of it."""
    assert coeffs.shape[:-2] == dirs.shape[:-1] == masks.shape and masks.dtype == torch.bool
    basis = sh_basis(torch.nn.functional.normalize(dirs, dim=-1), degrees_to_use)
    return garbage((basis[..., None] * coeffs[..., : basis.shape[-1], :]).sum(-2), masks[..., None])


def isect_tiles(means2d, radii, depths, tile_size, tile_width, tile_height, packed=False):
    """Keys are picture | tile | depth; rows are picture * n + row."""
    assert tile_size == TILE and packed is False and radii.dtype == torch.int32
    keys, rows = [], []
    for i in range(len(radii)):
        finite = torch.where(radii[i] > 0, means2d[i], 0).detach()
        empty = Projected(
            finite, finite.new_zeros(len(finite), 3), depths[i].detach(), depths[i].detach(), radii[i]
        )
        lists = tile_lists(empty, tile_width * TILE, tile_height * TILE)
        tiles = torch.repeat_interleave(torch.arange(tile_width * tile_height), lists.starts.diff())
        keys.append(((i * tile_width * tile_height + tiles) << 32) + 7)
        rows.append((lists.rows + i * len(finite)).to(torch.int32))
    return None, torch.cat(keys), torch.cat(rows)


def isect_offset_encode(isect_ids, n_images, tile_width, tile_height):
    count = n_images * tile_width * tile_height
    starts = torch.searchsorted(isect_ids >> 32, torch.arange(count))
    return starts.to(torch.int32).reshape(n_images, tile_height, tile_width)


def lists_of(i, n, isect_offsets, flatten_ids, masks=None):
    """The stand-in's tile lists of picture i in this package's form."""
    tiles = isect_offsets[i].numel()
    starts = torch.cat([isect_offsets.flatten(), torch.tensor([len(flatten_ids)])])[
        i * tiles : (i + 1) * tiles + 1
    ]
    pieces = [flatten_ids[a:b].long() - i * n for a, b in zip(starts[:-1].tolist(), starts[1:].tolist())]
    if masks is not None:
        pieces = [piece if on else piece[:0] for piece, on in zip(pieces, masks[i].flatten().tolist())]
    lengths = torch.tensor([0, *map(len, pieces)])
    return TileLists(torch.cat(pieces), lengths.cumsum(0))


def rasterize_to_pixels(
    means2d, conics, colors, opacities, image_width, image_height, tile_size, isect_offsets, flatten_ids,
    backgrounds=None, masks=None, packed=False, absgrad=False,
):  # fmt: skip
    """Alpha has a channel axis and is left unset where a tile is masked off."""
    c, n = opacities.shape
    assert (
        backgrounds is None
        and colors.shape[:2] == (c, n)
        and tile_size == TILE
        and flatten_ids.dtype == torch.int32
    )
    if masks is not None:
        assert masks.dtype == torch.bool and masks.shape == isect_offsets.shape
    if absgrad:
        means2d.absgrad = torch.zeros_like(means2d)
    values, alphas = [], []
    for i in range(c):
        lists = lists_of(i, n, isect_offsets, flatten_ids, masks)
        view = Projected(
            means2d[i], conics[i], opacities[i], opacities[i], torch.zeros(n, 2, dtype=torch.int32)
        )
        sums = means2d.absgrad[i] if absgrad else None
        one = blend(view, lists, colors[i], image_width, image_height, 0.999, absgrad=sums)
        alpha = one.alpha
        if masks is not None:
            drawn = (
                masks[i].repeat_interleave(TILE, 0).repeat_interleave(TILE, 1)[:image_height, :image_width]
            )
            alpha = garbage(alpha, drawn)
        values.append(one.values)
        alphas.append(alpha[..., None])
    return torch.stack(values), torch.stack(alphas)


def rasterize_to_indices_in_range(
    range_start, range_end, transmittances, means2d, conics, opacities, image_width, image_height, tile_size,
    isect_offsets, flatten_ids,
):  # fmt: skip
    """Hits, those of a pixel together and front to back; a pixel without light has none."""
    c, n = opacities.shape
    assert range_start == 0 and range_end * tile_size**2 >= int(isect_offsets.flatten().diff().max())
    assert transmittances.shape == (c, image_height, image_width)
    found = []
    for i in range(c):
        lists = lists_of(i, n, isect_offsets, flatten_ids)
        for v in range(image_height):
            for u in range(image_width):
                tile = v // TILE * isect_offsets.shape[-1] + u // TILE
                rows = lists.rows[lists.starts[tile] : lists.starts[tile + 1]]
                if not len(rows) or transmittances[i, v, u] == 0:
                    continue
                offsets = (means2d[i][rows] - torch.tensor([u + 0.5, v + 0.5]))[None]
                weights = blend_weights(splat_alphas(offsets, conics[i][rows], opacities[i][rows], 0.999))[0]
                hits = rows[weights > 0]
                found.append(torch.stack([hits, hits * 0 + v * image_width + u, hits * 0 + i]))
    return tuple(torch.cat([torch.empty(3, 0, dtype=torch.int64), *found], dim=1))


def test_the_stand_in_replaces_what_gsplat_has():
    """Names and order of parameters: a stand-in may leave out optional ones only."""
    gsplat = pytest.importorskip("gsplat", reason="gsplat is not installed")
    for name in FUNCTIONS:
        theirs, ours = inspect.signature(getattr(gsplat, name)), inspect.signature(globals()[name])
        needed = [p.name for p in theirs.parameters.values() if p.default is p.empty]
        assert [p.name for p in ours.parameters.values() if p.default is p.empty] == needed, name
        assert set(ours.parameters) <= set(theirs.parameters), name


def real_signature(name: str) -> inspect.Signature | None:
    try:
        import gsplat
    except ImportError:
        return None
    return inspect.signature(getattr(gsplat, name))


@pytest.fixture
def fake(monkeypatch) -> ModuleType:
    """The stand-in; every call must also fit the installed gsplat's signature."""

    def checked(name):
        real, stand_in = real_signature(name), globals()[name]

        def call(*args, **kwargs):
            calls.append(name)
            if real is not None:
                real.bind(*args, **kwargs)
            return stand_in(*args, **kwargs)

        return call

    calls: list[str] = []
    stand_in = module("gsplat", **{name: checked(name) for name in FUNCTIONS}, calls=calls)
    monkeypatch.setattr(cuda, "load_gsplat", lambda device: stand_in)
    return stand_in


OUTPUTS = ("depth", "normals", "ids", "absgrad")


def motion(twist: Tensor) -> Tensor:
    return pose_from(rotation_from_rotvec(twist[:3]), twist[3:])


def compare(gaussians, cameras, with_grad, **options):
    """Pictures and gradients of the adapter over the stand-in equal the reference's."""
    results = []
    for backend in ("cuda", "reference"):
        scene = with_grad(gaussians)
        # Gradients of poses along motions: those of the sixteen entries depend on how a pose is inverted.
        twists = [torch.zeros(6, requires_grad=True) for _ in cameras]
        views = [
            replace(c, world_from_camera=c.world_from_camera @ motion(t)) for c, t in zip(cameras, twists)
        ]
        image = render(scene, views, backend=backend, outputs=OUTPUTS, **options)
        image.means2d.retain_grad()
        sum((getattr(image, name) ** 2).sum() for name in ("rgb", "alpha", "depth", "normals")).backward()
        fields = {
            name: getattr(scene, name).grad for name in ("means", "quats", "log_scales", "opacity_logits")
        }
        tensors = {
            **{name: getattr(image, name) for name in ("rgb", "alpha", "depth", "normals", "ids", "radii")},
            "means2d": image.means2d,
            "means2d.grad": image.means2d.grad,
            "absgrad": image.means2d.absgrad,
            **fields,
            **{f"pose {i}": twist.grad for i, twist in enumerate(twists)},
        }
        if image.features is not None:
            tensors["features"] = image.features
        results.append(tensors)
    ours, theirs = results
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(
            ours[name], theirs[name], atol=1e-4, rtol=2e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("antialiased", [False, True])
def test_pinhole_batches_equal_the_reference(random_scene, ring_camera, with_grad, fake, antialiased):
    """Some Gaussians are behind the second camera, where gsplat leaves garbage."""
    cameras = [ring_camera(1, width=37, height=21), ring_camera(3, width=37, height=21, radius=0.3)]
    compare(
        random_scene(40, seed=1),
        cameras,
        with_grad,
        background=torch.tensor([[0.1, 0.2, 0.3], [0.5, 0.4, 0.3]]),
        features=torch.linspace(0, 1, 80).reshape(40, 2),
        settings=RenderSettings(antialiased=antialiased, sh_degree=2, near=0.05),
    )
    assert fake.calls[0] == "fully_fused_projection" and "spherical_harmonics" in fake.calls


def test_masks_equal_the_reference(random_scene, ring_camera, with_grad, fake):
    """Whole tiles are off, and single pixels of others."""
    mask = torch.rand(2, 21, 37, generator=torch.Generator().manual_seed(0)) > 0.3
    mask[0, :16, :16] = False
    mask[1, :, 16:] = False
    cameras = [ring_camera(i, width=37, height=21) for i in (0, 2)]
    compare(random_scene(30), cameras, with_grad, mask=mask, background=(0.3, 0.2, 0.1))


def test_distorted_cameras_use_the_unscented_projection(random_scene, ring_camera, with_grad, fake):
    pinhole = ring_camera(1, width=33, height=20)
    opencv = replace(pinhole, model=CameraModel.OPENCV, distortion=(-0.1, 0.02, 0.001, -0.001))
    fisheye = replace(pinhole, model=CameraModel.FISHEYE, distortion=(0.02, -0.01, 0.0, 0.0))
    compare(random_scene(30), [pinhole, opencv, fisheye], with_grad)
    assert "fully_fused_projection" not in fake.calls


def test_own_colors_skip_the_spherical_harmonics(random_scene, ring_camera, with_grad, fake):
    compare(random_scene(30), [ring_camera(width=20, height=20)], with_grad, colors=torch.rand(30, 3))
    assert "spherical_harmonics" not in fake.calls


def test_without_gaussians_gsplat_is_not_called(random_scene, ring_camera, fake):
    image = render(
        random_scene(0), ring_camera(), backend="cuda", background=(0.1, 0.2, 0.3), outputs=("ids",)
    )
    assert (
        (image.rgb[0, 0] == torch.tensor([0.1, 0.2, 0.3])).all()
        and (image.ids == -1).all()
        and not fake.calls
    )


def test_nothing_in_view_gives_background(random_scene, ring_camera, fake):
    scene = random_scene(3)
    scene = replace(scene, means=scene.means + 100 * torch.tensor([0.0, -1.0, 0.0]))
    image = render(scene, ring_camera(), backend="cuda", outputs=("ids", "depth"))
    assert not image.rgb.any() and not image.depth.any() and (image.ids == -1).all()


def test_ids_do_not_depend_on_the_bands(random_scene, ring_camera, fake, monkeypatch):
    scene, cameras = random_scene(40), [ring_camera(i, width=20, height=18) for i in range(2)]
    whole = render(scene, cameras, backend="cuda", outputs=("ids",)).ids
    monkeypatch.setattr(cuda, "_PIXELS_PER_PASS", 100)
    assert torch.equal(render(scene, cameras, backend="cuda", outputs=("ids",)).ids, whole)
    assert fake.calls.count("rasterize_to_indices_in_range") == 2 + 2 * 4


def test_heaviest_hits_are_found_per_pixel():
    """Pixel 1: 0.5, then 0.9 of the other half (0.45). Pixel 3: equal weights. Pixels 0 and 2 have none."""
    alphas = torch.tensor([0.5, 0.9, 0.2, 0.25, 0.1])
    best = cuda.heaviest_hits(alphas, torch.tensor([1, 1, 3, 3, 4]), 5)
    assert best[:3].tolist() == [-1, 0, -1] and best[3] in (2, 3) and best[4] == 4
    assert cuda.heaviest_hits(alphas[:0], torch.zeros(0, dtype=torch.int64), 2).tolist() == [-1, -1]
    same = cuda.heaviest_hits(torch.tensor([0.5, 0.0, 0.9, 0.99]), torch.tensor([0, 0, 1, 1]), 2)
    assert same.tolist() == [0, 2]


def test_tile_mask_keeps_tiles_with_any_pixel():
    mask = torch.zeros(1, 20, 40, dtype=torch.bool)
    mask[0, 3, 5] = mask[0, 19, 39] = True
    assert cuda.tile_mask(mask).tolist() == [[[True, False, False], [False, False, True]]]


def test_wxyz_is_what_gsplat_means_by_quaternions():
    """A quarter turn about z, first component real."""
    theirs = pytest.importorskip("gsplat.cuda._torch_impl", reason="gsplat is not installed")
    quats = torch.tensor([[2.0, 0, 0, 2.0], [0.3, -0.2, 0.9, 0.1]])
    torch.testing.assert_close(theirs._quat_to_rotmat(quats), rotation_from_quats(quats))


def test_only_the_compiled_max_alpha_is_accepted(random_scene, ring_camera, fake):
    with pytest.raises(ValueError, match=r"max_alpha 0\.999"):
        render(random_scene(3), ring_camera(), backend="cuda", settings=RenderSettings(max_alpha=0.99))


def test_double_precision_is_refused(random_scene, ring_camera, fake):
    with pytest.raises(ValueError, match="float32"):
        render(random_scene(3, dtype=torch.float64), ring_camera(), backend="cuda")


def test_too_many_channels_are_refused(random_scene, ring_camera, fake):
    with pytest.raises(ValueError, match="at most 513 channels"):
        render(random_scene(3), ring_camera(), backend="cuda", features=torch.zeros(3, 600))


@pytest.fixture
def probe(monkeypatch):
    """`probe(gsplat=module or None, backend=module)` runs the search for gsplat as if a GPU were there."""

    def run(gsplat=None, backend=None, has_gpu=True):
        cuda._probe.cache_clear()
        monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
        monkeypatch.setitem(__import__("sys").modules, "gsplat", gsplat)
        monkeypatch.setitem(
            __import__("sys").modules, "gsplat.cuda", backend and SimpleNamespace(_backend=backend)
        )
        return cuda._probe()

    yield run
    cuda._probe.cache_clear()


class Broken:
    """A gsplat.cuda whose kernels do not compile."""

    def __init__(self):
        self.tries = 0

    def __getattr__(self, name):
        self.tries += 1
        raise RuntimeError("Ninja is required to load C++ extensions\nand more")


def test_each_missing_piece_is_named(probe):
    """One sentence that says what to install."""
    known = module("gsplat", __version__="1.5.3")
    assert "finds none" in probe(has_gpu=False)
    assert "pip install gsplat" in probe(None)
    assert "knows gsplat 1.5.x, but 1.4.0 is installed" in probe(module("gsplat", __version__="1.4.0"))
    assert "no CUDA toolkit" in probe(known, module("gsplat.cuda._backend", _C=None))
    assert probe(known, module("gsplat.cuda._backend", _C=object())) is known


def test_a_failed_build_is_not_tried_again(probe, monkeypatch):
    broken = Broken()
    known = module("gsplat", __version__="1.5.3")
    probe(known, module("gsplat.cuda._backend", _C=None))
    cuda._probe.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "gsplat.cuda", broken)
    first = cuda._probe()
    tries = broken.tries
    assert tries and "Ninja is required" in first and "and more" not in first and "nvcc" in first
    with pytest.raises(BackendUnavailable, match="Ninja"):
        cuda.load_gsplat(torch.device("cuda"))
    assert broken.tries == tries


def test_asking_for_cuda_without_it_says_so(random_scene, ring_camera, probe):
    probe(has_gpu=False)
    with pytest.raises(BackendUnavailable, match="NVIDIA GPU"):
        render(random_scene(3), ring_camera(), backend="cuda")


def test_gaussians_must_be_on_the_gpu(probe, random_scene, ring_camera):
    probe(module("gsplat", __version__="1.5.3"), module("gsplat.cuda._backend", _C=object()))
    with pytest.raises(ValueError, match=r"expected Gaussians on a CUDA device, got cpu"):
        render(random_scene(3), ring_camera(), backend="cuda")


@pytest.mark.gpu
def test_gsplat_itself_equals_the_reference(random_scene, nasty_scene, ring_camera):
    """On a machine with CUDA: pictures to 1e-4."""
    if not cuda.available():
        pytest.skip("no CUDA device with a working gsplat")
    for scene in (random_scene(500), nasty_scene()):
        cameras = [ring_camera(i) for i in range(2)]
        ours = render(scene.to("cuda"), cameras, outputs=("depth", "normals"))
        theirs = render(scene, cameras, outputs=("depth", "normals"), backend="reference")
        for name in ("rgb", "alpha", "normals"):
            assert float((getattr(ours, name).cpu() - getattr(theirs, name)).abs().mean()) < 1e-4, name
