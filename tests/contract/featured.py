"""A recommender that is given features of all its users and items, for every check."""

import re

import numpy as np
import pandas as pd

from sklearn_recft import BayesianMFRecommender
from sklearn_recft.interactions import check_interactions


def _number(value):
    """Return the first number in the text of an id; other ids are equal to each other."""
    found = re.search(r"\d+", str(value))
    return int(found[0]) if found else 0


def features_of(ids, name):
    """Return a table of features, which depend on the numbers in ids alone."""
    distinct = list(dict.fromkeys(ids.tolist()))
    numbers = [_number(value) for value in distinct]
    column = pd.Series(np.empty(len(distinct), object))
    for row, value in enumerate(distinct):  # an id may be a tuple
        column.iat[row] = value
    return pd.DataFrame(
        {
            name: column,
            "size": [np.nan if n % 11 == 0 else float(n % 7) for n in numbers],
            "parity": [["even", "odd", None][n % 2 if n % 5 else 2] for n in numbers],
            "tags": [[f"t{n % 3}", f"t{n % 4}"] for n in numbers],
        }
    )


class FeaturedRecommender(BayesianMFRecommender):
    """Pass features with all rows that are learned."""

    def _fit(self, X, y, sample_weight, call=None, **tables):
        return super()._fit(X, y, sample_weight, call, **self._tables(X, y, sample_weight))

    def _update(self, X, y, sample_weight=None, call=None, *, batch_id=None, **tables):
        given = self._tables(X, y, sample_weight)
        return super()._update(X, y, sample_weight, call, batch_id=batch_id, **given)

    def _tables(self, X, y, sample_weight):
        rows = check_interactions(X, y, sample_weight=sample_weight).learned()
        return {
            "users": features_of(rows.user_ids, "user_id"),
            "items": features_of(rows.item_ids, "item_id"),
        }
