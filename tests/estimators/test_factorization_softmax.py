"""IncrementalMFRecommender with loss="softmax": what it learns, when, and from what."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.utils._param_validation import InvalidParameterError

from sklearn_recft import IncrementalMFRecommender, kernels
from sklearn_recft.datasets import make_interactions
from sklearn_recft.metrics import ndcg_at_k

DAY = 86_400
FORMS = {
    "bag": {},
    "bag with decay": {"half_life": 5},
    "next": {"history_half_life": 2, "reg": 0.02},
    "next with habits": {"history_half_life": 2, "half_life": 5, "habit_half_life": 30},
}
forms = pytest.mark.parametrize("params", FORMS.values(), ids=FORMS.keys())


def make(**params):
    small = {"n_factors": 8, "max_epochs": 5, "random_state": 0, "loss": "softmax"}
    return IncrementalMFRecommender(**small | params)


@pytest.fixture(scope="module")
def log():
    """Make positives in time order, a tenth of them repeats."""
    X, _ = make_interactions(30, 25, 600, n_factors=2, random_state=0, return_X_y=True)
    rng = np.random.default_rng(0)
    again = rng.choice(np.arange(1, len(X)), 60, replace=False)
    for row in again:
        X[row, 1] = rng.choice(X[X[:, 0] == X[row, 0]][:3, 1])
    return X


@pytest.fixture(scope="module")
def tastes():
    """Make events of two tastes: users of one parity take items of the same parity."""
    rng = np.random.default_rng(1)
    user = rng.integers(0, 60, 3000)
    item = 2 * rng.integers(0, 20, 3000) + user % 2
    return np.column_stack([user, item, np.arange(3000) * 3600])


# ---------------------------------------------------------------------- what it learns


@pytest.mark.parametrize("name", ["bag", "next"])
def test_lists_follow_taste(name, tastes):
    model = make(**FORMS[name]).fit(tastes)
    items, scores = model.recommend(np.arange(60), n_recommendations=5, exclude_seen=False)
    assert (items % 2 == np.arange(60)[:, None] % 2).mean() > 0.95
    assert (np.diff(scores) <= 0).all()


def test_a_number_of_events_follows_their_order():
    """Each item follows one other in a cycle: the last event decides what comes next."""
    rng = np.random.default_rng(2)
    user, step = np.repeat(np.arange(80), 15), np.tile(np.arange(15), 80)
    item = (np.repeat(rng.integers(0, 12, 80), 15) + step) % 12
    X = np.column_stack([user, item, step * DAY + user])
    truth = [[(item[14 + 15 * u] + 1) % 12] for u in range(80)]
    found = {}
    for history_half_life in (None, 0.3):
        model = make(history_half_life=history_half_life, max_epochs=20, reg=0.01).fit(X)
        lists, _ = model.recommend(np.arange(80), n_recommendations=3, exclude_seen=False)
        found[history_half_life] = ndcg_at_k(truth, list(lists), k=3)
    assert found[0.3] > 0.95
    assert found[None] < 0.6


@pytest.mark.parametrize("name", ["bag", "next"])
def test_a_new_user_and_a_new_item(name, tastes):
    model = make(**FORMS[name]).fit(tastes)
    popular = model.recommend([999], n_recommendations=40, exclude_seen=False)[0][0]
    counts = np.bincount(tastes[:, 1].astype(int))
    assert (np.diff(counts[popular]) <= 0).all()  # an unknown user: by popularity
    late = tastes[-1, 2]
    model.partial_fit([[999, item, late + 3600 * item] for item in (1, 3, 5)])
    known = model.recommend([999], n_recommendations=10, exclude_seen=False)[0][0]
    assert (known % 2 == 1).mean() > 0.8
    unknown = model.predict([[0, 777, late]])
    assert_allclose(unknown, np.log(0.5) * model._model.popularity_weight)
    model.partial_fit([[user, 777, late + DAY] for user in range(1, 60, 2)])
    odd, even = (model.predict([[user, 777, late + 2 * DAY]]) for user in (999, 0))
    assert odd > even > unknown


def test_half_life_decays_popularity():
    X = [[user, 1, 0] for user in range(30)] + [[user, 2, 100 * DAY] for user in range(20)]
    firsts = []
    for half_life in (None, 10):
        model = make(half_life=half_life, learning_rate=1e-6).fit(X)
        firsts.append(model.recommend([999], n_recommendations=1)[0].item())
        model.partial_fit([[user, 3, 3000 * DAY] for user in range(8)])
        firsts.append(model.recommend([999], n_recommendations=1)[0].item())
    assert firsts == [1, 1, 2, 3]


def test_popularity_weight(tastes):
    plain, popular = (make(popularity_weight=weight).fit(tastes) for weight in (0, 1))
    counts = np.bincount(tastes[:, 1].astype(int))[tastes[:50, 1].astype(int)]
    said = popular.predict(tastes[:50]) - plain.predict(tastes[:50])
    assert_allclose(said, np.log(counts + 0.5), rtol=1e-5)


def test_habits_add_to_repeats(log):
    late = log[-1, 2] + DAY
    users = np.unique(log[:, 0])
    rows = np.array([[user, item, late] for user in users for item in np.unique(log[:, 1])])
    plain, habits = (
        make(history_half_life=2, habit_half_life=h).fit(log).predict(rows) for h in (None, 30)
    )
    taken = {tuple(pair) for pair in log[:, :2]}
    again = np.array([tuple(pair) in taken for pair in rows[:, :2]])
    assert_array_equal(habits[~again], plain[~again])
    assert (habits[again] > plain[again]).all()


# -------------------------------------------------------------------- event by event


@forms
@pytest.mark.parametrize("zeros", [False, True])
def test_partial_fit_predict_equals_a_loop_over_rows(params, zeros, log):
    X, y = log[:300], np.ones(300)
    if zeros:  # some rows do not count
        y[::3] = 0
    for start in (0, 150):
        whole, model = (make(**params) for _ in range(2))
        if start:
            whole.fit(X[:start], y[:start])
            model.fit(X[:start], y[:start])
        at_once = whole.partial_fit_predict(X[start:], y[start:])
        one_by_one, asked = [], []
        for row in range(start, len(X)):
            known = row > 0 and X[row, 0] in X[:row, 0] and X[row, 1] in X[:row, 1]
            asked.append(model.predict(X[[row]])[0] if known else np.nan)
            one_by_one.append(model.partial_fit_predict(X[[row]], y[[row]])[0])
        assert_array_equal(one_by_one, at_once)
        assert_array_equal(whole.predict(X), model.predict(X))
        known = np.isfinite(asked)
        assert known.sum() > 60
        assert_allclose(np.array(asked)[known], at_once[known], rtol=1e-5, atol=1e-5)


@forms
def test_a_score_does_not_depend_on_its_own_or_later_rows(params, log):
    first, rows = log[:300], log[300:400]
    plain = make(**params).fit(first).partial_fit_predict(rows)
    for cut in (0, 1, 50):
        changed = rows.copy()
        changed[cut:, 0], changed[cut:, 1] = 5, 999  # of other users, and of a new item
        changed[cut:, 2] += 10**7
        said = make(**params).fit(first).partial_fit_predict(changed)
        assert_array_equal(said[:cut], plain[:cut])
        weight = np.where(np.arange(100) < cut, 1.0, 7.0)
        weighted = make(**params).fit(first).partial_fit_predict(rows, sample_weight=weight)
        assert_array_equal(weighted[: cut + 1], plain[: cut + 1])
        assert (weighted[cut + 1 :] != plain[cut + 1 :]).any()


@forms
def test_rows_of_weight_0_are_as_if_left_out(params, log):
    X, late, rng = log[:400], log[400:], np.random.default_rng(3)
    more = X[rng.permutation(400)[:100]]  # known ids
    weight = np.append(np.ones(400), np.zeros(100))
    for given in ({"sample_weight": weight}, {"y": weight}, {"y": weight - 0.5}):
        plain, model = make(**params).fit(X), make(**params)
        model.fit(np.concatenate([X, more]), **given)
        assert_array_equal(model.predict(log), plain.predict(log))
        rows = np.concatenate([late, more])
        order = rng.permutation(len(rows))
        given = {name: np.append(np.ones(200), value[400:])[order] for name, value in given.items()}
        model.partial_fit(rows[order], **given)
        plain.partial_fit(rows[order[order < 200]])
        assert_array_equal(model.predict(log), plain.predict(log))
    with pytest.raises(ValueError, match="no row is positive"):
        make(**params).fit(X, np.zeros(400))
    said = model.predict(log)
    assert_array_equal(model.partial_fit(late, np.zeros(200)).predict(log), said)


@pytest.mark.parametrize("y", [1.0, 0.0])
def test_habits_do_not_depend_on_the_label(y):
    """The score of a row is the same, whether the row is a positive or not."""
    X = np.array([[0, 1, 0], [0, 1, DAY], [0, 2, DAY], [0, 1, 2 * DAY]])
    model = make(history_half_life=2, habit_half_life=30).fit(X, np.ones(4))
    row = [[0, 1, 3 * DAY]]
    said = model.predict(row)
    assert said > 8
    assert_allclose(model.partial_fit_predict(row, [y]), said, rtol=1e-6)


# ------------------------------------------------------------------------------ state


@forms
def test_same_seed_same_model(params, log):
    said = []
    for seed in (0, 0, 1):
        model = make(**params, random_state=seed).fit(log[:400])
        model.partial_fit(log[400:500]).partial_fit_predict(log[500:])
        said.append(model.predict(log))
    assert_array_equal(said[0], said[1])
    assert (said[0] != said[2]).any()


@forms
def test_a_saved_model_goes_on_alike(params, log):
    model = make(**params).fit(log[:300])
    model.partial_fit(log[300:400])
    copies = [pickle.loads(pickle.dumps(model)), make(**params).fit(log[:5])]
    copies[1]._model.load_state(pickle.loads(pickle.dumps(model._model.state())))
    expected = model.partial_fit_predict(log[400:])
    for other in copies:
        assert_array_equal(other.partial_fit_predict(log[400:]), expected)
        assert_array_equal(other.predict(log), model.predict(log))


@forms
def test_a_failed_call_changes_nothing(params, log, monkeypatch):
    learn = kernels.softmax_pass

    def learn_and_fail(*arguments):
        learn(*arguments)
        raise RuntimeError("half way")

    model = make(**params).fit(log[:300])
    twin = pickle.loads(pickle.dumps(model))
    later = log[300:400].copy()
    later[:5, 0], later[:5, 1] = 888, 999
    for n in (1, 100):  # few rows of the tables are kept, or all
        for rows in (later[:n], np.repeat(later, 4, axis=0)):
            with monkeypatch.context() as patch:
                patch.setattr(kernels, "softmax_pass", learn_and_fail)
                with pytest.raises(RuntimeError, match="half way"):
                    model.partial_fit(rows)
    assert_array_equal(model.predict(log), twin.predict(log))
    assert_array_equal(model.partial_fit_predict(later), twin.partial_fit_predict(later))


@forms
def test_forget(params, log):
    model = make(**params).fit(log)
    others = log[log[:, 0] != 7]
    said, recent = model.predict(others), len(model.module_.arrays()["recent"])
    model.forget([7])
    assert_array_equal(model.predict(others), said)
    assert len(model.module_.arrays()["recent"]) == recent - 1
    mine = log[log[:, 0] == 7]
    mine[:, 0] = 12345
    unknown = model.predict(mine)
    mine[:, 0] = 7
    assert_array_equal(model.predict(mine), unknown)


def test_threads_learn_as_well(tastes):
    for params in (FORMS["bag"], FORMS["next"]):
        model = make(**params, n_jobs=2, max_epochs=8).fit(np.tile(tastes, (8, 1)))
        items, _ = model.recommend(np.arange(60), n_recommendations=5, exclude_seen=False)
        assert (items % 2 == np.arange(60)[:, None] % 2).mean() > 0.95


# ------------------------------------------------------------------------- parameters


def test_bad_parameters_raise(log):
    for bad in ({"history_half_life": 0}, {"popularity_weight": -1}):
        with pytest.raises(InvalidParameterError, match=f"'{next(iter(bad))}' parameter"):
            make(**bad).fit(log)
    for bad, message in (
        ({"solver": "adam"}, "loss='softmax' needs solver='sgd'"),
        ({"replay_size": 5}, "replay_size=5: loss='softmax' stores no rows"),
        ({"loss": "bpr", "history_half_life": 2}, "history_half_life: only loss='softmax'"),
        ({"loss": "bpr", "popularity_weight": 1}, "popularity_weight: only loss='softmax'"),
        ({"loss": "log_loss", "habit_half_life": 2}, "habit_half_life: only loss='bpr' and"),
    ):
        with pytest.raises(ValueError, match=message):
            make(**bad).fit(log)


@pytest.mark.parametrize("name", ["history_half_life", "popularity_weight"])
def test_parameters_of_the_model_are_fixed_by_fit(name, log):
    model = make().fit(log).set_params(**{name: 3})
    with pytest.raises(ValueError, match=name):
        model.partial_fit(log[:5])


def test_lists_and_predictions_of_one_call_are_those_of_single_calls():
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.integers(0, 9, 120), rng.geometric(0.2, 120), np.arange(120)])
    model = IncrementalMFRecommender(4, loss="softmax", random_state=0).fit(X[:60])
    single = IncrementalMFRecommender(4, loss="softmax", random_state=0).fit(X[:60])
    items, y_pred = model.partial_fit_recommend(X[60:], n_recommendations=9)
    assert any(None in row for row in items)
    for row, listed, predicted in zip(X[60:], items, y_pred, strict=True):
        expected, _ = single.recommend([row[0]], n_recommendations=9, on_missing="pad")
        assert listed.tolist() == expected[0].tolist()
        assert predicted == pytest.approx(single.partial_fit_predict(row[None])[0], abs=1e-5)


@pytest.mark.parametrize("params", [{"loss": "bpr"}, {"loss": "softmax", "habit_half_life": 9}])
def test_lists_in_one_call_need_the_softmax_without_habits(params):
    assert not hasattr(IncrementalMFRecommender(**params), "partial_fit_recommend")


def test_lists_in_one_call_have_a_length():
    X = [[0, 1, 5], [0, 2, 6]]
    model = IncrementalMFRecommender(4, loss="softmax", random_state=0).fit(X)
    with pytest.raises(ValueError, match="n_recommendations"):
        model.partial_fit_recommend(X, n_recommendations=0)
    with pytest.raises(TypeError, match="n_recommendations=True: give the number of items"):
        model.partial_fit_recommend(X, n_recommendations=True)
    with pytest.raises(TypeError, match="exclude_seen must be True or False, got 'no'"):
        model.partial_fit_recommend(X, exclude_seen="no")
    assert model.n_users_ == 1
