"""The decay net against plain loops, its two scoring paths, and what may influence a row."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch

from sklearn_recft.history import log_windows
from sklearn_recft.modules import _decay, _decay_heads
from sklearn_recft.modules._decay import DecayAttention, make_decay_net
from sklearn_recft.text import _encoder
from sklearn_recft.text._encoder import load_encoder
from sklearn_recft.training import LogWindows

N_ITEMS, N_FEATURES, WIDTH, TEXT_WIDTH, N_HEADS, LENGTH = 9, 5, 4, 6, 3, 6
ABOUT_ITEM = [1, 3]
OPTIONS = {"width": WIDTH, "n_hidden": 24, "n_heads": N_HEADS, "about_item": ABOUT_ITEM}
TEXTS = ["green tea", "black tea", "coffee", "tea", "cocoa", "water", "green tea", "milk", "juice"]

decays = pytest.mark.parametrize("decay", ["exponential", "log", "none"])
sources = pytest.mark.parametrize(
    ("text_width", "ids"), [(TEXT_WIDTH, False), (0, True), (TEXT_WIDTH, True)],
    ids=["texts", "ids", "both"],
)  # fmt: skip


def scramble(net, seed=0):
    """Set every parameter outside the backbone to a random value far from its initial one."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in net.named_parameters():
        if not name.startswith("encoder"):
            parameter.data.normal_(0, 0.7, generator=generator)
    return net


def make_net(decay="exponential", text_width=TEXT_WIDTH, ids=True, **options):
    rng = np.random.default_rng(0)
    given = {"text_width": text_width, "ids": ids, "decay": decay, **OPTIONS, **options}
    net = make_decay_net(0, N_FEATURES, **given)
    texts = rng.normal(1, 1, (N_ITEMS, text_width)).astype(np.float32)
    if text_width:
        net.center(texts)
    net.grow(texts, N_ITEMS, rng)
    net.initialize_linear(rng.normal(2, 3, (20, N_FEATURES)), rng.normal(size=N_FEATURES), 0.3)
    return scramble(net).eval()


