"""Random walks against their equations in dense form, and against published results."""

import copy

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from sklearn_recft import RP3BetaRecommender
from sklearn_recft.datasets import make_interactions
from tests.estimators.dense_feedback import dense_sums, known_pairs

OPTIONS = [
    {},
    {"alpha": 0.6, "beta": 0.6, "n_neighbors": 5},
    {"alpha": 1.4, "beta": 0.0, "n_neighbors": 9, "zero_diagonal": False},
    {"half_life": 40.0, "history_half_life": 3.0, "n_neighbors": 12},
    {"half_life": 20.0, "decay_floor": 0.1, "n_neighbors": 12},
    {"half_life": 20.0, "decay_floor": 0.3, "history_half_life": 3.0, "n_neighbors": 12},
]
options = pytest.mark.parametrize("options", OPTIONS, ids=str)
# Weights of skrecsys 0.9.0 of the matrix in `test_weights_equal_those_of_skrecsys`.
SKRECSYS = [
    [0, 0, 0, 0, 0.359376, 0],
    [0, 0, 0.294888, 0.352556, 0, 0.352556],
    [0, 0.333333, 0, 0.333333, 0, 0.333333],
    [0, 0.352556, 0.294888, 0, 0, 0.352556],
    [0.359376, 0, 0, 0, 0, 0],
    [0, 0.352556, 0.294888, 0.352556, 0, 0],
]
EDGES = pd.DataFrame(
    [
        ("Ran", "director", "Kurosawa"), ("Ikiru", "director", "Kurosawa"),
        ("Kagemusha", "director", "Kurosawa"), ("Tampopo", "director", "Itami"),
        ("Tampopo", "genre", "comedy"), ("Ohayo", "genre", "comedy"),
    ],
    columns=["item_id", "relation", "entity"],
)  # fmt: skip
FILMS = [["ann", "Ran"], ["ann", "Ikiru"], ["bob", "Ran"], ["bob", "Tampopo"], ["cem", "Ran"]]


def log_of(kind):
    """Make rows, feedback and weights: positives only, or likes and dislikes."""
    X, y = make_interactions(20, 30, 260, popularity=0.6, random_state=0, return_X_y=True)
    order = np.random.default_rng(0).permutation(260)
    X, y, weight = X[order], y[order], np.random.default_rng(1).uniform(0.2, 2, 260)
    return X, *{"positives": (None, None), "dislikes": (y - 3, weight)}[kind]


def largest(weights, k):
    """Keep the k largest values of each row; ties prefer lower columns."""
    order = np.argsort(-weights, axis=1, kind="stable")[:, :k]
    kept = np.zeros_like(weights)
    np.put_along_axis(kept, order, np.take_along_axis(weights, order, axis=1), axis=1)
    return kept


def unit(matrix):
    total = matrix.sum(axis=1, keepdims=True)
    return np.divide(matrix, total, np.zeros_like(matrix), where=total > 0)


def walks_by_hand(model, x, degree, decayed=None):
    """Compute RP3beta of ``x`` (n, n_items) in the form of Ferrari Dacrema et al."""
    penalty = np.where(degree > 0, degree, 1) ** model.beta
    back = unit(x) if decayed is None else decayed / np.maximum(x.sum(axis=1, keepdims=True), 1e-9)
    weights = (unit(x.T) ** model.alpha @ back**model.alpha / penalty).astype(np.float32)
    if model.zero_diagonal:
        np.fill_diagonal(weights, 0)
    rows = unit(largest(weights, model.n_neighbors))
    return largest(rows.T, model.n_neighbors).T


@options
@pytest.mark.parametrize("kind", ["positives", "dislikes"])
def test_weights_equal_their_equation(options, kind):
    log = log_of(kind)
    model = RP3BetaRecommender(**options).fit(*log)
    floor = model.decay_floor
    x, decayed = (
        np.maximum(dense_sums(*log, h, floor=floor)[1], 0) for h in (None, model.half_life)
    )
    expected = walks_by_hand(model, x, x.sum(axis=0), decayed)
    assert_allclose(model.similarity_.toarray(), expected, rtol=1e-5, atol=1e-7)
    assert model.similarity_.dtype == np.float32
    assert model.similarity_.has_sorted_indices
    profile = dense_sums(*log, model.half_life, model.history_half_life, floor)[1]
    scores = model.predict(known_pairs(model)).reshape(profile.shape)
    assert_allclose(scores, profile @ expected, rtol=1e-4, atol=1e-6)


