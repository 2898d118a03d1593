"""The script for GPUs, on a processor in small."""

import json

import numpy as np
import pandas as pd
import pytest

from benchmarks.common import gpu


@pytest.fixture
def folder(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "user_id": rng.integers(0, 20, 400),
            "item_id": rng.integers(0, 40, 400),
            "rating": rng.integers(1, 6, 400),
            "timestamp": np.arange(400),
        }
    ).drop_duplicates(["user_id", "item_id"])
    (tmp_path / "ml-100k").mkdir()
    frame.to_parquet(tmp_path / "ml-100k" / "interactions.parquet")
    monkeypatch.setenv("SKLEARN_RECFT_DATA", str(tmp_path))
    return tmp_path


def test_each_run_is_a_line_and_late_runs_are_skipped(folder, capsys):
    output = folder / "lines.jsonl"
    common = ["--devices", "cpu", "--data", "ml-100k", "--epochs", "1"]
    gpu.main([*common, "--models", "dcn", "--output", str(output)])
    [line] = [json.loads(text) for text in output.read_text().splitlines()]
    assert line["hardware"] == "cpu"
    assert line["utilization"] is None
    assert 0 <= line["ndcg"] <= 1
    gpu.main([*common, "--models", "transformer", "--seconds", "0"])
    lines = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert [one.get("skipped") for one in lines] == [None, True, True]
    assert gpu.read_sample("87, 1024\n3, 5\n") == (87.0, 1024.0)


def test_training_events_come_before_the_later_ones(folder):
    train, later = gpu.split("ml-100k", None)
    assert train["timestamp"].max() < later["timestamp"].min()
    assert later["user_id"].is_unique
    assert set(later["user_id"]) <= set(train["user_id"])
