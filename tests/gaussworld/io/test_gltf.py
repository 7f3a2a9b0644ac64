"""glTF with KHR_gaussian_splatting: worlds out and back, what others see and write, and hostile files."""

import base64
import copy
import json
import logging
import math
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gaussworld.errors import FileFormatError
from gaussworld.gaussians import DELETED, HIDDEN, Gaussians
from gaussworld.io import load, load_framing, load_world, save, save_world
from gaussworld.io.glb import neighbour
from gaussworld.pose import normalize_quats, pose_from, rotation_from_rotvec, transform_points
from gaussworld.sh import rgb_from_sh0
from gaussworld.world import World
from gaussworld.world_object import ObjectKind, WorldObject

KHR = "KHR_gaussian_splatting"
SHARED = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def blob(seed=0, n=5, k=4):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    quats = normalize_quats(normal(n, 4))
    return Gaussians(normal(n, 3), quats, normal(n, 3) - 4, normal(n), normal(n, k, 3) * 0.3)


def turn(x, y, z, shift=(0.0, 0.0, 0.0)):
    return pose_from(rotation_from_rotvec(torch.tensor([x, y, z])), torch.tensor(shift))


def kitchen():
    """A table with a cup on it, a hidden lamp."""
    table = WorldObject(3, "table", blob(1), ObjectKind.RIGID, turn(0.1, 0.2, 0.3, (1.0, 2.0, 3.0)))
    cup = WorldObject(8, "cup", blob(2), ObjectKind.RIGID, turn(0.5, -0.2, 0.3, (1.0, 2.0, 4.0)), parent=3)
    lamp = WorldObject(9, "lamp", blob(3, k=1), hidden=True)
    return World({3: table, 8: cup, 9: lamp}, metres_per_unit=0.5, up=(0.0, 0.0, 1.0))


def opened(path):
    """The JSON and the binary chunk of a GLB, by the specification's "GLB File Format Specification"."""
    data = Path(path).read_bytes()
    magic, version, length, size, kind = struct.unpack("<4sIIII", data[:20])
    assert (magic, version, length, kind) == (b"glTF", 2, len(data), 0x4E4F534A)
    return json.loads(data[20 : 20 + size]), data[28 + size :]


def packed(document, binary, path):
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    body = (
        struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", len(binary), 0x4E4942) + binary
    )
    Path(path).write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body)
    return path


def foreign(gaussians, path, nodes=None, **changes):
    """A file as another program writes it: no extras, no root of ours."""
    save_world(World({0: WorldObject(0, "x", gaussians)}), path)
    document, binary = opened(path)
    document["nodes"] = nodes or [{"mesh": 0}]
    below = {child for node in document["nodes"] for child in node.get("children", [])}
    document["scenes"] = [{"nodes": [i for i in range(len(document["nodes"])) if i not in below]}]
    return packed(document | changes, binary, path)


@SHARED
@given(data=st.data())
def test_worlds_come_back(tmp_path, worlds, data):
    """Objects, kinds, joints, parents, names and facts; what is exact and what is near says `check_same`."""
    world = worlds.build(data.draw(worlds.recipes))
    save_world(world, tmp_path / "a.glb")
    worlds.check_same(load_world(tmp_path / "a.glb"), world)


def test_the_text_form_says_the_same(tmp_path, worlds):
    """A .gltf keeps the buffer as base64 in the same JSON."""
    save_world(kitchen(), tmp_path / "a.gltf")
    worlds.check_same(load_world(tmp_path / "a.gltf"), kitchen())
    assert [each.name for each in tmp_path.iterdir()] == ["a.gltf"]


