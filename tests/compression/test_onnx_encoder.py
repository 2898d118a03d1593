"""Text encoders in ONNX Runtime: the vectors of torch, learning, saving, and what is refused."""

import copy
import json
import pickle

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from tokenizers import Tokenizer

from sklearn_recft import DecayBertRecommender, FineTuning, RealtimeTransformerRecommender, load
from sklearn_recft.compression import (
    _onnx_encoder,
    compress,
    export_onnx,
    onnx_encoder,
    with_onnx_encoder,
)
from sklearn_recft.text import TextEncoder, _onnx, encoder_from_state

RNG = np.random.default_rng(0)
TEXTS = np.array([f"{a} of {b}" for a in ("war", "love", "heat") for b in ("paris", "a river")])
LOG = pd.DataFrame(
    {"user_id": np.arange(120) % 9, "item_id": RNG.integers(0, 6, 120), "timestamp": range(120)}
)
LOG["text"] = TEXTS[LOG["item_id"]]
Y = RNG.integers(0, 2, 120)
NEWS = pd.DataFrame(
    {
        "user_id": [0, 1, 99, 3],
        "item_id": ["a", "b", "c", "d"],
        "timestamp": range(200, 204),
        "text": ["love in winter", "", "Łódź 東京", "river " * 400],
    }
)


@pytest.fixture(scope="module")
def model():
    """A model that reads texts by a small random encoder."""
    return DecayBertRecommender("scratch", max_epochs=1, random_state=0).fit(LOG, Y)


@pytest.fixture(scope="module")
def fast(model):
    """Its copy in ONNX Runtime: the only export of this file."""
    return with_onnx_encoder(model)


@pytest.fixture(scope="module")
def small(fast):
    """Its copy in int8."""
    return with_onnx_encoder(fast, "int8")


def encoder_of(model):
    return model.__recommender_model__().network.reader


def test_vectors_are_those_of_torch_for_any_batch_and_length(model, fast):
    mine, theirs = encoder_of(fast), encoder_of(model)
    texts = NEWS["text"].tolist()
    for separately in (True, False):  # other texts in each round: the others are in caches
        found = mine.encode([f"{t}{separately}" for t in texts], separately=separately)
        expected = theirs.encode([f"{t}{separately}" for t in texts], separately=separately)
        np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(mine.encode([""]), theirs.encode([""]), atol=1e-5)
    assert mine.encode([]).shape == (0, theirs.width)
    assert mine.encode(["one"], n_threads=2).shape == (1, theirs.width)


def test_a_vector_does_not_depend_on_the_other_texts_to_the_bit(fast):
    encoder, text = encoder_of(fast), "heat of the night"
    first = encoder.encode([text, "a"], separately=True)
    _onnx._shared_vectors.clear()
    assert (encoder.encode(["longer than the others", text], separately=True)[1] == first[0]).all()


def test_the_copy_predicts_lists_and_learns_as_the_model(model, fast):
    old, new = copy.deepcopy(model), copy.deepcopy(fast)
    assert (new.predict_proba(LOG) == old.predict_proba(LOG)).all()
    np.testing.assert_allclose(new.predict_proba(NEWS), old.predict_proba(NEWS), atol=1e-5)
    query = pd.DataFrame({"user_id": [0, 99], "query": ["a river", "love"]})
    for one in (old, new):
        one.observe(NEWS[:2], [1, 0])
        one.partial_fit(NEWS[2:], [0, 1])
    items, scores = old.recommend(query, n_recommendations=4, exclude_seen=False)
    found, found_scores = new.recommend(query, n_recommendations=4, exclude_seen=False)
    assert (found == items).all()
    np.testing.assert_allclose(found_scores, scores, atol=1e-5)
    assert encoder_of(model).n_layers == encoder_of(new).n_layers
    assert type(encoder_of(model)) is TextEncoder  # the model itself is as before


def test_a_call_that_fails_changes_nothing(fast):
    one = copy.deepcopy(fast)
    before = one.predict_proba(NEWS)
    with pytest.raises(ValueError, match="y"):
        one.partial_fit(NEWS, [0, 1, 2, 3])
    assert (one.predict_proba(NEWS) == before).all()


