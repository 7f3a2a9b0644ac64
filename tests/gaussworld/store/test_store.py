"""Worlds on disk: what is written comes back, history is kept, and conflicts are named."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gaussworld as gw
from gaussworld.errors import ConfigError, ConflictError, StoreError
from gaussworld.log import drain
from gaussworld.pose import look_at
from gaussworld.shape import Mesh, Shape
from gaussworld.store import Store
from gaussworld.store import database as db
from gaussworld.store.chunks import Chunks
from gaussworld.store.collect import collect
from gaussworld.store.columns import ROWS
from gaussworld.store.packs import MAGIC, PackWriter
from gaussworld.store.share import export, unpack
from gaussworld.store.verify import verify

ARRAYS = ("means", "quats", "log_scales", "opacity_logits", "sh", "flags")


def blob(n: int, seed: int = 0, degree: int = 1) -> gw.Gaussians:
    g = torch.Generator().manual_seed(seed)
    shapes = [(n, 3), (n, 4), (n, 3), (n,), (n, (degree + 1) ** 2, 3)]
    return gw.Gaussians(*(torch.randn(*shape, generator=g) for shape in shapes))


def world_of(count: int = 20, n: int = 30) -> gw.World:
    objects = {i: gw.WorldObject(i, f"thing {i}", blob(n, i), gw.ObjectKind.RIGID) for i in range(count)}
    camera = gw.Camera.pinhole(look_at(torch.tensor([2.0, 0.0, 1.0]), torch.zeros(3)), 64, 48, 50.0)
    return gw.World(objects, (camera,), 0.123456789, (0.0, 0.6, 0.8))


def bits(values: torch.Tensor) -> torch.Tensor:
    return values.contiguous().view(torch.uint8)


def assert_same(a: gw.World, b: gw.World) -> None:
    assert list(a.objects) == list(b.objects)
    assert (a.metres_per_unit, a.up, len(a.cameras)) == (b.metres_per_unit, b.up, len(b.cameras))
    assert torch.equal(a.world_from_source, b.world_from_source)
    for left, right in zip(a.cameras, b.cameras):
        assert torch.equal(left.world_from_camera, right.world_from_camera) and torch.equal(left.K, right.K)
    for number, x in a.objects.items():
        y = b.objects[number]
        for name in ("name", "kind", "parent", "joint", "material", "hidden", "locked"):
            assert getattr(x, name) == getattr(y, name)
        assert torch.equal(bits(x.world_from_object), bits(y.world_from_object))
        for name in ARRAYS:
            left, right = getattr(x.gaussians, name), getattr(y.gaussians, name)
            assert left.shape == right.shape and torch.equal(bits(left), bits(right)), name


def shifted(world: gw.World, number: int, by: float = 0.1) -> gw.World:
    pose = world.objects[number].world_from_object.clone()
    pose[0, 3] += by
    return world.moved(number, pose)


def commit(store: Store, world: gw.World, base, op: str = "move", branch: str = "main"):
    parent = int(base.world.revision)
    return store.commit(world, base, parent=parent, branch=branch, op=op, details={})[0]


def sizes(store: Store) -> list[int]:
    return sorted(file.stat().st_size for file in (store.path / "packs").iterdir())


@pytest.fixture
def store(tmp_path: Path):
    with Store.create(tmp_path / "kitchen.world", world_of()) as made:
        yield made


def test_a_world_comes_back_to_the_bit(tmp_path: Path):
    """Facts, cameras and arrays, chunks that are cut, empty objects, and flags."""
    world = world_of(3, ROWS + 7)
    flags = torch.zeros(ROWS + 7, dtype=torch.uint8)
    flags[-1] = 9
    lid = gw.Joint("revolute", (0.0, 1.0, 0.0), (0.1, 0.2, 0.3), (0.0, float("inf")), 0.25)
    flagged = dataclasses.replace(world.objects[1].gaussians, flags=flags)
    material = gw.Material().with_values("measured", friction=0.3)
    world = world.with_object(
        dataclasses.replace(world.objects[1], gaussians=flagged, material=material, locked=True)
    )
    world = world.with_object(
        gw.WorldObject(7, "liδ", blob(0), gw.ObjectKind.ARTICULATED, parent=1, joint=lid, hidden=True)
    )
    stored = world.save(tmp_path / "a.world")
    assert_same(stored, world)
    assert_same(gw.World.open(tmp_path / "a.world"), world)
    assert stored.revision == "1"
    assert int(stored.objects[1].gaussians.object_ids[0]) == 1


@settings(max_examples=30)
@given(st.dictionaries(st.integers(0, 2**31 - 1), st.integers(0, 40), max_size=6), st.integers(0, 3))
def test_any_ids_and_sizes_come_back(tmp_path_factory: pytest.TempPathFactory, sizes: dict, degree: int):
    """The tree over ids works for every set of ids."""
    objects = {i: gw.WorldObject(i, f"{i}", blob(n, 1, degree)) for i, n in sizes.items()}
    path = tmp_path_factory.mktemp("worlds") / "a.world"
    assert_same(gw.World(objects).save(path), gw.World(objects))


def test_moving_writes_little_and_leaves_the_rest(store: Store):
    """A moved object costs its own facts and one path of the tree."""
    base = store.read(1)
    before = sum(sizes(store))
    moved = commit(store, shifted(base.world, 5), base)
    assert sum(sizes(store)) - before < 2048 + len(MAGIC)
    again = store.read(2, moved)
    assert all(again.world.objects[n] is moved.world.objects[n] for n in range(20))
    assert_same(again.world, moved.world)
    assert_same(store.read(1).world, base.world)


def test_only_changed_chunks_are_written(tmp_path: Path):
    """Recolouring one row of an object of three chunks writes one."""
    world = gw.World({0: gw.WorldObject(0, "big", blob(3 * ROWS))})
    with Store.create(tmp_path / "a.world", world) as store:
        base = store.read(1)
        sh = base.world.objects[0].gaussians.sh.clone()
        sh[ROWS + 5] += 1
        item = base.world.objects[0]
        new = dataclasses.replace(item, gaussians=dataclasses.replace(item.gaussians, sh=sh))
        commit(store, base.world.with_object(new), base, "recolour")
        pack = max((store.path / "packs").iterdir(), key=lambda file: file.stat().st_mtime)
        assert pack.stat().st_size < ROWS * 48 + 4096
        assert torch.equal(store.read(2).world.objects[0].gaussians.sh, sh)


def test_undo_redo_survive_and_an_edit_after_undo_keeps_the_sibling(store: Store):
    """The cursor is on disk; what was undone and replaced keeps a name."""
    base = store.read(1)
    second = commit(store, shifted(base.world, 1), base)
    commit(store, shifted(second.world, 2), second)
    assert (store.undo("main").revision, store.undo("main").revision) == (2, 1)
    with pytest.raises(ConfigError, match="expected something to undo on main, got its first revision"):
        store.undo("main")
    with Store(store.path) as other:
        assert other.branch().revision == 1 and other.redo("main").revision == 2
    sibling = commit(store, shifted(second.world, 9), store.read(2))
    assert sibling.world.revision == "4"
    assert {ref.name: ref.revision for ref in store.refs()} == {"main": 4, "undone-3": 3}
    with pytest.raises(ConfigError, match="expected something to redo on main, got nothing undone"):
        store.redo("main")
    store.restore(2, "main")
    assert (store.branch().revision, store.redo("main").revision) == (2, 4)
    assert store.resolve("undone-3") == 3 and store.read(3) is not None


def test_branches_and_tags(store: Store):
    """A branch goes its own way; a tag stays."""
    base = store.read(1)
    store.add_ref("tag", "clean", 1)
    store.add_ref("branch", "trial", 1)
    on_trial = commit(store, shifted(base.world, 3), base, branch="trial")
    assert (store.branch("trial").revision, store.branch("main").revision) == (2, 1)
    store.checkout("trial")
    assert gw.World.open(store.path).revision == on_trial.world.revision == "2"
    assert_same(gw.World.open(store.path, "clean"), base.world)
    with pytest.raises(ConfigError, match="expected another branch, got trial, which is checked out"):
        store.remove_ref("branch", "trial")
    with pytest.raises(ConfigError, match="expected a new name, got 'clean', which is taken"):
        store.add_ref("branch", "clean", 1)
    for name in ("", "12", "a\nb", " a", "a b"):
        with pytest.raises(ConfigError, match="expected a name for the tag"):
            store.add_ref("tag", name, 1)
    with pytest.raises(
        ConfigError, match=r"expected a branch, a tag or a .* got 'x'; there are main \(branch\)"
    ):
        store.resolve("x")


def test_two_writers_conflict_by_name_and_lose_nothing(store: Store):
    """The second one is told both revisions, and can do it again."""
    with Store(store.path) as other:
        mine, theirs = store.read(1), other.read(1)
        commit(other, shifted(theirs.world, 2), theirs, "move")
        before = sizes(store)
        with pytest.raises(
            ConflictError, match=r"expected revision 1 at the head of main to scale, got .* 2"
        ):
            commit(store, shifted(mine.world, 1), mine, "scale")
        assert sizes(store) == before
        again = store.read(2)
        assert commit(store, shifted(again.world, 1), again).world.revision == "3"
    assert drain(verify(store)).result.damages == ()


def test_collecting_frees_what_no_name_leads_to(store: Store):
    """Undone tips go when asked, chunks with them, and packs are written anew; what is left is whole."""
    base = store.read(1)
    big = base.world.with_object(gw.WorldObject(99, "big", blob(5000)))
    commit(store, big, base, "add")
    store.undo("main")
    commit(store, shifted(base.world, 4), store.read(1))
    assert drain(collect(store)).result.revisions == 0
    freed = drain(collect(store, undone_days=0.0, grace_s=-1.0)).result
    assert freed.revisions == 1 and freed.chunks > 3 and freed.bytes_after < freed.bytes_before / 2
    assert len([*(store.path / "packs").iterdir()]) == 1
    assert drain(verify(store)).result.damages == ()
    assert_same(store.read(3).world, shifted(base.world, 4))
    assert_same(base.world, world_of())  # mapped from a pack that is gone by now
    with pytest.raises(StoreError, match="expected a revision of this world, got 2"):
        store.read(2)
    commit(store, shifted(store.read(3).world, 6), store.read(3))
    assert drain(verify(store)).result.damages == ()


def test_collecting_again_does_not_grow(store: Store):
    """What was written anew waits for its removal; that is no reason to write it again."""
    base = store.read(1)
    commit(store, shifted(base.world, 1), base)
    first = drain(collect(store, compact=True)).result
    assert first.bytes_waiting > 0
    again = [drain(collect(store, compact=choice)).result for choice in (None, True)]
    assert [each.bytes_after for each in again] == [first.bytes_after] * 2


def test_the_same_world_makes_no_revision(store: Store):
    """To the bit, and whatever the tensors are."""
    base = store.read(1)
    item = base.world.objects[3]
    copy = dataclasses.replace(item, gaussians=item.gaussians.map(torch.clone))
    again = commit(store, base.world.with_object(copy), base)
    assert again is base and len(store.revisions()) == 1
    assert sum(sizes(store)) == sizes(store)[0]


def test_a_writer_that_has_not_committed_keeps_its_pack(store: Store):
    """Collection leaves young packs that nobody knows yet."""
    writer = PackWriter(store.path / "packs")
    writer.add(b"x" * 100)
    drain(collect(store))
    assert (store.path / "packs" / writer.name).exists()
    writer.close()


def test_sharing_keeps_the_history(store: Store, tmp_path: Path):
    """A .worldz holds every revision and name, and opens elsewhere."""
    base = store.read(1)
    commit(store, shifted(base.world, 1), base)
    store.add_ref("tag", "first", 1)
    drain(export(store, tmp_path / "k.worldz"))
    drain(unpack(tmp_path / "k.worldz", tmp_path / "b.world"))
    with Store(tmp_path / "b.world") as other:
        assert [r.id for r in other.history(2)] == [2, 1]
        assert_same(other.read(2).world, shifted(base.world, 1))
        assert other.resolve("first") == 1
    with pytest.raises(StoreError, match="expected a new folder for the world"):
        drain(unpack(tmp_path / "k.worldz", tmp_path / "b.world"))


def test_creating_refuses_what_is_there(store: Store):
    """Nothing is overwritten, and nothing half-made is left."""
    with pytest.raises(
        StoreError, match=r"expected a new folder for the world, got .*kitchen.world, which exists"
    ):
        Store.create(store.path, world_of(1))
    assert [path.name for path in store.path.parent.iterdir()] == ["kitchen.world"]


def test_what_is_no_world(tmp_path: Path):
    """A file, an empty folder, another database, garbage: one sentence each."""
    (tmp_path / "a.ply").write_bytes(b"ply")
    (tmp_path / "empty").mkdir()
    (tmp_path / "junk").mkdir()
    (tmp_path / "junk" / "world.db").write_bytes(b"no database" * 1000)
    (tmp_path / "other").mkdir()
    import sqlite3

    sqlite3.connect(tmp_path / "other" / "world.db").execute("CREATE TABLE t(a)").connection.close()
    for name, message in {
        "a.ply": "expected a world, .* with world.db, got a file; a splat file becomes a world by",
        "empty": "expected a world, .* got a folder without one",
        "none": "expected a world, .* got no such path",
        "junk": "expected a sound database, got: file is not a database",
        "other": "expected the database of a world, got another SQLite file",
    }.items():
        for read_only in (True, False):
            with pytest.raises(StoreError, match=message):
                Store(tmp_path / name, read_only)


def test_a_newer_format_is_refused(store: Store):
    """The message says what to do."""
    store.database.connection.execute("UPDATE meta SET value = '99' WHERE key = 'format_version'")
    with pytest.raises(StoreError, match=r"expected format version 1 to 1, got 99; open it with the"):
        Store(store.path)


def test_an_older_format_is_brought_up_to_date(store: Store, monkeypatch: pytest.MonkeyPatch):
    """After a copy of the database was put beside it; a reader does not need that."""
    path = store.path
    monkeypatch.setattr(db, "FORMAT_VERSION", 2)
    step = "ALTER TABLE revision ADD COLUMN note TEXT NOT NULL DEFAULT ''"
    monkeypatch.setattr(db, "MIGRATIONS", {1: (step,)})
    with Store(path) as newer:
        assert newer.meta("format_version") == "2"
        assert newer.database.connection.execute("SELECT note FROM revision").fetchall() == [("",)]
        assert_same(newer.read(1).world, world_of())
    import sqlite3

    backup = sqlite3.connect(path / "world.db.v1.bak")
    assert backup.execute("SELECT value FROM meta WHERE key = 'format_version'").fetchone() == ("1",)
    backup.close()


def test_a_network_disk_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch):
    """Writing there could destroy the database; reading is fine."""
    monkeypatch.setattr(db, "_filesystem", lambda folder: "nfs4")
    with pytest.raises(StoreError, match=r"expected a local disk, got a network file system \(nfs4\)"):
        Store(store.path)
    assert_same(gw.World.open(store.path), world_of())


READER = """
import os, sys
from gaussworld import edit
from gaussworld.session import Session
if os.getuid() == 0:  # root can write anywhere
    os.setgroups([])
    os.setuid(65534)
