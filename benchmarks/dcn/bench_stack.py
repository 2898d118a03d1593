"""Stacks of `IncrementalDCNClassifier`, boosted trees and `DecayBertRecommender`, on likes.

    python benchmarks/dcn/bench_stack.py
    python benchmarks/dcn/bench_stack.py --data ml-1m --seeds 0

Members are fitted on the first 80 % of the timeline. Weights are learned on the tenth that follows,
and the last tenth is scored. Each row of output also has the AUC of the second half of the
validation tenth, with weights of its first half: the choice is by this column.
"""

import argparse
import itertools
import sys
import time
from pathlib import Path

import numpy as np
from scipy.special import expit, logit
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

from benchmarks.common.report import row
from benchmarks.dcn.bench_dcn import dcn, one_hot, rich
from benchmarks.decay import log as decay
from benchmarks.features.trees import BURNED_IN, TREES

CHUNK = 1000  # rows between two fits of the weights that follow the stream
MEMBERS = ("DCN", "boosted trees", "DecayBert")


def members(data: str, columns, seed: int, shrink: float) -> tuple[np.ndarray, list[float]]:
    """Return the logits (n, 3) of the rows after the fit, and the CPU seconds of each member.

    The DCN and the trees do not learn after the fit, but their columns go on streaming.
    `DecayBertRecommender` goes on as well: each row is predicted, then its rates and factors learn.
    """
    X, y, names = columns
    n = len(y)
    start, stop = int(BURNED_IN * n), int(0.8 * n)
    found, seconds = [], []
    begin = time.process_time()
    model = dcn(seed, n_factors=0).fit(X[start:stop], y[start:stop])
    found.append(model.predict_proba(X[stop:])[:, 1])
    seconds.append(time.process_time() - begin)
    begin, table = time.process_time(), one_hot(X, names)
    trees = HistGradientBoostingClassifier(**TREES, random_state=seed)
    trees.fit(table[start:stop], y[start:stop])
    found.append(trees.predict_proba(table[stop:])[:, 1])
    seconds.append(time.process_time() - begin)
    log = decay.load(data, int(shrink * n) if shrink < 1 else None)
    assert (log.X["item_id"].to_numpy() == X["item_id"].to_numpy()).all()
    begin, rows = time.process_time(), log.columns("rating")
    model = decay.make_model("auto", seed).fit(rows[:stop], log.y[:stop])
    found.append(model.partial_fit_predict_proba(rows[stop:], log.y[stop:]))
    seconds.append(time.process_time() - begin)
    return logit(np.clip(np.column_stack(found), 1e-7, 1 - 1e-7)), seconds


def learned(fit: np.ndarray, y: np.ndarray, ask: np.ndarray) -> np.ndarray:
    """Return probabilities of a logistic regression on logits."""
    return LogisticRegression(C=1.0).fit(fit, y).predict_proba(ask)[:, 1]


def followed(logits: np.ndarray, y: np.ndarray, first: int) -> np.ndarray:
    """Return probabilities of the rows from ``first`` on; weights are fitted again each chunk."""
    cuts = [*range(first, len(y), CHUNK), len(y)]
    parts = [learned(logits[:a], y[:a], logits[a:b]) for a, b in itertools.pairwise(cuts)]
    return np.concatenate(parts)


def stacks(logits: np.ndarray, y: np.ndarray, first: int) -> dict[str, np.ndarray]:
    """Return the probabilities of the rows from ``first`` on, of each stack."""
    late = logits[first:]
    found = {name: expit(late[:, j]) for j, name in enumerate(MEMBERS)}
    for size in (2, 3):
        for some in itertools.combinations(range(3), size):
            name = ", ".join(MEMBERS[j] for j in some)
            found[f"mean of {name}"] = expit(late[:, some].mean(1))
            found[f"logistic of {name}"] = learned(
                logits[:first][:, some], y[:first], late[:, some]
            )
    found["logistic of all, fitted again every 1,000 rows"] = followed(logits, y, first)
    return found


def report(data: str, seed, logits: np.ndarray, y: np.ndarray) -> None:
    """Print the figures of all stacks: of the last tenth, and of the half tenth before it."""
    middle, n = len(y) // 2, len(y)
    before = stacks(logits[:middle], y[:middle], middle // 2)
    for name, said in stacks(logits, y, middle).items():
        ours = before[name]
        row(
            "stack", data, name, seed=seed,
            validation_auc=roc_auc_score(y[middle // 2 : middle], ours),
            validation_log_loss=log_loss(y[middle // 2 : middle], ours),
            auc=roc_auc_score(y[middle:n], said), log_loss=log_loss(y[middle:n], said),
        )  # fmt: skip


def main() -> None:
    """Read the options, and print the figures of each seed, then of the mean over the seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", default=["ml-100k"], choices=["ml-100k", "ml-1m"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--shrink", type=float, default=1.0, help="first part of the log to use")
    parser.add_argument("--save", type=Path, help="folder for the logits")
    options = parser.parse_args()
    if options.save:
        options.save.mkdir(parents=True, exist_ok=True)
    for data in options.data:
        X, y, names = rich(data)
        n = int(options.shrink * len(y))
        X, y, runs = X[:n], y[:n], []
        for seed in options.seeds:
            logits, seconds = members(data, (X, y, names), seed, options.shrink)
            row("stack", data, "cost", seed=seed, cpu_s=seconds, rows=n)
            runs.append(logits)
            report(data, seed, logits, y[int(0.8 * n) :])
            if options.save:
                np.savez(options.save / f"{data}-{seed}.npz", logits=logits, y=y[int(0.8 * n) :])
        if len(runs) > 1:
            report(data, "all, mean of logits", np.mean(runs, 0), y[int(0.8 * n) :])


if __name__ == "__main__":
    main()
