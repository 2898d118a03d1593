"""Decayed popularity of items at the start of each period."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import numpy as np

from sklearn_recft.columns import SECONDS_PER_DAY

_PRIOR = 100.0  # pseudo-events with the shares of the next longer half-life
_PERIODS_OF_A_LOG, _LOG_BYTES = 256, 2**27
_N_PERIODS = 512  # number of periods with separate counts; older ones are summed

Counts = tuple[np.ndarray, np.ndarray]  # item codes and their counts
State = tuple[int, np.ndarray]  # a period, and the decayed counts (n_half_lives, n) at its start


class Trends:
    """Shares of items in the events of all users, with exponential decay at several half-lives.

    At the start b of a period, the decayed count of item i at half-life k is ``s_ki = sum_e 2^(-(b
    - b_e) / half_life_k)``. The sum is over the item's events of earlier periods, and ``b_e`` is
    the end of the event's period. Shares are in percent. The next longer half-life is their prior,
    with the weight of 100 events: ``p_ki = 100 (s_ki + p_(k+1)i) / (sum_j s_kj + 100)``. The prior
    of the longest half-life is 1 for every item.

    The shares of a period do not depend on events of the period itself. They are bitwise equal for
    any order of the earlier events, and for any split into calls. Objects are immutable: `after`
    returns a new object that shares unchanged parts.

    Parameters
    ----------
    half_lives : sequence of float
        Days, ascending; inf disables the decay.
    period : float
        Length of a period in seconds; periods start at multiples of it.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_recft.history import Trends
    >>> trends = Trends([1.0], period=86_400.0)
    >>> trends = trends.after(np.array([0, 0, 1]), np.array([10.0, 20.0, 90_000.0]), n_items=2)
    >>> places, known = trends.known_at(np.array([30.0, 86_400.0, 172_800.0]), n_items=2)
    >>> places.tolist(), np.exp(known[:, 0, :2].astype(float)).round(2).tolist()
    ([0, 1, 2], [[1.0, 1.0], [2.94, 0.98], [1.96, 1.96]])
    """

    def __init__(self, half_lives: Sequence[float], period: float) -> None:
        self.half_lives, self.period = tuple(half_lives), period
        self._decay = np.exp2(-period / (SECONDS_PER_DAY * np.array(half_lives)))[:, None]
        self._counts: dict[int, Counts] = {}  # by period with events, ascending
        self._base: State | None = None  # sum of the older periods
        self._cache = _Cache()

    @classmethod
    def for_log(cls, half_lives: Sequence[float], times: np.ndarray, n_items: int) -> Trends:
        """Return trends without events, with a period length suitable for a log.

        The log is split into 256 periods of at most one day. There are fewer periods if 256 of
        them would need more than 128 MiB.

        Parameters
        ----------
        half_lives : sequence of float
            Days, ascending.
        times : ndarray of shape (n,)
            Seconds of the events of the log.
        n_items : int
        """
        span = float(np.ptp(times)) or SECONDS_PER_DAY
        size = 4 * (n_items + 1) * len(half_lives)  # bytes of a period
        period = min(span / _PERIODS_OF_A_LOG, SECONDS_PER_DAY)
        return cls(half_lives, max(period, span * size / _LOG_BYTES))

    def after(self, items: np.ndarray, times: np.ndarray, n_items: int) -> Trends:
        """Return the trends with further events.

        Parameters
        ----------
        items : ndarray of shape (n,)
            Codes below ``n_items``.
        times : ndarray of shape (n,)
            Seconds. Events before the newest 512 periods are counted in the oldest of these.
        n_items : int
        """
        if not len(items) or not self.half_lives:
            return self
        new = object.__new__(Trends)
        vars(new).update(vars(self))
        periods = self._period_of(times)
        if self._base is not None:
            periods = np.maximum(periods, self._base[0])
        order = np.argsort(periods, kind="stable")
        found, begin = np.unique(periods[order], return_index=True)
        new._counts = self._counts.copy()
        for period, codes in zip(found.tolist(), np.split(items[order], begin[1:]), strict=True):
            new._counts[period] = _added(self._counts.get(period), codes, n_items)
        if self._counts and found[0] < next(reversed(self._counts)):
            new._counts = dict(sorted(new._counts.items()))
        while len(new._counts) > _N_PERIODS:
            oldest = next(iter(new._counts))
            new._base = new._advance(new._start(), oldest, n_items)
            del new._counts[oldest]
        new._cache = self._cache.until(int(found[0]))
        return new

    def known_at(self, times: np.ndarray, n_items: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the log-shares at the start of the period of each time.

        Parameters
        ----------
        times : ndarray of shape (n,)
            Seconds.
        n_items : int

        Returns
        -------
        places : ndarray of shape (n,), int64
            Index in ``shares`` of each time.
        shares : ndarray of shape (n_periods, n_half_lives, n_items + 1), float32
            ``log(p_ki)`` at the start of each distinct period. The last item stands for items
            without events. All values are 0 before the first event.
        """
        wanted, places = np.unique(self._period_of(times), return_inverse=True)
        last_state, cached = self._cache.last_state, self._cache.shares
        fits = cached is not None and cached[1].shape[2] == n_items + 1
        if cached is not None and fits and wanted.tolist() == [cached[0]]:
            return places, cached[1]
        shares = np.zeros((len(wanted), len(self.half_lives), n_items + 1), np.float32)
        periods = list(self._counts)
        if not periods or not len(wanted):
            return places, shares
        state = self._start()
        if last_state is not None and state[0] <= last_state[0] <= wanted[0]:
            state = last_state
        nth = bisect_left(periods, state[0])
        for row, period in enumerate(wanted.tolist()):
            while nth < len(periods) and periods[nth] < period:
                state = self._advance(state, periods[nth], n_items)
                nth += 1
            if period >= state[0]:
                shares[row] = _log_shares(self._decayed(state, period), n_items)
        self._cache.last_state = state
        if len(wanted) == 1:
            self._cache.shares = int(wanted[0]), shares
        return places, shares

    def mark(self) -> None:
        """Return None: trends never change in place."""

    def restore(self, mark: None) -> None:
        """Do nothing: trends never change in place."""

    def state(self) -> dict[str, Any]:
        """Return the counts of each period, and the sum of older periods."""
        codes = [codes for codes, _ in self._counts.values()]
        counts = [count for _, count in self._counts.values()]
        nothing = np.zeros((len(self.half_lives), 0))
        period, left = self._base or (None, nothing)
        return {
            "half_lives": self.half_lives,
            "period": self.period,
            "periods": np.array(list(self._counts), np.int64),
            "sizes": np.array([len(c) for c in codes], np.int64),
            "item": np.concatenate([np.empty(0, np.int32), *codes]),
            "count": np.concatenate([np.empty(0, np.int32), *counts]),
            "base_period": period,
            "base": left,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Load what `state` returned."""
        self.__init__(state["half_lives"], state["period"])  # type: ignore[misc]
        cuts = np.cumsum(state["sizes"])[:-1]
        parts = zip(np.split(state["item"], cuts), np.split(state["count"], cuts), strict=True)
        self._counts = dict(zip(state["periods"].tolist(), parts, strict=False))
        if state["base_period"] is not None:
            self._base = state["base_period"], state["base"]

    def forget(self, users: np.ndarray) -> None:
        """Do nothing: counts are not stored per user."""

    def _period_of(self, times: np.ndarray) -> np.ndarray:
        return np.floor(times / self.period).astype(np.int64)

    def _start(self) -> State:
        """Return the state before the first period with separate counts."""
        nothing = np.zeros((len(self.half_lives), 0))
        return self._base or (next(iter(self._counts)), nothing)

    def _decayed(self, state: State, period: int) -> np.ndarray:
        """Decay the counts of a state to the start of a later period."""
        return state[1] * self._decay ** (period - state[0])

    def _advance(self, state: State, period: int, n_items: int) -> State:
        """Advance a state to the end of a period with events."""
        before = self._decayed(state, period) * self._decay
        after = np.zeros((len(before), n_items))
        after[:, : before.shape[1]] = before
        codes, count = self._counts[period]
        after[:, codes] += count
        return period + 1, after


class _Cache:
    """Cache of the last state and the last shares.

    Results do not depend on it. Entries are replaced as a whole, and their arrays are never
    written to, so several threads may read.
    """

    def __init__(self) -> None:
        self.last_state: State | None = None  # the last computed state, to continue from
        self.shares: tuple[int, np.ndarray] | None = None  # of one period

    def until(self, period: int) -> _Cache:
        """Return the entries that stay valid after events of ``period`` are added."""
        new, last_state, shares = _Cache(), self.last_state, self.shares
        new.last_state = None if last_state is None or period < last_state[0] else last_state
        new.shares = None if shares is None or period < shares[0] else shares
        return new


def _added(counts: Counts | None, codes: np.ndarray, n_items: int) -> Counts:
    """Add the counts of ``codes``, which may repeat."""
    codes, count = np.unique(codes, return_counts=True)
    if counts is not None:
        both = np.concatenate([counts[0], codes])
        n = np.bincount(both, np.concatenate([counts[1], count]), n_items)
        codes = np.flatnonzero(n)
        count = n[codes]
    return codes.astype(np.int32), count.astype(np.int32)


def _log_shares(counts: np.ndarray, n_items: int) -> np.ndarray:
    """Compute the logarithm of shares (n_half_lives, n_items + 1) in percent."""
    shares = np.zeros((len(counts), n_items + 1))
    shares[:, : counts.shape[1]] = counts
    prior, total = np.ones(n_items + 1), counts.sum(1)
    for half_life in reversed(range(len(counts))):
        prior = _PRIOR * (shares[half_life] + prior) / (total[half_life] + _PRIOR)
        shares[half_life] = prior
    return np.log(shares)
