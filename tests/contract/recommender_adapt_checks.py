"""The contract of `adapt`: users of the rows and new items change, and nobody else."""

import copy

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy.sparse import issparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from sklearn_recft.base import recommender_tags
from tests.contract.helpers import (
    PAIRS,
    adapt,
    as_table,
    assert_same,
    fitted,
    for_target,
    make_log,
    make_news,
    predict,
    update,
)
from tests.contract.recommender_state_checks import _asked, _chunk, _run_threads, loaded
from tests.contract.recommender_update_checks import SHARED, _kill


def check_the_tag_says_what_adapt_changes(estimator):
    assert bool(recommender_tags(estimator).adapts) == hasattr(estimator, "adapt")


def check_adapt_changes_only_its_users(estimator):
    if not hasattr(estimator, "adapt"):
        return
    model, (news, y) = fitted(estimator), make_news()
    known_users, known_items = model.user_ids_, model.item_ids_
    others = np.setdiff1d(known_users, news[:, 0])
    rows = PAIRS[np.isin(PAIRS[:, 1], known_items)]
    theirs = np.isin(rows[:, 0], others)
    movers = np.isin(rows[:, 0], news[np.isin(news[:, 1], known_items), 0])
    assert theirs.sum() > 50
    assert movers.sum() > 50

    def lists():
        queries = np.column_stack([others, np.full(len(others), PAIRS[0, 2])])
        return model.recommend(queries, candidates=known_items, n_recommendations=9)

    before, listed, shared = predict(model, rows), lists(), _shared_by_all(model)
    assert adapt(model, news, y) is model
    after = predict(model, rows)
    assert_array_equal(after[theirs], before[theirs])
    assert (after[movers] != before[movers]).mean() > 0.5
    for found, expected in zip(lists(), listed, strict=True):
        assert_array_equal(found, expected)
    for name, expected in shared.items():
        found = _shared_by_all(model)[name]
        assert_array_equal(found[tuple(map(slice, expected.shape))], expected)
    assert set(model.user_ids_) == set(known_users) | set(news[:, 0])
    assert set(model.item_ids_) == set(known_items) | set(news[:, 1])
    assert_array_equal(predict(loaded(model, model._model.state()), rows), after)
    assert np.isfinite(predict(update(model, *make_news()), rows)).all()


def _shared_by_all(model):
    """Return what items have learned, as arrays by name."""
    found = {name: getattr(model, name) for name in SHARED if hasattr(model, name)}
    return {name: np.array(v.toarray() if issparse(v) else v) for name, v in found.items()}


def check_adapt_needs_a_fitted_model(estimator):
    if hasattr(estimator, "adapt"):
        X, y = make_log()
        with pytest.raises(NotFittedError):
            clone(estimator).adapt(X, for_target(estimator, y))


def check_failing_to_adapt_leaves_no_trace(estimator):
    if not hasattr(estimator, "adapt"):
        return
    model, (news, y) = fitted(estimator), make_news()
    state, y = model._model.state(), for_target(model, y)
    nobody = as_table(*news.T)
    nobody[30, 0] = None
    missing = np.where(np.arange(60) == 31, np.nan, y)
    for bad in ((nobody, y), (news, y[:-1]), (news,), (news[:, :1], y), (news, missing)):
        with pytest.raises((ValueError, TypeError)):
            model.adapt(*bad)
        assert_same(model._model.state(), state, "state")
    with pytest.raises(ValueError, match="sample_weight"):
        model.adapt(news, y, sample_weight=-np.ones(60))
    assert_same(model._model.state(), state, "state")
    _kill(estimator, make_news(), n_points=6, learn=adapt)


def check_threads_read_while_a_model_adapts(estimator):
    if not hasattr(estimator, "adapt"):
        return
    model = fitted(estimator)
    chunks = [_chunk(number) for number in range(2)]
    twin, states = copy.deepcopy(model), [_asked(model)]
    states += [_asked(adapt(twin, *chunk)) for chunk in chunks]
    assert len(set(states)) == len(states)
    _run_threads(model, chunks, states, learn=adapt)
    assert _asked(model) == states[-1]


def recommender_adapt_checks():
    """Every check of this file, in order."""
    return [f for name, f in globals().items() if name.startswith("check_")]
