"""The sequence net against plain loops, and which events may influence a query."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn import functional

from sklearn_recft.models._sequence_queries import answer as answer_arrays
from sklearn_recft.models._sequence_queries import weights_of_trends
from sklearn_recft.modules import _softmax
from sklearn_recft.modules._sequence import make_sequence_net

N_ITEMS, N_CONTEXT, WIDTH, N_HEADS, TEXT_WIDTH, LENGTH = 9, 3, 6, 2, 5, 8
DAY = 86_400

decays = pytest.mark.parametrize("decay", ["exponential", "log", "none"])
layers = pytest.mark.parametrize("n_layers", [1, 2])


def scramble(net, seed=0):
    """Set every parameter to a random value far from its initial one."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in net.named_parameters():
        size = 0.3 if name.endswith("log_rate") else 0.7
        parameter.data.normal_(0, size, generator=generator)
    return net


def make_net(decay="log", n_layers=2, *, texts=False, max_history=LENGTH, grown=True, **options):
    given = {"query_time": True, "dropout": 0.0, "n_heads": N_HEADS, "n_context": N_CONTEXT}
    given |= {"text_width": TEXT_WIDTH * texts, **options}
    net = make_sequence_net(
        0, width=WIDTH, n_layers=n_layers, max_history=max_history, time_decay=decay, **given
    )
    rng = np.random.default_rng(0)
    vectors = rng.normal(1, 1, (N_ITEMS, TEXT_WIDTH)).astype(np.float32) if texts else None
    context = rng.normal(2, 3, (20, given["n_context"]))
    net.initialize_scales(vectors, rng.normal(3, 2, 20), context)
    if grown:
        net.grow(vectors, N_ITEMS, rng)
        net.count(*2 * [np.arange(N_ITEMS) ** 2.0])
    return scramble(net).eval()


def make_sequences(n=3, length=LENGTH, seed=0):
    """Make sequences with a query after each event, from seconds to years later."""
    rng = np.random.default_rng(seed)
    time = 1.6e9 + np.cumsum(np.floor(10 ** rng.uniform(0, 6, (n, length))), 1)
    time[:, 2] = time[:, 1]  # two events with equal times
    return {
        "item": rng.integers(0, N_ITEMS, (n, length)),
        "feedback": rng.normal(3, 2, (n, length)).astype(np.float32), "time": time,
        "n_before": np.tile(np.arange(1, length + 1), (n, 1)),
        "query_times": time + np.floor(10 ** rng.uniform(0, 8, (n, length))),
        "context": rng.normal(2, 3, (n, length, N_CONTEXT)).astype(np.float32),
    }  # fmt: skip


def answer(net, sequences, **options):
    return answer_arrays(net, net.catalogue(), sequences, **options)


# ------------------------------------------------------------------------------------ by hand


def normed(state, name, x):
    x = (x - x.mean()) / math.sqrt(x.var() + 1e-5)
    return x * state[f"{name}.weight"] + state[f"{name}.bias"]


def time_embedding_by_hand(table, seconds):
    """Sum the steps of half an octave from a second up to the time."""
    return sum(table[step] for step in range(min(int(2 * math.log2(seconds + 1)), 63) + 1)) / 8


def penalty_by_hand(decay, rate, seconds):
    days = seconds / DAY
    return {"exponential": rate * days, "log": rate * math.log(1 + days), "none": 0.0}[decay]


def attend_by_hand(net, number, query, when, past, times):
    """Compute the attention weights of each head; the newest past event is the query's own."""
    state, block = plain(net), f"blocks.{number}."
    attention = net.stack[number].attention
    size, found = WIDTH // N_HEADS, []
    for h in range(N_HEADS):
        rows = slice(h * size, (h + 1) * size)
        q = state[f"{block}attention.query.weight"][rows] @ query
        rate, logits = math.exp(state[f"{block}attention.log_rate"][h]), []
        for j, (event, then) in enumerate(zip(past, times, strict=True)):
            k = state[f"{block}attention.key_value.weight"][:WIDTH][rows] @ event
            lag = len(past) - 1 - j
            if lag >= attention.order.shape[1]:
                logits.append(-math.inf)
                continue
            logit = q @ k / math.sqrt(size) + state[f"{block}attention.order"][h, lag]
            logits.append(logit - penalty_by_hand(attention.decay, rate, when - then))
        powers = [math.exp(logit - max(logits)) for logit in logits]
        found.append([power / sum(powers) for power in powers])
    return found


