"""Masks by another program: its command line, its answers, and every way it can fail."""

import sys
from pathlib import Path

import pytest
import torch

from gaussworld.camera import Camera
from gaussworld.capture import Frame
from gaussworld.errors import CaptureError, ConfigError
from gaussworld.log import drain
from recon.objects.mask_command import masks_by_command, split_command
from recon.objects.masks import Masks

SCRIPT = """
import sys
from PIL import Image
picture = Image.open(sys.argv[1]).convert("L")
open(sys.argv[3], "a").write(sys.argv[1] + "\\n")
picture.point(lambda value: 5 if value > 128 else 0).save(sys.argv[2])
"""


def frames() -> list[Frame]:
    """Two pictures in memory with a bright square."""
    camera = Camera.looking_at((1.0, 0.0, 1.0), (0.0, 0.0, 0.0), 32, 24)
    pictures = [torch.zeros(24, 32, 3), torch.full((24, 32, 3), 0.1)]
    for picture in pictures:
        picture[8:16, 8:16] = 1.0
    return [Frame(camera, picture) for picture in pictures]


def run(tmp_path: Path, script: str, timeout: float = 60.0) -> Masks:
    """The masks that a Python script makes; its name has a space, as paths do."""
    program = tmp_path / "my masks.py"
    program.write_text(script)
    command = f'"{sys.executable}" "{program}" {{image}} {{output}} "{tmp_path / "calls.txt"}"'
    return drain(masks_by_command(command, frames(), tmp_path / "cache", timeout)).result


def test_a_program_is_run_once_for_each_picture(tmp_path: Path) -> None:
    """Its PNG of ids is read, and kept: a second run asks it nothing."""
    masks = run(tmp_path, SCRIPT)
    assert masks.per_picture and len(masks.frames) == 2
    assert masks.pictures[0].unique().tolist() == [0, 5]
    assert len((tmp_path / "calls.txt").read_text().splitlines()) == 2
    again = run(tmp_path, SCRIPT)
    assert len((tmp_path / "calls.txt").read_text().splitlines()) == 2
    assert torch.equal(masks.pictures[1], again.pictures[1])


def test_it_may_write_a_folder(tmp_path: Path) -> None:
    """Binary masks in a folder at {output} are as good."""
    script = SCRIPT.replace(
        ".save(sys.argv[2])", ".save((__import__('os').mkdir(sys.argv[2]), sys.argv[2] + '/a.png')[1])"
    )
    assert run(tmp_path, script).pictures[0].unique().tolist() == [0, 1]


def test_no_shell_sees_the_command(tmp_path: Path) -> None:
    """What a shell would take for more commands is handed over as it is."""
    program = tmp_path / "p.py"
    program.write_text(SCRIPT)
    command = f'"{sys.executable}" "{program}" {{image}} {{output}} "{tmp_path}/a;touch b"'
    drain(masks_by_command(command, frames(), tmp_path / "cache", 60.0))
    assert (tmp_path / "a;touch b").is_file() and not (tmp_path / "b").exists()


def test_a_failure_names_command_status_and_last_words(tmp_path: Path) -> None:
    """The last line on stderr is what helps."""
    with pytest.raises(CaptureError, match=r"my masks.py.*ended with status 3 .*: out of memory"):
        run(tmp_path, "import sys\nsys.stderr.write('first\\nout of memory\\n')\nsys.exit(3)")
    assert not any((tmp_path / "cache").iterdir())


def test_other_ways_to_fail(tmp_path: Path) -> None:
    """Too slow, silent, or not there."""
    with pytest.raises(CaptureError, match=r"took more than 0.3 s .* raise --mask-timeout"):
        run(tmp_path, "import time\ntime.sleep(20)", 0.3)
    with pytest.raises(CaptureError, match=r"to write \{output\} for in memory"):
        run(tmp_path, "pass")
    with pytest.raises(ConfigError, match=r"no-such-program.*not found"):
        drain(masks_by_command("no-such-program {image} {output}", frames(), tmp_path / "cache", 1.0))


def test_command_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both places must be there; backslashes separate folders under Windows."""
    with pytest.raises(ConfigError, match=r"expected \{output\} in it"):
        split_command("prog {image}")
    with pytest.raises(ConfigError, match="No closing quotation"):
        split_command('prog "{image} {output}')
    assert split_command("prog --in={image} '{output}'") == ["prog", "--in={image}", "{output}"]
    monkeypatch.setattr("recon.objects.mask_command.os.name", "nt")
    assert split_command(r'"C:\My Tools\sam.exe" {image} {output}')[0] == r"C:\My Tools\sam.exe"
