"""`Session`: commands in order, listeners, previews, selections, and other programs on the same world."""

import sqlite3
import threading
from pathlib import Path

import pytest
import torch

import gaussworld as gw
from gaussworld import edit
from gaussworld.edit import Rows, Target
from gaussworld.errors import ConfigError, ConflictError, EditError, StoreError
from gaussworld.session import Session, Update


def blob(n: int, seed: int = 0) -> gw.Gaussians:
    g = torch.Generator().manual_seed(seed)
    return gw.Gaussians(*(torch.randn(n, *tail, generator=g) for tail in ((3,), (4,), (3,), (), (1, 3))))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    names = ("table", "box", "ball")
    objects = {i: gw.WorldObject(i, name, blob(20, i), gw.ObjectKind.RIGID) for i, name in enumerate(names)}
    gw.World(objects).save(tmp_path / "a.world")
    return tmp_path / "a.world"


def move(number: int = 1, by: float = 0.1) -> edit.Move:
    return edit.Move((number,), (by, 0.0, 0.0))


def where(world: gw.World, number: int = 1) -> float:
    return float(world.objects[number].world_from_object[0, 3])


def test_edits_are_durable_and_undone_after_a_restart(path: Path):
    """What is done is there when the world opens again, and so is the way back."""
    with Session(path) as session:
        assert not session.can_undo and not session.can_redo
        assert session.do(move()) == 2
        assert session.do(edit.Rename(2, "football"), author="ada") == 3
    with Session(path) as session:
        assert (session.revision, session.world.revision) == (3, "3")
        assert session.world.objects[2].name == "football" and where(session.world) == pytest.approx(0.1)
        assert session.history()[0].author == "ada"
        assert session.undo() == 2 and session.world.objects[2].name == "ball"
        assert session.undo() == 1 and where(session.world) == 0
    with Session(path) as session:
        assert session.can_redo and session.redo() == 2 and session.redo() == 3
        assert session.world.objects[2].name == "football"
        assert session.restore(1) == 1 and session.can_redo


def test_listeners_hear_what_changed(path: Path):
    """Cause, objects and fields, revision; one that fails neither undoes nor silences anything."""
    heard: list[Update] = []
    with Session(path) as session:

        def fails(update: Update) -> None:
            raise RuntimeError("a broken panel")

        session.listen(fails)
        end = session.listen(heard.append)
        session.do(move())
        session.do(edit.Recolour(Target((2,)), (1.0, 0.0, 0.0)))
        session.do(edit.Duplicate((1,)))
        session.do(edit.SetUp((0.0, 0.0, 1.0)))
        session.undo()
        end()
        session.do(move())
    causes = [(update.cause, update.revision) for update in heard]
    assert causes == [("move", 2), ("recolour", 3), ("duplicate", 4), ("set-up", 5), ("undo", 4)]
    assert heard[0].touched == {1: frozenset({"world_from_object"})}
    assert heard[1].touched == {2: frozenset({"sh"})}
    assert heard[2].touched == {3: frozenset({"added"})}
    assert heard[3].touched == {} and "up" in heard[3].facts
    assert heard[4].world.up is None


def test_a_listener_may_ask_the_session(path: Path):
    """Commands from the session's own thread do not wait for themselves."""
    with Session(path) as session:
        seen: list[int] = []
        session.listen(lambda update: seen.append(len(session.history())))
        session.do(move())
    assert seen == [2]


def test_listeners_hear_in_order_what_a_listener_does(path: Path):
    """An edit from within a listener is told after the change that it answers."""
    heard: list[tuple[str, int]] = []
    with Session(path) as session:

        def answers(update: Update) -> None:
            if update.cause == "move":
                session.do(edit.Rename(1, "moved"))

        session.listen(answers)
        session.listen(lambda update: heard.append((update.cause, update.revision)))
        session.do(move())
    assert heard == [("move", 2), ("rename", 3)]


def test_a_closed_session_says_so(path: Path):
    """And one that cannot be opened leaves no file open."""
    with Session(path) as session:
        pass
    with pytest.raises(StoreError, match="expected an open session, got one that was closed"):
        session.do(move())
    with pytest.raises(ConfigError, match="expected a branch of this world"):
        Session(path, "nope")


def test_a_branch_that_cannot_be_read_changes_nothing(path: Path):
    """Neither the session nor the branch that opens next time."""
    with Session(path) as session:
        session.add_branch("trial")
        session.checkout("trial")
        session.do(edit.Recolour(Target((1,)), (1.0, 0.0, 0.0)))
        session.checkout("main")
        root = session._store.revision(2).root
        connection = sqlite3.connect(path / "world.db")
        connection.execute("UPDATE chunk SET length = 99999999 WHERE hash = ?", (root,))
        connection.commit()
        connection.close()
        with pytest.raises(StoreError):
            session.checkout("trial")
        assert (session.branch, session.revision) == ("main", 1)
        assert session.do(move()) == 3
    assert gw.World.open(path).revision == "3"


