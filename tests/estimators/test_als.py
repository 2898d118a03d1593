"""Implicit ALS against its objective and normal equations in dense form."""

from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from sklearn_recft import ALSRecommender
from sklearn_recft.datasets import make_interactions
from tests.estimators.dense_feedback import DAY, best_scores, dense_sums, known_pairs

OPTIONS = [
    {},
    {"alpha": 20.0, "reg": 0.3},
    {"half_life": 40.0, "reg": 0.3, "n_factors": 3},
]
options = pytest.mark.parametrize("options", OPTIONS, ids=str)
kinds = pytest.mark.parametrize("kind", ["positives", "ratings", "dislikes"])
SMALL = {"n_factors": 5, "reg": 1.0, "max_epochs": 4, "random_state": 0}


def log_of(kind, n_users=30, n_items=40, n_rows=500):
    X, y = make_interactions(n_users, n_items, n_rows, random_state=0, return_X_y=True)
    order = np.random.default_rng(0).permutation(n_rows)
    X, y, weight = X[order], y[order], np.random.default_rng(1).uniform(0.2, 2, n_rows)
    return X, *{"positives": (None, None), "ratings": (y, None), "dislikes": (y - 3, weight)}[kind]


def part_of(log, rows):
    return [None if column is None else column[rows] for column in log]


def news():
    """Make later rows with a new user, a new item, a repeated user and a popular item."""
    X, last = log_of("positives")[0], 2_000_000_000
    users = [X[0, 0], 900, X[0, 0], X[1, 0], 900]
    items = [X[1, 1], 900, X[5, 1], 900, X[2, 1]]
    return np.column_stack([users, items, np.full(5, last)]), np.array([2.0, 3, -1, 2, 4]), None


def objective(model, total):
    """Compute the objective over all pairs, including those without events."""
    p, q = (each.astype(float) for each in (model.user_factors_, model.item_factors_))
    confidence = 1 + model.alpha * np.abs(total)
    penalty = model.reg * ((p**2).sum() + (q**2).sum())
    return (confidence * ((total > 0) - p @ q.T) ** 2).sum() + penalty


def solved(total, others, model):
    """Solve least squares for each row given the other side."""
    others = others.astype(float)
    confidence, target = 1 + model.alpha * np.abs(total), total > 0
    eye = model.reg * np.eye(others.shape[1])
    return np.stack([
        np.linalg.solve(others.T @ (c[:, None] * others) + eye, others.T @ (c * t))
        for c, t in zip(confidence, target, strict=True)
    ])  # fmt: skip


# ---------------------------------------------------------------------------------- fit


@options
@kinds
def test_the_objective_never_increases(options, kind):
    log = log_of(kind)
    model = ALSRecommender(**(SMALL | options))
    _, total = dense_sums(*log, model.half_life)
    values = [
        objective(clone(model).set_params(max_epochs=n).fit(*log), total) for n in range(1, 12)
    ]
    nothing = (1 + model.alpha * np.abs(total))[total > 0].sum()  # all factors 0
    assert values[0] < nothing
    assert (np.diff(values) <= 1e-6 * values[0]).all()
    assert values[-1] < values[0]


@options
@kinds
def test_many_sweeps_converge_to_a_fixed_point(options, kind):
    log = log_of(kind)
    model = ALSRecommender(**(SMALL | options)).set_params(max_epochs=300).fit(*log)
    _, total = dense_sums(*log, model.half_life)
    sides = model.user_factors_, model.item_factors_
    assert_allclose(sides[0], solved(total, sides[1], model), atol=5e-3)
    assert_allclose(sides[1], solved(total.T, sides[0], model), atol=5e-3)
    assert sides[0].dtype == sides[1].dtype == np.float32
    assert sides[0].shape == (model.n_users_, model.n_factors)
    assert sides[1].shape == (model.n_items_, model.n_factors)
    assert np.abs(sides[0]).max() > 0.1  # not the other solution, nothing at all


