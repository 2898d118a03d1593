"""A validation metric of the caller: recorded, printed and used for early stopping."""

import copy
import pickle

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback, EarlyStopping
from torch import nn

from sklearn_recft.training import LogLoss, Policy, Scorer
from tests.training.nets import fit_net, net_with


class Level(nn.Module):
    """A number per code, and dropout; records training and validation inputs."""

    def __init__(self):
        super().__init__()
        self.level = nn.Parameter(torch.zeros(4))
        self.drop = nn.Dropout(0.5)
        self.rows = {True: [], False: []}

    def forward(self, code):
        self.rows[self.training] += code.tolist()
        return self.drop(self.level[code])


class Watch(Callback):
    """Record mode, weights and score at the end of each epoch."""

    def on_train_begin(self, net, **kwargs):
        self.modes, self.states, self.records = [], [], []

    def on_epoch_end(self, net, **kwargs):
        self.modes.append(net.module_.training)
        self.states.append(copy.deepcopy(net.module_.state_dict()))
        self.records.append(dict(net.history[-1]))


def columns_and_target(n=40):
    target = np.ones((n, 2), np.float32)
    target[1::2, 0] = 0
    return {"code": np.arange(n) % 4}, target


def net_of(policy=None, **given):
    return net_with(Level(), LogLoss(), policy, learning_rate=0.1, **{"batch_size": 8, **given})


def scorer_of(scores):
    """Make a scorer that returns the scores one after the other."""
    scores = iter(scores)
    return Scorer("score", lambda: next(scores))


def levels(net):
    return net.module_.level.tolist()


@pytest.mark.parametrize("policy", [None, Policy()])
def test_without_patience_a_scorer_does_not_change_training(policy):
    watch = Watch()
    net, twin = net_of(policy, callbacks=[watch]), net_of(policy)
    modes = []

    def score():
        modes.append((net.module_.training, net.module_.drop.training, torch.is_grad_enabled()))
        return [0.3, 0.5, 0.4, 0.5][len(modes) - 1]

    fit_net(net, *columns_and_target(), epochs=4, seed=0, scorer=Scorer("score", score))
    assert net.history[:, "score"] == [0.3, 0.5, 0.4, 0.5]
    assert net.history[:, "score_best"] == [True, True, False, False]
    assert modes == [(False, False, False)] * 4
    assert watch.modes == [True] * 4
    assert [record["score"] for record in watch.records] == net.history[:, "score"]
    assert len(net.module_.rows[True]) == 4 * 40
    fit_net(twin, *columns_and_target(), epochs=4, seed=0)
    assert levels(net) == levels(twin) == watch.states[-1]["level"].tolist()
    # And is not asked again, nor held.
    fit_net(net, *columns_and_target(), epochs=2, seed=0)
    assert len(modes) == 4
    assert "score" not in net.history[-1]
    pickle.loads(pickle.dumps(net))


def test_a_scorer_works_together_with_a_split():
    net = net_of(Policy(), callbacks=[EarlyStopping(patience=9)])
    fit_net(net, *columns_and_target(), epochs=2, seed=0, scorer=scorer_of([1, 2]))
    assert net.history[:, ("score", "score_best")] == [(1.0, True), (2.0, True)]
    assert all(loss > 0 for loss in net.history[:, "valid_loss"])
    assert len(net.module_.rows[True]) == 2 * 36


