"""Simulated captures: what is written, that pictures and truth agree, and that the same seed repeats."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("mujoco")
pytest.importorskip("open3d")

from dynamics.generate import forms
from dynamics.generate.arrange import arranged, random_scene
from dynamics.generate.cameras import ring
from dynamics.generate.config import StillConfig
from dynamics.generate.draw import Artist
from dynamics.generate.mjcf import compiled
from dynamics.generate.still import generate_still
from gaussworld.errors import BackendUnavailable, ConfigError
from gaussworld.io import load_capture
from gaussworld.io.images import read_depth, read_image
from gaussworld.log import Progress, drain

SMALL = StillConfig(objects=3, views=3, width=96, height=72, states=1, seed=7)


def make(out, config=SMALL, workers=1):
    """Generate, or skip where nothing can draw."""
    try:
        return drain(generate_still(out, config, workers)).result
    except BackendUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module", autouse=True)
def coarse_paint():
    """Painting is most of the work, and fine detail is no matter here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forms, "COARSER", 12.0)
        yield


@pytest.fixture(scope="module")
def still(tmp_path_factory):
    """A small scene in two states, written once for all tests."""
    return make(tmp_path_factory.mktemp("still") / "scene")


def opened(scene, model):
    """An artist, or skip where nothing can draw."""
    try:
        return Artist(scene, 200, 150, model)
    except BackendUnavailable as error:
        pytest.skip(str(error))


def truth_of(folder):
    return json.loads((folder / "truth.json").read_text())


def ray_cast(folder, camera):
    """Ids and z-depth [m] of a camera, from nothing but truth.json and its meshes."""
    import open3d
    import trimesh

    caster, ids = open3d.t.geometry.RaycastingScene(nthreads=1), {}
    for item in truth_of(folder)["objects"]:
        mesh = trimesh.load(folder / item["mesh"], process=False)
        mesh.apply_transform(np.array(item["world_from_object"]))
        vertices = open3d.core.Tensor(np.asarray(mesh.vertices, np.float32))
        faces = open3d.core.Tensor(np.asarray(mesh.faces, np.uint32))
        ids[caster.add_triangles(vertices, faces)] = item["id"]
    origin, directions = camera.rays()
    rays = torch.cat([origin.expand_as(directions), directions], dim=-1).numpy()
    answer = caster.cast_rays(open3d.core.Tensor(rays))
    distance = answer["t_hit"].numpy()
    hit = np.isfinite(distance)
    names = np.vectorize(lambda geometry: ids.get(geometry, 0))(answer["geometry_ids"].numpy())
    along = (directions @ camera.world_from_camera[:3, 2]).numpy()
    return np.where(hit, names, 0), np.where(hit, along * np.where(hit, distance, 0), 0)


def test_pictures_agree_with_meshes_and_poses(still):
    """Ids and depth are those of rays through the pixels' centres, in every state."""
    for folder in still.folders:
        capture = load_capture(folder)
        assert len(capture) == SMALL.views
        assert capture.metres_per_unit == 1.0
        for i, frame in enumerate(capture.frames):
            ids = np.asarray(Image.open(folder / f"ids/{i:04d}.png")).astype(int)
            depth = read_depth(frame.depth).numpy()
            true_ids, true_depth = ray_cast(folder, frame.camera)
            assert (ids != true_ids).mean() < 2e-3
            both = (ids == true_ids) & (ids > 0)
            assert both.mean() > 0.2
            assert np.quantile(np.abs(depth - true_depth)[both], 0.99) < 6e-4
            assert (depth > 0).all()  # The room is behind everything.
            assert tuple(read_image(frame.image).shape) == (SMALL.height, SMALL.width, 3)


def test_truth_says_what_is_there(still):
    """Closed meshes, masses of volumes and substances, things on the table, a robot's tool."""
    import trimesh

    first = truth_of(still.folders[0])
    assert [item["id"] for item in first["objects"]] == [1, 2, 3, 4, 5]
    assert [item["kind"] for item in first["objects"]] == ["STATIC", *["RIGID"] * 3, "ROBOT"]
    for item in first["objects"]:
        mesh = trimesh.load(still.folders[0] / item["mesh"], process=False)
        assert mesh.is_watertight
        assert mesh.volume == pytest.approx(item["volume"], rel=1e-3)
        assert 50 < item["mass"] / item["volume"] < 8000
        bottom = (mesh.vertices @ np.array(item["world_from_object"])[2, :3]).min()
        bottom += item["world_from_object"][2][3]
        if item["kind"] == "RIGID":
            assert item["supported_by"] == [1]
            assert abs(bottom) < 1e-3
    assert first["up"] == [0, 0, 1]


