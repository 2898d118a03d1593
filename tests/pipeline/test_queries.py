"""Queries through transformers: what a query lacks is made up, and never reaches a score."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from sklearn_recft import DecayBertRecommender, RealtimeTransformerRecommender
from sklearn_recft.pipeline import RecommenderPipeline, make_recommender_pipeline
from tests.pipeline.data import LIBRARIES, in_library, make_log, make_pipe, mf

QUERY = pd.DataFrame(
    {"user_id": [3, 7, 99], "timestamp": 9e6, "price": [1.0, 30.0, 8.0], "device": "phone"}
)


def by_hand(pipe, query):
    """Recommend as without the pipeline's help: with some item, which is dropped afterwards."""
    table = pipe[:-1].transform(query.assign(item_id=0))
    return pipe[-1].recommend(table.drop(columns="item_id"), n_recommendations=4)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_query_with_all_of_its_context(library):
    X, y = make_log()
    pipe = make_pipe(library).fit(in_library(X, library), y)
    expected = by_hand(make_pipe().fit(X, y), QUERY)
    for query in (QUERY, QUERY[QUERY.columns[::-1]], QUERY.set_index(np.array([5, 5, 1]))):
        found = pipe.recommend(in_library(query, library), n_recommendations=4)
        assert_array_equal(found[0], expected[0])
        assert_allclose(found[1], expected[1], rtol=1e-6)
    other = pipe.recommend(in_library(QUERY.assign(price=100.0), library), n_recommendations=4)
    assert (abs(other[1] - expected[1]) > 1e-3).any()


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_query_without_context_gets_the_average_context(library):
    X, y = make_log()
    pipe = make_pipe(library).fit(in_library(X, library), y)
    users = QUERY["user_id"]
    expected = pipe[-1].recommend(users, n_recommendations=4)
    queries = [
        users.tolist(), users.to_numpy(), users, dict.fromkeys(users).keys(), QUERY[["user_id"]],
        QUERY[["user_id", "timestamp"]], QUERY[["user_id", "timestamp"]].to_numpy(),
        QUERY[["user_id", "timestamp"]].assign(item_id=3, text="an item does not matter"),
    ]  # fmt: skip
    for query in queries:
        items, scores = pipe.recommend(query, n_recommendations=4)
        assert_array_equal(items, expected[0])
        assert_array_equal(scores, expected[1])


@pytest.mark.parametrize("prefix", ["", "log__"])
def test_prefixed_names_are_roles(prefix):
    X, y = make_log()
    roles = {name: prefix + name for name in ("user_id", "item_id", "timestamp")}
    other = {name: f"query__{name}" for name in roles}
    pipe, plain = make_pipe().fit(X.rename(columns=roles), y), make_pipe().fit(X, y)
    assert len(pipe._raw.examples["user_id"]) == 0
    for query in (QUERY, QUERY.rename(columns=other), [3, 7]):
        items, scores = pipe.recommend(query, n_recommendations=4)
        asked = query if isinstance(query, list) else QUERY
        expected = plain.recommend(asked, n_recommendations=4)
        assert_array_equal(items, expected[0])
        assert_array_equal(scores, expected[1])


def test_some_context_is_not_enough():
    X, y = make_log()
    pipe = make_pipe().fit(X, y)
    with pytest.raises(ValueError, match=r"the context \['price'\].*lacks.*'price'"):
        pipe.recommend(QUERY.drop(columns="price"))
    with pytest.raises(ValueError, match="no column user_id"):
        pipe.recommend(QUERY.drop(columns="user_id"))
    with pytest.raises(ValueError, match=r"X has 3 columns.*\['price', 'device'\]"):
        pipe.recommend(np.ones((2, 3)))


