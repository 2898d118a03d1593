"""Search words in the rows of the attention models: learned, answered, refused, saved, undone."""

import copy
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_recft import (
    AdaptiveRecommender,
    DecayBertRecommender,
    EASERecommender,
    PopularityRecommender,
    RealtimeTransformerRecommender,
)
from sklearn_recft.base import recommender_tags
from sklearn_recft.models import DecayModel, SequenceModel
from sklearn_recft.persistence import load
from sklearn_recft.text._encoder import TextEncoder

TITLES = np.array(
    [f"{a} {b}" for a in ("green", "black", "white", "red", "cold", "sweet")
     for b in ("tea", "coffee", "milk", "rice", "bread")]
)  # fmt: skip
PRIOR, LEXICAL_PRIOR = 10.0, {"words": 5.0, "letters": 5.0}


def make_log(n=900, share=0.5, seed=0):
    """People take items at random, and some rows have words: the title of the item."""
    rng = np.random.default_rng(seed)
    item = rng.integers(len(TITLES), size=n)
    X = pd.DataFrame({"user_id": rng.integers(40, size=n), "item_id": item})
    X["timestamp"] = np.arange(n) * 3600.0
    X["text"] = TITLES[item]
    X["query"] = np.where(rng.random(n) < share, X["text"], None)
    return X


def transformer(**params):
    small = {
        "backbone": "scratch", "width": 16, "n_layers": 1, "max_epochs": 1, "random_state": 0,
        "net_params": {"batch_size": 512},  # few steps
    }  # fmt: skip
    return RealtimeTransformerRecommender(**{**small, **params})


def decay(**params):
    small = {
        "backbone": "scratch", "width": 8, "n_factors": 4, "max_epochs": 1, "random_state": 0,
        "net_params": {"batch_size": 256},
    }  # fmt: skip
    return DecayBertRecommender(**{**small, **params})


both = pytest.mark.parametrize("make", [transformer, decay])
LOG, LONG_LOG = make_log(), make_log(1500)  # the long one for what has to be learned well
PLAIN = LOG.drop(columns="query")
ASKED = pd.DataFrame({"user_id": [1, 2, 99], "query": ["green tea", "red rice", "cold milk"]})
EVERY = {"n_recommendations": len(TITLES), "exclude_seen": False}
NEW_ITEM = pd.DataFrame(
    {"user_id": [1], "item_id": [500], "timestamp": [1e7], "text": ["salted quinoa"],
     "query": ["quinoa"]}
)  # fmt: skip
_FITTED = {}


def fitted(make, X=LOG, name="words"):
    """Return a copy of a model that is fitted once."""
    if (make, name) not in _FITTED:
        _FITTED[make, name] = make().fit(X)
    return copy.deepcopy(_FITTED[make, name])


def plain(make):
    return fitted(make, PLAIN, "plain")


def scores_of(model, X):
    return model.decision_function(X) if hasattr(model, "decision_function") else model.predict(X)


def effect_of_words(model, words="green tea"):
    """Return how far words move items apart."""
    rows = pd.DataFrame({"user_id": 1, "item_id": np.arange(len(TITLES)), "text": TITLES})
    return np.ptp(scores_of(model, rows.assign(query=words)) - scores_of(model, rows))


# ------------------------------------------------------------------------------ without words


@both
def test_a_column_without_words_is_no_column_to_the_bit(make):
    model = make().fit(PLAIN.assign(query=None))
    expected = plain(make)
    assert model.query_weight_ == PRIOR
    assert model.lexical_weights_ == LEXICAL_PRIOR
    assert pickle.dumps(model._model.state()) == pickle.dumps(expected._model.state())
    for words in (None, np.nan, "", "  "):
        queries = pd.DataFrame({"user_id": [1, 99], "query": words})
        found = model.recommend(queries, **EVERY)
        assert_array_equal(found[1], expected.recommend(queries[["user_id"]], **EVERY)[1])


@both
def test_rows_without_words_keep_every_bit_where_other_rows_have_words(make):
    model, expected = fitted(make), plain(make)
    assert model.query_weight_ != PRIOR
    assert_array_equal(scores_of(model, PLAIN[:50]), scores_of(expected, PLAIN[:50]))
    users = pd.DataFrame({"user_id": [1, 2, 99]})
    items, scores = model.recommend(users, **EVERY)
    assert_array_equal(items, expected.recommend(users, **EVERY)[0])
    assert_array_equal(scores, expected.recommend(users, **EVERY)[1])
    mixed = users.assign(query=["green tea", None, None])
    assert_array_equal(model.recommend(mixed, **EVERY)[1][1:], scores[1:])
    some = PLAIN[:50].assign(query=[*["green tea"] * 5, *[None] * 45])
    assert_array_equal(scores_of(model, some)[5:], scores_of(model, PLAIN[:50])[5:])


