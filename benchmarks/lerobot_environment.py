"""Proof of the reader of LeRobot datasets: `python benchmarks/lerobot_environment.py --folder DIR`.

Makes an environment for each version of lerobot, lets lerobot write small datasets there and read them back
with its own loader, and compares every number with what we read; pictures are compared with what was written.
Prints a record in Markdown; exits with 1 where a check fails. `--fixture FILE` packs them for the tests.
pyarrow must be installed here (the extra `lerobot`).

lerobot's own list of packages wants an older torch with CUDA, and robots' drivers: gigabytes. It is installed
without that list, and beside it only what its datasets need.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
import zipfile
from datetime import date
from pathlib import Path

import numpy as np
from machine import commit, processor

from dynamics.lerobot.config import LeRobotConfig
from dynamics.lerobot.convert import import_dataset
from dynamics.lerobot.dataset import Dataset, open_dataset
from dynamics.lerobot.rows import read_rows
from dynamics.lerobot.videos import pictures
from gaussworld.config import load_config
from gaussworld.log import drain

INSIDE = Path(__file__).with_name("lerobot_inside.py")
#: The last release that writes datasets of version 2.1, and the newest for Python 3.11, which writes 3.0.
RELEASES = {"v2.1": ("0.3.3", "datasets<=3.6.0"), "v3.0": ("0.4.4", "datasets>=4,<5")}
TORCH = "torch==2.13.0"
ALONE = ("torchvision==0.28.0", "accelerate<2")
BESIDE = (
    "huggingface-hub<0.36", "av<16", "jsonlines<5", "packaging<26", "einops", "draccus==0.10.0", "termcolor",
    "deepdiff<9", "imageio", "pyarrow", "pandas", "numpy", "opencv-python-headless", "pillow", "psutil",
    "pyyaml", "safetensors", "sympy", "networkx", "jinja2", "filelock", "typing-extensions", "setuptools<81",
)  # fmt: skip

Check = tuple[str, str, str, bool]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="where everything goes; about 3 GB")
    parser.add_argument("--keep", action="store_true", help="use the environments of an earlier run")
    parser.add_argument("--fixture", type=Path, help="a .zip to make of the datasets, for the tests")
    args = parser.parse_args()
    folder, checks, start = args.folder.resolve(), [], time.perf_counter()
    for version, (release, datasets) in RELEASES.items():
        python = folder / f"env-{version}" / "bin" / "python"
        if not (args.keep and python.exists()):
            install(python, release, datasets)
        made = folder / version
        shutil.rmtree(made, ignore_errors=True)
        inside(python, "write", made)
        for name in ("pusht", "aloha"):
            inside(python, "read", made / name, made / f"{name}.npz")
            checks += compared(made, name, version)
    if args.fixture:
        pack(folder, args.fixture)
    lines = [
        f"{date.today()}, commit {commit()}, {processor()}, {os.cpu_count()} cores.",
        "lerobot " + ", ".join(f"{release} (datasets {v})" for v, (release, _) in RELEASES.items()) + ".",
        "",
        "| check | found | wanted | |",
        "|---|---|---|---|",
        *(f"| {what} | {got} | {want} | {'ok' if ok else 'FAILED'} |" for what, got, want, ok in checks),
        "",
        f"Seconds: {time.perf_counter() - start:.0f}.",
    ]
    print("\n".join(lines))
    return 0 if all(check[3] for check in checks) else 1


def install(python: Path, release: str, datasets: str) -> None:
    """An environment with one release of lerobot; torch is the CPU build where pip can have it."""
    env = python.parent.parent
    if not env.exists():
        subprocess.run([sys.executable, "-m", "venv", str(env)], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "--upgrade", "pip"], check=True)
    if subprocess.run([*pip, "--no-deps", f"{TORCH}+cpu"], check=False).returncode:
        subprocess.run([*pip, TORCH], check=True)
    subprocess.run([*pip, "--no-deps", *ALONE, f"lerobot=={release}"], check=True)
    subprocess.run([*pip, datasets, *BESIDE], check=True)


def inside(python: Path, job: str, *paths: Path) -> None:
    """Run lerobot, which must fetch nothing."""
    home = python.parent.parent / "home"
    environ = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(home), "SVT_LOG": "1"}
    words = [str(python), str(INSIDE), job, *map(str, paths)]
    done = subprocess.run(words, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"lerobot failed at {job}: {done.stderr[-2000:]}")


def compared(made: Path, name: str, version: str) -> list[Check]:
    """Our reading of a dataset beside lerobot's."""
    dataset, theirs = open_dataset(made / name), np.load(made / f"{name}.npz")
    title = f"{name}, {version}"
    checks = [check(f"{title}: version", "v{}.{}".format(*dataset.version), version)]
    for column in ("observation.state", "action", "timestamp"):
        ours = [read_rows(dataset, recording, (column,))[column] for recording in dataset.recordings]
        joined, wanted = np.concatenate(ours), theirs[column]
        off = float(np.abs(joined - wanted.reshape(joined.shape)).max())
        checks.append(check(f"{title}: {column}, {joined.shape}, largest difference", f"{off:g}", "0"))
    if "observation.image" in dataset.features:
        checks.append(pictures_compared(dataset, title))
    out = made / f"{name}-episodes"
    shutil.rmtree(out, ignore_errors=True)
    config = load_config(LeRobotConfig, f"lerobot/{name}")
    videos = "observation.image" in dataset.features
    result = drain(import_dataset(made / name, out, config, videos=videos)).result
    steps = sum(recording.length - 1 for recording in dataset.recordings)
    shutil.rmtree(out)
    return [*checks, check(f"{title}: steps imported", str(result.steps), str(steps))]


def pictures_compared(dataset: Dataset, title: str) -> Check:
    """Every picture's grey tells its episode and row: a neighbour's would be off by 7 levels."""
    worst = 0.0
    for recording in dataset.recordings:
        times = np.arange(recording.length) / dataset.fps
        for row, picture in enumerate(pictures(dataset, recording, "observation.image", times)):
            worst = max(worst, abs(float(picture.mean()) * 255 - (40 + 90 * recording.index + 7 * row)))
    return f"{title}: pictures, worst mean grey", f"{worst:.1f} levels", "≤ 2 of 255", worst <= 2


def check(what: str, got: str, wanted: str) -> Check:
    return what, got, wanted, got == wanted


def pack(folder: Path, path: Path) -> None:
    """The datasets and what lerobot read of them, with fixed dates."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for version in RELEASES:
            for file in sorted(p for p in (folder / version).rglob("*") if p.is_file()):
                entry = zipfile.ZipInfo(file.relative_to(folder).as_posix())
                entry.compress_type = zipfile.ZIP_DEFLATED
                packed.writestr(entry, file.read_bytes())


if __name__ == "__main__":
    sys.exit(main())
