"""The sequence model: an item is unknown before its first event."""

import copy

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

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
TRENDS = {"alone": (), "trends": (0.02, np.inf)}


def with_texts(X):
    """Give every item its own text, with words shared by other items."""
    return X.assign(text=[f"{WORDS[sum(map(ord, str(item))) % 5]} no {item}" for item in X.item_id])


@pytest.fixture(scope="module", params=[None, "scratch"], ids=["ids", "texts"])
def backbone(request):
    return request.param


@pytest.fixture(scope="module", params=TRENDS.values(), ids=TRENDS)
def fitted(request, backbone):
    """Fit a model to a log with a new item at its end."""
    X = make_log(8, seed=1)
    # Often enough that it is none of the rarest, which new items begin as.
    late = pd.concat([X.tail(N_USERS).assign(timestamp=X.timestamp.max() + j) for j in range(1, 4)])
    late["item_id"] = "late"
    options = {"trend_half_lives": request.param, "backbone": backbone, "learning_rate": 0.02}
    return make_model(2, max_history=60, **options).fit(with_texts(pd.concat([X, late])))


def make_rows(items, begin=START + 2_000.0, end=LATER - 1.0, seed=0):
    """Make rows after the training log and before later events, of all known users."""
    rng = np.random.default_rng(seed)
    return with_texts(
        pd.DataFrame(
            {
                "user_id": np.resize(np.arange(N_USERS), 4 * N_USERS),
                "item_id": np.resize(np.array(items, object), 4 * N_USERS),
                "timestamp": rng.uniform(begin, end, 4 * N_USERS),
            }
        )
    )


def make_news(n=80, seed=2):
    """Make later events with old and new users and items."""
    rng = np.random.default_rng(seed)
    items = np.array([*range(N_ITEMS), *(f"new {j}" for j in range(5))], object)
    return with_texts(
        pd.DataFrame(
            {
                "user_id": rng.integers(0, N_USERS + 4, n),
                "item_id": items[np.r_[rng.integers(0, 15, n - 5), np.arange(10, 15)]],
                "timestamp": LATER + np.sort(rng.integers(0, 5 * DAY, n)),
            }
        )
    )


def test_later_events_do_not_change_scores_of_earlier_rows(fitted):
    """Bitwise, for old items, items with a later first event, and unknown items."""
    rows = make_rows([3, "new 0", 7, "new 1", "never", "new 4", 1])
    model, before = copy.deepcopy(fitted), fitted.predict(rows)
    news = make_news()
    for part in np.array_split(np.arange(len(news)), 3):
        model.observe(news.iloc[part])
        assert_array_equal(model.predict(rows), before)
    assert model.n_items_ == N_ITEMS + 6
    for row in range(0, len(rows), 5):
        one = rows[row : row + 1]
        assert_array_equal(model.predict(one), fitted.predict(one))


def test_an_item_is_unknown_before_its_first_event(fitted):
    """Also for rows of the training log: it equals an unknown item with the same text."""
    first = fitted._model.counts.first_time[fitted._model.items.encode(["late"])[0]]
    rows = make_rows(["late"], begin=START + 2_000.0, end=first - 1.0)
    never = rows.assign(item_id="never seen")
    assert_array_equal(fitted.predict(rows), fitted.predict(never))
    after = {"timestamp": rows.timestamp.max() + 5 * DAY}
    assert (fitted.predict(rows.assign(**after)) != fitted.predict(never.assign(**after))).all()
    at_once = {"timestamp": first}
    assert (fitted.predict(rows.assign(**at_once)) != fitted.predict(never.assign(**at_once))).all()


def test_an_out_of_order_event_makes_its_item_known_earlier(fitted):
    model, rows = copy.deepcopy(fitted).observe(make_news()), make_rows(["new 2"])
    model._model.network.catalogue[model._model.items.encode(["new 2"])[0]] += 1.0  # as if learned
    never = rows.assign(item_id="never seen")
    assert_array_equal(model.predict(rows), model.predict(never))
    late = rows[:1].assign(user_id=99, timestamp=START + 1_000.0)
    model.observe(late)
    assert (model.predict(rows) != model.predict(never)).all()


def test_rows_without_a_timestamp_see_every_item(fitted):
    rows = make_rows(["late", 3]).drop(columns="timestamp")
    never = rows.assign(item_id="never seen")
    late = (rows.item_id == "late").to_numpy()
    assert (fitted.predict(rows)[late] != fitted.predict(never)[late]).all()


def test_catalogue_items_are_known_at_any_time(backbone):
    listed = pd.DataFrame({"item_id": ["a", "b"], "text": [*WORDS[:2]]})
    X = with_texts(make_log(4))
    model = make_model(1, backbone=backbone, trend_half_lives=()).fit(X, items=listed)
    codes = model._model.items.encode(["a", "b"])
    assert (model._model.counts.first_time[codes] == -np.inf).all()
    model.observe(make_news()[:4].assign(item_id="a"))
    first = model._model.counts.first_time[codes]
    assert first[1] == -np.inf
    # Who lists an item may recommend it from the beginning, whenever it is first taken.
    assert first[0] == -np.inf


def test_observe_does_not_change_weights_or_module_counts(fitted):
    model = copy.deepcopy(fitted)
    before = {name: tensor.clone() for name, tensor in model.module_.state_dict().items()}
    news = make_news()
    model.observe(news[news.item_id.isin(list(range(N_ITEMS)))])
    assert not moved(model, parameters(fitted))
    for name, tensor in model.module_.state_dict().items():
        assert_array_equal(tensor, before[name], err_msg=name)
    assert model._model.counts.n_events.sum() > fitted._model.counts.n_events.sum()
    assert_array_equal(model._model.counts.n_learned, fitted._model.counts.n_learned)


def test_item_counts_are_of_stored_and_of_trained_events(fitted):
    model, news = copy.deepcopy(fitted), make_news()
    counts = news.item_id.value_counts().reindex(
        [*fitted.item_ids_, *news.item_id[~news.item_id.isin(fitted.item_ids_)].unique()],
        fill_value=0,
    )
    known = np.pad(fitted._model.counts.n_events, (0, 5)) + counts.to_numpy()
    model.observe(news)
    assert_array_equal(model._model.counts.n_events, known)
    assert_array_equal(
        model._model.counts.n_learned, np.pad(fitted._model.counts.n_learned, (0, 5))
    )
    model.partial_fit(news)
    assert_array_equal(model._model.counts.n_events, known)  # remembered once
    assert_array_equal(model._model.counts.n_learned, known)
    assert_array_equal(model.module_.n_events, known)
    assert_allclose(model._model.newest, news.timestamp.max())
