"""Scores of the sequence model depend only on events before a row."""

import copy

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_recft import RealtimeTransformerRecommender
from tests.models.sequence_data import DAY, LATER, N_ITEMS, N_USERS, make_log, make_model


def make_news(n=60, n_users=N_USERS, seed=5):
    """Rows in time order with many ties per user, but no item twice at one time."""
    rng = np.random.default_rng(seed)
    news = pd.DataFrame({
        "user_id": rng.integers(0, n_users, n), "item_id": rng.integers(0, N_ITEMS, n),
        "timestamp": LATER + 3600.0 * np.sort(rng.integers(0, 9, n)),
        "mood": rng.normal(size=n),
    })  # fmt: skip
    return news.drop_duplicates(["user_id", "item_id", "timestamp"], ignore_index=True)


def with_mood(X, seed=0):
    return X.assign(mood=np.random.default_rng(seed).normal(size=len(X)))


@pytest.fixture(scope="module")
def log():
    X = with_mood(make_log())
    return X, np.random.default_rng(0).choice([-1.0, 1.0, 2.0], len(X))


@pytest.fixture(scope="module", params=[(), (0.02, np.inf)], ids=["alone", "trends"])
def fitted(log, request):
    # Room for all that happens, since what is kept of a user is bounded.
    own = {"learning_rate": 0.02, "trend_half_lives": request.param}
    return make_model(2, max_history=30, **own).fit(*log)


def observed(model, X, y):
    return copy.deepcopy(model).observe(X, y) if len(X) else model


def scrambled(news, y, rows, seed):
    """Alter all columns of some rows except their times."""
    rng, n = np.random.default_rng(seed), rows.sum()
    other, feedback = news.copy(), y.copy()
    other.loc[rows, "user_id"] = rng.integers(0, N_USERS + 3, n)
    other.loc[rows, "item_id"] = rng.integers(0, N_ITEMS + 3, n)
    other.loc[rows, "mood"], feedback[rows] = rng.normal(size=n), rng.normal(size=n)
    return other, feedback


# ------------------------------------------------------------------------------------ leakage


@pytest.mark.parametrize("row", [7, 20, 33, 45])
def test_later_rows_do_not_change_a_score(fitted, row):
    """If later rows are altered, removed or added, the score of a row is bitwise equal."""
    news = make_news()
    y, queries = np.random.default_rng(1).choice([-1.0, 1.0, 2.0], len(news)), news[row : row + 1]
    now, place = queries.timestamp.iloc[0], np.arange(len(news))
    assert ((news.timestamp == now) & (place != row)).any(), "no test of ties"
    behind = (news.timestamp > now) | ((news.timestamp == now) & (place >= row))
    expected = observed(fitted, news, y).predict(queries)
    assert_array_equal(observed(fitted, news[~behind], y[~behind]).predict(queries), expected)
    for seed in range(3):
        altered = scrambled(news, y, behind & (place != row), seed)
        assert_array_equal(observed(fitted, *altered).predict(queries), expected)
    more = queries.loc[queries.index.repeat(8)].assign(
        item_id=np.arange(8), timestamp=now + np.array([0, 0, 0, 1, 60, 3600, DAY, 300 * DAY])
    )
    added = observed(observed(fitted, news, y), more, np.ones(8))
    assert_array_equal(added.predict(queries), expected)
    # What is not there to be moved could not be: what came before does count.
    same = ~behind & (news.user_id == queries.user_id.iloc[0])
    before = scrambled(news, y, same, 0) if same.any() else (news, y)
    assert (observed(fitted, *before).predict(queries) != expected).any() == same.any()


def test_a_score_does_not_change_after_the_row_is_observed(fitted):
    """For each row of a stream, before it is observed and after all rows are."""
    news = make_news()
    y, model = np.ones(len(news)), copy.deepcopy(fitted)
    before = []
    for row in range(len(news)):
        one = news[row : row + 1]
        before.append(model.predict(one)[0])
        model.observe(one, y[row : row + 1])
    after = [model.predict(news[row : row + 1])[0] for row in range(len(news))]
    assert_array_equal(after, before)
    assert_allclose(model.predict(news), before, rtol=1e-5, atol=1e-5)


