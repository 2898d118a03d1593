"""Compare the learned blend of `AdaptiveRecommender` with its members and with other blends.

    python benchmarks/adaptive/bench_adaptive.py --task choose --data ml-100k
    python benchmarks/adaptive/bench_adaptive.py --task replay --data ml-100k --keep FOLDER
    python benchmarks/adaptive/bench_adaptive.py --task blend --data ml-100k --keep FOLDER
    python benchmarks/adaptive/bench_adaptive.py --task tune --data ml-100k --keep FOLDER
    python benchmarks/adaptive/bench_adaptive.py --task extend --data ml-100k --keep FOLDER
    python benchmarks/adaptive/bench_adaptive.py --task stream --data ml-100k
    python benchmarks/adaptive/bench_adaptive.py --task cost --data ml-100k

choose. The setting of each member, by NDCG@10 on chunks of the last fifth of the warm-up. At most
eight settings each, those of the leaderboard where it has the member. The settings in use are in
`chosen.json`.

replay. The members are fitted on the first 80 % of the warm-up and walk through the rest of the
log by chunk: they are asked, then they learn the chunk. "next" asks before each event of every k-th
user, with the history so far; "once" asks for each user of the chunk at its start. Kept is the
union of the members' best 40 with ranks and scores. Members that draw are kept for three seeds.

blend. The blend over what was kept, as plain arrays, against the best single member in hindsight
and other blends. The weights start on the rest of the warm-up. The first fifth of the stream is for
choosing settings (`tune`); the figures are of the other four fifths. Intervals are of 95 %, users
drawn with replacement; seeds are averaged list by list. Other blends have the first seed alone.

extend. Ranks and scores of the sequential rules are added to lists that were kept without them, for
candidates that some other member has among its best 40.

stream. `AdaptiveRecommender` itself: `fit` on the warm-up, then `partial_fit` by chunk; "next" are
the figures of `weights_log_`, "once" lists of `recommend` at the start of each chunk.

cost. Microseconds of the CPU per learned event in the kernel, and seconds of the CPU of `recommend`
against the sum of the members' own, in one process.

Data are those of the leaderboard: every event is a positive, lists have 10 items of the whole
catalogue, seen items are left out except in Online Retail. One thread.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

for prefix in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
    os.environ.setdefault(f"{prefix}_NUM_THREADS", "1")  # before numpy is imported
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

import numpy as np

from benchmarks.adaptive import extend, mix, replay, walk
from benchmarks.adaptive.members import DEEP, DRAWING, SEEDS
from benchmarks.common.events import DATA, REPEATING, load
from benchmarks.common.report import row

CHOSEN = Path(__file__).with_name("chosen.json")
TASKS = ("next", "once")
VALIDATION_SHARE = 0.2  # of the stream
OPTIONS = mix.Options(epochs=3, features=("rank", "z", "age", "met", "since"))
VARIED = {
    "one pass over the first rows": {"epochs": 1},
    "learning rate .01": {"learning_rate": 0.01},
    "context": {"context": ("n_past", "idle")},
    "learning rate .1": {"learning_rate": 0.1},
    "forgetting .99": {"forgetting": 0.99},
    "no forgetting": {"forgetting": 1.0},
    "best 20": {"n_candidates": 20},
    "whole union": {"n_candidates": 400},
    "no context": {"context": ()},
    "history alone": {"context": ("n_past",)},
    "idle time alone": {"context": ("idle",)},
    "full ranks": {"rank_cap": 65535},
    "no scores": {"features": ("rank", "age", "met", "since")},
    "no ranks": {"features": ("z", "age", "met", "since")},
    "no age": {"features": ("rank", "z", "met", "since")},
    "neither met nor when": {"features": ("rank", "z", "age")},
    "not: when met": {"features": ("rank", "z", "age", "met")},
    "history and idle time crossed": {"context": ("n_past", "idle", "both")},
    "weights by user": {"user_rate": 0.01},
}


def settings(data: str) -> dict[str, dict]:
    """Return the setting of each member."""
    return json.loads(CHOSEN.read_text(encoding="utf-8"))[data]


def sets_of_members(data: str) -> dict[str, tuple[str, ...]]:
    """Return the sets of members that are blended."""
    shared = ("popularity", "recent", "ease", "ease_h3", "knn", "knn_h3", "bpr")
    last = "habit" if data in REPEATING else "softmax"
    return {
        f"with {last}": (*shared, last),
        "with content": (*shared, "content"),
        f"with {last} and content": (*shared, last, "content"),
        f"with {last} and rules": (*shared, last, "rules"),
    }


def read(data: str, task: str, folder: Path, names: tuple[str, ...], seed: int) -> mix.Kept:
    """Read what was kept of some members, of one seed."""
    columns = tuple(f"{name}_{seed}" if name in DRAWING else name for name in names)
    return mix.Kept.load(folder / f"{data}_{task}", columns)


def parts(data: str, kept: mix.Kept) -> dict[str, np.ndarray]:
    """Return the lists that start the weights, choose settings, and are reported."""
    n, (share, chunk, _) = len(load(data)), replay.PLANS[data]
    first = int(replay.MEMBERS_SHARE * share * n)
    place = (first + kept.chunk * chunk) / n
    edge = share + VALIDATION_SHARE * (1.0 - share)
    return {
        "start": place < share,
        "validation": (place >= share) & (place < edge),
        "test": place >= edge,
    }


def n_warm_chunks(data: str) -> int:
    """Return the chunks of the warm-up, in which weights start."""
    n, (share, chunk, _) = len(load(data)), replay.PLANS[data]
    return int((1.0 - replay.MEMBERS_SHARE) * share * n / chunk)


def options_of(data: str, task: str) -> mix.Options:
    """Return the options of the class; lists asked for once learn apart, and forget nothing."""
    once = {"context": ("new",), "forgetting": 1.0, "first": (0.5, 0.1)}
    own = {} if task == "next" else once
    return mix.changed(OPTIONS, **own, warm_chunks=n_warm_chunks(data))


def blend(data: str, task: str, folder: Path, wanted: str, seeds: Sequence[int] = SEEDS) -> None:
    """Print the figures of members and blends on the test part."""
    options = options_of(data, task)
    for label, names in sets_of_members(data).items():
        if wanted not in label:
            continue
        found: dict[str, list[np.ndarray]] = {}
        for seed in seeds:
            kept = read(data, task, folder, names, seed)
            test = parts(data, kept)["test"]
            lists = mix.singles(kept)
            values = {f"member {name.rstrip('_012')}": v for name, v in lists.items()}
            values["learned"] = mix.learned(kept, options)
            if seed == seeds[0]:
                rivals = _rivals(kept, options, ~test) | {
                    "follow the leader": mix.follow_the_leader(lists, kept.chunk)
                }
                best = max((v[test].mean(), name) for name, v in values.items() if "member" in name)
                _report(f"{task}, {label}", data, rivals, values[best[1]], test, kept.user)
            for name, v in values.items():
                found.setdefault(name, []).append(v)
        means = {name: np.mean(v, axis=0) for name, v in found.items()}
        best = max((v[test].mean(), name) for name, v in means.items() if name != "learned")
        _report(f"{task}, {label}", data, means, means[best[1]], test, kept.user)
        for seed, ours, theirs in zip(seeds, found["learned"], found[best[1]], strict=True):
            gain = 100 * (ours[test].mean() / theirs[test].mean() - 1)
            row(f"{task}, {label}", data, "learned", seed=seed, best=best[1], gain=gain)
        user = kept.user[test]
        tenths = mix.tenths(means["learned"][test], means[best[1]][test], user)
        row(f"{task}, {label}, tenths", data, "learned", tenths=np.array(tenths).tolist())


def _rivals(kept: mix.Kept, options: mix.Options, start: np.ndarray) -> dict[str, np.ndarray]:
    """Return NDCG@10 of each list of other blends."""
    shown = mix.changed(options, n_candidates=10)
    return {
        **mix.fixed(kept),
        "learned, from the shown ten": mix.learned(kept, shown),
        "learned, one by one": mix.learned(kept, options, by_chunk=False),
        "boosted trees": mix.trees(kept, start, 0),
    }


def _report(
    label: str,
    data: str,
    found: dict[str, np.ndarray],
    best: np.ndarray,
    test: np.ndarray,
    user: np.ndarray,
) -> None:
    for name, values in found.items():
        gain, low, high = mix.interval(values[test], best[test], user[test])
        figures = {"n_lists": int(test.sum()), "ndcg": values[test].mean()}
        row(label, data, name, **figures, gain=gain, low=low, high=high)


def tune(data: str, task: str, folder: Path, wanted: str, seed: int = 0) -> None:
    """Print the gains of other options on the validation part; test figures are not looked at."""
    base = options_of(data, task)
    for label, names in sets_of_members(data).items():
        if wanted not in label:
            continue
        kept = read(data, task, folder, names, seed)
        some = parts(data, kept)["validation"]
        best = max(values[some].mean() for values in mix.singles(kept).values())
        for name, change in ({"as built": {}} | VARIED).items():
            ndcg = mix.learned(kept, mix.changed(base, **change))[some].mean()
            row(f"tune {task}, {label}", data, name, ndcg=ndcg, gain=100 * (ndcg / best - 1))


def main() -> None:
    """Measure and print, one JSON line a row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    tasks = ("choose", "replay", "extend", "blend", "tune", "stream", "cost")
    parser.add_argument("--task", choices=tasks, default="blend")
    parser.add_argument("--data", action="append", choices=DATA, help="may be repeated")
    parser.add_argument("--protocol", action="append", choices=TASKS, help="may be repeated")
    parser.add_argument("--keep", type=Path, default=Path("adaptive_keep"), help="folder of lists")
    parser.add_argument("--members", default="", help="words in the name of a member or a set")
    parser.add_argument("--without", action="append", default=[], help="a member to leave out")
    parser.add_argument("--with", dest="more", action="append", default=[], choices=DEEP)
    parser.add_argument("--items", type=int, default=None, help="most frequent items of `stream`")
    parser.add_argument("--every", type=int, default=1, help="every k-th user of `stream`")
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS, help="of kept lists")
    parser.add_argument("--seed", type=int, default=0, help="of `stream`")
    parser.add_argument("--chunks", type=int, default=None, help="of `stream`; default: all")
    options = parser.parse_args()
    protocols = options.protocol or TASKS
    for data in options.data or DATA:
        members = {n: s for n, s in settings(data).items() if n not in options.without}
        if options.task == "replay":
            folders = {task: options.keep / f"{data}_{task}" for task in protocols}
            replay.replay(data, folders, members, options.seeds)
        elif options.task == "extend":
            for task in protocols:
                folder = options.keep / f"{data}_{task}"
                extend.extend(data, task, folder, "rules", settings(data)["rules"])
        elif options.task == "stream":
            members |= {name: DEEP[name] for name in options.more}
            log = replay.Stream.of(data, options.items, options.every)
            walk.stream(data, log, members, options.chunks, options.seed)
        elif options.task == "cost":
            walk.cost(data, members)
        else:
            for task in protocols:
                if options.task == "choose":
                    replay.choose(data, task, options.members)
                elif options.task == "blend":
                    blend(data, task, options.keep, options.members, options.seeds)
                else:
                    tune(data, task, options.keep, options.members)


if __name__ == "__main__":
    main()
