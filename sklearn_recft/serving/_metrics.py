"""Metrics for Prometheus: requests, events, and the figures of quality, with bounded labels."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prometheus_client.core import GaugeMetricFamily

# Gauges that are read when they are scraped: name, what it is, key of the figures, label.
GAUGES: tuple[tuple[str, str, Mapping[str, str]], ...] = (
    (
        "prequential_loss",
        "Loss of predictions before each event was learned",
        {"all": "loss", "recent": "loss_recent", "usual": "loss_usual"},
    ),
    ("drift", "Recent loss divided by the usual loss", {"": "drift"}),
    ("calibration_gap", "Distance between predictions and feedback", {"": "calibration_gap"}),
    (
        "unknown_share",
        "Share of recent events with an unknown id",
        {"users": "unknown_users", "items": "unknown_items"},
    ),
    ("shown_lists", "Newest lists that the next figures are of", {"": "n_lists"}),
    ("hit_rate", "Share of shown lists of which an item was taken", {"": "hit_rate"}),
    ("ndcg", "NDCG of shown lists of which an item was taken", {"": "ndcg"}),
    ("shown_coverage", "Share of the catalogue in shown lists", {"": "coverage"}),
    ("shown_gini", "Gini index of the items in shown lists", {"": "gini"}),
    ("seq", "Last event that the model has learned", {"": "seq"}),
    ("seq_lag", "Events that are stored and not learned yet", {"": "lag"}),
    (
        "queue_depth",
        "Requests that wait for the store or the model",
        {"events": "waiting_events", "reads": "waiting_reads"},
    ),
    ("snapshot_age_seconds", "Seconds since the model was saved", {"": "snapshot_age"}),
    ("rejected_events", "Events that the model refused", {"": "rejected"}),
    ("forget_pending", "Users that are still to be erased after a failure", {"": "forget_pending"}),
    (
        "guard_decisions",
        "Verdicts of the guard on the last 20 updates",
        {"roll back": "guard_refused", "promote": "guard_promoted"},
    ),
    ("ready", "1 if the service is ready", {"": "ready"}),
)
_LABELS = {
    "prequential_loss": "window",
    "unknown_share": "of",
    "queue_depth": "of",
    "guard_decisions": "verdict",
}
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
OUTCOMES = ("accepted", "duplicate", "refused")


class Metrics:
    """Registry of one service.

    Labels are routes, statuses and kinds of events that the service knows, never ids. So the
    number of time series does not grow.

    Parameters
    ----------
    kinds : iterable of str
        Known kinds of events; others are counted as "other".
    figures : callable
        Returns all figures by name when they are scraped; a figure that is absent or NaN is left
        out.
    """

    def __init__(self, kinds: Iterable[str], figures: Callable[[], Mapping[str, float]]) -> None:
        try:
            from prometheus_client import CollectorRegistry, Counter, Histogram
        except ImportError as error:
            raise ImportError(
                "The service needs prometheus-client: pip install 'sklearn-recft[serve]'"
            ) from error
        self._figures = figures
        self._kinds = frozenset(kinds)
        self._lock = threading.Lock()
        self._registry = CollectorRegistry()
        own: Any = {"registry": self._registry}
        self._parents: dict[str, Any] = {
            "requests": Counter("recft_requests", "Requests", ["route", "status"], **own),
            "seconds": Histogram(
                "recft_request_seconds", "Duration of requests", ["route"], buckets=_BUCKETS, **own
            ),
            "events": Counter("recft_events", "Events by kind", ["kind", "outcome"], **own),
        }
        self._known: dict[tuple[str, ...], Any] = {}
        self._registry.register(_Gauges(figures))

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        self._child("requests", route, str(status)).inc()
        self._child("seconds", route).observe(seconds)

    def events(self, kind: str, outcome: str, n: int = 1) -> None:
        """Count events of a kind: "accepted", "duplicate" or "refused"."""
        self._child("events", kind if kind in self._kinds else "other", outcome).inc(n)

    def text(self) -> tuple[bytes, str]:
        """Return the page for Prometheus, and its content type."""
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    def _child(self, metric: str, *labels: str) -> Any:
        """Return one time series; looking it up by itself takes longer than counting."""
        child = self._known.get((metric, *labels))
        if child is None:
            with self._lock:
                child = self._parents[metric].labels(*labels)
                self._known[(metric, *labels)] = child
        return child


class _Gauges:
    """Collector of the figures that are computed when they are scraped."""

    def __init__(self, figures: Callable[[], Mapping[str, float]]) -> None:
        self._figures = figures

    def describe(self) -> list[GaugeMetricFamily]:
        """Return no names: they would be computed before the service runs."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield all gauges that are defined now."""
        from prometheus_client.core import GaugeMetricFamily

        figures = self._figures()
        for name, about, keys in GAUGES:
            labels = [_LABELS[name]] if name in _LABELS else []
            family = GaugeMetricFamily(f"recft_{name}", about, labels=labels)
            for label, key in keys.items():
                value = figures.get(key, math.nan)
                if not math.isnan(value):
                    family.add_metric([label] if labels else [], value)
            if family.samples:
                yield family
