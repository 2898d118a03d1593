"""The benchmarks of fine-tuning methods on a few hundred rows: what each changes."""

import json

import numpy as np
import pandas as pd
import pytest

from benchmarks.decay import log as logs
from benchmarks.decay import pretraining, tuning
from benchmarks.decay.augment import (
    HistoryDropout,
    Mixup,
    MovingAverage,
    TokenDropout,
    without_words,
)
from sklearn_recft.text import pretrain


def make_model(backbone, seed, *settings):
    """Make the model of the benchmark, which learns in fewer steps."""
    return logs.make_model(backbone, seed, {"net_params": {"batch_size": 256}}, *settings)


@pytest.fixture(scope="module", autouse=True)
def few_steps():
    with pytest.MonkeyPatch.context() as patch:
        for room in (tuning, pretraining):
            patch.setattr(room, "make_model", make_model)
        yield


@pytest.fixture(scope="module")
def log():
    """Draw six hundred ratings of 20 items by 15 users."""
    rng = np.random.default_rng(0)
    texts = np.array([f"number {i} of {['red', 'green'][i % 2]}" for i in range(20)], object)
    user, item = rng.integers(0, 15, 600), rng.integers(0, 20, 600)
    rating = np.where((user + item + (rng.random(600) < 0.3)) % 2, 5.0, 1.0)
    X = pd.DataFrame(
        {
            "user_id": user, "item_id": item, "timestamp": np.arange(600) * 3600,
            "text": texts[item], "rating": rating,
        }
    )  # fmt: skip
    catalogue = pd.DataFrame({"item_id": np.arange(20), "text": texts})
    return logs.Log("ml-tiny", X, (rating > 3).astype(np.int64), catalogue)


@pytest.fixture(scope="module")
def backbone(log):
    return pretrain("scratch", log.catalogue["text"], max_epochs=1, random_state=0)


@pytest.fixture(scope="module")
def plain(log):
    return tuning.predictions(log, 0, None)[0]


def test_a_method_that_is_off_changes_nothing(log, plain):
    for callback in (HistoryDropout(0.0), MovingAverage(0.0)):
        found, seconds = tuning.predictions(log, 0, None, callback)
        assert seconds > 0
    np.testing.assert_allclose(found, plain, atol=1e-6)


@pytest.mark.parametrize("method", [HistoryDropout(0.9), Mixup(1.0), MovingAverage(0.9)])
def test_a_method_changes_the_fit_and_leaves_no_trace(log, plain, method, monkeypatch):
    made = []
    make = tuning.make_model
    monkeypatch.setattr(tuning, "make_model", lambda *given: made.append(make(*given)) or made[-1])
    found, _ = tuning.predictions(log, 0, None, method)
    assert 0 < np.abs(found - plain).max() < 1
    [model] = made
    assert not {"score"} & set(vars(model.module_))
    assert not {"forward"} & set(vars(model.net_.criterion_))


def test_token_dropout_restores_the_texts(log, backbone):
    variants = tuning.token_variants(log, backbone, 0, 0.5)
    assert variants.shape == (1 + tuning.N_VARIANTS, 20, 128)
    X, y = log.X[: log.start], log.y[: log.start]
    plain = make_model(backbone, 0).fit(X, y)
    callbacks = {"net_params": {"callbacks": [TokenDropout(variants)]}}
    model = make_model(backbone, 0, callbacks).fit(X, y)
    assert model.module_.item_texts.equal(plain.module_.item_texts)
    assert not model.module_.text.weight.equal(plain.module_.text.weight)
    wrong = {"net_params": {"callbacks": [TokenDropout(variants[:, ::-1].copy())]}}
    with pytest.raises(AssertionError):
        make_model(backbone, 0, wrong).fit(X, y)


def test_words_are_dropped_but_one():
    rng = np.random.default_rng(0)
    assert without_words(["a b c", ""], 0.0, rng) == ["a b c", ""]
    assert all(len(text) == 1 for text in without_words(["a b c"] * 20, 1.0, rng))


def test_the_pretraining_of_likes_and_of_a_log_without_labels(log, monkeypatch, capsys):
    monkeypatch.setattr(pretraining, "load", lambda name, limit: log)
    events = log.X[["user_id", "item_id", "timestamp", "text"]]
    monkeypatch.setattr(pretraining, "read", lambda name, limit: (events, log.catalogue))
    for data, names, n_losses in (("ml-tiny", ["scratch+1"], [2]), ("shop", ["scratch"], [0])):
        pretraining.main(["--data", data, "--seeds", "0", "--backbones", *names])
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [line["model"] for line in lines] == names
        assert all(0 <= line["auc"] <= 1 for line in lines)
        assert [len(line["losses"]) for line in lines] == n_losses


def test_virtual_tokens(log, monkeypatch, backbone):
    pytest.importorskip("peft", reason="peft is not installed")
    monkeypatch.setattr(tuning.SlowLog, "start", 100)
    lines = list(tuning.virtual_tokens(log, backbone, [0], None))
    assert [line["model"].split()[0].strip(",") for line in lines] == [
        "frozen", "LoRA", "prompt", "prefix",
    ]  # fmt: skip
    assert len({line["log_loss"] for line in lines}) > 1