@pytest.mark.parametrize(
    ("scores", "patience", "best"),
    [
        ([1, 5, 3, 5, 9], 2, 1),  # as good is no better
        ([-3, -2, -1, -4], 1, 2),
        ([1, 1.00001, 0.5], 1, 1),  # a little better is better
        ([4, 3, 2, 1], 3, 0),
        ([1, 2, 3], 5, 2),  # all epochs, the last of them the best
        ([1, 3, 2], 5, 1),  # all epochs, but back to the best
        ([1, float("nan"), 2, float("nan"), 1], 2, 2),  # nothing is no better than something
    ],
)
def test_with_patience_it_stops_and_restores_the_best(scores, patience, best):
    watch, asked = Watch(), []

    def score():
        asked.append(scores[len(asked)])
        return asked[-1]

    net = net_of(Policy(patience=patience), callbacks=[watch])
    parameter, optimized = net.module_.level, net.optimizer_.param_groups[0]["params"][0]
    split, callbacks = net.train_split, list(net.callbacks_)
    fit_net(net, *columns_and_target(), epochs=len(scores), seed=0, scorer=Scorer("score", score))
    assert len(asked) == len(net.history) == min(best + 1 + patience, len(scores))
    assert len(watch.states) == len(asked), "callbacks see the last epoch too"
    assert all("train_loss" in record and "valid_loss" not in record for record in watch.records)
    assert levels(net) == watch.states[best]["level"].tolist()
    assert len({str(state) for state in watch.states}) == len(asked)
    assert net.module_.level is parameter is optimized
    assert not net.module_.training
    # Every row is trained on: the caller has held out what the metric needs.
    assert len(net.module_.rows[True]) == 40 * len(asked)
    assert net.module_.rows[False] == []
    # All is as it was: the next fit without a scorer has its own rows to validate on.
    assert net.train_split is split is not None
    assert net.callbacks_ == callbacks
    pickle.loads(pickle.dumps(net))
    fit_net(net, *columns_and_target(), epochs=1, seed=0)
    assert "valid_loss" in net.history[-1]


def test_scores_of_an_earlier_call_have_no_effect():
    net = net_of(Policy(patience=1))
    fit_net(net, *columns_and_target(), epochs=3, seed=0, scorer=scorer_of([9, 8, 7]))
    assert net.history[-2:, "score_best"] == [True, False]
    fit_net(net, *columns_and_target(), epochs=3, seed=0, scorer=scorer_of([1, 2, 3]))
    assert net.history[:, "score"] == [1, 2, 3]
    assert net.history[:, "score_best"] == [True] * 3


def test_an_update_does_not_stop_early():
    watch = Watch()
    net = net_of(Policy(patience=1), callbacks=[watch])
    fit_net(
        net, *columns_and_target(), epochs=4, seed=0, update=True, scorer=scorer_of([4, 3, 2, 1])
    )
    assert net.history[:, "score"] == [4, 3, 2, 1]
    assert levels(net) == watch.states[-1]["level"].tolist()
    assert len(net.module_.rows[True]) == 4 * 40
    assert net.train_split is not None


class Fails(Callback):
    def __init__(self, error):
        self.error = error

    def on_batch_end(self, net, **kwargs):
        if net.history[-1]["epoch"] == 3:
            raise self.error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("x")])
@pytest.mark.parametrize("of_the_scorer", [False, True])
def test_an_interrupt_is_raised_and_removes_the_scorer(error, of_the_scorer):
    net = net_of(Policy(patience=1), callbacks=[] if of_the_scorer else [Fails(error)])

    def score():
        if of_the_scorer:
            raise error
        return 1.0 + len(net.history)

    split, callbacks = net.train_split, list(net.callbacks_)
    with pytest.raises(type(error)):
        fit_net(net, *columns_and_target(), epochs=5, seed=0, scorer=Scorer("score", score))
    assert net.train_split is split
    assert net.callbacks_ == callbacks
    assert not net.module_.training
    pickle.loads(pickle.dumps(net))


def test_the_score_is_printed_with_loss_and_time(capsys):
    net = net_of(Policy(patience=2), verbose=1)
    scores = [0.25, 0.75, 0.5, 0.125, 0.0625]
    scorer = scorer_of(scores)._replace(name="ndcg@10")
    fit_net(net, *columns_and_target(), epochs=5, seed=0, scorer=scorer)
    header, _, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["epoch", "ndcg@10", "time_left", "train_loss", "dur"]
    cells = [line.split()[1] for line in lines[:4]]
    # The best so far is in colour; and the epoch that it stops after is printed too.
    assert cells[2:] == ["0.5000", "0.1250"]
    assert all(cell.startswith("\x1b[") for cell in cells[:2])
    assert "0.2500" in cells[0]
    assert "0.7500" in cells[1]
    assert lines[4:] == [
        "Stopping since ndcg@10 has not improved in the last 2 epochs.",
        "Restoring best model from epoch 2.",
    ]


def test_the_time_of_an_epoch_excludes_the_scorer():
    net, timed = net_of(), []

    def score():
        timed.append("dur" in net.history[-1])
        return 0.0

    fit_net(net, *columns_and_target(), epochs=2, seed=0, scorer=Scorer("score", score))
    assert timed == [True, True]
