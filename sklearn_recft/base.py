"""What every recommender shares: methods, checks of input, tags, and lists of the best items."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from sklearn_recft.event_stream import TURNS as _TURNS
from sklearn_recft.event_stream import StreamMixin
from sklearn_recft.events import Interactions
from sklearn_recft.features import PARAMETERS, feature_names
from sklearn_recft.interactions import check_events, check_ids, check_queries
from sklearn_recft.lists import ListOptions, frame_library, recommend_lists
from sklearn_recft.metrics import make_ranking_scorer
from sklearn_recft.models import (
    Call,
    FittedModel,
    batch_code,
    copy_without,
    warn_of_known_batch,
)
from sklearn_recft.parallel import n_threads
from sklearn_recft.persistence import SaveMixin
from sklearn_recft.tags import RecommenderTags, recommender_tags
from sklearn_recft.vocabulary import warn_of_other_types

# Kinds of parameters that may be True or False.
_FLAGS = {"boolean", "verbose", "random_state"}

Recommender = TypeVar("Recommender", bound="RecommenderMixin")


class RecommenderMixin(StreamMixin, SaveMixin):
    """Mixin of every recommender: it holds one `FittedModel` and adds the shared methods.

    A subclass has

    * ``_parameter_constraints``, and an ``__init__`` that only assigns;
    * ``fit``, which calls ``_fit``, and ``partial_fit``, which calls ``_update`` and passes
      ``batch_id`` on. scikit-learn's decorator ``_fit_context`` validates the parameters of a first
      call, the mixin later ones;
    * ``predict``, which returns ``_predict(X)``. A classifier maps these scores to labels;
    * ``_settings()``, the settings of the model from the current parameters. It also checks
      combinations of parameters, and is called in `fit` and in every update;
    * ``_make_model(rows)``, which returns an empty model;
    * ``_TAGS`` (`RecommenderTags`);
    * ``_FIXED``, the names of the parameters that may not change after `fit`. `partial_fit` raises
      an error if one did.

    The mixin validates rows, queries and ids. ``CONTRIBUTING.md`` has the whole recipe.

    Parameters of these names have one meaning in all estimators, and the mixin reads them:
    those of ``_NEED_TIME`` (if set, rows need timestamps), ``outcome``, ``n_jobs``,
    ``random_state``, ``training``, and ``user_features`` and ``item_features`` (columns of ``X``
    that are no context; name them in ``_FIXED``).
    """

    _model: FittedModel
    _fixed: dict[str, Any]
    _valid: list[Any] | None = None  # after `load`, they are validated again
    _FIXED: ClassVar[tuple[str, ...]] = ()
    # Parameters that, if set, need timestamps.
    _NEED_TIME: ClassVar[tuple[str, ...]] = ("half_life", "window", "habit_half_life")
    _TAGS: ClassVar[RecommenderTags] = RecommenderTags()

    @property
    def user_ids_(self) -> np.ndarray:
        """Known user ids, in order of first appearance, shape (n_users_,)."""
        return self._fitted("user_ids_").users.ids

    @property
    def item_ids_(self) -> np.ndarray:
        """Known item ids, in catalogue order, shape (n_items_,)."""
        return self._fitted("item_ids_").items.ids

    @property
    def n_users_(self) -> int:
        """Number of known users."""
        return self._fitted("n_users_").n_users

    @property
    def n_items_(self) -> int:
        """Number of known items."""
        return self._fitted("n_items_").n_items

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
            Leave out the items that the user interacted with in `fit`, `partial_fit` or `observe`.
            Pass False for repeat purchases: `HabitRecommender` ranks the seen items first.
        on_missing : {"raise", "pad"}, default="raise"
            If a query has fewer than ``n_recommendations`` eligible items: raise an error, or
            fill up its row with the id None and the score -inf. With "pad", ``items`` is always
            an array of objects, also for integer ids.
        as_frame : bool, default=False
            Return one long table, without padded places.

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
        """
        queries = self._check_queries(X)
        options = ListOptions(
            n_recommendations,
            candidates,
            exclude,
            exclude_seen,
            on_missing,
            frame_library(X, as_frame),
        )
        return recommend_lists(self._model, queries, options, self._n_threads())

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return NDCG@10, R² or accuracy of the model on rows.

        The score is NDCG@10 in three cases: the model only orders items, it was fitted without
        ``y``, or ``y`` is None here. Otherwise it is scikit-learn's: R² of a regressor, accuracy of
        a classifier.

        NDCG@10 is the mean over one list for each user with relevant rows. The list is made at the
        time and in the context of the user's first row in ``X``. Rows with ``y > 0`` are relevant,
        or all rows if ``y`` is None. Seen items are left out of the lists, unless all rows of ``X``
        repeat seen pairs, as the training rows do.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
        y : array-like of shape (n,), default=None
            Feedback or labels.
        sample_weight : array-like of shape (n,), default=None

        Returns
        -------
        score : float
            Higher is better.
        """
        self._check_is_fitted()
        model = self._model
        ranks = recommender_tags(self).predicts == "order" or model.positives_only
        if not ranks and y is not None:
            return super().score(X, y, sample_weight=sample_weight)  # type: ignore[misc]
        rows = self._check_rows(X)
        with model.reading():
            events = model.encode(rows)
            seen = model.seen.contains(events.user, events.item).all()
        scorer = make_ranking_scorer("ndcg", k=10, exclude_seen=not seen)
        return float(scorer(self, X, self._relevance(y), sample_weight=sample_weight))

    def has_learned(self, batch_id: Any) -> bool:
        """Whether `partial_fit` has learned rows of this ``batch_id`` since the last `fit`.

        Parameters
        ----------
        batch_id : str or int
            An integer and its decimal text are one id.

        Returns
        -------
        learned : bool
            The newest 1,000 ids are remembered. False before `fit`.
        """
        code = batch_code(batch_id)
        return self.__sklearn_is_fitted__() and code in self._model.batches

    def forget(self: Recommender, user_ids: Any) -> Recommender:
        """Erase the ids, histories, seen items, stored rows and own parameters of users.

        The tag ``forget`` of the estimator, and ``forget_receipt_.level`` after the call, say what
        is left of their influence. "exact": nothing. The model equals one that was fitted without
        these users, up to rounding; models of sums compute their parameters again. "erased": what
        items and shared weights learned from them stays, until
        :func:`~sklearn_recft.model_selection.unlearn` or `fit` on the log without these users.
        All items stay in the catalogue; `forget_items` removes them.

        Parameters
        ----------
        user_ids : array-like of user ids of shape (n,)
            Unknown ids are ignored; if all are of another type than in `fit`, a warning says so.

        Returns
        -------
        self : object
            With the attribute ``forget_receipt_``: what this call removed
            (`sklearn_recft.ForgetReceipt`).

        Examples
        --------
        >>> from sklearn_recft import EASERecommender
        >>> X = [["ann", "tea"], ["ann", "milk"], ["bob", "tea"], ["bob", "rice"]]
        >>> model = EASERecommender(reg=1.0).fit(X).forget(["bob"])
        >>> model.user_ids_.tolist(), model.forget_receipt_.level
        (['ann'], 'exact')
        >>> model.forget_receipt_.removed
        {'users': 1, 'seen': 2, 'feedback': 2}
        """
        with _TURNS.of(self):
            self._check_is_fitted()
            ids = check_ids(user_ids, "user_ids")
            warn_of_other_types({"user_ids": self._model.users.ids}, {"user_ids": ids})
            codes = self._model.users.encode(ids)
            users = np.unique(codes[codes >= 0])
            level = recommender_tags(self).forget
            self._remove(level, (len(users), 0), lambda model: model.forget(users))
        return self

    def forget_items(self: Recommender, item_ids: Any) -> Recommender:
        """Remove items from the catalogue, with all their rows and parameters.

        Models of sums without decay equal a fit without the rows of these items afterwards, up to
        rounding ("exact"): `PopularityRecommender`, `BiasRecommender`, `ItemKNNRecommender`,
        `EASERecommender`, `ALSRecommender`, and `RP3BetaRecommender` without ``edges``. With decay,
        the times of the removed events still count. So the level is "erased", as it is for
        `HabitRecommender`, and for the factorizations `IncrementalMFRecommender` and
        `IncrementalMFClassifier` with the solver "sgd", without ``drift`` and "softmax".
        `SequentialRulesRecommender` is exact with any decay, and "erased" once a user has had more
        than ``max_history`` events. Other models raise an error: what they learned from an item is
        spread over weights that items share. Users stay, also those without any other item.

        Parameters
        ----------
        item_ids : array-like of item ids of shape (n,)
            Unknown ids are ignored.

        Returns
        -------
        self : object
            With the attribute ``forget_receipt_``.

        Raises
        ------
        ValueError
            If the model cannot remove items, or if no item would be left. Nothing changes.

        Examples
        --------
        >>> from sklearn_recft import EASERecommender
        >>> X = [["ann", "tea"], ["ann", "milk"], ["bob", "tea"], ["bob", "rice"]]
        >>> EASERecommender(reg=1.0).fit(X).forget_items(["rice"]).item_ids_.tolist()
        ['tea', 'milk']
        """
        with _TURNS.of(self):
            self._check_is_fitted()
            ids = check_ids(item_ids, "item_ids")
            warn_of_other_types({"item_ids": self._model.items.ids}, {"item_ids": ids})
            codes = self._model.items.encode(ids)
            items = np.unique(codes[codes >= 0])
            if len(items) == self.n_items_:
                raise ValueError(
                    f"item_ids: these are all {len(items)} items of the catalogue, and a model "
                    "needs one. Keep an item, or fit a new model."
                )
            level = self._model.forget_items_level
            self._remove(level, (0, len(items)), lambda model: model.forget_items(items))
        return self

    def _remove(
        self, level: str, counts: tuple[int, int], remove: Callable[[FittedModel], None]
    ) -> None:
        """Change a copy of the model, and replace the model and the receipt at once."""
        model, receipt = copy_without(self._model, remove, level, counts)
        vars(self).update(_model=model, forget_receipt_=receipt)

    def set_params(self: Recommender, **params: Any) -> Recommender:
        """Set parameters, also nested ones: ``training__learning_rate`` of ``training=None``.

        Parameters
        ----------
        **params : dict
            Estimator parameters.

        Returns
        -------
        self : object
        """
        nested = {n.partition("__")[2]: v for n, v in params.items() if n.startswith("training__")}
        if nested and params.get("training", getattr(self, "training", params)) is None:
            from sklearn_recft.training import FineTuning  # loads torch

            params = {name: v for name, v in params.items() if not name.startswith("training__")}
            params["training"] = FineTuning().set_params(**nested)
        return super().set_params(**params)  # type: ignore[misc]

    # ------------------------------------------------------------------ for subclasses

    def _settings(self) -> Any:
        """Return the settings of the model from the current parameters."""
        raise NotImplementedError

    def _make_model(self, rows: Interactions) -> FittedModel:
        """Return an empty model for events like ``rows``."""
        raise NotImplementedError

    def _relevance(self, y: Any) -> Any:
        """Map ``y`` so that values above 0 are relevant items."""
        return y

    def _check(self, X: Any, y: Any, sample_weight: Any, *, reset: bool) -> Interactions:
        """Validate rows; the columns of `fit` are stored only if all of the input is valid."""
        decaying = (name for name in self._NEED_TIME if getattr(self, name, None) is not None)
        rows = check_events(
            self,
            X,
            y,
            sample_weight=sample_weight,
            reset=reset,
            timed=next(decaying, None),
            outcome=getattr(self, "outcome", None),
            features=self._features_of_fit() if reset else self._features(),
            optional=getattr(self, "_optional_ids", ()),
        )
        if not reset and (y is None) != self._model.positives_only:
            without = self._model.positives_only
            raise ValueError(
                f"y: fit was called {'without' if without else 'with'} y, so later calls must "
                f"{'omit' if without else 'pass'} y."
            )
        return rows

    def _check_rows(self, X: Any) -> Interactions:
        """Check rows to predict."""
        self._check_is_fitted()
        return check_events(
            self, X, reset=False, outcome=self._outcome(), predicting=True,
            features=self._features(), optional=getattr(self, "_optional_ids", ()),
        )  # fmt: skip

    def _check_queries(self, X: Any) -> Interactions:
        """Check queries of lists."""
        self._check_is_fitted()
        return check_queries(X, self, outcome=self._outcome(), features=self._features())

    def _features_of_fit(self) -> Collection[str]:
        """Return the columns that a call of `fit` reads as features."""
        return feature_names(self)

    def _features(self) -> Collection[str]:
        """Return the columns of features in `fit`."""
        return tuple(name for p in PARAMETERS.values() for name in self._fixed.get(p) or ())

    def _outcome(self) -> str | None:
        """Return the column of auxiliary feedback in `fit`, which answers ignore."""
        outcome: str | None = self._fixed.get("outcome", getattr(self, "outcome", None))
        return outcome

    def _fit(
        self, X: Any, y: Any, sample_weight: Any, call: Call | None = None, **check: Any
    ) -> np.ndarray:
        """Fit a new model on a copy of the estimator; a failure leaves this estimator unchanged.

        ``check`` is passed on to `_check`, for estimators that override it.
        """
        fresh = copy.copy(self)
        vars(fresh).pop("forget_receipt_", None)
        rows = fresh.__recommender_start__(X, y, sample_weight, **check)
        answer = fresh._model.learn(_for_call(rows, call), fresh._model.settings, call)
        with _TURNS.of(self):  # not while `forget` or `partial_fit` is at the old model
            # In one step: an interrupt leaves the old or the new fit.
            self.__dict__ = fresh.__dict__
        return answer

    def _update(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        call: Call | None = None,
        *,
        batch_id: Any = None,
        **check: Any,
    ) -> np.ndarray:
        """Learn further rows; the first call is a fit. ``check`` is passed on to `_check`.

        Nothing is learned from rows with a ``batch_id`` that was learned before.
        """
        with _TURNS.of(self):
            if batch_id is not None:
                call = replace(call or Call(), batch=batch_code(batch_id))
                if self.has_learned(batch_id):
                    warn_of_known_batch(batch_id)
                    return np.empty(0)
            if not self.__sklearn_is_fitted__():
                return self._fit(X, y, sample_weight, call, **check)
            rows = self.__recommender_resume__(X, y, sample_weight, **check)
            return self._model.learn(_for_call(rows, call), self._settings(), call)

    def _parameters(self) -> list[Any]:
        return [getattr(self, name) for name in getattr(self, "_parameter_constraints", ())]

    def _check_parameters(self) -> None:
        """Validate the parameters again, if any was replaced since they were last valid.

        Identity is enough: a parameter is set by assignment. A nested one, such as
        ``training__patience``, changes an object in place. `_settings` validates these in every
        call (`FineTuning.resolve`).
        """
        now = self._parameters()
        if self._valid is None or any(map(operator.is_not, now, self._valid)):
            self._validate_params()  # type: ignore[attr-defined]
            _refuse_flags(self)
            self._valid = now

    def _fixed_values(self) -> dict[str, Any]:
        """Return the parameters that may not change after `fit`, by name."""
        return {name: _value(getattr(self, name)) for name in self._fixed_names()}

    def _fixed_names(self) -> tuple[str, ...]:
        return self._FIXED

    def _check_fixed(self) -> None:
        """Raise an error if a fixed parameter differs from its value in `fit`."""
        now = self._fixed_values()
        for name, fitted in self._fixed.items():
            if name not in now or now[name] != fitted:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} was set after fit, and decides what the "
                    f"fitted model keeps (fit had {_changed(fitted, now.get(name))!r}). "
                    "Set it back to go on, or call fit to start anew."
                )

    def _predict(self, X: Any) -> np.ndarray:
        """Return the model's answer to rows."""
        rows, model = self._check_rows(X), self._model
        with model.reading():
            return model.score(model.encode(rows))

    def _n_threads(self) -> int:
        return n_threads(getattr(self, "n_jobs", None))

    def _seed(self) -> int | None:
        """Draw a seed from ``random_state``; None stays None, not numpy's global state."""
        seed = getattr(self, "random_state", None)
        return None if seed is None else check_random_state(seed).randint(np.iinfo(np.int32).max)

    def _fitted(self, name: str) -> Any:
        """Return the model, or raise an attribute error: `hasattr` then says what is fitted."""
        if "_model" not in vars(self):
            raise AttributeError(
                f"This {type(self).__name__} instance is not fitted yet: it has no {name}."
            )
        return self._model

    def _check_is_fitted(self) -> None:
        """Raise unless fitted; scikit-learn's check, which builds all tags, is for the message."""
        if not self.__sklearn_is_fitted__():
            check_is_fitted(self)

    def __sklearn_is_fitted__(self) -> bool:
        return "_model" in vars(self)

    def __recommender_tags__(self) -> RecommenderTags:
        return self._TAGS

    # For estimators that hold this one: the steps of `fit` and `partial_fit` before it learns.

    def __recommender_start__(
        self, X: Any, y: Any, sample_weight: Any = None, **check: Any
    ) -> Interactions:
        """Check the rows of a first fit, and make an empty model for them."""
        rows = self._check(X, y, sample_weight, reset=True, **check)
        _refuse_flags(self)
        self._fixed, self._valid = self._fixed_values(), self._parameters()
        self._model = self._make_model(rows.learned())
        return rows

    def __recommender_resume__(
        self, X: Any, y: Any, sample_weight: Any = None, **check: Any
    ) -> Interactions:
        """Check the parameters and rows of an update."""
        self._check_parameters()
        self._check_fixed()
        return self._check(X, y, sample_weight, reset=False, **check)

    def __recommender_settings__(self) -> Any:
        """Return the settings of the model from the current parameters."""
        return self._settings()

    def __recommender_model__(self) -> FittedModel:
        """Return the model."""
        return self._model

    def __recommender_around__(self: Recommender, model: FittedModel) -> Recommender:
        """Return a copy of the estimator around another model."""
        twin = copy.copy(self)
        twin._model = model
        return twin

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.target_tags.required = False
        if tags.regressor_tags is not None:
            # Ids are categorical: rows of unseen ids cannot be distinguished.
            tags.regressor_tags.poor_score = True
        return tags


