"""What every recommender shares: its ids, what was seen, and the straight line to a top-k."""

from __future__ import annotations

from contextlib import ExitStack
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils import check_scalar
from sklearn.utils.validation import check_is_fitted

from sklearn_recft import kernels
from sklearn_recft.history import SeenItems
from sklearn_recft.interactions import (
    Interactions,
    check_events,
    check_queries,
)
from sklearn_recft.parallel import n_threads
from sklearn_recft.ranking import TileScorer, top_k
from sklearn_recft.vocabulary import Vocabulary

# Queries whose seen items are laid out at a time; bounds memory whatever the query.
_QUERY_BLOCK = 16_384


class RecommenderMixin:
    """Mixin with `recommend`, the public vocabularies and the checks every verb starts with.

    A subclass keeps ``_users`` and ``_items`` (`Vocabulary`) and ``_seen`` (`SeenItems`) and
    gives ``_tile_scorer(users, columns, queries)``: a function ``(r0, r1, c0, c1, out)`` that
    writes the float32 scores of queries ``r0:r1`` for catalogue ``columns[c0:c1]``.
    """

    @property
    def user_ids_(self) -> np.ndarray:
        """Known user ids, in the order they were met, shape (n_users_,)."""
        return self._known("_users").ids

    @property
    def item_ids_(self) -> np.ndarray:
        """Known item ids, in catalogue order, shape (n_items_,)."""
        return self._known("_items").ids

    @property
    def n_users_(self) -> int:
        """Number of known users."""
        return len(self._known("_users"))

    @property
    def n_items_(self) -> int:
        """Number of known items."""
        return len(self._known("_items"))

    def recommend(
        self,
        X: Any,
        *,
        n_recommendations: int = 10,
        candidates: Any = None,
        exclude_seen: bool = True,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Best items for each query, best first; ties in catalogue order.

        Parameters
        ----------
        X : array-like of user ids of shape (n_queries,), or a table of queries
            A table has ``user_id`` and optionally ``timestamp`` and context columns (by name
            in a frame; by position user, timestamp, context in an array). Unknown users are
            answered by what is known without them.
        n_recommendations : int, default=10
            Items per query, at least 1.
        candidates : array-like of item ids, default=None
            The items to choose from; None for the whole catalogue.
        exclude_seen : bool, default=True
            Leave out what the user has already met in `fit` and `partial_fit`.

        Returns
        -------
        items : ndarray of shape (n_queries, n_recommendations)
            Item ids.
        scores : ndarray of shape (n_queries, n_recommendations), float64
            Their scores, on the scale of `predict`.

        Raises
        ------
        ValueError
            ``n_recommendations`` below 1 or above the number of eligible items, or an
            unknown candidate.
        """
        check_is_fitted(self)
        queries = check_queries(X)
        check_scalar(n_recommendations, "n_recommendations", Integral, min_val=1)
        users = self._users.encode(queries.user_ids)
        columns = self._candidate_codes(candidates)
        lookup = np.full(self.n_items_, -1, np.int64)
        lookup[columns] = np.arange(len(columns))
        found = np.empty((len(users), n_recommendations), np.int64)
        scores = np.empty((len(users), n_recommendations), np.float32)
        for start in range(0, len(users), _QUERY_BLOCK):
            rows = slice(start, start + _QUERY_BLOCK)
            block = users[rows]
            seen = self._seen
            log = (seen.last, seen.previous, seen.item) if exclude_seen else _NOTHING_SEEN
            indptr, hidden = kernels.gather_seen(block, *log, lookup)
            _check_enough(len(columns) - np.diff(indptr), n_recommendations, queries, start)
            tiles = self._tile_scorer(block, columns, queries.take(np.arange(len(users))[rows]))
            found[rows], scores[rows] = top_k(
                tiles, len(block), len(columns), n_recommendations, indptr, hidden,
                n_threads=n_threads(getattr(self, "n_jobs", None)),
            )  # fmt: skip
        return self._items.decode(columns[found]), self._link(scores.astype(np.float64))

    def set_params(self, **params: Any) -> Any:
        """Set parameters, also nested ones: ``training__learning_rate`` of ``training=None``.

        Parameters
        ----------
        **params : dict
            Estimator parameters.

        Returns
        -------
        self : object
        """
        nested = {
            name.partition("__")[2]: value
            for name, value in params.items()
            if name.startswith("training__")
        }
        if nested and params.get("training", getattr(self, "training", params)) is None:
            from sklearn_recft.training import FineTuning

            params = {name: v for name, v in params.items() if not name.startswith("training__")}
            params["training"] = FineTuning().set_params(**nested)
        return super().set_params(**params)  # type: ignore[misc]

    # ------------------------------------------------------------------ private

    def _tile_scorer(
        self, users: np.ndarray, columns: np.ndarray, queries: Interactions
    ) -> TileScorer:
        """Return what writes scores of ``users`` (codes) for catalogue ``columns``."""
        raise AttributeError(f"{type(self).__name__} has no _tile_scorer.")

    def _link(self, scores: np.ndarray) -> np.ndarray:
        """Return ``scores`` on the scale of `predict`."""
        return scores

    def _known(self, name: str) -> Vocabulary:
        if name not in vars(self):
            # An attribute error, so that hasattr tells a fitted estimator from a new one.
            raise AttributeError(f"This {type(self).__name__} instance is not fitted yet.")
        return vars(self)[name]

    def _candidate_codes(self, candidates: Any) -> np.ndarray:
        if candidates is None:
            return np.arange(self.n_items_)
        ids = check_queries(candidates).user_ids  # a plain list of ids, whoever they are of
        codes = self._items.encode(ids)
        if (codes < 0).any():
            unknown = np.asarray(ids)[codes < 0].tolist()
            raise ValueError(
                f"candidates: {len(unknown)} of {len(ids)} items are unknown, the first "
                f"is {unknown[0]!r}; choose from item_ids_."
            )
        return np.unique(codes)

    def _check_events(self, X: Any, y: Any, sample_weight: Any, *, reset: bool) -> Interactions:
        """Check what comes in; columns are remembered only once all of it is sound."""
        fading = (name for name in ("half_life", "window") if getattr(self, name, None) is not None)
        events = check_events(
            self, X, y, sample_weight=sample_weight, reset=reset, timed=next(fading, None),
            outcome=getattr(self, "outcome", None),
        )  # fmt: skip
        if not reset and (y is None) != self._positives_only:
            raise ValueError(
                "y was " + ("not " if self._positives_only else "") + "given to fit and must be "
                "given (or not) likewise to partial_fit."
            )
        return events

    def _check_rows(self, X: Any) -> Interactions:
        check_is_fitted(self)
        return check_events(self, X, reset=False)

    def _remember(self, events: Interactions) -> tuple[np.ndarray, np.ndarray]:
        """Grow the vocabularies and the seen items; return user and item codes."""
        users = self._users.extend(events.user_ids)
        items = self._items.extend(events.item_ids)
        self._seen.append(users, items, len(self._users))
        return users, items

    def _begin(self, events: Interactions) -> None:
        """Start from nothing."""
        self._users, self._items, self._seen = Vocabulary(), Vocabulary(), SeenItems()
        self._positives_only = events.feedback is None

    def _undo(self, events: Interactions) -> ExitStack:
        """Collect what puts the estimator back if learning ``events`` fails or is killed.

        For estimators whose other arrays are replaced, never written to: ids and seen items
        alone are appended in place.
        """
        undo = ExitStack()
        undo.callback(vars(self).update, vars(self).copy())
        undo.callback(vars(self).clear)
        if "_users" in vars(self):
            known = self._users.encode(events.user_ids)
            undo.callback(self._users.truncate, len(self._users))
            undo.callback(self._items.truncate, len(self._items))
            undo.callback(self._seen.restore, self._seen.mark(known[known >= 0]))
        return undo

    def __sklearn_is_fitted__(self) -> bool:
        return "_users" in vars(self)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.target_tags.required = False
        if tags.regressor_tags is not None:
            # Ids have no arithmetic: rows of unseen ids cannot be told apart.
            tags.regressor_tags.poor_score = True
        return tags


_NOTHING_SEEN = (np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.int32))


def _check_enough(eligible: np.ndarray, wanted: int, queries: Interactions, start: int) -> None:
    if len(eligible) and eligible.min() < wanted:
        row = start + int(eligible.argmin())
        (user,) = queries.user_ids[row : row + 1].tolist()
        raise ValueError(
            f"n_recommendations={wanted}, but user {user!r} has only "
            f"{int(eligible.min())} eligible items; ask for fewer, give more candidates or "
            "pass exclude_seen=False."
        )
