"""The decay model: rows that it stores for rehearsal."""

import numpy as np
import pandas as pd
import pytest

from sklearn_recft import DecayBertRecommender, FineTuning
from sklearn_recft.models import OnlineFeatures

DAY = 86_400


def make_log(n=90, n_users=6, n_items=9, seed=0):
    """Make labelled rows in any time order, with many ties."""
    rng = np.random.default_rng(seed)
    times = 1.6e9 + DAY * rng.integers(0, 20, n)
    X = np.column_stack([rng.integers(0, n_users, n), rng.integers(0, n_items, n), times])
    return X, rng.integers(0, 2, n)


def make_model(replay_size, max_history=4):
    return DecayBertRecommender(
        None,
        max_history=max_history,
        n_factors=3,
        width=4,
        max_epochs=1,
        replay_size=replay_size,
        random_state=0,
        training=FineTuning(update_rate=0.2),
    )


def past_by_hand(model, X, y, row):
    """Return codes, feedback and ages of the user's last strictly earlier events, newest first."""
    earlier = np.flatnonzero((X[:, 0] == X[row, 0]) & (X[:, 2] < X[row, 2]))
    earlier = earlier[np.argsort(X[earlier, 2], kind="stable")][::-1][: model.max_history]
    codes = model._model.items.encode(X[earlier, 1].astype(int))
    return codes.tolist(), (2 * y[earlier] - 1).tolist(), ((X[row, 2] - X[earlier, 2]) / DAY)


def test_rows_of_a_fit_are_stored_with_their_past():
    """As they were learned: with the features and the history before each row."""
    X, y = make_log()
    model = make_model(replay_size=500).fit(X, y)
    fitted = model._model
    kept = fitted.reservoir.take(np.arange(len(fitted.reservoir)))
    order = np.argsort(X[:, 2], kind="stable")
    users = fitted.users.encode(X[:, 0].astype(int))
    items = fitted.items.encode(X[:, 1].astype(int))
    assert len(fitted.reservoir) == fitted.reservoir.n_offered == len(X)
    assert kept["item"].tolist() == items[order].tolist()
    assert kept["user"].tolist() == users[order].tolist()
    assert kept["target"].tolist() == [[label, 1.0] for label in y[order].tolist()]
    for place, row in enumerate(order):
        codes, feedback, age = past_by_hand(model, X, y, row)
        n = len(codes)
        assert kept["past"][place].tolist() == codes + [-1] * (model.max_history - n)
        assert kept["feedback"][place].tolist() == feedback + [0.0] * (model.max_history - n)
        assert kept["age"][place, :n] == pytest.approx(age)
        assert not kept["age"][place, n:].any()
    _, rng = np.random.default_rng(fitted.settings.seed).spawn(2)
    features = OnlineFeatures(model.n_factors, outcome=False, rng=rng)
    features.grow(fitted.n_users, fitted.n_items)
    ones = np.ones(len(X))
    expected = features.update(
        users, items, X[:, 2], label=y.astype(float), outcome=None, weight=ones, real=ones > 0
    )
    assert kept["features"].tobytes() == expected[order].tobytes()


def test_a_sample_of_many_rows_is_stored():
    X, y = make_log()
    all_rows = make_model(replay_size=500).fit(X, y)._model.reservoir
    sample = make_model(replay_size=20).fit(X, y)._model.reservoir
    assert len(sample) == 20
    assert sample.n_offered == len(X)
    names = ("item", "user", "features", "past", "age")
    known = {tuple(part.tobytes() for part in row) for row in rows_of(all_rows, names)}
    found = {tuple(part.tobytes() for part in row) for row in rows_of(sample, names)}
    assert found <= known
    assert len(found) > 15


def rows_of(reservoir, names):
    kept = reservoir.take(np.arange(len(reservoir)))
    return zip(*(kept[name] for name in names), strict=True)


def test_rows_of_an_update_join_those_of_the_fit():
    X, y = make_log()
    model = make_model(replay_size=500).fit(X, y)
    news = X[:10] + np.array([0, 0, 100 * DAY])
    model.partial_fit(news, y[:10])
    reservoir = model._model.reservoir
    assert len(reservoir) == len(X) + 10
    new = reservoir.take(np.arange(len(X), len(X) + 10))
    assert new["item"].tolist() == model._model.items.encode(news[:, 1].astype(int)).tolist()
    assert new["target"][:, 0].tolist() == y[:10].tolist()
    assert (new["past"][:, 0] >= 0).all()


def test_no_rows_are_stored_if_updates_do_not_train_the_net():
    X, y = make_log()
    model = make_model(replay_size=500).set_params(training=None).fit(X, y)
    assert len(model.partial_fit(X, y)._model.reservoir) == 0


def test_an_outcome_that_is_constant_has_no_scale():
    """The mean of equal numbers is rounded, so that their deviation is not exactly 0."""
    X, y = make_log()
    rows = pd.DataFrame(X, columns=["user_id", "item_id", "timestamp"]).assign(stars=0.1)
    model = make_model(replay_size=5).set_params(outcome="stars").fit(rows, y)
    assert model._model.outcome_scale == (pytest.approx(0.1), 1.0)
