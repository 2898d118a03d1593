"""Rows are dropped by the rules given, and by no others; the report counts them."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_recft import IncrementalMFRecommender, PopularityRecommender
from sklearn_recft.pipeline import make_recommender_pipeline
from sklearn_recft.preprocessing import ActivityFeatures, InteractionCleaner, clean_interactions

HOUR = 3600


def frame(**columns):
    base = {
        "user_id": ["ann", "bob", None, "ann", "ann", "cem"],
        "item_id": ["tea", "tea", "tea", "rice", "rice", None],
        "timestamp": [1, 2, 3, 4, 4, 5],
        "quantity": [1.0, -1.0, 2.0, 3.0, 3.0, 1.0],
    }
    return pd.DataFrame({**base, **columns})


@pytest.mark.parametrize("library", ["pandas", "polars", "array", "list"])
def test_rows_keep_their_type_and_order(library):
    X = frame()
    given = {"pandas": X, "polars": pl.from_pandas(X), "array": X.to_numpy(object)}
    given["list"] = given["array"].tolist()
    y = pd.Series(np.arange(6.0))
    kept, y_kept, weight, report = clean_interactions(given[library], y, list(range(6)))
    assert report.rows.tolist() == [0, 1, 3, 4]  # the repeat has another y
    assert type(kept) is type(given[library])
    assert weight == [0, 1, 3, 4]
    assert y_kept.tolist() == [0, 1, 3, 4]
    if library == "pandas":
        pd.testing.assert_frame_equal(kept, X.iloc[[0, 1, 3, 4]])
    assert clean_interactions(given[library]).report.rows.tolist() == [0, 1, 3]
    assert clean_interactions(given[library], duplicates=False).report.rows.tolist() == [0, 1, 3, 4]


def test_the_report_counts_each_row_once():
    found = clean_interactions(frame(), valid={"quantity": (1, None)})
    assert found.report.dropped == {
        "without user_id or item_id": 2, "exact duplicates": 1, "invalid quantity": 1,
    }  # fmt: skip
    assert (found.report.n_users, found.report.n_items) == (1, 2)
    assert str(found.report).splitlines() == [
        "6 rows", "2 without user_id or item_id", "1 exact duplicates", "1 invalid quantity",
        "2 kept, of 1 users and 2 items",
    ]  # fmt: skip


def test_what_is_valid():
    n = 8
    X = pd.DataFrame(
        {"user_id": range(n), "item_id": range(n), "price": [1.0, np.nan, *range(2, n)]}
    )
    X["day"] = pd.date_range("2024-01-01", periods=n)
    X["kind"] = ["a", "b"] * 4
    y = [np.nan, *range(1, n)]

    def kept(**valid):
        return clean_interactions(X, y, valid=valid).report.rows.tolist()

    assert kept(price=(None, 4)) == [0, 2, 3, 4]
    assert kept(price=(None, None)) == [0, 2, 3, 4, 5, 6, 7]
    assert kept(y=(3, 5)) == [3, 4, 5]
    assert kept(day=("2024-01-03", "2024-01-04")) == [2, 3]
    assert kept(kind=lambda kind: kind.str.startswith("a")) == [0, 2, 4, 6]  # a pandas Series
    rows = clean_interactions(X[["user_id", "item_id"]].to_numpy(), y, valid={"y": np.isfinite})
    assert rows.report.rows.tolist() == list(range(1, n))


def test_bots_are_users_with_too_many_events_in_any_hour_or_day():
    times = [*(600 * np.arange(6)), *(3700 * np.arange(6)), *(86_400 * np.arange(6))]
    X = pd.DataFrame({"user_id": np.repeat(["fast", "slow", "rare"], 6), "item_id": range(18)})
    X["timestamp"] = times
    X = X.sample(frac=1, random_state=0)

    def users(**bounds):
        return sorted(clean_interactions(X, **bounds).X["user_id"].unique())

    assert users(max_per_hour=6) == ["fast", "rare", "slow"]
    assert users(max_per_hour=5) == ["rare", "slow"]
    assert users(max_per_day=5) == ["rare"]
    with pytest.raises(ValueError, match="need the column `timestamp`"):
        clean_interactions(X.drop(columns="timestamp"), max_per_day=5)


def test_outliers_by_quantile():
    X = pd.DataFrame({"user_id": range(101), "item_id": 1, "quantity": np.arange(101.0)})
    rows = clean_interactions(X, quantiles={"quantity": (0.02, 0.9)}).report.rows
    assert_array_equal(rows, np.arange(2, 91))
    y = np.arange(101.0)[::-1]
    rows = clean_interactions(X, y, quantiles={"y": (0, 0.9)}).report.rows
    assert_array_equal(rows, np.arange(10, 101))


def slow_core(pairs, least_user, least_item):
    """Drop one row after the other, as long as one has too few others."""
    pairs = list(pairs)
    while True:
        for pair in pairs:
            few = sum(p[0] == pair[0] for p in pairs) < least_user
            if few or sum(p[1] == pair[1] for p in pairs) < least_item:
                pairs.remove(pair)
                break
        else:
            return pairs


def test_the_core_is_what_dropping_row_by_row_leaves():
    rng = np.random.default_rng(0)
    pairs = np.unique(np.column_stack([rng.integers(0, 25, 90), rng.integers(0, 25, 90)]), axis=0)
    found = clean_interactions(pairs, min_per_user=3, min_per_item=3).X
    expected = slow_core(map(tuple, pairs.tolist()), 3, 3)
    assert 0 < len(expected) < len(pairs)
    assert [tuple(pair) for pair in found.tolist()] == expected


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"valid": {"price": (0, None)}}, "X has no column price, which valid names"),
        ({"quantiles": {"price": (0, 1)}}, "X has no column price, which quantiles names"),
        ({"quantiles": {"item_id": (0, 1)}}, "quantiles: item_id is not numeric"),
        ({"valid": {"item_id": (0, None)}}, "valid: item_id cannot be compared"),
        ({"valid": {"quantity": len}}, "the function of quantity must return"),
        ({"valid": {"quantity": 1}}, r"the rule of quantity must be \(lowest, highest\)"),
        ({"quantiles": {"quantity": 0.999}}, "the bounds of quantity must be two numbers"),
        ({"quantiles": {"quantity": (0, 99)}}, "the bounds of quantity must be two numbers"),
        ({"valid": {"quantity": (99, None)}}, "No row of X is left, of 6"),
    ],
)
def test_wrong_rules_name_the_column(rules, message):
    with pytest.raises(ValueError, match=message):
        clean_interactions(frame(), **rules)


def test_the_cleaner_is_the_function():
    cleaner = InteractionCleaner(valid={"quantity": (1, None)})
    X, y, weight = clone(cleaner).fit_resample(frame(), list(range(6)), np.ones(6))
    assert y == [0, 3, 4]
    assert weight.shape == (3,)
    assert X.equals(frame().iloc[[0, 3, 4]])
    assert len(cleaner.fit_resample(frame())) == 2
    assert_array_equal(cleaner.sample_indices_, [0, 3])
    with pytest.raises(ValueError, match="min_per_user"):
        InteractionCleaner(min_per_user=0).fit_resample(frame())
    with pytest.raises(TypeError, match="should be transformers"):  # which may not drop rows
        make_pipeline(cleaner, StandardScaler()).fit(frame())


def events(n=60, seed=0):
    rng = np.random.default_rng(seed)
    X = pd.DataFrame({"user_id": rng.integers(0, 5, n), "item_id": rng.integers(0, 7, n)})
    X["timestamp"], X["price"] = np.arange(n) * HOUR, rng.random(n)
    return X.astype({"user_id": float}), rng.integers(1, 6, n).astype(float)


def test_a_recommender_pipeline_drops_rows_when_it_learns_only():
    X, y = events()
    dirty = X.copy()
    dirty.loc[::4, "user_id"] = np.nan
    good = dirty["user_id"].notna().to_numpy()
    columns = make_column_transformer(
        (StandardScaler(), ["price"]), remainder="passthrough", verbose_feature_names_out=False
    ).set_output(transform="pandas")
    model = IncrementalMFRecommender(n_factors=2, max_epochs=2, random_state=0)
    pipe = make_recommender_pipeline(InteractionCleaner(), columns, model)
    plain = make_recommender_pipeline(columns, model)
    weight = np.linspace(0.5, 1, 60)
    pipe.fit(dirty[:40], y[:40], sample_weight=weight[:40])
    plain.fit(X[:40][good[:40]], y[:40][good[:40]], sample_weight=weight[:40][good[:40]])
    assert pipe[0].report_.dropped["without user_id or item_id"] == 10
    assert_array_equal(pipe.predict(X), plain.predict(X))
    pipe.partial_fit(dirty[40:], y[40:])
    plain.partial_fit(X[40:][good[40:]], y[40:][good[40:]])
    assert_array_equal(pipe.predict(X), plain.predict(X))
    assert_array_equal(pipe.recommend([1], n_recommendations=3)[0],
                       plain.recommend([1], n_recommendations=3)[0])  # fmt: skip
    later = X.assign(timestamp=X["timestamp"] + 1e6)
    assert_array_equal(pipe.partial_fit_predict(later, y), plain.partial_fit_predict(later, y))
    fresh = make_recommender_pipeline(InteractionCleaner(), PopularityRecommender())
    assert fresh.partial_fit(dirty).n_users_ == 5


def test_a_pipeline_learns_rows_as_of_their_own_time():
    """`partial_fit` of a pipeline must not describe a row by itself."""
    X, y = events()
    X = X.drop(columns="price")
    seen = []

    class Kept(PopularityRecommender):
        def partial_fit(self, X, y=None, sample_weight=None, *, batch_id=None):
            seen.append(X)
            return super().partial_fit(X, y, sample_weight, batch_id=batch_id)

    class Joined(ActivityFeatures):
        """Features beside the columns of ids."""

        def partial_fit_transform(self, X, y=None, counted=None):
            return X.assign(count=super().partial_fit_transform(X, y, counted)[:, 0])

        def fit_transform(self, X, y=None, counted=None):
            return X.assign(count=super().fit_transform(X, y, counted)[:, 0])

    pipe = make_recommender_pipeline(Joined(by=["user_id"], half_lives=[]), Kept())
    pipe.fit(X[:40], y[:40]).partial_fit(X[40:], y[40:])
    expected = ActivityFeatures(by=["user_id"], half_lives=[]).fit_transform(X, y)[40:]
    assert_array_equal(seen[0]["count"], expected[:, 0])