@both
def test_updates_with_words_move_no_other_part(make):
    model, expected = fitted(make), plain(make)
    news = make_log(100, seed=1).assign(timestamp=lambda X: X["timestamp"] + 1e7)
    model.partial_fit(news)
    expected.partial_fit(news.drop(columns="query"))
    assert_array_equal(scores_of(model, PLAIN[:50]), scores_of(expected, PLAIN[:50]))


# ------------------------------------------------------------------------------ learning


@both
def test_words_that_decide_are_learned_and_shuffled_words_are_not(make):
    model = fitted(make, LONG_LOG, "long")
    assert model.query_weight_ > 3
    best, _ = model.recommend(ASKED, n_recommendations=1, exclude_seen=False)
    assert TITLES[best[:, 0]].tolist() == ASKED["query"].tolist()
    words = LONG_LOG["query"].to_numpy().copy()
    has = LONG_LOG["query"].notna().to_numpy()
    words[has] = np.random.default_rng(0).permutation(words[has])
    # Similarities go together here, so that their weights may balance each other.
    assert effect_of_words(model) > 5
    assert effect_of_words(make().fit(LONG_LOG.assign(query=words))) < 0.5


@both
def test_a_model_without_words_in_fit_starts_at_the_prior_and_learns_later(make):
    model = plain(make)
    assert model.query_weight_ == PRIOR
    best, _ = model.recommend(ASKED, n_recommendations=1, exclude_seen=False)
    assert TITLES[best[:, 0]].tolist() == ASKED["query"].tolist()
    later = make_log(300, seed=2).assign(timestamp=lambda X: X["timestamp"] + 1e7)
    weights = [model.observe(later).query_weight_, model.partial_fit(later).query_weight_]
    assert weights[0] == PRIOR != weights[1]
    assert model._model.query_term.n_rows == int(later["query"].notna().sum())


@both
def test_an_event_that_was_observed_first_does_not_leak_into_its_own_evidence(make):
    """The history has the event itself: words of another item must not look worthless."""
    later = make_log(300, seed=2).assign(timestamp=lambda X: X["timestamp"] + 1e7)
    direct = plain(make).partial_fit(later).query_weight_
    observed = plain(make).observe(later).partial_fit(later).query_weight_
    assert abs(observed - direct) < 0.35 * abs(direct)


def test_labels_decide_what_words_are_worth():
    rng = np.random.default_rng(0)
    X = make_log(share=1.0)
    same = rng.random(len(X)) < 0.5
    X["query"] = np.where(same, X["text"], rng.permutation(TITLES)[X["item_id"]])
    clicked = decay().fit(X, same.astype(int))
    assert clicked.query_weight_ > 3
    proba = clicked.predict_proba(X[-200:])[:, 1]
    assert proba[same[-200:]].mean() > 0.8 > 0.2 > proba[~same[-200:]].mean()
    liked = decay().fit(X.assign(query=X["text"]), (rng.random(len(X)) < 0.5).astype(int))
    assert abs(liked.query_weight_) < 0.2 * PRIOR + 8  # no similarity varies: the prior remains


def test_predictions_before_learning_use_the_weight_before_learning():
    model = fitted(decay)
    news = make_log(60, seed=3).assign(timestamp=2e7)
    expected = copy.deepcopy(model).predict_proba(news)[:, 1]
    found = model.partial_fit_predict_proba(news)
    assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@both
def test_few_rows_and_rows_of_one_time_need_no_second_net(make):
    X = LOG[:12].assign(timestamp=0.0)
    assert make().fit(X).query_weight_ == PRIOR
    without = LOG[:200].drop(columns="timestamp")
    assert np.isfinite(make().fit(without).query_weight_)


def test_rows_of_weight_zero_say_nothing():
    weight = np.r_[np.ones(700), np.zeros(200)]
    weighted = transformer().fit(LOG, sample_weight=weight)
    assert weighted.query_weight_ == transformer().fit(LOG[:700]).query_weight_


# ------------------------------------------------------------------------------ answers