class ObserveMixin:
    """Mixin of closed-form recommenders that add events now, and solve in `partial_fit`."""

    def observe(self, X: Any, y: Any = None) -> Any:
        """Add events to the sums of their users, without changing what users share.

        The next lists of these users use the events. The next `partial_fit` trains on them as well:
        it solves for similarities or item weights from all sums. `ALSRecommender` then solves only
        for the users and items of the rows of that call. A row that is passed to both methods
        counts twice.

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
        self._check_is_fitted()  # type: ignore[attr-defined]
        self._update(X, y, None, Call(weights=False))  # type: ignore[attr-defined]
        return self


def unboxed(values: Any) -> Any:
    """Return settings, or a dict, with Python's numbers in place of those of NumPy."""
    given = values if isinstance(values, dict) else vars(values)
    found = {
        name: unboxed(value) if isinstance(value, dict) else value.item()
        for name, value in given.items()
        if isinstance(value, (dict, np.generic))
    }
    if isinstance(values, dict):
        return {**values, **found}
    return replace(values, **found) if found else values


def _refuse_flags(estimator: Any) -> None:
    """Raise an error for True and False where a number is needed: Python reads them as 1 and 0."""
    for name, allowed in getattr(estimator, "_parameter_constraints", {}).items():
        value = getattr(estimator, name)
        if isinstance(value, (bool, np.bool_)) and not _FLAGS & set(allowed):
            raise ValueError(f"{name}={value}: it must not be True or False; give a number.")


def _for_call(rows: Interactions, call: Call | None) -> Interactions:
    """Leave out rows of weight 0, unless the call predicts: then each row is answered."""
    return rows if call is not None and call.predict else rows.learned()


def _changed(old: Any, new: Any) -> Any:
    """Return a value of `fit`; of a dict or the parameters of an object, those that differ now."""
    both = type(old) is type(new) is dict
    return {k: v for k, v in old.items() if k not in new or new[k] != v} if both else old


def _value(parameter: Any) -> Any:
    """Return a value to compare a parameter by, which later changes of the object do not reach."""
    if parameter is None or type(parameter) in (int, float, str, bool):
        return parameter
    if isinstance(parameter, BaseEstimator):
        return parameter.get_params()
    parameter = np.asarray(parameter).tolist() if hasattr(parameter, "__array__") else parameter
    if isinstance(parameter, dict):
        return {name: _value(value) for name, value in parameter.items()}
    listed = isinstance(parameter, (list, tuple, range))
    return tuple(map(_value, parameter)) if listed else parameter
