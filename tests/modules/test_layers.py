"""Tables that grow in place: same tensor, zero rows, few copies; and products of rows."""

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sklearn_recft.modules._layers import grow_rows
from sklearn_recft.parallel import torch_threads
from sklearn_recft.ranking import dot_tiles

shapes = pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0,)])


def table_of(n_rows, shape=(3,)):
    table = nn.Parameter(torch.zeros(n_rows, *shape))
    with torch.no_grad():
        table.uniform_(1, 2)
    return table


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0,)])
@given(sizes=st.lists(st.integers(0, 40), max_size=12), start=st.integers(0, 9))
@settings(deadline=None, max_examples=25)
def test_any_sequence_of_sizes_is_a_padded_array(shape, sizes, start):
    table = table_of(start, shape)
    expected = table.detach().numpy().copy()
    for j, size in enumerate(sizes):
        grow_rows(table, size)
        fresh = np.zeros((max(0, size - len(expected)), *shape), np.float32)
        expected = np.concatenate([expected[:size], fresh])
        assert table.shape == (size, *shape)
        assert table.is_contiguous()
        np.testing.assert_array_equal(table.detach().numpy(), expected)
        with torch.no_grad():  # so that rows cut off leave something behind
            table += j + 1
        expected += j + 1


@shapes
def test_the_tensor_stays_the_same_object(shape):
    module = nn.Module()
    module.table = table = table_of(2, shape)
    optimizer = torch.optim.SGD([table], lr=1.0)
    for size in (3, 50, 10, 11):
        grow_rows(table, size)
        assert module.table is table is optimizer.param_groups[0]["params"][0]
        assert table.requires_grad
        assert table.is_leaf
    table.sum().backward()
    assert table.grad.shape == table.shape
    optimizer.step()


def test_views_share_memory_after_growth():
    table = table_of(2)
    grow_rows(table, 100)
    view = table.detach().numpy()
    view[99] = 7
    assert table[99].tolist() == [7, 7, 7]


def test_repeated_growth_rarely_copies():
    table, places = table_of(1), set()
    for size in range(2, 5000):
        grow_rows(table, size)
        places.add(table.data_ptr())
    # Half as much again each time: log(5000) / log(1.5) is 21.
    assert 15 < len(places) < 26
    room = table.untyped_storage().nbytes() / (4 * 3)
    assert 5000 <= room < 1.6 * 5000


def test_shrinking_keeps_the_capacity():
    table = table_of(100)
    place = table.data_ptr()
    grow_rows(table, 10)
    grow_rows(table, 90)
    assert table.data_ptr() == place
    assert (table[10:] == 0).all()
    assert (table[:10] != 0).all()


@shapes
@pytest.mark.parametrize("clone", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
def test_a_copy_of_a_grown_table_is_independent(shape, clone):
    table = table_of(4, shape)
    grow_rows(table, 5)
    twin = clone(table)
    grow_rows(twin, 6)
    with torch.no_grad():
        twin += 1
    assert table.shape == (5, *shape)
    assert (table[4] == 0).all()
    grow_rows(table, 6)
    assert (table[5] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.int32])
def test_the_dtype_stays(dtype):
    table = torch.ones(2, 2, dtype=dtype)
    grow_rows(table, 9)
    assert table.dtype == dtype
    assert table.tolist() == [[1, 1]] * 2 + [[0, 0]] * 7


def test_torch_threads_are_limited_to_the_block():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with torch_threads(1):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        with pytest.raises(KeyError), torch_threads(1):
            raise KeyError
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def placed(array, offset):
    """Copy the array to an address ``offset`` bytes after the start of a cache line."""
    room = np.empty(array.nbytes + 128, np.uint8)
    begin = -room.ctypes.data % 64 + offset
    copy = room[begin : begin + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


@pytest.mark.parametrize("n_rows", [1, 2, 45])
def test_scores_are_bitwise_equal_for_any_memory_alignment(n_rows):
    rng = np.random.default_rng(0)
    shapes = (n_rows, 8), (116, 8), (116,), (n_rows,)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    p, q, bias, base = arrays
    found = []
    for offset in range(0, 64, 4):
        out = np.empty((n_rows, 100), np.float32)
        dot_tiles(*(placed(a, offset) for a in arrays))(0, n_rows, 16, 116, out)
        found.append(out)
    exact = p.astype(float) @ q[16:].astype(float).T + bias[16:] + base[:, None]
    np.testing.assert_allclose(found[0], exact, rtol=1e-4, atol=1e-5)
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])
