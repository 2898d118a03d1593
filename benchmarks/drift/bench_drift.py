"""What follows drift, at what cost, and what notices it: a JSON line a row.

    python benchmarks/drift/bench_drift.py --task shift steady
    python benchmarks/drift/bench_drift.py --task monitor guard --seeds 0 1

Tasks. shift: planted shifts. The area is the excess squared error after an abrupt turn over a
refit that knows of it, as a share of that of the model that is never updated. Recovery is the
number of events until the error of a block of 1,000 is half of the way back. steady: RMSE on logs
without a planted shift. monitor: false alarms and delays of DriftMonitor. delta: the same with
other values of its parameter, from the losses that one pass keeps. guard: verdicts of Guard on
clean and damaged updates. wave: users of MovieLens 1M that are new in its second half. retail:
log loss of Online Retail by month.
"""

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

from benchmarks.common.report import row
from benchmarks.drift.followers import FOLLOWERS, refit_since_turn, timed
from benchmarks.drift.guarding import KINDS, verdicts
from benchmarks.drift.streams import SHIFTS, STEADY, movielens, retail
from sklearn_recft import IncrementalMFRecommender
from sklearn_recft.inspection import DriftMonitor
from sklearn_recft.model_selection import prequential_score

DELTAS = (1e-4, 2e-3, 1e-2, 5e-2)
N_OF_MEAN = 32  # events of a mean loss
WATCHED = dict(STEADY) | {name: SHIFTS[name] for name in SHIFTS if name != "gradual"}
ORACLE = "refit since the shift, chunks"


def shift(seed):
    for name, make in SHIFTS.items():
        stream = make(seed)
        found = {label: timed(each, stream, seed) for label, each in FOLLOWERS.items()}
        if stream.turn is None:
            for label, (errors, seconds) in found.items():
                row("shift", name, label, seed=seed, rmse=float(np.sqrt(errors.mean())),
                    cpu_seconds=seconds)  # fmt: skip
            continue
        after = stream.turn - stream.warm_up
        if name == "abrupt":  # after an exchange of ids, half of the old rows stay right
            found[ORACLE] = timed(refit_since_turn, stream, seed)
        stale = found["never updated"][0][after:].mean()
        usual = found["event by event"][0][:after][-5000:].mean()
        for label, (errors, seconds) in found.items():
            figures = {"mse_after": float(errors[after:].mean())}
            if name == "abrupt":
                best = found[ORACLE][0][after:].mean()
                figures["area"] = (errors[after:].mean() - best) / (stale - best)
            row("shift", name, label, seed=seed, **figures, cpu_seconds=seconds,
                recovery=recovery(errors[after:], usual, stale))  # fmt: skip


