"""Vocabulary against a dictionary, whatever the ids are and however they arrive."""

import copy
import pickle
import warnings
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from uuid import UUID

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sklearn_recft.columns import to_ids
from sklearn_recft.models._state import from_plain, to_plain
from sklearn_recft.vocabulary import IdTypeWarning, Vocabulary, warn_of_other_types

LEAST, GREATEST = -(2**63), 2**63 - 1

dense = st.integers(0, 40)
negative = st.integers(-30, 30)
edges = st.one_of(st.integers(LEAST, LEAST + 9000), st.integers(GREATEST - 9000, GREATEST))
sparse = st.one_of(dense, st.integers(-(10**12), 10**12), edges)
beyond = st.one_of(dense, st.integers(2**63, 2**70), st.integers(-(2**70), LEAST - 1))
strings = st.text("ab7 ", max_size=3)
tuples = st.tuples(st.integers(0, 3), st.text("ab", max_size=1))
floats = st.floats(-20, 20).map(lambda value: round(value * 2) / 2)
mixed = st.one_of(dense, strings, tuples, floats, st.booleans(), st.none(), beyond)
kinds = st.sampled_from([dense, negative, sparse, edges, beyond, strings, tuples, floats, mixed])
batches = kinds.flatmap(lambda kind: st.lists(st.lists(kind, max_size=12), max_size=6))


def grow(known, ids):
    """The reference: a dictionary in order of insertion."""
    return [known.setdefault(value, len(known)) for value in ids]


@given(batches)
@example([[LEAST + 9000 - j for j in range(4500)], [LEAST + 100]])
@example([list(range(5000)), [-1], [5001, -2000], [10**15]])
def test_codes_are_those_of_a_dictionary(batches):
    vocabulary, known = Vocabulary(), {}
    for ids in batches:
        before = [known.get(value, -1) for value in ids]
        assert vocabulary.encode(ids).tolist() == before
        assert len(vocabulary) == len(known), "encode must add nothing"
        codes = vocabulary.extend(ids)
        assert codes.dtype == np.int64
        assert codes.tolist() == grow(known, ids)
        assert len(vocabulary) == len(known)
        assert vocabulary.ids.tolist() == list(known)
        # What was known before keeps its code, new ids or not.
        assert vocabulary.encode(list(known)).tolist() == list(known.values())
        assert vocabulary.decode(codes).tolist() == [list(known)[code] for code in codes]


@given(batches, st.data())
def test_truncate_takes_growth_back(batches, data):
    vocabulary, known = Vocabulary(), {}
    for ids in batches[:-1]:
        vocabulary.extend(ids)
        grow(known, ids)
    twin, size = copy.deepcopy(vocabulary), len(vocabulary)
    gone = data.draw(st.lists(mixed, max_size=8)) + (batches[-1] if batches else [])
    vocabulary.extend(gone)
    vocabulary.restore(size)
    assert len(vocabulary) == size
    assert vocabulary.ids.dtype == twin.ids.dtype
    assert vocabulary.ids.tolist() == twin.ids.tolist() == list(known)
    assert vocabulary.encode(gone).tolist() == [known.get(value, -1) for value in gone]
    # It grows from there as if nothing had been.
    assert vocabulary.extend(gone).tolist() == twin.extend(gone).tolist() == grow(known, gone)


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))])
@given(batches)
@settings(deadline=None, max_examples=30)
def test_a_copy_knows_the_same_and_grows_alone(clone, batches):
    vocabulary = Vocabulary()
    for ids in batches:
        vocabulary.extend(ids)
    twin = clone(vocabulary)
    assert twin.ids.tolist() == vocabulary.ids.tolist()
    assert twin.ids.dtype == vocabulary.ids.dtype
    size = len(vocabulary)
    assert twin.extend(["new to both"]).tolist() == [size]
    assert len(vocabulary) == size
    assert vocabulary.encode(["new to both"]).tolist() == [-1]


@pytest.mark.parametrize(
    "dtype",
    ["bool", "int8", "uint8", "int32", "uint32", "uint64", "float32", "float64", "U3", "object"],
)
def test_an_array_of_any_dtype_is_a_list_of_its_values(dtype):
    values = np.array([1, 0, 1, 1, 0]).astype(dtype)
    vocabulary = Vocabulary(values)
    assert vocabulary.ids.tolist() == [values.tolist()[0], values.tolist()[1]]
    assert vocabulary.encode(values).tolist() == [0, 1, 0, 0, 1]
    assert vocabulary.encode(values.tolist()).tolist() == [0, 1, 0, 0, 1]


@pytest.mark.parametrize("start", [[5, 1], [5, 1, 10**15], [5, 1, "tea"]], ids=str)
@pytest.mark.parametrize(
    "one", [1, True, 1.0, np.int32(1), np.uint64(1), np.float32(1), np.float64(1), np.True_]
)
def test_equal_ids_are_one_id(start, one):
    vocabulary = Vocabulary(start)
    assert vocabulary.encode([one]).tolist() == [1]
    assert vocabulary.extend([one, 1]).tolist() == [1, 1]
    assert len(vocabulary) == len(start)


