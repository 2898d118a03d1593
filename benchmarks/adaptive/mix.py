"""Blends over the kept unions: learned online, fixed, and the best single member."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numba
import numpy as np

K = 10


@dataclass(frozen=True)
class Kept:
    """Lists with their candidates in CSR layout, as `replay` keeps them, for some members."""

    members: tuple[str, ...]
    indptr: np.ndarray
    item: np.ndarray
    rank: np.ndarray
    z: np.ndarray
    age: np.ndarray
    met: np.ndarray
    since: np.ndarray
    hit: np.ndarray
    user: np.ndarray
    time: np.ndarray
    n_past: np.ndarray
    idle: np.ndarray
    n_relevant: np.ndarray
    chunk: np.ndarray

    @classmethod
    def load(cls, folder: Path, members: tuple[str, ...], best: int = 40) -> "Kept":
        """Read what was kept of these members: items among the best of one of them."""
        pieces: dict[str, list[np.ndarray]] = {}
        for path in sorted(folder.glob("part_*.npz")):
            with np.load(path) as part:
                found = {name: part[name] for name in part.files}
            known = found.pop("members").tolist()
            columns = [known.index(name) for name in members]
            found["rank"], found["z"] = found["rank"][:, columns], found["z"][:, columns]
            owner = np.repeat(np.arange(len(found["n"])), found["n"])
            kept = found["rank"].min(axis=1) < best
            found["n"] = np.bincount(owner[kept], minlength=len(found["n"]))
            for name in ("item", "rank", "z", "age", "met", "since", "hit"):
                found[name] = found[name][kept]
            for name, values in found.items():
                pieces.setdefault(name, []).append(values)
        whole = {name: np.concatenate(values) for name, values in pieces.items()}
        indptr = np.concatenate([[0], np.cumsum(whole.pop("n"))])
        return cls(members, indptr, **whole)

    def __len__(self) -> int:
        return len(self.user)

    @property
    def owner(self) -> np.ndarray:
        """Return the list of each candidate."""
        return np.repeat(np.arange(len(self)), np.diff(self.indptr))


@dataclass(frozen=True)
class Options:
    """Settings of the blend."""

    learning_rate: float = 0.03
    forgetting: float = 0.999
    n_candidates: int = 40
    context: tuple[str, ...] = ("n_past", "idle")
    features: tuple[str, ...] = ("rank", "z", "age", "met")
    rank_cap: int = 65535
    z_by: str = "catalogue"
    start: str = "equal"
    item_rate: float = 0.0
    user_rate: float = 0.0
    average: float = 0.0
    l2: float = 0.0
    epochs: int = 1
    warm_chunks: int = 10


HISTORY_EDGES = (1, 5, 20, 50, 150)
IDLE_EDGES = (1e-9, 1e-3, 0.02, 1.0, 30.0)  # days


def contexts(kept: Kept, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the weight sets of each list, (n, 1 + n contexts), and how many sets there are."""
    columns, n = [np.zeros(len(kept), np.int64)], 1
    for name in names:
        if name == "n_past":
            bucket = np.digitize(kept.n_past, HISTORY_EDGES)
            size = len(HISTORY_EDGES) + 1
        elif name == "idle":
            bucket = 1 + np.digitize(np.nan_to_num(kept.idle, nan=-1.0), IDLE_EDGES)
            bucket[np.isnan(kept.idle)] = 0
            size = len(IDLE_EDGES) + 2
        elif name == "both":
            a, _ = contexts(kept, ("n_past", "idle"))
            bucket = (a[:, 1] - 1) * 10 + (a[:, 2] - 7)
            size = 70
        else:
            raise ValueError(f"Unknown context {name!r}.")
        columns.append(n + bucket)
        n += size
    return np.column_stack(columns), n


