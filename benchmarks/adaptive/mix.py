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
    """Settings of the blend.

    Attributes
    ----------
    learning_rate, forgetting : float
        Of AdaGrad; its sums of squares decay by ``forgetting`` a list.
    n_candidates : int
        Candidates of the softmax: the blend's own best.
    context : tuple of {"n_past", "idle", "both", "new"}
        Buckets that have weights of their own, added to the common ones; "new" is whether the user
        is new.
    features : tuple of {"rank", "z", "age", "met", "since"}
        "since" is two numbers of the days since the user met the item.
    rank_cap : int
    first : tuple of two floats
        Weights of ranks and of scores at the start, divided by the number of members.
    apart : bool
        Whether each hit of a list is compared with the items that are no hits, and not with the
        other hits.
    epochs, warm_chunks : int
        Passes over the first chunks, the last of them with the rest of the stream.
    user_rate : float
        Learning rate of weights by user; 0 is none.
    """

    learning_rate: float = 0.03
    forgetting: float = 0.999
    n_candidates: int = 40
    context: tuple[str, ...] = ("n_past", "idle")
    features: tuple[str, ...] = ("rank", "z", "age", "met")
    rank_cap: int = 40
    first: tuple[float, float] = (1.0, 0.0)
    apart: bool = False
    epochs: int = 1
    warm_chunks: int = 10
    user_rate: float = 0.0


HISTORY_EDGES = (1, 3, 7, 15, 31, 63, 127)
IDLE_EDGES = (1 / 1440, 1 / 24, 1.0, 7.0, 30.0)  # days


def contexts(kept: Kept, names: tuple[str, ...]) -> tuple[np.ndarray, int]:
    """Return the weight sets of each list, (n, 1 + n contexts), and how many sets there are."""
    n_past = np.digitize(kept.n_past, HISTORY_EDGES)
    idle = 1 + np.digitize(np.nan_to_num(kept.idle, nan=-1.0), IDLE_EDGES)
    idle[np.isnan(kept.idle)] = 0
    sizes = {"n_past": len(HISTORY_EDGES) + 1, "idle": len(IDLE_EDGES) + 2}
    sizes |= {"both": sizes["n_past"] * sizes["idle"], "new": 2}
    buckets = {"n_past": n_past, "idle": idle, "both": n_past * sizes["idle"] + idle}
    buckets["new"] = (kept.n_past == 0).astype(np.int64)
    columns, n = [np.zeros(len(kept), np.int64)], 1
    for name in names:
        columns.append(n + buckets[name])
        n += sizes[name]
    return np.column_stack(columns), n


def features(kept: Kept, options: Options) -> tuple[np.ndarray, list[str]]:
    """Return the features (n_candidates, n_features) float32 and their names."""
    rank = np.minimum(kept.rank, options.rank_cap).astype(np.float32)
    z = np.clip(kept.z.astype(np.float32), -10, 30)
    since, met = np.maximum(kept.since, 0.0), kept.met > 0
    groups = {
        "rank": {f"rank {name}": -np.log2(rank[:, m] + 2) for m, name in enumerate(kept.members)},
        "z": {f"z {name}": z[:, m] for m, name in enumerate(kept.members)},
        "age": {"age": np.log1p(kept.age) / 3},
        "met": {"met": met},
        "since": {"just met": met * np.exp(-since), "since": met * np.log1p(since) / 3},
    }
    repeats = met.any()
    wanted = [g for g in options.features if repeats or g not in ("met", "since")]
    found = {name: values for group in wanted for name, values in groups[group].items()}
    return np.column_stack([v.astype(np.float32) for v in found.values()]), list(found)


@numba.njit(cache=True)
def _score(x, total, out):
    for j in range(x.shape[0]):
        value = 0.0
        for f in range(x.shape[1]):
            value += total[f] * x[j, f]
        out[j] = value


@numba.njit(cache=True)
def _gain(order, hit, n_relevant):
    """Return NDCG@10 of candidates in an order."""
    got, ideal = 0.0, 0.0
    for p in range(min(10, max(n_relevant, len(order)))):
        if p < len(order) and hit[order[p]]:
            got += 1.0 / np.log2(p + 2.0)
        if p < n_relevant:
            ideal += 1.0 / np.log2(p + 2.0)
    return got / ideal if n_relevant > 0 else 0.0


@numba.njit(cache=True)
def _slope(x, hit, score, best, apart, out):
    """Write the slope of the cross-entropy of the hits among the best; return their number.

    ``apart``: each hit is compared with the items that are no hits.
    """
    n_hits = 0
    for j in best:
        n_hits += hit[j]
    out[:] = 0.0
    if n_hits == 0:
        return 0
    e = np.exp(score[best] - score[best[0]])
    misses = e.sum() - (e[hit[best]].sum() if apart else 0.0)
    shares = 0.0  # of an item that is no hit, divided by its e
    for p, j in enumerate(best):
        if apart and hit[j]:
            shares += 1.0 / (misses + e[p]) / n_hits
    for p, j in enumerate(best):
        share = e[p] * shares if apart else e[p] / misses
        if hit[j]:
            share = (e[p] / (misses + e[p]) if apart else n_hits * share) - 1.0
            share /= n_hits
        for f in range(x.shape[1]):
            out[f] += share * x[j, f]
    return n_hits


