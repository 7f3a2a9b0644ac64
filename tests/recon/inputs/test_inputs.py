"""What an input is, whether its cameras can be true, and lenses undone from the file to the pinhole view."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gaussworld.camera import Camera
from gaussworld.capture import Capture, Frame
from gaussworld.errors import CaptureError, FileFormatError
from gaussworld.io import load_capture, save_cameras
from gaussworld.io.images import write_image
from gaussworld.pose import OPENGL_FROM_OPENCV, invert_pose, look_at, pose_from, rotation_from_rotvec
from recon.frames import load_view
from recon.inputs import InputKind, check_capture, read_posed, sniff

LENS = torch.tensor([[200.0, 0, 140], [0, 200, 105], [0, 0, 1]])


def pictures(folder: Path, count: int, suffix: str = ".jpg") -> list[Path]:
    paths = [folder / f"{i:03d}{suffix}" for i in range(count)]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not looked into")
    return paths


def with_cameras(folder: Path, points: int = 0) -> Capture:
    """Four small pictures around the origin, on disk."""
    frames = []
    for i in range(4):
        path = folder / "images" / f"{i}.png"
        write_image(path, torch.full((12, 16, 3), 0.5))
        frames.append(
            Frame(Camera.looking_at((math.cos(i), math.sin(i), 0.5), (0.0, 0.0, 0.0), 16, 12), path)
        )
    return Capture(tuple(frames), torch.randn(points, 3) * 0.1, torch.zeros(points, 3))


def rgbd(folder: Path) -> None:
    pictures(folder / "frames", 1, ".color.png")[0].rename(folder / "frames" / "frame-000000.color.png")


def rig(folder: Path) -> None:
    (folder / "videos").mkdir(parents=True)
    (folder / "videos" / "1.json").write_text("{}")
    (folder / "videos" / "1.mp4").write_bytes(b"")
    (folder / "cameras.json").write_text("{}")


POSED: dict[InputKind, Callable[[Path], object]] = {
    InputKind.TRANSFORMS: lambda folder: (folder / "transforms.json").write_text("{}"),
    InputKind.COLMAP: lambda folder: save_cameras(with_cameras(folder), folder / "sparse" / "0"),
    InputKind.RGBD: rgbd,
    InputKind.LLFF: lambda folder: (folder / "poses_bounds.npy").write_bytes(b""),
    InputKind.RIG: rig,
}


@pytest.mark.parametrize("kind", POSED, ids=lambda kind: kind.name)
def test_known_cameras_win_over_pictures(tmp_path: Path, kind: InputKind) -> None:
    """Whatever states cameras is taken, although there are pictures and a video beside it."""
    POSED[kind](tmp_path)
    pictures(tmp_path / "images", 5)
    (tmp_path / "clip.mp4").write_bytes(b"")
    source = sniff(tmp_path)
    assert (source.kind, source.path, source.images, source.videos) == (kind, tmp_path, (), ())
    assert source.kind.has_cameras


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("transforms_left.json", InputKind.TRANSFORMS),
        ("rig.json", InputKind.RIG),
        ("poses_bounds.npy", InputKind.LLFF),
        ("clip.MOV", InputKind.VIDEO),
    ],
)
def test_files_may_be_named(tmp_path: Path, name: str, kind: InputKind) -> None:
    """One file can be the input; of a COLMAP model any of its files."""
    (tmp_path / name).write_text("{}")
    assert sniff(tmp_path / name).kind is kind
    save_cameras(with_cameras(tmp_path), tmp_path / "model")
    assert sniff(tmp_path / "model" / "images.bin").kind is InputKind.COLMAP


def test_pictures_are_found_where_people_put_them(tmp_path: Path) -> None:
    """In the folder, in a usual folder in it, by camera below that, or in the only folder that has any."""
    here = pictures(tmp_path / "a", 4)
    for path in (
        here[0].with_name("._000.jpg"),
        here[0].with_name("Thumbs.db"),
        here[0].with_name("notes.txt"),
    ):
        path.write_text("")
    pictures(tmp_path / "a" / "images_4", 4)
    pictures(tmp_path / "a" / "__MACOSX", 4)
    assert sniff(tmp_path / "a").images == tuple(here)
    below = pictures(tmp_path / "b" / "images", 3, ".PNG")
    pictures(tmp_path / "b" / "masks", 3)
    assert sniff(tmp_path / "b").images == tuple(below)
    left, right = (pictures(tmp_path / "c" / "images" / side, 2) for side in ("left", "right"))
    assert sniff(tmp_path / "c").images == (*left, *right)
    only = pictures(tmp_path / "d" / "2024-05-01", 3, ".tiff")
    assert sniff(tmp_path / "d").images == tuple(only)
    pictures(tmp_path / "d" / "2024-05-02", 3)
    with pytest.raises(CaptureError, match=r"one folder of pictures, got 2 \(2024-05-01, 2024-05-02\); name"):
        sniff(tmp_path / "d")


def test_videos_alone_together_and_beside_photographs(tmp_path: Path) -> None:
    """A folder of videos, a list of them; telephones' clips beside photographs do not count."""
    first, second = tmp_path / "v" / "1.mp4", tmp_path / "v" / "2.mov"
    first.parent.mkdir()
    for path in (first, second):
        path.write_bytes(b"")
    assert sniff(first.parent) == sniff([first, second])
    assert sniff([first, second]).videos == (first, second)
    assert sniff([second]).videos == (second,)
    pictures(tmp_path / "v", 1)
    pictures(tmp_path / "v", 1, ".heic")
    assert sniff(tmp_path / "v").kind is InputKind.VIDEO
    images = pictures(tmp_path / "v", 3)
    assert sniff(tmp_path / "v").kind is InputKind.IMAGES
    assert sniff(images).images == tuple(images)
    for wrong in ([first, images[0]], [first.parent, first], []):
        with pytest.raises(CaptureError, match="one path, or several videos, or several pictures, got"):
            sniff(wrong)
    with pytest.raises(CaptureError, match=r"gone\.mp4: expected a video or a picture, got no such path"):
        sniff([first, tmp_path / "gone.mp4"])


