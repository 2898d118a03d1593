"""Bad input and bad rules of `clean_interactions`."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

from sklearn_recft.preprocessing import InteractionCleaner, clean_interactions

X = pd.DataFrame(
    {
        "user_id": ["a", "a", "b", "a"],
        "item_id": [1, 2, 1, 1],
        "timestamp": [0, 86_400, 86_400, 172_800],
        "q": [1.0, np.nan, -1.0, 5.0],
    }
)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"max_per_day": 0}, "'max_per_day' parameter of clean_interactions must be an int"),
        ({"max_per_hour": 1.5}, "'max_per_hour' parameter"),
        ({"min_per_user": "2"}, "'min_per_user' parameter"),
        ({"valid": [("q", (0, 1))]}, "'valid' parameter"),
        ({"valid": {"q": 5}}, r"the rule of q must be \(lowest, highest\)"),
        ({"valid": {"q": (5,)}}, r"the rule of q must be \(lowest, highest\)"),
        ({"quantiles": {"q": 0.5}}, "the bounds of q must be two numbers"),
        ({"quantiles": {"q": (0, 2)}}, "the bounds of q must be two numbers"),
        ({"quantiles": {"q": (0.9, 0.1)}}, "the bounds of q must be two numbers"),
        ({"quantiles": {"q": (None, 0.9)}}, "the bounds of q must be two numbers"),
    ],
)
def test_bad_rules_are_named(rules, message):
    with pytest.raises(ValueError, match=message):
        clean_interactions(X, **rules)
    with pytest.raises(
        ValueError, match=message.replace("clean_interactions", "InteractionCleaner")
    ):
        InteractionCleaner(**rules).fit_resample(X)


@pytest.mark.parametrize("cell", [{"a"}, {"a": 1}, [["a"]], ["a", {"b": 1}], np.ones(2)])
def test_cells_of_any_type_can_be_duplicates(cell):
    cells = np.empty(3, object)
    for row in range(3):
        cells[row] = cell if row < 2 else "other"
    rows = pd.DataFrame({"user_id": [1, 1, 1], "item_id": [2, 2, 2], "cell": cells})
    assert clean_interactions(rows).report.rows.tolist() == [0, 2]


def test_long_arrays_that_differ_are_no_duplicates():
    cells = np.empty(2, object)
    cells[0], cells[1] = np.zeros(2000), np.eye(1, 2000, 1000)[0]  # of one repr
    rows = pd.DataFrame({"user_id": [1, 1], "item_id": [2, 2], "cell": cells})
    assert clean_interactions(rows).report.rows.tolist() == [0, 1]


def test_a_column_y_of_X_is_not_the_feedback():
    rows = pd.DataFrame({"user_id": [1, 1, 1], "item_id": [1, 1, 1], "y": [1, 2, 2]})
    assert clean_interactions(rows, [1, 1, 1]).report.rows.tolist() == [0, 1]
    assert clean_interactions(rows, [1, 1, 2]).report.rows.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="y: X has a column of this name too"):
        clean_interactions(rows, [1, 1, 1], valid={"y": (0, 1)})


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame])
def test_y_may_be_a_frame_of_one_column(make):
    cleaned = clean_interactions(X, make({"y": [1, 2, 0, 3]}), valid={"y": (1, None)})
    assert isinstance(cleaned.y, make)
    assert cleaned.report.rows.tolist() == [0, 1, 3]
    assert cleaned.y.shape == (3, 1)


def test_y_and_weights_are_one_column():
    for y in (np.ones((4, 2)), 1.0):
        with pytest.raises(ValueError, match="should be a 1d array"):
            clean_interactions(X, y)
    with pytest.raises(ValueError, match="sample_weight should be a 1d array"):
        clean_interactions(X, None, 1.0)


def test_infinite_ids_are_missing_and_lists_are_no_ids():
    report = clean_interactions(X.assign(user_id=[1.0, np.inf, np.nan, 2.0])).report
    assert report.rows.tolist() == [0, 3]
    with pytest.raises(TypeError, match=r"user_id: .*hashable"):
        clean_interactions(X.assign(user_id=[["a"]] * 4))


def test_quantiles_are_those_of_finite_numbers():
    rows = X.assign(q=[np.inf, 1.0, 2.0, 3.0])
    assert clean_interactions(rows, quantiles={"q": (0, 0.9)}).report.rows.tolist() == [1, 2]
    with pytest.raises(ValueError, match="none of 4 rows of q is a finite number"):
        clean_interactions(X.assign(q=np.nan), quantiles={"q": (0, 0.9)})


def test_a_bound_that_is_no_date_is_named():
    rows = X.assign(timestamp=pd.to_datetime(X["timestamp"], unit="s"))
    with pytest.raises(ValueError, match=r"timestamp cannot be compared with .*noon"):
        clean_interactions(rows, valid={"timestamp": ("noon", None)})
