"""COLMAP models against pycolmap in both directions, binary and text, with rigs; refusals."""

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaussworld.camera import Camera, CameraModel
from gaussworld.capture import Capture, Frame
from gaussworld.errors import CaptureError, FileFormatError, GaussWorldError
from gaussworld.io import colmap, load_capture, save_cameras
from gaussworld.io.colmap_lens import LENSES, camera_from
from gaussworld.io.images import write_image
from gaussworld.pose import look_at

pycolmap = pytest.importorskip("pycolmap")


def synthetic(cameras: int = 2) -> "pycolmap.Reconstruction":
    """One rig of several cameras, so that COLMAP 4 writes poses of pictures that are no frame's reference."""
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig = 1, cameras, 3
    options.num_points3D = 20
    pycolmap.set_random_seed(3)
    return pycolmap.synthesize_dataset(options)


def blank_pictures(folder: Path, names: list[str]) -> None:
    for name in names:
        write_image(folder / name, torch.zeros(3, 4, 3))


@pytest.mark.parametrize("text", [False, True])
def test_we_read_what_pycolmap_writes(tmp_path: Path, text: bool) -> None:
    theirs = synthetic()
    for row, point in enumerate(theirs.points3D.values()):
        point.color = np.array([row, 7, 255 - row], np.uint8)
    model = tmp_path / "sparse" / "0"
    model.mkdir(parents=True)
    (theirs.write_text if text else theirs.write_binary)(model)
    assert (model / f"rigs.{'txt' if text else 'bin'}").is_file()
    blank_pictures(tmp_path / "images", [image.name for image in theirs.images.values()])
    ours = load_capture(tmp_path)
    assert len(ours) == 6
    by_name = {image.name: image for image in theirs.images.values()}
    points = np.stack([point.xyz for point in theirs.points3D.values()])
    for frame in ours.frames:
        image = by_name[frame.name]
        wanted = image.cam_from_world().inverse().matrix()
        np.testing.assert_allclose(frame.camera.world_from_camera[:3], wanted, atol=1e-6)
        pixels, _ = frame.camera.project(torch.from_numpy(points).float())
        reference = np.stack([image.project_point(point) for point in points])
        np.testing.assert_allclose(pixels, reference, atol=0.01)
    np.testing.assert_allclose(np.sort(ours.points.numpy(), 0), np.sort(points, 0), rtol=1e-6)
    colors = np.stack([point.color for point in theirs.points3D.values()]) / 255
    np.testing.assert_allclose(np.sort(ours.colors.numpy(), 0), np.sort(colors, 0), atol=1e-6)


def our_capture(folder: Path) -> Capture:
    lenses = [
        (CameraModel.PINHOLE, ()),
        (CameraModel.OPENCV, (0.1, -0.02, 0.003, 0.004)),
        (CameraModel.OPENCV, (0.1, -0.02, 0.003, 0.004, 0.01)),
        (CameraModel.OPENCV, (0.1, -0.02, 0.003, 0.004, 0.01, 0.02, 0.03, 0.04)),
        (CameraModel.FISHEYE, (0.1, -0.02, 0.003, 0.004)),
        (CameraModel.PINHOLE, ()),
    ]
    names = [f"left {i % 2}/{i}.png" for i in range(len(lenses))]
    blank_pictures(folder / "images", names)
    frames = []
    for i, (model, distortion) in enumerate(lenses):
        pose = look_at(torch.tensor([3.0 + i, 1.0 - i, 0.5]), torch.zeros(3))
        K = torch.tensor([[500.3, 0, 320.7], [0, 490.9, 240.1], [0, 0, 1]])
        frames.append(Frame(Camera(pose, K, 640, 480, model, distortion), folder / "images" / names[i]))
    return Capture(tuple(frames), torch.randn(9, 3), torch.randint(0, 256, (9, 3)) / 255)


@pytest.mark.parametrize("text", [False, True])
def test_pycolmap_reads_what_we_write(tmp_path: Path, text: bool) -> None:
    ours = our_capture(tmp_path)
    # Text separates by spaces, so names there must have none; COLMAP itself has the same limit.
    if text:
        (tmp_path / "images").rename(tmp_path / "pictures")
        moved = [tmp_path / "pictures" / Path(f.image).relative_to(tmp_path / "images") for f in ours.frames]
        renamed = [path.rename(path.with_name(f"p{path.name}")) for path in moved]
        for path in {path.parent for path in renamed}:
            path.rename(path.with_name(path.name.replace(" ", "_")))
        renamed = [path.parent.with_name(path.parent.name.replace(" ", "_")) / path.name for path in renamed]
        ours = replace(ours, frames=tuple(replace(f, image=p) for f, p in zip(ours.frames, renamed)))
    colmap.write(ours, tmp_path / "model", text=text)
    theirs = pycolmap.Reconstruction(str(tmp_path / "model"))
    assert len(theirs.cameras) == 5
    assert theirs.num_reg_images() == 6
    points = torch.tensor([[0.1, 0.2, 0.3], [-0.3, 0.1, -0.2]])
    by_name = {image.name: image for image in theirs.images.values()}
    for frame in ours.frames:
        assert isinstance(frame.image, Path)
        image = by_name[f"{frame.image.parent.name}/{frame.image.name}"]
        pose = image.cam_from_world().inverse().matrix()
        np.testing.assert_allclose(pose, frame.camera.world_from_camera[:3], atol=1e-6)
        pixels, _ = frame.camera.project(points)
        reference = np.stack([image.project_point(point) for point in points.double().numpy()])
        np.testing.assert_allclose(pixels, reference, atol=0.01)
    got = np.stack([theirs.points3D[i].xyz for i in range(1, 10)])
    np.testing.assert_array_equal(got.astype(np.float32), ours.points)
    colors = np.stack([theirs.points3D[i].color for i in range(1, 10)])
    np.testing.assert_array_equal(colors, (ours.colors * 255).round().int())


