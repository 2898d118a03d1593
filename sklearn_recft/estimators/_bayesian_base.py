"""What the regressor and the classifier by Bayesian matrix factorization share."""

from __future__ import annotations

from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval
from sklearn.utils.metaestimators import available_if

from sklearn_recft.base import RecommenderMixin
from sklearn_recft.estimators._features import FeaturesMixin
from sklearn_recft.estimators._verbs import SimilarItemsMixin
from sklearn_recft.interactions import check_ids
from sklearn_recft.lists import (
    ListOptions,
    check_length,
    frame_library,
    recommend_lists,
    refuse_unknown,
)
from sklearn_recft.models import BayesianMFModel, BayesianMFSettings, Call

# Largest size of `exploration`: beyond it, float32 holds nothing of the expected feedback.
_MOST_DEVIATIONS = 1e6


def _asks(estimator: Any) -> bool:
    """Raise an attribute error if answers may teach nothing."""
    if getattr(estimator, "loss", None) == "implicit":
        raise AttributeError(
            "ask: with loss='implicit', only positives teach something, and nobody knows which "
            "answers will be positive. Use loss='squared_error' with answers of 0 and 1."
        )
    return True


class BayesianMixin(FeaturesMixin, SimilarItemsMixin, RecommenderMixin):
    """Mixin of estimators around a Bayesian factorization: verbs, settings, fitted attributes."""

    n_factors: int
    max_epochs: int
    text_components: int
    half_life: float | None
    verbose: int

    _model: BayesianMFModel
    _FIXED: ClassVar[tuple[str, ...]] = (
        "n_factors",
        "user_features",
        "item_features",
        "backbone",
        "text_components",
        "half_life",
    )
    _parameter_constraints: ClassVar[dict] = {
        "n_factors": [Interval(Integral, 1, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "user_features": [list, tuple, None],
        "item_features": [list, tuple, None],
        "backbone": [str, None],
        "text_components": [Interval(Integral, 1, None, closed="left")],
        "half_life": [Interval(Real, 0, None, closed="neither"), None],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def adapt(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        users: Any = None,
        items: Any = None,
    ) -> Any:
        """Update the users of further rows alone, and items without events before.

        All other users and items stay the same, to the last bit. Parameters are those of `fit`,
        with at least one row in ``X``. A row that is passed to `partial_fit` as well, or twice,
        counts twice.

        Returns
        -------
        self : object

        Raises
        ------
        NotFittedError
            Before `fit`.
        """
        self._check_is_fitted()
        self._update(X, y, sample_weight, Call(adapt=True), users=users, items=items)
        return self

    def observe(self, X: Any, y: Any = None) -> Any:
        """Update the users of further rows alone: `adapt`, except that new items learn nothing.

        Items without events before stay at their prior, until `partial_fit` or `adapt` learns them.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
        y : array-like of shape (n,), default=None
            Their feedback, if `fit` had any.

        Returns
        -------
        self : object

        Raises
        ------
        NotFittedError
            Before `fit`.
        """
        self._check_is_fitted()
        self._update(X, y, None, Call(weights=False))
        return self

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
        exploration: Any = None,
        random_state: Any = None,
    ) -> Any:
        """Recommend the best items for each query, best first; ties in catalogue order.

        Parameters
        ----------
        X : array-like of user ids of shape (n_queries,), or a table of queries
            A table has ``user_id`` and, for unknown users, may have the columns that
            ``user_features`` names, such as a profile. If ``user_features`` is None, features in
            a query are not read. Unknown users get the list of a user without history.
        n_recommendations : int, default=10
            Items per query, at least 1.
        candidates : array-like of item ids, or frame with user_id and item_id, default=None
            The items to choose from: ids for all queries, or a frame with the items of each
            user, one per row. None means the whole catalogue.
        exclude : array-like of item ids, or frame with user_id and item_id, default=None
            The items to leave out, for all queries or by user. Unknown ids are ignored.
        exclude_seen : bool, default=True
            Leave out the items that the user interacted with in a call that learned.
        on_missing : {"raise", "pad"}, default="raise"
            If a query has fewer than ``n_recommendations`` eligible items: raise an error, or
            fill up its row with the id None and the score -inf.
        as_frame : bool, default=False
            Return one long table, without padded places.
        exploration : {None, "thompson"} or float, default=None
            None ranks by the expected feedback. "thompson" ranks by vectors drawn from the
            posteriors: one draw for each query, and one for each item in the call. A number c ranks
            by the expected feedback plus c of its standard deviations, without the noise: an upper
            confidence bound if c is positive, a cautious list if it is negative. Of labels, these
            are the log-odds and their deviations.
        random_state : int, RandomState instance or None, default=None
            Seed of the draws of "thompson". None draws anew in each call.

        Returns
        -------
        items : ndarray of shape (n_queries, n_recommendations)
            Item ids.
        scores : ndarray of shape (n_queries, n_recommendations), float64
            What they were ranked by: in units of ``y``, or as probabilities of the second class.
        table : data frame
            In place of both if ``as_frame``: columns ``user_id``, ``rank`` (from 1), ``item_id``
            and ``score``, in the frame library of ``X``; a pandas frame if ``X`` is no frame.
        """
        queries, model = self._check_queries(X), self._model
        options = ListOptions(
            n_recommendations,
            candidates,
            exclude,
            exclude_seen,
            on_missing,
            frame_library(X, as_frame),
        )
        share = _check_exploration(exploration)
        with model.reading():
            if exploration is not None:
                given = np.random.RandomState() if random_state is None else random_state
                seed = check_random_state(given).randint(np.iinfo(np.int32).max)
                model = model.exploring(share, np.random.default_rng(seed))
            return recommend_lists(model, queries, options, self._n_threads())

    @available_if(_asks)
    def ask(self, X: Any, n_items: int = 1, *, candidates: Any = None) -> np.ndarray:
        """Return the items whose feedback would tell most about each user: questions to ask.

        An answer lowers the uncertainty of the user's vector, and so the variance of all
        predictions for that user. The items are those that lower the mean of this variance over the
        catalogue most, chosen one after the other, each given that those before are answered. It
        does not matter what the answers are. With ``loss="implicit"``, there is no such method: an
        answer that is not positive would teach nothing.

        Parameters
        ----------
        X : array-like of user ids of shape (n_queries,), or a table of queries
            Unknown users get the items that tell most about a user without history. Features in
            a table are read as in `recommend`.
        n_items : int, default=1
            Items per query.
        candidates : array-like of item ids, default=None
            The items to choose from. None means the whole catalogue, with items that few users
            know: pass popular items, which the user can answer. Items that the user has seen are
            left out.

        Returns
        -------
        items : ndarray of shape (n_queries, n_items)
            Item ids, the most telling first.

        Raises
        ------
        ValueError
            If a candidate is unknown, ``n_items`` is below 1, or a query has fewer items left.
        TypeError
            If ``n_items`` is no integer.
        """
        queries, model = self._check_queries(X), self._model
        check_length("n_items", n_items)
        chosen = None if candidates is None else check_ids(candidates, "candidates")
        with model.reading():
            columns = np.arange(model.n_items)
            if chosen is not None:
                columns = model.items.encode(chosen)
                refuse_unknown(columns, chosen, "candidates")
            users = model.users.encode(queries.user_ids)
            allowed = np.zeros((len(users), model.n_items), bool)
            allowed[:, columns] = True
            for row, user in enumerate(users.tolist()):
                if user >= 0:
                    allowed[row, model.seen.items_of(user)] = False
            n_left = allowed.sum(axis=1)
            if n_left.min() < n_items:
                row = int(n_left.argmin())
                (user,) = queries.user_ids[row : row + 1].tolist()
                raise ValueError(
                    f"n_items={n_items}, but user {user!r} has only {n_left[row]} items that were "
                    "not seen; ask for fewer, or give more candidates."
                )
            return model.items.decode(model.most_telling(users, queries, allowed, int(n_items)))

    @property
    def user_means_(self) -> np.ndarray:
        """Posterior means of users, shape (n_users_, 1 + n_factors), float64."""
        model = self._fitted("user_means_")
        with model.reading():
            means: np.ndarray = model.user_table.means * model.scale
        return means

    @property
    def item_means_(self) -> np.ndarray:
        """Posterior means of items, shape (n_items_, 1 + n_factors), float64."""
        model = self._fitted("item_means_")
        with model.reading():
            means: np.ndarray = model.item_table.means.copy()
            means[:, 0] *= model.scale
        return means

    @property
    def intercept_(self) -> float:
        """Mean of the feedback in `fit`; of labels, the log-odds of the second class."""
        return float(self._fitted("intercept_").center)

    # ------------------------------------------------------------------ private

    def _settings_of(self, loss: str) -> BayesianMFSettings:
        return BayesianMFSettings(
            n_factors=int(self.n_factors),
            max_epochs=int(self.max_epochs),
            loss=loss,
            backbone=self.backbone,
            text_components=int(self.text_components),
            half_life=self.half_life,
            n_threads=self._n_threads(),
            verbose=self.verbose,
        )

    def _make_model(self, rows: Any) -> BayesianMFModel:
        return BayesianMFModel(rows, replace(self._settings(), seed=self._seed()))


def _check_exploration(given: Any) -> float | None:
    """Return the number of standard deviations; None for "thompson" and for no exploration."""
    if given is None or (isinstance(given, str) and given == "thompson"):
        return None
    if isinstance(given, (bool, np.bool_)) or not isinstance(given, Real):
        raise ValueError(
            f"exploration={given!r}: it must be None, 'thompson' or a number of standard "
            "deviations."
        )
    share = float(given)
    if not abs(share) <= _MOST_DEVIATIONS:
        raise ValueError(
            f"exploration={given}: give a finite number of standard deviations, such as 1.0."
        )
    return share
