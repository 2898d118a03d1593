"""Which columns of lists are vectors, and which vectors are missing or wrong."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from numpy.testing import assert_array_equal

from sklearn_recft.features import check_features, to_feature
from sklearn_recft.vectors import check_vectors

TABLE = np.array([[0.5, -1.0, 2.0], [0.25, 0.0, 1.0], [0.5, -1.0, 2.0]])
ARRAY = pl.Array(pl.Float32, 3)
VECTORS = {
    "lists": TABLE.tolist(),
    "tuples": list(map(tuple, TABLE.tolist())),
    "lists with integers": [[0.5, -1, 2], [0.25, 0, 1], [0.5, -1, 2]],
    "arrays": list(TABLE),
    "arrays of 32 bits": list(TABLE.astype(np.float32)),
    "a 2-d array": TABLE,
    "pandas": pd.Series(list(TABLE)),
    "polars lists": pl.Series(TABLE.tolist()),
    "polars arrays": pl.Series(TABLE.tolist(), dtype=ARRAY),
    "pyarrow": pa.array(TABLE.tolist()),
}
TABLES = {pd.Series: pd.DataFrame, pl.Series: pl.DataFrame, pa.DoubleArray: pa.table}


def read(values):
    """Return a column as it is read from a frame, if it is of a library of frames."""
    if isinstance(values, (list, np.ndarray)):
        return to_feature(values, "x")
    table = next((t for kind, t in TABLES.items() if isinstance(values, kind)), pa.table)
    return check_features(table({"user_id": range(len(values)), "x": values}), "user_id").columns[
        "x"
    ]


@pytest.mark.parametrize("case", VECTORS)
def test_lists_of_floats_of_one_width_are_vectors(case):
    column = read(VECTORS[case])
    assert (column.kind, column.levels.dtype) == ("vector", np.float32)
    assert column.data.tolist() == [0, 1, 0]  # equal vectors are stored once
    assert_array_equal(column.levels, TABLE[:2].astype(np.float32))
    assert_array_equal(column.take(np.array([1])).values, [TABLE[1].astype(np.float32)])


MISSING = {
    "none": [[0.5, 1.0], None, [0.5, 2.0]],
    "an empty list": [[0.5, 1.0], [], [0.5, 2.0]],
    "a number": [[0.5, 1.0], np.nan, [0.5, 2.0]],
    "one member": [[0.5, 1.0], [np.nan, 2.0], [0.5, 2.0]],
    "polars": pl.Series([[0.5, 1.0], None, [0.5, 2.0]], dtype=pl.Array(pl.Float64, 2)),
}


@pytest.mark.parametrize("case", MISSING)
def test_missing_vectors(case):
    column = read(MISSING[case])
    assert column.kind == "vector"
    assert column.is_missing.tolist() == [False, True, False]
    assert column.values[1] is None


CATEGORIES = {
    "integers": [[1, 2], [3, 4]],
    "whole numbers of several lengths": [[1.0, 2.0], [3.0]],
    "whole numbers and a missing one": [[1.0, np.nan], [3.0, 2.0]],
    "whole numbers one by one": [[1.0], [3.0]],
    "integers of polars": pl.Series([[1, 2], [3, 4]], dtype=pl.Array(pl.Int64, 2)),
    "strings beside numbers": [["a", 0.5], ["b", 0.5]],
}


@pytest.mark.parametrize("case", CATEGORIES)
def test_other_lists_are_sets_of_categories(case):
    assert read(CATEGORIES[case]).kind == "set"


def test_a_column_of_missing_vectors_is_missing():
    assert to_feature(np.full((2, 3), np.nan), "x").kind == "missing"


WRONG = {
    "widths": ([[0.5, 1], [0.5], [1.5, 2]], "x: 1 of 3 rows are vectors of another width than 2"),
    "infinite": ([[0.5, 1], [np.inf, 2]], "x: 1 of 2 rows are vectors with infinite numbers"),
    "huge": ([[0.5, 1e300]], "x: 1 of 1 rows are larger than float32"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_vectors_are_named(case):
    values, message = WRONG[case]
    with pytest.raises(ValueError, match=message):
        to_feature(values, "x")


def test_rows_of_a_shared_wrong_vector_are_all_counted():
    short = [0.5]
    with pytest.raises(ValueError, match="2 of 5 rows are vectors of another width than 2"):
        to_feature([[0.5, 1.0], short, [0.1, 0.2], short, [0.3, 0.4]], "x")


@pytest.mark.parametrize("read", [check_vectors, to_feature])
def test_rows_that_share_a_too_large_vector_are_all_counted(read):
    large = [1e300, 0.5]
    with pytest.raises(ValueError, match="image: 3 of 4 rows are larger than float32"):
        read([large, [0.5, 1.0], large, large], "image")