@both
def test_lists_and_predictions_agree(make):
    model = fitted(make)
    items, scores = model.recommend(ASKED[:1], **EVERY)
    rows = pd.DataFrame({"user_id": 1, "item_id": items[0], "text": TITLES[items[0]]})
    found = scores_of(model, rows.assign(query=ASKED["query"][0]))
    if make is decay:
        found = 1 / (1 + np.exp(-found))
    assert_allclose(found, scores[0], rtol=1e-3, atol=1e-4)


@both
def test_unknown_items_are_compared_by_their_text(make):
    model = fitted(make)
    rows = pd.DataFrame({"user_id": 1, "item_id": [777, 778], "text": ["oat tea", "dry wine"]})
    found = scores_of(model, rows.assign(query="oat tea")) - scores_of(model, rows)
    assert found[0] > found[1]


@both
def test_mistyped_and_half_typed_words_are_matched_by_letters(make):
    model = plain(make)
    model._model.query_term.mean[0] = 0  # no meanings: those of random weights are luck
    asked = pd.DataFrame({"user_id": 99, "query": ["grene cofee", "blak ric", "Swéét BREAD!"]})
    best, _ = model.recommend(asked, n_recommendations=1, exclude_seen=False)
    assert TITLES[best[:, 0]].tolist() == ["green coffee", "black rice", "sweet bread"]


@both
@pytest.mark.parametrize("verb", ["observe", "partial_fit"])
def test_new_items_are_found_by_their_words_at_once(make, verb):
    model = fitted(make)
    getattr(model, verb)(NEW_ITEM.drop(columns="query"))
    asked = pd.DataFrame({"user_id": [99], "query": ["quinoa"], "timestamp": 2e7})
    found = model.recommend(asked, n_recommendations=1, exclude_seen=False)[0]
    assert found[0, 0] == NEW_ITEM["item_id"][0]


def test_lists_are_the_same_in_narrow_tiles(monkeypatch):
    model, users = fitted(transformer), np.arange(40)
    words = [title if user % 3 else None for user, title in enumerate(TITLES[users % 30])]
    queries = pd.DataFrame({"user_id": users, "query": words})
    expected = model.recommend(queries, **EVERY)
    monkeypatch.setattr("sklearn_recft.ranking._TILE_ROWS", 16)
    monkeypatch.setattr("sklearn_recft.ranking._TILE_COLUMNS", 7)
    found = model.recommend(queries, **EVERY)
    assert_allclose(found[1], expected[1], rtol=1e-5, atol=1e-6)  # scores around 0, in float32


@both
def test_explain_has_the_share_of_the_words(make):
    model = fitted(make)
    X = LOG[-20:].assign(query=[*["green tea"] * 10, *[None] * 10])
    reasons = model.explain(X)
    bare = scores_of(model, X.drop(columns="query"))
    assert_allclose(reasons.score, scores_of(model, X), rtol=1e-4, atol=1e-4)
    assert_allclose(reasons.terms["query"], scores_of(model, X) - bare, atol=1e-4)
    assert not reasons.terms["query"][10:].any()
    assert "query" not in model.explain(X.drop(columns="query")).terms


def test_lists_from_a_given_history_and_candidates_read_words():
    model, history = fitted(transformer), PLAIN[:30].assign(user_id="visitor")
    queries = pd.DataFrame({"user_id": ["visitor"], "query": ["red rice"]})
    best, _ = model.recommend(queries, n_recommendations=1, exclude_seen=False, history=history)
    assert TITLES[best[0, 0]] == "red rice"
    few = np.flatnonzero(TITLES != "red rice")[:10]
    assert model.recommend(queries, n_recommendations=1, candidates=few)[0][0, 0] in few


def test_frames_of_other_libraries_and_times():
    model = fitted(transformer)
    queries = ASKED.assign(timestamp=1e8)
    expected = model.recommend(queries, **EVERY)[0]
    assert_array_equal(model.recommend(pl.from_pandas(queries), **EVERY)[0], expected)
    renamed = queries.rename(columns={"query": "remainder__query"})
    assert_array_equal(model.recommend(renamed, **EVERY)[0], expected)


@both
def test_words_are_encoded_once(make, monkeypatch):
    model = fitted(make)
    model.recommend(ASKED, **EVERY)
    before = TextEncoder.n_encoded_by_all
    model.recommend(ASKED, **EVERY)
    assert TextEncoder.n_encoded_by_all == before


# ------------------------------------------------------------------------------ refused