def test_training_rows_see_the_rows_before_them(fitted, log):
    X, _ = log
    past = fitted.attend(X)
    for row in range(len(X)):
        its = X[: row + 1][X.user_id[: row + 1] == X.user_id[row]].item_id.tolist()[:-1]
        found = [item for item in past.item_ids[row] if item is not None]
        assert found == its[::-1]


@pytest.mark.parametrize("query_time", [True, False])
@pytest.mark.parametrize("n_layers", [1, 2])
def test_recommendations_at_a_time_do_not_use_later_events(query_time, n_layers):
    X = make_log()
    model = make_model(n_layers=n_layers, query_time=query_time, max_history=30).fit(X)
    now = X.timestamp.iloc[60]
    queries = pd.DataFrame({"user_id": np.arange(N_USERS), "timestamp": now})
    kept = X.timestamp <= now
    other = X.assign(item_id=X.item_id.where(kept, (X.item_id + 3) % N_ITEMS))
    lists = [
        model.recommend(queries, history=history, n_recommendations=N_ITEMS, exclude_seen=False)
        for history in (X, other, pd.concat([X, X[~kept].assign(item_id=0)]))
    ]
    alone = model.recommend(queries, n_recommendations=N_ITEMS, exclude_seen=False)
    for one, other in zip((alone, *lists), lists, strict=False):
        assert_array_equal(one[0], other[0])
        assert_array_equal(one[1], other[1])
    after = queries.assign(timestamp=X.timestamp.max())
    moved = model.recommend(after, n_recommendations=N_ITEMS, exclude_seen=False)
    assert (moved[1] != alone[1]).any()


def test_out_of_order_events_are_sorted_by_time(fitted):
    """Events with different times form the same history in any order of arrival."""
    news = make_news().drop_duplicates(["user_id", "timestamp"], ignore_index=True)
    y, queries = np.ones(len(news)), make_news(seed=6).assign(timestamp=LATER + 90 * DAY)
    order = np.random.default_rng(0).permutation(len(news))
    one, other = (observed(fitted, news.iloc[rows], y) for rows in (slice(None), order))
    assert_array_equal(one.predict(queries), other.predict(queries))


# ----------------------------------------------------------------------------------- batches


def test_scores_of_a_batch_equal_single_scores(fitted):
    """Also for a user with more queries than fit in one batch."""
    news = make_news(300, n_users=2)
    news = pd.concat([news, make_news(40, N_USERS + 4)], ignore_index=True)
    model = observed(fitted, make_news(), np.ones(len(make_news())))
    said = model.predict(news)
    each = [model.predict(news[row : row + 1])[0] for row in range(0, len(news), 7)]
    assert_allclose(said[::7], each, rtol=1e-5, atol=1e-5)
    order = np.random.default_rng(0).permutation(len(news))
    assert_allclose(model.predict(news.iloc[order]), said[order], rtol=1e-5, atol=1e-5)


def test_threads_change_rounding_only(fitted, log):
    X, _ = log
    model = copy.deepcopy(fitted).set_params(n_jobs=2)
    assert_allclose(model.predict(X), fitted.predict(X), rtol=1e-5, atol=1e-5)
    _, scores = model.recommend(np.arange(N_USERS), n_recommendations=2)
    _, expected = fitted.recommend(np.arange(N_USERS), n_recommendations=2)
    assert_allclose(scores, expected, rtol=1e-5, atol=1e-5)