def test_weights_equal_those_of_skrecsys():
    """`skrecsys.recommendation.RP3Beta(3, 0.7, 0.4)`; items in the order of their ids."""
    users, items = np.divmod(np.arange(24), 6)
    there = (users * 7 + items * 5 + users * items) % 4 != 0
    X = np.column_stack([users, items])[there]
    model = RP3BetaRecommender(0.7, 0.4, 3).fit(X[X[:, 1].argsort(kind="stable")])
    assert_array_equal(model.item_ids_, np.arange(6))
    assert_allclose(model.similarity_.toarray(), SKRECSYS, atol=1e-6)


@pytest.mark.parametrize(
    "decay",
    [
        {},
        {"half_life": 30.0},
        {"half_life": 30.0, "decay_floor": 0.1},
        {"half_life": 30.0, "decay_floor": 0.1, "history_half_life": 4.0},
    ],
    ids=str,
)
def test_partial_fit_equals_fit(decay):
    X, *_ = log_of("positives")
    X = X[np.argsort(X[:, 2], kind="stable")]
    edges = [[item, "parity", item % 2] for item in range(40)]  # of which 10 have no events
    given = {**decay, "n_neighbors": 8, "edges": edges}
    whole = RP3BetaRecommender(**given).fit(X)
    parts = RP3BetaRecommender(**given).fit(X[:90]).partial_fit(X[90:200]).observe(X[200:240])
    parts.partial_fit(X[240:])
    assert set(whole.item_ids_) >= set(range(40))
    rows = known_pairs(whole)
    assert_allclose(parts.predict(rows), whole.predict(rows), rtol=1e-4, atol=1e-7)
    twice = RP3BetaRecommender(**given, n_jobs=2).fit(X)
    assert_array_equal(twice.similarity_.toarray(), whole.similarity_.toarray())


def test_forget_leaves_nothing_of_a_user():
    X, *_ = log_of("positives")
    gone = X[:, 0] == X[0, 0]
    edges = [[item, "parity", item % 2] for item in range(30)]
    model = RP3BetaRecommender(edges=edges, n_neighbors=8).fit(X).forget([X[0, 0]])
    other = RP3BetaRecommender(edges=edges, n_neighbors=8).fit(X[~gone])
    rows = known_pairs(other)
    assert_allclose(model.predict(rows), other.predict(rows), rtol=1e-5, atol=1e-8)


FLOORS = [{"decay_floor": 0.2}, {"decay_floor": 0.2, "history_half_life": 3.0}]
floors = pytest.mark.parametrize("given", FLOORS, ids=str)


@floors
def test_parts_of_a_log_with_a_floor_add_up(given):
    """Merge, history, copies and removal of users equal a fit."""
    X, *_ = log_of("positives")
    X = X[np.argsort(X[:, 2], kind="stable")]
    model = RP3BetaRecommender(half_life=20, n_neighbors=8, **given)
    whole, odd = clone(model).fit(X), X[:, 0] % 2 != X[-1, 0] % 2  # the newest event is kept
    rows = known_pairs(whole)
    merged, other = clone(model).fit(X[odd]), clone(model).fit(X[~odd])
    merged._model.merge(other._model)
    assert_allclose(merged.predict(rows), whole.predict(rows), rtol=1e-4, atol=1e-7)
    assert_array_equal(copy.deepcopy(whole).predict(rows), whole.predict(rows))
    users = np.unique(X[:, 0])
    lists, scores = whole.recommend(users)
    again, same = whole.recommend(users, history=X)
    assert_array_equal(again, lists)
    assert_allclose(same, scores, rtol=1e-5)
    left = clone(model).fit(X[~odd])
    gone = whole.forget(np.unique(X[odd, 0]))
    rows = known_pairs(left)
    assert_allclose(gone.predict(rows), left.predict(rows), rtol=1e-4, atol=1e-7)


