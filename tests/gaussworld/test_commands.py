"""`info`, `convert`, `render` on small files: what they print, write and refuse."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import gaussworld as gw
from gaussworld import commands
from gaussworld.cli import main
from gaussworld.commands import Viewpoint, around, choose_camera, picture, robust_bounds
from gaussworld.errors import CaptureError, ConfigError
from gaussworld.io import load_world, save_world
from gaussworld.io.images import read_image
from gaussworld.io.video import read_video
from gaussworld.render import Rendering

UP = torch.tensor([0.0, 0.0, 1.0])


@pytest.fixture
def ball() -> gw.Gaussians:
    """A red ball of radius 0.5 around (1, 2, 3)."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(400, 3, generator=generator), dim=1)
    means = directions * 0.5 + torch.tensor([1.0, 2.0, 3.0])
    quats = torch.tensor([[1.0, 0, 0, 0]]).repeat(400, 1)
    scales, opacities = torch.full((400, 3), 0.06), torch.full((400,), 0.9)
    return gw.Gaussians.from_activated(
        means, quats, scales, opacities, torch.tensor([[0.9, 0.1, 0.1]]).repeat(400, 1)
    )


@pytest.fixture
def scene(ball: gw.Gaussians, tmp_path: Path) -> Path:
    """The ball as a file that states its up direction and unit."""
    gw.save(ball, tmp_path / "scene.ply", up=(0.0, 0.0, 1.0), metres_per_unit=1.0)
    return tmp_path / "scene.ply"


