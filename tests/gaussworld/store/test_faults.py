"""A world whose writer dies, whose disk is full, or whose bits rot; and archives from strangers."""

import json
import os
import sqlite3
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

import gaussworld as gw
from gaussworld import edit
from gaussworld.errors import FileFormatError, GaussWorldError, StoreError
from gaussworld.log import drain
from gaussworld.session import Session
from gaussworld.store import Store
from gaussworld.store.packs import MAGIC, PackWriter
from gaussworld.store.share import export, unpack
from gaussworld.store.verify import verify


def blob(n: int, seed: int = 0) -> gw.Gaussians:
    g = torch.Generator().manual_seed(seed)
    return gw.Gaussians(*(torch.randn(n, *tail, generator=g) for tail in ((3,), (4,), (3,), (), (4, 3))))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A world of three objects and two revisions; the second has a pack of its own."""
    names = ("table", "box", "ball")
    objects = {i: gw.WorldObject(i, name, blob(500, i)) for i, name in enumerate(names)}
    with Session.create(tmp_path / "a.world", gw.World(objects)) as session:
        session.do(edit.Recolour(edit.Target((1,)), (1.0, 0.0, 0.0)))
    return tmp_path / "a.world"


def pack_of(path: Path, revision: int) -> Path:
    """The pack that a revision's writer filled."""
    with Store(path, read_only=True) as store:
        store.chunks.refresh()
        return path / "packs" / store.chunks.location(store.revision(revision).root).pack


def test_killed_writers_lose_nothing(tmp_path: Path):
    """SIGKILL at random moments under two readers; GAUSSWORLD_KILLS=200 is the long form (`make soak`)."""
    if not hasattr(os, "fork"):
        pytest.skip("killing needs fork, which this system has not")
    kills = os.environ.get("GAUSSWORLD_KILLS", "8")
    script = Path(__file__).with_name("kill_writers.py")
    command = [sys.executable, str(script), str(tmp_path), kills, os.environ.get("GAUSSWORLD_SEED", "1")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    sys.stdout.write(done.stdout)
    assert done.stdout.startswith(f"{kills} kills, ")


class FullDisk:
    """A disk that takes so many bytes and no more."""

    def __init__(self, room: int) -> None:
        self.room = room

        self.add = self._limited(PackWriter.add)

    def _limited(self, add):
        def limited(writer: PackWriter, data: bytes | memoryview):
            self.room -= len(data)
            if self.room < 0:
                raise OSError(28, "No space left on device")
            return add(writer, data)

        return limited


@pytest.mark.parametrize("room", [0, 100, 10_000])
def test_a_full_disk_during_a_commit(path: Path, monkeypatch: pytest.MonkeyPatch, room: int):
    """One sentence; the last revision stays, and with room again the edit works."""
    with Session(path) as session:
        before = {file: file.stat().st_size for file in (path / "packs").iterdir()}
        disk = FullDisk(room)
        with monkeypatch.context() as patch:
            patch.setattr(PackWriter, "add", disk.add)
            with pytest.raises(
                StoreError, match=r"could not write: No space left on device; make room and try"
            ):
                session.do(edit.Scale((2,), 2.0))
        assert {file: file.stat().st_size for file in (path / "packs").iterdir()} == before
        assert session.revision == 2
        session.do(edit.Scale((2,), 2.0))
    with Store(path) as store:
        assert store.branch().revision == 3
        assert drain(verify(store)).result.damages == ()


def test_a_disk_that_fails_behind_our_back(path: Path, monkeypatch: pytest.MonkeyPatch):
    """An error of the sync that runs ahead is not forgotten: the system would not tell it again."""
    monkeypatch.setattr("gaussworld.store.packs._AHEAD", 100)
    fsync, asked = os.fsync, []

    def fails_once(handle: int) -> None:
        asked.append(handle)
        if len(asked) == 1:
            raise OSError(5, "Input/output error")
        fsync(handle)

    with Session(path) as session:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fails_once)
            with pytest.raises(StoreError, match="could not write: Input/output error"):
                session.do(edit.Scale((2,), 2.0))
        assert session.revision == 2
        session.do(edit.Scale((2,), 2.0))
    with Store(path) as store:
        assert drain(verify(store)).result.damages == ()


