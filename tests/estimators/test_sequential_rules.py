"""Sequential rules against a loop over all pairs of events."""

from collections import defaultdict

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_recft import SequentialRulesRecommender
from sklearn_recft.datasets import make_interactions
from tests.estimators.dense_feedback import DAY, known_pairs

OPTIONS = [
    {},
    {"max_distance": 1, "alpha": 1.0, "beta": 0.0},
    {"max_distance": 3, "history_half_life": None},
    {"n_neighbors": 3, "half_life": 30.0},
    {"gap_half_life": 5.0, "alpha": 0.0, "beta": 1.0, "n_neighbors": 5},
    {"half_life": 20.0, "gap_half_life": 2.0, "max_history": 6},
]
options = pytest.mark.parametrize("given", OPTIONS, ids=str)


def log_of(kind):
    """Make rows in any order, feedback and weights; users take items again, also at once."""
    X, y = make_interactions(12, 15, 200, popularity=0.6, random_state=0, return_X_y=True)
    X = np.concatenate([X, X[::5] + np.array([0, 0, 3 * DAY]), X[::7] + np.array([0, 0, 1])])
    y = np.concatenate([y, y[::5], y[::7]])
    order = np.random.default_rng(0).permutation(len(X))
    weight = np.random.default_rng(1).uniform(0.2, 2, len(X))
    return X[order], *{"positives": (None, None), "dislikes": (y[order] - 3, weight)}[kind]


def sequences_by_hand(X, y, weight, max_history):
    """Return events (item, value, time) of each user; items in a row are one event."""
    rows = zip(X.tolist(), np.ones(len(X)) if y is None else y, strict=True)
    found = defaultdict(list)
    for place, ((user, item, time), feedback) in enumerate(rows):
        value = max(feedback, 0) * (1 if weight is None else weight[place])
        found[user] += [(item, value, time)] if value > 0 else []
    joined = {}
    for user, events in found.items():
        joined[user] = []
        for item, value, time in sorted(events, key=lambda event: event[2])[-max_history:]:
            own = joined[user]
            if own and own[-1][0] == item:
                value += own.pop()[1]
            own.append((item, value, time))
    return joined


def rules_by_hand(model, X, y, weight):
    """Compute the rules of known items, and the profiles of known users."""
    log = sequences_by_hand(X, y, weight, model.max_history)
    code = {item: n for n, item in enumerate(model.item_ids_.tolist())}
    newest = max(event[2] for events in log.values() for event in events)
    rules, count = np.zeros((len(code), len(code))), np.zeros(len(code))
    profile = np.zeros((model.n_users_, len(code)))

    def left(seconds, half_life):
        return 1 if half_life is None else 2 ** (-seconds / DAY / half_life)

    for user, events in log.items():
        row = profile[model.user_ids_.tolist().index(user)]
        for b, (item, value, time) in enumerate(events):
            taken = value * left(newest - time, model.half_life)
            count[code[item]] += taken
            row[code[item]] += value * left((len(events) - 1 - b) * DAY, model.history_half_life)
            for a in range(max(b - model.max_distance, 0), b):
                earlier, given, before = events[a]
                gap = left(time - before, model.gap_half_life)
                rules[code[earlier], code[item]] += given * taken * gap / (b - a)
    there = np.where(count > 0, count, 1)
    rules /= there[:, None] ** model.alpha * there**model.beta
    least = -np.sort(-rules, axis=1)[:, min(model.n_neighbors, len(code)) - 1 :][:, :1]
    return np.where(rules >= least, rules, 0), profile


@options
@pytest.mark.parametrize("kind", ["positives", "dislikes"])
def test_rules_equal_their_equation(given, kind):
    log = log_of(kind)
    model = SequentialRulesRecommender(**given).fit(*log)
    rules, profile = rules_by_hand(model, *log)
    assert_allclose(model.rules_.toarray(), rules, rtol=1e-5, atol=1e-7)
    assert model.rules_.dtype == np.float32
    assert model.rules_.has_sorted_indices
    scores = model.predict(known_pairs(model)).reshape(profile.shape)
    assert_allclose(scores, profile @ rules, rtol=1e-4, atol=1e-6)


@options
def test_any_cut_of_the_stream_gives_the_same_rules(given):
    X, *_ = log_of("positives")
    X = X[np.argsort(X[:, 2], kind="stable")]
    whole = SequentialRulesRecommender(**given).fit(X)
    parts = SequentialRulesRecommender(**given).fit(X[:1])
    for first, last in ((1, 2), (2, 90), (90, 91), (91, 200)):
        parts.partial_fit(X[first:last])
    parts.observe(X[200:230]).partial_fit(X[230:])
    assert_array_equal(parts.rules_.toarray(), whole.rules_.toarray())
    rows = known_pairs(whole)
    assert_array_equal(parts.predict(rows), whole.predict(rows))
    shuffled = X[np.random.default_rng(2).permutation(len(X))]
    threads = SequentialRulesRecommender(**given, n_jobs=2).fit(shuffled)
    assert_allclose(threads.predict(rows), whole.predict(rows), rtol=1e-5, atol=1e-8)


