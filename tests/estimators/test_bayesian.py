"""Bayesian factorization: closed-form adaptation, intervals, exploration and questions."""

import copy
import functools

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError

from sklearn_recft import BayesianMFRecommender, BiasRecommender, IncrementalMFRecommender
from tests.contract.helpers import assert_same

N_USERS, N_ITEMS, N_COLD = 400, 60, 150
SUPPORT, QUERY = 12, 8


@functools.cache
def drawn():
    """Draw a log from the model: rows of warm users, and support and query rows of cold ones."""
    rng = np.random.default_rng(0)
    d, n_users = 3, N_USERS + N_COLD
    b, q = rng.normal(0, 0.4, N_ITEMS), rng.normal(0, 1, (N_ITEMS, d))
    c, p = rng.normal(0, 0.4, n_users), rng.normal(0.2, 0.5, (n_users, d))
    items = np.argsort(rng.random((n_users, N_ITEMS)), axis=1)[:, : SUPPORT + QUERY]
    users = np.arange(n_users)[:, None] + np.zeros_like(items)
    dots = np.einsum("ud,und->un", p, q[items])
    y = 3 + b[items] + c[:, None] + dots + rng.normal(0, 0.6, items.shape)
    X = np.stack([users, items], axis=2)
    warm = X[:N_USERS].reshape(-1, 2), y[:N_USERS].ravel()
    return warm, X[N_USERS:], y[N_USERS:]


@functools.cache
def _fitted():
    return BayesianMFRecommender(n_factors=4, max_epochs=25, random_state=0).fit(*drawn()[0])


def fitted():
    return copy.deepcopy(_fitted())


def support(k, n_users=N_COLD):
    _, X, y = drawn()
    return X[:n_users, :k].reshape(-1, 2), y[:n_users, :k].ravel()


def query():
    _, X, y = drawn()
    return X[:, SUPPORT:].reshape(-1, 2), y[:, SUPPORT:].ravel()


def rmse(model):
    X, y = query()
    return np.sqrt(np.mean((model.predict(X) - y) ** 2))


def test_parameters_of_the_model_are_found():
    model = fitted()
    assert_allclose(model.noise_, 0.6, rtol=0.05)
    assert_allclose(model.intercept_, drawn()[0][1].mean())
    assert model.user_means_.shape == (N_USERS, 5)
    assert model.item_means_.shape == (N_ITEMS, 5)
    user, item = model.user_means_[:3], model.item_means_[:7]
    rows = np.column_stack([np.repeat(model.user_ids_[:3], 7), np.tile(model.item_ids_[:7], 3)])
    dots = user[:, :1] + item[:, 0] + user[:, 1:] @ item[:, 1:].T
    assert_allclose(model.predict(rows), model.intercept_ + dots.ravel())


@pytest.mark.parametrize("k", [0, 1, 4, 12])
def test_intervals_cover_what_they_say(k):
    model, (X, y) = fitted(), query()
    if k:
        model.adapt(*support(k))
    mean, std = model.predict(X, return_std=True)
    assert_array_equal(mean, model.predict(X))
    assert (std > model.noise_).all()
    covered = np.mean(np.abs(y - mean) < 1.6449 * std)
    assert 0.87 < covered < 0.93


def test_the_deviation_falls_with_every_event():
    model, (X, y) = fitted(), support(SUPPORT, 1)
    asked = np.column_stack([np.full(N_ITEMS, X[0, 0]), np.arange(N_ITEMS)])
    before = model.predict(asked, return_std=True)[1]
    for row in range(len(X)):
        model.adapt(X[[row]], y[[row]])
        now = model.predict(asked, return_std=True)[1]
        assert now.mean() < before.mean()
        before = now


def test_better_than_bias_and_the_point_factorization_for_new_users():
    warm, _, _ = drawn()
    others = [
        BiasRecommender().fit(*warm),
        IncrementalMFRecommender(random_state=0).fit(*warm),
    ]
    for k in (3, SUPPORT):
        errors = [rmse(copy.deepcopy(other).partial_fit(*support(k))) for other in others]
        assert rmse(fitted().adapt(*support(k))) < 0.95 * min(errors)


def test_order_and_calls_do_not_matter():
    X, y = support(SUPPORT)
    order = np.random.default_rng(0).permutation(len(X))
    once, shuffled, twice = fitted().adapt(X, y), fitted().adapt(X[order], y[order]), fitted()
    twice.adapt(X[order[:700]], y[order[:700]]).observe(X[order[700:]], y[order[700:]])
    expected = once.predict(query()[0], return_std=True)
    for model in (shuffled, twice):
        assert_allclose(model.predict(query()[0], return_std=True), expected, rtol=1e-10)