@pytest.mark.parametrize("start", [[5, 1], [5, 1, 10**15], [5, 1, "tea"]], ids=str)
@pytest.mark.parametrize(
    "other", ["1", 1.5, float("inf"), float("nan"), 2**63, -(2**64), (1,), None, Fraction(1, 3)]
)
def test_unequal_ids_are_unknown(start, other):
    vocabulary = Vocabulary(start)
    assert vocabulary.encode([other, 5]).tolist() == [-1, 0]
    assert vocabulary.extend([other, 5]).tolist() == [len(start), 0]
    assert vocabulary.encode([other]).tolist() == [len(start)]


def test_whole_numbers_are_kept_as_integers_and_others_as_they_came():
    vocabulary = Vocabulary([3, 1])
    assert vocabulary.ids.dtype == np.int64
    assert vocabulary.encode([True, 3.0]).tolist() == [1, 0]
    vocabulary.extend(np.array([7], np.uint8))
    assert vocabulary.ids.dtype == np.int64
    vocabulary.extend(["tea"])
    assert vocabulary.ids.dtype == object
    assert vocabulary.ids.tolist() == [3, 1, 7, "tea"]


@pytest.mark.parametrize("ids", [[4, 2], ["tea", "milk"]], ids=str)
def test_ids_cannot_be_written_through(ids):
    vocabulary = Vocabulary(ids)
    with pytest.raises(ValueError, match="read-only"):
        vocabulary.ids[0] = ids[1]
    assert vocabulary.encode(ids).tolist() == [0, 1]


def test_read_only_ids_are_welcome():
    for values in (np.array([3, 1, 3]), np.array(["b", "a", "b"], dtype=object)):
        values.flags.writeable = False
        vocabulary = Vocabulary(values)
        assert vocabulary.extend(values).tolist() == [0, 1, 0]


def test_later_growth_leaves_earlier_answers_alone():
    vocabulary = Vocabulary([4, 2])
    ids, codes = vocabulary.ids, vocabulary.encode([2, 4])
    vocabulary.extend(list(range(1000, 3000)))
    vocabulary.extend(["tea"])
    assert ids.tolist() == [4, 2]
    assert codes.tolist() == [1, 0]


def test_decode_keeps_the_shape():
    vocabulary = Vocabulary(["a", "b", "c"])
    assert vocabulary.decode([[0, 2], [1, 1]]).tolist() == [["a", "c"], ["b", "b"]]
    assert vocabulary.decode(np.empty((0, 3))).shape == (0, 3)
    with pytest.raises(IndexError):
        vocabulary.decode([3])


def test_of_nothing():
    vocabulary = Vocabulary()
    assert len(vocabulary) == 0
    assert vocabulary.ids.shape == (0,)
    assert vocabulary.encode([]).tolist() == vocabulary.extend([]).tolist() == []
    assert vocabulary.encode([1, "a"]).tolist() == [-1, -1]
    assert repr(Vocabulary("ab")) == "Vocabulary(n=2)"


def test_the_table_stays_within_a_bound_of_the_ids():
    # A far id must not cost memory in proportion to its distance.
    vocabulary = Vocabulary(range(1000))
    vocabulary.extend([10**9])
    assert vocabulary.encode([10**9, 999, 10**8]).tolist() == [1000, 999, -1]
    held = [value for value in vars(vocabulary).values() if isinstance(value, np.ndarray)]
    assert sum(value.nbytes for value in held) < 10**6


def test_numpy_scalars_beside_strings_are_still_known():
    ids = np.empty(3, object)
    ids[:] = [np.int64(7), "seven", np.float64(9)]
    assert Vocabulary([7, 8, 9]).encode(ids).tolist() == [0, -1, 2]


KINDS = {
    "numbers": [np.array([1, 2]), np.array([1.5, 2.5]), np.array([1, 2.5], object)],
    "strings": [np.array(["1", "2"]), np.array(["1", "2"], object)],
    "tuple": [np.fromiter([(1, 2), (3, 4)], object, 2)],
}


@pytest.mark.parametrize("known", KINDS)
@pytest.mark.parametrize("theirs", KINDS)
def test_ids_that_cannot_be_known_are_warned_of(known, theirs):
    for ids in KINDS[known]:
        for others in KINDS[theirs]:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                warn_of_other_types({"a": ids, "b": ids}, {"a": others, "b": others})
            assert len(caught) == (known != theirs)
            if caught:
                assert caught[0].category is IdTypeWarning
                assert f"a: none of 2 rows is known: these ids are {theirs}" in str(
                    caught[0].message
                )
                assert f"b: none of 2 rows is known: these ids are {theirs}" in str(
                    caught[0].message
                )


def test_ids_of_which_one_may_be_known_are_not_warned_of():
    mixed = np.array(["x", 1], object)
    pairs = ([3, 4], mixed), (mixed, [3, 4]), (mixed, ["z"]), ([], ["z"]), ([3], [])
    for known, ids in pairs:
        warn_of_other_types({"a": np.array(known)}, {"a": np.array(ids)})
    warn_of_other_types({}, {"a": mixed})


