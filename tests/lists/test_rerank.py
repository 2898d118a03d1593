"""Re-ranked lists against the definitions, item by item."""

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array

from sklearn_recft.lists import _rerank, cap_per_category, rerank_mmr

RNG = np.random.default_rng(0)


def cosine(a, b):
    norm = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b) / norm if norm else 0.0


def slow_mmr(items, scores, vectors, n, trade_off):
    """Return one list as Carbonell and Goldstein define it."""
    own = [score for score in scores if score > -np.inf]
    low, span = min(own, default=0.0), max(own, default=0.0) - min(own, default=0.0)
    left, chosen = list(range(len(own))), []
    zero = np.zeros(len(next(iter(vectors.values()))))
    while left and len(chosen) < n:

        def marginal(place):
            relevance = (scores[place] - low) / span if span else 0.0
            mine = vectors.get(items[place], zero)
            near = [cosine(mine, vectors.get(items[one], zero)) for one in chosen]
            return trade_off * relevance - (1 - trade_off) * max(near, default=0.0)

        best = max(left, key=marginal)
        left.remove(best)
        chosen.append(best)
    return [items[place] for place in chosen] + [None] * (n - len(chosen))


def some_lists(n_lists=13, width=20, n_items=40):
    items = np.stack([RNG.permutation(n_items)[:width] for _ in range(n_lists)]).astype(object)
    scores = -np.sort(-RNG.normal(size=items.shape), axis=1)
    sizes = RNG.integers(0, width + 1, n_lists)
    sizes[0] = width
    padded = np.arange(width) >= sizes[:, None]
    items[padded], scores[padded] = None, -np.inf
    return items, scores


@pytest.mark.parametrize("at_once", [1, 500, 2**22])
@pytest.mark.parametrize("trade_off", [0, 0.3, 0.8, 1])
@pytest.mark.parametrize("sparse", [False, True])
def test_mmr_is_its_definition(monkeypatch, at_once, trade_off, sparse):
    monkeypatch.setattr(_rerank, "_AT_ONCE", at_once)
    items, scores = some_lists()
    table = RNG.normal(size=(35, 3))  # five items have no vector, one has zeros
    table[4] = 0
    vectors = dict(enumerate(table))
    given = (np.arange(35), csr_array(table)) if sparse else vectors
    found, its = rerank_mmr(items, scores, given, n_recommendations=8, trade_off=trade_off)
    expected = [
        slow_mmr(row, own, vectors, 8, trade_off) for row, own in zip(items, scores, strict=True)
    ]
    assert found.tolist() == expected
    score_of = [dict(zip(row, own, strict=True)) for row, own in zip(items, scores, strict=True)]
    assert its.tolist() == [
        [-np.inf if item is None else mine[item] for item in row]
        for mine, row in zip(score_of, found, strict=True)
    ]


def test_mmr_of_equal_scores_starts_with_the_first_item():
    vectors = {"a": [1.0, 0], "b": [1.0, 0], "c": [0, 1.0]}
    found, _ = rerank_mmr([["a", "b", "c"]], [[2.0, 2, 2]], vectors, n_recommendations=3)
    assert found.tolist() == [["a", "c", "b"]]


def test_integer_ids_stay_integers():
    items, scores = np.arange(6).reshape(2, 3), np.array([[3.0, 2, 1]] * 2)
    found, _ = rerank_mmr(items, scores, {0: [1.0]}, n_recommendations=2)
    assert found.dtype == np.int64


def slow_cap(items, categories, cap, n):
    """Return one list, read from its first item on."""
    counts, kept = {}, []
    for item in items:
        its = set(categories.get(item, ()))
        if item is not None and all(counts.get(one, 0) < cap for one in its):
            kept.append(item)
            for one in its:
                counts[one] = counts.get(one, 0) + 1
    return (kept + [None] * n)[:n]


@pytest.mark.parametrize("at_once", [1, 30, 2**22])
@pytest.mark.parametrize("cap", [1, 2, 20])
@pytest.mark.parametrize("several", [False, True])
def test_caps_are_those_of_a_loop(monkeypatch, at_once, cap, several):
    monkeypatch.setattr(_rerank, "_AT_ONCE", at_once)
    items, scores = some_lists()
    categories = {
        item: RNG.choice(["x", "y", "z", "w"], RNG.integers(0, 4) if several else 1).tolist()
        for item in range(36)
    }
    given = categories if several else {item: own[0] for item, own in categories.items()}
    found, its = cap_per_category(items, scores, given, max_per_category=cap, n_recommendations=9)
    assert found.dtype == object
    assert found.tolist() == [slow_cap(row, categories, cap, 9) for row in items]
    assert (np.isneginf(its) == (found == None)).all()  # noqa: E711
    for row, own, new, theirs in zip(items, scores, found, its, strict=True):
        score_of = dict(zip(row, own, strict=True))
        assert [score_of[i] for i in new if i is not None] == theirs[new != None].tolist()  # noqa: E711


def test_missing_categories_have_no_cap_and_tuples_are_one_category():
    frame = pd.DataFrame({"item_id": [1, 2, 3, 4], "kind": [None, np.nan, ("a", 1), ("a", 1)]})
    found, _ = cap_per_category(
        [[1, 2, 3, 4]], [[4.0, 3, 2, 1]], (frame["item_id"], frame["kind"]),
        max_per_category=1, n_recommendations=4,
    )  # fmt: skip
    assert found.tolist() == [[1, 2, 3, None]]


LISTS = [["a", "b"]], [[2.0, 1.0]]
VECTORS = {"a": [1.0, 0], "b": [0, 1.0]}


@pytest.mark.parametrize(
    ("items", "scores", "message"),
    [
        (["a", "b"], [2.0, 1.0], "2-d arrays of one shape"),
        ([["a", "b"]], [[2.0]], "2-d arrays of one shape"),
        ([["a", "b"], ["a"]], [[2.0, 1], [2, 1]], "list 1 has 1 items, the first has 2"),
        ([["a", "b"]], [[np.nan, 1.0]], "1 of 2 scores are NaN or inf"),
    ],
)
def test_what_is_no_list_is_refused(items, scores, message):
    for rerank in (
        lambda: rerank_mmr(items, scores, VECTORS, n_recommendations=1),
        lambda: cap_per_category(items, scores, {}, max_per_category=1, n_recommendations=1),
    ):
        with pytest.raises(ValueError, match=message):
            rerank()


def test_options_without_a_meaning_are_refused():
    for wrong in (-0.1, 1.1, "much"):
        with pytest.raises((ValueError, TypeError), match="trade_off"):
            rerank_mmr(*LISTS, VECTORS, n_recommendations=1, trade_off=wrong)
    with pytest.raises(ValueError, match="n_recommendations=3, but the lists have 2 items"):
        rerank_mmr(*LISTS, VECTORS, n_recommendations=3)
    with pytest.raises(ValueError, match="n_recommendations == 0"):
        cap_per_category(*LISTS, {}, max_per_category=1, n_recommendations=0)
    with pytest.raises(ValueError, match="max_per_category == 0"):
        cap_per_category(*LISTS, {}, max_per_category=0, n_recommendations=1)
    with pytest.raises(TypeError, match="mapping from item id"):
        rerank_mmr(*LISTS, 3, n_recommendations=1)
    flags = ["a", "b"], np.eye(2)
    with pytest.raises(ValueError, match="got a table"):
        cap_per_category(*LISTS, flags, max_per_category=1, n_recommendations=1)
    with pytest.raises(TypeError, match="must be hashable"):
        cap_per_category(*LISTS, {"a": [{}]}, max_per_category=1, n_recommendations=1)