def test_states_move_some_things_and_keep_the_others(still):
    """The same ids; one to three things elsewhere, the others where they were to the last digit."""
    before, after = (truth_of(folder)["objects"] for folder in still.folders)
    moved = [a["world_from_object"] != b["world_from_object"] for a, b in zip(before, after)]
    keys = ("id", "name", "mesh", "mass", "friction", "category")
    assert [[a[key] for key in keys] for a in before] == [[b[key] for key in keys] for b in after]
    assert 1 <= sum(moved) <= 3
    assert not moved[0] and not moved[-1]
    cameras = [load_capture(folder).frames[0].camera.center for folder in still.folders]
    assert float((cameras[0] - cameras[1]).norm()) > 0.01


def test_the_same_seed_writes_the_same_bytes(still, tmp_path):
    """Every file of every state; another seed makes another scene."""
    again = make(tmp_path / "again")
    one, two = still.folders[0], again.folders[0]
    files = [path.relative_to(one) for path in sorted(one.rglob("*.*")) if path.is_file()]
    assert len(files) == 2 * (3 * SMALL.views + 5 + 2) + 1
    for name in files:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
    other = random_scene(replace(SMALL, seed=8))
    assert [item.name for item in other.objects] != [item.name for item in random_scene(SMALL).objects]


def test_shading_does_not_follow_the_camera():
    """A point of the table has one colour from everywhere: nothing shines from the camera."""
    scene = random_scene(SMALL)
    model = compiled(scene)
    state = arranged(replace(SMALL, states=0), scene, model)[0]
    artist = opened(scene, model)
    artist.show(state)
    colors = []
    for camera in ring(replace(SMALL, width=200, height=150, views=4), 0):
        view = artist.draw(camera)
        points = torch.tensor([[x, y, 0.0] for x in (-0.3, -0.1, 0.1, 0.3) for y in (-0.3, 0.0, 0.3)])
        pixels, depths = camera.project(points)
        columns, rows = pixels.floor().long().unbind(1)
        inside = (columns > 2) & (columns < 197) & (rows > 2) & (rows < 147)
        seen = torch.full((len(points), 3), torch.nan)
        for k in inside.nonzero()[:, 0].tolist():
            r, c = int(rows[k]), int(columns[k])
            if view.ids[r, c] == 1 and abs(float(view.depth[r, c] - depths[k])) < 4e-3:
                seen[k] = view.rgb[r - 2 : r + 3, c - 2 : c + 3].mean((0, 1))
        colors.append(seen)
    artist.close()
    spread = torch.stack(colors)
    many = (~spread[..., 0].isnan()).sum(0) >= 2
    assert int(many.sum()) >= 3
    difference = spread - spread.nanmean(0)
    assert float(difference[:, many].nan_to_num().abs().median()) < 0.02


def test_finished_folders_are_kept_and_broken_off_ones_gone_on_with(still, tmp_path):
    """Nothing is drawn twice; other settings and other people's files are refused."""
    out = tmp_path / "scene"
    config = replace(SMALL, states=0)
    work = generate_still(out, config, 1)
    for event in work:
        if isinstance(event, Progress) and event.step == 1:
            break
    work.close()
    made = make(out, config)
    assert made.drawn == SMALL.views - 1
    assert make(out, config).drawn == 0
    with pytest.raises(ConfigError, match="--workers: expected at least 1"):
        drain(generate_still(out, config, 0))
    with pytest.raises(ConfigError, match="views = 3"):
        drain(generate_still(out, replace(config, views=4)))
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("")
    with pytest.raises(ConfigError, match="holds other files"):
        drain(generate_still(other, config))
    with pytest.raises(ConfigError, match="got the file"):
        drain(generate_still(other / "thesis.tex", config))
