"""Popularity and damped means against their equations."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_recft import BiasRecommender, HabitRecommender, PopularityRecommender, persistence
from sklearn_recft.datasets import make_interactions

DAY = 86_400
OPTIONS = [
    {},
    {"half_life": 20},
    {"window": 60},
    {"half_life": 20, "window": 60},
    {"half_life": 1e-4},
]


@pytest.fixture(scope="module")
def log():
    """Make weighted rows in any time order."""
    X, y = make_interactions(20, 30, 500, random_state=0, return_X_y=True)
    rng = np.random.default_rng(0)
    order = rng.permutation(500)
    return X[order], y[order], rng.uniform(0.1, 2, 500)


def popularity_by_hand(X, y, weight, half_life=None, window=None):
    """Return (weight, weighted feedback) by item id, in order of first appearance."""
    latest = X[:, 2].max()
    sums = {item: np.zeros(2) for item in X[:, 1].tolist()}
    for (_, item, time), value, w in zip(X.tolist(), y, weight, strict=True):
        age = (latest - time) / DAY
        if window is not None and age >= window:
            continue
        if half_life is not None:
            w = w * 2 ** (-age / half_life)
        sums[item] += w, w * value
    return sums


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_popularity_equals_its_equation(options, log):
    X, y, weight = log
    model = PopularityRecommender(**options).fit(X, y, sample_weight=weight)
    sums = popularity_by_hand(X, y, weight, **options)
    assert model.item_ids_.tolist() == list(sums)
    assert_allclose(model.popularity_, [total for _, total in sums.values()], rtol=1e-9, atol=1e-12)
    overall = sum(t for _, t in sums.values()) / sum(w for w, _ in sums.values())
    expected = [t / w if w else overall for w, t in sums.values()]
    pairs = [[999, item, 0] for item in sums]
    assert_allclose(model.predict(pairs), expected, rtol=1e-9)
    assert_allclose(model.predict([[0, 12345, 0]]), overall)


@pytest.mark.parametrize("kind", [BiasRecommender, HabitRecommender, PopularityRecommender])
def test_a_model_of_no_users_is_loaded_again(kind, tmp_path):
    model = kind().fit(np.array([[1, 7, 5.0], [2, 8, 6.0]])).forget([1, 2])
    model.save(tmp_path / "model")
    loaded = persistence.load(tmp_path / "model")
    assert loaded.item_ids_.tolist() == [7, 8]
    assert_array_equal(loaded.predict([[1, 7, 9.0]]), model.predict([[1, 7, 9.0]]))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("in_time_order", [True, False])  # if not, most chunks hold late rows
def test_popularity_in_chunks_is_exact(options, in_time_order, log):
    rows = np.argsort(log[0][:, 2], kind="stable") if in_time_order else np.arange(500)
    X, y, weight = (part[rows] for part in log)
    whole, model = (PopularityRecommender(**options) for _ in range(2))
    for stop in (1, 2, 50, 120, 121, 400, 500):
        start = getattr(model, "n_rows", 0)
        model.partial_fit(X[start:stop], y[start:stop], sample_weight=weight[start:stop])
        model.n_rows = stop
        whole.fit(X[:stop], y[:stop], sample_weight=weight[:stop])
        assert_array_equal(model.item_ids_, whole.item_ids_)
        assert_allclose(model.popularity_, whole.popularity_, rtol=1e-9, atol=1e-9)
        assert_allclose(model.predict(X), whole.predict(X), rtol=1e-9)
    for user in range(20):
        lists = [m.recommend([user], n_recommendations=3) for m in (model, whole)]
        assert_array_equal(lists[0][0], lists[1][0])


def test_newer_events_have_larger_weights():
    X = [["a", "old", 0], ["b", "old", 0], ["c", "old", 0], ["d", "new", 10 * DAY]]
    ranked = {}
    for options in ({}, {"half_life": 5}, {"window": 10}):
        model = PopularityRecommender(**options).fit(X)
        items, scores = model.recommend(["nobody"], n_recommendations=2)
        ranked[str(options)] = dict(zip(items[0].tolist(), scores[0].tolist(), strict=True))
    assert ranked["{}"] == {"old": 3, "new": 1}
    assert ranked["{'half_life': 5}"] == {"new": 1, "old": 0.75}
    assert ranked["{'window': 10}"] == {"new": 1, "old": 0}  # the last 10 days do not hold day 0
    assert list(ranked["{'half_life': 5}"]) == ["new", "old"]


def test_items_outside_the_window_are_still_known():
    model = PopularityRecommender(window=1).fit([["a", "x", 9 * DAY]])
    model.partial_fit([["a", "late", 0], ["b", "x", 0]])
    assert_array_equal(model.popularity_, [1, 0])
    with pytest.raises(ValueError, match="only 0 eligible"):
        model.recommend(["a"], n_recommendations=1)
    assert model.recommend(["b"], n_recommendations=1)[0] == [["late"]]


@pytest.mark.parametrize("options", OPTIONS[1:], ids=str)
def test_decay_needs_timestamps(options, log):
    X, y, _ = log
    model = PopularityRecommender(**options)
    with pytest.raises(ValueError, match=f"^{next(iter(options))} needs the column `timestamp`"):
        model.fit(X[:, :2], y)
    assert not hasattr(model, "n_features_in_")
    model.fit(X, y)
    before = pickle.dumps(model)
    with pytest.raises(ValueError, match="needs the column `timestamp`"):
        model.fit(X[:, :2], y)
    assert pickle.dumps(model) == before


def bias_by_hand(X, y, weight, damping):
    mu = np.average(y, weights=weight)
    b_i, b_u = {}, {}
    for side, biases in ((1, b_i), (0, b_u)):
        for code in np.unique(X[:, side]).tolist():
            rows = X[:, side] == code
            rest = y[rows] - mu
            if side == 0:
                rest = rest - [b_i[item] for item in X[rows, 1].tolist()]
            biases[code] = weight[rows] @ rest / (weight[rows].sum() + damping)
    return mu, b_u, b_i


@pytest.mark.parametrize("damping", [0, 0.7, 5.0])
def test_bias_equals_its_equation(damping, log):
    X, y, weight = log
    model = BiasRecommender(damping=damping).fit(X, y, sample_weight=weight)
    mu, b_u, b_i = bias_by_hand(X, y, weight, damping)
    assert_allclose(model.mean_, mu)
    expected = [mu + b_u[u] + b_i[i] for u, i in X[:, :2].tolist()]
    assert_allclose(model.predict(X), expected, rtol=1e-9)
    user, item = X[0, :2].tolist()
    unknown = model.predict([[user, 999, 0], [999, item, 0], [999, 999, 0]])
    assert_allclose(unknown, [mu + b_u[user], mu + b_i[item], mu])


def test_bias_of_three_events():
    model = BiasRecommender(damping=1).fit([["u", "i"], ["v", "i"], ["v", "j"]], [5, 4, 3])
    # mu = 4; b_i = (1 + 0) / 3, b_j = -1 / 2; b_u = (1 - 1/3) / 2, b_v = (-1/3 - 1/2) / 3
    assert_allclose(
        model.predict([["u", "j"], ["v", "i"]]), [4 - 1 / 2 + 1 / 3, 4 + 1 / 3 - 5 / 18]
    )


def test_bias_in_chunks(log):
    """Exact for mean and items; old rows of a user keep the item biases at their arrival."""
    X, y, weight = log
    model = BiasRecommender()
    for rows in (slice(0, 200), slice(200, 500)):
        model.partial_fit(X[rows], y[rows], sample_weight=weight[rows])
    whole = BiasRecommender().fit(X, y, sample_weight=weight)
    items = [[-1, item, 0] for item in whole.item_ids_]
    assert_allclose(model.mean_, whole.mean_, rtol=1e-12)
    assert_allclose(model.predict(items), whole.predict(items), rtol=1e-9)
    first = BiasRecommender().fit(X[:200], y[:200], sample_weight=weight[:200])
    user = X[0, 0]
    b_i = [
        [m.predict([[-1, item, 0]])[0] - m.mean_ for item in X[X[:, 0] == user, 1]]
        for m in (first, whole)
    ]
    mine = X[:, 0] == user
    kept = np.where(np.flatnonzero(mine) < 200, *b_i)
    b_u = weight[mine] @ (y[mine] - whole.mean_ - kept) / (weight[mine].sum() + 5)
    assert_allclose(model.predict([[user, 999, 0]]), whole.mean_ + b_u, rtol=1e-9)
    assert abs(model.predict(X) - whole.predict(X)).max() < 0.1


@pytest.mark.parametrize("model", [BiasRecommender(), PopularityRecommender()], ids=repr)
def test_a_weight_is_a_number_of_rows(model, log):
    X, y, _ = log
    times = np.arange(500) % 3
    weighted = model.fit(X, y, sample_weight=times).predict(X)
    popular = model.recommend([-1], n_recommendations=20)
    repeated = np.repeat(np.arange(500), times)
    assert_allclose(model.fit(X[repeated], y[repeated]).predict(X), weighted, rtol=1e-9)
    assert_array_equal(model.recommend([-1], n_recommendations=20)[0], popular[0])
