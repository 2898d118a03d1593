"""Distillation: a small factorization learns the predictions of a large model."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from sklearn_recft.columns import to_feedback
from sklearn_recft.events import Interactions
from sklearn_recft.history import SeenItems
from sklearn_recft.interactions import users_of
from sklearn_recft.models import FactorizationModel
from sklearn_recft.names import EMBEDDING
from sklearn_recft.tables import stacked, with_items_of, without
from sklearn_recft.tags import recommender_tags
from sklearn_recft.vocabulary import Vocabulary

_LOSSES = ("squared_error", "log_loss")


def distill(
    teacher: Any,
    student: Any,
    X: Any,
    y: Any = None,
    *,
    n_pairs: int = 100,
    pair_weight: float = 1.0,
    random_state: Any = None,
) -> Any:
    """Fit a small factorization to the predictions of a large fitted model.

    The student learns what the teacher predicts for drawn pairs of users and items, beside the rows
    of ``X``. It serves, updates and saves like any factorization.

    Parameters
    ----------
    teacher : estimator
        A fitted recommender whose `predict` or `predict_proba` returns expected feedback or
        probabilities, such as `BayesianMFRecommender` or `DecayBertRecommender`.
    student : IncrementalMFRecommender
        With ``loss="squared_error"``, or ``"log_loss"`` if the teacher predicts probabilities. It
        is cloned, so it stays unfitted.
    X : table of events of shape (n, n_columns)
        The rows that the teacher was fitted on, or the newest of them.
    y : array-like of shape (n,), default=None
        Feedback of the rows. None: the teacher's predictions take its place.
    n_pairs : int, default=100
        Pairs that are drawn for each user: uniformly from the items in ``X``, with replacement, at
        the time and in the context of one of the user's rows. 0 draws none.
    pair_weight : float, default=1.0
        Sample weight of a drawn pair; that of a row is 1.
    random_state : int, RandomState instance or None, default=None
        Seed of the pairs.

    Returns
    -------
    student : IncrementalMFRecommender
        A fitted clone. Drawn pairs do not count as seen items, and neither users nor items learn
        more slowly in later updates because of them.

    Raises
    ------
    TypeError
        If the student is no `IncrementalMFRecommender`, or the teacher only orders items.
    ValueError
        If a parameter is out of range, or the student's loss does not suit the teacher.
    NotFittedError
        If the teacher is not fitted.

    Notes
    -----
    Let t(u, i) be the teacher's prediction, and y(u, i) the feedback of a row, or t(u, i) without
    ``y``. The student minimizes ``sum_(u, i) in X l(y(u, i), s(u, i)) + w sum_(u, i) in pairs
    l(t(u, i), s(u, i))`` plus its penalty, where l is its loss.
    Predictions are less noisy than feedback, and the pairs show the items that users have not
    rated. On MovieLens 100K, a student of 8 factors has a test RMSE of .964 on users in ``X``, the
    same student fitted on the ratings .980, and the teacher .966 (last tenth of each user, mean of
    three seeds; ``benchmarks/onnx``). A student that goes on learning needs ``y``: without it, one
    of 64 factors was .003 worse on the stream that followed.

    The cost is one prediction of the teacher for each row and pair, and a fit on as many rows. The
    student's reservoir (``replay_size``) may hold pairs.

    References
    ----------
    Hinton, G., Vinyals, O. and Dean, J. (2015). Distilling the knowledge in a neural network.
    Tang, J. and Wang, K. (2018). Ranking distillation. KDD.

    Examples
    --------
    >>> from sklearn_recft import BayesianMFRecommender, IncrementalMFRecommender
    >>> from sklearn_recft.compression import distill
    >>> from sklearn_recft.datasets import make_interactions
    >>> X, y = make_interactions(40, 30, 600, random_state=0, return_X_y=True)
    >>> teacher = BayesianMFRecommender(random_state=0).fit(X, y)
    >>> student = IncrementalMFRecommender(n_factors=8, random_state=0)
    >>> small = distill(teacher, student, X, random_state=0)
    >>> small.predict(X[:2]).shape, hasattr(student, "n_items_")
    ((2,), False)
    """
    _check(n_pairs, pair_weight)
    check_is_fitted(teacher)
    _check_pair(teacher, student)
    fresh: Any = clone(student)
    rng = check_random_state(random_state)
    reads_vectors = EMBEDDING in getattr(teacher, "feature_columns_", ())
    target = _predictions(teacher, X) if y is None else to_feedback(y, len(users_of(X)))
    own = without(X, EMBEDDING) if reads_vectors else X  # the student reads no vectors
    rows = clone(fresh).__recommender_start__(own, target)
    weight = np.ones(len(rows))
    if n_pairs:
        taken, others = _draw(rows, int(n_pairs), rng)
        names = [EMBEDDING] * reads_vectors + list(getattr(teacher, "item_features", None) or ())
        pairs = with_items_of(X, taken, others, names)
        own = stacked(own, without(pairs, EMBEDDING) if reads_vectors else pairs)
        target = np.concatenate([target, _predictions(teacher, pairs)])
        weight = np.concatenate([weight, np.full(len(taken), float(pair_weight))])
    fresh.fit(own, target, sample_weight=weight)
    _count_rows(fresh.__recommender_model__(), rows)
    return fresh


def _check(n_pairs: Any, pair_weight: Any) -> None:
    """Check the range of the options."""
    if not isinstance(n_pairs, Integral) or isinstance(n_pairs, bool) or n_pairs < 0:
        raise ValueError(f"n_pairs={n_pairs!r}: give an integer of 0 or more.")
    number = isinstance(pair_weight, Real) and not isinstance(pair_weight, bool)
    if not number or not 0 < pair_weight < np.inf:
        raise ValueError(f"pair_weight={pair_weight!r}: give a positive number.")


def _check_pair(teacher: Any, student: Any) -> None:
    """Check that the student can learn what the teacher predicts."""
    loss = getattr(student, "loss", None)
    if not hasattr(student, "__recommender_start__") or loss is None:
        raise TypeError(
            f"student: a {type(student).__name__} cannot learn predictions; give an "
            "IncrementalMFRecommender."
        )
    if loss not in _LOSSES:
        raise ValueError(
            f"student: with loss={loss!r} it learns positives, not predictions; set loss to "
            "'squared_error' or 'log_loss'."
        )
    if not hasattr(teacher, "__recommender_model__"):
        raise TypeError(f"teacher: a {type(teacher).__name__} is no recommender of this package.")
    predicts = recommender_tags(teacher).predicts
    if predicts == "order":
        raise TypeError(
            f"teacher: this {type(teacher).__name__} only orders items, and its scores have no "
            "scale that a student could learn. Give a model of ratings or of labels."
        )
    if loss == "log_loss" and predicts != "probability":
        raise ValueError(
            f"student: loss='log_loss' needs probabilities, but a {type(teacher).__name__} "
            f"predicts {predicts}; set loss='squared_error'."
        )
    outcome = getattr(teacher, "outcome", None)
    if outcome is not None:
        raise ValueError(
            f"teacher: it reads past feedback from the column {outcome!r}, which the student would "
            "read as context. Fit a teacher with outcome=None."
        )


def _predictions(teacher: Any, X: Any) -> np.ndarray:
    """Return what the teacher expects for each row."""
    if hasattr(teacher, "predict_proba"):
        probabilities: np.ndarray = teacher.predict_proba(X)[:, 1]
        return probabilities
    return np.asarray(teacher.predict(X), np.float64)


def _draw(
    rows: Interactions, n_pairs: int, rng: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray]:
    """Draw pairs for each user: a row of the user, and a row of the item; both (n_users * n,)."""
    users = Vocabulary().extend(rows.user_ids)
    order = np.argsort(users, kind="stable")
    sizes = np.bincount(users)
    starts = np.cumsum(sizes) - sizes
    places = (rng.random_sample((len(sizes), n_pairs)) * sizes[:, None]).astype(np.int64)
    items = Vocabulary().extend(np.asarray(rows.item_ids))
    _, first = np.unique(items, return_index=True)
    others = first[rng.randint(len(first), size=len(sizes) * n_pairs)]
    return order[(starts[:, None] + places).ravel()], others


def _count_rows(model: FactorizationModel, rows: Interactions) -> None:
    """Make seen items and counts those of the rows, without the pairs.

    Counts set the size of the next steps. With pairs among them, a user of few events would learn
    as slowly as one of many.
    """
    events = model.encode(rows)
    seen = SeenItems()
    seen.append(events.user, events.item, model.n_users)
    model.seen = seen
    for module in model.copies:
        arrays = module.arrays()
        for name, codes in (("user_count", events.user), ("item_count", events.item)):
            arrays[name][:] = np.bincount(codes, minlength=len(arrays[name]))
        module.load(arrays)
