"""The closed loop of the benchmark: what is learned when, and what is reported."""

import json

import numpy as np
import pandas as pd
import pytest

from benchmarks.closed_loop import bench_closed_loop as bench
from benchmarks.closed_loop import loop

SETTING = loop.Setting(n_users=10, n_items=15, n_days=10, n_lists=10, n_rounds=2, n_first=20)


class Notes:
    """Notes down the rows it learns, and recommends the same items to everyone."""

    def get_params(self, deep=True):
        return {}

    def __sklearn_clone__(self):
        return Notes()

    def fit(self, X, y=None):
        self.calls = [("fit", len(X))]
        return self

    def partial_fit(self, X, y=None):
        self.calls.append(("partial_fit", len(X)))
        return self

    def recommend(self, X, *, n_recommendations, **options):
        self.calls.append(("recommend", len(X)))
        return np.tile(np.arange(n_recommendations), (len(X), 1)), None


@pytest.mark.parametrize(
    ("learn", "window", "expected"),
    [
        ("never", None, [("fit", 200), *[("recommend", 5)] * 20]),
        ("online", None, [("fit", 200), *[("recommend", 5), ("partial_fit", 50)] * 20]),
        ("nightly", None, [("fit", 200 + 10 * 100)]),
        ("nightly", 3, [("fit", 3 * 100)]),
    ],
)
def test_a_learner_learns_when_it_should(learn, window, expected):
    learner = loop.Learner(Notes(), learn, window)
    days = loop.simulate(learner, SETTING, seed=0)
    assert learner.model.calls == expected
    assert days["day"].tolist() == list(range(10))
    assert (days["clicks"] < days["best"]).all()
    assert learner.seconds > 0


def test_positives_are_clicks_without_feedback():
    shown = pd.DataFrame({"user_id": [1, 1], "item_id": [2, 3], "timestamp": [5, 5]})
    shown["clicked"] = [0, 1]
    X, y = loop.Learner(Notes(), positives=True).feedback(shown)
    assert X.to_numpy().tolist() == [[1, 3, 5]]
    assert y is None
    assert loop.Learner(Notes()).feedback(shown).y.tolist() == [0, 1]


def test_recovery_is_counted_from_the_turn():
    clicks = np.r_[np.full(10, 2.0), 0.5, 1.0, 1.5, 1.7, np.full(6, 2.0)]
    assert loop.recovery(clicks) == 3
    assert np.isnan(loop.recovery(np.r_[np.full(10, 2.0), np.full(10, 1.0)]))


def test_a_replay_visits_every_tenth_event_of_a_user_in_order():
    log = pd.DataFrame({"user_id": np.tile([0, 1], 45), "item_id": np.arange(90) % 12})
    log["timestamp"] = np.arange(90) + 1_000_000_000
    rounds = list(loop.rounds_of_replay(log, start=40, size=4))
    visits = pd.concat(rounds)
    assert [len(part) for part in rounds] == [4, 2]
    assert visits["timestamp"].is_monotonic_increasing
    assert (visits["timestamp"] - 1_000_000_000).tolist() == [40, 41, 60, 61, 80, 81]
    learner = loop.Learner(Notes(), "online", positives=True)
    clicks = loop.replay(learner, log, seed=0, start=40, size=4, night=2)
    assert len(clicks) == 6
    assert (clicks > 0).all()


def test_the_off_policy_report_finds_bias_and_coverage(capsys):
    estimates = [bench.ips_value([c, 1], [1, 1], [1, 1]) for c in (0, 1)]
    bench.report("task", {"ips": estimates}, truth=0.75, seed=0, size=2)
    line = json.loads(capsys.readouterr().out)
    assert line["bias"] == 0
    assert line["rmse"] == 0.25
    assert line["coverage"] == 0.5


def test_a_line_and_a_curve_for_every_learner(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "Setting", lambda: SETTING)
    curves = tmp_path / "curves.jsonl"
    arguments = ["--task", "simulated", "--seeds", "0", "--only", "frozen", "online"]
    bench.main([*arguments, "--curves", str(curves)])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["model"] for line in lines] == ["frozen", "online"]
    assert all(line["regret"] > 0 for line in lines)
    kept = [json.loads(line) for line in curves.read_text().splitlines()]
    assert [len(line["clicks"]) for line in kept] == [10, 10]