def make_rows(seed=0, n=8):
    """Make rows with histories of every length from 0 on, newest first, padded at the end."""
    rng = np.random.default_rng(seed)
    rows = {
        "item": rng.integers(0, N_ITEMS, n),
        "features": rng.normal(2, 3, (n, N_FEATURES)).astype(np.float32),
        "past": rng.integers(0, N_ITEMS, (n, LENGTH)),
        "feedback": rng.normal(size=(n, LENGTH)).astype(np.float32),
        "age": np.sort(rng.exponential(2, (n, LENGTH)), axis=1).astype(np.float32),
    }
    for row in range(n):
        there = row % (LENGTH + 1)
        rows["past"][row, : there // 2] = rows["item"][row]  # bought again and again
        for name, nothing in (("past", -1), ("feedback", 0), ("age", 0)):
            rows[name][row, there:] = nothing
    return rows


def tensors(rows):
    return {name: torch.from_numpy(column) for name, column in rows.items()}


def logits(net, rows, **options):
    with torch.no_grad():
        return net(**tensors(rows), **options).numpy()


def plain(net):
    """Parameters and buffers in double precision."""
    state = {name: value.double().numpy() for name, value in net.state_dict().items()}
    attention = {name[10:]: value for name, value in state.items() if name.startswith("attention.")}
    return state, attention


def vector_by_hand(state, code, *, hidden=False):
    """Compute the vector of an item, with ``hidden`` without its embedding."""
    vector = np.zeros(WIDTH)
    if "text.weight" in state:
        vector += state["text.weight"] @ state["item_texts"][code]
    return vector + (state["embedding"][code] if "embedding" in state and not hidden else 0)


def attend_by_hand(a, decay, own, past):
    """Compute each head's attention on each past event, and on the null key."""
    found, nulls = [], []
    for h in range(N_HEADS):
        powers = []
        for vector, feedback, age, same in past:
            penalty = {"exponential": age, "log": math.log(1 + age), "none": 0.0}[decay]
            logit = own @ a["query"][h] @ vector + a["feedback"][h] * feedback
            logit += a["same"][h] * same - math.exp(a["log_rate"][h]) * penalty
            powers.append(math.exp(logit))
        total = sum(powers) + math.exp(a["null"][h])
        found.append([power / total for power in powers])
        nulls.append(math.exp(a["null"][h]) / total)
    return found, nulls


def read_by_hand(a, decay, attention, own, past):
    """Compute the attention outputs: products with the item, sums, means, and repeats."""
    agree, liked_agree, liked, weight, again = [], [], [], [], []
    for head in attention:
        pairs = list(zip(head, past, strict=True))
        pooled = sum((w * vector for w, (vector, *_) in pairs), np.zeros(WIDTH))
        pooled_liked = sum((w * f * vector for w, (vector, f, *_) in pairs), np.zeros(WIDTH))
        agree.append(pooled * own)
        liked_agree.append(pooled_liked * own)
        liked.append(sum(w * f for w, (_, f, *_) in pairs))
        weight.append(sum(w for w, _ in pairs))
        again.append(sum(w * same for w, (*_, same) in pairs))
    mean = [each.sum() for each in liked_agree]
    repeat_ages = [age for *_, age, same in past if same]
    often = []
    for h in range(N_HEADS):
        rate = math.exp(a["log_rate"][h])
        times = {
            "exponential": repeat_ages,
            "log": [math.log(1 + t) for t in repeat_ages],
            "none": [],
        }
        ages = times[decay] or [0.0] * len(repeat_ages)
        often.append(math.log1p(sum(math.exp(-rate * t) for t in ages)))
    often.append(math.log1p(len(repeat_ages)))
    return np.concatenate([*agree, *liked_agree, liked, weight, mean, again, often])


def past_by_hand(state, rows, row):
    there = rows["past"][row] >= 0
    columns = (rows[name][row][there].tolist() for name in ("past", "feedback", "age"))
    return [
        (vector_by_hand(state, code), feedback, age, float(code == rows["item"][row]))
        for code, feedback, age in zip(*columns, strict=True)
    ]


def logit_by_hand(net, decay, rows, row, *, cold=False):
    state, attention = plain(net)
    own = vector_by_hand(state, rows["item"][row], hidden=cold)
    past = past_by_hand(state, rows, row)
    weights, _ = attend_by_hand(attention, decay, own, past)
    read = read_by_hand(attention, decay, weights, own, past)
    features = rows["features"][row].astype(float)
    if cold:
        features[ABOUT_ITEM] = 0
    features = (features - state["feature_mean"]) / state["feature_scale"]
    hidden = state["hidden.weight"] @ np.concatenate([read, own, features]) + state["hidden.bias"]
    logit = state["output.weight"] @ hidden.clip(0) + state["output.bias"]
    return float((logit + state["linear.weight"] @ features + state["linear.bias"])[0])


# ----------------------------------------------------------------------------- the equation


@decays
@sources
@pytest.mark.parametrize("few_items", [0, 8192])
def test_logits_follow_the_equation(decay, text_width, ids, few_items, monkeypatch):
    """With the vectors of all items, or only of the items of the batch."""
    monkeypatch.setattr(_decay, "_FEW_ITEMS", few_items)
    net, rows = make_net(decay, text_width, ids), make_rows()
    expected = [logit_by_hand(net, decay, rows, row) for row in range(8)]
    found = logits(net, rows)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(logits(net, rows, table=net.catalogue()), expected, rtol=1e-4)
    assert np.std(expected) > 0.5


@decays
def test_attention_follows_the_equation_and_sums_to_one_with_the_null_key(decay):
    net, rows = make_net(decay), make_rows()
    state, attention = plain(net)
    names = ("item", "past", "feedback", "age")
    found = net.attention_of(net.catalogue(), *(rows[name] for name in names))
    assert found.shape == (8, N_HEADS, LENGTH)
    for row in range(8):
        own = vector_by_hand(state, rows["item"][row])
        past = past_by_hand(state, rows, row)
        expected, nulls = attend_by_hand(attention, decay, own, past)
        np.testing.assert_allclose(found[row, :, : len(past)], expected, rtol=1e-4, atol=1e-6)
        assert not found[row, :, len(past) :].any()
        np.testing.assert_allclose(found[row].sum(1) + nulls, 1, rtol=1e-5)


@decays
def test_padding_does_not_change_logits(decay):
    net, rows = make_net(decay), make_rows()
    rng, pad = np.random.default_rng(1), rows["past"] < 0
    perturbed = {**rows, "feedback": rows["feedback"].copy(), "age": rows["age"].copy()}
    for name in ("feedback", "age"):
        perturbed[name][pad] = rng.uniform(0, 50, pad.sum())
    assert logits(net, perturbed).tolist() == logits(net, rows).tolist()
    wider = {
        **rows,
        **{
            name: np.pad(rows[name], ((0, 0), (0, 3)), constant_values=-1 if name == "past" else 0)
            for name in ("past", "feedback", "age")
        },
    }
    np.testing.assert_allclose(logits(net, wider), logits(net, rows), rtol=1e-5, atol=1e-6)


@decays
def test_scoring_many_items_for_one_past_equals_scoring_rows(decay):
    net, rows = make_net(decay), make_rows()
    table = net.catalogue()
    for row in range(8):
        items = np.array([3, 0, 8, 3, *range(N_ITEMS)])
        features = np.random.default_rng(row).normal(2, 3, (len(items), N_FEATURES))
        features = features.astype(np.float32)
        past = {name: rows[name][row] for name in ("past", "feedback", "age")}
        found = net.score_items(table, items, features, tuple(past.values()))
        repeated = {name: np.tile(column, (len(items), 1)) for name, column in past.items()}
        expected = logits(net, {"item": items, "features": features, **repeated})
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_the_initial_logits_are_the_given_linear_model():
    """With a zero hidden layer, and for a constant feature too."""
    net, rng = make_net(), np.random.default_rng(1)
    features, weights = rng.normal(5, 3, (30, N_FEATURES)), rng.normal(size=N_FEATURES)
    features[:, 2] = 4
    net.initialize_linear(features.astype(np.float32), weights, 0.7)
    for parameter in net.output.parameters():
        parameter.data.zero_()
    rows = make_rows()
    expected = rows["features"] @ weights + 0.7
    np.testing.assert_allclose(logits(net, rows), expected, rtol=1e-4, atol=1e-4)
    assert net.feature_scale[2] == 1


def test_initial_weights_depend_on_the_seed_only():
    state, given = torch.get_rng_state(), {"text_width": 0, "ids": True, "decay": "log", **OPTIONS}
    one, other, third = (make_decay_net(seed, N_FEATURES, **given) for seed in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), state)
    for (name, p), q, r in zip(
        one.named_parameters(), other.parameters(), third.parameters(), strict=True
    ):
        assert torch.equal(p, q)
        drawn = name.endswith(("query", "weight", "bias"))
        assert torch.equal(p, r) != drawn


