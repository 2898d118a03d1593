"""Few-shot likes from titles: examples, features without the own label, and the fit."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import LogisticRegression

from benchmarks.decay import liked_titles as bench

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def events():
    n = 300
    return pd.DataFrame(
        {
            "user_id": RNG.permutation(np.repeat(np.arange(12), 25)),
            "film": RNG.integers(0, 30, n),
            "like": RNG.integers(0, 2, n),
            "timestamp": RNG.integers(0, 100, n),
        }
    )


@pytest.fixture(scope="module")
def films():
    return bench.Films([f"film {n}" for n in range(30)], RNG.integers(1930, 1998, 30).astype(float))


def test_an_example_is_ten_judgements_and_the_next_one(events):
    examples = bench.examples_of(events, "time")
    assert len(examples) == 300 - 12 * 10
    assert (np.diff(examples.time) >= 0).all()
    for row in (0, 50, 179):
        own = events[events["user_id"] == examples.user[row]]
        own = own.sort_values("timestamp", kind="stable").reset_index(drop=True)
        place = next(
            last
            for last in range(10, 25)
            if own["timestamp"][last] == examples.time[row]
            and own["film"][last - 10 : last].tolist() == examples.past[row].tolist()
        )
        assert own["film"][place] == examples.film[row]
        assert own["like"][place] == examples.like[row]
        assert own["like"][place - 10 : place].tolist() == examples.past_like[row].tolist()
    assert [len(part) for part in examples.parts()] == [144, 18, 18]
    records = bench.examples_of(events, "records")
    users = records.user[np.r_[True, np.diff(records.user) != 0]]
    assert_array_equal(users, events["user_id"].unique())


def test_features_of_a_training_row_do_not_hold_its_label(events, films):
    train = bench.examples_of(events, "time").take(np.arange(40))
    vectors = bench.whitened(RNG.normal(size=(30, 8)))
    flipped = bench.Examples(**{**vars(train), "like": train.like.copy()})
    flipped.like[7] = 1 - flipped.like[7]
    inputs = []
    for examples in (train, flipped):
        head = bench.Head(films, vectors, ("rate", "counts", "years"), 0.3).fit(examples)
        own = examples.like - examples.past_like.mean(1)
        inputs.append(head._inputs(examples, own)[7])
    assert_allclose(inputs[0], inputs[1], rtol=1e-12)


def test_the_prior_is_a_penalty_around_its_mean():
    inputs = RNG.normal(size=(80, 3))
    label = (inputs[:, 0] + RNG.normal(size=80) > 0).astype(int)
    found = bench.map_logistic(inputs, label, np.zeros(3), np.full(3, 0.5))
    other = LogisticRegression(C=0.25, fit_intercept=False, tol=1e-10).fit(inputs, label)
    assert_allclose(found, other.coef_[0], atol=1e-5)
    assert_allclose(bench.map_logistic(inputs, label, np.ones(3), np.full(3, 1e-4)), 1, atol=1e-3)


def test_earlier_ratings_end_before_the_example(events):
    examples = bench.examples_of(events, "time")
    before = bench.earlier_film_rate(events, examples)
    later = events.assign(like=np.where(events["timestamp"] >= 50, 1, events["like"]))
    rows = examples.time <= 50
    mean = events["like"].mean(), later["like"].mean()
    after = bench.earlier_film_rate(later, examples)
    n = np.array(
        [
            ((events["film"] == film) & (events["timestamp"] < time)).sum()
            for film, time in zip(examples.film, examples.time, strict=True)
        ]
    )
    shrunk = bench.PRIOR_COUNT * (mean[1] - mean[0]) / (n + bench.PRIOR_COUNT)
    assert_allclose((after - before)[rows], shrunk[rows], atol=1e-12)