def test_a_sweep_is_users_then_items(monkeypatch):
    """With enough steps, one sweep is two exact least squares solutions."""
    monkeypatch.setattr("sklearn_recft.models._als._STEPS", 20)
    log = log_of("dislikes")
    model = ALSRecommender(**SMALL).set_params(max_epochs=1).fit(*log)
    _, total = dense_sums(*log)
    expected = solved(total.T, model.user_factors_, model)
    assert_allclose(model.item_factors_, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n_jobs", [1, 2, 3, -1])
@options
def test_threads_do_not_matter(options, n_jobs):
    log = log_of("ratings", 200, 300, 6000)
    first, rest = part_of(log, slice(0, 5000)), part_of(log, slice(5000, 6000))
    one, more = (ALSRecommender(**(SMALL | options), n_jobs=n).fit(*first) for n in (None, n_jobs))
    for _ in range(2):
        assert_array_equal(more.user_factors_, one.user_factors_)
        assert_array_equal(more.item_factors_, one.item_factors_)
        one.partial_fit(*rest)
        more.partial_fit(*rest)
    lists = [model.recommend(one.user_ids_, n_recommendations=20) for model in (one, more)]
    for ours, theirs in zip(*lists, strict=True):
        assert_array_equal(ours, theirs)


def test_initial_factors_depend_on_the_seed():
    log = log_of("positives")

    def factors(seed):
        return ALSRecommender(**SMALL).set_params(random_state=seed).fit(*log).item_factors_

    assert_array_equal(factors(3), factors(3))
    assert_array_equal(factors(np.random.RandomState(3)), factors(np.random.RandomState(3)))
    assert (factors(3) != factors(4)).any()
    assert (factors(None) != factors(None)).any()
    generator = np.random.RandomState(3)
    assert (factors(generator) != factors(generator)).any()


def test_confidence_raises_scores_of_seen_items():
    log = log_of("positives")
    X, (_, total) = log[0], dense_sums(*log)
    y_pred = [
        ALSRecommender(**SMALL).set_params(alpha=a).fit(X).predict(known_pairs_of(X))[
            total.ravel() > 0
        ].mean()
        for a in (0.01, 1.0, 100.0)
    ]  # fmt: skip
    assert y_pred[0] < y_pred[1] < y_pred[2]


def known_pairs_of(X):
    users, items = (list(dict.fromkeys(X[:, j].tolist())) for j in (0, 1))
    return [[user, item, 0] for user in users for item in items]


def test_disliked_pairs_are_confident_zeros():
    """Two groups of users: disliked items get lower scores than unseen ones."""
    users, items = np.divmod(np.arange(200), 20)
    X, y = np.column_stack([users, items]), np.where((users + items) % 2, -5.0, 5.0)
    model = ALSRecommender(n_factors=2, reg=0.1, random_state=0).fit(X, y)
    assert_allclose(model.predict(X), y > 0, atol=0.02)
    X, y = [["ann", "tea"], ["bob", "tea"], ["ann", "rice"]], [1.0, 1.0, 1.0]
    model = ALSRecommender(n_factors=1, reg=0.1, random_state=0)
    unmet = model.fit(X, y).predict([["bob", "rice"]])
    disliked = model.fit([*X, ["bob", "rice"]], [*y, -9.0]).predict([["bob", "rice"]])
    assert abs(disliked) < abs(unmet)


# -------------------------------------------------------------------------- partial_fit


@options
def test_folding_in_is_three_solutions(options):
    """Users of the new rows, then their items given all users, then these users again."""
    log, later = log_of("dislikes"), news()
    model = ALSRecommender(**(SMALL | options)).fit(*log)
    p, q = model.user_factors_.astype(float), model.item_factors_.astype(float)
    model.partial_fit(*later)
    X = np.vstack([log[0], later[0]])
    y, weight = np.r_[log[1], later[1]], np.r_[log[2], np.ones(5)]
    _, total = dense_sums(X, y, weight, model.half_life)
    p, q = (np.pad(each, ((0, 1), (0, 0))) for each in (p, q))
    users = np.flatnonzero(np.isin(model.user_ids_, later[0][:, 0]))
    items = np.flatnonzero(np.isin(model.item_ids_, later[0][:, 1]))
    assert len(users) == 3
    assert len(items) == 4
    p[users] = solved(total[users], q, model)
    q[items] = solved(total.T[items], p, model)
    p[users] = solved(total[users], q, model)
    assert_allclose(model.user_factors_, p, rtol=1e-3, atol=1e-4)
    assert_allclose(model.item_factors_, q, rtol=1e-3, atol=1e-4)
    final = solved(total[users], model.item_factors_, model)
    assert_allclose(model.user_factors_[users], final, rtol=1e-4, atol=1e-5)


@options
def test_folding_in_does_not_change_other_factors(options):
    model = ALSRecommender(**(SMALL | options)).fit(*log_of("ratings"))
    ids = model.user_ids_, model.item_ids_
    before = model.user_factors_, model.item_factors_
    kept = [factors.copy() for factors in before]
    later = news()
    model.partial_fit(*later)
    after = model.user_factors_, model.item_factors_
    for side in (0, 1):
        n = len(before[side])
        assert_array_equal(before[side], kept[side])  # replaced, never written to
        others = ~np.isin(ids[side], later[0][:, side])
        assert_array_equal(after[side][:n][others], before[side][others])
        assert (after[side][:n][~others] != before[side][~others]).any(axis=1).all()
        assert len(after[side]) == n + 1
        assert np.abs(after[side][n:]).max() > 0.01


@options
@kinds
def test_folding_in_never_increases_the_objective(options, kind):
    log = log_of(kind)
    model = ALSRecommender(**(SMALL | options)).fit(*part_of(log, slice(0, 250)))
    for stop in (251, 270, 400, 500):
        start = {251: 250, 270: 251, 400: 270, 500: 400}[stop]
        factors = model.user_factors_, model.item_factors_
        model.partial_fit(*part_of(log, slice(start, stop)))
        _, total = dense_sums(*part_of(log, slice(0, stop)), model.half_life)
        shapes = model.user_factors_.shape, model.item_factors_.shape
        before = SimpleNamespace(alpha=model.alpha, reg=model.reg)
        before.user_factors_, before.item_factors_ = (
            np.pad(old, ((0, shape[0] - len(old)), (0, 0)))
            for old, shape in zip(factors, shapes, strict=True)
        )
        assert objective(model, total) <= objective(before, total) * (1 + 1e-6)


def test_sums_of_pairs_are_those_of_one_fit():
    """A repeated pair adds to its earlier sum."""
    log = log_of("dislikes")
    model = ALSRecommender(**SMALL, half_life=30.0)
    for rows in (slice(0, 200), slice(200, 201), slice(201, 500)):
        model.partial_fit(*part_of(log, rows))
    _, total = dense_sums(*log, 30.0)
    assert_allclose(model._model.feedback.total().toarray(), total, rtol=1e-5, atol=1e-7)


def test_factors_decay_only_at_their_next_update():
    X = log_of("positives")[0]
    model = ALSRecommender(**SMALL, half_life=10.0).fit(X)
    before = model.user_factors_.copy()
    later = X[:, 2].max() + 100 * DAY
    model.partial_fit([["new", X[0, 1], later]])
    assert_array_equal(model.user_factors_[:-1], before)
    user = model.user_ids_[4]
    model.partial_fit([[user, X[0, 1], later]])
    rows = np.vstack([X, [[-1, X[0, 1], later], [user, X[0, 1], later]]])
    solutions = [
        solved(dense_sums(rows, None, None, half_life)[1][4:5], model.item_factors_, model)[0]
        for half_life in (10.0, None)
    ]
    assert_allclose(model.user_factors_[4], solutions[0], rtol=1e-4, atol=1e-5)
    assert abs(model.user_factors_[4] - solutions[1]).max() > 0.05


# -------------------------------------------------------------------- predict, recommend


@kinds
def test_predict_is_the_dot_product(kind):
    model = ALSRecommender(**SMALL).fit(*log_of(kind))
    p, q = model.user_factors_.astype(float), model.item_factors_.astype(float)
    assert_allclose(model.predict(known_pairs(model)), (p @ q.T).ravel(), rtol=1e-6, atol=1e-9)
    user, item = model.user_ids_[3], model.item_ids_[5]
    y_pred = model.predict([["x", item, 0], [user, "x", 0], ["x", "x", 0]])
    means = p.mean(axis=0), q.mean(axis=0)
    assert_allclose(y_pred, [means[0] @ q[5], p[3] @ means[1], means[0] @ means[1]], rtol=1e-5)


@kinds
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_recommend_is_the_head_of_the_dense_product(monkeypatch, kind, n_jobs):
    monkeypatch.setattr("sklearn_recft.ranking._TILE_ROWS", 4)
    monkeypatch.setattr("sklearn_recft.ranking._TILE_COLUMNS", 3)
    log = log_of(kind)
    model = ALSRecommender(**SMALL, n_jobs=n_jobs).fit(*log)
    p = np.vstack([model.user_factors_, model.user_factors_.mean(axis=0)])
    scores = p.astype(float) @ model.item_factors_.T
    met = np.vstack([dense_sums(log[0])[0] > 0, np.zeros(model.n_items_, bool)])
    queried, narrow = [*model.user_ids_, -1], np.array([30, 2, 17, 9, 25, 11])
    every = np.arange(model.n_items_)
    for columns, n, exclude in ((every, 8, True), (every, 20, False), (narrow, 6, False)):
        found, its = model.recommend(
            queried, n_recommendations=n, candidates=model.item_ids_[columns], exclude_seen=exclude
        )
        codes = np.vectorize(model.item_ids_.tolist().index)(found)
        hidden = np.ones_like(met)
        hidden[:, columns] = met[:, columns] & exclude
        assert_allclose(its, best_scores(scores, hidden, n), rtol=1e-5, atol=1e-6)
        assert_allclose(its, np.take_along_axis(scores, codes, axis=1), rtol=1e-5, atol=1e-6)


def test_verbose_shows_the_objective(capsys):
    X, y, _ = log_of("ratings")
    quiet = ALSRecommender(**SMALL).fit(X, y)
    assert capsys.readouterr() == ("", "")
    model = ALSRecommender(**SMALL, verbose=1).fit(X, y)
    said = capsys.readouterr().err
    assert f"{SMALL['max_epochs']}/{SMALL['max_epochs']}" in said
    _, total = dense_sums(X, y)
    shown = float(said.rpartition("loss=")[2].partition("]")[0])
    assert shown == pytest.approx(objective(model, total) / (total != 0).sum(), rel=1e-3)
    assert_array_equal(model.item_factors_, quiet.item_factors_)


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
@pytest.mark.parametrize("verb", ["adapt", "partial_fit"])
def test_feedback_beyond_float32_is_refused(verb):
    X, y, _ = log_of("ratings")
    model = ALSRecommender(**SMALL).fit(X, y)
    before = model.predict(X)
    with pytest.raises(ValueError, match=r"y: 1 of 3 rows are larger than float32 can add up"):
        getattr(model, verb)(X[:3], [1.0, 1e200, -1.0])
    assert_array_equal(model.predict(X), before)
