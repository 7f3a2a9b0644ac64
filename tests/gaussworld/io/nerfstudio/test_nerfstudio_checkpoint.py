"""Checkpoints are read without running anything of theirs, and hostile ones are refused in one sentence."""

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._utils

from gaussworld import Gaussians
from gaussworld.errors import FileFormatError
from gaussworld.io.nerfstudio import load_run, read_gaussians
from gaussworld.io.nerfstudio.checkpoint import Stored, open_checkpoint, tensors_of

MakeRun = Callable[..., Path]


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def repacked(path: Path, raw: bytes, **data: bytes) -> Path:
    """A checkpoint with this pickle and these storages."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", raw)
        for name, value in data.items():
            archive.writestr(f"archive/data/{name.strip('_')}", value)
    return path


class Touch:
    """Unpickling one makes a file: what an attacker's code would do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


class Evaluated:
    """The same through a builtin."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (f"open({str(self.path)!r}, 'w')",)


@pytest.mark.parametrize("kind", [Touch, Evaluated])
def test_code_in_a_checkpoint_is_refused(tmp_path: Path, kind: Callable[[Path], Any]) -> None:
    """Nothing is executed, and the sentence names what was asked for."""
    trap = tmp_path / "executed"
    path = saved(tmp_path / "a.ckpt", {"step": 1, "pipeline": {"x": torch.ones(2)}, "extra": kind(trap)})
    with pytest.raises(FileFormatError, match=r"asks for \w+\.\w+, which is refused because .* run code"):
        with open_checkpoint(path):
            pass
    assert not trap.exists()


def test_the_traps_would_work(tmp_path: Path) -> None:
    """A trap that never snaps proves nothing."""
    pickle.loads(pickle.dumps(Touch(tmp_path / "executed")))
    assert (tmp_path / "executed").exists()


def test_code_in_a_run_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    """Neither the checkpoint nor the settings of a run are executed."""
    g = Gaussians(
        torch.zeros(1, 3), torch.ones(1, 4), torch.zeros(1, 3), torch.zeros(1), torch.zeros(1, 16, 3)
    )
    run, trap = make_run(g, torch.eye(4), 1.0), tmp_path / "executed"
    with (run / "config.yml").open("a") as file:
        file.write(f"evil: !!python/object/apply:os.system\n- touch {trap}\n")
    assert len(load_run(run).shown()) == 1
    assert not trap.exists()
    torch.save({"pipeline": {}, "evil": Touch(trap)}, run / "nerfstudio_models" / "step-000000300.ckpt")
    with pytest.raises(FileFormatError, match=r"asks for \w+\.system"):
        load_run(run)
    assert not trap.exists()


@pytest.mark.parametrize("name", ["os system", "builtins exec", "torch load", "torch._utils __builtins__"])
def test_names_that_are_not_listed(tmp_path: Path, name: str) -> None:
    """Only what describes tensors and numbers is known."""
    raw = b"\x80\x02c" + name.replace(" ", "\n").encode() + b"\n."
    with pytest.raises(FileFormatError, match=name.replace(" ", r"\.")):
        with open_checkpoint(repacked(tmp_path / "a.ckpt", raw)):
            pass


def test_listed_names_cannot_be_changed(tmp_path: Path) -> None:
    """BUILD on a callable would change it for every later file."""
    state = b"(N}X\x04\x00\x00\x00evilK\x01st"
    raw = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n" + state + b"b."
    with pytest.raises(FileFormatError, match="a changed function"):
        with open_checkpoint(repacked(tmp_path / "a.ckpt", raw)):
            pass


@pytest.mark.parametrize(
    "raw",
    [
        b"\x80\x02}r\xff\xff\xff\x7f.",  # a place in the memo for which 32 GB would be set aside
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x00}.",
        b"\x80\x02\x8b\xff\xff\xff\x7f.",
        b"\x80\x02]q\x00h\x00a.",
    ],
)
def test_pickles_that_torch_never_writes(tmp_path: Path, raw: bytes) -> None:
    """Refused before anything is built, without reserving what they announce."""
    with pytest.raises(FileFormatError, match=r"got a damaged one|expected the checkpoint of splatfacto"):
        with open_checkpoint(repacked(tmp_path / "a.ckpt", raw)) as checkpoint:
            read_gaussians(checkpoint)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64])
def test_tensors_are_those_that_torch_saved(tmp_path: Path, dtype: torch.dtype) -> None:
    """Views, transposed and empty ones, parameters, and what shares its storage."""
    base = torch.arange(24).reshape(4, 6).to(dtype)
    content = {"whole": base, "view": base[1:3, ::2], "turned": base.T, "empty": base[:0]}
    if dtype.is_floating_point:
        content["parameter"] = torch.nn.Parameter(base)
    with open_checkpoint(saved(tmp_path / "a.ckpt", content)) as checkpoint:
        stored = tensors_of(checkpoint.content)
        assert set(stored) == set(content)
        for name, value in content.items():
            got = checkpoint.read(stored[name])
            assert got.dtype == dtype
            assert torch.equal(got, value.detach())


def descriptor(
    shape: tuple[int, ...],
    stride: tuple[int, ...],
    offset: int = 0,
    count: int = 4,
    state: dict[str, Any] | None = None,
) -> bytes:
    """The pickle of one tensor as torch writes it, with numbers of our choice, which BUILD may change."""
    storage = ("storage", torch.FloatStorage, "0", "cpu", count)

    class Named(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            return storage if obj == "STORAGE" else None

    class Tensor:
        def __reduce__(self) -> tuple[Any, ...]:
            whole = torch._utils._rebuild_tensor_v2, ("STORAGE", offset, shape, stride, False, None)
            return whole if state is None else (*whole, state)

    stream = io.BytesIO()
    Named(stream, 2).dump({"x": Tensor()})
    return stream.getvalue()


@pytest.mark.parametrize(
    ("shape", "stride", "offset", "count"),
    [
        ((5,), (1,), 0, 4),  # longer than its bytes
        ((4,), (1,), 1, 4),  # ends behind them
        ((2,), (-1,), 1, 4),  # runs backwards
        ((1 << 40,), (0,), 0, 4),  # a few bytes as terabytes
        ((2, 2), (1,), 0, 4),  # shape and stride disagree
        ((1,) * 40, (1,) * 40, 0, 4),
        ((2,), (1 << 60,), 0, 4),
        ((2,), (1,), 0, 1 << 60),  # more than the file holds
    ],
)
def test_shapes_that_leave_their_bytes(
    tmp_path: Path, shape: tuple[int, ...], stride: tuple[int, ...], offset: int, count: int
) -> None:
    """No memory is read or allocated beyond what the file holds."""
    path = repacked(tmp_path / "a.ckpt", descriptor(shape, stride, offset, count), _0=bytes(16))
    with pytest.raises(FileFormatError):
        with open_checkpoint(path) as checkpoint:
            checkpoint.read(tensors_of(checkpoint.content)["x"])


def test_tensors_cannot_be_changed_once_checked(tmp_path: Path) -> None:
    """BUILD would write 64 Gi numbers past the check of the shape, for a file of 16 bytes."""
    raw = descriptor((4,), (1,), state={"shape": (1 << 36,), "stride": (0,)})
    with pytest.raises(FileFormatError, match="a changed tensor"):
        with open_checkpoint(repacked(tmp_path / "a.ckpt", raw, _0=bytes(16))):
            pass
    # The storage itself: PROTO, the persistent id, BUILD.
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"
    changed = b"\x80\x02" + storage + b"}X\x05\x00\x00\x00countJ\xff\xff\xff\x7fsb."
    with pytest.raises(FileFormatError, match="a changed storage"):
        with open_checkpoint(repacked(tmp_path / "b.ckpt", changed, _0=bytes(16))):
            pass


def test_reading_checks_the_shape_again(tmp_path: Path) -> None:
    """However a description came to be, it stays within its bytes."""
    path = repacked(tmp_path / "a.ckpt", descriptor((4,), (1,)), _0=bytes(16))
    with open_checkpoint(path) as checkpoint:
        with pytest.raises(FileFormatError, match="expected tensors within their bytes"):
            checkpoint.read(Stored("0", 4, torch.float32, 0, (1 << 36,), (0,)))


def test_methods_of_dictionaries_cannot_be_replaced(tmp_path: Path) -> None:
    """BUILD on torch's dictionary would shadow `items` with a number."""
    raw = b"\x80\x02ccollections\nOrderedDict\n)R}X\x05\x00\x00\x00itemsK\x01sb."
    with open_checkpoint(repacked(tmp_path / "a.ckpt", raw)) as checkpoint:
        assert tensors_of(checkpoint.content) == {}


