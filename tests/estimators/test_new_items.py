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
