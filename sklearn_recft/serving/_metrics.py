"""Metrics for Prometheus: requests, events, and the figures of quality, with bounded labels."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client.core import GaugeMetricFamily, Metric

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
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
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
            from prometheus_client import CollectorRegistry
        except ImportError as error:
            raise ImportError(
                "The service needs prometheus-client: pip install 'sklearn-recft[serve]'"
            ) from error
        self._kinds = frozenset(kinds)
        self._counts = _Counts()
        self._registry = CollectorRegistry()
        self._registry.register(self._counts)
        self._registry.register(_Gauges(figures))

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count one request. Call this and `events` in one thread, that of the event loop."""
        counts = self._counts
        counts.requests[route, status] += 1
        own = counts.durations[route]
        own.n_by_bucket[bisect_left(_BUCKETS, seconds)] += 1
        own.seconds += seconds

    def events(self, kind: str, outcome: str, n: int = 1) -> None:
        """Count events of a kind: "accepted", "duplicate" or "refused"."""
        self._counts.events[kind if kind in self._kinds else "other", outcome] += n

    def text(self) -> tuple[bytes, str]:
        """Return the page for Prometheus, and its content type."""
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        return generate_latest(self._registry), CONTENT_TYPE_LATEST


class _Durations:
    """How many requests took how long, by bucket, and their sum in seconds."""

    def __init__(self) -> None:
        self.n_by_bucket = [0] * (len(_BUCKETS) + 1)
        self.seconds = 0.0


class _Counts:
    """Collector of what is counted with each request.

    One thread counts, and another one copies: so neither takes a lock, which would take longer than
    to count.
    """

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.events: Counter[tuple[str, str]] = Counter()
        self.durations: defaultdict[str, _Durations] = defaultdict(_Durations)

    def collect(self) -> Iterator[Metric]:
        """Yield all counters, and the durations of requests."""
        from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

        requests = CounterMetricFamily("recft_requests", "Requests", labels=["route", "status"])
        for (route, status), n in self.requests.copy().items():
            requests.add_metric([route, str(status)], n)
        seconds = HistogramMetricFamily(
            "recft_request_seconds", "Duration of requests", labels=["route"]
        )
        bounds = [*map(str, _BUCKETS), "+Inf"]
        for route, own in self.durations.copy().items():
            upto = accumulate(own.n_by_bucket.copy())
            seconds.add_metric([route], list(zip(bounds, upto, strict=True)), own.seconds)
        events = CounterMetricFamily("recft_events", "Events by kind", labels=["kind", "outcome"])
        for labels, n in self.events.copy().items():
            events.add_metric(labels, n)
        yield from (requests, seconds, events)


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
