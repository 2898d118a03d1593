"""The straight line to a top-k against a sort of the whole score matrix."""

import pickle
import threading

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.exceptions import NotFittedError
from threadpoolctl import threadpool_info

from sklearn_recft import base, ranking
from sklearn_recft.base import RecommenderMixin
from sklearn_recft.parallel import blas_threads, in_threads, n_threads
from sklearn_recft.ranking import top_k


class TableRecommender(RecommenderMixin, RegressorMixin, BaseEstimator):
    """Scores are given: a row per known user, the last one for whoever is unknown."""

    def __init__(self, scores=None, n_jobs=None):
        self.scores = scores
        self.n_jobs = n_jobs

    def fit(self, X, y=None, sample_weight=None):
        events = self._check_events(X, y, sample_weight, reset=True)
        self._begin(events)
        self._remember(events)
        return self

    def partial_fit(self, X, y=None, sample_weight=None):
        self._remember(self._check_events(X, y, sample_weight, reset=False))
        return self

    def _tile_scorer(self, users, columns, queries):
        assert len(queries) == len(users)

        def score(r0, r1, c0, c1, out):
            out[:] = self.scores[users[r0:r1]][:, columns[c0:c1]]

        return score


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


# ------------------------------------------------------------------------------ top_k


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


def test_threads_of_n_jobs(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert [n_threads(n) for n in (None, 1, 3, -1, -2, -100)] == [1, 1, 3, 8, 7, 1]
    with pytest.raises(ValueError, match="n_jobs=0 has no meaning; give None"):
        n_threads(0)


# ------------------------------------------------------------------------- in threads

SIZES = {
    "equal": np.ones(100),
    "nothing": np.zeros(7),
    "one": np.array([5.0]),
    "one of all": np.r_[np.zeros(50), 1e9, np.zeros(49)],
    "falling": 1e6 / np.arange(1, 1001),
}


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_every_row_is_done_once(sizes, threads):
    pieces, done = [], np.zeros(len(sizes), int)

    def step(first, last):
        assert first < last
        pieces.append((first, last))
        done[first:last] += 1

    in_threads(step, sizes, threads, n_pieces=4)
    assert (done == 1).all()
    if threads == 1:
        assert pieces == [(0, len(sizes))]
    work = [(sizes[first:last] + 1).sum() for first, last in pieces]
    assert max(work) <= (sizes + 1).sum() / (4 * threads if threads > 1 else 1) + sizes.max() + 1
    assert len(pieces) <= 4 * threads


def test_threads_work_at_once():
    both = threading.Barrier(2)

    def step(first, last):
        both.wait(timeout=30)  # breaks unless another is at work too

    in_threads(step, np.ones(100), 2, n_pieces=1)


def test_an_error_of_a_piece_is_passed_on():
    def step(first, last):
        raise RuntimeError("piece")

    for threads in (1, 2):
        with pytest.raises(RuntimeError, match="piece"):
            in_threads(step, np.ones(10), threads)


def blas_sizes():
    return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}


def test_linear_algebra_keeps_to_its_threads():
    before = blas_sizes()
    with blas_threads(2):
        assert blas_sizes() == {2}
        with blas_threads(1):
            assert blas_sizes() == {1}
        assert blas_sizes() == {2}
    assert blas_sizes() == before


# -------------------------------------------------------------------------- recommend

N_USERS, N_ITEMS = 30, 25


@pytest.fixture
def fitted():
    """A recommender with tied scores and, for each user, a few seen items."""
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 6, (N_USERS + 1, N_ITEMS)).astype(np.float32)
    users, items = np.arange(N_USERS), np.arange(N_ITEMS)
    first = np.column_stack([np.resize(users, 150), rng.integers(0, N_ITEMS, 150)])
    every = np.column_stack([np.resize(users, N_ITEMS), items])  # in catalogue order
    every[:, 0] = 0
    model = TableRecommender(scores).fit(np.vstack([every[:20], first]))
    return model.partial_fit([[1, item] for item in items])


def seen_by(model, user):
    code = model.user_ids_.tolist().index(user)
    return model._seen.items_of(code)


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("block", [4, 16_384])
def test_recommend_is_a_sort_of_what_is_unseen(monkeypatch, fitted, n_jobs, block):
    monkeypatch.setattr(base, "_QUERY_BLOCK", block)
    monkeypatch.setattr(ranking, "_TILE_ROWS", 3)
    monkeypatch.setattr(ranking, "_TILE_COLUMNS", 4)
    fitted.set_params(n_jobs=n_jobs)
    asked = [5, 999, *range(2, N_USERS), 5, "nobody"]
    codes = fitted._users.encode(asked)
    hidden = [fitted._seen.items_of(code) if code >= 0 else [] for code in codes]
    scores = fitted.scores[codes]
    for exclude, gone in ((True, hidden), (False, ())):
        items, found = fitted.recommend(asked, n_recommendations=6, exclude_seen=exclude)
        columns, expected = sorted_whole(scores, 6, gone)
        assert items.tolist() == fitted.item_ids_[columns].tolist()
        assert found.tolist() == expected.tolist()
        assert found.dtype == np.float64
        assert items.dtype == fitted.item_ids_.dtype


