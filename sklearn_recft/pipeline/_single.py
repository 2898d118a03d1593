"""One event a call, where no step has to transform it."""

from __future__ import annotations

from typing import Any

from sklearn_recft.event_stream import EventStream


def stream_of(steps: list[tuple[str, Any]]) -> EventStream:
    """Return the stream of the last step; raise if a step before it transforms tables."""
    *fronts, (name, last) = steps
    active = [front for front, step in fronts if step not in (None, "passthrough")]
    if active:
        raise ValueError(
            f"stream: the steps {active} read tables, and to make a table for each event takes "
            "longer than all else. Pass rows to partial_fit and predict; or, if these steps "
            f"leave ids and context as they are, use the stream of the last step, {name!r}."
        )
    events: EventStream = last.stream()
    return events
