"""Add a member to lists that were kept without it: its ranks and scores of the candidates kept."""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.adaptive.members import make, scores
from benchmarks.adaptive.replay import (
    ASK,
    BLOCK,
    MEMBERS_SHARE,
    PLANS,
    Stream,
    codes_of_seen,
    ndcg,
)
from benchmarks.common.report import row


def extend(data: str, task: str, folder: Path, name: str, setting: dict[str, Any]) -> None:
    """Walk one member through the log, and write its columns into each kept part.

    Its candidates that no other member has among its best are not added, so a blend gains less than
    after a `replay` with it. Printed is its own NDCG@10, of lists of the whole catalogue.
    """
    log = Stream.of(data)
    share, chunk, every = PLANS[data]
    first = int(MEMBERS_SHARE * share * len(log.user))
    member = make(name, setting).fit(log.rows(0, first))
    for part, start in enumerate(range(first, len(log.user), chunk)):
        path = folder / f"part_{part:04d}.npz"
        if not path.exists():
            break
        with np.load(path) as saved:
            kept = {key: saved[key] for key in saved.files}
        stop = min(start + chunk, len(log.user))
        queries, targets = ASK[task](log, start, stop, every if task == "next" else 1)
        if not np.array_equal(queries.user, kept["user"]):
            raise ValueError(f"{path} holds other lists: replay the log again.")
        rank, z, values = _columns(log, member, (queries, targets), kept)
        known = kept["members"].tolist()
        kept["members"] = np.array([*known, name])
        kept["rank"] = np.column_stack([kept["rank"], rank])
        kept["z"] = np.column_stack([kept["z"], z])
        np.savez(path, **kept)
        row(f"extend {task}", data, name, at=stop, n_lists=len(values), ndcg=float(np.mean(values)))
        member.partial_fit(log.rows(start, stop))


def _columns(
    log: Stream, member: Any, asked: tuple[Any, list], kept: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Return ranks and standardized scores of kept candidates, and NDCG@10 of each list."""
    queries, targets = asked
    ids, n = member.item_ids_, len(queries.user)
    code_of = np.full(int(log.item.max()) + 1, -1)
    code_of[ids] = np.arange(len(ids))
    indptr = np.concatenate([[0], np.cumsum(kept["n"])])
    rank, z = np.empty(indptr[-1], np.uint16), np.empty(indptr[-1], np.float16)
    values = []
    for start in range(0, n, BLOCK):
        some = queries.block(start, min(start + BLOCK, n))
        score = scores(member, some)
        if not log.repeats:
            score[codes_of_seen(some, code_of)] = -np.inf
        order = np.argsort(-score, axis=1, kind="stable")
        for q, (best, own) in enumerate(zip(order, score, strict=True), start):
            places = np.empty(len(best), np.int64)
            places[best] = np.arange(len(best))
            finite = own[np.isfinite(own)]
            candidates = slice(indptr[q], indptr[q + 1])
            codes = code_of[kept["item"][candidates]]
            rank[candidates] = np.minimum(places[codes], 65535)
            standard = (own[codes] - finite.mean()) / max(finite.std(), 1e-10)
            z[candidates] = np.where(np.isfinite(standard), standard, -9.0)
            values.append(ndcg(ids[best[:10]], targets[q]))
    return rank, z, values