def said(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    status = main([str(word) for word in words])
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def test_info_as_json(scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Count, degree, box, percentiles, what the file states, sizes."""
    status, out, _ = said(capsys, "info", scene, "--json")
    facts = json.loads(out)
    assert status == 0
    assert (facts["kind"], facts["count"], facts["sh_degree"]) == ("gaussians", 400, 0)
    assert facts["extent"] == pytest.approx([1, 1, 1], abs=0.05)
    assert facts["opacity_percentiles"] == pytest.approx({"5": 0.9, "50": 0.9, "95": 0.9}, abs=1e-4)
    assert facts["scale_percentiles"]["50"] == pytest.approx(0.06, abs=1e-4)
    assert (facts["up"], facts["metres_per_unit"]) == ([0, 0, 1], 1)
    assert facts["file_size"] == scene.stat().st_size
    assert facts["memory_size"] == 400 * (4 * (3 + 4 + 3 + 1 + 3 + 1) + 2)


def test_info_as_text(scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One fact a line; what nobody stated is left out."""
    _, out, _ = said(capsys, "info", scene)
    lines = dict(
        line.split(maxsplit=1) for line in out.splitlines() if line.startswith(("count", "kind", "up"))
    )
    assert lines == {"kind": "gaussians", "count": "400", "up": "0  0  1"}
    assert "frame" not in out and "5 %: 0.9, 50 %: 0.9, 95 %: 0.9" in out


def test_info_of_an_empty_scene(
    ball: gw.Gaussians, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No box, no percentiles, no failure."""
    gw.save(ball.select(slice(0, 0)), tmp_path / "empty.ply")
    status, out, _ = said(capsys, "info", tmp_path / "empty.ply", "--json")
    assert status == 0 and json.loads(out)["count"] == 0 and "bounds_min" not in json.loads(out)


def test_info_maps_what_json_cannot_write_to_null(
    ball: gw.Gaussians, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """exp(100) and the extent of ±3e38 are beyond float32, and yet the file is legal."""
    means, log_scales = ball.means.clone(), torch.full_like(ball.log_scales, 100.0)
    means[0, 0], means[1, 0] = 3e38, -3e38
    gw.save(replace(ball, means=means, log_scales=log_scales), tmp_path / "a.ply")
    status, out, err = said(capsys, "info", tmp_path / "a.ply", "--json")
    assert (status, err) == (0, "")
    facts = json.loads(out)
    assert facts["extent"][0] is None and facts["extent"][1] == pytest.approx(1, abs=0.05)
    assert facts["scale_percentiles"] == {"5": None, "50": None, "95": None}
    assert facts["bounds_max"][0] == pytest.approx(3e38)
    assert said(capsys, "info", tmp_path / "a.ply")[0] == 0


def test_info_of_a_real_capture(captures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Frames, sizes, splits."""
    _, out, _ = said(capsys, "info", captures / "fox", "--json")
    facts = json.loads(out)
    assert facts["kind"] == "capture" and facts["frames"] == 50
    assert sum(facts["cameras"].values()) == sum(facts["splits"].values()) == 50


def test_convert_and_back(scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The suffix decides; flags change what they say."""
    status, out, _ = said(capsys, "convert", scene, tmp_path / "a.splat")
    assert (status, out) == (0, f"Wrote 400 Gaussians to {tmp_path / 'a.splat'}.\n")
    assert (
        said(capsys, "convert", tmp_path / "a.splat", tmp_path / "b.ply", "--sh-degree", 2, "--up=-y")[0] == 0
    )
    assert gw.load(tmp_path / "b.ply").sh_degree == 2
    assert gw.load_framing(tmp_path / "b.ply").up == (0, -1, 0)


def test_convert_keeps_the_framing(scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Up and unit travel along."""
    said(capsys, "convert", scene, tmp_path / "b.ply")
    assert gw.load_framing(tmp_path / "b.ply") == gw.load_framing(scene)


def test_nothing_is_overwritten_unasked(scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither by convert nor by render; --force does."""
    before = scene.read_bytes()
    for words in (("convert", scene, scene), ("render", scene, "-o", scene)):
        status, _, err = said(capsys, *words)
        assert status == 2 and f"got {scene}, which exists; add --force to overwrite it" in err
    assert scene.read_bytes() == before
    assert said(capsys, "convert", scene, scene, "--force")[0] == 0


def test_render_shows_the_whole_scene(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The default camera: the ball is red, in the middle, and does not touch the border."""
    status, _, err = said(
        capsys, "render", scene, "-o", tmp_path / "a.png", "--width", 64, "--background", 1, 1, 1
    )
    assert status == 0, err
    image = read_image(tmp_path / "a.png")
    assert image.shape == (48, 64, 3)
    assert image[24, 32].tolist() == pytest.approx([0.9, 0.1, 0.1], abs=0.05)
    border = torch.cat([image[0], image[-1], image[:, 0], image[:, -1]])
    assert bool((border > 0.95).all())
    assert 0.03 < float((image[..., 1] < 0.5).float().mean()) < 0.6


@pytest.mark.parametrize("output", ["rgb", "depth", "normals", "alpha"])
def test_render_outputs(output: str, scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each is a picture with something in its middle."""
    words = ("render", scene, "-o", tmp_path / "a.png", "--width", 32, "--height", 32, "--output", output)
    status, _, err = said(capsys, *words)
    assert status == 0, err
    image = read_image(tmp_path / "a.png")
    assert image.shape == (32, 32, 3) and float(image[16, 16].max()) > 0.2 and float(image[0, 0].max()) < 0.02


def test_turntable(scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As many frames as asked for."""
    words = ("render", scene, "-o", tmp_path / "a.mp4", "--width", 64, "--turntable", 5)
    status, _, err = said(capsys, *words)
    assert status == 0, err
    assert len(list(read_video(tmp_path / "a.mp4"))) == 5


def test_camera_of_a_capture(scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--camera and --index take pose and lens from a capture; an index too far is refused in one sentence."""
    frames = []
    for index in range(2):
        camera = gw.Camera.looking_at((1.0, -1.0, 3.0 + index), (1.0, 2.0, 3.0), width=40, height=30)
        name = tmp_path / f"{index}.png"
        commands.write_image(name, torch.zeros(30, 40, 3))
        frames.append(gw.Frame(camera, name))
    gw.save_cameras(gw.Capture(tuple(frames)), tmp_path / "transforms.json")
    chosen, _ = choose_camera(Viewpoint(camera=tmp_path / "transforms.json", index=1), gw.load(scene), UP)
    assert torch.allclose(chosen.world_from_camera, frames[1].camera.world_from_camera, atol=1e-5)
    half, _ = choose_camera(Viewpoint(camera=tmp_path / "transforms.json", width=20), gw.load(scene), UP)
    assert (half.width, half.height) == (20, 15)
    with pytest.raises(CaptureError, match="expected --index between 0 and 1, got 2"):
        choose_camera(Viewpoint(camera=tmp_path, index=2), gw.load(scene), UP)
    with pytest.raises(ConfigError, match="expected either --camera or --eye and --target, got both"):
        choose_camera(Viewpoint(camera=tmp_path, eye=(0.0, 0.0, 0.0)), gw.load(scene), UP)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--width", 0), "--width: expected at least 1 px, got 0"),
        (("--height", 0), "--height: expected at least 1 px, got 0"),
        (("--width", -5), "--width: expected at least 1 px, got -5"),
        (("--width", 8, "--height", -1), "--height: expected at least 1 px, got -1"),
        (("--fov-deg", 0), "--fov-deg: expected more than 0 and less than 180, got 0"),
        (("--fov-deg", 180), "--fov-deg: expected more than 0 and less than 180, got 180"),
        (("--index", 4), "--index: expected --camera beside it, got 4 alone; add --camera"),
        (
            ("--camera", "a.json", "--fov-deg", 40),
            "expected either --camera, which has its lens, or --fov-deg, got both; leave one out",
        ),
    ],
)
def test_impossible_and_ignored_flags_are_refused(
    flags: tuple[object, ...], message: str, scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence, status 2, and no picture."""
    status, _, err = said(capsys, "render", scene, "-o", tmp_path / "a.png", *flags)
    assert (status, err) == (2, f"gaussworld render: {message}\n")
    assert not (tmp_path / "a.png").exists()


def test_a_background_that_is_no_number_is_refused(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As one sentence, not as a black picture."""
    words = ("render", scene, "-o", tmp_path / "a.png", "--width", 8, "--background", "nan", 0, 0)
    status, _, err = said(capsys, *words)
    assert status == 1 and err.startswith("gaussworld render: background: expected") and err.count("\n") == 1
    assert not (tmp_path / "a.png").exists()


def test_eye_and_target(ball: gw.Gaussians) -> None:
    """The camera stands at the eye and the target is in the middle of its picture."""
    view = Viewpoint(eye=(4.0, 0.0, 1.0), target=(1.0, 2.0, 3.0), fov_deg=40.0)
    camera, pivot = choose_camera(view, ball, UP)
    assert camera.center.tolist() == [4, 0, 1] and pivot.tolist() == [1, 2, 3]
    pixels, _ = camera.project(pivot[None])
    assert pixels[0].tolist() == pytest.approx([320, 240], abs=1e-3)
    assert camera.K[1, 1].item() == pytest.approx(240 / math.tan(math.radians(20)), rel=1e-5)


@pytest.mark.parametrize("up", [(0.0, 0.0, 1.0), (0.0, -1.0, 0.0), (1.0, 0.0, 0.0)])
def test_default_camera_looks_down_from_above(ball: gw.Gaussians, up: tuple[float, float, float]) -> None:
    """Whatever is up: up is upward in the picture, and the camera is above the middle."""
    direction = torch.tensor(up)
    camera, pivot = choose_camera(Viewpoint(), ball, direction)
    assert float((camera.center - pivot) @ direction) > 0
    assert float(camera.world_from_camera[:3, 1] @ direction) < -0.8


def test_floaters_do_not_move_the_camera(ball: gw.Gaussians) -> None:
    """One Gaussian a kilometre away, or a hundred transparent ones, change little."""
    far = gw.cat([ball, ball.select(slice(0, 1)).transformed(torch.eye(4), scale=1000.0)])
    for mine, theirs in zip(robust_bounds(far), robust_bounds(ball), strict=True):
        assert torch.allclose(mine, theirs, atol=0.05)
    with pytest.raises(ValueError, match="got an empty one"):
        robust_bounds(ball.select(slice(0, 0)))


def test_around_turns_about_the_pivot(ball: gw.Gaussians) -> None:
    """All places are equally far and equally high, and the second of four is a quarter turn on."""
    camera, pivot = choose_camera(Viewpoint(), ball, UP)
    cameras = around(camera, pivot, UP, 4)
    offsets = torch.stack([each.center - pivot for each in cameras])
    assert torch.allclose(cameras[0].world_from_camera, camera.world_from_camera, atol=1e-6)
    assert torch.allclose(offsets.norm(dim=1), offsets[0].norm().expand(4), atol=1e-4)
    assert torch.allclose(offsets[:, 2], offsets[0, 2].expand(4), atol=1e-4)
    assert torch.allclose(offsets[1, :2], torch.stack([-offsets[0, 1], offsets[0, 0]]), atol=1e-4)


def test_depth_picture_of_nothing() -> None:
    """No hit anywhere: black, not a division by zero."""
    empty = Rendering(torch.zeros(4, 4, 3), torch.zeros(4, 4), torch.zeros(4, 4), torch.zeros(4, 4, 3))
    for output in ("rgb", "depth", "normals", "alpha"):
        assert float(picture(empty, output).abs().max()) == 0


def test_what_a_format_drops_is_said(scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """.splat keeps no view-dependent colour."""
    said(capsys, "convert", scene, tmp_path / "sh.ply", "--sh-degree", 2)
    _, out, _ = said(capsys, "convert", tmp_path / "sh.ply", tmp_path / "flat.splat")
    assert ".splat keeps no SH above degree 0 (there were 2)" in out


def test_an_empty_picture_is_said(scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Looking away from everything."""
    words = ("render", scene, "-o", tmp_path / "a.png", "--eye", 0, -5, 0, "--target", 0, -9, 0)
    status, out, _ = said(capsys, *words, "--width", 40, "--height", 30)
    assert status == 0 and "No Gaussian is in view" in out
    _, out, _ = said(capsys, "render", scene, "-o", tmp_path / "b.png", "--width", 40, "--height", 30)
    assert "No Gaussian" not in out


def test_convert_keeps_the_objects_of_a_world(
    ball: gw.Gaussians, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Between formats that keep objects: kinds, names and parents; what is hidden stays hidden."""
    table = gw.WorldObject(2, "table", ball, gw.ObjectKind.RIGID)
    cup = gw.WorldObject(5, "cup", ball.select(slice(0, 9)), gw.ObjectKind.RIGID, parent=2, hidden=True)
    world = gw.World({2: table, 5: cup}, metres_per_unit=0.5, up=(0.0, 0.0, 1.0))
    save_world(world, tmp_path / "a.glb")
    status, out, _ = said(
        capsys, "convert", tmp_path / "a.glb", tmp_path / "b.gltf", "--sh-degree", 1, "--up=+y"
    )
    assert (status, out) == (0, f"Wrote 409 Gaussians in 2 objects to {tmp_path / 'b.gltf'}.\n")
    back = load_world(tmp_path / "b.gltf")
    facts = [(item.name, item.kind, item.parent, item.hidden) for item in back.objects.values()]
    assert facts == [
        ("table", gw.ObjectKind.RIGID, None, False), ("cup", gw.ObjectKind.RIGID, 2, True)
    ]  # fmt: skip
    assert (back.up, back.metres_per_unit) == ((0.0, 1.0, 0.0), 0.5)
    assert back.objects[2].gaussians.sh_degree == 1
    assert said(capsys, "convert", tmp_path / "b.gltf", tmp_path / "c.ply")[0] == 0
    assert len(gw.load(tmp_path / "c.ply")) == 400
    assert gw.load_framing(tmp_path / "c.ply").metres_per_unit == 0.5