def recovery(errors, usual, stale):
    """Return the events until a block of 1,000 is half of the way back to the usual error."""
    blocks = errors[: len(errors) // 1000 * 1000].reshape(-1, 1000).mean(axis=1)
    back = np.flatnonzero(blocks < (usual + stale) / 2)
    return int(back[0] * 1000) if len(back) else None


def steady(seed):
    for name, make in STEADY.items():
        stream = make(seed)
        for label, follower in FOLLOWERS.items():
            if name == "ml-1m" and "refit" in label:
                continue
            errors, seconds = timed(follower, stream, seed)
            row("steady", name, label, seed=seed, rmse=f"{np.sqrt(errors.mean()):.5f}",
                cpu_us_per_event=1e6 * seconds / len(errors))  # fmt: skip


def monitor(seed):
    for name, make in WATCHED.items():
        stream = make(seed)
        watch = DriftMonitor()
        model = IncrementalMFRecommender(random_state=seed, drift="follow")
        clock = time.process_time()
        prequential_score(model, stream.X, stream.y, warm_up=stream.warm_up, chunk_size=1,
                          monitors=[watch])  # fmt: skip
        seconds = time.process_time() - clock
        row("monitor", name, "DriftMonitor", seed=seed, **counted(watch, stream),
            cpu_seconds=seconds)  # fmt: skip


def counted(watch, stream):
    """Return the number of alarms before the shift and after it, and the delay of the first."""
    places = [stream.warm_up + alarm.event for alarm in watch.alarms_]
    turn = stream.turn if stream.turn is not None else len(stream.y)
    before = [place for place in places if place < turn]
    delays = [place - turn for place in places if place >= turn]
    return {
        "false_alarms": len(before), "events": turn - stream.warm_up,
        "delay": delays[0] if delays else None, "later_alarms": max(0, len(delays) - 1),
    }  # fmt: skip


def delta(seed):
    for name, make in WATCHED.items():
        stream = make(seed)
        means = mean_losses(stream, seed)
        for value in DELTAS:
            watch = DriftMonitor(delta=value)
            watch.update(*np.repeat(means, N_OF_MEAN, axis=0).T)
            row("delta", name, f"delta={value:g}", seed=seed, **counted(watch, stream))


def mean_losses(stream, seed):
    """Return the mean losses (n, 2) of the slow and the fast copy, event by event."""
    model = IncrementalMFRecommender(random_state=seed, drift="follow")
    model.fit(stream.X[: stream.warm_up], stream.y[: stream.warm_up])
    found, n_read = [], model.drift_.n_blocks
    for start in range(stream.warm_up, len(stream.y), 1000):
        rows = slice(start, start + 1000)
        model.partial_fit_predict(stream.X[rows], stream.y[rows])
        losses, n_blocks = model.drift_.losses, model.drift_.n_blocks
        found.append(losses[len(losses) - (n_blocks - n_read) :])
        n_read = n_blocks
    return np.concatenate(found)


def guard(seed, n_updates=100):
    stream = movielens("ml-100k")
    counts, events = Counter(), {}
    for kind, verdict, _, n_events, _ in verdicts(stream.X, stream.y, KINDS, n_updates, seed):
        counts[kind, verdict] += 1
        events.setdefault((kind, verdict), []).append(n_events)
    for kind in KINDS:
        shares = {v: counts[kind, v] / n_updates for v in ("promote", "watch", "roll back")}
        right = "promote" if kind == "clean" else "roll back"
        row("guard", "ml-100k", kind, seed=seed, n=n_updates, **shares,
            median_events=float(np.median(events.get((kind, right), [np.nan]))))  # fmt: skip


def wave(seed):
    stream = movielens("ml-1m", warm_up=0.5)
    known = np.unique(stream.X[: stream.warm_up, 0])
    new = ~np.isin(stream.X[stream.warm_up :, 0], known)
    for label in ("never updated", "event by event", "event by event, drift='follow'"):
        errors, _ = timed(FOLLOWERS[label], stream, seed)
        row("wave", "ml-1m", label, seed=seed, new_rows=int(new.sum()),
            rmse_new=f"{np.sqrt(errors[new].mean()):.5f}",
            rmse_known=f"{np.sqrt(errors[~new].mean()):.5f}")  # fmt: skip


def retail_months(seed):
    stream = retail(seed)
    rows = slice(stream.warm_up, None)
    months = stream.X[rows, 2].astype("datetime64[s]").astype("datetime64[M]").astype(str)
    for drift in (None, "follow"):
        model = IncrementalMFRecommender(loss="log_loss", drift=drift, random_state=seed)
        model.fit(stream.X[: stream.warm_up], stream.y[: stream.warm_up])
        p = model.partial_fit_predict(stream.X[rows], stream.y[rows])
        p = np.clip(np.where(stream.y[rows] > 0, p, 1 - p), 1e-6, 1)
        by_month = {m: float(-np.log(p[months == m]).mean()) for m in np.unique(months)}
        row("retail", "online-retail", f"drift={drift!r}", seed=seed,
            log_loss=f"{-np.log(p).mean():.5f}", **by_month)  # fmt: skip


TASKS = {
    "shift": shift,
    "steady": steady,
    "monitor": monitor,
    "delta": delta,
    "guard": guard,
    "wave": wave,
    "retail": retail_months,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    args = parser.parse_args()
    for task in args.task:
        for seed in args.seeds:
            TASKS[task](seed)


if __name__ == "__main__":
    main()
