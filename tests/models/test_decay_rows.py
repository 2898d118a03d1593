"""Negatives for the rows of the decay model."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_recft.models._decay_rows import draw_negatives


@given(
    st.lists(st.integers(0, 8), max_size=30),
    st.sets(st.integers(0, 12)),
    st.integers(0, 5),
    st.integers(0, 10_000),
)
@settings(deadline=None, max_examples=30)
def test_negatives_follow_their_row_and_are_known_by_then(items, met, n_draws, seed):
    items, before = np.array(items, np.int64), np.array(sorted(met), np.int64)
    event, codes = draw_negatives(items, before, n_draws, np.random.default_rng(seed))
    groups = codes.reshape(len(items), 1 + n_draws)
    assert event.reshape(groups.shape).tolist() == [
        [row] * (1 + n_draws) for row in range(len(items))
    ]
    assert groups[:, 0].tolist() == items.tolist()
    for row, drawn in enumerate(groups[:, 1:]):
        assert set(drawn.tolist()) <= met | set(items[: row + 1].tolist())


def test_negatives_are_uniform_over_known_items():
    items, met = np.r_[4, np.zeros(9_999, int)], np.array([0, 1, 6])
    _, codes = draw_negatives(items, met, 2, np.random.default_rng(0))
    shares = np.bincount(codes.reshape(-1, 3)[:, 1:].ravel(), minlength=7) / 20_000
    np.testing.assert_allclose(shares[[0, 1, 4, 6]], 0.25, atol=0.015)
    again = draw_negatives(items, met, 2, np.random.default_rng(0))
    assert again[1].tolist() == codes.tolist()
