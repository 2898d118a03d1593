"""Batches hold every row once per epoch, and are packed by the length of their rows."""

from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skorch.dataset import Dataset
from torch import nn
from torch.utils.data import Subset

from sklearn_recft.training import Batches, LogLoss, Policy
from tests.training.nets import fit_net, net_with


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(
    ("batch_size", "sizes"), [(4, [4, 4, 2]), (10, [10]), (99, [10]), (-1, [10])]
)
def test_batches_hold_every_row_once(shuffle, batch_size, sizes):
    columns = {"code": np.arange(10), "pair": np.arange(20.0).reshape(10, 2)}
    target = np.column_stack([np.arange(10), np.ones(10)]).astype(np.float32)
    batches = Batches(Dataset(columns, target), batch_size=batch_size, shuffle=shuffle)
    assert len(batches) == len(sizes)
    for _ in range(2):
        order = []
        for (batch, goal), size in zip(batches, sizes, strict=True):
            assert set(batch) == {"code", "pair"}
            assert batch["code"].shape == (size,)
            assert batch["pair"].tolist() == columns["pair"][batch["code"]].tolist()
            assert goal.tolist() == target[batch["code"]].tolist()
            order += batch["code"].tolist()
        assert sorted(order) == list(range(10))
        assert (order == list(range(10))) is not shuffle


def test_batches_of_a_subset_hold_its_rows():
    dataset = Dataset({"code": np.arange(10)}, np.arange(20, dtype=np.float32).reshape(10, 2))
    batches = Batches(torch.utils.data.Subset(dataset, [7, 2, 5]), batch_size=2)
    assert [batch["code"].tolist() for batch, _ in batches] == [[7, 2], [5]]
    assert [goal[:, 0].tolist() for _, goal in batches] == [[14, 4], [10]]


def test_negatives_are_uniform():
    dataset = Dataset({"code": np.zeros(6000, int)}, np.ones((6000, 2), np.float32))
    torch.manual_seed(0)
    batches = Batches(dataset, batch_size=1000, n_negatives=6)
    drawn = torch.cat([batch["negative"] for batch, _ in batches])
    counts = torch.bincount(drawn, minlength=6)
    assert len(counts) == 6
    assert (counts - 1000).abs().max() < 150


def test_blocks_keep_their_order_and_are_shuffled_within():
    dataset = Dataset({"code": np.arange(1000)}, np.zeros((1000, 2), np.float32))
    batches = Batches(dataset, batch_size=30, shuffle=True, block_size=300)
    order = torch.cat([batch["code"] for batch, _ in batches])
    for start in range(0, 1000, 300):
        block, rows = order[start : start + 300], list(range(start, min(start + 300, 1000)))
        assert sorted(block.tolist()) == rows
        assert block.tolist() != rows
    again = torch.cat([batch["code"] for batch, _ in batches])
    assert again.tolist() != order.tolist()


def test_columns_are_not_copied_even_for_a_subset():
    code, target = np.arange(10), np.zeros((10, 2), np.float32)
    dataset = Dataset({"code": code}, target)
    batches = Batches(torch.utils.data.Subset(dataset, range(5)), batch_size=2)
    assert len(batches) == 3
    assert np.shares_memory(batches.columns["code"].numpy(), code)
    assert np.shares_memory(batches.target.numpy(), target)


# --------------------------------------------------------------------- packed by their size


def dataset_of(sizes):
    columns = {"size": np.array(sizes, int), "code": np.arange(len(sizes))}
    return Dataset(columns, np.zeros((len(sizes), 2), np.float32))


def packed(sizes, batch_size, **params):
    return Batches(dataset_of(sizes), batch_size=batch_size, size="size", **params)


def codes_of(batches):
    return [batch["code"].tolist() for batch, _ in batches]


