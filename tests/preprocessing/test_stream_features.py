"""Features of a stream against the slow and obvious way, and against time running backwards."""

import pickle
from itertools import pairwise

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.compose import make_column_transformer

from sklearn_recft.preprocessing import ActivityFeatures, PairMeans
from tests.preprocessing.stream_log import (
    HALF_LIVES,
    HOUR,
    activity_of,
    dicts,
    logs,
    pair_means_of,
    table,
)

quick = settings(deadline=None, max_examples=8)
QUERY = ["user_id", "item_id", "timestamp", "genre", "behavior"]


def activity(**params):
    defaults = {
        "half_lives": HALF_LIVES,
        "behavior": "behavior",
        "amount": "price",
        "repeats": True,
    }
    return ActivityFeatures(**{**defaults, "statistics": False, **params})


def pair_means(**params):
    pairs = [("user_id", "genre"), ("item_id", "behavior")]
    return PairMeans(pairs, separators={"genre": "|"}, **params)


both = pytest.mark.parametrize("make", [activity, pair_means])
all_three = pytest.mark.parametrize(
    "make", [activity, pair_means, lambda: ActivityFeatures(by=["user_id"])]
)


def whole(log):
    """Return a log in which every kind occurs: the names of features depend on that."""
    first = [(9, 9, 0, kind, None, 0.0, 1.0) for kind in ("buy", "view")]
    return table([*first, *log])


@given(logs)
@quick
def test_every_row_is_described_by_what_was_strictly_before_it(log):
    X, y = whole(log)
    rows = dicts(X, y)
    for model, slow in ((activity(), activity_of), (pair_means(), pair_means_of)):
        expected = [slow(row, rows) for row in rows]
        assert_allclose(model.fit_transform(X, y), expected, rtol=1e-5, atol=1e-6)


@given(logs, logs)
@quick
def test_later_rows_are_described_by_the_log_and_not_by_each_other(log, queried):
    X, y = whole(log)
    last, rows = X["timestamp"].max(), dicts(X, y)
    asked = table(queried)[0][QUERY]
    asked["timestamp"] += last  # some at the newest time, the others after it
    for model, slow in ((activity(), activity_of), (pair_means(), pair_means_of)):
        model.fit(X, y)
        state = pickle.dumps(model)
        expected = [slow(row, rows) for row in asked.to_dict("records")]
        assert_allclose(model.transform(asked), expected, rtol=1e-5, atol=1e-6)
        assert pickle.dumps(model) == state


@all_three
@given(log=logs, cuts=st.lists(st.integers(0, 22), max_size=3))
@quick
def test_parts_in_the_order_of_time_are_described_as_the_whole(make, log, cuts):
    X, y = whole(log)
    order = np.argsort(X["timestamp"], kind="stable")
    X, y = X.iloc[order], y[order]
    expected = make().fit_transform(X, y)
    model = make().fit(X[:2], y[:2])  # both kinds
    bounds = sorted({2, *(2 + cut for cut in cuts if 2 + cut < len(X)), len(X)})
    parts = [model.partial_fit_transform(X[a:b], y[a:b]) for a, b in pairwise(bounds)]
    assert_allclose(np.concatenate([expected[:0], *parts]), expected[2:], rtol=1e-5, atol=1e-6)
    asked = X[QUERY].assign(timestamp=X["timestamp"].max() + HOUR)
    assert_allclose(model.transform(asked), make().fit(X, y).transform(asked), rtol=1e-5, atol=1e-6)


@all_three
@given(log=logs, data=st.data())
@quick
def test_nothing_at_or_after_a_row_changes_its_features(make, log, data):
    X, y = whole(log)
    row = data.draw(st.integers(0, len(X) - 1))
    expected = make().fit_transform(X, y)[row]
    free = (X["timestamp"] >= X.loc[row, "timestamp"]).to_numpy()
    changed, other = X.copy(), y.copy()
    other[free] = 1 - other[free]  # its own feedback too
    changed.loc[free, "price"] += 7
    moved = free & (np.arange(len(X)) != row)
    changed.loc[moved, ["user_id", "item_id"]] += 1
    assert_array_equal(make().fit_transform(changed, other)[row], expected)
    kept = ~moved
    kept[:2] = True  # both kinds, at the first time
    if row < 2 or X.loc[row, "timestamp"] > 0:
        found = make().fit_transform(X[kept], y[kept])
        assert_array_equal(found[int(kept[:row].sum())], expected)


