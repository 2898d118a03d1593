"""Sums of feedback against dictionaries, and decay by order."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_recft.history import FeedbackMatrix, decay_by_order

events = st.tuples(
    st.integers(0, 5), st.integers(0, 7), st.floats(0.1, 3), st.integers(-3, 5)
)  # fmt: skip
batches = st.lists(st.lists(events, min_size=1, max_size=12), min_size=1, max_size=5)
shares = st.lists(st.sampled_from([1.0, 0.5, 0.25]), min_size=6, max_size=6)


def grow(matrix, batch, **left):
    users, items, weight, feedback = map(np.array, zip(*batch, strict=True))
    return matrix.added(users, items, weight=weight, feedback=feedback.astype(float), **left)


def as_dict(matrix):
    found = matrix.sums.tocoo()
    pairs = zip(found.row.tolist(), found.col.tolist(), strict=True)
    return dict(zip(pairs, zip(found.data.real, found.data.imag, strict=True), strict=True))


@given(batches, shares, st.sampled_from(["all", "one", "each"]))
@settings(deadline=None)
def test_feedback_is_summed_and_decays_by_the_given_factor(batches, left, how):
    matrix, sums, kept, n_users = FeedbackMatrix(), {}, [], 0
    for batch in batches:
        n_users = max(n_users, max(row[0] for row in batch) + 1)
        share = {"all": np.ones(6), "one": np.full(6, left[0]), "each": np.array(left)}[how]
        told = {"all": {}, "one": {"left": left[0]}, "each": {"left": share[:n_users]}}[how]
        kept.append((matrix, pickle.dumps(matrix)))
        matrix = grow(matrix, batch, **told)
        sums = {(u, i): (w * share[u], t * share[u]) for (u, i), (w, t) in sums.items()}
        for user, item, w, y in batch:
            weight, total = sums.get((user, item), (0, 0))
            sums[user, item] = weight + w, total + w * y
        found = as_dict(matrix)
        assert found.keys() == sums.keys()
        for pair, expected in sums.items():
            assert found[pair] == pytest.approx(expected, rel=1e-9, abs=1e-12)
        assert matrix.sums.shape == tuple(max(pair[j] for pair in sums) + 1 for j in (0, 1))
        assert matrix.sums.has_canonical_format
    for old, before in kept:  # whoever kept an old one still has it
        assert pickle.dumps(old) == before


@given(batches, st.lists(st.integers(-1, 5), max_size=9))
@settings(deadline=None)
def test_feedback_of_users_is_empty_for_unknown_users(batches, queried):
    matrix = FeedbackMatrix()
    for batch in [*batches, [(5, 0, 1.0, 1)]]:
        matrix = grow(matrix, batch)
    queried = np.array(queried, np.int64)
    for side, part in enumerate((matrix.weight, matrix.total)):
        dense = np.zeros((6, matrix.sums.shape[1]))
        for pair, sums in as_dict(matrix).items():
            dense[pair] = sums[side]
        np.testing.assert_allclose(part().toarray(), dense, rtol=1e-6)
        rows = part(queried)
        assert rows.dtype == part().dtype == np.float32
        assert rows.indptr.dtype == rows.indices.dtype == part().indices.dtype == np.int32
        expected = np.where(queried[:, None] >= 0, part().toarray()[queried], 0)
        np.testing.assert_array_equal(rows.toarray(), expected)
        assert (np.diff(rows.indptr)[queried < 0] == 0).all()


def test_returned_matrices_are_copies():
    matrix = grow(FeedbackMatrix(), [(0, 1, 1.0, 2), (1, 0, 1.0, 3)])
    before = pickle.dumps(matrix)
    for part in (matrix.total(), matrix.weight(), matrix.total(np.array([0, 1]))):
        part.data[:] = 77
    assert pickle.dumps(matrix) == before


moments = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=25)


@given(moments, st.sampled_from([0.5, 1.0, 7.0]), st.booleans())
@settings(deadline=None)
def test_events_decay_with_the_number_of_later_events(rows, half_life, timed):
    users, times = map(np.array, zip(*rows, strict=True))
    weight, left = decay_by_order(users, times * 1.0 if timed else None, half_life, 6)
    for place, user in enumerate(users):
        mine = np.flatnonzero(users == user)
        mine = mine[np.argsort(times[mine] if timed else mine, kind="stable")].tolist()
        after = len(mine) - 1 - mine.index(place)
        assert weight[place] == pytest.approx(2 ** (-after / half_life))
    assert left == pytest.approx([2 ** (-(users == user).sum() / half_life) for user in range(6)])