def block_by_hand(net, number, x, when, past, times):
    """Compute the new state of one row that attends to normed past events."""
    state, block = plain(net), f"blocks.{number}."
    weights = attend_by_hand(net, number, normed(state, f"{block}norm", x), when, past, times)
    values = [state[f"{block}attention.key_value.weight"][WIDTH:] @ event for event in past]
    size = WIDTH // N_HEADS
    pooled = [
        sum(w * v[h * size : (h + 1) * size] for w, v in zip(weights[h], values, strict=True))
        for h in range(N_HEADS)
    ]
    output = state[f"{block}attention.output.weight"], state[f"{block}attention.output.bias"]
    x = x + output[0] @ np.concatenate(pooled) + output[1]
    hidden = normed(state, f"{block}hidden_norm", x)
    hidden = state[f"{block}hidden.weight"] @ hidden + state[f"{block}hidden.bias"]
    return x + state[f"{block}output.weight"] @ hidden.clip(0) + state[f"{block}output.bias"]


def plain(net):
    return {name: value.double().numpy() for name, value in net.state_dict().items()}


def query_by_hand(net, decay, sequences, row, place):
    """Compute a query before its last block, and the states of the events that it sees."""
    state, n = plain(net), sequences["n_before"][row, place]
    item, feedback, time = (sequences[name][row, :n] for name in ("item", "feedback", "time"))
    mean, scale = state["scale_of_feedback"]
    x = []
    for j in range(n):
        event = state["embedding"][item[j]] + (feedback[j] - mean) / scale * state["feedback"]
        if decay != "none":
            event = event + time_embedding_by_hand(state["gap"], time[j] - time[max(j - 1, 0)])
        x.append(event * math.sqrt(WIDTH))
    for number in range(len(net.blocks) - 1):
        past = [normed(state, f"blocks.{number}.norm", event) for event in x]
        x = [
            block_by_hand(net, number, x[j], time[j], past[: j + 1], time[: j + 1])
            for j in range(n)
        ]
    when = max(sequences["query_times"][row, place], time[-1]) if net.query_time else time[-1]
    query = time_embedding_by_hand(state["query_gap"], when - time[-1]) * net.query_time
    if "context" in sequences:
        mean, scale = state["scale_of_context"]
        context = (sequences["context"][row, place] - mean) / scale
        query = query + state["context.weight"] @ context
    last = f"blocks.{len(net.blocks) - 1}."
    past = [normed(state, f"{last}norm", event) for event in x]
    return x[-1] + query * math.sqrt(WIDTH), when, past, time


def state_by_hand(net, decay, sequences, row, place):
    x = block_by_hand(net, len(net.blocks) - 1, *query_by_hand(net, decay, sequences, row, place))
    return normed(plain(net), "norm", x)


# ------------------------------------------------------------------------------- the equation


@decays
@layers
@pytest.mark.parametrize("query_time", [True, False])
@pytest.mark.parametrize("with_context", [True, False], ids=["context", "no context"])
def test_states_follow_the_equation(decay, n_layers, query_time, with_context):
    net = make_net(decay, n_layers, query_time=query_time, max_history=5)
    sequences = make_sequences(2)
    if not with_context:
        del sequences["context"]
    found = answer(net, sequences)
    expected = [
        [state_by_hand(net, decay, sequences, row, place) for place in range(LENGTH)]
        for row in range(2)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert np.std(expected) > 0.3


@decays
def test_three_layers_and_one_head_follow_the_equation(decay, monkeypatch):
    monkeypatch.setitem(globals(), "N_HEADS", 1)
    net, sequences = make_net(decay, 3, n_heads=1, max_history=3), make_sequences(1)
    expected = [state_by_hand(net, decay, sequences, 0, place) for place in range(LENGTH)]
    np.testing.assert_allclose(answer(net, sequences)[0], expected, rtol=1e-4, atol=1e-4)


@decays
@layers
def test_attention_follows_the_equation_and_sums_to_one(decay, n_layers):
    net, sequences = make_net(decay, n_layers, max_history=5), make_sequences(1)
    found = answer(net, sequences, weights=True)
    assert found.shape == (1, N_HEADS, LENGTH, LENGTH)
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-5)
    for place in range(LENGTH):
        x, *rest = query_by_hand(net, decay, sequences, 0, place)
        query = normed(plain(net), f"blocks.{n_layers - 1}.norm", x)
        expected = attend_by_hand(net, n_layers - 1, query, *rest)
        np.testing.assert_allclose(found[0, :, place, : place + 1], expected, rtol=1e-3, atol=1e-5)
        assert not found[0, :, place, place + 1 :].any()
        assert not found[0, :, place, : max(0, place - 4)].any()