@both
@given(log=logs, seed=st.integers(0, 99))
@quick
def test_the_order_of_rows_does_not_matter_where_time_is_known(make, log, seed):
    X, y = whole(log)
    order = np.random.default_rng(seed).permutation(len(X))
    found = make().fit_transform(X.iloc[order], y[order])
    assert_allclose(found, make().fit_transform(X, y)[order], rtol=1e-5, atol=1e-6)


@all_three
def test_an_older_event_counts_for_later_rows_only(make):
    X, y = table([(0, 0, hour, "view", "a", 1.0, 1.0) for hour in (1, 2, 4)])
    model = make().fit(X[1:], y[1:])
    described = model.partial_fit_transform(X[:1], y[:1])
    assert_array_equal(described, make().fit(X[1:], y[1:]).transform(X[:1]))
    asked = X[:1].assign(timestamp=1e6)
    complete = make().fit(X, y).transform(asked)
    assert_allclose(model.transform(asked)[:, :1], complete[:, :1], atol=0.3)
    if make is activity:  # which events repeat was decided when they were learned
        kept = ["repeat" not in name for name in model.get_feature_names_out()]
        assert_allclose(model.transform(asked)[:, kept], complete[:, kept], rtol=1e-5)


def frame(n=60, seed=0):
    rng = np.random.default_rng(seed)
    X = pd.DataFrame({"user_id": rng.integers(0, 5, n), "item_id": rng.integers(0, 7, n)})
    X["timestamp"] = np.sort(rng.integers(0, 40, n)) * HOUR
    X["behavior"], X["genre"] = rng.choice(["buy", "view"], n), rng.choice(["a", "a|b", "c"], n)
    X["price"] = rng.random(n).round(2)
    return X, rng.integers(0, 2, n).astype(float)


@all_three
def test_any_frame_any_output_and_a_pickle(make):
    X, y = frame()
    expected = make().fit_transform(X, y)
    named = make().set_output(transform="pandas")
    found = named.fit_transform(pl.from_pandas(X), y)
    assert found.columns.tolist() == named.get_feature_names_out().tolist()
    assert_array_equal(found, expected)
    assert named.partial_fit_transform(X[-5:], y[-5:]).index.tolist() == X.index[-5:].tolist()
    dated = X.assign(timestamp=pd.to_datetime(X["timestamp"], unit="s"))
    assert_array_equal(make().fit_transform(dated[X.columns[::-1]], y), expected)
    model = make().fit(X, y)
    twin = pickle.loads(pickle.dumps(model))
    assert_array_equal(twin.transform(X), model.transform(X))
    later = X.assign(timestamp=X["timestamp"] + 1e6)
    assert_array_equal(twin.partial_fit_transform(later, y), model.partial_fit_transform(later, y))
    assert_array_equal(clone(model).fit_transform(X, y), expected)


def test_a_column_transformer_joins_both():
    X, y = frame()
    columns = make_column_transformer(
        (activity(), ["user_id", "item_id", "timestamp", "behavior", "price"]),
        (pair_means(), ["user_id", "item_id", "timestamp", "behavior", "genre"]),
        ("passthrough", ["price"]),
    )
    found = columns.fit_transform(X, y)
    assert_array_equal(found[:, -5:-1], pair_means().fit_transform(X, y))
    assert len(columns.get_feature_names_out()) == found.shape[1]


@both
def test_memory_is_bounded_by_the_newest_events(make):
    X, y = frame(300)
    X["user_id"], X["timestamp"] = np.arange(300), np.arange(300) * HOUR
    model, free = make(max_keys=10), make()
    for start in range(0, 300, 50):
        model.partial_fit(X[start : start + 50], y[start : start + 50])
    free.fit(X, y)
    assert all(sums.n_keys <= 10 for sums in model._state.sums)
    assert max(sums.n_keys for sums in free._state.sums) >= 300
    assert_array_equal(model.transform(X[-1:].assign(timestamp=1e6))[:, 0],
                       free.transform(X[-1:].assign(timestamp=1e6))[:, 0])  # fmt: skip


@all_three
def test_a_failing_partial_fit_leaves_no_trace(make):
    X, y = frame()
    model = make().fit(X, y)
    state = pickle.dumps(model)
    for wrong, feedback, message in (
        (X.assign(item_id=np.nan), y, "item_id: 60 of 60 rows are missing"),
        (X.assign(timestamp=np.nan), y, "timestamp: 60 of 60"),
        (X.drop(columns="timestamp"), y, "timestamp: fit had it, this X has none"),
        (X, np.full(60, np.nan), "Input y: 60 of 60 rows"),
        (X, y[1:], "inconsistent numbers of samples"),
    ):
        with pytest.raises(ValueError, match=message):
            model.partial_fit(wrong, feedback)
    assert pickle.dumps(model) == state