# -------------------------------------------------------------------------------- half-lives


@pytest.mark.parametrize("decay", ["exponential", "log"])
@pytest.mark.parametrize("half_lives", [None, [0.5, 20.0, 400.0], np.array([1, 7, 3000])])
def test_an_event_has_half_the_weight_at_the_half_life(decay, half_lives):
    """Also with the null key; before training the half-lives are the given ones."""
    attention = DecayAttention(WIDTH, N_HEADS, decay, half_lives)
    if half_lives is not None:
        np.testing.assert_allclose(attention.half_lives(), half_lives, rtol=1e-4)
    else:
        first, *_, last = attention.half_lives()
        np.testing.assert_allclose([first, last], _decay_heads.FIRST_HALF_LIVES, rtol=1e-4)
    nothing = torch.zeros(1, N_HEADS, WIDTH)
    for head, days in enumerate(attention.half_lives()):
        age = torch.tensor([[0.0, days]])
        with torch.no_grad():
            weight = attention.weights(
                nothing, torch.zeros(1, 2, WIDTH), 0 * age, age, 0 * age, torch.zeros(1, 2).bool()
            )[0, head]
        assert float(weight[1] / weight[0]) == pytest.approx(0.5, rel=1e-3)


def test_a_head_with_almost_no_decay_has_an_infinite_half_life():
    attention = DecayAttention(WIDTH, N_HEADS, "log")
    attention.log_rate.data[0] = -9.0
    assert attention.half_lives()[0] == np.inf
    assert DecayAttention(WIDTH, N_HEADS, "none").half_lives().tolist() == [np.inf] * N_HEADS


