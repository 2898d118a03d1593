"""Items of the sequence net: vectors, texts, growth, cold items, negatives and freezing."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch

from tests.modules.test_sequence import (
    N_ITEMS,
    TEXT_WIDTH,
    WIDTH,
    answer,
    make_net,
    make_sequences,
    plain,
    scramble,
)

both = pytest.mark.parametrize("texts", [False, True], ids=["ids", "texts"])


def some_texts(n, seed=3):
    return np.random.default_rng(seed).normal(1, 1, (n, TEXT_WIDTH)).astype(np.float32)


def grow(net, n, seed=3):
    """Add ``n`` items, with texts if the net uses them."""
    texts = None if net.content is None else some_texts(n, seed)
    net.grow(texts, net.n_items + n, np.random.default_rng(0))
    return texts


def by_text(net, embedding, texts, n_events):
    """Compute item vectors by hand: embedding plus text map, the text, and its scaled copy."""
    if net.content is None:
        return embedding
    white = (texts - plain(net)["content.mean"]) @ plain(net)["content.axes"]
    white *= 0.1 * math.sqrt(3 * white.shape[1]) / np.linalg.norm(white, axis=1, keepdims=True)
    length = 0.03 * white.shape[1]  # squared
    rare = white * 2 / length / (n_events + 2)[:, None]
    return np.hstack([embedding + white @ plain(net)["text.weight"].T, white, rare])


# ------------------------------------------------------------------------------------ vectors


def test_vectors_are_embeddings_plus_text_maps():
    texts = np.random.default_rng(0).normal(1, 1, (N_ITEMS, TEXT_WIDTH)).astype(np.float32)
    net = make_net(texts=True)
    assert plain(net)["content.mean"] == pytest.approx(texts.mean(0), rel=1e-4)
    expected = by_text(net, plain(net)["embedding"], texts, np.arange(N_ITEMS) ** 2.0)
    np.testing.assert_allclose(net.catalogue(), expected, rtol=1e-4, atol=1e-5)
    assert net.catalogue().shape == (N_ITEMS, WIDTH + 2 * TEXT_WIDTH) == (N_ITEMS, net.query_width)
    assert not net.catalogue().requires_grad
    assert torch.equal(make_net().catalogue(), make_net().embedding)


@both
def test_unknown_items_follow_the_catalogue(texts):
    """They have the mean embedding of the rarest tenth of the items, and their own text."""
    net = make_net(texts=texts)
    grow(net, 24)
    n_events = np.maximum(np.random.default_rng(0).permutation(33) - 2, 0)
    net.count(n_events, n_events)
    extra = some_texts(4) if texts else np.zeros((4, 0), np.float32)
    found = net.catalogue(extra)
    assert torch.equal(found[:33], net.catalogue())
    cold = plain(net)["embedding"][(n_events > 0) & (n_events < 4)].mean(0)
    np.testing.assert_allclose(net.cold_item_embedding(), cold, rtol=1e-5)
    expected = by_text(net, np.tile(cold, (4, 1)), extra, np.zeros(4))
    np.testing.assert_allclose(found[33:], expected, rtol=1e-4, atol=1e-5)
    before = net.embedding.detach().clone()
    net.reset_cold_items(n_events > 0)
    assert torch.equal(net.embedding[n_events > 0], before[n_events > 0])
    assert (net.embedding[n_events == 0] == net.cold_item_embedding()).all()
    assert not torch.equal(net.embedding[n_events == 0], before[n_events == 0])


def test_without_events_the_cold_item_embedding_is_zero():
    net = make_net()
    net.count(np.zeros(N_ITEMS), np.zeros(N_ITEMS))
    assert not net.cold_item_embedding().any()


def test_a_query_ends_with_the_text_of_its_last_event():
    net, sequences = make_net(texts=True), make_sequences()
    last = net.content.similarity_weight.item() * net.item_texts.numpy()[sequences["item"]]
    states = answer(net, sequences)[..., -TEXT_WIDTH:]
    np.testing.assert_allclose(states, last, rtol=1e-5)
    order = [5, 0, 3]
    some = {name: sequences[name][:, order] for name in ("n_before", "query_times", "context")}
    states = answer(net, {**sequences, **some})[..., -TEXT_WIDTH:]
    np.testing.assert_allclose(states, last[:, order], rtol=1e-5)


# ------------------------------------------------------------------------- growing, restoring


@both
def test_growth_keeps_items_and_restoring_removes_the_new(texts):
    net, sequences = make_net(texts=texts), make_sequences()
    before, states, mark = net.catalogue(), answer(net, sequences), net.mark()
    tables = net._tables
    cold = net.cold_item_embedding().numpy()
    new = grow(net, 20)
    assert net._tables == tables  # what an optimizer holds
    grown = net.catalogue()
    assert len(grown) == net.n_items == N_ITEMS + 20
    assert torch.equal(grown[:N_ITEMS], before)
    assert (answer(net, sequences) == states).all()
    expected = by_text(net, np.tile(cold, (20, 1)), new, np.zeros(20))
    np.testing.assert_allclose(grown[N_ITEMS:], expected, rtol=1e-4, atol=1e-5)
    net.restore(mark)
    assert net.n_items == N_ITEMS
    assert torch.equal(net.catalogue(), before)


def test_initial_embeddings_are_small_and_random():
    net = make_net(n_layers=1, grown=False)
    mark = net.mark()
    grow(net, 400)
    noise = net.embedding.detach().clone()
    assert noise.std().item() == pytest.approx(0.02, rel=0.1)
    assert len(noise.unique()) == noise.numel()
    net.restore(mark)
    assert len(net.embedding) == 0
    grow(net, 400)
    assert torch.equal(net.embedding, noise), "the same generator draws the same"


def test_growing_by_no_items_changes_nothing():
    net = make_net(texts=True)
    before = pickle.dumps(net)
    net.grow(None, N_ITEMS, np.random.default_rng(0))
    assert pickle.dumps(net) == before


def test_negatives_are_half_by_popularity_and_half_uniform():
    net = make_net()
    net.count(np.array([6.0, 2, 0, 0, 0, 0, 0, 0, 0]), np.zeros(N_ITEMS))
    assert net.negative_distribution().sum().item() == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(
        net.negative_distribution()[:3], [0.375 + 1 / 18, 0.125 + 1 / 18, 1 / 18], rtol=1e-5
    )
    net.count(np.zeros(N_ITEMS), np.zeros(N_ITEMS))
    np.testing.assert_allclose(net.negative_distribution(), 1 / 18)


@both
@pytest.mark.parametrize("clone", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_copy_predicts_the_same_and_is_independent(clone, texts):
    net, sequences = make_net(texts=texts), make_sequences()
    states, mark = answer(net, sequences), net.mark()
    grow(net, 900)
    net.restore(mark)
    twin = clone(net)
    assert (answer(twin, sequences) == states).all()
    grow(twin, 5)
    scramble(twin, seed=3)
    assert (answer(net, sequences) == states).all()


def test_initial_weights_depend_on_the_seed_only():
    state = torch.get_rng_state()
    one, other = make_net(), make_net()
    assert torch.equal(torch.get_rng_state(), state)
    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)


def test_constant_columns_have_a_scale_of_one():
    net = make_net()
    net.initialize_scales(
        None, np.full(5, 4.0), np.column_stack([np.arange(5.0), np.full(5, 7), -np.arange(5)])
    )
    np.testing.assert_allclose(net.scale_of_feedback, [4, 1])
    np.testing.assert_allclose(net.scale_of_context[0], [2, 7, -2])
    np.testing.assert_allclose(net.scale_of_context[1], [2**0.5, 1, 2**0.5])


# ------------------------------------------------------------------------------------ freezing


def trainable(net):
    return {name for name, parameter in net.named_parameters() if parameter.requires_grad}


def test_freezing_all_blocks_also_freezes_their_inputs():
    net = make_net(texts=True)
    names = {name for name, _ in net.named_parameters()}
    net.freeze(0)
    assert trainable(net) == names
    net.freeze(1)
    assert trainable(net) == {name for name in names if not name.startswith("blocks.0.")}
    net.freeze(2)
    assert trainable(net) == {"embedding"}
    net.freeze(0)
    assert trainable(net) == names


def test_parameter_groups_are_decay_and_embedding():
    net = make_net(n_layers=3)
    groups = net.parameter_groups()
    assert {name: len(group) for name, group in groups.items()} == {"decay": 3, "embedding": 1}
    assert groups["embedding"][0] is net.embedding