def test_a_floor_keeps_old_events():
    """Old events say: x with y. Newer ones say: x with z."""
    rows = [[f"old{n}", item, 0] for n in range(3) for item in "xy"]
    rows += [[f"new{n}", item, 86_400 * 300] for n in range(2) for item in "xz"]
    asked = [["new0", item, 86_400 * 300] for item in "yz"]
    weights = {}
    for floor in (0.0, 0.1, 1.0):
        model = RP3BetaRecommender(half_life=7, decay_floor=floor).fit(rows)
        weights[floor] = model.predict(asked)
    undecayed = RP3BetaRecommender().fit(rows).predict(asked)
    assert_allclose(weights[1.0], undecayed, rtol=1e-6)
    assert weights[0.0][0] < 1e-9 < weights[0.1][0] < weights[0.1][1]


# ------------------------------------------------------------------------------------ edges


def test_walks_over_edges_equal_their_equation():
    X, *_ = log_of("positives")
    rng = np.random.default_rng(0)
    graphs = {name: (rng.random((7, 30)) < 0.3) * 1.0 for name in ("genre", "maker")}
    cells = [(name, *graph.nonzero()) for name, graph in graphs.items()]
    edges = [[i, name, e] for name, *pair in cells for e, i in zip(*pair, strict=True)]
    model = RP3BetaRecommender(0.8, 0.3, 6, edges=edges, edge_weight=0.5).fit(X)
    codes = model.item_ids_
    x = dense_sums(X)[1]
    x = np.pad(x, ((0, 0), (0, len(codes) - x.shape[1])))
    expected = walks_by_hand(model, x, x.sum(axis=0))
    assert list(model.relation_weights_) == ["genre", "maker"]
    for name, weight in model.relation_weights_.items():
        assert 0 < weight < 0.5
        expected += weight * walks_by_hand(model, graphs[name][:, codes], np.ones(30))
    assert_allclose(model.similarity_.toarray(), expected, rtol=1e-4, atol=1e-6)


def test_relations_are_weighted_by_what_they_predict():
    """Users take films of one director; colours say nothing."""
    rng = np.random.default_rng(0)
    director, colour = np.arange(60) % 6, rng.integers(0, 6, 60)
    users = np.repeat(np.arange(300), 8)
    items = rng.integers(0, 10, 2400) * 6 + (users + (rng.random(2400) < 0.2)) % 6
    edges = [[item, "director", director[item]] for item in range(60)]
    edges += [[item, "colour", colour[item]] for item in range(60)]
    model = RP3BetaRecommender(edges=edges).fit(np.column_stack([users, items]))
    weights = model.relation_weights_
    assert weights["director"] > 0.2
    assert weights["colour"] < 0.2 * weights["director"]


def test_items_without_events_are_reached_over_edges():
    model = RP3BetaRecommender(edges=EDGES).fit(FILMS)
    assert {"Kagemusha", "Ohayo"} <= set(model.item_ids_)
    assert (model.predict([["cem", "Kagemusha"], ["bob", "Ohayo"]]) > 0.01).all()
    assert model.predict([["cem", "Ohayo"]]) == 0
    without = RP3BetaRecommender().fit(FILMS)
    assert "Kagemusha" not in without.item_ids_
    weightless = RP3BetaRecommender(edges=EDGES, edge_weight=0).fit(FILMS)
    rows = [["cem", "Ikiru"], ["bob", "Ikiru"]]
    assert_array_equal(weightless.predict(rows), without.predict(rows))


def test_explain_names_the_path():
    model = RP3BetaRecommender(edges=EDGES).fit(FILMS)
    rows = [["cem", "Kagemusha"], ["bob", "Ohayo"], ["cem", "Tampopo"], ["new", "Ran"]]
    reasons = model.explain(rows)
    assert reasons.path.tolist() == [
        ["same director: Kurosawa"], ["same genre: comedy"], ["same users"], [None],
    ]  # fmt: skip
    assert reasons.item_ids.tolist() == [["Ran"], ["Tampopo"], ["Ran"], [None]]
    assert_allclose(reasons.score, model.predict(rows), rtol=1e-6)
    assert "path" not in RP3BetaRecommender().fit(FILMS).explain(rows)


