"""Quality over time: figures at steps of time since the start, in a memory that does not grow."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from sklearn_recft.loop import ServingError

log = logging.getLogger("sklearn_recft.serving")

# Seconds between two points at first.
_SECONDS = 15.0
_N_POINTS = 240


class Watched(Protocol):
    """What has figures at any time."""

    @property
    def model(self) -> str:
        """Name of the model in use."""

    @property
    def gives_reasons(self) -> bool:
        """Whether the model explains its lists."""

    @property
    def quality(self) -> Any:
        """The monitor, with the name of its ``metric``."""

    def figures(self) -> dict[str, float]:
        """Return all figures by name."""


class History:
    """Points of all figures. A full history drops every second point, and waits twice as long.

    Parameters
    ----------
    watch : Watch
    seconds : float, default=15
        Time between two points at first.
    n_points : int, default=240
        Largest number of points.
    clock : callable, default=time.time
    """

    def __init__(
        self,
        watch: Watched,
        seconds: float = _SECONDS,
        n_points: int = _N_POINTS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._watch = watch
        self.seconds = seconds
        self._n_points = n_points
        self._clock = clock
        self._lock = threading.Lock()
        self._points: list[tuple[float, str, dict[str, float]]] = []

    def add(self) -> None:
        """Add a point of now."""
        point = self._now()
        with self._lock:
            self._points.append(point)
            if len(self._points) >= self._n_points:
                self._points = self._points[1::2]
                self.seconds *= 2

    def document(self) -> dict[str, Any]:
        """Return all points and one of now, by column."""
        now = self._now()
        with self._lock:
            points = [*self._points, now]
        return {
            "metric": self._watch.quality.metric,
            "time": [one[0] for one in points],
            "model": [one[1] for one in points],
            "reasons": self._watch.gives_reasons,
            "figures": {name: [_or_none(one[2].get(name)) for one in points] for name in now[2]},
        }

    async def run(self) -> None:
        """Add points until this task is cancelled; a point that cannot be made is left out."""
        while True:
            await asyncio.sleep(self.seconds)
            try:
                await asyncio.to_thread(self.add)
            except (ServingError, ValueError) as error:
                log.warning("no figures: %s", type(error).__name__)

    def _now(self) -> tuple[float, str, dict[str, float]]:
        return self._clock(), self._watch.model, self._watch.figures()


def _or_none(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 6)
