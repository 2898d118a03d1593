"""Compiled loops over plain arrays: the only room that knows numba.

Every kernel releases the interpreter lock and starts no threads of its own; callers split
the rows and run pieces side by side where they may. Tables are written in place: those of
torch modules are the parameters' own memory. Loops stand written out: a helper that takes a
view of an array per row costs half the speed.
"""

from sklearn_recft.kernels._als import als_rows
from sklearn_recft.kernels._factorization import (
    LOG_LOSS,
    SQUARED_ERROR,
    bpr_pass,
    fold_in,
    online_pass,
    sgd_epoch,
)
from sklearn_recft.kernels._habits import (
    EXPOSURE_UNIT,
    add_to_tile,
    count_habits,
    habits_of_pairs,
    habits_of_users,
    link_pairs,
    pairs_of_users,
)
from sklearn_recft.kernels._history import count_past, gather_past, latest_events
from sklearn_recft.kernels._similarity import gram_rows, nearest_items, spread
from sklearn_recft.kernels._streams import (
    ITEM_STATISTICS,
    N_SCORES,
    N_STATISTICS,
    USER_STATISTICS,
    describe_factorization,
    describe_statistics,
    follow_factorization,
    follow_statistics,
)
from sklearn_recft.kernels._topk import gather_seen, update_topk

__all__ = [
    "EXPOSURE_UNIT",
    "ITEM_STATISTICS",
    "LOG_LOSS",
    "N_SCORES",
    "N_STATISTICS",
    "SQUARED_ERROR",
    "USER_STATISTICS",
    "add_to_tile",
    "als_rows",
    "bpr_pass",
    "count_habits",
    "count_past",
    "describe_factorization",
    "describe_statistics",
    "fold_in",
    "follow_factorization",
    "follow_statistics",
    "gather_past",
    "gather_seen",
    "gram_rows",
    "habits_of_pairs",
    "habits_of_users",
    "latest_events",
    "link_pairs",
    "nearest_items",
    "online_pass",
    "pairs_of_users",
    "sgd_epoch",
    "spread",
    "update_topk",
]