@pytest.mark.parametrize("text", [False, True])
def test_a_round_trip_keeps_cameras_and_points(tmp_path: Path, text: bool) -> None:
    ours = our_capture(tmp_path)
    colmap.write(ours, tmp_path / "sparse", text=text)
    got = load_capture(tmp_path)
    wanted = sorted(ours.frames, key=lambda frame: str(frame.image))
    for a, b in zip(got.frames, wanted, strict=True):
        assert a.image == b.image
        assert torch.allclose(a.camera.world_from_camera, b.camera.world_from_camera, atol=1e-6)
        assert torch.equal(a.camera.K, b.camera.K)
        padded = b.camera.distortion + (0.0,) * (3 if len(b.camera.distortion) == 5 else 0)
        assert (a.camera.model, a.camera.distortion) == (b.camera.model, padded)
    assert torch.equal(got.points, ours.points)
    assert torch.allclose(got.colors, ours.colors)


@pytest.mark.parametrize("lens", [lens for lens in LENSES if lens.model], ids=lambda lens: lens.name)
def test_lenses_project_as_colmap_says(lens) -> None:
    parameters = [500.0, 480.0][: lens.focals] + [320.0, 240.0]
    parameters += [0.05, -0.02, 0.004, -0.003, 0.01, 0.02, -0.01, 0.005][: lens.distortions]
    theirs = pycolmap.Camera(model=lens.name, width=640, height=480, params=parameters)
    points = torch.tensor([[0.1, 0.2, 1.0], [-0.5, 0.3, 1.5], [0.0, 0.0, 2.0], [0.7, -0.6, 1.1]])
    ours, _ = camera_from(lens, 640, 480, parameters, torch.eye(4)).project(points)
    np.testing.assert_allclose(ours, theirs.img_from_cam(points.double().numpy()), atol=1e-3)


def test_every_colmap_model_is_in_the_table() -> None:
    """Ids, names and parameter counts are COLMAP's, so that an unsupported row is still skipped right."""
    known = {name: value for name, value in pycolmap.CameraModelId.__members__.items() if name != "INVALID"}
    assert {lens.name: lens.id for lens in LENSES} == {name: value.value for name, value in known.items()}
    for lens in LENSES:
        camera = pycolmap.Camera.create_from_model_id(1, known[lens.name], 500.0, 640, 480)
        assert lens.parameters == len(camera.params), lens.name


def test_missing_pictures_are_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ours = our_capture(tmp_path)
    save_cameras(ours, tmp_path / "sparse" / "0")
    (tmp_path / "images" / "left 0" / "2.png").unlink()
    assert len(load_capture(tmp_path / "sparse" / "0" / "cameras.bin")) == 5
    assert "6 pictures; 1 of them are not on disk and are left out: left 0/2.png" in caplog.text
    (tmp_path / "images").rename(tmp_path / "photos")
    with pytest.raises(CaptureError, match="the pictures of 6 registered images, got none"):
        load_capture(tmp_path)
    assert len(load_capture(tmp_path, images=tmp_path / "photos")) == 5


def test_pictures_may_be_absent_when_only_cameras_are_wanted(tmp_path: Path) -> None:
    """A model is readable without its pictures, which keep the names they have in it."""
    ours = our_capture(tmp_path)
    save_cameras(ours, tmp_path / "sparse" / "0")
    (tmp_path / "images").rename(tmp_path / "photos")
    got = load_capture(tmp_path, need_pictures=False)
    wanted = sorted(str(frame.image).replace("images", "photos") for frame in ours.frames)
    assert len(got) == 6 and [frame.name for frame in got.frames] == [Path(name).name for name in wanted]
    assert torch.equal(got.points, ours.points)


def test_the_largest_piece_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ours = our_capture(tmp_path)
    colmap.write(replace(ours, frames=ours.frames[:1]), tmp_path / "sparse" / "0", images=tmp_path / "images")
    colmap.write(ours, tmp_path / "sparse" / "1")
    assert len(load_capture(tmp_path)) == 6
    assert caplog.text.count("holds 2 models; the largest, 1, is read") == 1