def test_a_full_disk_for_the_database(path: Path):
    """SQLite's own complaint becomes one sentence, and the commit never was."""
    with Session(path) as session:
        connection = session._store.database.connection
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StoreError, match="expected room on the disk, got none; make room"):
            for _ in range(200):
                session.do(edit.Move((2,), (0.0, 0.0, 0.1)))
        reached = session.revision
        connection.execute("PRAGMA max_page_count = 1000000")
        assert session.do(edit.Move((2,), (0.0, 0.0, 0.1))) == reached + 1
    assert gw.World.open(path).revision == str(reached + 1)


def test_bits_that_rot_are_found_and_named(path: Path):
    """Verify names the object and the revisions; the rest can be read."""
    with Store(path, read_only=True) as store:
        store.chunks.refresh()
        stored = store.read(2)
        at = store.chunks.location(stored.objects[2].block.columns["means"].chunks[0])
    data = bytearray((path / "packs" / at.pack).read_bytes())
    data[at.offset + 77] ^= 4
    (path / "packs" / at.pack).write_bytes(data)
    with Store(path, read_only=True) as store:
        (damage,) = drain(verify(store)).result.damages
    assert "are not what was written" in damage.problem
    assert damage.objects == ("ball (2)",) and damage.revisions == (1, 2)
    assert len(gw.World.open(path).objects) == 3


def test_a_truncated_pack_leaves_the_rest(path: Path):
    """The objects that are whole open, the others are named; the older revision is untouched."""
    pack = pack_of(path, 2)
    assert pack != pack_of(path, 1)
    with Store(path, read_only=True) as store:
        store.chunks.refresh()
        at = store.chunks.location(store.read(2).objects[1].block.columns["sh"].chunks[0])
    # The recoloured object's colours are cut; what follows them is written behind again.
    data = pack.read_bytes()
    pack.write_bytes(data[: at.offset + 64])
    with pytest.raises(StoreError, match=r"expected a sound manifest|expected at least"):
        gw.World.open(path)
    with Store(path, read_only=True) as store:
        damages = drain(verify(store)).result.damages
        assert any(2 in damage.revisions for damage in damages)
        assert not any(1 in damage.revisions for damage in damages)
    assert len(gw.World.open(path, 1).objects) == 3


def test_damage_to_an_object_can_be_left_out(path: Path, caplog: pytest.LogCaptureFixture):
    """With allow_damage the other objects open and can be edited; the message names object and revision."""
    with Store(path, read_only=True) as store:
        store.chunks.refresh()
        name = store.read(2).objects[2].node
    connection = sqlite3.connect(path / "world.db")
    connection.execute("UPDATE chunk SET length = length + 1000000 WHERE hash = ?", (name,))
    connection.commit()
    connection.close()
    with pytest.raises(
        StoreError, match=r"object 2 of revision 2 is damaged: .*--allow-damage opens the rest"
    ):
        gw.World.open(path)
    with Session(path, allow_damage=True) as session:
        assert list(session.world.objects) == [0, 1]
        assert "object 2 of revision 2 is damaged" in caplog.text
        session.do(edit.Move((1,), (0.0, 0.0, 1.0)))
    assert list(gw.World.open(path).objects) == [0, 1]


def test_a_lost_parent_leaves_its_child_whole(path: Path):
    """The child stands alone, and the next revision stores it so."""
    with Session(path) as session:
        session.do(edit.Reparent((2,), 1))
    with Store(path, read_only=True) as store:
        store.chunks.refresh()
        name = store.read(3).objects[1].node
    sql("UPDATE chunk SET length = length + 1000000 WHERE hash = ?", name)(path)
    with Session(path, allow_damage=True) as session:
        assert session.world.objects[2].parent is None
        session.do(edit.Move((0,), (0.0, 0.0, 1.0)))
    assert list(gw.World.open(path).objects) == [0, 2]