@both
def test_rows_that_did_not_happen_are_described_and_not_learned(make):
    X, y = frame()
    counted = np.arange(60) % 3 > 0
    counted[:2] = True
    model = make()
    found = model.fit_transform(X, y, counted=counted)
    alone = make()
    assert_array_equal(found[counted], alone.fit_transform(X[counted], y[counted]))
    asked = X.assign(timestamp=1e6)
    assert_array_equal(model.transform(asked), alone.transform(asked))
    rows = [event for event, happened in zip(dicts(X, y), counted, strict=True) if happened]
    slow = activity_of if make is activity else pair_means_of
    expected = [slow(row, rows) for row in dicts(X, y)]
    assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="counted must be True or False for each of the 60 rows"):
        model.partial_fit_transform(X, y, counted=y)


def test_statistics_of_rows_that_did_not_happen():
    X, y = frame()
    counted = np.arange(60) % 3 > 0
    model, alone = ActivityFeatures(by=["user_id"]), ActivityFeatures(by=["user_id"])
    found = model.fit_transform(X, y, counted=counted)
    assert_array_equal(found[counted], alone.fit_transform(X[counted], y[counted]))
    asked = X.assign(timestamp=1e6)
    assert_array_equal(model.transform(asked), alone.transform(asked))


def test_without_times_there_are_counts_and_means_alone():
    X, y = frame()
    untimed = X.drop(columns="timestamp")
    model = ActivityFeatures(by=["user_id"], statistics="auto")
    found = model.fit_transform(untimed, y)
    assert model.get_feature_names_out().tolist() == ["user_count", "user_mean"]
    assert_array_equal(found[:, 0], X.groupby("user_id").cumcount())
    assert ActivityFeatures(by=["user_id"], half_lives=[]).fit(X).get_feature_names_out().tolist() \
        == ["user_count", "user_recency", "user_age"]  # fmt: skip


def test_the_statistics_are_those_of_the_online_features():
    from sklearn_recft.models import OnlineFeatures

    X, y = frame(200)
    names, found = ActivityFeatures(by=["user_id"]).fit(X, y), None
    found = clone(names).fit_transform(X, y)[:, -9:]
    online = OnlineFeatures(2, outcome=False, rng=np.random.default_rng(0))
    online.grow(5, 7)
    ids, times, ones = (
        (X["user_id"].to_numpy(), X["item_id"].to_numpy()),
        X["timestamp"],
        np.ones(200),
    )
    expected = online.update(
        *ids, times.to_numpy(), label=y, outcome=None, weight=ones, real=ones > 0
    )[:, :9]
    assert_allclose(found, expected, rtol=1e-5)
    later = X.assign(timestamp=times.max())  # at the newest time, then after it
    for asked in (later, later.assign(timestamp=times.max() + 60)):
        expected = online.transform(*ids, asked["timestamp"].to_numpy())[:, :9]
        assert_allclose(names.transform(asked)[:, -9:], expected, rtol=1e-5)


def test_similarity_to_the_past_of_the_user():
    X, _ = frame()
    rng = np.random.default_rng(0)
    vectors = {item: rng.normal(size=3) for item in range(6)}  # item 6 has none
    model = ActivityFeatures(by=["user_id"], half_lives=[], item_vectors=vectors)
    found = model.fit_transform(X)[:, -1]
    assert model.get_feature_names_out()[-1] == "user_item_similarity"
    unit = {item: v / np.linalg.norm(v) for item, v in vectors.items()} | {6: np.zeros(3)}
    for row, (user, item, time) in enumerate(X[QUERY[:3]].itertuples(index=False)):
        past = X[(X["user_id"] == user) & (X["timestamp"] < time)]["item_id"]
        total = sum((unit[other] for other in past), np.zeros(3))
        expected = unit[item] @ total / (np.linalg.norm(total) or 1.0)
        assert found[row] == pytest.approx(expected, abs=1e-6)
    parts = [clone(model).fit(X[:30])]
    parts[0].partial_fit(X[30:])
    asked = X.assign(timestamp=1e6)
    assert_allclose(parts[0].transform(asked), model.transform(asked), rtol=1e-5)
    assert_array_equal(pickle.loads(pickle.dumps(model)).transform(asked), model.transform(asked))
    with pytest.raises(ValueError, match="item_vectors must map ids"):
        model.set_params(item_vectors={1: [0.0], 2: [0.0, 1.0]}).fit(X)
    with pytest.raises(TypeError, match=r"item_vectors is a DataFrame; give a dict[^\[\n]*$"):
        model.set_params(item_vectors=pd.DataFrame(np.ones((9, 3)))).fit(X)