REFUSED = [
    ({}, "got an empty folder; put the pictures or the video there"),
    ({".DS_Store": "", "__MACOSX/a.jpg": ""}, "got an empty folder"),
    ({"1.jpg": ""}, r"1\.jpg: expected at least 3 pictures from different places, got 1; walk around"),
    ({"1.jpg": "", "2.jpg": ""}, "expected at least 3 pictures from different places, got 2"),
    ({"a.txt": "", "b.txt": "", "c/d": ""}, r"got 2 \.txt, 1 folders; check the path"),
    ({"scene.splat": ""}, r"got scene\.splat, which is already a scene of Gaussians; .*gaussworld render"),
    ({"x.ply": "ply\nproperty float f_dc_0\nend_header\n"}, r"x\.ply, which is already a scene of Gaussians"),
    (
        {"x.ply": "ply\nelement vertex 3\nelement face 1\nend_header\n"},
        r"x\.ply, which is a mesh, not pictures",
    ),
    ({"x.ply": "ply\nelement vertex 3\nend_header\n"}, r"x\.ply, which is a cloud of points, not pictures"),
    ({"robot.glb": ""}, r"robot\.glb, which is a mesh, not pictures"),
    ({"photos.zip": ""}, "is an archive; unpack it"),
    ({"run.mcap": ""}, "is a recording of ROS"),
    ({"1.HEIC": "", "2.heic": ""}, r"1\.HEIC: is a picture .*convert it to JPEG .*\(2 of them"),
    ({"1.dng": ""}, r"1\.dng: is a camera's raw picture; develop it"),
]


