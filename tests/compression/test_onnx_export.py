"""`export_onnx`: graphs that pass the checker and equal the estimator, ids, and what is refused."""

import builtins
import hashlib
import json
import os

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

from sklearn_recft import (
    DecayBertRecommender,
    EASERecommender,
    IncrementalMFClassifier,
    IncrementalMFRecommender,
)
from sklearn_recft.compression import compress, export_onnx
from sklearn_recft.datasets import make_interactions

X, Y = make_interactions(30, 25, 900, random_state=0, return_X_y=True)
LOG = pd.DataFrame(X, columns=["user_id", "item_id", "timestamp"])
PRICES = np.random.default_rng(0).normal(size=900)
WITH_CONTEXT = LOG.assign(hour=np.arange(900) % 24.0, price=PRICES)
LIKED = np.where(np.median(Y) < Y, "yes", "no")
CASES = {
    "ratings": (IncrementalMFRecommender(), Y),
    "drift": (IncrementalMFRecommender(drift="follow"), Y),
    "adam": (IncrementalMFRecommender(solver="adam", max_epochs=1), Y),
    "log_loss": (IncrementalMFRecommender(loss="log_loss"), (LIKED == "yes").astype(float)),
    "bpr": (IncrementalMFRecommender(loss="bpr", half_life=3.0), None),
    "softmax": (IncrementalMFRecommender(loss="softmax", half_life=3.0), None),
    "softmax, last events": (IncrementalMFRecommender(loss="softmax", history_half_life=2.0), None),
    "classifier": (IncrementalMFClassifier(), LIKED),
}


def exported(model, folder):
    """Export a model; return the session and the JSON file."""
    path = export_onnx(model, folder / "model.onnx")
    onnx.checker.check_model(str(path), full_check=True)
    facts = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    return onnxruntime.InferenceSession(path), facts


def codes(ids, known):
    place = {one: n for n, one in enumerate(known)}
    return np.array([place.get(one, -1) for one in ids.tolist()])


@pytest.mark.parametrize("context", [False, True], ids=["ids", "context"])
@pytest.mark.parametrize("name", CASES)
def test_the_graph_predicts_and_lists_as_the_estimator(name, context, tmp_path):
    model, y = CASES[name]
    log = WITH_CONTEXT if context else LOG
    context = context and "softmax" not in name  # which does not read it
    model.set_params(n_factors=8, random_state=0).fit(log[:800], y if y is None else y[:800])
    model.partial_fit(log[800:], y if y is None else y[800:])
    session, facts = exported(model, tmp_path)
    assert facts["items"] == model.item_ids_.tolist()
    assert facts.get("context", []) == (["hour", "price"] if context else [])

    rows = log[:60].copy()
    rows.loc[:9, "user_id"], rows.loc[5:14, "item_id"] = 999, 888  # unknown
    given = {
        "user": codes(rows["user_id"].to_numpy(), facts["users"]),
        "item": codes(rows["item_id"].to_numpy(), facts["items"]),
    }
    if context:
        given["context"] = rows[facts["context"]].to_numpy()
    predictions = np.diagonal(session.run(["predictions"], given)[0])
    is_classifier = hasattr(model, "predict_proba")
    expected = model.predict_proba(rows)[:, 1] if is_classifier else model.predict(rows)
    np.testing.assert_allclose(predictions, expected, atol=1e-5)
    assert facts.get("classes") == (["no", "yes"] if is_classifier else None)

    users = np.array([999, *facts["users"]])
    items, scores = model.recommend(users, n_recommendations=25, exclude_seen=False)
    given = {"user": np.arange(-1, len(users) - 1), "item": np.arange(25)}
    if context:
        given["context"] = np.tile(facts["average_context"], (len(users), 1))
    raw, predictions = session.run(["scores", "predictions"], given)
    order = np.argsort(-raw, axis=1, kind="stable")
    assert (np.array(facts["items"])[order] == items).all()
    np.testing.assert_allclose(np.take_along_axis(predictions, order, 1), scores, atol=1e-5)


