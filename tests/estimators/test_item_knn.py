"""Item neighbours against their equations in dense form."""

from functools import partial

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_recft import ItemKNNRecommender
from sklearn_recft.datasets import make_interactions
from tests.estimators.dense_feedback import DAY, dense_sums, known_pairs

OPTIONS = [
    {},
    {"n_neighbors": 1},
    {"n_neighbors": 4},
    {"n_neighbors": 4, "shrinkage": 20.0},
    {"n_neighbors": 4, "half_life": 40.0, "shrinkage": 0.5},
    {"n_neighbors": 7, "half_life": 40.0, "history_half_life": 3.0},
    {"similarity": "bm25"},
    {"similarity": "bm25", "n_neighbors": 4, "bm25_k1": 100.0, "bm25_b": 0.2},
    {"similarity": "bm25", "n_neighbors": 4, "half_life": 40.0, "bm25_b": 1.0},
    {"similarity": "bm25", "n_neighbors": 4, "bm25_b": 0.0, "bm25_k1": 0.1},
]
options = pytest.mark.parametrize("options", OPTIONS, ids=str)

# Written out, so that these tests do not depend on measured defaults.
make_knn = partial(
    ItemKNNRecommender, n_neighbors=300, similarity="cosine", bm25_k1=1.2, bm25_b=0.75
)


def log_of(kind):
    """Make rows, feedback and weights: positives only, ratings, or likes and dislikes."""
    X, y = make_interactions(20, 30, 260, popularity=0.6, random_state=0, return_X_y=True)
    order = np.random.default_rng(0).permutation(260)
    X, y, weight = X[order], y[order], np.random.default_rng(1).uniform(0.2, 2, 260)
    return X, *{
        "positives": (None, None),
        "ratings": (np.abs(y), None),
        "weighted": (np.abs(y), weight),
        "dislikes": (y - 3, weight),
    }[kind]


def cosines(total, shrinkage):
    size = np.sqrt((total**2).sum(axis=0))
    below = np.outer(size, size) + shrinkage
    return np.divide(total.T @ total, below, np.zeros_like(below), where=below > 0)


def bm25_products(total, met, k1, b):
    """Compute BM25 similarities, with users as the words of items."""
    total = np.maximum(total, 0)
    length = total.sum(axis=0) / total.sum(axis=0).mean()
    idf = np.log(met.shape[1] / (1 + met.sum(axis=1)))[:, None]
    below = k1 * (1 - b + b * length) + total
    weights = idf * total * (k1 + 1) / np.where(below > 0, below, 1)
    return weights.T @ weights


def similarity_by_hand(model, X, y, weight):
    """Return the largest similarities of co-occurring items; ties prefer lower codes."""
    weights, total = dense_sums(X, y, weight, model.half_life)
    met = weights > 0
    if model.similarity == "bm25":
        similarity = bm25_products(total, met, model.bm25_k1, model.bm25_b)
    else:
        similarity = cosines(total, model.shrinkage)
    together = met.T.astype(int) @ met > 0
    kept = np.zeros_like(together)
    for row, others, mask in zip(similarity.astype(np.float32), together, kept, strict=True):
        codes = np.flatnonzero(others)
        mask[codes[np.lexsort((codes, -row[codes]))[: model.n_neighbors]]] = True
    return np.where(kept, similarity, 0), kept


@options
@pytest.mark.parametrize("kind", ["positives", "ratings", "weighted", "dislikes"])
def test_similarity_equals_its_equation(options, kind):
    log = log_of(kind)
    model = make_knn(**options).fit(*log)
    expected, kept = similarity_by_hand(model, *log)
    found = np.zeros_like(kept)
    found[np.repeat(np.arange(len(kept)), np.diff(model.similarity_.indptr)),
          model.similarity_.indices] = True  # fmt: skip
    assert_array_equal(found, kept)
    assert_allclose(model.similarity_.toarray(), expected, rtol=1e-5, atol=1e-6)
    assert model.similarity_.dtype == np.float32
    assert model.similarity_.has_sorted_indices
    assert kept.sum(axis=1).max() <= model.n_neighbors
    if model.similarity == "cosine" and not model.shrinkage and model.n_neighbors > 1:
        assert kept.diagonal().all()  # an item is among its own neighbours
        assert_allclose(model.similarity_.diagonal(), 1, rtol=1e-6)


@options
@pytest.mark.parametrize("kind", ["ratings", "weighted", "dislikes"])
def test_predict_is_the_mean_weighted_by_similarity(options, kind):
    log = log_of(kind)
    model = make_knn(**options).fit(*log)
    fading = {"half_life": model.half_life}
    weights, total = dense_sums(*log, **fading)
    profile = dense_sums(*log, **fading, history_half_life=model.history_half_life)
    similarity, _ = similarity_by_hand(model, *log)
    below = profile[0] @ np.abs(similarity)
    item_mean = np.tile(total.sum(axis=0) / weights.sum(axis=0), (len(total), 1))
    expected = np.divide(profile[1] @ similarity, below, item_mean, where=below > 1e-12)
    y_pred = model.predict(known_pairs(model)).reshape(expected.shape)
    assert_allclose(y_pred, expected, rtol=2e-4, atol=2e-4)
    assert (below <= 1e-12).any() or model.n_neighbors > 4  # the means are put to use


