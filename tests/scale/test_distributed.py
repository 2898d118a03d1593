"""One fit by two processes: like that of one, and an error in one stops both."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.utils.parallel import Parallel, delayed
from torch import nn
from torch.utils.data import DataLoader

from sklearn_recft import (
    EASERecommender,
    IncrementalMFRecommender,
    PopularityRecommender,
    RealtimeTransformerRecommender,
)
from sklearn_recft.datasets import make_interactions
from sklearn_recft.models._cross_network import CrossNetwork, CrossSettings
from sklearn_recft.models._factorization_sgd import Rows
from sklearn_recft.models._factorization_split import ItemMoves, owner_of
from sklearn_recft.models._online_features import OnlineFeatures
from sklearn_recft.models._random import RandomStream
from sklearn_recft.persistence import load
from sklearn_recft.pipeline import make_recommender_pipeline
from sklearn_recft.processes import training_together
from sklearn_recft.scale import fit_distributed
from sklearn_recft.training import Batches, LogLoss, Trainer, store_for
from sklearn_recft.training._split import AddGradients, Part


@pytest.fixture(scope="module")
def log():
    return make_interactions(60, 40, 1500, random_state=0, return_X_y=True)


def mf(**parameters):
    return IncrementalMFRecommender(n_factors=4, max_epochs=5, random_state=0, **parameters)


class Threads:
    """Processes of one test, as threads."""

    def __init__(self, rank, size, meeting):
        self.rank, self.size, (self.barrier, self.box) = rank, size, meeting

    def add(self, *values):
        for value in values:
            tensor = torch.from_numpy(value) if isinstance(value, np.ndarray) else value
            self.box[self.rank] = tensor.clone()
            self.barrier.wait(60)
            assert len({each.dtype for each in self.box}) == 1  # gloo adds up the bits
            total = sum(self.box[1:], self.box[0])
            self.barrier.wait(60)
            if tensor.is_sparse:
                tensor.zero_().add_(total)
            else:
                tensor.copy_(total)

    def check_same(self, what, *arrays):
        pass


def in_threads(work, size=2):
    meeting, found = (threading.Barrier(size), [None] * size), [None] * size

    def run(rank):
        found[rank] = work(Threads(rank, size, meeting))

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def rmse(model, X, y):
    return np.sqrt(np.mean((model.predict(X) - y) ** 2))


def test_two_processes(log, tmp_path):
    """In one test, since the processes are started once."""
    X, y = log
    # Without a seed, that of process 0 is used by all.
    together = fit_distributed(mf().set_params(random_state=None), X, y, n_processes=2)
    alone = mf().fit(X, y)
    assert rmse(together, X, y) == pytest.approx(rmse(alone, X, y), rel=0.05)
    assert together.get_params() == {**alone.get_params(), "random_state": None}
    together.save(tmp_path / "model.safetensors")
    loaded = load(tmp_path / "model.safetensors")
    assert_array_equal(loaded.predict(X), together.predict(X))
    more = X[:50], y[:50]
    assert_array_equal(loaded.partial_fit(*more).predict(X), together.partial_fit(*more).predict(X))

    # The gradients are those of whole batches.
    adam = mf(solver="adam")
    shared = fit_distributed(adam, X, y, n_processes=2)
    assert_allclose(shared.predict(X), adam.fit(X, y).predict(X), atol=1e-4)

    with pytest.raises(ValueError, match="y"):  # of `fit`, not of an exchange
        fit_distributed(mf(), X, np.full(len(y), np.nan), n_processes=2)
    store, run = store_for(None, 60), Parallel(2, backend="loky", batch_size=1)
    messages = run(delayed(_one_fails(rank, store.port))() for rank in range(2))
    assert messages[0].startswith("fit_distributed: process 1 has failed: OSError: disk is full")
    store = store_for(None, 60)
    messages = run(delayed(_others_rows(rank, store.port))() for rank in range(2))
    assert all("processes [1] have other rows than process 0" in each for each in messages)


def _one_fails(rank, port):
    def work():  # a function of its own, which is sent to the process by value
        import numpy as np

        from sklearn_recft.training import ProcessesError, store_for, torch_processes

        store = store_for(("127.0.0.1", port), 60)
        try:
            with torch_processes(60, store=store, rank=rank, size=2) as processes:
                if rank == 1:
                    raise OSError("disk is full")
                processes.add(np.zeros(3))
        except (OSError, ProcessesError) as error:
            return str(error)

    return work


def _others_rows(rank, port):
    def work():
        import numpy as np

        from sklearn_recft.training import ProcessesError, store_for, torch_processes

        store = store_for(("127.0.0.1", port), 60)
        try:
            with torch_processes(60, store=store, rank=rank, size=2) as processes:
                processes.check_same("rows", np.arange(3) + rank)
        except ProcessesError as error:
            return str(error)

    return work


def test_one_process_is_a_plain_fit(log, monkeypatch):
    X, y = log
    for n_processes in (None, 1):
        model = fit_distributed(mf(), X, y, n_processes=n_processes)
        assert_array_equal(model.predict(X), mf().fit(X, y).predict(X))
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert_array_equal(fit_distributed(mf(), X, y).predict(X), model.predict(X))
    with pytest.raises(ValueError, match="torchrun has started 1 processes"):
        fit_distributed(mf(), X, y, n_processes=2)


def test_what_cannot_be_split_is_refused(log):
    X, y = log
    for model in (EASERecommender(), PopularityRecommender(), mf(loss="softmax")):
        with pytest.raises(ValueError, match="cannot be split"):
            fit_distributed(model, X, y)
    with pytest.raises(TypeError, match="the last step"):
        fit_distributed(make_recommender_pipeline(mf()), X, y)
    with pytest.raises(ValueError, match="n_processes"):
        fit_distributed(mf(), X, y, n_processes=0)
    for timeout in (0, np.nan, np.inf, 1e15):
        with pytest.raises(ValueError, match="timeout="):
            fit_distributed(mf(), X, y, timeout=timeout)


@pytest.mark.filterwarnings("ignore:Loky-backed")
def test_where_no_processes_can_be_started_none_waits(log):
    inner = delayed(fit_distributed)(mf(), *log, n_processes=2)
    with pytest.raises(ValueError, match="joblib starts no processes here"):
        Parallel(2, backend="threading")([inner, inner])


@pytest.mark.parametrize("loss", ["squared_error", "log_loss", "bpr"])
def test_factorizations_of_three_processes_are_equal(log, loss):
    X, y = log

    def work(processes):
        with training_together(processes):
            return mf(loss=loss).fit(X, None if loss == "bpr" else (y > 3) * 1.0)

    first, *others = in_threads(work, 3)
    alone = mf(loss=loss).fit(X, None if loss == "bpr" else (y > 3) * 1.0)
    assert not np.array_equal(first.predict(X), alone.predict(X))
    assert np.corrcoef(first.predict(X), alone.predict(X))[0, 1] > 0.8
    for other in others:
        assert_array_equal(other.predict(X), first.predict(X))
    more = (X[:9],) if loss == "bpr" else (X[:9], (y[:9] > 3) * 1.0)
    first.partial_fit(*more)
    for other in others:  # with the same random numbers
        assert_array_equal(other.partial_fit(*more).predict(X), first.predict(X))


@pytest.mark.parametrize("size", [2, 3])
def test_online_features_of_processes_are_those_of_one(size):
    """Each process learns its factorizations for all, to the same bits."""
    rng = np.random.default_rng(0)
    n, users, items = 200, rng.integers(0, 9, 200), rng.integers(0, 7, 200)
    labels = {"label": rng.integers(0, 2, n) * 1.0, "outcome": rng.normal(size=n)}
    weight, times = rng.uniform(0.5, 1, n), np.sort(rng.integers(0, 150, n)) * 1.0

    def learn(processes):
        features = OnlineFeatures(3, outcome=True, rng=np.random.default_rng(1))
        features.grow(9, 7)
        with training_together(processes):
            found = features.update(
                users, items, times, **labels, weight=weight, real=np.full(n, True)
            )
            features.refit(users, items, **labels, weight=weight, n_threads=1)
        return found, features.transform(users, items, times + 1e4), features.state()["rngs"]

    alone = learn(None)
    for each in in_threads(learn, size):
        for one, other in zip(each[:2], alone[:2], strict=True):
            assert_array_equal(one, other)
        assert each[2] == alone[2]


def test_processes_take_batches_of_twice_the_rows_of_a_large_log(monkeypatch):
    sizes = []
    monkeypatch.setattr(Trainer, "fit", lambda self, *_: sizes.append(self.batch_size))
    for processes in (None, SimpleNamespace(rank=0, size=2)):
        for n_rows, update in ((499_999, False), (500_000, False), (500_000, True)):
            network = CrossNetwork(CrossSettings())
            network.n_rows, network.net = n_rows, SimpleNamespace(net=None)
            monkeypatch.setattr(network, "_freeze", list)
            rng = RandomStream(np.random.default_rng(0))
            with training_together(processes):
                network.train({}, np.empty(0), rng, epochs=1, update=update)
    assert sizes == [None, None, None, None, 4096, None]


def test_a_process_without_users_ends_with_the_tables_of_the_others(log):
    X, y = (column[:1] for column in log)

    def work(processes):
        with training_together(processes):
            return mf().fit(X, y)

    one, other = in_threads(work)
    assert_array_equal(one.predict(X), other.predict(X))


def test_users_are_spread_over_processes():
    counts = np.bincount(owner_of(np.arange(9000), 3), minlength=3)
    assert_allclose(counts, 3000, rtol=0.05)


def test_moves_of_items_are_added_if_few_and_averaged_if_many():
    n_events = np.array([[1, 100_000, 5, 0], [1, 100_000, 0, 0]])

    def work(processes):
        events = n_events[processes.rank]
        item, ones = np.repeat(np.arange(4), events), np.ones(events.sum())
        own = Rows(item, item, ones, ones, np.empty((len(item), 0)))
        arrays = {
            "item_bias": np.zeros(4, np.float32),
            "item_factors": np.zeros((4, 2), np.float32),
        }
        arrays["context_weight"] = np.zeros(0, np.float32)
        moves = ItemMoves(arrays, own, processes, 0.05)
        arrays["item_bias"] += [1, 1, 1, 1] if processes.rank == 0 else [1, 1, 0, 1]
        moves.add()
        return arrays["item_bias"]

    one, two = in_threads(work)
    assert_array_equal(one, two)
    assert_allclose(one, [2, 1, 1, 2], rtol=0.02)


def gradients_of_shares(X, target, table):
    """Return what each of two processes gets from its part of a batch."""

    def work(processes):
        net, rows = nn.Linear(3, 1), nn.Embedding(9, 3, sparse=True)
        with torch.no_grad():
            net.weight.fill_(0.1), net.bias.fill_(0.0)
            rows.weight.copy_(table)
        part = Part(processes, 0)
        own = part.take(torch.arange(len(X)), target[:, 1])
        output = net(rows(X[own])).squeeze(1)
        LogLoss()(output, target[own]).backward()
        parameters = [net.weight, net.bias, rows.weight, nn.Parameter(torch.zeros(2))]
        AddGradients(processes, part).add(parameters, part.share())
        return [None if p.grad is None else p.grad.to_dense() for p in parameters]

    return in_threads(work)


@pytest.mark.parametrize("n_rows", [1, 7])
def test_gradients_are_those_of_the_whole_batch(n_rows, monkeypatch):
    torch.manual_seed(0)
    X, table = torch.randint(9, (n_rows,)), torch.randn(9, 3)
    target = torch.stack([torch.rand(n_rows), torch.rand(n_rows) + 0.1], 1)
    net, rows = nn.Linear(3, 1), nn.Embedding(9, 3)
    with torch.no_grad():
        net.weight.fill_(0.1), net.bias.fill_(0.0)
        rows.weight.copy_(table)
    LogLoss()(net(rows(X)).squeeze(1), target).backward()
    for small in (2**18, 0):  # tables exchanged as dense ones, and by rows
        monkeypatch.setattr("sklearn_recft.training._split._SMALL", small)
        for found in gradients_of_shares(X, target, table):
            for gradient, p in zip(found, (net.weight, net.bias, rows.weight), strict=False):
                assert_allclose(gradient, p.grad, atol=1e-6)
            assert found[3] is None


def test_batches_of_processes_are_parts_of_the_same_ones():
    dataset = type("Data", (), {"X": {"row": np.arange(23), "size": np.arange(23) % 5 + 1}})
    dataset.y = np.zeros(23, np.float32)

    def work(processes):
        part = Part(processes, 3)
        for size in (None, "size"):
            batches = Batches(dataset, batch_size=8, shuffle=True, size=size, part=part)
            yield [[X["row"].tolist() for X, _ in batches] for _ in range(2)]

    for ours, theirs in zip(*(list(work(Threads(rank, 2, (None, None)))) for rank in (0, 1)),
                            strict=True):  # fmt: skip
        for epoch in zip(ours, theirs, strict=True):
            assert len(epoch[0]) == len(epoch[1])
            both = [set(a) | set(b) for a, b in zip(*epoch, strict=True)]
            assert sorted(row for batch in both for row in batch) == list(range(23))
            for a, b in zip(*epoch, strict=True):
                assert abs(len(a) - len(b)) <= 1 or len(a) + len(b) < 3


def test_only_batches_of_this_package_are_split(log):
    def work(processes):
        model = RealtimeTransformerRecommender(
            width=8, max_epochs=1, random_state=0, net_params={"iterator_train": DataLoader}
        )
        with training_together(processes), pytest.raises(ValueError, match="iterator_train"):
            model.fit(log[0])

    in_threads(work, 1)