def test_no_context_equals_the_average_context():
    net, sequences = make_net(), make_sequences()
    average = np.tile(net.scale_of_context[0].numpy(), (3, LENGTH, 1))
    some = answer(net, {**sequences, "context": average})
    assert (np.abs(some - answer(net, sequences)) > 1e-3).any()
    del sequences["context"]
    np.testing.assert_allclose(answer(net, sequences), some, atol=1e-6)


def test_a_query_earlier_than_its_last_event_uses_that_events_time():
    net, sequences = make_net(), make_sequences()
    early = answer(net, {**sequences, "query_times": sequences["time"] - 5_000})
    assert (early == answer(net, {**sequences, "query_times": sequences["time"]})).all()
    assert (early != answer(net, sequences)).any()


@layers
def test_query_time_can_be_disabled(n_layers):
    sequences = make_sequences()
    later = {**sequences, "query_times": sequences["query_times"] + 40 * DAY}
    for decay in ("exponential", "log", "none"):
        enabled = make_net(decay, n_layers, query_time=True)
        assert (answer(enabled, later) != answer(enabled, sequences)).any()
        disabled = make_net(decay, n_layers, query_time=False)
        assert (answer(disabled, later) == answer(disabled, sequences)).all()


def test_without_decay_only_the_order_of_events_counts():
    net, sequences = make_net("none", 2, query_time=False), make_sequences()
    other = {**sequences, "time": np.sort(np.random.default_rng(1).uniform(0, 1e9, (3, LENGTH)))}
    assert (answer(net, other) == answer(net, sequences)).all()
    timed = make_net("log", 2, query_time=False)
    assert (answer(timed, other) != answer(timed, sequences)).any()


@pytest.mark.parametrize("decay", ["exponential", "log"])
def test_bfloat16_error_does_not_grow_with_a_long_gap(decay):
    """A hundred days since the last event, for heads that distinguish minutes."""
    net, sequences = make_net(decay, 1, n_context=0), make_sequences(20)
    del sequences["context"]
    sequences["time"] = 1.6e9 + np.tile(1800.0 * np.arange(LENGTH), (20, 1))
    net.stack[0].attention.log_rate.data.fill_(math.log(35))
    errors = []
    for gap in (0, 100 * DAY):
        later = {**sequences, "query_times": sequences["time"] + gap}
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = answer(net, later)
        errors.append(np.abs(rounded - answer(net, later)).mean())
    assert errors[1] < 3 * errors[0]


def test_times_are_kept_to_the_second():
    """In seconds since 1970, which float32 rounds to minutes."""
    net, sequences = make_net("log", 1), make_sequences(1)
    sequences["time"] = 1.6e9 + np.arange(LENGTH)[None]
    answers = [answer(net, {**sequences, "query_times": sequences["time"] + s}) for s in (1, 2, 3)]
    for one, other in pairwise(answers):
        assert (one != other).any()
    long_ago = {
        name: c - 1.6e9 if name in ("time", "query_times") else c for name, c in sequences.items()
    }
    np.testing.assert_allclose(answer(net, long_ago), answer(net, sequences), atol=1e-5)


# ------------------------------------------------------------------------------------ leakage


def states_by_tensors(net, sequences, table=None):
    """Compute the states of queries, with gradients."""
    given = {name: torch.from_numpy(column) for name, column in sequences.items()}
    table = net.vectors() if table is None else table
    events = net.event_states(table, given["item"], given["feedback"], given["time"])
    return net.query_states(
        events, given["time"], given["n_before"], given["query_times"], given.get("context")
    )


