"""Conversion of nested values to plain ones and back."""

import pickle
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.sparse import csr_array, random_array

from sklearn_recft.models._state import from_plain, to_plain

PLAIN = (type(None), bool, int, float, str, bytes, np.ndarray, list, dict)

array_values = arrays.arrays(
    st.sampled_from([np.int32, np.int64, np.float32, np.float64, bool]),
    arrays.array_shapes(max_dims=3, min_side=0, max_side=3),
)
tensors = arrays.arrays(
    st.sampled_from([np.int64, np.float32, np.float64, bool]), arrays.array_shapes(max_dims=2)
).map(torch.from_numpy)


@st.composite
def matrices(draw):
    shape = draw(st.tuples(st.integers(0, 4), st.integers(0, 4)))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    kind = draw(st.sampled_from([np.float32, np.float64, np.complex128]))
    return csr_array(random_array(shape, density=0.5, format="csr", rng=rng).astype(kind))


leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | array_values
    | tensors
    | matrices()
)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(min_size=1, max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


def is_plain(value):
    if isinstance(value, dict):
        return all(isinstance(name, str) and is_plain(part) for name, part in value.items())
    if isinstance(value, list):
        return all(map(is_plain, value))
    return type(value) in PLAIN


def same(one, other):
    """Return whether two values have equal types and are bitwise equal."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[name], other[name]) for name in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, torch.Tensor):
        one, other = one.numpy(), other.numpy()
    if isinstance(one, csr_array):
        parts = ("data", "indices", "indptr")
        return one.shape == other.shape and all(
            same(getattr(one, part), getattr(other, part)) for part in parts
        )
    if isinstance(one, np.ndarray):
        alike = one.dtype == other.dtype and one.shape == other.shape
        return alike and one.tobytes() == other.tobytes()
    return one == other


@given(values)
def test_plain_values_round_trip(value):
    plain = to_plain(value)
    assert is_plain(plain)
    assert same(from_plain(plain), value)
    assert same(from_plain(pickle.loads(pickle.dumps(plain))), value)
    # What is plain already stays what it is.
    assert same(to_plain(plain), plain)


@pytest.mark.parametrize("kind", [list, tuple])
def test_many_strings_become_arrays(kind):
    """Formats that write each string of a list by itself need twenty times as much."""
    values = kind(["\ud800", "", "a\0", "\U0001f642", *map(str, range(100))])
    plain = to_plain({"ids": values})
    assert is_plain(plain)
    assert len(pickle.dumps(plain)) < 1700
    assert same(from_plain(plain), {"ids": values})
    assert same(to_plain(plain), plain)


@given(array_values.filter(lambda array: array.size))
@settings(deadline=None)
def test_numpy_scalars_become_python_numbers(array):
    number = array.ravel()[0]
    plain = to_plain(number)
    assert type(plain) in (bool, int, float)
    assert plain == number or np.isnan(number)


@dataclass(frozen=True)
class Point:
    """Two coordinates."""

    x: float
    y: tuple


def test_dataclasses_become_dicts():
    plain = to_plain({"at": Point(1.0, (2, 3))})
    assert is_plain(plain)
    assert from_plain(plain) == {"at": {"x": 1.0, "y": (2, 3)}}


@pytest.mark.parametrize(
    "value", [{1, 2}, object(), Point, len, 1j, range(3)], ids=lambda value: type(value).__name__
)
def test_an_unsupported_value_raises(value):
    with pytest.raises(TypeError, match=r"A \w+ cannot be part of a model's state"):
        to_plain({"deep": [value]})


def test_a_tensor_of_a_state_is_a_copy():
    tensor = torch.zeros(3, requires_grad=True)
    plain = to_plain(tensor)
    twin = from_plain(plain)
    with torch.no_grad():
        tensor += 1
    plain["values"][0] = 9
    assert twin.tolist() == [0, 0, 0]
    assert not twin.requires_grad
