"""Trends, and their part in the scores of the sequence model."""

import copy

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_recft.events import Events
from sklearn_recft.history import Trends, _trends
from sklearn_recft.models._sequence_queries import next_item_ndcg, states_of
from sklearn_recft.modules import _softmax
from tests.models.sequence_data import DAY, LATER, N_ITEMS, N_USERS, START, make_log, make_model

SPEEDS = (0.01, 1.0, np.inf)
EVERY = {"n_recommendations": N_ITEMS, "exclude_seen": False}


def queries_at(time, users=range(N_USERS)):
    return pd.DataFrame({"user_id": list(users), "timestamp": np.asarray(time, float)})


@pytest.fixture(scope="module")
def log():
    return make_log(8, seed=1)


@pytest.fixture(scope="module")
def fitted(log):
    return make_model(3, learning_rate=0.02, trend_half_lives=SPEEDS).fit(log)


def scores_by_code(model, queries):
    items, scores = model.recommend(queries, **EVERY)
    codes = model._model.items.encode(items.ravel()).reshape(items.shape)
    return np.take_along_axis(scores, np.argsort(codes, axis=1), axis=1)


def trends_by_hand(model, log, times):
    """Compute log-shares (n, n_half_lives, n_items) at each time from the log."""
    trends = Trends(SPEEDS, model._model.trends.period)
    codes = model._model.items.encode(log.item_id.to_numpy())
    trends = trends.after(codes, log.timestamp.to_numpy(), model.n_items_)
    return np.stack(
        [trends.known_at(times[n : n + 1], model.n_items_)[1][0] for n in range(len(times))]
    )


# ------------------------------------------------------------------------------- the equation


def test_scores_are_logits_plus_weighted_trends(fitted, log):
    rng = np.random.default_rng(0)
    times = START + rng.uniform(0, 9000, N_USERS)
    queries = queries_at(times)
    its_log, known = fitted._model._sequences(np.arange(N_USERS), times, None, None)
    states = states_of(fitted.module_, fitted._model.network.catalogue, its_log, known, n_threads=1)
    mix = fitted.module_.mix
    weights = states @ mix.weight.detach().numpy().T + mix.bias.detach().numpy()
    strangers = known.n_before == 0
    assert strangers.any()
    weights[strangers] = [1, 0, 0]  # unknown users get the trend of the shortest half-life
    assert np.ptp(weights[~strangers], axis=0).min() > 1e-3, "all queries weigh alike"
    log_shares = trends_by_hand(fitted, log, times)[..., :-1]
    expected = states @ fitted._model.network.catalogue.numpy().T + np.einsum(
        "nk,nkv->nv", weights, log_shares
    )
    assert_allclose(scores_by_code(fitted, queries), expected, rtol=1e-4, atol=1e-5)
    some = [4, 1, 7]  # of all items
    items, scores = fitted.recommend(
        queries, candidates=some, n_recommendations=3, exclude_seen=False
    )
    codes = fitted._model.items.encode(items.ravel()).reshape(items.shape)
    assert_allclose(scores, np.take_along_axis(expected, codes, 1), rtol=1e-4, atol=1e-5)
    rows = queries.assign(item_id=items[:, 1], timestamp=LATER + DAY)
    assert_allclose(fitted.predict(rows), [
        fitted.recommend(rows[n : n + 1], candidates=[rows.item_id[n]], n_recommendations=1,
                         exclude_seen=False)[1][0, 0] for n in range(N_USERS)
    ], rtol=1e-5, atol=1e-5)  # fmt: skip


def test_training_uses_the_trends_before_each_target(log, monkeypatch):
    seen = []
    loss = _softmax.softmax_loss

    def note(states, table, target, weight, trending):
        seen.append((target, trending[1], trending[2]))
        return loss(states, table, target, weight, trending)

    monkeypatch.setattr("sklearn_recft.modules._sequence.softmax_loss", note)
    model = make_model(1, trend_half_lives=SPEEDS, batch_size=10_000).fit(log)
    [(target, moment, trends)] = seen
    later = log[log.user_id.duplicated()]
    times, codes = later.timestamp.to_numpy(), model._model.items.encode(later.item_id.to_numpy())
    expected = trends_by_hand(model, log, times)[..., :-1]
    found = trends.numpy()[moment]
    for code in range(N_ITEMS):  # in whatever order the batch has them
        one, other = found[target == code], expected[codes == code]
        assert_allclose(np.sort(one, axis=0), np.sort(other, axis=0), rtol=1e-5)
    assert model.module_.trends is None


def test_the_validation_metric_scores_like_recommend(fitted, log):
    ordered = log.sort_values(["user_id", "timestamp"])
    ones = np.ones(len(log), np.float32)
    items = fitted._model.items.encode(ordered.item_id.to_numpy())
    events = Events(
        ordered.user_id.to_numpy(), items, ordered.timestamp.to_numpy(), ones, ones,
        np.zeros((len(log), 0), np.float32),
    )  # fmt: skip
    late = np.flatnonzero(events.time >= START + 60 * 70)
    model = copy.deepcopy(fitted)
    found = next_item_ndcg(model.module_, model._model._with_trends(events), late, n_threads=1)
    rows = ordered.iloc[late]
    gain = []
    for n in range(len(rows)):
        before = log[log.timestamp < rows.timestamp.iloc[n]]
        items, _ = fitted.recommend(
            rows[["user_id", "timestamp"]][n : n + 1], history=before, **EVERY
        )
        rank = int(np.flatnonzero(items[0] == rows.item_id.iloc[n])[0])
        gain.append(1 / np.log2(rank + 2))
    assert found == pytest.approx(np.mean(gain), rel=1e-6)


