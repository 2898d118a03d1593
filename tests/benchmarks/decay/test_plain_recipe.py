"""The plain recipe of the benchmarks, with a BERT so small that it learns in seconds."""

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from benchmarks.decay.plain_recipe import evaluate, make_recipe, quiet

GOODS = ["tea", "rice", "oats", "milk"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Save a BERT of one narrow layer, with random weights, and a tokenizer of few words."""
    words = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    lines = [f"liked disliked 12 days hours minutes ago: {' '.join(GOODS)}; now: moments day hour"]
    words.train_from_iterator(lines, trainers.WordPieceTrainer(special_tokens=special))
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]",
    )  # fmt: skip
    config = BertConfig(
        vocab_size=words.get_vocab_size(), hidden_size=32, num_hidden_layers=1,
        num_attention_heads=2, intermediate_size=32, max_position_embeddings=64,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("bert")
    with quiet(), torch.random.fork_rng():
        torch.manual_seed(0)
        BertForSequenceClassification(config).save_pretrained(path)
        tokenizer.save_pretrained(path)
    return str(path)


@pytest.fixture(scope="module")
def log():
    """A log in which users like tea alone."""
    rng = np.random.default_rng(0)
    item = rng.integers(0, 4, 500)
    X = pd.DataFrame({"user_id": rng.integers(0, 20, 500), "item_id": item})
    X["timestamp"] = np.arange(500) * 7200.0
    X["text"] = np.array(GOODS, object)[item]
    return X, (item == 0).astype(np.int64)


def test_the_recipe_learns_and_reports(folder, log):
    recipe = make_recipe(folder, 1e9, max_length=32, learning_rate=0.003, max_epochs=8)
    found = evaluate(recipe, *log, np.arange(400), np.arange(400, 500))
    assert found["auc"] > 0.95
    assert 0 < found["log_loss"] < np.log(2)  # better than knowing nothing
    assert found["n_rows"] == 8 * 400
    assert min(found.values()) > 0


def test_time_that_is_up_ends_training(folder, log):
    recipe = make_recipe(folder, 1e-9, max_length=32, batch_size=16)
    found = evaluate(recipe, *log, np.arange(400), np.arange(400, 500))
    assert found["n_rows"] == 16


@pytest.mark.parametrize("follow", [True, False])
def test_later_events_are_known_only_with_follow(folder, log, follow, monkeypatch):
    recipe = make_recipe(folder, 1e-9, max_length=32)
    queried = []
    monkeypatch.setattr(
        type(recipe[1:]),
        "predict_proba",
        lambda _, X: queried.extend(X) or np.full((len(X), 2), 0.5),
    )
    X, y = log
    evaluate(recipe, X, y, np.arange(400), np.arange(400, 500), follow=follow)
    user = X["user_id"].iloc[-1]
    of_user = np.flatnonzero(X["user_id"][:-1] == user)
    known = of_user if follow else of_user[of_user < 400]
    assert of_user[-1] >= 400
    words = ["liked" if y[i] else "disliked" for i in known[-5:][::-1]]
    assert [part.split()[0] for part in queried[-1].split("; ")[:-1]] == words


def test_what_is_too_long_is_cut_on_the_left(folder):
    tokens = make_recipe(folder, 1.0, max_length=8)["tokens"].fit([])
    text = "liked 2 days ago: tea; disliked 2 days ago: rice; now: oats"
    kept = tokens.inverse_transform(tokens.transform([text]))
    assert kept[0].endswith("oats")
