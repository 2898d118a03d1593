"""Models that read texts: where the text of an item comes from."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from sklearn_recft import DecayBertRecommender, RealtimeTransformerRecommender

SMALL = {"width": 8, "max_epochs": 1, "random_state": 0}
WORDS = ("green", "black", "sweet", "salty")
TITLES = np.array([f"{a} {b}" for a in WORDS for b in ("tea", "milk", "rice")])


@pytest.mark.parametrize(
    "estimator",
    [
        RealtimeTransformerRecommender(backbone="scratch", n_layers=1, **SMALL),
        DecayBertRecommender("scratch", **SMALL),
    ],
)
def test_titles_are_read_from_a_table_as_from_rows(estimator):
    """Also where each has blank texts, which do not hide those of the other."""
    rng = np.random.default_rng(0)
    item = np.r_[np.arange(12), rng.integers(0, 12, 48)]
    user, time = rng.integers(0, 5, 60), 86_400.0 * np.arange(60)
    events = pd.DataFrame({"user_id": user, "item_id": item, "timestamp": time})
    titles = pd.DataFrame({"item_id": np.arange(12), "text": TITLES})
    in_rows = events.assign(text=TITLES[item])
    partly = in_rows.assign(text=in_rows["text"].where(np.arange(60) >= 12, " "))
    partly.loc[partly["item_id"] % 2 == 0, "text"] = None
    rest = titles.assign(text=titles["text"].where(titles["item_id"] % 2 == 0, ""))
    query = pd.DataFrame({"user_id": np.arange(5), "timestamp": 5.2e6, "query": "iced milk"})
    every = {"n_recommendations": 12, "exclude_seen": False}
    items, scores = clone(estimator).fit(in_rows).recommend(query, **every)
    assert len(np.unique(scores[0].round(4))) > 6
    for rows, table in ((events, titles), (partly, rest)):
        found = clone(estimator).fit(rows, items=table).recommend(query, **every)
        assert_array_equal(found[0], items)
        assert_allclose(found[1], scores, atol=1e-5)
