"""The deep & cross network, against a slow reference in numpy."""

import copy

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_recft.models._lookup import look_up
from sklearn_recft.modules import CrossShape, make_cross_net

SHAPE = CrossShape(n_numbers=2, fields=(1, 3), dim=2, hidden=(5, 4), n_layers=2, rank=3)


def net_of(shape=SHAPE, id_dropout=0.0):
    """Return a net of random weights, its heads included, with 3 users, 4 items and 6 values."""
    net = make_cross_net(0, shape, id_dropout)
    net.grow((3, 4, 6), np.random.default_rng(0))
    with torch.no_grad():
        net.head.weight.normal_(generator=torch.Generator().manual_seed(0))
    return net.eval()


def rows_of():
    """Return five rows; some codes are unknown, and one list is empty."""
    rng = np.random.default_rng(1)
    return {
        "user": np.array([0, 2, -1, 1, 9]),
        "item": np.array([3, -1, 0, 2, 1]),
        "codes": np.array(
            [[0, 1, 2, -1], [5, 3, -1, -1], [-1, -1, -1, -1], [4, 1, 2, 3], [0, 5, 4, -1]]
        ),
        "numbers": rng.normal(size=(5, 2)).astype(np.float32),
        "offset": rng.normal(size=5).astype(np.float32),
    }


def reference(net, rows):
    """Score rows one by one, as the equations say."""
    weight = {name: p.detach().numpy() for name, p in net.named_parameters()}

    def embedding(name, code, unknown):
        table = weight[name]
        return table[code] if 0 <= code < len(table) else unknown

    scores = []
    for row in range(len(rows["user"])):
        unknown, codes = weight["unknown"], rows["codes"][row]
        members = [embedding("values", code, unknown[3]) for code in codes[1:] if code >= 0]
        first = np.concatenate(
            [
                rows["numbers"][row],
                embedding("users", rows["user"][row], unknown[0]),
                embedding("items", rows["item"][row], unknown[1]),
                embedding("values", codes[0], unknown[2]),
                np.mean(members, axis=0) if members else unknown[3],
            ]
        )
        x = deep = first
        for layer in range(2):
            down, up = weight[f"cross.{layer}.down.weight"], weight[f"cross.{layer}.up.weight"]
            x = first * (up @ (down @ x) + weight[f"cross.{layer}.up.bias"]) + x
            deep = np.maximum(
                weight[f"deep.{layer}.weight"] @ deep + weight[f"deep.{layer}.bias"], 0
            )
        score = weight["head.weight"][0] @ np.concatenate([x, deep]) + weight["head.bias"][0]
        scores.append(score + weight["offset_weight"][0] * rows["offset"][row])
    return np.array(scores)


def output(net, rows):
    with torch.no_grad():
        return net(**{name: torch.as_tensor(column) for name, column in rows.items()}).numpy()


def test_scores_are_those_of_the_equations():
    net, rows = net_of(), rows_of()
    assert_allclose(output(net, rows), reference(net, rows), rtol=1e-5, atol=1e-6)


def test_the_first_score_is_the_offset():
    net, rows = make_cross_net(0, SHAPE, 0.0).eval(), rows_of()
    assert_array_equal(output(net, rows), rows["offset"])


def test_growth_moves_no_known_row_and_starts_at_the_unknown_one():
    net, rows = net_of(), rows_of()
    before, known = output(net, rows), net.users.detach().clone()
    unknown = output(net, {**rows, "user": np.full(5, -1)})
    net.grow((4, 4, 6), None)
    assert_array_equal(net.users[:3].detach(), known)
    assert_array_equal(output(net, rows), before)  # code 9 is still unknown
    assert_array_equal(output(net, {**rows, "user": np.full(5, 3)}), unknown)


def test_forgotten_users_leave_no_gap():
    net = net_of()
    known = net.users.detach().clone()
    net.forget(np.array([1]))
    assert_array_equal(net.users.detach(), known[[0, 2]])


def test_dropped_ids_are_unknown_ones():
    shape = CrossShape(n_numbers=2, dim=2, hidden=())
    net, rows = net_of(shape, 0.999999), rows_of()
    rows["codes"] = np.zeros((5, 0), np.int64)
    unknown = output(net, {**rows, "user": np.full(5, -1), "item": np.full(5, -1)})
    assert np.abs(output(net, rows) - unknown).max() > 1e-3
    assert_array_equal(output(net.train(), rows), unknown)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_seed_decides_the_weights_and_leaves_torch_alone(seed):
    state = torch.get_rng_state()
    nets = [make_cross_net(seed, SHAPE, 0.0) for _ in range(2)]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(nets[0].unknown, nets[1].unknown)


def test_compiled_embeddings_equal_those_of_torch_and_have_their_gradients():
    theirs, rows = net_of(), rows_of()
    ours = copy.deepcopy(theirs)
    ours.look_up = look_up
    for net in (ours, theirs):
        net(**{name: torch.as_tensor(column) for name, column in rows.items()}).sum().backward()
    assert_allclose(output(ours, rows), output(theirs, rows), rtol=1e-5, atol=1e-6)
    assert ours.users.grad.is_sparse
    for name in ("users", "items", "values", "unknown"):
        mine, other = getattr(ours, name).grad, getattr(theirs, name).grad
        assert other.abs().max() > 0
        torch.testing.assert_close(mine.to_dense(), other, rtol=1e-4, atol=1e-6)
