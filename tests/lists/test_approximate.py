"""Lists of an approximate search: near the exact ones, and at once with what has changed."""

import pickle
import sys

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sklearn_recft import IncrementalMFRecommender, PopularityRecommender, ranking
from sklearn_recft.lists import ApproximateLists


@pytest.fixture
def model(monkeypatch):
    monkeypatch.setattr(ranking, "_SCANNED", 1)
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.integers(0, 30, 2000), rng.integers(0, 400, 2000)])
    model = IncrementalMFRecommender(n_factors=4, max_epochs=2, random_state=0)
    return model.fit(X, rng.integers(1, 6, 2000))


def test_a_missing_package_is_named(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match=r"sklearn-recft\[ann\]"):
        ApproximateLists(model)


def test_all_groups_give_the_exact_lists(model):
    pytest.importorskip("faiss")
    lists, users = ApproximateLists(model, n_probe=1000), model.user_ids_[:5]
    known = model.item_ids_
    for options in ({}, {"candidates": known[::2]}, {"exclude": known[::2], "exclude_seen": False}):
        found, exact = lists.recommend(users, **options), model.recommend(users, **options)
        assert_array_equal(found[0], exact[0])
        np.testing.assert_allclose(found[1], exact[1], rtol=1e-6)
    few = pickle.loads(pickle.dumps(ApproximateLists(model, n_probe=2))).recommend(users)[0]
    hits = [
        len(set(a) & set(b)) for a, b in zip(few.tolist(), model.recommend(users)[0], strict=True)
    ]
    assert 0 < np.mean(hits) < 10  # two of forty groups


def test_new_and_changed_items_are_found_at_once(model):
    pytest.importorskip("faiss")
    lists = ApproximateLists(model, n_probe=1)
    users = model.user_ids_[:4]
    lists.recommend(users)
    likes = np.column_stack([np.arange(6), np.full(6, 999)])
    model.partial_fit(likes, np.full(6, 5.0))
    index = lists._index._built
    fans = model.user_ids_[:12]
    exact, found = (m.recommend(fans, n_recommendations=3)[0] for m in (model, lists))
    assert lists._index._built is index  # was not built again
    assert 999 in exact
    assert ((exact == 999).any(axis=1) <= (found == 999).any(axis=1)).all()


def test_a_refit_and_an_exact_model(model):
    pytest.importorskip("faiss")
    lists = ApproximateLists(model, n_probe=1000)
    lists.recommend([0])
    model.forget_items(model.item_ids_[:5])
    assert_array_equal(lists.recommend([0])[0], model.recommend([0])[0])
    popular = PopularityRecommender().fit([["ann", "tea"], ["bob", "rice"]])
    items, _ = ApproximateLists(popular).recommend(["ann"], n_recommendations=1)
    assert items.tolist() == [["rice"]]
    with pytest.raises(ValueError, match="n_probe"):
        ApproximateLists(model, n_probe=0)