@pytest.mark.parametrize("half_lives", [[1.0], [1.0, 2.0], [1.0, 2.0, -3.0], [0.0, 1.0, 2.0]])
def test_half_lives_must_be_positive_and_one_per_head(half_lives):
    with pytest.raises(ValueError, match=r"half_lives.*3"):
        DecayAttention(WIDTH, N_HEADS, "exponential", half_lives)


# ----------------------------------------------------------------------------------- cold items


@sources
def test_cold_rows_lose_item_features_and_nothing_else(text_width, ids):
    net, rows = make_net("exponential", text_width, ids, cold_dropout=1.0).train(), make_rows()
    expected = [logit_by_hand(net, "exponential", rows, row, cold=True) for row in range(8)]
    np.testing.assert_allclose(logits(net, rows), expected, rtol=1e-4, atol=1e-4)
    warm = [logit_by_hand(net, "exponential", rows, row) for row in range(8)]
    assert np.abs(np.subtract(expected, warm)).min() > 1e-3
    np.testing.assert_allclose(logits(net.eval(), rows), warm, rtol=1e-4, atol=1e-4)


def test_rows_are_cold_at_the_given_rate():
    net, rows = make_net(cold_dropout=0.3), make_rows()
    many = {name: np.repeat(column, 250, axis=0) for name, column in rows.items()}
    warm, cold = logits(net, many), logits(make_net(cold_dropout=1.0).train(), many)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = logits(net.train(), many)
    is_cold = np.abs(found - cold) < np.abs(found - warm)
    np.testing.assert_allclose(found, np.where(is_cold, cold, warm), rtol=1e-4, atol=1e-4)
    assert is_cold.mean() == pytest.approx(0.3, abs=0.04)
    never = make_net(cold_dropout=0.0).train()
    np.testing.assert_allclose(logits(never, many), warm, rtol=1e-5, atol=1e-5)


# ------------------------------------------------------------------------------------ leakage


def reachable(gradient):
    """Return the rows of a table with a nonzero gradient."""
    return set(torch.nonzero(gradient.reshape(len(gradient), -1).any(1))[:, 0].tolist())


@decays
def test_events_outside_a_rows_past_do_not_change_its_logit(decay):
    """The gradients of later events, tied events and events of other users are exactly zero."""
    rng, n = np.random.default_rng(0), 40
    users, items = rng.integers(0, 3, n), np.arange(n) % N_ITEMS
    times = 1e5 * rng.integers(0, 12, n)
    order, start, stop = log_windows(users, times, max_history=4)
    log = LogWindows(
        items[order], rng.normal(size=n).astype(np.float32)[order], times[order].astype(float)
    )
    log.feedback.requires_grad_()
    log.times.requires_grad_()
    net, rows = make_net(decay), make_rows(n=n)
    table = net.catalogue().requires_grad_()
    pasts = []
    for row in range(n):
        batch = {
            "item": items, "features": rows["features"], "start": start, "stop": stop,
            "time": times.astype(float),
        }  # fmt: skip
        # Its logit in a batch: the other rows must not matter either.
        logit = net(**log(tensors(batch)), table=table)[row]
        by_time = sorted(
            (e for e in range(n) if users[e] == users[row] and times[e] < times[row]),
            key=lambda e: times[e],
        )
        past = by_time[-4:]
        wanted = [log.feedback, table, *([] if decay == "none" else [log.times])]
        gradients = torch.autograd.grad(logit, wanted)
        places = {int(np.flatnonzero(order == event)[0]) for event in past}
        assert reachable(gradients[0]) == places
        assert reachable(gradients[1]) == {items[row], *items[past]}
        if decay != "none":
            assert reachable(gradients[2]) == places
        pasts.append(len(past))
    assert {0, 4} <= set(pasts)


def test_gradients_reach_only_the_embeddings_of_the_row_and_its_past():
    net, rows = make_net(text_width=0), make_rows()
    for row in range(8):
        (gradient,) = torch.autograd.grad(net(**tensors(rows))[row], [net.embedding])
        past = rows["past"][row]
        assert reachable(gradient) == {int(rows["item"][row]), *past[past >= 0].tolist()}


