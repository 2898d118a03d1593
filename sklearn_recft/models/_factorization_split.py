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
    own = rows.take(np.flatnonzero(here[rows.user]))
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
        speeds = [speed * learning_rate for speed in _SPEED.values()]
        parts = [-np.expm1(-speed * events) for speed in speeds]
        found = np.concatenate([events, *parts, [float(len(own))]])
        processes.add(found)
        self.share_of_rows = np.float32(len(own) / found[-1])
        total, *parts = np.split(found[:-1], 1 + len(parts))
        self.damping = {
            name: _damping(part, -np.expm1(-speed * total)).reshape(-1, *[1] * (size - 1))
            for name, part, speed, size in zip(_SPEED, parts, speeds, (1, 2), strict=True)
        }
        self.before = {name: arrays[name].copy() for name in _SPEED}
        # Moves of all tables, one after the other: to exchange them at once takes less time.
        shared = [arrays[name] for name in (*_SPEED, "context_weight")]
        self.moves = np.empty(sum(table.size for table in shared), np.float32)
        ends = np.cumsum([table.size for table in shared])[:-1]
        views = [
            part.reshape(table.shape)
            for part, table in zip(np.split(self.moves, ends), shared, strict=True)
        ]
        self.views = dict(zip((*_SPEED, "context_weight"), views, strict=True))

    def add(self) -> None:
        """Replace the tables of items by those before, with the moves of all processes."""
        arrays, views = self.arrays, self.views
        for name, before in self.before.items():
            np.subtract(arrays[name], before, out=views[name])
        np.multiply(arrays["context_weight"], self.share_of_rows, out=views["context_weight"])
        self.processes.add(self.moves)
        for name, before in self.before.items():
            views[name] *= self.damping[name]
            before += views[name]
            arrays[name][:] = before
        arrays["context_weight"][:] = views["context_weight"]


def _damping(parts: np.ndarray, whole: np.ndarray) -> np.ndarray:
    # Without events, an item moves as a negative: by the sum.
    damping = np.divide(whole, parts, out=np.ones_like(parts), where=parts > 0)
    return damping.astype(np.float32)
