"""Reasons, similar items and given histories against dense references."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp

from sklearn_recft import (
    ALSRecommender,
    BiasRecommender,
    DecayBertRecommender,
    EASERecommender,
    HabitRecommender,
    IncrementalMFRecommender,
    ItemKNNRecommender,
    PopularityRecommender,
    RealtimeTransformerRecommender,
    ranking,
)
from sklearn_recft.datasets import make_interactions
from sklearn_recft.history import EventHistory
from sklearn_recft.vocabulary import IdTypeWarning
from tests.estimators.dense_feedback import DAY, dense_sums

MF = {"n_factors": 4, "max_epochs": 3, "random_state": 0}
DECAYS = [{}, {"half_life": 40.0}, {"history_half_life": 2.0}]
EVERY = {"exclude_seen": False, "n_recommendations": 25}


def make_log():
    X, y = make_interactions(30, 25, 500, random_state=0, return_X_y=True)
    return X, y


def dense_contributions(found, ids):
    """Return contributions by item id in the order of ``ids``, (n, n_items)."""
    dense = np.zeros((len(found.item_ids), len(ids)))
    for row, (items, values) in enumerate(zip(found.item_ids, found.contribution, strict=True)):
        for item, value in zip(items, values, strict=True):
            if item is not None:
                dense[row, list(ids).index(item)] = value
    return dense


def rows_of(model, users):
    """Return all pairs of some users and all items, a time after all events."""
    users = np.asarray(users)
    pairs = np.repeat(users, model.n_items_), np.tile(model.item_ids_, len(users))
    return np.column_stack([*pairs, np.full(len(pairs[0]), 2_000_000_000)])


# --------------------------------------------------------------------------- explain


@pytest.mark.parametrize("decay", DECAYS, ids=str)
@pytest.mark.parametrize("cls", [EASERecommender, ItemKNNRecommender])
def test_item_models_add_up_the_users_items(cls, decay):
    X, y = make_log()
    model = cls(**decay).fit(X, y)
    weights = model.item_weights_ if cls is EASERecommender else model.similarity_.toarray()
    _, profiles = dense_sums(X, y, **decay)
    users = model.user_ids_[:5]
    found = model.explain(rows_of(model, users))
    expected = profiles[:5, None, :] * weights.T[None].astype(float)  # user, item, past item
    expected = expected.reshape(-1, model.n_items_)
    assert_allclose(dense_contributions(found, model.item_ids_), expected, rtol=1e-4, atol=1e-5)
    unknown = model.explain([["who", model.item_ids_[0], 0]])
    assert unknown.item_ids.tolist() == [[None]]
    assert unknown.score == unknown.terms["popularity"] > 0


def test_als_splits_the_solution_of_a_user():
    """Hu et al. (2008), section 5; exact for users that were solved for last."""
    X, y = make_log()
    y = y - 3  # some are disliked
    model = ALSRecommender(n_factors=3, reg=2.0, alpha=1.5, max_epochs=4, random_state=0)
    model.fit(X, y)
    users = model.user_ids_[:4]
    assert 1e-5 < abs(model.explain(rows_of(model, users)).terms["remainder"]).max() < 0.5
    model.observe(X, y)  # solves for all users
    _, x = dense_sums(np.concatenate([X, X]), np.concatenate([y, y]))
    q = model.item_factors_.astype(float)
    expected = []
    for user in range(4):
        confidence = 1 + 1.5 * abs(x[user])
        inverse = np.linalg.inv((q.T * confidence) @ q + 2.0 * np.eye(3))
        expected.append((q @ inverse @ q.T) * (confidence * (x[user] > 0)))
    found = model.explain(rows_of(model, users))
    parts = dense_contributions(found, model.item_ids_)
    assert_allclose(parts, np.concatenate(expected), rtol=1e-3, atol=1e-5)
    assert_allclose(found.terms["remainder"], 0, atol=1e-5)


@pytest.mark.parametrize("history_half_life", [None, 2.0])
def test_softmax_adds_up_the_last_events(history_half_life):
    X, _ = make_log()
    X = X[np.argsort(X[:, 2], kind="stable")]
    model = IncrementalMFRecommender(**MF, loss="softmax", history_half_life=history_half_life)
    model.fit(X)
    module = model.module_
    inputs, items = (getattr(module, f"{n}_factors").detach().numpy() for n in ("input", "item"))
    user = model.user_ids_[3]
    past = X[X[:, 0] == user][::-1][: module.recent.shape[1]]
    weight = 0.5 ** (np.arange(len(past)) / (history_half_life or np.inf))
    expected = np.zeros((model.n_items_, model.n_items_))
    for share, item in zip(weight / np.sqrt(weight.sum()), past[:, 1], strict=True):
        code = list(model.item_ids_).index(item)
        expected[:, code] += items @ (share * inputs[code])
    found = model.explain(rows_of(model, [user]))
    parts = dense_contributions(found, model.item_ids_)
    assert_allclose(parts, expected, rtol=1e-4, atol=1e-5)
    assert ("factors" in found.terms) == (history_half_life is None)


def test_terms_of_ratings_are_the_equation():
    X, y = make_log()
    X = np.column_stack([X, np.arange(len(X)) % 3])
    model = IncrementalMFRecommender(**MF).fit(X, y)
    found, module = model.explain(X[:6]), model.module_
    user, item = (
        np.array([list(ids).index(one) for one in column])
        for ids, column in ((model.user_ids_, X[:6, 0]), (model.item_ids_, X[:6, 1]))
    )
    assert_allclose(found.terms["user bias"], module.user_bias.detach().numpy()[user])
    assert_allclose(found.terms["item bias"], module.item_bias.detach().numpy()[item])
    p, q = module.user_factors.detach().numpy()[user], module.item_factors.detach().numpy()[item]
    assert_allclose(found.terms["factors"], (p * q).sum(1), rtol=1e-5)
    assert_allclose(found.terms["mean"], module.mean.item())
    assert len(np.unique(found.terms["context"])) == 3
    assert (found.item_ids == None).all()  # noqa: E711 - of each cell


@pytest.mark.parametrize("mf", [False, True])
def test_habits_tell_how_often_and_when(mf):
    X = [["ann", "tea", 7 * DAY * week] for week in range(4)]
    X += [["ann", "milk", 0], ["bob", "rice", 20 * DAY]]
    model = HabitRecommender(habit_half_life=7.0)
    if mf:
        model = IncrementalMFRecommender(**MF, loss="softmax", habit_half_life=7.0)
    model.fit(X)
    found = model.explain([["ann", item, 28 * DAY] for item in ("tea", "milk", "rice", "x")])
    own = found.item_ids == np.array([["tea"], ["milk"], ["rice"], ["x"]])
    assert_array_equal(own.any(axis=1), [True, True, False, False])
    assert_allclose(
        found["count"][own], [2.0**-1 + 2.0**-2 + 2.0**-3 + 2.0**-4, 2.0**-4], rtol=1e-5
    )
    assert_allclose(found.age[own], [7, 28])
    assert not found["count"][~own].any()
    assert np.isnan(found.age[~own]).all()
    # At the time of the last basket, only the ones before it count; nothing is known earlier.
    early = model.explain([["ann", "tea", 21 * DAY], ["ann", "tea", DAY]])
    assert_allclose(early["count"].max(axis=1), [2.0**-1 + 2.0**-2 + 2.0**-3, 0], rtol=1e-5)
    assert np.isnan(early.age).all()


def test_many_rows_are_explained_in_blocks(monkeypatch):
    """Lists of past items differ in length between blocks."""
    X, _ = make_log()
    for model in (EASERecommender(), HabitRecommender(), ALSRecommender(**MF)):
        model.fit(X)
        rows = np.concatenate([[[99, 0, 0]] * 7, rows_of(model, [99, *np.unique(X[:, 0])[:3]])])
        whole = model.explain(rows)
        monkeypatch.setattr("sklearn_recft.estimators._verbs._ROWS_AT_ONCE", 7)
        assert model.explain(rows[:7]).item_ids.tolist() == [[None]] * 7
        found = model.explain(rows)
        monkeypatch.undo()
        for name in ("item_ids", "contribution", "score", "count", "age"):
            assert (name in found) == (name in whole)
            if name in found:
                assert found[name].dtype == whole[name].dtype
                if name == "item_ids":
                    assert_array_equal(found[name], whole[name])
                else:
                    assert_allclose(found[name], whole[name], atol=1e-15)
        assert found.terms.keys() == whole.terms.keys()


def test_habits_without_times_have_no_age():
    model = HabitRecommender().fit([["ann", "tea"], ["ann", "tea"], ["bob", "milk"]])
    found = model.explain([["ann", "tea"]])
    assert found["count"].tolist() == [[2.0]]
    assert "age" not in found


def steps_by_hand(past, values):
    """Sum the changes of a value by the item of the event that was added."""
    expected = {}
    for item, change in zip(past, np.diff(values), strict=True):
        expected[item] = expected.get(item, 0) + change
    return expected


@pytest.mark.parametrize("trends", [(), (3, 30, np.inf)], ids=str)
def test_the_transformer_adds_events_one_by_one(trends):
    """Each event adds its change of the item's log-probability, seen by longer histories."""
    X, _ = make_log()
    model = RealtimeTransformerRecommender(
        max_epochs=2, width=8, max_history=30, trend_half_lives=trends, random_state=0
    ).fit(X)
    (user,), now = model.user_ids_[2:3], X[:, 2].max() + DAY
    past = X[X[:, 0] == user]
    past = past[np.argsort(past[:, 2], kind="stable")]
    found = model.explain([[user, item, now] for item in (past[0, 1], 3, 777)])
    for row, item in enumerate((past[0, 1], 3)):
        values = []
        for n in range(len(past) + 1):
            given = {"history": past[:n]} if n else {}
            asked = [[user if n else "who", now]]
            items, scores = model.recommend(
                asked, n_recommendations=25, exclude_seen=False, **given
            )
            place = items[0].tolist().index(item)
            values.append(scores[0, place] - logsumexp(scores[0]))
        expected = steps_by_hand(past[:, 1].tolist(), values)
        listed = dict(zip(found.item_ids[row], found.contribution[row], strict=True))
        assert listed.keys() - {None} == expected.keys()
        for one, change in expected.items():
            assert_allclose(listed[one], change, atol=1e-4)
        assert_allclose(found.terms["base"][row], values[0], atol=1e-4)
    assert (found.item_ids[2] == None).all()  # noqa: E711 - an unknown item has a base only
    assert found.terms["base"][2] == found.score[2]


