"""Limits of a service: sizes of requests, and rates of each key."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from sklearn_recft.serving._keys import SCOPES


@dataclass(frozen=True)
class Limits:
    """Limits of the requests to a service.

    Attributes
    ----------
    max_body : int, default=1048576
        Bytes of a request.
    max_events, max_users, max_items : int, default=1000
        Events of one request; users or queries of one request; items of one list, of
        ``candidates``, ``exclude`` or ``PUT /v1/items``.
    max_waiting : int, default=1024
        Requests that wait for the model or for the store. Others are answered with 429.
    rates : mapping of str to str, default={}
        Requests of one key for each scope, such as ``{"events:write": "100/second"}``, in the
        notation of the package ``limits``. A scope that is not named has no limit.

    Examples
    --------
    >>> from sklearn_recft.serving import Limits
    >>> Limits(max_events=100, rates={"recommend:read": "50/second"}).max_events
    100
    """

    max_body: int = 1 << 20
    max_events: int = 1000
    max_users: int = 1000
    max_items: int = 1000
    max_waiting: int = 1024
    rates: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("max_body", "max_events", "max_users", "max_items", "max_waiting"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be an integer of at least 1, got {value!r}.")
        unknown = [scope for scope in self.rates if scope not in SCOPES]
        if unknown:
            raise ValueError(f"rates: scopes must be among {list(SCOPES)}, got {unknown}.")


class RateLimiter:
    """Counter of the requests of each key and scope, over a moving window.

    Parameters
    ----------
    rates : mapping of str to str
        As in `Limits`.
    """

    def __init__(self, rates: Mapping[str, str]) -> None:
        self._rates = {}
        if rates:
            from limits import parse
            from limits.storage import MemoryStorage
            from limits.strategies import MovingWindowRateLimiter

            self._limiter = MovingWindowRateLimiter(MemoryStorage())
            self._rates = {scope: parse(rate) for scope, rate in rates.items()}

    def wait_of(self, who: str, scope: str) -> int:
        """Count a request; return 0, or the seconds after which to try again."""
        rate = self._rates.get(scope)
        if rate is None or self._limiter.hit(rate, scope, who):
            return 0
        reset = self._limiter.get_window_stats(rate, scope, who).reset_time
        return max(1, math.ceil(reset - time.time()))