def cut_slowly(sizes, batch_size):
    """Split rows one by one, as the docstring of `Batches` defines it."""
    batches = []
    for row, size in enumerate(sizes):
        last = batches[-1] if batches else []
        longest = max([size, 1, *(sizes[other] for other in last)])
        if last and (len(last) + 1) * longest <= batch_size:
            last.append(row)
        else:
            batches.append([row])
    return batches


SIZES = st.lists(st.integers(0, 30), max_size=60)


def test_packed_batches_of_a_small_example():
    sizes = [5, 2, 2, 2, 1, 12, 3, 3, 3, 3]
    batches = packed(sizes, 10)
    assert codes_of(batches) == [[0, 1], [2, 3, 4], [5], [6, 7, 8], [9]]
    assert len(batches) == 5


@settings(deadline=None)
@given(SIZES, st.integers(1, 100))
def test_packed_batches_in_order_equal_a_plain_loop(sizes, batch_size):
    expected = cut_slowly(sizes, batch_size)
    batches = packed(sizes, batch_size)
    for _ in range(2):
        assert len(batches) == len(expected)
        assert codes_of(batches) == expected


@settings(deadline=None)
@given(SIZES, st.integers(1, 100), st.integers(0, 3), st.booleans())
def test_packed_batches_in_random_order(sizes, batch_size, seed, asked):
    sizes = [max(size, 1) for size in sizes]
    with torch.random.fork_rng(devices=[]):
        passes = []
        for _ in range(2):
            torch.manual_seed(seed)
            batches = packed(sizes, batch_size, shuffle=True)
            for _ in range(2):
                n_batches = len(batches) if asked else None
                passes.append(codes_of(batches))
                assert n_batches in (None, len(passes[-1]))
        torch.manual_seed(seed)
        parts = torch.rand(len(sizes), dtype=torch.float64).tolist()
    blurred = [size * (1 + part / 10) for size, part in zip(sizes, parts, strict=True)]
    order = sorted(range(len(sizes)), key=blurred.__getitem__)
    cut = cut_slowly([sizes[row] for row in order], batch_size)
    assert sorted(passes[0]) == sorted([order[place] for place in rows] for rows in cut)
    for batches in passes:
        assert sorted(chain.from_iterable(batches)) == list(range(len(sizes)))
        for rows in batches:
            assert len(rows) == 1 or len(rows) * max(sizes[row] for row in rows) <= batch_size
    assert passes[:2] == passes[2:]


def test_each_epoch_has_other_batches_in_another_order():
    sizes = np.arange(100, 200)  # no two rows are of one size
    torch.manual_seed(0)
    batches = packed(sizes, 1000, shuffle=True)
    passes = [codes_of(batches) for _ in range(2)]
    sets = [{frozenset(rows) for rows in batches} for batches in passes]
    assert len(sets[0] & sets[1]) < 3
    for each in passes:
        longest = [max(rows) for rows in each]
        assert longest != sorted(longest)
        assert longest != sorted(longest, reverse=True)
        # Rows of a batch are of like size, so little of it is padding.
        real, padded = sizes.sum(), sum(sizes[rows].max() * len(rows) for rows in each)
        assert real / padded > 0.9


def test_the_length_is_that_of_the_next_epoch():
    sizes = np.random.default_rng(0).integers(1, 50, 300)
    torch.manual_seed(0)
    batches = packed(sizes, 100, shuffle=True)
    lengths = []
    for _ in range(30):
        lengths.append(len(batches))
        for place, _ in enumerate(batches):
            if place == 5:
                break  # a pass that is given up is over
        lengths.append(len(batches))
        assert len(batches) == lengths[-1]
        assert len(codes_of(batches)) == lengths[-1]
    assert len(set(lengths)) > 1, "else a length of another pass would do as well"


@pytest.mark.parametrize("shuffle", [False, True])
def test_one_batch_of_all(shuffle):
    batches = packed([3, 50, 1], -1, shuffle=shuffle)
    assert len(batches) == 1
    assert [sorted(rows) for rows in codes_of(batches)] == [[0, 1, 2]]
    assert len(packed([], 5)) == len(codes_of(packed([], 5, shuffle=shuffle))) == 0