def test_long_histories_are_explained_from_the_last_events():
    X, _ = make_log()
    model = RealtimeTransformerRecommender(max_epochs=1, width=8, max_history=3, random_state=0)
    model.fit(X)
    (user,) = model.user_ids_[2:3]
    last = X[X[:, 0] == user]
    last = last[np.argsort(last[:, 2], kind="stable")][-3:, 1]
    found = model.explain([[user, 3, 2_000_000_000]])
    assert set(found.item_ids[0]) - {None} == set(last)


def test_the_decay_model_adds_events_one_by_one():
    """With all online features as they are, each event adds its change of the logit."""
    X, y = make_log()
    model = DecayBertRecommender(None, max_history=6, max_epochs=2, width=8, random_state=0)
    model.fit(X, y > 3)
    (user,), now = model.user_ids_[2:3], X[:, 2].max() + DAY
    row = [[user, 3, now]]
    whole = model._model.history.events_of(np.array([2]))[0]
    kept = whole.take(np.argsort(whole.time, kind="stable")[-6:])
    values, shorter = [], copy.deepcopy(model)
    for n in range(len(kept) + 1):
        past = shorter._model.history = EventHistory(6)
        past.append(kept.user[:n], kept.item[:n], kept.feedback[:n], kept.time[:n], n_users=3)
        values.append(shorter.decision_function(row)[0])
    expected = steps_by_hand(model.item_ids_[kept.item].tolist(), values)
    found = model.explain(row)
    listed = dict(zip(found.item_ids[0], found.contribution[0], strict=True))
    assert listed.keys() - {None} == expected.keys()
    for item, change in expected.items():
        assert_allclose(listed[item], change, atol=1e-5)
    assert_allclose(found.terms["base"], values[:1], atol=1e-5)
    assert_allclose(found.score, model.decision_function(row), rtol=1e-5)


