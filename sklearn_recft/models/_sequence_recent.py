"""States of the events of recent users, kept from one list to the next."""

from __future__ import annotations

from dataclasses import dataclass
from threading import RLock

import numpy as np
import torch
from torch import Tensor

from sklearn_recft.events import Events
from sklearn_recft.models._sequence_queries import Queries
from sklearn_recft.modules import SequenceNet
from sklearn_recft.parallel import torch_threads

_MAX_BYTES = 128 * 2**20  # about 1,100 users with 200 events of width 128
_ENTRY_BYTES = 500  # overhead of an entry: array headers and dict slot
_SHIFTS = 4  # how many events are tried as the one that a longer log now begins with


@dataclass(frozen=True)
class KnownStates:
    """States of a user's newest events, and the events that they were computed from.

    Attributes
    ----------
    events : ndarray of shape (n, 3), float64
        Item, feedback and time of each event, in order.
    states : Tensor of shape (1, m, d)
        States of the last m of them.
    """

    events: np.ndarray
    states: Tensor

    @property
    def nbytes(self) -> int:
        """Bytes of the entry."""
        return self.events.nbytes + self.states.nbytes + _ENTRY_BYTES

    def of(self, events: np.ndarray, first: int, reach: int) -> Tensor | None:
        """Return the states (1, m, d) of ``events`` from ``first`` on, as far as they are known.

        Parameters
        ----------
        events : ndarray of shape (n, 3)
            The user's events now. Older ones may have been dropped, and others inserted.
        first : int
        reach : int
            How many events before it the state of an event depends on, and on the time of one more.

        Returns
        -------
        Tensor or None
            None if none are known.
        """
        starts = np.flatnonzero((self.events == events[0]).all(1))[:_SHIFTS]
        n_same, shift = max(((_n_same(self.events[s:], events), -s) for s in starts), default=(0, 0))
        begin = first - shift - (len(self.events) - self.states.shape[1])
        # An event that has lost some of those before it has another state now.
        if n_same <= first or begin < 0 or (shift and first <= reach):
            return None
        return self.states[:, begin : begin + n_same - first]


def _n_same(one: np.ndarray, other: np.ndarray) -> int:
    """Return how many of the first rows are equal."""
    n = min(len(one), len(other))
    differs = (one[:n] != other[:n]).any(1)
    return int(differs.argmax()) if differs.any() else n


class RecentStates:
    """Cache of `KnownStates` by user, with a limit in bytes; the least recently used go first.

    Results do not depend on it, up to rounding: it compares events before it gives their states.
    Whoever changes weights begins a new one. Several threads may use it at the same time.
    """

    def __init__(self, max_bytes: int = _MAX_BYTES) -> None:
        self.max_bytes = max_bytes
        self.n_bytes = 0
        self._known: dict[int, KnownStates] = {}  # least recently used first
        # Reentrant: an interrupt during the release must not deadlock its own thread.
        self._lock = RLock()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, user: int) -> KnownStates | None:
        """Return what is known of a user (code)."""
        with self._lock:
            known = self._known.pop(user, None)
            if known is not None:
                self._known[user] = known
            return known

    def put(self, user: int, known: KnownStates) -> None:
        """Replace what is known of a user, and drop others while there is too much."""
        with self._lock:
            old = self._known.pop(user, None)
            self._known[user] = known
            self.n_bytes += known.nbytes - (0 if old is None else old.nbytes)
            while self.n_bytes > self.max_bytes:
                self.n_bytes -= self._known.pop(next(iter(self._known))).nbytes


@torch.no_grad()
def state_of_one(
    module: SequenceNet, table: Tensor, log: Events, queries: Queries, user: int,
    recent: RecentStates,
) -> np.ndarray:  # fmt: skip
    """Compute the state (1, d + 2 c) of one query, with what is known of its user's events.

    It is that of `states_of`, which computes all of them. The query sees at least one event.
    """
    rows = slice(queries.start[0], queries.start[0] + queries.n_before[0])
    events = np.stack([log.item[rows], log.feedback[rows], log.time[rows]], axis=1)  # (n, 3)
    n = len(events)
    first, reach = max(0, n - module.depth), module.reach
    with torch_threads(1):
        item, feedback, time = (
            torch.from_numpy(column[rows][None]).to(table.device)
            for column in (log.item.astype(np.int64), log.feedback, log.time)
        )
        known = recent.get(user)
        states = None if known is None else known.of(events, first, reach)
        n_known = first if states is None else first + states.shape[1]
        if n_known < n:
            begin = max(0, n_known - reach - 1)
            new = module.event_states(
                table, item[:, begin:], feedback[:, begin:], time[:, begin:], first=n_known - begin
            )[..., : module.width]
            states = new.clone() if states is None else torch.cat([states, new], 1)
            recent.put(user, KnownStates(events, states))
        seen = module.with_texts(states, table, item[:, first:])
        query_time, context = (
            torch.from_numpy(np.array(column[None])).to(table.device)  # the caller's is read-only
            for column in (queries.time, queries.context)
        )
        n_before = torch.full((1, 1), n - first, device=table.device)
        answers = module.query_states(seen, time[:, first:], n_before, query_time, context)
        found: np.ndarray = answers[0].float().numpy(force=True)
    return found
