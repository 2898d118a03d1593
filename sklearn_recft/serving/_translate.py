"""Between messages and the loop: events, items, ids of paths, answers in JSON, and errors."""

import itertools
import math
import secrets
from collections.abc import Awaitable, Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

from sklearn.exceptions import NotFittedError

from sklearn_recft.loop import Event, QueueFullError, ServingError
from sklearn_recft.serving import _messages as messages
from sklearn_recft.serving._problems import Problem

_INTEGERS = 2**63


def problem_of(error: BaseException) -> Problem:
    """Return the problem for an error of the loop; an unknown error is raised again."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, QueueFullError):
        return Problem("queue-full", "Send the request again later.", retry_after=1)
    if isinstance(error, ServingError):
        return Problem("not-ready", "The store or the loop cannot do this now.", retry_after=5)
    if isinstance(error, OSError):
        return Problem("not-ready", "The disk cannot do this now.", retry_after=5)
    if isinstance(error, NotFittedError):
        return Problem("not-ready", "The model has learned no event yet.", retry_after=1)
    if isinstance(error, (TypeError, ValueError)):
        return Problem("invalid", str(error))
    raise error


async def as_problems(answer: Awaitable[Any]) -> Any:
    """Wait for an answer; errors of the loop become problems."""
    try:
        return await answer
    except (Problem, ServingError, OSError, TypeError, ValueError) as error:
        raise problem_of(error) from error


# Ids of events without one: counted, because a random number for each gives up the thread's turn.
_PREFIX, _COUNTER = secrets.token_hex(12), itertools.count()


def stored_event(event: messages.NewEvent) -> Event:
    """Return an event as the store takes it."""
    return Event(
        event.event_id or f"{_PREFIX}-{next(_COUNTER):x}",
        event.user_id,
        event.item_id,
        event.timestamp,
        event.kind,
        event.value,
        event.list_id,
        event.context or {},
    )


def stored_item(item: messages.NewItem) -> dict[str, Any]:
    """Return a new item as the loop takes it."""
    found = {name: value for name, value in item.__dict__.items() if value is not None}
    features = found.pop("features", {})
    both = sorted(features.keys() & {"item_id", "text", "embedding"})
    if both:
        raise Problem("invalid", f"features: give {both} beside the features, not in them.")
    return {**found, **features}


def id_of_path(text: str, id_type: str | None) -> int | str:
    """Return the id that a path holds."""
    digits = text.removeprefix("-")
    is_number = digits.isascii() and digits.isdigit() and len(digits) < 20
    if id_type is None and is_number:
        raise Problem("invalid", "The id looks like an integer: add ?id_type=integer or =string.")
    if id_type != "integer":
        return text
    if not is_number or not -_INTEGERS <= int(text) < _INTEGERS:
        raise Problem("invalid", "The id is no integer of 64 bits.")
    return int(text)


def finite(value: Any) -> Any:
    """Return a value, or None for an infinity or NaN, which JSON does not have."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def plain(value: Any) -> Any:
    """Return receipts and exports as JSON holds them."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return finite(value.item() if hasattr(value, "item") else value)
