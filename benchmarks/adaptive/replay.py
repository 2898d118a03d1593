"""Replay a log once over the members, and keep the union of their best items for each list.

Members learn by chunk. Kept of each list: every item among the best 40 of some member, with its
rank in the whole catalogue and its standardized score for each member, its age, and how often and
when the user met it. Members that draw are kept once for each seed.
"""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pandas as pd

from benchmarks.adaptive.members import (
    COLUMNS,
    DRAWING,
    SEEDS,
    Content,
    Queries,
    Twin,
    make,
    names,
    scores,
    tried,
)
from benchmarks.common.events import REPEATING, cut, load

BEST = 40
BLOCK = 64
DAY = 86_400.0
# Share of the log that is the warm-up, events a chunk, and every how many users are asked.
PLANS = {
    "ml-100k": (0.5, 1000, 1),
    "online-retail": (0.5, 8000, 8),
    "ml-1m": (0.85, 20000, 16),
    "amazon-beauty-2014": (0.7, 15000, 4),
}
MEMBERS_SHARE = 0.8  # of the warm-up: the members' first fit; the weights start on the rest


@dataclass(frozen=True)
class Stream:
    """A log in time order, by codes, with each user's events in order."""

    data: str
    user: np.ndarray
    item: np.ndarray
    time: np.ndarray
    order: np.ndarray  # events by user, then by time
    start: np.ndarray  # of each user in `order`
    place: np.ndarray  # of each event among its user's
    texts: pd.Series | None

    @classmethod
    def of(cls, data: str, n_items: int | None = None, every: int = 1) -> "Stream":
        """Read a log, or the events of its ``n_items`` most frequent items and every k-th user."""
        frame = cut(load(data), n_items, every).sort_values("timestamp", kind="stable")
        user, _ = pd.factorize(frame["user_id"])
        item, item_ids = pd.factorize(frame["item_id"])
        order = np.argsort(user, kind="stable")
        count = np.bincount(user)
        start = np.concatenate([[0], np.cumsum(count)])
        place = np.empty(len(user), np.int64)
        place[order] = np.arange(len(user)) - np.repeat(start[:-1], count)
        seconds = frame["timestamp"].to_numpy(np.float64)
        return cls(data, user, item, seconds, order, start, place, _texts(data, item_ids))

    @property
    def repeats(self) -> bool:
        """Whether people take items again."""
        return self.data in REPEATING

    def rows(self, first: int, last: int) -> pd.DataFrame:
        """Return events as the members learn them."""
        some = slice(first, last)
        table = np.column_stack([self.user[some], self.item[some]])
        frame = pd.DataFrame(table, columns=COLUMNS[:2])
        return frame.assign(timestamp=self.time[some])

    def past(self, user: np.ndarray, n_past: np.ndarray, when: np.ndarray) -> Queries:
        """Return queries of users that have ``n_past`` events."""
        indptr = np.concatenate([[0], np.cumsum(n_past)])
        step = np.arange(indptr[-1]) - np.repeat(indptr[:-1], n_past)
        events = self.order[np.repeat(self.start[user], n_past) + step]
        return Queries(user, when, indptr, self.item[events], self.time[events])


def _texts(data: str, item_ids: Any) -> pd.Series | None:
    path = Path(os.environ["SKLEARN_RECFT_DATA"], data, "items.parquet")
    table = pd.read_parquet(path)
    table = table.assign(item_id=table["item_id"].astype(str)).set_index("item_id")
    wanted = ["title", "genres", "director", "actors"]
    columns = [table[name].fillna("").astype(str) for name in wanted if name in table]
    joined = columns[0].str.cat(columns[1:], sep=" ") if len(columns) > 1 else columns[0]
    return joined.reindex(pd.Index(item_ids).astype(str)).fillna("")


