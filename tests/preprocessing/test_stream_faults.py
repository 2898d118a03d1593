"""Bad input, interrupts and threads: what `ActivityFeatures` and `PairMeans` must survive."""

from __future__ import annotations

import pickle
from threading import Thread

import numpy as np
import pandas as pd
import pytest

from sklearn_recft.preprocessing import ActivityFeatures, PairMeans
from sklearn_recft.preprocessing._sums import Sums

DAY = 86_400
X = pd.DataFrame(
    {
        "user_id": ["ann", "ann", "bob", "ann"],
        "item_id": [1, 2, 1, 1],
        "timestamp": [0, DAY, DAY, 2 * DAY],
        "user": ["u"] * 4,
        "price": [1.0, 2.0, 3.0, 4.0],
    }
)
Y = [1.0, 0.0, 1.0, 1.0]
VECTORS = {1: [1.0, 2.0], 2: [0.0, 1.0]}
LATER = X.assign(
    user_id=["ann", "cem", "dan", "bob"], item_id=[1, 9, 2, 8], timestamp=[DAY, *[3 * DAY] * 3]
)


def activity(**parameters):
    return ActivityFeatures(amount="price", item_vectors=VECTORS, **parameters)


@pytest.mark.parametrize(
    ("features", "names"),
    [
        (ActivityFeatures(by=["user_id", "user"]), "user_count"),
        (ActivityFeatures(half_lives=[1, 1.0000001]), "user_count_1d"),
        (ActivityFeatures(by=["user_id"], amount="mean"), "user_mean"),
        (PairMeans([("user_id", "item_id"), ("user", "item_id")]), "user_item_mean"),
        (PairMeans(base=["price", "price"]), "user_item_mean_price"),
    ],
)
def test_features_of_one_name_are_refused(features, names):
    with pytest.raises(ValueError, match=f"'{names}'.*would have two columns"):
        features.fit(X.assign(mean=1.0), Y)
    assert not hasattr(features, "n_features_in_")


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (ActivityFeatures(by=[1]), "by must be a list of different columns"),
        (ActivityFeatures(half_lives=["a"]), "half_lives must be a list of different numbers"),
        (PairMeans(base=[]), "base must name something"),
        (ActivityFeatures(item_vectors={None: [1.0]}), "item_vectors: 1 of 1 rows are missing"),
    ],
)
def test_bad_parameters_are_named(features, message):
    with pytest.raises(ValueError, match=message):
        features.fit(X, Y)


@pytest.mark.parametrize("features", [ActivityFeatures(amount="price"), PairMeans(base="price")])
@pytest.mark.parametrize("column", ["price", "y"])
def test_numbers_whose_sums_overflow_are_refused(features, column):
    features.fit(X, Y)
    before = features.transform(X)
    huge = [1.0, 1e300, 0.0, 1e308]
    X_new, y = (X.assign(price=huge), Y) if column == "price" else (X, huge)
    with pytest.raises(ValueError, match=rf"{column}: 2 of 4 rows are larger .* \(7.9e\+28\)"):
        features.partial_fit(X_new, y)
    assert np.array_equal(features.transform(X), before, equal_nan=True)


def test_huge_vectors_have_the_same_cosine():
    huge = {item: np.multiply(1e200, vector) for item, vector in VECTORS.items()}
    found = [ActivityFeatures(item_vectors=v).fit_transform(X)[:, -1] for v in (VECTORS, huge)]
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6)
    assert found[0].any()


@pytest.mark.parametrize("max_keys", [None, 2])
@pytest.mark.parametrize("make", [activity, PairMeans])
def test_an_interrupt_changes_nothing(make, max_keys, monkeypatch):
    features = make(max_keys=max_keys).fit(X, Y)
    before, size = pickle.dumps(features), len(vars(features))
    expected = pickle.loads(before).partial_fit(LATER, Y)
    update, n_calls = Sums.update, [0]

    def interrupted(self, *rows):
        found = update(self, *rows)
        n_calls[0] -= 1
        if not n_calls[0]:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(Sums, "update", interrupted)
    for place in (1, 2, 3):  # after that many tables have changed
        n_calls[0] = place
        with pytest.raises(KeyboardInterrupt):
            features.partial_fit(LATER, Y)
        assert pickle.dumps(features) == before
        assert len(vars(features)) == size
    features.partial_fit(LATER, Y)
    assert np.array_equal(features.transform(LATER), expected.transform(LATER), equal_nan=True)


def test_an_interrupt_of_the_last_part_changes_nothing(monkeypatch):
    features = activity().fit(X, Y)
    before = pickle.dumps(features)
    whole = type(features._state).update

    def interrupted(self, *rows):
        whole(self, *rows)
        raise KeyboardInterrupt

    monkeypatch.setattr(type(features._state), "update", interrupted)
    for rows in (LATER, X.assign(user_id=list("abcd"), timestamp=9 * DAY)):
        with pytest.raises(KeyboardInterrupt):
            features.partial_fit(rows, Y)
        assert pickle.dumps(features) == before
    with pytest.raises(KeyboardInterrupt):
        features.fit(LATER.drop(columns="user"), Y)
    assert pickle.dumps(features) == before


def test_a_thread_never_reads_half_of_a_call(monkeypatch):
    features = activity().fit(X, Y)
    update, found = Sums.update, []
    reader = Thread(target=lambda: found.append(features.transform(LATER)))

    def slow(self, *rows):
        answer = update(self, *rows)
        if reader.ident is None:  # after the first of several tables
            reader.start()
            reader.join(0.2)
        return answer

    monkeypatch.setattr(Sums, "update", slow)
    features.partial_fit(LATER, Y)
    reader.join()
    assert np.array_equal(found[0], features.transform(LATER), equal_nan=True)


@pytest.mark.parametrize("passthrough", [True, False])
def test_passthrough_that_is_set_after_fit_counts_from_the_next_fit(passthrough):
    features = activity(passthrough=passthrough).fit(X, Y)
    before, names = features.transform(LATER), features.get_feature_names_out().tolist()
    features.set_params(passthrough=not passthrough)
    assert np.shape(features.transform(LATER)) == np.shape(before)
    assert features.get_feature_names_out().tolist() == names
    assert np.shape(features.partial_fit_transform(LATER, Y)) == np.shape(before)
    assert np.shape(features.fit(X, Y).transform(LATER)) != np.shape(before)
