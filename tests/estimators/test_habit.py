"""The baseline for repeat purchases: its equation, lists before a time, and what it leaves out."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from sklearn_recft import HabitRecommender, IncrementalMFRecommender

DAY = 86_400
WEEKS = [["ann", "tea", 7 * DAY * week] for week in range(8)]
LOG = [*WEEKS, *(["bob", item, 7 * DAY * 3] for item in ("tea", "milk", "rice", "milk"))]


def test_scores_are_the_equation():
    model = HabitRecommender(habit_half_life=7.0, half_life=None).fit(LOG)
    counts = sum(2.0**-age for age in range(1, 9))  # eight baskets, a week after the last
    exposures = sum(sum(2.0**-age for age in range(1, week + 1)) for week in range(8))
    mean = 7 / exposures
    weight = np.sqrt((7 + 30 * mean) / (exposures + 30))
    found = model.predict([["ann", "tea", 7 * DAY * 8], ["ann", "milk", 7 * DAY * 8]])
    # tea is most popular with 9 events; milk has 2.
    assert_allclose(found, [0.2 + weight * counts, 0.2 * 2 / 9], rtol=1e-5)
    assert_allclose(model.repeat_weight_[0], weight, rtol=1e-5)


def test_a_list_is_that_of_the_time_that_is_asked_for():
    model = HabitRecommender(habit_half_life=7.0).fit(LOG)
    early, late = [["ann", 7 * DAY * 8]], [["ann", 7 * DAY * 30]]
    kwargs = {"n_recommendations": 1, "exclude_seen": False}
    (_, soon), (_, later) = model.recommend(early, **kwargs), model.recommend(late, **kwargs)
    assert soon[0, 0] > later[0, 0]
    items, _ = model.recommend(["ann", "bob", "cem"], **kwargs)
    assert items.ravel().tolist() == ["tea", "milk", "tea"] or items[0, 0] == "tea"


def test_an_event_does_not_count_for_itself_nor_for_earlier_rows():
    rows = [["ann", "tea", 7 * DAY * week] for week in (0, 1, 2)]
    model = HabitRecommender(half_life=None).fit(rows[:2])
    before = model.predict(rows[1:])
    model.partial_fit(rows[2:])
    base = model.predict([["cem", "tea", 0]])
    assert before[1] > before[0] > base  # the second row is not known yet
    after = model.predict([*rows, ["ann", "tea", 7 * DAY * 3]]) - base
    # The newest basket does not count for its own row; rows before it are taken to know nothing.
    counts = [
        0,
        0,
        2.0 ** (-7 / 90) + 2.0 ** (-14 / 90),
        sum(2.0 ** (-7 * k / 90) for k in (1, 2, 3)),
    ]
    assert_allclose(after, np.array(counts) * model.repeat_weight_, rtol=1e-5, atol=1e-6)


def test_what_was_not_liked_is_no_habit():
    X = [["ann", "tea", 0], ["ann", "rice", 0], ["bob", "rice", DAY], ["ann", "tea", DAY]]
    model = HabitRecommender().fit(X, [0, 1, 1, 0])
    found, _ = model.recommend(["ann"], n_recommendations=2, exclude_seen=False)
    assert_array_equal(found, [["rice", "tea"]])
    assert model.repeat_weight_.sum() == 0  # nothing was taken again


def test_scores_are_finite_where_nothing_is_liked():
    model = HabitRecommender().fit(LOG, -np.ones(len(LOG)))
    assert_allclose(model.predict([["cem", "tea", 0]]), -0.2, rtol=0.01)
    assert np.isfinite(model.recommend(["cem"], n_recommendations=3)[1]).all()


def test_without_times_each_row_is_a_basket():
    X = [["ann", item] for item in ("tea", "rice", "tea", "tea")]
    model = HabitRecommender().fit(X[:2]).partial_fit(X[2:])
    assert_array_equal(model._model.habits.repeats, [2, 0])
    found = model.predict([["ann", "tea"], ["ann", "rice"]]) - 0.2 * np.array([1, 1 / 3])
    assert_allclose(found, [3, 1] * model.repeat_weight_, rtol=1e-6)
    assert_array_equal(found, HabitRecommender().fit(X).predict(X[:2]) - 0.2 * np.array([1, 1 / 3]))


# ------------------------------------------------------- the term of the factorization

BPR = IncrementalMFRecommender(loss="bpr", n_factors=4, max_epochs=3, random_state=0)


def make_log(n_users, n_items, n_rows, seed=0):
    """Rows of distinct times, in order."""
    rng = np.random.default_rng(seed)
    times = 3600 * np.arange(n_rows)
    return np.column_stack(
        [rng.integers(n_users, size=n_rows), rng.integers(n_items, size=n_rows), times]
    )


def with_and_without(X, later):
    """Return a model with habits and one without, fitted and updated alike."""
    models = (clone(BPR).set_params(habit_half_life=2.0), clone(BPR))
    return [model.fit(X).partial_fit(later) for model in models]


def test_a_log_without_repeats_is_learned_as_without_habits_to_the_bit():
    X = make_log(10, 30, 400)
    X = X[np.sort(np.unique(X[:, :2], axis=0, return_index=True)[1])]
    ours, other = with_and_without(X[:150], X[150:])
    kwargs = {"n_recommendations": 12, "exclude_seen": False}
    for found, expected in zip(
        ours.recommend(np.arange(12), **kwargs),
        other.recommend(np.arange(12), **kwargs),
        strict=True,
    ):
        assert_array_equal(found, expected)
    assert_array_equal(ours.predict(X), other.predict(X))


def test_the_term_is_added_to_scores():
    X = make_log(8, 10, 300)
    ours, other = with_and_without(X[:200], X[200:])
    late = np.array([[u, i, X[-1, 2] + 7200] for u in range(9) for i in range(10)])
    counts = [
        sum(2.0 ** (-(now - t) / (2 * DAY)) for t in X[(X[:, 0] == u) & (X[:, 1] == i), 2])
        for u, i, now in late
    ]
    terms = 8 * np.log1p(np.array(counts) / 0.05)
    assert terms[80:].sum() == 0 < terms.sum()  # user 8 is unknown
    assert_allclose(ours.predict(late) - other.predict(late), terms, rtol=1e-4, atol=1e-5)
    queries = np.column_stack([np.arange(9), np.full(9, late[0, 2])])
    items, scores = ours.recommend(queries, n_recommendations=10, exclude_seen=False)
    rows = [[u, i, late[0, 2]] for u, row in enumerate(items) for i in row]
    assert_allclose(scores.ravel(), ours.predict(rows), rtol=1e-5)


def test_a_stream_adds_what_is_known_before_each_row():
    X = make_log(5, 6, 80)
    model, other = (m.fit(X[:5]) for m in (clone(BPR).set_params(habit_half_life=2.0), clone(BPR)))
    found = model.partial_fit_predict(X[5:]) - other.partial_fit_predict(X[5:])
    terms, shown = [], False
    for row in range(5, 80):
        (u, i, now), past = X[row], X[:row]
        times = past[(past[:, 0] == u) & (past[:, 1] == i), 2]
        count = sum(2.0 ** (-(now - t) / (2 * DAY)) for t in times)
        terms.append(8 * np.log1p(count / 0.05) if shown else 0.0)
        shown = shown or count > 0 or len(np.unique(past[:, :2], axis=0)) < row
    assert_allclose(found, terms, rtol=1e-4, atol=1e-5)


def test_only_lists_have_habits():
    with pytest.raises(ValueError, match="habit_half_life: only loss='bpr'"):
        IncrementalMFRecommender(habit_half_life=90).fit(LOG, np.ones(len(LOG)))
    with pytest.raises(ValueError, match="habit_half_life needs the column `timestamp`"):
        clone(BPR).set_params(habit_half_life=90).fit([row[:2] for row in LOG])


def test_without_decay_and_item_weights_popularity_only_orders_ties():
    X = [["ann", "rice", 0], ["ann", "tea", DAY], ["ann", "tea", 9 * DAY], ["ann", "milk", 9 * DAY]]
    X += [[f"user {i}", item, 9 * DAY] for i in range(20) for item in ("rice", "eggs")]
    model = HabitRecommender(habit_half_life=None, half_life=None, item_weights=False).fit(X)
    found, scores = model.recommend(["ann"], n_recommendations=4, exclude_seen=False)
    assert_array_equal(found, [["tea", "rice", "milk", "eggs"]])
    assert_allclose(scores, [[2 + 0.4 / 21, 1.2, 1 + 0.2 / 21, 0.2 * 20 / 21]], rtol=1e-5)
    assert model.repeat_weight_[0] < 1  # still measured
