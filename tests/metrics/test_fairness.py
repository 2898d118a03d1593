"""Means by group against loops written out, and known answers."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sklearn_recft.metrics import metric_by_group, precision_at_k

rows = st.lists(
    st.tuples(
        st.sampled_from([math.nan, 0.0, 0.1, 0.25, 1 / 3, 1.0]),
        st.sampled_from(["a", "b", 7, ("c", 1), ("c", 2)]),
    ),
    max_size=30,
)


@given(rows=rows)
def test_equals_loops(rows):
    by_group = {}
    for value, group in rows:
        mine = by_group.setdefault(group, [])
        if not math.isnan(value):
            mine.append(value)
    means = [math.fsum(mine) / len(mine) if mine else math.nan for mine in by_group.values()]
    result = metric_by_group([value for value, _ in rows], [group for _, group in rows])
    assert list(result.groups) == list(by_group)
    assert result.sizes.tolist() == list(map(len, by_group.values()))
    np.testing.assert_allclose(result.means, means, rtol=0, atol=1e-12)
    defined = [mean for mean in means if not math.isnan(mean)]
    gap = max(defined) - min(defined) if defined else math.nan
    ratio = min(defined) / max(defined) if defined and max(defined) > 0 else math.nan
    assert result.gap == pytest.approx(gap, rel=0, abs=1e-12, nan_ok=True)
    assert result.ratio == pytest.approx(ratio, rel=0, abs=1e-12, nan_ok=True)


def test_of_a_metric_per_user():
    relevant = [{1}, {1, 2}, {9}, set()]
    values = precision_at_k(relevant, [[1, 2]] * 4, k=2, per_user=True)
    result = metric_by_group(values, pd.Series(["new", "old", "old", "none"]))
    assert result.groups.tolist() == ["new", "old", "none"]
    np.testing.assert_array_equal(result.means, [0.5, 0.5, np.nan])
    assert result.sizes.tolist() == [1, 2, 0]
    assert (result.gap, result.ratio) == (0.0, 1.0)


def test_negative_means_have_a_gap_but_no_ratio():
    result = metric_by_group([-0.5, 1.0], ["a", "b"])
    assert result.gap == 1.5
    assert math.isnan(result.ratio)


def test_arrays_of_numbers_are_groups():
    result = metric_by_group([1.0, 0.5, 0.0], np.array([3, 3, 1]))
    assert result.groups.tolist() == [3, 1]
    assert result.means.tolist() == [0.75, 0.0]
    assert result.ratio == 0.0


def test_bad_arguments():
    with pytest.raises(ValueError, match="inconsistent"):
        metric_by_group([1.0, 2.0], ["a"])
    with pytest.raises(ValueError, match="values: 1 of 2 are infinite"):
        metric_by_group([1.0, np.inf], ["a", "b"])
    with pytest.raises(ValueError, match="groups: 1 of 2 rows are missing"):
        metric_by_group([1.0, 2.0], ["a", None])
    with pytest.raises(ValueError, match="groups: 1 of 2 rows are missing"):
        metric_by_group([1.0, 2.0], [1.0, np.nan])
