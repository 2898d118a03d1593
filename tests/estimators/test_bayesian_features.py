"""Features of users and items in `BayesianMFRecommender`: from tables and from columns of X."""

import copy
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_array_equal
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from sklearn_recft import BayesianMFRecommender
from sklearn_recft.metrics import make_ranking_scorer
from sklearn_recft.pipeline import RecommenderPipeline
from sklearn_recft.vocabulary import IdTypeWarning
from tests.contract.helpers import assert_same

N_USERS, N_ITEMS = 60, 30


def make_log(seed=0, n_users=N_USERS, n_items=N_ITEMS, each=12):
    """Make ratings of users who like the items of their own kind, and the features of both."""
    rng = np.random.default_rng(seed)
    users = pd.DataFrame(
        {
            "user_id": np.arange(n_users),
            "kind": np.where(np.arange(n_users) % 2, "odd", "even"),
            "age": rng.normal(40, 10, n_users),
        }
    )
    items = pd.DataFrame(
        {
            "item_id": np.arange(n_items),
            "genres": [["war", "drama"] if i % 2 else ["comedy", "drama"] for i in range(n_items)],
        }
    )
    user = np.repeat(np.arange(n_users), each)
    item = np.concatenate([rng.choice(n_items, each, replace=False) for _ in range(n_users)])
    X = pd.DataFrame({"user_id": user, "item_id": item})
    y = 3 + np.where(user % 2 == item % 2, 1.0, -1.0) + rng.normal(0, 0.3, len(user))
    return X, y, users, items


def small(**options):
    return BayesianMFRecommender(**{"n_factors": 3, "max_epochs": 10, "random_state": 0} | options)


def pairs(users, items):
    return pd.DataFrame({"user_id": users, "item_id": items})


@pytest.fixture(scope="module")
def log():
    return make_log()


@pytest.fixture(scope="module")
def _model(log):
    X, y, users, items = log
    return small().fit(X, y, users=users, items=items)


@pytest.fixture
def model(_model):
    return copy.deepcopy(_model)


NEW = pd.DataFrame({"user_id": [101, 102], "kind": ["odd", "even"], "age": [40.0, 40.0]})


def test_a_profile_tells_a_new_user_from_another(log, model):
    X, y, _, _ = log
    asked = pairs([101, 102, 103, 101, 102, 103], [1, 1, 1, 2, 2, 2])
    before = model.predict(asked)
    assert len(set(before[:3])) == 1  # nothing is known of them
    model.partial_fit(X[:1], y[:1], users=NEW)
    odd, even, nobody, *others = model.predict(asked)
    assert odd > nobody + 0.5 > even + 1
    assert others[0] < others[2] - 0.5 < others[1] - 1
    assert model.n_users_ == N_USERS + 2


def test_a_new_item_has_the_prior_of_its_features(log, model):
    X, y, _, _ = log
    items = pd.DataFrame({"item_id": ["war", "comedy"], "genres": [["war"], ["comedy"]]})
    model.partial_fit(X[:1], y[:1], items=items)
    found = model.predict(pairs([1, 1, 2, 2], pd.Series(["war", "comedy"] * 2, dtype=object)))
    assert found[0] > found[1] + 0.5
    assert found[3] > found[2] + 0.5


def test_columns_of_rows_are_the_same_as_tables(log, model):
    X, y, users, items = log
    names = {"user_features": ["kind", "age"], "item_features": ["genres"]}
    whole = X.merge(users).merge(items)
    other = small(**names).fit(whole, y)
    # The order of ids differs, so rounding does too.
    assert np.allclose(other.predict(whole), model.predict(X), atol=1e-6)
    assert list(other.feature_names_in_) == ["user_id", "item_id", "kind", "age", "genres"]
    # Known ids do not need their features again, and keep them.
    assert np.array_equal(other.predict(X), other.predict(whole))
    assert np.array_equal(other.predict(X), other.predict(whole.assign(kind="new", age=-1.0)))
    # Unknown ones do.
    asked = pairs([101, 102, 101, 102], [1, 1, 2, 2]).merge(NEW)
    by_row = other.predict(asked)
    assert np.allclose(
        by_row, model.adapt(X[:1], y[:1], users=NEW).predict(asked[X.columns]), atol=0.01
    )
    assert np.array_equal(other.predict(asked[:1]), by_row[:1])
    with_std = other.predict(asked, return_std=True)
    assert np.allclose(with_std[0], by_row)


