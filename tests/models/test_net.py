"""A net as a part of a model: rollback and state of weights and optimizer."""

import pickle

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_recft import training
from sklearn_recft.models import Net
from sklearn_recft.modules import MatrixFactorization, make_sequence_net

N_USERS, N_ITEMS = 6, 9
POLICIES = [training.PLAIN, training.Policy(learning_rate=0.01)]
policies = pytest.mark.parametrize("policy", POLICIES, ids=["plain", "tuned"])


def make_net(policy=training.PLAIN, n_users=N_USERS, n_items=N_ITEMS, seed=0, size=0.1):
    module = MatrixFactorization(3, 1)
    module.grow(n_users, n_items)
    rng = np.random.default_rng(seed)
    for array in module.arrays().values():
        array[...] = rng.normal(0, size, array.shape)
    module.arrays()["context_scale"][:] = 1
    loss = training.PenalisedLoss("squared_error", 0.01)
    return Net(training.make_net(module, loss, policy, max_epochs=3))


def train(net, seed=0, n_users=N_USERS, n_items=N_ITEMS):
    rng = np.random.default_rng(seed)
    columns = {
        "user": rng.integers(0, n_users, 40),
        "item": rng.integers(0, n_items, 40),
        "context": rng.normal(size=(40, 1)).astype(np.float32),
    }
    target = np.column_stack([rng.normal(size=40), np.ones(40)]).astype(np.float32)
    training.Trainer(2, seed).fit(net.net, columns, target)


def same(one, other):
    """Return whether two states are bitwise equal."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    return one == other


# ------------------------------------------------------------------------------------- states


@policies
def test_a_state_makes_a_net_that_learns_the_same(policy):
    net, other = make_net(policy), make_net(policy, n_users=2, n_items=3, seed=5)
    train(net)
    state = net.state()
    other.load_state(pickle.loads(pickle.dumps(state)))
    assert same(other.state(), state)
    assert not other.module.training
    train(net, seed=1)
    assert not same(net.state(), state)
    assert same(other.state(), state), "a state is a copy"
    train(other, seed=1)
    assert same(net.state(), other.state())


@policies
def test_a_state_has_every_weight_and_every_moment(policy):
    net = make_net(policy)
    untrained = net.state()
    assert untrained["optimizer"] == {}
    train(net)
    state = net.state()
    assert set(state) == {"module", "n_items", "optimizer"}
    assert set(state["module"]) == set(net.module.state_dict())
    n_parameters = len(list(net.module.parameters()))
    assert sorted(state["optimizer"], key=int) == [str(n) for n in range(n_parameters)]
    for moments in state["optimizer"].values():
        assert set(moments) >= {"step", "exp_avg", "exp_avg_sq"}
        assert all(isinstance(moment, np.ndarray) for moment in moments.values())
    other = make_net(policy, seed=3)
    train(other, seed=4)
    other.load_state(untrained)
    assert same(other.state(), untrained), "no moment of other training is left"


def test_the_state_of_a_net_holds_the_number_of_items():
    def make(seed):
        module = make_sequence_net(
            seed, 0, width=4, n_layers=1, n_heads=1, max_history=3, time_decay="log",
            query_time=True, dropout=0.0,
        )  # fmt: skip
        module.initialize_scales(None, np.ones(3, np.float32), np.zeros((3, 0), np.float32))
        return Net(training.make_net(module, training.OwnLoss(), training.PLAIN, max_epochs=1))

    net, other = make(0), make(1)
    net.module.grow(None, 7, np.random.default_rng(0))
    net.module.count(np.arange(7.0), np.arange(7.0))
    state = net.state()
    assert state["n_items"] == 7
    other.load_state(state)
    assert other.module.n_items == 7
    assert torch.equal(other.module.catalogue(), net.module.catalogue())
    assert same(other.state(), state)
    other.module.grow(None, 9, np.random.default_rng(0))  # it can go on
    assert len(other.module.catalogue()) == 9
    assert net.module.n_items == 7


# ------------------------------------------------------------------------------- mark, restore


@policies
def test_a_restored_net_trains_the_same(policy):
    net, twin = make_net(policy), make_net(policy)
    for each in (net, twin):
        train(each)
    state, history = net.state(), len(net.net.history_)
    for _ in range(2):
        mark = net.mark()
        train(net, seed=1)
        assert not same(net.state(), state)
        net.restore(mark)
        assert same(net.state(), state)
        assert len(net.net.history_) == history
    for each in (net, twin):
        train(each, seed=2)
    assert same(net.state(), twin.state())


def test_a_restored_net_has_its_old_sizes():
    net = make_net()
    train(net)
    state, tables = net.state(), net.module.mark(np.arange(N_USERS), np.arange(N_ITEMS))
    mark = net.mark()
    net.module.grow(N_USERS + 4, N_ITEMS + 2)
    train(net, 1, N_USERS + 4, N_ITEMS + 2)
    net.module.restore(tables)  # what was kept last comes first
    net.restore(mark)
    assert same(net.state(), state)
    train(net, seed=2)
    assert net.net.optimizer_.state_dict()["state"]


# ------------------------------------------------------------------------------------- forget


def test_forget_removes_rows_from_tables_and_moments():
    net = make_net()
    train(net)
    before = net.state()
    net.forget(np.array([1, 4]))
    after, kept = net.state(), [0, 2, 3, 5]
    names = [name for name, _ in net.module.named_parameters()]
    of_users = {"user_factors", "user_bias"}
    for name, array in before["module"].items():
        of_user = name in (*of_users, "user_count")
        assert np.array_equal(after["module"][name], array[kept] if of_user else array)
    for number, moments in before["optimizer"].items():
        for name, moment in moments.items():
            part = moment[kept] if names[int(number)] in of_users and moment.ndim else moment
            assert np.array_equal(after["optimizer"][number][name], part)
    train(net, seed=1, n_users=4)


def test_a_module_without_users_has_nothing_to_forget():
    module = nn.Linear(2, 1)
    net = Net(training.make_net(module, nn.MSELoss(), training.PLAIN, max_epochs=1))
    before = net.state()
    net.forget(np.array([0]))
    assert same(net.state(), before)
    assert before["n_items"] == 0
    assert net.device == torch.device("cpu")


@policies
def test_a_state_has_no_spare_capacity(policy):
    net = make_net(policy)
    train(net)
    size = len(pickle.dumps(net.state()))
    net.module.grow(900, 900)
    net.module.grow(N_USERS, N_ITEMS)
    held = net.module.user_factors.untyped_storage().nbytes()
    assert held >= 900 * 3 * 4
    assert len(pickle.dumps(net.state())) == size
    assert net.module.user_factors.untyped_storage().nbytes() == held, "it is not written to"