def test_plain_gaussians_come_back_with_their_ids_and_framing(tmp_path):
    """`save` and `load`: no rounding of positions, and what was said of the frame."""
    gaussians = replace(blob(n=6), object_ids=torch.tensor([0, 4, 0, 4, 4, 0], dtype=torch.int32))
    save(gaussians, tmp_path / "a.glb", frame="robot base", up=(0.0, 0.0, 2.0), metres_per_unit=0.1)
    framing = load_framing(tmp_path / "a.glb")
    assert (framing.frame, framing.up, framing.metres_per_unit) == ("robot base", (0.0, 0.0, 2.0), 0.1)
    back = load(tmp_path / "a.glb")
    order = torch.tensor([0, 2, 5, 1, 3, 4])
    assert torch.equal(back.means, gaussians.means[order]) and torch.equal(back.sh, gaussians.sh[order])
    assert back.object_ids.tolist() == [0, 0, 0, 4, 4, 4]
    assert load_framing(foreign(blob(), tmp_path / "b.glb")).up == (0.0, 1.0, 0.0)


def test_a_long_chain_comes_back(tmp_path, worlds):
    """A rope of rigid links, each mounted on the one before, in whichever order of ids."""
    links = {n: WorldObject(n, "link", blob(n, 1), parent=n + 1 if n < 99 else None) for n in range(100)}
    save_world(World(links), tmp_path / "a.glb")
    worlds.check_same(load_world(tmp_path / "a.glb"), World(links))


def test_deleted_and_hidden_gaussians_are_not_written(tmp_path):
    """What is shown is what others get."""
    flags = torch.tensor([0, DELETED, HIDDEN, 0, 0], dtype=torch.uint8)
    save_world(World({1: WorldObject(1, "a", replace(blob(), flags=flags))}), tmp_path / "a.glb")
    assert torch.equal(load(tmp_path / "a.glb").means, blob().means[[0, 3, 4]])


def test_an_empty_world(tmp_path):
    """No buffer, no extension, and nothing comes back."""
    save_world(World(up=(0.0, 1.0, 0.0)), tmp_path / "a.glb")
    assert load_world(tmp_path / "a.glb").objects == {} and len(load(tmp_path / "a.glb")) == 0
    assert "buffers" not in json.loads((tmp_path / "a.glb").read_bytes()[20:])


def test_the_file_follows_the_specification(tmp_path):
    """ "Extending Mesh Primitives" and "Attributes": names, types, units, the extension's object."""
    save_world(kitchen(), tmp_path / "a.glb")
    document, binary = opened(tmp_path / "a.glb")
    primitive = document["meshes"][0]["primitives"][0]
    assert primitive["mode"] == 0 and document["extensionsUsed"][0] == KHR
    assert primitive["extensions"][KHR] == {
        "kernel": "ellipse", "colorSpace": "srgb_rec709_display", "projection": "perspective",
        "sortingMethod": "cameraDistance",
    }  # fmt: skip
    harmonics = ["SH_DEGREE_0_COEF_0", *(f"SH_DEGREE_1_COEF_{n}" for n in range(3))]
    ours = [f"{KHR}:{name}" for name in ("ROTATION", "SCALE", "OPACITY", *harmonics)]
    assert list(primitive["attributes"]) == ["POSITION", "COLOR_0", *ours]

    def values(name):
        accessor = document["accessors"][primitive["attributes"][name]]
        start = document["bufferViews"][accessor["bufferView"]]["byteOffset"]
        kind = "u1" if accessor["componentType"] == 5121 else "<f4"
        width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[accessor["type"]]
        return torch.from_numpy(np.frombuffer(binary, kind, 5 * width, start).reshape(5, width).copy())

    table = kitchen().objects[3].gaussians
    assert torch.equal(values(f"{KHR}:ROTATION"), table.quats[:, [1, 2, 3, 0]])
    torch.testing.assert_close(values(f"{KHR}:SCALE"), table.scales)
    torch.testing.assert_close(values(f"{KHR}:OPACITY")[:, 0], table.opacities)
    assert torch.equal(values(f"{KHR}:SH_DEGREE_1_COEF_1"), table.sh[:, 2])
    # "Fallback Behavior": the diffuse colour, decoded from sRGB; here by the power law within 2 %.
    diffuse = rgb_from_sh0(table.sh[:, 0]).clamp(0, 1) ** 2.2
    torch.testing.assert_close(values("COLOR_0")[:, :3] / 255.0, diffuse, rtol=0, atol=0.02)


