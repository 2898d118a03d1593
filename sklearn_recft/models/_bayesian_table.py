"""Gaussian posteriors of users or items, kept as sums that events add to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from sklearn_recft import kernels
from sklearn_recft.columns import fade
from sklearn_recft.parallel import in_threads

_GROWTH = 1.25  # of the capacity, where new rows do not fit
_NOTHING = np.empty((0, 0))
# Arrays of one row per user or item; of users, only the first four.
_ROWS = ("sums", "means", "is_late", "times", "covariances", "moments")


@dataclass(frozen=True)
class Grouped:
    """Events grouped by the users or items whose sums they add to.

    Attributes
    ----------
    rows : ndarray of shape (m,), int64
        Distinct codes, ascending.
    starts : ndarray of shape (m + 1,), int64
        The events of ``rows[n]`` are ``starts[n]`` to ``starts[n + 1] - 1``.
    others : ndarray of shape (n,), int64
        Row of the moments of the other side, for each event.
    targets, weights : ndarray of shape (n,), float64
    """

    rows: np.ndarray
    starts: np.ndarray
    others: np.ndarray
    targets: np.ndarray
    weights: np.ndarray

    @classmethod
    def by(
        cls, codes: np.ndarray, others: np.ndarray, targets: np.ndarray, weights: np.ndarray
    ) -> Grouped:
        """Group events by ``codes``; the events of a code stay in their order."""
        order = np.argsort(codes, kind="stable")
        codes = codes[order].astype(np.int64)
        starts = np.flatnonzero(codes[1:] != codes[:-1]) + 1
        starts = np.concatenate([[0], starts, [len(codes)]])
        others = others[order].astype(np.int64)
        return cls(codes[starts[:-1]], starts, others, targets[order], weights[order])

    @property
    def totals(self) -> np.ndarray:
        """Sum of the weights of each row's events, (m,)."""
        totals: np.ndarray = np.add.reduceat(self.weights, self.starts[:-1])
        return totals


@dataclass(frozen=True)
class Prior:
    """A Gaussian whose mean depends on features.

    Attributes
    ----------
    weights : ndarray of shape (n_features, D)
        The mean of a row with features f is ``f @ weights``.
    covariance, precision : ndarray of shape (D, D)
    """

    weights: np.ndarray
    covariance: np.ndarray
    precision: np.ndarray

    @classmethod
    def of(cls, weights: np.ndarray, covariance: np.ndarray) -> Prior:
        """Return a prior with this covariance."""
        precision = np.linalg.inv(covariance)
        return cls(weights, covariance, (precision + precision.T) / 2)


@dataclass(frozen=True)
class Posteriors:
    """Posteriors of m rows: means (m, D), triangles of covariances, and moments."""

    means: np.ndarray
    covariances: np.ndarray
    moments: np.ndarray


