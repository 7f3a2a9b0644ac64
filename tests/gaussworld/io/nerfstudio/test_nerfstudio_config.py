"""The settings of a run, read as plain values."""

from pathlib import Path, PurePosixPath

import pytest

from gaussworld.errors import FileFormatError
from gaussworld.io.nerfstudio.config import path_setting, read_config, setting

WRITTEN = r"""!!python/object:nerfstudio.engine.trainer.TrainerConfig
_target: !!python/name:nerfstudio.engine.trainer.Trainer ''
data: &id001 !!python/object/apply:pathlib.PosixPath
- /
- data
- my kitchen
empty: {}
logging: !!python/object:nerfstudio.configs.base_config.LoggingConfig
  enable: true
  stats: !!python/tuple
  - &id002 !!python/object/apply:nerfstudio.utils.writer.EventName
    - Train Iter (time)
  - *id002
lr: 1.0e-15
maybe: null
nested:
- - 1
  - 2
- a: 1
  b: 'it''s here: yes'
- plain
prompt: a text that is so long that it is folded
  by the writer
quoted: 'first

  second'
same: *id001
time: '2026-01-02'
windows: !!python/object/apply:pathlib.WindowsPath
- "C:\\"
- data
"""


def read(tmp_path: Path, text: str) -> dict[str, object]:
    path = tmp_path / "config.yml"
    path.write_text(text)
    return read_config(path)


def test_everything_that_nerfstudio_writes(tmp_path: Path) -> None:
    """Tags fall away, anchors lead somewhere, numbers and words are Python's."""
    assert read(tmp_path, WRITTEN) == {
        "_target": "nerfstudio.engine.trainer.Trainer",
        "data": ["/", "data", "my kitchen"],
        "empty": {},
        "logging": {"enable": True, "stats": [["Train Iter (time)"], ["Train Iter (time)"]]},
        "lr": 1e-15,
        "maybe": None,
        "nested": [[1, 2], {"a": 1, "b": "it's here: yes"}, "plain"],
        "prompt": "a text that is so long that it is folded by the writer",
        "quoted": "first\n second",
        "same": ["/", "data", "my kitchen"],
        "time": "2026-01-02",
        "windows": ["C:\\", "data"],
    }


def test_paths_and_nested_settings(tmp_path: Path) -> None:
    """What is absent is None, at whatever depth."""
    config = read(tmp_path, WRITTEN)
    assert path_setting(config, "data") == PurePosixPath("/data/my kitchen")
    assert path_setting(config, "windows") == PurePosixPath("C:/data")
    assert path_setting(config, "lr") is None
    assert setting(config, "logging", "enable") is True
    assert setting(config, "logging", "nothing", "below") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- a list\n- of things\n",
        "a: 'open\n",
        "a: 'open\n" + "b\n" * 100_000,
        "a: 1\njust words\n",
        "a:\n" + "".join(f"{' ' * depth}a:\n" for depth in range(1, 300)),
        "- " * 5000,
        "\x00\x01",
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    """One sentence, whatever it is."""
    with pytest.raises(FileFormatError, match=r"config\.yml: expected"):
        read(tmp_path, text)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """None there, and one that is no text."""
    with pytest.raises(FileFormatError, match="expected a readable file"):
        read_config(tmp_path / "config.yml")
    (tmp_path / "config.yml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FileFormatError, match=r"expected the config\.yml"):
        read_config(tmp_path / "config.yml")
