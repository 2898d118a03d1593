"""The baseline for repeat purchases: its equation, lists before a time, and what it leaves out."""

import numpy as np
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_recft import HabitRecommender

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


def test_without_times_each_row_is_a_basket():
    X = [["ann", item] for item in ("tea", "rice", "tea", "tea")]
    model = HabitRecommender().fit(X[:2]).partial_fit(X[2:])
    assert_array_equal(model._model.habits.repeats, [2, 0])
    found = model.predict([["ann", "tea"], ["ann", "rice"]]) - 0.2 * np.array([1, 1 / 3])
    assert_allclose(found, [3, 1] * model.repeat_weight_, rtol=1e-6)
    assert_array_equal(found, HabitRecommender().fit(X).predict(X[:2]) - 0.2 * np.array([1, 1 / 3]))
