"""Two speeds: a slow and a fast copy of a factorization, mixed by how well each predicts."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from sklearn_recft import kernels
from sklearn_recft.events import Events, Interactions
from sklearn_recft.models import _factorization_ridge as ridge
from sklearn_recft.models import _factorization_sgd as sgd
from sklearn_recft.models._base import Call, Transaction
from sklearn_recft.models._factorization import SGDFactorizationModel, known_codes
from sklearn_recft.models._factorization_base import FactorizationSettings
from sklearn_recft.models._factorization_sgd import Rows
from sklearn_recft.modules import MatrixFactorization
from sklearn_recft.ranking import TileScorer

# Step of the mixture in units of its loss, and its fixed share: 1e-4 costs nothing without drift.
_ETA = {"squared_error": 0.25, "log_loss": 1.0}
_SHARE = 1e-4
# Weight of the fast copy at the start, events of a mean loss, and number of means kept.
_START, BLOCK, _KEPT = 0.01, 32, 1024


class SpeedMixture:
    """Weight of the fast copy, and the latest losses of both copies: a part of the model.

    Attributes
    ----------
    progress : ndarray of shape (5,)
        State of `kernels.mix_pass`.
    means : ndarray of shape (1024, 2)
        Ring of mean losses of 32 events, slow and fast.
    """

    def __init__(self) -> None:
        self.progress = np.zeros(kernels.N_STATE)
        self.progress[kernels.FAST_WEIGHT] = _START
        self.means = np.zeros((_KEPT, 2), np.float32)

    @property
    def fast_weight(self) -> float:
        """Weight of the fast copy in the mixture."""
        return float(self.progress[kernels.FAST_WEIGHT])

    @property
    def n_blocks(self) -> int:
        """Number of mean losses so far, also of those that are no longer kept."""
        return int(self.progress[kernels.N_BLOCKS])

    def latest(self) -> np.ndarray:
        """Return the mean losses that are kept, oldest first, shape (n, 2)."""
        n = self.n_blocks
        return self.means[np.arange(max(0, n - len(self.means)), n) % len(self.means)]

    def learn(
        self, slow: np.ndarray, fast: np.ndarray, rows: Rows, moments: np.ndarray, loss: str
    ) -> np.ndarray:
        """Mix raw scores of rows in their order, learning after each; return predictions (n,)."""
        scored = np.empty(len(rows))
        kernels.mix_pass(
            slow,
            fast,
            rows.target,
            rows.weight,
            moments,
            np.array([_ETA[loss], _SHARE, BLOCK]),
            sgd.LOSS[loss],
            self.progress,
            self.means,
            scored,
        )
        return scored

    def mark(self, *rows: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return what `restore` needs."""
        return self.progress.copy(), self.means.copy()

    def restore(self, mark: tuple[np.ndarray, np.ndarray]) -> None:
        """Undo all changes since ``mark``."""
        self.progress[:], self.means[:] = mark

    def state(self) -> dict[str, Any]:
        """Return the weight and the losses."""
        return {"progress": self.progress.copy(), "means": self.means.copy()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Load what `state` returned."""
        self.progress, self.means = state["progress"].copy(), state["means"].copy()

    def forget(self, users: np.ndarray) -> None:
        """Do nothing: means over 32 events of all users name no user."""


@dataclass(frozen=True)
class MixedTables:
    """Scores of both copies, weighted: it reads as one factorization of twice the length.

    The scores are ``(1 - v) s_slow + v s_fast``. Its factors are those of the slow copy times
    sqrt(1 - v), then those of the fast copy times sqrt(v), on both sides.

    Attributes
    ----------
    slow, fast : MatrixFactorization
    fast_weight : float
    """

    slow: MatrixFactorization
    fast: MatrixFactorization
    fast_weight: float

    @property
    def n_rows(self) -> tuple[int, int]:
        """Numbers of users and of items."""
        return self.slow.n_rows

    @property
    def intercept(self) -> float:
        """Mean of the score."""
        v = self.fast_weight
        return (1 - v) * self.slow.intercept + v * self.fast.intercept

    def rows(self, side: int, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Look up factors (n, 2 k) and biases (n,) of users (side 0) or items (1)."""
        v = self.fast_weight
        (p, b), (p_fast, b_fast) = self.slow.rows(side, codes), self.fast.rows(side, codes)
        factors = [np.float32(np.sqrt(1 - v)) * p, np.float32(np.sqrt(v)) * p_fast]
        return np.concatenate(factors, axis=1), (1 - v) * b + v * b_fast

    def offset(self, context: np.ndarray) -> np.ndarray:
        """Compute the terms (n,) that do not depend on ids."""
        v = self.fast_weight
        return (1 - v) * self.slow.offset(context) + v * self.fast.offset(context)

    def score(self, users: np.ndarray, items: np.ndarray, context: np.ndarray) -> np.ndarray:
        """Score rows of codes (-1: unknown) and raw context; return float64 (n,)."""
        v = self.fast_weight
        slow, fast = (m.score(users, items, context) for m in (self.slow, self.fast))
        return (1 - v) * slow + v * fast

    def item_vectors(self) -> np.ndarray:
        """Return the factors of all items, (n, 2 k)."""
        return self.rows(1, np.arange(self.n_rows[1]))[0]

    def tile_scorer(
        self, users: np.ndarray, columns: np.ndarray, context: np.ndarray
    ) -> TileScorer:
        """Return a function that scores catalogue ``columns`` in tiles (see `ranking.top_k`)."""
        v = np.float32(self.fast_weight)
        slow, fast = (m.tile_scorer(users, columns, context) for m in (self.slow, self.fast))

        def score(r0: int, r1: int, c0: int, c1: int, out: np.ndarray) -> None:
            other = np.empty_like(out)
            slow(r0, r1, c0, c1, out)
            fast(r0, r1, c0, c1, other)
            out *= 1 - v
            other *= v
            out += other

        return score


class FollowingFactorizationModel(SGDFactorizationModel):
    """A factorization in two copies, slow and fast, whose mixture follows drift.

    The slow copy is `SGDFactorizationModel` to the last bit.

    Attributes
    ----------
    fast : MatrixFactorization
        The copy whose steps never get small.
    mixture : SpeedMixture
    """

    kind = "IncrementalMFRecommender (follow)"
    _RAW = True

    def __init__(self, rows: Interactions, settings: FactorizationSettings) -> None:
        super().__init__(rows, settings)
        self.fast = MatrixFactorization(settings.n_factors, len(rows.context_names))
        self.mixture = SpeedMixture()

    @property
    def forget_items_level(self) -> str:
        """Nothing: the weights of both tables were learned with these items."""
        return ""

    @property
    def scorer(self) -> MixedTables:
        """The tables that score: the mixture."""
        return MixedTables(self.tables, self.fast, self.mixture.fast_weight)

    @property
    def copies(self) -> tuple[MatrixFactorization, ...]:
        """The slow and the fast tables."""
        return self.tables, self.fast

    def _train(self, events: Events, rows: Rows) -> None:
        """Fit the slow copy; the fast one starts as the same."""
        super()._train(events, rows)
        self.fast.load_state(self.tables.state())

    def _update(
        self, events: Events, rows: Rows, old: Rows | None, undo: Transaction, call: Call
    ) -> np.ndarray:
        """Learn the rows in each copy, then mix what the copies predicted of them before."""
        known = self.tables.n_rows
        undo.keep(self.fast, rows.user, rows.item)
        undo.keep(self.mixture)
        moments = self.moments.copy()
        codes = known_codes(rows, known)
        whole = [m.score(*codes, events.context) for m in self.copies if not call.predict]
        fast = self._update_fast(rows, known, chunk=not call.predict)
        slow = super()._update(events, rows, old, undo, call)
        if whole:  # the rows were predicted as a whole, and the mixture learns from that
            slow, fast = whole
        return self.mixture.learn(slow, fast, rows, moments, self.settings.loss)

    def _update_fast(self, rows: Rows, known: tuple[int, int], *, chunk: bool) -> np.ndarray:
        """Learn rows in the fast copy, with the draws that the slow one will make."""
        fast, loss, scale = self.fast, self.settings.loss, self.scale
        rng, noise = (copy.deepcopy(s.generator) for s in (self.rng, self.noise_rng))
        fast.grow(self.n_users, self.n_items)
        arrays = fast.arrays()
        sgd.start_items(arrays, known[1], noise)
        if chunk:
            ridge.fold_in(arrays, rows, *known, fast.NEWEST, loss=loss, scale=scale)
        return sgd.stream(
            arrays,
            rows,
            self.moments.copy(),
            loss=loss,
            learning_rate=self.learning_rate,
            newest=fast.NEWEST,
            chunk=chunk,
            n_items=self.n_items,
            rng=rng,
            fast=True,
            raw=True,
        )