# --------------------------------------------------------------------------- similar items


SIMILAR = {
    "ease": EASERecommender(reg=10.0),
    "knn": ItemKNNRecommender(n_neighbors=6),
    "als": ALSRecommender(n_factors=4, random_state=0, max_epochs=3),
    "mf": IncrementalMFRecommender(**MF),
    "adam": IncrementalMFRecommender(**MF, solver="adam"),
    "softmax": IncrementalMFRecommender(**MF, loss="softmax"),
    "transformer": RealtimeTransformerRecommender(
        max_epochs=1, width=8, max_history=10, random_state=0
    ),
}


@pytest.mark.parametrize("name", SIMILAR)
def test_similar_items_equal_a_dense_matrix(monkeypatch, name):
    monkeypatch.setattr(ranking, "_TILE_ROWS", 4)
    monkeypatch.setattr(ranking, "_TILE_COLUMNS", 3)
    X, _ = make_log()
    model = copy.deepcopy(SIMILAR[name]).fit(X)
    if name == "ease":
        near = model.item_weights_
    elif name == "knn":
        near = model.similarity_.toarray()
    else:
        if name == "als":
            vectors = model.item_factors_
        elif name == "transformer":
            vectors = model.module_.vectors().detach().numpy()
        else:
            vectors = model.module_.item_factors.detach().numpy()
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        near = unit @ unit.T
    near = near.astype(float)
    asked = np.arange(model.n_items_)[::-2]
    items, scores = model.similar_items(model.item_ids_[asked], 6)
    for code, row, its in zip(asked, items, scores, strict=True):
        others = np.delete(near[code], code)
        assert_allclose(its, -np.sort(-others)[:6], rtol=1e-4, atol=1e-5)
        found = [list(model.item_ids_).index(item) for item in row]
        assert_allclose(near[code, found], its, rtol=1e-4, atol=1e-5)