def test_a_lost_pack_is_named(path: Path):
    """Like any file that was deleted by hand."""
    pack_of(path, 2).unlink()
    with pytest.raises(StoreError, match=r"\.pack: expected a readable pack, got: No such file"):
        gw.World.open(path)
    assert len(gw.World.open(path, 1).objects) == 3


def repacked(path: Path, out: Path, change) -> Path:
    """A .worldz of a world whose files were changed first."""
    with Store(path, read_only=True) as store:
        drain(export(store, out))
    folder = out.with_suffix("")
    with zipfile.ZipFile(out) as packed:
        packed.extractall(folder)
    change(folder)
    with zipfile.ZipFile(out, "w") as packed:
        for file in sorted(folder.rglob("*")):
            packed.write(file, file.relative_to(folder).as_posix())
    return out


def sql(statement: str, *values):
    """A change of a world's database."""

    def change(folder: Path) -> None:
        connection = sqlite3.connect(folder / "world.db")
        connection.execute(statement, values)
        connection.commit()
        connection.close()

    return change


def flip(folder: Path) -> None:
    pack = max((folder / "packs").iterdir(), key=lambda file: file.stat().st_size)
    data = bytearray(pack.read_bytes())
    data[len(MAGIC) + 5] ^= 1
    pack.write_bytes(data)


def journal(folder: Path) -> None:
    """SQLite would finish what a journal says, and delete the files that it names."""
    (folder / "world.db-journal").write_bytes(b"x" * 600)


def view(folder: Path) -> None:
    """A table whose rows have no end."""
    sql("DROP TABLE meta")(folder)
    endless = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t)"
    sql(f"CREATE VIEW meta(key, value) AS {endless} SELECT 'format_version', n FROM t")(folder)