@pytest.mark.parametrize("up", [None, (0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (0.0, -1.0, 0.0), (0.6, 0.0, -0.8)])
def test_others_see_it_upright_and_in_metres(tmp_path, up):
    """trimesh, which knows nothing of us, finds every point where the world has it, +y up, in metres."""
    world = replace(kitchen(), up=up)
    save_world(world, tmp_path / "a.glb")
    scene = trimesh.load(tmp_path / "a.glb")
    points = {}
    for name in scene.graph.nodes_geometry:
        matrix, geometry = scene.graph[name]
        points[name] = trimesh.transform_points(scene.geometry[geometry].vertices, matrix)
    assert set(points) == {"table", "cup", "lamp (hidden)"}
    along = torch.tensor(up or (0.0, 0.0, 1.0))
    for name, item in (("table", world.objects[3]), ("cup", world.objects[8])):
        wanted = transform_points(item.world_from_object, item.gaussians.means)
        assert np.allclose(points[name][:, 1], (wanted @ along) * 0.5, atol=1e-5)
        spread = torch.cdist(wanted, wanted) * 0.5
        seen = torch.from_numpy(points[name]).float()
        assert torch.allclose(torch.cdist(seen, seen), spread, atol=1e-4)


def test_a_node_moved_elsewhere_moves_its_object(tmp_path):
    """The tree wins over the record; what it carries comes along, all else keeps its bits."""
    save_world(kitchen(), tmp_path / "a.glb")
    document, binary = opened(tmp_path / "a.glb")
    table = next(node for node in document["nodes"] if node["name"] == "table")
    x, y, z = table["translation"]
    table["translation"] = [x + 0.25, y, z]
    world = load_world(packed(document, binary, tmp_path / "b.glb"))
    shift = torch.tensor([0.25, 0.0, 0.0])
    for number in (3, 8):
        was, now = (each.objects[number].world_from_object for each in (kitchen(), world))
        torch.testing.assert_close(now[:3, 3], was[:3, 3] + shift, rtol=0, atol=1e-6)
    assert torch.equal(world.objects[9].world_from_object, kitchen().objects[9].world_from_object)


def test_a_node_copied_elsewhere_becomes_another_object(tmp_path):
    """Two nodes with one record: the second gets an id of its own."""
    save_world(kitchen(), tmp_path / "a.glb")
    document, binary = opened(tmp_path / "a.glb")
    copied = copy.deepcopy(next(node for node in document["nodes"] if node["name"] == "cup"))
    document["nodes"][0]["children"].append(len(document["nodes"]))
    document["nodes"].append(copied)
    world = load_world(packed(document, binary, tmp_path / "b.glb"))
    assert list(world.objects) == [3, 8, 9, 10] and world.objects[10].parent is None
    assert torch.equal(world.objects[10].gaussians.means, world.objects[8].gaussians.means)


def test_a_foreign_file_with_one_object_is_a_background(tmp_path):
    """In glTF's own frame: +y up, metres."""
    world = load_world(foreign(blob(), tmp_path / "a.glb"))
    assert (world.up, world.metres_per_unit) == ((0.0, 1.0, 0.0), 1.0)
    (item,) = world.objects.values()
    assert (item.id, item.name, item.kind) == (0, "x", ObjectKind.STATIC)
    assert torch.equal(load(tmp_path / "a.glb").means, blob().means)


def test_a_foreign_file_with_several_objects(tmp_path):
    """Named after their nodes, rigid, parents by the tree; scales go into the Gaussians."""
    nodes = [
        {"name": "room", "translation": [0, 0, 1], "children": [1, 3]},
        {"name": "chair", "mesh": 0, "rotation": [0, 0, 0.6, 0.8], "scale": [2, 2, 2], "children": [2]},
        {"name": "cushion", "mesh": 0, "matrix": [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 5, 6, 7, 1]},
        {"name": "hook", "mesh": 0, "extensions": {"KHR_node_visibility": {"visible": False}}},
    ]
    world = load_world(foreign(blob(), tmp_path / "a.glb", nodes))
    assert [(i.id, i.name, i.parent, i.kind.value, i.hidden) for i in world.objects.values()] == [
        (1, "chair", None, "RIGID", False), (2, "cushion", 1, "RIGID", False),
        (3, "hook", None, "RIGID", True),
    ]  # fmt: skip
    chair, cushion = world.objects[1], world.objects[2]
    torch.testing.assert_close(chair.gaussians.means, blob().means * 2)
    torch.testing.assert_close(chair.gaussians.scales, blob().scales * 2)
    rotation = rotation_from_rotvec(torch.tensor([0.0, 0.0, 2 * math.atan2(0.6, 0.8)]))
    wanted = rotation @ (2 * torch.tensor([5.0, 6.0, 7.0])) + torch.tensor([0.0, 0.0, 1.0])
    torch.testing.assert_close(cushion.world_from_object[:3, 3], wanted)


def test_quantised_and_interleaved_attributes(tmp_path):
    """Normalized bytes and shorts, and views with a stride, as the table of attributes allows them."""
    document, binary = opened(foreign(blob(n=2, k=1), tmp_path / "a.glb"))
    row = np.dtype([("q", "<i2", 4), ("s", "<u2", 3), ("pad", "<u2"), ("o", "u1"), ("more", "u1", 3)])
    rows = np.zeros(2, row)
    rows["q"][:, 3], rows["s"], rows["o"] = 32767, [[6554, 13107, 65535], [1, 1, 1]], [255, 51]
    document["bufferViews"].append(
        {"buffer": 0, "byteOffset": len(binary), "byteLength": rows.nbytes, "byteStride": row.itemsize}
    )
    document["buffers"][0]["byteLength"] = len(binary) + rows.nbytes
    attributes, view = document["meshes"][0]["primitives"][0]["attributes"], len(document["bufferViews"]) - 1
    for name, kind, component, offset in (
        ("ROTATION", "VEC4", 5122, 0), ("SCALE", "VEC3", 5123, 8), ("OPACITY", "SCALAR", 5121, 16),
    ):  # fmt: skip
        attributes[f"{KHR}:{name}"] = len(document["accessors"])
        document["accessors"].append(
            {"bufferView": view, "byteOffset": offset, "componentType": component, "normalized": True,
             "count": 2, "type": kind}
        )  # fmt: skip
    got = load(packed(document, binary + rows.tobytes(), tmp_path / "b.glb"))
    assert got.quats.tolist() == [[1, 0, 0, 0]] * 2
    torch.testing.assert_close(got.scales[0], torch.tensor([0.1, 0.2, 1.0]), rtol=0, atol=1e-4)
    torch.testing.assert_close(got.opacities, torch.tensor([1.0, 0.2]), rtol=0, atol=1e-6)


def test_colours_of_points_serve_where_there_are_no_harmonics(tmp_path):
    """COLOR_0 holds linear light; half of it is 0.735 of sRGB."""
    document, binary = opened(foreign(blob(n=1, k=1), tmp_path / "a.glb"))
    attributes = document["meshes"][0]["primitives"][0]["attributes"]
    attributes.pop(f"{KHR}:SH_DEGREE_0_COEF_0")
    view = document["bufferViews"][document["accessors"][attributes["COLOR_0"]]["bufferView"]]
    start = view["byteOffset"]
    binary = binary[:start] + bytes([128, 0, 255, 9]) + binary[start + 4 :]
    rgb = load(packed(document, binary, tmp_path / "b.glb")).rgb
    torch.testing.assert_close(rgb, torch.tensor([[0.7365, 0.0, 1.0]]), rtol=0, atol=1e-3)


def test_linear_colours_are_encoded(tmp_path):
    """The mean colour exactly; what depends on direction by the slope of the curve there."""
    gaussians = blob(n=1)
    sh = gaussians.sh.clone()
    sh[0, 0], sh[0, 1:] = 0.0, 0.01
    document, binary = opened(foreign(replace(gaussians, sh=sh), tmp_path / "a.glb"))
    extension = document["meshes"][0]["primitives"][0]["extensions"][KHR]
    extension["colorSpace"] = "lin_rec709_display"
    got = load(packed(document, binary, tmp_path / "b.glb"))
    torch.testing.assert_close(got.rgb, torch.full((1, 3), 0.7354), rtol=0, atol=1e-3)
    # 1.055 / 2.4 * 0.5 ** (1 / 2.4 - 1) = 0.6586
    torch.testing.assert_close(got.sh[0, 1:], torch.full((3, 3), 0.006586), rtol=1e-3, atol=0)


def test_logarithms_of_drafts_are_recognised(tmp_path, caplog):
    """Negative scales cannot be linear; a warning says what was made of them."""
    document, binary = opened(foreign(blob(), tmp_path / "a.glb"))
    index = document["meshes"][0]["primitives"][0]["attributes"][f"{KHR}:SCALE"]
    start = document["bufferViews"][document["accessors"][index]["bufferView"]]["byteOffset"]
    logs = blob().log_scales.numpy().tobytes()
    with caplog.at_level(logging.WARNING):
        got = load(packed(document, binary[:start] + logs + binary[start + len(logs) :], tmp_path / "b.glb"))
    torch.testing.assert_close(got.log_scales, blob().log_scales)
    assert "read as logarithms" in caplog.text


def test_buffers_beside_the_file(tmp_path):
    """A .gltf with its data in another file, and in base64."""
    document, binary = opened(foreign(blob(), tmp_path / "a.glb"))
    (tmp_path / "some data.bin").write_bytes(binary)
    document["buffers"][0]["uri"] = "some%20data.bin"
    (tmp_path / "a.gltf").write_text(json.dumps(document))
    assert torch.equal(load(tmp_path / "a.gltf").means, blob().means)
    document["buffers"][0]["uri"] = "data:;base64," + base64.b64encode(binary).decode()
    (tmp_path / "b.gltf").write_text(json.dumps(document))
    assert torch.equal(load(tmp_path / "b.gltf").means, blob().means)


@pytest.mark.parametrize(
    "uri",
    ["../secret.bin", "/etc/passwd", "http://host/a.bin", "file:///etc/passwd", "//host/a",
     "a/../../secret.bin", "..\\secret.bin", "%2e%2e/secret.bin", "link.bin", "C:/a.bin", "a\0b"],
)  # fmt: skip
def test_buffers_elsewhere_are_refused(tmp_path, uri):
    """Neither hosts nor other folders, however they are spelled."""
    folder = tmp_path / "inner"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(b"secret" * 100)
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(FileFormatError, match="in its own folder"):
        neighbour(folder / "a.gltf", uri)


def broken(change):
    """One thing changed in the JSON of a good file."""

    def make(document, binary):
        change(document)
        return document, binary

    return make


def put(value, *keys):
    """Set a value deep inside."""

    def change(document):
        for key in keys[:-1]:
            document = document[key]
        document[keys[-1]] = value

    return broken(change)


PRIMITIVE = ("meshes", 0, "primitives", 0)
HOSTILE = {
    "a count of 10^12": (put(10**12, "accessors", 0, "count"), "Gaussians of .* bytes of data"),
    "a count of 10^6": (put(10**6, "accessors", 2, "count"), "as many of each"),
    "counts of 10^6": (
        broken(lambda d: [a.update(count=10**6) for a in d["accessors"]]), "within its buffer view"
    ),
    "all counts of 10^12": (
        broken(lambda d: [a.update(count=10**12) for a in d["accessors"]]), "Gaussians of .* bytes of data"
    ),
    "a negative count": (put(-1, "accessors", 0, "count"), "positive count"),
    "a count that is no number": (put(True, "accessors", 0, "count"), "positive count"),
    "counts that differ": (put(3, "accessors", 3, "count"), "as many of each attribute"),
    "a negative offset": (put(-4, "bufferViews", 0, "byteOffset"), "within its buffer"),
    "an accessor's negative offset": (put(-4, "accessors", 0, "byteOffset"), "within its buffer view"),
    "a view out of its buffer": (put(10**12, "bufferViews", 0, "byteLength"), "within its buffer"),
    "a buffer out of its file": (put(10**12, "buffers", 0, "byteLength"), "cut or malformed"),
    "a huge stride": (put(2**40, "bufferViews", 0, "byteStride"), "byteStride"),
    "no such accessor": (put(99, *PRIMITIVE, "attributes", "POSITION"), "one of accessors"),
    "an accessor that is a text": (put("0", *PRIMITIVE, "attributes", "POSITION"), "one of accessors"),
    "a huge sparse accessor": (
        put({"count": 10**12, "indices": {}, "values": {}}, "accessors", 0, "sparse"), "sparse"
    ),
    "no data": (broken(lambda d: d["accessors"][0].pop("bufferView")), "sparse or empty"),
    "the wrong type": (put("VEC2", "accessors", 0, "type"), "POSITION as VEC3"),
    "a missing attribute": (
        broken(lambda d: d["meshes"][0]["primitives"][0]["attributes"].pop(f"{KHR}:SCALE")),
        f"with {KHR}:SCALE",
    ),
    "half a degree": (
        broken(lambda d: d["meshes"][0]["primitives"][0]["attributes"].pop(f"{KHR}:SH_DEGREE_1_COEF_1")),
        "all SH coefficients",
    ),
    "triangles": (put(4, *PRIMITIVE, "mode"), "on points"),
    "another kernel": (put("cube", *PRIMITIVE, "extensions", KHR, "kernel"), "kernel ellipse"),
    "compression": (
        put({f"{KHR}_compression_spz": {"bufferView": 0}}, *PRIMITIVE, "extensions", KHR, "extensions"),
        "unpack it",
    ),
    "required compression": (put([f"{KHR}_compression_spz_2"], "extensionsRequired"), "unpack it"),
    "a compressed view": (put({"EXT_meshopt": {}}, "bufferViews", 0, "extensions"), "plain buffer"),
    "an unknown requirement": (put(["KHR_draco"], "extensionsRequired"), "needs nothing but .*draco"),
    "a cycle": (put([0], "nodes", 0, "children"), "tree of nodes"),
    "children that are no list": (put(5, "nodes", 0, "children"), "children to be a list"),
    "a mirror image": (put([-1, 1, 1], "nodes", 0, "scale"), "mirror image"),
    "a shear": (put([1, 2, 1], "nodes", 0, "scale"), "one scale for all axes"),
    "a scale of nothing": (put([0, 0, 0], "nodes", 0, "scale"), "can be inverted"),
    "infinite numbers": (put([1e999, 0, 0], "nodes", 0, "translation"), "number Infinity"),
    "a short matrix": (put([1, 0, 0], "nodes", 0, "matrix"), "16 finite numbers"),
    "a rotation of zeros": (put([0, 0, 0, 0], "nodes", 0, "rotation"), "quaternion of zeros"),
    "a scene that is not there": (put(7, "scene"), "one of scenes"),
    "version 1": (put("1.0", "asset", "version"), "glTF 2.0"),
    "facts of another version": (put({"gaussworld": {"version": 99}}, "nodes", 0, "extras"), "version 1"),
    "a record of nonsense": (put({"gaussworld": {"id": 3, "name": 5}}, "nodes", 0, "extras"), "node '"),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_files_are_refused(tmp_path, as_in_production, what):
    """With one sentence, before memory is taken."""
    document, binary = opened(foreign(blob(), tmp_path / "a.glb"))
    change, message = HOSTILE[what]
    with pytest.raises(FileFormatError, match=message) as caught:
        load_world(packed(*change(document, binary), tmp_path / "b.glb"))
    assert str(caught.value).startswith(str(tmp_path / "b.glb")) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "attribute, value, message",
    [("POSITION", np.nan, "finite positions"), ("ROTATION", np.inf, "finite rotations"),
     ("ROTATION", 0.0, "non-zero quaternion"), ("OPACITY", 1.5, r"opacities in \[0, 1\]"),
     ("SH_DEGREE_0_COEF_0", np.nan, "finite sh")],
)  # fmt: skip
def test_hostile_numbers_are_refused(tmp_path, attribute, value, message):
    """NaN, infinity and what is out of range, with the row."""
    document, binary = opened(foreign(blob(n=1), tmp_path / "a.glb"))
    name = attribute if attribute == "POSITION" else f"{KHR}:{attribute}"
    index = document["meshes"][0]["primitives"][0]["attributes"][name]
    view = document["bufferViews"][document["accessors"][index]["bufferView"]]
    start, length = view["byteOffset"], view["byteLength"]
    binary = binary[:start] + np.full(length // 4, value, "<f4").tobytes() + binary[start + length :]
    with pytest.raises(FileFormatError, match=f"{message}.* in row 0"):
        load(packed(document, binary, tmp_path / "b.glb"))


@pytest.mark.parametrize(
    "data, message",
    [(b"", "glTF's JSON"), (b"glTF", "version 2"), (b"glTF" + struct.pack("<II", 2, 99), "99 bytes"),
     (b"glTF" + struct.pack("<II", 1, 12), "version"), (b"glTF" + struct.pack("<II", 2, 12), "without any"),
     (b"glTF" + struct.pack("<IIII", 2, 20, 2**31, 0x4E4F534A), "chunk of JSON"),
     (b"glTF" + struct.pack("<IIII", 2, 20, 0, 0x4E4942), "chunk of JSON"), (b"[]", "JSON object"),
     (b"[" * 100_000, "glTF's JSON"), (b'{"asset":' * 100_000, "glTF's JSON"),
     (b"[[]," * 3_000_000, "at most"), (b"\xff\xfe\xff", "JSON"),
     (b'{"asset": {"version": "2.0"}}', "without any"), (b'{"asset": NaN}', "number NaN")],
)  # fmt: skip
def test_hostile_containers_are_refused(tmp_path, data, message):
    """Wrong lengths, deep JSON, too many values, nothing at all."""
    (tmp_path / "a.glb").write_bytes(data)
    with pytest.raises(FileFormatError, match=message):
        load_world(tmp_path / "a.glb")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_damaged_files_are_read_or_refused(tmp_path, as_in_production, changes):
    """Any bytes changed: a world or one sentence, never anything else."""
    path = tmp_path / "a.glb"
    if not path.exists():
        save_world(kitchen(), path)
    data = bytearray(path.read_bytes())
    for place, value in changes:
        data[min(int(place * len(data)), len(data) - 1)] = value
    (tmp_path / "b.glb").write_bytes(data)
    try:
        load_world(tmp_path / "b.glb")
    except FileFormatError as error:
        assert str(tmp_path / "b.glb") in str(error)


def test_a_mesh_that_is_repeated_endlessly_is_refused(tmp_path, monkeypatch):
    """Few bytes may become many Gaussians, not any number; and a tree may have many nodes, not any number."""
    nodes = [{"mesh": 0} for _ in range(30)]
    path = foreign(blob(), tmp_path / "a.glb", nodes)
    assert len(load(path)) == 150
    monkeypatch.setattr("gaussworld.io.gltf._ALWAYS_ALLOWED", 100)
    with pytest.raises(FileFormatError, match=r"at most 100 Gaussians of \d+ bytes of data, got 150"):
        load_world(path)
    monkeypatch.setattr("gaussworld.io.gltf._MOST_NODES", 20)
    with pytest.raises(FileFormatError, match="at most 20 nodes"):
        load_world(path)


def test_a_tower_of_objects_is_refused(tmp_path):
    """Each mounted on the one before, deeper than anything real."""
    nodes = [{"mesh": 0, "children": [i + 1]} for i in range(600)] + [{"mesh": 0}]
    with pytest.raises(FileFormatError, match="at most 500 deep"):
        load_world(foreign(blob(), tmp_path / "a.glb", nodes))


def test_what_cannot_be_written_says_so(tmp_path):
    """Numbers that the file's floats cannot hold."""
    gaussians = replace(blob(), log_scales=torch.full((5, 3), 100.0))
    with pytest.raises(ValueError, match=r"exp\(100\)"):
        save(gaussians, tmp_path / "a.glb")
    with pytest.raises(ValueError, match="finite numbers"):
        save(replace(blob(), means=torch.full((5, 3), float("nan"))), tmp_path / "a.glb")
    assert not list(tmp_path.iterdir())