def test_only_stored_events_are_used():
    """Events before the last twice ``max_history`` have no effect."""
    X, model = make_log(12), make_model(max_history=3).fit(make_log(12))
    queries = pd.DataFrame({"user_id": np.arange(N_USERS), "timestamp": LATER})
    said = model.recommend(queries, n_recommendations=N_ITEMS, exclude_seen=False)[1]
    for n_steps, same in ((6, True), (2, False)):
        history = X.tail(n_steps * N_USERS)
        its = model.recommend(
            queries, history=history, n_recommendations=N_ITEMS, exclude_seen=False
        )
        assert (its[1] == said).all() == same


# ---------------------------------------------------------------------------------- attention


@pytest.mark.parametrize("max_history", [3, 30])
def test_attention_is_of_past_events_and_sums_to_one(log, max_history):
    X, y = log
    model = make_model(max_history=max_history).fit(X, y)
    queries = X.tail(N_USERS).assign(timestamp=LATER)
    past = model.attend(queries)
    longest = min(max_history, X[X.user_id.isin(queries.user_id)].user_id.value_counts().max())
    assert past.item_ids.shape == past.age.shape == past.feedback.shape == (N_USERS, longest)
    assert past.attention.shape == (N_USERS, 2, longest)
    assert_allclose(past.attention.sum(2), 1, rtol=1e-5)
    assert (past.attention >= 0).all()
    for row, user in enumerate(queries.user_id):
        its = X[X.user_id == user][::-1][:max_history]
        n = len(its)
        assert past.item_ids[row, :n].tolist() == its.item_id.tolist()
        assert_allclose(past.age[row, :n], (LATER - its.timestamp) / DAY)
        assert_array_equal(past.feedback[row, :n], y[its.index].astype(np.float32))
        assert past.item_ids[row, n:].tolist() == [None] * (longest - n)
        assert not past.attention[row, :, n:].any()
        assert not past.age[row, n:].any()


def test_users_without_history_have_no_attention(fitted):
    queries = make_news()[:2].assign(user_id=["nobody", 0], timestamp=0.0)
    for rows in (queries, queries[:1], queries[1:]):
        past = fitted.attend(rows)
        assert (past.item_ids == None).all()  # noqa: E711 - of each cell
        assert not past.attention.any()
        assert not past.age.any()


@pytest.mark.parametrize("decay", ["log", "exponential", "none"])
def test_half_lives_have_one_value_per_head_and_block(decay):
    model = make_model(n_layers=3, n_heads=4, decay=decay).fit(make_log())
    assert model.half_lives_.shape == (3, 4)
    assert (model.half_lives_ > 0).all()
    assert np.isinf(model.half_lives_).all() == (decay == "none")
    if decay != "none":
        fixed = [make_model(n, n_heads=2, decay=decay, decay_rate=0.0).fit(make_log()).half_lives_
                 for n in (1, 3)]  # fmt: skip
        assert_allclose(*fixed)
        moved = make_model(3, n_heads=2, decay=decay).fit(make_log()).half_lives_
        assert (moved != fixed[1]).all()


def test_an_unfitted_model_raises():
    model = RealtimeTransformerRecommender()
    assert not hasattr(model, "half_lives_")
    assert not hasattr(model, "module_")
    for verb in (model.predict, model.recommend, model.observe, model.attend):
        with pytest.raises(ValueError, match="not fitted"):
            verb(make_log())


def test_an_event_of_an_unknown_item_in_a_history_tells_the_time(log, fitted):
    """A query without a time comes after it, as after an event of a known item."""
    past, y = log[0][-30:].assign(user_id=99), np.ones(31)
    later = past[-1:].assign(item_id=99, timestamp=past["timestamp"].max() + 90 * DAY)
    now = later[["user_id", "timestamp"]]
    every = {"n_recommendations": N_ITEMS, "exclude_seen": False}
    found = fitted.recommend([99], history=(pd.concat([past, later]), y), **every)[1]
    assert_array_equal(found, fitted.recommend(now, history=(past, y[1:]), **every)[1])
    assert (found != fitted.recommend([99], history=(past, y[1:]), **every)[1]).any()
