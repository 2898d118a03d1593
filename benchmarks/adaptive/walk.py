"""`AdaptiveRecommender` itself on a stream: NDCG@10 by chunk, and what it costs."""

import time
from typing import Any

import numpy as np

from benchmarks.adaptive import mix
from benchmarks.adaptive.members import make
from benchmarks.adaptive.replay import PLANS, Stream, ask_once, ndcg
from benchmarks.common.report import row
from sklearn_recft import AdaptiveRecommender

N_TIMED, ROUNDS = 2000, 5


def new_blend(settings: dict[str, dict], seed: int = 0) -> AdaptiveRecommender:
    """Return a blend of the members, not fitted yet."""
    return AdaptiveRecommender([(name, make(name, s, seed)) for name, s in settings.items()])


def stream(
    data: str, log: Stream, settings: dict[str, dict], n_chunks: int | None = None, seed: int = 0
) -> None:
    """Print the figures of each chunk, of both protocols, and of all chunks so far.

    The last rows have the gains: over the best member, and over the best but the sequential rules.
    """
    share, chunk, _ = PLANS[data]
    first = int(share * len(log.user))
    spent = time.process_time()
    model = new_blend(settings, seed).fit(log.rows(0, first))
    sizes = {"n_events": len(log.user), "n_items": len(model.item_ids_), "at": first}
    row("stream", data, "fit", seed=seed, cpu_s=time.process_time() - spent, **sizes)
    starts = range(first, len(log.user), chunk)[:n_chunks]
    sums: dict[str, np.ndarray] = {}
    users, lists = [], []
    for start in starts:
        stop = min(start + chunk, len(log.user))
        asked, values = _asked_once(log, model, start, stop)
        users.append(asked)
        lists.append(values)
        figures = {"once": {n: (float(v.sum()), len(v)) for n, v in values.items()}}
        spent = time.process_time()
        model.partial_fit(log.rows(start, stop))
        spent = time.process_time() - spent
        figures["next"] = _logged(model.weights_log_, stop - start)
        for task, found in figures.items():
            for name, (total, n) in found.items():
                sums.setdefault(f"{task} {name}", np.zeros(2))
                sums[f"{task} {name}"] += total, n
        means = {name: total / max(n, 1) for name, (total, n) in sums.items()}
        label = {"at": stop, "seed": seed, "update_s": spent}
        row("stream", data, "AdaptiveRecommender", **label, **means)
    whole = {name: np.concatenate([values[name] for values in lists]) for name in lists[0]}
    names = list(model.named_estimators_)
    for label, rivals in {
        "all": names,
        "all but rules": [n for n in names if n != "rules"],
    }.items():
        shared = {"seed": seed, "of": label}
        best = max(rivals, key=lambda name: means[f"next {name}"])
        figures = {"gain": 100 * (means["next blend"] / means[f"next {best}"] - 1), "best": best}
        figures["n_lists"] = int(sums[f"next {best}"][1])
        row("stream, next", data, "AdaptiveRecommender", **shared, **figures)
        best = max(rivals, key=lambda name: whole[name].mean())
        gain, low, high = mix.interval(whole["blend"], whole[best], np.concatenate(users))
        figures = {"n_lists": len(whole[best]), "gain": gain, "low": low, "high": high}
        row("stream, once", data, "AdaptiveRecommender", **shared, best=best, **figures)


def _asked_once(
    log: Stream, model: AdaptiveRecommender, start: int, stop: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the users of a chunk, and NDCG@10 of their lists of the blend and each member."""
    queries, targets = ask_once(log, start, stop, 1)
    table = log.rows(start, start + 1).iloc[[0] * len(queries.user), [0, 2]]
    table = table.assign(user_id=queries.user)
    found = {}
    for name, member in {"blend": model, **model.named_estimators_}.items():
        listed, _ = member.recommend(
            table, n_recommendations=10, exclude_seen=not log.repeats, on_missing="pad"
        )
        values = [ndcg(some, target) for some, target in zip(listed, targets, strict=True)]
        found[name] = np.array(values)
    return queries.user, found


def _logged(log: dict[str, np.ndarray], n_asked: int) -> dict[str, tuple[float, int]]:
    """Return the sums of NDCG@10 over the last queries, and their number."""
    count = np.nan_to_num(log["n_queries"])
    new = np.cumsum(count[::-1])[::-1] <= n_asked
    found = {}
    for name, values in log.items():
        if name.startswith("ndcg@10 of "):
            label = name.removeprefix("ndcg@10 of ").removeprefix("the ")
            found[label] = float((values[new] * count[new]).sum()), int(count[new].sum())
    return found


def cost(data: str, settings: dict[str, dict]) -> None:
    """Print microseconds an event of the kernel, and `recommend` against its members'."""
    log = Stream.of(data)
    share, _, _ = PLANS[data]
    first = int(share * len(log.user))
    model = new_blend(settings).fit(log.rows(0, first))
    users = np.unique(log.user[:first])[:N_TIMED]
    seen = {"exclude_seen": not log.repeats, "on_missing": "pad"}
    whole, parts = [], []
    for _ in range(ROUNDS + 1):  # the first round compiles
        whole.append(_seconds(model, users, seen))
        parts.append(sum(_seconds(member, users, seen) for member in model.estimators_))
    ratio = np.median(np.array(whole[1:]) / np.array(parts[1:]))
    row("cost", data, "recommend", ms_a_list=1000 * np.median(whole[1:]) / len(users), ratio=ratio)
    row("cost", data, "kernel", us_an_event=_kernel(len(settings)))


def _seconds(member: Any, users: np.ndarray, options: dict[str, Any]) -> float:
    start = time.process_time()
    member.recommend(users, n_recommendations=10, **options)
    return time.process_time() - start


def _kernel(n_members: int, n: int = 2000, width: int = 130) -> float:
    """Return microseconds of the CPU for one query, 40 candidates of a pool of ``width``."""
    from sklearn_recft import kernels

    rng = np.random.default_rng(0)
    n_features, n_sets = 2 * n_members + 2, 16
    values = rng.normal(size=(n, width, n_features)).astype(np.float32)
    contexts = np.column_stack([np.zeros(n, np.int64), rng.integers(1, n_sets, (n, 2))])
    sizes, targets = np.full(n, width), rng.integers(0, width, n)
    weights, ranks = np.zeros((n_sets, n_features)), np.empty(n, np.int64)
    options = np.array([0.03, 0.999, 40.0])
    spent = []
    for _ in range(ROUNDS + 1):
        start = time.process_time()
        kernels.learn_blend(
            values, sizes, targets, contexts, np.ones(n), np.arange(n), weights,
            np.zeros_like(weights), options, ranks,
        )  # fmt: skip
        spent.append(time.process_time() - start)
    return 1e6 * float(np.median(spent[1:])) / n
