"""Past events in bounded memory: histories, seen items, feedback sums, trends, a sample."""

from sklearn_recft.history._events import EventHistory
from sklearn_recft.history._feedback import FeedbackMatrix, decay_by_order
from sklearn_recft.history._habits import Habits
from sklearn_recft.history._log import link, without
from sklearn_recft.history._pair_sums import PairSums
from sklearn_recft.history._reservoir import Reservoir
from sklearn_recft.history._seen import SeenItems
from sklearn_recft.history._trends import Trends
from sklearn_recft.history._windows import (
    Past,
    Spans,
    in_order,
    log_windows,
    past_at,
    past_in,
    sequences_of,
    training_windows,
    windows_before,
    windows_of_last,
)

__all__ = [
    "EventHistory",
    "FeedbackMatrix",
    "Habits",
    "PairSums",
    "Past",
    "Reservoir",
    "SeenItems",
    "Spans",
    "Trends",
    "decay_by_order",
    "in_order",
    "link",
    "log_windows",
    "past_at",
    "past_in",
    "sequences_of",
    "training_windows",
    "windows_before",
    "windows_of_last",
    "without",
]
