"""Items without events: `add_items` registers them, and changes nothing else."""

import copy

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from sklearn.exceptions import NotFittedError

from sklearn_recft import (
    BayesianMFClassifier,
    BayesianMFRecommender,
    DecayBertRecommender,
    IncrementalDCNRecommender,
    RealtimeTransformerRecommender,
)
from sklearn_recft.persistence import save

RNG = np.random.default_rng(0)
X = pd.DataFrame(
    {
        "user_id": [f"u{k}" for k in RNG.integers(9, size=80)],
        "item_id": [f"i{k}" for k in RNG.integers(12, size=80)],
        "timestamp": np.arange(80.0),
    }
)
Y = RNG.integers(0, 2, 80)
FEATURES = pd.DataFrame({"item_id": [f"i{k}" for k in range(12)], "price": np.arange(12.0)})
NEW_FEATURES = pd.DataFrame({"item_id": ["new1", "new2"], "price": [3.0, 40.0]})
VECTORS = pd.DataFrame({"item_id": FEATURES["item_id"], "embedding": list(RNG.random((12, 4)))})
NEW_VECTORS = pd.DataFrame({"item_id": ["new1", "new2"], "embedding": list(RNG.random((2, 4)))})
OTHER_FEATURES = pd.DataFrame({"item_id": ["new1"], "price": [[1.0, 2.0]]})
OTHER_VECTORS = pd.DataFrame({"item_id": ["i1"], "embedding": [[9.0, 9, 9, 9]]})
WITH_FEATURES = FEATURES, NEW_FEATURES, OTHER_FEATURES
WITH_VECTORS = VECTORS, NEW_VECTORS, OTHER_VECTORS


@pytest.mark.parametrize(
    ("model", "tables"),
    [
        (BayesianMFRecommender(n_factors=2, max_epochs=2, random_state=0), WITH_FEATURES),
        (BayesianMFClassifier(n_factors=2, max_epochs=1, random_state=0), WITH_FEATURES),
        (
            IncrementalDCNRecommender(max_epochs=1, hidden=(4,), embedding_dim=2, random_state=0),
            WITH_FEATURES,
        ),
        (DecayBertRecommender(backbone=None, width=16, max_epochs=1, random_state=0), WITH_VECTORS),
        (RealtimeTransformerRecommender(width=16, max_epochs=1, random_state=0), WITH_VECTORS),
    ],
    ids=lambda value: type(value).__name__,
)
def test_new_items_can_be_recommended_and_nothing_else_changes(model, tables, tmp_path):
    items, new, wrong = tables
    with pytest.raises(NotFittedError):
        model.add_items(new)
    model.fit(X, Y, items=items)
    before, known = model.predict(X[:20]), model.item_ids_.tolist()
    digest = save(model, tmp_path / "model")
    for refused in (wrong, new.rename(columns={"item_id": "id"}), new[:0]):
        with pytest.raises((ValueError, TypeError)):
            model.add_items(refused)
        assert save(model, tmp_path / "model") == digest
    other = copy.deepcopy(model)
    assert model.add_items(new) is model
    assert_array_equal(model.predict(X[:20]), before)
    assert model.item_ids_.tolist() == [*known, "new1", "new2"]
    found, scores = model.recommend(["u1", "nobody"], n_recommendations=14, exclude_seen=False)
    assert {"new1", "new2"} <= set(found[0]) & set(found[1])
    assert np.isfinite(scores).all()
    assert save(other.add_items(new), tmp_path / "other") == save(model, tmp_path / "model")
    later = X[:5].assign(item_id="new1", timestamp=100.0)
    model.partial_fit(later, Y[:5])
    assert model.item_ids_.tolist() == [*known, "new1", "new2"]


TITLES = pd.DataFrame(
    {"item_id": [f"i{k}" for k in range(12)], "text": [f"tea of kind {k}" for k in range(12)]}
)
TITLE = pd.DataFrame({"item_id": ["new1"], "text": ["black coffee"]})


@pytest.fixture(
    scope="module",
    params=[
        DecayBertRecommender(backbone="scratch", width=16, max_epochs=1, random_state=0),
        DecayBertRecommender(backbone="scratch", freeze=1, width=16, max_epochs=1, random_state=0),
        RealtimeTransformerRecommender("scratch", width=16, max_epochs=1, random_state=0),
    ],
    ids=["decay", "decay-trained", "realtime"],
)
def titled(request):
    return request.param.fit(X, Y, items=TITLES)


def first_event():
    return X[:1].assign(item_id="new1", timestamp=100.0)


def answers(model):
    lists = model.recommend(X[:4], n_recommendations=13, exclude_seen=False)
    if getattr(model, "freeze", "all") != "all":
        return lists  # such a model takes no search words
    searched = X[:2].assign(query=["coffee", "kind"])
    return [*lists, *model.recommend(searched, n_recommendations=13, exclude_seen=False)]


def test_a_title_that_comes_after_the_first_event_is_read(titled, tmp_path):
    late, early, again = copy.deepcopy(titled), copy.deepcopy(titled), copy.deepcopy(titled)
    early.add_items(TITLE).observe(first_event(), Y[:1])
    late.observe(first_event(), Y[:1])
    untitled = answers(late)
    digest = save(late, tmp_path / "model")
    with pytest.raises(ValueError, match="item_id"):
        late.add_items(TITLE.rename(columns={"item_id": "id"}))
    assert save(late, tmp_path / "model") == digest
    late.add_items(TITLE)
    assert not np.array_equal(answers(late)[1], untitled[1])
    for found, expected in zip(answers(late), answers(early), strict=True):
        assert_array_equal(found, expected)
    # A title of a row is read, too; an item keeps the first one.
    again.observe(first_event(), Y[:1])
    again.observe(first_event().assign(text="black coffee", timestamp=101.0), Y[:1])
    late.observe(first_event().assign(timestamp=101.0), Y[:1])
    late.add_items(TITLE.assign(text="another title"))
    for found, expected in zip(answers(again), answers(late), strict=True):
        assert_array_equal(found, expected)


def test_a_title_that_is_refused_leaves_no_trace(titled, monkeypatch, tmp_path):
    model = copy.deepcopy(titled).observe(first_event(), Y[:1])
    before, digest = answers(model), save(model, tmp_path / "model")

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr("sklearn_recft.text.LexicalIndex.after", fail)
    with pytest.raises(OSError, match="disk full"):
        model.add_items(TITLE)
    monkeypatch.undo()
    for found, expected in zip(answers(model), before, strict=True):
        assert_array_equal(found, expected)
    assert save(model, tmp_path / "model") == digest
