"""Nets: splits, losses, seeds, histories, predictions and growth."""

import math
import pickle

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback, EarlyStopping
from skorch.dataset import Dataset
from torch import nn

from sklearn_recft.training import (
    LastRows,
    OwnLoss,
    PenalisedLoss,
    checkpoint,
    grow_optimizer,
    predict_net,
)
from tests.training.nets import fit_net, net_with


class Table(nn.Module):
    """A number and a column per code; the score is their sum."""

    def __init__(self, n_codes=6):
        super().__init__()
        self.one = nn.Parameter(torch.arange(n_codes) / 10.0)
        self.many = nn.Parameter(torch.ones(n_codes, 3))
        self.drawn = []

    def forward(self, code, negative=None):
        if negative is not None:
            self.drawn.append(negative)
        return self.one[code] + self.many[code].sum(-1), self.one[code].square()


def rows(n=40, n_codes=6):
    rng = np.random.default_rng(0)
    target = np.column_stack([rng.normal(size=n), rng.uniform(0.5, 2, n)]).astype(np.float32)
    return {"code": rng.integers(0, n_codes, n)}, target


def net_of(module=None, *, loss="squared_error", learning_rate=0.01, **net_params):
    return net_with(
        Table() if module is None else module, PenalisedLoss(loss, 0.1), max_epochs=3,
        learning_rate=learning_rate, **net_params,
    )  # fmt: skip


def state(module):
    return pickle.dumps([parameter.detach().numpy().tolist() for parameter in module.parameters()])


# ------------------------------------------------------------------------------- LastRows


def test_read_only_columns_are_copied():
    columns, target = rows()
    for array in (columns["code"], target):
        array.setflags(write=False)
    before = target.copy()
    net = net_of()
    fit_net(net, columns, target, epochs=1, seed=0)
    predict_net(net, columns)
    assert (target == before).all()


@pytest.mark.parametrize(
    ("n", "fraction", "cut"),
    [(100, 0.1, 90), (10, 0.25, 8), (3, 0.01, 2), (3, 0.99, 1), (2, 0.1, 1)],
)
def test_the_last_rows_are_held_out(n, fraction, cut):
    dataset = Dataset({"code": np.arange(n)}, np.zeros((n, 2), np.float32))
    train, valid = LastRows(fraction)(dataset, None)
    assert list(train.indices) == list(range(cut))
    assert list(valid.indices) == list(range(cut, n))


def test_a_single_row_is_used_for_training_and_validation():
    dataset = Dataset({"code": np.arange(1)}, np.zeros((1, 2), np.float32))
    train, valid = LastRows()(dataset)
    assert list(train.indices) == list(valid.indices) == [0]


# --------------------------------------------------------------------------- PenalisedLoss


@pytest.mark.parametrize(
    ("loss", "by_hand"),
    [
        ("squared_error", [(0.5 - 1) ** 2 / 2, (-2 - 0) ** 2 / 2]),
        ("log_loss", [math.log(1 + math.exp(-0.5)), math.log(1 + math.exp(-2))]),
        ("bpr", [math.log(1 + math.exp(-0.5)), math.log(1 + math.exp(2))]),
    ],
)
def test_the_loss_equals_its_formula(loss, by_hand):
    score, norm = torch.tensor([0.5, -2.0]), torch.tensor([3.0, 10.0])
    target = torch.tensor([[1.0, 0.5], [0.0, 2.5]])
    value = PenalisedLoss(loss, 0.2)((score, norm), target)
    expected = (0.5 * (by_hand[0] + 0.1 * 3) + 2.5 * (by_hand[1] + 0.1 * 10)) / 3
    assert value.shape == ()
    assert value.item() == pytest.approx(expected, rel=1e-6)


def test_the_loss_of_extreme_scores_is_finite():
    score = torch.tensor([1e4, -1e4], requires_grad=True)
    for loss in ("log_loss", "bpr"):
        value = PenalisedLoss(loss, 0.0)((score, torch.zeros(2)), torch.tensor([[0.0, 1], [1, 1]]))
        assert torch.isfinite(value)


# --------------------------------------------------------------------------------- OwnLoss