def features(kept: Kept, options: Options) -> tuple[np.ndarray, list[str]]:
    """Return the features (n_candidates, n_features) float32 and their names."""
    found: list[np.ndarray] = []
    names: list[str] = []

    def add(name: str, values: np.ndarray) -> None:
        names.append(name)
        found.append(values.astype(np.float32))

    wanted = set(options.features)
    rank = np.minimum(kept.rank, options.rank_cap).astype(np.float32)
    z = np.clip(kept.z.astype(np.float32), -10, 30)
    if options.z_by == "union":
        z = _within(kept, z)
    elif options.z_by == "top":
        z = _within_top(kept, z, rank)
    for m, name in enumerate(kept.members):
        if "rank" in wanted:
            add(f"rank {name}", -np.log2(rank[:, m] + 2))
        if "rr" in wanted:
            add(f"rr {name}", 10.0 / (rank[:, m] + 10.0))
        if "z" in wanted:
            add(f"z {name}", z[:, m])
        if "z2" in wanted:
            add(f"z2 {name}", np.log1p(np.maximum(z[:, m], 0)))
        if "in" in wanted:
            add(f"in {name}", rank[:, m] < 40)
    if "votes" in wanted:
        add("votes", np.log1p((rank < 40).sum(axis=1)))
        add("minrank", -np.log2(rank.min(axis=1) + 2))
    if "age" in wanted:
        add("age", np.log1p(kept.age) / 3)
    if "ages" in wanted:
        bucket = np.digitize(kept.age, (1, 7, 30, 90, 180))
        for b in range(6):
            add(f"age {b}", bucket == b)
    if kept.met.any():
        if "met" in wanted:
            add("met", kept.met > 0)
        if "count" in wanted:
            add("count", np.log1p(kept.met))
        if "since" in wanted:
            bucket = np.where(kept.met > 0, 1 + np.digitize(kept.since, (1e-9, 1, 7, 30, 90)), 0)
            for b in range(1, 7):
                add(f"since {b}", bucket == b)
        if "fresh" in wanted:
            add("fresh", (kept.met > 0) * np.exp(-np.maximum(kept.since, 0)))
            add("since", (kept.met > 0) * np.log1p(np.maximum(kept.since, 0)) / 3)
    return np.column_stack(found), names


def _within(kept: Kept, z: np.ndarray) -> np.ndarray:
    starts, n = kept.indptr[:-1], np.diff(kept.indptr)
    held = np.maximum(n, 1)
    mean = np.add.reduceat(z, np.minimum(starts, len(z) - 1), axis=0) / held[:, None]
    centred = z - np.repeat(mean, n, axis=0)
    var = np.add.reduceat(centred**2, np.minimum(starts, len(z) - 1), axis=0) / held[:, None]
    return centred / np.repeat(np.sqrt(var) + 1e-6, n, axis=0)