def test_context_from_the_time_needs_a_time():
    X, y = make_log()

    def with_hour(X):
        return X.assign(hour=X["timestamp"] % 86_400 // 3600)

    model = make_recommender_pipeline(FunctionTransformer(with_hour), mf())
    model.fit(X[["user_id", "item_id", "timestamp"]], y)
    timed = QUERY[["user_id", "timestamp"]]
    direct = model[-1].recommend(with_hour(timed), n_recommendations=3)
    assert_array_equal(model.recommend(timed, n_recommendations=3)[1], direct[1])
    average = model[-1].recommend(timed["user_id"], n_recommendations=3)
    assert_array_equal(model.recommend(timed["user_id"], n_recommendations=3)[1], average[1])
    assert (direct[1] != average[1]).any()


def test_context_from_the_item_is_no_context_of_a_query():
    X, y = make_log()
    X = X[["user_id", "item_id", "timestamp", "price"]]
    of_item = FunctionTransformer(lambda X: X.assign(shelf=X["item_id"] % 5))
    pipe = make_recommender_pipeline(of_item, mf()).fit(X, y)
    with pytest.raises(ValueError, match=r"context \['shelf'\].*a query has no item"):
        pipe.recommend(QUERY[["user_id", "timestamp", "price"]])
    found = pipe.recommend([3, 7], n_recommendations=4)
    assert_array_equal(found[1], pipe[-1].recommend([3, 7], n_recommendations=4)[1])


def test_arrays_are_queried_by_position():
    X, y = make_log()
    table = X.assign(device=(X["device"] == "phone").astype(float)).to_numpy()

    def scaled(X):
        return np.column_stack([X[:, :3], X[:, 3:] * [0.1, 2.0]])

    pipe = make_recommender_pipeline(FunctionTransformer(scaled), mf()).fit(table, y)
    query = QUERY.assign(device=1.0).to_numpy()
    direct = pipe[-1].recommend(query * [1, 1, 0.1, 2.0], n_recommendations=3)
    assert_array_equal(pipe.recommend(query, n_recommendations=3)[1], direct[1])
    for ids in ([3, "an unknown user"], query[:2, 0], query[:2, :2]):
        found, expected = (m.recommend(ids, n_recommendations=3) for m in (pipe, pipe[-1]))
        assert_array_equal(found[0], expected[0])
        assert_array_equal(found[1], expected[1])
    numbered = make_recommender_pipeline(FunctionTransformer(), mf()).fit(pd.DataFrame(table), y)
    expected = numbered[-1].recommend(query, n_recommendations=3)[1]
    assert_array_equal(numbered.recommend(query, n_recommendations=3)[1], expected)


def test_context_after_a_missing_time_is_refused_without_names():
    X, y = make_log()
    last = ["user_id", "item_id", "timestamp"]
    encode = make_column_transformer(("passthrough", last), (StandardScaler(), ["price"]))
    pipe = make_recommender_pipeline(encode, mf()).fit(X[[*last, "price"]], y)
    with pytest.raises(ValueError, match="X has no timestamp, and a table without names"):
        pipe.recommend(QUERY[["user_id", "price"]])
    expected = pipe[-1].recommend(QUERY["user_id"], n_recommendations=3)[1]
    assert_array_equal(pipe.recommend(QUERY["user_id"], n_recommendations=3)[1], expected)
    query = QUERY[["price", "timestamp", "user_id"]]
    timed = np.column_stack([QUERY[["user_id", "timestamp"]], pipe[0].transform(X)[:3, 3]])
    assert pipe.recommend(query, n_recommendations=3)[1].shape == (3, 3)
    assert pipe[-1].recommend(timed, n_recommendations=3)[1].shape == (3, 3)


def test_ids_are_mapped_as_the_transformers_map_them():
    X, y = make_log()
    names = {"customer": "user_id", "sku": "item_id", "when": "timestamp"}

    def renamed(X):
        return X.rename(columns=names).assign(user_id=lambda Z: "user " + Z["user_id"].astype(str))

    foreign = X[["user_id", "item_id", "timestamp"]].rename(
        columns={v: k for k, v in names.items()}
    )
    pipe = make_recommender_pipeline(FunctionTransformer(renamed), mf()).fit(foreign, y)
    expected = pipe[-1].recommend(["user 3", "user 7"], n_recommendations=3)[1]
    found = pipe.recommend(pd.DataFrame({"customer": [3, 7]}), n_recommendations=3)[1]
    assert_array_equal(found, expected)
    with pytest.raises(ValueError, match="without the column user_id, so ids have no name"):
        pipe.recommend([3, 7])
    with pytest.raises(ValueError, match="make user_id or item_id from columns that X lacks"):
        pipe.recommend(pd.DataFrame({"when": [3.0]}))
    prefix = FunctionTransformer(lambda X: X.assign(user_id="u" + X["user_id"].astype(str)))
    pipe = make_recommender_pipeline(prefix, mf()).fit(X[["user_id", "item_id"]], y)
    assert_array_equal(
        pipe.recommend([3], n_recommendations=3)[1],
        pipe[-1].recommend(["u3"], n_recommendations=3)[1],
    )
    assert "u3" in pipe.user_ids_
    assert "u3" not in pipe.forget([3]).user_ids_
    assert "u4" in pipe.user_ids_


def test_text_from_item_columns_needs_no_columns_of_a_query():
    X, y = make_log(120)
    X = X.assign(title=[f"title {item}" for item in X["item_id"]])

    def titled(X):
        return X.rename(columns={"title": "text"})

    model = DecayBertRecommender(None, max_epochs=1, width=4, n_factors=2, random_state=0)
    pipe = make_recommender_pipeline(FunctionTransformer(titled), clone(model))
    pipe.fit(X[["user_id", "item_id", "timestamp", "price", "title"]], y > 2)
    query = QUERY[["user_id", "timestamp", "price"]]
    expected = pipe[-1].recommend(query, n_recommendations=3)[1]
    assert_array_equal(pipe.recommend(query, n_recommendations=3)[1], expected)
    assert pipe.attend(X[:2].drop(columns="device")).item_ids.shape[0] == 2


def test_the_outcome_is_no_column_of_a_query():
    X, y = make_log(120)
    X = X[["user_id", "item_id", "timestamp", "price", "device"]].assign(seconds=y)
    encode = make_column_transformer(
        (OneHotEncoder(sparse_output=False), ["device"]), remainder="passthrough",
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")  # fmt: skip
    model = DecayBertRecommender(
        None, outcome="seconds", max_epochs=1, width=4, n_factors=2, random_state=0
    )
    pipe = make_recommender_pipeline(encode, model).fit(X, y > 2)
    expected = by_hand(pipe, QUERY.assign(seconds=0.0))
    assert_array_equal(pipe.recommend(QUERY, n_recommendations=4)[1], expected[1])


def test_a_history_runs_through_the_transformers():
    X, _ = make_log(150)
    model = RealtimeTransformerRecommender(
        max_epochs=1, n_layers=1, n_heads=1, width=4, max_history=5, random_state=0
    )
    shift = FunctionTransformer(lambda X: X.assign(item_id="i" + X["item_id"].astype(str)))
    pipe = make_recommender_pipeline(shift, model).fit(X[["user_id", "item_id", "timestamp"]])
    past = pd.DataFrame({"user_id": [99, 99], "item_id": [3, 5], "timestamp": [5e6, 6e6]})
    found = pipe.recommend([99], n_recommendations=3, history=past)
    named = shift.transform(past)
    direct = pipe[-1].recommend([99], n_recommendations=3, history=named)
    assert_array_equal(found[0], direct[0])
    assert_array_equal(found[1], direct[1])
    assert (found[1] != pipe.recommend([99], n_recommendations=3)[1]).any()
    before = pipe.recommend([1], n_recommendations=3)[1]
    pipe.observe(pd.DataFrame({"user_id": [1], "item_id": [3], "timestamp": [5e6]}))
    assert (pipe.recommend([1], n_recommendations=3)[1] != before).any()


def test_options_reach_the_last_step():
    X, y = make_log()
    pipe = make_pipe().fit(X, y)
    table = pipe.recommend(
        [3, 7], n_recommendations=20, candidates=[1, 2, 3], exclude=[2], exclude_seen=False,
        on_missing="pad", as_frame=True,
    )  # fmt: skip
    assert isinstance(table, pd.DataFrame)
    assert table.groupby("user_id")["item_id"].apply(set).tolist() == [{1, 3}, {1, 3}]


def test_a_pipeline_of_fitted_steps_takes_whole_tables():
    X, y = make_log()
    fitted = make_pipe().fit(X, y)
    pipe = RecommenderPipeline(fitted.steps)
    whole = QUERY.assign(item_id=0)
    expected = fitted.recommend(QUERY, n_recommendations=3)[1]
    assert_array_equal(pipe.recommend(whole, n_recommendations=3)[1], expected)
    assert_array_equal(
        pipe.partial_fit(X[:1], y[:1]).recommend(QUERY, n_recommendations=3)[1],
        fitted.recommend(QUERY, n_recommendations=3)[1],
    )


def test_without_transformers_nothing_is_done_to_a_query():
    X, y = make_log()
    X = X[["user_id", "item_id", "timestamp"]]
    pipe = RecommenderPipeline([("none", "passthrough"), ("model", mf())]).fit(X, y)
    direct = mf().fit(X, y)
    assert_array_equal(
        pipe.recommend([3], n_recommendations=4)[1], direct.recommend([3], n_recommendations=4)[1]
    )
    with pytest.raises(ValueError, match="n_recommendations"):
        pipe.recommend([3], n_recommendations=0)


def test_columns_with_missing_values_and_dates():
    X, y = make_log()
    X = X.assign(
        timestamp=pd.to_datetime(X["timestamp"], unit="s"),
        price=X["price"].where(X["price"] > 5),
        device=X["device"].where(X["price"] > 5, None).astype("category"),
    )

    def filled(X):
        missing = X["device"].astype(object).isna().astype(float)
        return X.assign(price=X["price"].fillna(0.0), device=missing)

    pipe = make_recommender_pipeline(FunctionTransformer(filled), mf()).fit(X, y)
    timed = QUERY.assign(timestamp=pd.Timestamp("2026-01-01"))
    direct = pipe[-1].recommend(filled(timed), n_recommendations=3)
    assert_array_equal(pipe.recommend(timed, n_recommendations=3)[1], direct[1])
    with pytest.raises(ValueError, match=r"context \['device'\]"):
        pipe.recommend(timed.drop(columns="device"))