@decays
@layers
@pytest.mark.parametrize("texts", [False, True])
def test_later_events_do_not_change_a_query(decay, n_layers, texts):
    """The gradients of later events, and of events out of reach, are exactly zero."""
    net = make_net(decay, n_layers, texts=texts, max_history=3)
    sequences = make_sequences(1)
    sequences["item"] = np.arange(LENGTH)[None]  # a row of the table for each place
    for place in range(LENGTH):
        generator = torch.Generator().manual_seed(1)
        table = torch.randn(LENGTH, net.query_width, generator=generator)
        table.requires_grad_()
        states_by_tensors(net, sequences, table)[0, place].square().sum().backward()
        reached = torch.nonzero(table.grad.any(1))[:, 0].tolist()
        # The last block attends to three events, and each lower block reaches two further back.
        first = max(0, place - 2 * n_layers)
        assert reached == list(range(first, place + 1))


@decays
@pytest.mark.parametrize("n_layers", [1, 2, 3])
@pytest.mark.parametrize("texts", [False, True])
def test_only_events_in_reach_are_computed(decay, n_layers, texts):
    """Events out of reach are skipped, and the result equals that of a full run."""
    net, sequences = make_net(decay, n_layers, texts=texts, max_history=2), make_sequences(3)
    expected = states_by_tensors(net, sequences, net.catalogue()).numpy(force=True)
    event_states, rows = net.event_states, []

    def counting(*args, **kwargs):
        states = event_states(*args, **kwargs)
        rows.append(states.shape[1])
        return states

    net.event_states = counting
    for place in range(LENGTH):
        one = {name: sequences[name][:, [place]] for name in ("n_before", "query_times", "context")}
        found = answer(net, {**sequences, **one})
        np.testing.assert_allclose(found[:, 0], expected[:, place], atol=1e-5)
    assert rows == [LENGTH - max(0, place - 1) for place in range(LENGTH)]


@decays
@layers
def test_later_times_feedback_and_queries_do_not_change_a_query(decay, n_layers):
    net, sequences = make_net(decay, n_layers), make_sequences()
    states, rng = answer(net, sequences), np.random.default_rng(1)
    for place in range(LENGTH):
        other = {name: column.copy() for name, column in sequences.items()}
        later = np.s_[:, place + 1 :]
        other["time"][later] += 10.0 ** rng.uniform(0, 9)
        other["feedback"][later] = rng.normal(size=other["feedback"][later].shape)
        other["item"][later] = rng.integers(0, N_ITEMS, other["item"][later].shape)
        other["query_times"][later] += 77 * DAY
        other["context"][later] = 9
        found = answer(net, other)
        assert (found[:, : place + 1] == states[:, : place + 1]).all()
        if place < LENGTH - 1:
            assert (found[:, place + 1 :] != states[:, place + 1 :]).any(-1).all()


def test_sequences_of_a_batch_do_not_influence_each_other():
    """Alone or in a batch, padded or not, with queries in any order."""
    net, sequences = make_net(), make_sequences(4)
    states = answer(net, sequences)
    for row in range(4):
        for n in range(1, LENGTH + 1):
            alone = {name: column[row : row + 1, :n] for name, column in sequences.items()}
            np.testing.assert_allclose(answer(net, alone)[0], states[row, :n], atol=1e-5)
    padded = {name: column.copy() for name, column in sequences.items()}
    for name, value in (("item", -1), ("feedback", 9.0), ("time", 0.0)):
        padded[name] = np.concatenate([padded[name], np.full((4, 3), value, padded[name].dtype)], 1)
    np.testing.assert_allclose(answer(net, padded), states, atol=1e-5)
    order = [3, 0, 0, 5]
    some = {name: sequences[name][:, order] for name in ("n_before", "query_times", "context")}
    np.testing.assert_allclose(answer(net, {**sequences, **some}), states[:, order], atol=1e-5)


@layers
@pytest.mark.parametrize(("n_trends", "texts"), [(0, False), (2, False), (0, True), (2, True)])
def test_the_loss_is_the_cross_entropy_of_each_next_item(n_layers, n_trends, texts, monkeypatch):
    monkeypatch.setattr(_softmax, "has_fast_bfloat16", lambda device: False)
    net = make_net("log", n_layers, texts=texts, n_trends=n_trends)
    sequences = make_sequences(3)
    given, expected = targets_of(net, sequences)
    assert net(**given).item() == pytest.approx(expected, rel=1e-5)
    # Sampled negatives, corrected by their probabilities, estimate the full softmax.
    net.n_negatives = 50_000
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert net(**given).item() == pytest.approx(expected, rel=0.03)


