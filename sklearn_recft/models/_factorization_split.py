"""Epochs of a factorization by several processes: users are split, tables of items shared."""

from __future__ import annotations

from typing import Any

import numpy as np

from sklearn_recft.models import _factorization_sgd as sgd
from sklearn_recft.models._factorization_sgd import Arrays, Rows
from sklearn_recft.processes import Processes, current_processes

_USERS = ("user_factors", "user_bias")
# The constant rho of `ItemMoves`, in units of the learning rate: a bias sees every event, a factor
# only the part of it along one of many directions. Chosen on MovieLens 1M.
_SPEED = {"item_bias": 0.45, "item_factors": 0.02}


def fit_epochs(arrays: Arrays, rows: Rows, **options: Any) -> None:
    """Run `sgd.fit_epochs`, by all processes that train together."""
    processes = current_processes()
    if processes is None:
        sgd.fit_epochs(arrays, rows, **options)
    else:
        fit_epochs_together(arrays, rows, processes, **options)


def fit_epochs_together(
    arrays: Arrays, rows: Rows, processes: Processes, rng: np.random.Generator, **options: Any
) -> None:
    """Run epochs on the rows of this process's users, and exchange the rest after each.

    The tables of items move as `ItemMoves` says. At the end, all processes have the rows of all
    users.

    Parameters
    ----------
    arrays : dict of str to ndarray
        Tables, equal in all processes before and after.
    rows : Rows
        All rows, equal in all processes.
    processes : Processes
    rng : numpy.random.Generator
        Draws the same numbers in all processes.
    **options : dict
        Further arguments of `sgd.fit_epochs`.
    """
    processes.check_same("rows or parameters", *rows.columns().values(), *arrays.values())
    here = owner_of(np.arange(len(arrays["user_bias"])), processes.size) == processes.rank
    own = rows.take(here[rows.user])
    seed = int(rng.integers(np.iinfo(np.int64).max))
    moves = ItemMoves(arrays, own, processes, options["learning_rate"])
    sgd.fit_epochs(
        arrays,
        own,
        rng=np.random.default_rng([seed, processes.rank]),
        after_epoch=moves.add,
        **options,
    )
    for name in _USERS:
        arrays[name][~here] = 0
        processes.add(arrays[name])
    processes.check_same("parameters after training", *arrays.values())


def owner_of(users: np.ndarray, n_processes: int) -> np.ndarray:
    """Return the process of each user code, by a hash."""
    mixed = users.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    owner: np.ndarray = (mixed >> np.uint64(40)) % np.uint64(n_processes)
    return owner.astype(np.int64)


class ItemMoves:
    """Moves of the tables of items in a pass, added up over processes and damped.

    A pass over n events of an item takes its row about a(n) = 1 - exp(-rho n) of the way to its
    best place. So the row moves by the sum of the moves of all processes, times
    ``a(N) / (a(n_1) + a(n_2) + ...)``, where N is the sum of their events. Moves of few events are
    added, as if learned one after the other. Moves of many events are averaged, since each process
    has gone all the way.
    """

    def __init__(
        self, arrays: Arrays, own: Rows, processes: Processes, learning_rate: float
    ) -> None:
        self.arrays, self.processes = arrays, processes
        # Of no rows, bincount returns integers, whose bits others would add as floats.
        events = np.bincount(own.item, own.weight, len(arrays["item_bias"])).astype(np.float64)
        total = events.copy()
        processes.add(total)
        self.damping = {
            name: self._damping(events, total, speed * learning_rate)
            for name, speed in _SPEED.items()
        }
        counts = np.array([float(len(own))])
        processes.add(counts)
        self.share_of_rows = np.float32(len(own) / counts[0])
        self.before = {name: arrays[name].copy() for name in _SPEED}

    def _damping(self, events: np.ndarray, total: np.ndarray, speed: float) -> np.ndarray:
        parts = -np.expm1(-speed * events)
        self.processes.add(parts)
        whole = -np.expm1(-speed * total)
        # Without events, an item moves as a negative: by the sum.
        damping = np.divide(whole, parts, out=np.ones_like(parts), where=parts > 0)
        return damping.astype(np.float32)

    def add(self) -> None:
        """Replace the tables of items by those before, with the moves of all processes."""
        arrays = self.arrays
        for name, before in self.before.items():
            move = arrays[name] - before
            self.processes.add(move)
            before += move * self.damping[name].reshape(-1, *[1] * (move.ndim - 1))
            arrays[name][:] = before
        arrays["context_weight"] *= self.share_of_rows
        self.processes.add(arrays["context_weight"])