def test_a_table_and_columns_are_joined(log):
    X, y, users, items = log
    options = {"user_features": ["kind", "age"], "item_features": ["genres"]}
    expected = small(**options).fit(X.merge(users).merge(items), y).predict(X)
    mixed = small(**options).fit(
        X.merge(users[["user_id", "age"]]), y, users=users[["user_id", "kind"]], items=items
    )
    assert np.allclose(mixed.predict(X), expected, atol=1e-6)
    # A column of both is read from the table.
    wrong = X.merge(users).assign(age=1.0)
    twice = small(**options).fit(wrong, y, users=users, items=items)
    assert np.allclose(twice.predict(X), expected, atol=1e-6)


def test_names_choose_columns_of_a_table(log):
    X, y, users, _ = log
    chosen = small(user_features=["kind"]).fit(X, y, users=users)
    alone = small().fit(X, y, users=users[["user_id", "kind"]])
    assert np.array_equal(chosen.predict(X), alone.predict(X))


@pytest.mark.parametrize("kind", [np.float32, np.int32, str, object])
def test_ids_of_tables_may_be_of_any_type(log, kind):
    X, y, users, items = log
    as_type = {"user_id": kind}
    model = small().fit(X.astype(as_type), y, users=users.astype(as_type), items=items)
    assert model.n_users_ == N_USERS
    expected = small().fit(X, y, users=users, items=items).predict(X)
    assert np.array_equal(model.predict(X.astype(as_type)), expected)


def test_ids_of_another_type_are_warned_of(log):
    X, y, users, _ = log
    with pytest.warns(IdTypeWarning, match="users, user_id: none of 60 rows is known"):
        small(max_epochs=1).fit(X, y, users=users.astype({"user_id": str}))


@pytest.mark.parametrize("library", [pd, pl])
def test_lists_use_the_profile_of_a_query(log, library):
    X, y, users, _ = log
    whole = X.merge(users)
    rows = library.DataFrame(whole.to_dict("list"))
    model = small(user_features=["kind", "age"]).fit(rows, y)
    for options in ({}, {"exploration": 0.0}):
        items, scores = model.recommend(
            library.DataFrame(NEW.to_dict("list")), n_recommendations=5, **options
        )
        assert (items[0] % 2 == 1).all()
        assert (items[1] % 2 == 0).all()
        expected = model.predict(pairs(101, items[0]).assign(kind="odd", age=40.0))
        assert np.allclose(scores[0], expected, atol=1e-5)
    same_list, _ = model.recommend([101, 102], n_recommendations=5)
    assert np.array_equal(*same_list)
    assert model.ask(library.DataFrame(NEW.to_dict("list")), 2).shape == (2, 2)


def test_a_column_of_another_kind_is_refused_in_every_call(log):
    X, y, users, _ = log
    model = small(user_features=["kind", "age"], max_epochs=2).fit(X.merge(users), y)
    asked = pairs([101, 102], [1, 2]).merge(NEW)
    for column, values, message in (
        ("age", ["40", "41"], "age: all 2 rows are categories, and fit had numbers"),
        ("kind", [1, 2], "kind: all 2 rows are numbers, and fit had categories"),
    ):
        wrong = asked.assign(**{column: values})
        for call in (
            lambda X: model.predict(X),
            lambda X: model.predict(X, return_std=True),
            lambda X: model.recommend(X.drop(columns="item_id"), n_recommendations=2),
            lambda X: model.recommend(X.drop(columns="item_id"), exploration=1.0),
            lambda X: model.ask(X.drop(columns="item_id")),
            lambda X: model.adapt(X, [1.0, 2.0]),
        ):
            with pytest.raises(TypeError, match=message):
                call(wrong)
    # Without any value, pandas has a column of floats, whatever its kind.
    empty, absent = asked.assign(kind=np.nan), asked.drop(columns="kind")
    assert np.array_equal(model.predict(empty), model.predict(absent))
    other = copy.deepcopy(model).adapt(absent, [1.0, 2.0])
    assert np.array_equal(model.adapt(empty, [1.0, 2.0]).predict(X), other.predict(X))