def test_packed_batches_of_a_subset_with_negatives_and_collate():
    dataset = dataset_of([9, 1, 9, 2, 9, 3, 4])
    part = Subset(dataset, [6, 1, 3, 5])

    def collate(batch):
        assert set(batch) == {"size", "code", "negative"}
        assert len(batch["negative"]) == len(batch["code"])
        return {"code": batch["code"], "longest": batch["size"].max()}

    batches = Batches(part, batch_size=6, size="size", n_negatives=3, collate=collate)
    assert [(b["code"].tolist(), b["longest"].item()) for b, _ in batches] == [
        ([6], 4), ([1, 3], 2), ([5], 3),
    ]  # fmt: skip
    batches = Batches(part, batch_size=6, size="size", shuffle=True, n_negatives=3, collate=collate)
    assert sorted(chain.from_iterable(b["code"].tolist() for b, _ in batches)) == [1, 3, 5, 6]


def test_an_invalid_size_raises():
    with pytest.raises(ValueError, match=r"size='long': it must be .* \['size', 'code'\]"):
        Batches(dataset_of([1]), batch_size=1, size="long")
    with pytest.raises(ValueError, match="block_size=2: it must be 0"):
        Batches(dataset_of([1]), batch_size=1, size="size", block_size=2)


class Level(nn.Module):
    """One number for every row; records its inputs."""

    def __init__(self):
        super().__init__()
        self.level = nn.Parameter(torch.zeros(1))
        self.given = []

    def forward(self, code, size):
        self.given.append((code.tolist(), size.tolist()))
        return self.level.expand(len(code))


def net_of(policy=None, learning_rate=0.1, **net_params):
    given = {"iterator_train__size": "size", **net_params}
    return net_with(Level(), LogLoss(), policy, learning_rate=learning_rate, **given)


@pytest.mark.parametrize("policy", [None, Policy(warmup=0.0)])
def test_a_net_trained_on_packed_rows_depends_on_the_seed(policy):
    sizes = np.random.default_rng(0).integers(1, 50, 200)
    dataset = dataset_of(sizes)
    dataset.y[:] = 1
    before = torch.get_rng_state()
    given = []
    for seed in (1, 1, 2):
        net = net_of(policy, batch_size=100)
        fit_net(net, dataset.X, dataset.y, epochs=3, seed=seed)
        given.append(net.module_.given)
        assert all(len(s) == 1 or len(s) * max(s) <= 100 for _, s in net.module_.given)
        learned = chain.from_iterable(codes for codes, _ in net.module_.given)
        assert sorted(learned) == sorted([*range(200)] * 3)
    assert given[0] == given[1] != given[2]
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("policy", [None, Policy()])
@pytest.mark.parametrize("name", ["batch_size", "iterator_train__batch_size"])
def test_one_batch_of_all_for_a_net(policy, name):
    dataset = dataset_of([3, 50, 1, 7])
    net = net_of(policy, **{name: -1})
    fit_net(net, dataset.X, dataset.y, epochs=2, seed=0)
    assert [sorted(codes) for codes, _ in net.module_.given] == [[0, 1, 2, 3]] * 2


def test_the_schedule_counts_packed_batches():
    rates = []

    class Watched(torch.optim.SGD):
        def step(self, closure=None):
            rates.append(self.param_groups[0]["lr"])
            return super().step(closure)

    dataset = dataset_of([10, 10, 10, 1, 1, 1, 1, 1])  # three batches of one row, one of five
    net = net_of(Policy(warmup=0.0), batch_size=10, learning_rate=1.0, optimizer=Watched)
    fit_net(net, dataset.X, dataset.y, epochs=2, seed=0)
    assert rates == pytest.approx([8 / 8, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])
