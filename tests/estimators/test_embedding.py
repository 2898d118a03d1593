"""Vectors of items, made elsewhere, in the two attention models: the column ``embedding``."""

import copy
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import FunctionTransformer

from sklearn_recft import (
    AdaptiveRecommender,
    DecayBertRecommender,
    PopularityRecommender,
    RealtimeTransformerRecommender,
    load,
    save,
)
from sklearn_recft.pipeline import make_recommender_pipeline

N_KNOWN, N_ITEMS, N_USERS = 40, 60, 40
MODELS = {
    "decay": DecayBertRecommender(
        backbone=None,
        n_heads=1,
        n_factors=4,
        width=16,
        max_epochs=6,
        random_state=0,
        net_params={"batch_size": 64},
    ),
    "realtime": RealtimeTransformerRecommender(
        n_layers=1, n_heads=1, width=16, max_epochs=8, random_state=0
    ),
}


class Log:
    """Users like one half of the items, and the vector of an item says which half it is in."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.half = rng.permutation(np.arange(N_ITEMS) % 2)
        self.vectors = 3 + rng.normal(size=(N_ITEMS, 6))
        self.vectors[:, :3] += 3 * self.half[:, None]
        rows = []
        for user in range(N_USERS):
            own = np.flatnonzero(self.half[:N_KNOWN] == user % 2)
            rows += [(user, item, 1000 * t) for t, item in enumerate(rng.permutation(own)[:8])]
            rows += [(user, item, 1000 * t + 500) for t, item in enumerate(rng.integers(0, 40, 4))]
        X = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
        self.X = X.sort_values("timestamp", kind="stable").reset_index(drop=True)
        self.y = self.likes(self.X)
        self.items = self.table(range(N_KNOWN))
        self.new = self.table(range(N_KNOWN, N_ITEMS))
        pairs = [(user, item, 10**6) for user in range(20) for item in range(N_KNOWN, N_ITEMS)]
        self.cold = pd.DataFrame(pairs, columns=X.columns)

    def table(self, items):
        return pd.DataFrame({"item_id": items, "embedding": list(self.vectors[list(items)])})

    def likes(self, X):
        return (self.half[X["item_id"]] == X["user_id"] % 2).astype(int)

    def with_vectors(self, X):
        return X.assign(embedding=list(self.vectors[X["item_id"]]))

    def learned(self, name, X):
        """Return what a model learns of rows: likes, or positives only."""
        return (X, self.likes(X)) if name == "decay" else (X[self.likes(X) == 1],)


@pytest.fixture(scope="module")
def log():
    return Log()


@pytest.fixture(scope="module", params=list(MODELS))
def fitted(request, log):
    """Return the name of a model, and the model, fitted on a log with a table of vectors."""
    model = clone(MODELS[request.param])
    return request.param, model.fit(*log.learned(request.param, log.X), items=log.items)


def scores(model, X):
    return model.decision_function(X) if hasattr(model, "classes_") else model.predict(X)


def auc(log, model, X):
    return roc_auc_score(log.likes(X), scores(model, X))


def test_items_without_events_are_ranked_by_their_vectors(log, fitted):
    name, model = fitted
    assert model.feature_columns_ == ["embedding"]
    unknown = scores(model, log.with_vectors(log.cold))
    assert roc_auc_score(log.likes(log.cold), unknown) > 0.8
    rows = log.with_vectors(log.X[-30:])
    later = copy.deepcopy(model).partial_fit(*log.learned(name, rows), items=log.new)
    assert auc(log, later, log.cold) > 0.8
    listed, _ = later.recommend([0, 1, 2, 3], n_recommendations=4, candidates=log.new["item_id"])
    assert (log.half[listed.astype(int)] == np.arange(4)[:, None] % 2).mean() > 0.8


def test_vectors_in_rows_are_those_of_a_table(log, fitted):
    name, model = fitted
    rows = log.with_vectors(log.X)
    twin = clone(model).fit(*log.learned(name, rows), items=log.items)
    assert_array_equal(scores(twin, log.X), scores(model, log.X))
    new = log.with_vectors(log.cold[:20])
    seen = copy.deepcopy(model).observe(*log.learned(name, new))
    ids = seen.item_ids_[N_KNOWN:]
    rest = log.cold[log.cold["item_id"].isin(ids) & (log.cold["user_id"] > 0)]
    assert auc(log, seen, rest.assign(timestamp=2 * 10**6)) > 0.7  # remembered by `observe`


def test_a_column_without_vectors_changes_nothing(log, fitted):
    name, _ = fitted
    plain = clone(MODELS[name]).set_params(max_epochs=1)
    nothing = log.items.assign(embedding=None)
    without = clone(plain).fit(*log.learned(name, log.X))
    empty = clone(plain).fit(*log.learned(name, log.X.assign(embedding=None)))
    assert_array_equal(scores(empty, log.X), scores(without, log.X))
    assert empty.feature_columns_ == []
    assert clone(plain).fit(*log.learned(name, log.X), items=nothing).feature_columns_ == []
    with pytest.raises(ValueError, match="embedding: 1200 of 1200 rows are vectors, and fit had n"):
        scores(without, pd.concat([log.with_vectors(log.cold)] * 3))
    with pytest.raises(ValueError, match=r"embedding: 20 items .* width 6, and fit had none"):
        without.partial_fit(*log.learned(name, log.X[:20]), items=log.new)


def vectors_with(log, fault):
    """Return vectors of the new items with a fault in the first."""
    vectors = [vector.copy() for vector in log.new["embedding"]]
    if fault in ("nan", "inf"):
        vectors[0][2] = float(fault)
    elif fault == "length":
        vectors[0] = vectors[0][:5]
    elif fault == "width":
        vectors = [vector[:5] for vector in vectors]
    else:
        vectors[0] = fault
    return vectors


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("nan", "embedding: 1 of 20 rows are vectors with NaN or infinite numbers. Replace"),
        ("inf", "embedding: 1 of 20 rows are vectors with NaN or infinite numbers. Replace"),
        ("length", "embedding: 1 of 20 rows are vectors of another width than 6"),
        ("width", "embedding: 20 items have vectors of width 5, and fit had vectors of width 6"),
        ("a", r"embedding: 1 of 20 rows are no vectors but \['str'\]"),
        (0.5, r"embedding: 1 of 20 rows are no vectors but \['float'\]"),
        ([[1.0, 2.0]], r"embedding: 1 of 20 rows are no vectors but \['list'\]"),
    ],
)
def test_bad_vectors_are_refused_and_change_nothing(log, fitted, fault, message):
    name, model = fitted
    before, error = pickle.dumps(model), TypeError if "but" in message else ValueError
    bad = log.new.assign(embedding=vectors_with(log, fault))
    rows = log.learned(name, log.X[-40:])
    with pytest.raises(error, match=f"items, {message}|^{message}"):
        model.partial_fit(*rows, items=bad)
    new = log.cold[:20].assign(embedding=bad["embedding"])
    if fault != "width":
        with pytest.raises(error, match=message):
            scores(model, new)
    else:
        with pytest.raises(ValueError, match="embedding: all 20 rows are vectors of width 5, and"):
            scores(model, new)
    assert pickle.dumps(model) == before


def test_another_vector_of_an_item_is_refused(log, fitted):
    name, model = fitted
    before = pickle.dumps(model)
    rows = log.X[-40:]
    changed = log.items.assign(embedding=list(log.vectors[:N_KNOWN] + (np.arange(40) < 3)[:, None]))
    with pytest.raises(ValueError, match="embedding: 3 items have another vector than before"):
        model.partial_fit(*log.learned(name, rows), items=changed)
    two = log.with_vectors(log.cold[:20].assign(item_id=50))
    two.at[two.index[-1], "embedding"] = log.vectors[0]
    with pytest.raises(ValueError, match="embedding: 1 of 20 rows have another value than an ea"):
        model.observe(two, *([np.ones(20)] if name == "decay" else []))
    table = pd.DataFrame({"item_id": [50, 50], "embedding": list(log.vectors[:2])})
    with pytest.raises(ValueError, match="items, embedding: 1 of 2 rows have another value"):
        model.partial_fit(*log.learned(name, rows), items=table)
    given = log.with_vectors(log.cold[10:11].assign(user_id=0))
    other = given[["item_id", "embedding"]].assign(embedding=[log.vectors[0]])
    with pytest.raises(ValueError, match="items, embedding: 1 items have another vector than in X"):
        model.partial_fit(*((given, [1]) if name == "decay" else (given,)), items=other)
    assert pickle.dumps(model) == before
    same = copy.deepcopy(model).partial_fit(*log.learned(name, rows), items=log.items)
    plain = copy.deepcopy(model).partial_fit(*log.learned(name, rows))
    assert_array_equal(scores(same, log.X), scores(plain, log.X))


def test_a_vector_may_come_later_than_its_item(log, fitted, monkeypatch):
    name, model = fitted
    model = copy.deepcopy(model)
    rows = log.cold[:20]
    model.observe(*log.learned(name, rows))
    before = scores(model, log.cold)
    state = pickle.dumps(model)

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    owner = type(model._model.history)
    with monkeypatch.context() as patch:
        patch.setattr(owner, "append", interrupt)
        with pytest.raises(KeyboardInterrupt):
            model.partial_fit(*log.learned(name, log.X[-20:]), items=log.new)
    assert pickle.dumps(model) == state
    model.partial_fit(*log.learned(name, log.X[-20:]), items=log.new)
    known = log.cold[log.cold["item_id"].isin(rows["item_id"]) & (log.cold["user_id"] > 0)]
    known = known.assign(timestamp=2 * 10**6)
    assert auc(log, model, known) > 0.75
    assert (scores(model, log.cold) != before).any()
    with pytest.raises(ValueError, match="1 items have another vector than before"):
        model.partial_fit(
            *log.learned(name, log.X[-20:]),
            items=log.new[:1].assign(embedding=[log.vectors[0]]),
        )


def test_adapt_leaves_known_items_as_they_are(log, fitted):
    name, model = fitted
    model = copy.deepcopy(model).observe(*log.learned(name, log.cold[:20]))
    known = log.cold[20:][log.cold["item_id"][20:].isin(model.item_ids_)]
    before = scores(model, known)
    model.adapt(*log.learned(name, log.with_vectors(log.cold[:20].assign(user_id=999))))
    assert_array_equal(scores(model, known), before)


def test_a_saved_model_goes_on_to_the_bit(log, fitted, tmp_path):
    name, model = fitted
    model = copy.deepcopy(model)
    save(model, tmp_path / "model")
    twins = [load(tmp_path / "model"), pickle.loads(pickle.dumps(model))]
    rows = log.with_vectors(log.cold[:60])
    for one in (model, *twins):
        one.partial_fit(*log.learned(name, rows), items=log.new)
    for twin in twins:
        assert_array_equal(scores(twin, log.cold), scores(model, log.cold))
        with pytest.raises(ValueError, match="20 items have another vector than before"):
            twin.partial_fit(
                *log.learned(name, rows.drop(columns="embedding")),
                items=log.new.assign(embedding=list(log.vectors[:20])),
            )


def test_later_vectors_do_not_reach_earlier_rows(log, fitted):
    name, model = fitted
    before = scores(model, log.X)
    later = log.with_vectors(log.cold)
    if name == "decay":
        expected = copy.deepcopy(model).partial_fit_predict_proba(later, log.likes(later))
        other = later.assign(embedding=list(log.vectors[later["item_id"] - 20]))
        wrong = pd.concat(
            [later[:10], other[30:40].assign(item_id=range(90, 100), timestamp=10**7)]
        )
        found = copy.deepcopy(model).partial_fit_predict_proba(wrong, np.ones(20))
        assert_array_equal(found[:10], expected[:10])
    else:
        seen = copy.deepcopy(model).observe(*log.learned(name, later))
        assert_array_equal(scores(seen, log.X), before)


def test_users_are_forgotten_and_items_are_not(log, fitted):
    _, model = fitted
    left = copy.deepcopy(model).forget([0, 1])
    rest = log.X[log.X["user_id"] > 1]
    assert_array_equal(scores(left, rest), scores(model, rest))
    with pytest.raises(ValueError, match=r"forget_items: a .* cannot"):
        left.forget_items([3])


def test_an_array_takes_a_table_of_vectors(log):
    X = log.X[log.y == 1].to_numpy()
    model = clone(MODELS["realtime"]).fit(X, items=log.items)
    model.partial_fit(X[-20:], items=log.new)
    listed, _ = model.recommend([[0, 10**6]], n_recommendations=4, candidates=log.new["item_id"])
    assert (log.half[listed.astype(int)] == 0).mean() > 0.7
    with pytest.raises(ValueError, match=r"items: columns item_id and text are needed, or item_id"):
        clone(model).fit(X, items=log.items.rename(columns={"embedding": "image"}))


def test_texts_and_vectors_add_up(log):
    items = log.items.assign(text=[f"item of {i % 3}" for i in range(N_KNOWN)])
    small = {"backbone": "scratch", "max_epochs": 3}
    for name, plain in MODELS.items():
        rows = log.learned(name, log.X[:400])
        model = clone(plain).set_params(**small).fit(*rows, items=items)
        without = log.cold.assign(text="item of 1")
        assert auc(log, model, log.with_vectors(without)) > auc(log, model, without) + 0.1
        query = pd.DataFrame({"user_id": [0], "query": ["of 1"]})
        assert len(model.recommend(query, n_recommendations=3)[0][0]) == 3


def test_numbers_of_that_name_are_to_be_renamed(log):
    for name, plain in MODELS.items():
        X, *y = log.learned(name, log.X[:50])
        wanted = rf"embedding: {len(X)} of {len(X)} rows are no vectors but .* rename the column"
        with pytest.raises(TypeError, match=wanted):
            clone(plain).fit(X.assign(embedding=0.5), *y)


def test_a_blend_gives_vectors_to_the_members_that_read_them(log):
    X = log.with_vectors(log.learned("realtime", log.X)[0])
    member = clone(MODELS["realtime"]).set_params(max_epochs=1, max_history=10)
    blend = AdaptiveRecommender([("popular", PopularityRecommender()), ("net", member)])
    blend.fit(X[:150]).partial_fit(X[150:170])
    direct = clone(member).fit(X[:120])
    for part in (*np.array_split(np.arange(120, 150), 5), np.arange(150, 170)):
        direct.partial_fit(X.iloc[part])
    popular, net = blend.estimators_
    assert_array_equal(net.predict(X), direct.predict(X))
    assert (net.feature_columns_, blend.feature_columns_) == (["embedding"], ["embedding"])
    assert popular.n_features_in_ == 3
    plain = X.drop(columns="embedding")
    assert_array_equal(blend.predict(X), blend.predict(plain))
    with pytest.raises(ValueError, match=r"embedding: all 5 rows are vectors of width 2"):
        blend.partial_fit(X[170:175].assign(embedding=[[0.5, 1.0]] * 5))
    alone = AdaptiveRecommender([("popular", PopularityRecommender())])
    with pytest.raises(ValueError, match=r"embedding: not numeric \(50 of 50 rows are lists"):
        alone.fit(X[:50])


@pytest.mark.parametrize("library", ["pandas", "polars", "arrays"])
def test_a_pipeline_answers_queries_without_vectors(library, log):
    X = log.with_vectors(log.learned("realtime", log.X)[0][:80])
    direct = clone(MODELS["realtime"]).set_params(max_epochs=1).fit(X)
    queries = pd.DataFrame({"user_id": [0, 1], "timestamp": 10**7})
    wanted = direct.recommend(queries, n_recommendations=3)
    if library != "pandas":
        lists = X.assign(embedding=[row.tolist() for row in X["embedding"]])
        X, queries = pl.from_pandas(lists), pl.from_pandas(queries)
    if library == "arrays":
        X = X.with_columns(pl.col("embedding").cast(pl.Array(pl.Float64, 6)))
    steps = FunctionTransformer(), clone(direct)
    found = make_recommender_pipeline(*steps).fit(X).recommend(queries, n_recommendations=3)
    assert_array_equal(found[0], wanted[0])
    assert_array_equal(found[1], wanted[1])


def test_a_history_may_have_vectors(log, fitted):
    name, model = fitted
    if name != "realtime":
        return
    history = log.X[log.X["user_id"] == 3]
    queries = pd.DataFrame({"user_id": [3], "timestamp": 10**7})
    given = log.with_vectors(history)
    found = model.recommend(queries.assign(embedding=None), history=given, n_recommendations=3)
    assert_array_equal(found, model.recommend(queries, history=history, n_recommendations=3))