class Away(nn.Module):
    """Module that returns its loss: the distance of a level from the mean of a batch."""

    def __init__(self):
        super().__init__()
        self.level = nn.Parameter(torch.tensor(3.0))

    def forward(self, code):
        return (self.level - code.float().mean()).square()


def test_a_module_may_return_its_own_loss():
    output = torch.tensor(2.5, requires_grad=True)
    assert OwnLoss()(output, torch.full((9, 2), torch.nan)) is output
    net = net_with(Away(), OwnLoss(), learning_rate=0.25, optimizer=torch.optim.SGD, batch_size=-1)
    # Of the target nothing is read but its length.
    fit_net(net, {"code": np.array([0, 1, 1, 6])}, np.zeros(4, np.float32), epochs=2, seed=0)
    assert net.history[:, "train_loss"] == [1.0, 0.25]
    assert net.module_.level.item() == 2.25


# ------------------------------------------------------------------------- make_net, fit_net


def test_the_module_is_not_copied():
    module = Table()
    before = state(module)
    net = net_of(module)
    assert net.module_ is module
    assert state(module) == before
    fit_net(net, *rows(), epochs=2, seed=0)
    assert net.module_ is module
    assert state(module) != before


def test_net_params_override_defaults():
    assert isinstance(net_of().optimizer_, torch.optim.Adam)
    net = net_of(optimizer=torch.optim.SGD, batch_size=7, learning_rate=0.5)
    assert isinstance(net.optimizer_, torch.optim.SGD)
    assert net.optimizer_.param_groups[0]["lr"] == 0.5
    fit_net(net, *rows(), epochs=1, seed=0)
    assert len(net.history[0, "batches"]) == 6
    assert net_of().train_split is None


def test_one_full_batch_of_sgd_is_one_gradient_step():
    module, twin = Table(), Table()
    columns, target = rows()
    loss = PenalisedLoss("squared_error", 0.1)(twin(torch.as_tensor(columns["code"])),
                                               torch.as_tensor(target))  # fmt: skip
    loss.backward()
    net = net_of(module, optimizer=torch.optim.SGD, learning_rate=0.5, batch_size=-1)
    fit_net(net, columns, target, epochs=1, seed=0)
    for after, before in zip(module.parameters(), twin.parameters(), strict=True):
        expected = before - 0.5 * before.grad
        np.testing.assert_allclose(after.detach(), expected.detach(), rtol=1e-5, atol=1e-6)


def test_training_depends_on_the_seed_and_has_no_global_effects():
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002 - the global generator is what is watched
    before = torch.get_rng_state(), pickle.dumps(np.random.get_state())  # noqa: NPY002
    results = []
    for seed in (5, 5, 6):
        net = net_of(loss="bpr", batch_size=8)
        fit_net(net, *rows(), epochs=2, seed=seed, n_negatives=6)
        results.append((state(net.module_), [draw.tolist() for draw in net.module_.drawn]))
    assert results[0] == results[1] != results[2]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert pickle.dumps(np.random.get_state()) == before[1]  # noqa: NPY002


def test_negatives_are_drawn_from_the_given_number_of_codes():
    net = net_of(loss="bpr", batch_size=8)
    fit_net(net, *rows(400), epochs=1, seed=0, n_negatives=2)
    assert torch.cat(net.module_.drawn).unique().tolist() == [0, 1]
    net.module_.drawn.clear()
    fit_net(net, *rows(400), epochs=1, seed=0, n_negatives=5)
    assert torch.cat(net.module_.drawn).unique().tolist() == [0, 1, 2, 3, 4]
    net.module_.drawn.clear()
    fit_net(net, *rows(), epochs=1, seed=0)
    assert net.module_.drawn == []


class Interrupt(Callback):
    def on_batch_end(self, net, **kwargs):
        raise KeyboardInterrupt