def test_models_do_not_mix(tmp_path: Path) -> None:
    ours = our_capture(tmp_path)
    synthetic().write_binary(tmp_path)
    with pytest.raises(GaussWorldError, match=r"rigs\.bin; choose an empty folder"):
        colmap.write(ours, tmp_path)
    with pytest.raises(GaussWorldError, match=r"cameras\.bin; choose an empty folder"):
        colmap.write(ours, tmp_path, text=True)


def test_pictures_in_memory_are_refused(tmp_path: Path) -> None:
    frame = Frame(our_capture(tmp_path).frames[0].camera, torch.zeros(480, 640, 3))
    with pytest.raises(ValueError, match="got one in memory"):
        save_cameras(Capture((frame,)), tmp_path / "model")


def model(folder: Path, text: bool) -> Path:
    colmap.write(our_capture(folder), folder / "sparse", text=text)
    return folder / "sparse"


COUNT = struct.pack("<Q", 10**12)
BAD_BINARY = [
    ("cameras", lambda data: COUNT + data[8:], "bytes for 1000000000000 cameras"),
    ("images", lambda data: COUNT + data[8:], "bytes for 1000000000000 images"),
    ("points3D", lambda data: COUNT + data[8:], "bytes for 1000000000000 points"),
    ("cameras", lambda data: b"", "8 bytes of the row count"),
    ("cameras", lambda data: data[:-1], "cut short"),
    ("images", lambda data: data[:-1], "cut short"),
    ("points3D", lambda data: data[:-8] + COUNT, "bytes of a track"),
    ("cameras", lambda data: data + b"x", "got 1 more bytes"),
    ("images", lambda data: data + b"x", "got 1 more bytes"),
    ("cameras", lambda data: data[:12] + struct.pack("<i", 99) + data[16:], "got 99"),
    ("cameras", lambda data: data[:8] + struct.pack("<I", 77) + data[12:], "a camera id among those"),
    ("cameras", lambda data: data[:16] + bytes(8) + data[24:], "at least 1 px"),
    ("images", lambda data: data[:12] + bytes(32) + data[44:], "non-zero quaternion"),
    ("images", lambda data: data[:44] + struct.pack("<d", np.nan) + data[52:], "NaN"),
    (
        "images",
        lambda data: data.replace(b"\0left", b"\1left").replace(b".png\0", b".png\1"),
        "cut short|name",
    ),
    ("points3D", lambda data: data[:16] + struct.pack("<d", np.inf) + data[24:], "finite positions.* row 0"),
]


@pytest.mark.parametrize(("name", "spoil", "message"), BAD_BINARY)
def test_bad_binary_files_are_refused(tmp_path: Path, name: str, spoil, message: str) -> None:
    file = model(tmp_path, text=False) / f"{name}.bin"
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(FileFormatError, match=message) as caught:
        load_capture(tmp_path)
    assert str(file.parent) in str(caught.value)


@settings(max_examples=50, deadline=None)
@given(
    name=st.sampled_from(["cameras", "images", "points3D"]),
    suffix=st.sampled_from([".bin", ".txt"]),
    noise=st.binary(max_size=40),
    at=st.integers(0, 400),
)
def test_noise_never_escapes_the_error_family(
    tmp_path_factory: pytest.TempPathFactory, name: str, suffix: str, noise: bytes, at: int
) -> None:
    """Bytes spliced into a good file give a capture or one of our errors, nothing else."""
    folder = tmp_path_factory.mktemp("noise")
    file = model(folder, text=suffix == ".txt") / f"{name}{suffix}"
    data = file.read_bytes()
    file.write_bytes(data[:at] + noise + data[at + len(noise) :])
    try:
        load_capture(folder)
    except (CaptureError, FileFormatError):
        pass


BAD_TEXT = [
    ("cameras", "1 PINHOLE 640 480 1 2 3", "line 1: expected 4 parameters"),
    ("cameras", "1 BOX 640 480 1 2 3", "line 1: expected a model among SIMPLE_PINHOLE"),
    ("cameras", "# a comment\n\none PINHOLE 640 480 1 2 3 4", "line 3: expected CAMERA_ID"),
    ("cameras", "1 FOV 640 480 500 500 320 240 0.9", "got FOV; undistort first"),
    ("images", "1 1 0 0 0 0 0 0", "line 1: expected IMAGE_ID"),
    ("images", "1 1 0 0 0 0 0 zero 1 a.png", "line 1: expected IMAGE_ID"),
    ("points3D", "1 0 0", "line 1: expected POINT3D_ID"),
    ("points3D", "1 0 0 0 300 0 0 0", "line 1: expected POINT3D_ID"),
]


@pytest.mark.parametrize(("name", "text", "message"), BAD_TEXT)
def test_bad_text_files_are_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (model(tmp_path, text=True) / f"{name}.txt").write_text(text)
    with pytest.raises(FileFormatError, match=message):
        load_capture(tmp_path)