def test_items_that_learned_nothing_are_similar_to_none():
    model = ALSRecommender(n_factors=2, random_state=0).fit([["a", 1], ["b", 2], ["a", 2]])
    model.observe([["a", 3]])  # a new item has no factors before the next partial_fit
    assert_array_equal(model.similar_items([3], 2)[1], [[0, 0]])
    assert_array_equal(model.similar_items([3], 2)[0], [[1, 2]])


def test_one_item_has_no_others():
    model = ItemKNNRecommender().fit([["ann", "tea"]])
    with pytest.raises(ValueError, match="n_items=10, but each item has only 0 others"):
        model.similar_items(["tea"])
    items, scores = model.similar_items(["tea"], 2, on_missing="pad")
    assert items.tolist() == [[None, None]]
    assert scores.tolist() == [[-np.inf, -np.inf]]
    assert len(model.similar_items(["tea"], 2, on_missing="pad", as_frame=True)) == 0


def test_models_without_vectors_have_no_such_verb():
    for cls in (PopularityRecommender, BiasRecommender, HabitRecommender):
        assert not hasattr(cls, "similar_items")
    assert not hasattr(PopularityRecommender, "explain")


# --------------------------------------------------------------------------- history


@pytest.mark.parametrize("decay", [*DECAYS, {"half_life": 40.0, "history_half_life": 2.0}], ids=str)
@pytest.mark.parametrize("cls", [EASERecommender, ItemKNNRecommender])
def test_a_history_gives_the_scores_of_partial_fit_with_old_item_weights(cls, decay):
    """The user's row of sums is that of a model which learned the user; the items are not."""
    X, y = make_log()
    model = cls(**decay).fit(X, y)
    news = np.array(
        [["me", item, X[:, 2].max() + n * DAY] for n, item in enumerate((3, 7, 3, 11))], object
    )
    stars = np.array([4.0, -1.0, 2.0, 5.0])
    weights = model.item_weights_ if cls is EASERecommender else model.similarity_.toarray()
    items, scores = model.recommend(["me"], history=(news, stars), **EVERY)
    learned = copy.deepcopy(model).partial_fit(news, stars)
    row = learned._model.profiles.total(np.array([learned.n_users_ - 1])).toarray()[0]
    by_hand = row[: model.n_items_] @ weights
    places = [list(model.item_ids_).index(item) for item in items[0]]
    assert_allclose(scores[0], by_hand[places], rtol=1e-4, atol=1e-5)
    observed = copy.deepcopy(model).observe(news, stars).recommend(["me"], **EVERY)
    assert_array_equal(items, observed[0])
    assert_allclose(scores, observed[1], rtol=1e-5, atol=1e-6)
    assert model.n_users_ == 30


def test_ids_of_a_history_are_compared_with_the_right_ones():
    """Visitors are none of the users of fit: only items, and queries, may be of a wrong type."""
    X, _ = make_log()
    model = EASERecommender().fit(X)
    visits = [[f"visitor {n}", 3 + n % 5, 0] for n in range(12)]
    items, _ = model.recommend([row[0] for row in visits], history=visits, n_recommendations=2)
    assert items.shape == (12, 2)
    with pytest.warns(IdTypeWarning, match="history: item_id: none of 1 rows is known"):
        model.recommend(["me"], history=[["me", "3", 0]], n_recommendations=2)
    with pytest.warns(IdTypeWarning, match="user_id: none of 1 rows is known"):
        model.recommend([7], history=[["7", 3, 0]], n_recommendations=2)