@pytest.mark.parametrize("callbacks", [[Interrupt()], [Interrupt(), EarlyStopping(patience=1)]])
def test_an_interrupt_reaches_the_caller(callbacks):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        fit_net(net_of(callbacks=callbacks), *rows(), epochs=5, seed=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_history_is_bounded():
    net = net_of()
    for call in range(20):
        fit_net(net, *rows(), epochs=3, seed=call)
        assert len(net.history) == 3


class Watch(Callback):
    """Record the targets of training and validation rows."""

    def __init__(self):
        self.valid, self.train = set(), set()

    def on_batch_begin(self, net, batch=None, training=None, **kwargs):
        (self.train if training else self.valid).update(batch[1][:, 0].tolist())


@pytest.mark.parametrize("named", [False, True])
def test_early_stopping_validates_on_the_newest_rows(named):
    stop, watch = EarlyStopping(patience=2, threshold=10.0), Watch()
    net = net_of(callbacks=[("stop", stop), ("watch", watch)] if named else [stop, watch])
    columns, target = rows(50)
    target[:, 0] = np.arange(50)
    fit_net(net, columns, target, epochs=30, seed=0)
    assert len(net.history) == 3, "nothing is ever ten times better than the first epoch"
    assert watch.valid == set(range(45, 50))
    assert watch.train == set(range(45))
    # Stopping is no end: the net goes on from there, on whatever comes.
    fit_net(net, *rows(1), epochs=30, seed=0)
    assert all(torch.isfinite(parameter).all() for parameter in net.module_.parameters())


def test_early_stopping_keeps_a_given_split():
    watch = Watch()
    net = net_of(callbacks=[EarlyStopping(), watch], train_split=LastRows(0.5))
    columns, target = rows(10)
    target[:, 0] = np.arange(10)
    fit_net(net, columns, target, epochs=1, seed=0)
    assert watch.valid == {5, 6, 7, 8, 9}


def test_without_early_stopping_nothing_is_held_out():
    watch = Watch()
    columns, target = rows(10)
    target[:, 0] = np.arange(10)
    fit_net(net_of(callbacks=[watch]), columns, target, epochs=1, seed=0)
    assert watch.train == set(range(10))
    assert watch.valid == set()


# ------------------------------------------------------------------------------ collate


def test_collate_gives_the_same_training_as_columns():
    columns, target = rows(50)
    log = torch.as_tensor(columns["code"])
    given = []

    def collate(batch):
        given.append(batch["place"])
        return {"code": log[batch["place"]]}

    net, twin = net_of(batch_size=8), net_of(batch_size=8)
    fit_net(net, {"place": np.arange(50)}, target, epochs=2, seed=0, collate=collate)
    fit_net(twin, columns, target, epochs=2, seed=0)
    assert state(net.module_) == state(twin.module_)
    assert sorted(torch.cat(given).tolist()) == sorted([*range(50)] * 2)
    # The closure is gone with the call.
    pickle.loads(pickle.dumps(net))
    fit_net(net, columns, target, epochs=1, seed=0)
    assert len(given) == 2 * 7
    by_place = predict_net(net, {"place": np.arange(50)}, batch_size=16, collate=collate)
    assert by_place.tolist() == predict_net(net, columns).tolist()


def test_an_error_in_collate_removes_it_from_the_net():
    def collate(batch):
        raise RuntimeError("no such place")

    net = net_of()
    with pytest.raises(RuntimeError, match="no such place"):
        fit_net(net, *rows(), epochs=1, seed=0, collate=collate)
    fit_net(net, *rows(), epochs=1, seed=0)


# -------------------------------------------------------------------------- predict_net


class Dropping(nn.Module):
    """A product per row, with dropout rate 1 in training."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))
        self.drop = nn.Dropout(1.0)
        self.sizes = []

    def forward(self, one, two):
        assert not torch.is_grad_enabled()
        self.sizes.append((len(one), torch.get_num_threads()))
        return self.drop(one @ self.weight + two)


@pytest.mark.parametrize("in_training", [False, True])
@pytest.mark.parametrize("batch_size", [1, 7, 20, 100])
def test_predictions_do_not_depend_on_the_batch(batch_size, in_training):
    rng = np.random.default_rng(0)
    columns = {
        "one": rng.normal(size=(20, 3)).astype(np.float32),
        "two": rng.normal(size=20).astype(np.float32),
    }
    module = Dropping().train(in_training)
    threads = torch.get_num_threads()
    found = predict_net(module, columns, batch_size=batch_size, n_threads=2)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, columns["one"] @ [1, 2, 3] + columns["two"], rtol=1e-5)
    assert {n for _, n in module.sizes} == {2}
    assert sum(size for size, _ in module.sizes) == 20
    assert max(size for size, _ in module.sizes) == min(batch_size, 20)
    assert torch.get_num_threads() == threads
    assert module.training is module.drop.training is in_training


def test_predictions_of_a_net_are_its_first_output():
    net = net_of()
    columns, target = rows()
    fit_net(net, columns, target, epochs=1, seed=0)
    assert not net.module_.training
    before = pickle.dumps(net)
    expected, _ = net.module_(torch.as_tensor(columns["code"]))
    np.testing.assert_allclose(predict_net(net, columns, batch_size=3), expected.detach())
    assert pickle.dumps(net) == before
    none = predict_net(net, {"code": np.empty(0, int)})
    assert (none.shape, none.dtype) == ((0,), np.float32)


# ------------------------------------------------------------------ growth and going back


def grow(module, n_codes):
    for parameter in module.parameters():
        wider = torch.zeros((n_codes, *parameter.shape[1:]))
        kept = min(n_codes, len(parameter))
        wider[:kept] = parameter.data[:kept]
        parameter.data = wider


def test_moments_are_carried_through_growth():
    net = net_of()
    fit_net(net, *rows(), epochs=2, seed=0)
    optimizer = net.optimizer_
    before = {p: {k: v.clone() for k, v in s.items()} for p, s in optimizer.state.items()}
    grow(net.module_, 9)
    grow_optimizer(net)
    assert net.optimizer_ is optimizer
    for parameter, kept in before.items():
        now = optimizer.state[parameter]
        assert now["step"] == kept["step"] == 2
        for name in ("exp_avg", "exp_avg_sq"):
            assert now[name].shape == parameter.shape
            assert torch.equal(now[name][:6], kept[name])
            assert kept[name].any()
            assert not now[name][6:].any()
    fit_net(net, *rows(n_codes=9), epochs=1, seed=0)


def test_growth_does_not_change_steps():
    module, twin = Table(), Table()
    net, other = net_of(module), net_of(twin)
    for each in (net, other):
        fit_net(each, *rows(), epochs=2, seed=0)
    grow(module, 12)
    for each in (net, other):
        fit_net(each, *rows(), epochs=2, seed=1)
    for grown, parameter in zip(module.parameters(), twin.parameters(), strict=True):
        assert torch.equal(grown[:6], parameter)
        assert not grown[6:].any()


def test_a_restored_optimizer_continues_from_the_checkpoint():
    nets = net_of(), net_of()
    for net in nets:
        fit_net(net, *rows(), epochs=2, seed=0)
    net, twin = nets
    saved = [parameter.detach().clone() for parameter in net.module_.parameters()]
    restore = checkpoint(net)
    grow(net.module_, 9)
    fit_net(net, *rows(n_codes=9), epochs=3, seed=4)
    for parameter, values in zip(net.module_.parameters(), saved, strict=True):
        parameter.data = values
    restore()
    assert len(net.history) == 2
    for each in nets:
        fit_net(each, *rows(), epochs=2, seed=1)
    assert state(net.module_) == state(twin.module_)


def test_a_stored_traceback_does_not_break_later_training():
    class Error(Callback):
        def on_batch_end(self, net, **kwargs):
            if len(net.module_.one) > 6:
                raise RuntimeError("beyond six")

    net, twin = net_of(callbacks=[Error()]), net_of()
    for each in (net, twin):
        fit_net(each, *rows(), epochs=2, seed=0)
    restore = checkpoint(net, weights=True)
    grow(net.module_, 9)
    with pytest.raises(RuntimeError, match="beyond six") as kept:
        fit_net(net, *rows(n_codes=9), epochs=3, seed=4)
    restore()
    # Its traceback holds the graph of the failed call, and what that thinks of shapes.
    assert kept.value.__traceback__ is not None
    for each in (net, twin):
        fit_net(each, *rows(), epochs=2, seed=1)
    assert state(net.module_) == state(twin.module_)