def test_commands_of_many_threads_come_one_after_the_other(path: Path):
    """Nothing is lost and no two have the same parent."""
    with Session(path) as session:
        threads = [threading.Thread(target=lambda: session.do(move(by=0.01))) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        history = session.history()
        assert [revision.parent for revision in history] == [*range(12, 0, -1), None]
        assert where(session.world) == pytest.approx(0.12, abs=1e-5)


def test_previews_are_seen_but_not_stored(path: Path):
    """A drag is one revision, made at its end."""
    with Session(path) as session:
        causes: list[str] = []
        session.listen(lambda update: causes.append(update.cause))
        for step in range(1, 4):
            assert where(session.preview(move(by=0.1 * step))) == pytest.approx(0.1 * step)
        assert session.revision == 1 and where(gw.World.open(path)) == 0
        session.do(move(by=0.3))
        assert (session.revision, where(session.world)) == (2, pytest.approx(0.3))
        session.preview(move(2))
        with pytest.raises(EditError):
            session.do(move(9))
        assert where(session.world, 2) == 0
    assert causes == ["preview"] * 3 + ["move", "preview", "preview"]


def test_a_refused_edit_changes_nothing(path: Path):
    """The error arrives where the edit was asked for."""
    with Session(path) as session:
        with pytest.raises(EditError, match="move: expected the id of an object of this world, got 9"):
            session.do(move(9))
        future = session.submit(edit.Scale((1,), 0.0))
        with pytest.raises(EditError, match="scale: factor"):
            future.result()
        assert session.revision == 1


def test_another_program_is_followed(path: Path):
    """A conflict names both revisions; afterwards the session stands where the other one led."""
    with Session(path) as mine, Session(path) as theirs:
        theirs.do(move(2))
        with pytest.raises(ConflictError, match="expected revision 1 at the head of main to move, got"):
            mine.do(move(1))
        assert mine.revision == 2 and where(mine.world, 2) == pytest.approx(0.1)
        mine.do(move(1))
        with pytest.raises(ConflictError, match="to undo, got revision 3"):
            theirs.undo()
        assert theirs.revision == 3 and theirs.undo() == 2
        assert mine.refresh() == 2 and where(mine.world) == 0


def test_branches_and_tags(path: Path):
    """Each branch has its own future."""
    with Session(path) as session:
        session.add_tag("clean")
        session.do(move())
        session.add_branch("trial", 1)
        assert session.checkout("trial") == 1 and where(session.world) == 0
        session.do(move(by=5.0))
        assert session.checkout("main") == 2 and where(session.world) == pytest.approx(0.1)
        assert {ref.name: ref.revision for ref in session.refs()} == {"main": 2, "clean": 1, "trial": 3}
        with pytest.raises(ConfigError, match="expected a branch of this world, got 'nope'"):
            session.checkout("nope")


def test_selections_combine_and_follow_edits(path: Path):
    """Replace, add, remove, intersect; what no longer exists is left out."""

    def rows(low: int, high: int) -> Target:
        mask = torch.zeros(20, dtype=torch.bool)
        mask[low:high] = True
        return Target(rows=Rows.from_masks({1: mask}))

    with Session(path) as session:
        assert len(session.select(rows(0, 10)).rows) == 10
        assert len(session.select(rows(5, 15), "add").rows) == 15
        assert len(session.select(rows(0, 2), "remove").rows) == 13
        assert session.select(rows(0, 5), "intersect").rows.to_plain() == {"1": [[2, 5]]}
        assert session.select(Target((2, 9)), "add").objects == (2,)
        session.do(edit.Erase(session.selection))
        assert int((session.world.objects[1].gaussians.flags & 1).sum()) == 3
        assert session.selection.objects == (2,) and len(session.selection.rows) == 3
        session.do(edit.Delete((2,)))
        session.do(edit.Split(rows(10, 20), "half"))
        assert session.selection.objects == () and len(session.selection.rows) == 0


def test_a_temporary_session_leaves_nothing():
    """For a splat file that somebody only looks at."""
    with Session.temporary(gw.World({0: gw.WorldObject(0, "x", blob(5))})) as session:
        folder = session.path
        session.do(move(0))
        assert folder.exists()
    assert not folder.exists()
    assert where(session.world, 0) == pytest.approx(0.1)
