"""Proof of the bridge to nerfstudio: `python benchmarks/nerfstudio_environment.py --folder DIR [--latest]`.

Makes an environment of its own, installs this checkout with its extra `nerfstudio` there, trains the method
`gaussworld` with `ns-train`, reads nerfstudio's checkpoint back, and lets nerfstudio's own parser load what
is exported. Prints a record in Markdown; exits with 1 where a check fails. Takes minutes, most of them pip's.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from machine import commit, processor

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = Path(__file__).with_name("nerfstudio_constraints.txt")
#: What an earlier run has left, beside the environment.
MADE = ("data", "outputs", "imported.world", "data-of-world", "ours", "data-of-run", "ply")
INSIDE = Path(__file__).with_name("nerfstudio_inside.py")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="where everything goes; about 8 GB")
    parser.add_argument("--keep", action="store_true", help="use the environment of an earlier run as it is")
    parser.add_argument("--latest", action="store_true", help="let pip choose versions, without the list")
    parser.add_argument(
        "--steps", type=int, default=800, help="steps of training; densification starts at 600"
    )
    parser.add_argument("--data", type=Path, help="a capture to train on; default: the synthetic tabletop")
    args = parser.parse_args()
    folder = args.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    python = folder / "env" / "bin" / "python"
    for name in MADE:
        shutil.rmtree(folder / name, ignore_errors=True)
    seconds = {} if args.keep else {"environment": timed(lambda: install(folder, args.latest))}
    environ = {**os.environ, "TORCH_HOME": str(folder / "torch"), "OMP_WAIT_POLICY": "PASSIVE"}
    inside = [str(python), str(INSIDE)]

    def step(*words: object, **more: str) -> None:
        with (folder / "log.txt").open("a") as log:
            print("+", *words, file=log, flush=True)
            done = subprocess.run(
                list(map(str, words)),
                cwd=folder,
                env={**environ, **more},
                stdout=log,
                stderr=log,
                check=False,
            )
        if done.returncode:
            sys.exit(f"{words[0]} {words[1]} failed; see {folder / 'log.txt'}")

    capture = [args.data.resolve()] if args.data else []
    seconds["export of the capture"] = timed(lambda: step(*inside, "prepare", *capture))
    train = (
        python.with_name("ns-train"), "gaussworld", "--data", folder / "data",
        "--output-dir", folder / "outputs", "--experiment-name", "proof", "--timestamp", "run",
        "--max-num-iterations", args.steps, "--vis", "tensorboard", "--machine.device-type", "cpu",
        # Splatfacto begins at a quarter of the resolution, which is for larger pictures.
        "--pipeline.model.num-downscales", 0 if args.data is None else 2,
    )  # fmt: skip
    seconds["training"] = timed(lambda: step(*train))
    # nerfstudio 1.1.5 loads its own checkpoints with a torch.load that newer versions of torch restrict.
    seconds["checks"] = timed(lambda: step(*inside, "check", TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD="1"))
    facts = json.loads((folder / "facts.json").read_text())
    checked = subprocess.run([str(python), "-m", "pip", "check"], capture_output=True, text=True, check=False)
    facts["checks"].insert(0, ["`pip check`", checked.stdout.strip(), "no conflict", checked.returncode == 0])
    sys.stdout.write(record(facts, seconds, args.steps, args.latest))
    return 0 if all(row[3] for row in facts["checks"]) else 1


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def install(folder: Path, latest: bool) -> None:
    """An environment with this checkout and its extra; one that is there already is updated."""
    env = folder / "env"
    if not env.exists():
        subprocess.run([sys.executable, "-m", "venv", str(env)], check=True)
    pip = [str(env / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "--upgrade", "pip"], check=True)
    listed = [] if latest else ["--constraint", str(CONSTRAINTS)]
    built = ["--config-settings", f"build-dir={folder / 'build'}"]
    subprocess.run([*pip, *listed, *built, f"{ROOT}[nerfstudio]"], check=True)


def record(facts: dict[str, Any], seconds: dict[str, float], steps: int, latest: bool) -> str:
    """The outcome as Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    chosen = "as pip chose them" if latest else f"as {CONSTRAINTS.name} lists them"
    lines = [
        f"{date.today()}, commit {commit()}, {processor()}, {os.cpu_count()} cores, no GPU used.",
        f"Versions, {chosen}: {versions}.",
        f"{facts['dataset']}; {steps} steps.",
        *facts["notes"],
        "",
        "| check | found | wanted | |",
        "|---|---|---|---|",
        *(
            f"| {what} | {got} | {want} | {'ok' if ok else 'FAILED'} |"
            for what, got, want, ok in facts["checks"]
        ),
        "",
        "Seconds: " + ", ".join(f"{name} {value:.0f}" for name, value in seconds.items()) + ".",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
