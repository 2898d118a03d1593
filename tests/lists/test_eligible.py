"""Which items a query may list, against sets; what is no choice of items gives one clear error."""

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from sklearn_recft import PopularityRecommender, RealtimeTransformerRecommender
from sklearn_recft.lists import _eligible
from sklearn_recft.vocabulary import IdTypeWarning

N_USERS, N_ITEMS = 300, 700


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, N_USERS, 4000), rng.integers(0, N_ITEMS, 4000)
    every = np.column_stack([np.full(N_ITEMS, N_USERS), rng.permutation(N_ITEMS)])
    return PopularityRecommender().fit(np.vstack([every, np.column_stack([users, items])]))


def pairs(rng, n, n_users=N_USERS + 20):
    """Return a table of users, some unknown, and items, some pairs twice."""
    return pd.DataFrame(
        {"user_id": rng.integers(0, n_users, n), "item_id": rng.integers(0, N_ITEMS, n)}
    )


def slow_lists(model, users, k, candidates, exclude, exclude_seen):
    """Return the lists by one sorted set per user."""
    catalogue = model.item_ids_.tolist()
    everything, _ = model.recommend([-1], n_recommendations=N_ITEMS, exclude_seen=False)
    ranked = everything[0].tolist()
    lists = []
    for user in users:
        allowed = set(catalogue if candidates is None else candidates)
        if isinstance(candidates, pd.DataFrame):
            allowed = set(candidates["item_id"][candidates["user_id"] == user])
        if isinstance(exclude, pd.DataFrame):
            allowed -= set(exclude["item_id"][exclude["user_id"] == user])
        elif exclude is not None:
            allowed -= set(exclude)
        if exclude_seen and user in model.user_ids_:
            code = model.user_ids_.tolist().index(user)
            allowed -= set(model.item_ids_[model._model.seen.items_of(code)].tolist())
        best = [item for item in ranked if item in allowed][:k]
        lists.append(best + [None] * (k - len(best)))
    return lists


@pytest.mark.parametrize("few", [1, 3, 32])
@pytest.mark.parametrize("block", [7, 16_384])
@pytest.mark.parametrize("n_pairs", [0, 1000, 60_000])
def test_lists_are_those_of_sets(monkeypatch, model, few, block, n_pairs):
    monkeypatch.setattr(_eligible, "_QUERY_BLOCK", block)
    monkeypatch.setattr(_eligible, "_FEW_QUERIES", few)
    monkeypatch.setattr(_eligible, "_PAIRS_AT_ONCE", 900)
    rng = np.random.default_rng(n_pairs)
    users = [*range(0, N_USERS + 10, 13), 13, "nobody"]
    table, ids = pairs(rng, n_pairs), rng.choice(N_ITEMS, 200).tolist()
    for candidates in (None, ids, table):
        for exclude in (None, rng.choice(N_ITEMS, 400).tolist(), pairs(rng, 30_000)):
            for seen in (True, False):
                options = {"candidates": candidates, "exclude": exclude, "exclude_seen": seen}
                items, _ = model.recommend(users, n_recommendations=9, on_missing="pad", **options)
                assert items.tolist() == slow_lists(model, users, 9, *options.values())


@pytest.mark.parametrize("kind", [pd.DataFrame, pl.DataFrame, pa.table])
def test_a_table_of_any_library_is_read_by_name(model, kind):
    given = {"when": [1, 2, 3], "item_id": [4, 9, 2], "user_id": [5, 5, 6]}
    items, _ = model.recommend(
        [6, 5], n_recommendations=2, candidates=kind(given), exclude_seen=False, on_missing="pad"
    )
    assert [set(row) for row in items.tolist()] == [{2, None}, {4, 9}]
    items, _ = model.recommend(
        [6, 5], n_recommendations=N_ITEMS, exclude=kind(given), exclude_seen=False,
        on_missing="pad",
    )  # fmt: skip
    assert [set(range(N_ITEMS)) - set(row) for row in items.tolist()] == [{2}, {4, 9}]


def test_each_query_of_a_user_has_the_candidates_of_the_user(model):
    table = pd.DataFrame({"user_id": [1, 1], "item_id": [3, 4]})
    queries = np.array([[1, 2e9], [1, 3e9]])
    items, _ = model.recommend(queries, n_recommendations=2, candidates=table, exclude_seen=False)
    assert [set(row) for row in items.tolist()] == [{3, 4}] * 2


def test_empty_choices(model):
    nothing = pd.DataFrame({"user_id": [], "item_id": []})
    expected = model.recommend([7], n_recommendations=3)[0].tolist()
    for exclude in ([], nothing):
        assert model.recommend([7], n_recommendations=3, exclude=exclude)[0].tolist() == expected
    for candidates, message in (([], "candidates is empty"), (nothing, "no rows for 1 of 1")):
        with pytest.raises(ValueError, match=message):
            model.recommend([7], n_recommendations=3, candidates=candidates)
        items, scores = model.recommend(
            [7], n_recommendations=3, candidates=candidates, on_missing="pad"
        )
        assert items.tolist() == [[None] * 3]
        assert scores.tolist() == [[-np.inf] * 3]