def test_recommend_one_is_recommend_all(fitted):
    asked = np.arange(2, N_USERS)
    items, scores = fitted.recommend(asked, n_recommendations=5)
    for row, user in enumerate(asked):
        alone = fitted.recommend([user], n_recommendations=5)
        assert alone[0][0].tolist() == items[row].tolist()
        assert alone[1][0].tolist() == scores[row].tolist()


def test_candidates_are_a_set_in_catalogue_order(fitted):
    fitted.scores[:] = 1
    candidates = [9, 3, 3, 14, 9]
    items, _ = fitted.recommend([7], n_recommendations=3, candidates=candidates, exclude_seen=False)
    assert items.tolist() == [[one for one in fitted.item_ids_ if one in candidates]]
    unseen = [item for item in range(N_ITEMS) if item not in fitted.item_ids_[seen_by(fitted, 7)]]
    items, _ = fitted.recommend([7], n_recommendations=2, candidates=unseen[:2])
    assert set(items[0].tolist()) == set(unseen[:2])


@pytest.mark.parametrize(
    ("n", "error"),
    [(0, ValueError), (-1, ValueError), (2.0, TypeError), ("3", TypeError), (None, TypeError)],
)
def test_a_list_has_at_least_one_place(fitted, n, error):
    with pytest.raises(error, match="n_recommendations"):
        fitted.recommend([2], n_recommendations=n)
    assert fitted.recommend([2], n_recommendations=np.int32(1))[0].shape == (1, 1)


def test_too_few_eligible_items_are_counted(monkeypatch, fitted):
    left = N_ITEMS - len(seen_by(fitted, 3))
    fitted.recommend([3], n_recommendations=left)
    message = f"user 3 has only {left} eligible items; ask for fewer"
    monkeypatch.setattr(base, "_QUERY_BLOCK", 2)
    with pytest.raises(ValueError, match=message):
        fitted.recommend([999, 999, 999, 3], n_recommendations=left + 1)
    with pytest.raises(ValueError, match="user 1 has only 0 eligible items"):
        fitted.recommend([2, 1], n_recommendations=1)
    with pytest.raises(ValueError, match="has only 2 eligible items"):
        fitted.recommend([2], n_recommendations=3, candidates=[4, 5], exclude_seen=False)
    with pytest.raises(ValueError, match=f"has only {N_ITEMS} eligible items"):
        fitted.recommend([2], n_recommendations=N_ITEMS + 1, exclude_seen=False)


def test_an_unknown_candidate_is_named(fitted):
    with pytest.raises(ValueError, match="candidates: 2 of 3 items are unknown, the first is 77;"):
        fitted.recommend([2], candidates=[4, 77, 78])
    with pytest.raises(ValueError, match="empty"):
        fitted.recommend([2], candidates=[])


def test_recommend_changes_nothing(fitted):
    before = pickle.dumps(fitted)
    fitted.recommend([2, 999], n_recommendations=2, candidates=list(range(20)), exclude_seen=False)
    with pytest.raises(ValueError, match="eligible"):
        fitted.recommend([1], n_recommendations=2)
    assert pickle.dumps(fitted) == before


# --------------------------------------------------------------- what an estimator knows


def test_nothing_is_known_before_fit():
    model = TableRecommender()
    for name in ("user_ids_", "item_ids_", "n_users_", "n_items_"):
        assert not hasattr(model, name)
    with pytest.raises(NotFittedError):
        model.recommend([1])


def test_ids_are_known_in_the_order_they_were_met():
    model = TableRecommender().fit([["b", 3], ["a", 1], ["b", 2]])
    assert model.user_ids_.tolist() == ["b", "a"]
    assert model.item_ids_.tolist() == [3, 1, 2]
    model.partial_fit([["c", 1], ["a", 9]])
    assert model.user_ids_.tolist() == ["b", "a", "c"]
    assert model.item_ids_.tolist() == [3, 1, 2, 9]
    assert (model.n_users_, model.n_items_) == (3, 4)
    assert model.item_ids_[model._seen.items_of(1)].tolist() == [1, 9]


def test_feedback_once_given_is_always_given():
    X = [["b", 3], ["a", 1]]
    with pytest.raises(ValueError, match="y was given to fit and must be given"):
        TableRecommender().fit(X, [1, 2]).partial_fit(X)
    with pytest.raises(ValueError, match="y was not given to fit"):
        TableRecommender().fit(X).partial_fit(X, [1, 2])


def test_a_refused_fit_leaves_what_was_known():
    model = TableRecommender().fit(pd.DataFrame({"user_id": [1, 2], "item_id": [3, 4]}))
    before = pickle.dumps(model)
    for X, y in (([[1, np.nan]], None), ([[1, 2]], [np.inf]), ([[1]], None)):
        with pytest.raises(ValueError, match=r"rows are|feature\(s\)"):
            model.fit(X, y)
        assert pickle.dumps(model) == before
