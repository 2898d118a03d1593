"""Bayesian factorization of positives: ``loss="implicit"`` against explicit zeros."""

import copy
import functools

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_recft import BayesianMFRecommender
from sklearn_recft.base import recommender_tags
from sklearn_recft.models._bayesian_fit import Log, VariationalEM
from sklearn_recft.models._bayesian_table import GaussianTable, square
from sklearn_recft.models._progress import Epochs
from tests.contract.helpers import assert_same

N_USERS, N_ITEMS, N_GROUPS = 120, 40, 4


def positives(users, n, seed):
    """Draw n positives of each user, nine in ten of them from the user's group of items."""
    rng = np.random.default_rng(seed)
    user = np.repeat(users, n)
    item = rng.integers(N_ITEMS // N_GROUPS, size=len(user)) * N_GROUPS + user % N_GROUPS
    other = rng.random(len(user)) < 0.1
    item[other] = rng.integers(N_ITEMS, size=other.sum())
    return np.column_stack([user, item])


def make(**options):
    given = {"n_factors": 4, "max_epochs": 15, "random_state": 0, **options}
    return BayesianMFRecommender(loss="implicit", **given)


@functools.cache
def _fitted():
    return make().fit(positives(np.arange(N_USERS), 8, seed=0))


def fitted():
    return copy.deepcopy(_fitted())


def newcomers(n=40, k=3):
    """Return the positives of users who come after `fit`."""
    return positives(np.arange(1000, 1000 + n), k, seed=1)


def share_of_own_group(model, users):
    items, _ = model.recommend(users, n_recommendations=5, exclude_seen=False)
    return np.mean(items % N_GROUPS == np.asarray(users)[:, None] % N_GROUPS)


def test_planted_tastes_are_found():
    model, users = fitted(), np.arange(1000, 1040)
    assert share_of_own_group(model, users) < 0.5
    model.adapt(newcomers(k=1))
    assert share_of_own_group(model, users) > 0.8
    model.adapt(newcomers(k=4))
    assert share_of_own_group(model, users) > 0.95
    assert share_of_own_group(model, np.arange(N_USERS)) > 0.95


def test_predictions_order_as_lists_do():
    model = fitted().adapt(newcomers())
    assert recommender_tags(model).predicts == "order"
    assert recommender_tags(BayesianMFRecommender()).predicts == "feedback"
    items, scores = model.recommend([1000], n_recommendations=20)
    rows = np.column_stack([np.full(20, 1000), items[0]])
    assert_allclose(model.predict(rows), scores[0], rtol=1e-5)
    means, user = model.item_means_, model.user_means_[model.user_ids_ == 1000][0]
    places = [model.item_ids_.tolist().index(item) for item in items[0]]
    assert_allclose(model.predict(rows), (means[:, 0] + user[0] + means[:, 1:] @ user[1:])[places])
    assert model.intercept_ == 0
    assert 0 < model.score(newcomers(k=4)) < 1


@pytest.mark.parametrize("half_life", [None, 30.0])
def test_order_and_calls_do_not_matter(half_life):
    X = newcomers(k=6)
    X = np.column_stack([X, 86_400.0 * np.random.default_rng(0).integers(90, size=len(X))])
    log = np.column_stack([positives(np.arange(60), 8, seed=0), np.full(480, 0.0)])
    base = make(n_factors=3, max_epochs=3, half_life=half_life).fit(log)
    once, twice = copy.deepcopy(base).adapt(X), copy.deepcopy(base)
    order = np.random.default_rng(1).permutation(len(X))
    for part in np.array_split(order, 4):
        twice.adapt(X[part])
    expected = once.predict(X, return_std=True)
    assert_allclose(twice.predict(X, return_std=True), expected, rtol=1e-10)
    half = copy.deepcopy(base).adapt(X[order[:120]]).observe(X[order[120:]])
    assert_allclose(half.predict(X), expected[0], rtol=1e-10)
    weighted = copy.deepcopy(base).adapt(X, sample_weight=np.full(len(X), 2.0))
    doubled = copy.deepcopy(base).adapt(np.vstack([X, X]))
    assert_allclose(weighted.user_means_, doubled.user_means_, rtol=1e-10, atol=1e-12)


def test_a_user_has_the_posterior_of_explicit_zeros():
    """Given items without uncertainty, `adapt` is Bayesian linear regression on ones and zeros."""
    model, negatives = make(negatives=7.0).fit(positives(np.arange(60), 8, seed=0)), 7.0
    inner = model._model
    row, column = np.triu_indices(5)
    b, x = inner.item_table.means[:, 0], inner.item_table.means.copy()
    x[:, 0] = 1
    inner.item_table.moments[:] = np.hstack([x[:, row] * x[:, column], x * b[:, None]])
    inner.mean_moments = inner.item_table.moments.mean(axis=0)
    codes, weight = np.array([2, 5, 5, 9]), np.array([1.0, 2.0, 0.5, 1.0])
    model.adapt(np.column_stack([np.full(4, 99), model.item_ids_[codes]]), sample_weight=weight)
    n = len(b)
    every = np.r_[codes, np.tile(np.arange(n), 4)]  # each event, and all items with each event
    weights = np.r_[weight, np.repeat(weight, n) * negatives / n]
    target = np.r_[np.ones(4), np.zeros(4 * n)] - b[every]
    prior = inner.user_table.prior
    A = prior.precision + (x[every].T * weights) @ x[every] / inner.noise
    rhs = prior.precision @ prior.weights[0] + (x[every].T * weights) @ target / inner.noise
    user = inner.of_users(inner.users.encode(np.array([99])))
    assert_allclose(user.means[0], np.linalg.solve(A, rhs), rtol=1e-8, atol=1e-12)
    assert_allclose(square(user.covariances[0]), np.linalg.inv(A), rtol=1e-8, atol=1e-12)


def test_a_sweep_is_that_of_explicit_zeros():
    """Sums, noise and priors equal those of a log in which each zero is a row."""
    X, negatives = positives(np.arange(60), 8, seed=2), 5.0
    n, weight = len(X), np.random.default_rng(0).random(len(X)) + 0.5
    zeros = np.column_stack([np.repeat(X[:, 0], N_ITEMS), np.tile(np.arange(N_ITEMS), n)])
    assert len(np.unique(X[:, 1])) == N_ITEMS  # zeros are spread over items with events
    both, ones = (
        np.vstack([X, zeros]),
        np.ones((60, 1)),
    )
    weights = np.r_[weight, np.repeat(weight, N_ITEMS) * negatives / N_ITEMS]
    target, features = np.r_[np.ones(n), np.zeros(len(zeros))], np.ones((N_ITEMS, 1))
    implicit = Log(*X.T, np.ones(n), weight, ones, features, negatives)
    explicit = Log(*both.T, target, weights, ones, features)
    found = []
    for log in (implicit, explicit):
        users, items = GaussianTable(3, of_users=True), GaussianTable(3, of_users=False)
        fit = VariationalEM(users, items, log, 1)
        fit._start_values, fit.noise = found[0][0]._start_values if found else fit._start_values, 1
        fit.run(Epochs(3, 0), np.random.default_rng(0))
        found.append((fit, users, items))
    (one, *tables), (other, *others) = found
    assert_allclose(one.noise, other.noise)
    for ours, theirs in zip(tables, others, strict=True):
        assert_allclose(ours.sums, theirs.sums, rtol=1e-8, atol=1e-10)
        assert_allclose(ours.means, theirs.means, rtol=1e-8, atol=1e-10)
        assert_allclose(ours.prior.covariance, theirs.prior.covariance, rtol=1e-8, atol=1e-10)


def test_only_positives_teach():
    X, more = newcomers(), newcomers(n=50)[-30:]
    plain = fitted().adapt(X)
    both = np.vstack([X, more])
    rated = make().fit(positives(np.arange(N_USERS), 8, seed=0), np.full(N_USERS * 8, 5.0))
    assert_array_equal(rated.item_means_, plain.item_means_)
    rated.adapt(both, np.r_[np.full(len(X), 0.5), np.zeros(15), np.full(15, -1.0)])
    known = np.isin(rated.user_ids_, plain.user_ids_)
    assert_array_equal(rated.user_means_[known], plain.user_means_)
    unknown = rated.user_means_[~known]
    assert len(unknown)
    assert_allclose(unknown, np.tile(rated._model.user_table.unknown, (len(unknown), 1)))
    before = rated.item_means_
    rated.partial_fit(more, np.zeros(30))
    assert_array_equal(rated.item_means_, before)
    assert more[0, 1] not in rated.recommend([more[0, 0]], n_recommendations=30)[0]
    with pytest.raises(ValueError, match="no row is positive"):
        make().fit(X, np.zeros(len(X)))


def test_adapting_moves_nobody_else():
    model = fitted()
    users, items = model.user_means_, model.item_means_
    model.adapt(np.vstack([newcomers(), [[3, 5], [3, 777]]]))
    assert_array_equal(model.item_means_[:N_ITEMS], items)
    moved = (model.user_means_[:N_USERS] != users).any(axis=1)
    assert_array_equal(np.flatnonzero(moved), np.flatnonzero(model.user_ids_[:N_USERS] == 3))


def test_a_new_item_counts_the_zeros_of_its_call():
    """The same four events make an item popular in a short call, and rare in a long one."""
    taken = np.column_stack([np.arange(4), np.full(4, 777)])
    rows = positives(np.arange(N_USERS), 8, seed=3)
    for verb in ("adapt", "partial_fit"):
        short, long = (
            getattr(fitted(), verb)(np.vstack([taken, rows[:n]])).item_means_[-1, 0]
            for n in (8, len(rows))
        )
        prior = _fitted()._model.item_table.late_prior.weights[0, 0]
        assert short > prior > long


def test_partial_fit_learns_items():
    """Half of the log, and then the other half in ten calls: about what one fit learns."""
    X = positives(np.arange(N_USERS), 16, seed=4)
    X = X[np.random.default_rng(0).permutation(len(X))]
    catalogue = pd.DataFrame({"item_id": [0, 555], "size": [1.0, 1.0]})
    half = len(X) // 2
    model = make().fit(X[:half], items=catalogue)
    whole = make().fit(X)
    for rows in np.array_split(np.arange(half, len(X)), 10):
        before = model.item_means_
        model.partial_fit(X[rows])
        moved = (model.item_means_ != before).any(axis=1)
        assert_array_equal(moved, model.item_ids_ != 555)  # an item without events stays
    pairs = np.array([(user, item) for user in range(20) for item in range(N_ITEMS)])
    updated, fit = model.predict(pairs), whole.predict(pairs)
    assert np.corrcoef(updated, fit)[0, 1] > 0.9
    assert abs(updated.mean() - fit.mean()) < 0.1 * fit.std()


def test_features_place_new_items_and_users():
    """An item without events suits users of its group, and a user without events gets a group."""
    users, items = np.arange(N_USERS + 4), np.r_[np.arange(N_ITEMS), 800:804]
    tables = {
        "users": pd.DataFrame({"user_id": users, "group": (users % N_GROUPS).astype(str)}),
        "items": pd.DataFrame({"item_id": items, "group": (items % N_GROUPS).astype(str)}),
    }
    model = make().fit(positives(np.arange(N_USERS), 8, seed=0), **tables)
    pairs = np.array([(user, item) for user in range(20) for item in range(800, 804)])
    suits = pairs[:, 0] % N_GROUPS == pairs[:, 1] % N_GROUPS
    scores = model.predict(pairs)
    assert scores[suits].min() > scores[~suits].max()
    assert share_of_own_group(model, users[-4:]) > 0.95


def test_threads_change_nothing():
    X = positives(np.arange(60), 8, seed=0)
    one, two = (
        make(n_factors=3, max_epochs=3, n_jobs=n).fit(X).partial_fit(newcomers()) for n in (1, 2)
    )
    assert_array_equal(one.item_means_, two.item_means_)
    assert_array_equal(one.user_means_, two.user_means_)


def test_a_failing_call_leaves_no_trace(monkeypatch):
    model = fitted()
    state = model._model.state()
    monkeypatch.setattr(type(model._model), "_is_finite", lambda self, events: False)
    for verb in (model.adapt, model.partial_fit):
        with pytest.raises(ValueError, match="not finite"):
            verb(np.vstack([newcomers(), [[3, 5], [3, 777]]]))
        assert_same(model._model.state(), state, "state")


def test_the_deviation_is_that_of_the_score():
    model = fitted().adapt(newcomers(k=2))
    items, scores = model.recommend([1000], n_recommendations=20, exploration=1.0)
    rows = np.column_stack([np.full(20, 1000), items[0]])
    mean, std = model.predict(rows, return_std=True)
    assert_allclose(mean + std, scores[0], rtol=1e-4)
    unknown = model.predict(np.column_stack([np.full(20, -1), items[0]]), return_std=True)[1]
    assert unknown.mean() > std.mean()


def test_questions_are_refused_with_the_reason():
    with pytest.raises(AttributeError, match="ask"):
        fitted().ask([1000])
    assert not hasattr(make(), "ask")
    assert hasattr(BayesianMFRecommender(), "ask")


def test_the_loss_is_fixed_by_fit():
    for change in ({"loss": "squared_error"}, {"negatives": 3.0}):
        with pytest.raises(ValueError, match=next(iter(change))):
            fitted().set_params(**change).partial_fit(newcomers())
    with pytest.raises(ValueError, match="negatives"):
        make(negatives=0.0).fit(newcomers())