@pytest.mark.parametrize(("files", "message"), REFUSED)
def test_what_is_no_input_is_explained(tmp_path: Path, files: dict[str, str], message: str) -> None:
    """Each with what it is and what to do."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(CaptureError, match=message) as caught:
        sniff(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_files_that_are_no_input_are_explained(tmp_path: Path) -> None:
    """The same sentences for a file that is named itself."""
    for name, message in (
        ("a.obj", r"a\.obj: is a mesh, not pictures"),
        ("a.spz", r"a\.spz: is already a scene of Gaussians"),
        ("a.xyz", r"a\.xyz: expected a folder of pictures, a video, or a capture .* got a file \.xyz"),
        ("a.jpg", "expected at least 3 pictures from different places, got 1"),
    ):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(CaptureError, match=message):
            sniff(tmp_path / name)
    with pytest.raises(CaptureError, match="got no such path; check its spelling"):
        sniff(tmp_path / "nowhere")


def test_a_few_undecodable_pictures_are_left_out(tmp_path: Path, caplog) -> None:
    """Among enough others they are only named."""
    paths = pictures(tmp_path, 4)
    pictures(tmp_path, 1, ".heic")
    assert sniff(tmp_path).images == tuple(paths)
    assert "000.heic (and 0 more like it) is left out: it is a picture in a format" in caplog.text


def test_posed_sources_are_read(tmp_path: Path) -> None:
    """A model gives its capture, pictures alone do not; a model without pictures says where to put them."""
    save_cameras(with_cameras(tmp_path), tmp_path / "sparse" / "0")
    assert len(read_posed(sniff(tmp_path), tmp_path / "out")) == 4
    with pytest.raises(ValueError, match="expected a source with cameras, got folder of pictures"):
        read_posed(sniff(tmp_path / "images"), tmp_path / "out")
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    source = sniff(tmp_path)
    assert source.kind is InputKind.COLMAP
    with pytest.raises(CaptureError, match="the pictures of 4 registered images, got none on disk"):
        read_posed(source, tmp_path / "out")


def test_the_real_captures_are_recognised(captures: Path) -> None:
    """Each folder of ../shared/data by what it is."""
    kinds = {name: sniff(captures / name).kind for name in ("fox", "banana", "rgbd_50", "redkitchen_video")}
    assert kinds == {
        "fox": InputKind.TRANSFORMS,
        "banana": InputKind.IMAGES,
        "rgbd_50": InputKind.RGBD,
        "redkitchen_video": InputKind.VIDEO,
    }
    assert len(sniff(captures / "fox" / "images").images) == 50
    assert sniff(captures / "pusht_robot").kind is InputKind.RIG
    assert sniff(captures / "pusht_robot" / "sample_demos" / "0").kind is InputKind.RIG
    assert len(sniff(captures / "pusht_robot" / "sample_demos" / "0" / "videos").videos) == 3
    with pytest.raises(CaptureError, match=r"got 1 \.npz"):
        sniff(captures / "garden_splats")


# Cameras that look the wrong way.


def inside_a_cube(camera: Camera) -> torch.Tensor:
    """What a camera inside sees of a cube from -3 to 3, whose walls are spotted at random."""
    origin, rays = camera.rays()
    way = ((rays.sign() * 3 - origin) / rays).amin(-1, keepdim=True)
    spots = torch.rand(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(2))
    walls = ((origin + rays * way) / 3)[None, None]
    seen = torch.nn.functional.grid_sample(spots, walls, align_corners=False)
    return seen[0, 0, 0, ..., None].expand(-1, -1, 3)


def spotted(poses: Sequence[torch.Tensor]) -> Capture:
    cameras = [Camera(pose, LENS, 280, 210) for pose in poses]
    return Capture(tuple(Frame(camera, inside_a_cube(camera)) for camera in cameras))


def ring_poses(outward: bool) -> list[torch.Tensor]:
    """Four cameras on an arc that look across it or away from it."""
    poses = []
    for i in range(4):
        eye = torch.tensor([1.2 * math.cos(0.25 * i), 1.2 * math.sin(0.25 * i), 0.1 * (i % 3)])
        target = eye * 2 if outward else torch.zeros(3)
        poses.append(look_at(eye, target + torch.tensor([0.0, 0.0, 0.2])))
    return poses


def forward_poses() -> list[torch.Tensor]:
    """Four cameras side by side with almost the same direction."""
    turns = [rotation_from_rotvec(torch.tensor([0.04 * (i % 2), 0.03 * i, 0.05 * i])) for i in range(4)]
    return [
        pose_from(turn, torch.tensor([0.2 * i - 0.5, 0.1 * (i % 2), -1.5])) for i, turn in enumerate(turns)
    ]


SCENES = {"inward": ring_poses(False), "outward": ring_poses(True), "forward": forward_poses()}
WRONG: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], str]] = {
    "flipped": (lambda pose: pose @ OPENGL_FROM_OPENCV, "axes flipped: they look like OpenGL's"),
    "inverted": (invert_pose, "are world-to-camera taken for camera-to-world"),
    "turned and inverted": (lambda pose: invert_pose(pose) @ OPENGL_FROM_OPENCV, "are world-to-camera"),
}


def misread(capture: Capture, wrongly: Callable[[torch.Tensor], torch.Tensor]) -> Capture:
    cameras = (
        replace(f.camera, world_from_camera=wrongly(f.camera.world_from_camera)) for f in capture.frames
    )
    return replace(capture, frames=tuple(replace(f, camera=c) for f, c in zip(capture.frames, cameras)))


@pytest.mark.parametrize("scene", SCENES)
def test_pictures_bear_out_true_poses_and_no_others(scene: str) -> None:
    """Without points: orbits, panoramas and forward-facing captures pass, and fail in any other reading."""
    capture = spotted(SCENES[scene])
    assert check_capture(capture) is capture
    for wrongly, message in WRONG.values():
        with pytest.raises(CaptureError, match=message):
            check_capture(misread(capture, wrongly))


@pytest.mark.parametrize("scene", SCENES)
def test_points_must_be_in_view(scene: str) -> None:
    """With points: flipped cameras see none of them; of inverted ones, which see some, the pictures tell."""
    capture = spotted(SCENES[scene])
    pixels = torch.rand(30, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([280.0, 210.0])
    points = torch.cat([f.camera.unproject(pixels, torch.full((30,), 1.5)) for f in capture.frames])
    capture = replace(capture, points=points, colors=torch.zeros_like(points))
    assert check_capture(capture) is capture
    with pytest.raises(CaptureError, match="are world-to-camera taken for camera-to-world"):
        check_capture(misread(capture, WRONG["inverted"][0]))
    blank = replace(capture, frames=tuple(replace(f, image=torch.zeros(210, 280, 3)) for f in capture.frames))
    assert check_capture(blank) is blank
    with pytest.raises(CaptureError, match=r"points in front of the cameras, got 0 in view .* axes flipped"):
        check_capture(misread(blank, WRONG["flipped"][0]))


def test_points_of_another_frame_are_told() -> None:
    """Points that no camera sees however it is read."""
    frames = tuple(
        Frame(Camera(pose, LENS, 280, 210), torch.zeros(210, 280, 3)) for pose in ring_poses(False)
    )
    far = Capture(frames, torch.tensor([[0.0, 0.0, 500.0]]), torch.zeros(1, 3))
    with pytest.raises(
        CaptureError, match=r"got none of 1 in view of any of 4 cameras; .* same frame and unit"
    ):
        check_capture(far)
    with pytest.raises(CaptureError, match="at least one frame"):
        check_capture(Capture(()))


def test_a_single_stray_camera_is_named(caplog) -> None:
    """It is kept, because points may cover only a part of the scene."""
    stray = look_at(torch.tensor([9.0, 0.0, 0.0]), torch.tensor([20.0, 0.0, 0.0]))
    poses = [*ring_poses(False), stray]
    frames = tuple(Frame(Camera(pose, LENS, 280, 210), Path(f"{i}.png")) for i, pose in enumerate(poses))
    capture = Capture(frames, torch.randn(200, 3) * 0.1, torch.zeros(200, 3))
    assert check_capture(capture) is capture
    assert (
        "1 of 5 cameras have none of the scene's points in view; their poses may be wrong: 4.png"
        in caplog.text
    )


def test_pictures_that_do_not_tell_give_no_alarm(tmp_path: Path) -> None:
    """Blank pictures, pictures that cannot be read, and a single one."""
    capture = with_cameras(tmp_path)
    flipped = misread(capture, WRONG["flipped"][0])
    assert check_capture(flipped) is flipped
    for path in (tmp_path / "images").iterdir():
        path.write_bytes(b"no picture")
    assert check_capture(flipped) is flipped
    assert len(check_capture(Capture(capture.frames[:1]))) == 1


@pytest.mark.parametrize("name", ["fox", "rgbd_50"])
def test_the_real_cameras_are_right_and_turned_ones_wrong(captures: Path, name: str) -> None:
    """Telephone photographs around a fox; a depth camera that pans, so that its axes meet behind it."""
    capture = load_capture(captures / name)
    assert check_capture(capture) is capture
    with pytest.raises(CaptureError, match="axes flipped: they look like OpenGL's"):
        check_capture(misread(capture, WRONG["flipped"][0]))


# From a file to the undistorted view: dots that a foreign formula puts into the picture, found again.


SIZE = (320, 240)


def scattered(generator: torch.Generator) -> np.ndarray:
    """Points in the camera frame, their pixels far enough apart for all to be told from each other."""
    x, y = torch.meshgrid(torch.linspace(-0.5, 0.5, 6), torch.linspace(-0.36, 0.36, 5), indexing="xy")
    plane = torch.stack([x, y], -1).reshape(-1, 2) + (torch.rand(30, 2, generator=generator) - 0.5) * 0.03
    depth = 1 + torch.rand(30, 1, generator=generator)
    return torch.cat([plane * depth, depth], -1).double().numpy()


def dotted(pixels: np.ndarray) -> torch.Tensor:
    """A picture with a soft white dot at each pixel position."""
    image = torch.zeros(SIZE[1] + 40, SIZE[0] + 40)
    for u, v in pixels.tolist():
        left, top = int(u) + 8, int(v) + 8
        if not (0 <= left <= SIZE[0] + 15 and 0 <= top <= SIZE[1] + 15):
            continue
        y, x = torch.meshgrid(*(torch.arange(25) + 0.5,) * 2, indexing="ij")
        spot = torch.exp(-((x + left - 20 - u) ** 2 + (y + top - 20 - v) ** 2) / (2 * 1.8**2))
        image[top : top + 25, left : left + 25] += spot
    return image[20:-20, 20:-20].clamp(0, 1)[..., None].expand(-1, -1, 3)


def dot_near(image: torch.Tensor, pixel: torch.Tensor, reach: int = 7) -> torch.Tensor:
    """The centre of brightness around a pixel."""
    u, v = (round(float(value) - 0.5) for value in pixel)
    window = image[v - reach : v + reach + 1, u - reach : u + reach + 1, 0]
    y, x = torch.meshgrid(*(torch.arange(2 * reach + 1) + 0.5,) * 2, indexing="ij")
    weights = window / window.sum()
    return torch.stack([(x * weights).sum() + u - reach, (y * weights).sum() + v - reach])


def assert_dots_are_found(frame: Frame, points_in_camera: np.ndarray) -> None:
    """The pinhole view projects the points to where the undistorted picture shows their dots."""
    view = load_view(frame)
    image = view.image
    points = torch.from_numpy(points_in_camera).float()
    points = points @ frame.camera.world_from_camera[:3, :3].T + frame.camera.center
    wanted, depth = view.camera.project(points)
    margin = torch.minimum(wanted, torch.tensor([view.camera.width, view.camera.height]) - wanted).amin(-1)
    seen = (margin > 9) & (depth > 0)
    assert int(seen.sum()) >= 12
    errors = [float((dot_near(image, pixel) - pixel).norm()) for pixel in wanted[seen]]
    assert max(errors) < 0.35 and float(np.median(errors)) < 0.12


COLMAP_LENSES = {
    "PINHOLE": [260.0, 255.0, 163.0, 118.0],
    "SIMPLE_RADIAL": [260.0, 163.0, 118.0, -0.18],
    "RADIAL": [260.0, 163.0, 118.0, -0.2, 0.08],
    "OPENCV": [260.0, 255.0, 163.0, 118.0, -0.2, 0.06, 0.004, -0.003],
    "FULL_OPENCV": [260.0, 255.0, 163.0, 118.0, -0.2, 0.06, 0.004, -0.003, 0.01, 0.02, 0.01, 0.005],
    "OPENCV_FISHEYE": [230.0, 225.0, 163.0, 118.0, 0.05, -0.02, 0.004, 0.001],
    "SIMPLE_RADIAL_FISHEYE": [230.0, 163.0, 118.0, 0.06],
}


@pytest.mark.parametrize(
    ("model", "text"),
    [*((model, False) for model in COLMAP_LENSES), ("OPENCV", True), ("OPENCV_FISHEYE", True)],
)
def test_colmap_lenses_are_undone(tmp_path: Path, model: str, text: bool) -> None:
    """Model and dots are pycolmap's, with COLMAP 4's rigs and frames; reading and undistorting are ours."""
    pycolmap = pytest.importorskip("pycolmap")
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig, options.num_points3D = (
        1,
        1,
        1,
        3,
    )
    pycolmap.set_random_seed(1)
    theirs = pycolmap.synthesize_dataset(options)
    camera = pycolmap.Camera(
        model=model, width=SIZE[0], height=SIZE[1], params=COLMAP_LENSES[model], camera_id=1
    )
    theirs.cameras[1].model, theirs.cameras[1].params = camera.model, camera.params
    theirs.cameras[1].width, theirs.cameras[1].height = SIZE
    (tmp_path / "sparse").mkdir()
    (theirs.write_text if text else theirs.write_binary)(tmp_path / "sparse")
    assert (tmp_path / "sparse" / f"rigs.{'txt' if text else 'bin'}").is_file()
    points = scattered(torch.Generator().manual_seed(7))
    (image,) = theirs.images.values()
    write_image(tmp_path / "images" / image.name, dotted(camera.img_from_cam(points)))
    (frame,) = load_capture(tmp_path).frames
    assert_dots_are_found(frame, points)


@pytest.mark.parametrize("fisheye", [False, True], ids=["perspective", "fisheye"])
def test_opencv_lenses_in_transforms_json_are_undone(tmp_path: Path, fisheye: bool) -> None:
    """Dots by OpenCV's own functions, whose first pixel centre is (0, 0)."""
    cv2 = pytest.importorskip("cv2")
    K = np.array([[240.0, 0, 162.5], [0, 238.0, 117.5], [0, 0, 1]])
    points, zero = scattered(torch.Generator().manual_seed(8)), np.zeros(3)
    if fisheye:
        lens = {"k1": 0.05, "k2": -0.02, "k3": 0.003, "k4": 0.001, "camera_model": "OPENCV_FISHEYE"}
        d = np.array([lens[key] for key in ("k1", "k2", "k3", "k4")])
        pixels = cv2.fisheye.projectPoints(points[:, None], zero, zero, K, d)[0]
    else:
        lens = {"k1": -0.2, "k2": 0.06, "p1": 0.004, "p2": -0.003, "k3": 0.01, "camera_model": "OPENCV"}
        d = np.array([lens[key] for key in ("k1", "k2", "p1", "p2", "k3")])
        pixels = cv2.projectPoints(points, zero, zero, K, d)[0]
    write_image(tmp_path / "a.png", dotted(pixels[:, 0] + 0.5))
    pose = look_at(torch.tensor([1.0, 2.0, 0.5]), torch.zeros(3)) @ OPENGL_FROM_OPENCV
    keys = {"fl_x": 240.0, "fl_y": 238.0, "cx": 163.0, "cy": 118.0, "w": SIZE[0], "h": SIZE[1]}
    frames = [{"file_path": "a.png", "transform_matrix": pose.tolist()}]
    (tmp_path / "transforms.json").write_text(json.dumps({**keys, **lens, "frames": frames}))
    (frame,) = load_capture(tmp_path).frames
    assert_dots_are_found(frame, points)


def test_a_truncated_jpeg_is_named(tmp_path: Path) -> None:
    """Its header is whole, so that the capture is read; loading the view says which file it is."""
    path = tmp_path / "images" / "0.jpg"
    noise = torch.rand(120, 160, 3, generator=torch.Generator().manual_seed(3))
    write_image(path, noise)
    frames = [{"file_path": "images/0.jpg", "transform_matrix": torch.eye(4).tolist()}]
    (tmp_path / "transforms.json").write_text(json.dumps({"fl_x": 100.0, "frames": frames}))
    path.write_bytes(path.read_bytes()[:2000])
    with Image.open(path) as picture:
        assert picture.size == (160, 120)
    (frame,) = load_capture(tmp_path).frames
    with pytest.raises(FileFormatError, match=r"0\.jpg: expected a whole picture, got: .*truncated.*again"):
        load_view(frame)