def test_adapt_moves_the_given_users_alone(log, model):
    X, *_ = log
    before = model.predict(X)
    model.adapt(
        pairs([101], [1]),
        [5.0],
        users=NEW,
        items=pd.DataFrame({"item_id": [1], "genres": [["noir"]]}),
    )
    assert np.array_equal(model.predict(X), before)
    assert model.n_users_ == N_USERS + 2


def test_late_features_move_no_item_with_events(log):
    X, y, users, items = log
    model = small().fit(X, y, users=users, items=items[items["item_id"] != 1])
    before = model.predict(X)
    model.adapt(pairs([101], [1]), [5.0], items=items)
    assert np.array_equal(model.predict(X), before)


def test_a_failure_while_learning_undoes_features(log, model, monkeypatch):
    model.adapt(pairs([101], [1]), [5.0])
    before = model._model.state()

    def fail(*given):
        raise MemoryError("no room")

    monkeypatch.setattr(type(model._model), "_solve_users", fail)
    for ids in ([101, 102], [102, 103]):
        with pytest.raises(MemoryError):
            model.adapt(pairs([5], [1]), [4.0], users=NEW.assign(user_id=ids))
        assert_same(model._model.state(), before, "")


def test_a_profile_may_come_after_events(log, model):
    profile = NEW[NEW["user_id"] == 101]
    late = copy.deepcopy(model).adapt(pairs([101], [1]), [5.0])
    late.adapt(pairs([7], [1]), [4.0], users=profile)
    at_once = model.adapt(pairs([101], [1]), [5.0], users=profile)
    asked = pairs([101, 101], [2, 3])
    assert np.allclose(late.predict(asked), at_once.predict(asked), atol=1e-12)


def test_missing_and_unknown_values_are_the_mean(log, model):
    X, y, _, _ = log
    odd = pd.DataFrame({"user_id": [101, 102], "kind": [None, "other"], "age": [np.nan, np.nan]})
    model.adapt(X[:1], y[:1], users=odd)
    found = model.predict(pairs([101, 102, 103], [1, 1, 1]))
    assert np.allclose(found, found[0], atol=1e-12)


def test_ids_of_features_alone_are_known_and_forgotten(log, model):
    X, y, _, _ = log
    model.adapt(X[:1], y[:1], users=NEW)
    asked = pairs([101, 102, 5], [1, 1, 1])
    before = model.predict(asked)
    items, _ = model.recommend([101], n_recommendations=N_ITEMS)
    assert sorted(items[0]) == list(range(N_ITEMS))
    model.forget([101, 3])
    after = model.predict(asked)
    assert after[0] != before[0]
    assert np.array_equal(after[1:], before[1:])
    assert 101 not in model.user_ids_


def test_ids_without_events_have_priors_and_change_none(log, model):
    X, y, users, items = log
    rest = pd.DataFrame({"user_id": np.arange(1000, 1500), "kind": "even", "age": 90.0})
    more = pd.DataFrame({"item_id": np.arange(900, 1300), "genres": [["war"], ["comedy"]] * 200})
    whole = small().fit(X, y, users=pd.concat([users, rest]), items=pd.concat([items, more]))
    assert np.allclose(whole.predict(X), model.predict(X), atol=1e-9)
    found = whole.predict(pairs([1, 1, 2, 2], [900, 901, 900, 901]))
    assert found[0] > found[1] + 0.5
    assert found[3] > found[2] + 0.5
    assert np.allclose(whole.noise_, model.noise_)


def test_pickles_and_failed_calls_keep_everything(log, model):
    X, y, _, _ = log
    asked = pairs([101, 102, 5], [1, 1, 1])
    twin = pickle.loads(pickle.dumps(model))
    before = pickle.dumps(model)
    with pytest.raises(ValueError, match="NaN"):
        model.adapt(X[:2], [1.0, np.nan], users=NEW)
    with pytest.raises(TypeError, match="age: all 2 rows are categories, and fit had numbers"):
        model.adapt(X[:2], y[:2], users=NEW.assign(age="old"))
    with pytest.raises(ValueError, match=r"users: \['income'\] are no features of fit"):
        model.partial_fit(X[:2], y[:2], users=NEW.assign(income=1.0))
    assert pickle.dumps(model) == before
    for one in (model, twin):
        one.adapt(X[:1], y[:1], users=NEW)
    assert np.array_equal(model.predict(asked), twin.predict(asked))
    assert_same(twin._model.state(), model._model.state(), "")


