"""RealtimeTransformerRecommender: histories, query times, context, texts and errors."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_recft import RealtimeTransformerRecommender
from sklearn_recft.metrics import make_ranking_scorer
from sklearn_recft.model_selection import TemporalSplit
from sklearn_recft.text._encoder import TextEncoder
from tests.contract.helpers import memory
from tests.models.sequence_data import (
    DAY,
    LATER,
    N_ITEMS,
    N_USERS,
    START,
    make_log,
    make_model,
    moved,
    parameters,
)

WORDS = np.array(["red tea", "green tea", "oat milk", "rye bread", "cold coffee"])
EVERY = {"n_recommendations": N_ITEMS, "exclude_seen": False}
ALONE = {"trend_half_lives": ()}  # what others do moves nobody


def queries_at(users=range(N_USERS), time=LATER):
    return pd.DataFrame({"user_id": list(users), "timestamp": time})


def with_texts(X):
    return X.assign(text=WORDS[X.item_id % 5] + X.item_id.map(lambda item: f" no {item}"))


def with_context(X, seed=0):
    rng = np.random.default_rng(seed)
    return X.assign(mood=rng.normal(3, 2, len(X)), hour=rng.integers(0, 24, len(X)))


@pytest.fixture(scope="module")
def fitted():
    return make_model(3, learning_rate=0.02, **ALONE).fit(make_log(6))


@pytest.fixture(scope="module")
def reader():
    return make_model(2, backbone="scratch", freeze_blocks=1, learning_rate=0.02, **ALONE).fit(
        with_texts(make_log(6))
    )


# ------------------------------------------------------------------------------ the last click


def test_observe_changes_the_next_list_but_no_weights(fitted):
    model, state = copy.deepcopy(fitted), copy.deepcopy(fitted.module_.state_dict())
    before = model.recommend(queries_at(), **EVERY)[1]
    clicks = make_log(1, seed=3, begin=LATER - 3600)[: N_USERS // 2]
    assert model.observe(clicks) is model
    assert not moved(model, parameters(fitted))
    for name, value in model.module_.state_dict().items():
        assert torch.equal(value, state[name])
    after = model.recommend(queries_at(), **EVERY)[1]
    assert (after != before).any(1).tolist() == [True] * 6 + [False] * 6
    for user, item in zip(clicks.user_id, clicks.item_id, strict=True):
        candidates = [item, *(i for i in range(N_ITEMS) if i != item)][:6]
        with pytest.raises(ValueError, match="eligible"):
            model.recommend([user], candidates=candidates, n_recommendations=6)


def test_item_3_follows_item_2():
    X = make_log(12, n_users=30)
    model = make_model(8, n_layers=1, learning_rate=0.03, dropout=0.0).fit(X)
    clicks = pd.DataFrame({
        "user_id": np.arange(N_ITEMS), "item_id": range(N_ITEMS), "timestamp": LATER,
    })  # fmt: skip
    queries = queries_at(range(N_ITEMS), LATER + 1800)
    items, _ = model.recommend(queries, history=clicks, n_recommendations=1, exclude_seen=False)
    assert (items[:, 0] == (clicks.item_id + 1) % N_ITEMS).mean() >= 0.8


@pytest.mark.parametrize("feedback", [False, True])
def test_a_given_history_equals_observed_events(feedback):
    X, rng = make_log(6), np.random.default_rng(0)
    y = rng.choice([-1.0, 1.0, 2.0], len(X)) if feedback else None
    model = make_model(2, learning_rate=0.02, **ALONE).fit(X, y)
    events = make_log(3, n_users=4, seed=4, begin=LATER - 5000)
    events["user_id"] = [f"visitor {user}" for user in events.user_id]
    y = rng.choice([-1.0, 1.0, 2.0], len(events)) if feedback else None
    before = memory(model)
    queries = queries_at(["visitor 0", "visitor 3", "visitor 1", "a stranger"])
    observed = copy.deepcopy(model).observe(events, y)
    history = (events, y) if feedback else events
    for exclude in (True, False):
        given = {"n_recommendations": 5, "exclude_seen": exclude}
        found = model.recommend(queries, history=history, **given)
        expected = observed.recommend(queries, **given)
        # But for strangers, who hear of how often items were met, now once more.
        assert_array_equal(found[0][:3], expected[0][:3])
        assert_array_equal(found[1][:3], expected[1][:3])
    assert memory(model) == before
    assert model.n_users_ == N_USERS


def test_a_given_history_replaces_the_stored_one(fitted):
    """For known users, and for users without events in it."""
    X, other = make_log(6), make_log(2, seed=9)
    twin = pickle.loads(pickle.dumps(fitted))
    for history in (X, other):
        found = twin.recommend(queries_at(), history=history, **EVERY)[1]
        remembered = fitted.recommend(queries_at(), **EVERY)[1]
        assert (found == remembered).all() == (history is X)
    one = X[X.user_id == 0]
    items, scores = fitted.recommend(queries_at(), history=one, **EVERY)
    stranger = fitted.recommend(["a stranger"], **EVERY)
    assert_array_equal(items[1:], np.repeat(stranger[0], N_USERS - 1, 0))
    assert_array_equal(scores[1:], np.repeat(stranger[1], N_USERS - 1, 0))


def test_unknown_items_of_a_history_are_ignored(fitted):
    one = pd.DataFrame({"user_id": "me", "item_id": [3, 4], "timestamp": [LATER - 90, LATER - 60]})
    more = pd.concat([one, one.assign(item_id=["what", "who"])])
    queries = queries_at(["me"])
    expected = fitted.recommend(queries, history=one, **EVERY)
    found = fitted.recommend(queries, history=more, **EVERY)
    assert_array_equal(found[1], expected[1])
    nothing = fitted.recommend(queries, history=more[2:], **EVERY)
    assert_array_equal(nothing[1], fitted.recommend(["a stranger"], **EVERY)[1])


def test_a_history_needs_feedback_if_fit_had_it(fitted):
    X = make_log(6)
    with pytest.raises(ValueError, match=r"fit was given no feedback; give the table"):
        fitted.recommend([0], history=(X, np.ones(len(X))))
    model = make_model().fit(X, np.ones(len(X)))
    with pytest.raises(ValueError, match=r"fit was given feedback.*\(table, feedback\)"):
        model.recommend([0], history=X)
    with pytest.raises(ValueError, match="X has no column item_id"):
        fitted.recommend([0], history=X[["user_id"]])
    with pytest.raises(ValueError, match=r"fit was called without y"):
        fitted.observe(X, np.ones(len(X)))
    with pytest.raises(ValueError, match=r"fit was called with y"):
        model.observe(X)


# ----------------------------------------------------------------------- moment and context


@pytest.mark.parametrize("decay", ["log", "exponential", "none"])
def test_query_time_changes_scores_if_enabled(decay):
    X = make_log(6)
    for query_time in (True, False):
        model = make_model(2, decay=decay, query_time=query_time).fit(X)
        soon, late = (
            model.recommend(queries_at(time=t), **EVERY)[1] for t in (LATER, LATER + 9 * DAY)
        )
        assert (soon != late).any() == query_time
        rows = X.tail(N_USERS)
        y_pred = [model.predict(rows.assign(timestamp=t)) for t in (LATER, LATER + 9 * DAY)]
        assert (y_pred[0] != y_pred[1]).any() == query_time


def test_a_query_without_timestamp_comes_after_all_events(fitted):
    X = make_log(6)
    after = queries_at(time=X.timestamp.max() + 1.0)
    expected = fitted.recommend(after, **EVERY)[1]
    assert_array_equal(fitted.recommend(np.arange(N_USERS), **EVERY)[1], expected)
    assert_array_equal(fitted.recommend(queries_at()[["user_id"]], **EVERY)[1], expected)
    rows = X.tail(N_USERS)
    y_pred = fitted.predict(rows.assign(timestamp=X.timestamp.max() + 1.0))
    assert_array_equal(fitted.predict(rows.drop(columns="timestamp")), y_pred)
    model = copy.deepcopy(fitted).observe(rows.drop(columns="timestamp"))
    one = model.attend(rows[:1].assign(timestamp=X.timestamp.max() + 2.0))
    assert one.item_ids[0, 0] == rows.item_id.iloc[0]


def test_a_log_without_timestamps_uses_the_order():
    X = make_log(8)[["user_id", "item_id"]]
    model = make_model(8, n_layers=1, learning_rate=0.03).fit(X)
    assert np.isinf(model.half_lives_).all()
    by_place = make_model(8, n_layers=1, learning_rate=0.03).fit(X.to_numpy())
    assert_array_equal(by_place.predict(X.to_numpy()), model.predict(X))
    expected = model.recommend(np.arange(N_USERS), **EVERY)[1]
    for time in (0, LATER, LATER + 99 * DAY):  # of a query that need not have one
        assert_array_equal(model.recommend(queries_at(time=time), **EVERY)[1], expected)
    history = X.groupby("user_id").tail(4)
    model.observe(history)
    found = model.recommend(np.arange(N_USERS), history=X, **EVERY)[1]
    assert_array_equal(found, expected)
    assert (model.recommend(np.arange(N_USERS), **EVERY)[1] != expected).any()
    model.partial_fit(history)
    assert model.attend(X[:1]).item_ids[0, 0] == history[history.user_id == 0].item_id.iloc[-1]


def test_context_changes_scores_by_name_and_by_position():
    X = with_context(make_log(6))
    model = make_model(3, learning_rate=0.05).fit(X)
    rows = X.tail(N_USERS).assign(timestamp=LATER)
    y_pred = model.predict(rows)
    assert (model.predict(rows.assign(mood=rows.mood + 5)) != y_pred).all()
    assert (model.predict(rows.assign(hour=rows.hour + 5)) != y_pred).all()
    turned = rows[["hour", "timestamp", "item_id", "mood", "user_id"]]
    assert_array_equal(model.predict(turned), y_pred)
    by_place = make_model(3, learning_rate=0.05).fit(X.to_numpy())
    assert_array_equal(by_place.predict(rows.to_numpy()), y_pred)
    queries = rows[["user_id", "timestamp", "mood", "hour"]]
    items, scores = model.recommend(queries, **EVERY)
    assert_array_equal(scores, model.recommend(queries[queries.columns[::-1]], **EVERY)[1])
    assert_array_equal(scores, by_place.recommend(queries.to_numpy(), **EVERY)[1])
    for row in range(N_USERS):
        each = rows.iloc[[row] * N_ITEMS].assign(item_id=items[row])
        assert_allclose(model.predict(each), scores[row], rtol=1e-5, atol=1e-5)
    average = queries.assign(mood=X.mood.mean(), hour=X.hour.mean())
    bare = model.recommend(queries[["user_id", "timestamp"]], **EVERY)[1]
    assert_allclose(model.recommend(average, **EVERY)[1], bare, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"missing: \['mood'\]"):
        model.predict(rows.drop(columns="mood"))
    with pytest.raises(ValueError, match="context columns"):
        model.recommend(queries.rename(columns={"mood": "weather"}), **EVERY)


# --------------------------------------------------------------------- strangers, new items


def test_unknown_users_get_popular_items():
    X = make_log(6)
    y = np.where(X.item_id % 3 == 0, 0.0, 1.0)  # what nobody liked is not popular
    model = make_model(**ALONE).fit(X, y)
    often = X.item_id[y > 0].value_counts().reindex(model.item_ids_, fill_value=0).to_numpy()
    expected = model.item_ids_[np.argsort(-often, kind="stable")]
    items, scores = model.recommend(["a stranger", "another"], **EVERY)
    assert_array_equal(items, [expected] * 2)
    assert (np.diff(scores[0]) <= 0).all()
    rows = pd.DataFrame({"user_id": "a stranger", "item_id": items[0], "timestamp": LATER})
    assert_allclose(model.predict(rows), scores[0], rtol=1e-6)
    early = queries_at([0], START - DAY)  # who is known, but had done nothing by then
    assert_array_equal(model.recommend(early, **EVERY)[0][0], expected)
    new = rows[:1].assign(item_id="never met")
    assert model.predict(new)[0] <= scores.min()


def test_unknown_items_have_equal_scores(fitted):
    X = make_log(6)
    rows = X.tail(N_USERS).assign(timestamp=LATER)
    y_pred = fitted.predict(rows.assign(item_id="what"))
    assert np.isfinite(y_pred).all()
    assert len(set(y_pred)) == N_USERS
    assert_array_equal(fitted.predict(rows.assign(item_id=range(900, 900 + N_USERS))), y_pred)
    mixed = rows.assign(item_id=[*rows.item_id[:5], *["what"] * (N_USERS - 5)])
    expected = np.r_[fitted.predict(rows)[:5], y_pred[5:]]
    assert_allclose(fitted.predict(mixed), expected, rtol=1e-5, atol=1e-6)
    # As it is once somebody else has met it, and nothing was learned.
    met = copy.deepcopy(fitted).observe(rows[:1].assign(user_id="x", item_id="what"))
    assert_allclose(met.predict(rows.assign(item_id="what")), y_pred, rtol=1e-5, atol=1e-6)


def test_catalogue_items_can_be_recommended_and_differ_by_text(reader):
    listed = pd.DataFrame({"item_id": ["a", "b", "c"], "text": [*WORDS[:2], WORDS[0]]})
    X = with_texts(make_log(6))
    fresh = make_model(1, backbone="scratch").fit(X, items=listed)
    later = copy.deepcopy(reader).partial_fit(
        with_texts(make_log(1, begin=LATER - 3600)), items=listed
    )
    for model in (fresh, later):
        items, scores = model.recommend(
            queries_at(), candidates=["a", "b", "c"], n_recommendations=3
        )
        assert (np.sort(items.astype(str), axis=1) == ["a", "b", "c"]).all()
        assert model.n_items_ == N_ITEMS + 3
        a, b, c = (scores[items == name] for name in ("a", "b", "c"))  # in the order of users
        assert (a != b).all()
        if model is later:  # these begin alike, and differ by their texts
            assert np.abs(a - c).mean() < 0.3 * np.abs(a - b).mean()


def test_unknown_items_are_scored_by_the_text_of_their_row(reader):
    rows = with_texts(make_log(6)).tail(N_USERS).assign(timestamp=LATER, item_id="new")
    tea, milk = (reader.predict(rows.assign(text=WORDS[word])) for word in (0, 2))
    assert (tea != milk).all()
    again = rows.assign(item_id=range(900, 900 + N_USERS), text=WORDS[0])
    assert_allclose(reader.predict(again), tea, rtol=1e-4, atol=1e-5)
    met = copy.deepcopy(reader).observe(
        pd.DataFrame({"user_id": ["x"], "item_id": "new", "timestamp": 9.0, "text": WORDS[0]})
    )
    assert_allclose(met.predict(rows.assign(text="")), tea, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["partial_fit", "observe"])
def test_a_failing_encoder_is_rolled_back(reader, method, monkeypatch):
    model, queries = copy.deepcopy(reader), with_texts(make_log(6)).assign(timestamp=LATER)
    twin, before = copy.deepcopy(model), model.predict(queries)
    size = len(pickle.dumps(model))
    news = with_texts(make_log(3, n_users=20, seed=2, begin=LATER - 5000))
    news = news.assign(item_id=news.item_id + 7, text="a text that nobody has read")

    def broken(self, *args, **kwargs):
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(TextEncoder, "encode", broken)
        with pytest.raises(RuntimeError, match="out of memory"):
            getattr(model, method)(news)
    assert_array_equal(model.predict(queries), before)
    assert (model.n_users_, model.n_items_) == (N_USERS, N_ITEMS)
    assert len(pickle.dumps(model)) == size
    for each in (model, twin):
        getattr(each, method)(news)
    assert_array_equal(model.predict(queries), twin.predict(queries))


# ------------------------------------------------------------------------ in others' hands


def test_grid_search_in_a_pipeline():
    X = make_log(8)
    steps = [("as it is", FunctionTransformer()), ("model", make_model(1))]
    search = GridSearchCV(
        Pipeline(steps),
        {"model__decay": ["log", "none"], "model__query_time": [True, False]},
        cv=TemporalSplit(2, test_size=0.2), error_score="raise",
        scoring=make_ranking_scorer("ndcg", k=3, exclude_seen=False),
    )  # fmt: skip
    search.fit(X, np.ones(len(X)))
    scores = search.cv_results_["mean_test_score"]
    assert np.isfinite(scores).all()
    assert len(set(scores)) > 1
    best = search.best_estimator_["model"]
    assert best.module_.query_time == search.best_params_["model__query_time"]
    assert best.module_.timed == (search.best_params_["model__decay"] != "none")


@pytest.mark.parametrize("which", ["ids", "texts"])
def test_a_saved_model_continues(fitted, reader, which):
    model = copy.deepcopy(fitted if which == "ids" else reader)
    dress = with_texts if which == "texts" else lambda X: X
    other = pickle.loads(pickle.dumps(model))
    news = dress(make_log(3, n_users=15, seed=2, begin=LATER - 5000))
    news = news.assign(item_id=news.item_id + 4)
    for each in (model, other):
        each.observe(news[:10]).partial_fit(news[10:])
    assert not moved(model, parameters(other))
    for one, two in zip(*(m.recommend(queries_at(), **EVERY) for m in (model, other)), strict=True):
        assert_array_equal(one, two)


# ------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_layers": 0}, "n_layers"),
        ({"n_heads": 0}, "n_heads"),
        ({"max_history": 0}, "max_history"),
        ({"decay": "linear"}, "decay"),
        ({"query_time": "yes"}, "query_time"),
        ({"max_epochs": 0}, "max_epochs"),
        ({"backbone": "no/such-model-anywhere"}, "scratch"),
        ({"n_jobs": 0}, "n_jobs=0"),
        ({"net_params": {"n_factors": 3}}, r"net_params: 'n_factors' is unknown"),
        ({"net_params": {"width": 8}}, r"net_params: 'width' is the estimator's own"),
        ({"width": 7}, "width=7.*n_heads=2"),
        ({"trend_half_lives": (3, 1)}, r"trend_half_lives=\(3, 1\).*ascending"),
        ({"trend_half_lives": (-1, 3)}, r"trend_half_lives"),
        ({"training__freeze_blocks": 3}, "freeze_blocks=3.*n_layers=2"),
    ],
    ids=str,
)
def test_invalid_parameters_raise(change, message, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    X = with_texts(make_log(4)) if "backbone" in change else make_log(4)
    model = RealtimeTransformerRecommender(max_epochs=1).set_params(**change)
    with pytest.raises(ValueError, match=message):
        model.fit(X)
    assert not hasattr(model, "n_users_")
    with pytest.raises(ValueError, match="not fitted"):
        model.predict(X)


def test_a_failing_fit_keeps_the_last_model():
    X = make_log(4)
    model = make_model().fit(X)
    before = model.predict(X)
    with pytest.raises(ValueError, match="unknown"):
        model.set_params(net_params={"n_factors": 3}).fit(X)
    model.set_params(width=16)
    assert_array_equal(model.predict(X), before)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_another_optimizer(optimizer):
    """It gets none of the options of the default one."""
    model = RealtimeTransformerRecommender(
        width=16, max_epochs=1, random_state=0, net_params={"optimizer": optimizer}
    ).fit(make_log())
    assert type(model.net_.optimizer_) is optimizer