def test_the_share_of_repeats_needs_no_other_group():
    X, _ = frame()
    model = ActivityFeatures(by=["item_id"], half_lives=[], repeats=True, damping=0.0)
    found = model.set_output(transform="pandas").fit_transform(X)
    assert found.columns.tolist() == ["item_count", "item_recency", "item_age", "item_repeat"]
    its = X[X["item_id"] == X["item_id"].iloc[-1]]
    past = its[its["timestamp"] < X["timestamp"].iloc[-1]]
    first = past.groupby("user_id")["timestamp"].transform("min")
    assert found["item_repeat"].iloc[-1] == pytest.approx((past["timestamp"] > first).mean())
    bounded = clone(model).set_params(max_keys=3).fit(X)
    assert bounded._state.repeats.pairs.n_keys <= 3


def test_a_base_may_be_a_column_of_predictions():
    X, y = frame()
    X["mf"] = np.linspace(0, 1, 60)
    pairs = [("user_id", "behavior")]
    found = PairMeans(pairs, base=["item_mean", "mf"], damping=1.0).fit(X, y)
    assert found.get_feature_names_out().tolist() == [
        "user_behavior_mean_item_mean", "user_behavior_mean_mf", "user_behavior_count",
    ]  # fmt: skip
    asked = X.drop(columns="mf").assign(timestamp=1e6)
    own = (y - X["mf"]).groupby([X["user_id"], X["behavior"]])
    expected = own.transform("sum") / (own.transform("size") + 1)
    assert_allclose(found.transform(asked)[:, 1], expected, rtol=1e-5, atol=1e-6)


def test_a_decay_of_pair_means():
    X, y = frame()
    model = PairMeans([("user_id", "behavior")], half_life=1.0).fit(X, y)
    asked = X[:1].assign(timestamp=X["timestamp"].max() + 86_400)
    own = X[(X["user_id"] == X["user_id"][0]) & (X["behavior"] == X["behavior"][0])]
    ages = (asked["timestamp"][0] - own["timestamp"]) / 86_400
    assert_allclose(model.transform(asked)[0, 1], (0.5**ages).sum(), rtol=1e-5)


def test_unknown_and_missing_values_have_no_events():
    X, y = frame()
    X.loc[::3, "genre"] = None
    model = pair_means().fit(X, y)
    asked = X[:3].assign(genre=["zzz", None, "zzz|a"], user_id=[0, 0, 77])
    assert_array_equal(model.transform(asked)[:, :2], np.zeros((3, 2)))
    kinds = activity().fit(X, y)
    kinds.partial_fit(X[:1].assign(behavior="new", timestamp=1e6), [1.0])
    count = kinds.transform(X[:1].assign(timestamp=2e6))[0, 0]
    assert count == (X["user_id"] == X["user_id"][0]).sum() + 1


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (PairMeans([("user_id", "director")]), "X has no column director, which pairs names"),
        (PairMeans([("user_id",)]), "pairs must be a list of different pairs"),
        (PairMeans([("user_id", "genre")], separators={"price": "|"}), "separators must map"),
        (
            PairMeans([("user_id", "price")], separators={"price": "|"}),
            "60 of 60 rows are no texts",
        ),
        (PairMeans(base="mf"), "X has no column mf, which base names"),
        (ActivityFeatures(by=[]), "by must be a list"),
        (ActivityFeatures(by=["brand"]), "X has no column brand, which by names"),
        (ActivityFeatures(amount="genre"), "genre: not numeric"),
        (ActivityFeatures(behavior="kind"), "X has no column kind, which behavior names"),
        (ActivityFeatures(half_lives=[1, -1]), "half_lives must be"),
        (ActivityFeatures(max_keys=0), "max_keys"),
    ],
)
def test_wrong_parameters_name_the_fix(model, message):
    X, y = frame()
    with pytest.raises(ValueError, match=message):
        model.fit(X, y)
    assert not hasattr(model, "n_features_in_")


def test_feedback_is_asked_for_where_it_is_needed():
    X, y = frame()
    with pytest.raises(ValueError, match="requires y to be passed"):
        pair_means().fit(X)
    with pytest.raises(ValueError, match="y: fit had none"):
        activity().fit(X).partial_fit(X, y)
    with pytest.raises(ValueError, match="statistics=True needs"):
        activity(statistics=True).fit(X, y * 5)
    rated = ActivityFeatures().fit(X, y)
    with pytest.raises(ValueError, match="are not between 0 and 1"):
        rated.partial_fit(X, y * 5)
    with pytest.raises(ValueError, match="statistics need feedback"):
        rated.partial_fit(X)
    assert activity().fit(X, y * 5).partial_fit(X).transform(X).shape == (60, 57)
