"""Compare models after a few examples of a new user or a new item.

    python benchmarks/fewshot/bench_fewshot.py --task metarec
    python benchmarks/fewshot/bench_fewshot.py --task time --seed 0 --keep FOLDER

Tasks. metarec, heavy, tanp, time, new_item, cold: ratings, `protocols.py`; every contender of
`contenders.py`. penalty: chooses the penalty of the ridge regression. random90: RMSE of a random
tenth of MovieLens 1M. positives: lists for new users. labels: likes and dislikes, `labels.py`.
asking: which item to ask for. cost: seconds of the CPU. losers: meta-learning.

Each task prints JSON lines, then a table. `--keep` reads and writes the metrics of each user, so
that a run can be continued. One thread; seconds are of the CPU.
"""

import argparse
import os
import sys
from pathlib import Path

for prefix in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
    os.environ.setdefault(f"{prefix}_NUM_THREADS", "1")  # before numpy is imported
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

from benchmarks.fewshot import asking, costs, labels, lists, losers, rating_tables
from benchmarks.fewshot.contenders import CONTENDERS

COLD = ("cold_user", "cold_item", "cold_both")
RATINGS = {name: (name,) for name in ("metarec", "heavy", "tanp", "time", "new_item")}
RATINGS["cold"] = COLD
SIZES = (16, 32)  # factors of random90
OTHERS = {
    "penalty": lambda options: rating_tables.choose_penalty("ml-1m"),
    "random90": lambda options: costs.random90(
        options.seed, SIZES, options.model or list(CONTENDERS)
    ),
    "positives": lambda options: [
        lists.run(data, options.seed, options.model or list(lists.MODELS))
        for data in options.data or ("ml-1m", "online-retail")
    ],
    "labels": lambda options: [
        labels.run(data, options.seed, options.model or list(labels.MODELS))
        for data in options.data or ("ml-1m",)
    ],
    "asking": lambda options: asking.run(options.seed),
    "cost": lambda options: costs.cost(),
    "losers": lambda options: losers.run(options.seed[0]),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", choices=[*RATINGS, *OTHERS], default="metarec")
    parser.add_argument("--data", action="append", help="may be repeated")
    parser.add_argument("--model", action="append", help="may be repeated")
    parser.add_argument("--seed", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
    if options.task in OTHERS:
        OTHERS[options.task](options)
        return
    models = options.model or list(CONTENDERS)
    for name in RATINGS[options.task]:
        for data in options.data or rating_tables.SETUPS[name].data:
            rating_tables.run(name, data, options.seed, models, options.keep)


if __name__ == "__main__":
    main()
