"""One model from the models of parts of a log: fitted separately, merged by their sums."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from numbers import Integral
from typing import Any, TypeVar

from sklearn.base import clone
from sklearn.utils import check_scalar
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted

from sklearn_recft.base import RecommenderMixin
from sklearn_recft.tags import recommender_tags

Recommender = TypeVar("Recommender", bound=RecommenderMixin)


def merge(recommenders: Iterable[Recommender]) -> Recommender:
    """Merge recommenders that were fitted on parts of a log into one new recommender.

    The result equals one `fit` on the rows of all parts, one part after the other, up to rounding.
    So users and items are in order of first appearance, in the order of the parts. The given
    recommenders do not change. No row may be in two parts.

    Which parts give an exact result depends on the model:

    * any parts: `PopularityRecommender`, `BiasRecommender`, and without ``history_half_life``
      `ItemKNNRecommender`, `EASERecommender`, `RP3BetaRecommender` and `ALSRecommender`. ALS adds
      the sums and solves again, with the ``random_state`` of the first recommender;
    * parts with different users: these four with ``history_half_life``, `HabitRecommender` and
      `SequentialRulesRecommender`. They depend on the order of the events of a user.

    All other recommenders raise an error: their parameters depend on the order of all events.

    Parameters
    ----------
    recommenders : iterable of recommenders
        Fitted, of one class and with equal parameters; at least one.

    Returns
    -------
    recommender : object
        A new recommender, which can learn further events.

    Raises
    ------
    TypeError
        If these are not recommenders of one class.
    ValueError
        If there are none, one is given twice, their parameters or columns differ, or the result
        would not be exact.
    NotFittedError
        If one is not fitted.

    See Also
    --------
    fit_partitions : Fit the parts in several processes, and merge.

    Examples
    --------
    >>> from sklearn_recft import EASERecommender
    >>> from sklearn_recft.scale import merge
    >>> monday = EASERecommender(reg=1.0).fit([["ann", "tea"], ["bob", "tea"], ["bob", "rice"]])
    >>> tuesday = EASERecommender(reg=1.0).fit([["ann", "milk"], ["cem", "rice"]])
    >>> merge([monday, tuesday]).user_ids_.tolist()
    ['ann', 'bob', 'cem']
    """
    if not isinstance(recommenders, Iterable):
        raise TypeError(
            f"recommenders is a {type(recommenders).__name__}; give a list of fitted recommenders."
        )
    given = list(recommenders)
    if not given:
        raise ValueError("recommenders: there are none; give at least one fitted recommender.")
    kinds = dict.fromkeys(type(each).__name__ for each in given)
    if len(kinds) > 1 or not isinstance(given[0], RecommenderMixin):
        raise TypeError(
            f"recommenders are of {', '.join(kinds)}; give recommenders of one class. Of "
            "pipelines, merge the last steps."
        )
    if len(set(map(id, given))) < len(given):
        raise ValueError("recommenders: one is given twice; its events would count twice.")
    for each in given:
        check_is_fitted(each)
    merged = copy.deepcopy(given[0])
    vars(merged).pop("forget_receipt_", None)
    others = [each.__recommender_model__() for each in given[1:]]
    with ExitStack() as reading:
        for model in others:
            reading.enter_context(model.reading())
        if others:
            merged.__recommender_model__().merge(*others)
    return merged


def fit_partitions(
    recommender: Recommender, parts: Iterable[Any], *, n_jobs: int | None = None
) -> Recommender:
    """Fit a recommender on parts of a log in several processes, and merge the models.

    The result equals one `fit` on all parts, one after the other, as `merge` explains. The parts
    run through joblib: within ``joblib.parallel_config("dask")`` on the workers of a Dask cluster,
    and with Ray's backend on Ray.

    Parameters
    ----------
    recommender : recommender
        Parameters; it is not changed. Set ``random_state`` to an integer if it has one.
    parts : iterable of tuples, or of functions without arguments that return a tuple
        The arguments of `fit`: ``(X,)``, ``(X, y)`` or ``(X, y, sample_weight)``. Functions are
        called where the part is fitted, so that rows are read there and never sent.
    n_jobs : int, default=None
        Number of parts at once; None means 1, unless a joblib context is set.

    Returns
    -------
    recommender : object
        A new, fitted recommender.

    Raises
    ------
    ValueError
        If there are no parts; before any fit, if the recommender cannot be merged; what `fit`
        raises, with the number of the part; and what `merge` raises.
    TypeError
        If this is no recommender, ``n_jobs`` is no integer, or a part is no tuple.

    Examples
    --------
    >>> from sklearn_recft import PopularityRecommender
    >>> from sklearn_recft.scale import fit_partitions
    >>> parts = [([["ann", "tea"], ["bob", "tea"]],), ([["ann", "milk"]],)]
    >>> fit_partitions(PopularityRecommender(), parts).popularity_
    array([2., 1.])
    """
    if not isinstance(recommender, RecommenderMixin):
        raise TypeError(
            f"recommender is a {type(recommender).__name__}; give a recommender of this package. "
            "Of a pipeline, give the last step, and transform the parts first."
        )
    if not recommender_tags(recommender).merges:
        raise ValueError(
            f"fit_partitions: models of {type(recommender).__name__} cannot be merged, since its "
            "parameters depend on the order of all events. Fit it on all events, with "
            "sklearn_recft.scale.fit_stream if they do not fit in memory."
        )
    if n_jobs is not None:
        check_scalar(n_jobs, "n_jobs", Integral)
    models = Parallel(n_jobs=n_jobs)(
        delayed(_fitted)(clone(recommender), part, number) for number, part in enumerate(parts)
    )
    if not models:
        raise ValueError("parts: there are none; give at least one part of the log.")
    return merge(models)


def _fitted(
    recommender: Recommender, part: tuple[Any, ...] | Callable[[], tuple[Any, ...]], number: int
) -> Recommender:
    """Fit one part where this is called: in a worker."""
    given = part() if callable(part) else part
    if not isinstance(given, tuple):
        raise TypeError(
            f"parts: part {number} is a {type(given).__name__}; give a tuple of the arguments of "
            "fit: (X,), (X, y) or (X, y, sample_weight), or a function that returns one."
        )
    try:
        return recommender.fit(*given)  # type: ignore[attr-defined]
    except InvalidParameterError:
        raise
    except ValueError as error:
        raise ValueError(f"parts: part {number}: {error}") from error
