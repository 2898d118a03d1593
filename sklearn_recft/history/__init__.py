"""What is remembered of past events, in bounded memory: who saw what, when, and a fair sample."""

from sklearn_recft.history._events import EventHistory, log_windows
from sklearn_recft.history._feedback import FeedbackMatrix, fade_by_order
from sklearn_recft.history._reservoir import Reservoir
from sklearn_recft.history._seen import SeenItems

__all__ = [
    "EventHistory",
    "FeedbackMatrix",
    "Reservoir",
    "SeenItems",
    "fade_by_order",
    "log_windows",
]