class GaussianTable:
    """Posteriors of all users, or of all items.

    Events add to the sums P and h of their row (see `kernels.add_moments`), so its posterior does
    not depend on their order, nor on the calls that they came in.

    Parameters
    ----------
    n_factors : int
    of_users : bool
        Whether rows are users, who can be forgotten. Only items keep covariances and moments.

    Attributes
    ----------
    sums : ndarray of shape (n, K), float64
        ``K = D (D + 1) / 2 + D`` with ``D = n_factors + 1``.
    means : ndarray of shape (n, D), float64
    covariances : ndarray of shape (n, D (D + 1) / 2), float64; none of users
        Upper triangles.
    moments : ndarray of shape (n, K), float64; none of users
    is_late : ndarray of shape (n,), bool
        Whether the row had no events in `fit`.
    times : ndarray of shape (n,)
        Seconds to which the sums have decayed: of the newest event; -inf before one.
    prior, late_prior : Prior
        Of rows with events in `fit`, and of the others.
    unknown : ndarray of shape (D,)
        Prior mean of a row of which nothing is known.
    """

    def __init__(self, n_factors: int, *, of_users: bool) -> None:
        self.n_dimensions = n_factors + 1
        self.of_users = of_users
        d, size = self.n_dimensions, self.n_dimensions * (self.n_dimensions + 1) // 2
        self._n = 0
        self._sums, self._means = np.empty((0, size + d)), np.empty((0, d))
        self._covariances, self._moments = np.empty((0, size)), np.empty((0, size + d))
        self._is_late, self._times = np.empty(0, bool), np.empty(0)
        self.prior = self.late_prior = Prior.of(np.zeros((1, d)), np.eye(d))
        self.unknown = np.zeros(d)

    def __len__(self) -> int:
        return self._n

    @property
    def sums(self) -> np.ndarray:
        """Sums of all rows, a view."""
        return self._sums[: self._n]

    @property
    def means(self) -> np.ndarray:
        """Posterior means of all rows, a view."""
        return self._means[: self._n]

    @property
    def is_late(self) -> np.ndarray:
        """Which rows had no events in `fit`, a view."""
        return self._is_late[: self._n]

    @property
    def times(self) -> np.ndarray:
        """Seconds to which the sums have decayed, a view."""
        return self._times[: self._n]

    @property
    def covariances(self) -> np.ndarray:
        """Triangles of posterior covariances of all rows, a view; none of users."""
        return self._covariances[: 0 if self.of_users else self._n]

    @property
    def moments(self) -> np.ndarray:
        """Moments of all rows, a view; none of users."""
        return self._moments[: 0 if self.of_users else self._n]

    # ------------------------------------------------------------------ learning

    def grow(self, n: int) -> None:
        """Resize to ``n`` rows; new rows have no events, and must be solved."""
        before, self._n = self._n, min(self._n, n)
        names = [f"_{name}" for name in (_ROWS[:4] if self.of_users else _ROWS)]
        # An interrupt may have left some of them shorter than others.
        if n > min(len(getattr(self, name)) for name in names):
            capacity = int(n * _GROWTH) if before else n
            for name in names:
                setattr(self, name, _resized(getattr(self, name), self._n, capacity))
        self._sums[before:n] = 0.0
        self._is_late[before:n], self._times[before:n] = True, -np.inf
        self._n = n

    def decay(self, rows: np.ndarray, times: np.ndarray, half_life: float) -> np.ndarray:
        """Decay the sums of rows to their newest event; return the decay of each event, (n,).

        Parameters
        ----------
        rows : ndarray of shape (n,)
            Code of each event.
        times : ndarray of shape (n,)
            Seconds.
        half_life : float
            Days.
        """
        codes, places = np.unique(rows, return_inverse=True)
        before = self._times[codes]
        newest = before.copy()
        np.maximum.at(newest, places, times)
        old = np.isfinite(before)
        left = fade(newest[old] - before[old], half_life)
        self._sums[codes[old]] *= left[:, None]
        self._times[codes] = newest
        shares: np.ndarray = fade(newest[places] - times, half_life)
        return shares

    def add(self, events: Grouped, moments: np.ndarray, n_threads: int = 1) -> None:
        """Add events to the sums; the posteriors stay until they are computed again."""
        arrays = (events.rows, events.starts, events.others, events.targets, events.weights)

        def step(first: int, last: int) -> None:
            kernels.add_moments(first, last, *arrays, moments, self.n_dimensions, self._sums)

        in_threads(step, events.starts[1:] - events.starts[:-1], n_threads)

    def add_zeros(self, rows: np.ndarray, weights: np.ndarray, moments: np.ndarray) -> None:
        """Add events of target 0 to the sums of distinct ``rows``.

        ``moments`` (K,) is a mean over the other side, so an event is spread over all of it.
        """
        zero = moments.copy()
        zero[-self.n_dimensions :] *= -1  # an event adds t E[x] - E[x b], here with t = 0
        self.sums[rows] += weights[:, None] * zero

    def posteriors(
        self,
        rows: np.ndarray,
        features: np.ndarray,
        noise: float,
        *,
        n_threads: int = 1,
        whole: bool = True,
    ) -> Posteriors:
        """Compute posteriors of ``rows`` from their sums; without covariances if not ``whole``.

        Parameters
        ----------
        rows : ndarray of shape (m,)
            Codes.
        features : ndarray of shape (m, n_features)
        noise : float
            Variance of the noise.
        """
        m, rows = len(rows), rows.astype(np.int64)
        means = np.empty((m, self.n_dimensions))
        covariances = moments = _NOTHING
        if whole:
            moments = np.empty((m, self._sums.shape[1]))
            covariances = np.empty((m, self._sums.shape[1] - self.n_dimensions))
        late = self._is_late[rows]
        for is_late, prior in ((False, self.prior), (True, self.late_prior)):
            places = np.flatnonzero(late == is_late)
            if not len(places):
                continue
            given = places, rows, self._sums, features, prior.weights, prior.precision, noise
            step = partial(_solve, given, (means, covariances, moments))
            in_threads(step, np.ones(len(places)), n_threads)
        return Posteriors(means, covariances, moments)

    def solve(
        self, rows: np.ndarray, features: np.ndarray, noise: float, n_threads: int = 1
    ) -> None:
        """Store the posteriors of ``rows``, from their sums."""
        found = self.posteriors(rows, features, noise, n_threads=n_threads, whole=not self.of_users)
        self._means[rows] = found.means
        if not self.of_users:
            self._covariances[rows] = found.covariances
            self._moments[rows] = found.moments

    # ------------------------------------------------------------------ reading

    def means_of(self, codes: np.ndarray) -> np.ndarray:
        """Return the means (n, D) of codes, and the prior mean for -1."""
        if not self._n:
            return np.tile(self.unknown, (len(codes), 1))
        means: np.ndarray = self._means[codes]
        means[codes < 0] = self.unknown
        return means

    # ------------------------------------------------------------------ as a part

    def mark(self, rows: np.ndarray) -> tuple[Any, ...]:
        """Return what `restore` needs to undo growth and changes of ``rows`` (codes)."""
        known = np.unique(rows[rows < self._n])
        names = _ROWS[:4] if self.of_users else _ROWS
        return self._n, known, {f"_{name}": getattr(self, name)[known] for name in names}

    def restore(self, mark: tuple[Any, ...]) -> None:
        """Undo growth and changes since ``mark``."""
        self._n, known, saved = mark
        for name, values in saved.items():
            getattr(self, name)[known] = values

    def state(self) -> dict[str, Any]:
        """Return copies of the arrays of all rows, and the prior."""
        rows = {name: getattr(self, name).copy() for name in _ROWS}
        priors = {"prior": dict(vars(self.prior)), "late_prior": dict(vars(self.late_prior))}
        return {**rows, **priors, "unknown": self.unknown}

    def load_state(self, state: dict[str, Any]) -> None:
        """Load what `state` returned."""
        self._n = len(state["means"])
        for name in _ROWS:
            setattr(self, f"_{name}", state[name].copy())
        self.prior, self.late_prior = Prior(**state["prior"]), Prior(**state["late_prior"])
        self.unknown = state["unknown"]

    def forget(self, users: np.ndarray) -> None:
        """Remove the rows of ``users`` (codes), and renumber the others to close the gaps."""
        if self.of_users:
            self._sums = np.delete(self.sums, users, axis=0)
            self._means = np.delete(self.means, users, axis=0)
            self._is_late = np.delete(self.is_late, users)
            self._times = np.delete(self.times, users)
            self._n = len(self._means)


def _resized(array: np.ndarray, n: int, capacity: int) -> np.ndarray:
    """Return an array of ``capacity`` rows, the first ``n`` of which are those of ``array``."""
    larger = np.empty((capacity, *array.shape[1:]), array.dtype)
    larger[:n] = array[:n]
    return larger


def _solve(given: tuple[Any, ...], found: tuple[np.ndarray, ...], first: int, last: int) -> None:
    kernels.gaussian_posteriors(first, last, *given, *found)


def triangle(matrix: np.ndarray) -> np.ndarray:
    """Return the upper triangle of a matrix (D, D), row by row."""
    return matrix[np.triu_indices(len(matrix))]


def square(triangles: np.ndarray) -> np.ndarray:
    """Return the symmetric matrix (D, D) of a triangle, or matrices (m, D, D) of triangles."""
    size = triangles.shape[-1]
    n = int((np.sqrt(8 * size + 1) - 1) / 2)
    row, column = np.triu_indices(n)
    full = np.empty((*triangles.shape[:-1], n, n))
    full[..., row, column] = full[..., column, row] = triangles
    return full
