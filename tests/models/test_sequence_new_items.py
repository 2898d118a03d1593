"""Items without events in lists of the transformer, against a slow reference."""

import copy

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp
from sklearn.base import clone

from sklearn_recft import RealtimeTransformerRecommender
from sklearn_recft.models import _sequence_new_items
from sklearn_recft.models._first_events import FirstEvents
from sklearn_recft.text import LexicalIndex

DAY = 86_400.0
WORDS = ("green", "black", "sweet", "salty", "warm", "iced")
TITLES = [f"{a} {b}" for a in WORDS for b in ("tea", "milk", "rice", "cake")]
NEW = pd.DataFrame({"item_id": [100, 101, 102], "text": ["green tea tin", "iced cake", "spoon"]})


@pytest.fixture(scope="module")
def log():
    """Users who keep to one word; an item appears for the first time every few days."""
    rng = np.random.default_rng(0)
    day = np.sort(rng.uniform(0, 90, 500))
    user = rng.integers(0, 12, 500)
    item = np.minimum(4 * (user % 6) + rng.integers(0, 4, 500), 4 + day // 4).astype(int)
    return pd.DataFrame(
        {
            "user_id": user,
            "item_id": item,
            "timestamp": DAY * day,
            "text": np.array(TITLES)[item],
        }
    )


@pytest.fixture(scope="module")
def model(log):
    estimator = RealtimeTransformerRecommender(
        backbone="scratch", width=16, n_layers=1, max_epochs=1, max_history=20, random_state=0
    )
    return estimator.fit(log).add_items(NEW)


def queries_at(day):
    return pd.DataFrame({"user_id": [0, 3, 5, "nobody"], "timestamp": DAY * day})


def all_scores(estimator, queries):
    """Scores of all items, (n, n_items), in the order of `item_ids_`."""
    n = estimator.n_items_
    items, scores = estimator.recommend(queries, n_recommendations=n, exclude_seen=False)
    place = {item: code for code, item in enumerate(estimator.item_ids_.tolist())}
    found = np.empty((len(items), n))
    for row in range(len(items)):
        found[row, [place[item] for item in items[row]]] = scores[row]
    return found


def test_new_items_get_their_share_and_split_it_by_the_users_texts(model, log):
    queries, n = queries_at(91), log["item_id"].nunique()
    scores = all_scores(model, queries)
    first = log.drop_duplicates("item_id")["timestamp"]
    period = model.trend_period_
    newest = int(log["timestamp"].max() // period)
    recent = log["timestamp"] // period > newest - 64
    share = (first // period > newest - 64).sum() / recent.sum()
    share *= 2
    assert 0 < share < 0.5
    plain = copy.deepcopy(model)
    plain._model.first_events = FirstEvents()
    net = all_scores(plain, queries)
    assert_allclose(scores[:, :n], net[:, :n], rtol=1e-6)
    level = np.logaddexp(
        logsumexp(net[:, :n], axis=1) + np.log(share / (1 - share)), logsumexp(net[:, n:], axis=1)
    )
    assert (scores[:, n:] > net[:, n:] + 0.01).any()
    texts = model.module_.item_texts.numpy(force=True)
    texts = texts / np.linalg.norm(texts, axis=1, keepdims=True)
    known = model.item_ids_.tolist()
    words = LexicalIndex().after(
        np.arange(len(known)), [TITLES[item] for item in known[:n]] + NEW["text"].tolist()
    )
    for row, user in enumerate(queries["user_id"]):
        past = log.loc[log["user_id"] == user, "item_id"].tail(20).tolist()
        similarity = np.zeros(3)
        for place in range(3) if past else ():
            codes = [known.index(item) for item in past]
            meaning = max(texts[n + place] @ texts[code] for code in codes)
            common = max(
                float(words.cosines(np.array([n + place]), np.array([code]))[0, 0])
                for code in codes
            )
            similarity[place] = meaning + common
        expected = _sequence_new_items._WEIGHT * similarity
        own = level[row] + expected - logsumexp(expected)
        assert_allclose(scores[row, n:], own, atol=1e-3)


def test_scores_do_not_depend_on_candidates_batches_or_the_verb(model):
    queries = queries_at(91)
    scores = all_scores(model, queries)
    some, of_some = model.recommend(
        queries, candidates=[101, 2, 100], n_recommendations=3, exclude_seen=False
    )
    codes = np.array([model.item_ids_.tolist().index(item) for item in some.ravel()])
    assert_allclose(of_some.ravel(), scores[np.arange(4).repeat(3), codes], rtol=1e-5)
    rows = queries.assign(item_id=100, text="green tea tin")
    alone = np.concatenate([model.predict(rows[k : k + 1]) for k in range(4)])
    assert_allclose(model.predict(rows), alone, rtol=1e-5)
    assert_allclose(alone, scores[:, -3], rtol=1e-5)


def test_a_query_before_the_newest_event_does_not_see_later_ones(model):
    early = queries_at(60)
    before = all_scores(model, early)
    later = pd.DataFrame(
        {"user_id": [0, 1], "item_id": [2, 101], "timestamp": DAY * 95, "text": "iced cake"}
    )
    changed = copy.deepcopy(model).observe(later)
    assert_array_equal(all_scores(changed, early)[:, :-2], before[:, :-2])
    rows = early.assign(item_id=100, text="green tea tin")
    assert_array_equal(changed.predict(rows), model.predict(rows))
    assert not np.array_equal(all_scores(changed, queries_at(96)), all_scores(model, early))


def test_words_are_compared_by_idf():
    index = LexicalIndex().after(np.arange(3), ["green tea", "green milk", ""])
    found = index.cosines(np.array([0, 1, 2, 7]), np.array([0, 1]))
    rare, common = np.log(3 / 1.5), np.log(3 / 2.5)
    expected = common**2 / (common**2 + rare**2)
    assert_allclose(found, [[1, expected], [expected, 1], [0, 0], [0, 0]], atol=1e-12)


@pytest.mark.parametrize("in_rows", [False, True])
def test_titles_are_read_from_a_table_as_from_rows(log, model, in_rows):
    """Also where each has blank texts, which do not hide those of the other."""
    titles = log[["item_id", "text"]].drop_duplicates("item_id")
    events = log[["user_id", "item_id", "timestamp"]]
    if in_rows:
        events = log.assign(text=log["text"].where(log["item_id"] % 2 == 0, ""))
        events.loc[events.index % 3 == 0, "text"] = " "
        titles = titles.assign(text=titles["text"].where(titles["item_id"] % 2 == 1, ""))
    other = clone(model).fit(events, items=titles)
    codes = np.arange(log["item_id"].nunique())
    reference = reference_words(model, log.drop_duplicates("item_id"), codes)
    assert_allclose(other._model.lexical.cosines(codes, codes), reference, atol=1e-12)
    texts = [m.module_.item_texts.numpy(force=True)[codes] for m in (model, other)]
    assert_allclose(*texts, atol=1e-6)


def reference_words(model, titles, codes):
    """Cosines of the words of titles, in the order of the items of a model."""
    text = titles.set_index("item_id")["text"]
    index = LexicalIndex().after(codes, text.loc[model.item_ids_[codes].tolist()].tolist())
    return index.cosines(codes, codes)
