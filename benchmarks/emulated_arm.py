"""Do the NEON kernels agree with the native ones? `python benchmarks/emulated_arm.py` runs them under QEMU.

Needs a native C++ compiler, aarch64-linux-gnu-g++ and qemu-aarch64-static (Debian: g++-aarch64-linux-gnu,
qemu-user-static). Prints the relative difference of every picture and gradient; exits 1 above 1e-4.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

SOURCE = Path(__file__).resolve().parent / "emulated_arm.cpp"
FLAGS = ["-O3", "-std=c++17", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-w"]
N, PIXELS, FEATURES = 3000, 75 * 61, 5
RESULTS = {
    "rgb": 3 * PIXELS, "alpha": PIXELS, "depth": PIXELS, "features": FEATURES * PIXELS, "ids": PIXELS,
    "means2d": 2 * N, "v_means2d": 2 * N, "absgrad": 2 * N, "v_means": 3 * N, "v_quats": 4 * N,
    "v_log_scales": 3 * N, "v_opacity_logits": N, "v_sh": 48 * N, "v_features": FEATURES * N, "v_camera": 15,
    "v_image": 3 * PIXELS,
}  # fmt: skip
LIMIT = 1e-4


def run(folder: Path, compiler: list[str], launcher: list[str]) -> np.ndarray:
    """Compile and run the scene; returns all its numbers."""
    program, output = folder / compiler[0], folder / f"{compiler[0]}.bin"
    subprocess.run([*compiler, *FLAGS, str(SOURCE), "-o", str(program), "-lpthread"], check=True)
    subprocess.run([*launcher, str(program), str(output)], check=True)
    return np.fromfile(output, dtype=np.float32)


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        native = run(Path(name), ["g++", "-march=native"], [])
        arm = run(Path(name), ["aarch64-linux-gnu-g++", "-static"], ["qemu-aarch64-static"])
    worst, begin = 0.0, 0
    for result, count in RESULTS.items():
        a, b = native[begin : begin + count], arm[begin : begin + count]
        begin += count
        difference = float(np.linalg.norm(a - b) / np.linalg.norm(a))
        worst = max(worst, difference)
        print(f"{result:18} {difference:.1e}")
    assert begin == len(native) == len(arm)
    print(f"worst {worst:.1e}")
    return int(worst > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
