"""Columns of the feature benchmark, on the first rows of MovieLens 100K."""

import os

import numpy as np
import pytest

from benchmarks.features import columns, ratings
from benchmarks.features.data import movielens

pytestmark = pytest.mark.skipif(
    not os.environ.get("SKLEARN_RECFT_DATA"), reason="needs SKLEARN_RECFT_DATA"
)


def test_columns_do_not_know_the_rows_that_follow():
    log, short = movielens("ml-100k", 600), movielens("ml-100k", 400)
    before = np.flatnonzero(short.X["timestamp"] < short.X["timestamp"].max())
    for make in (
        lambda log: columns.activity(log, log.liked),
        lambda log: columns.residual_means(log, log.liked, None),
    ):
        np.testing.assert_array_equal(make(log)[before], make(short)[before])


def test_means_at_a_split_are_those_of_the_past():
    log = movielens("ml-100k", 600)
    found = ratings.frozen_means(log, 300)
    user = log.X["user_id"][0]
    own = log.rating[:300][(log.X["user_id"][:300] == user).to_numpy()]
    assert found[0, :2].tolist() == pytest.approx([own.mean(), len(own)])