def forged(folder: Path, root: bytes, nodes: tuple[bytes, ...] = ()) -> None:
    """Make all revisions lead to a root of our own, its hash and those of its nodes fitting."""
    from gaussworld.store.packs import hash_of

    pack = next((folder / "packs").iterdir())
    for data in (*nodes, root):
        offset = -(-pack.stat().st_size // 64) * 64
        with pack.open("r+b") as file:
            file.seek(offset)
            file.write(data)
        number = "(SELECT id FROM pack WHERE name = ?)"
        values = (hash_of(data), pack.name, offset, len(data))
        sql(f"INSERT OR REPLACE INTO chunk VALUES(?, {number}, ?, ?, 'json')", *values)(folder)
    sql("UPDATE revision SET manifest = ?", hash_of(root))(folder)


def endless(folder: Path) -> None:
    """A tree of a few nodes with more paths than anyone can walk."""
    from gaussworld.store.packs import hash_of

    leaf = b"{}"
    nodes, below = [leaf], hash_of(leaf)
    for _ in range(6):
        node = json.dumps({f"{i:x}": below for i in range(200)}).encode()
        nodes.append(node)
        below = hash_of(node)
    forged(folder, root_of([7, {"0": below}]), tuple(nodes))


def repeated(folder: Path) -> None:
    """An object that names one chunk a hundred thousand times."""
    from gaussworld.store.packs import hash_of

    with Store(folder, read_only=True) as store:
        store.chunks.refresh()
        name = store.read(1).objects[0].block.columns["sh"].chunks[0]
    many = 100_000
    columns = {"sh": ["f4", [4, 3], [name] * many], "means": ["f4", [3], [name] * many]}
    item = {"id": 0, "name": "x", "kind": "RIGID", "pose": [1.0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0]}
    node = json.dumps(item | {"gaussians": {"count": 500 * many, "columns": columns}}).encode()
    forged(folder, root_of([0, {"0": hash_of(node)}]), (node,))


def root_of(objects: object) -> bytes:
    matrix = [1.0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]
    facts = {"up": None, "metres_per_unit": None, "world_from_source": matrix, "cameras": None}
    return json.dumps(facts | {"objects": objects}).encode()


NESTED = b'{"a":' * 100_000


def deep(folder: Path) -> None:
    """A root that is nested 100,000 deep."""
    forged(folder, NESTED)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (flip, "expected a sound world, got damage: .* are not what was written"),
        (deep, "expected a .* world, got"),
        (journal, "expected world.db and packs, got an entry 'world.db-journal'"),
        (sql("DELETE FROM ref"), "expected a branch of this world, got 'main'"),
        (sql("CREATE TRIGGER t AFTER INSERT ON revision BEGIN DELETE FROM chunk; END"), "plain tables"),
        (view, "expected plain tables, got views"),
        (endless, "expected a node of 1 to 16 children|expected at most"),
        (repeated, "expected an array"),
        (sql("UPDATE pack SET name = '../../../etc/passwd' WHERE id = 1"), "expected the name of a pack"),
        (sql("UPDATE chunk SET offset = -64"), "expected a chunk's place, got"),
        (
            sql("UPDATE chunk SET length = 1000000000000"),
            "expected at least 1000000000",
        ),
        (sql("UPDATE chunk SET length = -1"), "expected a chunk's place, got"),
        (sql("UPDATE meta SET value = '7'"), "expected format version 1 to 1, got 7"),
        (sql("UPDATE meta SET value = 'x' WHERE key = 'format_version'"), "expected a format version, got"),
        (sql("UPDATE revision SET parent = id"), "to follow an older one, got"),
        (sql("DROP TABLE chunk"), "expected the tables of a world, got none called chunk"),
        (lambda folder: (folder / "world.db").unlink(), "expected a packed world, got another archive"),
        (lambda folder: (folder / "world.db").write_bytes(b"x" * 5000), "file is not a database"),
    ],
    ids=[
        *"flip deep journal names trigger view endless repeated".split(),
        *"traversal offset huge negative version words cycle tables none junk".split(),
    ],
)
def test_hostile_archives_are_refused(path: Path, tmp_path: Path, change, message: str):
    """One sentence, and nothing is left behind."""
    archive = repacked(path, tmp_path / "x.worldz", change)
    target = tmp_path / "in" / "b.world"
    target.parent.mkdir()
    with pytest.raises(GaussWorldError, match=message):
        drain(unpack(archive, target))
    assert list(target.parent.iterdir()) == []


def test_packing_a_received_world_takes_no_other_file(path: Path, tmp_path: Path):
    """A database may name anything as a pack."""
    (tmp_path / "secret.txt").write_text("top secret")
    sql("UPDATE pack SET name = '../../secret.txt' WHERE id = 1")(path)
    with Store(path, read_only=True) as store, pytest.raises(StoreError, match="expected the name of a pack"):
        drain(export(store, tmp_path / "x.worldz"))
    assert not (tmp_path / "x.worldz").exists()


def test_archives_that_are_none(tmp_path: Path):
    """A file of another kind, a bomb, a path that leaves the folder."""
    (tmp_path / "a.worldz").write_bytes(b"no zip")
    with zipfile.ZipFile(tmp_path / "b.worldz", "w") as packed:
        packed.writestr("../evil.txt", "x")
    with zipfile.ZipFile(tmp_path / "c.worldz", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("world.db", bytes(50_000_000))
    for name in "abc":
        with pytest.raises(FileFormatError):
            drain(unpack(tmp_path / f"{name}.worldz", tmp_path / "out.world"))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.worldz", "b.worldz", "c.worldz"]


def test_numbers_that_are_none(tmp_path: Path):
    """A packed world with NaN in it is refused."""
    means = blob(10)
    means.means[3, 1] = float("nan")
    gw.World({0: gw.WorldObject(0, "x", means)}).save(tmp_path / "a.world")
    with Store(tmp_path / "a.world") as store:
        drain(export(store, tmp_path / "a.worldz"))
    with pytest.raises(FileFormatError, match=r"object 0 \(x\): expected finite means, got NaN"):
        drain(unpack(tmp_path / "a.worldz", tmp_path / "b.world"))
