"""`AdaptiveRecommender`: a blend of recommenders whose weights learn from what happens."""

from __future__ import annotations

import copy
from collections.abc import Collection
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin, _fit_context, clone
from sklearn.utils import Bunch, check_random_state
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.metaestimators import _BaseComposition

from sklearn_recft.base import ObserveMixin, RecommenderMixin, RecommenderTags, recommender_tags
from sklearn_recft.estimators._embedding import reads_embedding
from sklearn_recft.estimators._verbs import ExplainMixin
from sklearn_recft.events import Interactions
from sklearn_recft.features import feature_names
from sklearn_recft.interactions import check_events
from sklearn_recft.lists import check_shown
from sklearn_recft.models import (
    ITEM_FEATURES,
    RESERVED_NAMES,
    AdaptiveModel,
    AdaptiveSettings,
    FittedModel,
    Member,
    MemberRows,
)
from sklearn_recft.names import EMBEDDING, ITEM, USER
from sklearn_recft.tables import without
from sklearn_recft.vocabulary import warn_of_other_types

_TEXT = "the estimators of a blend"


class AdaptiveRecommender(
    ExplainMixin, ObserveMixin, RecommenderMixin, RegressorMixin, _BaseComposition, BaseEstimator
):
    """Blend recommenders by weights that are updated by each event.

    Each member m ranks the catalogue for a query. The blend scores item i by

    ``s_i = sum_m (a_m (-log2(r_mi + 2)) + b_m z_mi) + c . x_i``.

    ``r_mi`` counts from 0 the items that the member ranks before i, at most ``n_candidates``.
    ``z_mi`` is the member's score, standardized over the items of the query. ``x_i`` has the age of
    the item, whether the user interacted with it before, and how long ago. The weights a, b, c are
    sums of three sets: one of all queries, one by the number of events of the user, and one by the
    time since the last of them. Users without an event since the last `partial_fit` have sets of
    their own ("ahead"), one of all and one of new users, of users of the last day, or of the other
    known ones: such a list is for all that they take until the next call. These sets learn from
    what the user takes in the same chunk of a call, of at most 2,000 events. The lists are few, so
    their squares are never forgotten, and a share of the first weights is added: of 0, .1, .3, 1
    and 10, the one with the best NDCG@10 of such lists so far. A list counts half after 3,000, and
    a share above 0 has to be ahead by one perfect list.

    The weights learn from each event of `partial_fit`: first the members rank the items for the
    event's user, then the weights make a step of AdaGrad. The loss is the softmax cross-entropy of
    the event's item among the best ``n_candidates`` items of the blend; it is 0 if the item is not
    one of them. Then the members learn the event. `fit` does this with the last 20 % of the rows,
    in five parts, where the weights make three steps for each event.

    Parameters
    ----------
    estimators : list of (str, recommender)
        Members by name. They are cloned. "drop" leaves a member out.
    learning_rate : float, default=0.03
        Learning rate of the weights.
    forgetting : float, default=0.999
        Factor of the sums of squared gradients for each query. Below 1, the weights keep moving.
    n_candidates : int, default=40
        Length of the list of each member. The pool of a query is the union of these lists.
    context : bool, default=True
        Whether weights depend on the query, and scores on features of the items. False leaves a and
        b, the same for all queries and above 0: an item that all members prefer is first.
    final_estimator : classifier, default=None
        Classifier with ``predict_proba`` that scores the pool from the same features, in place of
        the weights: ``weights_`` then has no effect on a list. It is fitted in `fit` alone, so it
        may not be set later, and `partial_fit` takes no ``shown``.
    n_jobs : int, default=None
        Number of threads of `recommend`; None is 1, -1 all cores. Members have their own.
    random_state : int, RandomState instance or None, default=None
        Seed of the members whose ``random_state`` is None.

    Attributes
    ----------
    estimators_ : list of recommenders
        The fitted members. They share the state of the blend, so do not update them directly.
    named_estimators_ : Bunch
        The fitted members by name.
    weights_ : dict of dict of float
        Weights by kind of query and feature. The first kind is "all"; the weights of a query are
        the sum of those of its kinds. "ahead" includes the share of the first weights.
        ``pandas.DataFrame(model.weights_).T`` is a table.
    weights_log_ : dict of ndarray
        The last 200 chunks of at most 2,000 queries, as columns: "time" of the last event,
        "n_queries", "ndcg@10 of the blend" and of each member, before the chunk was learned, and
        the mean weights of its queries. A query has an NDCG of 0 if its item is not in the list.
    drift_ : list of Bunch
        Alarms in the log: after "timestamp", the NDCG@10 of "member" less that of the blend had
        gone from "before" to "after". The longer a change lasts, the smaller it may be.
    user_ids_, item_ids_ : ndarray
        Known ids. ``n_users_`` and ``n_items_`` count them.
    n_features_in_ : int
        Number of columns of ``X``; ``feature_names_in_`` holds their names, if any.

    Notes
    -----
    Items outside of the pool come behind it, by the mean of ``z_mi`` over the members. The best of
    them has a score of 1 below the lowest of the pool. The score of an item depends on its user,
    the time and the context, and not on ``candidates``, ``exclude`` or ``exclude_seen``. So members
    always score the whole catalogue.

    If at least 10 % of the events repeat a pair of user and item, seen items are ranked among the
    others: then pass ``exclude_seen=False``. Otherwise, ranks count unseen items alone, and a seen
    item has the rank of the unseen item that it would replace.

    In `partial_fit`, earlier events of the same call are part of a user's history: copies of the
    members with `observe` take them in, in at most 25 steps. All other state is that before the
    call. A user's first list of the call also learns from all items that the user takes in it: it
    is a list for the time until the next call. The weights learn from rows with ``y > 0``.

    Members keep their own copies of ids. A member without `observe` does not see the events of
    `observe`, and gives new items its lowest score. `IncrementalMFRecommender` with "softmax" does:
    they join the last events of its users. `forget` and saving include all members.

    A column ``embedding`` of vectors goes to the members that read it, if there is one, and the
    others do not see it. Pipelines cannot be members. Put the transformers before the blend.

    References
    ----------
    Bifet, A. & Gavaldà, R. (2007). Learning from time-changing data with adaptive windowing. SDM.

    Duchi, J., Hazan, E. & Singer, Y. (2011). Adaptive subgradient methods. JMLR.

    Examples
    --------
    >>> from sklearn_recft import AdaptiveRecommender, EASERecommender, PopularityRecommender
    >>> from sklearn_recft.datasets import make_interactions
    >>> X = make_interactions(50, 30, 800, random_state=0).data
    >>> members = [("popular", PopularityRecommender()), ("ease", EASERecommender())]
    >>> model = AdaptiveRecommender(members).fit(X[:700])
    >>> model.partial_fit(X[700:]).recommend([1, 2], n_recommendations=3)[0].shape
    (2, 3)
    >>> sorted(model.weights_["all"])[:3]
    ['item age', 'rank of ease', 'rank of popular']
    """

    _model: AdaptiveModel
    _TAGS = RecommenderTags(
        predicts="order",
        partial_fit="warm start",
        reads=("time", "order"),
        keeps="its members, weights by context, a log of 200 chunks",
        learns="the weight of each of several recommenders, by kind of query",
    )
    _parameter_constraints: ClassVar[dict] = {
        "estimators": [list],
        "learning_rate": [Interval(Real, 0, None, closed="left")],
        "forgetting": [Interval(Real, 0, 1, closed="right")],
        "n_candidates": [Interval(Integral, 1, None, closed="left")],
        "context": ["boolean"],
        "final_estimator": [HasMethods(["fit", "predict_proba"]), None],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        estimators: list[tuple[str, Any]],
        *,
        learning_rate: float = 0.03,
        forgetting: float = 0.999,
        n_candidates: int = 40,
        context: bool = True,
        final_estimator: Any = None,
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.estimators = estimators
        self.learning_rate = learning_rate
        self.forgetting = forgetting
        self.n_candidates = n_candidates
        self.context = context
        self.final_estimator = final_estimator
        self.n_jobs = n_jobs
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> AdaptiveRecommender:
        """Fit the members, then the weights, to a log of events.

        The members learn the first 80 % of the rows in time (in the order of rows without
        timestamps). Of the other rows, they rank the items for the users of each of five parts, the
        weights learn from each row, and then the members learn the part.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
            ``user_id``, ``item_id`` and optionally ``timestamp``, and what the members read.
        y : array-like of shape (n,), default=None
            Feedback or labels, as the members take them. The weights learn from rows with
            ``y > 0``, or of the second class.
        sample_weight : array-like of shape (n,), default=None

        Returns
        -------
        self : object
        """
        self._fit(X, y, sample_weight)
        return self

    @_fit_context(prefer_skip_nested_validation=False)
    def partial_fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        shown: Any = None,
        batch_id: Any = None,
    ) -> AdaptiveRecommender:
        """Update the weights, then the members, by new events; a call that fails changes nothing.

        The members rank the items for each event before anything learns from it.

        Parameters
        ----------
        X : table of events of shape (n, n_columns), or None
            As in `fit`. None is allowed with ``shown``: then the members learn nothing.
        y, sample_weight : array-like of shape (n,), default=None
            As in `fit`.
        shown : table, default=None
            Displayed lists, one row per shown item: ``list_id``, ``user_id``, ``item_id``, ``rank``
            (from 1), ``clicked`` (0 or 1) and optionally ``timestamp``. A list has one user, and
            each rank and item once. The weights then learn from these lists alone, in the order of
            time: the softmax is over the items of a list, and each rank has a weight that
            `recommend` does not use (position bias). Lists without clicks have no effect on the
            weights. The members learn from ``X``, so pass the clicks there too. Not with
            ``final_estimator``.
        batch_id : str or int, default=None
            Rows of a ``batch_id``, such as a file name, are learned once.

        Returns
        -------
        self : object
        """
        self._update(X, y, sample_weight, batch_id=batch_id, shown=shown)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the score of each row's item in the list of its user.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)

        Returns
        -------
        y : ndarray of shape (n,), float64
            The scores of `recommend`: they order the items of one query, and differences of two
            items of the pool are log-odds of the one against the other.
        """
        return self._predict(X)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters; ``deep`` those of the estimators too."""
        return self._get_params("estimators", deep=deep)

    def set_params(self, **params: Any) -> AdaptiveRecommender:
        """Set parameters; ``ease__reg`` is one of the estimator named "ease".

        Parameters
        ----------
        **params : dict
            Parameters, estimators by name (or "drop"), and their parameters.

        Returns
        -------
        self : object
        """
        self._set_params("estimators", **params)
        return self

    # ------------------------------------------------------------------ what it has learned

    @property
    def feature_columns_(self) -> list[str]:
        """Columns of ``X`` that members read as features, and that are no context."""
        self._check_is_fitted()
        return list(self._features())

    @property
    def estimators_(self) -> list[Any]:
        """The fitted estimators, without those that are dropped."""
        model = self._fitted("estimators_")
        pairs = zip(self._members, model.members.models, strict=True)
        return [member.__recommender_around__(theirs) for (_, member), theirs in pairs]

    @property
    def named_estimators_(self) -> Bunch:
        """The fitted estimators by name."""
        names = (name for name, _ in self._members)
        return Bunch(**dict(zip(names, self.estimators_, strict=True)))

    @property
    def weights_(self) -> dict[str, dict[str, float]]:
        """Weights by context and feature; a query has the sum of three rows, or of two "ahead"."""
        blend = self._fitted("weights_").blend
        names = self._feature_names()
        contexts = blend.context_names
        table = blend.used[: len(contexts)].tolist()
        rows = (dict(zip(names, row, strict=True)) for row in table)
        return dict(zip(contexts, rows, strict=True))

    @property
    def weights_log_(self) -> dict[str, np.ndarray]:
        """Columns of the last 200 chunks of queries: time, number, NDCG@10 and mean weights."""
        chunks = self._fitted("weights_log_").blend.chunks()
        names = ["time", "n_queries", "ndcg@10 of the blend"]
        names += [f"ndcg@10 of {name}" for name, _ in self._members]
        names += self._feature_names()
        return dict(zip(names, chunks.T, strict=True))

    @property
    def drift_(self) -> list[Bunch]:
        """Alarms of drift in the last 200 chunks of queries, oldest first."""
        found = self._fitted("drift_").blend.alarms()
        return [
            Bunch(timestamp=time, member=self._members[e][0], before=before, after=after)
            for time, e, before, after in found
        ]

    def _feature_names(self) -> list[str]:
        members = [name for name, _ in self._members]
        names = [f"rank of {name}" for name in members] + [f"score of {name}" for name in members]
        return names + list(ITEM_FEATURES) * (len(self._model.blend.weights) > 1)

    # ------------------------------------------------------------------ private

    def _given(self) -> list[tuple[str, Any]]:
        """Return the estimators that are not dropped."""
        return [(name, member) for name, member in self.estimators if member != "drop"]

    def _check(
        self, X: Any, y: Any, sample_weight: Any, *, reset: bool, shown: Any = None
    ) -> Interactions:
        if shown is not None:
            self._refuse_shown(reset)
        lists = None if shown is None else check_shown(shown)
        if lists is not None:
            known = {USER: self._model.users.ids, ITEM: self._model.items.ids}
            warn_of_other_types(known, {USER: lists.user_ids, ITEM: lists.item_ids}, stacklevel=6)
        if reset:
            self._check_estimators()
            members = self._new_members()
            rows = tuple(
                m.__recommender_start__(_as_read(X, m, members), y, sample_weight)
                for m in members.values()
            )
            self._starts = tuple(m.__recommender_model__() for m in members.values())
            self._members = tuple((name, _without_model(m)) for name, m in members.items())
        elif X is None:
            if lists is None:
                raise ValueError("X is None: pass events, or displayed lists as shown.")
            for name, column in (("y", y), ("sample_weight", sample_weight)):
                if column is not None:
                    raise ValueError(f"{name} belongs to the rows of X, which is None; omit it.")
            return replace(_no_rows(self._model), shown=lists)
        else:
            members = self._members_of_now()
            rows = tuple(
                m.__recommender_resume__(_as_read(X, m, members), y, sample_weight)
                for m in members.values()
            )
        outcomes = {getattr(m, "outcome", None) for m in members.values()}
        if len(outcomes) > 1:
            raise ValueError(
                f"estimators: the members read different columns as outcome, {outcomes}; give all "
                "of them the same."
            )
        own = check_events(
            self,
            X,
            rows[0].feedback,
            sample_weight=sample_weight,
            reset=reset,
            outcome=outcomes.pop(),
            features=self._features_of_fit() if reset else self._features(),
        )
        return MemberRows(**vars(own), members=rows, shown=lists)

    def _refuse_shown(self, reset: bool) -> None:
        """Raise an error if nothing could learn from displayed lists."""
        if reset:
            raise ValueError("shown: the members are not fitted yet; call fit first.")
        if self.final_estimator is not None:
            raise ValueError(
                "shown: only the weights learn from displayed lists, and final_estimator scores in "
                "their place. Omit shown, or set final_estimator=None and call fit."
            )

    def _features_of_fit(self) -> Collection[str]:
        kinds = dict.fromkeys((n for _, m in self._members for n in feature_names(m)), "")
        vectors = {EMBEDDING: "vector"} if any(reads_embedding(m) for _, m in self._members) else {}
        return {**vectors, **kinds}

    def _features(self) -> Collection[str]:
        # A table without names has no such columns.
        return self._features_of_fit() if hasattr(self, "feature_names_in_") else ()

    def _outcome(self) -> str | None:
        return getattr(self._members[0][1], "outcome", None)

    def _new_members(self) -> dict[str, Any]:
        """Return clones of the estimators, seeded by ``random_state``."""
        members = {name: clone(member) for name, member in self._given()}
        if self.random_state is not None:
            rng = check_random_state(self.random_state)
            for member in members.values():
                for name, value in sorted(member.get_params().items()):
                    if value is None and name.rpartition("__")[2] == "random_state":
                        member.set_params(**{name: int(rng.randint(np.iinfo(np.int32).max))})
        return members

    def _members_of_now(self) -> dict[str, Any]:
        """Return the fitted members, with the parameters of now."""
        found, now = {}, dict(self._given())
        for (name, member), model in zip(self._members, self._model.members.models, strict=True):
            twin = member.__recommender_around__(model)
            params = now[name].get_params(deep=False)
            seed = {"random_state"} if params.get("random_state", 0) is None else set()
            twin.set_params(**{n: value for n, value in params.items() if n not in seed})
            found[name] = twin
        return found

    def _check_estimators(self) -> None:
        """Check the names and types of the members."""
        pairs = self.estimators
        if not pairs or not all(isinstance(p, tuple) and len(p) == 2 for p in pairs):
            raise ValueError(
                "estimators must be a list of pairs (name, recommender) with at least one pair."
            )
        names = [name for name, _ in pairs]
        wrong = [n for n in names if not isinstance(n, str) or n == "" or n in RESERVED_NAMES]
        if wrong:
            raise ValueError(
                f"estimators: {wrong[0]!r} cannot be a name. Names are strings, not empty, and not "
                f"among {sorted(RESERVED_NAMES)}, which name other terms of the blend."
            )
        self._validate_names(names)
        if not self._given():
            raise ValueError("estimators: all of them are 'drop'; keep at least one.")
        for name, member in self._given():
            if not isinstance(member, RecommenderMixin):
                raise TypeError(
                    f"estimators: {name!r} is a {type(member).__name__}, and {_TEXT} are "
                    "recommenders of this package, or of classes of RecommenderMixin. Put the "
                    "transformers of a pipeline before the blend: RecommenderPipeline([..., "
                    "('blend', AdaptiveRecommender(...))])."
                )

    def _fixed_values(self) -> dict[str, Any]:
        try:
            members: Any = tuple((n, type(m).__name__) for n, m in self._given())
        except (TypeError, ValueError):
            members = repr(self.estimators)
        final = None if self.final_estimator is None else type(self.final_estimator).__name__
        return {"estimators": members, "context": self.context, "final_estimator": final}

    def _settings(self) -> AdaptiveSettings:
        pairs = zip(self._model.members.models, self._members_of_now().values(), strict=True)
        found = [(type(model), m.__recommender_settings__()) for model, m in pairs]
        return replace(self._settings_of(found), final=self._model.settings.final)

    def _settings_of(self, models: list[tuple[type[FittedModel], Any]]) -> AdaptiveSettings:
        """Return the settings of a blend of models of these types and settings."""
        members = tuple(
            Member(
                name,
                kind,
                settings,
                kind.adds_to_histories or hasattr(member, "observe"),
                hasattr(member, "explain"),
            )
            for (name, member), (kind, settings) in zip(self._members, models, strict=True)
        )
        final = None if self.final_estimator is None else clone(self.final_estimator)
        return AdaptiveSettings(
            members, self.learning_rate, self.forgetting, self.n_candidates, self.context, final
        )

    def _make_model(self, rows: Interactions) -> AdaptiveModel:
        starts = self._starts
        del self._starts
        return AdaptiveModel(rows, self._settings_of([(type(m), m.settings) for m in starts]))

    def __recommender_tags__(self) -> RecommenderTags:
        try:
            tags = [recommender_tags(member) for _, member in self._given()]
        except (TypeError, ValueError, AttributeError):
            return self._TAGS
        return replace(
            self._TAGS,
            reads=tuple(
                dict.fromkeys([*self._TAGS.reads, *(name for tag in tags for name in tag.reads)])
            ),
            personal=any(tag.personal for tag in tags),
            finds_new=any(tag.finds_new for tag in tags),
        )


def _as_read(X: Any, member: Any, members: dict[str, Any]) -> Any:
    """Return a table without vectors of items that only other members read."""
    alone = not reads_embedding(member) and any(map(reads_embedding, members.values()))
    return without(X, EMBEDDING) if alone else X


def _no_rows(model: AdaptiveModel) -> MemberRows:
    """Return no rows, with the columns of a fitted model."""
    none, context = np.empty(0), np.empty((0, len(model.context_names)))
    feedback = None if model.positives_only else none
    return MemberRows(none, none, feedback, None, None, context, model.context_names)


def _without_model(member: Any) -> Any:
    """Return a copy of an estimator without what it has learned."""
    twin = copy.copy(member)
    vars(twin).pop("_model", None)
    return twin
