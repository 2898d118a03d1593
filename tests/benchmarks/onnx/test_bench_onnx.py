"""The benchmark of ONNX graphs and students: neighbours, cuts of the log, and what it prints."""

import json

import numpy as np
import pandas as pd
import pytest

from benchmarks.decay.log import Log
from benchmarks.onnx.bench_onnx import kept, neighbours
from benchmarks.onnx.students import cut_by_time, cut_by_user, distill_task
from sklearn_recft.datasets import make_interactions


@pytest.fixture(scope="module")
def log():
    """Four hundred ratings in the order of time."""
    data = make_interactions(20, 30, 400, random_state=0)
    X = pd.DataFrame(data.data, columns=["user_id", "item_id", "timestamp"])
    X["rating"] = np.clip(np.round(data.target + 3), 1, 5)
    X = X.sort_values("timestamp", kind="stable", ignore_index=True)
    return Log("tiny", X, (X["rating"] >= 4).to_numpy().astype(int), X[["item_id"]])


def test_neighbours_are_those_of_the_largest_cosines():
    vectors = np.random.default_rng(0).normal(size=(40, 8))
    found = neighbours(vectors)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for row, near in enumerate(found):
        order = [n for n in np.argsort(-(unit @ unit[row])) if n != row]
        assert set(near) == set(order[:10])
    assert kept(found, found) == 1
    assert kept(np.array([[0, 1]]), np.array([[1, 2]])) == 0.5


def test_the_last_rows_of_users_or_of_time_are_for_tests(log):
    for cut in (cut_by_user, cut_by_time):
        parts = cut(log)
        assert sorted(np.concatenate(parts)) == list(range(400))
    train, validation, test = (log.X.iloc[part] for part in cut_by_user(log))
    for user, rows in test.groupby("user_id"):
        before = pd.concat([train, validation])
        assert rows["timestamp"].min() >= before["timestamp"][before["user_id"] == user].max()


def test_teacher_and_students_are_printed(log, capsys):
    distill_task(log, [0])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 2 * (1 + 2 * 3)
    assert {line["model"] for line in lines} == {
        "teacher", "ratings", "predictions", "ratings and predictions"
    }  # fmt: skip
    assert all(np.isfinite(line["test"]) for line in lines)
    streams = [line for line in lines if "stream_test" in line]
    assert len(streams) == 6