@functools.cache
def _decaying():
    X, y = drawn()[0]
    X = np.column_stack([X, 86_400.0 * np.arange(len(X))])
    model = BayesianMFRecommender(n_factors=3, max_epochs=4, half_life=30.0, random_state=0)
    return model.fit(X[:3000], y[:3000])


def test_decayed_events_count_less_whatever_the_calls():
    X, y = support(SUPPORT, 20)
    days = np.random.default_rng(0).integers(4000, 4100, len(y))
    X = np.column_stack([X, 86_400.0 * days])
    once, twice, weighted = (copy.deepcopy(_decaying()) for _ in range(3))
    once.adapt(X, y)
    order = np.random.default_rng(1).permutation(len(y))
    for part in np.array_split(order, 5):
        twice.adapt(X[part], y[part])
    expected = once.predict(X, return_std=True)
    assert_allclose(twice.predict(X, return_std=True), expected, rtol=1e-10)
    newest = np.array([days[X[:, 0] == user].max() for user in X[:, 0]])
    same_time = np.column_stack([X[:, :2], np.full(len(y), X[0, 2])])
    weighted.adapt(same_time, y, sample_weight=0.5 ** ((newest - days) / 30.0))
    assert_allclose(weighted.predict(X, return_std=True), expected, rtol=1e-6)
    whole = copy.deepcopy(_decaying()).adapt(same_time, y)
    codes = np.arange(150, 170)
    known, decayed = (m._model.of_users(codes).covariances[:, 0] for m in (whole, once))
    assert (known < decayed).all()
    with pytest.raises(ValueError, match="half_life"):
        BayesianMFRecommender(half_life=3.0).fit(X[:, :2], y)


