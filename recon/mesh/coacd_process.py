"""The process that runs CoACD: `coacd_process.py IN.npz OUT.npz THRESHOLD PARTS SEED`; see `convex`."""

import sys

import numpy as np


def main(source: str, target: str, threshold: float, most: int, seed: int) -> None:
    import coacd

    coacd.set_log_level("error")
    with np.load(source) as arrays:
        mesh = coacd.Mesh(arrays["vertices"], arrays["faces"])
    # A shallow search of a mesh that is a closed manifold already: the defaults take ten times as long.
    found = coacd.run_coacd(
        mesh, threshold=threshold, max_convex_hull=most, preprocess_mode="off", resolution=500,
        mcts_nodes=10, mcts_iterations=30, mcts_max_depth=2, seed=seed,
    )  # fmt: skip
    np.savez(target, **{f"part{i:04d}": vertices for i, (vertices, _) in enumerate(found)})


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
