"""Verbs of some recommenders: similar items, reasons of a score, and lists from a given history."""

from __future__ import annotations

from collections.abc import Collection
from types import SimpleNamespace
from typing import Any

import numpy as np
from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted

from sklearn_recft.events import Interactions
from sklearn_recft.interactions import check_interactions, check_queries
from sklearn_recft.lists import ListOptions, frame_library, recommend_lists, similar_lists
from sklearn_recft.models import Call, Explanation, FittedModel
from sklearn_recft.vocabulary import warn_of_other_types

# Rows that are explained together: bounds memory beyond that of the result.
_ROWS_AT_ONCE = 4096
# What a fitted estimator knows of the columns of its table.
_COLUMNS_OF_FIT = ("n_features_in_", "feature_names_in_")


class SimilarItemsMixin:
    """Mixin of recommenders whose items have vectors, weights or similarities."""

    _model: FittedModel

    def similar_items(
        self,
        item_ids: Any,
        n_items: int = 10,
        *,
        on_missing: str = "raise",
        as_frame: bool = False,
    ) -> Any:
        """Return the most similar items of each item, best first; ties in catalogue order.

        Parameters
        ----------
        item_ids : array-like of item ids of shape (n_queries,)
            Known items.
        n_items : int, default=10
            Similar items per query, at least 1. The item itself is left out.
        on_missing : {"raise", "pad"}, default="raise"
            If the catalogue has fewer other items: raise an error, or fill up the row with the id
            None and the score -inf. With "pad", ``items`` is always an array of objects.
        as_frame : bool, default=False
            Return one long table, without padded places.

        Returns
        -------
        items : ndarray of shape (n_queries, n_items)
            Item ids.
        scores : ndarray of shape (n_queries, n_items), float64
            Their similarities. `EASERecommender`: ``B_ij``, the weight of the given item i in the
            score of j. `ItemKNNRecommender`: ``s_ij``; items that are no neighbours have 0.
            `RP3BetaRecommender`: ``w_ij``; items that no walk reaches have 0.
            `SequentialRulesRecommender`: ``r_ij``, the weight of j after i; 0 without a rule.
            `IncrementalMFRecommender`, `ALSRecommender` and `BayesianMFRecommender`: the cosine of
            ``q_i`` and ``q_j``. The neural models: the cosine of the vectors of the items, which
            hold their texts if there are any. The cosine of an item that has learned nothing is 0.
        table : data frame
            In place of both if ``as_frame``: columns ``item_id``, ``rank`` (from 1), ``similar_id``
            and ``score``, in the frame library of ``item_ids``; a pandas frame if that is none.

        Raises
        ------
        ValueError
            If an item is unknown, or ``n_items`` is below 1 or, unless padded, not below the size
            of the catalogue.
        TypeError
            If ``n_items`` is no integer, ``as_frame`` no bool, or an id not hashable.
        NotFittedError
            Before `fit`.

        Examples
        --------
        >>> from sklearn_recft import EASERecommender
        >>> X = [["ann", "tea"], ["ann", "milk"], ["bob", "tea"], ["bob", "milk"], ["cem", "rice"]]
        >>> EASERecommender(reg=1.0).fit(X).similar_items(["tea"], 2)[0].tolist()
        [['milk', 'rice']]
        """
        check_is_fitted(self)
        return similar_lists(
            self._model,
            item_ids,
            n_items,
            on_missing=on_missing,
            as_frame=as_frame,
            n_threads=self._n_threads(),  # type: ignore[attr-defined]
        )