# ----------------------------------------------------------------------------- items come and go


@sources
def test_a_catalogue_keeps_known_vectors_and_appends_unknown_items(text_width, ids):
    net = make_net("none", text_width, ids)
    state, _ = plain(net)
    expected = [vector_by_hand(state, code) for code in range(N_ITEMS)]
    np.testing.assert_allclose(net.catalogue(), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(net.vectors().detach(), expected, rtol=1e-4, atol=1e-5)
    known = torch.full((4, WIDTH), 7.0)
    found = net.catalogue(known)
    assert (found[:4] == 7).all()
    np.testing.assert_allclose(found[4:], expected[4:], rtol=1e-4, atol=1e-5)
    whole = net.catalogue()
    assert torch.equal(net.catalogue(whole), whole)
    texts = np.random.default_rng(5).normal(1, 1, (3, text_width)).astype(np.float32)
    found = net.catalogue(whole, texts)
    assert torch.equal(found[:N_ITEMS], whole)
    assert not found.requires_grad
    unknown = np.zeros((3, WIDTH))
    if text_width:
        centred = texts - state["text_mean"]
        unit = 4 * centred / np.linalg.norm(centred, axis=1, keepdims=True)
        unknown = unit @ state["text.weight"].T
    np.testing.assert_allclose(found[N_ITEMS:], unknown, rtol=1e-4, atol=1e-5)


def test_a_large_catalogue_is_computed_in_parts():
    net = make_net()
    net.grow(np.ones((10_000 - N_ITEMS, TEXT_WIDTH), np.float32), 10_000, None)
    table = net.catalogue()
    np.testing.assert_allclose(table, net.vectors().detach(), rtol=1e-4, atol=1e-5)


@sources
def test_growth_keeps_items_and_restoring_removes_the_new(text_width, ids):
    net, rng = make_net("none", text_width, ids), np.random.default_rng(2)
    before, tables, mark = net.catalogue(), (net.item_texts, net.embedding), net.mark()
    texts = rng.normal(size=(30, text_width)).astype(np.float32)
    net.grow(texts, N_ITEMS + 30, None)
    assert (net.item_texts, net.embedding) == tables  # the tensors an optimizer holds
    grown = net.catalogue()
    assert len(grown) == net.n_items == N_ITEMS + 30
    assert torch.equal(grown[:N_ITEMS], before)
    # A new item has the vector of an unknown item with the same text.
    np.testing.assert_allclose(grown[N_ITEMS:], net.catalogue(before, texts)[-30:], rtol=1e-4)
    net.restore(mark)
    assert net.n_items == N_ITEMS
    assert torch.equal(net.catalogue(), before)
    net.restore(mark)
    net.grow(texts, N_ITEMS + 30, rng)
    if ids:
        noise = net.embedding[N_ITEMS:].detach().numpy()
        assert 0.01 < noise.std() < 0.03
        assert len(np.unique(noise)) == noise.size


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_copy_predicts_the_same_and_is_independent(clone):
    net, rows = make_net(), make_rows()
    before, mark = logits(net, rows), net.mark()
    net.grow(np.ones((900, TEXT_WIDTH), np.float32), N_ITEMS + 900, None)
    net.restore(mark)
    twin = clone(net)
    assert logits(twin, rows).tolist() == before.tolist()
    twin.grow(np.ones((1, TEXT_WIDTH), np.float32), N_ITEMS + 1, None)
    scramble(twin, seed=3)
    assert logits(net, rows).tolist() == before.tolist()


def test_parameter_groups_are_decay_and_embedding():
    groups = make_net(text_width=0).parameter_groups()
    assert {name: len(group) for name, group in groups.items()} == {"decay": 1, "embedding": 1}
    assert list(make_net(ids=False).parameter_groups()) == ["decay"]


# ------------------------------------------------------------------------ an encoder that trains


def make_training_net(keep, ids=False):
    encoder = load_encoder("scratch", texts=TEXTS, seed=0).freeze(keep)
    net = make_decay_net(
        0, N_FEATURES, text_width=encoder.width, ids=ids, decay="log", encoder=encoder, **OPTIONS
    )
    net.center(encoder.encode(TEXTS))
    net.grow(encoder.lower(TEXTS), N_ITEMS, np.random.default_rng(0))
    return scramble(net).eval()


@pytest.mark.parametrize("keep", [1, "none"])
def test_gradients_reach_only_unfrozen_parameters(keep):
    net, rows = make_training_net(keep), make_rows()
    trains = [p for p in net.encoder.parameters() if p.requires_grad]
    assert {id(p) for p in net.parameter_groups()["backbone"]} == {id(p) for p in trains}
    net(**tensors(rows)).square().sum().backward()
    for parameter in net.encoder.parameters():
        assert (parameter.grad is not None) == parameter.requires_grad
    names = [name for name, p in net.named_parameters() if p.grad is not None and p.grad.any()]
    assert sum(name.startswith("encoder") for name in names) > len(trains) / 2
    assert {"text.weight", "attention.query", "attention.log_rate", "hidden.weight"} <= set(names)


def test_search_words_have_the_direction_of_texts_and_give_cosines():
    net = make_net()
    texts = np.random.default_rng(1).normal(1, 1, (7, TEXT_WIDTH)).astype(np.float32)
    texts[3] = net.text_mean.numpy()  # no direction
    found = net.query_vectors(texts)
    expected = net.normalized(torch.from_numpy(texts)) / _decay._TEXT_NORM**2
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-6, atol=1e-8)
    for row, text in enumerate(texts):
        np.testing.assert_array_equal(net.query_vectors(text[None])[0], found[row])
    cosines = net.item_texts.numpy() @ net.query_vectors(texts[:3]).T
    unit = [its / np.linalg.norm(its, axis=1, keepdims=True)
            for its in (net.item_texts.numpy(), texts[:3] - net.text_mean.numpy())]  # fmt: skip
    np.testing.assert_allclose(cosines, unit[0] @ unit[1].T, atol=1e-6)


