"""Checks of the verbs that some recommenders have: `explain`, `similar_items`, `history=`."""

import inspect

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_recft.base import recommender_tags
from tests.contract.helpers import (
    PAIRS,
    fitted,
    for_target,
    lists_what_it_predicts,
    make_log,
    memory,
    only_ranks,
    predict,
)


def check_explanations_add_up(estimator):
    """The parts add up to the score of `recommend`; past items are the user's own."""
    if not hasattr(estimator, "explain"):
        return
    model, (X, _), rows = fitted(estimator), make_log(), PAIRS[::7]
    before = memory(model)
    found = model.explain(rows)
    n, longest = found.item_ids.shape
    assert n == len(rows)
    assert found.contribution.shape == (n, longest)
    assert found.contribution.dtype == found.score.dtype == np.float64
    assert_allclose(found.contribution.sum(1) + sum(found.terms.values()), found.score, atol=1e-9)

    score = model._model.inverse_link(found.score)
    if lists_what_it_predicts(estimator):
        assert_allclose(score, predict(model, rows), rtol=1e-5, atol=1e-5)
    for user in np.unique(rows[:, 0])[::4]:
        mine = (rows[:, 0] == user) & np.isin(rows[:, 1], model.item_ids_)
        query = [[user, PAIRS[0, 2]]]
        items, its = model.recommend(query, n_recommendations=model.n_items_, exclude_seen=False)
        its_score = dict(zip(items[0], its[0], strict=True))
        expected = [its_score[item] for item in rows[mine, 1]]
        assert_allclose(score[mine], expected, rtol=1e-5, atol=1e-5)

    there = found.item_ids != np.array(None)
    for row, (user, item) in enumerate(rows[:, :2]):
        past = found.item_ids[row, there[row]].tolist()
        assert found.item_ids[row].tolist() == [*past, *[None] * (longest - len(past))]
        assert set(past) <= set(X[X[:, 0] == user, 1])
        assert len(set(past)) == len(past)
        assert (np.diff(found.contribution[row, : len(past)]) <= 0).all()
        if "count" in found:
            own = found.item_ids[row] == item
            assert_array_equal(found["count"][row] > 0, own)
            assert_array_equal(np.isfinite(found.age[row]), own)
    assert (found.contribution[there] != 0).all()
    assert not found.contribution[~there].any()
    one = model.explain(rows[5:6])
    assert one.item_ids[0].tolist() == found.item_ids[5, : one.item_ids.shape[1]].tolist()
    assert_allclose(one.score, found.score[5:6], atol=1e-6)
    assert memory(model) == before


def check_similar_items(estimator):
    """Every other item once, best first, in any batch; short lists as in `recommend`."""
    if not hasattr(estimator, "similar_items"):
        return
    model = fitted(estimator)
    before, ids = memory(model), model.item_ids_
    n = len(ids) - 1
    items, scores = model.similar_items(ids, n)
    assert items.shape == scores.shape == (len(ids), n)
    assert scores.dtype == np.float64
    for item, row in zip(ids, items, strict=True):
        assert set(row) == set(ids) - {item}
    assert (np.diff(scores) <= 0).all()
    assert len(np.unique(scores)) > n
    for place in (0, 7):
        one = model.similar_items([ids[place]], n_items=3)
        assert_allclose(one[1], scores[[place], :3], rtol=1e-5, atol=1e-6)
    assert_array_equal(model.similar_items(ids[[7, 7]], 3)[0], items[[7, 7], :3])

    padded, its = model.similar_items(ids[:2], n + 2, on_missing="pad")
    assert padded.tolist() == [[*row, None, None] for row in items[:2]]
    assert_array_equal(its[:, n:], np.full((2, 2), -np.inf))
    for kind in (pd.Series, pl.Series):
        table = model.similar_items(kind(ids[:2].tolist()), 2, as_frame=True)
        assert list(table.columns) == ["item_id", "rank", "similar_id", "score"]
        assert table["item_id"].to_list() == ids[[0, 0, 1, 1]].tolist()
        assert table["similar_id"].to_list() == items[:2, :2].ravel().tolist()
        assert table["rank"].to_list() == [1, 2, 1, 2]

    with pytest.raises(ValueError, match=r"item_ids: 1 of 2 items are unknown, the first is 777;"):
        model.similar_items([ids[0], 777])
    with pytest.raises(ValueError, match=rf"n_items={n + 1}, but each item has only {n} others"):
        model.similar_items(ids[:1], n + 1)
    with pytest.raises(ValueError, match="item_ids is empty"):
        model.similar_items([])
    for wrong in (0, 2.5, True, None):
        with pytest.raises((ValueError, TypeError), match="n_items"):
            model.similar_items(ids[:1], wrong)
    for wrong in ({"on_missing": "drop"}, {"as_frame": 1}):
        with pytest.raises((ValueError, TypeError), match=next(iter(wrong))):
            model.similar_items(ids[:1], **wrong)
    assert memory(model) == before


def check_a_given_history(estimator):
    """A history stands in for the stored ones: it is personal, and each user's own."""
    if "history" not in inspect.signature(estimator.recommend).parameters:
        return
    model, (X, y) = fitted(estimator), make_log()
    before = memory(model)
    users = np.unique(X[:, 0])[:6]
    rows = np.isin(X[:, 0], users)
    events, y = X[rows] + np.array([10**6, 0, 10**7]), np.maximum(for_target(model, y[rows]), 0.2)
    asked = users + 10**6
    queries = np.column_stack([asked, np.full(6, 2_000_000_000)])
    every = {"n_recommendations": model.n_items_, "exclude_seen": False}
    if estimator.get_params().get("loss", "softmax") != "softmax":
        with pytest.raises(ValueError, match=r"history: with loss=.*loss='softmax'"):
            model.recommend(asked, history=(events, y))
        return
    items, scores = model.recommend(queries, history=(events, y), **every)
    assert (items != items[0]).any()
    for row, user in enumerate(asked):
        own = events[:, 0] == user
        alone = model.recommend(queries[[row]], history=(events[own], y[own]), **every)
        assert_allclose(alone[1][0], scores[row], rtol=1e-4, atol=1e-5)
    unseen, _ = model.recommend(asked, history=(events, y), n_recommendations=5)
    for user, row in zip(asked, unseen, strict=True):
        assert not set(row) & set(events[events[:, 0] == user, 1])

    unknown = model.recommend([[-1, queries[0, 1]]], **every)
    strange = np.column_stack([events[:, 0], np.full(len(events), 777), events[:, 2]])
    for given in ((strange, y), (events, y)):
        # Who has no known event in it is an unknown user, as is a user that fit knows.
        who = [[asked[0] if given[0] is strange else users[0], queries[0, 1]]]
        assert_allclose(model.recommend(who, history=given, **every)[1], unknown[1], rtol=1e-5)
    with pytest.raises(ValueError, match=r"history: fit was given feedback"):
        model.recommend(asked, history=events)
    decays = estimator.get_params()
    if decays.get("half_life") and only_ranks(estimator) and not hasattr(model, "module_"):
        with pytest.raises(ValueError, match="history: half_life needs the column `timestamp`"):
            model.recommend(asked, history=(events[:, :2], y))
    assert recommender_tags(estimator).personal
    assert memory(model) == before


def recommender_reason_checks():
    """Every check of this file, in order."""
    return [f for name, f in globals().items() if name.startswith("check_")]