def test_edges_may_be_replaced():
    model = RP3BetaRecommender(edges=EDGES[:2]).fit(FILMS)
    model.set_params(edges=EDGES).partial_fit([["dan", "Ran"]])
    whole = RP3BetaRecommender(edges=EDGES).fit([*FILMS, ["dan", "Ran"]])
    rows = [["cem", item] for item in whole.item_ids_]
    assert_allclose(model.predict(rows), whole.predict(rows), rtol=1e-6)


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        (EDGES[["item_id", "entity"]], r"edges: the columns \['relation'\] are missing"),
        (EDGES[:0], "edges: the table has no rows"),
        ([["Ran", "director"]], "edges: the table has 2 columns; give item_id, relation, entity"),
        ([["Ran", "director", None]], "edges: entity: 1 of 1 rows are missing"),
        ("Kurosawa", "edges: this str is no table of the columns item_id, relation, entity"),
    ],
    ids=str,
)
def test_wrong_edges_are_named_and_change_nothing(edges, message):
    model = RP3BetaRecommender(edges=EDGES).fit(FILMS)
    before = model.predict(FILMS)
    with pytest.raises((ValueError, TypeError), match=message):
        model.set_params(edges=edges).partial_fit([["dan", "Ran"]])
    assert_array_equal(model.predict(FILMS), before)
    with pytest.raises((ValueError, TypeError), match=message):
        RP3BetaRecommender(edges=edges).fit(FILMS)


def test_edges_of_ids_of_another_type_are_warned_of():
    log = [[1, 10], [1, 11], [2, 10]]
    with pytest.warns(UserWarning, match="edges, item_id: none of 2 rows is known: .* strings"):
        RP3BetaRecommender(edges=[["10", "genre", "a"], ["12", "genre", "a"]]).fit(log)


def test_observe_keeps_the_edges_of_the_walks():
    model = RP3BetaRecommender(edges=EDGES).fit(FILMS)
    rows = [["cem", "Kagemusha"]]
    for edges in (None, EDGES.assign(item_id="new", relation="year")):
        model.set_params(edges=edges).observe([["dan", "Ran"]])
        assert model.n_items_ == 5
        assert model.explain(rows).path.tolist() == [["same director: Kurosawa"]]
    model.partial_fit([["dan", "Ran"]])  # uses the new ones
    assert model.n_items_ == 6
    assert list(model.relation_weights_) == ["year"]


def test_relations_of_one_name_are_one_relation():
    edges = [["Ran", 1, "a"], ["Ikiru", "1", "a"], ["Ohayo", 2, "a"]]
    model = RP3BetaRecommender(edges=edges).fit(FILMS)
    assert list(model.relation_weights_) == ["1", "2"]
    same = RP3BetaRecommender(edges=[[i, str(r), e] for i, r, e in edges]).fit(FILMS)
    assert_array_equal(model.similarity_.toarray(), same.similarity_.toarray())


def test_feedback_whose_sums_overflow_is_refused():
    model = RP3BetaRecommender(edges=EDGES).fit(FILMS, np.ones(5))
    before = model.predict(FILMS)
    for verb in ("partial_fit", "fit"):
        with pytest.raises(ValueError, match=r"y: 1 of 5 rows are larger than float32 can add up"):
            getattr(model, verb)(FILMS, [1.0, 1e300, 1.0, 1.0, 1.0])
        assert_array_equal(model.predict(FILMS), before)


@pytest.mark.parametrize("wrong", [{"edge_weight": 1e300}, {"beta": 1e3}, {"alpha": 1e3}], ids=str)
def test_powers_and_factors_that_overflow_are_refused(wrong):
    with pytest.raises(ValueError, match=f"'{next(iter(wrong))}' parameter"):
        RP3BetaRecommender(**wrong).fit(FILMS)