def test_each_distinct_text_of_a_batch_is_encoded_once(monkeypatch):
    """Items with equal texts share one vector; only the padding item 0 is encoded besides."""
    net, read, run_upper = make_training_net(1), [], _encoder.run_upper

    def spy(model, rows, codes, first):
        read.append(codes)
        return run_upper(model, rows, codes, first)

    monkeypatch.setattr(_encoder, "run_upper", spy)
    rows = make_rows()
    rows["item"][:], rows["past"][:] = [6, 2, 3, 2, 6, 0, 0, 6], -1
    rows["past"][:, 0] = [2, 2, 6, 6, 3, 3, 2, 0]
    for whole in (True, False):
        if whole:
            used = rows
        else:
            used = {name: column[:5] for name, column in rows.items()}
            used["past"][:, 1:] = 3
        read.clear()
        logits(net, used)
        (codes,) = read
        used_items = {*used["item"].tolist(), *used["past"][used["past"] >= 0].tolist()}
        texts = {TEXTS[item] for item in used_items}
        assert len(codes) == len(texts)
        assert {list(dict.fromkeys(TEXTS))[code] for code in codes} == texts


@pytest.mark.parametrize("keep", [1, "none"])
def test_a_trained_encoder_gives_the_same_vectors_as_encode(keep):
    """In two passes and in one, and in a batch and in the catalogue."""
    net, rows = make_training_net(keep, ids=True), make_rows()
    table = net.catalogue()
    np.testing.assert_allclose(logits(net, rows, table=table), logits(net, rows), atol=2e-3)
    frozen = net.normalized(torch.from_numpy(net.encoder.encode(TEXTS)))
    with torch.no_grad():
        expected = net.text(frozen) + net.embedding
    np.testing.assert_allclose(table, expected, atol=5e-3)
    extra = net.catalogue(table, net.encoder.encode(TEXTS[:2]))[-2:]
    np.testing.assert_allclose(extra, net.text(frozen[:2]).detach(), atol=1e-5)
    assert len(net.catalogue(table[:3])) == N_ITEMS
    np.testing.assert_allclose(net.catalogue(table[:3]), table, atol=1e-4)
