"""Pretraining by masked tokens: what is learned, what stays as it was, what is refused."""

import copy
import itertools
import pickle
import random

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit

from sklearn_recft import DecayBertRecommender, RealtimeTransformerRecommender, trusted_types
from sklearn_recft.text import PretrainedBackbone, _encoder, load_encoder, pretrain
from sklearn_recft.text._backbone import scratch_backbone
from sklearn_recft.text._masked import IGNORED, _Options, _Tokens

TOPICS = [
    ["tea", "cup", "leaf", "kettle", "green", "jasmine"],
    ["guitar", "string", "chord", "amplifier", "blues", "fret"],
]
TEXTS = [" ".join(words) for topic in TOPICS for words in itertools.permutations(topic, 3)]
FEW = TEXTS[::20]


@pytest.fixture(scope="module")
def backbone():
    return pretrain("scratch", FEW, max_epochs=2, random_state=0)


@pytest.fixture(autouse=True)
def _clear_shared_vectors():
    _encoder._shared_vectors.clear()


def log(n=80):
    """Draw likes of texts, with a time."""
    rng = np.random.default_rng(0)
    item = rng.integers(0, len(FEW), n)
    X = pd.DataFrame(
        {
            "user_id": rng.integers(0, 8, n), "item_id": item, "timestamp": np.arange(n) * 1000,
            "text": np.array(FEW, object)[item],
        }
    )  # fmt: skip
    return X, (item % 2 == X["user_id"] % 2).astype(int).to_numpy()


def separation(encoder):
    """Mean cosine of words of one topic minus that of two topics, of centered vectors."""
    words = [word for topic in TOPICS for word in topic]
    vectors = encoder.encode(words)
    vectors = vectors - vectors.mean(0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine, topic = vectors @ vectors.T, np.repeat([0, 1], len(TOPICS[0]))
    same = topic[:, None] == topic
    return cosine[same & ~np.eye(len(words), dtype=bool)].mean() - cosine[~same].mean()


def test_words_of_one_topic_get_closer():
    trained = pretrain("scratch", TEXTS, max_epochs=8, random_state=0)
    assert trained.losses[-1] < trained.losses[0] - 1
    before = separation(load_encoder("scratch", texts=TEXTS, seed=0))
    after = separation(load_encoder(trained))
    assert after > before + 0.3


def test_it_depends_on_the_seed_alone(backbone):
    again = pretrain("scratch", FEW, max_epochs=2, random_state=0)
    assert again == backbone
    assert again.losses == backbone.losses
    assert hash(again) == hash(backbone)
    other = pretrain("scratch", FEW, max_epochs=2, random_state=1)
    assert other != backbone
    drawn = [
        pretrain("scratch", FEW, max_epochs=1, random_state=np.random.RandomState(3))
        for _ in range(2)
    ]
    assert drawn[0] == drawn[1]


def test_repeated_and_blank_texts_do_not_count(backbone):
    given = pd.Series([*FEW, "", " \n", *FEW[:5]])
    assert pretrain("scratch", given, max_epochs=2, random_state=0) == backbone


def test_global_state_is_not_changed():
    threads, numbers = torch.get_num_threads(), np.random.get_state()[1].copy()  # noqa: NPY002
    states = random.getstate(), torch.get_rng_state()
    with torch.no_grad():
        pretrain("scratch", FEW[:4], max_epochs=1, random_state=None)
        assert not torch.is_grad_enabled()
    np.testing.assert_array_equal(np.random.get_state()[1], numbers)  # noqa: NPY002
    assert random.getstate() == states[0]
    assert torch.equal(torch.get_rng_state(), states[1])
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("changed", "error", "match"),
    [
        ({"texts": "tea"}, TypeError, "a sequence of texts"),
        ({"texts": pd.DataFrame({"text": ["tea"]})}, TypeError, "this is a table"),
        ({"texts": ["tea", None, 3]}, TypeError, "2 of 3 are no strings, the first is number 1"),
        ({"texts": ["", " "]}, ValueError, "all 2 are blank"),
        ({"texts": []}, ValueError, "all 0 are blank"),
        ({"max_epochs": 0}, ValueError, "max_epochs=0: give an integer from 1"),
        ({"max_epochs": 1.5}, ValueError, "max_epochs=1.5"),
        ({"batch_size": True}, ValueError, "batch_size=True"),
        ({"max_tokens": 300}, ValueError, "max_tokens=300: give an integer from 3 to 256"),
        ({"mask": 1.0}, ValueError, "mask=1.0: give a number above 0 and below 1"),
        ({"mask": float("nan")}, ValueError, "mask=nan"),
        ({"learning_rate": 0}, ValueError, "learning_rate=0: give a number above 0"),
        ({"learning_rate": 1e30}, ValueError, "loss of epoch 1 is not finite"),
        ({"learning_rate": 1e38}, ValueError, r"learning_rate=1e\+38: give .* below 1e\+36"),
        ({"learning_rate": 1e10, "max_epochs": 1, "batch_size": 99}, ValueError, "after the last"),
        ({"random_state": "a"}, ValueError, "random_state='a'"),
        ({"random_state": -1}, ValueError, "random_state=-1"),
        ({"n_jobs": 0}, ValueError, "n_jobs=0"),
        ({"device": "moon"}, ValueError, "device='moon'"),
        ({"backbone": 3}, TypeError, "backbone=3"),
        ({"backbone": "/no/such/folder"}, ValueError, "cannot be loaded"),
    ],
)
def test_bad_input_is_refused(changed, error, match):
    given = {"backbone": "scratch", "texts": FEW[:4], "max_epochs": 1, "batch_size": 1, **changed}
    with pytest.raises(error, match=match):
        pretrain(**given)


