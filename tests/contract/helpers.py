"""What the checks share: small logs, and one way to teach and to query any recommender."""

import atexit
import pickle
from concurrent.futures import ProcessPoolExecutor
from functools import cache, lru_cache
from multiprocessing import get_context

import numpy as np
from numpy.testing import assert_array_equal
from sklearn.base import clone, is_classifier

from sklearn_recft.base import recommender_tags
from sklearn_recft.datasets import make_interactions

N_USERS, N_ITEMS = 30, 40
DAY = 86_400
# A third of all pairs of known and some unknown ids, at one time after all events.
PAIRS = np.column_stack([np.repeat(np.arange(45), 50), np.tile(np.arange(50), 45)])[::3]
PAIRS = np.column_stack([PAIRS, np.full(len(PAIRS), 1_700_000_000)])


def make_log(n_rows=400, seed=0):
    """Users, items and times, with feedback from 0 to 1 that every loss can learn."""
    X, y = make_interactions(
        N_USERS, N_ITEMS, n_rows, popularity=0.5, random_state=seed, return_X_y=True
    )
    return X, np.clip(np.round(y), 0, 5) / 5


def make_news(n_rows=60):
    """Later rows, of ids old and new."""
    X, y = make_log(n_rows, seed=1)
    return X + np.array([10, 8, 366 * DAY]), y


def for_target(estimator, y):
    """Return feedback as the estimator takes it: a classifier gets labels, 1 above a half.

    Missing and infinite values stay, to be refused.
    """
    if y is None or not is_classifier(estimator):
        return y
    y = np.asarray(y)
    return np.where(np.isfinite(y), y > 0.5, y)


def fit(estimator, X, y=None, **options):
    """Return a fitted clone. Of a classifier, y must have feedback on both sides of a half."""
    return clone(estimator).fit(X, for_target(estimator, y), **options)


def update(model, X, y=None, **options):
    """Call `partial_fit` and return the model."""
    return model.partial_fit(X, for_target(model, y), **options)


def observe(model, X, y=None):
    """Call `observe` and return the model."""
    return model.observe(X, for_target(model, y))


def adapt(model, X, y=None):
    """Call `adapt` and return the model."""
    return model.adapt(X, for_target(model, y))


def predict(model, X):
    """Predict feedback: of a classifier, the probability of its second class."""
    return model.predict_proba(X)[:, 1] if is_classifier(model) else model.predict(X)


def predicting_verb(estimator):
    """Name the verb that predicts each row and then learns it; None where there is none."""
    verbs = ("partial_fit_predict", "partial_fit_predict_proba")
    return next((verb for verb in verbs if hasattr(estimator, verb)), None)


def fitted(estimator):
    """Return a clone that is fitted to the log of `make_log`: a copy, which may be changed.

    Checks of one estimator follow each other, so the last few fits are kept, as pickles.
    """
    return pickle.loads(_fitted(pickle.dumps(clone(estimator))))


@lru_cache(maxsize=4)
def _fitted(pickled):
    return pickle.dumps(fit(pickle.loads(pickled), *make_log()))


@cache
def another_process():
    """Return one process for all checks: to start it takes longer than most of them."""
    pool = ProcessPoolExecutor(1, get_context("spawn"))
    atexit.register(pool.shutdown)
    return pool


def answers(model):
    """Return all that a model says of pairs and to users, known or not, in one vector."""
    users = np.arange(0, 45, 3)
    lists = [
        np.column_stack(model.recommend(users, n_recommendations=n, exclude_seen=exclude))
        for n, exclude in ((30, False), (3, True))
    ]
    return np.concatenate([predict(model, PAIRS), *map(np.ravel, lists)])


def memory(model):
    """Return all that a fitted estimator holds as bytes, to see whether anything changes in it."""
    return pickle.dumps(model)


def assert_same(found, expected, path):
    """Check that two states are equal to the last bit."""
    assert type(found) is type(expected), path
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), path
        for name in expected:
            assert_same(found[name], expected[name], f"{path}[{name!r}]")
    elif isinstance(expected, list):
        assert len(found) == len(expected), path
        for place, pair in enumerate(zip(found, expected, strict=True)):
            assert_same(*pair, f"{path}[{place}]")
    elif not _same_bytes(found, expected):  # NaN of other bits, and 0 and -0, are equal too
        assert_array_equal(found, expected, err_msg=path, strict=True)


def _same_bytes(found, expected):
    """Whether two arrays of numbers have equal bytes, which is faster to see than equal values."""
    return (
        isinstance(expected, np.ndarray)
        and found.dtype == expected.dtype
        and not expected.dtype.hasobject
        and found.shape == expected.shape
        and found.tobytes() == expected.tobytes()
    )


def as_table(*columns):
    """Return a table of objects whose cells may be tuples."""
    columns = [list(column) for column in columns]
    table = np.empty((len(columns[0]), len(columns)), object)
    for j, column in enumerate(columns):
        table[:, j] = np.fromiter(column, object, len(table))
    return table


# ------------------------------------------------------------- what the tags say


def is_personal(estimator):
    """Whether users get different lists, of items that suit their tastes."""
    tags = recommender_tags(estimator)
    return tags.personal and tags.finds_new


def learns_order(estimator):
    """Whether the next item depends on the order of a user's events."""
    return "order" in recommender_tags(estimator).reads


def only_ranks(estimator):
    """Whether lists are of positives: learned from what was taken, not from how it was liked."""
    tags = recommender_tags(estimator)
    return tags.predicts == "order" or tags.lists_by == "own score"


def only_orders(estimator):
    """Whether predictions are scores that only order items."""
    return recommender_tags(estimator).predicts == "order"


def lists_what_it_predicts(estimator):
    """Whether the scores of `recommend` are what `predict` returns."""
    return recommender_tags(estimator).lists_by == "predictions"


def reads(estimator, column):
    """Whether answers depend on an optional column: "time", "order", "text" or "context"."""
    return column in recommender_tags(estimator).reads


def reads_ids_as_texts(estimator):
    """Whether another id may be another text, since the model reads texts."""
    return reads(estimator, "text") and getattr(estimator, "backbone", "") is not None
