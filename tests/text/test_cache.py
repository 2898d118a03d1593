"""The vector cache and ragged arrays: bounded and exact."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sklearn_recft.text._cache import RaggedRows, VectorCache, batches_by_length


def test_the_oldest_vectors_are_evicted():
    size = VectorCache._size("text 0", np.zeros(4, np.float32))
    cache = VectorCache(3 * size)
    for number in range(10):
        cache.put("one", [f"text {number}"], np.full((1, 4), number, np.float32))
        assert len(cache) == min(3, number + 1)
        assert cache.n_bytes == len(cache) * size
    known = cache.get("one", [f"text {number}" for number in range(10)])
    assert {text: vector.tolist() for text, vector in known.items()} == {
        f"text {number}": [number] * 4 for number in (7, 8, 9)
    }
    cache.put("one", ["text 8"], np.zeros((1, 4), np.float32))  # known already: counted once
    assert (len(cache), cache.n_bytes) == (3, 3 * size)
    cache.clear()
    assert (len(cache), cache.n_bytes) == (0, 0)


def test_owners_are_separate_and_vectors_are_copies():
    cache = VectorCache(10_000)
    vectors = np.ones((2, 3), np.float32)
    cache.put("one", ["a", "b"], vectors)
    cache.put("two", ["a"], vectors[:1] * 2)
    vectors[:] = 9
    assert cache.get("one", ["a", "b", "c"])["a"].tolist() == [1, 1, 1]
    assert cache.get("two", ["a", "b"]).keys() == {"a"}
    assert cache.get("two", ["a"])["a"].tolist() == [2, 2, 2]
    assert cache.get("one", ["b"])["b"].base is None  # a view would keep the whole table alive


def test_a_cache_too_small_for_one_keeps_none():
    cache = VectorCache(10)
    cache.put("one", ["a"], np.ones((1, 3), np.float32))
    assert (len(cache), cache.n_bytes) == (0, 0)


@given(
    parts=st.lists(st.lists(st.integers(1, 6), max_size=5), max_size=5),
    picks=st.lists(st.integers(0, 1000), max_size=8),
    tail=st.sampled_from([(), (2,)]),
)
def test_ragged_rows_return_what_was_appended(parts, picks, tail):
    rows, all_of_them = RaggedRows(tail, np.float32), []
    rng = np.random.default_rng(0)
    for lengths in parts:
        sequences = [rng.normal(size=(n, *tail)).astype(np.float32) for n in lengths]
        rows.append(sequences)
        all_of_them += sequences
    assert len(rows) == len(all_of_them)
    assert rows.nbytes == sum(s.nbytes for s in all_of_them)
    wanted = np.array([p % len(all_of_them) for p in picks] if all_of_them else [], np.int64)
    values, mask = rows.collate(wanted)
    assert mask.dtype == torch.bool
    assert mask.sum(1).tolist() == rows.lengths(wanted).tolist()
    assert not values[~mask].any()
    for place, row in enumerate(wanted):
        np.testing.assert_array_equal(values[place][mask[place]], all_of_them[row])


@given(lengths=st.lists(st.integers(1, 30), max_size=40), n_tokens=st.integers(1, 100))
def test_batches_hold_each_row_once_within_the_budget(lengths, n_tokens):
    lengths = np.array(lengths, np.int64)
    batches = list(batches_by_length(lengths, n_tokens))
    assert sorted(np.concatenate([[], *batches])) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= n_tokens
    in_order = [lengths[batch] for batch in batches]
    assert all(a.max() <= b.min() for a, b in pairwise(in_order))


@pytest.mark.parametrize("n_tokens", [1, 100])
def test_no_texts_make_no_batches(n_tokens):
    assert list(batches_by_length(np.empty(0, np.int64), n_tokens)) == []
