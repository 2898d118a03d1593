"""Lists of the items that are most similar to given ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from sklearn_recft.interactions import ITEM, check_ids
from sklearn_recft.lists._eligible import refuse_unknown
from sklearn_recft.lists._make import (
    Ranked,
    as_arrays,
    check_length,
    check_on_missing,
    frame_library,
    long_table,
)
from sklearn_recft.models import FittedModel
from sklearn_recft.ranking import check_ranked, top_k


def similar_lists(
    model: FittedModel,
    item_ids: Any,
    n_items: int,
    *,
    on_missing: str = "raise",
    as_frame: bool = False,
    n_threads: int = 1,
) -> Any:
    """Return the lists of items that are most similar to each of ``item_ids``, without itself."""
    check_length("n_items", n_items)
    check_on_missing(on_missing)
    library = frame_library(item_ids, as_frame)
    ids = check_ids(item_ids, "item_ids")
    if not len(ids):
        raise ValueError("item_ids is empty: at least one item is required.")
    whole = on_missing == "raise"
    with model.reading():
        codes = model.items.encode(ids)
        refuse_unknown(codes, ids, "item_ids")
        n_others = model.n_items - 1
        if whole and n_items > n_others:
            raise ValueError(
                f"n_items={n_items}, but each item has only {n_others} others; ask for fewer, or "
                "pass on_missing='pad' for shorter lists."
            )
        k = min(int(n_items), n_others)
        indptr = np.arange(len(codes) + 1)  # each row leaves out one column: its own
        tiles, own = model.similar_tiles(codes), codes.astype(np.int32)
        found, scores = top_k(tiles, len(codes), model.n_items, k, indptr, own, n_threads=n_threads)
        ranked = Ranked(found, scores.astype(np.float64), np.full(len(codes), k))
        check_ranked(found, ranked.sizes)
        if library is not None:
            return long_table(model, {ITEM: ids}, "similar_id", ranked, library)
        return as_arrays(model, ranked, None if whole else int(n_items))
