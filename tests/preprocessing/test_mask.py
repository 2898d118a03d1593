"""Masked logs: coarse times, binned context, and no item of too few users."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

from sklearn_recft.preprocessing import mask_interactions


def make_log():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "age": rng.integers(18, 80, 200).astype(float),
            "user_id": rng.integers(0, 30, 200),
            "item_id": np.minimum(rng.geometric(0.08, 200), 40),
            "timestamp": pd.to_datetime(rng.integers(1.6e9, 1.61e9, 200), unit="s"),
        }
    )


def test_times_are_rounded_down_and_rows_stay():
    log = make_log()
    for unit, length in (("hour", 3600), ("day", 86_400)):
        X, report = mask_interactions(log, time=unit)
        seconds = log["timestamp"].astype("datetime64[ns]").astype(np.int64) // 10**9
        assert X["timestamp"].tolist() == (seconds // length * length).tolist()
        assert report.rows_changed["timestamp"] == (seconds % length > 0).sum()
        assert X["user_id"].tolist() == log["user_id"].tolist()


def test_every_item_left_has_enough_users_and_counts_add_up():
    log = make_log()
    users = log.groupby("item_id")["user_id"].nunique()
    X, report = mask_interactions(log, min_users_per_item=5)
    left = X[X["item_id"] != -1].groupby("item_id")["user_id"].nunique()
    assert set(left.index) == set(users[users >= 5].index)
    assert report.n_items == len(users)
    assert report.n_items_grouped == (users < 5).sum()
    assert report.rows_changed == {"item_id": (X["item_id"] == -1).sum()}
    assert report.n_users_of_other == X[X["item_id"] == -1]["user_id"].nunique()


def test_context_becomes_the_mean_of_its_bin():
    log = make_log()
    X, report = mask_interactions(log, context_bins={"age": 4})
    assert X["age"].nunique() == 4
    assert X["age"].value_counts().min() >= 40
    assert X["age"].mean() == pytest.approx(log["age"].mean())
    assert report.rows_changed["age"] > 150


def test_arrays_are_read_by_position_and_texts_are_grouped_too():
    X, _ = mask_interactions(
        [["ann", "tea", 3700], ["bob", "tea", 10], ["bob", "rye", 5]],
        time="hour", min_users_per_item=2, other="rest",
    )  # fmt: skip
    assert X.tolist() == [["ann", "tea", 3600], ["bob", "tea", 0], ["bob", "rest", 0]]
    frame = pd.DataFrame({"user_id": [1, 2, 2], "item_id": list("aab"), "text": ["x", "x", "rare"]})
    assert mask_interactions(frame, min_users_per_item=2).X["text"].tolist() == ["x", "x", "other"]


def test_nothing_asked_changes_nothing():
    log = make_log()
    assert mask_interactions(log).X is log


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"time": "week"}, "'time' parameter"),
        ({"context_bins": {"size": 3}}, "no column 'size'"),
        ({"context_bins": {"user_id": 3}}, "no column 'user_id'"),
        ({"context_bins": {"age": 0}}, "age needs a number of bins"),
        ({"min_users_per_item": 0}, "'min_users_per_item' parameter"),
        ({"min_users_per_item": 5, "other": 1}, "other=1 is the id of an item"),
    ],
)
def test_bad_input(options, message):
    log = make_log()
    before = log.copy()
    with pytest.raises(ValueError, match=message):
        mask_interactions(log, **options)
    pd.testing.assert_frame_equal(log, before)


def test_times_are_needed_to_round_them():
    with pytest.raises(ValueError, match="no column 'timestamp'"):
        mask_interactions(pd.DataFrame({"user_id": [1], "item_id": [2]}), time="day")


@pytest.mark.parametrize("other", ["rest", [1], np.nan, None, 2**70])
@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame])
def test_other_must_be_an_id_of_the_type_of_the_items(other, library):
    X = library({"user_id": [1, 2, 3], "item_id": [1, 1, 2]})
    if other is None:  # by default it is
        assert mask_interactions(X, min_users_per_item=2).X["item_id"].to_list() == [1, 1, -1]
        return
    with pytest.raises(ValueError, match="other="):
        mask_interactions(X, min_users_per_item=2, other=other)


def test_means_of_bins_do_not_overflow():
    X = pd.DataFrame({"user_id": [1, 2, 3], "item_id": 1, "age": [1e308, 1e308, -1e308]})
    X, _ = mask_interactions(X, context_bins={"age": 2})
    assert X["age"].tolist() == [1e308, 1e308, -1e308]


def test_times_are_masked_once():
    X = pd.DataFrame({"user_id": [1], "item_id": 1, "timestamp": 5.0})
    with pytest.raises(ValueError, match="timestamp is rounded by time='day'"):
        mask_interactions(X, time="day", context_bins={"timestamp": 2})
