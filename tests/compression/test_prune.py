"""Pruned items and users against a count of the log, and their return."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

from sklearn_recft import (
    EASERecommender,
    IncrementalMFRecommender,
    PopularityRecommender,
    RealtimeTransformerRecommender,
)
from sklearn_recft.compression import compress, model_bytes, prune_items, prune_users
from tests.contract.helpers import DAY, make_log

SMALL = {"n_factors": 4, "max_epochs": 2, "random_state": 0}


@pytest.fixture(scope="module")
def log():
    X, y = make_log(150)
    return X[np.argsort(X[:, 2], kind="stable")], y


@pytest.fixture(scope="module")
def factors(log):
    return IncrementalMFRecommender(**SMALL).fit(*log)


def counts_of(X, column):
    return pd.DataFrame(X).groupby(column)[1 - column].agg(["size", "nunique"])


def test_rare_items_are_those_of_few_users(log, factors):
    n_users = counts_of(log[0], 1)["nunique"]
    wanted = set(n_users.index[n_users >= 4])
    before = factors.item_ids_
    pruned = prune_items(factors, min_events=4)
    assert set(pruned.item_ids_) == wanted
    assert 0 < len(wanted) < len(before)
    assert_array_equal(factors.item_ids_, before)
    assert pruned.forget_receipt_.n_items == len(before) - len(wanted)
    assert not hasattr(factors, "forget_receipt_")
    assert model_bytes(pruned) < model_bytes(factors)


def test_a_log_counts_events_and_times(log, factors):
    X = log[0]
    recent = X[X[:, 2] > np.quantile(X[:, 2], 0.3)]
    size = counts_of(recent, 1)["size"]
    pruned = prune_items(factors, recent, min_events=2)
    assert set(pruned.item_ids_) == set(size.index[size >= 2])
    newest = pd.DataFrame(X).groupby(1)[2].max()
    days = float((X[:, 2].max() - newest.median()) / DAY)
    pruned = prune_items(factors, X, older_than=days)
    assert set(pruned.item_ids_) == set(newest.index[newest >= newest.median()])


def test_exact_models_equal_a_fit_without_the_items(log):
    X, _ = log
    pruned = prune_items(EASERecommender(reg=5.0).fit(X), min_events=4)
    own = EASERecommender(reg=5.0).fit(X[np.isin(X[:, 1], pruned.item_ids_)])
    users = own.user_ids_
    _, scores = pruned.recommend(users, exclude_seen=False)
    np.testing.assert_allclose(scores, own.recommend(users, exclude_seen=False)[1], atol=1e-4)


def test_pruned_ids_come_back_as_new(log, factors):
    X, y = log
    pruned = prune_items(factors, min_events=4)
    gone = np.setdiff1d(factors.item_ids_, pruned.item_ids_)[0]
    rows = X[X[:, 1] == gone]
    pruned.partial_fit(rows, y[X[:, 1] == gone])
    assert pruned.item_ids_[-1] == gone
    assert np.isfinite(pruned.predict(X)).all()


def test_idle_users_go_and_their_pairs_are_returned(log, factors):
    X, _ = log
    newest = pd.DataFrame(X).groupby(0)[2].max()
    cut = newest.quantile(0.4)
    days = (X[:, 2].max() - cut) / DAY
    pruned, history = prune_users(factors, X, idle_for=days, return_history=True)
    gone = newest.index[newest < cut]
    assert set(pruned.user_ids_) == set(newest.index[newest >= cut])
    theirs = X[np.isin(X[:, 0], gone)]
    assert {tuple(pair) for pair in history} == {(u, i) for u, i, _ in theirs.tolist()}
    assert factors.n_users_ == len(newest)
    back = np.column_stack([history.astype(int), np.full(len(history), X[:, 2].max())])
    pruned.partial_fit(back, np.full(len(back), 0.5))
    assert set(pruned.user_ids_) == set(newest.index)
    assert len(prune_users(factors, X, idle_for=days).user_ids_) == len(newest) - len(gone)


@pytest.mark.parametrize(
    "model",
    [
        PopularityRecommender(),
        EASERecommender(reg=5.0, half_life=30),
        RealtimeTransformerRecommender(None, width=8, max_history=5, max_epochs=1, random_state=0),
    ],
    ids=lambda model: type(model).__name__,
)
def test_models_with_times_need_no_log(model, log):
    X, _ = log
    model = model.fit(X)
    newest = pd.DataFrame(X).groupby(0)[2].max()
    days = (X[:, 2].max() - newest.quantile(0.4)) / DAY
    if isinstance(model, PopularityRecommender):
        with pytest.raises(ValueError, match=r"keeps no times of users. Give X"):
            prune_users(model, idle_for=days)
        return
    pruned = prune_users(model, idle_for=days)
    assert set(pruned.user_ids_) == set(newest.index[newest >= newest.quantile(0.4)])


def test_compressed_models_are_pruned(factors):
    pruned = prune_items(compress(factors), min_events=4)
    assert_array_equal(pruned.item_ids_, prune_items(factors, min_events=4).item_ids_)


BAD = {
    "nothing": ({}, ValueError, "Give min_events or older_than"),
    "zero": ({"min_events": 0}, ValueError, "min_events=0: give an integer of at least 1"),
    "share": ({"min_events": 2.5}, ValueError, "min_events=2.5: give an integer of at least 1"),
    "flag": ({"older_than": True}, ValueError, "older_than=True: give a number"),
    "nan": ({"older_than": float("nan")}, ValueError, "older_than=nan: give a number"),
    "no log": ({"older_than": 3.0}, ValueError, "older_than: models keep no times of items"),
    "all": ({"min_events": 10**6}, ValueError, "these are all"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_options_of_items_are_refused(case, factors):
    options, error, message = BAD[case]
    with pytest.raises(error, match=message):
        prune_items(factors, **options)


def test_bad_options_of_users_are_refused(log, factors):
    X = log[0]
    for days in (0, -1, None, "3"):
        with pytest.raises(ValueError, match=r"idle_for|Give"):
            prune_users(factors, X, idle_for=days)
    with pytest.raises(ValueError, match="X: idle_for needs the column `timestamp`"):
        prune_users(factors, X[:, :2], idle_for=3)
    with pytest.raises(TypeError, match="return_history=1: give True or False"):
        prune_users(factors, X, idle_for=3, return_history=1)
    with pytest.raises(TypeError, match="is no recommender"):
        prune_users(object(), X, idle_for=3)


def test_models_of_shared_weights_refuse_to_drop_items(log):
    model = RealtimeTransformerRecommender(
        None, width=8, max_history=5, max_epochs=1, random_state=0
    ).fit(log[0])
    with pytest.raises(ValueError, match="forget_items: a RealtimeTransformerRecommender cannot"):
        prune_items(model, min_events=4)


def test_columns_that_no_count_needs_are_not_read(log):
    X = pd.DataFrame(log[0], columns=["user_id", "item_id", "timestamp"])
    more = X.assign(genre="a", price=np.nan, embedding=[[0.5, 1.0]] * len(X))
    model = PopularityRecommender().fit(X)
    for given in ({"min_events": 4}, {"older_than": 2.0}):
        found, wanted = (prune_items(model, log, **given).item_ids_ for log in (more, X))
        assert_array_equal(found, wanted)
    found, wanted = (prune_users(model, log, idle_for=2.0).user_ids_ for log in (more, X))
    assert_array_equal(found, wanted)
    assert len(found) < model.n_users_
