"""Tables of a factorization whose user state is a sum over the user's last events."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from sklearn_recft.modules._id_tables import IdTables
from sklearn_recft.ranking import TileScorer, dot_tiles, row_tiles


class HistoryFactorization(IdTables):
    """Factors of items as taken and as candidates, and the last items of each user.

    Parameters
    ----------
    n_factors : int
    n_own : int
        Number of factors of each user: ``n_factors``, or 0 for none.
    n_recent : int
        Number of events that are kept of each user.

    Attributes
    ----------
    user_factors : (n_users, n_own)
    recent : (n_users, n_recent), int32
        Item codes plus 1, newest first; 0 where there are no more.
    item_factors, input_factors : (n_items, n_factors)
        Of an item as candidate, and as taken before.
    item_count, item_popularity : (n_items,)
        Number of events, and decayed sum of their weights.
    user_squares, item_squares, input_squares : (n,)
        Sums of mean squared gradients, by row (Adagrad).
    """

    user_squares: Tensor
    recent: Tensor
    item_squares: Tensor
    input_squares: Tensor
    item_count: Tensor
    item_popularity: Tensor
    ID_TABLES = (
        ("user_factors", "user_squares", "recent"),
        (
            "item_factors",
            "item_squares",
            "input_factors",
            "input_squares",
            "item_count",
            "item_popularity",
        ),
    )

    def __init__(self, n_factors: int, n_own: int, n_recent: int) -> None:
        super().__init__()
        self.user_factors = nn.Parameter(torch.zeros(0, n_own, dtype=torch.float32))
        self.item_factors = nn.Parameter(torch.zeros(0, n_factors, dtype=torch.float32))
        self.input_factors = nn.Parameter(torch.zeros(0, n_factors, dtype=torch.float32))
        self.register_buffer("recent", torch.zeros(0, n_recent, dtype=torch.int32))
        for names in self.ID_TABLES:
            for name in names:
                if not hasattr(self, name):
                    self.register_buffer(name, torch.zeros(0, dtype=torch.float32))

    def push(self, users: np.ndarray, items: np.ndarray) -> None:
        """Make items (codes) the newest of their users, row by row; no factor changes."""
        recent = self.arrays()["recent"]
        for user, item in zip(users.tolist(), items.tolist(), strict=True):
            recent[user, 1:] = recent[user, :-1].copy()
            recent[user, 0] = item + 1

    def tile_scorer(self, states: np.ndarray, bias: np.ndarray, columns: np.ndarray) -> TileScorer:
        """Return a function that scores the items ``columns`` in tiles (see `ranking.top_k`).

        ``states`` (n, f) of queries, ``bias`` (m,) of the columns.
        """
        factors, base = self.array("item_factors"), np.zeros(len(states), np.float32)
        if len(columns) < len(factors):
            return dot_tiles(states, factors[columns], bias, base)
        return row_tiles(states, factors, bias, base, columns, self.quantized_items)