# ------------------------------------------------------------------------------ others' clicks


def test_events_of_others_change_the_lists_of_the_next_period(fitted):
    others = pd.DataFrame({
        "user_id": [f"other {n}" for n in range(30)], "item_id": 3, "timestamp": float(LATER),
    })  # fmt: skip
    fitted = copy.deepcopy(fitted)
    fitted.module_.mix.bias.data.fill_(1.0)  # whatever was learned
    fitted.module_.mix.weight.data.zero_()
    model = copy.deepcopy(fitted).observe(others)
    period = model.trend_period_
    begin = (LATER // period + 1) * period
    for time, moves in ((LATER - 1, False), (LATER, False), (begin - 1, False), (begin, True)):
        queries = queries_at([time] * N_USERS)
        gained = scores_by_code(model, queries) - scores_by_code(fitted, queries)
        assert gained.any() == moves
    code = model._model.items.encode(np.array([3]))[0]
    assert (gained[:, code] > np.delete(gained, code, axis=1).max(1)).all()
    # A query without a timestamp comes after all known events.
    ids = np.arange(N_USERS)
    timeless = scores_by_code(model, ids) - scores_by_code(fitted, ids)
    assert (timeless[:, code] > np.delete(timeless, code, axis=1).max(1)).all()


def test_unknown_users_get_recently_popular_items(log):
    fad = log.tail(20).assign(item_id=5)
    X = pd.concat([log, fad.assign(timestamp=fad.timestamp + DAY)])
    y = np.where(X.item_id == 2, 0.0, 1.0)  # what nobody liked is not popular
    model = make_model(trend_half_lives=(0.1, np.inf)).fit(X, y)
    items, scores = model.recommend([999], **EVERY)
    assert items[0, 0] == 5
    assert items[0, -1] == 2
    expected = np.sort(
        model._model.trends.known_at(np.array([LATER + 9e9]), model.n_items_)[1][0, 0, :-1]
    )
    assert scores[0, 0] > scores[0, 1]
    rows = pd.DataFrame({"user_id": 999, "item_id": items[0], "timestamp": LATER + 9e9})
    assert_allclose(model.predict(rows), expected[::-1], rtol=1e-5)
    new = rows[:1].assign(item_id=999)
    assert model.predict(new)[0] == model.predict(rows)[-1]
    early = queries_at([START - DAY], [0])  # when nothing was known of anything
    assert not scores_by_code(model, early).any()


def test_a_given_history_does_not_change_trends(fitted, log):
    queries = queries_at([LATER + DAY] * N_USERS)
    assert_array_equal(
        fitted.recommend(queries, history=log, **EVERY)[1], fitted.recommend(queries, **EVERY)[1]
    )


def test_daily_popularity_is_learned():
    """All users take the item of the day, which does not predict the item of the next day."""
    rng, rows = np.random.default_rng(0), []
    fad = rng.permutation(40)
    for day in range(40):
        for n, user in enumerate(rng.permutation(40)):
            item = fad[day] if rng.random() < 0.8 else rng.integers(40)
            rows.append((user, item, START + DAY * (day + 0.01 * n + 0.3 * (n >= 20))))
    X = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    hit = {}
    for speeds in ((), (0.2, np.inf)):
        model = make_model(
            4, width=16, n_layers=1, learning_rate=0.05, batch_size=256, trend_half_lives=speeds
        )
        model.fit(X[X.timestamp < START + 35 * DAY])
        hits = []
        for day in range(35, 40):
            now = X[X.timestamp.between(START + DAY * day, START + DAY * (day + 0.3))]
            model.observe(now)
            users = np.setdiff1d(np.arange(40), now.user_id)
            items, _ = model.recommend(
                queries_at([START + DAY * (day + 0.6)] * len(users), users), n_recommendations=1,
                exclude_seen=False,
            )  # fmt: skip
            hits.append((items[:, 0] == fad[day]).mean())
        hit[speeds] = np.mean(hits)
    assert hit[()] < 0.2
    assert hit[0.2, np.inf] > 0.6


# ------------------------------------------------------------------------------------ periods


@pytest.mark.parametrize(
    ("columns", "params"),
    [(["user_id", "item_id"], {}), (["user_id", "item_id", "timestamp"], {"query_time": False})],
    ids=["no times", "no query time"],
)
def test_without_times_there_are_no_trends(log, columns, params):
    model = make_model(**params).fit(log[columns])
    assert model.module_.mix is None
    assert model.trend_period_ == np.inf
    model.partial_fit(log[columns]).observe(log[columns])
    assert not model._model.trends._counts


@pytest.mark.parametrize(
    ("days", "room", "expected"),
    [(2560, 2**27, DAY), (1, 2**27, DAY / 256), (100, 8000, 1.65 * DAY)],
)
def test_periods_suit_the_log(log, days, room, expected, monkeypatch):
    """A day; less for a short log, and more if the periods would need too much memory."""
    monkeypatch.setattr(_trends, "_LOG_BYTES", room)
    X = log.assign(timestamp=np.linspace(0, days * DAY, len(log)))
    model = make_model(trend_half_lives=SPEEDS).fit(X)
    assert model.trend_period_ == pytest.approx(expected)