def test_descriptor_is_what_torch_writes(tmp_path: Path) -> None:
    """The cases above differ from a sound one by their numbers alone."""
    path = repacked(tmp_path / "a.ckpt", descriptor((2, 2), (2, 1)), _0=bytes(16))
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.read(tensors_of(checkpoint.content)["x"]).shape == (2, 2)


def test_files_that_are_no_checkpoint(tmp_path: Path) -> None:
    """Text, another zip, an old form, a cut one: each a sentence."""
    text, old, cut = tmp_path / "text.ckpt", tmp_path / "old.ckpt", tmp_path / "cut.ckpt"
    text.write_text("hello")
    torch.save({"x": torch.ones(3)}, old, _use_new_zipfile_serialization=False)
    cut.write_bytes(saved(tmp_path / "a.ckpt", {"x": torch.ones(3)}).read_bytes()[:-40])
    other = tmp_path / "other.ckpt"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("readme.txt", "hello")
    garbled = repacked(tmp_path / "garbled.ckpt", b"\x80\x02}q\x00(X\x03")
    for path in (text, old, cut, other, garbled, tmp_path / "none.ckpt"):
        with pytest.raises(FileFormatError, match=str(path)):
            with open_checkpoint(path):
                pass


def test_checkpoints_of_other_methods(make_run: MakeRun) -> None:
    """nerfacto keeps no Gaussians: the sentence says so, and what it keeps."""
    g = Gaussians(
        torch.zeros(1, 3), torch.ones(1, 4), torch.zeros(1, 3), torch.zeros(1), torch.zeros(1, 16, 3)
    )
    run = make_run(g, torch.eye(4), 1.0)
    other = {"step": 9, "pipeline": {"_model.field.mlp.weight": torch.ones(3)}}
    torch.save(other, run / "nerfstudio_models" / "step-000000300.ckpt")
    with pytest.raises(FileFormatError, match=r"expected the checkpoint of splatfacto.*_model\.field\.mlp"):
        load_run(run)
    torch.save([1, 2], run / "nerfstudio_models" / "step-000000301.ckpt")
    with pytest.raises(FileFormatError, match="no tensors at all"):
        load_run(run)