def _within_top(kept: Kept, z: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """Scale each member's scores by its own best forty: 1 at the best, 0 at the fortieth."""
    owner = kept.owner
    top, low = np.full((2, len(kept), z.shape[1]), np.nan, np.float32)
    top = np.full((len(kept), z.shape[1]), -np.inf, np.float32)
    low = np.full((len(kept), z.shape[1]), np.inf, np.float32)
    np.maximum.at(top, owner, z)
    np.minimum.at(low, owner, np.where(rank < 40, z, np.inf))
    scaled = (z - low[owner]) / np.maximum(top - low, 1e-6)[owner]
    return np.nan_to_num(np.clip(scaled, -3, 1))


@numba.njit(cache=True, fastmath=True)
def _walk(
    indptr, x, hit, n_relevant, chunk, sets, item, user, w, g, item_w, item_g, user_w, user_g, tuned
):
    """Predict, then learn, list by list; weights used to predict change at each chunk only.

    Returns NDCG@10 of each list.
    """
    rate, forget, k_best, item_rate, user_rate, average, l2, by_chunk = tuned
    n, n_features = len(indptr) - 1, x.shape[1]
    k_best = int(k_best)
    out = np.zeros(n)
    shown = w.copy()
    mean = w.copy()
    total = np.empty(n_features, np.float64)
    step = np.empty(n_features, np.float64)
    score = np.empty(4096)
    ideal = np.zeros(11)
    for i in range(10):
        ideal[i + 1] = ideal[i] + 1.0 / np.log2(i + 2.0)
    now = -1
    use_items, use_users = item_rate > 0, user_rate > 0
    for q in range(n):
        if by_chunk < 0.5 or chunk[q] != now:
            now = chunk[q]
            shown[:] = mean if average > 0 else w
        first, last = indptr[q], indptr[q + 1]
        m = last - first
        if m == 0:
            continue
        # predict
        total[:] = 0
        for s in sets[q]:
            total += shown[s]
        if use_users:
            total += user_w[user[q]]
        for j in range(m):
            v = 0.0
            for f in range(n_features):
                v += total[f] * x[first + j, f]
            if use_items:
                v += item_w[item[first + j]]
            score[j] = v
        got = 0.0
        order = np.argsort(-score[:m])
        for p in range(min(10, m)):
            if hit[first + order[p]]:
                got += 1.0 / np.log2(p + 2.0)
        if n_relevant[q] > 0:
            out[q] = got / ideal[min(n_relevant[q], 10)]
        # learn
        if by_chunk > 0.5:
            total[:] = 0
            for s in sets[q]:
                total += w[s]
            if use_users:
                total += user_w[user[q]]
            for j in range(m):
                v = 0.0
                for f in range(n_features):
                    v += total[f] * x[first + j, f]
                if use_items:
                    v += item_w[item[first + j]]
                score[j] = v
            order = np.argsort(-score[:m])
        k = min(k_best, m)
        n_hit = 0
        for p in range(k):
            n_hit += hit[first + order[p]]
        if n_hit == 0:
            continue
        top = score[order[0]]
        norm = 0.0
        for p in range(k):
            norm += np.exp(score[order[p]] - top)
        step[:] = 0
        for p in range(k):
            j = first + order[p]
            e = np.exp(score[order[p]] - top) / norm
            if hit[j]:
                e -= 1.0 / n_hit
            for f in range(n_features):
                step[f] += e * x[j, f]
            if use_items:
                i = item[j]
                item_g[i] = forget * item_g[i] + e * e
                item_w[i] -= item_rate * e / np.sqrt(item_g[i] + 1e-2)
        for s in sets[q]:
            for f in range(n_features):
                d = step[f] + l2 * w[s, f]
                g[s, f] = forget * g[s, f] + d * d
                w[s, f] -= rate * d / np.sqrt(g[s, f] + 1e-8)
        if use_users:
            u = user[q]
            for f in range(n_features):
                user_g[u, f] += step[f] * step[f]
                user_w[u, f] -= user_rate * step[f] / np.sqrt(user_g[u, f] + 1.0)
        if average > 0:
            for s in sets[q]:
                mean[s] += average * (w[s] - mean[s])
    return out


def learned(kept: Kept, options: Options, *, by_chunk: bool = True) -> np.ndarray:
    """Return NDCG@10 of each list of the blend that learns, predict before learning."""
    x, names = features(kept, options)
    return walk(kept, x, names, options, by_chunk=by_chunk)[0]


def walk(
    kept: Kept, x: np.ndarray, names: list[str], options: Options, *, by_chunk: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Return NDCG@10 of each list, and the weights at the end."""
    sets, n_sets = contexts(kept, options.context)
    w = np.zeros((n_sets, len(names)))
    if options.start == "equal":
        of_ranks = [j for j, name in enumerate(names) if name.startswith("rank ")]
        w[0, of_ranks] = 1.0 / max(len(of_ranks), 1)
    elif options.start in kept.members:
        w[0, names.index(f"rank {options.start}")] = 1.0
    n_users = int(kept.user.max()) + 1 if options.user_rate else 1
    n_items = int(kept.item.max()) + 1
    tuned = (
        options.learning_rate, options.forgetting, float(options.n_candidates), options.item_rate,
        options.user_rate, options.average, options.l2, float(by_chunk),
    )  # fmt: skip
    tables = (
        w, np.zeros_like(w), np.zeros(n_items), np.zeros(n_items),
        np.zeros((n_users, len(names))), np.zeros((n_users, len(names))),
    )  # fmt: skip
    lists = kept.n_relevant, kept.chunk, sets, kept.item, kept.user
    n_warm = int(np.searchsorted(kept.chunk, options.warm_chunks))
    for _ in range(options.epochs - 1):
        _walk(kept.indptr[: n_warm + 1], x, kept.hit, *lists, *tables, tuned)
    out = _walk(kept.indptr, x, kept.hit, *lists, *tables, tuned)
    return out, w


@numba.njit(cache=True)
def _judge(indptr, score, hit, n_relevant):
    out = np.zeros(len(indptr) - 1)
    ideal = np.zeros(11)
    for i in range(10):
        ideal[i + 1] = ideal[i] + 1.0 / np.log2(i + 2.0)
    for q in range(len(out)):
        if indptr[q + 1] == indptr[q] or n_relevant[q] == 0:
            continue
        order = np.argsort(-score[indptr[q] : indptr[q + 1]], kind="mergesort")
        got = 0.0
        for p in range(min(10, len(order))):
            if hit[indptr[q] + order[p]]:
                got += 1.0 / np.log2(p + 2.0)
        out[q] = got / ideal[min(n_relevant[q], 10)]
    return out


def judged(kept: Kept, score: np.ndarray) -> np.ndarray:
    """Return NDCG@10 of each list by scores of the candidates."""
    return _judge(kept.indptr, score.astype(np.float64), kept.hit, kept.n_relevant)


def singles(kept: Kept) -> dict[str, np.ndarray]:
    """Return NDCG@10 of each list of each member."""
    return {
        name: judged(kept, -kept.rank[:, m].astype(float)) for m, name in enumerate(kept.members)
    }


def fixed(kept: Kept) -> dict[str, np.ndarray]:
    """Return NDCG@10 of blends that do not learn."""
    rank = kept.rank.astype(np.float32)
    scores = {
        "equal z": np.clip(kept.z.astype(np.float32), -10, 30).mean(axis=1),
        "RRF 10": (1.0 / (10.0 + rank)).sum(axis=1),
        "RRF 60": (1.0 / (60.0 + rank)).sum(axis=1),
        "Borda": np.maximum(40.0 - rank, 0).sum(axis=1),
        "log rank": -np.log2(rank + 2).mean(axis=1),
    }
    return {name: judged(kept, score) for name, score in scores.items()}


def follow_the_leader(single: dict[str, np.ndarray], chunk: np.ndarray) -> np.ndarray:
    """Return NDCG@10 of the list of the member that was best on all chunks before."""
    table = np.column_stack(list(single.values()))
    starts = np.flatnonzero(np.diff(chunk, prepend=chunk[:1] - 1))
    out = np.empty(len(chunk))
    for start, stop in zip(starts, [*starts[1:], len(chunk)], strict=True):
        out[start:stop] = table[start:stop, int(table[:start].sum(axis=0).argmax())]
    return out


def interval(
    ours: np.ndarray, theirs: np.ndarray, user: np.ndarray, n_draws: int = 400
) -> tuple[float, float, float]:
    """Return the gain of the mean in per cent, and its 95 % interval over draws of users."""
    _, code = np.unique(user, return_inverse=True)
    sums = np.stack([np.bincount(code, values) for values in (ours, theirs)])
    rng = np.random.default_rng(0)
    n = sums.shape[1]
    drawn = np.stack([np.bincount(rng.integers(0, n, n), minlength=n) for _ in range(n_draws)])
    totals = drawn @ sums.T
    low, high = np.percentile(totals[:, 0] / totals[:, 1] - 1.0, [2.5, 97.5])
    return 100 * (ours.sum() / theirs.sum() - 1.0), 100 * low, 100 * high


def tenths(ours: np.ndarray, theirs: np.ndarray, user: np.ndarray) -> list[tuple[float, float]]:
    """Return for each tenth of the stream the gain in per cent and its standard error."""
    found = []
    for part in np.array_split(np.arange(len(ours)), 10):
        gain, low, high = interval(ours[part], theirs[part], user[part], 200)
        found.append((gain, (high - low) / 3.92))
    return found


def changed(options: Options, **values: Any) -> Options:
    """Return other options."""
    return replace(options, **values)


def trees(kept: Kept, start: np.ndarray, seed: int, n_others: int = 30) -> np.ndarray:
    """Return NDCG@10 of boosted trees over the same features, fitted to the first lists.

    Each first list with a hit gives its hits and ``n_others`` drawn candidates.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    x, _ = features(kept, Options(rank_cap=40))
    owner = kept.owner
    told = np.column_stack([np.log1p(kept.n_past), np.log1p(kept.idle)]).astype(np.float32)
    x = np.column_stack([x, told[owner]])
    n = np.diff(kept.indptr)
    n_hits = np.bincount(owner, kept.hit, minlength=len(kept))
    rng = np.random.default_rng(seed)
    drawn = rng.random(len(owner)) < n_others / np.maximum(n, 1)[owner]
    learned_from = (start & (n_hits > 0))[owner] & (drawn | kept.hit)
    model = HistGradientBoostingClassifier(
        max_iter=150, learning_rate=0.05, max_leaf_nodes=15, random_state=seed
    ).fit(x[learned_from], kept.hit[learned_from])
    return judged(kept, model.decision_function(x))
