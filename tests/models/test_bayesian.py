"""The Bayesian factorization against dense linear algebra, and its table as a part."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_recft import BayesianMFRecommender
from sklearn_recft.models._bayesian_fit import Log, VariationalEM
from sklearn_recft.models._bayesian_table import GaussianTable, Grouped, Prior, square
from sklearn_recft.models._bayesian_uncertainty import Gaussians, most_telling, variances
from sklearn_recft.models._progress import Epochs


def make_rows(n_users=30, n_items=20, n=300, seed=0):
    rng = np.random.default_rng(seed)
    X = np.column_stack([rng.integers(n_users, size=n), rng.integers(n_items, size=n)])
    return X, rng.integers(1, 6, size=n).astype(float)


def fitted(**options):
    given = {"n_factors": 3, "max_epochs": 5, "random_state": 0, **options}
    return BayesianMFRecommender(**given).fit(*make_rows())


def test_a_user_has_the_textbook_posterior():
    """Given items without uncertainty, `adapt` is Bayesian linear regression."""
    model = fitted()
    inner = model._model
    items = inner.item_table
    # The moments of items that are known exactly: E[x x^T] = x x^T, E[x b] = x b.
    row, column = np.triu_indices(4)
    x = items.means.copy()
    x[:, 0] = 1
    items.moments[:] = np.hstack([x[:, row] * x[:, column], x * items.means[:, :1]])
    codes, y = np.array([2, 5, 5, 7]), np.array([5.0, 1.0, 2.0, 4.0])
    weight = np.array([1.0, 2.0, 0.5, 1.0])
    ids = model.item_ids_[codes]
    model.adapt(np.column_stack([np.full(4, 99), ids]), y, sample_weight=weight)
    prior = inner.user_table.prior
    A = np.linalg.inv(prior.covariance) + (x[codes].T * weight) @ x[codes] / inner.noise
    target = (y - inner.center) / inner.scale - items.means[codes, 0]
    rhs = np.linalg.inv(prior.covariance) @ prior.weights[0]
    rhs = rhs + (x[codes].T * weight) @ target / inner.noise
    user = model._model.of_users(model._model.users.encode(np.array([99])))
    assert_allclose(user.means[0], np.linalg.solve(A, rhs), rtol=1e-8)
    assert_allclose(square(user.covariances[0]), np.linalg.inv(A), rtol=1e-8, atol=1e-12)
    assert_allclose(model.user_means_[-1], inner.scale * user.means[0])


def test_sums_after_fit_are_those_of_the_final_items():
    model = fitted()._model
    X, y = make_rows()
    users, items = model.users.encode(X[:, 0]), model.items.encode(X[:, 1])
    table = GaussianTable(3, of_users=True)
    table.grow(model.n_users)
    targets = (y - model.center) / model.scale
    table.add(Grouped.by(users, items, targets, np.ones(len(y))), model.item_table.moments)
    assert_array_equal(table.sums, model.user_table.sums)


def test_noise_is_the_expected_squared_error():
    """The noise from the sums of users equals the sum over events, one by one."""
    X, y = make_rows()
    rng = np.random.default_rng(0)
    z, weight = (y - y.mean()) / y.std(), rng.random(len(y))
    log = Log(X[:, 0], X[:, 1], z, weight, np.ones((30, 1)), np.ones((20, 1)))
    users, items = GaussianTable(3, of_users=True), GaussianTable(3, of_users=False)
    fit = VariationalEM(users, items, log, 1)
    fit.run(Epochs(3, 0), rng)
    users.sums[:] = 0
    users.add(fit._by_user, items.moments)
    of_users = users.posteriors(np.arange(30), log.user_features, fit.noise)
    of_items = items.posteriors(np.arange(20), log.item_features, fit.noise)
    u, i = (Gaussians(p.means, p.covariances) for p in (of_users, of_items))
    means = u.means[X[:, 0]] * i.inputs[X[:, 1]]
    error = (z - i.means[X[:, 1], 0] - means.sum(axis=1)) ** 2
    error += variances(u.take(X[:, 0]), i.take(X[:, 1]))
    assert_allclose(fit._noise_of(of_users, of_items), np.average(error, weights=weight))


def test_variance_of_a_prediction_is_that_of_draws():
    rng = np.random.default_rng(0)
    roots = rng.normal(size=(2, 3, 3)) / 2
    both = [
        Gaussians(rng.normal(size=(1, 3)), (root @ root.T)[np.triu_indices(3)][None])
        for root in roots
    ]
    user, item = (g.take(np.zeros(100_000, np.int64)).draw(rng) for g in both)
    drawn = user[:, 0] + item[:, 0] + (user[:, 1:] * item[:, 1:]).sum(axis=1)
    assert_allclose(variances(*both), drawn.var(), rtol=0.02)


def test_questions_lower_the_mean_variance_most():
    """The first choice is that of a search over all items, one update for each."""
    rng = np.random.default_rng(1)
    roots = rng.normal(size=(7, 3, 3)) / 3
    squares = roots @ roots.transpose(0, 2, 1)
    row, column = np.triu_indices(3)
    items = Gaussians(rng.normal(size=(6, 3)), squares[1:, row, column])
    users = Gaussians(rng.normal(size=(1, 3)), squares[:1, row, column])
    noise, x = 0.5, items.inputs
    spread = [variances(users.take(np.zeros(6, np.int64)), items)[j] + noise for j in range(6)]
    left = []
    for j in range(6):
        moved = squares[0] @ x[j]
        now = squares[0] - np.outer(moved, moved) / spread[j]
        after = Gaussians(users.means, now[row, column][None])
        left.append(variances(after.take(np.zeros(6, np.int64)), items).mean())
    order = most_telling(users, items, noise, np.ones((1, 6), bool), 6)
    assert order[0, 0] == np.argmin(left)
    assert sorted(order[0]) == list(range(6))
    allowed = np.arange(6)[None] != order[0, 0]
    assert order[0, 0] not in most_telling(users, items, noise, allowed, 5)


def test_a_table_grows_and_rolls_back():
    table = GaussianTable(2, of_users=False)
    table.prior = table.late_prior = Prior.of(np.ones((1, 3)), 2 * np.eye(3))
    table.grow(2)
    table.solve(np.arange(2), np.ones((2, 1)), 1.0)
    assert_array_equal(table.means, np.ones((2, 3)))  # of the prior, exactly
    before, mark = table.state(), table.mark(np.array([0, 1, 5]))
    table.grow(6)
    table.sums[:] = 1.0
    table.solve(np.arange(6), np.ones((6, 1)), 1.0)
    table.restore(mark)
    after = table.state()
    for name in ("sums", "means", "covariances", "moments", "is_late"):
        assert_array_equal(after[name], before[name])
    table.grow(3)
    assert not table.sums[2].any()
    table.forget(np.array([0]))  # users, who are no items
    assert len(table) == 3


def test_new_items_have_a_prior_of_their_own():
    """Rare items are liked less here; of a new one it is not known that it is rare."""
    rng = np.random.default_rng(0)
    n = np.r_[np.full(10, 200), np.full(40, 4)]
    item = np.repeat(np.arange(50), n)
    X = np.column_stack([rng.integers(100, size=len(item)), item])
    y = np.where(item < 10, 4.0, 2.0) + rng.normal(size=len(item))
    model = BayesianMFRecommender(n_factors=2, max_epochs=10, random_state=0).fit(X, y)
    table = model._model.item_table
    assert table.late_prior.weights[0, 0] > table.prior.weights[0, 0] + 0.3
    model.observe([[0, 777]], [3.0])
    assert_array_equal(table.is_late, np.arange(51) == 50)
    assert_allclose(table.means[50], table.late_prior.weights[0])


def test_merging_is_refused_with_the_reason():
    with pytest.raises(ValueError, match="item vectors of one fit"):
        fitted()._model.merge(fitted()._model)