with Session(sys.argv[1]) as session:
    print(session.read_only, len(session.world.objects))
    try:
        session.do(edit.Move((1,), (0.0, 0.0, 1.0)))
    except Exception as error:
        print(type(error).__name__, error)
"""


def test_a_folder_that_cannot_be_written_opens_read_only(tmp_path: Path):
    """Everything can be read; an edit is refused in one sentence."""
    Store.create(tmp_path / "a.world", world_of(2)).close()
    for path in [*(tmp_path / "a.world").rglob("*"), tmp_path / "a.world"]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    # The folders above must be open to whom root becomes.
    for path in tmp_path.parents:
        if path.is_relative_to("/tmp") and path != Path("/tmp"):
            path.chmod(0o755)
    tmp_path.chmod(0o755)
    said = subprocess.run(
        [sys.executable, "-c", READER, str(tmp_path / "a.world")], capture_output=True, text=True, check=False
    )
    first, _, second = said.stdout.partition("\n")
    assert first == "True 2", said.stderr
    assert second.startswith("StoreError") and "got one open read-only" in second


def test_history_says_what_was_done(store: Store):
    """Edit, fields, author and the objects it touched."""
    base = store.read(1)
    moved = shifted(base.world, 5)
    store.commit(moved, base, parent=1, branch="main", op="move", details={"objects": [5]}, author="ada")
    last, first = store.history(2)
    assert (last.op, last.details, last.author, last.parent) == ("move", {"objects": [5]}, "ada", 1)
    assert first.op == "create" and store.touching(5) == {1, 2} and store.touching(6) == {1}
    assert json.dumps(last.details)


def test_two_writers_in_turn_lose_nothing(tmp_path: Path):
    """Both follow each other through conflicts; every move of both is there at the end."""
    script = """
