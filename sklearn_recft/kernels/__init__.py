"""Compiled loops over NumPy arrays: the only package that imports numba.

Kernels start no threads. All but those of single events release the interpreter lock; callers may
split the rows and run the parts in parallel. Tables are updated in place, and those of torch
modules share memory with the parameters. Loops are written out, because a helper function that
takes one array view per row halves the speed.
"""

from sklearn_recft.kernels._als import als_rows
from sklearn_recft.kernels._bayesian import add_moments, gaussian_posteriors, score_moments
from sklearn_recft.kernels._blend import (
    blend_features,
    context_features,
    gather_pool,
    learn_blend,
    rank_tile,
    spread_pool,
    weigh_pool,
)
from sklearn_recft.kernels._compact import expand_bfloat16, expand_int8, int8_products
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
from sklearn_recft.kernels._lookup import look_up, look_up_gradients
from sklearn_recft.kernels._mixture import FAST_WEIGHT, N_BLOCKS, N_STATE, mix_pass
from sklearn_recft.kernels._scan import quantize_rows, scan_rows
from sklearn_recft.kernels._similarity import (
    follow_items,
    gram_rows,
    mark_largest,
    nearest_items,
    spread,
)
from sklearn_recft.kernels._single_event import (
    EventScratch,
    EventTables,
    learn_event,
    undo_event,
)
from sklearn_recft.kernels._softmax import (
    draw_negatives,
    softmax_epoch,
    softmax_pass,
    softmax_states,
)
from sklearn_recft.kernels._streams import (
    ITEM_STATISTICS,
    N_SCORES,
    N_STATISTICS,
    USER_STATISTICS,
    transform_factorization,
    transform_statistics,
    update_factorization,
    update_statistics,
)
from sklearn_recft.kernels._sums import (
    GAPS,
    TIMES,
    add_keys,
    cross_lists,
    find_keys,
    link_keys,
    transform_sums,
    update_sums,
)
from sklearn_recft.kernels._topk import gather_seen, update_topk, update_topk_among

__all__ = [
    "EXPOSURE_UNIT",
    "FAST_WEIGHT",
    "GAPS",
    "ITEM_STATISTICS",
    "LOG_LOSS",
    "N_BLOCKS",
    "N_SCORES",
    "N_STATE",
    "N_STATISTICS",
    "SQUARED_ERROR",
    "TIMES",
    "USER_STATISTICS",
    "EventScratch",
    "EventTables",
    "add_keys",
    "add_moments",
    "add_to_tile",
    "als_rows",
    "blend_features",
    "bpr_pass",
    "context_features",
    "count_habits",
    "count_past",
    "cross_lists",
    "draw_negatives",
    "expand_bfloat16",
    "expand_int8",
    "find_keys",
    "fold_in",
    "follow_items",
    "gather_past",
    "gather_pool",
    "gather_seen",
    "gaussian_posteriors",
    "gram_rows",
    "habits_of_pairs",
    "habits_of_users",
    "int8_products",
    "latest_events",
    "learn_blend",
    "learn_event",
    "link_keys",
    "link_pairs",
    "look_up",
    "look_up_gradients",
    "mark_largest",
    "mix_pass",
    "nearest_items",
    "online_pass",
    "pairs_of_users",
    "quantize_rows",
    "rank_tile",
    "scan_rows",
    "score_moments",
    "sgd_epoch",
    "softmax_epoch",
    "softmax_pass",
    "softmax_states",
    "spread",
    "spread_pool",
    "transform_factorization",
    "transform_statistics",
    "transform_sums",
    "undo_event",
    "update_factorization",
    "update_statistics",
    "update_sums",
    "update_topk",
    "update_topk_among",
    "weigh_pool",
]
