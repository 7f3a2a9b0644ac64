"""Words for files and folders that hold nothing to reconstruct from: what they are and what to do instead."""

from collections import Counter
from pathlib import Path

from gaussworld.errors import FileFormatError

ACCEPTED = (
    "a folder of pictures, a video, or a capture with cameras (transforms.json, COLMAP model, RGB-D frames,"
    " calibrated rig, poses_bounds.npy)"
)

_SCENES = (".splat", ".spz", ".ksplat", ".sog")
_CODED = (".heic", ".heif", ".avif")
_RAW = (".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2")
UNDECODED = _CODED + _RAW
#: Suffixes of files that people try, and what to say about them.
_OTHERS = {
    _SCENES: "is already a scene of Gaussians; look at it with `gaussworld render`",
    (".obj", ".stl", ".glb", ".gltf", ".dae", ".fbx", ".off", ".urdf"): "is a mesh, not pictures",
    _CODED: (
        "is a picture in a format that is not decoded here; convert it to JPEG (`magick mogrify -format jpg"
        " *.heic`; an iPhone takes JPEG with Settings, Camera, Formats, Most Compatible)"
    ),
    _RAW: "is a camera's raw picture; develop it to JPEG or PNG",
    (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"): "is an archive; unpack it and give the folder",
    (".bag", ".mcap", ".db3"): "is a recording of ROS; export its pictures or its video",
    (".gif",): "is an animation of few colours; give the video it was made from",
}
_MAX_HEADER = 1 << 16


def visible(folder: Path) -> list[Path]:
    """What a person put there: no hidden files, and nothing that archives and file managers leave behind."""
    return [path for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX", "@eaDir"))]


def contents(folder: Path) -> str:
    """What is in a folder without anything to use; a scene or mesh in it is named."""
    entries = sorted(visible(folder))
    if not entries:
        return "an empty folder; put the pictures or the video there"
    for path in entries:
        if path.is_file() and (path.suffix.lower() == ".ply" or _said(path) is not None):
            return f"{path.name}, which {what_it_is(path)}"
    kinds = Counter(path.suffix.lower() or path.name if path.is_file() else "folders" for path in entries)
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(4)) + "; check the path"


def what_it_is(path: Path) -> str:
    """What a file is that holds no pictures."""
    if path.suffix.lower() == ".ply":
        return _what_ply(path)
    return (
        _said(path) or f"expected {ACCEPTED}, got a file {path.suffix or 'without a suffix'}; check the path"
    )


def _said(path: Path) -> str | None:
    return next((said for suffixes, said in _OTHERS.items() if path.suffix.lower() in suffixes), None)


def _what_ply(path: Path) -> str:
    try:
        with path.open("rb") as file:
            header = file.read(_MAX_HEADER).partition(b"end_header")[0]
    except OSError as error:
        raise FileFormatError(f"{path}: expected a readable file, got: {error.strerror}") from error
    if b"f_dc_0" in header or b"packed_position" in header:
        return _OTHERS[_SCENES]
    return "is a mesh, not pictures" if b"element face" in header else "is a cloud of points, not pictures"