def test_a_few_names_among_numbers_are_guests():
    known = {"user": np.array([1, 2]), "item": np.array(["tea", "rye"])}
    guests = np.array(["guest"] * 11)
    warn_of_other_types(known, {"user": guests, "item": known["item"]})
    warn_of_other_types(known, {"user": guests[:10]})
    with pytest.warns(IdTypeWarning, match="user: none of 11 rows"):
        warn_of_other_types(known, {"user": guests})
    with pytest.warns(IdTypeWarning, match="user: none of 1 rows is known: these ids are strings"):
        warn_of_other_types(known, {"user": np.array(["2"]), "item": np.array(["tea"])})
    known["user"] = np.array(["ann", "bob"])
    with pytest.warns(IdTypeWarning, match="user: none of 1 rows is known: these ids are numbers"):
        warn_of_other_types(known, {"user": np.array([2]), "item": np.array(["tea"])})


# ------------------------------------------------------------- ids come back as they were given

TIMES = pd.to_datetime(["2024-05-01 12:30:00", "1969-12-31 23:59:59.000001"], format="ISO8601")


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_datetimes_are_found_in_any_unit_and_type(unit):
    times = TIMES[:1] if unit in ("s", "ms") else TIMES
    vocabulary = Vocabulary(times.to_numpy().astype(f"datetime64[{unit}]"))
    assert vocabulary.ids.tolist() == times.to_pydatetime().tolist()
    n = len(times)
    for listed in (
        list(times),
        times.to_pydatetime().tolist(),
        list(times.to_numpy()),
        times.to_numpy().astype("datetime64[ns]"),
        times.to_numpy().astype("datetime64[us]"),
    ):
        assert vocabulary.encode(listed).tolist() == list(range(n))
        known = {"item_id": vocabulary.ids}
        ids = listed if isinstance(listed, np.ndarray) else np.array(listed, object)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warn_of_other_types(known, {"item_id": ids})
    assert vocabulary.encode([0, times.asi8[0]]).tolist() == [-1, -1]


@pytest.mark.parametrize(
    "ids",
    [
        np.array([1, 2], "datetime64[ns]"),  # finer than datetime
        np.array([1, 10**9], "datetime64[ns]"),
        np.array(["12024-01-01", "2024-01-01"], "datetime64[s]"),  # beyond datetime
        np.array(["2024-01-01", "2024-01-02"], "datetime64[D]"),
        np.array([1500, 10**9], "timedelta64[ns]"),
        np.array([1, 2], "timedelta64[Y]"),  # no timedelta is a year
        np.array([True, False]),
        np.array([False, True], object),
        np.array([True, 5], object),
    ],
    ids=lambda ids: f"{ids.dtype} {ids[0]}",
)
def test_ids_come_back_as_given(ids):
    vocabulary = Vocabulary(ids)
    for each in (vocabulary, loaded_from_state(vocabulary)):
        assert [np.array(found, ids.dtype) for found in each.ids] == list(ids)
        if ids.dtype.kind != "O":
            assert not any(type(found) is int for found in each.ids)
        else:
            assert list(map(type, each.ids)) == list(map(type, ids))
        assert each.encode(ids).tolist() == [0, 1]
        assert each.encode(ids[1:]).tolist() == [1]


def loaded_from_state(vocabulary):
    other = Vocabulary()
    other.load_state(from_plain(to_plain(vocabulary.state())))
    return other


@pytest.mark.parametrize(
    "ids",
    [
        [UUID(int=7), UUID(int=8)],
        [Decimal("1.5"), Decimal(2)],
        [frozenset("a"), ("a", UUID(int=7))],
        [pd.Period("2024-01"), 1j],
        [pd.Timestamp("2024-01-01") + pd.Timedelta(1, "ns"), pd.Timestamp("2024-01-01")],
    ],
    ids=lambda ids: type(ids[0]).__name__,
)
def test_ids_of_any_type_are_saved(ids):
    """Pickles, copies and `forget` go through the state of a vocabulary."""
    vocabulary = Vocabulary(ids)
    plain = pickle.loads(pickle.dumps(to_plain(vocabulary.state())))
    other = Vocabulary()
    other.load_state(from_plain(plain))
    other.extend([9])
    assert vocabulary.ids.tolist() == ids
    assert other.ids.tolist() == [*ids, 9]
    assert list(map(type, other.ids[:2])) == list(map(type, ids))
    other.forget(np.array([0]))
    assert other.encode(np.fromiter(ids, object, 2)).tolist() == [-1, 0]


def test_durations_among_objects_are_ids():
    ids = np.array([np.timedelta64(3, "D"), np.timedelta64(4, "D")], object)
    assert to_ids(ids, "user_id").tolist() == [timedelta(3), timedelta(4)]


def test_forgetting_the_last_text_leaves_integers():
    vocabulary = Vocabulary([7, "ann", 9])
    vocabulary.forget(np.array([1]))
    assert vocabulary.ids.dtype == np.int64
    assert vocabulary.state()["ids"].tolist() == Vocabulary([7, 9]).state()["ids"].tolist()