@pytest.fixture
def model():
    """A small factorization."""
    return IncrementalMFRecommender(n_factors=4, random_state=0).fit(LOG, Y)


def test_a_second_export_replaces_the_files_and_leaves_no_others(model, tmp_path):
    _, first = exported(model, tmp_path)
    model.partial_fit([["ann", "tea", 9e8]], [1.0])
    _, second = exported(model, tmp_path)
    assert (len(second["users"]), len(first["users"])) == (31, 30)
    assert sorted(os.listdir(tmp_path)) == ["model.json", "model.onnx"]
    data = (tmp_path / "model.onnx").read_bytes()
    assert second["sha256"] == hashlib.sha256(data).hexdigest()
    assert "ann" in second["users"]


def test_a_failed_write_leaves_the_old_file(model, tmp_path, monkeypatch):
    path = export_onnx(model, tmp_path / "model.onnx")
    before = path.read_bytes()

    def full(number):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        export_onnx(model.partial_fit([[0, 1, 9e8]], [1.0]), path)
    assert path.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["model.json", "model.onnx"]


def test_what_cannot_be_exported_is_named(model, tmp_path):
    path = tmp_path / "model.onnx"
    with pytest.raises(TypeError, match="A EASERecommender cannot be exported to ONNX"):
        export_onnx(EASERecommender().fit(LOG), path)
    with pytest.raises(NotFittedError):
        export_onnx(IncrementalMFRecommender(), path)
    with pytest.raises(ValueError, match=r"suffix is \.onnx"):
        export_onnx(model, tmp_path / "model.bin")
    habits = IncrementalMFRecommender(loss="bpr", habit_half_life=3.0, random_state=0).fit(LOG)
    with pytest.raises(ValueError, match="habit_half_life"):
        export_onnx(habits, path)
    without = DecayBertRecommender(None, max_epochs=1, random_state=0).fit(LOG, LIKED)
    with pytest.raises(ValueError, match="fitted without texts"):
        export_onnx(without, path)
    tuples = [[(1, 2), "tea"], [(2, 3), "milk"]]
    odd = IncrementalMFRecommender(n_factors=2, random_state=0).fit(tuples, [1.0, 2.0])
    with pytest.raises(TypeError, match="user_id: 2 of 2 ids are no strings or numbers"):
        export_onnx(odd, path)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime", "onnxscript"])
def test_a_missing_package_is_an_error_that_names_the_extra(missing, model, tmp_path, monkeypatch):
    find = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.partition(".")[0] == missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return find(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=rf'{missing}: pip install "sklearn-recft\[onnx\]'):
        export_onnx(model, tmp_path / "model.onnx")


@pytest.mark.parametrize("keep", ["serve", "learn"])
@pytest.mark.parametrize("name", ["ratings", "classifier", "softmax"])
def test_compressed_models_export_what_they_predict(name, keep, tmp_path):
    model, y = CASES[name]
    log = LOG if name == "softmax" else WITH_CONTEXT
    model.set_params(n_factors=8, random_state=0).fit(log[:400], y if y is None else y[:400])
    small = compress(model, keep=keep)
    session, facts = exported(small, tmp_path)
    rows = log[:20].copy()
    rows.loc[:4, "user_id"], rows.loc[3:7, "item_id"] = 999, 888  # unknown
    given = {
        "user": codes(rows["user_id"].to_numpy(), facts["users"]),
        "item": codes(rows["item_id"].to_numpy(), facts["items"]),
    }
    if "context" in facts:
        given["context"] = rows[facts["context"]].to_numpy(float)
    found = np.diag(session.run(["predictions"], given)[0])
    has_labels = name == "classifier"
    wanted = small.predict_proba(rows)[:, 1] if has_labels else small.predict(rows)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
