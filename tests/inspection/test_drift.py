"""DriftMonitor: alarms, its reading of estimators, and its errors."""

import numpy as np
import pytest

from sklearn_recft import BiasRecommender, IncrementalMFRecommender
from sklearn_recft.datasets import make_interactions
from sklearn_recft.inspection import DriftMonitor
from sklearn_recft.model_selection import iter_prequential, prequential_score

pytest.importorskip("river")
N = 12_000


@pytest.fixture(scope="module")
def turned():
    log = make_interactions(60, 50, N, drift="abrupt", noise=0.3, random_state=0)
    return log.data, log.target


def errors(rng, n, factor):
    slow, fast = rng.chisquare(1, (2, n))
    return slow * factor, fast


def test_alarm_when_the_fast_learner_gets_better():
    rng = np.random.default_rng(0)
    monitor = DriftMonitor().update(*errors(rng, 8000, 1.0))
    assert monitor.alarms_ == []
    assert not monitor.drift_detected
    monitor.update(*errors(rng, 2000, 1.6), timestamp=7.0)
    (alarm,) = monitor.alarms_
    assert 8000 < alarm.event < 9000
    assert alarm.timestamp == 7.0
    assert alarm.after > alarm.before
    assert monitor.drift_detected
    assert monitor.n_events_ == 10_000 // 32 * 32


def test_alarms_do_not_depend_on_how_the_stream_is_cut():
    rng = np.random.default_rng(0)
    slow, fast = (np.concatenate(each) for each in
                  zip(errors(rng, 4000, 1), errors(rng, 3000, 2), strict=True))  # fmt: skip
    whole, cut = DriftMonitor().update(slow, fast), DriftMonitor()
    for rows in np.array_split(np.arange(7000), 61):
        cut.update(slow[rows], fast[rows])
    assert [alarm.event for alarm in whole.alarms_] == [alarm.event for alarm in cut.alarms_]
    assert whole.alarms_


def test_alarms_are_bounded():
    monitor = DriftMonitor(max_alarms=2)
    rng = np.random.default_rng(0)
    for factor in (1, 3) * 4:
        monitor.update(*errors(rng, 3000, factor))
    first, second = monitor.alarms_
    assert 12_000 < first.event < second.event


@pytest.mark.parametrize("chunk_size", [1, 500])
def test_it_reads_an_estimator_of_two_speeds(chunk_size, turned):
    X, y = turned
    model = IncrementalMFRecommender(8, max_epochs=10, drift="follow", random_state=0)
    monitor = DriftMonitor()
    result = prequential_score(model, X, y, warm_up=3000, chunk_size=chunk_size, monitors=[monitor])
    assert monitor.n_events_ == (N - 3000) // 32 * 32 == 32 * result.estimator.drift_.n_blocks
    places = [3000 + alarm.event for alarm in monitor.alarms_]
    assert any(N // 2 < place < N // 2 + 2000 for place in places)


def test_a_reference_serves_any_estimator(turned):
    X, y = turned
    reference = IncrementalMFRecommender(8, max_epochs=10, random_state=0)
    monitor = DriftMonitor(reference)
    options = {"warm_up": 3000, "chunk_size": 500}
    alone = prequential_score(BiasRecommender(), X, y, **options)
    watched = prequential_score(BiasRecommender(), X, y, monitors=[monitor], **options)
    assert watched.metrics == alone.metrics
    assert reference.n_users_ == 60  # it has learned the warm-up
    truth = y[3000:]
    other = IncrementalMFRecommender(8, max_epochs=10, random_state=0).fit(X[:3000], y[:3000])
    found = np.concatenate([step.predictions for step in watched.steps])
    by_hand = DriftMonitor().update(
        (found - truth) ** 2, (other.partial_fit_predict(X[3000:], truth) - truth) ** 2
    )
    assert [a.event for a in by_hand.alarms_] == [a.event for a in monitor.alarms_]


def test_monitors_see_each_row_once_in_time_order(turned):
    X, y = turned

    class Log:
        def __init__(self):
            self.rows, self.known = [], []

        def begin(self, X, y):
            self.rows.append((X, y))

        def after_step(self, estimator, X, y, step):
            self.rows.append((X, y))
            self.known.append(step.n_rows)

    log, order = Log(), np.random.default_rng(0).permutation(2000)
    steps = iter_prequential(
        BiasRecommender(), X[order], y[order], warm_up=500, chunk_size=400, monitors=[log]
    )
    assert [step.n_rows for step in steps] == log.known
    seen = np.concatenate([rows for rows, _ in log.rows])
    np.testing.assert_array_equal(seen[:, 2], np.sort(X[:2000, 2]))
    assert sum(len(labels) for _, labels in log.rows) == 2000


def test_errors(turned):
    X, y = turned
    with pytest.raises(ValueError, match="has one speed: set its drift='follow'"):
        prequential_score(
            BiasRecommender(), X[:900], y[:900], warm_up=500, monitors=[DriftMonitor()]
        )
    monitor = DriftMonitor()
    with pytest.raises(ValueError, match="errors_slow: 1 of 40 rows"):
        monitor.update(np.r_[np.nan, np.ones(39)], np.ones(40))
    assert monitor.n_events_ == 0
    for bad in ({"delta": 0}, {"max_alarms": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(bad))} must be"):
            DriftMonitor(**bad)


def test_wrong_types_are_named(turned):
    for bad in ({"delta": "a"}, {"max_alarms": 2.5}, {"max_alarms": True}):
        with pytest.raises(ValueError, match=f"{next(iter(bad))} must be"):
            DriftMonitor(**bad)
    for reference in (3, BiasRecommender):
        with pytest.raises(TypeError, match="reference must be an estimator"):
            DriftMonitor(reference)
    monitor = DriftMonitor()
    for slow, message in (
        ([1e300], "errors_slow: 1 of 1"),
        ([1, 2], "has 2 events"),
        (1, "column"),
    ):
        with pytest.raises(ValueError, match=message):
            monitor.update(slow, [1])
    X, y = turned
    for wrong in (DriftMonitor(), [3], DriftMonitor):
        with pytest.raises(TypeError, match="monitors must be a sequence"):
            prequential_score(BiasRecommender(), X, y, warm_up=500, monitors=wrong)


def test_monitors_may_be_a_generator(turned):
    X, y = turned
    monitor = DriftMonitor(BiasRecommender())
    prequential_score(
        BiasRecommender(), X[:900], y[:900], warm_up=500, monitors=(m for m in [monitor])
    )
    assert monitor.n_events_ == 384
