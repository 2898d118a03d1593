"""The straight line to a top-k against a sort of the whole score matrix."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from sklearn_recft import ranking
from sklearn_recft.ranking import top_k


def sorted_whole(scores, k, hidden=()):
    """Columns of each row, best first, ties by lower column."""
    scores = scores.copy()
    for row, columns in enumerate(hidden):
        scores[row, columns] = -np.inf
    columns = np.stack([np.lexsort((np.arange(len(row)), -row))[:k] for row in scores])
    return columns, np.take_along_axis(scores, columns, axis=1)


def write_from(scores):
    def score(r0, r1, c0, c1, out):
        assert out.flags.c_contiguous
        assert out.dtype == np.float32
        out[:] = scores[r0:r1, c0:c1]

    return score


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("tile_rows", "tile_columns"), [(1, 1), (4, 3), (7, 64), (256, 2048)])
@pytest.mark.parametrize("shape", [(1, 150), (13, 150), (14, 1)])
@pytest.mark.parametrize("decimals", [0, 7])
def test_top_k_is_a_stable_sort(monkeypatch, threads, tile_rows, tile_columns, shape, decimals):
    monkeypatch.setattr(ranking, "_TILE_ROWS", tile_rows)
    monkeypatch.setattr(ranking, "_TILE_COLUMNS", tile_columns)
    rng = np.random.default_rng(tile_columns)
    scores = rng.normal(size=shape).round(decimals).astype(np.float32)
    n_rows, n_columns = shape
    hidden = [np.flatnonzero(rng.random(n_columns) < 0.2 * (n_columns > 1)) for _ in range(n_rows)]
    indptr, columns = np.cumsum([0, *map(len, hidden)]), np.concatenate(hidden).astype(np.int32)
    k = min(12, n_columns)
    found = top_k(write_from(scores), *shape, k, indptr, columns, n_threads=threads)
    expected = sorted_whole(scores, k, hidden)
    assert found[0].dtype == np.int64
    assert found[1].dtype == np.float32
    assert found[0].tolist() == expected[0].tolist()
    assert found[1].tolist() == expected[1].tolist()
    shown = [np.setdiff1d(np.arange(n_columns), gone) for gone in hidden]
    indptr, columns = np.cumsum([0, *map(len, shown)]), np.concatenate(shown).astype(np.int32)
    given = write_from(scores), *shape, k, indptr, columns
    among = top_k(*given, among=True, n_threads=threads)
    assert_array_equal(among, found)


def test_a_row_with_few_columns_to_rank_ends_early():
    scores = np.array([[3.0, 2, 1], [1, 2, 3]], np.float32)
    indptr, columns = np.array([0, 1, 1]), np.array([1], np.int32)
    found, its = top_k(write_from(scores), 2, 3, 2, indptr, columns, among=True)
    assert found.tolist() == [[1, -1], [-1, -1]]
    assert its.tolist() == [[2.0, -np.inf], [-np.inf, -np.inf]]


def test_top_k_never_asks_for_more_than_a_tile(monkeypatch):
    monkeypatch.setattr(ranking, "_TILE_ROWS", 8)
    monkeypatch.setattr(ranking, "_TILE_COLUMNS", 16)
    sizes, covered = [], np.zeros((30, 100), int)

    def score(r0, r1, c0, c1, out):
        sizes.append(out.size)
        covered[r0:r1, c0:c1] += 1
        out[:] = 0

    top_k(score, 30, 100, 3, np.zeros(31, np.int64), np.empty(0, np.int32))
    assert max(sizes) == 8 * 16
    assert (covered == 1).all()


def test_top_k_passes_on_an_error_of_a_thread(monkeypatch):
    monkeypatch.setattr(ranking, "_TILE_ROWS", 2)

    def score(r0, r1, c0, c1, out):
        raise RuntimeError(f"row {r0}")

    threads = torch.get_num_threads()
    with pytest.raises(RuntimeError, match="row 0"):
        top_k(score, 10, 5, 1, np.zeros(11, np.int64), np.empty(0, np.int32), n_threads=2)
    assert torch.get_num_threads() == threads
