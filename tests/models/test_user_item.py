"""Shared behaviour of user-item models: exact updates, tiles, unknown users."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from sklearn_recft import EASERecommender, ItemKNNRecommender, PopularityRecommender, ranking
from sklearn_recft.datasets import make_interactions
from sklearn_recft.models import _item_based
from tests.estimators.dense_feedback import DAY, best_scores, dense_sums, known_pairs

MODELS = [
    ItemKNNRecommender(n_neighbors=6),
    ItemKNNRecommender(similarity="bm25", n_neighbors=6),
    EASERecommender(reg=20.0),
    EASERecommender(reg=20.0, zero_diagonal=False),
]
models = pytest.mark.parametrize("model", MODELS, ids=repr)


@pytest.fixture(scope="module")
def log():
    """Rows in any time order, with new ids, repeats, weights and negative feedback."""
    X, y = make_interactions(25, 35, 600, popularity=0.7, random_state=0, return_X_y=True)
    rng = np.random.default_rng(0)
    order = rng.permutation(600)
    X, y = X[order], y[order] - 2
    X[300:, 0] += 5 * (X[300:, 0] > 18)
    X[300:, 1] += 5 * (X[300:, 1] > 30)
    return X, y, rng.uniform(0.1, 2, 600)


def weights_of(model):
    """Return the item-item weights of a model, whatever their name."""
    found = getattr(model, "similarity_", None)
    return model.item_weights_ if found is None else found.toarray()


def scores_by_hand(model, X, *args):
    """Compute scores of known users for all items from item weights and dense sums."""
    decaying = {"half_life": model.half_life}
    _, profile = dense_sums(X, *args, **decaying, history_half_life=model.history_half_life)
    return profile @ weights_of(model).astype(float)


# -------------------------------------------------------------------------------- exact


@pytest.mark.parametrize("model", [*MODELS, PopularityRecommender()], ids=repr)
@pytest.mark.parametrize("half_life", [None, 30.0])
@pytest.mark.parametrize("with_feedback", [True, False])
def test_chunks_are_one_fit(model, half_life, with_feedback, log):
    X, y, weight = log
    y = y if with_feedback else None
    chunked, whole = (clone(model).set_params(half_life=half_life) for _ in range(2))
    for start, stop in [(0, 1), (1, 40), (40, 41), (41, 300), (300, 600)]:
        rows = slice(start, stop)
        chunked.partial_fit(X[rows], None if y is None else y[rows], weight[rows])
        whole.fit(X[:stop], None if y is None else y[:stop], weight[:stop])
        assert_array_equal(chunked.user_ids_, whole.user_ids_)
        assert_array_equal(chunked.item_ids_, whole.item_ids_)
        if not isinstance(model, PopularityRecommender):
            assert_allclose(weights_of(chunked), weights_of(whole), rtol=1e-6, atol=1e-6)
        pairs = np.vstack([known_pairs(whole), [[-1, X[0, 1], 0], [X[0, 0], -1, 0]]])
        assert_allclose(chunked.predict(pairs), whole.predict(pairs), rtol=1e-6, atol=1e-6)
        for users in ([*whole.user_ids_, -1], [-1]):
            options = {"n_recommendations": whole.n_items_, "exclude_seen": False}
            scores = [m.recommend(users, **options)[1] for m in (chunked, whole)]
            assert_allclose(*scores, rtol=1e-6, atol=1e-6)


@models
def test_chunks_are_one_fit_with_vanishing_weights(model, log):
    """Weights that underflow to zero are equal to no event, in any call."""
    X, y, _ = log
    model = clone(model).set_params(half_life=0.05)
    chunked, whole = clone(model), clone(model).fit(X, y)
    for rows in np.split(np.arange(600), [1, 50, 333]):
        chunked.partial_fit(X[rows], y[rows])
    assert 0 < whole._model.feedback.sums.nnz < (dense_sums(X)[0] > 0).sum()
    assert_array_equal(chunked._model.feedback.sums.indices, whole._model.feedback.sums.indices)
    assert_allclose(weights_of(chunked), weights_of(whole), rtol=1e-6, atol=1e-6)
    pairs = known_pairs(whole)
    assert_allclose(chunked.predict(pairs), whole.predict(pairs), rtol=1e-6, atol=1e-6)


@models
def test_chunks_in_order_are_one_fit_with_history_half_life(model, log):
    X, y, weight = (part[np.argsort(log[0][:, 2], kind="stable")] for part in log)
    model = clone(model).set_params(half_life=90.0, history_half_life=3.0)
    chunked = clone(model)
    for rows in np.split(np.arange(600), [1, 50, 51, 333]):
        chunked.partial_fit(X[rows], y[rows], weight[rows])
    whole = model.fit(X, y, weight)
    pairs = known_pairs(whole)
    assert_allclose(chunked.predict(pairs), whole.predict(pairs), rtol=1e-6, atol=1e-6)
    options = {"n_recommendations": whole.n_items_, "exclude_seen": False}
    scores = [m.recommend(whole.user_ids_, **options)[1] for m in (chunked, whole)]
    assert_allclose(*scores, rtol=1e-6, atol=1e-6)


@models
def test_a_weight_is_a_number_of_rows(model, log):
    X, y, _ = log
    times = np.arange(600) % 3
    rows = np.repeat(np.arange(600), times)
    weighted, repeated = clone(model).fit(X, y, times), clone(model).fit(X[rows], y[rows])
    assert_allclose(weights_of(weighted), weights_of(repeated), rtol=1e-6, atol=1e-6)
    pairs = known_pairs(weighted)
    assert_allclose(weighted.predict(pairs), repeated.predict(pairs), rtol=1e-6, atol=1e-6)


@models
def test_a_pair_takes_twenty_bytes(model, log):
    """Twice that with the second matrix of ``history_half_life``."""
    n_pairs = (dense_sums(log[0])[0] > 0).sum()
    for history_half_life, n_bytes in ((None, 20), (5.0, 40)):
        fitted = clone(model).set_params(history_half_life=history_half_life).fit(*log)
        matrices = {
            id(m): m.sums for m in (fitted._model.feedback, fitted._model.profiles)
        }.values()
        held = sum(sums.data.nbytes + sums.indices.nbytes for sums in matrices)
        assert held == n_bytes * n_pairs


# ------------------------------------------------------------------------------ recommend


@models
@pytest.mark.parametrize("decaying", [{}, {"half_life": 60.0}, {"history_half_life": 2.5}], ids=str)
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_recommend_is_the_head_of_the_dense_product(monkeypatch, model, decaying, n_jobs, log):
    monkeypatch.setattr(ranking, "_TILE_ROWS", 4)
    monkeypatch.setattr(ranking, "_TILE_COLUMNS", 3)  # several tiles of columns, of rows too
    X, y, weight = log
    model = clone(model).set_params(n_jobs=n_jobs, **decaying).fit(X, y, weight)
    scores = scores_by_hand(model, X, y, weight)
    met = dense_sums(X)[0] > 0
    code_of = {item: code for code, item in enumerate(model.item_ids_.tolist())}
    users = model.user_ids_
    every, narrow = np.arange(model.n_items_), np.array([31, 3, 4, 19, 28, 7, 22, 11])
    for columns, n, exclude in ((every, 5, True), (every, 20, False), (narrow, 8, False)):
        found, its = model.recommend(
            users, n_recommendations=n, candidates=model.item_ids_[columns], exclude_seen=exclude
        )
        codes = np.vectorize(code_of.get)(found)
        assert all(len(set(row)) == n for row in codes.tolist())
        assert_allclose(its, np.take_along_axis(scores, codes, axis=1), rtol=1e-5, atol=1e-5)
        hidden = np.ones_like(met)
        hidden[:, columns] = met[:, columns] & exclude
        assert_allclose(its, best_scores(scores, hidden, n), rtol=1e-5, atol=1e-5)


@models
def test_predict_without_feedback_is_the_score(model, log):
    X = log[0]
    model = clone(model).set_params(half_life=60.0).fit(X)
    expected = scores_by_hand(model, X).ravel()
    assert_allclose(model.predict(known_pairs(model)), expected, rtol=1e-5, atol=1e-6)


@models
def test_pairs_are_read_in_blocks(monkeypatch, model, log):
    X, y, _ = log
    model = clone(model).fit(X, y)
    expected = model.predict(known_pairs(model))
    monkeypatch.setattr(_item_based, "_BLOCK", 7)
    assert_array_equal(model.predict(known_pairs(model)), expected)


# -------------------------------------------------------------------------- unknown users


@models
@pytest.mark.parametrize("half_life", [None, 60.0])
def test_unknown_users_get_popularity(model, half_life, log):
    X, y, weight = log
    model = clone(model).set_params(half_life=half_life).fit(X, y, weight)
    popular = dense_sums(X, y, weight, half_life)[1].mean(axis=0)
    items, scores = model.recommend([999], n_recommendations=model.n_items_)
    assert_array_equal(items[0], model.item_ids_[np.argsort(-popular, kind="stable")])
    assert_allclose(scores[0], -np.sort(-popular), rtol=1e-5)
    items, scores = model.recommend([999], n_recommendations=2, candidates=items[0, 5:])
    assert_allclose(scores[0], -np.sort(-popular)[5:7], rtol=1e-5)


@models
def test_popularity_breaks_ties(model):
    """Ann's tea is similar to milk only; rice is more popular than salt."""
    X = [["ann", "tea"], ["bob", "tea"], ["bob", "milk"], ["dan", "salt"], ["eve", "rice"]]
    X = [*X, ["fay", "rice"]]
    items, scores = clone(model).fit(X).recommend(["ann"], n_recommendations=3)
    assert items.tolist() == [["milk", "rice", "salt"]]
    assert (np.diff(scores[0]) < 0).all()
    assert scores[0, 1] < 1e-6  # tells apart, and no more