@numba.njit(cache=True)
def _total(w, sets, own, out):
    out[:] = own
    for s in sets:
        out += w[s]


@numba.njit(cache=True)
def _step(w, g, slope, rate, forget, more):
    """Step as AdaGrad; ``more`` is added to the sums of squares."""
    for f in range(len(slope)):
        g[f] = forget * g[f] + slope[f] * slope[f]
        w[f] -= rate * slope[f] / np.sqrt(g[f] + more[f])


@numba.njit(cache=True)
def _walk(lists, x, hit, weights, tuned, out):
    """Judge each list, then learn it; with ``by_chunk`` by the weights before its chunk."""
    indptr, n_relevant, chunk, sets, user = lists
    w, g, user_w, user_g = weights
    rate, forget, n_best, user_rate, by_chunk, apart = tuned
    shown, now = w.copy(), -1
    total, slope = np.empty(x.shape[1]), np.empty(x.shape[1])
    score, floor = np.empty(4096), np.full(x.shape[1], 1e-8)
    for q in range(len(indptr) - 1):
        if by_chunk < 0.5 or chunk[q] != now:
            now = chunk[q]
            shown[:] = w
        some = slice(indptr[q], indptr[q + 1])
        mine, hits, m = x[some], hit[some], indptr[q + 1] - indptr[q]
        if m == 0:
            continue
        own = user_w[user[q]] if user_rate > 0 else user_w[0]
        _total(shown, sets[q], own, total)
        _score(mine, total, score)
        order = np.argsort(-score[:m])
        out[q] = _gain(order, hits, n_relevant[q])
        if by_chunk > 0.5:
            _total(w, sets[q], own, total)
            _score(mine, total, score)
            order = np.argsort(-score[:m])
        if _slope(mine, hits, score, order[: int(n_best)], apart > 0.5, slope) == 0:
            continue
        for s in sets[q]:
            _step(w[s], g[s], slope, rate, forget, floor if s == 0 else g[0] + 1e-8)
        if user_rate > 0:
            _step(own, user_g[user[q]], slope, user_rate, 1.0, floor + 1.0)


def learned(kept: Kept, options: Options, *, by_chunk: bool = True) -> np.ndarray:
    """Return NDCG@10 of each list of the blend that learns, judged before it is learned."""
    x, names = features(kept, options)
    return walk(kept, x, names, options, by_chunk=by_chunk)[0]


def walk(
    kept: Kept, x: np.ndarray, names: list[str], options: Options, *, by_chunk: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Return NDCG@10 of each list, and the weights at the end."""
    sets, n_sets = contexts(kept, options.context)
    w = np.zeros((n_sets, len(names)))
    for kind, value in zip(("rank ", "z "), options.first, strict=True):
        columns = [j for j, name in enumerate(names) if name.startswith(kind)]
        w[0, columns] = value / max(len(columns), 1)
    own = np.zeros((int(kept.user.max()) + 1 if options.user_rate else 1, len(names)))
    weights = w, np.zeros_like(w), own, np.zeros_like(own)
    tuned = (
        options.learning_rate, options.forgetting, float(options.n_candidates), options.user_rate,
        float(by_chunk), float(options.apart),
    )  # fmt: skip
    lists = kept.indptr, kept.n_relevant, kept.chunk, sets, kept.user
    out = np.zeros(len(kept))
    n_warm = int(np.searchsorted(kept.chunk, options.warm_chunks))
    for _ in range(options.epochs - 1):
        _walk((kept.indptr[: n_warm + 1], *lists[1:]), x, kept.hit, weights, tuned, out)
    _walk(lists, x, kept.hit, weights, tuned, out)
    return out, w


@numba.njit(cache=True)
def _judge(indptr, score, hit, n_relevant, out):
    for q in range(len(out)):
        some = slice(indptr[q], indptr[q + 1])
        order = np.argsort(-score[some], kind="mergesort")
        out[q] = _gain(order, hit[some], n_relevant[q])


def judged(kept: Kept, score: np.ndarray) -> np.ndarray:
    """Return NDCG@10 of each list by scores of the candidates."""
    out = np.zeros(len(kept))
    _judge(kept.indptr, score.astype(np.float64), kept.hit, kept.n_relevant, out)
    return out


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
    drawn = rng.multinomial(n, np.full(n, 1.0 / n), n_draws)
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

    x, _ = features(kept, Options())
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