def ask_next(stream: Stream, first: int, last: int, every: int) -> tuple[Queries, list[np.ndarray]]:
    """Ask for a list before each event, if the item is new to its user or people buy again."""
    events = np.arange(first, last)
    events = events[stream.user[events] % every == 0]
    queries = stream.past(stream.user[events], stream.place[events], stream.time[events])
    targets = [stream.item[e : e + 1] for e in events]
    if stream.repeats:
        return queries, targets
    new = [
        stream.item[e] not in queries.items[queries.indptr[q] : queries.indptr[q + 1]]
        for q, e in enumerate(events)
    ]
    kept = events[np.array(new, bool)]
    queries = stream.past(stream.user[kept], stream.place[kept], stream.time[kept])
    return queries, [stream.item[e : e + 1] for e in kept]


def ask_once(stream: Stream, first: int, last: int, every: int) -> tuple[Queries, list[np.ndarray]]:
    """Ask for a list of every user of the chunk at its start."""
    users = np.unique(stream.user[first:last])
    users = users[users % every == 0]
    taken = pd.DataFrame({"u": stream.user[first:last], "i": stream.item[first:last]})
    taken = taken[taken["u"] % every == 0].groupby("u")["i"].unique()
    before = np.bincount(stream.user[:first], minlength=users.max(initial=0) + 1)[users]
    queries = stream.past(users, before, np.full(len(users), stream.time[first]))
    queries.fresh = False
    targets = []
    for q, user in enumerate(users):
        found = taken.loc[user]
        if not stream.repeats:
            own = queries.items[queries.indptr[q] : queries.indptr[q + 1]]
            found = found[~np.isin(found, own)]
        targets.append(found)
    return queries, targets


ASK = {"next": ask_next, "once": ask_once}


@numba.njit(cache=True)
def _unite(score, least, best):
    """Return for each row the ascending columns among the ``best`` of some member."""
    n_members, n, n_items = score.shape
    indptr = np.zeros(n + 1, np.int64)
    found = np.empty(n * n_members * best, np.int32)
    size = 0
    mark = np.zeros(n_items, np.bool_)
    for r in range(n):
        mark[:] = False
        for m in range(n_members):
            above = 0
            for c in range(n_items):
                if score[m, r, c] > least[m, r]:
                    mark[c] = True
                    above += 1
            for c in range(n_items):
                if above >= best:
                    break
                if score[m, r, c] == least[m, r] and least[m, r] > -np.inf:
                    mark[c] = True
                    above += 1
        for c in range(n_items):
            if mark[c]:
                found[size] = c
                size += 1
        indptr[r + 1] = size
    return indptr, found[:size].copy()


@numba.njit(cache=True)
def _describe(score, ordered, mean, spread, indptr, columns):
    """Return ranks and standardized scores of the columns, (n, n_members)."""
    n_members, n, n_items = score.shape
    rank = np.empty((len(columns), n_members), np.uint16)
    z = np.empty((len(columns), n_members), np.float32)
    for r in range(n):
        for m in range(n_members):
            row = ordered[m, r]
            for j in range(indptr[r], indptr[r + 1]):
                s = score[m, r, columns[j]]
                right = np.searchsorted(row, s, side="right")
                place = n_items - right
                if right > 1 and row[right - 2] == s:  # ties in the order of the catalogue
                    for other in range(indptr[r], j):
                        if score[m, r, columns[other]] == s:
                            place += 1
                rank[j, m] = min(place, 65535)
                z[j, m] = (s - mean[m, r]) / spread[m, r] if s > -np.inf else -9.0
    return rank, z