def test_tuples_are_ids_and_are_padded():
    X = np.empty((3, 2), object)
    for row, item in enumerate([("a", 1), ("a", 2), ("b", 1)]):
        X[row] = row, item
    model = PopularityRecommender().fit(X)
    items, _ = model.recommend(
        [0], n_recommendations=3, candidates=[("a", 2), ("b", 1)], on_missing="pad"
    )
    assert items.tolist() == [[("a", 2), ("b", 1), None]]
    assert model.recommend([9], n_recommendations=2, exclude=[("b", 1)])[0].tolist() == [
        [("a", 1), ("a", 2)]
    ]


PAIRS = {"user_id": [1], "item_id": [2]}
WRONG = {
    "another column": (pd.DataFrame({"user": [1], "item_id": [2]}), "no column user_id: found"),
    "no names": (np.array([[1, 2], [1, 3]]), "a 2-d array: pass item ids"),
    "rows": ([[1, 2], [1, 3]], "a list of rows"),
    "a dict": ({1: [2, 3]}, "a dict"),
    "records": ([{"user_id": 1, "item_id": 2}], "a list of rows"),
    "names of numpy": (pd.DataFrame(PAIRS).to_records(index=False), "a structured array"),
    "not read yet": (pl.LazyFrame(PAIRS), "LazyFrame, not read yet"),
    "a missing user": (
        pd.DataFrame({"user_id": [1, None], "item_id": [2, 3]}),
        "{name}: user_id: 1 of 2 rows are missing",
    ),
    "a missing item": ([2, None], "{name}: 1 of 2 rows are missing"),
    "a letter": ("tea", r"use \['tea'\]"),
    "a number": (3, r"use \[3\]"),
}


@pytest.mark.parametrize("name", ["candidates", "exclude"])
@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_choice_of_items_is_refused(model, case, name):
    given, message = WRONG[case]
    with pytest.raises(ValueError, match=message.format(name=name)):
        model.recommend([1], n_recommendations=1, **{name: given})


def test_a_deny_list_of_ids_of_another_type_is_warned_of(model):
    with pytest.warns(IdTypeWarning, match="exclude: item_id: none of 1 rows is known") as caught:
        model.recommend([1], n_recommendations=1, exclude=["7"])
    assert caught[0].filename == __file__
    table = pd.DataFrame({"user_id": ["1"], "item_id": ["7"]})
    with pytest.warns(IdTypeWarning, match="candidates: user_id: none of 1 rows") as caught:
        model.recommend([1], n_recommendations=1, candidates=table, on_missing="pad")
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.recommend([1], n_recommendations=1, exclude=[10**9])


def test_memory_of_candidates_by_user_follows_the_pairs(model):
    """No block lays out more than its queries' own candidates."""
    table = pairs(np.random.default_rng(0), 2000, N_USERS)
    users = np.arange(N_USERS)
    choice = _eligible.Choice.of(table, "candidates")
    eligible = _eligible.Eligibility(model._model, users, choice, None, False, False)
    offer = eligible.block(slice(0, 40))
    own = table[table["user_id"] < 40].drop_duplicates()
    assert len(offer.places) == len(own)
    assert len(offer.columns) == own["item_id"].nunique()


def test_a_frame_needs_pandas_or_a_frame(monkeypatch, model):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install pandas, or pass a frame"):
        model.recommend([1], n_recommendations=1, as_frame=True)
    table = model.recommend(pl.DataFrame({"user_id": [1]}), n_recommendations=1, as_frame=True)
    assert type(table) is pl.DataFrame


def test_ids_that_a_library_cannot_hold_are_an_error(model):
    mixed = pl.Series(values=[1, "one"], dtype=pl.Object)
    with pytest.raises(ValueError, match=r"user_id: .* pass as_frame=False"):
        model.recommend(mixed, n_recommendations=1, as_frame=True)


def test_candidates_by_user_of_a_stateless_query():
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.integers(0, 9, 200), rng.integers(0, 12, 200), np.arange(200)])
    model = RealtimeTransformerRecommender(
        width=8, n_layers=1, max_epochs=1, random_state=0, net_params={"batch_size": 64}
    ).fit(X)
    history = pd.DataFrame({"user_id": [77, 77], "item_id": [3, 4], "timestamp": [300, 301]})
    table = pd.DataFrame({"user_id": [77] * 4, "item_id": [3, 5, 7, 8]})
    items, _ = model.recommend(
        [77], n_recommendations=4, candidates=table, history=history, exclude=[8],
        on_missing="pad",
    )  # fmt: skip
    assert set(items[0].tolist()) == {5, 7, None}
    frame = model.recommend(
        [77], n_recommendations=2, candidates=table, history=history, exclude=[8], as_frame=True
    )
    assert frame["rank"].tolist() == [1, 2]
    assert set(frame["item_id"]) == {5, 7}


def test_a_prefix_of_scikit_learn_is_no_part_of_a_name(model):
    plain = pd.DataFrame({"user_id": [0, 0, 1], "item_id": [3, 4, 3]})
    prefixed = plain.add_prefix("remainder__")
    for name in ("candidates", "exclude"):
        options = {"n_recommendations": 2, "exclude_seen": False, "on_missing": "pad"}
        items, _ = model.recommend([0, 1], **{name: prefixed}, **options)
        assert items.tolist() == model.recommend([0, 1], **{name: plain}, **options)[0].tolist()
