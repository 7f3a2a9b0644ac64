"""Learned dynamics by family: episodes, models, and how good they are, from nothing to a small JSON.

    python benchmarks/learned.py WORK --families push_t drawer --seeds 0 1 2

WORK, a folder outside the checkout, keeps episodes, checkpoints, models and reports: the same call goes on
where it was broken off. Test episodes are those that no model was trained on or chosen with; nothing here
looks at them before the end. What was found is written to benchmarks/learned/FAMILY.json, a table is printed.
"""

import argparse
import json
import time
from datetime import date
from pathlib import Path
from typing import Any

from machine import commit, processor

from dynamics.evaluation.evaluate import evaluating
from dynamics.evaluation.report import Report
from dynamics.evaluation.settings import EvaluateConfig
from dynamics.generate.episodes_config import EpisodesConfig
from dynamics.generate.produce import generate_episodes
from dynamics.generate.trial import Family
from dynamics.learning.fit import FitConfig, fitting
from dynamics.learning.trainer import TrainingConfig
from gaussworld.log import Done, follow

RESULTS = Path(__file__).parent / "learned"
#: Episodes of each family: so many as take a few minutes to make, and seconds to be read.
COUNTS: dict[Family, int] = {
    "push_t": 600, "push": 600, "push_many": 300, "lift": 300, "door": 300, "drawer": 300,
    "rope": 100, "cloth": 60, "soft": 100,
}  # fmt: skip
SEED = 30_000


def main() -> None:
    """Make what is missing, judge, and write the figures down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--families", nargs="*", default=list(COUNTS))
    parser.add_argument("--kinds", nargs="*", default=["hybrid", "network", "latent"])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--minutes", type=float, default=7.0)
    parser.add_argument("--most", type=int, help="test episodes of each family")
    asked = parser.parse_args()
    for family in asked.families:
        facts = judged(family, asked)
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{family}.json").write_text(json.dumps(facts, indent=1) + "\n")
        print(table(family, facts), flush=True)


def judged(family: Family, asked: argparse.Namespace) -> dict[str, Any]:
    """Everything that is known of a family."""
    episodes, begun = asked.work / "episodes" / family, time.monotonic()
    config = EpisodesConfig(family=(family,), episodes=COUNTS[family], seed=SEED)
    follow(generate_episodes(episodes, config), f"Episodes of {family}")
    made = time.monotonic() - begun
    models, cards = {}, {}
    for kind in asked.kinds:
        for seed in asked.seeds if kind == "hybrid" else asked.seeds[:1]:
            folder = asked.work / "models" / f"{family}-{kind}-{seed}"
            training = TrainingConfig(minutes=asked.minutes, seed=seed)
            if not (folder / "model.json").is_file():
                config_of = FitConfig(kind=kind, training=training)
                follow(fitting([episodes], folder, config_of), f"{kind} {seed} of {family}")
            card = json.loads((folder / "model.json").read_text())
            models[f"{kind}-{seed}"] = folder
            cards[f"{kind}-{seed}"] = {key: card.get(key) for key in ("training", "gate", "prior")}
    settings = EvaluateConfig(most=asked.most, pictures=False)
    names = ["persistence", "constant-velocity", "prior", *(f"{n}={path}" for n, path in models.items())]
    begun = time.monotonic()
    done: Done[Report] = follow(
        evaluating([episodes], names, settings, out=asked.work / "reports" / family), f"Judging {family}"
    )
    return {
        "date": str(date.today()), "commit": commit(), "machine": processor(), "family": family,
        "episodes": COUNTS[family], "seed": SEED, "minutes": asked.minutes,
        "seconds": {"generate": round(made, 1), "evaluate": round(time.monotonic() - begun, 1)},
        "models": cards, "rows": [row_of(row) for row in done.result.rows],
    }  # fmt: skip


def row_of(row: Any) -> dict[str, Any]:
    """The figures of one model that the targets are about."""
    told = {}
    for step, figures in row.at.items():
        told[str(step)] = {
            name: [round(v, 6) for v in (mean.mean, mean.low, mean.high)]
            for name, mean in figures.items()
            if name in ("distance_m", "moved_m", "position_m", "angle_deg", "penetration_m")
        }
    covered = {
        str(step): round(share.share, 4) for step, share in row.coverage.get("placed_moved", {}).items()
    }
    return {
        "model": row.model, "shift": row.shift, "episodes": row.episodes, "still": row.still,
        "failed": dict(row.failed), "at": told, "coverage": covered,
        "success": None if row.success is None else round(row.success.share, 4),
        "surprise": None if row.surprise is None else round(row.surprise.mean, 4),
        "step_s": {key: round(value, 6) for key, value in row.step_s.items()},
    }  # fmt: skip


def table(family: str, facts: dict[str, Any]) -> str:
    """Mean distances [mm] in Markdown."""
    steps = ("1", "10", "30")
    lines = [f"\n{family}, {facts['date']}, commit {facts['commit']}, {facts['machine']}",
             "| model | " + " | ".join(f"{s} steps [mm]" for s in steps) + " | coverage at 30 |",
             "|---|" + "--:|" * 4]  # fmt: skip
    for row in facts["rows"]:
        cells = [f"{1000 * row['at'][s]['distance_m'][0]:.1f}" if s in row["at"] else "" for s in steps]
        lines.append(f"| {row['model']} | {' | '.join(cells)} | {row['coverage'].get('30', '')} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
