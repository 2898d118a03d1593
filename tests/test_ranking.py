"""The straight line to a top-k against a sort of the whole score matrix."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from sklearn_recft import ranking
from sklearn_recft.ranking import QuantizedRows, RowScan, dot_tiles, row_tiles, top_k


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


@pytest.mark.parametrize("held", [1, 450, 2**24])
@pytest.mark.parametrize("k", [140, 300, 500])
def test_long_lists_are_a_stable_sort(monkeypatch, held, k):
    monkeypatch.setattr(ranking, "_TILE_ROWS", 4)
    monkeypatch.setattr(ranking, "_TILE_COLUMNS", 64)
    monkeypatch.setattr(ranking, "_HELD", held)
    monkeypatch.setattr(ranking.kernels, "update_topk", None)  # lists of this length are sorted
    rng = np.random.default_rng(k)
    scores = rng.normal(size=(7, 500)).round(1).astype(np.float32)
    scores[2, ::3], scores[3, 5], scores[4] = -np.inf, np.nan, np.nan
    hidden = [np.flatnonzero(rng.random(500) < 0.2) for _ in range(7)]
    indptr, columns = np.cumsum([0, *map(len, hidden)]), np.concatenate(hidden).astype(np.int32)
    found = top_k(write_from(scores), 7, 500, k, indptr, columns, n_threads=2)
    finite = np.where(np.isnan(scores), -np.inf, scores)
    expected, its = sorted_whole(finite, k, hidden)
    expected[np.isneginf(its)] = -1
    assert_array_equal(found[0], expected)
    assert_array_equal(found[1], its)
    shown = [np.setdiff1d(np.arange(500), gone) for gone in hidden]
    indptr, columns = np.cumsum([0, *map(len, shown)]), np.concatenate(shown).astype(np.int32)
    among = top_k(write_from(scores), 7, 500, k, indptr, columns, among=True)
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


# Products of whole numbers are exact in any order, so the lists must agree in every bit.
N_ROWS, N_FACTORS = 1024, 20


def whole_numbers(rng):
    return rng.integers(-3, 4, (N_ROWS, N_FACTORS)).astype(np.float32)


TABLES = {
    "many equal scores": lambda rng: whole_numbers(rng) % 2,
    "zeros": lambda rng: whole_numbers(rng) * (rng.random((N_ROWS, 1)) < 0.5),
    "only zeros": lambda rng: np.zeros((N_ROWS, N_FACTORS)),
    "one-hot": lambda rng: np.eye(N_FACTORS)[rng.integers(N_FACTORS, size=N_ROWS)],
    "norms of 70 octaves": lambda rng: np.ldexp(
        whole_numbers(rng), rng.integers(-70, 70, (N_ROWS, 1))
    ),
    "huge": lambda rng: whole_numbers(rng) * 2.0**122,
    "tiny": lambda rng: whole_numbers(rng) * 2.0**-135,
    "small next to the bias": lambda rng: whole_numbers(rng) * 2.0**-18,
    "rows that are not finite": lambda rng: np.where(
        rng.random((N_ROWS, 1)) < 0.01, np.nan, whole_numbers(rng)
    ),
}


def scanned(tiles, k, hidden, n_threads=1):
    """The list of a scan; it must have been one."""
    assert isinstance(tiles, RowScan)
    found = tiles.top_k(k, hidden, n_threads)
    assert found is not None
    return found


@pytest.fixture
def always_scanned(monkeypatch):
    monkeypatch.setattr(ranking, "_SCANNED", 1)
    monkeypatch.setattr(ranking, "_ROUNDING_COST", 0)


@pytest.mark.parametrize("some", [False, True])
@pytest.mark.parametrize("kind", TABLES)
def test_a_scan_of_int8_finds_the_list_of_all_scores(always_scanned, kind, some):
    rng = np.random.default_rng(0)
    table = TABLES[kind](rng).astype(np.float32)
    bias = np.zeros(N_ROWS, np.float32)
    if kind not in ("norms of 70 octaves", "huge", "tiny"):
        bias = rng.integers(-2, 3, N_ROWS).astype(np.float32)
    columns = np.flatnonzero(rng.random(N_ROWS) < 0.6) if some else np.arange(N_ROWS)
    hidden = np.flatnonzero(rng.random(len(columns)) < 0.1).astype(np.int32)
    base = np.array([3.0 if bias.any() else 0.0], np.float32)
    some_p = rng.integers(-4, 5, N_FACTORS)
    for p in (some_p, np.zeros(N_FACTORS), 2.0**-9 * np.ones(N_FACTORS)):
        p = p.astype(np.float32)[None]
        with np.errstate(all="ignore"):
            scores = (p @ table[columns].T + bias[columns] + base)[0]
            tiles = row_tiles(p, table, bias, base, columns, QuantizedRows())
            found = scanned(tiles, 10, hidden), scanned(tiles, 10, hidden, n_threads=2)
        scores[hidden] = -np.inf
        scores[np.isnan(scores)] = -np.inf
        expected = np.lexsort((np.arange(len(scores)), -scores))[:10]
        for listed, its in found:
            assert listed[0].tolist() == expected.tolist()
            assert_array_equal(its[0], scores[expected])


def test_a_scan_scores_again_few_rows_as_all_tiles_do(always_scanned, monkeypatch):
    rng = np.random.default_rng(1)
    table, bias = rng.normal(size=(6000, 64)), rng.normal(size=6000)
    p, table, bias = (a.astype(np.float32) for a in (rng.normal(size=(1, 64)), table, bias))
    base, none = np.array([0.5], np.float32), np.empty(0, np.int32)
    tiles = row_tiles(p, table, bias, base, np.arange(6000), QuantizedRows())
    sizes, exact = [], RowScan.exact
    monkeypatch.setattr(RowScan, "exact", lambda s, c: (sizes.append(len(c)), exact(s, c))[1])
    found, its = scanned(tiles, 10, none)
    assert sum(sizes) < 60
    slow = top_k(dot_tiles(p, table, bias, base), 1, 6000, 10, np.array([0, 0]), none)
    assert found.tolist() == slow[0].tolist()
    np.testing.assert_allclose(its, slow[1], rtol=1e-6)
    order = np.argsort(-(table.astype(float) @ p[0].astype(float) + bias))
    assert found[0].tolist() == order[:10].tolist()


@pytest.mark.parametrize("some", [False, True])
def test_the_score_of_a_row_does_not_depend_on_rows_beside_it(some):
    rng = np.random.default_rng(3)
    p, table, bias = (rng.normal(size=s).astype(np.float32) for s in (31, (131, 31), 131))
    rows = np.flatnonzero(rng.random(131) < 0.7) if some else np.empty(0, np.int64)
    scan = RowScan(p, table, bias, np.float32(0.5), rows, QuantizedRows())
    columns = np.arange(len(rows) or 131)
    scores = np.empty((1, len(columns)), np.float32)
    scan(0, 1, 0, len(columns), scores)
    assert_array_equal(scores[0], [scan.exact(columns[[c]])[0, 0] for c in columns])


def test_an_int8_copy_follows_its_table():
    rng = np.random.default_rng(2)
    table, quantized = rng.normal(size=(64, 8)).astype(np.float32), QuantizedRows()
    turns = 0
    while quantized.current(table) is None:  # as long as it does not pay
        turns += 1
    assert turns == ranking._ROUNDING_COST - 1

    def check(table):
        """The errors bound those of the rounded rows, and are small."""
        codes, scale, error = quantized.current(table)
        far = np.linalg.norm(table - scale[:, None] * codes.astype(float), axis=1)
        assert len(far) == len(table)
        assert (far <= error).all()
        assert (error < 0.05 * np.linalg.norm(table, axis=1)).all()

    check(table)
    quantized.touch(np.array([3, 70]))  # of which one is new, and beyond the end
    quantized.touch(5)
    table[[3, 5]] *= 7
    quantized.resize(68)
    table = np.concatenate([table, table[:4] + 1])
    check(table)
    quantized.resize(66)
    check(table[:66])
    quantized.resize(68)
    table[66:] = 9
    check(table)
    quantized.touch(np.arange(68))
    assert quantized.current(table) is None
    quantized.clear()
    assert quantized.current(table[:, :4]) is None