def test_a_history_is_folded_in_by_als():
    X, y = make_log()
    model = ALSRecommender(n_factors=4, reg=1.0, random_state=0).fit(X, y)
    news = np.array([["me", item, 0] for item in (3, 7, 11)], object)
    observed = copy.deepcopy(model).observe(news, [1, 2, 3])
    found = model.recommend(["me", "who"], history=(news, [1, 2, 3]), **EVERY)
    assert_allclose(found[1][0], observed.recommend(["me"], **EVERY)[1][0], rtol=1e-5)
    assert_allclose(found[1][1], model.recommend(["who"], **EVERY)[1][0], rtol=1e-5)
    x, q = np.zeros(model.n_items_), model.item_factors_.astype(float)
    x[[list(model.item_ids_).index(item) for item in (3, 7, 11)]] = 1, 2, 3
    confidence = 1 + model.alpha * x
    p = np.linalg.solve((q.T * confidence) @ q + np.eye(4), q.T @ (confidence * (x > 0)))
    assert_allclose(found[1][0], -np.sort(-(q @ p)), rtol=1e-4)


@pytest.mark.parametrize("habits", [{}, {"habit_half_life": 30.0}], ids=str)
@pytest.mark.parametrize("history_half_life", [None, 2.0])
def test_a_history_is_a_state_of_softmax(history_half_life, habits):
    X, _ = make_log()
    X = np.concatenate([X, X[:20] + np.array([0, 0, 10**8])])  # some are taken again
    model = IncrementalMFRecommender(
        **MF, loss="softmax", history_half_life=history_half_life, **habits
    ).fit(X)
    if history_half_life is not None:
        # No factors of its own: the state of a known user is the sum over its events.
        known = model.user_ids_[:4]
        given = X[np.isin(X[:, 0], known)]
        found = model.recommend(known, history=given, **EVERY)
        assert_allclose(found[1], model.recommend(known, **EVERY)[1], rtol=1e-4, atol=1e-5)
    now = 2_000_000_000
    news = np.array([["me", 3, now], ["me", 7, now + DAY], ["me", 3, now + 2 * DAY]], object)
    shuffled = model.recommend([["me", now + 3 * DAY]], history=news[[2, 0, 1]], **EVERY)
    found = model.recommend([["me", now + 3 * DAY]], history=news, **EVERY)
    assert_array_equal(shuffled[1], found[1])
    weight = 0.5 ** (np.arange(3) / (history_half_life or np.inf))
    codes = [list(model.item_ids_).index(item) for item in (3, 7, 3)]
    inputs, items = (
        getattr(model.module_, name).detach().numpy() for name in ("input_factors", "item_factors")
    )
    state = weight @ inputs[codes] / np.sqrt(weight.sum())
    popular = model.explain([["who", item, now] for item in found[0][0]]).score
    places = [list(model.item_ids_).index(item) for item in found[0][0]]
    expected = items[places] @ state + popular
    if habits:
        counts = {3: 2 ** (-3 / 30) + 2 ** (-1 / 30), 7: 2 ** (-2 / 30)}
        expected += [8 * np.log1p(counts.get(item, 0) / 0.05) for item in found[0][0]]
        with pytest.raises(ValueError, match="habit_half_life needs the column `timestamp`"):
            model.recommend(["me"], history=news[:, :2], **EVERY)
    assert_allclose(found[1][0], expected, rtol=1e-4, atol=1e-4)


# --------------------------------------------------------------------------- threads


@pytest.mark.parametrize("name", ["ease", "als", "softmax"])
def test_each_answer_is_of_one_state(name):
    """While another thread learns: before or after a chunk, never in between."""
    X, _ = make_log()
    chunks = [X[300 + 50 * n : 350 + 50 * n] for n in range(4)]
    model = copy.deepcopy(SIMILAR[name]).fit(X[:300])
    rows, ids = X[:20], model.item_ids_[:5]
    visits = [["who", 3, 0], ["who", 7, 0]]

    def answers(of):
        parts = of.explain(rows)
        return [
            pickle.dumps((parts.item_ids.tolist(), parts.score.tolist())),
            pickle.dumps([part.tolist() for part in of.similar_items(ids, 4)]),
            pickle.dumps(of.recommend(["who"], history=visits, n_recommendations=5)[1].tolist()),
        ]

    states, twin = [answers(model)], copy.deepcopy(model)
    states += [answers(twin.partial_fit(chunk)) for chunk in chunks]
    possible = [set(told) for told in zip(*states, strict=True)]
    assert len(possible[0]) == len(possible[1]) == len(states)
    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(lambda: [answers(model) for _ in range(30)]) for _ in range(2)]
        pool.submit(lambda: [model.partial_fit(chunk) for chunk in chunks]).result()
        for reader in readers:
            for told in reader.result():
                assert all(one in some for one, some in zip(told, possible, strict=True))
    assert answers(model) == states[-1]
