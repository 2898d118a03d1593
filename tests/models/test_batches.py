"""Which batches were learned: few bytes, in any model, whatever becomes of it."""

import copy
import datetime
import pickle

import numpy as np
import pytest
from sklearn.base import clone

from sklearn_recft import ItemKNNRecommender, PopularityRecommender
from sklearn_recft.models import MAX_BATCHES, batch_code
from sklearn_recft.models._batches import joined_batches

MONDAY, TUESDAY = [["ann", "tea"], ["bob", "tea"]], [["bob", "rye"]]
known = pytest.warns(UserWarning, match="was learned before")


def test_an_id_is_a_string_or_an_integer():
    codes = [batch_code(name) for name in ("monday", "tuesday", "", 7, -7, "007", "\ud800")]
    assert len(set(codes)) == len(codes)
    assert all(0 <= code < 2**64 for code in codes)
    assert batch_code(7) == batch_code("7") == batch_code(np.int64(7))
    for wrong in (1.0, True, b"monday", datetime.date(2024, 5, 1), ("a", 1)):
        with pytest.raises(TypeError, match=r"a string or an integer, got a .*pass str\(batch_id"):
            batch_code(wrong)


def test_the_newest_thousand_are_kept():
    batches = np.empty(0, np.uint64)
    for number in range(MAX_BATCHES + 5):
        batches = joined_batches(batches, np.array([number], np.uint64))
    assert batches.tolist() == list(range(5, MAX_BATCHES + 5))
    assert joined_batches(batches, batches[:2])[-2:].tolist() == [5, 6]
    assert joined_batches(batches, batches[:2]).dtype == np.uint64


def test_a_first_call_is_remembered_and_fit_starts_anew():
    model = PopularityRecommender().partial_fit(MONDAY, batch_id="monday")
    with known:
        model.partial_fit(MONDAY, batch_id="monday")
    assert model.popularity_.tolist() == [2]
    assert model.partial_fit(MONDAY).partial_fit(TUESDAY, batch_id=2).popularity_.tolist() == [4, 1]
    assert model.fit(MONDAY).partial_fit(MONDAY, batch_id="monday").popularity_.tolist() == [4]


def test_the_rows_of_a_known_batch_are_not_even_read():
    model = PopularityRecommender().partial_fit(MONDAY, batch_id="monday")
    with known:
        assert model.partial_fit(None, batch_id="monday") is model


def test_what_a_model_becomes_remembers():
    model = ItemKNNRecommender().partial_fit(MONDAY, batch_id="monday")
    model.partial_fit(TUESDAY, batch_id="tuesday").forget(["ann"])
    for other in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        for name in ("monday", "tuesday"):
            with known:
                other.partial_fit(TUESDAY, batch_id=name)
    assert clone(model).partial_fit(MONDAY, batch_id="monday").n_users_ == 2


def test_a_state_remembers():
    model = PopularityRecommender().partial_fit(MONDAY, batch_id="monday")
    other = PopularityRecommender().fit(TUESDAY)
    other._model.load_state(model._model.state())
    with known:
        other.partial_fit(MONDAY, batch_id="monday")


def test_a_merged_model_remembers_the_batches_of_both():
    one, other = (PopularityRecommender().partial_fit(MONDAY, batch_id=name) for name in "ab")
    one._model.merge(other._model)
    assert one._model.batches.tolist() == [batch_code("a"), batch_code("b")]


def test_a_call_that_fails_while_it_learns_may_be_repeated(monkeypatch):
    model = PopularityRecommender().fit(MONDAY)
    with monkeypatch.context() as patched:
        patched.setattr(type(model._model), "_is_finite", lambda self, events: False)
        with pytest.raises(ValueError, match="diverged"):
            model.partial_fit(TUESDAY, batch_id="tuesday")
    assert model.partial_fit(TUESDAY, batch_id="tuesday").popularity_.tolist() == [2, 1]