@pytest.mark.parametrize(
    ("model", "X", "words"),
    [
        (transformer(backbone=None), LOG, "query: search words .* backbone=None"),
        (decay(backbone=None), LOG, "query: search words .*backbone=None"),
        (decay(backbone="auto"), LOG.drop(columns="text"), "query: search words .*column `text`"),
        (decay(freeze=1), LOG, "query: search words need a frozen text encoder"),
        (transformer(), LOG.assign(query=1.5), "query: this column is for search words"),
        (transformer(), LOG.assign(query=[["tea"]] * len(LOG)), "query: 900 of 900 rows are no"),
    ],
)
def test_words_without_texts_are_refused_before_anything_changes(model, X, words):
    with pytest.raises(ValueError, match=words):
        model.fit(X)
    assert not hasattr(model, "query_weight_")


@pytest.mark.parametrize(
    "model", [transformer(backbone=None), decay(backbone=None)], ids=["transformer", "decay"]
)
def test_fitted_models_without_texts_refuse_words_and_stay_as_they_are(model):
    model.fit(PLAIN)
    before = pickle.dumps(model._model.state())
    for call in (
        lambda: model.recommend(ASKED, **EVERY),
        lambda: model.predict(LOG),
        lambda: model.explain(LOG),
        lambda: model.partial_fit(LOG),
        lambda: model.observe(LOG),
    ):
        with pytest.raises(ValueError, match="query: search words are compared"):
            call()
    assert pickle.dumps(model._model.state()) == before


def test_other_recommenders_ignore_words_as_they_ignore_texts():
    for make in (EASERecommender, PopularityRecommender):
        model, expected = make().fit(LOG), make().fit(PLAIN)
        found = model.recommend(ASKED, **EVERY)
        assert_array_equal(found[1], expected.recommend(ASKED[["user_id"]], **EVERY)[1])
        assert "query" not in recommender_tags(model).reads
    for make in (transformer, decay):
        assert "query" in recommender_tags(make()).reads


def test_members_of_a_blend_read_words():
    members = [("net", transformer()), ("ease", EASERecommender())]
    model = AdaptiveRecommender(members, random_state=0).fit(LOG[-400:])
    with_words = model.recommend(ASKED, exclude_seen=False)[0]
    assert (with_words != model.recommend(ASKED[["user_id"]], exclude_seen=False)[0]).any()


# ------------------------------------------------------------------------------ kept and undone


@both
def test_copied_loaded_and_forgotten(make):
    model, loaded = fitted(make), plain(make)
    loaded._model.load_state(pickle.loads(pickle.dumps(model._model.state())))
    for twin in (loaded, pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert twin.query_weight_ == model.query_weight_
        assert_array_equal(twin.recommend(ASKED, **EVERY)[1], model.recommend(ASKED, **EVERY)[1])
    assert model.forget([1]).query_weight_ == fitted(make).query_weight_


@both
def test_a_state_of_a_model_before_there_were_words_is_read(make):
    model = plain(make)
    state = model._model.state()
    del state["parts"]["query_term"]
    twin = copy.deepcopy(model)
    twin._model.load_state(state)
    assert_array_equal(twin.recommend(ASKED, **EVERY)[1], model.recommend(ASKED, **EVERY)[1])


@both
def test_saved_models_answer_words_bit_by_bit_and_learn_on(make, tmp_path):
    model = fitted(make)
    model.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert_array_equal(loaded.recommend(ASKED, **EVERY)[1], model.recommend(ASKED, **EVERY)[1])
    news = make_log(60, seed=4).assign(timestamp=lambda X: X["timestamp"] + 1e7)
    news = pd.concat([news, NEW_ITEM])
    model.partial_fit(news)
    loaded.partial_fit(news)
    assert loaded.lexical_weights_ == model.lexical_weights_
    assert_array_equal(loaded.recommend(ASKED, **EVERY)[1], model.recommend(ASKED, **EVERY)[1])


@pytest.mark.parametrize(("make", "cls"), [(transformer, SequenceModel), (decay, DecayModel)])
def test_a_call_that_fails_after_words_were_learned_changes_nothing(make, cls, monkeypatch):
    model = fitted(make)
    before = pickle.dumps(model._model.state())
    news = make_log(100, seed=1).assign(timestamp=lambda X: X["timestamp"] + 1e7)
    with monkeypatch.context() as patch:
        patch.setattr(cls, "_is_finite", lambda self, events: False)
        with pytest.raises(ValueError, match="diverged"):
            model.partial_fit(news)
    assert pickle.dumps(model._model.state()) == before


@both
def test_one_seed_is_one_weight(make):
    assert make().fit(LOG).query_weight_ == fitted(make).query_weight_
