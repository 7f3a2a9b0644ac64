"""Zip archives: what is unpacked, and every trick that must be refused before it works."""

import stat
import struct
import zipfile
from pathlib import Path
from random import Random
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gaussworld.errors import FileFormatError, GaussWorldError
from gaussworld.io.archive import extract, open_archive


def zipped(path: Path, entries: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(zipfile.ZipInfo(name), data, compress_type=method)
    return path


def refusal(path: Path, **limits) -> str:
    """The sentence with which an archive is refused."""
    with (
        pytest.raises(FileFormatError) as caught,
        open_archive(path, **({"max_total_bytes": 1 << 20} | limits)) as archive,
    ):
        for name in archive.entries:
            archive.read(name, 1 << 20)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_what_is_packed_comes_out(tmp_path: Path, method: int) -> None:
    """Read, streamed and extracted; folders are no entries."""
    content = {"world.db": Random(0).randbytes(5_120_000), "packs/a.pack": b"", "packs/b c.pack": b"x"}
    path = zipped(tmp_path / "a.zip", content | {"cache/": b""}, method)
    with open_archive(path, max_total_bytes=6_000_000) as archive:
        assert {name: archive.read(name, 6_000_000) for name in archive.entries} == content
        assert archive.total_bytes == 5_120_001
        assert max(map(len, archive.stream("world.db"))) <= 1 << 20
    extract(path, tmp_path / "new" / "out", max_total_bytes=6_000_000)
    files = {file for file in (tmp_path / "new").rglob("*") if file.is_file()}
    found = {str(file.relative_to(tmp_path / "new" / "out")): file.read_bytes() for file in files}
    assert found == content


def test_extraction_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged entry, a folder that is there and too little room leave nothing behind."""
    path = zipped(tmp_path / "a.zip", {"good": b"good" * 100, "bad": b"bad!" * 100})
    data = path.read_bytes()
    path.write_bytes(data.replace(b"bad!", b"bed!", 1))
    with pytest.raises(FileFormatError, match="'bad' undamaged, got: Bad CRC-32"):
        extract(path, tmp_path / "out", max_total_bytes=1 << 20)
    path.write_bytes(data)
    (tmp_path / "taken").mkdir()
    with pytest.raises(GaussWorldError, match=r"a new folder, got .*taken"):
        extract(path, tmp_path / "taken", max_total_bytes=1 << 20)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=799))
    with pytest.raises(GaussWorldError, match=r"800 bytes of room in .*, got 799"):
        extract(path, tmp_path / "out", max_total_bytes=1 << 20)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.zip", "taken"]


@pytest.mark.parametrize(
    "name",
    [
        "../out", "a/../../out", "/etc/passwd", "a//b", "./a", "a/.", "C:/a", "a\\b", "..\\a", "a\nb",
        "a\x7f", "x" * 300, "a/" * 600 + "b", "..",
    ],
)  # fmt: skip
def test_names_that_leave_are_refused(tmp_path: Path, name: str) -> None:
    """Traversal, absolute names, drives, backslashes, control characters, names no disk takes."""
    message = refusal(zipped(tmp_path / "a.zip", {name: b"1"}))
    assert "relative names that stay in one folder" in message
    with pytest.raises(FileFormatError):
        extract(tmp_path / "a.zip", tmp_path / "out", max_total_bytes=1 << 20)
    assert [file.name for file in tmp_path.iterdir()] == ["a.zip"]


def test_a_name_that_ends_twice_is_refused(tmp_path: Path) -> None:
    """zipfile shows `a` where other programs see `a`, NUL, `/../../b`."""
    path = zipped(tmp_path / "a.zip", {"a#b": b"1"})
    path.write_bytes(path.read_bytes().replace(b"a#b", b"a\0b"))
    assert "relative names" in refusal(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "a"], "each entry once, got 'a' after 'a'"),
        (["World.db", "world.DB"], "each entry once"),
        (["caf\u00e9", "cafe\u0301"], "each entry once"),
        (["a", "a/b"], "got 'a/b' inside the file 'a'"),
        (["a/b/c", "A"], "got 'a/b/c' inside the file 'a'"),
    ],
)
def test_names_that_clash_are_refused(tmp_path: Path, names: list[str], message: str) -> None:
    """The same name twice, also where only case or accents' spelling differ, or a file that is a folder."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(name), b"1")
    assert message in refusal(tmp_path / "a.zip")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_are_refused(tmp_path: Path, kind: int) -> None:
    """A link unpacked would let the next entry be written through it."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("a")
        info.external_attr = (kind | 0o777) << 16
        archive.writestr(info, "/etc")
    assert "a link or a device" in refusal(tmp_path / "a.zip")


def patched(path: Path, signature: bytes, offset: int, layout: str, *values: int) -> Path:
    """Overwrite a field behind the first `signature`: PK12 in the list of entries, PK34 before the data."""
    data = bytearray(path.read_bytes())
    struct.pack_into(layout, data, data.index(signature) + offset, *values)
    path.write_bytes(data)
    return path


LIST, LOCAL = b"PK\1\2", b"PK\3\4"


def test_encryption_and_odd_methods_are_refused(tmp_path: Path) -> None:
    """No password is asked for, and only methods whose expansion is bounded are unpacked."""
    path = zipped(tmp_path / "a.zip", {"a": b"1"})
    assert "without encryption" in refusal(patched(path, LIST, 8, "<H", 1))
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        assert "stored or deflated" in refusal(zipped(tmp_path / "b.zip", {"a": b"1"}, method))


def test_bombs_are_refused(tmp_path: Path) -> None:
    """Zeros packed a thousandfold, too many bytes, too many entries, entries that share their bytes."""
    path = zipped(tmp_path / "a.zip", {"a": bytes(4_000_000)}, zipfile.ZIP_DEFLATED)
    assert "at most 200 times its" in refusal(path, max_total_bytes=1 << 30)
    assert "at most 1048576 bytes unpacked, got 4000000" in refusal(path)
    assert "at most 1 entries, got 2" in refusal(zipped(path, {"a": b"1", "b": b"2"}), max_entries=1)
    zipped(path, {"a": b"a" * 1000, "b": b"b" * 1000})
    data = path.read_bytes()
    second = data.index(LIST, data.index(LIST) + 1)
    # Both entries' sizes are enlarged to take in the whole file.
    whole = bytearray(data)
    for start in (data.index(LIST), second):
        struct.pack_into("<II", whole, start + 20, 2000, 2000)
    path.write_bytes(whole)
    assert "apart from each other, got 4000 bytes" in refusal(path)


def test_lies_about_sizes_are_refused(tmp_path: Path) -> None:
    """An entry that unpacks to more or less than it says, whichever way it is packed."""
    stored = zipped(tmp_path / "a.zip", {"a": b"a" * 100})
    assert "the stored entry 'a' to have 99 bytes, got 100" in refusal(patched(stored, LIST, 24, "<I", 99))
    for said in (99, 101):
        path = zipped(tmp_path / "b.zip", {"a": b"a" * 100}, zipfile.ZIP_DEFLATED)
        assert "'a'" in refusal(patched(path, LIST, 24, "<I", said))


def test_a_list_of_entries_that_is_a_bomb_is_refused(tmp_path: Path) -> None:
    """zipfile reads the list whole: it must not be as long as the file pretends."""
    path = zipped(tmp_path / "a.zip", {f"{i}": b"" for i in range(4000)})
    assert "a list of entries of at most" in refusal(path, max_entries=100)


@pytest.mark.parametrize("data", [b"", b"PK", b"PK\5\6" + bytes(17), b"no zip at all" * 10, bytes(70_000)])
def test_what_is_no_zip_is_refused(tmp_path: Path, data: bytes) -> None:
    """Noise, an empty file, a cut one."""
    (tmp_path / "a.zip").write_bytes(data)
    assert "a zip archive" in refusal(tmp_path / "a.zip")
    with pytest.raises(FileFormatError, match="a readable file"), open_archive(tmp_path, max_total_bytes=1):
        pass


def test_limits_of_a_single_entry(tmp_path: Path) -> None:
    """An entry that is missing, or larger than its reader can use."""
    path = zipped(tmp_path / "a.zip", {"a": b"1234"})
    with open_archive(path, max_total_bytes=4) as archive:
        with pytest.raises(FileFormatError, match="'b' in the archive, got none"):
            archive.read("b", 10)
        with pytest.raises(FileFormatError, match="at most 3 bytes in 'a', got 4"):
            archive.read("a", 3)


@given(st.data())
def test_damage_never_escapes_the_error_family(tmp_path_factory, data: st.DataObject) -> None:
    """Bytes overwritten anywhere give the entries or a FileFormatError, nothing else."""
    path = tmp_path_factory.mktemp("zip") / "a.zip"
    zipped(path, {"a/b": b"12345" * 20, "c": b"1"}, data.draw(st.sampled_from([0, 8])))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        with open_archive(path, max_total_bytes=1 << 20) as archive:
            for name in archive.entries:
                archive.read(name, 1 << 20)
    except FileFormatError:
        pass


def test_entries_beyond_4_gb_have_room_in_their_headers(tmp_path: Path) -> None:
    """Zip64, as archives of large worlds need it: 64-bit sizes are read, and limits hold for them too."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive, archive.open("a", "w", force_zip64=True) as entry:
        entry.write(b"12345")
    with open_archive(path, max_total_bytes=5) as archive:
        assert archive.read("a", 5) == b"12345"
    assert "at most 4 bytes unpacked" in refusal(path, max_total_bytes=4)