import sys
from gaussworld import edit
from gaussworld.errors import ConflictError
from gaussworld.session import Session
number = int(sys.argv[2])
with Session(sys.argv[1]) as session:
    for _ in range(60):
        while True:
            try:
                session.do(edit.Move((number,), (1.0, 0.0, 0.0)))
                break
            except ConflictError:
                continue
"""
    path = tmp_path / "a.world"
    Store.create(path, world_of(3)).close()
    command = [sys.executable, "-c", script, str(path)]
    writers = [subprocess.Popen([*command, str(number)], stderr=subprocess.PIPE) for number in (1, 2)]
    said = [writer.communicate()[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0], said
    poses = [item.world_from_object[0, 3] for item in gw.World.open(path).objects.values()]
    assert [float(x) for x in poses] == [0, 60, 60]
    with Store(path) as store:
        assert len(store.revisions()) == 121


def test_a_session_outlives_collections(store: Store):
    """A pack that was taken for garbage while its writer was idle is begun anew."""
    base = store.read(1)
    second = commit(store, shifted(base.world, 1), base)
    with Store(store.path) as other:
        drain(collect(other, compact=True, grace_s=-1.0))
    third = commit(store, shifted(second.world, 2), second)
    assert_same(gw.World.open(store.path), third.world)
    assert drain(verify(store)).result.damages == ()


def test_readers_look_again_when_packs_were_written_anew(store: Store):
    """Places that were looked up before a compaction lead nowhere, once."""
    reader = Store(store.path, read_only=True)
    reader.chunks.refresh()
    version = reader.chunks._version
    drain(collect(store, compact=True, grace_s=-1.0))
    reader.chunks.refresh = lambda: (
        None if reader.chunks._version == version else Chunks.refresh(reader.chunks)
    )
    assert_same(reader.read(1).world, world_of())
    reader.close()


def test_what_is_safe_comes_before_what_says_so(store: Store, monkeypatch: pytest.MonkeyPatch):
    """The pack and its folder are synced before the transaction that names them begins."""
    import os

    order: list[str] = []
    fsync = os.fsync
    base = store.read(1)
    commit(store, shifted(base.world, 1), base)
    monkeypatch.setattr(os, "fsync", lambda handle: (order.append("sync"), fsync(handle))[1])
    store.database.connection.set_trace_callback(lambda text: order.append(text.split()[0]))
    base = store.read(2)
    order.clear()
    commit(store, shifted(base.world, 2), base)
    store.database.connection.set_trace_callback(None)
    writes = [word for word in order if word in ("sync", "BEGIN", "COMMIT")]
    assert writes == ["sync", "sync", "BEGIN", "COMMIT"]


def test_an_interrupt_after_the_commit_keeps_it(store: Store, monkeypatch: pytest.MonkeyPatch):
    """What the database has taken must keep its pack, whatever is raised afterwards."""
    base = store.read(1)

    def interrupted(self: Chunks, places: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Chunks, "learn", interrupted)
        with pytest.raises(KeyboardInterrupt):
            commit(store, shifted(base.world, 3), base)
    assert_same(gw.World.open(store.path), shifted(base.world, 3))
    assert drain(verify(store)).result.damages == ()


def test_rotten_chunks_are_not_reused(store: Store):
    """Adding what is there but damaged writes it anew, which mends the older revision too."""
    store.chunks.refresh()
    base = store.read(1)
    at = store.chunks.location(base.objects[4].block.columns["means"].chunks[0])
    file = store.path / "packs" / at.pack
    data = bytearray(file.read_bytes())
    data[at.offset] ^= 1
    file.write_bytes(data)
    same = dataclasses.replace(world_of().objects[4], id=50)
    commit(store, base.world.with_object(same), base, "add")
    assert torch.equal(gw.World.open(store.path).objects[50].gaussians.means, same.gaussians.means)
    assert drain(verify(store)).result.damages == ()


def test_undone_is_kept_by_when_it_was_undone(store: Store):
    """An old edit that was undone a moment ago is not older than a week."""
    base = store.read(1)
    commit(store, shifted(base.world, 1), base)
    store.database.connection.execute("UPDATE revision SET time = time - 3000000")
    store.undo("main")
    commit(store, shifted(base.world, 2), store.read(1))
    assert drain(collect(store, undone_days=7.0)).result.revisions == 0
    assert drain(collect(store, undone_days=0.0)).result.revisions == 1


def test_undo_shares_what_did_not_change(store: Store):
    """Whoever watches sees that only the pose changed."""
    base = store.read(1)
    moved = commit(store, shifted(base.world, 1), base)
    back = store.read(1, moved)
    assert back.world.objects[1].gaussians is moved.world.objects[1].gaussians
    assert back.world.world_from_source is moved.world.world_from_source


def test_shapes_supports_and_confidences_come_back(tmp_path: Path):
    """To the bit, from the disk; a move writes no shape again, and collecting keeps what they need."""
    world, number = world_of(3), 2
    corners = torch.rand(400, 3, generator=torch.Generator().manual_seed(0))
    faces = torch.arange(399).reshape(133, 3)
    part = Mesh(corners[:5], faces[:1])
    shape = Shape(Mesh(corners, faces, corners.flip(0)), (part, Mesh(corners[9:20], faces[:3])))
    item = world.objects[number]
    sure = torch.arange(len(item.gaussians)).to(torch.uint8)
    material = item.material.with_values("shape", volume=0.25, center_of_mass=(0.1, 0.2, 0.3))
    item = dataclasses.replace(
        item,
        shape=shape,
        supported_by=(0,),
        gaussians=dataclasses.replace(item.gaussians, id_confidences=sure),
        material=dataclasses.replace(material, category="wood"),
    )
    with Store.create(tmp_path / "a.world", world.with_object(item)) as store:
        base, before = store.read(1), sum(sizes(store))
        moved = commit(store, shifted(base.world, number), base)
        assert sum(sizes(store)) - before < 4000 < shape.mesh.vertices.nbytes
        assert moved.world.objects[number].shape is base.world.objects[number].shape
        drain(collect(store, compact=True, grace_s=-1.0))
        assert drain(verify(store)).result.damages == ()
    found = gw.World.open(tmp_path / "a.world", "1").objects[number]
    assert found.supported_by == (0,)
    assert gw.World.open(tmp_path / "a.world").objects[number].supported_by is None
    assert found.material == item.material
    assert torch.equal(found.gaussians.id_confidences, sure)
    for a, b in zip((found.shape.mesh, *found.shape.parts), (shape.mesh, *shape.parts), strict=True):
        assert torch.equal(a.vertices, b.vertices) and torch.equal(a.faces, b.faces)
    assert torch.equal(found.shape.mesh.colors, shape.mesh.colors)


def test_a_forged_shape_is_damage(tmp_path: Path):
    """Faces that point beyond the vertices are named with their object, and the rest opens."""
    world = world_of(3)
    corners, faces = torch.rand(5, 3), torch.tensor([[0, 1, 2]])
    shaped = dataclasses.replace(world.objects[1], shape=Shape(Mesh(corners, faces)))
    object.__setattr__(shaped.shape.mesh, "faces", torch.tensor([[0, 1, 99]], dtype=torch.int32))
    Store.create(tmp_path / "a.world", world.with_object(shaped)).close()
    with pytest.raises(StoreError, match="rows of 5 vertices, got 99"):
        gw.World.open(tmp_path / "a.world")
    with Store(tmp_path / "a.world", read_only=True) as store:
        rescued = store.read(1, allow_damage=True).world
    assert list(rescued.objects) == [0, 1, 2] and rescued.objects[1].shape is None
    assert torch.equal(rescued.objects[1].gaussians.means, world.objects[1].gaussians.means)