def test_a_weight_of_two_is_two_rows():
    X, y = support(3)
    twice = fitted().adapt(np.vstack([X, X]), np.r_[y, y])
    weighted = fitted().adapt(X, y, sample_weight=np.full(len(y), 2.0))
    assert_allclose(weighted.user_means_, twice.user_means_, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_user_alone_is_a_user_of_many(n_jobs):
    X, y = support(5)
    many = fitted().set_params(n_jobs=n_jobs).adapt(X, y)
    for user in (N_USERS, N_USERS + 77):
        own = X[:, 0] == user
        alone = fitted().adapt(X[own], y[own])
        assert_array_equal(alone.user_means_[-1], many.user_means_[many.user_ids_ == user][0])
        rows = query()[0][query()[0][:, 0] == user]
        assert_array_equal(
            alone.predict(rows, return_std=True), many.predict(rows, return_std=True)
        )


def test_threads_change_nothing():
    log = drawn()[0][0][:2000], drawn()[0][1][:2000]
    one, two = (
        BayesianMFRecommender(n_factors=3, max_epochs=3, random_state=0, n_jobs=n).fit(*log)
        for n in (1, 2)
    )
    assert_array_equal(one.item_means_, two.item_means_)
    assert_array_equal(one.user_means_, two.user_means_)


def test_adapting_moves_nobody_else():
    model = fitted()
    users, items = model.user_means_, model.item_means_
    X, y = support(4)
    known = np.array([[3, 5], [3, 6]])
    model.adapt(np.vstack([X, known]), np.r_[y, 1.0, 5.0])
    assert_array_equal(model.item_means_, items)
    others = np.arange(N_USERS) != 3
    assert_array_equal(model.user_means_[:N_USERS][others], users[others])
    assert (model.user_means_[3] != users[3]).any()


def test_unknown_users_and_items_have_the_mean_of_the_prior():
    model = fitted()
    X, _ = query()
    before = model.predict(X[:20], return_std=True)
    model.observe([[X[0, 0], "never seen"]], [3.0])
    after = model.predict(X[:20], return_std=True)
    assert (before[0][:QUERY] != after[0][:QUERY]).all()  # an event of the first user
    assert_array_equal(before[0][QUERY:], after[0][QUERY:])
    unknown = model.predict([[-1, "nothing"], [3, "nothing"]], return_std=True)
    assert unknown[1][0] > unknown[1][1] > model.noise_
    prior = model._model.user_table.prior
    asked = np.column_stack([np.full(N_ITEMS, -1), model.item_ids_[:N_ITEMS]])
    b, q = np.split(model.item_means_[:N_ITEMS], [1], axis=1)
    mean = model._model.scale * prior.weights[0]
    assert_allclose(model.predict(asked), model.intercept_ + b[:, 0] + mean[0] + q @ mean[1:])


def test_new_items_are_solved_for_with_their_users():
    """Half of the items come after `fit`; with ten ratings each, their tastes are known."""
    (X, y), _, _ = drawn()
    new = X[:, 1] >= 50
    model = BayesianMFRecommender(n_factors=4, max_epochs=20, random_state=0).fit(X[~new], y[~new])
    X, y = X[new], y[new]
    test = np.arange(len(y)) % 3 == 0
    before = np.mean((model.predict(X[test]) - y[test]) ** 2)
    items, users = model.item_means_, model.user_means_
    model.adapt(X[~test], y[~test])
    assert np.mean((model.predict(X[test]) - y[test]) ** 2) < 0.55 * before
    assert_array_equal(model.item_means_[: len(items)], items)
    others = ~np.isin(model.user_ids_, X[~test, 0])
    assert_array_equal(model.user_means_[others], users[others])
    items = model.item_means_
    model.adapt(X[test], y[test])  # they have events now
    assert_array_equal(model.item_means_, items)
    model.partial_fit(X[test], y[test])
    assert (model.item_means_ != items).any(axis=1).sum() == 10


def test_partial_fit_learns_items():
    """Half of the log, then the other half in ten calls: nearly a fit on all."""
    (X, y), _, _ = drawn()
    half = len(X) // 2
    whole = rmse(fitted().adapt(*support(SUPPORT)))
    model = BayesianMFRecommender(n_factors=4, max_epochs=25, random_state=0)
    model.partial_fit(X[:half], y[:half])
    frozen = rmse(copy.deepcopy(model).adapt(*support(SUPPORT)))
    for rows in np.array_split(np.arange(half, len(X)), 10):
        model.partial_fit(X[rows], y[rows])
    assert whole <= rmse(model.adapt(*support(SUPPORT))) < (whole + frozen) / 2


@pytest.mark.parametrize("half_life", [None, 30.0])
def test_a_failing_call_leaves_no_trace(monkeypatch, half_life):
    model = copy.deepcopy(_fitted() if half_life is None else _decaying())
    state = model._model.state()
    X, y = support(2)
    X, more = np.column_stack([X, np.full(len(X), 1e9)]), [[3, 5, 1e9], [3, 999, 1e9]]
    width = 2 if half_life is None else 3
    monkeypatch.setattr(type(model._model), "_is_finite", lambda self, events: False)
    for verb in (model.adapt, model.partial_fit):
        with pytest.raises(ValueError, match="not finite"):
            verb(np.vstack([X, more])[:, :width], np.r_[y, 1, 5])
        assert_same(model._model.state(), state, "state")


def test_forgotten_users_are_gone():
    model = fitted().adapt(*support(3))
    means = model.user_means_
    model.forget(np.arange(5))
    assert_array_equal(model.user_means_, means[5:])
    X, y = support(3, 1)
    before = model.user_means_[model.user_ids_ == X[0, 0]]
    model.adapt(X, y)
    assert (model.user_means_[model.user_ids_ == X[0, 0]] != before).any()


def test_lists_explore():
    model = fitted().adapt(*support(2))
    users = [N_USERS, N_USERS + 1, -1]
    options = {"n_recommendations": 20, "exclude_seen": False}
    greedy = model.recommend(users, **options)
    assert_array_equal(model.recommend(users, exploration=0.0, **options)[0], greedy[0])
    for share in (1.5, -0.5):
        items, scores = model.recommend(users, exploration=share, **options)
        rows = np.column_stack([np.repeat(users, 20), items.ravel()])
        mean, std = model.predict(rows, return_std=True)
        bound = mean + share * np.sqrt(std**2 - model.noise_**2)
        assert_allclose(scores.ravel(), bound, rtol=1e-4)
    draws = np.array(
        [
            model.recommend(users, exploration="thompson", random_state=seed, **options)[1][:, 0]
            for seed in range(40)
        ]
    )
    again = model.recommend(users, exploration="thompson", random_state=3, **options)
    assert_array_equal(again[1][:, 0], draws[3])
    anew = []
    for _ in range(2):
        np.random.seed(0)  # noqa: NPY002
        anew.append(model.recommend(users, exploration="thompson", **options)[1])
        assert np.random.random_sample() == pytest.approx(0.5488135)  # noqa: NPY002
    assert (anew[0] != anew[1]).any()  # NumPy's global seed is neither read nor moved
    # The best of draws is above the best mean, more so where less is known.
    above = draws.mean(axis=0) - greedy[1][:, 0]
    assert above[2] > above[0] > 0
    for wrong in ("greedy", True, np.nan, 1e300, [1.0]):
        with pytest.raises(ValueError, match="exploration"):
            model.recommend(users, exploration=wrong)


def test_draws_have_the_mean_and_the_deviation_of_predictions():
    model = fitted().adapt(*support(1))
    asked = {"candidates": model.item_ids_[:1], "exclude_seen": False, "n_recommendations": 1}
    rng = np.random.RandomState(0)
    drawn = [
        model.recommend([N_USERS], exploration="thompson", random_state=rng, **asked)[1][0, 0]
        for _ in range(200)
    ]
    mean, std = model.predict([[N_USERS, model.item_ids_[0]]], return_std=True)
    std = np.sqrt(std[0] ** 2 - model.noise_**2)
    assert abs(np.mean(drawn) - mean[0]) < 4 * std / np.sqrt(200)
    assert_allclose(np.std(drawn), std, rtol=0.2)


def test_questions_teach_more_than_random_ones():
    (_, X, _), model = drawn(), fitted()
    users = X[:40, 0, 0]
    asked = np.column_stack([np.repeat(users, N_ITEMS), np.tile(np.arange(N_ITEMS), 40)])

    def spread(items):
        rows = np.column_stack([np.repeat(users, 5), items.ravel()])
        now = fitted().adapt(rows, np.zeros(len(rows)))  # answers do not matter
        return np.mean(now.predict(asked, return_std=True)[1] ** 2)

    best = model.ask(users, 5)
    assert best.shape == (40, 5)
    rng = np.random.default_rng(0)
    random = np.array([rng.choice(N_ITEMS, 5, replace=False) for _ in users])
    assert spread(best) < 0.95 * spread(random)
    assert_array_equal(model.ask([-1], 3)[0], model.ask(users[:1], 3)[0])


def test_questions_are_about_items_not_seen():
    model = fitted()
    X, y = support(SUPPORT, 1)
    few = model.ask(X[:1, 0], 4, candidates=X[:4, 1])
    assert sorted(few[0]) == sorted(X[:4, 1])
    model.adapt(X, y)
    asked = model.ask(X[:1, 0], N_ITEMS - SUPPORT)
    assert sorted([*asked[0], *X[:, 1]]) == list(range(N_ITEMS))
    for options, message in (
        ({"n_items": N_ITEMS}, f"n_items={N_ITEMS}, but user {X[0, 0]} has only 48 items"),
        ({"n_items": 0}, "n_items"),
        ({"candidates": [1, 999]}, "candidates: 1 of 2 items are unknown, the first is 999"),
    ):
        with pytest.raises(ValueError, match=message):
            model.ask(X[:1, 0], **options)
    with pytest.raises(TypeError, match="n_items"):
        model.ask(X[:1, 0], 1.5)


def test_verbs_that_need_a_fit():
    for verb in ("adapt", "observe"):
        with pytest.raises(NotFittedError):
            getattr(BayesianMFRecommender(), verb)([[1, 2]], [3.0])


def test_similar_items_point_the_same_way():
    model = fitted()
    items, scores = model.similar_items([3], 5)
    q = model.item_means_[:, 1:]
    ids = model.item_ids_.tolist()
    unit = q / np.linalg.norm(q, axis=1, keepdims=True)
    places = [ids.index(item) for item in items[0]]
    assert_allclose(scores[0], unit[places] @ unit[ids.index(3)], rtol=1e-5)


def test_ratings_that_are_all_alike():
    X, y = drawn()[0]
    model = BayesianMFRecommender(n_factors=2, max_epochs=30, random_state=0).fit(X, 0 * y + 4)
    model.adapt([["new", 3]], [4.0])
    mean, std = model.predict([["new", 4], [2, 5]], return_std=True)
    assert_allclose(mean, 4, atol=0.05)
    assert (std < 0.1).all()


@pytest.mark.parametrize("constant", [0.1, 1e28, 1e-300])  # whose mean is rounded
def test_constant_ratings_of_any_size(constant):
    X, _ = drawn()[0]
    model = BayesianMFRecommender(n_factors=2, max_epochs=3, random_state=0)
    ones = model.fit(X[:500], np.ones(500)).predict(X[:9], return_std=True)
    mean, std = model.fit(X[:500], np.full(500, constant)).predict(X[:9], return_std=True)
    assert_allclose(mean / constant, ones[0])
    assert_allclose(std / constant, ones[1])


@pytest.mark.parametrize("unit", [1e-200, 1e27])  # whose squares vanish or overflow in 32 bits
def test_predictions_are_in_the_unit_of_the_ratings(unit):
    X, y = drawn()[0]
    model = BayesianMFRecommender(n_factors=2, max_epochs=3, random_state=0)
    expected = model.fit(X[:500], y[:500]).predict(X[:9], return_std=True)
    mean, std = model.fit(X[:500], unit * y[:500]).predict(X[:9], return_std=True)
    assert_allclose(mean / unit, expected[0])
    assert_allclose(std / unit, expected[1])


def test_numbers_that_overflow_are_refused_with_the_fix():
    X, y = drawn()[0]
    model = BayesianMFRecommender(n_factors=2, max_epochs=3, random_state=0).fit(X[:500], y[:500])
    state = model._model.state()
    rows = [[X[0, 0], 1], ["new", 2], ["new", "new item"]]
    with pytest.raises(ValueError, match="y: 3 of 3 rows are larger than float32 can add up"):
        model.adapt(rows, [1e200, -1e200, 1e200])
    assert_same(model._model.state(), state, "")