def test_rows_of_weight_0_have_no_features(log):
    X, y, users, _ = log
    rows = pd.concat(
        [X.merge(users), pd.DataFrame({"user_id": [999], "item_id": [1], "kind": ["odd"]})]
    )
    weights = np.r_[np.ones(len(X)), 0.0]
    model = small(user_features=["kind", "age"]).fit(rows, np.r_[y, 1.0], weights)
    assert 999 not in model.user_ids_


BAD = {
    "unknown names": (
        {"user_features": ["kindness"]},
        {},
        r"user_features: \['kindness'\] are no columns of X, nor of a table users=",
    ),
    "no such column": (
        {"item_features": ["genres", "year"]},
        {"items": True},
        r"item_features: \['year'\] are no columns of X, nor of a table items=",
    ),
    "a name twice": (
        {"user_features": ["age"], "item_features": ["age"]},
        {},
        r"user_features and item_features: \['age'\] are given twice",
    ),
    "a role": ({"user_features": ["user_id"]}, {}, r"\['user_id'\] .*another meaning"),
    "a string": ({"user_features": "age"}, {}, "'user_features' parameter"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_names_are_refused(log, case):
    options, tables, message = BAD[case]
    X, y, users, items = log
    model = small(**options)
    with pytest.raises(ValueError, match=message):
        model.fit(X.merge(users[["user_id", "age"]]), y, **({"items": items} if tables else {}))
    with pytest.raises(NotFittedError):
        model.predict(X)


def test_columns_that_vary_within_a_user_are_refused(log):
    X, y, _, _ = log
    hours = np.arange(len(X)) % 24.0
    with pytest.raises(ValueError, match=r"^hour: \d+ of 720 rows have another value"):
        small(user_features=["hour"]).fit(X.assign(hour=hours), y)


def test_the_label_is_refused_as_a_feature(log):
    X, y, _, _ = log
    with pytest.raises(ValueError, match="stars: this context column equals y"):
        small(user_features=["stars"]).fit(X.assign(stars=y), y)


def test_a_table_without_names_has_no_features(log):
    X, y, users, _ = log
    with pytest.raises(ValueError, match=r"user_features: \['kind'\] are no columns of X"):
        small(user_features=["kind"]).fit(X.to_numpy(), y)
    model = small(user_features=["kind"]).fit(X.merge(users[["user_id", "kind"]]), y)
    with pytest.raises(ValueError, match="no column names"):
        model.predict(X.assign(kind=0).to_numpy())
    assert model.recommend(np.array([[1], [2]]), n_recommendations=2)[0].shape == (2, 2)
    by_position = small().fit(X.to_numpy(), y, users=users.to_numpy(object))
    assert by_position.predict(X.to_numpy()).std() > 0.5


def test_texts_of_items_are_a_prior(log):
    X, y, _, items = log
    titles = np.where(np.arange(N_ITEMS) % 2, "a war drama of soldiers", "light comedy")
    table = items[["item_id"]].assign(text=titles)
    options = {"backbone": "scratch", "text_components": 2}
    model = small(**options).fit(X, y, items=table)
    whole = X.merge(table)
    by_rows = small(**options).fit(whole, y)
    new = pairs([1, 1], [900, 901]).assign(text=["a war drama of soldiers", "light comedy"])
    for one in (model, by_rows, pickle.loads(pickle.dumps(model))):
        found = one.predict(new)
        assert found[0] > found[1] + 0.5
        assert len(set(one.predict(new[["user_id", "item_id"]]))) == 1
    # Without a backbone, the texts are not read.
    plain = small().fit(whole, y)
    assert len(set(plain.predict(new))) == 1


def test_grid_search_and_pipeline_pass_columns(log):
    X, y, users, items = log
    whole = X.merge(users).merge(items)
    ndcg = make_ranking_scorer("ndcg", k=5, relevance_threshold=3.5, exclude_seen=False)
    search = GridSearchCV(
        small(item_features=["genres"]),
        {"user_features": [["kind"], ["kind", "age"]]},
        cv=GroupKFold(3),
        scoring={"r2": "r2", "ndcg": ndcg},
        refit="r2",
    )
    search.fit(whole, y, groups=whole["user_id"])
    assert search.best_score_ > 0.5  # on unknown users
    assert search.cv_results_["mean_test_ndcg"].min() > 0.3  # without a profile: .2
    by_table = GridSearchCV(small(), {"user_features": [["kind"], ["age"]]}, cv=3)
    by_table.fit(X, y, users=users, items=items)
    assert by_table.best_estimator_.predict(X).std() > 0.5

    encode = ColumnTransformer(
        [("kind", OneHotEncoder(sparse_output=False), ["kind"]), ("age", "passthrough", ["age"])],
        remainder="passthrough",
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")
    model = small(user_features=["kind_odd", "age"], item_features=["genres"])
    drop = FunctionTransformer(lambda table: table.drop(columns="kind_even"))
    pipeline = RecommenderPipeline([("encode", encode), ("drop", drop), ("model", model)])
    pipeline.fit(whole, y)
    asked = pairs([101, 102], [1, 1]).merge(NEW).assign(genres=[["war"]] * 2)
    odd, even = pipeline.predict(asked)
    assert odd > even + 0.5
    lists, _ = pipeline.recommend(NEW, n_recommendations=4)
    assert (lists[0] % 2 == 1).all()
    assert (lists[1] % 2 == 0).all()
    alone, _ = pipeline.recommend([101, 102], n_recommendations=4)
    assert np.array_equal(*alone)


def test_a_query_has_a_profile_in_the_columns_of_the_table_of_fit(log):
    X, y, users, items = log
    model = small().fit(X, y, users=users, items=items)
    assert set(model.feature_columns_) == {"kind", "age", "genres"}
    queries = pd.DataFrame({"user_id": ["new", "newer"], "kind": ["odd", "even"], "age": 40.0})
    lists, _ = model.recommend(queries, n_recommendations=5)
    assert (lists % 2 == [[1], [0]]).all()
    rows = queries.assign(item_id=[1, 1])
    odd, even = model.predict(rows)
    assert odd > even + 1
    named = small(user_features=["kind", "age"], item_features=["genres"])
    named.fit(X, y, users=users, items=items)
    assert_array_equal(model.predict(rows), named.predict(rows))
    # A profile that comes with the events is remembered, as from the table.
    rated = rows.assign(item_id=[3, 3])
    by_column = copy.deepcopy(model).adapt(rated, [4.0, 4.0])
    by_table = copy.deepcopy(model).adapt(rated[["user_id", "item_id"]], [4.0, 4.0], users=queries)
    assert_array_equal(by_column.predict(rows), by_table.predict(rows))


def test_a_pipeline_asks(log):
    X, y, users, _ = log
    pipeline = RecommenderPipeline([("same", FunctionTransformer()), ("model", small())])
    pipeline.fit(X, y, model__users=users)
    expected = pipeline[-1].ask([0, 1], 3)
    assert_array_equal(pipeline.ask([0, 1], 3), expected)


def test_vectors_of_items_stand_for_their_genres():
    X, y, users, items = make_log()
    rng = np.random.default_rng(1)
    kinds = (items["item_id"].to_numpy() % 2)[:, None] * np.ones(5)
    items = items[["item_id"]].assign(image=list(kinds + rng.normal(0, 0.1, (N_ITEMS, 5))))
    new = items[-10:]["item_id"]
    known = ~X["item_id"].isin(new)
    model = small().fit(X[known], y[known], users=users, items=items)
    rows = pairs(0, new)
    found = model.predict(rows)
    assert (found[::2] > found[1::2] + 1).all()  # user 0 likes the even ones
    items["image"] = [[0.5, 1.0]] * N_ITEMS
    with pytest.raises(ValueError, match="image: all 30 rows are vectors of width 2, and fit had"):
        model.partial_fit(X, y, items=items)
