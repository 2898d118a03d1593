"""The classical models against the same models of other libraries, where those are installed."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.sparse import csr_matrix

from sklearn_recft import ALSRecommender, EASERecommender, ItemKNNRecommender
from sklearn_recft.datasets import make_interactions
from tests.estimators.dense_feedback import best_scores


@pytest.fixture(params=["synthetic", "MovieLens 100K"])
def log(request):
    """Rows, no pair twice, and feedback above 0."""
    if request.param == "MovieLens 100K":
        return request.getfixturevalue("movielens_100k")
    X, y = make_interactions(120, 70, 4000, popularity=0.5, random_state=0, return_X_y=True)
    _, first = np.unique(X[:, :2], axis=0, return_index=True)
    return X[first], np.abs(y[first]) + 0.1


def as_matrix(model, X, y):
    """Users by items in the order of the model's own."""
    users, items = (np.empty(X[:, j].max() + 1, np.int64) for j in (0, 1))
    users[model.user_ids_], items[model.item_ids_] = range(model.n_users_), range(model.n_items_)
    matrix = csr_matrix((y.astype(np.float64), (users[X[:, 0]], items[X[:, 1]])))
    matrix.sort_indices()
    return matrix


def objective(total, p, q, alpha, reg):
    """Of implicit ALS over all pairs."""
    p, q = p.astype(float), q.astype(float)
    loss = (1 + alpha * total) * ((total > 0) - p @ q.T) ** 2
    return loss.sum() + reg * ((p**2).sum() + (q**2).sum())


@pytest.mark.parametrize(
    ("theirs", "options"),
    [
        ("CosineRecommender", {"shrinkage": 0.0}),
        ("BM25Recommender", {"similarity": "bm25"}),
        ("BM25Recommender", {"similarity": "bm25", "bm25_k1": 100.0, "bm25_b": 0.3}),
    ],
)
@pytest.mark.parametrize("n_neighbors", [10, 2000])
@pytest.mark.filterwarnings("ignore:Method expects CSR input")  # which it gives to itself
def test_item_neighbours_are_those_of_implicit(theirs, options, n_neighbors, log):
    neighbours = pytest.importorskip("implicit.nearest_neighbours", reason="no implicit")
    X, y = log
    ours = ItemKNNRecommender(n_neighbors=n_neighbors, **options).fit(X, y)
    matrix = as_matrix(ours, X, y)
    search = {"K1": ours.bm25_k1, "B": ours.bm25_b} if "similarity" in options else {}
    peer = getattr(neighbours, theirs)(K=n_neighbors, num_threads=1, **search)
    peer.fit(matrix, show_progress=False)

    near, far = (each.toarray() for each in (ours.similarity_, peer.similarity))
    tops = [-np.sort(-each, axis=1)[:, :n_neighbors] for each in (near, far)]
    assert_allclose(*tops, rtol=1e-5, atol=1e-6)
    # Of equals at the cut they keep others than we do.
    last = tops[0].min(axis=1, keepdims=True)
    clear = (np.maximum(near, far) > last * (1 + 1e-5)) | (last == 0)
    assert clear.sum() > 0.5 * np.count_nonzero(near)
    assert_allclose(near[clear], far[clear], rtol=1e-5, atol=1e-6)
    if n_neighbors < ours.n_items_:
        return

    users = np.arange(ours.n_users_)
    _, predicted = peer.recommend(users, matrix, N=10)
    _, scores = ours.recommend(ours.user_ids_, n_recommendations=10)
    assert_allclose(scores, predicted, rtol=1e-5, atol=1e-5)
    assert_allclose(scores, best_scores(matrix @ far, matrix.toarray() > 0, 10), rtol=1e-4)


@pytest.mark.parametrize(("alpha", "reg"), [(1.0, 1.0), (1.0, 10.0), (5.0, 50.0)])
def test_als_fits_as_well_as_that_of_implicit(alpha, reg, log):
    """Its confidence in an event is the value alone, ours 1 + alpha times the value."""
    als = pytest.importorskip("implicit.als", reason="no implicit")
    X, y = log
    options = {"n_factors": 16, "reg": reg, "alpha": alpha, "max_epochs": 50}
    ours = ALSRecommender(**options, random_state=0).fit(X, y)
    matrix = as_matrix(ours, X, y)
    confidence = matrix.copy()
    confidence.data = 1 + alpha * confidence.data
    peer = als.AlternatingLeastSquares(
        factors=16, regularization=reg, iterations=50, num_threads=1, random_state=0,
        use_cg=False, use_gpu=False,
    )  # fmt: skip
    peer.fit(confidence, show_progress=False)
    total = matrix.toarray()
    values = [
        objective(total, p, q, alpha, reg)
        for p, q in (
            (ours.user_factors_, ours.item_factors_),
            (peer.user_factors, peer.item_factors),
        )
    ]
    assert values[0] == pytest.approx(values[1], rel=0.01)


@pytest.mark.parametrize("reg", [10.0, 500.0])
def test_ease_weights_are_those_of_skrecsys(reg, log):
    recommendation = pytest.importorskip("skrecsys.recommendation", reason="no skrecsys")
    X, y = log
    ours = EASERecommender(reg=reg).fit(X, y)
    peer = recommendation.EASE(l2_reg=reg, n_jobs=1).fit(X[:, :2], y)
    place = {item: code for code, item in enumerate(np.asarray(peer.item_ids_).tolist())}
    codes = [place[item] for item in ours.item_ids_.tolist()]
    predicted = np.asarray(peer.similarity_)[np.ix_(codes, codes)]
    assert_allclose(ours.item_weights_, predicted, rtol=1e-4, atol=1e-4 * np.abs(predicted).max())
    assert_allclose(ours.item_weights_, predicted, atol=1e-6)