def test_copies_pickles_and_files_need_no_export(fast, small, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.onnx.export", None)
    for name, one in (("fast", fast), ("small", small)):
        digest = one.save(tmp_path / name)
        for again in (pickle.loads(pickle.dumps(one)), copy.deepcopy(one), load(tmp_path / name)):
            assert (again.predict_proba(NEWS) == one.predict_proba(NEWS)).all()
            assert again.save(tmp_path / "again") == digest
            again.partial_fit(NEWS, [0, 1, 0, 1])
    assert copy.deepcopy(fast).forget([0]).n_users_ == fast.n_users_ - 1


def test_a_graph_that_is_none_or_names_other_files_is_refused(fast):
    state = encoder_of(fast).state()
    whole = state["onnx"]
    graph = onnx.load_from_string(whole.tobytes())
    entry = graph.graph.initializer[0].external_data.add()
    entry.key, entry.value = "location", "secret.bin"
    outside = np.frombuffer(graph.SerializeToString(), np.uint8)
    for wrong, message in (
        (whole[: len(whole) // 2], "cannot read the graph"),
        (whole[:0], "cannot read the graph"),
        (outside, "names other files"),
        (whole.astype(np.int64), "array of bytes"),
    ):
        with pytest.raises(ValueError, match=message):
            encoder_from_state({**state, "onnx": wrong})
    with pytest.raises(ValueError, match="of width 7"):
        encoder_from_state({**state, "width": 7})
    with pytest.raises(ValueError, match="max_tokens"):
        encoder_from_state({**state, "max_tokens": 0})


def test_int8_is_small_and_near(model, fast, small):
    texts = [f"{text} again" for text in TEXTS.tolist()]
    exact, rounded = encoder_of(model).encode(texts), encoder_of(small).encode(texts)
    cosines = (exact * rounded).sum(1) / np.linalg.norm(exact, axis=1)
    assert (cosines / np.linalg.norm(rounded, axis=1) > 0.95).all()
    assert not np.allclose(exact, rounded, atol=1e-5)
    assert len(encoder_of(small).graph) < 0.5 * len(encoder_of(fast).graph)
    with pytest.raises(ValueError, match="int8 already"):
        with_onnx_encoder(small)
    with pytest.raises(ValueError, match="precision='int4'"):
        onnx_encoder(encoder_of(fast), "int4")


def test_a_trained_encoder_and_other_estimators_are_refused(fast):
    tuned = FineTuning(lora_rank=2)
    for trained in (
        DecayBertRecommender("scratch", freeze=1, max_epochs=1, random_state=0),
        DecayBertRecommender("scratch", freeze=1, max_epochs=1, random_state=0, training=tuned),
    ):
        with pytest.raises(ValueError, match="freeze=1: the text encoder of this DecayBert"):
            with_onnx_encoder(trained.fit(LOG[:40], Y[:40]))
    with pytest.raises(ValueError, match="is not trained"):
        encoder_of(fast).freeze(1)
    assert encoder_of(fast).freeze("all") is encoder_of(fast)
    with pytest.raises(ValueError, match="Nothing is unfrozen"):
        encoder_of(fast).lower(["a"])


def test_the_transformer_has_an_encoder_too(fast):
    model = RealtimeTransformerRecommender("scratch", max_epochs=1, random_state=0).fit(LOG)
    graph = encoder_of(fast)
    vectors = encoder_of(model).encode(["love in spring"])
    model.__recommender_model__().network.encoder = graph  # as if exported: one export is enough
    assert with_onnx_encoder(model).recommend([99], n_recommendations=2)[0].shape == (1, 2)
    assert graph.encode(["love in spring"]).shape == vectors.shape


def test_the_exported_encoder_reads_texts_without_this_package(model, fast, tmp_path):
    path = export_onnx(fast, tmp_path / "encoder.onnx")
    facts = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    tokenizer = Tokenizer.from_str(facts["tokenizer"])
    ids = tokenizer.encode("heat of paris").ids[: facts["max_tokens"]]
    session = onnxruntime.InferenceSession(path)
    given = {"input_ids": [ids], "attention_mask": [[1] * len(ids)]}
    vectors = session.run(["vectors"], {n: np.array(v, np.int64) for n, v in given.items()})[0]
    np.testing.assert_allclose(vectors, encoder_of(model).encode(["heat of paris"]), atol=1e-5)
    assert vectors.shape == (1, facts["width"])


# ------------------------------------------------------------------ with tables in few bits


@pytest.mark.parametrize("backbone", ["onnx", "onnx-int8"])
def test_compress_exchanges_the_encoder(model, small, backbone, monkeypatch):
    monkeypatch.setattr(_onnx_encoder, "encoder_graph", lambda encoder: encoder_of(small).graph)
    monkeypatch.setattr(_onnx_encoder, "quantized", lambda graph: graph)
    found = compress(model, tables=None, backbone=backbone)
    assert encoder_of(found).precision == {"onnx": "float32", "onnx-int8": "int8"}[backbone]
    assert_array_equal(found.predict_proba(LOG), model.predict_proba(LOG))
    found.partial_fit(LOG[:3], Y[:3])
    with pytest.raises(ValueError, match="DecayBertRecommender cannot be compressed"):
        compress(model, backbone=backbone)


def test_compress_exchanges_the_encoder_of_a_compressed_catalogue(fast, monkeypatch):
    model = RealtimeTransformerRecommender(
        backbone="scratch", width=8, n_layers=1, max_epochs=1, random_state=0
    ).fit(LOG)
    monkeypatch.setattr(_onnx_encoder, "encoder_graph", lambda encoder: encoder_of(fast).graph)
    found = compress(model, backbone="onnx")
    assert type(encoder_of(found)) is type(encoder_of(fast))
    options = {"n_recommendations": 3, "exclude_seen": False}
    expected = compress(model).recommend([0, 99], **options)[0]
    assert_array_equal(found.recommend([0, 99], **options)[0], expected)
