"""What is remembered of the past in bounded memory: events, who saw what, trends, a sample."""

from sklearn_recft.history._events import EventHistory, log_windows
from sklearn_recft.history._feedback import FeedbackMatrix, fade_by_order
from sklearn_recft.history._reservoir import Reservoir
from sklearn_recft.history._seen import SeenItems
from sklearn_recft.history._trends import Trends

__all__ = [
    "EventHistory",
    "FeedbackMatrix",
    "Reservoir",
    "SeenItems",
    "Trends",
    "fade_by_order",
    "log_windows",
]
