"""Tables in few bits against the same rows in float32."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_recft.compression import _tables
from sklearn_recft.compression._tables import PRECISIONS, CompactTable
from sklearn_recft.ranking import dot_tiles, top_k

precisions = pytest.mark.parametrize("precision", PRECISIONS)
LARGEST = float(np.finfo(np.float32).max)


def rows_of(n=50, width=8, seed=0):
    return np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32)


def lists(tiles, n_queries, n_columns, k=10):
    none = np.zeros(n_queries + 1, np.int64), np.empty(0, np.int32)
    return top_k(tiles, n_queries, n_columns, k, *none)


@given(
    rows=arrays(np.float32, (3, 5), elements=st.floats(-LARGEST, LARGEST, width=32)),
)
@settings(max_examples=25, deadline=None)
def test_int8_errs_by_at_most_half_a_scale(rows):
    table = CompactTable.of(rows, "int8")
    found = table.expanded()
    assert np.isfinite(found).all()
    error = np.abs(found.astype(float) - rows)
    tiny = float(np.finfo(np.float32).tiny)
    assert (error <= 0.501 * np.abs(rows).max(axis=1, keepdims=True) / 127 + 127 * tiny).all()
    assert_array_equal(table.rows(np.arange(3)), found)


@precisions
@pytest.mark.parametrize("value", [0.0, 0.25, -3.0, 1e-30, -6e4, 6e4])
def test_constant_rows_stay_constant(precision, value):
    rows = np.full((4, 6), value, np.float32)
    found = CompactTable.of(rows, precision).expanded()
    assert (found == found[0, 0]).all()
    assert_allclose(found, rows, rtol=1 / 250, atol=3e-8)  # 1e-30 is 0 in float16


def test_zero_rows_score_zero_and_extremes_keep_their_sign():
    rows = np.float32([[0, 0], [LARGEST, -LARGEST], [LARGEST, 1], [0, -0.0]])
    for precision in ("int8", "bfloat16"):
        found = CompactTable.of(rows, precision).expanded()
        assert np.isfinite(found).all()
        assert_array_equal(np.sign(found), np.sign([[0, 0], [1, -1], [1, found[2, 1]], [0, 0]]))
    with pytest.raises(ValueError, match=r"q: 2 rows have numbers beyond 65504, the largest"):
        CompactTable.of(rows, "float16", "q")


@precisions
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_refused(precision, bad):
    rows = rows_of()
    rows[3, 2] = rows[9, 0] = bad
    with pytest.raises(ValueError, match=r"q: 2 rows are not finite, .* Fit again"):
        CompactTable.of(rows, precision, "q")


@given(numbers=arrays(np.float32, (1, 40), elements=st.floats(-(2.0**120), 2.0**120, width=32)))
@settings(max_examples=25, deadline=None)
def test_bfloat16_rounds_as_torch_does(numbers):
    theirs = torch.from_numpy(numbers).to(torch.bfloat16).float().numpy()
    assert_array_equal(CompactTable.of(numbers, "bfloat16").expanded(), theirs)


@precisions
@pytest.mark.parametrize("n_queries", [1, 3, 5, 300])
@pytest.mark.parametrize("some", [False, True])
def test_lists_are_those_of_the_expanded_table(precision, n_queries, some, monkeypatch):
    monkeypatch.setattr(_tables, "_COLUMNS", 16)
    rng, q = np.random.default_rng(1), rows_of(200, 24)
    q[50:100] = q[:50]  # ties, in catalogue order
    bias, base = np.repeat(rows_of(4, 25)[0], 8), rows_of(n_queries, 1, 3)[:, 0]
    bias[50:100] = bias[:50]
    p = rng.standard_normal((n_queries, 24)).astype(np.float32)
    table = CompactTable.of(q, precision)
    columns = np.arange(200) if not some else np.sort(rng.choice(200, 90, replace=False))
    slow = dot_tiles(p, table.expanded()[columns], bias[columns], base)
    fast = table.tiles(p, columns, bias[columns], base)
    (a, scores), (b, their_scores) = (lists(t, n_queries, len(columns)) for t in (fast, slow))
    assert_allclose(scores, their_scores, rtol=1e-4, atol=1e-4)
    assert_array_equal(a, b)


@precisions
def test_equal_rows_are_listed_in_order(precision):
    q = np.tile(rows_of(1, 16), (3000, 1))
    table, nothing = CompactTable.of(q, precision), np.zeros(3000, np.float32)
    for n_queries in (1, 200):
        tiles = table.tiles(rows_of(n_queries, 16, 5), None, nothing, nothing[:n_queries])
        assert_array_equal(lists(tiles, n_queries, 3000)[0], np.tile(np.arange(10), (n_queries, 1)))


@precisions
def test_changed_rows_are_kept_in_full(precision):
    rows, later = rows_of(), rows_of(60)
    table = CompactTable.of(rows, precision)
    later[:50] = table.expanded()
    later[[3, 40]] += 0.123456789
    new = table.followed(later)
    assert_array_equal(new.changed, [3, 40, *range(50, 60)])
    assert_array_equal(new.expanded(), later)
    assert_array_equal(new.codes[:50], table.codes)
    assert_array_equal(new.rows(np.array([59, 3, 0, 3])), later[[59, 3, 0, 3]])
    p, bias, base = rows_of(6, 8, 7), rows_of(60, 1, 8)[:, 0], rows_of(6, 1, 9)[:, 0]
    for columns in (None, np.array([0, 3, 17, 55])):
        wanted = np.arange(60) if columns is None else columns
        out = np.empty((6, len(wanted)), np.float32)
        new.tiles(p, columns, bias[wanted], base)(0, 6, 0, len(wanted), out)
        slow = p @ later[wanted].T + bias[wanted] + base[:, None]
        assert_allclose(out, slow, rtol=1e-4, atol=1e-5)
    again = new.followed(later)  # what was kept in full stays so
    assert_array_equal(again.changed, new.changed)


@precisions
def test_rows_are_replaced_and_removed(precision):
    table = CompactTable.of(rows_of(), precision).followed(
        np.concatenate([CompactTable.of(rows_of(), precision).expanded(), rows_of(2, 8, 4)])
    )
    before, values = table.expanded(), rows_of(2, 8, 6)
    full = table.replaced(np.array([1, 51]), values, in_full=True)
    wanted = before.copy()
    wanted[[1, 51]] = values
    assert_array_equal(full.expanded(), wanted)
    short = table.replaced(np.array([1, 51]), values, in_full=False)
    assert_array_equal(short.changed, [50])
    assert_allclose(short.expanded(), wanted, atol=0.02)
    assert_array_equal(table.expanded(), before)
    gone = np.array([0, 7, 50])
    assert_array_equal(full.without(gone).expanded(), np.delete(wanted, gone, axis=0))


@precisions
def test_cosines_and_sums_are_those_of_the_expanded_table(precision):
    rows = rows_of(300, 8)
    rows[5] = 0
    table = CompactTable.of(rows, precision)
    wide = table.expanded().astype(float)
    assert_allclose(table.gram(), wide.T @ wide, rtol=1e-6, atol=1e-6)
    assert_allclose(table.mean(), wide.mean(axis=0), atol=1e-6)
    out = np.empty((3, 300), np.float32)
    table.cosine_tiles(np.array([2, 5, 299]))(0, 3, 0, 300, out)
    size = np.linalg.norm(wide, axis=1)
    size[5] = np.inf
    assert_allclose(out, (wide / size[:, None])[[2, 5, 299]] @ (wide / size[:, None]).T, atol=1e-5)


DAMAGES = {
    "scales": lambda s: {**s, "scales": s["scales"][:-1]},
    "negative": lambda s: {**s, "scales": -s["scales"]},
    "type": lambda s: {**s, "codes": s["codes"].astype(np.int16)},
    "axes": lambda s: {**s, "codes": s["codes"][..., None]},
    "width": lambda s: {**s, "full": s["full"][:, :-1]},
    "order": lambda s: {**s, "changed": s["changed"][::-1].copy()},
    "range": lambda s: {**s, "changed": s["changed"] + 1},
    "below": lambda s: {**s, "changed": s["changed"] - 52},
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_arrays_that_do_not_fit_are_refused(damage):
    table = CompactTable.of(rows_of(), "int8").followed(rows_of(52))
    state = table.state()
    assert_array_equal(CompactTable.from_state(state, "int8").expanded(), table.expanded())
    with pytest.raises(ValueError, match="codes: this is not a table of int8"):
        CompactTable.from_state(DAMAGES[damage](state), "int8")


def test_numbers_of_a_file_are_finite():
    state = CompactTable.of(rows_of(), "bfloat16").state()
    state["codes"][4, 4] = 0x7F80
    with pytest.raises(ValueError, match="not a table of bfloat16"):
        CompactTable.from_state(state, "bfloat16")
    with pytest.raises(ValueError, match="'int4' is not one of"):
        CompactTable.from_state(state, "int4")
