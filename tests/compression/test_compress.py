"""Compressed recommenders: every estimator is compressed or refused, and serves as before."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError

from benchmarks.files.mutations import damage, outcome_of
from sklearn_recft import (
    ALSRecommender,
    IncrementalMFClassifier,
    IncrementalMFRecommender,
    PopularityRecommender,
    RealtimeTransformerRecommender,
)
from sklearn_recft.base import RecommenderMixin
from sklearn_recft.compression import compress, model_bytes
from sklearn_recft.compression._models import CompactModel
from sklearn_recft.persistence import load, save
from sklearn_recft.pipeline import make_recommender_pipeline
from tests.contract.discovery import all_estimators, small
from tests.contract.helpers import fit, make_log, make_news, update

SMALL = {"n_factors": 12, "max_epochs": 3, "random_state": 0}
MODELS = {
    "ratings": (IncrementalMFRecommender(replay_size=20, **SMALL), True),
    "shares": (IncrementalMFRecommender(loss="log_loss", **SMALL), True),
    "labels": (IncrementalMFClassifier(**SMALL), True),
    "bpr": (IncrementalMFRecommender(loss="bpr", habit_half_life=9, **SMALL), False),
    "softmax": (IncrementalMFRecommender(loss="softmax", **SMALL), False),
    "next": (IncrementalMFRecommender(loss="softmax", history_half_life=2, **SMALL), False),
    "als": (ALSRecommender(reg=1.0, **SMALL), False),
    "transformer": (
        RealtimeTransformerRecommender(
            None, width=16, max_history=10, max_epochs=1, random_state=0
        ),
        False,
    ),
    "no trends": (
        RealtimeTransformerRecommender(
            None, width=16, max_history=10, max_epochs=1, random_state=0, trend_half_lives=()
        ),
        False,
    ),
}
LEARNING = [name for name in MODELS if name not in ("transformer", "no trends")]
every_model = pytest.mark.parametrize("name", MODELS)
learning = pytest.mark.parametrize("name", LEARNING)
USERS = np.arange(34)  # some are unknown


@pytest.fixture(scope="module")
def fitted():
    X, y = make_log()
    return {name: fit(model, X, y if rated else None) for name, (model, rated) in MODELS.items()}


def events_of(name, log):
    X, y = log
    return X, y if MODELS[name][1] else None


def reference(model):
    """Return the slow way: all tables in float32, in a model in full."""
    return model.__recommender_around__(model.__recommender_model__().expanded())


def digest(model, tmp_path):
    return save(model, tmp_path / "digest")


@pytest.mark.parametrize("cls", list(all_estimators().values()), ids=lambda c: c.__name__)
def test_every_estimator_is_compressed_or_refused(cls):
    estimator = small(cls)
    if not isinstance(estimator, RecommenderMixin):
        with pytest.raises(TypeError, match=f"a {cls.__name__} is no recommender"):
            compress(estimator)
        return
    with pytest.raises(NotFittedError):
        compress(estimator)
    model = fit(estimator, *make_log(150))
    lists = model.recommend(USERS[:5], n_recommendations=3)
    try:
        compressed = compress(model)
    except ValueError:
        with pytest.raises(ValueError, match=f"^A {cls.__name__} cannot be compressed: "):
            compress(model)
        return
    assert isinstance(compressed.__recommender_model__(), CompactModel)
    assert type(compressed) is cls
    assert model_bytes(compressed) < model_bytes(model)
    assert_array_equal(model.recommend(USERS[:5], n_recommendations=3)[1], lists[1])


@every_model
@pytest.mark.parametrize("tables", ["int8", "float16", "bfloat16"])
def test_answers_are_those_of_the_expanded_tables(name, tables, fitted):
    model = fitted[name]
    compressed, (X, _) = compress(model, tables=tables), make_log(60, seed=3)
    assert_array_equal(compressed.item_ids_, model.item_ids_)
    slow = compressed
    if name in LEARNING:
        slow = reference(compressed)
        tolerance = {"rtol": 1e-4, "atol": 1e-4}
    else:
        slow, tolerance = model, {"atol": 0.05}
    assert_allclose(compressed.predict(X), slow.predict(X), **tolerance)
    (items, scores), (wanted, theirs) = compressed.recommend(USERS), slow.recommend(USERS)
    assert_allclose(scores, theirs, **tolerance)
    if slow is not model:
        assert_array_equal(items, wanted)
    some = {"candidates": model.item_ids_[3:20], "exclude_seen": False}
    for user in USERS[::9]:
        found = compressed.recommend([user], **some)
        assert_allclose(found[1], slow.recommend([user], **some)[1], **tolerance)
    ours, their = (m.similar_items(model.item_ids_[:5], 4)[1] for m in (compressed, slow))
    assert_allclose(ours, their, **tolerance)
    reasons, their = compressed.explain(X[:9]), slow.explain(X[:9])
    assert_allclose(reasons.score, their.score, **tolerance)
    assert_allclose(reasons.contribution.sum(1), their.contribution.sum(1), atol=0.05)
    assert_allclose(compressed.predict(X), slow.predict(X), **tolerance)


@every_model
def test_serving_refuses_to_learn_and_changes_nothing(name, fitted, tmp_path):
    model, compressed = fitted[name], compress(fitted[name])
    before, of_model = digest(compressed, tmp_path), digest(model, tmp_path)
    X, y = events_of(name, make_news())
    with pytest.raises(ValueError, match=r"compressed with keep='serve': .* Call partial_fit on"):
        update(compressed, X, y)
    if hasattr(compressed, "adapt") and name in ("ratings", "shares", "labels"):
        with pytest.raises(ValueError, match="compressed with keep='serve'"):
            compressed.adapt(X, y > 0.5 if is_classifier(model) else y)
    assert digest(compressed, tmp_path) == before
    assert digest(model, tmp_path) == of_model
    assert_array_equal(
        clone(compressed).fit(X, None if y is None else y > 0.5).user_ids_[:1], X[:1, 0]
    )


@pytest.mark.parametrize("name", ["als", "transformer", "no trends"])
@pytest.mark.parametrize("keep", ["serve", "learn"])
def test_observed_events_change_the_lists_as_in_the_model_in_full(name, keep, fitted, tmp_path):
    if keep == "learn" and name != "als":
        with pytest.raises(ValueError, match=r"keep='learn': a Realtime.* cannot: its net"):
            compress(fitted[name], keep=keep)
        return
    X, y = events_of(name, make_news())
    full, compressed = copy.deepcopy(fitted[name]), compress(fitted[name], keep=keep)
    full.observe(X, y)
    compressed.observe(X, y)
    assert_array_equal(compressed.item_ids_, full.item_ids_)
    assert_allclose(compressed.predict(X), full.predict(X), atol=0.05)
    assert_allclose(compressed.recommend(USERS)[1], full.recommend(USERS)[1], atol=0.05)
    twin = load_again(compressed, tmp_path)
    assert_array_equal(twin.recommend(USERS)[1], compressed.recommend(USERS)[1])


def load_again(model, tmp_path, **options):
    found = save(model, tmp_path / "model")
    twin = load(tmp_path / "model", digest=found, **options)
    assert save(twin, tmp_path / "again") == found
    return twin


@pytest.mark.parametrize(
    ("name", "tables"), [*((name, "int8") for name in MODELS), ("ratings", "bfloat16")]
)
def test_saved_models_are_smaller_and_equal(name, tables, fitted, tmp_path):
    compressed = compress(fitted[name], tables=tables)
    X, _ = make_log(60, seed=3)
    for twin in (
        load_again(compressed, tmp_path),
        load(tmp_path / "model", mmap=True),
        pickle.loads(pickle.dumps(compressed)),
        copy.deepcopy(compressed),
    ):
        assert_array_equal(twin.predict(X), compressed.predict(X))
        assert_array_equal(twin.recommend(USERS)[1], compressed.recommend(USERS)[1])
    save(fitted[name], tmp_path / "full")
    sizes = [
        sum(p.stat().st_size for p in (tmp_path / folder).glob("tensors*"))
        for folder in ("model", "full")
    ]
    assert sizes[0] < 0.95 * sizes[1]


@learning
def test_models_that_learn_equal_rounded_ones(name, fitted, tmp_path):
    """The slow way: round the tables once, learn in full."""
    X, y = events_of(name, make_news())
    compressed = compress(fitted[name], keep="learn")
    slow = reference(compressed)
    for rows in (slice(None, 20), slice(20, None)):
        for model in (compressed, slow):
            update(model, X[rows], None if y is None else y[rows])
    assert_array_equal(compressed.item_ids_, slow.item_ids_)
    assert_array_equal(compressed.predict(X), reference(compressed).predict(X))
    assert_allclose(compressed.predict(X), slow.predict(X), rtol=1e-4, atol=1e-5)
    assert_allclose(compressed.recommend(USERS)[1], slow.recommend(USERS)[1], rtol=1e-4, atol=1e-5)
    twin = load_again(compressed, tmp_path)
    assert_array_equal(twin.predict(X), compressed.predict(X))
    packed = compress(compressed)  # all rows in few bits again
    assert model_bytes(packed) < model_bytes(compressed)
    with pytest.raises(ValueError, match=r"was compressed before, with keep='serve', .* in full"):
        compress(packed, keep="learn")


def test_rows_that_nothing_touched_keep_their_bits(fitted):
    compressed = compress(fitted["ratings"], keep="learn").set_params(replay_size=20)
    before = compressed.item_factors_.copy()
    X, y = make_news()
    touched = np.unique(X[:1, 1])
    state = reference(compressed)
    state.partial_fit(X[:1], y[:1])
    compressed.partial_fit(X[:1], y[:1])
    same = np.isin(compressed.item_ids_[: len(before)], touched, invert=True)
    rehearsed = (state.item_factors_[: len(before)] != before).any(1)
    assert_array_equal(
        compressed.item_factors_[: len(before)][same & ~rehearsed], before[same & ~rehearsed]
    )
    assert (same & ~rehearsed).sum() > 30


def test_failing_calls_leave_a_learning_model_as_it_is(fitted, tmp_path):
    compressed = compress(fitted["ratings"], keep="learn")
    before = digest(compressed, tmp_path)
    X, y = make_news()
    with pytest.raises(ValueError, match="Learning diverged"):
        compressed.set_params(learning_rate=1e30).partial_fit(X, y)
    assert digest(compressed.set_params(learning_rate=None), tmp_path) == before


@pytest.mark.parametrize("name", ["ratings", "bpr", "als"])
def test_users_and_items_are_forgotten(name, fitted):
    compressed, model = compress(fitted[name]), copy.deepcopy(fitted[name])
    ids = model.user_ids_[:3], model.item_ids_[2:5]
    for one in (compressed, model):
        one.forget(ids[0]).forget_items(ids[1])
    assert_array_equal(compressed.user_ids_, model.user_ids_)
    assert_array_equal(compressed.item_ids_, model.item_ids_)
    assert_allclose(compressed.recommend(USERS)[1], model.recommend(USERS)[1], atol=0.02)


def test_histories_that_are_given_are_used(fitted):
    history = np.array([[900, i, 1_800_000_000] for i in fitted["als"].item_ids_[:4]])
    for name in ("als", "softmax", "transformer"):
        full, small_one = fitted[name], compress(fitted[name])
        ours, theirs = (m.recommend([900, 901], history=history)[1] for m in (small_one, full))
        assert_allclose(ours, theirs, atol=0.05)


def test_threads_read_the_same_lists(fitted):
    compressed = compress(fitted["ratings"])
    wanted = compressed.recommend(USERS)[1]
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: compressed.recommend(USERS)[1], range(12)):
            assert_array_equal(found, wanted)


@pytest.mark.parametrize("name", ["ratings", "softmax", "als", "transformer"])
def test_damaged_files_are_refused(name, fitted, tmp_path):
    save(compress(fitted[name]), tmp_path / "model")
    n_refused = 0
    for seed in range(20):
        done, refused = damage(tmp_path / "model", tmp_path / "damaged", seed)
        if done is None:
            continue
        found = outcome_of(tmp_path / "damaged", lambda model: model.recommend(USERS))
        assert found == "refused" or (found == "loaded" and not refused), done
        n_refused += found == "refused"
    assert n_refused > 8


BAD = {
    "tables": ({"tables": "int4"}, "tables='int4': choose one of 'int8', 'float16', 'bfloat16'"),
    "keep": ({"keep": "all"}, "keep='all': choose one of 'serve', 'learn'"),
    "backbone": ({"backbone": "tflite"}, "backbone='tflite': choose one of 'onnx', 'onnx-int8'"),
    "nothing": ({"tables": None}, "tables=None and backbone=None: give one of them"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_options_are_refused(case, fitted):
    options, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        compress(fitted["ratings"], **options)


def test_other_models_are_refused_with_the_reason(fitted):
    X, y = make_log(60)
    with pytest.raises(ValueError, match="A PopularityRecommender cannot be compressed: it has no"):
        compress(PopularityRecommender().fit(X))
    following = IncrementalMFRecommender(drift="follow", **SMALL).fit(X, y)
    with pytest.raises(ValueError, match=r"it mixes two copies .* Fit it with drift=None"):
        compress(following)
    with pytest.raises(TypeError, match="give the last step"):
        compress(make_recommender_pipeline(PopularityRecommender()).fit(X))


def test_a_compressed_transformer_reads_search_words():
    log = pd.DataFrame(
        {"user_id": np.arange(90) % 9, "item_id": np.arange(90) * 7 % 11, "timestamp": range(90)}
    )
    log["text"] = [f"film {'abcdefghijk'[item] * 3}" for item in log["item_id"]]
    log["query"] = np.where(np.arange(90) % 2, log["text"].str[5:], "")
    model = RealtimeTransformerRecommender(
        backbone="scratch", width=8, n_layers=1, max_epochs=1, random_state=0
    ).fit(log)
    small = compress(model, tables="float16")
    asked = pd.DataFrame({"user_id": [0, 1], "timestamp": 91, "query": ["ccc", ""]})
    for one in (model, small):
        one.observe(log[:5].assign(timestamp=92, query="aaa"))
    options = {"n_recommendations": 5, "exclude_seen": False}
    found, expected = small.recommend(asked, **options), model.recommend(asked, **options)
    assert_array_equal(found[0], expected[0])
    assert_allclose(found[1], expected[1], rtol=1e-2, atol=1e-2)
    assert found[0][0, 0] == 2


def test_vectors_of_items_are_refused():
    log = pd.DataFrame({"user_id": np.arange(60) % 9, "item_id": np.arange(60) * 7 % 11})
    log["embedding"] = [[float(item), 1.0] for item in log["item_id"]]
    model = RealtimeTransformerRecommender(
        backbone=None, width=8, n_layers=1, max_epochs=1, random_state=0
    ).fit(log)
    with pytest.raises(ValueError, match=r"with vectors of items \(embedding\) cannot be compr"):
        compress(model)