def test_an_encoder_without_a_mask_token_is_refused(backbone, tmp_path):
    made = backbone.load()
    made.tokenizer.mask_token = None
    made.model.save_pretrained(tmp_path)
    made.tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="has no mask token"):
        pretrain(str(tmp_path), FEW)


def test_masks():
    """Special tokens are never predicted, and every text has a token to predict."""
    made = scratch_backbone(FEW, 0)
    texts = [*FEW, "tea"]
    for mask in (0.01, 0.15, 0.6):
        options = _Options(1, mask, 1e-3, 7, 64)
        tokens = _Tokens(made.model, made.tokenizer, texts, options, np.random.default_rng(0))
        special = torch.tensor(made.tokenizer.all_special_ids)
        n_chosen = n_real = n_kept = 0
        for _ in range(20):
            batches = list(tokens)
            assert sum(len(ids) for ids, _, _ in batches) == len(texts)
            for ids, real, targets in batches:
                chosen = targets != IGNORED
                assert chosen.any(1).all()
                assert not torch.isin(targets[chosen], special).any()
                assert not (chosen & ~real).any()
                n_chosen += int(chosen.sum())
                n_real += int(
                    (real & ~torch.isin(torch.where(chosen, targets, ids), special)).sum()
                )
                n_kept += int((ids[chosen] == made.tokenizer.mask_token_id).sum())
        assert n_chosen / n_real >= mask - 0.03
        assert n_chosen / n_real <= max(mask, len(texts) * 20 / n_real) + 0.06
        assert n_kept / n_chosen == pytest.approx(0.8, abs=0.04)


def test_long_texts_are_truncated():
    made = scratch_backbone(FEW, 0)
    options = _Options(1, 0.15, 1e-3, 4, 6)
    tokens = _Tokens(
        made.model, made.tokenizer, [" ".join(FEW), "tea"], options, np.random.default_rng(0)
    )
    assert [len(row) for row in tokens.rows] == [6, 3]
    assert {int(row[-1]) for row in tokens.rows} == {made.tokenizer.sep_token_id}


def test_pretraining_continues(backbone):
    before = backbone.digest
    more = pretrain(backbone, FEW, max_epochs=2, learning_rate=1e-3, random_state=0)
    assert more.losses[0] < backbone.losses[0]
    assert (backbone.digest, backbone == pickle.loads(pickle.dumps(backbone))) == (before, True)


def test_a_folder(backbone, tmp_path):
    folder = backbone.save(tmp_path / "encoder")
    texts = [*FEW, "oolong"]
    expected = load_encoder(backbone).encode(texts)
    np.testing.assert_array_equal(load_encoder(folder).encode(texts), expected)
    again = [pretrain(start, FEW, max_epochs=1, random_state=0) for start in (folder, backbone)]
    np.testing.assert_array_equal(*(load_encoder(made).encode(texts) for made in again))


