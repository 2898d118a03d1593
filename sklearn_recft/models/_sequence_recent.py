"""States of the events of recent users, kept from one list to the next."""

from __future__ import annotations

from dataclasses import dataclass
from threading import RLock
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from sklearn_recft.events import Events, Interactions
from sklearn_recft.models._sequence_network import SequenceSettings
from sklearn_recft.models._sequence_queries import Queries
from sklearn_recft.models._sequence_search import SequenceSearch
from sklearn_recft.modules import SequenceNet
from sklearn_recft.parallel import torch_threads

_MAX_BYTES = 128 * 2**20  # about 1,100 users with 200 events of width 128
_ENTRY_BYTES = 500  # overhead of an entry: array headers and dict slot
_STARTS = 4  # how many equal events are tried as the one that the log now begins with


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

    def of(self, events: np.ndarray, first: int, reach: int) -> Tensor:
        """Return the states (1, m, d) of ``events`` from ``first`` on, as far as they are known.

        Parameters
        ----------
        events : ndarray of shape (n, 3)
            The user's events now. Older ones may have been dropped, and others inserted.
        first : int
        reach : int
            How many events before it the state of an event depends on, and on the time of one more.
        """
        starts = np.flatnonzero((self.events == events[0]).all(1))[:_STARTS].tolist()
        same = [_n_same(self.events[start:], events) for start in starts]
        n_same = max(same, default=0)
        n_dropped = starts[same.index(n_same)] if n_same else 0
        begin = first + n_dropped - (len(self.events) - self.states.shape[1])
        # An event that has lost some of those before it has another state now.
        if n_same <= first or begin < 0 or (n_dropped and first <= reach):
            return self.states[:, :0]
        return self.states[:, begin : begin + n_same - first]


def _n_same(one: np.ndarray, other: np.ndarray) -> int:
    """Return how many of the first rows are equal."""
    n = min(len(one), len(other))
    differs = (one[:n] != other[:n]).any(1)
    return int(differs.argmax()) if differs.any() else n


class StateCache:
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
            self.n_bytes += known.nbytes  # first: an interrupt may leave too many, never too few
            old = self._known.pop(user, None)
            self._known[user] = known
            if old is not None:
                self.n_bytes -= old.nbytes
            while self._known and self.n_bytes > self.max_bytes:
                self.n_bytes -= self._known.pop(next(iter(self._known))).nbytes
            if not self._known:
                self.n_bytes = 0


class SequenceLists(SequenceSearch):
    """What the sequence model keeps from one list of a user to the next.

    Attributes
    ----------
    recent : StateCache
        Computed with the weights of now.
    """

    _DERIVED: ClassVar[tuple[str, ...]] = ("recent",)

    def __init__(self, rows: Interactions, settings: SequenceSettings) -> None:
        super().__init__(rows, settings)
        self.recent = StateCache()

    def _derive(self) -> None:
        super()._derive()
        self.recent = StateCache()

    def forget(self, users: np.ndarray) -> None:
        """Remove all rows of ``users`` (codes), and what lists have computed of them."""
        super().forget(users)
        self.recent = StateCache()

    def _states_of(self, users: np.ndarray, log: Events, queries: Queries) -> np.ndarray:
        """Return the states of queries; those of a single user's events are kept for the next."""
        if len(users) > 1 or not queries.n_before.any():
            return self._states(log, queries)
        table, (user,) = self.network.catalogue, users.tolist()
        return state_of_one(self.module, table, log, queries, self.recent, user)


@torch.no_grad()
def state_of_one(
    module: SequenceNet,
    table: Tensor,
    log: Events,
    queries: Queries,
    recent: StateCache,
    user: int,
) -> np.ndarray:
    """Compute the state (1, d + 2 c) of one query, with what is known of its user's events.

    It is that of `states_of`, which computes all of them. The query sees at least one event.
    """
    rows = slice(queries.start[0], queries.start[0] + queries.n_before[0])
    item, feedback, time = log.item[rows].astype(np.int64), log.feedback[rows], log.time[rows]
    events = np.stack([item, feedback, time], axis=1)  # (n, 3)
    n = len(events)
    first, reach = max(0, n - module.depth), (len(module.stack) - 1) * (module.depth - 1)
    known = recent.get(user)
    with torch_threads(1):
        items, feedbacks, times, query_time, context = (
            torch.from_numpy(column[None]).to(table.device)
            for column in (item, feedback, time, queries.time.copy(), queries.context)
        )
        none = torch.empty((1, 0, module.width), dtype=torch.float32, device=table.device)
        states = none if known is None else known.of(events, first, reach)
        n_known = first + states.shape[1]
        if n_known < n:
            begin = max(0, n_known - reach - 1)
            given = items[:, begin:], feedbacks[:, begin:], times[:, begin:]
            new = module.event_states(table, *given, first=n_known - begin)[..., : module.width]
            states = torch.cat([states, new], 1)
            recent.put(user, KnownStates(events, states))
        if module.content is not None:
            texts = table.index_select(0, items[0, first:])[None, :, module.width :]
            states = torch.cat([states, texts[..., : module.item_texts.shape[1]]], 2)
        n_before = torch.full((1, 1), n - first, device=table.device)
        answers = module.query_states(states, times[:, first:], n_before, query_time, context)
        found: np.ndarray = answers[0].float().numpy(force=True)
    return found
