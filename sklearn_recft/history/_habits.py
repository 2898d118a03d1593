"""What users take again: a decayed count of every pair of user and item."""

from __future__ import annotations

from typing import Any

import numpy as np

from sklearn_recft import kernels
from sklearn_recft.columns import SECONDS_PER_DAY
from sklearn_recft.history._log import grown, without

# Expected repeats of an item are drawn to the mean of all as if it had so many exposures more.
_PRIOR = 30.0
_PAIR_TYPES = {
    "user": np.int32, "item": np.int32, "strength": np.float32, "time": np.float64,
    "again": np.int32, "exposure": np.int64,
}  # fmt: skip
# What changes of a known pair.
_COUNTED = ("_strength", "_time", "_again", "_exposure")


class Habits:
    """Decayed counts ``S(u, i, t) = sum_k 2^(-(t - t_k) / half_life)`` over earlier baskets.

    A basket is all that a user takes at one time; it counts an item once. Before a pair's newest
    basket its count is not known, and taken to be 0: nothing later is ever used. An event costs one
    look-up, and one step for each known pair of its user. 40 bytes are kept of a pair, and 8 to
    16 in the hash table. Among them is what the pair added to ``repeats`` and ``exposures``, so
    that these are exact after `forget`.

    Parameters
    ----------
    half_life : float or None
        Days after which a basket counts half; None for no decay.

    Attributes
    ----------
    size : int
        Number of pairs.
    repeats : ndarray of shape (n_items,), int64
        How often an item was taken again.
    exposures : ndarray of shape (n_items,), float64
        Sum, over all baskets, of the decayed counts of those who might have taken it again.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_recft.history import Habits
    >>> habits, day = Habits(half_life=2.0), 86_400
    >>> user, item = np.array([0, 0, 0]), np.array([7, 7, 3])
    >>> habits.append(user, item, np.array([0, 2, 2]) * day, n_users=1, n_items=8)
    array([0. , 0.5, 0. ], dtype=float32)
    >>> habits.of_pairs(np.array([0]), np.array([7]), np.array([4.0 * day]))
    array([0.75])
    """

    def __init__(self, half_life: float | None) -> None:
        self.half_life = half_life
        self._seconds = np.inf if half_life is None else half_life * SECONDS_PER_DAY
        self.size, self.latest = 0, -np.inf
        self.repeats, self._exposed = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._last, self._basket = np.empty(0, np.int32), np.empty(0)
        self._user = self._item = self._previous = self._slots = np.empty(0, np.int32)
        self._strength, self._time = np.empty(0, np.float32), np.empty(0)
        self._again, self._exposure = np.empty(0, np.int32), np.empty(0, np.int64)
        self._allocate(0)

    @property
    def exposures(self) -> np.ndarray:
        """Sums of decayed counts, by item."""
        return self._exposed * kernels.EXPOSURE_UNIT

    def append(
        self,
        users: np.ndarray,
        items: np.ndarray,
        times: np.ndarray,
        n_users: int,
        n_items: int,
        *,
        by_time: bool = True,
    ) -> np.ndarray:
        """Count events.

        Parameters
        ----------
        users, items : ndarray of shape (n,)
            Codes.
        times : ndarray of shape (n,)
            Seconds.
        n_users, n_items : int
            How many there are now.
        by_time : bool, default=True
            Whether a user's events are counted in the order of time, else in that of their rows.

        Returns
        -------
        before : ndarray of shape (n,), float32
            Decayed count of each row's pair in earlier baskets.
        """
        times = times.astype(np.float64)
        self._make_room(len(users), n_users, n_items)
        order = np.lexsort((items, times, users)) if by_time else users.argsort(kind="stable")
        found = np.empty(len(users), np.float32)
        self.size = kernels.count_habits(
            users[order].astype(np.int32),
            items[order].astype(np.int32),
            times[order],
            self._seconds,
            self.size,
            self._slots,
            self._last,
            self._previous,
            self._user,
            self._item,
            self._strength,
            self._time,
            self._basket,
            self.repeats,
            self._exposed,
            self._again,
            self._exposure,
            found,
        )
        self.latest = max(self.latest, float(times.max(initial=-np.inf)))
        before = np.empty_like(found)
        before[order] = found
        return before

    def of_pairs(self, users: np.ndarray, items: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Return decayed counts (n,) of pairs before ``times``; 0 for unknown ids (-1)."""
        out = np.zeros(len(users))
        kernels.habits_of_pairs(
            users.astype(np.int64),
            items.astype(np.int64),
            times.astype(np.float64),
            self._seconds,
            self._slots,
            self._user,
            self._item,
            self._strength,
            self._time,
            out,
        )
        return out

    def last_times(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Return the seconds (n,) of the newest basket of pairs; NaN without any."""
        there = (users >= 0) & (items >= 0)
        rows = np.flatnonzero(np.isin(self._user[: self.size], users[there]))
        known = dict(
            zip(
                zip(self._user[rows].tolist(), self._item[rows].tolist(), strict=True),
                self._time[rows].tolist(),
                strict=True,
            )
        )
        pairs = zip(users.tolist(), items.tolist(), strict=True)
        return np.array([known.get(pair, np.nan) for pair in pairs], float)

    def of_users(
        self, users: np.ndarray, times: np.ndarray, columns: np.ndarray, n_items: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return decayed counts of queries in the layout of CSR.

        Parameters
        ----------
        users : ndarray of shape (n,)
            Codes, -1 for unknown users.
        times : ndarray of shape (n,)
            Seconds of the queries.
        columns : ndarray of shape (m,)
            Codes of the items that may be listed.
        n_items : int

        Returns
        -------
        indptr : ndarray of shape (n + 1,), int64
        places : ndarray of shape (n_found,), int64
            Places in ``columns``.
        counts : ndarray of shape (n_found,), float64
        """
        column_of = np.full(n_items, -1, np.int64)
        column_of[columns] = np.arange(len(columns))
        indptr, out = np.zeros(len(users) + 1, np.int64), np.empty((0, 2))
        given = (
            users.astype(np.int64), times.astype(np.float64), self._seconds, column_of, self._last,
            self._previous, self._item, self._strength, self._time, indptr,
        )  # fmt: skip
        kernels.habits_of_users(*given, out)
        out = np.empty((indptr[-1], 2))
        kernels.habits_of_users(*given, out)
        return indptr, out[:, 0].astype(np.int64), out[:, 1]

    def after_all(self) -> float:
        """Return a time (seconds) just after all events."""
        return float(np.nextafter(self.latest, np.inf))

    def repeat_weight(self) -> np.ndarray:
        """Return ``sqrt((repeats_i + m a) / (exposures_i + m))`` of each item, (n_items,).

        ``a`` is the ratio of all repeats to all exposures, m = 30.
        """
        exposures = self.exposures
        mean = self.repeats.sum() / max(exposures.sum(), 1e-12)
        return np.sqrt((self.repeats + _PRIOR * mean) / (exposures + _PRIOR))

    # ------------------------------------------------------------------ as a part

    def mark(self, users: np.ndarray, items: np.ndarray) -> tuple[Any, ...]:
        """Return what `restore` needs to undo events of ``users`` and ``items`` from here on."""
        known = np.unique(users[(users >= 0) & (users < len(self._last))])
        chains = known.astype(np.int64), self._last, self._previous
        places = np.empty(kernels.pairs_of_users(*chains, np.empty(0, np.int64)), np.int64)
        kernels.pairs_of_users(*chains, places)
        return (
            vars(self).copy(),
            (known, self._last[known], self._basket[known]),
            (places, {name: getattr(self, name)[places] for name in _COUNTED}),
            (self.repeats.copy(), self._exposed.copy()),
        )

    def restore(self, mark: tuple[Any, ...]) -> None:
        """Undo every event since ``mark``."""
        attributes, (users, last, basket), (places, counted), sums = mark
        vars(self).update(attributes)
        self._slots[self._slots >= self.size] = -1
        self._last[self._last >= self.size] = -1
        self._last[users], self._basket[users] = last, basket
        for name, values in counted.items():
            getattr(self, name)[places] = values
        self.repeats, self._exposed = sums

    def state(self) -> dict[str, Any]:
        """Return pairs and sums as arrays."""
        return {
            **{name: getattr(self, f"_{name}")[: self.size].copy() for name in _PAIR_TYPES},
            "basket": self._basket.copy(),
            "repeats": self.repeats.copy(),
            "exposed": self._exposed.copy(),
            "latest": self.latest,
            "half_life": self.half_life,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Become what `state` described."""
        self.__init__(state["half_life"])  # type: ignore[misc]
        self.size, self.latest = len(state["user"]), state["latest"]
        self.repeats, self._exposed = state["repeats"].copy(), state["exposed"].copy()
        self._basket = state["basket"].copy()
        self._last = np.full(len(self._basket), -1, np.int32)
        self._take({name: state[name] for name in _PAIR_TYPES}, self.size)

    def forget(self, users: np.ndarray) -> None:
        """Remove the pairs of ``users`` (codes), and renumber the others to close the gaps.

        What these pairs added to the sums of items is subtracted, to the last bit.
        """
        state = self.state()
        kept, moved = without(state["user"], users)
        basket = np.delete(state["basket"], users)
        self._keep_pairs(state, kept, {"user": moved, "basket": basket})

    def forget_items(self, items: np.ndarray) -> None:
        """Remove the pairs and sums of ``items`` (codes), and renumber the others.

        A basket that had only such items still counts as one in which other items were not taken.
        """
        state = self.state()
        kept, moved = without(state["item"], items)
        known = items[items < len(state["repeats"])]
        self._keep_pairs(state, kept, {"item": moved})
        self.repeats = np.delete(self.repeats, known)
        self._exposed = np.delete(self._exposed, known)

    def merge(
        self, other: dict[str, Any], users: np.ndarray, items: np.ndarray, seconds: float = 0.0
    ) -> None:
        """Add the `state` of habits of other users.

        Parameters
        ----------
        other : dict
        users, items : ndarray
            The codes here of the codes there. No user may have pairs in both.
        seconds : float, default=0.0
            How much later the times are here.
        """
        n_users, n_items = (int(codes.max(initial=-1)) + 1 for codes in (users, items))
        self._make_room(len(other["user"]), n_users, n_items)
        ours = {name: getattr(self, f"_{name}")[: self.size] for name in _PAIR_TYPES}
        theirs = {name: other[name] for name in _PAIR_TYPES}
        theirs |= {"user": users[other["user"]], "item": items[other["item"]]}
        theirs["time"] = other["time"] + seconds
        self.size += len(other["user"])
        self._last = np.full(len(self._last), -1, np.int32)
        self._take({n: np.concatenate([ours[n], theirs[n]]) for n in _PAIR_TYPES}, self.size)
        self._basket = self._basket.copy()
        n_known = min(len(users), len(other["basket"]))  # one of them may have room to grow
        self._basket[users[:n_known]] = other["basket"][:n_known] + seconds
        known = items[: len(other["repeats"])]
        self.repeats, self._exposed = self.repeats.copy(), self._exposed.copy()
        np.add.at(self.repeats, known, other["repeats"])
        np.add.at(self._exposed, known, other["exposed"])
        self.latest = max(self.latest, other["latest"] + seconds)

    def _keep_pairs(
        self, state: dict[str, Any], kept: np.ndarray, changed: dict[str, np.ndarray]
    ) -> None:
        """Load the ``kept`` pairs of a state, and subtract the others from the sums."""
        gone, items = ~kept, state["item"]
        repeats, exposed = state["repeats"].copy(), state["exposed"].copy()
        np.subtract.at(repeats, items[gone], state["again"][gone])
        np.subtract.at(exposed, items[gone], state["exposure"][gone])
        pairs = {name: state[name][kept] for name in _PAIR_TYPES}
        latest = float(pairs["time"].max(initial=-np.inf))
        sums = {"repeats": repeats, "exposed": exposed, "latest": latest}
        self.load_state({**state, **pairs, **sums, **changed})

    def _make_room(self, n_events: int, n_users: int, n_items: int) -> None:
        """Grow tables for events that may all be of new pairs."""
        n_known = len(self._last)
        self._last = grown(self._last, n_users)
        self._basket = np.pad(self._basket, (0, len(self._last) - n_known), constant_values=-np.inf)
        for name in ("repeats", "_exposed"):
            before = getattr(self, name)
            if len(before) < n_items:
                setattr(self, name, np.pad(before, (0, n_items - len(before))))
        wanted = self.size + n_events
        if wanted > len(self._user):
            pairs = {name: getattr(self, f"_{name}")[: self.size] for name in _PAIR_TYPES}
            self._last = np.full(len(self._last), -1, np.int32)
            self._take(pairs, max(wanted, len(self._user) * 3 // 2))

    def _take(self, pairs: dict[str, np.ndarray], capacity: int) -> None:
        """Hold pairs in new tables of a capacity."""
        self._allocate(capacity)
        for name, values in pairs.items():
            getattr(self, f"_{name}")[: len(values)] = values
        kernels.link_pairs(
            self.size, self._slots, self._last, self._previous, self._user, self._item
        )

    def _allocate(self, capacity: int) -> None:
        for name, dtype in _PAIR_TYPES.items():
            setattr(self, f"_{name}", np.zeros(capacity, dtype))
        self._previous = np.zeros(capacity, np.int32)
        self._slots = np.full(1 << int(2 * capacity + 1).bit_length(), -1, np.int32)
