"""Tables of the online features: growth, copies of rows, and rollback."""

import copy
import pickle

import numpy as np
import pytest

from sklearn_recft.modules._online_features import OnlineTables

N_USERS, N_ITEMS, N_FACTORS, WIDTHS = 6, 8, 3, (5, 4)


@pytest.fixture
def tables():
    """Tables with two factorizations and random values."""
    tables = OnlineTables(N_FACTORS, 2, WIDTHS)
    tables.grow(N_USERS, N_ITEMS)
    scramble(tables, seed=0)
    return tables


def numbers(tables):
    """Return every array of the tables by name."""
    found = {**tables.arrays()}
    for j, factorization in enumerate(tables.factorizations):
        found |= {f"{name}_{j}": array for name, array in factorization.arrays().items()}
    return found


def scramble(tables, seed, users=slice(None), items=slice(None)):
    """Write random values to these rows, and to arrays without rows per id."""
    rng = np.random.default_rng(seed)
    for name, array in numbers(tables).items():
        rows = users if name.startswith("user") else items if name.startswith("item") else ...
        array[rows] = rng.normal(size=array[rows].shape)


def kept(tables):
    return {name: array.copy() for name, array in numbers(tables).items()}


def same(tables, expected):
    found = numbers(tables)
    assert found.keys() == expected.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


def rows_of(expected, users, items):
    """Select the rows of arrays that have one row per id."""
    return {
        name: array[users] if name.startswith("user") else
        array[items] if name.startswith("item") else array
        for name, array in expected.items()
    }  # fmt: skip


def test_new_tables_are_empty():
    tables = OnlineTables(N_FACTORS, 2, WIDTHS)
    tables.grow(2, 3)
    arrays = tables.arrays()
    assert [arrays[name].shape for name in ("users", "items")] == [(2, 5), (3, 4)]
    assert arrays["totals"].tolist() == [0, 0]
    # Count, mean and spread of no target; its least and largest are still to come.
    assert arrays["moments"].tolist() == [[0, 0, 0, np.inf, -np.inf]] * 2
    assert not any(array.any() for name, array in kept(tables).items() if name != "moments")
    assert not any(parameter.requires_grad for parameter in tables.parameters())


def test_arrays_are_the_tables_own_memory(tables):
    scramble(tables, seed=1)
    assert tables.user_statistics[2].tolist() == tables.arrays()["users"][2].tolist()
    tables.arrays()["moments"][1, 0] = 7
    assert tables.moments[1, 0] == 7


def test_growth_keeps_rows_and_adds_zeros(tables):
    before = kept(tables)
    tables.grow(N_USERS + 2, N_ITEMS + 30)
    after = numbers(tables)
    for name, array in after.items():
        n = len(before[name])
        np.testing.assert_array_equal(array[:n], before[name])
        assert len(array) - n == {"u": 2, "i": 30}.get(name[0], 0)
        assert not array[n:].any()


def test_rows_are_a_copy(tables):
    before, users, items = kept(tables), np.array([4, 1]), np.array([0, 7, 7])
    part = tables.rows(users, items)
    same(part, rows_of(before, users, items))
    scramble(part, seed=2)
    same(tables, before)
    scramble(tables, seed=3)
    other = kept(part)
    tables.grow(40, 40)
    same(part, other)


def test_a_selection_of_no_rows_is_valid(tables):
    nobody = np.array([], np.int64)
    part = tables.rows(nobody, nobody)
    assert part.arrays()["users"].shape == (0, 5)
    before = kept(tables)
    tables.patch(part, nobody, nobody)
    same(tables, before)


def test_a_patch_writes_its_rows_and_its_totals(tables):
    expected, part = kept(tables), tables.rows(np.array([0, 1, 2]), np.array([0, 1]))
    scramble(part, seed=4)
    users, items = np.array([5, -1, 3]), np.array([-1, 2])
    written = kept(part)
    tables.patch(part, users, items)
    for name, array in expected.items():
        codes = users if name.startswith("user") else items if name.startswith("item") else None
        if codes is None:
            array[...] = written[name]
        else:
            array[codes[codes >= 0]] = written[name][codes >= 0]
    same(tables, expected)


@pytest.mark.parametrize("grown", [False, True])
def test_restore_resets_rows_and_sizes(tables, grown):
    before = pickle.dumps(kept(tables))
    users = np.array([0, 3, 3, N_USERS + 1, -1])
    items = np.array([2, N_ITEMS, 2])
    mark = tables.mark(users, items)
    if grown:
        tables.grow(N_USERS + 30, N_ITEMS + 20)
    scramble(tables, 5, [0, 3], [2])
    if grown:
        scramble(tables, 6, slice(N_USERS, None), slice(N_ITEMS, None))
    assert pickle.dumps(kept(tables)) != before
    tables.restore(mark)
    assert pickle.dumps(kept(tables)) == before
    tables.grow(N_USERS + 30, N_ITEMS + 20)  # regrown rows are zero
    assert not tables.arrays()["users"][N_USERS:].any()
    assert not tables.factorizations[1].arrays()["item_factors"][N_ITEMS:].any()


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
def test_a_copy_is_equal_and_independent(tables, clone):
    before, twin = kept(tables), clone(tables)
    same(twin, before)
    twin.grow(50, 50)
    scramble(twin, seed=7)
    same(tables, before)
    scramble(tables, seed=8)
    assert not np.array_equal(twin.arrays()["users"][:N_USERS], tables.arrays()["users"])


def test_a_state_has_no_spare_capacity(tables):
    size = len(pickle.dumps(tables.state()))
    tables.grow(500, 500)
    tables.grow(N_USERS, N_ITEMS)
    assert len(pickle.dumps(tables.state())) == size
    assert len(pickle.dumps(tables.rows(np.arange(2), np.arange(2)).state())) < size
