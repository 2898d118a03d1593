"""Context that is the label or the time is refused; what is merely like them is not."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator

from sklearn_recft.interactions import check_events
from sklearn_recft.suspects import refuse_leaked_label, refuse_times_as_context

rng = np.random.default_rng(0)
STARS = rng.integers(1, 6, 200).astype(float)
LIKES = (STARS > 3).astype(float)


def refuse(column, y):
    refuse_leaked_label(np.column_stack([np.zeros(len(y)), column]), ("zero", "c"), y, named=True)


@pytest.mark.parametrize(
    ("column", "y", "message"),
    [
        (STARS, STARS, r"c: this context column equals y \(all 200 rows\).*drop\(columns='c'\)"),
        (LIKES, LIKES, "equals y"),
        (LIKES[:25], LIKES[:25], "equals y"),
        (2 * STARS - 3, STARS, "correlation of size 1.0000 with y"),
        (-STARS, STARS, "correlation of size 1.0000 with y"),
        (1 - LIKES, LIKES, "correlation of size 1.0000"),
        (STARS + 0.02 * rng.normal(size=200), STARS, "correlation of size 0.99"),
        (1e30 * STARS, 1e-30 * STARS, "correlation of size 1.0000"),
        (np.where(np.arange(200) == 7, 1e9, STARS), np.where(np.arange(200) == 7, 1e9, STARS),
         "equals y"),
    ],
)  # fmt: skip
def test_a_label_among_the_context_is_refused(column, y, message):
    with pytest.raises(ValueError, match=message):
        refuse(column, y)


def test_a_leak_in_a_long_table_is_found_beyond_a_first_look():
    y = np.zeros(50_000)
    y[1:4000:100] = 1  # none of them among evenly spaced rows
    for label in (y, rng.normal(size=50_000)):
        with pytest.raises(ValueError, match=r"c: .* size 1.0000"):
            refuse(3 - label, label)
        refuse(label[::-1].copy(), label)


@pytest.mark.parametrize(
    ("column", "y"),
    [
        (STARS + 0.2 * rng.normal(size=200), STARS),
        (STARS, LIKES),
        (np.ones(200), np.ones(200)),  # every row is a positive
        (np.zeros(200), STARS),
        (STARS[:10], STARS[:10]),  # too few rows
        (np.arange(200.0) < 9, (np.arange(200) < 9).astype(float)),  # 9 rows differ
        (np.where(np.arange(200) == 7, 1e9, rng.normal(size=200)),
         np.where(np.arange(200) == 7, 1e9, STARS)),  # one row alone makes the correlation
        (np.full(200, 1e300), np.full(200, -1e300)),
    ],
)  # fmt: skip
def test_what_may_be_chance_is_accepted(column, y):
    with np.errstate(all="raise"):
        refuse(column, y)


def test_updates_and_predictions_are_not_checked():
    X = pd.DataFrame({"user_id": STARS, "item_id": LIKES, "hour": rng.normal(size=200)})
    estimator = BaseEstimator()
    check_events(estimator, X, STARS, reset=True)
    check_events(estimator, X.assign(hour=STARS), STARS, reset=False)
    check_events(estimator, X.assign(hour=STARS), reset=True)  # no label


@pytest.mark.parametrize("name", ["ts", "Date", "event_time", "created_at", "unix timestamp"])
def test_times_of_another_name_are_refused(name):
    seconds, ids = np.array([[9e8], [1.7e9]]), {"user_id": np.array([1, 1])}
    with pytest.raises(ValueError, match=rf"rename\(columns=\{{'{name}': 'timestamp'\}}\)"):
        refuse_times_as_context(seconds, (name,), ids)
    refuse_times_as_context(seconds - 9e8, (name,), ids)  # days, or hours
    refuse_times_as_context(seconds, ("phone",), ids)


def test_times_are_refused_only_where_a_frame_has_none():
    X = pd.DataFrame({"user_id": [1, 2], "item_id": [3, 4], "ts": [9e8, 9e8]})
    with pytest.raises(ValueError, match="ts: all 2 rows look like times since 1970"):
        check_events(BaseEstimator(), X, reset=True)
    check_events(BaseEstimator(), X.assign(timestamp=1), reset=True)
    check_events(BaseEstimator(), np.column_stack([X, X["ts"]]), reset=True)


@pytest.mark.parametrize("when", [["2024-05-01", "2024-05-02"], pd.to_datetime(["2024", "2025"])])
def test_dates_of_another_name_are_told_their_name(when):
    X = pd.DataFrame({"user_id": [1, 2], "item_id": [3, 4], "when": when})
    with pytest.raises(ValueError, match=r"when: not numeric .* call the column timestamp"):
        check_events(BaseEstimator(), X, reset=True)


def test_a_numbered_column_is_dropped_by_its_place():
    X = pd.DataFrame(rng.normal(size=(200, 5)).round(2), columns=[f"column_{j}" for j in range(5)])
    X["column_4"] = STARS
    with pytest.raises(ValueError, match=r"column_4: .* np.delete\(X, 4, 1\)"):
        check_events(BaseEstimator(), X, STARS, reset=True)


def test_only_learned_rows_are_checked():
    """Rows of weight 0 may have placeholders; they neither make a leak nor hide one."""
    out = np.arange(200) % 10 == 0
    X = pd.DataFrame({"user_id": STARS, "item_id": LIKES})
    weight = (~out).astype(float)
    noise = rng.normal(size=200)
    honest, y = np.where(out, -999, noise), np.where(out, -999, STARS)
    check_events(BaseEstimator(), X.assign(c=honest), y, sample_weight=weight, reset=True)
    with pytest.raises(ValueError, match=r"c: this context column equals y \(all 180 rows\)"):
        check_events(
            BaseEstimator(),
            X.assign(c=np.where(out, noise, STARS)),
            STARS,
            sample_weight=weight,
            reset=True,
        )


@pytest.mark.parametrize("name", ["release_date", "signup_time", "created_at"])
def test_a_date_of_the_user_or_the_item_is_context(name):
    X = pd.DataFrame({"user_id": [1, 1, 2, 2], "item_id": ["a", "b", "a", "c"]})
    for times in ([4e8, 4e8, 9e8, 9e8], [4e8, 6e8, 4e8, 9e8]):
        check_events(BaseEstimator(), X.assign(**{name: times}), reset=True)
    with pytest.raises(ValueError, match=f"{name}: all 4 rows look like times since 1970"):
        check_events(BaseEstimator(), X.assign(**{name: [4e8, 5e8, 6e8, 7e8]}), reset=True)