@options
def test_predict_falls_back_on_means(options):
    X, y, weight = log_of("weighted")
    model = make_knn(**options).fit(X, y, weight)
    weights, total = dense_sums(X, y, weight, model.half_life)
    item, user = model.item_ids_[5], model.user_ids_[2]
    y_pred = model.predict([["x", item, 0], [user, "x", 0], ["x", "x", 0]])
    mean = total.sum() / weights.sum()
    assert_allclose(y_pred, [total[:, 5].sum() / weights[:, 5].sum(), mean, mean], rtol=1e-6)


def test_predict_on_a_small_example():
    """Bob has seen tea only: predict his feedback on it, or the item's mean."""
    X = [["ann", "tea"], ["ann", "milk"], ["bob", "tea"], ["cem", "tea"], ["cem", "milk"]]
    X = [*X, ["dan", "milk"], ["dan", "rice"]]
    model = make_knn(shrinkage=0.0).fit(X, [1, 1, 3, 1, 1, 1, 2])
    near = dict(zip(model.item_ids_, model.similarity_.toarray()[0], strict=True))
    assert near == pytest.approx({"tea": 1, "milk": 2 / np.sqrt(11 * 3), "rice": 0})
    # Bob's 3 for tea is all there is to know; of tea and rice nobody knows anything.
    y_pred = model.predict([["bob", "milk"], ["bob", "tea"], ["bob", "rice"], ["eve", "tea"]])
    assert_allclose(y_pred, [3, 3, 2, 5 / 3], rtol=1e-6)


@options
def test_threads_do_not_matter(options):
    log = make_interactions(60, 200, 3000, random_state=0, return_X_y=True)
    models = [make_knn(**options, n_jobs=n).fit(*log) for n in (None, 1, 2, 5, -1)]
    queried = [*range(60), 999]
    lists = [model.recommend(queried, n_recommendations=20) for model in models]
    for model, (items, scores) in zip(models, lists, strict=True):
        for name in ("indptr", "indices", "data"):
            arrays = [getattr(m.similarity_, name) for m in (model, models[0])]
            assert_array_equal(*arrays)
        assert_array_equal(items, lists[0][0])
        assert_array_equal(scores, lists[0][1])
        assert_array_equal(model.predict(log[0]), models[0].predict(log[0]))


def test_n_neighbors_may_exceed_the_number_of_items():
    log = log_of("ratings")
    few, many = (make_knn(n_neighbors=n, shrinkage=0.0) for n in (30, 10**9))
    similarity = [model.fit(*log).similarity_.toarray() for model in (few, many)]
    assert_array_equal(*similarity)
    _, total = dense_sums(*log)
    assert_allclose(similarity[0], cosines(total, 0), rtol=1e-5)


def test_shrinkage_lowers_similarities_of_few_users():
    """One user of rice and salt against three of tea and milk."""
    X = [["ann", "rice"], ["ann", "salt"]]
    X += [[user, item] for user in ("bob", "cem", "dan") for item in ("tea", "milk")]
    plain, shrunk = (make_knn(shrinkage=s).fit(X).similarity_ for s in (0, 2))
    assert plain[0, 1] == plain[2, 3] == 1
    assert shrunk[0, 1] == pytest.approx(1 / 3)
    assert shrunk[2, 3] == pytest.approx(3 / 5)
    bm25 = [make_knn(similarity="bm25", shrinkage=s).fit(X).similarity_ for s in (0, 2)]
    assert_array_equal(*(each.toarray() for each in bm25))


def test_later_events_of_other_users_do_not_change_cosines():
    """Decay scales all older events equally, so their cosines stay the same."""
    X, y, weight = log_of("weighted")
    model = make_knn(n_neighbors=5, shrinkage=0.0, half_life=30.0).fit(X, y, weight)
    before, n = model.similarity_.toarray(), model.n_items_
    later = X[:40] + np.array([1000, 1000, 0])
    later[:, 2] = X[:, 2].max() + 50 * DAY
    model.partial_fit(later, y[:40], weight[:40])
    assert_allclose(model.similarity_.toarray()[:n, :n], before, rtol=1e-5)
    model.partial_fit([[1000, X[0, 1], later[0, 2]]], [5.0])
    assert abs(model.similarity_.toarray()[:n, :n] - before).max() > 0.01


def test_events_have_half_the_weight_at_the_half_life():
    X = [["ann", "tea", 0], ["ann", "milk", 10 * DAY], ["bob", "milk", 10 * DAY]]
    model = make_knn(shrinkage=0.0, half_life=10.0).fit(X)
    assert model.similarity_[0, 1] == pytest.approx(0.5 / (0.5 * np.sqrt(2)))
    assert model.predict([["ann", "tea", 0]])[0] == pytest.approx(0.5 + 1 / np.sqrt(2), rel=1e-5)