def codes_of_seen(queries: Queries, code_of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the query and the column of each item in the histories."""
    owner = np.repeat(np.arange(len(queries.user)), np.diff(queries.indptr))
    column = code_of[queries.items]
    return owner[column >= 0], column[column >= 0]


def unions(
    members: dict[str, Any], queries: Queries, item_ids: np.ndarray, exclude_seen: bool
) -> dict[str, np.ndarray]:
    """Return the candidates of a block of queries: CSR layout, item codes, ranks, scores."""
    n_codes = 1 + max(item_ids.max(initial=0), queries.items.max(initial=0))
    code_of = np.full(n_codes, -1)
    code_of[item_ids] = np.arange(len(item_ids))
    score = np.stack(
        [
            m.scores(queries, item_ids) if isinstance(m, Content) else scores(m, queries)
            for m in members.values()
        ]
    )
    if exclude_seen:
        row, column = codes_of_seen(queries, code_of)
        score[:, row, column] = -np.inf
    ordered = np.sort(score, axis=2)
    finite = np.isfinite(score)
    count = finite.sum(axis=2)
    held = np.where(finite, score, 0.0)
    mean = held.sum(axis=2) / count
    spread = np.sqrt(np.maximum((held**2).sum(axis=2) / count - mean**2, 1e-20))
    least = ordered[:, :, -min(BEST, score.shape[2])]
    indptr, columns = _unite(score, least, BEST)
    rank, z = _describe(score, ordered, mean, spread, indptr, columns)
    return {"indptr": indptr, "item": item_ids[columns], "rank": rank, "z": z}


def _about(stream: Stream, queries: Queries, found: dict, first_met: np.ndarray) -> dict:
    """Return the age of candidates in days, times met, and days since the last time."""
    n = np.diff(found["indptr"])
    owner = np.repeat(np.arange(len(n)), n)
    age = np.maximum(queries.time[owner] - first_met[found["item"]], 0.0) / DAY
    n_items = int(stream.item.max()) + 1
    own = np.repeat(np.arange(len(n)), np.diff(queries.indptr))
    key = own * n_items + queries.items
    pairs, last, counts = np.unique(key[::-1], return_index=True, return_counts=True)
    if not len(pairs):
        pairs, last, counts = np.array([-1]), np.array([0]), np.array([0])
        when = np.zeros(1)
    else:
        when = queries.times[len(key) - 1 - last]
    wanted = owner * n_items + found["item"]
    at = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
    met = pairs[at] == wanted
    since = np.where(met, (queries.time[owner] - when[at]) / DAY, -1.0)
    return {
        "age": age.astype(np.float32),
        "met": np.where(met, counts[at], 0).astype(np.int16),
        "since": since.astype(np.float32),
    }


def _per_query(queries: Queries, found: dict, targets: list[np.ndarray]) -> dict[str, np.ndarray]:
    n_past = np.diff(queries.indptr)
    newest = np.where(
        n_past > 0,
        queries.times[np.maximum(queries.indptr[1:] - 1, 0)] if len(queries.times) else 0.0,
        np.nan,
    )
    hit = np.zeros(len(found["item"]), bool)
    for q, target in enumerate(targets):
        some = slice(found["indptr"][q], found["indptr"][q + 1])
        hit[some] = np.isin(found["item"][some], target)
    return {
        "user": queries.user,
        "time": queries.time,
        "n_past": n_past,
        "idle": (queries.time - newest) / DAY,
        "n_relevant": np.array([len(t) for t in targets]),
        "hit": hit,
    }


def replay(
    data: str, folders: dict[str, Path], chosen: dict[str, dict], seeds: Sequence[int] = SEEDS
) -> None:
    """Walk once through a log, and write what is kept of each task into its folder."""
    stream = Stream.of(data)
    share, chunk, step = PLANS[data]
    first = int(MEMBERS_SHARE * share * len(stream.user))
    members = all_members(stream, chosen, seeds)
    for member in members.values():
        member.fit(stream.rows(0, first))
    first_met = np.full(stream.item.max() + 1, np.inf)
    np.minimum.at(first_met, stream.item, stream.time)
    cpu = time.process_time()
    for part, start in enumerate(range(first, len(stream.user), chunk)):
        stop = min(start + chunk, len(stream.user))
        for task, folder in folders.items():
            folder.mkdir(parents=True, exist_ok=True)
            asked = ASK[task](stream, start, stop, step if task == "next" else 1)
            kept = ask_members(stream, members, asked, first_met)
            kept["chunk"] = np.full(len(kept["user"]), part)
            np.savez(folder / f"part_{part:04d}.npz", members=np.array(list(members)), **kept)
        for member in members.values():
            member.partial_fit(stream.rows(start, stop))
        spent = time.process_time() - cpu
        note = {"data": data, "at": stop, "of": len(stream.user), "cpu_s": round(spent, 1)}
        print(json.dumps(note), flush=True)


def all_members(
    stream: Stream, chosen: dict[str, dict], seeds: Sequence[int] = SEEDS
) -> dict[str, Any]:
    """Return the members, one for each seed where they draw."""
    found: dict[str, Any] = {}
    for name in (n for n in names(stream.repeats) if n in chosen):
        setting = chosen[name]
        if name in DRAWING:
            found |= {f"{name}_{seed}": make(name, setting, seed) for seed in seeds}
        else:
            found[name] = make(name, setting)
            base = found.get(name.removesuffix("_h3"))
            h3 = {"history_half_life": setting.get("history_half_life")}
            if name.endswith("_h3") and setting == chosen[name.removesuffix("_h3")] | h3:
                found[name] = Twin(base, h3["history_half_life"])
    if stream.texts is not None:
        found["content"] = Content(stream.texts)
    return found


def ask_members(
    stream: Stream, members: dict[str, Any], asked: tuple[Queries, list], first_met: np.ndarray
) -> dict[str, np.ndarray]:
    """Ask all members for the lists of a chunk."""
    queries, targets = asked
    item_ids = next(iter(members.values())).item_ids_
    parts = []
    for start in range(0, len(queries.user), BLOCK):
        stop = min(start + BLOCK, len(queries.user))
        some = queries.block(start, stop)
        found = unions(members, some, item_ids, not stream.repeats)
        found |= _about(stream, some, found, first_met)
        found |= _per_query(some, found, targets[start:stop])
        found["n"] = np.diff(found.pop("indptr"))
        found["z"] = found["z"].astype(np.float16)
        parts.append(found)
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def choose(data: str, task: str, wanted: str = "", n_cuts: int = 3) -> dict[str, dict]:
    """Choose each member's setting by NDCG@10 on chunks of the last fifth of the warm-up."""
    stream = Stream.of(data)
    share, chunk, every = PLANS[data]
    end = int(share * len(stream.user))
    cuts = np.linspace(MEMBERS_SHARE * end, end - chunk, n_cuts).astype(int)
    found = {}
    for name in (n for n in names(stream.repeats) if wanted in n):
        options = tried(name, task, stream.repeats)
        figures = [
            np.mean([validated(stream, task, make(name, option), c, chunk, every) for c in cuts])
            for option in options
        ]
        found[name] = options[int(np.argmax(figures))]
        note = {"data": data, "task": task, "member": name, "chosen": found[name]}
        print(json.dumps(note | {"figures": np.round(figures, 4).tolist()}), flush=True)
    return found


def validated(stream: Stream, task: str, member: Any, cut: int, chunk: int, every: int) -> float:
    """Return NDCG@10 on the chunk after ``cut``, of a member that is fitted on what is before."""
    member.fit(stream.rows(0, cut))
    queries, targets = ASK[task](stream, cut, cut + chunk, every if task == "next" else 1)
    code_of = np.full(stream.item.max() + 1, -1)
    code_of[member.item_ids_] = np.arange(len(member.item_ids_))
    figures = []
    for start in range(0, len(queries.user), BLOCK):
        stop = min(start + BLOCK, len(queries.user))
        some = queries.block(start, stop)
        score = scores(member, some)
        if not stream.repeats:
            score[codes_of_seen(some, code_of)] = -np.inf
        best = np.argsort(-score, axis=1, kind="stable")[:, :10]
        figures += [
            ndcg(member.item_ids_[b], t) for b, t in zip(best, targets[start:stop], strict=True)
        ]
    return float(np.mean(figures))


def ndcg(listed: np.ndarray, relevant: np.ndarray) -> float:
    """Return NDCG of a list; 0 where nothing is relevant."""
    if not len(relevant):
        return 0.0
    gain = 1.0 / np.log2(np.arange(2, len(listed) + 2))
    ideal = (1.0 / np.log2(np.arange(2, 12)))[: len(relevant)].sum()
    return float((gain * np.isin(listed, relevant)).sum() / ideal)
