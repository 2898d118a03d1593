"""`AdaptiveRecommender`: a blend of recommenders whose weights learn from what happens."""

from __future__ import annotations

import copy
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin, _fit_context, clone, is_classifier
from sklearn.utils import Bunch, check_random_state
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.metaestimators import _BaseComposition

from sklearn_recft.base import ObserveMixin, RecommenderMixin, RecommenderTags, recommender_tags
from sklearn_recft.features import feature_names
from sklearn_recft.interactions import Interactions, check_events
from sklearn_recft.models import AdaptiveModel, AdaptiveSettings, FittedModel, Member, MemberRows

_TEXT = "the estimators of a blend"


class AdaptiveRecommender(
    ObserveMixin, RecommenderMixin, RegressorMixin, _BaseComposition, BaseEstimator
):
    """Blend recommenders by weights that learn from each event."""

    _TAGS = RecommenderTags(
        predicts="order",
        partial_fit="warm start",
        reads=("time",),
        keeps="its members, weights by context, a log of 200 chunks",
        learns="whom of several recommenders to trust, for whom",
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
        timestamps). They are asked for the users of the other rows, one after the other, and the
        weights learn from each answer. Then the members learn these rows.

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
        self, X: Any, y: Any = None, sample_weight: Any = None, *, batch_id: Any = None
    ) -> AdaptiveRecommender:
        """Ask the members, let the weights learn, then let the members learn; all or nothing.

        Parameters are those of `fit`. Rows of a ``batch_id`` (a string or an integer, such as a
        file name) are learned once.
        """
        self._update(X, y, sample_weight, batch_id=batch_id)
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
        """Weights of the features by context; the weights of a query are a sum of three rows."""
        blend = self._fitted("weights_").blend
        names = self._feature_names()
        rows = (dict(zip(names, row, strict=True)) for row in blend.weights.tolist())
        return dict(zip(blend.context_names, rows, strict=True))

    @property
    def weights_log_(self) -> dict[str, np.ndarray]:
        """Columns of the last 200 chunks of queries: time, number, NDCG@10 and mean weights."""
        chunks = self._fitted("weights_log_").blend.chunks()
        names = ["time", "n_queries", "ndcg@10 of the blend"]
        names += [f"ndcg@10 of {name}" for name, _ in self._members]
        names += self._feature_names()
        return dict(zip(names, chunks.T, strict=True))

    def _feature_names(self) -> list[str]:
        members = [name for name, _ in self._members]
        names = [f"rank of {name}" for name in members] + [f"score of {name}" for name in members]
        return names + ["item age", "seen before"] * (len(self._model.blend.weights) > 1)

    # ------------------------------------------------------------------ private

    def _given(self) -> list[tuple[str, Any]]:
        """Return the estimators that are not dropped."""
        return [(name, member) for name, member in self.estimators if member != "drop"]

    def _check(self, X: Any, y: Any, sample_weight: Any, *, reset: bool) -> Interactions:
        if reset:
            self._check_estimators()
            members = self._new_members()
            rows = tuple(m.__recommender_start__(X, y, sample_weight) for _, m in members)
            self._starts = tuple(m.__recommender_model__() for _, m in members)
            self._members = tuple((name, _without_model(m)) for name, m in members)
        else:
            members = self._members_of_now()
            rows = tuple(m.__recommender_resume__(X, y, sample_weight) for _, m in members)
        columns = [m for _, m in members]
        outcomes = {getattr(m, "outcome", None) for m in columns}
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
            features=self._features(),
        )
        return MemberRows(**vars(own), members=rows)

    def _features(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(n for _, m in self._members for n in feature_names(m)))

    def _outcome(self) -> str | None:
        return getattr(self._members[0][1], "outcome", None)

    def _new_members(self) -> list[tuple[str, Any]]:
        """Return clones of the estimators, seeded by ``random_state``."""
        members = [(name, clone(member)) for name, member in self._given()]
        if self.random_state is not None:
            rng = check_random_state(self.random_state)
            for _, member in members:
                for name, value in sorted(member.get_params().items()):
                    if value is None and name.rpartition("__")[2] == "random_state":
                        member.set_params(**{name: int(rng.randint(np.iinfo(np.int32).max))})
        return members

    def _members_of_now(self) -> list[tuple[str, Any]]:
        """Return the fitted members, with the parameters of now."""
        found, now = [], dict(self._given())
        for (name, member), model in zip(self._members, self._model.members.models, strict=True):
            twin = member.__recommender_around__(model)
            params = now[name].get_params(deep=False)
            twin.set_params(
                **{n: v for n, v in params.items() if not (n == "random_state" and v is None)}
            )
            found.append((name, twin))
        return found

    def _check_estimators(self) -> None:
        """Check the names and types of the members."""
        pairs = self.estimators
        if not pairs or not all(isinstance(p, tuple) and len(p) == 2 for p in pairs):
            raise ValueError(
                "estimators must be a list of pairs (name, recommender) with at least one pair."
            )
        self._validate_names([name for name, _ in pairs])
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
            members = tuple((n, type(m).__name__) for n, m in self._given())
        except (TypeError, ValueError):
            members = (repr(self.estimators),)
        return {"estimators": members, "context": self.context}

    def _fixed_names(self) -> tuple[str, ...]:
        return ("estimators", "context")

    def _settings(self) -> AdaptiveSettings:
        members = self._members_of_now()
        models = self._model.members.models
        return self._settings_of(
            [(type(m), x.__recommender_settings__()) for m, (_, x) in zip(models, members, strict=True)]
        )

    def _settings_of(self, models: list[tuple[type[FittedModel], Any]]) -> AdaptiveSettings:
        """Return the settings of a blend of models of these types and settings."""
        members = tuple(
            Member(name, kind, settings, hasattr(member, "observe"), hasattr(member, "explain"))
            for (name, member), (kind, settings) in zip(self._members, models, strict=True)
        )
        return AdaptiveSettings(
            members, self.learning_rate, self.forgetting, self.n_candidates, self.context
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
            reads=tuple(dict.fromkeys(["time", *(name for tag in tags for name in tag.reads)])),
            personal=any(tag.personal for tag in tags),
            finds_new=any(tag.finds_new for tag in tags),
        )


def _without_model(member: Any) -> Any:
    """Return a copy of an estimator without what it has learned."""
    twin = copy.copy(member)
    vars(twin).pop("_model", None)
    return twin