def targets_of(net, sequences):
    """Make a training batch of sequences, and compute its loss from the states of the net."""
    rng, shape = np.random.default_rng(2), sequences["item"].shape
    weight = rng.uniform(1, 2, shape)
    weight[0, :3] = weight[2, 5:] = 0
    targets = {"target": rng.integers(0, N_ITEMS, shape), "weight": weight.astype(np.float32)}
    states = answer(net, sequences)
    n = net.vectors().shape[1]  # the rest is the similarity term, which training does not use
    logits = states[..., :n] @ net.catalogue().numpy()[:, :n].T
    if net.mix is not None:
        targets["period"] = rng.integers(0, 4, shape)
        net.set_trends(rng.normal(0, 2, (4, net.mix.out_features, N_ITEMS)).astype(np.float32))
        mixed = weights_of_trends(net, states)
        expected = states[..., :WIDTH] @ plain(net)["mix.weight"].T + plain(net)["mix.bias"]
        np.testing.assert_allclose(mixed, expected, rtol=1e-4, atol=1e-5)
        logits = logits + np.einsum("bnk,bnkv->bnv", mixed, net.trends.numpy()[targets["period"]])
    columns = {**sequences, **targets}
    del columns["n_before"]
    given = {name: torch.from_numpy(column) for name, column in columns.items()}
    each = functional.cross_entropy(
        torch.from_numpy(logits).transpose(1, 2), given["target"], reduction="none"
    )
    return given, ((each * given["weight"]).sum() / given["weight"].sum()).item()


def test_a_truncated_history_lacks_the_newest_events(monkeypatch):
    """The loss is that of a query which comes long after the events that it still sees."""
    monkeypatch.setattr(_softmax, "has_fast_bfloat16", lambda device: False)
    net, sequences = make_net(history_dropout=0.5), make_sequences(3)
    sequences["query_times"] = np.maximum(sequences["query_times"], sequences["time"])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        known = net._draw_history_lengths(torch.from_numpy(sequences["item"])).numpy()
        assert (known != sequences["n_before"]).any()
        given, expected = targets_of(net, {**sequences, "n_before": known})
        torch.manual_seed(0)
        assert net(**given).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_truncated_histories_have_the_given_rate_and_log_uniform_lengths(share):
    net, item = make_net(history_dropout=share), torch.zeros(4000, 64)
    if not share:
        assert net._draw_history_lengths(item) is None
        return
    with torch.random.fork_rng():
        torch.manual_seed(0)
        known = net._draw_history_lengths(item)
    hidden = torch.arange(1, 65) - known
    assert hidden.min() >= 0
    assert known.min() >= 1
    assert not hidden[:, 0].any()
    for below in (2, 8, 32):  # for the last query, which has 64 events before it
        expected = 1 - share + share * math.log(below) / math.log(64)
        assert (hidden[:, -1] < below).float().mean().item() == pytest.approx(expected, abs=0.03)


def test_the_loss_of_a_target_does_not_depend_on_later_events():
    net, sequences = make_net(), make_sequences(3)
    given = {name: torch.from_numpy(column) for name, column in sequences.items()}
    del given["n_before"]
    target = torch.randint(N_ITEMS, (3, LENGTH), generator=torch.Generator().manual_seed(0))
    for place in range(LENGTH):
        weight = torch.zeros(3, LENGTH)
        weight[:, place] = 1
        losses = []
        for shift in (0, 4):
            other = {name: column.clone() for name, column in given.items()}
            later = np.s_[:, place + 1 :]
            other["item"][later] = (other["item"][later] + shift) % N_ITEMS
            other["time"][later] += shift
            other["feedback"][later] -= shift
            targets = target.clone()
            targets[later] = (targets[later] + shift) % N_ITEMS
            losses.append(net(**other, target=targets, weight=weight).item())
        assert losses[0] == losses[1]


def test_dropout_changes_states_in_training_only():
    net, sequences = make_net(dropout=0.3), make_sequences()
    states = answer(net, sequences)
    assert (answer(net, sequences) == states).all()
    assert (answer(net.train(), sequences) != states).any()