def test_copies_are_shared_and_so_are_vectors(backbone):
    assert clone(DecayBertRecommender(backbone)).backbone is backbone
    assert copy.deepcopy(backbone) is backbone
    encoder, twin = load_encoder(backbone), load_encoder(pickle.loads(pickle.dumps(backbone)))
    encoder.encode(FEW)
    twin.encode(FEW)
    assert (encoder.n_encoded, twin.n_encoded) == (len(FEW), 0)
    assert not any(array.flags.writeable for array in backbone.serialized["weights"].values())


LISTS = {"n_recommendations": 5, "exclude_seen": False}
ESTIMATORS = [
    DecayBertRecommender(max_epochs=1, random_state=0, width=8, n_factors=4),
    RealtimeTransformerRecommender(max_epochs=1, random_state=0, width=8, n_layers=1),
]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_estimators_read_texts_by_it(estimator, backbone, tmp_path):
    X, y = log()
    model = clone(estimator).set_params(backbone=backbone).fit(X, y)
    by_folder = clone(estimator).set_params(backbone=backbone.save(tmp_path)).fit(X, y)
    scratch = clone(estimator).set_params(backbone="scratch").fit(X, y)
    expected = model.recommend([0, 1], **LISTS)[1]
    np.testing.assert_array_equal(by_folder.recommend([0, 1], **LISTS)[1], expected)
    assert (scratch.recommend([0, 1], **LISTS)[1] != expected).any()
    assert repr(backbone) in repr(model)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_saved_model_contains_it(estimator, copied, backbone):
    X, y = log()
    model = clone(estimator).set_params(backbone=backbone).fit(X[:60], y[:60])
    twin = copied(model)
    assert twin.backbone == backbone
    news = pd.DataFrame({"item_id": [500, 501], "text": ["jasmine kettle", "blues chord"]})
    _encoder._shared_vectors.clear()
    for each in (model, twin):
        each.partial_fit(X[60:], y[60:], items=news)
    np.testing.assert_allclose(
        twin.recommend([0, 1], **LISTS)[1],
        model.recommend([0, 1], **LISTS)[1],
        atol=1e-6,
    )


def test_a_pickle_contains_the_weights_once(backbone):
    X, y = log()
    size = sum(array.nbytes for array in backbone.serialized["weights"].values())
    model = clone(ESTIMATORS[0]).set_params(backbone=backbone).fit(X, y)
    assert len(pickle.dumps(model)) < 1.5 * size


def test_training_its_layers_does_not_change_it(backbone):
    X, y = log()
    model = clone(ESTIMATORS[0]).set_params(backbone=backbone, freeze=1).fit(X, y)
    before = load_encoder(backbone).encode(FEW)
    assert np.abs(model.module_.encoder.encode(FEW) - before).max() > 0
    twin = pickle.loads(pickle.dumps(model))
    np.testing.assert_allclose(
        twin.module_.encoder.encode(FEW), model.module_.encoder.encode(FEW), atol=1e-6
    )
    assert pickle.loads(pickle.dumps(backbone)) == backbone


def test_a_search_chooses_a_backbone(backbone):
    X, y = log()
    grid = {"backbone": ["scratch", backbone]}
    search = GridSearchCV(clone(ESTIMATORS[0]), grid, cv=TimeSeriesSplit(2)).fit(X, y)
    assert search.best_params_["backbone"] in ("scratch", backbone)


def test_a_backbone_changed_after_fit_is_refused(backbone):
    X, y = log()
    model = clone(ESTIMATORS[0]).set_params(backbone=backbone).fit(X, y)
    model.set_params(backbone=pickle.loads(pickle.dumps(backbone))).partial_fit(X[:1], [1])
    model.set_params(backbone="scratch")
    with pytest.raises(ValueError, match="was set after fit"):
        model.partial_fit(X[:1], [1])


def test_skops(backbone):
    skops = pytest.importorskip("skops.io", reason="skops is not installed")
    X, y = log()
    model = clone(ESTIMATORS[0]).set_params(backbone=backbone).fit(X, y)
    twin = skops.loads(skops.dumps(model), trusted=trusted_types())
    assert isinstance(twin.backbone, PretrainedBackbone)
    assert twin.backbone == backbone
    np.testing.assert_array_equal(twin.predict_proba(X), model.predict_proba(X))
