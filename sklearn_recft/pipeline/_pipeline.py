"""`RecommenderPipeline`: the methods of a recommender, run through the transformers before it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import narwhals as nw
import numpy as np
from sklearn import get_config
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils import Bunch
from sklearn.utils.metadata_routing import MetadataRouter, process_routing
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from sklearn_recft.base import RecommenderTags, recommender_tags
from sklearn_recft.event_stream import EventStream
from sklearn_recft.features import feature_columns
from sklearn_recft.interactions import USER
from sklearn_recft.parallel import Turns
from sklearn_recft.persistence import SaveMixin
from sklearn_recft.pipeline._raw import RawColumns
from sklearn_recft.pipeline._sampler import as_passthrough, is_sampler, sampled
from sklearn_recft.pipeline._single import stream_of
from sklearn_recft.tables import is_frame

# Calls that change a pipeline take turns, as those that change a recommender do.
_TURNS = Turns()

Steps = list[tuple[str, Any]]
Own = TypeVar("Own", bound="RecommenderPipeline")


def _last_has(method: str) -> Callable[[Any], bool]:
    """Return a check that raises an attribute error if the last step has no such method."""

    def check(pipeline: Any) -> bool:
        getattr(pipeline.steps[-1][1], method)
        return True

    return check


class RecommenderPipeline(SaveMixin, Pipeline):
    """A scikit-learn pipeline with the methods of the recommender that is its last step.

    It is a `sklearn.pipeline.Pipeline` with the same parameters. `recommend`, `partial_fit`,
    `observe`, `forget` and the others exist if the last step has them. They run their tables
    through the transformers first.

    Parameters
    ----------
    steps : list of (str, estimator)
        Transformers, and a recommender as the last step. The transformers must pass on
        ``user_id``, ``item_id`` and ``timestamp``. So
        :class:`~sklearn_recft.preprocessing.ActivityFeatures` needs ``passthrough=True``.
    transform_input : list of str, default=None
        As in `sklearn.pipeline.Pipeline`; for `fit` only.
    memory : str or object with the joblib.Memory interface, default=None
        Cache of the fitted transformers; for `fit` only.
    verbose : bool, default=False
        Print the time of each step of `fit`.

    Attributes
    ----------
    user_ids_, item_ids_ : ndarray
        Known ids of the last step, which ``n_users_`` and ``n_items_`` count.
    named_steps : Bunch
        The steps by name; ``classes_``, ``n_features_in_`` and ``feature_names_in_`` are also
        those of `sklearn.pipeline.Pipeline`.

    Notes
    -----
    A query lacks columns that transformers may need: at least the item. For `recommend`, the
    missing columns are filled with values of the training rows. Each query is transformed twice,
    with different values. A column of the result that differs depends on a made-up value, and is
    never used. Item and text are always left out. So is the time if the query has
    none. If a context column is lost in this way, all context is left out, as in a list of user
    ids: the recommender then takes the average context. If the query gives some context, a lost
    column is an error.

    In `partial_fit`, transformers that have `partial_fit` learn the rows before they transform
    them. Others stay as they were fitted. To keep a transformer as it was fitted, wrap it in
    `sklearn.frozen.FrozenEstimator`. One with `partial_fit_transform`, such as
    :class:`~sklearn_recft.preprocessing.ActivityFeatures` with ``passthrough=True``, describes each
    row as of its own time, and then learns it. In `partial_fit_predict` and
    `partial_fit_predict_proba`, transformers learn after the predictions, which must not depend on
    later rows. A call that fails changes no step.

    The first step may be an :class:`~sklearn_recft.preprocessing.InteractionCleaner`, or another
    object with `fit_resample`. It drops rows in `fit` and `partial_fit`. Rows that are predicted
    are never dropped, those of `partial_fit_predict` included.

    Parameters of `fit` and `partial_fit` without a step's name, such as ``sample_weight``, go to
    the last step. With metadata routing enabled, they go to the steps that request them.

    Two values of each training column are kept, except for user ids.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn.compose import make_column_transformer
    >>> from sklearn.preprocessing import OneHotEncoder
    >>> from sklearn_recft import IncrementalMFRecommender
    >>> from sklearn_recft.pipeline import make_recommender_pipeline
    >>> log = pd.DataFrame({
    ...     "user_id": ["ann", "bob", "bob", "cem"], "item_id": ["tea", "tea", "rice", "rice"],
    ...     "device": ["phone", "phone", "laptop", "laptop"]})
    >>> columns = make_column_transformer(
    ...     (OneHotEncoder(sparse_output=False), ["device"]), remainder="passthrough",
    ...     verbose_feature_names_out=False).set_output(transform="pandas")
    >>> model = IncrementalMFRecommender(n_factors=2, random_state=0)
    >>> pipe = make_recommender_pipeline(columns, model).fit(log, [5, 4, 1, 2])
    >>> pipe.recommend(["ann"], n_recommendations=1)[0].tolist()
    [['rice']]
    >>> query = pd.DataFrame({"user_id": ["ann"], "device": ["phone"]})
    >>> pipe.partial_fit(log[:1], [5]).recommend(query, n_recommendations=1)[0].tolist()
    [['rice']]
    """

    _raw: RawColumns | None = None

    # ------------------------------------------------------------------ learning

    def fit(self: Own, X: Any, y: Any = None, **params: Any) -> Own:
        """Fit the transformers one after the other, then the recommender.

        Parameters
        ----------
        X : table of events
            What the first step takes.
        y : array-like of shape (n,), default=None
            Feedback or labels.
        **params : dict
            ``step__parameter`` for a step, or a parameter such as ``sample_weight`` for the last
            one.

        Returns
        -------
        self : object
        """
        with _TURNS.of(self):
            fresh = copy.copy(self)
            if self.__sklearn_is_fitted__():  # a failure must not leave new transformers behind
                fronts = [(name, _cloned(step)) for name, step in self.steps[:-1]]
                name, last = self.steps[-1]
                fresh.steps = [*fronts, (name, copy.copy(last))]  # others may read the old one
            if params and not _routes():
                last = self.steps[-1][0]
                params = {n if "__" in n else f"{last}__{n}": v for n, v in params.items()}
            first, own = fresh.steps[0]
            if is_sampler(own):
                own, X, y, params = sampled(own, X, y, params)
            fresh.steps = as_passthrough(fresh.steps)
            Pipeline.fit(fresh, X, y, **params)
            if is_sampler(own):
                fresh.steps[0] = (first, own)
            fresh._raw = RawColumns.of(X)
            self.__dict__ = fresh.__dict__
        return self

    @available_if(_last_has("partial_fit"))
    def partial_fit(self: Own, X: Any, y: Any = None, **params: Any) -> Own:
        """Update the recommender, and the transformers that can learn, with further rows.

        On an unfitted pipeline, it fits the transformers.

        Parameters
        ----------
        X : table of events
        y : array-like of shape (n,), default=None
        **params : dict
            As in `fit`; also ``classes`` and ``items`` if the last step takes them.

        Returns
        -------
        self : object
        """
        self._learn("partial_fit", X, y, params)
        return self

    @available_if(_last_has("partial_fit_predict"))
    def partial_fit_predict(self, X: Any, y: Any = None, **params: Any) -> np.ndarray:
        """Predict each row, then learn it, row by row; the transformers learn after all of them.

        Parameters
        ----------
        X : table of events
        y : array-like of shape (n,), default=None
        **params : dict
            As in `partial_fit`.

        Returns
        -------
        y_pred : ndarray of shape (n,)

        Raises
        ------
        NotFittedError
            If a transformer is not fitted. To fit it on these rows would be leakage.
        """
        return self._learn("partial_fit_predict", X, y, params)

    @available_if(_last_has("partial_fit_predict_proba"))
    def partial_fit_predict_proba(self, X: Any, y: Any = None, **params: Any) -> np.ndarray:
        """Predict the probability of each row, then learn it; see `partial_fit_predict`."""
        return self._learn("partial_fit_predict_proba", X, y, params)

    @available_if(_last_has("partial_fit_recommend"))
    def partial_fit_recommend(
        self, X: Any, y: Any = None, **options: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """List items for the user of each row, then learn it; see `partial_fit_predict`."""
        return self._learn("partial_fit_recommend", X, y, {}, options)

    @available_if(_last_has("stream"))
    def stream(self) -> EventStream:
        """Return what learns, predicts and lists one event a call: `EventStream` of the last step.

        `fit` replaces the last step: call this method again then.

        Returns
        -------
        events : EventStream

        Raises
        ------
        ValueError
            If there are transformers, other than ``"passthrough"``.
        """
        return stream_of(self.steps)

    @available_if(_last_has("has_learned"))
    def has_learned(self, batch_id: Any) -> bool:
        """Return whether `partial_fit` of the last step has learned rows of this ``batch_id``."""
        return self.steps[-1][1].has_learned(batch_id)

    @available_if(_last_has("observe"))
    def observe(self: Own, X: Any, y: Any = None) -> Own:
        """Add events to the histories without changing shared weights, nor any transformer.

        Parameters
        ----------
        X : table of events
        y : array-like of shape (n,), default=None

        Returns
        -------
        self : object
        """
        self._through("observe", X, y)
        return self

    @available_if(_last_has("adapt"))
    def adapt(self: Own, X: Any, y: Any = None, **params: Any) -> Own:
        """Adapt the last step to events of users, without changing any transformer.

        Parameters
        ----------
        X : table of events
        y : array-like of shape (n,), default=None
        **params : dict
            Further parameters of the last step, such as ``sample_weight``.

        Returns
        -------
        self : object
        """
        steps = self.steps
        steps[-1][1].adapt(_transformed(steps, X), y, **params)
        return self

    @available_if(_last_has("observe_predict_proba"))
    def observe_predict_proba(self, X: Any, y: Any = None) -> np.ndarray:
        """Predict the probability of each row, then `observe` it; no transformer learns."""
        return self._through("observe_predict_proba", X, y)

    @available_if(_last_has("forget"))
    def forget(self: Own, user_ids: Any) -> Own:
        """Erase users from the recommender; transformers that keep ids of users keep them.

        Parameters
        ----------
        user_ids : array-like of user ids of shape (n,)

        Returns
        -------
        self : object
            With the attribute ``forget_receipt_`` of the last step.
        """
        with _TURNS.of(self):
            ids = self._answerable(user_ids)
            if is_frame(ids) and not nw.dependencies.is_into_series(ids):
                ids = nw.from_native(ids, eager_only=True)[USER].to_native()
            self.forget_receipt_ = self.steps[-1][1].forget(ids).forget_receipt_
        return self

    @available_if(_last_has("forget_items"))
    def forget_items(self: Own, item_ids: Any) -> Own:
        """Remove items from the recommender, by the ids that the transformers return.

        Parameters
        ----------
        item_ids : array-like of item ids of shape (n,)

        Returns
        -------
        self : object
            With the attribute ``forget_receipt_`` of the last step.
        """
        with _TURNS.of(self):
            self.forget_receipt_ = self.steps[-1][1].forget_items(item_ids).forget_receipt_
        return self

    # ------------------------------------------------------------------ answers

    # Those of scikit-learn read the steps twice; a copy keeps one state, whatever another thread
    # learns.

    @available_if(_last_has("predict"))
    def predict(self, X: Any, **params: Any) -> np.ndarray:
        """Predict the feedback or the label of each row, as `sklearn.pipeline.Pipeline` does."""
        return super(RecommenderPipeline, copy.copy(self)).predict(X, **params)

    @available_if(_last_has("predict_proba"))
    def predict_proba(self, X: Any, **params: Any) -> np.ndarray:
        """Predict the probabilities of the classes for each row."""
        return super(RecommenderPipeline, copy.copy(self)).predict_proba(X, **params)

    @available_if(_last_has("score"))
    def score(self, X: Any, y: Any = None, sample_weight: Any = None, **params: Any) -> float:
        """Return the score of the last step on transformed rows."""
        now: Any = super(RecommenderPipeline, copy.copy(self))
        return now.score(X, y, sample_weight=sample_weight, **params)

    @available_if(_last_has("recommend"))
    def recommend(
        self,
        X: Any,
        *,
        n_recommendations: int = 10,
        candidates: Any = None,
        exclude_seen: bool = True,
        **options: Any,
    ) -> Any:
        """Recommend the best items for each query, best first.

        Parameters
        ----------
        X : array-like of user ids of shape (n_queries,), or a table of queries
            A table has ``user_id``, and optionally ``timestamp`` and the context columns that the
            transformers read, but no item (see the notes of the class).
        n_recommendations : int, default=10
        candidates : array-like of item ids, or frame with user_id and item_id, default=None
        exclude_seen : bool, default=True
        **options : dict
            Further options of the last step, such as ``exclude``, ``on_missing``, ``as_frame`` and
            ``history``. The table of ``history`` runs through the transformers; all other ids are
            those that the last step knows.

        Returns
        -------
        items, scores : ndarray of shape (n_queries, n_recommendations)
            Or what the last step returns, such as one table if ``as_frame``.
        """
        now = copy.copy(self)
        history = options.get("history")
        if isinstance(history, tuple):
            options["history"] = now._answerable(history[0], items=True), *history[1:]
        elif history is not None:
            options["history"] = now._answerable(history, items=True)
        return now.steps[-1][1].recommend(
            now._answerable(X),
            n_recommendations=n_recommendations,
            candidates=candidates,
            exclude_seen=exclude_seen,
            **options,
        )

    @available_if(_last_has("ask"))
    def ask(self, X: Any, n_items: int = 1, *, candidates: Any = None) -> np.ndarray:
        """Return the items whose feedback would tell most about each user, as the last step does.

        Parameters
        ----------
        X : array-like of user ids of shape (n_queries,), or a table of queries as in `recommend`
        n_items : int, default=1
        candidates : array-like of item ids, default=None

        Returns
        -------
        items : ndarray of shape (n_queries, n_items)
        """
        now = copy.copy(self)
        return now.steps[-1][1].ask(now._answerable(X), n_items, candidates=candidates)

    @available_if(_last_has("attend"))
    def attend(self, X: Any) -> Any:
        """Return the attention of each row to past events, as the last step does."""
        return self._through("attend", X)

    @available_if(_last_has("explain"))
    def explain(self, X: Any) -> Any:
        """Explain the score of each row, as the last step does."""
        return self._through("explain", X)

    @available_if(_last_has("similar_items"))
    def similar_items(self, item_ids: Any, n_items: int = 10, **options: Any) -> Any:
        """Return the most similar items of each item, by ids that the last step knows."""
        return self.steps[-1][1].similar_items(item_ids, n_items, **options)

    @property
    def user_ids_(self) -> np.ndarray:
        """Known user ids of the last step."""
        return self.steps[-1][1].user_ids_

    @property
    def item_ids_(self) -> np.ndarray:
        """Known item ids of the last step."""
        return self.steps[-1][1].item_ids_

    @property
    def n_users_(self) -> int:
        """Number of known users."""
        return self.steps[-1][1].n_users_

    @property
    def n_items_(self) -> int:
        """Number of known items."""
        return self.steps[-1][1].n_items_

    def get_metadata_routing(self) -> MetadataRouter:
        """Return the routing of `sklearn.pipeline.Pipeline`, and that of `partial_fit`."""
        router, steps = super().get_metadata_routing(), dict(self.steps)
        for name, pair in router:
            if name == self.steps[-1][0]:
                callees = ["partial_fit"]
            else:
                whole = hasattr(steps[name], "fit_transform")
                callees = ["fit_transform"] if whole else ["fit"]
                callees += ["transform", *(["partial_fit"] if _learns(steps[name]) else [])]
            for callee in callees:
                pair.mapping.add(caller="partial_fit", callee=callee)
        return router

    def __recommender_tags__(self) -> RecommenderTags:
        return recommender_tags(self.steps[-1][1])

    # ------------------------------------------------------------------ private

    def _learn(
        self,
        verb: str,
        X: Any,
        y: Any,
        params: dict[str, Any],
        options: dict[str, Any] | None = None,
    ) -> Any:
        """Learn rows by copies of the transformers, then by the last step; keep the copies."""
        with _TURNS.of(self):
            predicts, first = verb != "partial_fit", not self.__sklearn_is_fitted__()
            steps: Steps = []
            if is_sampler(self.steps[0][1]):
                sampler = self.steps[0][1]
                if not predicts:
                    sampler, X, y, params = sampled(sampler, X, y, params)
                steps.append((self.steps[0][0], sampler))
            routed, last = self._routed(params), self.steps[-1]
            given = routed[last[0]].get("partial_fit", {})
            if given.get("batch_id") is not None and last[1].has_learned(given["batch_id"]):
                return getattr(last[1], verb)(X, y, **given)  # it warns, and learns nothing
            Xt = X
            for name, step in self.steps[len(steps) : -1]:
                if step is None or step == "passthrough":
                    steps.append((name, step))
                    continue
                if predicts and first:
                    _check_fitted(verb, name, step)
                learned, Xt = _learned(step, Xt, y, routed[name], first and not predicts, predicts)
                steps.append((name, learned))
            Xt = _with_ids([*steps, last], Xt)
            answer = getattr(last[1], verb)(Xt, y, **given, **(options or {}))
            raw = RawColumns.of(X) if first or self._raw is None else self._raw
            self.__dict__ = {**self.__dict__, "steps": [*steps, last], "_raw": raw}
            return answer

    def _fit(self, *arguments: Any, **options: Any) -> Any:
        """Fit the transformers, and return rows that have ids."""
        return _with_ids(self.steps, super()._fit(*arguments, **options))

    def _iter(self, *arguments: Any, **options: Any) -> Any:
        """Leave out the step that drops rows: it does not transform."""
        return (
            found for found in super()._iter(*arguments, **options) if not is_sampler(found[-1])
        )

    def _routed(self, params: dict[str, Any]) -> Any:
        """Return the parameters of `partial_fit` by step and method."""
        if _routes():
            return process_routing(self, "partial_fit", **params)
        own: dict[str, dict[str, Any]] = {name: {} for name, _ in self.steps}
        for name, value in params.items():
            step, _, parameter = name.partition("__")
            if not parameter:
                step, parameter = self.steps[-1][0], name
            if step not in own:
                raise ValueError(f"{name}: there is no step {step!r}; the steps are {list(own)}.")
            own[step][parameter] = value
        methods = "fit", "fit_transform", "partial_fit"
        return {name: Bunch(**dict.fromkeys(methods, given)) for name, given in own.items()}

    def _through(self, verb: str, X: Any, *arguments: Any) -> Any:
        """Call a method of the last step on transformed rows."""
        steps = self.steps
        return getattr(steps[-1][1], verb)(_transformed(steps, X), *arguments)

    def _answerable(self, X: Any, *, items: bool = False) -> Any:
        """Return queries or (``items``) a history as the last step reads them."""
        check_is_fitted(self)
        steps, raw = self.steps, self._raw
        if all(step is None or step == "passthrough" for _, step in steps[:-1]):
            return X
        if raw is None:  # made of fitted steps, or fitted on what only the first step reads
            return _transformed(steps, X)
        outcome = getattr(steps[-1][1], "outcome", None)
        features = feature_columns(steps[-1][1])
        given = raw.given_by(X, items=items, outcome=outcome, features=features)
        table = _transformed(steps, raw.whole(given))
        return raw.cut(table, given, items=items, outcome=outcome, features=features)


def make_recommender_pipeline(
    *steps: Any,
    transform_input: list[str] | None = None,
    memory: Any = None,
    verbose: bool = False,
) -> RecommenderPipeline:
    """Make a `RecommenderPipeline` of steps, which are named after their classes.

    Parameters
    ----------
    *steps : estimators
        Transformers, then a recommender.
    transform_input : list of str, default=None
    memory : str or object with the joblib.Memory interface, default=None
    verbose : bool, default=False
        As in `RecommenderPipeline`.

    Returns
    -------
    pipeline : RecommenderPipeline

    Examples
    --------
    >>> from sklearn.preprocessing import FunctionTransformer
    >>> from sklearn_recft import PopularityRecommender
    >>> from sklearn_recft.pipeline import make_recommender_pipeline
    >>> pipe = make_recommender_pipeline(FunctionTransformer(), PopularityRecommender())
    >>> pipe.partial_fit([["ann", "tea"], ["bob", "tea"]]).recommend(["cem"], n_recommendations=1)
    (array([['tea']], dtype=object), array([[2.]]))
    """
    named = make_pipeline(*steps).steps
    return RecommenderPipeline(
        named, transform_input=transform_input, memory=memory, verbose=verbose
    )


def _routes() -> bool:
    return bool(get_config()["enable_metadata_routing"])


def _cloned(step: Any) -> Any:
    return step if step is None or step == "passthrough" else clone(step)


def _learns(transformer: Any) -> bool:
    """Whether `partial_fit` of a pipeline trains a transformer."""
    return hasattr(transformer, "partial_fit") and not isinstance(transformer, FrozenEstimator)


def _learned(
    transformer: Any, X: Any, y: Any, params: Any, first: bool, predicts: bool
) -> tuple[Any, Any]:
    """Return a transformer that has learned rows, the old one if it does not learn, and rows.

    The rows are transformed by the new one or, if ``predicts``, by the old one.
    """
    if first:
        made = clone(transformer)
        if hasattr(made, "fit_transform"):
            return made, made.fit_transform(X, y, **params.get("fit_transform", {}))
        made.fit(X, y, **params.get("fit", {}))
        return made, made.transform(X, **params.get("transform", {}))
    made = transformer
    if _learns(transformer):
        made = copy.deepcopy(transformer)
        if hasattr(made, "partial_fit_transform"):  # each row as of its own time
            return made, made.partial_fit_transform(X, y, **params.get("partial_fit", {}))
        made.partial_fit(X, y, **params.get("partial_fit", {}))
    transforms = transformer if predicts else made
    return made, transforms.transform(X, **params.get("transform", {}))


def _check_fitted(verb: str, name: str, transformer: Any) -> None:
    try:
        check_is_fitted(transformer)
    except NotFittedError as error:
        raise NotFittedError(
            f"{verb}: the step {name!r} is not fitted. To fit it on these rows would let "
            "predictions depend on later rows. Call fit or partial_fit with earlier rows first."
        ) from error


def _with_ids(steps: Steps, X: Any) -> Any:
    """Return transformed rows, unless they are a matrix of features alone.

    A recommender would read the first features as ids. Frames are read by name, and a last step
    that is no recommender reads no ids.
    """
    if is_frame(X) or not hasattr(steps[-1][1], "__recommender_tags__"):
        return X
    for name, step in steps[:-1]:
        describes = hasattr(step, "partial_fit_transform")  # rows, as `ActivityFeatures` does
        if describes and getattr(step, "passthrough", None) is False:
            raise ValueError(
                f"X: the step {name!r} returns a matrix of features without the columns of X, so "
                "the recommender would read the first features as user and item ids. Set "
                f"passthrough=True in {type(step).__name__}, or put it into a ColumnTransformer "
                "whose first columns are user_id, item_id and timestamp."
            )
    return X


def _transformed(steps: Steps, X: Any) -> Any:
    """Return rows as the last step gets them."""
    for _, step in steps[:-1]:
        if step is not None and step != "passthrough" and not is_sampler(step):
            X = step.transform(X)
    return X