def test_parameters_that_do_not_fit(make_run: MakeRun) -> None:
    """Other lengths, other shapes, other numbers."""
    g = Gaussians(
        torch.zeros(2, 3), torch.ones(2, 4), torch.zeros(2, 3), torch.zeros(2), torch.zeros(2, 16, 3)
    )
    run = make_run(g, torch.eye(4), 1.0)
    path = run / "nerfstudio_models" / "step-000000199.ckpt"
    whole = torch.load(path, weights_only=False)
    for name, value, message in (
        ("means", torch.zeros(3, 3), "parameters of one length"),
        ("means", torch.zeros(2, 2), r"of shape \(n, 3\)"),
        ("means", torch.zeros(2, 3, dtype=torch.int64), "torch.int64"),
        ("features_rest", torch.zeros(2, 24, 3), "degree 0 to 3"),
    ):
        changed = {**whole["pipeline"], f"_model.gauss_params.{name}": value}
        torch.save({**whole, "pipeline": changed}, path)
        with pytest.raises(FileFormatError, match=message):
            load_run(run)


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    """A damaged tensor that nobody wants does no harm."""
    path = repacked(tmp_path / "a.ckpt", descriptor((2, 2), (2, 1)))
    with open_checkpoint(path) as checkpoint:
        stored = tensors_of(checkpoint.content)["x"]
        assert isinstance(stored, Stored)
        with pytest.raises(FileFormatError, match="expected 16 bytes"):
            checkpoint.read(stored)
