"""What everybody took of late, as it was known at the start of every period."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import numpy as np

from sklearn_recft.columns import SECONDS_PER_DAY

_PRIOR = 100.0  # events by which a share leans on the next slower
_PERIODS_OF_A_LOG, _LOG_BYTES = 256, 2**27
_N_PERIODS = 512  # with events that are told apart; older ones are one sum

Counts = tuple[np.ndarray, np.ndarray]  # codes of items, and how often each came
State = tuple[int, np.ndarray]  # a period, and the faded counts (n_speeds, n) at its start


class Trends:
    """Shares of items in what all users took, at several speeds of forgetting.

    At the start b of a period the count of item i at speed k is ``s_ki = sum_e 2^(-(b - b_e) /
    half_life_k)`` over its events of earlier periods, ``b_e`` being the end of the event's.
    Shares are in percent, and lean on the next slower one as if on 100 events: ``p_ki = 100
    (s_ki + p_(k+1)i) / (sum_j s_kj + 100)``; the slowest leans on 1 for every item.

    What a period starts with never depends on its own events, or on the order or the number of
    calls in which earlier ones were told, to the last digit. An object never changes: `after`
    returns another, and they share what is the same.

    Parameters
    ----------
    half_lives : sequence of float
        Days, ascending; inf never forgets.
    period : float
        Seconds; periods begin at its multiples.

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
        self._keep = np.exp2(-period / (SECONDS_PER_DAY * np.array(half_lives)))[:, None]
        self._counts: dict[int, Counts] = {}  # of each period with events, ascending
        self._base: State | None = None  # what older ones left
        self._cache = _Cache()

    @classmethod
    def for_log(cls, half_lives: Sequence[float], times: np.ndarray, n_items: int) -> Trends:
        """Return trends without events, with periods to suit a log.

        There are 256 periods in the log, none longer than a day; fewer where all of them would
        take more than 128 MiB.

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
        """Trends once these events are known too.

        Parameters
        ----------
        items : ndarray of shape (n,)
            Codes below ``n_items``.
        times : ndarray of shape (n,)
            Seconds. Events older than the newest 512 periods count for the oldest of these.
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
            new._base = new._passed(new._start(), oldest, n_items)
            del new._counts[oldest]
        new._cache = self._cache.until(int(found[0]))
        return new

    def known_at(self, times: np.ndarray, n_items: int) -> tuple[np.ndarray, np.ndarray]:
        """Say what was known at the start of each time's period.

        Parameters
        ----------
        times : ndarray of shape (n,)
            Seconds.
        n_items : int

        Returns
        -------
        places : ndarray of shape (n,), int64
            Of each time, in ``shares``.
        shares : ndarray of shape (n_moments, n_speeds, n_items + 1), float32
            ``log(p_ki)`` at the start of each distinct period, and last that of an item
            nobody took; all 0 where nothing is known.
        """
        wanted, places = np.unique(self._period_of(times), return_inverse=True)
        walked, cached = self._cache.walked, self._cache.shares
        fits = cached is not None and cached[1].shape[2] == n_items + 1
        if cached is not None and fits and wanted.tolist() == [cached[0]]:
            return places, cached[1]
        shares = np.zeros((len(wanted), len(self.half_lives), n_items + 1), np.float32)
        periods = list(self._counts)
        if not periods or not len(wanted):
            return places, shares
        state = self._start()
        if walked is not None and state[0] <= walked[0] <= wanted[0]:
            state = walked
        nth = bisect_left(periods, state[0])
        for row, period in enumerate(wanted.tolist()):
            while nth < len(periods) and periods[nth] < period:
                state = self._passed(state, periods[nth], n_items)
                nth += 1
            if period >= state[0]:
                shares[row] = _log_shares(self._faded(state, period), n_items)
        self._cache.walked = state
        if len(wanted) == 1:
            self._cache.shares = int(wanted[0]), shares
        return places, shares

    def mark(self) -> None:
        """Need nothing: trends never change in place."""

    def restore(self, mark: None) -> None:
        """Do nothing: whoever kept the trends still has them."""

    def state(self) -> dict[str, Any]:
        """Return the counts of each period, and what older periods left."""
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
        """Become what `state` described."""
        self.__init__(state["half_lives"], state["period"])  # type: ignore[misc]
        cuts = np.cumsum(state["sizes"])[:-1]
        parts = zip(np.split(state["item"], cuts), np.split(state["count"], cuts), strict=True)
        self._counts = dict(zip(state["periods"].tolist(), parts, strict=False))
        if state["base_period"] is not None:
            self._base = state["base_period"], state["base"]

    def forget(self, users: np.ndarray) -> None:
        """Do nothing: the counts are of all users together."""

    def __getstate__(self) -> dict[str, Any]:
        return self.state()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.load_state(state)

    def _period_of(self, times: np.ndarray) -> np.ndarray:
        return np.floor(times / self.period).astype(np.int64)

    def _start(self) -> State:
        """Where counting begins."""
        nothing = np.zeros((len(self.half_lives), 0))
        return self._base or (next(iter(self._counts)), nothing)

    def _faded(self, state: State, period: int) -> np.ndarray:
        """Find the counts of a state at the start of a later period."""
        return state[1] * self._keep ** (period - state[0])

    def _passed(self, state: State, period: int, n_items: int) -> State:
        """Go on to the end of a period with events."""
        before = self._faded(state, period) * self._keep
        after = np.zeros((len(before), n_items))
        after[:, : before.shape[1]] = before
        codes, count = self._counts[period]
        after[:, codes] += count
        return period + 1, after


class _Cache:
    """The last walk and the last shares of some trends.

    Reading fills it, and nothing depends on what is in it: both entries are replaced whole, and
    their arrays are never written to, so that many threads may read.
    """

    def __init__(self) -> None:
        self.walked: State | None = None  # how far was counted last, to go on from
        self.shares: tuple[int, np.ndarray] | None = None  # of one period

    def until(self, period: int) -> _Cache:
        """Return what still holds once events of ``period`` are added."""
        new, walked, shares = _Cache(), self.walked, self.shares
        new.walked = None if walked is None or period < walked[0] else walked
        new.shares = None if shares is None or period < shares[0] else shares
        return new


def _added(counts: Counts | None, codes: np.ndarray, n_items: int) -> Counts:
    """Count each of ``codes``, which may repeat, once more."""
    codes, count = np.unique(codes, return_counts=True)
    if counts is not None:
        both = np.concatenate([counts[0], codes])
        n = np.bincount(both, np.concatenate([counts[1], count]), n_items)
        codes = np.flatnonzero(n)
        count = n[codes]
    return codes.astype(np.int32), count.astype(np.int32)


def _log_shares(counts: np.ndarray, n_items: int) -> np.ndarray:
    """Find the logarithm of shares (n_speeds, n_items + 1) in percent."""
    shares = np.zeros((len(counts), n_items + 1))
    shares[:, : counts.shape[1]] = counts
    slower, total = np.ones(n_items + 1), counts.sum(1)
    for speed in reversed(range(len(counts))):
        slower = _PRIOR * (shares[speed] + slower) / (total[speed] + _PRIOR)
        shares[speed] = slower
    return np.log(shares)
