"""The benchmark of the sampled softmax on small logs: what is read, chosen and counted."""

import json

import numpy as np
import pandas as pd
import pytest

from benchmarks.common.events import COLUMNS, tasks
from benchmarks.leaderboard.grid import BUDGET
from benchmarks.softmax import bench_softmax, logs, rivals
from sklearn_recft import IncrementalMFRecommender


def test_sequences_keep_the_order_of_the_line(tmp_path):
    path = tmp_path / "log.txt"
    path.write_text("7 3 1 2\n8 2\n", encoding="utf-8")
    frame = logs.sequences(path)
    assert list(frame.columns) == COLUMNS
    assert frame.to_numpy().tolist() == [[7, 3, 0], [7, 1, 1], [7, 2, 2], [8, 2, 0]]


def test_only_liked_films_are_positives(tmp_path, monkeypatch):
    folder = tmp_path / "ml-latest-small"
    folder.mkdir()
    rows = [(1, 5, 4.0, 10), (1, 6, 3.5, 11), (2, 5, 4.5, 12)]
    pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "timestamp"]).to_parquet(
        folder / "interactions.parquet"
    )
    monkeypatch.setenv("SKLEARN_RECFT_DATA", str(tmp_path))
    assert logs.events_of("ml-latest-small").to_numpy().tolist() == [[1, 5, 10], [2, 5, 12]]


def test_logs_without_times_have_no_timeline():
    assert logs.protocols_of("lastfm") == ("leave-last-out",)
    assert logs.protocols_of("groceries") == ("timeline", "leave-last-out")


@pytest.mark.parametrize("data", ["ml-1m", "groceries"])
def test_every_rival_has_the_budget_of_the_leaderboard(data):
    for name, model in rivals.RIVALS.items():
        tried = rivals.tried_settings(data, name)
        assert len(tried) == BUDGET
        known = model.get_params().keys() | {"once"}
        assert all(setting.keys() <= known for setting in tried)


def test_a_rival_is_chosen_on_the_rows_it_is_given(monkeypatch):
    monkeypatch.setattr(bench_softmax, "rival", lambda *given: (given[2].get("window", 0), 0.0))
    chosen = bench_softmax.best_setting("Popularity, recent", "lastfm", None, 0)
    assert chosen == {"window": 30}


def test_unlisted_logs_have_no_chosen_settings():
    assert rivals.chosen_settings("lastfm", "leave-last-out") == {}
    assert rivals.chosen_settings("ml-1m", "timeline")["EASE"]


def made(n_rows=600):
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, 30, n_rows), rng.geometric(0.1, n_rows)
    return pd.DataFrame({"user_id": users, "item_id": items, "timestamp": np.arange(n_rows)})


def test_the_best_of_validation_is_reported_with_every_seed(monkeypatch, capsys):
    options = type("Options", (), {"seed": [0, 1]})
    values = iter([0.1, 0.3, 0.2, 0.7, 0.8])
    monkeypatch.setattr(bench_softmax, "run", lambda model, task: (next(values), 0.0))
    grid = ({}, {"half_life": 7}, {"half_life": 30})
    pair = tasks(made(), "timeline", True)
    bench_softmax.choose(options, ("timeline", "made", "softmax"), pair, grid)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["ndcg"] for line in lines] == [0.1, 0.3, 0.2, 0.7, 0.8]
    assert [line["task"] for line in lines] == ["timeline validation"] * 3 + ["timeline test"] * 2
    assert all(line["params"] == {"half_life": 7} for line in lines[3:])


def test_the_walk_counts_lists_with_the_event(monkeypatch):
    X = made(1200).to_numpy()
    model = IncrementalMFRecommender(4, "softmax", random_state=0)
    recall, rate = bench_softmax.walk(model, X, 900)
    twin = IncrementalMFRecommender(4, "softmax", random_state=0).fit(X[:900])
    hits = 0
    for event in X[900:]:
        items, _ = twin.recommend([event[0]], n_recommendations=10, on_missing="pad")
        hits += event[1] in items[0]
        twin.partial_fit_predict(event[None])
    assert recall == pytest.approx(hits / 300)
    assert hits > 0
    assert rate > 0
