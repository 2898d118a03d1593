"""Unlearning equals a replay without the users, and a membership test finds nothing of them."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.metrics import roc_auc_score

from sklearn_recft import EASERecommender, IncrementalMFRecommender
from sklearn_recft.datasets import make_interactions
from sklearn_recft.model_selection import unlearn
from sklearn_recft.pipeline import make_recommender_pipeline
from sklearn_recft.preprocessing import Pseudonymizer, SecretKey
from sklearn_recft.vocabulary import IdTypeWarning

GONE = [3, 7, 999]


@pytest.fixture(scope="module")
def log():
    return make_interactions(60, 40, 2400, random_state=0, return_X_y=True)


def mf(**options):
    return IncrementalMFRecommender(n_factors=8, random_state=0, **options)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_it_equals_a_replay_without_them_to_the_last_bit(log, solver):
    X, y = log
    weight = np.linspace(0.5, 1.5, len(X))
    model = mf(solver=solver, max_epochs=3).fit(X[:1000], y[:1000], weight[:1000])
    for part in (slice(1000, 1700), slice(1700, None)):
        model.partial_fit(X[part], y[part], weight[part])
    before = pickle.dumps(model)
    new = unlearn(
        model, X, y, user_ids=GONE, sample_weight=weight, lengths=[1000, 700, len(X) - 1700]
    )
    assert pickle.dumps(model) == before
    expected = mf(solver=solver, max_epochs=3)
    kept = ~np.isin(X[:, 0], GONE)
    for part in (slice(0, 1000), slice(1000, 1700), slice(1700, None)):
        rows = np.arange(len(X))[part][kept[part]]
        expected.partial_fit(X[rows], y[rows], weight[rows])
    assert_array_equal(new.predict(X), expected.predict(X))
    assert not {3, 7} & set(new.user_ids_)
    receipt = new.forget_receipt_
    assert (receipt.level, receipt.n_users, receipt.n_rows) == ("unlearned", 2, (~kept).sum())


def test_items_and_pipelines_are_unlearned_too(log):
    X, y = log
    names = Pseudonymizer(SecretKey(b"a key of these tests"))
    pipe = make_recommender_pipeline(names, EASERecommender(reg=3.0)).fit(X, y)
    new = unlearn(pipe, X, y, user_ids=[3], item_ids=[5])
    kept = (X[:, 0] != 3) & (X[:, 1] != 5)
    expected = EASERecommender(reg=3.0).fit(X[kept], y[kept])
    assert_array_equal(new.predict(X[kept]), expected.predict(X[kept]))
    assert new.forget_receipt_.n_items == 1


def test_a_membership_test_finds_erased_users_but_no_unlearned_ones(log):
    """Of each forgotten user, half of the events were never learned: their losses are alike."""
    X, y = log
    rng = np.random.default_rng(0)
    gone = np.arange(20)
    theirs = np.isin(X[:, 0], gone)
    member = theirs & (rng.random(len(X)) < 0.5)
    known = ~theirs | member
    model = mf(learning_rate=0.05, reg=0.001, max_epochs=60).fit(X[known], y[known])
    new = unlearn(model, X[known], y[known], user_ids=gone)
    erased = model.forget(gone)
    found = {}
    for name, one in (("erased", erased), ("unlearned", new)):
        loss = (y[theirs] - one.adapt(X[theirs], y[theirs]).predict(X[theirs])) ** 2
        found[name] = roc_auc_score(member[theirs], -loss)
    assert abs(found["unlearned"] - 0.5) < 0.04
    assert found["erased"] > found["unlearned"] + 0.01


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "at least one id"),
        ({"user_ids": range(60)}, "all 2400 rows"),
        ({"user_ids": [3], "lengths": [5, 6]}, "11 rows in 2 calls, but X has 2400"),
    ],
)
def test_bad_input(log, options, message):
    X, y = log
    with pytest.raises(ValueError, match=message):
        unlearn(mf(max_epochs=1), X, y, **options)


def test_ids_of_another_type_are_warned_of(log):
    """Otherwise a request to be forgotten is lost, since unknown ids are ignored."""
    X, _ = log
    for call in (
        lambda: EASERecommender(reg=1.0).fit(X).forget(["3"]),
        lambda: EASERecommender(reg=1.0).fit(X).forget_items(["3"]),
        lambda: unlearn(EASERecommender(reg=1.0), X, user_ids=["3"]),
    ):
        with pytest.warns(IdTypeWarning, match="_ids: none of 1 rows is known"):
            assert call().forget_receipt_.n_users == 0


@pytest.mark.parametrize("lengths", [[1200.7, 1200.7], [np.nan], 2400])
def test_lengths_are_integers(log, lengths):
    with pytest.raises(TypeError, match="lengths must be a list of integers"):
        unlearn(EASERecommender(), log[0], user_ids=[3], lengths=lengths)