class AdaptMixin:
    """Mixin of recommenders that adapt to events of a user; what users share stays."""

    def adapt(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Adapt to the events of new or known users; nothing that users share changes.

        Only the users in ``X``, and items that were unknown before, change. Known items and all
        other known users keep every bit.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
        y : array-like of shape (n,), default=None
            Their feedback, if `fit` had any.
        sample_weight : array-like of shape (n,), default=None

        Returns
        -------
        self : object

        Raises
        ------
        NotFittedError
            Before `fit`.

        Notes
        -----
        Events count once for each call that they are passed to. A call that fails changes nothing.
        What changes:

        * `IncrementalMFRecommender` (ratings and shares) and `IncrementalMFClassifier`: the factors
          and the bias of the user, by ridge regression on the factors of the known items. An
          earlier event of the user counts by a penalty that pulls towards the values so far. Then,
          new items are fitted to their users. The order of the rows does not matter. The penalty
          is the best found on new users of MovieLens 1M; ``reg`` does not change it.
        * `ALSRecommender`: the sums and the factors of the user, as in `observe`. New items join
          the catalogue with factors of zero.
        * `DecayBertRecommender`: the user's history, rates and factors. Weights, and rates and
          counts of items, stay.
        * `RealtimeTransformerRecommender`: the user's history. Weights, trends and counts of items
          stay.

        The newest users make the list of an unknown user in a factorization, and adapted users are
        among them. New items join the catalogue, and so the lists of all users.

        Examples
        --------
        >>> from sklearn_recft import IncrementalMFRecommender
        >>> from sklearn_recft.datasets import make_checkerboard
        >>> X, y = make_checkerboard(20, 20, return_X_y=True)
        >>> model = IncrementalMFRecommender(n_factors=4, random_state=0).fit(X, y)
        >>> few = [["ann", 0], ["ann", 1], ["ann", 2]]
        >>> like, dislike = model.adapt(few, [1, 0, 1]).predict([["ann", 4], ["ann", 5]])
        >>> bool(like > dislike)
        True
        """
        self._check_is_fitted()  # type: ignore[attr-defined]
        call = Call(weights=False, adapt=True)
        self._update(X, y, sample_weight, call)  # type: ignore[attr-defined]
        return self


class ExplainMixin:
    """Mixin of recommenders that split a score into parts of the user's past items."""

    _model: FittedModel

    def explain(self, X: Any) -> Bunch:
        """Explain the score of each row as a sum over past items of its user.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
            Users and items, known or not, and optionally times and context, as in `predict`.

        Returns
        -------
        reasons : Bunch
            ``item_ids`` (n, L)
                Distinct past items that contribute, the largest contribution first, padded with
                None. L is the length of the longest row, at least 1.
            ``contribution`` (n, L), float64
                What each of them adds to the score, 0 at padding.
            ``terms`` dict of str to ndarray of shape (n,)
                The rest of the score by name, such as "popularity".
            ``score`` (n,), float64
                The sum of contributions and terms: the score by which `recommend` ranks. Where that
                is transformed before it is returned, it is the score before: the log-odds of a
                probability, and a rating before it is clipped to the range of ``y``.
            ``count``, ``age`` (n, L)
                With habits only: the decayed number of earlier baskets of the user with the row's
                own item, and the days since the last of them. 0 and NaN for other items.
            ``contribution of NAME`` (n, L)
                `AdaptiveRecommender` only: the part of the contribution through the member NAME.

        Notes
        -----
        The contributions of past items are

        * `EASERecommender`: ``x_uj B_ji``. `ItemKNNRecommender`: ``x_uj s_ji``. The other term is
          popularity. It orders items of equal scores, and it is all there is for unknown users.
          With feedback, `predict` of `ItemKNNRecommender` is another number: a mean, no sum.
        * `ALSRecommender`: ``q_i A_u^-1 q_j (1 + alpha x_uj)`` for items with ``x_uj > 0``, with
          ``A_u = sum_j (1 + alpha |x_uj|) q_j q_j^T + reg I`` over all items j (Hu, Koren &
          Volinsky, 2008, section 5). They add up to the exact solution for the user. The factors in
          use differ from it after `fit`, which ends with the items. The term "remainder" has the
          difference. It is near 0 for users that were folded in.
        * `IncrementalMFRecommender` with "softmax": ``c_k v_(i_k) . q_i / sqrt(sum_k c_k)`` of the
          last events; the terms are "popularity" and, without ``history_half_life``, "factors"
          (``p_u . q_i``). The other losses keep no past items. Their terms are "mean", "user bias",
          "item bias", "factors" and "context".
        * `AdaptiveRecommender`: the contributions to the members that have `explain`, times the
          weight of the member's score. The terms are the rest of each member, by its name, those of
          the item, and "behind the pool".
        * Habits: what the user's earlier baskets with the item add is a contribution of the item
          itself.
        * The neural models are no sums, so their last ``max_history`` events are added one by one,
          oldest first, at the time of the row. A contribution is the change when the event joins
          those before it, so it depends on them. `DecayBertRecommender`: the change of the logit,
          with all online features as they are; the term "base" is the logit without past events.
          `RealtimeTransformerRecommender`: the change of the log-probability of the item among all
          known items; "base" is the log-probability before these events, and "normalizer" the
          score minus the log-probability. The net runs once for each event of each row. With search
          words, the term "query" of both models is what they add.

        Examples
        --------
        >>> from sklearn_recft import EASERecommender
        >>> X = [["ann", "tea"], ["ann", "milk"], ["bob", "tea"], ["bob", "milk"], ["cem", "tea"],
        ...      ["cem", "rice"]]
        >>> reasons = EASERecommender(reg=1.0).fit(X).explain([["cem", "milk"]])
        >>> reasons.item_ids.tolist(), reasons.contribution.round(2).tolist()
        ([['tea', 'rice']], [[0.57, -0.29]])
        """
        check_is_fitted(self)
        rows, model = self._check_rows(X), self._model  # type: ignore[attr-defined]
        with model.reading():
            starts = range(0, len(rows), _ROWS_AT_ONCE)
            blocks = (rows.take(np.arange(s, min(s + _ROWS_AT_ONCE, len(rows)))) for s in starts)
            found = Explanation.joined([model.explain(model.encode(block)) for block in blocks])
            return Bunch(
                item_ids=names_of_past(model, found.item),
                contribution=found.contribution,
                terms=found.terms,
                score=found.score,
                **found.about,
            )


class HistoryMixin:
    """Mixin of recommenders that compute a list from a given history, of users known or not."""

    _model: FittedModel

    def recommend(
        self,
        X: Any,
        *,
        n_recommendations: int = 10,
        candidates: Any = None,
        exclude: Any = None,
        exclude_seen: bool = True,
        on_missing: str = "raise",
        as_frame: bool = False,
        history: Any = None,
    ) -> Any:
        """Recommend the best items for each query, best first; ties in catalogue order.

        Parameters
        ----------
        X : array-like of user ids of shape (n_queries,), or a table of queries
            A table has ``user_id`` and optionally ``timestamp``, ``query`` (search words, in frames
            only) and context columns (by name in a frame; by position user, timestamp, context in
            an array). Unknown users get the list that fits a user without history.
        n_recommendations : int, default=10
            Items per query, at least 1.
        candidates : array-like of item ids, or frame with user_id and item_id, default=None
            The items to choose from: ids for all queries, or a frame with the items of each
            user, one per row. Other columns of the frame, and users who are not queried, are
            ignored. None means the whole catalogue.
        exclude : array-like of item ids, or frame with user_id and item_id, default=None
            The items to leave out, for all queries or by user. Unknown ids are ignored.
        exclude_seen : bool, default=True
            Leave out the items that the user interacted with in `fit`, `partial_fit` or `observe`;
            those of ``history`` if it is given. Pass False for repeat purchases.
        on_missing : {"raise", "pad"}, default="raise"
            If a query has fewer than ``n_recommendations`` eligible items: raise an error, or
            fill up its row with the id None and the score -inf. With "pad", ``items`` is always
            an array of objects, also for integer ids.
        as_frame : bool, default=False
            Return one long table, without padded places.
        history : table of events, or a pair (table, feedback), default=None
            Events of the users (``user_id``, ``item_id``, ``timestamp``) that replace all stored
            ones in this call: for a stateless service, or for visitors that are not stored. Users
            without an event in it are unknown users. Events of unknown items are ignored.

        Returns
        -------
        items : ndarray of shape (n_queries, n_recommendations)
            Item ids.
        scores : ndarray of shape (n_queries, n_recommendations), float64
            Their scores. Their meaning is in the estimator's notes, and in its tags.
        table : data frame
            In place of both if ``as_frame``: columns ``user_id``, ``rank`` (from 1), ``item_id``
            and ``score``, one row per listed item, in the frame library of ``X``. It is a pandas
            frame if ``X`` is no frame.

        Raises
        ------
        ValueError
            If ``n_recommendations`` is below 1 or, unless padded, above the number of eligible
            items; if a candidate is unknown; if a user has no row in ``candidates``, unless padded;
            or if a column is invalid.
        TypeError
            If ``n_recommendations`` is no integer, ``exclude_seen`` no bool, or an id not hashable.
        NotFittedError
            Before `fit`.

        Notes
        -----
        With ``history``, nothing that items have learned changes: item weights, similarities,
        factors, popularity and counts are those of the fitted model. Given these,
        `EASERecommender`, `ItemKNNRecommender`, `RP3BetaRecommender` and
        `SequentialRulesRecommender` compute the scores that the user would have after `observe` of
        the events, up to the popularity that orders ties.
        `ALSRecommender` solves for the user's factors as in `observe`. With ``loss="softmax"``,
        `IncrementalMFRecommender` sums
        over the events; a known user's ``p_u`` is not used, and other losses raise an error.
        """
        self._check_is_fitted()  # type: ignore[attr-defined]
        model = self._model
        features = self._features()  # type: ignore[attr-defined]
        given = None if history is None else _check_history(history, model, features)
        queries = self._queries_beside(X, given)
        options = ListOptions(
            n_recommendations,
            candidates,
            exclude,
            exclude_seen,
            on_missing,
            frame_library(X, as_frame),
        )
        n_threads = self._n_threads()  # type: ignore[attr-defined]
        if given is None:
            return recommend_lists(model, queries, options, n_threads)
        with model.reading():
            return recommend_lists(model.with_history(given), queries, options, n_threads)

    def _queries_beside(self, X: Any, history: Interactions | None) -> Interactions:
        """Check queries, whose users are those of a history if there is one."""
        if history is None:
            return self._check_queries(X)  # type: ignore[attr-defined]
        fitted = {name: value for name, value in vars(self).items() if name in _COLUMNS_OF_FIT}
        known = SimpleNamespace(**fitted, user_ids_=history.user_ids)
        outcome, features = self._outcome(), self._features()  # type: ignore[attr-defined]
        return check_queries(X, known, outcome=outcome, features=features)


class AttendMixin:
    """Mixin of neural recommenders that attend to the past events of a user."""

    _model: FittedModel

    def attend(self, X: Any) -> Bunch:
        """Return the attention of each row to past events.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
            `DecayBertRecommender`: rows of known items. `RealtimeTransformerRecommender`: the
            attention belongs to the query, so it does not depend on the item.

        Returns
        -------
        past : Bunch
            ``item_ids`` (n, L)
                Past events, newest first, padded with None. L is the longest history of the rows,
                at least 1.
            ``age``, ``feedback`` (n, L)
                Days before the row, and the feedback of the events as the net reads it; 0 at
                padding. `DecayBertRecommender`: 1 or -1, or the standardized ``outcome``.
            ``attention`` (n, n_heads, L)
                Weights of the events in each head of the last block. They sum to 1 if there are
                past events; in `DecayBertRecommender`, the null key has the rest.

        Notes
        -----
        Attention says where the net looked. It is no contribution to the score: see `explain`.
        """
        check_is_fitted(self)
        rows, model = self._check_rows(X), self._model  # type: ignore[attr-defined]
        with model.reading():
            attention, past = model.attention(model.encode(rows))  # type: ignore[attr-defined]
            return Bunch(
                item_ids=names_of_past(model, past.item),
                age=past.age,
                feedback=past.feedback,
                attention=attention,
            )


def names_of_past(model: FittedModel, codes: np.ndarray) -> np.ndarray:
    """Return the ids of item codes, None for -1."""
    names, there = np.full(codes.shape, None, object), codes >= 0
    names[there] = model.items.decode(codes[there])
    return names


def _check_history(history: Any, model: FittedModel, features: Collection[str]) -> Interactions:
    """Check the events that replace the stored histories."""
    X, y = history if isinstance(history, tuple) else (history, None)
    rows = check_interactions(X, y, features=features)
    if (y is None) != model.positives_only:
        raise ValueError(
            "history: fit was given feedback, and so must history be, as (table, feedback)."
            if y is None
            else "history: fit was given no feedback; give the table of events alone."
        )
    name = "history: item_id"
    warn_of_other_types({name: model.items.ids}, {name: np.asarray(rows.item_ids)}, stacklevel=3)
    return rows