@models
def test_unknown_ids_of_pairs(model, log):
    X = log[0]
    model = clone(model).fit(X)
    popular = dense_sums(X)[1].mean(axis=0)
    item = model.item_ids_[3]
    said = model.predict([[999, item, 0], [999, 999, 0], [X[0, 0], 999, 0]])
    assert_allclose(said, [popular[3], popular.mean(), popular.mean()], rtol=1e-6)
    assert np.isfinite(model.predict([[999, 998, 0]])).all()


# ------------------------------------------------------------------------------ no future


@models
def test_decay_is_relative_to_the_newest_event(model, log):
    """A shift of all times changes nothing; one much later event lowers all other weights."""
    X, y, weight = log
    model = clone(model).set_params(half_life=30.0)
    before = weights_of(clone(model).fit(X, y, weight))
    moved = clone(model).fit(X + np.array([0, 0, 1000 * DAY]), y, weight)
    assert_array_equal(weights_of(moved), before)
    later = [[999, 999, X[:, 2].max() + 3000 * DAY]]
    late = clone(model).partial_fit(X, y, weight).partial_fit(later, [1.0])
    _, total = dense_sums(X, y, weight, 30.0)
    assert_allclose(late._model.feedback.total().toarray()[:-1, :-1], total * 2.0**-100, rtol=1e-5)
