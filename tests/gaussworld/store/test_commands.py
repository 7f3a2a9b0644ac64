"""`gaussworld world ...`: every verb, its JSON, and what it refuses."""

import json
from pathlib import Path

import pytest
import torch

import gaussworld as gw
from gaussworld.cli import main
from gaussworld.store import Store


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A world made of a splat file with two objects."""
    g = torch.Generator().manual_seed(0)
    ids = torch.arange(40, dtype=torch.int32) % 2 * 3
    arrays = (torch.randn(40, *tail, generator=g) for tail in ((3,), (4,), (3,), (), (4, 3)))
    gw.save(gw.Gaussians(*arrays, object_ids=ids), tmp_path / "scene.ply", up=(0.0, 0.0, 1.0))
    assert main(["world", "create", str(tmp_path / "k.world"), "--from", str(tmp_path / "scene.ply")]) == 0
    return tmp_path / "k.world"


def said(capsys: pytest.CaptureFixture[str], *words: object):
    """What a command prints with --json."""
    capsys.readouterr()
    assert main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def failed(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """What a command that fails says."""
    capsys.readouterr()
    assert main([*map(str, words)]) in (1, 2)
    text = capsys.readouterr().err
    assert "Traceback" not in text
    return text


MOVE = '{"objects": [3], "offset": [0, 0, 0.5]}'


def test_a_life_of_a_world(world: Path, capsys: pytest.CaptureFixture[str]):
    """Create, list, edit, undo, redo, log, diff, branch, tag, checkout, verify, gc, pack and unpack."""
    assert [item["name"] for item in said(capsys, "world", "list", world)] == ["background", "object 3"]
    assert said(capsys, "world", "edit", world, "move", MOVE) == {
        "revision": 2,
        "branch": "main",
        "objects": [{"object": "object 3 (3)", "what": "pose"}],
        "world": [],
    }
    rename = '{"object_id": 3, "new_name": "cup"}'
    assert said(capsys, "world", "edit", world, "rename", rename)["revision"] == 3
    assert said(capsys, "world", "undo", world, "--steps", 2) == {"branch": "main", "revision": 1}
    assert said(capsys, "world", "redo", world)["revision"] == 2
    log = said(capsys, "world", "log", world)
    assert [(row["revision"], row["edit"], row["here"]) for row in log] == [
        (3, "rename", False), (2, "move", True), (1, "create", False),
    ]  # fmt: skip
    assert log[1]["fields"] == {"objects": [3], "offset": [0.0, 0.0, 0.5]}
    assert [row["revision"] for row in said(capsys, "world", "log", world, "--object", 3)] == [3, 2, 1]
    assert said(capsys, "world", "diff", world, 1, 3)["objects"] == [
        {"object": "cup (3)", "what": "name, pose"}
    ]
    assert said(capsys, "world", "tag", world, "first", "--at", 1) == {"tag": "first", "revision": 1}
    assert said(capsys, "world", "branch", world, "trial", "--at", "first") == {
        "branch": "trial",
        "revision": 1,
    }
    assert said(capsys, "world", "checkout", world, "trial") == {"branch": "trial", "revision": 1}
    assert said(capsys, "world", "edit", world, "delete", '{"objects": [3]}')["branch"] == "trial"
    assert said(capsys, "world", "branch", world)[1] == {"here": True, "branch": "trial", "revision": 4}
    assert said(capsys, "world", "verify", world)["sound"] is True
    assert said(capsys, "world", "checkout", world, "main")["revision"] == 2
    assert said(capsys, "world", "branch", world, "trial", "--delete") == {"deleted": "trial"}
    assert said(capsys, "world", "gc", world)["revisions"] == 1
    assert said(capsys, "world", "pack", world)["path"] == str(world.with_suffix(".worldz"))
    other = world.with_name("other.world")
    assert said(capsys, "world", "unpack", world.with_suffix(".worldz"), other) == {"world": str(other)}
    assert {row["world"] for row in said(capsys, "world", "list", world.parent)} == {str(world), str(other)}
    assert gw.World.open(other, "first").objects[3].name == "object 3"


def test_worlds_are_files_to_the_other_verbs(world: Path, capsys: pytest.CaptureFixture[str]):
    """A world can be loaded, converted and made into another world; what is hidden stays behind."""
    main(["world", "edit", str(world), "hide", '{"target": {"objects": [3]}}'])
    assert len(gw.load(world)) == 20 and gw.load_framing(world).up == (0.0, 0.0, 1.0)
    assert main(["convert", str(world), str(world.with_name("b.ply"))]) == 0
    assert len(gw.load(world.with_name("b.ply"))) == 20
    again = world.with_name("again.world")
    assert said(capsys, "world", "create", again, "--from", world)["objects"] == 2
    assert gw.World.open(again).objects[3].hidden


def test_text_for_people(world: Path, capsys: pytest.CaptureFixture[str]):
    """The same facts in aligned columns."""
    main(["world", "edit", str(world), "move", MOVE])
    capsys.readouterr()
    main(["world", "list", str(world)])
    lines = capsys.readouterr().out.splitlines()
    wanted = "id name kind gaussians parent kg faces rests on position state".split()
    assert lines[0].split() == wanted
    assert lines[2].split()[:5] == ["3", "object", "3", "RIGID", "20"]
    main(["world", "log", str(world)])
    assert capsys.readouterr().out.splitlines()[1].startswith(">  2         1       move")
    main(["world", "diff", str(world), "1"])
    assert capsys.readouterr().out == "object 3 (3): pose\n"
    main(["world", "edit", str(world), "move", '{"objects": ["object 3"], "offset": [0, 0, 1]}'])
    assert capsys.readouterr().out == "Revision 3 of main: object 3 (3): pose.\n"
    main(["world", "edit", str(world), "move", '{"objects": [3], "offset": [0, 0, 0]}'])
    assert capsys.readouterr().out == "Nothing changed.\n"
    main(["world", "verify", str(world)])
    assert capsys.readouterr().out.startswith("Sound: ")


def test_every_edit_explains_its_fields(capsys: pytest.CaptureFixture[str]):
    """Each field has a type, and those that need one a meaning."""
    from gaussworld.edit import EDITS

    assert [row["edit"] for row in said(capsys, "world", "edits")] == sorted(EDITS)
    for name in (*EDITS, "target", "box", "sphere", "polygon"):
        assert all(row["kind"] for row in said(capsys, "world", "edits", name))
    rotate = {row["name"]: row for row in said(capsys, "world", "edits", "rotate")}
    assert rotate["rotation"]["kind"] == "4 numbers" and rotate["rotation"]["meaning"].startswith("wxyz")
    assert rotate["about"]["default"] == "null" and rotate["objects"]["default"] == ""
    assert "expected an edit among add, add-mesh, add-robot, box" in failed(capsys, "world", "edits", "fly")


def test_help_lists_the_family(capsys: pytest.CaptureFixture[str]):
    """`gaussworld world` alone says what there is."""
    assert main(["world", "--help"]) == 0
    text = capsys.readouterr().out
    assert "world undo" in text and "recon" not in text


def test_bad_input_gets_one_sentence(world: Path, capsys: pytest.CaptureFixture[str]):
    """What was expected, what came, and what to do."""
    nowhere = world.with_name("none.world")
    world.with_suffix(".worldz").touch()
    for words, message in {
        ("world", "undo", world): "gaussworld world undo: expected at most 0 step(s) to undo on main, got 1",
        ("world", "redo", world): "expected at most 0 step(s) to redo on main, got 1",
        ("world", "undo", world, "--steps", 0): "--steps: expected at least 1, got 0",
        ("world", "log", world, "--limit", -1): "--limit: expected at least 1, got -1",
        ("world", "list", nowhere): "expected a world or a folder with worlds, got",
        ("world", "log", nowhere): "expected a world, which is a folder with world.db, got no such path",
        ("world", "edit", world, "fly"): "expected an edit among add, add-mesh, add-robot, crop, delete",
        ("world", "edit", world, "move", "{"): "expected the edit's fields as JSON",
        ("world", "edit", world, "move", "[1]"): "expected the edit's fields as a JSON object",
        ("world", "checkout", world, "nope"): "expected a branch of this world, got 'nope'; there are: main",
        ("world", "tag", world, "--delete"): "expected the name of a tag, got none",
        ("world", "diff", world, "77"): "expected a revision of this world, got 77",
        ("world", "create", world, "--from", world): "which exists; choose another",
        (
            "world",
            "create",
            nowhere,
            "--from",
            nowhere,
        ): "expected a stored world, the folder of a run, or a file of Gaussians",
        ("world", "pack", world, "-o", "x.zip"): "--out: expected a name that ends in .worldz, got x.zip",
        ("world", "unpack", nowhere, nowhere): "none.world: expected a .worldz file, got no such file",
        ("world", "logg", world): "expected a verb, got 'world logg'; did you mean 'world log'?",
        ("wrld", "list", world): "expected a verb, got 'wrld'; did you mean 'world'?",
        ("info", world.with_suffix(".worldz")): "unpack it: gaussworld world unpack",
        ("world", "verify"): "gaussworld world verify",
    }.items():
        text = failed(capsys, *words)
        assert message in text, text
        assert text.count("\n") == 1, text
    assert not nowhere.exists()


def test_damage_is_a_failure(world: Path, capsys: pytest.CaptureFixture[str]):
    """`verify` exits with 1 and names what is damaged."""
    pack = next((world / "packs").iterdir())
    data = bytearray(pack.read_bytes())
    data[200] ^= 1
    pack.write_bytes(data)
    text = failed(capsys, "world", "pack", world)
    assert "expected a sound world to pack, got damage: " in text
    text = failed(capsys, "world", "verify", world)
    assert "expected a sound world, got 1 damaged place(s)" in text


def test_damage_can_be_left_behind(world: Path, capsys: pytest.CaptureFixture[str]):
    """Undo does not read it, --allow-damage leaves it out, and what is sound becomes a new world."""
    assert (
        main(["world", "edit", str(world), "recolour", '{"target": {"objects": [3]}, "rgb": [1, 0, 0]}']) == 0
    )
    with Store(world, read_only=True) as store:
        store.chunks.refresh()
        name = store.chunks.location(store.read(2).objects[3].node).pack
    (world / "packs" / name).unlink()
    text = failed(capsys, "world", "list", world)
    assert "got: No such file or directory" in text
    assert said(capsys, "world", "undo", world)["revision"] == 1
    assert len(said(capsys, "world", "list", world)) == 2


def test_a_folder_of_worlds_with_a_broken_one(world: Path, capsys: pytest.CaptureFixture[str]):
    """It is a line of the list; half-made ones are none."""
    for name in ("broken.world", ".half.world.1234.tmp"):
        (world.parent / name).mkdir()
        (world.parent / name / "world.db").write_bytes(b"x" * 5000)
    rows = said(capsys, "world", "list", world.parent)
    assert [Path(row["world"]).name for row in rows] == ["broken.world", "k.world"]
    assert "cannot be opened: " in rows[0]["changed"]