def test_events_that_arrive_late_take_their_place():
    X = [["ann", "flour", 0], ["ann", "oven", 20], ["bob", "oven", 5]]
    model = SequentialRulesRecommender(alpha=0, beta=0).fit(X).partial_fit([["ann", "yeast", 10]])
    expected = [[0, 0.5, 1], [0, 0, 0], [0, 1, 0]]  # flour, oven, yeast
    assert_array_equal(model.rules_.toarray(), expected)


@options
def test_forget_leaves_nothing(given):
    X, *_ = log_of("positives")
    model = SequentialRulesRecommender(**given).fit(X).forget(X[:2, 0])
    X = X[~np.isin(X[:, 0], X[:2, 0])]
    rows = known_pairs(model)
    other = SequentialRulesRecommender(**given).fit(X)
    assert_allclose(model.predict(rows), other.predict(rows), rtol=1e-5, atol=1e-8)
    gone = X[:2, 1]
    model.forget_items(gone)
    whole = "max_history" not in given
    assert model.forget_receipt_.level == ("exact" if whole else "erased")
    if whole:
        other = SequentialRulesRecommender(**given).fit(X[~np.isin(X[:, 1], gone)])
        rows = known_pairs(other)
        assert_allclose(model.predict(rows), other.predict(rows), rtol=1e-5, atol=1e-8)


def test_a_rule_has_a_direction():
    """What came before an item is not recommended after it."""
    chain = [[user, (user + step) % 10, step] for user in range(20) for step in range(6)]
    model = SequentialRulesRecommender(beta=0).fit(chain)
    items, _ = model.recommend(np.arange(20), n_recommendations=1)
    assert_array_equal(items[:, 0], (np.arange(20) + 6) % 10)
    assert model.similar_items([3], n_items=2)[0].tolist() == [[4, 5]]
    assert model.rules_[3, 2] == 0


def test_items_are_taken_again():
    """Tea comes again after milk, and not at once after itself."""
    X = [["ann", item, n] for n, item in enumerate(["tea", "tea", "milk", "tea", "milk"])]
    X += [["bob", "tea", 0], ["bob", "milk", 1], ["cem", "rice", 0]]
    model = SequentialRulesRecommender(history_half_life=0.1).fit(X)  # the last item alone
    items, _ = model.recommend(["bob", "ann"], n_recommendations=1, exclude_seen=False)
    assert items.tolist() == [["tea"], ["tea"]]
    assert model.recommend(["bob"], n_recommendations=1)[0].tolist() == [["rice"]]
    once = SequentialRulesRecommender().fit([["ann", "tea"], ["ann", "tea"], ["bob", "milk"]])
    assert not once.rules_.nnz


def test_explain_names_the_item_that_led_here():
    X = [["ann", "flour"], ["ann", "yeast"], ["bob", "flour"], ["bob", "rice"]]
    found = SequentialRulesRecommender().fit(X).explain([["bob", "yeast"], ["ann", "flour"]])
    assert found.item_ids.tolist() == [["flour"], [None]]
    assert found.contribution[0, 0] > 0
    assert_allclose(found.contribution.sum(axis=1) + found.terms["popularity"], found.score)


def test_history_of_a_visitor_ends_at_its_last_events():
    X, *_ = log_of("positives")
    model = SequentialRulesRecommender(max_history=4).fit(X)
    user = X[0, 0]
    own = X[X[:, 0] == user]
    items, scores = model.recommend([user], history=own, exclude_seen=False)
    expected = model.recommend([user], exclude_seen=False)
    assert_array_equal(items, expected[0])
    assert_allclose(scores, expected[1], rtol=1e-6)


def test_feedback_beyond_float32_changes_nothing():
    model = SequentialRulesRecommender().fit([[0, 1], [0, 2]], [1.0, 1.0])
    before = model.rules_.toarray()
    with pytest.raises(ValueError, match="y: 1 of 2 rows are too large for float32; scale y"):
        model.partial_fit([[3, 1], [0, 4]], [1.0, 1e20])
    assert_array_equal(model.rules_.toarray(), before)
    assert model.n_users_ == 1


def test_gaps_need_times():
    with pytest.raises(ValueError, match="gap_half_life"):
        SequentialRulesRecommender(gap_half_life=1.0).fit([[0, 1], [0, 2]])


def test_rules_of_items_that_have_decayed_to_nothing_are_finite():
    # c_x is 2^-399 or 2^-1050, so C_xy / c_x would be beyond float32, or float64.
    X = [["ann", "x", 0], ["ann", "y", 400 * DAY], ["bob", "x", 0], ["bob", "z", DAY]]
    for half_life in (1.0, 0.381):
        model = SequentialRulesRecommender(alpha=1.0, half_life=half_life).fit(X)
        assert model.rules_.toarray().max() == np.float32(1e24)
        items, scores = model.recommend(["bob", "new"], n_recommendations=1)
        assert items.ravel().tolist() == ["y", "y"]
        assert np.isfinite(scores).all()


def test_sums_of_large_feedback_are_finite_or_refused():
    X = [[user, item] for user in range(4) for item in range(3)]
    model = SequentialRulesRecommender().fit(X, np.full(12, 1e12))
    assert np.isfinite(model.recommend([0, 9], n_recommendations=3, exclude_seen=False)[1]).all()
    with pytest.raises(ValueError, match=r"y: 12 of 12 rows are too large for float32; scale y to"):
        model.partial_fit(X, np.full(12, 1e13))
