"""Items of the sequence net: vectors and texts, growth, newcomers, draws, and what is frozen."""

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
    """Add ``n`` items, with texts where there are any."""
    texts = None if net.content is None else some_texts(n, seed)
    net.grow(texts, net.n_items + n, np.random.default_rng(0))
    return texts


def by_text(net, embedding, texts, n_events):
    """Vectors of items by hand: what their texts say is added, and stands behind, twice."""
    if net.content is None:
        return embedding
    white = (texts - plain(net)["content.mean"]) @ plain(net)["content.axes"]
    white *= 0.1 * math.sqrt(3 * white.shape[1]) / np.linalg.norm(white, axis=1, keepdims=True)
    length = 0.03 * white.shape[1]  # squared
    rare = white * 2 / length / (n_events + 2)[:, None]
    return np.hstack([embedding + white @ plain(net)["text.weight"].T, white, rare])


# ------------------------------------------------------------------------------------ vectors


def test_vectors_are_embeddings_and_what_texts_say():
    texts = np.random.default_rng(0).normal(1, 1, (N_ITEMS, TEXT_WIDTH)).astype(np.float32)
    net = make_net(texts=True)
    assert plain(net)["content.mean"] == pytest.approx(texts.mean(0), rel=1e-4)
    expected = by_text(net, plain(net)["embedding"], texts, np.arange(N_ITEMS) ** 2.0)
    np.testing.assert_allclose(net.catalogue(), expected, rtol=1e-4, atol=1e-5)
    assert net.catalogue().shape == (N_ITEMS, WIDTH + 2 * TEXT_WIDTH) == (N_ITEMS, net.query_width)
    assert not net.catalogue().requires_grad
    assert torch.equal(make_net().catalogue(), make_net().embedding)


@both
def test_strangers_stand_behind_the_catalogue(texts):
    """With the mean of the embeddings of the tenth that was met least, and their text."""
    net = make_net(texts=texts)
    grow(net, 24)
    met = np.maximum(np.random.default_rng(0).permutation(33) - 2, 0)
    net.count(met, met)
    extra = some_texts(4) if texts else np.zeros((4, 0), np.float32)
    found = net.catalogue(extra)
    assert torch.equal(found[:33], net.catalogue())
    newcomer = plain(net)["embedding"][(met > 0) & (met < 4)].mean(0)
    np.testing.assert_allclose(net.newcomer(), newcomer, rtol=1e-5)
    expected = by_text(net, np.tile(newcomer, (4, 1)), extra, np.zeros(4))
    np.testing.assert_allclose(found[33:], expected, rtol=1e-4, atol=1e-5)
    before = net.embedding.detach().clone()
    net.settle(met > 0)
    assert torch.equal(net.embedding[met > 0], before[met > 0])
    assert (net.embedding[met == 0] == net.newcomer()).all()
    assert not torch.equal(net.embedding[met == 0], before[met == 0])


def test_where_nobody_has_met_anything_newcomers_are_nothing():
    net = make_net()
    net.count(np.zeros(N_ITEMS), np.zeros(N_ITEMS))
    assert not net.newcomer().any()


def test_a_query_ends_with_the_text_of_its_last_event():
    net, sequences = make_net(texts=True), make_sequences()
    last = net.content.likeness.item() * net.item_texts.numpy()[sequences["item"]]
    said = answer(net, sequences)[..., -TEXT_WIDTH:]
    np.testing.assert_allclose(said, last, rtol=1e-5)
    order = [5, 0, 3]
    some = {name: sequences[name][:, order] for name in ("n_before", "asked", "context")}
    said = answer(net, {**sequences, **some})[..., -TEXT_WIDTH:]
    np.testing.assert_allclose(said, last[:, order], rtol=1e-5)


# ------------------------------------------------------------------------- growing, restoring


@both
def test_growth_keeps_items_and_restoring_removes_the_new(texts):
    net, sequences = make_net(texts=texts), make_sequences()
    before, said, mark = net.catalogue(), answer(net, sequences), net.mark()
    tables = net._tables
    newcomer = net.newcomer().numpy()
    new = grow(net, 20)
    assert net._tables == tables  # what an optimizer holds
    grown = net.catalogue()
    assert len(grown) == net.n_items == N_ITEMS + 20
    assert torch.equal(grown[:N_ITEMS], before)
    assert (answer(net, sequences) == said).all()
    expected = by_text(net, np.tile(newcomer, (20, 1)), new, np.zeros(20))
    np.testing.assert_allclose(grown[N_ITEMS:], expected, rtol=1e-4, atol=1e-5)
    net.restore(mark)
    assert net.n_items == N_ITEMS
    assert torch.equal(net.catalogue(), before)


def test_first_items_are_small_noise():
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


def test_growing_by_nothing_is_nothing():
    net = make_net(texts=True)
    before = pickle.dumps(net)
    net.grow(None, N_ITEMS, np.random.default_rng(0))
    assert pickle.dumps(net) == before


def test_half_of_the_draws_follow_the_counts_and_half_go_anywhere():
    net = make_net()
    net.count(np.array([6.0, 2, 0, 0, 0, 0, 0, 0, 0]), np.zeros(N_ITEMS))
    assert net.shares().sum().item() == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(
        net.shares()[:3], [0.375 + 1 / 18, 0.125 + 1 / 18, 1 / 18], rtol=1e-5
    )
    net.count(np.zeros(N_ITEMS), np.zeros(N_ITEMS))
    np.testing.assert_allclose(net.shares(), 1 / 18)


@both
@pytest.mark.parametrize("clone", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_copy_answers_the_same_and_lives_alone(clone, texts):
    net, sequences = make_net(texts=texts), make_sequences()
    said, size, mark = answer(net, sequences), len(pickle.dumps(net)), net.mark()
    grow(net, 900)
    net.restore(mark)
    twin = clone(net)
    assert len(pickle.dumps(net)) < size + 1_000  # no room for growth in there
    assert (answer(twin, sequences) == said).all()
    grow(twin, 5)
    scramble(twin, seed=3)
    assert (answer(net, sequences) == said).all()


def test_first_weights_are_drawn_from_the_seed_alone():
    state = torch.get_rng_state()
    one, other = make_net(), make_net()
    assert torch.equal(torch.get_rng_state(), state)
    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)


def test_what_never_moves_has_a_scale_of_one():
    net = make_net()
    net.begin(
        None, np.full(5, 4.0), np.column_stack([np.arange(5.0), np.full(5, 7), -np.arange(5)])
    )
    np.testing.assert_allclose(net.scale_of_feedback, [4, 1])
    np.testing.assert_allclose(net.scale_of_context[0], [2, 7, -2])
    np.testing.assert_allclose(net.scale_of_context[1], [2**0.5, 1, 2**0.5])


# ------------------------------------------------------------------------------------ freezing


def moving(net):
    return {name for name, parameter in net.named_parameters() if parameter.requires_grad}


def test_the_lowest_blocks_are_frozen_and_with_all_of_them_what_goes_in():
    net = make_net(texts=True)
    names = {name for name, _ in net.named_parameters()}
    net.freeze(0)
    assert moving(net) == names
    net.freeze(1)
    assert moving(net) == {name for name in names if not name.startswith("blocks.0.")}
    net.freeze(2)
    assert moving(net) == {"embedding"}
    net.freeze(0)
    assert moving(net) == names


def test_parameters_are_named_by_what_becomes_of_them():
    net = make_net(n_layers=3)
    groups = net.parameter_groups()
    assert {name: len(group) for name, group in groups.items()} == {"decay": 3, "embedding": 1}
    assert groups["embedding"][0] is net.embedding
